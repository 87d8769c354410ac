use proptest::prelude::*;
use wire::{ByteLen, FileId, Timestamp, Version};

use super::*;
use crate::readahead::EXTENT_BYTES;

const KIB: u64 = 1024;
const DIR: NodeId = NodeId(10);
const PARENT: NodeId = NodeId(1);

fn now() -> Instant {
    Instant::now() // clock: an origin, nothing waits
}

fn item(name: &str, inode: u64, size: u64) -> Item {
    let time = Timestamp::default();
    let version = Version { size: ByteLen(size), mtime: time, ctime: time };
    Item { name: Name::new(name.as_bytes()).unwrap(), id: FileId { fs: 1, inode, birth: 1 }, version }
}

/// Files in the order of a listing that has nothing to do with their names.
fn shelf(names: &[String], size: u64) -> Arc<Shelf> {
    let mut items: Vec<_> = (1..).zip(names).map(|(inode, name)| item(name, inode, size)).collect();
    items.sort_by_key(|item| blake3::hash(item.name.as_bytes()).as_bytes().to_vec());
    Arc::new(Shelf::new(items).unwrap())
}

fn frames(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("shot.{n:05}.exr")).collect()
}

/// A mount that opens files, and what came of it.
struct Run {
    scans: Scans,
    shelf: Arc<Shelf>,
    fetched: Vec<usize>,
    opened: u64,
    ready: u64,
    most_unread: u64,
}

impl Run {
    fn new(shelf: Arc<Shelf>) -> Run {
        let scans = Scans::new(WindowBudget::new(64 * EXTENT_BYTES), 16 * EXTENT_BYTES);
        Run { scans, shelf, fetched: Vec::new(), opened: 0, ready: 0, most_unread: 0 }
    }

    fn open(&mut self, name: &str) {
        let name = Name::new(name.as_bytes()).unwrap();
        self.opened += 1;
        self.ready += u64::from(self.shelf.find(&name).is_some_and(|place| self.fetched.contains(&place)));
        for wish in self.scans.opened((PARENT, DIR), &name, now()) {
            self.grant(Some(wish));
        }
    }

    fn grant(&mut self, wish: Option<Wish>) {
        match wish {
            Some(Wish::List(dir)) => {
                assert_eq!(dir, DIR);
                let wish = self.scans.listed(dir, Some(self.shelf.clone()), now());
                self.grant(wish);
            }
            Some(Wish::Fetch(dir, fetches)) => {
                assert_eq!(dir, DIR);
                for Fetch { place, .. } in fetches {
                    assert!(!self.fetched.contains(&place), "fetched twice");
                    self.fetched.push(place);
                }
            }
            Some(Wish::Expect(next)) => assert_eq!((next.parent, next.last), (PARENT, DIR)),
            None => {}
        }
        self.most_unread = self.most_unread.max(self.scans.unread_bytes());
    }

    /// Files fetched for each that was opened, and the share of opens that found theirs.
    fn outcome(&self) -> (f64, f64) {
        (self.fetched.len() as f64 / self.opened as f64, self.ready as f64 / self.opened as f64)
    }
}

#[test]
fn patterns_and_what_they_cost() {
    let all = frames(2000);
    let backward: Vec<_> = all.iter().rev().cloned().collect();
    let listed: Vec<_> = {
        let shelf = shelf(&all, 10 * KIB);
        (0..shelf.len()).map(|place| shelf.item(place).name.to_string()).collect()
    };
    let every_tenth: Vec<_> = all.iter().step_by(10).cloned().collect();
    let jittered: Vec<_> = all.chunks(16).flat_map(|chunk| chunk.iter().rev().cloned()).collect();
    let most: Vec<_> = (0..).zip(&all).filter(|(n, _)| n % 10 != 7).map(|(_, name)| name.clone()).collect();
    let mut shuffled = all.clone();
    shuffled.sort_by_key(|name| blake3::hash(format!("x{name}").as_bytes()).as_bytes().to_vec());
    let some = shuffled[..20].to_vec();
    let (one, two) = (shuffled[..1].to_vec(), shuffled[..2].to_vec());
    // Opens, files fetched per file opened at most, share of them that was ready at least.
    let table: [(&str, &[String], f64, f64); 10] = [
        ("in the order of names", &all, 1.0, 0.99),
        ("backward", &backward, 1.0, 0.99),
        ("in the order of the listing", &listed, 1.0, 0.99),
        ("every tenth frame", &every_tenth, 1.05, 0.97),
        ("by sixteen threads", &jittered, 1.0, 0.95),
        ("nine of ten", &most, 1.12, 0.95),
        ("all, in no order", &shuffled, 1.0, 0.60),
        ("twenty, in no order", &some, 2.0, 0.0),
        ("one", &one, 0.0, 0.0),
        ("two", &two, 0.0, 0.0),
    ];
    for (what, opens, fetched_max, ready_min) in table {
        let mut run = Run::new(shelf(&all, 10 * KIB));
        opens.iter().for_each(|name| run.open(name));
        let (fetched, ready) = run.outcome();
        assert!(fetched <= fetched_max, "{what}: {fetched:.2} fetched per open");
        assert!(ready >= ready_min, "{what}: {ready:.2} ready");
    }
}

#[test]
fn large_files_are_begun_and_no_more() {
    let mut run = Run::new(shelf(&frames(100), 20 << 20));
    (0..10).for_each(|n| run.open(&format!("shot.{n:05}.exr")));
    let (fetched, ready) = run.outcome();
    assert!((0.5..=1.3).contains(&fetched), "{fetched}");
    assert!(ready >= 0.7, "{ready}");
    assert!(run.most_unread <= 2 * EXTENT_BYTES);
}

#[test]
fn a_guess_that_is_wrong_costs_one_window() {
    // Three in order, as by chance, then none of those fetched ever again.
    let mut run = Run::new(shelf(&frames(2000), 10 * KIB));
    ["shot.00001.exr", "shot.00002.exr", "shot.00003.exr"].iter().for_each(|name| run.open(name));
    let guessed = run.fetched.len();
    assert!(guessed <= 2 * WINDOW_FILES_MIN, "{guessed}");
    (0..6).for_each(|n| run.open(&format!("shot.{:05}.exr", 500 + 200 * n)));
    assert_eq!(run.fetched.len(), guessed);
    let later = now() + 2 * PAUSE_MAX;
    assert_eq!(run.scans.rest(later), [DIR]);
    assert_eq!(run.scans.take_wasted_bytes(), guessed as u64 * 12 * KIB);
    assert_eq!(run.scans.unread_bytes(), 0);
    assert_eq!(run.scans.budget.free_bytes(), 64 * EXTENT_BYTES);
}

#[test]
fn a_folder_beside_one_read_in_full_is_expected() {
    let mut run = Run::new(shelf(&frames(40), 10 * KIB));
    frames(40).iter().for_each(|name| run.open(name));
    let (dir, name) = (NodeId(11), Name::new(b"shot.00000.exr").unwrap());
    let next = Next { parent: PARENT, before: Some(DIR), last: dir, count: 1, order: Order::Listing };
    assert_eq!(run.scans.opened((PARENT, dir), &name, now()), [Wish::List(dir), Wish::Expect(next)]);
    let Some(Wish::Fetch(_, fetches)) = run.scans.listed(dir, Some(run.shelf.clone()), now()) else {
        panic!("nothing to fetch");
    };
    assert!(fetches.len() > WINDOW_FILES_MIN, "the window it took before: {}", fetches.len());
    let third = (PARENT, NodeId(13));
    let wishes = run.scans.looked_up(third, now());
    assert_eq!(wishes[0], Wish::List(third.1), "before anything is opened there");
    assert_eq!(run.scans.looked_up(third, now()), [], "once");
    let elsewhere = (NodeId(99), NodeId(12));
    assert_eq!(run.scans.looked_up(elsewhere, now()), []);
    assert_eq!(run.scans.opened(elsewhere, &name, now()), []);
}

/// The place to look for the folders that follow, where that was asked for.
fn expected(wishes: &[Wish]) -> Option<Next> {
    wishes.iter().find_map(|wish| match wish {
        Wish::Expect(next) => Some(*next),
        Wish::List(_) | Wish::Fetch(..) => None,
    })
}

#[test]
fn folders_that_follow_are_fetched_before_anybody_comes_to_them() {
    let mut run = Run::new(shelf(&frames(40), 10 * KIB));
    let names: Vec<_> = frames(40).iter().map(|name| Name::new(name.as_bytes()).unwrap()).collect();
    let mut next = None;
    for name in &names {
        let wishes = run.scans.opened((PARENT, DIR), name, now());
        next = next.or(expected(&wishes));
        if wishes.contains(&Wish::List(DIR)) {
            run.scans.listed(DIR, Some(run.shelf.clone()), now());
        }
    }
    assert_eq!(next, Some(Next { parent: PARENT, before: None, last: DIR, count: 1, order: Order::Listing }));
    let following: Vec<_> = (11..200).map(NodeId).collect();
    let (mut at, mut most) = (0, 0);
    let mut count = 1;
    for turn in 0..60 {
        let taken = run.scans.expect(PARENT, &following[at..], now());
        most = most.max(taken.len());
        assert!(taken.len() <= count, "turn {turn}");
        for dir in taken {
            let wish = run.scans.listed(dir, Some(run.shelf.clone()), now());
            assert!(matches!(wish, Some(Wish::Fetch(..)) | None), "{wish:?}");
        }
        let wishes = run.scans.opened((PARENT, following[at]), &names[0], now());
        assert_eq!(run.scans.take_let_go(), [following[at]], "it is not ahead any more");
        names.iter().for_each(|name| drop(run.scans.opened((PARENT, following[at]), name, now())));
        count = expected(&wishes).map_or(0, |next| next.count);
        at += 1;
    }
    assert!((8..=FOLDERS_AHEAD_MAX).contains(&most), "{most}");
    assert!(run.scans.unread_bytes() <= 17 * EXTENT_BYTES);
}

#[test]
fn folders_that_nobody_comes_to_are_let_go() {
    let mut run = Run::new(shelf(&frames(40), 10 * KIB));
    frames(40).iter().for_each(|name| run.open(name));
    let wrong = NodeId(20);
    assert_eq!(run.scans.expect(PARENT, &[wrong, NodeId(21)], now()), [wrong], "one at first");
    run.scans.listed(wrong, Some(run.shelf.clone()), now());
    let unread = run.scans.unread_bytes();
    assert!(unread > 0);
    let name = Name::new(b"shot.00000.exr").unwrap();
    for other in 30..40 {
        let wishes = run.scans.opened((PARENT, NodeId(other)), &name, now());
        assert_eq!(expected(&wishes), None, "no more of them");
    }
    run.scans.rest(now() + 2 * PAUSE_MAX);
    assert_eq!(run.scans.take_let_go(), [wrong]);
    assert_eq!(run.scans.take_wasted_bytes(), unread);
    assert_eq!(run.scans.unread_bytes(), 0);
}

#[test]
fn a_folder_that_cannot_be_listed_is_left() {
    let mut scans = Scans::new(WindowBudget::new(EXTENT_BYTES), EXTENT_BYTES);
    let names: Vec<_> = frames(40).iter().map(|name| Name::new(name.as_bytes()).unwrap()).collect();
    scans.opened((PARENT, DIR), &names[0], now());
    assert_eq!(scans.opened((PARENT, DIR), &names[1], now()), [Wish::List(DIR)]);
    assert_eq!(scans.listed(DIR, None, now()), None);
    assert!(names.iter().all(|name| scans.opened((PARENT, DIR), name, now()).is_empty()));
}

proptest! {
    #[test]
    fn any_opens_stay_within_the_bounds(
        opens in prop::collection::vec((0..80u64, 0..300usize, 0..7u64), 1..600),
        size in 1..200 * KIB,
        budget_mib in 0..8u64,
    ) {
        let budget = WindowBudget::new(budget_mib * EXTENT_BYTES);
        let (all, bytes_max) = (frames(300), 4 * EXTENT_BYTES);
        let files = shelf(&all, size);
        let mut scans = Scans::new(budget.clone(), bytes_max);
        let (mut at, mut kept) = (now(), 0);
        for (dir, file, pause) in opens {
            at += Duration::from_secs(pause) / 2;
            let (dir, name) = (NodeId(2 + dir), Name::new(all[file].as_bytes()).unwrap());
            let mut wishes = scans.opened((PARENT, dir), &name, at);
            while let Some(wish) = wishes.pop() {
                match wish {
                    Wish::List(dir) => wishes.extend(scans.listed(dir, Some(files.clone()), at)),
                    Wish::Fetch(dir, fetches) => {
                        prop_assert!(!fetches.is_empty());
                        scans.failed(dir, fetches[0].place);
                    }
                    Wish::Expect(next) => {
                        let following: Vec<_> = (1..40).map(|n| NodeId(next.last.0 + n)).collect();
                        let taken = scans.expect(next.parent, &following, at);
                        prop_assert!(taken.len() <= next.count);
                        kept += taken.len();
                        wishes.extend(taken.into_iter().map(Wish::List));
                    }
                }
            }
            let let_go = scans.take_let_go();
            prop_assert!(let_go.len() <= kept, "no more than were kept");
            kept -= let_go.len();
            prop_assert!(scans.folders.len() <= FOLDERS_MAX);
            prop_assert!(scans.scans().count() <= SCANS_MAX);
            // One extent each is free of the budget.
            let lent = budget_mib * EXTENT_BYTES + SCANS_MAX as u64 * EXTENT_BYTES;
            prop_assert!(scans.unread_bytes() <= lent);
            prop_assert!(scans.scans().all(|(_, scan)| scan.unread_bytes() <= bytes_max));
        }
        scans.rest(at + 2 * PAUSE_MAX);
        prop_assert_eq!(scans.take_let_go().len(), kept);
        prop_assert_eq!(budget.free_bytes(), budget_mib * EXTENT_BYTES);
        prop_assert_eq!(scans.unread_bytes(), 0);
    }
}
