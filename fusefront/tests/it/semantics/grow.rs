//! Files that grow while they are read: logs, and renders in the making.

use std::{
    fs::{self, File},
    io::{Read, Write},
    os::unix::fs::FileExt,
    process::Command,
};

use nix::errno::Errno;

use super::{Program, counter, eventually, number, pattern};
use crate::rig::{Rig, can_mount, skipped};

#[test]
fn append_and_tail() {
    if !can_mount() {
        return;
    }
    let rig = Rig::new(|root| fs::write(root.join("log"), b"line 0\n").unwrap());
    let mount = rig.mount();
    let mut log = File::options().append(true).open(rig.folder.path().join("log")).unwrap();
    let mut held = File::open(mount.join("log")).unwrap();
    let mut read = Vec::new();
    held.read_to_end(&mut read).unwrap();
    assert_eq!(read, b"line 0\n");
    let tail =
        Program::start(Command::new("tail").args(["-s", "0.1", "-n", "+1", "-f"]).arg(mount.join("log")));
    if tail.is_none() {
        skipped("there is no tail");
    }
    let heard =
        |line: &str| assert!(tail.as_ref().is_none_or(|tail| tail.line() == line), "tail shows {line}");
    heard("line 0");
    for i in 1..=4 {
        writeln!(log, "line {i}").unwrap();
        let expected: String = (0..=i).map(|i| format!("line {i}\n")).collect();
        eventually("the handle held open reads on", || {
            held.read_to_end(&mut read).unwrap();
            read == expected.as_bytes()
        });
        heard(&format!("line {i}"));
        assert_eq!(fs::read(mount.join("log")).unwrap(), expected.as_bytes(), "an open shows all at once");
    }
    assert_eq!(counter(&rig, &mount, "/stale"), 0);
}

#[test]
fn growing_file() {
    if !can_mount() {
        return;
    }
    const STEP: usize = 700_000;
    const STEPS: usize = 8;
    let all = pattern(STEP * STEPS, 0);
    let rig = Rig::new(|root| {
        fs::write(root.join("a"), &all[..STEP]).unwrap();
        File::create(root.join("gap")).unwrap().set_len(12_000_000).unwrap();
    });
    let mount = rig.mount();
    let held = File::open(mount.join("a")).unwrap();
    let mut read = Vec::new();
    for step in 1..=STEPS {
        if step > 1 {
            let host = File::options().write(true).open(rig.folder.path().join("a")).unwrap();
            host.write_all_at(&all[(step - 1) * STEP..step * STEP], ((step - 1) * STEP) as u64).unwrap();
        }
        let len = step * STEP;
        eventually("the handle held open reads on", || {
            let mut more = vec![0; len];
            let n = held.read_at(&mut more, read.len() as u64).unwrap();
            read.extend_from_slice(&more[..n]);
            assert!(all.starts_with(&read), "step {step}: {} bytes", read.len());
            read.len() == len
        });
    }
    // Only the block that was the file's last one may come again.
    let came = counter(&rig, &mount, "/reads/host_bytes");
    assert!(came <= (STEP * STEPS + (STEPS << 20)) as u64, "{came} bytes came");
    let host = File::options().append(true).open(rig.folder.path().join("a")).unwrap();
    host.write_all_at(b"end", all.len() as u64).unwrap();
    assert!(fs::read(mount.join("a")).unwrap() == [&all, &b"end"[..]].concat(), "an open shows all at once");
    assert_eq!(counter(&rig, &mount, "/stale"), 0);
    // A gap that is filled is a change of what was read there.
    let held = File::open(mount.join("gap")).unwrap();
    let mut page = [1; 4096];
    held.read_exact_at(&mut page, 0).unwrap();
    assert_eq!(page, [0; 4096]);
    File::options()
        .write(true)
        .open(rig.folder.path().join("gap"))
        .unwrap()
        .write_all_at(&[1; 4096], 0)
        .unwrap();
    assert_eq!(number(held.read_at(&mut page, 6_000_000)), Some(Errno::ESTALE));
}
