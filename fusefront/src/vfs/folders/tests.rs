use std::collections::BTreeMap;

use proptest::prelude::*;
use wire::{ByteLen, Changes, Timestamp};

use super::*;

const DIR: NodeId = NodeId(7);

fn now() -> Instant {
    Instant::now() // clock: an origin, nothing waits
}

fn name(number: u64) -> Name {
    Name::new(format!("n{number}").as_bytes()).unwrap()
}

fn attr(inode: u64, links: u32) -> Attr {
    let time = Timestamp::default();
    Attr {
        id: FileId { fs: 1, inode, birth: 3 },
        kind: FileKind::Regular,
        perm: 0o644,
        links,
        uid: 0,
        gid: 0,
        rdev: 0,
        block_bytes: 4096,
        size: ByteLen(1),
        blocks: 0,
        atime: time,
        mtime: time,
        ctime: time,
        settled: true,
    }
}

fn entry(number: u64) -> Entry {
    let attr = Some(attr(100 + number, 1));
    Entry { name: name(number), cookie: number + 1, kind: Some(FileKind::Regular), attr }
}

fn change(number: u64) -> Change {
    Change { name: name(number), what: Changes::CONTENT, linked: None }
}

fn leased(folders: &mut Folders, dir: NodeId) -> LeaseId {
    let lease = folders.begin(dir, now()).unwrap();
    folders.granted(lease, Grant::Granted, attr(dir.0, 2), now());
    lease
}

/// The directory listed, with names from 0 on.
fn listed(folders: &mut Folders, dir: NodeId, entries: u64) {
    let taking = folders.take_listing(dir).unwrap();
    let entries: Vec<Entry> = (0..entries).map(entry).collect();
    folders.add_page(dir, taking, (0, &entries, true));
}

#[test]
fn nothing_is_known_without_a_lease() {
    let mut folders = Folders::default();
    assert_eq!(folders.asking(DIR), None);
    let lease = folders.begin(DIR, now()).unwrap();
    assert_eq!(folders.begin(DIR, now()), None, "it is asked for");
    assert_eq!(folders.asking(DIR), None, "the watch may not be set yet");
    assert!(!folders.learn(None, &name(1), None));
    folders.granted(lease, Grant::Granted, attr(7, 2), now());
    assert_eq!(folders.attr(DIR), Some(attr(7, 2)));
    assert_eq!(folders.find(DIR, &name(1)), Known::Unknown);
    assert!(folders.learn(folders.asking(DIR), &name(1), None));
    assert_eq!(folders.find(DIR, &name(1)), Known::Absent);
    assert_eq!(folders.revoked(&[lease]), [DIR]);
    assert_eq!(folders.find(DIR, &name(1)), Known::Unknown);
    assert_eq!(folders.take_let_go(), [(DIR, None)]);
    assert_eq!(folders.stats(), FoldersStats::default());
}

#[test]
fn an_answer_asked_for_before_a_push_is_not_kept() {
    let mut folders = Folders::default();
    let lease = leased(&mut folders, DIR);
    let asked = folders.asking(DIR);
    assert_eq!(folders.changed(lease, &[change(2)]), Some((DIR, vec![Dirty { name: name(2), was: None }])));
    assert!(!folders.learn(asked, &name(1), Some(attr(9, 1))));
    assert!(!folders.learn_dir(asked, attr(7, 2)));
    assert_eq!(folders.attr(DIR), None, "a push is about the directory too");
    let asked = folders.asking(DIR);
    assert!(folders.learn(asked, &name(1), Some(attr(9, 1))) && folders.learn_dir(asked, attr(7, 2)));
    assert_eq!(folders.find(DIR, &name(1)), Known::Present(attr(9, 1)));
}

#[test]
fn a_push_that_overtakes_the_grant_counts() {
    let mut folders = Folders::default();
    let lease = folders.begin(DIR, now()).unwrap();
    let taking = folders.take_with_lease(lease).unwrap();
    folders.changed(lease, &[change(1)]);
    folders.granted(lease, Grant::Granted, attr(7, 2), now());
    assert_eq!(folders.attr(DIR), None);
    folders.add_page(DIR, taking, (0, &[entry(0), entry(1)], true));
    assert_eq!(folders.find(DIR, &name(0)), Known::Present(attr(100, 1)));
    assert_eq!(folders.find(DIR, &name(1)), Known::Unknown);
    assert_eq!(folders.find(DIR, &name(2)), Known::Absent);
    assert!(folders.listing(DIR).is_none());
}

#[test]
fn files_with_several_names_are_never_known() {
    let mut folders = Folders::default();
    leased(&mut folders, DIR);
    assert!(folders.learn(folders.asking(DIR), &name(1), Some(attr(9, 2))));
    assert_eq!(folders.find(DIR, &name(1)), Known::Unknown);
    let folder = Attr { kind: FileKind::Directory, ..attr(10, 5) };
    assert!(folders.learn(folders.asking(DIR), &name(2), Some(folder)));
    assert_eq!(folders.find(DIR, &name(2)), Known::Present(folder));
    let taking = folders.take_listing(DIR).unwrap();
    let linked = Entry { attr: Some(attr(9, 2)), ..entry(1) };
    folders.add_page(DIR, taking, (0, &[linked], true));
    assert_eq!(folders.find(DIR, &name(1)), Known::Unknown);
    assert_eq!(folders.listing(DIR).unwrap().position(&name(1)), Some(0));
}

#[test]
fn a_refused_lease_is_asked_for_again_later() {
    let mut folders = Folders::default();
    let start = now();
    for (grant, pause) in [(Grant::Exhausted, EXHAUSTED), (Grant::Unwatchable, UNWATCHABLE)] {
        let lease = folders.begin(DIR, start).unwrap();
        folders.granted(lease, grant, attr(7, 2), start);
        assert_eq!(folders.begin(DIR, start + pause / 2), None);
        assert!(folders.begin(DIR, start + pause).is_some());
        assert_eq!(folders.take_let_go(), [(DIR, None)]);
        folders.revoked_all();
        folders.take_let_go();
    }
    let lease = folders.begin(DIR, start).unwrap();
    folders.failed(lease, start);
    assert!(folders.begin(DIR, start + FAILED).is_some());
    assert_eq!(folders.take_let_go(), [(DIR, Some(lease))], "the host may have granted it");
}

#[test]
fn a_lease_granted_after_it_was_taken_back_is_given_back() {
    let mut folders = Folders::default();
    let lease = folders.begin(DIR, now()).unwrap();
    folders.revoked_all();
    folders.take_let_go();
    folders.granted(lease, Grant::Granted, attr(7, 2), now());
    assert_eq!(folders.take_let_go(), [(NodeId::ROOT, Some(lease))]);
    assert!(!folders.is_held(DIR));
}

#[test]
fn several_misses_fetch_a_page_and_further_ones_the_next() {
    let mut folders = Folders::default();
    leased(&mut folders, DIR);
    assert!((1..MISSES_MAX).all(|_| folders.miss(DIR).is_none()));
    let first = folders.miss(DIR).unwrap();
    assert_eq!(first.cookie, 0);
    assert_eq!(folders.miss(DIR), None, "one at a time");
    folders.add_page(DIR, first.taking, (0, &[entry(0), entry(1)], false));
    assert_eq!(folders.find(DIR, &name(1)), Known::Present(attr(101, 1)));
    assert_eq!(folders.find(DIR, &name(2)), Known::Unknown, "it may follow");
    let second = folders.fetched(DIR, first.taking).unwrap();
    assert_eq!(second, Wanted { taking: first.taking, cookie: 2 });
    folders.add_page(DIR, first.taking, (2, &[entry(2)], false));
    assert_eq!(folders.fetched(DIR, first.taking), None, "nobody looked there since");
    let third = folders.miss(DIR).unwrap();
    folders.add_page(DIR, third.taking, (3, &[entry(3)], true));
    assert_eq!(folders.fetched(DIR, third.taking), None);
    assert_eq!(folders.find(DIR, &name(9)), Known::Absent);
    assert_eq!(folders.listing(DIR).unwrap().len(), 4);
    assert_eq!(folders.stats().listings, 1);
}

#[test]
fn pages_of_another_pass_are_left_out() {
    let mut folders = Folders::default();
    let lease = leased(&mut folders, DIR);
    let old = folders.take_listing(DIR).unwrap();
    let new = folders.take_listing(DIR).unwrap();
    folders.add_page(DIR, old, (0, &[entry(0)], true));
    folders.add_page(DIR, new, (5, &[entry(0)], true));
    assert!(folders.listing(DIR).is_none());
    folders.revoked(&[lease]);
    leased(&mut folders, DIR);
    folders.add_page(DIR, new, (0, &[entry(0)], true));
    assert!(folders.listing(DIR).is_none(), "of an earlier lease");
    assert_eq!(folders.stats().bytes, 0);
}

#[test]
fn a_changed_name_is_asked_for_and_the_others_are_not() {
    let mut folders = Folders::default();
    let lease = leased(&mut folders, DIR);
    listed(&mut folders, DIR, 10);
    let was = Some(attr(103, 1).id);
    let dirty = folders.changed(lease, &[change(3), change(50)]).unwrap().1;
    assert_eq!(dirty, [Dirty { name: name(3), was }, Dirty { name: name(50), was: None }]);
    assert_eq!(folders.find(DIR, &name(3)), Known::Unknown);
    assert_eq!(folders.find(DIR, &name(50)), Known::Unknown, "it may be there by now");
    assert_eq!(folders.find(DIR, &name(51)), Known::Absent);
    assert_eq!(folders.find(DIR, &name(4)), Known::Present(attr(104, 1)));
    assert!(folders.listing(DIR).is_none());
    assert!(folders.learn(folders.asking(DIR), &name(3), None));
    assert_eq!(folders.find(DIR, &name(3)), Known::Absent);
    listed(&mut folders, DIR, 3);
    assert_eq!(folders.listing(DIR).unwrap().len(), 3);
    assert_eq!(folders.find(DIR, &name(50)), Known::Absent);
}

#[test]
fn what_was_said_long_ago_is_asked_for_again() {
    let mut folders = Folders::default();
    leased(&mut folders, DIR);
    let start = now();
    listed(&mut folders, DIR, 10);
    folders.age(start + LEASED_TTL / 2);
    assert_eq!(folders.find(DIR, &name(3)), Known::Present(attr(103, 1)));
    folders.age(start + 2 * LEASED_TTL);
    assert_eq!(folders.find(DIR, &name(3)), Known::Unknown);
    assert!(folders.is_held(DIR) && folders.attr(DIR).is_none() && folders.stats().bytes == 0);
}

#[test]
fn a_storm_drops_the_listing_and_stays_bounded() {
    let mut folders = Folders::default();
    let lease = leased(&mut folders, DIR);
    listed(&mut folders, DIR, 10);
    for number in 0..20_000 {
        folders.changed(lease, &[change(number)]);
    }
    assert_eq!((folders.stats().bytes, folders.stats().listings), (0, 0));
    assert_eq!(folders.find(DIR, &name(30_000)), Known::Unknown);
    listed(&mut folders, DIR, 10);
    assert_eq!(folders.find(DIR, &name(30_000)), Known::Absent);
}

#[test]
fn the_least_recently_used_leases_go_first_and_never_the_root() {
    let mut folders = Folders::default();
    leased(&mut folders, NodeId::ROOT);
    for number in 2..=LEASES_MAX as u64 {
        leased(&mut folders, NodeId(number));
    }
    assert!(folders.is_held(NodeId(2)), "and used by that");
    assert!(folders.take_let_go().is_empty());
    leased(&mut folders, NodeId(1 << 40));
    let gone = folders.take_let_go();
    assert_eq!(gone.len(), limits::RELEASE_MAX);
    assert!(gone.iter().all(|(dir, lease)| lease.is_some() && dir.0 > 2 && !folders.is_held(*dir)));
    assert!(folders.is_held(NodeId::ROOT) && folders.is_held(NodeId(2)));
}

#[test]
fn listings_and_names_stay_within_their_bytes() {
    let mut folders = Folders::default();
    for dir in 10..40 {
        leased(&mut folders, NodeId(dir));
        listed(&mut folders, NodeId(dir), 20_000);
        assert!(folders.stats().bytes <= BYTES_MAX as u64);
    }
    assert!(folders.listing(NodeId(10)).is_none() && folders.is_held(NodeId(10)));
    assert!(folders.listing(NodeId(39)).is_some());
    for number in 0..100_000 {
        folders.learn(folders.asking(NodeId(11)), &name(number), None);
    }
    assert!(folders.stats().bytes <= BYTES_MAX as u64);
    folders.revoked_all();
    assert_eq!(folders.stats(), FoldersStats::default());
}

#[test]
fn a_listing_that_does_not_fit_is_not_fetched_again() {
    let mut folders = Folders::default();
    leased(&mut folders, DIR);
    let taking = folders.take_listing(DIR).unwrap();
    let mut at = 0;
    while folders.take_listing(NodeId(999)).is_none() && at < 1_000_000 && !folders.folders[&DIR].too_large {
        let entries: Vec<Entry> = (at..at + 10_000).map(entry).collect();
        folders.add_page(DIR, taking, (at, &entries, false));
        at += 10_000;
    }
    assert!(folders.folders[&DIR].too_large && folders.stats().bytes == 0, "{at}");
    assert_eq!(folders.take_listing(DIR), None);
    assert!((0..20).all(|_| folders.miss(DIR).is_none()));
}

/// What may happen, in any order.
#[derive(Clone, Debug)]
enum Event {
    /// The host's file of this name changes; a push is on its way.
    Change(u64, Option<u64>),
    /// The oldest push arrives.
    Push,
    /// A question is asked, and answered by the host as it is now.
    Ask(u64),
    /// The oldest answer arrives.
    Answer,
    /// The directory is listed from its first page.
    List,
    /// The host makes the next page.
    Page,
    /// The lease is lost, and taken anew.
    Renew,
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => (0..6_u64, proptest::option::of(1..1000_u64)).prop_map(|(name, file)| Event::Change(name, file)),
        4 => Just(Event::Push),
        4 => (0..6_u64).prop_map(Event::Ask),
        4 => Just(Event::Answer),
        1 => Just(Event::List),
        4 => Just(Event::Page),
        1 => Just(Event::Renew),
    ]
}

proptest! {
    /// Whatever overtakes whatever: what is known of a name is what the host has, unless a push about it is under way.
    #[test]
    fn what_is_known_is_true_or_a_push_is_under_way(events in proptest::collection::vec(any_event(), 1..120)) {
        let mut folders = Folders::default();
        let mut lease = leased(&mut folders, DIR);
        let mut host: BTreeMap<u64, u64> = (0..3).map(|number| (number, 500 + number)).collect();
        let (mut pushes, mut answers) = (Vec::new(), Vec::new());
        let mut pass = None;
        for event in events {
            match event {
                Event::Change(number, file) => {
                    match file {
                        Some(file) => host.insert(number, file),
                        None => host.remove(&number),
                    };
                    pushes.push((lease, number));
                }
                Event::Push if !pushes.is_empty() => {
                    let (lease, number) = pushes.remove(0);
                    folders.changed(lease, &[change(number)]);
                }
                Event::Ask(number) => {
                    let found = host.get(&number).map(|&file| attr(file, 1));
                    answers.push((folders.asking(DIR), number, found));
                }
                Event::Answer if !answers.is_empty() => {
                    let (asked, number, found) = answers.remove(0);
                    folders.learn(asked, &name(number), found);
                }
                Event::List => pass = folders.take_listing(DIR).map(|taking| (taking, 0)),
                Event::Page => {
                    let Some((taking, cookie)) = pass else { continue };
                    let page: Vec<Entry> = host.range(cookie..).take(2).map(|(&number, &file)| {
                        Entry { attr: Some(attr(file, 1)), ..entry(number) }
                    }).collect();
                    let next = page.last().map_or(cookie, |last| last.cookie);
                    let end = host.range(next..).next().is_none();
                    folders.add_page(DIR, taking, (cookie, &page, end));
                    pass = (!end).then_some((taking, next));
                }
                Event::Renew => {
                    folders.revoked(&[lease]);
                    lease = leased(&mut folders, DIR);
                    pushes.clear();
                }
                Event::Push | Event::Answer => {}
            }
            for number in 0..6 {
                if pushes.iter().any(|(_, pushed)| *pushed == number) {
                    continue;
                }
                let truth = host.get(&number).map_or(Known::Absent, |&file| Known::Present(attr(file, 1)));
                let known = folders.find(DIR, &name(number));
                prop_assert!(known == Known::Unknown || known == truth, "{number}: {known:?}, not {truth:?}");
            }
        }
    }
}

#[test]
fn the_kernel_keeps_a_listing_while_it_is_the_one_in_memory() {
    let (mut folders, start) = (Folders::default(), now());
    let lease = leased(&mut folders, DIR);
    let taking = folders.take_listing(DIR).unwrap();
    // It reads along while memory takes it in.
    assert_eq!(folders.show(DIR, &ShownFrom::Host(taking), start), KernelListing::Filled);
    folders.add_page(DIR, taking, (0, &[entry(0), entry(1)], true));
    let listing = folders.listing(DIR).unwrap();
    let open = |folders: &mut Folders, listing: &Arc<FolderListing>, at| {
        folders.show(DIR, &ShownFrom::Memory(listing), at)
    };
    assert_eq!(open(&mut folders, &listing, start), KernelListing::Kept);
    // Before what was told with it runs out.
    assert_eq!(open(&mut folders, &listing, start + LEASED_TTL / 2), KernelListing::Filled);
    assert_eq!(open(&mut folders, &listing, start + LEASED_TTL / 2), KernelListing::Kept);

    folders.changed(lease, &[change(1)]).unwrap();
    assert_eq!(open(&mut folders, &listing, start), KernelListing::None, "of an older one");
    assert_eq!(folders.show(DIR, &ShownFrom::Host(taking), start), KernelListing::None);
    listed(&mut folders, DIR, 3);
    let listing = folders.listing(DIR).unwrap();
    assert_eq!(open(&mut folders, &listing, start), KernelListing::Filled, "the kernel has another one");
    assert_eq!(open(&mut folders, &listing, start), KernelListing::Kept);
    assert_eq!(folders.revoked(&[lease]), [DIR]);
    assert_eq!(open(&mut folders, &listing, start), KernelListing::None);
}

#[test]
fn a_listing_that_changed_while_it_was_read_is_not_kept() {
    let (mut folders, start) = (Folders::default(), now());
    let lease = leased(&mut folders, DIR);
    let taking = folders.take_listing(DIR).unwrap();
    assert_eq!(folders.show(DIR, &ShownFrom::Host(taking), start), KernelListing::Filled);
    folders.add_page(DIR, taking, (0, &[entry(0)], false));
    folders.changed(lease, &[change(0)]).unwrap();
    folders.add_page(DIR, taking, (1, &[entry(1)], true));
    assert!(folders.listing(DIR).is_none());
    assert_eq!(folders.show(DIR, &ShownFrom::Host(taking), start), KernelListing::None);
}
