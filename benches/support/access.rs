//! Ways in which programs read a file, and what may be fetched for each byte that they take.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::FileExt,
    path::Path,
    thread,
};

/// Bytes of the kernel's page.
pub const PAGE: usize = 4096;
/// The same as an offset.
pub const PAGE_BYTES: u64 = PAGE as u64;
/// Reads of one thread that reads at random.
pub const RANDOM_READS: u64 = 1000;
/// Threads that read at random together.
pub const RANDOM_THREADS: u64 = 16;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
/// Places of one handle that are read in turn.
const INTERLEAVED: u64 = 8;
/// Of each so many bytes, a strided reader takes the first few.
const STRIDE_BYTES: u64 = 1 << 20;

/// One way to read.
pub struct Access {
    /// As it is shown.
    pub name: &'static str,
    /// Reads a file of so many bytes, a power of two of at least 64 MiB.
    pub read: fn(&File, u64) -> io::Result<()>,
    /// What of it.
    pub takes: Takes,
    /// Bytes that may come from the host for each byte taken, on a fresh mount.
    pub fetched_per_byte_max: f64,
}

/// What a program takes of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// Every byte.
    All,
    /// One byte in so many.
    OneIn(u64),
    /// So many pages; what counts is how many, not their bytes.
    Pages(u64),
}

impl Takes {
    /// Bytes taken of a file of so many.
    pub fn bytes(self, file_bytes: u64) -> u64 {
        match self {
            Takes::All => file_bytes,
            Takes::OneIn(parts) => file_bytes / parts,
            Takes::Pages(count) => count * PAGE_BYTES,
        }
    }
}

/// All of them. In order and backward every byte comes once, and what is fetched ahead past the place where a reading ends.
/// Beside strides and random pages nothing comes but the rest of their blocks: of 4, 16 and 128 KiB the smallest that holds
/// the read.
pub const ACCESSES: [Access; 8] = [
    access("sequential_cold", sequential, Takes::All, 1.1),
    access("sequential_128KiB_reads_cold", in_chunks, Takes::All, 1.1),
    access("eight_interleaved_cold", interleaved, Takes::All, 1.1),
    access("backward_cold", backward, Takes::All, 1.1),
    access("strided_128KiB_cold", strided_chunks, Takes::OneIn(STRIDE_BYTES / (128 << 10)), 1.1),
    access("strided_64KiB_cold", strided_halves, Takes::OneIn(STRIDE_BYTES / (64 << 10)), 2.1),
    access("random_4KiB_cold/1_thread", random_alone, Takes::Pages(RANDOM_READS), 2.0),
    access("random_4KiB_cold/16_threads", random_together, Takes::Pages(RANDOM_READS * RANDOM_THREADS), 2.0),
];

const fn access(
    name: &'static str,
    read: fn(&File, u64) -> io::Result<()>,
    takes: Takes,
    fetched_per_byte_max: f64,
) -> Access {
    Access { name, read, takes, fetched_per_byte_max }
}

/// Reads from here to the end, `step` bytes at a time.
fn to_the_end(mut file: &File, step: usize) -> io::Result<u64> {
    let mut buffer = vec![0; step];
    let mut total = 0;
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(total),
            n => total += n as u64,
        }
    }
}

/// Reads a whole file, 1 MiB at a time.
///
/// # Errors
/// What the file system says.
pub fn read_through(path: &Path) -> io::Result<u64> {
    to_the_end(&File::open(path)?, MIB)
}

fn sequential(file: &File, _bytes: u64) -> io::Result<()> {
    to_the_end(file, MIB).map(drop)
}

/// As `cat` does; the kernel's own read-ahead then asks for other pieces than above.
fn in_chunks(file: &File, _bytes: u64) -> io::Result<()> {
    to_the_end(file, 128 * KIB).map(drop)
}

fn interleaved(file: &File, bytes: u64) -> io::Result<()> {
    let mut buffer = vec![0; 128 * KIB];
    let part = bytes / INTERLEAVED;
    for at in (0..part).step_by(128 * KIB) {
        for reader in 0..INTERLEAVED {
            file.read_exact_at(&mut buffer, reader * part + at)?;
        }
    }
    Ok(())
}

fn backward(file: &File, bytes: u64) -> io::Result<()> {
    let mut buffer = vec![0; MIB];
    for nth in (0..bytes / MIB as u64).rev() {
        file.read_exact_at(&mut buffer, nth * MIB as u64)?;
    }
    Ok(())
}

fn strided_chunks(file: &File, bytes: u64) -> io::Result<()> {
    strided(file, bytes, 128 * KIB)
}

fn strided_halves(file: &File, bytes: u64) -> io::Result<()> {
    strided(file, bytes, 64 * KIB)
}

fn strided(file: &File, bytes: u64, takes: usize) -> io::Result<()> {
    let mut buffer = vec![0; takes];
    for at in 0..bytes / STRIDE_BYTES {
        file.read_exact_at(&mut buffer, at * STRIDE_BYTES)?;
    }
    Ok(())
}

/// Where the `n`th of the random pages begins; each comes once.
pub fn random_page(n: u64, bytes: u64) -> u64 {
    // An odd factor permutes the numbers below a power of two.
    n.wrapping_mul(0x9E37_79B9_7F4A_7C15) % (bytes / PAGE_BYTES) * PAGE_BYTES
}

fn random_pages(file: &File, bytes: u64, from: u64) -> io::Result<()> {
    let mut page = [0; PAGE];
    (from..from + RANDOM_READS).try_for_each(|n| file.read_exact_at(&mut page, random_page(n, bytes)))
}

fn random_alone(file: &File, bytes: u64) -> io::Result<()> {
    random_pages(file, bytes, 0)
}

fn random_together(file: &File, bytes: u64) -> io::Result<()> {
    thread::scope(|scope| {
        let threads: Vec<_> = (0..RANDOM_THREADS)
            .map(|thread| scope.spawn(move || random_pages(file, bytes, thread * RANDOM_READS)))
            .collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("a reader does not panic"))
    })
}

/// Reads several files at once, each from its beginning to its end in a thread of its own; tells the bytes of all.
///
/// # Errors
/// What the file system says.
pub fn read_all_at_once(paths: &[impl AsRef<Path> + Sync]) -> io::Result<u64> {
    thread::scope(|scope| {
        let threads: Vec<_> = paths.iter().map(|path| scope.spawn(|| read_through(path.as_ref()))).collect();
        threads.into_iter().map(|thread| thread.join().expect("a reader does not panic")).sum()
    })
}
