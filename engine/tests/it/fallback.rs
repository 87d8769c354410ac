//! A kernel or sandbox that refuses io_uring: a real seccomp filter around a real host.

use std::{collections::BTreeMap, fs, path::Path, thread};

use rustix::{
    fs::{Advice, fadvise},
    io::Errno,
};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};

use crate::{
    process::{Counters, Ready, command, free_address, start},
    rig::{Peer, pattern},
};

/// System call numbers, the same on all architectures. Source: include/uapi/asm-generic/unistd.h.
const IO_URING_SETUP: i64 = 425;
const IO_URING_ENTER: i64 = 426;
const IO_URING_REGISTER: i64 = 427;

/// A filter that answers one system call with an error and lets all others pass.
fn refusing(call: i64, errno: Errno) -> BpfProgram {
    let number = u32::try_from(errno.raw_os_error()).unwrap();
    let architecture = std::env::consts::ARCH.try_into().unwrap();
    let rules = BTreeMap::from([(call, Vec::new())]);
    SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::Errno(number), architecture)
        .unwrap()
        .try_into()
        .unwrap()
}

/// A host in a process that is refused `call`.
fn host_refused(call: (i64, Errno), dir: &Path, state: &Path, arguments: &[String]) -> Ready {
    let mut command = command(state);
    command.arg(dir).args(arguments);
    // The filter is this thread's, and a child's that it starts; it ends with the thread and stays with the child.
    let spawn = move || {
        apply_filter(&refusing(call.0, call.1)).unwrap();
        start(&mut command)
    };
    Ready::of(thread::spawn(spawn).join().unwrap())
}

/// A folder on a disk: a file in memory would leave the page cache no more than memory itself.
fn folder_on_disk() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

fn drop_from_page_cache(path: &Path) {
    let file = fs::File::open(path).unwrap();
    file.sync_all().unwrap();
    fadvise(&file, 0, None, Advice::DontNeed).unwrap();
}

/// Reads a file that the page cache does not hold; the counters afterwards.
fn read_from_disk(host: &Ready, file: &Path, bytes: &[u8], metrics: std::net::SocketAddr) -> Counters {
    drop_from_page_cache(file);
    let peer = Peer::connect(host.ticket.clone()).unwrap();
    assert!(peer.read_all("f").unwrap() == bytes);
    peer.close();
    let counters = Counters::of(metrics);
    let (read, cached) = (counters.value("host_read_bytes"), counters.value("host_cached_bytes"));
    assert!(cached < read, "{cached} of {read} bytes came from the page cache: the back end was not asked");
    counters
}

#[test]
fn where_io_uring_is_refused_blocking_threads_read_and_the_host_says_so() {
    let dir = folder_on_disk();
    let (file, bytes) = (dir.path().join("f"), pattern(9_000_001, 4));
    fs::write(&file, &bytes).unwrap();
    for (call, name, errno) in [
        (IO_URING_SETUP, "io_uring_setup", Errno::PERM),
        (IO_URING_SETUP, "io_uring_setup", Errno::NOSYS),
        (IO_URING_ENTER, "io_uring_enter", Errno::PERM),
        (IO_URING_ENTER, "io_uring_enter", Errno::NOSYS),
        (IO_URING_REGISTER, "io_uring_register", Errno::PERM),
    ] {
        let (state, metrics) = (tempfile::tempdir().unwrap(), free_address());
        let arguments = ["--metrics".to_owned(), metrics.to_string()];
        let host = host_refused((call, errno), dir.path(), state.path(), &arguments);
        assert!(host.line.contains("blocking threads") && host.line.contains(name), "{}", host.line);
        let counters = read_from_disk(&host, &file, &bytes, metrics);
        assert!((counters.value("host_backend{backend=\"blocking_threads\"}") - 1.0).abs() < 0.1);
        assert!(!counters.has("backend=\"io_uring\""));
        let log = host.end();
        assert_eq!(log.matches("io_uring is refused").count(), 1, "{log}");
        let why = log.lines().find(|line| line.contains("io_uring is refused")).unwrap();
        assert!(why.contains(name) && why.contains(&errno.raw_os_error().to_string()), "{why}");
    }
}

#[test]
fn where_io_uring_is_allowed_the_host_says_so() {
    let dir = folder_on_disk();
    let (file, bytes) = (dir.path().join("f"), pattern(3_000_000, 6));
    fs::write(&file, &bytes).unwrap();
    let (state, metrics) = (tempfile::tempdir().unwrap(), free_address());
    let host = Ready::start(command(state.path()).arg(dir.path()).args(["--metrics", &metrics.to_string()]));
    if host.line.contains("blocking threads") {
        let required = std::env::var("WORMHOLE_REQUIRE").is_ok_and(|names| names.contains("uring"));
        assert!(!required, "io_uring is required here: {}", host.line);
        #[expect(clippy::print_stderr, reason = "a skipped test says so")]
        let () = eprintln!("SKIPPED: {}", host.line);
        return;
    }
    assert!(host.line.contains("io_uring"), "{}", host.line);
    let counters = read_from_disk(&host, &file, &bytes, metrics);
    assert!((counters.value("host_backend{backend=\"io_uring\"}") - 1.0).abs() < 0.1);
    assert!(!host.end().contains("refused"));
}
