//! The key log of both programs, and what Wireshark shows with it and `profiles/wireshark/wormhole.lua`: of a real capture
//! of a real mount. Skipped aloud where dumpcap or tshark is missing, or loopback cannot be captured.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;

use crate::{
    failure::{engine, until},
    rig::{Mount, PATIENCE, can_mount, finish, skipped},
};

/// Read over the wire in whole, by one program from front to back.
const FILE_BYTES: usize = 300_000;
/// A process that is ended when the test is, also when it fails.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Fails when it has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A host that logs its keys, as a process, with what it serves and writes in one folder.
struct Logging {
    folder: TempDir,
    port: u16,
    _host: Running,
}

impl Logging {
    fn start() -> Option<Logging> {
        let engine = engine().filter(|_| can_mount())?;
        let folder = TempDir::new().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("share")).unwrap();
        let bytes: Vec<u8> = (0..FILE_BYTES).map(|at| u8::try_from(at % 251).unwrap()).collect();
        fs::write(at("share/film.bin"), bytes).unwrap();
        fs::write(at("share/there"), b"there").unwrap();
        let host = Command::new(engine)
            .args(["host", "--listen", "127.0.0.1:0", "--state-dir"])
            .arg(at("state"))
            .arg("--ticket-file")
            .arg(at("ticket"))
            .arg(at("share"))
            .env("SSLKEYLOGFILE", at("host.keys"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(at("host.log")).unwrap())
            .spawn()
            .unwrap();
        let host = Running(host);
        until("the host serves", || fs::metadata(at("ticket")).is_ok_and(|file| file.len() > 0));
        let ticket = wire::Ticket::parse(&fs::read_to_string(at("ticket")).unwrap()).unwrap();
        let port = ticket.addresses[0].rsplit(':').next().unwrap().parse().unwrap();
        Some(Logging { folder, port, _host: host })
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn wormhole(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wormhole"));
        command.env("XDG_RUNTIME_DIR", self.folder.path()).env("XDG_CACHE_HOME", self.folder.path());
        command.env("SSLKEYLOGFILE", self.at("mount.keys")).stdin(Stdio::null());
        command
    }

    fn mount(&self) -> Mount {
        Mount::start(self.wormhole(), &format!("@{}", self.at("ticket").display()), &["--log", "warn"])
    }
}

/// dumpcap on loopback, once it captures; `None` where it cannot, which is said.
fn capture(port: u16, into: &Path) -> Option<Running> {
    let mut command = Command::new("dumpcap");
    command.args(["-i", "lo", "-B", "16", "-f", &format!("udp port {port}"), "-w"]).arg(into);
    let Ok(child) = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn() else {
        skipped("there is no dumpcap: apt-get install tshark");
        return None;
    };
    let mut dumpcap = Running(child);
    let said = BufReader::new(dumpcap.0.stderr.take().unwrap());
    let (send, receive) = mpsc::channel();
    thread::spawn(move || {
        for line in said.lines().map_while(Result::ok) {
            let _ = send.send(line);
        }
    });
    // It names the file once the device is open; without the right to open it, it ends.
    loop {
        match receive.recv_timeout(PATIENCE) {
            Ok(line) if line.starts_with("File:") => return Some(dumpcap),
            Ok(_) => {}
            Err(error) => {
                skipped(&format!("dumpcap cannot capture on loopback: {error}"));
                return None;
            }
        }
    }
}

/// What tshark prints of a capture, with the dissector and these keys.
fn tshark(capture: &Path, keys: &Path, arguments: &[&str]) -> String {
    let dissector = Path::new(env!("CARGO_MANIFEST_DIR")).join("../profiles/wireshark/wormhole.lua");
    // Its own user's preferences and plugins stay out.
    let mut command = Command::new("tshark");
    command.env("HOME", keys.parent().unwrap()).arg("-X").arg(format!("lua_script:{}", dissector.display()));
    command
        .arg("-o")
        .arg(format!("tls.keylog_file:{}", keys.display()))
        .arg("-r")
        .arg(capture)
        .args(arguments);
    let output = finish(&mut command);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && !err.contains("Lua") && !out.contains("Lua Error"), "{err}{out}");
    out.into_owned()
}

/// The values of one field, of all messages in the frames that pass the filter.
fn values(capture: &Path, keys: &Path, filter: &str, field: &str) -> Vec<String> {
    let name = format!("wormhole.{field}");
    let out = tshark(capture, keys, &["-Y", filter, "-T", "fields", "-E", "aggregator=;", "-e", &name]);
    out.lines()
        .flat_map(|line| line.split(';'))
        .filter(|value| !value.is_empty())
        .map(str::to_owned)
        .collect()
}

fn secrets(path: &Path) -> BTreeSet<String> {
    fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn wireshark_shows_what_crossed_the_wire() {
    let Some(logging) = Logging::start() else { return };
    if Command::new("tshark").arg("--version").output().is_err() {
        skipped("there is no tshark: apt-get install tshark");
        return;
    }
    let packets = logging.at("packets.pcapng");
    let Some(mut dumpcap) = capture(logging.port, &packets) else { return };
    let mut mount = logging.mount();
    assert!(fs::metadata(mount.join("absent")).is_err());
    let read = fs::read(mount.join("film.bin")).unwrap();
    assert_eq!(read.len(), FILE_BYTES);
    assert_eq!(fs::read_dir(mount.path()).unwrap().count(), 2);
    mount.signal(Signal::SIGTERM);
    assert_eq!(mount.exit_code(), Some(0));
    kill(Pid::from_raw(i32::try_from(dumpcap.0.id()).unwrap()), Signal::SIGINT).unwrap();
    assert!(dumpcap.0.wait().unwrap().success());

    // Both ends have the keys of the session, for their users alone, and said so.
    let keys = logging.at("mount.keys");
    assert_eq!(secrets(&keys), secrets(&logging.at("host.keys")));
    for side in ["mount.keys", "host.keys"] {
        assert_eq!(fs::metadata(logging.at(side)).unwrap().permissions().mode() & 0o777, 0o600, "{side}");
    }
    let log = fs::read_to_string(logging.at("host.log")).unwrap();
    assert!(log.contains("WARN") && log.contains("SSLKEYLOGFILE is set"), "{log}");

    shows(&packets, &keys);
}

/// What was asked and answered, as tshark names it.
fn shows(packets: &Path, keys: &Path) {
    let values = |filter: &str, field: &str| values(packets, keys, filter, field);
    assert_eq!(values("wormhole.malformed", "stream"), Vec::<String>::new());
    let one = |filter: &str, field: &str| {
        let found: BTreeSet<String> = values(filter, field).into_iter().collect();
        assert_eq!(found.len(), 1, "{filter} {field}: {found:?}");
        found.into_iter().next().unwrap()
    };
    assert_eq!(one("wormhole.proof", "version_max"), wire::version::PROTOCOL_VERSION.to_string());
    assert_eq!(one("wormhole.session", "version"), wire::version::PROTOCOL_VERSION.to_string());
    assert_eq!(one("wormhole.session", "share_name"), "share");

    let text = tshark(packets, keys, &["-V", "-Y", "wormhole", "-O", "wormhole"]);
    let names = ["Hello", "Welcome", "Statfs", "demand", "metadata", "Error: not found"];
    for name in names {
        assert!(text.contains(name), "{name} is not in {text}");
    }
    assert!(text.contains("Request In: ") || text.contains("Request in: "), "{text}");

    // Each reply is on the stream of its request, and the data is the file's.
    let asked: BTreeSet<String> = values("wormhole.class", "stream").into_iter().collect();
    let answered: BTreeSet<String> = values("wormhole.bound", "stream").into_iter().collect();
    assert!(answered.is_subset(&asked) && answered.len() >= 5, "{asked:?} {answered:?}");
    let bytes: usize =
        values("wormhole.data_len", "data_len").iter().map(|len| len.parse::<usize>().unwrap()).sum();
    assert_eq!(bytes, FILE_BYTES);
    assert!(values("wormhole.class == 4", "path").contains(&"film.bin".to_owned()));
}
