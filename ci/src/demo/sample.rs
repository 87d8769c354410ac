//! The tree the demo shares when it is given none: every size, name and kind of entry that has been known to break a
//! file system, the same bytes on every run.

use std::ffi::OsStr;
use std::fs::{self, File, FileTimes, Permissions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const SEED: u64 = 0x9e37_79b9_7f4a_7c15;
const BIG_BYTES: u64 = 256 * MIB;
const SPARSE_BYTES: u64 = 96 * MIB;
/// In `many/`, in folders of ten.
const SMALL_FILES: u64 = 260;

/// Around the page, the chunk and the extent: one less, equal, one more.
const EDGES: [u64; 6] = [4 * KIB, 16 * KIB, 64 * KIB, 128 * KIB, 256 * KIB, MIB];

/// Makes the sample at `root`, which must not exist.
pub(super) fn make(root: &Path) -> io::Result<()> {
    let mut noise = Noise(SEED);
    fs::create_dir(root)?;
    sizes(&root.join("sizes"), &mut noise)?;
    many(&root.join("many"), &mut noise)?;
    names(&root.join("names"), &mut noise)?;
    links(&root.join("links"))?;
    modes_and_times(&root.join("modes"), &mut noise)?;
    sparse(&root.join("sparse.img"), &mut noise)?;
    fs::create_dir(root.join("empty folder"))?;
    file(&root.join("big.bin"), BIG_BYTES, &mut noise)
}

fn sizes(folder: &Path, noise: &mut Noise) -> io::Result<()> {
    fs::create_dir(folder)?;
    for len in [0, 1, 2, 3 * MIB + 17, 9 * MIB]
        .into_iter()
        .chain(EDGES.iter().flat_map(|&edge| [edge - 1, edge, edge + 1]))
    {
        file(&folder.join(len.to_string()), len, noise)?;
    }
    Ok(())
}

/// Small files, ten to a folder, each folder inside the one before for the first half.
fn many(folder: &Path, noise: &mut Noise) -> io::Result<()> {
    fs::create_dir(folder)?;
    let (mut nested, half) = (folder.to_path_buf(), SMALL_FILES / 2);
    for number in 0..SMALL_FILES {
        if number % 10 == 0 {
            nested =
                if number < half { nested.join("deeper") } else { folder.join(format!("flat {number}")) };
            fs::create_dir(&nested)?;
        }
        file(&nested.join(format!("{number:03}.dat")), noise.next() % (24 * KIB), noise)?;
    }
    Ok(())
}

fn names(folder: &Path, noise: &mut Noise) -> io::Result<()> {
    fs::create_dir(folder)?;
    let longest = [b'n'; 255];
    let names: [&[u8]; 10] = [
        b"with spaces in it",
        b"line\nbreak",
        b"not \xff\xfe utf-8",
        "gr\u{fc}n \u{1f41b}".as_bytes(),
        b"-rf",
        b".hidden",
        b"back\\slash",
        b"quote'\"$(x)",
        b"tab\tbell\x07",
        &longest,
    ];
    for name in names {
        file(&folder.join(OsStr::from_bytes(name)), 100 + noise.next() % 1000, noise)?;
    }
    let odd_folder = folder.join(OsStr::from_bytes(b"folder \xf0\x0a"));
    fs::create_dir(&odd_folder)?;
    file(&odd_folder.join("inside"), 5000, noise)
}

fn links(folder: &Path) -> io::Result<()> {
    fs::create_dir(folder)?;
    let far = "x/".repeat(500);
    let targets: [(&str, &[u8]); 6] = [
        ("to a file", b"../sizes/4096"),
        ("to a folder", b"../many"),
        ("to nothing", b"no/such/file"),
        ("absolute", b"/nonexistent/wormhole"),
        ("not utf-8", b"\xff\n"),
        ("far", far.as_bytes()),
    ];
    for (name, target) in targets {
        symlink(OsStr::from_bytes(target), folder.join(name))?;
    }
    Ok(())
}

fn modes_and_times(folder: &Path, noise: &mut Noise) -> io::Result<()> {
    fs::create_dir(folder)?;
    for (mode, age) in
        [(0o644, 0), (0o600, 1), (0o755, 86_400), (0o444, 1_234_567_890), (0o640, 4_000_000_000)]
    {
        let path = folder.join(format!("{mode:o}"));
        file(&path, 700, noise)?;
        let modified = SystemTime::UNIX_EPOCH + Duration::new(age, 123_456_789);
        File::options().write(true).open(&path)?.set_times(FileTimes::new().set_modified(modified))?;
        fs::set_permissions(&path, Permissions::from_mode(mode))?;
    }
    Ok(())
}

/// Holes with islands of data at the start, off every boundary in the middle, and at the very end.
fn sparse(path: &Path, noise: &mut Noise) -> io::Result<()> {
    let mut file = File::create_new(path)?;
    file.set_len(SPARSE_BYTES)?;
    let mut island = [0_u8; 5000];
    for start in [0, 40 * MIB + 123, SPARSE_BYTES - 5000] {
        noise.fill(&mut island);
        file.seek(SeekFrom::Start(start))?;
        file.write_all(&island)?;
    }
    Ok(())
}

fn file(path: &Path, len: u64, noise: &mut Noise) -> io::Result<()> {
    let mut file = File::create_new(path)?;
    let mut piece = vec![0_u8; usize::try_from(len.min(MIB)).unwrap_or(0)];
    let mut left = len;
    while left > 0 {
        let take = usize::try_from(left).unwrap_or(usize::MAX).min(piece.len());
        noise.fill(&mut piece[..take]);
        file.write_all(&piece[..take])?;
        left -= take as u64;
    }
    Ok(())
}

/// Marsaglia's xorshift64: bytes no compressor and no lucky guess gets right, the same on every run.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn fill(&mut self, bytes: &mut [u8]) {
        for eight in bytes.chunks_mut(8) {
            let next = self.next().to_le_bytes();
            eight.copy_from_slice(&next[..eight.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_noise_is_the_same_on_every_run() {
        let (mut one, mut two) = ([0; 21], [0; 21]);
        Noise(SEED).fill(&mut one);
        Noise(SEED).fill(&mut two);
        assert_eq!(one, two);
        assert_ne!(one[..8], one[8..16]);
    }
}
