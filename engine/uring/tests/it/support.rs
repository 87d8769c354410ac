//! Which back ends to test, files and pipes to test with.

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;
use std::time::Duration;

use tempfile::NamedTempFile;
use wormhole_uring::{BackendChoice, Pool, PoolConfig, ReadAt, Ring, RingConfig, RingError, Slot, SlotRange};

/// A test that takes longer is stuck.
const DEADLINE: Duration = Duration::from_secs(60);

/// Runs a test on each back end, under a deadline. Where io_uring is refused it says so, and fails when
/// `WORMHOLE_REQUIRE` names `uring`.
pub(crate) fn on_each_backend(test: impl AsyncFn(RingConfig)) {
    for backend in [BackendChoice::Uring, BackendChoice::Blocking] {
        let config = RingConfig { backend, ..RingConfig::default() };
        if let Err(error @ RingError::Refused { .. }) = Ring::start(config) {
            let required = std::env::var("WORMHOLE_REQUIRE").unwrap_or_default();
            assert!(
                !required.split(',').any(|name| name == "uring"),
                "WORMHOLE_REQUIRE names uring, but {error}"
            );
            eprintln!("SKIPPED on io_uring: {error}");
            continue;
        }
        eprintln!("back end: {backend:?}");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let ended = runtime.block_on(async { tokio::time::timeout(DEADLINE, test(config)).await });
        ended.expect("the test is stuck");
    }
}

/// A pool of `mib` extents.
pub(crate) fn pool(mib: usize) -> Pool {
    Pool::new(PoolConfig::with_capacity(mib << 20)).unwrap()
}

/// Bytes that differ from page to page and within a page.
pub(crate) fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i.wrapping_mul(31) ^ (i >> 12).wrapping_mul(17) ^ (i >> 20)).to_le_bytes()[0]).collect()
}

/// A file of these bytes, on the disk that holds the build and not on a tmpfs.
pub(crate) fn file_of(bytes: &[u8]) -> NamedTempFile {
    let mut file = NamedTempFile::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    file.write_all(bytes).unwrap();
    file
}

/// The file again, for direct reads and writes; `None`, said aloud, where its file system has none.
pub(crate) fn open_direct(file: &NamedTempFile) -> Option<Arc<File>> {
    let direct = i32::try_from(rustix::fs::OFlags::DIRECT.bits()).unwrap();
    match File::options().read(true).write(true).custom_flags(direct).open(file.path()) {
        Ok(file) => Some(Arc::new(file)),
        Err(error) => {
            eprintln!("SKIPPED: no O_DIRECT on {}: {error}", file.path().display());
            None
        }
    }
}

/// A pipe as two files: a read of the first stays in flight until the second is written.
pub(crate) fn pipe() -> (Arc<File>, File) {
    let (reader, writer) = std::io::pipe().unwrap();
    (Arc::new(File::from(OwnedFd::from(reader))), File::from(OwnedFd::from(writer)))
}

/// Writes zeros until the pipe takes no more, so that the next write stays in flight; how many it took.
pub(crate) fn fill_up(mut writer: &File) -> usize {
    let flags = rustix::fs::fcntl_getfl(writer).unwrap();
    rustix::fs::fcntl_setfl(writer, flags | rustix::fs::OFlags::NONBLOCK).unwrap();
    let mut filled = 0;
    while let Ok(n) = writer.write(&[0; 4096]) {
        filled += n;
    }
    rustix::fs::fcntl_setfl(writer, flags).unwrap();
    filled
}

/// A read of the first `len` bytes at offset 0 into the start of the slot.
pub(crate) fn read_first(file: &Arc<File>, slot: Slot, len: usize) -> ReadAt {
    ReadAt { file: Arc::clone(file), slot, range: SlotRange::first(len), offset: 0 }
}

/// Yields until the ring has so many operations in flight; the test's own deadline ends it otherwise.
pub(crate) async fn in_flight(ring: &Ring, count: u64) {
    while ring.stats().in_flight != count {
        tokio::task::yield_now().await;
    }
}
