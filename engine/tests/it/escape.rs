//! Ways out of a share: links, renames under a request, and what is no file. Nothing outside is ever read, and nothing
//! keeps the host from its other mounts.

use std::{
    fs,
    os::unix::{fs::symlink, net::UnixListener},
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use rustix::fs::{CWD, FileType, Mode, RenameFlags, makedev, mknodat, renameat_with};
use transport::testing::{Greeting, Rogue};
use wire::{
    Class, ErrorCode, Extent, FileKind, Reply, Request, Timestamp, Version, auth::Claims,
    fingerprint::Fingerprint, limits::LISTING_BYTES_MAX, message::Call,
};

use crate::{
    mounts::Mounted,
    rig::{Peer, Rig, code, path},
};

/// Inside and outside, of one length, so that a version cannot tell them apart by it.
const INSIDE: &[u8] = b"INSIDE";
const OUTSIDE: &[u8] = b"SECRET";
const EXTENT: Extent = Extent { start: wire::ByteOffset(0), len: wire::ByteLen(6) };

/// Requests of a racing test, by each of its threads: enough for every step of a resolution to be met by a rename.
const TRIES: usize = 2_000;
/// The most, where the machine's other work keeps one of the outcomes away.
const TRIES_MAX: usize = 100_000;
const ASKING: usize = 4;

/// The version of a file as an attacker knows it who may look at it on the host.
fn version_of(file: &Path) -> Version {
    use std::os::unix::fs::MetadataExt;
    let meta = fs::metadata(file).unwrap();
    let time = |secs, nanos| Timestamp { secs, nanos: u32::try_from(nanos).unwrap() };
    Version {
        size: wire::ByteLen(meta.size()),
        mtime: time(meta.mtime(), meta.mtime_nsec()),
        ctime: time(meta.ctime(), meta.ctime_nsec()),
    }
}

/// The answer to every request about `at` that tells of a file's contents or of the file, none of which may succeed.
fn errors(peer: &Peer, at: &str) -> Vec<ErrorCode> {
    let target = || peer.target(&path(at), None);
    let requests = [
        Request::Stat(target()),
        Request::List { target: target(), cookie: 0, bytes_max: LISTING_BYTES_MAX, lease: None },
        Request::Readlink(target()),
        Request::Verify { target: target(), ranges: vec![(EXTENT, Fingerprint::Xxh3(0))] },
        Request::GetXattr { target: target(), name: (&b"user.x"[..]).into() },
        Request::ListXattr(target()),
    ];
    requests.into_iter().map(|request| code(peer.call(request))).collect()
}

/// A folder outside of every share, with a file in it.
fn outside() -> tempfile::TempDir {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), OUTSIDE).unwrap();
    outside
}

/// Bytes that no [`wire::SharePath`] holds, in the place of a path of the same length.
#[test]
fn paths_that_are_none_are_refused_before_anything_is_looked_for() {
    let rig = Rig::new(|dir| {
        fs::create_dir_all(dir.join("sub/deep")).unwrap();
        fs::write(dir.join("secret"), OUTSIDE).unwrap();
    });
    let claims = Claims { prefix: path("sub"), ..rig.host.ticket().claims };
    let ticket = rig.host.issue(claims);
    let request = Request::Stat(rig.peer.target(&path("aaaaaaaaa"), None));
    let call = Call { class: Class::Metadata, id: 1, deadline_ms: 5_000, packs: false, request };
    let whole = wire::codec::encode_call(&call);
    let at = whole.windows(9).position(|window| window == b"aaaaaaaaa").unwrap();
    let evil: [&[u8; 9]; 9] = [
        b"../secret",
        b"..///////",
        b"deep/../x",
        b"deep/../.",
        b"/etc/host",
        b"deep//abc",
        b"./deep///",
        b"deep/a\0bc",
        b"deepdeep/",
    ];
    rig.peer.run(async {
        let rogue = Rogue::connect(&ticket, Greeting::Hello).await.unwrap();
        for bytes in evil {
            let mut stream = rogue.open().await.unwrap();
            stream.write(&[&whole[..at], bytes, &whole[at + 9..]].concat()).await.unwrap();
            stream.finish();
            let reply = stream.reply().await.unwrap();
            let invalid = matches!(reply, Reply::Error { code: ErrorCode::Invalid, .. });
            assert!(invalid, "{} gives {reply:?}", bytes.escape_ascii());
        }
        // The same bytes with a path that is one.
        let mut stream = rogue.open().await.unwrap();
        stream.write(&[&whole[..at], b"deep/abcd", &whole[at + 9..]].concat()).await.unwrap();
        stream.finish();
        let reply = stream.reply().await.unwrap();
        assert!(matches!(reply, Reply::Error { code: ErrorCode::NotFound, .. }), "{reply:?}");
    });
    rig.end();
}

#[test]
fn symlinks_lead_nowhere() {
    let outside = outside();
    let rig = Rig::new(|dir| {
        fs::create_dir_all(dir.join("sub/deep")).unwrap();
        fs::write(dir.join("sub/secret"), INSIDE).unwrap();
        let links = [
            ("absolute", outside.path().to_str().unwrap()),
            ("inside", "sub"),
            ("loop", "loop"),
            ("one", "two"),
            ("two", "one"),
            ("proc", "/proc/self/root"),
            ("fd", "/proc/self/fd/0"),
            ("sub/deep/up", "../../.."),
            ("sub/deep/root", "/"),
        ];
        for (name, text) in links {
            symlink(text, dir.join(name)).unwrap();
        }
        symlink(outside.path().join("secret"), dir.join("file")).unwrap();
    });
    let secret = version_of(&outside.path().join("secret"));
    for link in ["absolute", "inside", "loop", "one", "proc", "fd", "sub/deep/up", "sub/deep/root", "file"] {
        // At the end it is the link itself: its text is told, and never what it leads to.
        assert_eq!(rig.peer.stat(link).kind, FileKind::Symlink, "{link}");
        let read = rig.peer.read_version(&path(link), (None, secret), EXTENT);
        assert_eq!(read, Err(ErrorCode::NotRegular), "{link}");
        assert_eq!(rig.peer.list(link, 0, LISTING_BYTES_MAX).unwrap_err(), ErrorCode::NotDirectory, "{link}");
        // In the middle it ends the way, whether or not there is something behind it.
        for below in ["secret", "etc/passwd", "absent", "deep/up/secret"] {
            let at = format!("{link}/{below}");
            assert_eq!(errors(&rig.peer, &at), [ErrorCode::Loop; 6], "{at}");
            let read = rig.peer.read_version(&path(&at), (None, secret), EXTENT);
            assert_eq!(read, Err(ErrorCode::Loop), "{at}");
        }
    }
    rig.end();
}

#[test]
fn what_lies_beside_a_tickets_prefix_is_out_of_reach() {
    let rig = Rig::new(|dir| {
        fs::create_dir_all(dir.join("pub/sub")).unwrap();
        fs::create_dir(dir.join("private")).unwrap();
        fs::write(dir.join("private/secret"), OUTSIDE).unwrap();
        symlink("../private", dir.join("pub/link")).unwrap();
        symlink(dir.join("private"), dir.join("pub/absolute")).unwrap();
        symlink("private", dir.join("entry")).unwrap();
    });
    let first = rig.host.ticket().claims;
    let within =
        |prefix: &str| Peer::connect(rig.host.issue(Claims { prefix: path(prefix), ..first.clone() }));
    // Kept open now, under the ticket that may.
    let secret = rig.peer.stat("private/secret");
    assert_eq!(rig.peer.read("private/secret", &secret, EXTENT).unwrap(), OUTSIDE);
    let peer = within("pub").unwrap();
    for link in ["link", "absolute"] {
        assert_eq!(errors(&peer, &format!("{link}/secret")), [ErrorCode::Loop; 6]);
    }
    for (at, id) in [("private/secret", None), ("secret", None), ("secret", Some(secret.id))] {
        assert_eq!(peer.try_stat(at, id), Err(ErrorCode::NotFound), "{at}");
        let read = peer.read_version(&path(at), (id, secret.version()), EXTENT);
        assert_eq!(read, Err(ErrorCode::NotFound), "{at}");
    }
    // By its id under the name of another.
    assert_eq!(peer.try_stat("sub", Some(secret.id)), Err(ErrorCode::Stale));
    assert_eq!(
        peer.read_version(&path("sub"), (Some(secret.id), secret.version()), EXTENT),
        Err(ErrorCode::Stale)
    );
    peer.close();
    for prefix in ["entry", "pub/link", "pub/link/secret", "private/secret"] {
        assert!(within(prefix).is_err(), "{prefix} is no folder of the share");
    }
    rig.end();
}

/// Runs `disturb` again and again while [`ASKING`] threads ask; each asks until `ask` has seen all it wants to see.
fn race(disturb: impl Fn() + Sync, ask: impl Fn(usize) -> bool + Sync) {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                disturb();
            }
        });
        let asking: Vec<_> = (0..ASKING)
            .map(|_| {
                scope.spawn(|| {
                    let enough = (0..TRIES_MAX).position(|n| ask(n) && n >= TRIES);
                    assert!(enough.is_some(), "not every outcome came in {TRIES_MAX} tries");
                })
            })
            .collect();
        let results: Vec<_> = asking.into_iter().map(|thread| thread.join()).collect();
        // Before a failure is passed on: the scope waits for the thread above.
        over.store(true, Ordering::Relaxed);
        results.into_iter().for_each(|result| result.unwrap());
    });
}

#[test]
fn a_folder_swapped_for_a_symlink_never_leads_outside() {
    let outside = outside();
    let rig = Rig::new(|dir| {
        fs::create_dir(dir.join("dir")).unwrap();
        fs::write(dir.join("dir/secret"), INSIDE).unwrap();
        symlink(outside.path(), dir.join("link")).unwrap();
    });
    let (dir, link) = (rig.dir.path().join("dir"), rig.dir.path().join("link"));
    let inside = version_of(&dir.join("secret"));
    let secret = version_of(&outside.path().join("secret"));
    let inside_id = rig.peer.stat("dir/secret").id;
    let (read, refused) = (AtomicBool::new(false), AtomicBool::new(false));
    race(
        || renameat_with(CWD, &dir, CWD, &link, RenameFlags::EXCHANGE).unwrap(),
        |n| {
            // With the version of the one and of the other: whichever is opened, one of the two would be answered.
            let version = if n % 2 == 0 { inside } else { secret };
            match rig.peer.read_version(&path("dir/secret"), (None, version), EXTENT) {
                Ok(bytes) => {
                    assert_eq!((bytes.as_slice(), version), (INSIDE, inside));
                    read.store(true, Ordering::Relaxed);
                }
                Err(ErrorCode::Loop) => refused.store(true, Ordering::Relaxed),
                Err(code) => assert!(code == ErrorCode::Stale && version == secret, "{code}"),
            }
            match rig.peer.try_stat("dir/secret", None) {
                Ok(attr) => assert_eq!(attr.id, inside_id),
                Err(code) => assert_eq!(code, ErrorCode::Loop),
            }
            read.load(Ordering::Relaxed) && refused.load(Ordering::Relaxed)
        },
    );
    rig.end();
}

/// A folder leaves the prefix, takes in a file that was never inside, gives it back and returns. A resolution that
/// is on its way into the folder may meet the file; the kernel's last look (`RESOLVE_BENEATH`) keeps it from being answered.
#[test]
fn a_folder_moved_out_of_the_prefix_shows_nothing_it_took_in_there() {
    let rig = Rig::new(|dir| {
        fs::create_dir_all(dir.join("pub/a/b")).unwrap();
        fs::create_dir(dir.join("away")).unwrap();
        fs::write(dir.join("pub/a/b/stays"), INSIDE).unwrap();
        fs::write(dir.join("away/late"), OUTSIDE).unwrap();
    });
    let claims = Claims { prefix: path("pub"), ..rig.host.ticket().claims };
    let peer = Peer::connect(rig.host.issue(claims)).unwrap();
    let at = |name: &str| rig.dir.path().join(name);
    let secret = version_of(&at("away/late"));
    let (there, gone) = (AtomicBool::new(false), AtomicBool::new(false));
    race(
        || {
            let moves = [("pub/a/b", "away/b"), ("away/late", "away/b/late")];
            for (from, to) in moves {
                fs::rename(at(from), at(to)).unwrap();
            }
            for (from, to) in moves.into_iter().rev() {
                fs::rename(at(to), at(from)).unwrap();
            }
        },
        |_| {
            // Its change time moves with each rename, so that a read has no version to name: a look would do.
            let code = peer.try_stat("a/b/late", None).expect_err("it was never inside");
            assert!(matches!(code, ErrorCode::NotFound | ErrorCode::Invalid), "{code}");
            let read = peer.read_version(&path("a/b/late"), (None, secret), EXTENT).unwrap_err();
            assert!(matches!(read, ErrorCode::NotFound | ErrorCode::Invalid), "{read}");
            match peer.read_all("a/b/stays") {
                Ok(bytes) => {
                    assert_eq!(bytes, INSIDE);
                    there.store(true, Ordering::Relaxed);
                }
                Err(ErrorCode::NotFound) => gone.store(true, Ordering::Relaxed),
                Err(code) => assert_eq!(code, ErrorCode::Invalid),
            }
            there.load(Ordering::Relaxed) && gone.load(Ordering::Relaxed)
        },
    );
    peer.close();
    rig.end();
}

/// Makes one of everything that is no file, as far as this process may.
fn fill_with_nodes(dir: &Path) -> Vec<(&'static str, FileKind)> {
    let mode = Mode::RUSR | Mode::WUSR;
    mknodat(CWD, dir.join("fifo"), FileType::Fifo, mode, 0).unwrap();
    UnixListener::bind(dir.join("socket")).unwrap();
    let mut nodes = vec![("fifo", FileKind::Fifo), ("socket", FileKind::Socket)];
    // /dev/zero and a loop device: both would answer a read.
    let devices = [
        ("zero", FileType::CharacterDevice, makedev(1, 5), FileKind::CharDevice),
        ("disk", FileType::BlockDevice, makedev(7, 0), FileKind::BlockDevice),
    ];
    for (name, kind, device, seen) in devices {
        if mknodat(CWD, dir.join(name), kind, mode, device).is_ok() {
            nodes.push((name, seen));
        }
    }
    nodes
}

#[test]
fn pipes_sockets_and_devices_are_seen_and_never_opened() {
    let mut nodes = Vec::new();
    let rig = Rig::new(|dir| nodes = fill_with_nodes(dir));
    if rustix::process::geteuid().is_root() {
        assert_eq!(nodes.len(), 4, "root may make devices");
    }
    let listing = rig.peer.list("", 0, LISTING_BYTES_MAX).unwrap();
    assert_eq!(listing.entries.len(), nodes.len());
    for &(name, kind) in &nodes {
        let attr = rig.peer.stat(name);
        assert_eq!(attr.kind, kind, "{name}");
        let entry = listing.entries.iter().find(|entry| entry.name.as_bytes() == name.as_bytes()).unwrap();
        assert_eq!((entry.kind, entry.attr.map(|attr| attr.id)), (Some(kind), Some(attr.id)), "{name}");
        for id in [None, Some(attr.id)] {
            // Of a length, so that the read gets as far as the open.
            let version = Version { size: wire::ByteLen(6), ..attr.version() };
            let read = rig.peer.read_version(&path(name), (id, version), EXTENT);
            assert_eq!(read, Err(ErrorCode::NotRegular), "{name}");
        }
        let ranges = vec![(EXTENT, Fingerprint::Xxh3(0))];
        let verify = Request::Verify { target: rig.peer.target(&path(name), None), ranges };
        assert_eq!(code(rig.peer.call(verify)), ErrorCode::NotRegular, "{name}");
        assert_eq!(rig.peer.list(name, 0, 1_000).unwrap_err(), ErrorCode::NotDirectory, "{name}");
        assert_eq!(rig.peer.try_stat(&format!("{name}/x"), None), Err(ErrorCode::NotDirectory), "{name}");
        let names = rig.peer.call(Request::ListXattr(rig.peer.target(&path(name), None)));
        assert!(matches!(names, Ok(Reply::Value(_))), "{name}: {names:?}");
    }
    rig.end();
}

#[test]
fn a_thousand_reads_of_a_pipe_hold_up_nobody() {
    let rig = Rig::new(|dir| {
        fill_with_nodes(dir);
        fs::write(dir.join("f"), INSIDE).unwrap();
    });
    let other = Peer::connect(rig.host.ticket()).unwrap();
    let version = Version { size: wire::ByteLen(6), ..rig.peer.stat("fifo").version() };
    let read = || Request::Read { target: rig.peer.target(&path("fifo"), None), version, extent: EXTENT };
    // All under way before any is answered; an open that waits for a writer would keep a thread for good.
    let replies = rig.peer.call_all((0..1_000).map(|_| (read(), Class::Demand)));
    assert_eq!(other.read_all("f").unwrap(), INSIDE);
    let codes: Vec<_> = replies.wait().into_iter().map(code).collect();
    assert_eq!(codes, vec![ErrorCode::NotRegular; 1_000]);
    other.close();
    rig.end();
}

#[test]
fn what_the_owner_mounts_into_a_share_is_served_and_its_magic_links_are_not_followed() {
    let outside = outside();
    let mut mounted = Vec::new();
    let rig = Rig::new(|dir| {
        let bind = Mounted::bind(outside.path(), dir.join("bound"));
        mounted.extend(
            bind.and_then(|bind| Some([bind, Mounted::proc(dir.join("proc"))?])).into_iter().flatten(),
        );
    });
    if mounted.is_empty() {
        return rig.end();
    }
    assert_eq!(rig.peer.read_all("bound/secret").unwrap(), OUTSIDE);
    // A bind mount of the share's own file system is the same file; /proc is another system.
    assert_eq!(rig.peer.stat("bound").id.fs, rig.peer.root().id.fs);
    assert_ne!(rig.peer.stat("proc").id.fs, rig.peer.root().id.fs);
    let own = format!("proc/{}", std::process::id());
    for link in ["root", "cwd", "exe", "fd/0"] {
        let at = format!("{own}/{link}");
        assert_eq!(rig.peer.stat(&at).kind, FileKind::Symlink, "{at}");
        let version = rig.peer.stat(&at).version();
        let version = Version { size: wire::ByteLen(6), ..version };
        assert_eq!(rig.peer.read_version(&path(&at), (None, version), EXTENT), Err(ErrorCode::NotRegular));
        assert_eq!(errors(&rig.peer, &format!("{at}/etc/passwd")), [ErrorCode::Loop; 6], "{at}");
    }
    assert_eq!(errors(&rig.peer, "proc/self/root"), [ErrorCode::Loop; 6]);
    // Before the folder they lie in is removed.
    drop(mounted);
    rig.end();
}
