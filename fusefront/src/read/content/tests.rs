use wire::{FileId, Timestamp};

use super::*;

/// A version of so many bytes.
pub(crate) fn version(size: u64) -> Version {
    Version { size: ByteLen(size), mtime: Timestamp::default(), ctime: Timestamp::default() }
}

/// Contents of which nothing was handed out.
pub(crate) fn content(version: Version, settled: bool) -> Arc<Content> {
    content_within(version, settled, &Arc::default())
}

fn content_within(version: Version, settled: bool, budget: &Arc<LedgerBudget>) -> Arc<Content> {
    let id = FileId { fs: 1, inode: 2, birth: 3 };
    let file = Named { host_key: [0; 32], share: (*b"share").into(), id };
    let key = file.at(&version, 0);
    Arc::new(Content::new(file, key, (version, settled), HandedOut::Nothing, budget.clone()))
}

fn bytes(len: usize) -> Bytes {
    vec![7; len].into()
}

#[test]
fn what_is_served_is_claimed_once_while_pending_and_after() {
    let content = content(version(100), true);
    let served = content.serve(&version(100), Extent::new(0, 10), bytes(10)).unwrap();
    let expected = vec![(Extent::new(0, 10), Fingerprint::of(&bytes(10)))];
    assert_eq!(content.claims().ranges, Some(expected.clone()), "none made yet");
    drop(served);
    drop(content.serve(&version(100), Extent::new(0, 10), bytes(10)).unwrap());
    assert_eq!(content.claims().ranges, Some(expected));
}

#[test]
fn nothing_is_served_in_doubt_or_at_another_version() {
    let content = content(version(100), true);
    assert!(content.serve(&version(99), Extent::new(0, 10), bytes(10)).is_none());
    content.suspect();
    assert!(content.serve(&version(100), Extent::new(0, 10), bytes(10)).is_none());
    content.settle_on(version(200), false);
    assert_eq!((content.version(), content.is_settled()), (version(200), false));
    assert!(content.serve(&version(200), Extent::new(0, 10), bytes(10)).is_some());
    content.condemn();
    content.suspect();
    content.settle_on(version(300), true);
    assert!(content.is_stale(), "for good");
}

#[test]
fn ledger_that_is_full_claims_nothing() {
    let content = content(version(u64::MAX), true);
    for at in 0..=RANGES_MAX as u64 {
        assert!(content.claims().ranges.is_some());
        drop(content.serve(&version(u64::MAX), Extent::new(at, 1), bytes(1)).unwrap());
        if at % 1000 == 999 {
            assert_eq!(content.claims().ranges.map(|ranges| ranges.len() as u64), Some(at + 1));
        }
    }
    assert_eq!(content.claims().ranges, None);
}

#[test]
fn ledgers_share_one_bound_and_give_it_back() {
    let budget = Arc::new(LedgerBudget::default());
    // Six ledgers fit and a part of the seventh.
    let mut contents: Vec<_> =
        (0..=ALL_RANGES_MAX / RANGES_MAX).map(|_| content_within(version(u64::MAX), true, &budget)).collect();
    for content in &contents {
        for at in 0..RANGES_MAX as u64 {
            drop(content.serve(&version(u64::MAX), Extent::new(at, 1), bytes(1)).unwrap());
        }
    }
    assert!(contents.pop().unwrap().claims().ranges.is_none(), "the last one found it full");
    assert!(contents.iter().all(|content| content.claims().ranges.is_some()));
    assert!(budget.ranges.load(Relaxed) <= ALL_RANGES_MAX);
    drop(contents);
    assert_eq!(budget.ranges.load(Relaxed), 0);
}

#[test]
fn only_a_settled_version_has_a_name_on_the_disk() {
    let held = content(version(100), true);
    let name = held.kept_as(&version(100)).expect("it tells every change");
    assert_eq!(held.kept_as(&version(99)), None, "another version");
    held.suspect();
    assert_eq!(held.kept_as(&version(100)), None, "in doubt");
    held.settle_on(version(200), true);
    assert!(held.kept_as(&version(200)).is_some_and(|moved| moved != name && moved.file() == name.file()));
    held.rename(held.key(), (version(200), false));
    assert_eq!(held.kept_as(&version(200)), None, "an open found it changing");
    held.rename(held.key(), (version(200), true));
    assert!(held.kept_as(&version(200)).is_some(), "another found it settled");
    assert_eq!(content(version(100), false).kept_as(&version(100)), None, "not settled");
}
