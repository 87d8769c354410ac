//! What the kernel is given beside its answers, and how long it may keep it.

use super::{attr::LEASED_TTL_WITHOUT_EPOCHS, handle::NodeLocation, open::KernelPages, *};
use crate::read::{HandedOut, OpenRead};

/// Waits until a name in the root is answered from memory.
fn leased(rig: &Rig, name: &str) -> NodeAttr {
    let until = deadline();
    loop {
        if let Some(found) = rig.vfs.lookup_cached(NodeId::ROOT, name.as_bytes()).and_then(Result::ok)
            && found.attr.settled
        {
            return found;
        }
        let _ = rig.lookup(NodeId::ROOT, name).unwrap();
        // The test's own changes are pushed like any other.
        rig.vfs.0.state.lock().folders.forget_changes(NodeId::ROOT);
        assert!(Instant::now() < until, "{name} is never known under a lease"); // clock: the bound of a real wait
    }
}

/// Brings a file to memory as what fetches ahead does: nobody opens it.
fn bring(rig: &Rig, found: &NodeAttr) {
    let (mount, attr) = (rig.vfs.0.clone(), found.attr);
    let share = mount.target(found.node).unwrap().0.share;
    let welcome = rig.vfs.0.client.welcome();
    let share = welcome.shares.iter().find(|info| info.id == share).unwrap().name.clone();
    let file = OpenRead { share, id: attr.id, version: attr.version(), settled: attr.settled };
    let content = mount.reads.content(&file, HandedOut::Nothing);
    let location = NodeLocation { mount: Arc::downgrade(&mount), node: found.node, id: attr.id };
    let reader = mount.reads.open(content, Arc::new(location));
    let whole = Extent::new(0, attr.size.0);
    rig.run(move |vfs| async move { vfs.0.reads.read(reader, whole, deadline()).await }).unwrap();
}

#[test]
fn an_open_waits_while_another_gives_the_kernel_the_pages() {
    let rig = Rig::new();
    rig.write("a", b"small");
    let found = leased(&rig, "a");
    bring(&rig, &found);
    let node = found.node;
    let ((met, meets), (open_door, opens)) = (mpsc::channel(), mpsc::channel());
    *rig.door.lock() = Some(Door { met, opens });
    let vfs = rig.vfs.clone();
    let first =
        std::thread::spawn(move || vfs.open_cached(node, KernelPages::Used).map(|(opened, _)| opened));
    assert_eq!(meets.recv_timeout(PATIENCE), Ok(node), "the first open gives the pages");

    assert!(rig.vfs.open_cached(node, KernelPages::Used).is_none(), "not answered on the spot");
    let (tell, second) = mpsc::channel();
    let vfs = rig.vfs.clone();
    rig.lane.handle().spawn(async move { tell.send(vfs.open(node, KernelPages::Used, deadline()).await) });
    // It has asked the host, and waits: a stat that is asked for after it is answered.
    rig.lookup(NodeId::ROOT, "a").unwrap();
    assert!(second.try_recv().is_err(), "nor behind it");
    let soon = Instant::now() + Duration::from_millis(50); // clock: the deadline under test
    let third = rig.run(move |vfs| async move { vfs.open(node, KernelPages::Used, soon).await });
    assert_eq!(third.unwrap_err(), VfsError::Deadline, "its wait has an end");

    open_door.send(()).unwrap();
    let first = first.join().unwrap().unwrap();
    assert!(first.keep_pages && first.filled.is_some());
    let second = second.recv_timeout(PATIENCE).unwrap().unwrap();
    assert!(second.keep_pages, "they are of its version");
    assert!(second.filled.is_none());
    assert_eq!(rig.vfs.stats().filled_files.get(), 1);
    assert_eq!(rig.read(second.handle, 0, 100).unwrap(), b"small"[..]);
}

#[test]
fn pages_that_the_kernel_does_not_take_are_not_kept() {
    let rig = Rig::new();
    rig.write("a", b"small");
    let found = leased(&rig, "a");
    bring(&rig, &found);
    let (opened, _) = rig.vfs.open_cached(found.node, KernelPages::Used).unwrap();
    assert!(!opened.keep_pages && opened.filled.is_none());
    assert!(!rig.vfs.0.filling.contains(found.node), "or no open would be answered any more");
    assert_eq!(rig.read(opened.handle, 0, 100).unwrap(), b"small"[..]);
}

#[test]
fn a_kernel_without_epochs_takes_names_for_granted_for_seconds_alone() {
    struct Old;
    impl KernelCache for Old {
        fn drop_attr(&self, _: NodeId) {}
        fn store(&self, _: NodeId, _: &[u8]) -> bool {
            false
        }
        fn doubt(&self, _: Doubt) {}
        fn doubt_everything(&self, _: Vec<Doubt>) {}
        fn has_epochs(&self) -> bool {
            false
        }
    }
    let rig = Rig::new();
    rig.write("a", b"x");
    assert_eq!(leased(&rig, "a").ttl.entry, attr::LEASED_TTL);
    rig.vfs.attach_kernel(Box::new(Old));
    let found = leased(&rig, "a");
    assert_eq!((found.ttl.entry, found.ttl.attr), (LEASED_TTL_WITHOUT_EPOCHS, LEASED_TTL_WITHOUT_EPOCHS));
}
