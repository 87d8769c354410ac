//! A network between host and mount that goes away, or renames the mount: a network namespace with a pair of veths.

use std::{
    fs::File,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use super::{Away, EIO, figure, pass, read_at, timed, until};
use crate::rig::{can_mount, skipped};

/// A namespace for the host, its link to this one, and an address on either side. Needs root.
struct Net {
    name: String,
    /// The first three numbers of the addresses.
    prefix: String,
}

impl Net {
    /// `None` where namespaces cannot be made, which is said.
    fn new(letter: char) -> Option<Net> {
        if !can_mount() {
            return None;
        }
        let pid = std::process::id();
        let prefix = format!("10.{}.{}", 200 + (u32::from(letter) + pid / 250) % 50, pid % 250);
        let net = Net { name: format!("wh{pid}{letter}"), prefix };
        let name = &net.name;
        let made = ip(&format!("netns add {name}"))
            && ip(&format!("link add {name}a type veth peer name {name}b netns {name}"))
            && ip(&format!("addr add {}/24 dev {name}a", net.address(1)))
            && ip(&format!("link set {name}a up"))
            && net.inside(&format!("addr add {}/24 dev {name}b", net.address(2)))
            && net.inside(&format!("link set {name}b up"));
        if !made {
            skipped("network namespaces cannot be made here (root and iproute2 are needed)");
        }
        made.then_some(net)
    }

    fn address(&self, last: u8) -> String {
        format!("{}.{last}", self.prefix)
    }

    fn inside(&self, what: &str) -> bool {
        ip(&format!("-n {} {what}", self.name))
    }

    fn host(&self) -> Option<Away> {
        let within: Vec<String> =
            ["ip", "netns", "exec", &self.name].iter().map(|&word| word.to_owned()).collect();
        Away::at(&format!("{}:4433", self.address(2)), &within, 128 << 20)
    }

    fn cut(&self) {
        assert!(self.inside(&format!("link set {}b down", self.name)));
    }

    fn mend(&self) {
        assert!(self.inside(&format!("link set {}b up", self.name)));
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        // What was not made is not there; the pair goes with one of the two.
        ip(&format!("link del {}a", self.name));
        ip(&format!("netns del {}", self.name));
    }
}

/// Whether `ip` did it.
fn ip(arguments: &str) -> bool {
    let mut command = Command::new("ip");
    command.args(arguments.split(' ')).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

#[test]
fn a_cut_of_ten_seconds_is_an_error_with_fail_alone() {
    let Some(net) = Net::new('c') else { return };
    let Some(away) = net.host() else { return };
    let (block, fail) = (away.mount(&[]), away.mount(&["--on-disconnect", "fail"]));
    let blocked = File::open(block.join("big")).unwrap();
    let failed = File::open(fail.join("big")).unwrap();
    read_at(&blocked, 0, 1 << 20).unwrap();
    read_at(&failed, 0, 1 << 20).unwrap();
    net.cut();
    let blocked = thread::spawn(move || timed(|| read_at(&blocked, 64 << 20, 32 << 20)));
    let failing = thread::spawn(move || (timed(|| read_at(&failed, 64 << 20, 4096)), failed));
    pass(Duration::from_secs(10));
    net.mend();
    let ((outcome, took), failed) = failing.join().unwrap();
    assert_eq!(outcome.unwrap_err().raw_os_error(), EIO);
    figure("cut, fail: I/O error after", took);
    assert!(took < Duration::from_secs(9), "{took:?}");
    let source = away.source("big");
    let (outcome, took) = blocked.join().unwrap();
    assert!(outcome.unwrap() == source[64 << 20..][..32 << 20]);
    figure("cut for 10 s, block: 32 MiB read after", took);
    assert!(took < Duration::from_secs(30), "{took:?}");
    assert_eq!(away.status(&block).errors, 0);
    until("with fail, reads go on", || read_at(&failed, 64 << 20, 4096).is_ok());
    assert!(read_at(&failed, 64 << 20, 4096).unwrap() == source[64 << 20..][..4096]);
}

#[test]
fn a_change_of_the_mounts_address_is_not_noticed() {
    let Some(net) = Net::new('a') else { return };
    let Some(away) = net.host() else { return };
    let mount = away.mount(&[]);
    let file = File::open(mount.join("big")).unwrap();
    read_at(&file, 0, 1 << 20).unwrap();
    assert!(ip(&format!("addr del {}/24 dev {}a", net.address(1), net.name)));
    assert!(ip(&format!("addr add {}/24 dev {}a", net.address(3), net.name)));
    let (bytes, took) = timed(|| read_at(&file, 1 << 20, 127 << 20));
    assert!(bytes.unwrap() == away.source("big")[1 << 20..]);
    let status = away.status(&mount);
    figure(&format!("127 MiB after a change of address, {} reconnects", status.session.reconnects), took);
    assert!(took < Duration::from_secs(30), "{took:?}");
    assert_eq!(status.errors, 0);
}
