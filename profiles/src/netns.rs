//! Two network namespaces joined by a pair of virtual Ethernet devices: a fast line with a real MTU. Needs root.
//!
//! For rates above what the relay of [`crate::link`] carries. The kernel moves the packets, so it costs what a local line
//! costs; it adds no delay and loses nothing. iproute2 does the work: ip-netns(8), ip-link(8), tc-tbf(8).

use std::io;
use std::net::Ipv4Addr;
use std::process::{self, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// Both namespaces are private: no address of the machine is in the way of these.
const ADDRESSES: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 77, 0, 1), Ipv4Addr::new(10, 77, 0, 2)];
/// The least burst of a limited line: two of the 64 KiB packets that the kernel segments late.
const BURST_BYTES_MIN: u64 = 128 << 10;
/// Packets wait for a limited line for so long at most.
const QUEUE_MS: u64 = 10;

/// An end of the pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The end of the one who serves.
    Host,
    /// The end of the one who mounts.
    Mount,
}

/// A pair to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PairConfig {
    /// Of both devices.
    pub mtu_bytes: u32,
    /// Bits a second in each direction by a token bucket; `None`: as fast as the kernel.
    pub rate_bps: Option<u64>,
}

impl Default for PairConfig {
    fn default() -> Self {
        Self { mtu_bytes: 1500, rate_bps: None }
    }
}

/// Why there is no pair.
#[derive(Debug, thiserror::Error)]
pub enum PairError {
    /// iproute2 is not installed.
    #[error("run `{command}` (iproute2)")]
    Tool {
        /// What was run.
        command: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The kernel or iproute2 refused, for want of root or of a module most often.
    #[error("`{command}` failed: {said}")]
    Refused {
        /// What was run.
        command: String,
        /// Its standard error.
        said: String,
    },
}

/// Two namespaces and the line between them, which go when this is dropped.
///
/// Their names hold this process's id, and only these are removed. What a process killed with SIGKILL leaves is
/// seen in `ip netns list` as `wormhole-<pid>-...`. Processes within must have ended first: they would keep a nameless
/// namespace alive.
#[derive(Debug)]
pub struct Pair {
    names: [String; 2],
}

impl Pair {
    /// Makes both ends and brings them up.
    ///
    /// # Errors
    ///
    /// The command that failed and what it said; what was made until then is removed.
    pub fn new(config: PairConfig) -> Result<Self, PairError> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = |end| format!("wormhole-{}-{number}-{end}", process::id());
        // From here on `drop` removes what is there.
        let pair = Self { names: [name("host"), name("mount")] };
        let [host, mount] = &pair.names;
        run("ip", &format!("netns add {host}"))?;
        run("ip", &format!("netns add {mount}"))?;
        let mtu = config.mtu_bytes;
        run(
            "ip",
            &format!("-n {host} link add eth mtu {mtu} type veth peer name eth mtu {mtu} netns {mount}"),
        )?;
        for (name, address) in pair.names.iter().zip(ADDRESSES) {
            run("ip", &format!("-n {name} addr add {address}/24 dev eth"))?;
            run("ip", &format!("-n {name} link set lo up"))?;
            run("ip", &format!("-n {name} link set eth up"))?;
            if let Some(rate_bps) = config.rate_bps {
                // A burst of one millisecond, or the bucket would not fill as fast as it is emptied.
                let burst = (rate_bps / 8 / 1000).max(BURST_BYTES_MIN);
                let limit = burst + (rate_bps / 8 * QUEUE_MS / 1000).max(BURST_BYTES_MIN);
                let bucket = format!("tbf rate {rate_bps}bit burst {burst} limit {limit}");
                run("tc", &format!("-n {name} qdisc add dev eth root {bucket}"))?;
            }
        }
        Ok(pair)
    }

    /// The name of an end's namespace, for `ip -n`.
    pub fn name(&self, end: End) -> &str {
        &self.names[index(end)]
    }

    /// The address of an end.
    pub fn address(&self, end: End) -> Ipv4Addr {
        ADDRESSES[index(end)]
    }

    /// A command that runs `program` at an end.
    pub fn command(&self, end: End, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.names[index(end)], program]);
        command
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        // The devices go with the first; a name that was not made yet is not there.
        for name in &self.names {
            let _ = run("ip", &format!("netns del {name}"));
        }
    }
}

fn index(end: End) -> usize {
    match end {
        End::Host => 0,
        End::Mount => 1,
    }
}

fn run(tool: &str, arguments: &str) -> Result<(), PairError> {
    let command = format!("{tool} {arguments}");
    let output = Command::new(tool).args(arguments.split(' ')).stdin(Stdio::null()).output();
    match output {
        Err(source) => Err(PairError::Tool { command, source }),
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
            Err(PairError::Refused { command, said })
        }
    }
}
