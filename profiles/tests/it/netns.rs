//! Namespaces and the line between them. Skipped aloud where they cannot be made.

use std::process::{Command, Stdio};

use wormhole_profiles::netns::{End, Pair, PairConfig};

/// `None` where this user may not make namespaces.
#[allow(clippy::print_stdout, reason = "a skip is said aloud")]
fn pair(config: PairConfig) -> Option<Pair> {
    match Pair::new(config) {
        Ok(pair) => Some(pair),
        Err(why) => {
            println!("skipped: {why}");
            None
        }
    }
}

fn output(mut command: Command) -> String {
    String::from_utf8(command.stderr(Stdio::inherit()).output().unwrap().stdout).unwrap()
}

fn names() -> String {
    let mut list = Command::new("ip");
    list.args(["netns", "list"]);
    output(list)
}

#[test]
fn a_pair_has_its_mtu_and_rate_and_leaves_nothing() {
    let Some(pair) = pair(PairConfig { mtu_bytes: 1400, rate_bps: Some(500_000_000) }) else { return };
    let mut show = pair.command(End::Mount, "ip");
    show.args(["link", "show", "eth"]);
    assert!(output(show).contains("mtu 1400"));
    let mut show = pair.command(End::Host, "tc");
    show.args(["qdisc", "show", "dev", "eth"]);
    assert!(output(show).contains("tbf") && pair.address(End::Host) != pair.address(End::Mount));
    let mine = [End::Host, End::Mount].map(|end| pair.name(end).to_owned());
    assert!(mine.iter().all(|name| names().contains(name)));
    drop(pair);
    assert!(!mine.iter().any(|name| names().contains(name)));
}

#[test]
fn commands_at_both_ends_reach_each_other_and_the_exit_code_is_the_mounts() {
    if pair(PairConfig::default()).is_none() {
        return;
    }
    let mut veth = Command::new(env!("CARGO_BIN_EXE_wormhole-veth"));
    // Nobody listens: a refusal is an answer, and from the other end.
    let connect = "bash -c 'echo > /dev/tcp/$HOST_ADDRESS/9' 2>&1 | grep -q refused";
    veth.args(["--host", "sleep 60 & wait", "--mount", &format!("echo $MOUNT_ADDRESS; {connect} && exit 7")]);
    let output = veth.output().unwrap();
    assert_eq!(output.status.code(), Some(7));
    assert!(String::from_utf8_lossy(&output.stdout).contains("10.77.0.2"));
}
