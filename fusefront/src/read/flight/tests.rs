use engine::cache::ContentKey;
use uring::SlotClass;
use wire::{ByteLen, FileId, Timestamp, Version};

use super::*;

fn key(index: u64) -> BlockKey {
    let version =
        Version { size: ByteLen(1 << 30), mtime: Timestamp::default(), ctime: Timestamp::default() };
    let id = FileId { fs: 1, inode: 2, birth: 3 };
    BlockKey {
        content: ContentKey::new(&[0; 32], b"share", &id, &version),
        class: SlotClass::Extent1M,
        index,
    }
}

fn landed(bytes: &'static [u8]) -> Landed {
    Landed { bytes: Bytes::from_static(bytes), transit: None }
}

fn ours(opened: Opened) -> (Landing, oneshot::Receiver<Outcome>) {
    match opened {
        Opened::Ours(landing, outcome) => (landing, outcome),
        Opened::Found(_) => panic!("nobody had opened it"),
    }
}

fn joined(opened: Opened) -> oneshot::Receiver<Outcome> {
    match opened {
        Opened::Found(Found::Joined(outcome)) => outcome,
        _ => panic!("a fetch was under way"),
    }
}

#[test]
fn second_reader_joins_and_both_get_the_bytes() {
    let flights = Flights::default();
    let (landing, mut first) = ours(flights.find_or_open(key(0), |_| None));
    let mut second = joined(flights.find_or_open(key(0), |_| None));
    let mut kept = None;
    landing.land(&Ok(landed(b"bytes")), |key, bytes| kept = Some((key, bytes.clone())));
    assert_eq!(kept, Some((key(0), Bytes::from_static(b"bytes"))));
    assert_eq!(first.try_recv().unwrap(), Ok(landed(b"bytes")));
    assert_eq!(second.try_recv().unwrap(), Ok(landed(b"bytes")));
    assert!(!flights.contains(&key(0)));
}

#[test]
fn failure_reaches_everyone_and_is_not_kept() {
    let flights = Flights::default();
    let (landing, mut first) = ours(flights.find_or_open(key(0), |_| None));
    landing.land(&Err(VfsError::Stale), |_, _| panic!("a failure is not kept"));
    assert_eq!(first.try_recv().unwrap(), Err(VfsError::Stale));
}

#[test]
fn cache_is_asked_before_a_flight_is_opened() {
    let flights = Flights::default();
    let opened = flights.find_or_open(key(0), |_| Some(Bytes::from_static(b"here")));
    assert!(matches!(opened, Opened::Found(Found::Cached(bytes)) if bytes == "here"));
    assert!(!flights.contains(&key(0)));
}

#[test]
fn dropped_landing_tells_who_waits() {
    let flights = Flights::default();
    let (landing, mut outcome) = ours(flights.find_or_open(key(0), |_| None));
    drop(landing);
    assert!(matches!(outcome.try_recv(), Err(oneshot::error::TryRecvError::Closed)));
    assert!(!flights.contains(&key(0)));
}

fn place(reader: ReaderId) -> AheadFor {
    AheadFor::Cursor { reader, cursor: CursorId(0) }
}

#[tokio::test]
async fn cancel_spares_what_a_reader_joined() {
    let flights = Flights::default();
    for index in 0..3 {
        let landing = flights.open_ahead(key(index), place(7)).unwrap();
        let task = tokio::spawn(async move {
            std::future::pending::<()>().await;
            drop(landing);
        });
        flights.on_abort(&key(index), task.abort_handle());
    }
    let other = flights.open_ahead(key(9), place(8)).unwrap();
    let _outcome = joined(flights.find_or_open(key(1), |_| None));
    assert_eq!(flights.cancel(|of| *of == place(7)), 2);
    assert!(!flights.contains(&key(0)) && !flights.contains(&key(2)));
    assert!(flights.contains(&key(1)), "somebody waits for it now");
    assert!(flights.contains(&key(9)), "another handle's");
    assert!(!other.is_awaited());
}

#[test]
fn late_landing_leaves_a_newer_flight_alone() {
    let flights = Flights::default();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let stale = flights.open_ahead(key(0), place(7)).unwrap();
    flights.on_abort(&key(0), runtime.spawn(async {}).abort_handle());
    assert_eq!(flights.cancel(|of| *of == place(7)), 1);
    let (landing, mut outcome) = ours(flights.find_or_open(key(0), |_| None));
    drop(stale);
    assert!(flights.contains(&key(0)));
    landing.land(&Ok(landed(b"")), |_, _| {});
    assert_eq!(outcome.try_recv().unwrap(), Ok(landed(b"")));
}
