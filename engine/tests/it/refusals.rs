//! Hosts that cannot start: one line that says what to do, exit code 1, nothing left behind.

use std::{
    fs,
    os::unix::{
        fs::{PermissionsExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    mounts::Mounted,
    process::{command, command_at, failure, misuse},
};

/// The user and group that own nothing.
const NOBODY: u32 = 65_534;

/// The names in a folder.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn folders_options_and_addresses_that_do_not_serve() {
    let (dir, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::write(dir.path().join("file"), b"").unwrap();
    let run = |args: &[&str]| command(state.path()).args(args).output().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    assert!(failure(&run(&[&at("absent")])).contains("does not exist"));
    assert!(failure(&run(&[&at("file")])).contains("is not a folder"));
    let ticket = failure(&run(&[&at(""), "--ticket-file", "/proc/nothing/ticket"]));
    assert!(ticket.contains("--ticket-file"), "{ticket}");
    let ticket = failure(&run(&[&at(""), "--ticket-file", &at("")]));
    assert!(ticket.contains("--ticket-file"), "{ticket}");
    assert_eq!(names(dir.path()), ["file"], "no half a ticket");
    let memory = misuse(&run(&[&at(""), "--memory", "1"]));
    assert!(memory.contains("--memory: \"1\" is not from 8MiB to 64GiB"), "{memory}");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let scraped = listener.local_addr().unwrap().to_string();
    let metrics = failure(&run(&[&at(""), "--metrics", &scraped]));
    assert!(metrics.contains(&scraped) && metrics.contains("--metrics"), "{metrics}");
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap().to_string();
    let taken = failure(&command_at(&address, state.path()).arg(dir.path()).output().unwrap());
    assert!(taken.contains(&address) && taken.contains("--listen"), "{taken}");
    // Of a block for documentation (RFC 5737): never this machine's.
    let elsewhere = failure(&command_at("192.0.2.1:4433", state.path()).arg(dir.path()).output().unwrap());
    assert!(elsewhere.contains("192.0.2.1:4433") && elsewhere.contains("--listen"), "{elsewhere}");
}

#[test]
fn shares_that_clash_or_are_too_many() {
    let (dir, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let clash = misuse(&command(state.path()).args([dir.path(), dir.path()]).output().unwrap());
    assert!(clash.contains("NAME=DIR"), "{clash}");
    let many: Vec<String> = (0..11).map(|n| format!("s{n}={}", dir.path().display())).collect();
    let many = misuse(&command(state.path()).args(many).output().unwrap());
    assert!(many.contains("11 shares") && many.contains("second host"), "{many}");
    assert_eq!(names(state.path()), [""; 0], "nothing is made before the options are right");
}

#[test]
fn wrong_values_are_usage() {
    let (dir, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let folder = dir.path().display();
    for (listen, share) in [
        ("bogus", format!("{folder}")),
        ("127.0.0.1:99999", format!("{folder}")),
        ("127.0.0.1:0", format!("={folder}")),
        ("127.0.0.1:0", "name=".to_owned()),
        ("127.0.0.1:0", String::new()),
    ] {
        let output = command_at(listen, state.path()).arg(&share).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{listen} {share:?}");
    }
}

/// The host as somebody without rights, with a copy of the program that anybody may run. `None` where this process is
/// nobody special itself, so that it cannot become someone else.
struct Nobody {
    folder: tempfile::TempDir,
    program: PathBuf,
}

impl Nobody {
    fn new() -> Option<Nobody> {
        if !rustix::process::geteuid().is_root() {
            #[expect(clippy::print_stderr, reason = "a skipped test says so")]
            let () = eprintln!("SKIPPED: only root can start a process of another user");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let program = folder.path().join("wormhole-engine");
        fs::copy(env!("CARGO_BIN_EXE_wormhole-engine"), &program).unwrap();
        Some(Nobody { folder, program })
    }

    /// A folder of this owner and mode.
    fn folder(&self, name: &str, owner: u32, mode: u32) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        chown(&path, Some(owner), Some(owner)).unwrap();
        path
    }

    fn host(&self, share: &Path, state: &Path) -> String {
        let mut command = Command::new(&self.program);
        command.args(["host", "--listen", "127.0.0.1:0", "--state-dir"]).arg(state).arg(share);
        failure(&command.uid(NOBODY).gid(NOBODY).output().unwrap())
    }
}

#[test]
fn what_this_user_may_not_read_or_write() {
    let Some(nobody) = Nobody::new() else { return };
    let (private, open) = (nobody.folder("private", 0, 0o700), nobody.folder("open", 0, 0o755));
    let state = nobody.folder("state", NOBODY, 0o700);
    let unreadable = nobody.host(&private, &state);
    assert!(unreadable.contains("private") && unreadable.contains("a user who may"), "{unreadable}");
    // Not "does not exist": that is not known.
    let inside = nobody.host(&private.join("x"), &state);
    assert!(inside.contains("a user who may"), "{inside}");
    let unwritable = nobody.host(&open, &open);
    assert!(unwritable.contains("--state-dir") && unwritable.contains("denied"), "{unwritable}");
    let unmade = nobody.host(&open, &open.join("state"));
    assert!(unmade.contains("--state-dir") && unmade.contains("denied"), "{unmade}");
    assert_eq!(names(&open), [""; 0]);
}

#[test]
fn a_full_disk_for_the_keys_leaves_no_half_a_key() {
    let (dir, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let Some(_mounted) = Mounted::with(state.path().join("disk"), "size=8k") else { return };
    let keys = state.path().join("disk/keys");
    // Each page taken by something else fails the start at another file: the lock, the host's key.
    for (taken, made) in [(8_192, &["lock"][..]), (4_096, &["lock"][..])] {
        let filler = state.path().join("disk/filler");
        fs::write(&filler, vec![1; taken]).unwrap();
        let full = failure(&command(&keys).arg(dir.path()).output().unwrap());
        assert!(full.contains("--state-dir") && full.contains("No space left"), "{full}");
        assert_eq!(names(&keys), made);
        fs::remove_file(&filler).unwrap();
    }
}

#[test]
fn too_few_descriptors_are_refused_before_anything_is_made() {
    let (dir, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let host = command(&state.path().join("keys"));
    for limit in [6, 16, 24, 63] {
        let mut limited = Command::new("sh");
        limited
            .args(["-c", &format!("ulimit -n {limit}; exec \"$0\" \"$@\"")])
            .arg(host.get_program())
            .args(host.get_args());
        let line = failure(&limited.arg(dir.path()).output().unwrap());
        assert!(line.contains("ulimit -n") && line.contains(&limit.to_string()), "{line}");
    }
    assert_eq!(names(state.path()), [""; 0]);
}
