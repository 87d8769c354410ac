use wire::{Entry, FileKind, Name};

use super::*;
use crate::vfs::folders::FolderListing;

const ROOT: NodeId = NodeId(1);

fn start() -> Instant {
    Instant::now() // clock: an origin, nothing waits
}

/// A listing of folders of these names, and a file between them.
fn listing(names: &[String]) -> FolderListing {
    let mut listing = FolderListing::default();
    for (cookie, name) in (1..).zip(names) {
        for (name, kind) in [(name.clone(), FileKind::Directory), (format!("{name}.txt"), FileKind::Regular)]
        {
            let name = Name::new(name.as_bytes()).unwrap();
            listing.push(&Entry { name, cookie, kind: Some(kind), attr: None });
        }
    }
    listing
}

fn folders(count: usize) -> Subfolders {
    let names: Vec<String> = (0..count).map(|n| format!("d{n:05}")).collect();
    Subfolders::of(&listing(&names)).unwrap()
}

/// Every second entry is a folder.
fn index(place: usize) -> usize {
    2 * place
}

/// A folder's node: which in which.
fn node(parent: NodeId, index: usize) -> NodeId {
    NodeId(parent.0 * 1000 + index as u64)
}

fn child(parent: NodeId, place: usize) -> NodeId {
    node(parent, index(place))
}

/// Opens a folder, and tells what is wanted then.
fn open(walks: &mut Walks, (parent, place): (NodeId, usize), count: usize, now: Instant) -> Opening {
    let opening = walks.opened((parent, child(parent, place)), Some(index(place)), now);
    if opening.wants_parent {
        walks.told((parent, folders(count)), index(place), now);
    }
    opening
}

/// Begins all that may begin; which those are.
fn begin(walks: &mut Walks) -> Vec<NodeId> {
    let mut begun = Vec::new();
    while let Some(place) = walks.next_place() {
        let dir = node(place.parent, place.index);
        if !walks.is_known(dir) {
            drop(walks.begin(place, dir));
            begun.push(dir);
        }
    }
    begun
}

fn end(walks: &mut Walks, dirs: &[NodeId], count: usize, now: Instant) {
    for dir in dirs {
        walks.ended(*dir, Some(ListedAhead { bytes: 1000, folders: Some(folders(count)) }), now);
    }
}

/// A walk of which the root and its first folder were opened.
fn begun(count: usize, now: Instant) -> Walks {
    let mut walks = Walks::default();
    walks.opened((ROOT, ROOT), None, now);
    open(&mut walks, (ROOT, 0), count, now);
    walks
}

#[test]
fn one_folder_alone_is_no_walk() {
    let (mut walks, now) = (Walks::default(), start());
    for dir in [ROOT, NodeId(7), ROOT] {
        let opening = walks.opened((dir, dir), None, now);
        assert!(opening.listed.is_none() && !opening.is_met && !opening.wants_parent);
        assert!(begin(&mut walks).is_empty());
    }
    // In a folder that nobody opened.
    assert!(!open(&mut walks, (NodeId(9), 0), 5, now).wants_parent);
    assert!(begin(&mut walks).is_empty());
}

#[test]
fn the_window_grows_with_what_is_opened_and_no_further_than_its_bound() {
    let (mut walks, now) = (begun(500, start()), start());
    let first = begin(&mut walks);
    assert_eq!(first, [1, 2, 3, 4].map(|place| child(ROOT, place)));
    end(&mut walks, &first, 0, now);
    assert!(begin(&mut walks).is_empty(), "nobody follows");
    let mut ahead = first.len();
    for place in 1..300 {
        let opening = open(&mut walks, (ROOT, place), 500, now);
        assert!(opening.is_met, "place {place}");
        ahead -= 1;
        let more = begin(&mut walks);
        ahead += more.len();
        assert!(more.len() <= UNDER_WAY_MAX && ahead <= WINDOW_MAX);
        end(&mut walks, &more, 0, now);
    }
    assert!(ahead > WINDOW_MAX - UNDER_WAY_MAX, "{ahead}");
}

#[test]
fn who_opens_a_folder_on_its_way_waits_for_it() {
    let (mut walks, now) = (begun(10, start()), start());
    let place = walks.next_place().unwrap();
    let dir = node(place.parent, place.index);
    let sender = walks.begin(place, dir);
    let waits = open(&mut walks, (ROOT, 1), 10, now).listed.unwrap();
    assert!(waits.has_changed().is_ok());
    assert!(walks.ended(dir, Some(ListedAhead { bytes: 1, folders: Some(folders(2)) }), now), "it was met");
    drop(sender);
    assert!(waits.has_changed().is_err(), "it ended");
    assert_eq!(begin(&mut walks)[..2], [child(dir, 0), child(dir, 1)], "what is in it comes next");
}

#[test]
fn what_is_in_a_folder_comes_before_what_is_beside_it() {
    let (mut walks, now) = (begun(100, start()), start());
    let first = begin(&mut walks);
    // The later one's listing comes first.
    end(&mut walks, &first[1..2], 2, now);
    end(&mut walks, &first[..1], 2, now);
    open(&mut walks, (ROOT, 1), 100, now);
    let next = begin(&mut walks);
    assert_eq!(next, [child(first[0], 0)], "the room of the one that was opened");
    open(&mut walks, (first[0], 0), 2, now);
    open(&mut walks, (first[0], 1), 2, now);
    assert_eq!(begin(&mut walks)[..2], [child(first[1], 0), child(first[1], 1)]);
}

#[test]
fn a_program_that_goes_level_by_level_is_followed() {
    let (mut walks, now) = (begun(100, start()), start());
    let mut deep = 0;
    for place in 1..40 {
        let begun = begin(&mut walks);
        deep = begun.iter().filter(|dir| dir.0 > 1_000_000).count();
        end(&mut walks, &begun, 50, now);
        open(&mut walks, (ROOT, place), 100, now);
    }
    assert_eq!(deep, 0, "none of what is further down");
}

#[test]
fn folders_opened_in_the_order_of_their_names_are_listed_in_it() {
    let now = start();
    let mut walks = Walks::default();
    let names = ["m", "c", "z", "a", "x", "b", "k", "d", "y"].map(str::to_owned);
    walks.opened((ROOT, ROOT), None, now);
    assert!(walks.opened((ROOT, child(ROOT, 3)), Some(index(3)), now).wants_parent);
    walks.told((ROOT, Subfolders::of(&listing(&names)).unwrap()), index(3), now);
    let expected = [5, 1, 7, 6].map(|place| child(ROOT, place));
    assert_eq!(begin(&mut walks), expected, "b c d k after a");
}

#[test]
fn what_nobody_comes_for_makes_room_and_the_window_shrinks() {
    let (mut walks, now) = (begun(1000, start()), start());
    for place in 1..40 {
        let more = begin(&mut walks);
        end(&mut walks, &more, 0, now);
        open(&mut walks, (ROOT, place), 1000, now);
    }
    let more = begin(&mut walks);
    end(&mut walks, &more, 0, now);
    assert!(walks.expire(now).is_empty(), "they may come yet");
    let gone = walks.expire(now + PATIENCE);
    assert_eq!(gone.len(), WINDOW_MAX);
    assert_eq!(begin(&mut walks).len(), WINDOW_MAX / 2);
    for _ in 0..8 {
        let under_way: Vec<_> = walks.ahead.keys().copied().collect();
        end(&mut walks, &under_way, 0, now);
        walks.expire(now + PATIENCE);
        begin(&mut walks);
    }
    assert_eq!(walks.ahead.len(), WINDOW_MIN);
}

#[test]
fn large_listings_hold_the_walk_back() {
    let (mut walks, now) = (begun(100, start()), start());
    let first = begin(&mut walks);
    for dir in &first {
        let listed = ListedAhead { bytes: AHEAD_BYTES_MAX / 2, folders: None };
        assert!(!walks.ended(*dir, Some(listed), now));
    }
    open(&mut walks, (ROOT, 1), 100, now);
    assert!(begin(&mut walks).is_empty());
    open(&mut walks, (ROOT, 2), 100, now);
    open(&mut walks, (ROOT, 3), 100, now);
    assert!(!begin(&mut walks).is_empty());
}

#[test]
fn folders_that_cannot_be_listed_end_the_walk_for_a_while() {
    let now = start();
    let mut walks = begun(100, now);
    let mut tried = 0;
    for place in 1..60 {
        for dir in begin(&mut walks) {
            tried += 1;
            walks.ended(dir, None, now);
        }
        open(&mut walks, (ROOT, place), 100, now);
    }
    assert!((8..16).contains(&tried), "{tried}");
    open(&mut walks, (ROOT, 60), 100, now + REST);
    assert_eq!(begin(&mut walks).len(), WINDOW_MIN);
}

#[test]
fn a_lost_session_ends_every_walk() {
    let (mut walks, now) = (begun(100, start()), start());
    let first = begin(&mut walks);
    end(&mut walks, &first[..2], 0, now);
    let mut gone = walks.clear();
    gone.sort();
    assert_eq!(gone, first[..2], "those under way end by themselves");
    assert!(begin(&mut walks).is_empty());
    assert!(walks.ended(first[2], None, now), "its node is not kept");
    assert!(!walks.ended(first[2], None, now), "it ended before");
    assert!(!open(&mut walks, (ROOT, 5), 100, now).wants_parent, "the root is to be opened first");
}

#[test]
fn a_walk_that_is_left_ends() {
    let now = start();
    let mut walks = begun(100, now);
    let first = begin(&mut walks);
    end(&mut walks, &first, 0, now);
    assert!(walks.rest(now).is_empty());
    let later = now + Duration::from_secs(30);
    assert_eq!(walks.rest(later).len(), first.len());
    assert!(begin(&mut walks).is_empty() && walks.parents.is_empty());
    assert!(open(&mut walks, (ROOT, 70), 100, later).wants_parent, "it goes on where it was left");
    assert_eq!(begin(&mut walks).len(), WINDOW_MIN);
}

#[test]
fn folders_and_their_orders_are_bounded() {
    let now = start();
    let mut walks = Walks::default();
    for n in 0..2 * PARENTS_MAX {
        let parent = NodeId(10 + n as u64);
        walks.opened((ROOT, parent), None, now + Duration::from_secs(n as u64));
        assert!(walks.opened((parent, child(parent, 0)), Some(0), now).wants_parent);
        walks.told((parent, folders(3)), 0, now + Duration::from_secs(n as u64));
        assert!(walks.parents.len() <= PARENTS_MAX && walks.lately.len() <= LATELY_MAX);
    }
    assert_eq!(walks.parents.len(), PARENTS_MAX);
    let mut many = listing(&(0..=subfolders::SUBFOLDERS_MAX).map(|n| n.to_string()).collect::<Vec<_>>());
    assert!(Subfolders::of(&many).is_none());
    many = listing(&[]);
    assert!(Subfolders::of(&many).unwrap().is_empty());
}
