//! Ways of reading: sparse, direct, mapped, at random, while others do.

use std::{
    fs::{self, File},
    io::{Read, Seek, SeekFrom},
    os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use nix::fcntl::OFlag;

use crate::rig::{Rig, can_mount, finish};

const SPARSE_BYTES: u64 = 1_500_000_000_000;

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| u8::try_from((i / 7 + i * 13) % 253).unwrap()).collect()
}

#[test]
fn a_sparse_file_of_1_5_tb_reads_at_both_ends() {
    if !can_mount() {
        return;
    }
    let rig = Rig::new(|root| {
        let file = File::create(root.join("sparse")).unwrap();
        file.set_len(SPARSE_BYTES).unwrap();
        file.write_all_at(b"first", 0).unwrap();
        file.write_all_at(b"last", SPARSE_BYTES - 4).unwrap();
    });
    let mount = rig.mount();
    let mut file = File::open(mount.join("sparse")).unwrap();
    assert_eq!(file.metadata().unwrap().len(), SPARSE_BYTES);
    let mut ends = ([1; 8], [1; 8], [1; 4096]);
    file.read_exact(&mut ends.0).unwrap();
    assert_eq!(&ends.0, b"first\0\0\0");
    file.read_exact_at(&mut ends.2, SPARSE_BYTES / 2 + 17).unwrap();
    assert_eq!(ends.2, [0; 4096]);
    file.seek(SeekFrom::End(-8)).unwrap();
    file.read_exact(&mut ends.1).unwrap();
    assert_eq!(&ends.1, b"\0\0\0\0last");
    assert_eq!(file.read(&mut ends.1).unwrap(), 0, "the end");
}

#[test]
fn direct_reads_pass_the_page_cache_and_are_equal() {
    if !can_mount() {
        return;
    }
    let bytes = pattern(3_000_001);
    let rig = Rig::new(|root| fs::write(root.join("a"), &bytes).unwrap());
    let mount = rig.mount();
    let file = File::options().read(true).custom_flags(OFlag::O_DIRECT.bits()).open(mount.join("a")).unwrap();
    for (start, len) in [(0, 4096), (4096, 1 << 20), (1 << 20, 1 << 20), (123, 77), (2_999_000, 5000)] {
        let mut read = vec![0; len];
        let end = bytes.len().min(start + len);
        let mut filled = 0;
        while start + filled < end {
            let at = u64::try_from(start + filled).unwrap();
            let n = file.read_at(&mut read[filled..], at).unwrap();
            assert!(n > 0, "a short file at {start}+{filled}");
            filled += n;
        }
        assert!(read[..filled] == bytes[start..end], "{len} bytes at {start}");
    }
}

#[test]
fn a_program_runs_from_the_mount() {
    if !can_mount() {
        return;
    }
    // The kernel maps a program's file instead of reading it.
    let program =
        ["/bin/cat", "/usr/bin/cat"].map(PathBuf::from).into_iter().find(|path| path.exists()).unwrap();
    let rig = Rig::new(|root| {
        fs::copy(program, root.join("cat")).unwrap();
        fs::set_permissions(root.join("cat"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(root.join("text"), b"from the mount").unwrap();
    });
    let mount = rig.mount();
    let output = finish(Command::new(mount.join("cat")).arg(mount.join("text")));
    assert_eq!(output.stdout, b"from the mount");
}

fn read_in_pieces(path: &Path, seed: u64, bytes: &[u8]) {
    let file = File::open(path).unwrap();
    // A fixed sequence of places and lengths (an LCG with Knuth's constants).
    let mut state = seed;
    for _ in 0..300 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let at = usize::try_from(state >> 33).unwrap() % bytes.len();
        let len = 1 + usize::try_from(state >> 13 & 0x1_ffff).unwrap();
        let end = bytes.len().min(at + len);
        let mut read = vec![0; end - at];
        file.read_exact_at(&mut read, at as u64).unwrap();
        assert!(read == bytes[at..end], "seed {seed}: {} bytes at {at}", end - at);
    }
}

#[test]
fn many_readers_at_random_and_in_order_get_the_same_bytes() {
    if !can_mount() {
        return;
    }
    let bytes = pattern(12_345_678);
    let rig = Rig::new(|root| fs::write(root.join("a"), &bytes).unwrap());
    // Less memory than the file, so that blocks are pushed out all the time.
    let mount = rig.mount_with(&["--memory", "16MiB"]);
    thread::scope(|scope| {
        for seed in 1..=4 {
            let (path, bytes) = (mount.join("a"), &bytes);
            scope.spawn(move || read_in_pieces(&path, seed, bytes));
        }
        for _ in 0..2 {
            let (path, bytes) = (mount.join("a"), &bytes);
            scope.spawn(move || assert!(fs::read(path).unwrap() == *bytes));
        }
    });
}
