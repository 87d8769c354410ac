//! File systems mounted inside a share. Needs root; skips aloud without.

use std::{
    fs,
    path::{Path, PathBuf},
};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use wire::{Extent, limits::LISTING_BYTES_MAX};
use wormhole_engine::{error::HostError, host::Host};

use crate::rig::{Rig, config};

/// A tmpfs that goes away with the test, also when it fails.
pub(crate) struct Mounted(PathBuf);

impl Mounted {
    /// `None` where this process may not mount.
    fn new(at: PathBuf) -> Option<Mounted> {
        Mounted::with(at, "size=50%")
    }

    /// The same with the options of tmpfs(5).
    pub(crate) fn with(at: PathBuf, options: &str) -> Option<Mounted> {
        fs::create_dir_all(&at).unwrap();
        let done = mount(Some("wormhole-test"), &at, Some("tmpfs"), MsFlags::empty(), Some(options));
        Mounted::once(done, at)
    }

    /// A folder that is elsewhere as well.
    pub(crate) fn bind(from: &Path, at: PathBuf) -> Option<Mounted> {
        fs::create_dir_all(&at).unwrap();
        let done = mount(Some(from), &at, None::<&str>, MsFlags::MS_BIND, None::<&str>);
        Mounted::once(done, at)
    }

    /// The kernel's own files.
    pub(crate) fn proc(at: PathBuf) -> Option<Mounted> {
        fs::create_dir_all(&at).unwrap();
        let done = mount(Some("wormhole-test"), &at, Some("proc"), MsFlags::empty(), None::<&str>);
        Mounted::once(done, at)
    }

    fn once(done: nix::Result<()>, at: PathBuf) -> Option<Mounted> {
        match done {
            Ok(()) => Some(Mounted(at)),
            Err(error) => {
                let required = std::env::var("WORMHOLE_REQUIRE").is_ok_and(|names| names.contains("fuse"));
                assert!(!required, "mounting is required here: {error}");
                #[expect(clippy::print_stdout, reason = "a skipped test says so")]
                let () = println!("skipped: this process may not mount ({error})");
                None
            }
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        umount2(&self.0, MntFlags::MNT_DETACH).unwrap();
    }
}

#[test]
fn a_file_system_inside_a_share_has_an_id_of_its_own() {
    let mut mounted = None;
    let rig = Rig::new(|dir| {
        mounted = Mounted::new(dir.join("deep/mnt"));
        fs::create_dir(dir.join("deep/mnt/sub")).unwrap();
        fs::write(dir.join("deep/mnt/sub/f"), b"inside").unwrap();
        fs::write(dir.join("f"), b"outside").unwrap();
    });
    if mounted.is_none() {
        return rig.end();
    }
    let (inside, outside) = (rig.peer.stat("deep/mnt/sub/f"), rig.peer.stat("f"));
    assert_ne!(inside.id.fs, outside.id.fs);
    assert_eq!(rig.peer.read("deep/mnt/sub/f", &inside, Extent::new(0, 6)).unwrap(), b"inside");
    // The same whether it is met from above, from inside or in a listing.
    let top = rig.peer.stat("deep/mnt");
    assert_eq!(top.id.fs, inside.id.fs);
    let listed = rig.peer.list("deep", 0, LISTING_BYTES_MAX).unwrap();
    assert_eq!(listed.entries[0].attr.map(|attr| attr.id), Some(top.id));
    assert_eq!(listed.dir.id.fs, outside.id.fs);
    // Before the folder it lies in is removed.
    drop(mounted);
    rig.end();
}

#[test]
fn the_id_does_not_depend_on_the_way_it_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let Some(_mounted) = Mounted::new(dir.path().join("mnt")) else { return };
    fs::write(dir.path().join("mnt/f"), b"x").unwrap();
    let ids = [["mnt", "mnt/f"], ["mnt/f", "mnt"]].map(|order| {
        let state = tempfile::tempdir().unwrap();
        let host = Host::start(config(dir.path(), state.path())).unwrap();
        let peer = crate::rig::Peer::connect(host.ticket()).unwrap();
        let fs = order.map(|at| peer.stat(at).id.fs);
        peer.close();
        host.stop().unwrap();
        assert_eq!(fs[0], fs[1]);
        fs[0]
    });
    assert_eq!(ids[0], ids[1]);
}

#[test]
fn a_share_may_not_be_missing() {
    let (dir, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let missing = Host::start(config(&dir.path().join("absent"), state.path())).unwrap_err();
    assert!(matches!(missing, HostError::ShareMissing { .. }));
    // Nothing was left locked or listening.
    Host::start(config(dir.path(), state.path())).unwrap().stop().unwrap();
}
