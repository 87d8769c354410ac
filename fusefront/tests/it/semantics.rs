//! SEMANTICS.md, heading by heading: the test of a heading has its name. All on real mounts.

mod access;
mod change;
mod failure;
mod grow;
mod tree;

use std::{
    collections::BTreeSet,
    fs, io,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use nix::errno::Errno;
use serde_json::Value;

use crate::rig::{Mount, PATIENCE, Rig, skipped};

/// What shows when it is pushed, or within a second, with room for a busy machine.
const SOON: Duration = Duration::from_secs(10);

/// Bytes that tell where they are from.
fn pattern(len: usize, seed: usize) -> Vec<u8> {
    (0..len).map(|i| u8::try_from((i / 5 + i * 11 + seed * 29) % 251).unwrap()).collect()
}

fn number<T>(outcome: io::Result<T>) -> Option<Errno> {
    outcome.err()?.raw_os_error().map(Errno::from_raw)
}

/// Waits until `holds` does: for what shows once the kernel's second of attributes and names has passed.
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + SOON; // clock: the kernel's TTL runs on the real one
    while !holds() {
        assert!(Instant::now() < until, "{what}"); // clock: the bound of the wait
        thread::sleep(Duration::from_millis(20)); // clock: between two looks; the condition ends the wait
    }
}

/// Replaces the bytes of a file on the host in place.
fn rewrite(path: &Path, bytes: &[u8]) {
    let mut file = fs::File::options().write(true).truncate(true).open(path).unwrap();
    file.write_all(bytes).unwrap();
}

/// A value of `wormhole status --json`, by its path.
fn status(rig: &Rig, mount: &Mount, pointer: &str) -> Value {
    let path = mount.path().canonicalize().unwrap();
    let output = rig.run(&["status", "--json", path.to_str().unwrap()]);
    let reports: Value = serde_json::from_slice(&output.stdout).unwrap();
    reports.pointer(&format!("/0{pointer}")).cloned().unwrap()
}

/// A number of the same.
fn counter(rig: &Rig, mount: &Mount, pointer: &str) -> u64 {
    status(rig, mount, pointer).as_u64().unwrap()
}

/// Whether the tests run as root; says aloud what is left out when not.
fn is_root(what: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        skipped(&format!("{what} needs root"));
    }
    root
}

/// The user that owns nothing.
const NOBODY: u32 = 65534;

/// A command run as [`NOBODY`].
fn as_nobody(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    let id = NOBODY.to_string();
    command.args(["--reuid", &id, "--regid", &id, "--clear-groups", "--"]).arg(program);
    command
}

/// A program that is talked to line by line; killed when the test ends.
struct Program {
    child: Child,
    input: Option<ChildStdin>,
    said: mpsc::Receiver<String>,
}

impl Program {
    fn start(command: &mut Command) -> Option<Program> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().ok()?;
        let (send, said) = mpsc::channel();
        let output = BufReader::new(child.stdout.take().unwrap());
        thread::spawn(move || output.lines().map_while(Result::ok).all(|line| send.send(line).is_ok()));
        let input = child.stdin.take();
        Some(Program { child, input, said })
    }

    /// A Python program; `None`, said aloud, where there is no Python.
    fn python(script: &str, path: &Path) -> Option<Program> {
        let works = Command::new("python3").args(["-c", "import mmap"]).status();
        if !works.is_ok_and(|status| status.success()) {
            skipped("there is no python3 to map files with");
            return None;
        }
        Program::start(Command::new("python3").args(["-u", "-c", script]).arg(path))
    }

    fn line(&self) -> String {
        self.said.recv_timeout(PATIENCE).expect("the program says something")
    }

    /// Lets it go on from where it waits for a line.
    fn go_on(&mut self) {
        self.input.as_mut().unwrap().write_all(b"\n").unwrap();
    }

    fn end(&mut self) -> ExitStatus {
        self.input = None;
        let ended = loop {
            if let Err(error) = self.said.recv_timeout(PATIENCE) {
                break error;
            }
        };
        assert_eq!(ended, mpsc::RecvTimeoutError::Disconnected, "the program ends");
        self.child.wait().unwrap()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A heading as a test is named.
fn test_name(heading: &str) -> String {
    let words = heading.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join("_").to_lowercase()
}

fn tests_of(source: &str) -> impl Iterator<Item = String> {
    let after = source.split("#[test]").skip(1);
    after.filter_map(|rest| Some(rest.split_once("fn ")?.1.split_once('(')?.0.to_owned()))
}

#[test]
fn every_heading_has_its_test_and_every_test_its_heading() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("SEMANTICS.md")).unwrap();
    let headings: Vec<String> =
        text.lines().filter_map(|line| line.strip_prefix("## ")).map(test_name).collect();
    let mut tests = Vec::new();
    for entry in fs::read_dir(root.join("tests/it/semantics")).unwrap() {
        tests.extend(tests_of(&fs::read_to_string(entry.unwrap().path()).unwrap()));
    }
    let set = |names: &[String]| names.iter().cloned().collect::<BTreeSet<_>>();
    assert_eq!(set(&headings), set(&tests));
    assert_eq!((headings.len(), tests.len()), (set(&headings).len(), set(&headings).len()), "each once");
    assert!(headings.len() > 20, "the file was read");
}
