//! What both sides log: a line for each mount that comes and goes, and a failed request by the same numbers.

use std::{
    fs::{self, File},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use crate::{
    failure::engine,
    rig::{Mount, PATIENCE, can_mount},
};

/// A host that logs everything as JSON.
struct Logging {
    folder: tempfile::TempDir,
    host: Child,
}

impl Logging {
    fn new() -> Option<Logging> {
        let engine = engine().filter(|_| can_mount())?;
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("share")).unwrap();
        fs::write(at("share/there"), b"x").unwrap();
        let host = Command::new(engine)
            .args([
                "host",
                "--listen",
                "127.0.0.1:0",
                "--log",
                "debug",
                "--log-format",
                "json",
                "--state-dir",
            ])
            .arg(at("state"))
            .arg("--ticket-file")
            .arg(at("ticket"))
            .arg(at("share"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(at("host.log")).unwrap())
            .spawn()
            .unwrap();
        let logging = Logging { folder, host };
        event(&logging.folder.path().join("host.log"), "ready", |_| true);
        Some(logging)
    }

    fn mount(&self) -> Mount {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wormhole"));
        command.env("XDG_RUNTIME_DIR", self.folder.path()).env("XDG_CACHE_HOME", self.folder.path());
        command.stdin(Stdio::null());
        let log = self.folder.path().join("mount.log");
        let log = log.to_str().unwrap();
        let ticket = format!("@{}", self.folder.path().join("ticket").display());
        Mount::start(command, &ticket, &["--log", "debug", "--log-format", "json", "--log-file", log])
    }
}

impl Drop for Logging {
    fn drop(&mut self) {
        let _ = self.host.kill();
        let _ = self.host.wait();
    }
}

/// The first event of a log with this message that `is_it`, as soon as it is there.
fn event(log: &Path, message: &str, is_it: impl Fn(&Value) -> bool) -> Value {
    let since = Instant::now(); // clock: the bound of a real wait
    loop {
        let text = fs::read_to_string(log).unwrap_or_default();
        let complete = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
        let found = complete
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("{error}: {line}")))
            .find(|event| event["message"] == message && is_it(event));
        if let Some(event) = found {
            return event;
        }
        assert!(since.elapsed() < PATIENCE, "no {message:?} in {text}");
        thread::sleep(Duration::from_millis(20)); // clock: another process writes
    }
}

#[test]
fn a_failed_request_has_the_same_numbers_on_both_sides() {
    let Some(logging) = Logging::new() else { return };
    let mut mount = logging.mount();
    assert!(fs::metadata(mount.join("absent")).is_err());
    let at = |name: &str| logging.folder.path().join(name);
    let here = event(&at("mount.log"), "request failed", |_| true);
    assert!(here["session"].is_u64() && here["request"].is_u64(), "{here}");
    let same = |event: &Value| event["session"] == here["session"] && event["request"] == here["request"];
    let there = event(&at("host.log"), "request failed", same);
    assert_eq!(there["level"], "DEBUG");
    let connected = event(&at("host.log"), "mount connected", |_| true);
    assert_eq!(connected["session"], here["session"]);
    assert_eq!(fs::read(mount.join("there")).unwrap(), b"x");
    mount.signal(Signal::SIGTERM);
    assert_eq!(mount.exit_code(), Some(0));
    let left = event(&at("host.log"), "mount left", |_| true);
    assert_eq!(left["session"], here["session"]);
    let unmounted = event(&at("mount.log"), "unmounted", |_| true);
    assert_eq!((&unmounted["read_bytes"], &unmounted["reconnects"]), (&Value::from(1), &Value::from(0)));
}

#[test]
fn a_lost_host_and_its_return_are_a_line_each() {
    let Some(mut logging) = Logging::new() else { return };
    let mount = logging.mount();
    let at = |name: &str| logging.folder.path().join(name);
    // It says goodbye, so that the loss is noticed at once.
    kill(Pid::from_raw(i32::try_from(logging.host.id()).unwrap()), Signal::SIGTERM).unwrap();
    logging.host.wait().unwrap();
    let lost = event(&at("mount.log"), "session lost; connecting again", |_| true);
    assert_eq!(lost["level"], "WARN");
    assert!(lost["session"].is_u64(), "{lost}");
    drop(mount);
}
