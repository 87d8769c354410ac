//! What the commands say, and their exit codes: 0 done, 1 failed, 2 wrong usage.

use std::{fs, process::Output};

use serde_json::Value;

use crate::rig::{Rig, can_mount};

/// The one line of a failure.
fn line(output: &Output) -> String {
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.starts_with("wormhole: "), "{text}");
    assert_eq!(output.stdout, b"");
    text
}

#[test]
fn failures_are_one_line_that_says_what_to_do() {
    if !can_mount() {
        return;
    }
    let rig = Rig::new(|root| fs::write(root.join("a"), b"x").unwrap());
    let ticket = rig.ticket_argument();
    let folder = rig.folder.path().to_str().unwrap();
    let absent = format!("{folder}/absent");
    let file = format!("{folder}/a");
    let empty = tempfile::tempdir().unwrap();
    let empty = empty.path().to_str().unwrap();
    let cases: [(&[&str], &str); 10] = [
        (&["mount", &ticket, &absent], "create the mountpoint first"),
        (&["mount", &ticket, &file], "is not a folder"),
        (&["mount", &ticket, folder], "is not empty"),
        (&["mount", &ticket, "/proc"], "already a mountpoint"),
        (&["mount", &format!("@{absent}"), empty], "ticket file"),
        (&["mount", "nonsense", empty], "this is not a ticket"),
        (&["mount", "wh1_AAAA", empty], "damaged"),
        (&["mount", "--share", "other", &ticket, empty], "it opens share"),
        (&["unmount", folder], "is not a wormhole mount"),
        (&["status", folder], "no mount of this user"),
    ];
    for (arguments, expected) in cases {
        let output = rig.run(arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        let line = line(&output);
        assert!(line.contains(expected), "{arguments:?}: {line}");
    }
}

#[test]
fn another_host_key_a_forged_secret_and_a_silent_host_are_told_apart() {
    if !can_mount() {
        return;
    }
    let mut rig = Rig::new(|_| {});
    let text = fs::read_to_string(&rig.ticket_argument()[1..]).unwrap();
    let good = wire::Ticket::parse(&text).unwrap();
    let empty = tempfile::tempdir().unwrap();
    let empty = empty.path().to_str().unwrap();
    let mut other_key = good.clone();
    other_key.host_key[5] ^= 1;
    let output = rig.run(&["mount", &other_key.to_string(), empty]);
    assert!(line(&output).contains("not the host of this ticket"), "{}", line(&output));
    let mut forged = good.clone();
    forged.secret = wire::auth::Secret::from_bytes([7; 32]);
    let output = rig.run(&["mount", &forged.to_string(), empty]);
    assert!(line(&output).contains("refused this ticket"), "{}", line(&output));
    let mut over = forged;
    over.claims.expires = 1_000_000_000;
    let output = rig.run(&["mount", &over.to_string(), empty]);
    assert!(line(&output).contains("expired on 2001-09-09T01:46:40Z"), "{}", line(&output));
    rig.stop_host();
    let output = rig.run(&["mount", &good.to_string(), empty]);
    assert_eq!(output.status.code(), Some(1));
    assert!(line(&output).contains("no host answered at"), "{}", line(&output));
}

#[test]
fn wrong_usage_has_its_own_exit_code() {
    let rig = Rig::new(|_| {});
    let ticket = rig.ticket_argument();
    for arguments in [
        &["bogus"][..],
        &[],
        &["mount", "--bogus", &ticket, "/tmp"],
        &["mount", "-o", "rw", &ticket, "/tmp"],
        &["mount", "-o", "bogus", &ticket, "/tmp"],
        &["mount", "--memory", "1MiB", &ticket, "/tmp"],
        &["mount", "--deadline", "never", &ticket, "/tmp"],
        &["mount", &ticket],
    ] {
        assert_eq!(rig.run(arguments).status.code(), Some(2), "{arguments:?}");
    }
    let help = rig.run(&["mount", "--help"]);
    assert_eq!(help.status.code(), Some(0));
    assert!(String::from_utf8(help.stdout).unwrap().contains("Examples:"));
}

#[test]
fn status_tells_of_a_known_read() {
    if !can_mount() {
        return;
    }
    const LEN: usize = 5_000_000;
    let rig = Rig::new(|root| fs::write(root.join("a"), vec![b'a'; LEN]).unwrap());
    let mount = rig.mount();
    assert_eq!(fs::read(mount.join("a")).unwrap().len(), LEN);
    let path = mount.path().canonicalize().unwrap();
    let output = rig.run(&["status", "--json", path.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0));
    let reports: Value = serde_json::from_slice(&output.stdout).unwrap();
    let report = &reports[0];
    assert_eq!(report["mountpoint"], path.to_str().unwrap());
    assert_eq!(report["share"], "share");
    assert_eq!(report["pid"], mount.pid());
    assert_eq!(report["session"]["connected"], true);
    assert_eq!(report["session"]["reconnects"], 0);
    assert_eq!(report["reads"]["host_bytes"], LEN, "each byte came once");
    assert_eq!(report["reads"]["replied_bytes"], LEN);
    assert!(report["session"]["received_bytes"].as_u64().unwrap() > LEN as u64);
    assert!(report["session"]["rtt_us"].as_u64().unwrap() > 0);
    assert!(report["memory"]["capacity_bytes"] == 128 << 20);
    assert_eq!((&report["errors"], &report["stale"]), (&Value::from(0), &Value::from(0)));
    let text = String::from_utf8(rig.run(&["status"]).stdout).unwrap();
    assert!(text.contains(path.to_str().unwrap()) && text.contains("connected to 127.0.0.1:"), "{text}");
}

#[test]
fn options_of_an_fstab_line_are_taken() {
    if !can_mount() {
        return;
    }
    let rig = Rig::new(|_| {});
    let mount = rig.mount_with(&["-o", "ro,noexec,_netdev,x-systemd.automount", "--allow-other"]);
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let line = table.lines().find(|line| line.contains(mount.path().to_str().unwrap())).unwrap();
    for part in ["ro,", "nosuid", "nodev", "noexec", "noatime", "- fuse.wormhole wormhole", "allow_other"] {
        assert!(line.contains(part), "{part}: {line}");
    }
}
