//! Patterns: what a share's owner excludes does not exist for mounts, whatever they ask.

use std::{ffi::OsStr, fs, os::unix::ffi::OsStrExt, path::Path};

use wire::{
    ErrorCode, Extent, FileId, Request, SharePath, auth::Claims, fingerprint::Fingerprint,
    limits::LISTING_BYTES_MAX, message::Target,
};
use wormhole_engine::{
    config::{HostConfig, ShareConfig},
    error::HostError,
    host::Host,
};

use crate::rig::{Peer, Rig, code, path};

fn fill(dir: &Path) {
    for folder in ["pub/deep", ".git/objects", "pub/.git", "keep"] {
        fs::create_dir_all(dir.join(folder)).unwrap();
    }
    for file in [
        "pub/f.txt",
        "pub/f.tmp",
        "pub/deep/keep.tmp",
        ".git/config",
        ".git/objects/x",
        "pub/.git/config",
        "keep/f.txt",
        "build",
    ] {
        fs::write(dir.join(file), file).unwrap();
    }
    std::os::unix::fs::symlink("pub/f.txt", dir.join("link.tmp")).unwrap();
    fs::write(dir.join(OsStr::from_bytes(b"pub/\xff.tmp")), b"x").unwrap();
}

fn patterns(config: &mut HostConfig) {
    let patterns = [".git/", "*.tmp", "!keep.tmp", "build/"];
    config.shares[0].exclude = patterns.map(str::to_owned).to_vec();
}

/// The names in a folder, sorted.
fn names(peer: &Peer, at: &str) -> Vec<String> {
    let listing = peer.list(at, 0, LISTING_BYTES_MAX).unwrap();
    assert!(listing.end);
    let mut names: Vec<_> = listing.entries.iter().map(|entry| entry.name.to_string()).collect();
    names.sort();
    names
}

/// What each request that names a file answers.
fn every_answer(peer: &Peer, at: &SharePath, id: Option<FileId>) -> Vec<ErrorCode> {
    let version = peer.stat("pub/f.txt").version();
    let target = || Target { id, ..peer.target(at, None) };
    let extent = Extent::new(0, 1);
    let requests = [
        Request::Stat(target()),
        Request::List { target: target(), cookie: 0, bytes_max: LISTING_BYTES_MAX, lease: None },
        Request::Readlink(target()),
        Request::Verify { target: target(), ranges: vec![(extent, Fingerprint::Xxh3(0))] },
        Request::GetXattr { target: target(), name: (&b"user.x"[..]).into() },
        Request::ListXattr(target()),
    ];
    let mut codes: Vec<_> = requests.into_iter().map(|request| code(peer.call(request))).collect();
    codes.push(peer.read_version(at, (id, version), extent).unwrap_err());
    codes
}

#[test]
fn what_is_excluded_does_not_exist() {
    let rig = Rig::with(fill, patterns);
    assert_eq!(names(&rig.peer, ""), ["build", "keep", "pub"]);
    assert_eq!(names(&rig.peer, "pub"), ["deep", "f.txt"]);
    assert_eq!(names(&rig.peer, "pub/deep"), ["keep.tmp"]);
    assert_eq!(rig.peer.read_all("build").unwrap(), b"build", "a file is no match for a pattern of folders");
    assert_eq!(rig.peer.read_all("pub/deep/keep.tmp").unwrap(), b"pub/deep/keep.tmp");
    let hidden: [&[u8]; 9] = [
        b".git",
        b".git/config",
        b".git/objects",
        b".git/objects/x",
        b"pub/.git",
        b"pub/.git/config",
        b"pub/f.tmp",
        b"link.tmp",
        b"pub/\xff.tmp",
    ];
    for at in hidden {
        // The second time its name is in the kernel's memory.
        for _ in 0..2 {
            let answers = every_answer(&rig.peer, &path(at), None);
            assert_eq!(answers, [ErrorCode::NotFound; 7], "{}", path(at));
        }
    }
    // Neither what lies below a hidden file nor what lies nowhere tells the two apart.
    for at in [".git/config/x", ".git/absent", "pub/absent.tmp", "pub/absent"] {
        assert_eq!(every_answer(&rig.peer, &path(at), None), [ErrorCode::NotFound; 7], "{at}");
    }
    rig.end();
}

#[test]
fn a_file_in_use_that_moves_into_a_hidden_folder_is_not_found_there() {
    let rig = Rig::with(fill, patterns);
    let attr = rig.peer.stat("pub/f.txt");
    let extent = Extent::new(0, 9);
    assert_eq!(rig.peer.read("pub/f.txt", &attr, extent).unwrap(), b"pub/f.txt");
    fs::hard_link(rig.dir.path().join("pub/f.txt"), rig.dir.path().join(".git/f.txt")).unwrap();
    fs::remove_file(rig.dir.path().join("pub/f.txt")).unwrap();
    // The link moved the change time; an open handle goes on by the name it was opened under.
    let attr = rig.peer.try_stat("pub/f.txt", Some(attr.id)).unwrap();
    assert_eq!(rig.peer.read("pub/f.txt", &attr, extent).unwrap(), b"pub/f.txt");
    assert_eq!(rig.peer.try_stat(".git/f.txt", Some(attr.id)), Err(ErrorCode::NotFound));
    assert_eq!(rig.peer.read(".git/f.txt", &attr, extent), Err(ErrorCode::NotFound));
    assert_eq!(rig.peer.try_stat("pub/f.txt", None), Err(ErrorCode::NotFound));
    rig.end();
}

#[test]
fn a_hard_link_by_a_name_that_is_served_is_served() {
    let rig = Rig::with(fill, patterns);
    fs::hard_link(rig.dir.path().join(".git/config"), rig.dir.path().join("pub/config")).unwrap();
    assert_eq!(rig.peer.read_all("pub/config").unwrap(), b".git/config");
    rig.end();
}

#[test]
fn only_what_is_included_is_served_and_every_folder() {
    let rig = Rig::with(fill, |config| {
        config.shares[0].include = ["*.txt", "/.git/", "!keep/"].map(str::to_owned).to_vec();
        config.shares[0].exclude = vec!["/.git/objects".to_owned()];
    });
    assert_eq!(names(&rig.peer, ""), [".git", "keep", "pub"]);
    assert_eq!(names(&rig.peer, "pub"), [".git", "deep", "f.txt"]);
    assert_eq!(names(&rig.peer, "pub/deep"), [""; 0]);
    assert_eq!(names(&rig.peer, ".git"), ["config"]);
    assert_eq!(names(&rig.peer, "keep"), ["f.txt"]);
    assert_eq!(rig.peer.read_all(".git/config").unwrap(), b".git/config");
    for at in ["build", "link.tmp", "pub/f.tmp", "pub/.git/config", ".git/objects/x"] {
        assert_eq!(every_answer(&rig.peer, &path(at), None), [ErrorCode::NotFound; 7], "{at}");
    }
    rig.end();
}

#[test]
fn patterns_start_at_the_share_whatever_a_ticket_opens() {
    let rig = Rig::with(fill, |config| {
        config.shares[0].exclude = ["/pub/deep", "/f.txt", ".git/"].map(str::to_owned).to_vec();
    });
    let within = |prefix: &str| {
        let first = rig.host.ticket().claims;
        Peer::connect(rig.host.issue(Claims { prefix: path(prefix), ..first }))
    };
    let peer = within("pub").unwrap();
    assert_eq!(names(&peer, "").len(), 3, "f.txt, f.tmp and the one that is no text");
    assert_eq!(peer.read_all("f.txt").unwrap(), b"pub/f.txt");
    for at in ["deep", "deep/keep.tmp", ".git", ".git/config"] {
        assert_eq!(peer.try_stat(at, None), Err(ErrorCode::NotFound), "{at}");
    }
    peer.close();
    for prefix in ["pub/deep", ".git", ".git/objects", "pub/.git", "absent"] {
        assert!(within(prefix).is_err(), "{prefix} is not there to be opened");
    }
    rig.end();
}

#[test]
fn a_bad_pattern_is_named_before_anything_is_served() {
    let (dir, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let start = |change: fn(&mut ShareConfig)| {
        let mut config = crate::rig::config(dir.path(), state.path());
        change(&mut config.shares[0]);
        Host::start(config).unwrap_err()
    };
    let bad = start(|share| share.exclude = vec!["*.tmp".into(), "[a".into()]);
    assert!(matches!(&bad, HostError::Pattern { pattern, .. } if pattern == "[a"), "{bad}");
    assert!(bad.to_string().contains("the share share has the pattern \"[a\""), "{bad}");
    let many = start(|share| share.include = vec!["x".into(); 1_001]);
    assert!(matches!(many, HostError::PatternCount { count: 1_001, .. }), "{many}");
    assert_eq!(fs::read_dir(state.path()).unwrap().count(), 0);
}
