//! Options from flags, environment and a file; help, completions, manual pages; the counters.

use std::{
    collections::BTreeSet,
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Command, Output},
};

use serde_json::Value;

use crate::rig::{PATIENCE, Rig, can_mount, finish, skipped};

fn line(output: &Output, code: i32) -> String {
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(code), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    text
}

#[test]
fn flags_win_over_the_environment_and_that_over_the_file() {
    if !can_mount() {
        return;
    }
    let rig = Rig::new(|_| {});
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mount.toml");
    fs::write(
        &file,
        "deadline = \"7s\"\nmemory = \"32MiB\"\non_disconnect = \"stale\"\nlog_file = \"mount.log\"\n",
    )
    .unwrap();
    let mut command = rig.wormhole();
    command.env("WORMHOLE_CONFIG", &file).env("WORMHOLE_DEADLINE", "8s").env("WORMHOLE_MEMORY", "48MiB");
    let mount = crate::rig::Mount::start(command, &rig.ticket_argument(), &["--memory", "64MiB"]);
    let output = rig.run(&["status", "--json", mount.path().to_str().unwrap()]);
    let reports: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(reports[0]["memory"]["capacity_bytes"], 64 << 20, "the flag");
    assert_eq!(reports[0]["deadline_ms"], 8_000, "the environment");
    assert_eq!(reports[0]["on_disconnect"], "stale", "the file");
    assert!(folder.path().join("mount.log").exists(), "relative to the file");
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    let rig = Rig::new(|_| {});
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mount.toml");
    let path = file.to_str().unwrap();
    let ticket = rig.ticket_argument();
    let run = |text: &str| {
        fs::write(&file, text).unwrap();
        rig.run(&["mount", "--config", path, &ticket, "/mnt"])
    };
    let soon = line(&run("# a mount\ndeadline = \"soon\"\n"), 2);
    assert_eq!(soon, format!("wormhole: {path}:2: deadline: \"soon\" is no time: write 30s, 500ms\n"));
    let near = line(&run("memroy = \"1GiB\"\n"), 2);
    assert_eq!(near, format!("wormhole: {path}:1: memroy: no such key; did you mean memory?\n"));
    let option = line(&run("options = [\"ro\", \"direct_io\"]\n"), 2);
    assert!(option.contains(":1: options: \"direct_io\" is no known option"), "{option}");
    let absent = line(&rig.run(&["mount", "--config", "/nonexistent/m.toml", &ticket, "/mnt"]), 1);
    assert!(absent.contains("/nonexistent/m.toml cannot be read"), "{absent}");
    let mut command = rig.wormhole();
    command.env("WORMHOLE_ON_DISCONNECT", "panic").args(["mount", &ticket, "/mnt"]);
    let variable = line(&finish(&mut command), 2);
    assert!(variable.starts_with("wormhole: WORMHOLE_ON_DISCONNECT: \"panic\""), "{variable}");
    let filter = line(&rig.run(&["mount", "--log", "info,a=loud", &ticket, "/mnt"]), 2);
    assert!(filter.starts_with("wormhole: --log: \"info,a=loud\" is no level"), "{filter}");
}

#[test]
fn help_teaches_by_topic() {
    let rig = Rig::new(|_| {});
    let help = |words: &[&str]| rig.run(&[&["help"], words].concat());
    let list = String::from_utf8(help(&["topics"]).stdout).unwrap();
    let topics: Vec<&str> =
        list.lines().filter_map(|line| line.strip_prefix("  ")?.split(' ').next()).collect();
    assert!(topics.len() >= 9, "{list}");
    for topic in topics {
        let page = String::from_utf8(help(&[topic]).stdout).unwrap();
        assert!(page.lines().count() > 5, "{topic}: {page}");
        let wide = page.lines().find(|line| line.chars().count() > 104);
        assert_eq!(wide, None, "{topic}");
    }
    assert!(String::from_utf8(help(&["mount"]).stdout).unwrap().contains("--on-disconnect"));
    let fails = String::from_utf8(help(&["disconnect"]).stdout).unwrap();
    assert!(fails.contains("noticed about 5 s"), "{fails}");
    let unknown = line(&help(&["disconect"]), 2);
    assert!(unknown.contains("did you mean `wormhole help disconnect`?"), "{unknown}");
}

#[test]
fn shells_take_the_completions_and_man_the_pages() {
    let rig = Rig::new(|_| {});
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = rig.run(&["completions", shell]);
        assert_eq!(script.status.code(), Some(0), "{shell}");
        let text = String::from_utf8(script.stdout).unwrap();
        assert!(text.contains("on-disconnect"), "{shell}");
        assert!(text.contains("troubleshooting") || !["bash", "zsh"].contains(&shell), "{shell}");
        if shell == "bash" {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("wormhole.bash");
            fs::write(&file, &text).unwrap();
            check("bash", &["-n"], &file);
        }
    }
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(rig.run(&["man", "--out", folder.path().to_str().unwrap()]).status.code(), Some(0));
    for page in ["wormhole.1", "wormhole-mount.1", "wormhole-status.1", "wormhole-help-disconnect.1"] {
        let path = folder.path().join(page);
        let text = fs::read_to_string(&path).unwrap();
        let title = page.strip_suffix(".1").unwrap();
        assert!(text.contains(&format!(".TH {title} 1")), "{text}");
        assert!(text.contains("\n.SH NAME\n") && text.contains("\n.SH DESCRIPTION\n"), "{text}");
        check("groff", &["-man", "-ww", "-z", "-Tutf8"], &path);
    }
}

/// Runs a checker that has nothing to say about a good file; skips aloud where it is not installed.
fn check(program: &str, arguments: &[&str], file: &Path) {
    match Command::new(program).args(arguments).arg(file).output() {
        Ok(output) => {
            assert!(output.status.success(), "{output:?}");
            assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{}", file.display());
        }
        Err(_) => skipped(&format!("{program} is not installed")),
    }
}

fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn the_counters_are_those_of_the_document() {
    if !can_mount() {
        return;
    }
    const LEN: usize = 3_000_000;
    let rig = Rig::new(|root| fs::write(root.join("a"), vec![b'a'; LEN]).unwrap());
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mount = rig.mount_with(&["--metrics", &address.to_string()]);
    assert_eq!(fs::read(mount.join("a")).unwrap().len(), LEN);
    assert_eq!(fs::read_dir(mount.path()).unwrap().count(), 1);
    let text = get(address, "/metrics");
    let served: BTreeSet<&str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    let document = include_str!("../../METRICS.md");
    let documented: BTreeSet<&str> =
        document.lines().filter_map(|line| line.strip_prefix("- `")?.split('`').next()).collect();
    assert_eq!(served, documented);
    for (value, name) in [(LEN, "mount_read_bytes"), (LEN, "mount_host_bytes"), (1, "mount_connected")] {
        assert!(text.contains(&format!("\n{name} {value}\n")), "{name}: {text}");
    }
    assert!(text.contains("mount_operation_seconds_count{operation=\"open\"} 1\n"), "{text}");
    assert!(text.contains("share=\"share\""), "{text}");
    assert!(
        get(address, "/").contains("/metrics") && get(address, "/etc/passwd").starts_with("HTTP/1.1 404 ")
    );
    let empty = tempfile::tempdir().unwrap();
    let ticket = rig.ticket_argument();
    let taken =
        rig.run(&["mount", "--metrics", &address.to_string(), &ticket, empty.path().to_str().unwrap()]);
    let taken = line(&taken, 1);
    assert!(taken.contains(&address.to_string()) && taken.contains("--metrics"), "{taken}");
}
