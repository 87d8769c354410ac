//! `wormhole cache`: what it says is in the disk cache is there, and what is not it says too.

use std::{
    fs::{self, File},
    io::Write,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::{Duration, SystemTime},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    failure::until,
    rig::{Mount, Rig, can_mount},
};

const LARGE: usize = (3 << 20) + 4321;

fn pattern(len: usize, salt: usize) -> Vec<u8> {
    (0..len).map(|i| u8::try_from((i / 3 + i * 7 + (i >> 17) * 13 + salt) % 251).unwrap()).collect()
}

/// A host of a small tree, and a folder for caches.
struct Warmed {
    rig: Rig,
    cache: TempDir,
}

const FILES: [(&str, usize); 5] =
    [("large", LARGE), ("d/one.exr", 10_000), ("d/two.exr", 200_000), ("d/e/three.tx", 5), ("empty", 0)];
const ALL_BYTES: u64 = LARGE as u64 + 10_000 + 200_000 + 5;

impl Warmed {
    fn new() -> Warmed {
        let rig = Rig::new(|root| {
            fs::create_dir_all(root.join("d/e")).unwrap();
            for (salt, (name, len)) in FILES.iter().enumerate() {
                write_old(&root.join(name), &pattern(*len, salt));
            }
        });
        Warmed { rig, cache: TempDir::new().unwrap() }
    }

    fn cache_dir(&self) -> &str {
        self.cache.path().to_str().unwrap()
    }

    fn mount(&self) -> Mount {
        self.mount_with("64MiB", &[])
    }

    fn mount_with(&self, size: &str, more: &[&str]) -> Mount {
        let arguments = [&["--cache-dir", self.cache_dir(), "--cache-size", size], more].concat();
        let mount = self.rig.mount_with(&arguments);
        until("the cache is loaded", || !self.rig.status(&mount).cache.unwrap().is_loading);
        mount
    }

    fn cache(&self, arguments: &[&str]) -> Output {
        self.rig.run(&[&["cache"], arguments].concat())
    }

    fn warm(&self, mount: &Mount, path: &str) -> Output {
        self.cache(&["warm", mount.join(path).to_str().unwrap()])
    }

    fn host_bytes(&self, mount: &Mount) -> u64 {
        self.rig.status(mount).reads.host_bytes
    }

    fn unmount(&self, mut mount: Mount) {
        assert!(self.rig.run(&["unmount", mount.path().to_str().unwrap()]).status.success());
        assert_eq!(mount.exit_code(), Some(0));
    }
}

/// With a time of long ago: what changed just now is not kept at once.
fn write_old(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).unwrap();
    let file = File::options().write(true).open(path).unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000)).unwrap();
}

fn out(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// The last line on standard error of what failed with 1.
fn failed(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn what_was_warmed_is_read_by_the_next_mount_without_the_host() {
    if !can_mount() {
        return;
    }
    let warmed = Warmed::new();
    let mount = warmed.mount();
    let said = out(&warmed.warm(&mount, ""));
    assert!(said.starts_with("5 files are in the cache: "), "{said}");
    assert_eq!(warmed.host_bytes(&mount), ALL_BYTES);
    warmed.unmount(mount);
    let mount = warmed.mount();
    for (salt, (name, len)) in FILES.iter().enumerate() {
        assert!(fs::read(mount.join(name)).unwrap() == pattern(*len, salt), "{name}");
    }
    let reads = warmed.rig.status(&mount).reads;
    assert_eq!((reads.host_bytes, reads.l2_bytes), (0, ALL_BYTES));
}

#[test]
fn warming_twice_fetches_nothing() {
    if !can_mount() {
        return;
    }
    let warmed = Warmed::new();
    let mount = warmed.mount();
    let first = out(&warmed.warm(&mount, "d"));
    assert!(first.contains("3 files are in the cache") && !first.contains(" 0 B of it fetched"), "{first}");
    let bytes = warmed.host_bytes(&mount);
    let second = out(&warmed.warm(&mount, "d"));
    assert!(
        second.starts_with("3 files are in the cache") && second.contains(" 0 B of it fetched"),
        "{second}"
    );
    assert_eq!(warmed.host_bytes(&mount), bytes);
    assert_eq!(bytes, 210_005);
}

#[test]
fn what_is_missing_is_named_and_the_rest_is_warmed() {
    if !can_mount() {
        return;
    }
    let warmed = Warmed::new();
    let mount = warmed.mount();
    let (there, absent) = (mount.join("large"), mount.join("absent"));
    let output = warmed.cache(&["warm", there.to_str().unwrap(), absent.to_str().unwrap()]);
    let said = failed(&output);
    assert!(said.contains(&format!("{}: the host has no such file", absent.display())), "{said}");
    assert!(said.lines().last().unwrap().starts_with("wormhole: 1 are not in the cache"), "{said}");
    assert!(String::from_utf8(output.stdout).unwrap().starts_with("1 files are in the cache"));
    assert_eq!(warmed.host_bytes(&mount), LARGE as u64);
    let nothing = failed(&warmed.warm(&mount, "*.mov"));
    assert!(nothing.contains("nothing on the host fits this pattern"), "{nothing}");
}

#[test]
fn patterns_and_lists_are_found_on_the_host() {
    if !can_mount() {
        return;
    }
    let warmed = Warmed::new();
    let mount = warmed.mount();
    assert!(out(&warmed.warm(&mount, "d/*.exr")).starts_with("2 files"));
    assert!(out(&warmed.warm(&mount, "**/*.tx")).starts_with("1 files"));
    assert_eq!(warmed.host_bytes(&mount), 210_005);
    let list = format!("{}\n\n{}", mount.join("empty").display(), mount.join("lar[f-h]e").display());
    let mut command = warmed.rig.wormhole();
    let mut child = command
        .args(["cache", "warm", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(list.as_bytes()).unwrap();
    assert!(out(&child.wait_with_output().unwrap()).starts_with("2 files"));
}

#[test]
fn a_file_larger_than_the_cache_is_missing() {
    if !can_mount() {
        return;
    }
    let warmed = Warmed::new();
    write_old(&warmed.rig.folder.path().join("huge"), &pattern(40 << 20, 9));
    let mount = warmed.mount_with("16MiB", &[]);
    let said = failed(&warmed.warm(&mount, "huge"));
    assert!(said.contains("raise --cache-size"), "{said}");
}

#[test]
fn a_pinned_file_stays_when_others_fill_the_cache() {
    if !can_mount() {
        return;
    }
    let warmed = Warmed::new();
    let host = warmed.rig.folder.path();
    for number in 0..12_usize {
        write_old(&host.join(format!("fill{number}")), &pattern(4 << 20, number));
    }
    let mount = warmed.mount_with("24MiB", &[]);
    let large = mount.join("large");
    let large = large.to_str().unwrap();
    assert_eq!(out(&warmed.cache(&["pin", large])), "1 files are pinned\n");
    assert!(out(&warmed.cache(&["warm", large])).starts_with("1 files"));
    for number in 0..12 {
        assert!(out(&warmed.warm(&mount, &format!("fill{number}"))).starts_with("1 files"));
    }
    assert!(warmed.rig.status(&mount).cache.unwrap().evicted > 0, "there was pressure");
    let again = out(&warmed.cache(&["warm", large]));
    assert!(again.contains(" 0 B of it fetched"), "{again}");
    let evicted = out(&warmed.warm(&mount, "fill0"));
    assert!(!evicted.contains(" 0 B of it fetched"), "{evicted}");
    assert_eq!(out(&warmed.cache(&["unpin", large])), "1 files are not pinned any more\n");
    assert_eq!(warmed.rig.status(&mount).cache.unwrap().pinned_files, 0);
}

#[test]
fn pins_end_without_the_host_where_it_is_known_what_they_are_of() {
    if !can_mount() {
        return;
    }
    for on_disconnect in ["block", "fail"] {
        let mut warmed = Warmed::new();
        let mount = warmed.mount_with("64MiB", &["--on-disconnect", on_disconnect, "--deadline", "5s"]);
        let path = |name: &str| String::from(mount.join(name).to_str().unwrap());
        assert_eq!(out(&warmed.cache(&["pin", mount.path().to_str().unwrap()])), "5 files are pinned\n");
        assert_eq!(fs::read(mount.join("large")).unwrap(), pattern(LARGE, 0));
        assert_eq!(fs::read(mount.join("d/one.exr")).unwrap(), pattern(10_000, 1));
        warmed.rig.stop_host();
        until("the loss is noticed", || !warmed.rig.status(&mount).session.connected);
        let pinned = || warmed.rig.status(&mount).cache.unwrap().pinned_files;
        assert_eq!(out(&warmed.cache(&["unpin", &path("large")])), "1 files are not pinned any more\n");
        assert_eq!(pinned(), 4);
        let unseen = failed(&warmed.cache(&["unpin", &path("empty")]));
        assert!(unseen.contains("nothing has looked at it since the mount began"), "{unseen}");
        assert_eq!(pinned(), 4, "it may be there, and is not known");
        // What was seen of a folder is unpinned, and that there may be more is said.
        let folder = failed(&warmed.cache(&["unpin", &path("d")]));
        assert!(folder.contains("only files looked at since the mount began are known"), "{folder}");
        assert_eq!(pinned(), 3);
        let refused = failed(&warmed.cache(&["pin", &path("large")]));
        assert!(refused.contains("the host is out of reach"), "{refused}");
    }
}

/// The large files of a cache: its regions.
fn regions(dir: &Path) -> Vec<PathBuf> {
    let is_large = |path: &PathBuf| path.is_file() && fs::metadata(path).unwrap().len() >= 1 << 20;
    fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).filter(is_large).collect()
}

fn flip(dir: &Path, at: u64) {
    for region in regions(dir) {
        let file = File::options().read(true).write(true).open(&region).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 1], at).unwrap();
    }
}

#[test]
fn verify_finds_a_byte_that_changed_and_drops_its_chunk() {
    if !can_mount() {
        return;
    }
    let warmed = Warmed::new();
    let mount = warmed.mount();
    out(&warmed.warm(&mount, "large"));
    let good = out(&warmed.cache(&["verify", mount.path().to_str().unwrap()]));
    assert!(good.starts_with("25 chunks are good") && good.contains("; 0 were bad"), "{good}");
    // Nothing is mounted: the command opens the folder itself.
    warmed.unmount(mount);
    assert!(out(&warmed.cache(&["verify", "--cache-dir", warmed.cache_dir()])).contains("; 0 were bad"));
    flip(warmed.cache.path(), 300_000);
    let output = warmed.cache(&["verify", "--cache-dir", warmed.cache_dir()]);
    assert!(String::from_utf8(output.stdout.clone()).unwrap().contains("; 1 were bad"), "{output:?}");
    assert!(failed(&output).contains("1 chunks were bad"));
    // Read once, it is fetched anew, and all is good.
    let mount = warmed.mount();
    assert!(fs::read(mount.join("large")).unwrap() == pattern(LARGE, 0));
    assert!(warmed.host_bytes(&mount) >= 128 << 10);
    warmed.unmount(mount);
    let again = out(&warmed.cache(&["verify", "--cache-dir", warmed.cache_dir()]));
    assert!(again.starts_with("25 chunks are good"), "{again}");
}

#[test]
fn clear_empties_the_cache_and_asks_nothing() {
    if !can_mount() {
        return;
    }
    let warmed = Warmed::new();
    let mount = warmed.mount();
    out(&warmed.warm(&mount, "large"));
    let cleared = out(&warmed.cache(&["clear", mount.path().to_str().unwrap()]));
    assert!(cleared.contains("in 25 chunks"), "{cleared}");
    assert_eq!(warmed.rig.status(&mount).cache.unwrap().chunks, 0);
    assert!(fs::read(mount.join("large")).unwrap() == pattern(LARGE, 0));
    warmed.unmount(mount);
    out(&warmed.cache(&["clear", "--cache-dir", warmed.cache_dir()]));
    let text = out(&warmed.cache(&["stats", "--json", "--cache-dir", warmed.cache_dir()]));
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap()[0]["chunks"], 0);
}

#[test]
fn stats_count_what_is_held_with_a_mount_and_without() {
    if !can_mount() {
        return;
    }
    let warmed = Warmed::new();
    let mount = warmed.mount();
    out(&warmed.warm(&mount, "large"));
    let json = |arguments: &[&str]| -> Value {
        let all = [&["stats", "--json"], arguments].concat();
        serde_json::from_str(&out(&warmed.cache(&all))).unwrap()
    };
    let of_mount = json(&[mount.path().to_str().unwrap()]);
    assert_eq!(of_mount[0]["bytes"], LARGE);
    assert_eq!(of_mount[0]["chunks"], 25);
    assert_eq!(of_mount[0]["mountpoint"], mount.path().to_str().unwrap());
    assert!(out(&warmed.cache(&["stats"])).contains("in 25 chunks"));
    warmed.unmount(mount);
    let of_folder = json(&["--cache-dir", warmed.cache_dir()]);
    assert_eq!(of_folder[0]["bytes"], LARGE);
    assert_eq!(of_folder[0]["mountpoint"], Value::Null);
}

#[test]
fn commands_that_cannot_be_done_say_what_to_do() {
    if !can_mount() {
        return;
    }
    let mut warmed = Warmed::new();
    let elsewhere = failed(&warmed.cache(&["warm", "/etc/passwd"]));
    assert!(elsewhere.contains("/etc/passwd is on no wormhole mount of this user"), "{elsewhere}");
    let nowhere = failed(&warmed.cache(&["stats", "--cache-dir", "/nonexistent"]));
    assert!(nowhere.contains("there is no disk cache in /nonexistent"), "{nowhere}");
    let bare = warmed.rig.mount_with(&["--cache-size", "0"]);
    let path = bare.path().to_str().unwrap();
    assert!(failed(&warmed.cache(&["warm", path])).contains("has no disk cache: mount with --cache-dir"));
    assert!(failed(&warmed.cache(&["verify", path])).contains("has no disk cache"));
    let up = bare.join("d/../large");
    assert!(failed(&warmed.cache(&["warm", up.to_str().unwrap()])).contains("without `..`"));
    let mount = warmed.mount_with("64MiB", &["--on-disconnect", "fail"]);
    warmed.rig.stop_host();
    until("the loss is noticed", || !warmed.rig.status(&mount).session.connected);
    let away = failed(&warmed.warm(&mount, "large"));
    assert!(away.contains("the host is out of reach"), "{away}");
}

#[test]
fn with_the_host_gone_what_was_warmed_is_served_from_disk() {
    if !can_mount() {
        return;
    }
    let mut warmed = Warmed::new();
    let mount = warmed.mount_with("64MiB", &["--on-disconnect", "stale"]);
    out(&warmed.warm(&mount, "d"));
    // The names are known; not a byte was read.
    for name in ["d/one.exr", "d/two.exr", "large"] {
        fs::metadata(mount.join(name)).unwrap();
    }
    warmed.rig.stop_host();
    until("the loss is noticed", || !warmed.rig.status(&mount).session.connected);
    for (salt, (name, len)) in FILES.iter().enumerate().skip(1).take(2) {
        assert!(fs::read(mount.join(name)).unwrap() == pattern(*len, salt), "{name}");
    }
    let report = warmed.rig.status(&mount);
    assert!(
        report.serves_stale && report.to_string().contains("STALE data from memory and disk"),
        "{report}"
    );
    assert_eq!(report.reads.l2_bytes, 210_000);
    assert_eq!(fs::read(mount.join("large")).unwrap_err().raw_os_error(), Some(5), "unknown is EIO");
}

#[test]
fn in_a_mount_of_several_shares_the_first_name_is_the_share() {
    if !can_mount() {
        return;
    }
    let rig = Rig::of_shares(&[("left", "l"), ("right", "r")], |root| {
        for name in ["l/a", "r/a", "r/b"] {
            fs::create_dir_all(root.join(name).parent().unwrap()).unwrap();
            write_old(&root.join(name), &pattern(1000, 1));
        }
    });
    let warmed = Warmed { rig, cache: TempDir::new().unwrap() };
    let mount = warmed.mount();
    assert!(out(&warmed.warm(&mount, "right")).starts_with("2 files"));
    assert!(out(&warmed.warm(&mount, "*/a")).starts_with("2 files"));
    assert!(out(&warmed.warm(&mount, "**/b")).starts_with("1 files"));
    assert!(out(&warmed.warm(&mount, "")).starts_with("3 files"));
    assert!(failed(&warmed.warm(&mount, "middle/a")).contains("the host has no such file"));
}
