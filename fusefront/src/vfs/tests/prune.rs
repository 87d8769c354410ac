//! Which directories the kernel is asked to forget.

use super::*;

/// Directories with one file each, looked up.
fn known(rig: &Rig, dirs: &[&str]) -> Vec<(NodeId, NodeId)> {
    for dir in dirs {
        fs::create_dir(rig.path(dir)).unwrap();
        rig.write(&format!("{dir}/file"), b"bytes");
    }
    let known = dirs.iter().map(|dir| {
        let dir = rig.lookup(NodeId::ROOT, dir).unwrap().node;
        (dir, rig.lookup(dir, "file").unwrap().node)
    });
    known.collect()
}

fn pruned(rig: &Rig) -> Vec<String> {
    let named = rig.vfs.prune(2);
    assert!(named.iter().all(|(parent, _)| *parent == NodeId::ROOT));
    named.into_iter().map(|(_, name)| name.to_string()).collect()
}

#[test]
fn directories_with_something_open_below_stay() {
    let rig = Rig::new();
    let known = known(&rig, &["a", "b", "c"]);
    assert_eq!(pruned(&rig), [""; 0], "all were looked into");
    let file = rig.open(known[0].1).unwrap().handle;
    let dir = rig.opendir(known[1].0);
    assert_eq!(pruned(&rig), ["c"]);
    assert_eq!(pruned(&rig), [""; 0], "it has time to go");
    rig.vfs.release(file);
    rig.vfs.releasedir(dir);
    assert_eq!(pruned(&rig), ["a", "b", "c"]);
}

#[test]
fn nothing_goes_below_the_bound_or_once_it_is_forgotten() {
    let rig = Rig::new();
    let known = known(&rig, &["a", "b"]);
    pruned(&rig);
    assert_eq!(rig.vfs.prune(5), [], "five nodes with the root");
    assert_eq!(rig.vfs.prune(4).len(), 1, "one is enough");
    for (dir, file) in known {
        rig.vfs.forget(file, 1);
        rig.vfs.forget(dir, 1);
    }
    assert_eq!(rig.vfs.held().nodes, 1);
    assert_eq!(pruned(&rig), [""; 0]);
}
