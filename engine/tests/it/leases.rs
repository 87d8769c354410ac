//! Leases: what a mount is told of changes on the host, and when it may trust nothing any more.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
    process::Command,
    time::Duration,
};

use tokio::time;
use transport::{Pushed, Pushes};
use wire::{Attr, Change, Changes, ErrorCode, FileId, Grant, LeaseId, Listing, Push, Reply, Request};

use crate::rig::{Peer, Rig, code, path};

/// Far beyond what a push takes: a test that meets it hangs.
const PATIENCE: Duration = Duration::from_secs(20);

/// A peer's leases, and the pushes about them.
struct Told<'a> {
    peer: &'a Peer,
    pushes: Pushes,
}

impl<'a> Told<'a> {
    fn new(peer: &'a Peer) -> Told<'a> {
        let pushes = peer.pushes();
        let first = peer.run(pushes.next());
        assert_eq!(first, Some(Pushed::SessionBegun));
        Told { peer, pushes }
    }

    fn try_lease(&self, at: &str, lease: u64) -> Result<(Attr, Grant), ErrorCode> {
        let target = self.peer.target(&path(at), None);
        match self.peer.call(Request::Lease { target, lease: LeaseId(lease) }) {
            Ok(Reply::Leased { dir, grant }) => Ok((dir, grant)),
            other => Err(code(other)),
        }
    }

    fn lease(&self, at: &str, lease: u64) {
        assert_eq!(self.try_lease(at, lease).unwrap().1, Grant::Granted, "{at}");
    }

    fn release(&self, lease: u64) {
        assert_eq!(self.peer.call(Request::Release(vec![LeaseId(lease)])).unwrap(), Reply::Released);
    }

    fn next(&self) -> Pushed {
        let next = self.peer.run(async { time::timeout(PATIENCE, self.pushes.next()).await });
        next.expect("a push in time").expect("the client lives")
    }

    fn push(&self) -> Push {
        match self.next() {
            Pushed::Push(push) => push,
            other => panic!("not a push: {other:?}"),
        }
    }

    /// Until the lease is told that all of this happened to the name; other pushes about the lease may come between.
    fn until_changed(&self, lease: u64, name: &str, what: Changes) -> Change {
        let mut seen = Changes::default();
        loop {
            let push = self.push();
            let Push::Changed { lease: of, changes } = &push else { panic!("{push:?}") };
            assert_eq!(of.0, lease, "{push:?}");
            for change in changes.iter().filter(|change| change.name.as_bytes() == name.as_bytes()) {
                seen |= change.what;
                if seen.contains(what) {
                    return change.clone();
                }
            }
        }
    }

    /// Until these leases are called back; changes may come between.
    fn until_revoked(&self, leases: &[u64]) {
        let mut left: Vec<u64> = leases.into();
        while !left.is_empty() {
            match self.push() {
                Push::Revoked(gone) => {
                    for lease in gone {
                        let at = left.iter().position(|other| *other == lease.0);
                        left.swap_remove(at.unwrap_or_else(|| panic!("{lease} is none of {left:?}")));
                    }
                }
                Push::Changed { .. } => {}
                Push::RevokedAll => panic!("all"),
            }
        }
    }

    /// Makes sure that nothing was pushed but what a marker in this leased directory makes, which comes last.
    fn nothing_but(&self, lease: u64, dir: &Path, may: impl Fn(&Push) -> bool) {
        fs::write(dir.join("marker"), b"").unwrap();
        loop {
            let push = self.push();
            if let Push::Changed { lease: of, changes } = &push
                && of.0 == lease
                && changes.iter().any(|change| change.name.as_bytes() == b"marker")
            {
                return;
            }
            assert!(may(&push), "{push:?}");
        }
    }
}

fn listing(peer: &Peer, at: &str, lease: u64) -> Listing {
    let target = peer.target(&path(at), None);
    let request = Request::List { target, cookie: 0, bytes_max: 65_536, lease: Some(LeaseId(lease)) };
    match peer.call(request) {
        Ok(Reply::Listing(listing)) => listing,
        other => panic!("{other:?}"),
    }
}

fn tree(root: &Path) {
    fs::create_dir_all(root.join("a/b")).unwrap();
    fs::write(root.join("a/b/file"), b"old").unwrap();
    fs::write(root.join("a/b/other"), b"other").unwrap();
    symlink("file", root.join("a/b/link")).unwrap();
    fs::create_dir(root.join("a/b/sub")).unwrap();
    fs::create_dir(root.join("away")).unwrap();
    fs::write(root.join("away/twin"), b"twin").unwrap();
}

#[test]
fn each_change_of_an_entry_is_told() {
    let rig = Rig::new(tree);
    let told = Told::new(&rig.peer);
    told.lease("a/b", 7);
    let dir = rig.dir.path().join("a/b");
    let at = |name: &str| dir.join(name);

    fs::write(at("new"), b"").unwrap();
    assert_eq!(told.until_changed(7, "new", Changes::CREATED).linked, None);
    fs::write(at("file"), b"longer").unwrap();
    told.until_changed(7, "file", Changes::CONTENT);
    let append = |bytes: &[u8]| {
        let mut file = fs::OpenOptions::new().append(true).open(at("file")).unwrap();
        std::io::Write::write_all(&mut file, bytes).unwrap();
    };
    append(b"more");
    told.until_changed(7, "file", Changes::CONTENT);
    fs::OpenOptions::new().write(true).open(at("file")).unwrap().set_len(1).unwrap();
    told.until_changed(7, "file", Changes::CONTENT);
    fs::set_permissions(at("file"), PermissionsExt::from_mode(0o600)).unwrap();
    told.until_changed(7, "file", Changes::ATTR);
    fs::rename(at("other"), at("file")).unwrap();
    told.until_changed(7, "other", Changes::REMOVED);
    // Its second half may have come along.
    fs::remove_file(at("file")).unwrap();
    told.until_changed(7, "file", Changes::REMOVED);
    fs::rename(at("sub"), at("moved")).unwrap();
    told.until_changed(7, "moved", Changes::CREATED);
    fs::remove_dir(at("moved")).unwrap();
    told.until_changed(7, "moved", Changes::REMOVED);
    symlink("elsewhere", at("swap")).unwrap();
    fs::rename(at("swap"), at("link")).unwrap();
    told.until_changed(7, "link", Changes::CREATED);
    fs::set_permissions(&dir, PermissionsExt::from_mode(0o700)).unwrap();
    loop {
        if told.push() == (Push::Changed { lease: LeaseId(7), changes: Vec::new() }) {
            break;
        }
    }
    rig.end();
}

#[test]
fn another_name_of_a_file_says_which_file() {
    let rig = Rig::new(tree);
    let told = Told::new(&rig.peer);
    told.lease("a/b", 1);
    let before = rig.peer.stat("away/twin");
    fs::hard_link(rig.dir.path().join("away/twin"), rig.dir.path().join("a/b/twin")).unwrap();
    let change = told.until_changed(1, "twin", Changes::CREATED);
    assert_eq!(change.linked, Some(before.id));
    rig.end();
}

#[test]
fn a_listing_with_a_lease_misses_no_change() {
    let rig = Rig::new(tree);
    let told = Told::new(&rig.peer);
    let listing = listing(&rig.peer, "a/b", 3);
    assert_eq!(listing.grant, Some(Grant::Granted));
    assert_eq!(listing.entries.len(), 4);
    fs::write(rig.dir.path().join("a/b/new"), b"x").unwrap();
    told.until_changed(3, "new", Changes::CREATED);
    // Without a wish there is no answer to it.
    assert_eq!(rig.peer.list("a/b", 0, 65_536).unwrap().grant, None);
    rig.end();
}

#[test]
fn a_moved_or_removed_directory_calls_back_what_is_at_and_below_it() {
    let rig = Rig::new(tree);
    let told = Told::new(&rig.peer);
    let at = |name: &str| rig.dir.path().join(name);
    told.lease("", 1);
    told.lease("a", 2);
    told.lease("a/b", 3);
    told.lease("a/b/sub", 4);
    told.lease("away", 5);
    fs::rename(at("a"), at("c")).unwrap();
    told.until_revoked(&[2, 3, 4]);
    // What holds on is told, also of the move itself.
    told.nothing_but(5, &at("away"), |push| matches!(push, Push::Changed { lease: LeaseId(1), .. }));
    // The same names again, once they are there.
    assert_eq!(told.try_lease("a/b", 6).unwrap_err(), ErrorCode::NotFound);
    told.lease("c/b/sub", 7);
    told.lease("c/b", 8);
    fs::remove_dir(at("c/b/sub")).unwrap();
    told.until_revoked(&[7]);
    told.until_changed(8, "sub", Changes::REMOVED);
    // An ancestor that nothing holds a lease on, replaced by another directory.
    fs::rename(at("c"), at("d")).unwrap();
    fs::create_dir_all(at("c/b")).unwrap();
    told.until_revoked(&[8]);
    told.lease("c/b", 9);
    fs::write(at("c/b/new"), b"").unwrap();
    loop {
        if matches!(told.push(), Push::Changed { lease: LeaseId(9), .. }) {
            break;
        }
    }
    rig.end();
}

#[test]
fn a_lease_given_back_is_told_nothing_and_costs_nothing() {
    let rig = Rig::new(tree);
    let told = Told::new(&rig.peer);
    told.lease("a/b", 1);
    told.lease("away", 2);
    assert_eq!((rig.host.status().watch.watches, rig.host.status().watch.leases), (4, 2));
    told.release(1);
    fs::write(rig.dir.path().join("a/b/new"), b"").unwrap();
    told.nothing_but(2, &rig.dir.path().join("away"), |_| false);
    told.release(2);
    // Unknown ones pass.
    told.release(77);
    until(|| rig.host.status().watch.watches == 0);
    // And the end of the session gives back the rest.
    told.lease("a", 3);
    rig.peer.close();
    until(|| rig.host.status().watch.watches == 0);
    rig.host.stop().unwrap();
}

/// Waits for something that no event tells the test of.
fn until(what: impl Fn() -> bool) {
    let deadline = std::time::Instant::now() + PATIENCE; // clock: a bound of a real wait
    while !what() {
        assert!(std::time::Instant::now() < deadline, "not in time"); // clock: as above
        std::thread::yield_now();
    }
}

#[test]
fn wishes_that_cannot_be_granted_are_errors() {
    let rig = Rig::new(tree);
    let told = Told::new(&rig.peer);
    assert_eq!(told.try_lease("a/b/file", 1).unwrap_err(), ErrorCode::NotDirectory);
    assert_eq!(told.try_lease("nowhere", 1).unwrap_err(), ErrorCode::NotFound);
    assert_eq!(told.try_lease("a/b/link", 1).unwrap_err(), ErrorCode::NotDirectory);
    assert_eq!(told.try_lease("a", 0).unwrap_err(), ErrorCode::Invalid);
    let stale = Some(FileId { fs: 1, inode: 2, birth: 3 });
    let target = rig.peer.target(&path("a"), stale);
    assert_eq!(code(rig.peer.call(Request::Lease { target, lease: LeaseId(1) })), ErrorCode::Stale);
    told.lease("a", 1);
    assert_eq!(told.try_lease("away", 1).unwrap_err(), ErrorCode::Invalid);
    assert_eq!(told.try_lease("a", 1).unwrap_err(), ErrorCode::Invalid);
    // The one that is there stays, and none of the others cost anything.
    fs::write(rig.dir.path().join("a/new"), b"").unwrap();
    told.until_changed(1, "new", Changes::CREATED);
    assert_eq!((rig.host.status().watch.watches, rig.host.status().watch.leases), (2, 1));
    rig.end();
}

/// In a process of its own: its memory is looked at, and the tests beside it have some as well.
#[test]
fn a_storm_loses_no_last_state() {
    let mut alone = Command::new(std::env::current_exe().unwrap());
    let ended = alone.args(["--exact", "leases::a_storm", "--ignored", "--nocapture"]).output().unwrap();
    let said = [ended.stdout, ended.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(ended.status.success() && said[0].contains("1 passed"), "{}", said.concat());
}

/// 100,000 changes as fast as one thread makes them: each name is told, or its lease called back; what is there in the
/// end is what a mount sees that asks again after each word of the host.
#[test]
#[ignore = "the test above starts it in a process of its own"]
fn a_storm() {
    const FILES: usize = 500;
    const DIRS: usize = 8;
    const CHANGES: usize = 100_000;
    let rig = Rig::new(|root| {
        for dir in 0..DIRS {
            fs::create_dir(root.join(format!("d{dir}"))).unwrap();
        }
    });
    let told = Told::new(&rig.peer);
    let dir_of = |n: usize| format!("d{}", n % DIRS);
    for dir in 0..DIRS {
        told.lease(&dir_of(dir), dir as u64 + 1);
    }
    let before = resident_bytes();
    let storm = std::thread::spawn({
        let root = rig.dir.path().to_owned();
        move || {
            for n in 0..CHANGES {
                let file = root.join(format!("{}/f{}", dir_of(n), n % FILES));
                match n % 5 {
                    4 => drop(fs::remove_file(file)),
                    _ => fs::write(file, n.to_le_bytes()).unwrap(),
                }
            }
            // After all of it: an event of its own in each directory.
            for dir in 0..DIRS {
                fs::write(root.join(format!("d{dir}/last")), b"").unwrap();
            }
        }
    });
    let (mut live, mut ended) = (vec![true; DIRS], [false; DIRS]);
    // Until each directory has told of its last change, or that it tells no more.
    while live.iter().zip(ended).any(|(live, ended)| *live && !ended) {
        match told.push() {
            Push::Changed { lease, changes } => {
                let dir = usize::try_from(lease.0).unwrap() - 1;
                assert!(live[dir], "told of {lease} after it was called back");
                ended[dir] |= changes.iter().any(|change| change.name.as_bytes() == b"last");
            }
            Push::Revoked(leases) => {
                leases.iter().for_each(|lease| live[usize::try_from(lease.0).unwrap() - 1] = false);
            }
            Push::RevokedAll => live.fill(false),
        }
    }
    storm.join().unwrap();
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < 24 << 20, "{grown} bytes more");
    // Whatever was called back can be had again.
    for (dir, _) in live.iter().enumerate().filter(|(_, live)| !**live) {
        told.lease(&dir_of(dir), 100 + dir as u64);
    }
    assert_eq!(rig.host.status().watch.leases, DIRS as u64);
    rig.end();
}

/// Of this process, host and mount together.
fn resident_bytes() -> usize {
    let statm = fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

#[test]
fn a_session_that_is_lost_takes_its_leases_along() {
    let rig = Rig::new(tree);
    let told = Told::new(&rig.peer);
    told.lease("a/b", 1);
    let (listen, host_state) = (rig.host.local_addrs(), rig.state.path().to_owned());
    let Rig { dir, state, host, peer } = rig;
    host.stop().unwrap();
    let told = Told { peer: &peer, pushes: peer.pushes() };
    assert_eq!(told.next(), Pushed::SessionLost);
    fs::write(dir.path().join("a/b/unseen"), b"").unwrap();
    let mut config = crate::rig::config(dir.path(), &host_state);
    config.listen = listen;
    let host = wormhole_engine::host::Host::start(config).unwrap();
    assert_eq!(told.next(), Pushed::SessionBegun);
    assert_eq!(host.status().watch.leases, 0);
    // Numbers are the session's own.
    told.lease("a/b", 1);
    fs::write(dir.path().join("a/b/seen"), b"").unwrap();
    told.until_changed(1, "seen", Changes::CREATED);
    peer.close();
    host.stop().unwrap();
    drop(state);
}

#[test]
fn hidden_names_are_never_told() {
    let rig = Rig::with(tree, |config| {
        config.shares[0].exclude = vec!["*.secret".into(), "/a/b/sub/".into(), "/hidden/".into()];
    });
    let told = Told::new(&rig.peer);
    let dir = rig.dir.path().join("a/b");
    told.lease("a/b", 1);
    told.lease("", 2);
    assert_eq!(told.try_lease("a/b/sub", 3).unwrap_err(), ErrorCode::NotFound);
    fs::create_dir_all(rig.dir.path().join("hidden/below")).unwrap();
    assert_eq!(told.try_lease("hidden/below", 3).unwrap_err(), ErrorCode::NotFound);
    fs::write(dir.join("x.secret"), b"1").unwrap();
    fs::write(dir.join("x.secret"), b"22").unwrap();
    fs::rename(dir.join("x.secret"), dir.join("y.secret")).unwrap();
    fs::remove_file(dir.join("y.secret")).unwrap();
    fs::remove_dir(dir.join("sub")).unwrap();
    // A file by the name that is hidden of directories alone is told.
    fs::write(dir.join("sub"), b"").unwrap();
    let mut names = Vec::new();
    told.nothing_but(1, &dir, |push| match push {
        Push::Changed { changes, .. } => {
            assert!(changes.iter().all(|change| !change.name.to_string().contains("secret")), "{push:?}");
            assert!(changes.iter().all(|change| change.name.as_bytes() != b"hidden"), "{push:?}");
            true
        }
        _ => false,
    });
    // That the directory's own times moved is no secret: its attributes tell.
    fs::write(dir.join("z.secret"), b"").unwrap();
    fs::rename(dir.join("z.secret"), dir.join("shown")).unwrap();
    let change = loop {
        if let Push::Changed { changes, .. } = told.push() {
            names.extend(changes.iter().map(|change| change.name.to_string()));
            if let Some(change) = changes.into_iter().find(|change| change.name.as_bytes() == b"shown") {
                break change;
            }
        }
    };
    assert!(change.what.contains(Changes::CREATED));
    assert!(names.iter().all(|name| !name.contains("secret")), "{names:?}");
    rig.end();
}

#[test]
fn at_the_hosts_limit_leases_are_refused_and_listings_are_not() {
    let rig = Rig::with(tree, |config| config.watches_max = Some(3));
    let told = Told::new(&rig.peer);
    told.lease("a/b", 1);
    assert_eq!(told.try_lease("away", 2).unwrap().1, Grant::Exhausted);
    let listing = listing(&rig.peer, "away", 3);
    assert_eq!((listing.grant, listing.entries.len()), (Some(Grant::Exhausted), 1));
    let status = rig.host.status();
    assert_eq!((status.watch.watches, status.watch.refused), (3, 2));
    let limit = status.limits.iter().find(|limit| limit.name == "watched folders").unwrap();
    assert_eq!((limit.used, limit.max), (Some(3), Some(3)));
    told.release(1);
    until(|| told.try_lease("away", 4).unwrap().1 == Grant::Granted);
    rig.end();
}

/// A peer that wants every lease it can think of, and gives none back.
#[test]
fn many_leases_are_bounded_by_the_session() {
    let rig = Rig::new(|root| fs::create_dir(root.join("d")).unwrap());
    let told = Told::new(&rig.peer);
    let wishes = |from: u64, count: u64| {
        let targets = (from..from + count).map(|lease| {
            let target = rig.peer.target(&path("d"), None);
            (Request::Lease { target, lease: LeaseId(lease) }, wire::Class::Metadata)
        });
        rig.peer.call_all(targets).wait()
    };
    let mut granted = 0;
    for from in 0..17 {
        for reply in wishes(1 + from * 1_000, 1_000) {
            match reply {
                Ok(Reply::Leased { grant: Grant::Granted, .. }) => granted += 1,
                Ok(Reply::Leased { grant: Grant::Exhausted, .. }) => {}
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(granted, 16_384);
    let status = rig.host.status().watch;
    assert_eq!((status.watches, status.leases), (2, 16_384));
    // One change is told 16,384 times, in one batch after the other, and none is lost.
    fs::write(rig.dir.path().join("d/new"), b"").unwrap();
    let mut told_of = std::collections::HashSet::new();
    while told_of.len() < granted {
        match told.push() {
            Push::Changed { lease, .. } => assert!(told_of.insert(lease) || told_of.contains(&lease)),
            Push::RevokedAll => break,
            other => panic!("{other:?}"),
        }
    }
    rig.end();
}
