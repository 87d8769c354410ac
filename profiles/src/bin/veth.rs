//! `wormhole-veth`: a command in each of two network namespaces, joined by a virtual Ethernet line.
#![forbid(unsafe_code)]

use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ExitCode, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Parser;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio::time;
use wormhole_profiles::netns::{End, Pair, PairConfig};
use wormhole_profiles::quantity;

/// How long a command may take to end after SIGTERM.
const PATIENCE: Duration = Duration::from_secs(5);

/// Two namespaces joined by a line of an MTU and a rate, a shell command in each.
///
/// Both commands see the addresses as $HOST_ADDRESS and $MOUNT_ADDRESS. When the mount's command ends, or on SIGINT,
/// SIGTERM or SIGHUP, the other gets SIGTERM, and the namespaces are removed. Needs root and iproute2.
#[derive(Debug, Parser)]
#[command(name = "wormhole-veth", version)]
struct Args {
    /// Runs in the background of the first namespace
    #[arg(long, value_name = "COMMAND")]
    host: String,
    /// Runs in the second one; its exit code is this program's
    #[arg(long, value_name = "COMMAND")]
    mount: String,
    /// MTU of the line in bytes
    #[arg(long, value_name = "BYTES", default_value_t = 1500)]
    mtu: u32,
    /// Bits a second in each direction: 10gbit [default: as fast as the kernel]
    #[arg(long, value_parser = quantity::rate_bps)]
    rate: Option<u64>,
}

fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    let runtime = Builder::new_current_thread().enable_io().enable_time().build()?;
    runtime.block_on(run(&args))
}

async fn run(args: &Args) -> anyhow::Result<ExitCode> {
    // From here on these end this program in order. Handlers and not a blocked mask, which commands would inherit.
    let mut signals = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()]
        .map(|kind| signal(kind).context("handle the signals that end this program"));
    let [Ok(interrupt), Ok(terminate), Ok(hangup)] = &mut signals else {
        bail!("cannot handle the signals that end this program: {signals:?}");
    };
    let pair = Pair::new(PairConfig { mtu_bytes: args.mtu, rate_bps: args.rate })?;
    let host = Running(shell(&pair, End::Host, &args.host)?);
    let mut mount = shell(&pair, End::Mount, &args.mount)?;
    let mount_group = mount.id();
    let (sender, mut ended) = oneshot::channel();
    let waiter = thread::Builder::new().name("mount".to_owned()).spawn(move || {
        let _ = sender.send(mount.wait());
    })?;
    let signal = tokio::select! {
        status = &mut ended => {
            let code = exit_code(status?.context("wait for the mount's command")?);
            drop((host, pair));
            return Ok(code);
        }
        _ = interrupt.recv() => Signal::SIGINT,
        _ = terminate.recv() => Signal::SIGTERM,
        _ = hangup.recv() => Signal::SIGHUP,
    };
    signal_group(mount_group, Signal::SIGTERM);
    // It has its time to unmount; then it must go, or the namespaces would stay.
    if time::timeout(PATIENCE, ended).await.is_err() {
        signal_group(mount_group, Signal::SIGKILL);
    }
    let _ = waiter.join();
    drop((host, pair));
    Ok(code_of(128 + signal as i32))
}

/// Starts `line` by the shell at an end, in a process group of its own.
fn shell(pair: &Pair, end: End, line: &str) -> anyhow::Result<Child> {
    let mut command = pair.command(end, "sh");
    command.args(["-c", line]).process_group(0);
    command.env("HOST_ADDRESS", pair.address(End::Host).to_string());
    command.env("MOUNT_ADDRESS", pair.address(End::Mount).to_string());
    command.spawn().with_context(|| format!("start `{line}`"))
}

/// A command and what it started; they end with this.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let group = self.0.id();
        signal_group(group, Signal::SIGTERM);
        let end = Instant::now() + PATIENCE;
        while matches!(self.0.try_wait(), Ok(None)) && Instant::now() < end {
            thread::sleep(Duration::from_millis(10));
        }
        // What the shell started may outlive it.
        signal_group(group, Signal::SIGKILL);
        let _ = self.0.wait();
    }
}

/// Signals a group that may have ended already.
fn signal_group(leader: u32, signal: Signal) {
    if let Ok(leader) = i32::try_from(leader) {
        let _ = killpg(Pid::from_raw(leader), signal);
    }
}

/// As a shell would say it.
fn exit_code(status: ExitStatus) -> ExitCode {
    code_of(status.code().or(status.signal().map(|signal| 128 + signal)).unwrap_or(1))
}

fn code_of(code: i32) -> ExitCode {
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}
