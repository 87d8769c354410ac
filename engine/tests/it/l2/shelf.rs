//! A store in a directory of its own, and files whose every byte is known.

use std::{path::Path, time::Duration};

use bytes::Bytes;
use tempfile::TempDir;
use uring::{Pool, PoolConfig, Ring, RingConfig, SlotClass};
use wire::{ByteLen, CHUNK_BYTES, Extent, FileId, Timestamp, Version, chunk::ChunkIndex};
use wormhole_engine::cache::{
    ContentKey, L2,
    l2::{L2Config, Offered},
};

/// Far beyond what anything here takes: a test that meets it hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
pub(crate) const MIB: u64 = 1 << 20;

pub(crate) struct Shelf {
    pub(crate) dir: TempDir,
    pub(crate) pool: Pool,
    pub(crate) ring: Ring,
}

impl Shelf {
    pub(crate) fn new() -> Shelf {
        let pool = Pool::new(PoolConfig::with_capacity(64 << 20)).unwrap();
        let ring = Ring::start(RingConfig::default()).unwrap();
        Shelf { dir: TempDir::new().unwrap(), pool, ring }
    }

    pub(crate) fn path(&self) -> std::path::PathBuf {
        self.dir.path().join("cache")
    }

    /// The oldest region's file.
    pub(crate) fn first_region(&self) -> std::path::PathBuf {
        let paths = std::fs::read_dir(self.path()).unwrap().map(|entry| entry.unwrap().path());
        paths.filter(|path| path.to_str().unwrap().contains("region-")).min().unwrap()
    }

    pub(crate) fn config(&self, quota_mib: u64) -> L2Config {
        L2Config { free_floor_bytes: 0, ..L2Config::new(self.path(), quota_mib * MIB) }
    }

    pub(crate) fn open(&self, quota_mib: u64) -> L2 {
        self.open_with(&self.config(quota_mib))
    }

    pub(crate) fn open_with(&self, config: &L2Config) -> L2 {
        L2::open(config, self.ring.clone(), self.pool.clone()).unwrap()
    }

    /// Hands the whole file to the store as the mount does, in slots, and waits until it is on the disk.
    pub(crate) async fn fill(&self, l2: &L2, file: File) {
        for start in (0..file.size).step_by(1 << 20) {
            let bytes = self.slot_of(file, start).await;
            let first = ChunkIndex(start / CHUNK_BYTES);
            assert_ne!(l2.offer(file.key(), first, bytes), Offered::Dropped, "{:?}", l2.stats());
            l2.flush(PATIENCE).await.unwrap();
        }
    }

    /// An extent of the file, from `start` to the end of its MiB, in a slot.
    pub(crate) async fn slot_of(&self, file: File, start: u64) -> Bytes {
        let len = usize::try_from((file.size - start).min(MIB)).unwrap();
        let mut slot = self.pool.lend(SlotClass::for_len(len).unwrap()).await;
        file.write_to(start, &mut slot.bytes_mut()[..len]);
        slot.fill(len).freeze()
    }
}

/// A file whose bytes follow from its number, version and place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct File {
    pub(crate) number: u64,
    pub(crate) version: i64,
    pub(crate) size: u64,
}

impl File {
    pub(crate) fn new(number: u64, size: u64) -> File {
        File { number, version: 1, size }
    }

    pub(crate) fn key(&self) -> ContentKey {
        let id = FileId { fs: 1, inode: self.number, birth: 1 };
        let time = Timestamp { secs: self.version, nanos: 0 };
        let version = Version { size: ByteLen(self.size), mtime: time, ctime: time };
        ContentKey::new(&[7; 32], b"share", &id, &version)
    }

    pub(crate) fn write_to(&self, start: u64, into: &mut [u8]) {
        let seed = blake3::hash(&[self.number.to_le_bytes(), self.version.to_le_bytes()].concat());
        let mut reader = blake3::Hasher::new_keyed(seed.as_bytes()).finalize_xof();
        reader.set_position(start);
        reader.fill(into);
    }

    pub(crate) fn bytes(&self, extent: Extent) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(extent.len.0).unwrap()];
        self.write_to(extent.start.0, &mut bytes);
        bytes
    }

    /// Bytes that the store serves of the file, each of which is checked.
    pub(crate) async fn check(&self, l2: &L2) -> u64 {
        let (mut at, mut served) = (0, 0);
        while at < self.size {
            let wanted = Extent::new(at, self.size - at);
            match l2.get(self.key(), wanted).await {
                Some(hit) => {
                    assert!(hit.extent.start.0 <= at && hit.extent.end().0 > at, "{hit:?} for {wanted:?}");
                    assert_eq!(hit.bytes.len() as u64, hit.extent.len.0);
                    assert!(
                        hit.bytes == self.bytes(hit.extent),
                        "wrong bytes of {self:?} at {:?}",
                        hit.extent
                    );
                    served += hit.extent.end().0.min(self.size) - at;
                    at = hit.extent.end().0;
                }
                None => at = (at / CHUNK_BYTES + 1) * CHUNK_BYTES,
            }
        }
        served
    }
}

/// Bytes of everything in a directory.
pub(crate) fn dir_bytes(path: &Path) -> u64 {
    let entries = std::fs::read_dir(path).unwrap();
    // A file may go between the listing and the look.
    entries.filter_map(|entry| entry.unwrap().metadata().ok()).map(|meta| meta.len()).sum()
}

/// Waits, without a clock, until something holds; the test's own deadline ends it otherwise.
pub(crate) async fn until(mut holds: impl FnMut() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect("it never came to hold");
}
