//! Each fault by itself, and that a seed repeats them.

use std::io::Write;

use super::*;
use crate::class::SlotClass;
use crate::error::RingError;
use crate::handle::{Done, ReadAt};
use crate::pool::{Pool, PoolConfig};
use crate::slot::{Slot, SlotRange};

const ALWAYS: u32 = 1_000_000;

struct Rig {
    disk: FaultyDisk,
    ring: Ring,
    pool: Pool,
    file: Arc<File>,
}

fn pattern(len: usize) -> Vec<u8> {
    (0..=250).cycle().take(len).collect()
}

impl Rig {
    fn new(seed: u64, faults: DiskFaults) -> Rig {
        let disk = FaultyDisk::new(seed);
        disk.set(faults);
        let ring = disk.ring(RingConfig { depth: 2, ..RingConfig::default() });
        let pool = Pool::new(PoolConfig::with_capacity(4 << 20)).unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&pattern(100_000)).unwrap();
        Rig { disk, ring, pool, file: Arc::new(file) }
    }

    fn slot(&self) -> Slot {
        self.pool.try_lend(SlotClass::Block16K).unwrap()
    }

    async fn read(&self, offset: u64, len: usize) -> Done {
        let (file, slot) = (Arc::clone(&self.file), self.slot());
        self.ring.read_at(ReadAt { file, slot, range: SlotRange::first(len), offset }).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_disk_without_faults_reads_and_writes_what_is_there() {
    let rig = Rig::new(1, DiskFaults::default());
    let Done { result, mut slot } = rig.read(1000, 5000).await;
    assert_eq!(result.unwrap(), 5000);
    assert_eq!(slot.bytes_mut()[..5000], pattern(100_000)[1000..6000]);
    assert_eq!(rig.read(99_990, 100).await.result.unwrap(), 10);
    let file = Arc::clone(&rig.file);
    assert_eq!(rig.ring.write_at(file, &b"hello"[..], 0).await.unwrap(), 5);
    let Done { mut slot, .. } = rig.read(0, 5).await;
    assert_eq!(&slot.bytes_mut()[..5], b"hello");
    assert_eq!(rig.disk.counts(), DiskCounts { operations: 4, ..DiskCounts::default() });
}

#[tokio::test(start_paused = true)]
async fn an_error_is_eio_and_gives_the_slot_back() {
    let rig = Rig::new(1, DiskFaults { error_ppm: ALWAYS, ..DiskFaults::default() });
    let done = rig.read(0, 4096).await;
    let Err(RingError::Io { source, len: 4096, .. }) = done.result else { panic!("{:?}", done.result) };
    assert_eq!(source.raw_os_error(), Some(Errno::IO.raw_os_error()));
    drop(done.slot);
    assert_eq!(rig.pool.stats().lent_bytes, 0);
}

#[tokio::test(start_paused = true)]
async fn a_short_read_brings_a_true_beginning() {
    let rig = Rig::new(1, DiskFaults { short_ppm: ALWAYS, ..DiskFaults::default() });
    for offset in 0..50 {
        let Done { result, mut slot } = rig.read(offset, 4096).await;
        let n = result.unwrap();
        assert!((1..4096).contains(&n), "{n} bytes");
        let start = usize::try_from(offset).unwrap();
        assert_eq!(slot.bytes_mut()[..n], pattern(100_000)[start..start + n]);
    }
    assert_eq!(rig.read(0, 1).await.result.unwrap(), 1, "one byte cannot be short");
}

#[tokio::test(start_paused = true)]
async fn a_late_completion_takes_virtual_time_and_keeps_the_slot_when_nobody_waits() {
    let late_max = Duration::from_secs(10);
    let rig = Rig::new(1, DiskFaults { late_ppm: ALWAYS, late_max, ..DiskFaults::default() });
    let start = Instant::now(); // clock: tokio's, paused
    assert_eq!(rig.read(0, 4096).await.result.unwrap(), 4096);
    let took = start.elapsed();
    assert!(took > Duration::ZERO && took <= late_max + Duration::from_millis(2), "{took:?}");

    let given_up = tokio::time::timeout(Duration::from_millis(1), rig.read(0, 4096)).await;
    assert!(given_up.is_err());
    assert_eq!((rig.pool.stats().lent_bytes, rig.ring.stats().in_flight), (16 << 10, 1));
    sleep(late_max + Duration::from_millis(2)).await; // clock: tokio's, paused
    assert_eq!((rig.pool.stats().lent_bytes, rig.ring.stats().in_flight), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_hanging_disk_completes_nothing_until_its_time() {
    let rig = Rig::new(1, DiskFaults::default());
    let start = Instant::now(); // clock: tokio's, paused
    rig.disk.hang_until(start + Duration::from_secs(60));
    let (one, two) = tokio::join!(rig.read(0, 10), rig.read(10, 10));
    assert!(one.result.is_ok() && two.result.is_ok());
    assert_eq!(start.elapsed().as_secs(), 60);

    rig.disk.hang_until(start + Duration::from_secs(600));
    let healing = async {
        sleep(Duration::from_secs(5)).await; // clock: tokio's, paused
        rig.disk.heal();
    };
    let (read, ()) = tokio::join!(rig.read(0, 10), healing);
    assert!(read.result.is_ok());
    assert_eq!(start.elapsed().as_secs(), 65);
}

#[tokio::test(start_paused = true)]
async fn a_flipped_bit_is_one_bit() {
    let rig = Rig::new(1, DiskFaults { flip_ppm: ALWAYS, ..DiskFaults::default() });
    let Done { result, mut slot } = rig.read(0, 10_000).await;
    assert_eq!(result.unwrap(), 10_000);
    let wrong: u32 =
        slot.bytes_mut().iter().zip(pattern(10_000)).map(|(&got, true_)| (got ^ true_).count_ones()).sum();
    assert_eq!((wrong, rig.disk.counts().flipped), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn the_page_cache_has_what_the_seed_says() {
    let rig = Rig::new(1, DiskFaults { uncached_ppm: ALWAYS / 2, ..DiskFaults::default() });
    let (mut missed, mut part, mut whole) = (0, 0, 0);
    for _ in 0..200 {
        let mut buf = [0; 4096];
        match rig.ring.read_cached(&rig.file, &mut buf, 7).unwrap() {
            CachedRead::Miss => missed += 1,
            CachedRead::Filled(n) => {
                assert_eq!(buf[..n], pattern(100_000)[7..7 + n]);
                *(if n == 4096 { &mut whole } else { &mut part }) += 1;
            }
        }
    }
    assert!(missed > 20 && part > 20 && whole > 50, "{missed} missed, {part} in part, {whole} whole");
}

#[tokio::test(start_paused = true)]
async fn a_seed_repeats_its_faults() {
    let faults = DiskFaults {
        error_ppm: 300_000,
        short_ppm: 300_000,
        late_ppm: 300_000,
        late_max: Duration::from_secs(1),
        flip_ppm: 300_000,
        uncached_ppm: 0,
    };
    let mut runs = Vec::new();
    for seed in [5, 5, 6] {
        let rig = Rig::new(seed, faults);
        let mut outcomes = Vec::new();
        for offset in 0..100 {
            let start = Instant::now(); // clock: tokio's, paused
            let Done { result, mut slot } = rig.read(offset, 4096).await;
            let bytes = result.ok().map(|n| slot.bytes_mut()[..n].to_vec());
            outcomes.push((start.elapsed(), bytes));
        }
        runs.push((outcomes, rig.disk.counts()));
    }
    assert!(runs[0] == runs[1]);
    assert!(runs[0] != runs[2]);
}

#[tokio::test(start_paused = true)]
async fn a_stopped_ring_finishes_what_is_in_flight_and_takes_nothing_more() {
    let late_max = Duration::from_secs(10);
    let rig = Rig::new(1, DiskFaults { late_ppm: ALWAYS, late_max, ..DiskFaults::default() });
    let stopping = async {
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
        rig.ring.stop();
    };
    let (read, ()) = tokio::join!(rig.read(0, 10), stopping);
    assert_eq!(read.result.unwrap(), 10);
    assert!(matches!(rig.read(0, 10).await.result, Err(RingError::Stopped)));
}
