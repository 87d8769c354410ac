//! The life of the processes of a mount: killed, recovered, two at once, in the background, ended while busy.

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::{fs::FileExt, net::UnixDatagram, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::{
    mount::{MntFlags, umount2},
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;
use tokio::runtime::Builder;
use wire::Ticket;
use wormhole_fusefront::{MountConfig, mount::connect, mountinfo, unmount::Detach};

use crate::rig::{Mount, PATIENCE, Rig, can_mount, finish};

/// How soon a mount is off the tree after its process was killed.
const FREE_WITHIN: Duration = Duration::from_secs(2);

fn rig() -> Rig {
    Rig::new(|root| fs::write(root.join("a"), vec![b'a'; 300_000]).unwrap())
}

/// Looks until it is so, or the time is over; says how long it took.
fn until(limit: Duration, is_so: impl Fn() -> bool) -> Option<Duration> {
    // clock: another process acts, and nothing tells this one when it has.
    let start = Instant::now();
    while !is_so() {
        if start.elapsed() > limit {
            return None;
        }
        // clock: between two looks at the mount table.
        thread::sleep(Duration::from_millis(2));
    }
    Some(start.elapsed())
}

/// The processes whose parent is `parent`, with their arguments.
fn children_of(parent: u32) -> Vec<(i32, String)> {
    let tasks = format!("/proc/{parent}/task/{parent}/children");
    let numbers = fs::read_to_string(tasks).unwrap();
    let argument = |pid: &str| fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    numbers.split_whitespace().map(|pid| (pid.parse().unwrap(), argument(pid))).collect()
}

fn guard_of(pid: u32) -> i32 {
    let children = children_of(pid);
    let guards: Vec<_> = children.iter().filter(|(_, line)| line.contains("__guard")).collect();
    assert_eq!(guards.len(), 1, "{children:?}");
    guards[0].0
}

fn is_gone(pid: i32) -> bool {
    // A zombie without a parent that waits is gone all the same.
    fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z "))
}

#[test]
fn a_killed_mount_leaves_its_place_free() {
    if !can_mount() {
        return;
    }
    let rig = rig();
    let mut mount = rig.mount();
    let path = mount.path().to_str().unwrap().to_owned();
    let guard = guard_of(mount.pid());
    mount.signal(Signal::SIGKILL);
    assert_eq!(mount.exit_code(), None, "a guard that held standard error would have kept this waiting");
    let took = until(FREE_WITHIN, || !mount.is_mounted()).expect("the guard detaches the mount");
    assert!(until(FREE_WITHIN, || is_gone(guard)).is_some(), "the guard ends");
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!table.contains(&path), "free after {took:?}: {table}");
    let mut again =
        rig.wormhole().args(["mount", &rig.ticket_argument(), &path]).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(again.stderr.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.contains("mounted share"), "{line}");
    assert_eq!(fs::read(mount.join("a")).unwrap().len(), 300_000);
    assert_eq!(rig.run(&["unmount", &path]).status.code(), Some(0));
    assert_eq!(again.wait().unwrap().code(), Some(0));
}

#[test]
fn a_guard_is_small_apart_and_ends_with_its_mount() {
    if !can_mount() {
        return;
    }
    let rig = rig();
    let mut mount = rig.mount();
    let guard = guard_of(mount.pid());
    let proc = PathBuf::from(format!("/proc/{guard}"));
    let status = fs::read_to_string(proc.join("status")).unwrap();
    // Its own; the rest are pages of the program's file, shared with the mount.
    let resident = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    let resident_kb: u64 = resident.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(resident_kb < 1 << 10, "{resident_kb} kB");
    assert!(status.contains("Threads:\t1\n"), "{status}");
    let mut open: Vec<String> = fs::read_dir(proc.join("fd"))
        .unwrap()
        .map(|entry| fs::read_link(entry.unwrap().path()).unwrap().display().to_string())
        .collect();
    open.sort();
    assert_eq!(open.len(), 3, "{open:?}");
    assert!(open[..2].iter().all(|path| path == "/dev/null") && open[2].starts_with("pipe:"), "{open:?}");
    // As Ctrl-C and service managers do: everyone gets the signal.
    kill(Pid::from_raw(guard), Signal::SIGTERM).unwrap();
    kill(Pid::from_raw(guard), Signal::SIGINT).unwrap();
    assert!(!is_gone(guard));
    mount.signal(Signal::SIGTERM);
    assert_eq!(mount.exit_code(), Some(0));
    assert!(until(FREE_WITHIN, || is_gone(guard)).is_some(), "the guard ends");
}

#[test]
fn a_guard_never_touches_a_later_mount_at_its_place() {
    if !can_mount() {
        return;
    }
    let rig = rig();
    let mount = rig.mount();
    let path = mount.path().canonicalize().unwrap();
    let id = mountinfo::at(&path).unwrap().unwrap().id;
    // The guard of a mount that was here before, with the same number even.
    for orders in [format!("{}\0", path.display()), format!("{}\0{id}\0", path.display())] {
        let mut guard = rig.wormhole().arg("__guard").stdin(Stdio::piped()).spawn().unwrap();
        guard.stdin.take().unwrap().write_all(orders.as_bytes()).unwrap();
        assert_eq!(guard.wait().unwrap().code(), Some(0));
        assert_eq!(mountinfo::at(&path).unwrap().unwrap().id, id);
    }
    assert_eq!(fs::read(mount.join("a")).unwrap().len(), 300_000);
}

/// Kills the guard, then the mount: what a machine out of memory may do.
fn kill_both(mount: &mut Mount) {
    let guard = guard_of(mount.pid());
    kill(Pid::from_raw(guard), Signal::SIGKILL).unwrap();
    mount.signal(Signal::SIGKILL);
    assert_eq!(mount.exit_code(), None);
    assert!(mount.is_mounted(), "nobody was left to detach it");
}

#[test]
fn the_next_mount_recovers_a_dead_one() {
    if !can_mount() {
        return;
    }
    let rig = rig();
    let mut mount = rig.mount();
    kill_both(&mut mount);
    let path = mount.path().to_str().unwrap().to_owned();
    let daemon = rig.run(&["mount", "--daemon", &rig.ticket_argument(), &path]);
    assert_eq!(daemon.status.code(), Some(0), "{daemon:?}");
    assert_eq!(fs::read(mount.join("a")).unwrap().len(), 300_000);
    assert_eq!(rig.run(&["unmount", &path]).status.code(), Some(0));
    assert!(!mount.is_mounted(), "the dead one does not lie below");
}

#[test]
fn the_unmount_command_removes_a_dead_mount() {
    if !can_mount() {
        return;
    }
    let rig = rig();
    let mut mount = rig.mount();
    kill_both(&mut mount);
    let path = mount.path().to_str().unwrap().to_owned();
    assert_eq!(rig.run(&["status"]).stdout, b"no wormhole mounts of this user\n");
    assert_eq!(rig.run(&["unmount", &path]).status.code(), Some(0));
    assert!(!mount.is_mounted());
}

#[test]
fn of_two_that_start_at_once_one_wins() {
    if !can_mount() {
        return;
    }
    let rig = rig();
    let mountpoint = TempDir::new().unwrap();
    let path = mountpoint.path().to_str().unwrap();
    let start = || {
        let mut command = rig.wormhole();
        command.args(["mount", "--daemon", &rig.ticket_argument(), path]).stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    for _ in 0..5 {
        let outcomes: Vec<_> =
            [start(), start(), start()].into_iter().map(|child| child.wait_with_output().unwrap()).collect();
        let won = outcomes.iter().filter(|output| output.status.code() == Some(0)).count();
        assert_eq!(won, 1, "{outcomes:?}");
        for lost in outcomes.iter().filter(|output| output.status.code() != Some(0)) {
            let text = String::from_utf8_lossy(&lost.stderr);
            assert!(text.contains("is starting on") || text.contains("already a mountpoint"), "{text}");
        }
        let mounts = mountinfo::all().unwrap();
        assert_eq!(mounts.iter().filter(|mount| mount.mountpoint == Path::new(path)).count(), 1);
        let unmounted = rig.run(&["unmount", path]);
        assert_eq!(unmounted.status.code(), Some(0), "{unmounted:?}");
    }
}

#[test]
fn a_daemon_is_there_when_the_command_returns_and_hides_its_ticket() {
    if !can_mount() {
        return;
    }
    let rig = rig();
    let mountpoint = TempDir::new().unwrap();
    let path = mountpoint.path().to_str().unwrap();
    let log = mountpoint.path().with_extension("log");
    let ticket = fs::read_to_string(&rig.ticket_argument()[1..]).unwrap();
    let log_argument = format!("--log-file={}", log.display());
    let output = rig.run(&["mount", "--daemon", "--log=debug", &log_argument, ticket.trim(), path]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(output.stdout, b"");
    assert_eq!(fs::read(mountpoint.path().join("a")).unwrap().len(), 300_000);
    let status = rig.run(&["status", "--json", path]);
    let reports: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
    let pid = u32::try_from(reports[0]["pid"].as_u64().unwrap()).unwrap();
    let proc = PathBuf::from(format!("/proc/{pid}"));
    for file in ["cmdline", "environ"] {
        let bytes = fs::read(proc.join(file)).unwrap();
        assert!(!String::from_utf8_lossy(&bytes).contains(ticket.trim()), "{file} shows the ticket");
    }
    assert_eq!(fs::read_link(proc.join("cwd")).unwrap(), Path::new("/"));
    assert_eq!(fs::read_link(proc.join("fd/0")).unwrap(), Path::new("/dev/null"));
    assert_eq!(fs::read_link(proc.join("fd/1")).unwrap(), Path::new("/dev/null"));
    assert_eq!(fs::read_link(proc.join("fd/2")).unwrap(), log);
    let stat = fs::read_to_string(proc.join("stat")).unwrap();
    let session = stat.rsplit(") ").next().unwrap().split(' ').nth(3).unwrap().to_owned();
    assert_eq!(session, pid.to_string(), "it leads a session of its own");
    assert_eq!(rig.run(&["unmount", path]).status.code(), Some(0));
    assert!(until(PATIENCE, || !proc.exists()).is_some(), "it ends with its mount");
    assert!(fs::read_to_string(&log).unwrap().contains("lane has stopped"), "the log has the end");
    fs::remove_file(log).unwrap();
}

#[test]
fn a_daemon_that_cannot_mount_says_why_in_one_line() {
    if !can_mount() {
        return;
    }
    let rig = rig();
    let folder = rig.folder.path().to_str().unwrap();
    let output = rig.run(&["mount", "--daemon", &rig.ticket_argument(), folder]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("is not empty") && text.lines().count() == 1, "{text}");
    let output = rig.run(&["mount", "--daemon", "nonsense", folder]);
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn mount_8_finds_its_helper() {
    if !can_mount() {
        return;
    }
    let rig = rig();
    let mountpoint = TempDir::new().unwrap();
    let mut command = rig.wormhole();
    command.arg0("/sbin/mount.fuse.wormhole").arg(rig.ticket_argument()).arg(mountpoint.path());
    let output = finish(command.args(["-o", "rw,noexec,memory=32MiB,_netdev"]));
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(fs::read(mountpoint.path().join("a")).unwrap().len(), 300_000);
    assert_eq!(rig.run(&["unmount", mountpoint.path().to_str().unwrap()]).status.code(), Some(0));
}

/// A process that holds a file of the mount open until its standard input closes.
fn holder(of: &Path) -> Child {
    let file = File::open(of).unwrap();
    // `cat` reads its standard input and never this; the shell hands it on as descriptor 2.
    Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).stderr(file).spawn().unwrap()
}

#[test]
fn holders_are_named_and_served_to_their_end() {
    if !can_mount() {
        return;
    }
    let rig = rig();
    let mut mount = rig.mount();
    let open = File::open(mount.join("a")).unwrap();
    let mut cat = holder(&mount.join("a"));
    let named = format!("{} cat", cat.id());
    let refused = rig.run(&["unmount", mount.path().to_str().unwrap()]);
    let text = String::from_utf8(refused.stderr).unwrap();
    assert!(text.contains(&named) && text.lines().count() == 1, "{text}");
    mount.signal(Signal::SIGTERM);
    let said = mount.said();
    assert!(said.contains("is busy (used by") && said.contains(&named), "{said}");
    let mut read = [0; 1000];
    open.read_exact_at(&mut read, 250_000).unwrap();
    assert_eq!(read, [b'a'; 1000]);
    drop(cat.stdin.take());
    cat.wait().unwrap();
    open.read_exact_at(&mut read, 100_000).unwrap();
    drop(open);
    assert_eq!(mount.exit_code(), Some(0));
    assert!(!mount.is_mounted());
}

#[test]
fn a_second_signal_ends_a_busy_mount_at_once() {
    if !can_mount() {
        return;
    }
    let rig = rig();
    let mut mount = rig.mount();
    let open = File::open(mount.join("a")).unwrap();
    mount.signal(Signal::SIGTERM);
    assert!(mount.said().contains("busy"));
    mount.signal(Signal::SIGTERM);
    assert_eq!(mount.exit_code(), Some(0));
    assert!(open.read_at(&mut [0; 10], 200_000).is_err(), "nobody serves it any more");
}

fn hear(manager: &UnixDatagram, told: &mut [u8]) -> usize {
    loop {
        match manager.recv(told) {
            // The host's rings in this process interrupt waits.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            heard => return heard.unwrap(),
        }
    }
}

#[test]
fn a_service_manager_is_told_of_readiness_and_of_the_end() {
    if !can_mount() {
        return;
    }
    let rig = rig();
    let mountpoint = TempDir::new().unwrap();
    let scratch = TempDir::new().unwrap();
    let socket = scratch.path().join("notify");
    let manager = UnixDatagram::bind(&socket).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut command = rig.wormhole();
    command.arg("mount").arg(rig.ticket_argument()).arg(mountpoint.path());
    let mut child = command.env("NOTIFY_SOCKET", &socket).stderr(Stdio::null()).spawn().unwrap();
    let mut told = [0; 200];
    let len = hear(&manager, &mut told);
    assert_eq!(told[..len].trim_ascii(), b"READY=1");
    assert_eq!(fs::read(mountpoint.path().join("a")).unwrap().len(), 300_000);
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGTERM).unwrap();
    let len = hear(&manager, &mut told);
    assert_eq!(told[..len].trim_ascii(), b"STOPPING=1");
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let _ = umount2(mountpoint.path(), MntFlags::MNT_DETACH);
}

/// What a process holds.
#[derive(Debug, PartialEq, Eq)]
struct Held {
    descriptors: usize,
    threads: usize,
    mounts: usize,
}

fn held(mountpoint: &Path) -> (Held, usize) {
    let count = |path: &str| fs::read_dir(path).unwrap().count();
    let mounts =
        mountinfo::all().unwrap().iter().filter(|mount| mount.mountpoint.starts_with(mountpoint)).count();
    let statm = fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
    (Held { descriptors: count("/proc/self/fd"), threads: count("/proc/self/task"), mounts }, pages)
}

#[test]
fn a_hundred_cycles_leave_nothing_behind() {
    if !can_mount() {
        return;
    }
    let rig = rig();
    // In a process of its own: other tests of this one open and close what is counted.
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "process::cycles", "--ignored", "--nocapture", "--test-threads=1"]);
    let scratch = TempDir::new().unwrap();
    // fuser's threads have 16 MiB each for a request. From one heap, and given back at once, they show at no cycle.
    command.env("MALLOC_ARENA_MAX", "1").env("MALLOC_MMAP_THRESHOLD_", "1048576");
    command.env("WORMHOLE_TEST_TICKET", &rig.ticket_argument()[1..]).env("XDG_RUNTIME_DIR", scratch.path());
    let output = finish(&mut command);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
#[ignore = "started by a_hundred_cycles_leave_nothing_behind, in a process of its own"]
#[expect(clippy::print_stderr, reason = "the figures are worth a line")]
fn cycles() {
    let Some(file) = std::env::var_os("WORMHOLE_TEST_TICKET") else { return };
    let ticket = Ticket::parse(&fs::read_to_string(file).unwrap()).unwrap();
    let mountpoint = TempDir::new().unwrap();
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let place = mountpoint.path().canonicalize().unwrap();
    let mut after_20 = None;
    for cycle in 1..=100 {
        let config = MountConfig::new(ticket.clone(), mountpoint.path().to_owned());
        runtime.block_on(async {
            let mounted = connect(config).await.unwrap().attach().unwrap();
            let mut bytes = Vec::new();
            File::open(mountpoint.path().join("a")).unwrap().read_to_end(&mut bytes).unwrap();
            assert_eq!(bytes.len(), 300_000);
            mounted.detach(Detach::IfIdle).unwrap();
            mounted.ended().await;
            mounted.finish().await;
        });
        // A thread that was joined is in the list a moment longer.
        let expected = after_20.as_ref().map(|(held, _)| held);
        if let Some(expected) = expected {
            assert!(
                until(FREE_WITHIN, || held(&place).0 == *expected).is_some(),
                "cycle {cycle}: {:?}",
                held(&place).0
            );
        }
        if cycle == 20 {
            until(Duration::from_millis(200), || false);
            after_20 = Some(held(&place));
        }
    }
    let (now, pages) = held(&place);
    let (then, pages_then) = after_20.unwrap();
    eprintln!("after 20 cycles {then:?}, {pages_then} pages; after 100 {now:?}, {pages} pages");
    assert!(pages * 10 <= pages_then * 11, "{pages_then} pages grew to {pages}");
}
