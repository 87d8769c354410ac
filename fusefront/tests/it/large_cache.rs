//! A disk cache of a million records, through the mount: too long for every run.
//!
//! `cargo test --release -p wormhole-fusefront --test it large_cache -- --ignored --nocapture`: 2 minutes, 5 GB in the
//! folder of temporary files.

use std::{
    fs::{self, File},
    io::Write,
    path::Path,
    process::Output,
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::{
    failure::until,
    rig::{Mount, Rig, can_mount},
};

const FOLDERS: usize = 1000;
const FILES_A_FOLDER: usize = 1000;
const FILE_BYTES: usize = 600;
const READERS: usize = 8;
const READS: usize = 10_000;

/// What a cache of a million records may take until its mount answers, and of memory.
const MOUNTED_WITHIN: Duration = Duration::from_secs(1);
const RESIDENT_MIB_MAX: usize = 200;

fn file(number: usize) -> String {
    format!("{:04}/{:04}", number / FILES_A_FOLDER, number % FILES_A_FOLDER)
}

/// A file's contents: its number, and zeros that take no room on the host.
fn contents(number: usize) -> Vec<u8> {
    let mut bytes = number.to_le_bytes().to_vec();
    bytes.resize(FILE_BYTES, 0);
    bytes
}

fn fill(root: &Path) {
    for folder in 0..FOLDERS {
        fs::create_dir(root.join(format!("{folder:04}"))).unwrap();
        for number in folder * FILES_A_FOLDER..(folder + 1) * FILES_A_FOLDER {
            let mut made = File::create(root.join(file(number))).unwrap();
            made.write_all(&number.to_le_bytes()).unwrap();
            made.set_len(FILE_BYTES as u64).unwrap();
        }
    }
}

/// Reads the files of these numbers, each thread some of them.
fn read(root: &Path, numbers: &[usize]) {
    thread::scope(|scope| {
        for part in numbers.chunks(numbers.len().div_ceil(READERS)) {
            scope.spawn(move || {
                for &number in part {
                    assert_eq!(fs::read(root.join(file(number))).unwrap(), contents(number));
                }
            });
        }
    });
}

/// Memory of the mount's process, now.
fn resident_mib(mount: &Mount) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", mount.pid())).unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    resident.split_whitespace().next().unwrap().parse::<usize>().unwrap() / 1024
}

fn succeeded(output: &Output) {
    assert!(output.status.success(), "{output:?}");
}

#[test]
#[ignore = "two minutes and 5 GB; its figures are those of a release build"]
#[expect(clippy::print_stdout, reason = "who runs it wants the figures")]
fn a_million_records_mount_at_once_and_in_little_memory() {
    if !can_mount() {
        return;
    }
    let mut rig = Rig::new(fill);
    let cache = TempDir::new().unwrap();
    let dir = cache.path().to_str().unwrap();
    let arguments = ["--cache-dir", dir, "--cache-size", "16GiB", "--offline-ok"];
    let begin = |rig: &Rig| {
        let since = Instant::now(); // clock: what is measured
        let mount = rig.mount_with(&arguments);
        (mount, since)
    };
    let end = |rig: &Rig, mut mount: Mount| {
        succeeded(&rig.run(&["unmount", mount.path().to_str().unwrap()]));
        assert_eq!(mount.exit_code(), Some(0));
    };

    let (mount, since) = begin(&rig);
    read(mount.path(), &(0..FOLDERS * FILES_A_FOLDER).collect::<Vec<_>>());
    println!("read in {:.1?}, {} MiB resident", since.elapsed(), resident_mib(&mount));
    // What came faster than the disk took it.
    succeeded(&rig.run(&["cache", "warm", mount.path().to_str().unwrap()]));
    end(&rig, mount);

    let mounted = |rig: &Rig, is_host_up: bool| {
        let (mount, since) = begin(rig);
        let took = since.elapsed();
        println!("host up: {is_host_up}; mounted in {took:.3?}, {} MiB resident", resident_mib(&mount));
        let cache = || rig.status(&mount).cache.unwrap();
        until("the cache is looked through", || !cache().is_loading);
        println!("looked through after {:.3?}, {} MiB resident", since.elapsed(), resident_mib(&mount));
        assert_eq!(cache().chunks, (FOLDERS * FILES_A_FOLDER) as u64);
        (mount, took)
    };
    // Scattered: the multiplier has no factor in common with the number of files.
    let scattered = |number: usize| number * 7_654_321 % (FOLDERS * FILES_A_FOLDER);
    let (mount, took) = mounted(&rig, true);
    assert!(took < MOUNTED_WITHIN, "{took:?}");
    let before = rig.status(&mount).reads.host_bytes;
    read(mount.path(), &(0..READS).map(scattered).collect::<Vec<_>>());
    assert_eq!(rig.status(&mount).reads.host_bytes, before, "all of it is on the disk");
    println!("after {READS} files: {} MiB resident", resident_mib(&mount));
    assert!(resident_mib(&mount) < RESIDENT_MIB_MAX, "{} MiB", resident_mib(&mount));
    end(&rig, mount);

    rig.stop_host();
    // It waits for the host first, then has all there is.
    let (mount, _) = mounted(&rig, false);
    let listed = fs::read_dir(mount.path()).unwrap().count();
    assert_eq!(listed, FOLDERS);
    assert!(resident_mib(&mount) < RESIDENT_MIB_MAX, "{} MiB", resident_mib(&mount));
    end(&rig, mount);
}
