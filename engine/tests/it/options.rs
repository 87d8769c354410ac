//! Options from flags, environment and a file; help, completions, manual pages; the log; the counters.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    process::{Command, Output},
};

use rustix::process::Signal;
use serde_json::Value;

use crate::{
    process::{Counters, Lines, Ready, command, failure, free_address, misuse, start},
    rig::Peer,
};

fn engine() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wormhole-engine"));
    for variable in
        ["WORMHOLE_CONFIG", "WORMHOLE_LISTEN", "WORMHOLE_LOG", "WORMHOLE_STATE_DIR", "NOTIFY_SOCKET"]
    {
        command.env_remove(variable);
    }
    command
}

fn run(arguments: &[&str]) -> Output {
    engine().args(arguments).output().unwrap()
}

fn stdout(output: Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_host_of_a_file_alone() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir_all(at("data/films")).unwrap();
    fs::write(at("data/films/kept"), b"kept").unwrap();
    fs::write(at("data/films/left.tmp"), b"left out").unwrap();
    let text = "listen = \"127.0.0.1:0\"\nstate_dir = \"state\"\nticket_file = \"the.ticket\"\nlog = \"warn\"\n\
        [limits]\nmounts = 3\n[[share]]\npath = \"data/films\"\nexclude = [\"*.tmp\"]\n";
    fs::write(at("host.toml"), text).unwrap();
    let mut host = start(
        engine()
            .args(["host", "--log", "info", "--config"])
            .arg(at("host.toml"))
            .env("WORMHOLE_MAX_MOUNTS", "2")
            .env("WORMHOLE_LOG", "error"),
    );
    let mut log = Lines::of(host.0.stderr.take().unwrap());
    // The flag's level, not the environment's or the file's.
    log.until("ready");
    let ticket = wire::Ticket::parse(&fs::read_to_string(at("the.ticket")).unwrap()).unwrap();
    let peer = Peer::connect(ticket.clone()).unwrap();
    assert_eq!(peer.read_all("kept").unwrap(), b"kept");
    assert!(peer.read_all("left.tmp").is_err(), "the file's pattern holds");
    let config = at("host.toml");
    let listed = stdout(run(&["ticket", "list", "--json", "--config", config.to_str().unwrap()]));
    assert!(listed.contains(&ticket.claims.id.to_string()), "the file names the state directory: {listed}");
    let status = stdout(run(&["status", "--json", "--config", config.to_str().unwrap()]));
    let status: Value = serde_json::from_str(&status).unwrap();
    let mounts = status["limits"].as_array().and_then(|limits| {
        limits.iter().find(|limit| limit["name"].as_str().is_some_and(|name| name.contains("mounts")))
    });
    assert!(mounts.is_none_or(|mounts| mounts.to_string().contains('2')), "the environment's: {status}");
    host.signal(Signal::TERM);
    assert_eq!(host.0.wait().unwrap().code(), Some(0));
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("host.toml");
    let path = file.to_str().unwrap();
    let with = |text: &str| {
        fs::write(&file, text).unwrap();
        misuse(&run(&["host", "--config", path]))
    };
    assert_eq!(
        with("# limits\n\n[limits]\nmounts = \"many\"\n"),
        format!("wormhole-engine: {path}:4: limits.mounts: \"many\" is no whole number\n")
    );
    assert_eq!(
        with("[limits]\nbandwith = \"1GB/s\"\n"),
        format!("wormhole-engine: {path}:2: limits.bandwith: no such key; did you mean bandwidth?\n")
    );
    assert_eq!(
        with("[[share]]\nname = \"a/b\"\npath = \"/\"\n"),
        format!("wormhole-engine: {path}:2: share[1].name: \"a/b\" cannot be a share's name\n")
    );
    let missing = with("[[share]]\nname = \"a\"\n");
    assert!(missing.contains(":1: share[1]: missing field `path`"), "{missing}");
    assert!(with("memory = \"1MiB\"").contains(":1: memory: \"1MiB\" is not from 8MiB to 64GiB"));
    assert!(with("listen = [\"x\"]").contains(":1: listen: \"x\" is no address"));
    assert!(with("").contains("no folder to serve"));
    assert!(failure(&run(&["host", "--config", "/nonexistent/h.toml"])).contains("/nonexistent/h.toml"));
    let variable = misuse(&engine().args(["host", "/"]).env("WORMHOLE_MAX_MOUNTS", "none").output().unwrap());
    assert_eq!(variable, "wormhole-engine: WORMHOLE_MAX_MOUNTS: \"none\" is no whole number\n");
    let flag = misuse(&run(&["host", "/tmp", "--bandwidth", "10Mb/s"]));
    assert!(flag.starts_with("wormhole-engine: --bandwidth: \"10Mb/s\" has no known unit"), "{flag}");
    let limits = misuse(&run(&["host", "/tmp", "--max-requests", "9", "--max-mount-requests", "10"]));
    assert!(limits.contains("10 requests of each mount at once: give 1 to 9"), "{limits}");
    let state = folder.path().join("state");
    let pattern = ["host", "/tmp", "--exclude", "[a", "--state-dir", state.to_str().unwrap()];
    assert!(misuse(&run(&pattern)).contains("\"[a\""));
    let log = misuse(&run(&["host", "/tmp", "--log", "a=b=c"]));
    assert!(log.contains("--log: \"a=b=c\" is no level"), "{log}");
}

#[test]
fn the_log_is_json_where_asked() {
    let (dir, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut command = command(state.path());
    let host = Ready::start(command.arg(dir.path()).env("WORMHOLE_LOG_FORMAT", "json"));
    let ready: Value = serde_json::from_str(&host.line).unwrap();
    assert_eq!((&ready["level"], &ready["message"]), (&Value::from("INFO"), &Value::from("ready")));
    assert_eq!(ready["ticket"], host.ticket.claims.id.to_string());
    drop(Peer::connect(host.ticket.clone()).unwrap());
    for line in host.end().lines() {
        let event: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(event["timestamp"].is_string() && event["message"].is_string(), "{line}");
    }
}

#[test]
fn the_counters_are_those_of_the_document() {
    let (dir, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::write(dir.path().join("f"), vec![1; 300_000]).unwrap();
    let address = free_address();
    let mut command = command(state.path());
    let host = Ready::start(command.arg(dir.path()).arg("--metrics").arg(address.to_string()));
    let peer = Peer::connect(host.ticket.clone()).unwrap();
    assert_eq!(peer.read_all("f").unwrap().len(), 300_000);
    let state = state.path().to_str().unwrap();
    stdout(run(&["ticket", "new", "--label", "x", "--state-dir", state]));
    stdout(run(&["ticket", "revoke", "x", "--state-dir", state]));
    let counters = Counters::of(address);
    let served: BTreeSet<&str> = counters.names().collect();
    let document = include_str!("../../METRICS.md");
    let documented: BTreeSet<&str> =
        document.lines().filter_map(|line| line.strip_prefix("- `")?.split('`').next()).collect();
    assert_eq!(served, documented);
    for (name, expected) in
        [("host_sessions", 1.0), ("host_read_bytes", 300_000.0), ("host_tickets_revoked", 1.0)]
    {
        assert!((counters.value(name) - expected).abs() < 0.5, "{name} {}", counters.value(name));
    }
    drop(peer);
    host.end();
}

#[test]
fn help_teaches_by_topic() {
    let list = stdout(run(&["help", "topics"]));
    let topics: Vec<&str> =
        list.lines().filter_map(|line| line.strip_prefix("  ")?.split(' ').next()).collect();
    assert!(topics.len() >= 9, "{list}");
    for topic in topics {
        let page = stdout(run(&["help", topic]));
        assert!(page.lines().count() > 5, "{topic}: {page}");
        assert_eq!(page.lines().find(|line| line.chars().count() > 104), None, "{topic}");
    }
    assert!(stdout(run(&["help", "host"])).contains("--max-mount-bytes"));
    assert!(stdout(run(&["help", "ticket", "new"])).contains("--expires"));
    let unknown = misuse(&run(&["help", "firewal"]));
    assert!(unknown.contains("did you mean `wormhole-engine help firewall`?"), "{unknown}");
    let limits = stdout(run(&["help", "limits"]));
    for flag in ["--max-mounts", "--bandwidth", "--mount-bandwidth", "--handshakes-burst"] {
        assert!(limits.contains(flag), "{flag}");
    }
}

#[test]
fn shells_take_the_completions_and_man_the_pages() {
    let folder = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = stdout(run(&["completions", shell]));
        assert!(script.contains("max-mounts"), "{shell}");
        if shell == "bash" {
            let file = folder.path().join("engine.bash");
            fs::write(&file, &script).unwrap();
            check("bash", &["-n"], &file);
        }
    }
    let pages = folder.path().join("man");
    stdout(run(&["man", "--out", pages.to_str().unwrap()]));
    for page in [
        "wormhole-engine.1",
        "wormhole-engine-host.1",
        "wormhole-engine-ticket-new.1",
        "wormhole-engine-help-limits.1",
    ] {
        let text = fs::read_to_string(pages.join(page)).unwrap();
        assert!(text.contains(&format!(".TH {} 1", page.strip_suffix(".1").unwrap())), "{text}");
        assert!(text.contains("\n.SH NAME\n") && text.contains("\n.SH DESCRIPTION\n"), "{text}");
        check("groff", &["-man", "-ww", "-z", "-Tutf8"], &pages.join(page));
    }
}

/// Runs a checker that has nothing to say about a good file; skips aloud where it is not installed.
#[expect(clippy::print_stderr, reason = "a skipped check says so")]
fn check(program: &str, arguments: &[&str], file: &Path) {
    match Command::new(program).args(arguments).arg(file).output() {
        Ok(output) => {
            assert!(output.status.success(), "{output:?}");
            assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{}", file.display());
        }
        Err(_) => eprintln!("SKIPPED: {program} is not installed"),
    }
}
