//! `wormhole-link`: an emulated link in front of a service of this machine.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "a command-line tool talks to people")]

mod measure;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Parser;
use nix::sys::signal::{SigSet, Signal};
use wormhole_profiles::link::{Link, LinkConfig, Profile, Protocol};
use wormhole_profiles::quantity;

/// A link of given round trip, rate, loss and MTU in front of a UDP (or TCP) service.
///
/// Prints the address for clients, runs until SIGINT or SIGTERM, and then prints what the link carried, dropped and
/// cost in CPU time.
#[derive(Debug, Parser)]
#[command(name = "wormhole-link", version)]
struct Args {
    /// lan, wan-good, wan-poor or wan-bad; the values below change single properties of it
    #[arg(long, default_value = "lan")]
    profile: Profile,
    /// Where clients reach the link; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// The service behind the link
    #[arg(long, required_unless_present = "measure")]
    target: Option<SocketAddr>,
    /// Measure the link itself on this machine, with traffic of its own, and end
    #[arg(long, conflicts_with_all = ["target", "listen", "report"])]
    measure: bool,
    /// Carry TCP connections instead of UDP datagrams
    #[arg(long)]
    tcp: bool,
    /// Bits a second in each direction: 10mbit, 2.5gbit, 64000
    #[arg(long, value_parser = quantity::rate_bps)]
    rate: Option<u64>,
    /// Round trip: 50ms, 300us, 1s
    #[arg(long, value_parser = quantity::duration)]
    rtt: Option<Duration>,
    /// Packets lost in each direction, in percent: 0.5, 1%
    #[arg(long, value_parser = quantity::loss_ppm)]
    loss: Option<u32>,
    /// Largest IP packet in bytes, headers included; larger ones vanish
    #[arg(long, value_name = "BYTES")]
    mtu: Option<u32>,
    /// Longest queue of a direction: 625000, 64k, 2m [default: rate x round trip, at least a switch's 256 packets or 10 ms]
    #[arg(long, value_name = "BYTES", value_parser = quantity::bytes)]
    queue: Option<u64>,
    /// Which packets are lost
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print a report each second
    #[arg(long)]
    report: bool,
}

impl Args {
    fn config(&self) -> LinkConfig {
        let profile = LinkConfig::from(self.profile);
        LinkConfig {
            listen: self.listen,
            protocol: if self.tcp { Protocol::Tcp } else { Protocol::Udp },
            rtt: self.rtt.unwrap_or(profile.rtt),
            rate_bps: self.rate.unwrap_or(profile.rate_bps),
            loss_ppm: self.loss.unwrap_or(profile.loss_ppm),
            mtu_bytes: self.mtu.unwrap_or(profile.mtu_bytes),
            queue_bytes: self.queue,
            seed: self.seed,
            ..profile
        }
    }
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let Some(target) = args.target else {
        say(&measure::run(&args.config(), measure::LOAD)?)?;
        return Ok(());
    };
    let stop = on_stop_signal()?;
    let link = Link::start(&args.config(), target)?;
    say(&format!("{}\n", link.address()))?;
    let every = args.report.then_some(Duration::from_secs(1));
    loop {
        match every.map(|every| stop.recv_timeout(every)) {
            Some(Err(RecvTimeoutError::Timeout)) => {}
            // A signal, or a reader of signals that is gone: either way the last report.
            Some(_) => break,
            None => {
                let _ = stop.recv();
                break;
            }
        }
        let report = link.report();
        say(&format!("{report}\n"))?;
        if report.fault.is_some() {
            break;
        }
    }
    let report = link.report();
    say(&format!("{report}\n"))?;
    match report.fault {
        Some(fault) => bail!("the link stopped: {fault}"),
        None => Ok(()),
    }
}

/// A message on SIGINT or SIGTERM, which end the process no more.
fn on_stop_signal() -> anyhow::Result<Receiver<()>> {
    let signals: SigSet = [Signal::SIGINT, Signal::SIGTERM].into_iter().collect();
    // Before any other thread starts, so that all of them leave the signals to this one.
    signals.thread_block().context("block SIGINT and SIGTERM")?;
    let (sender, receiver) = mpsc::channel();
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        if signals.wait().is_ok() {
            let _ = sender.send(());
        }
    })?;
    Ok(receiver)
}

/// Prints at once: a script waits for the address.
fn say(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_change_single_properties_of_the_profile() {
        let line = "wormhole-link --target 127.0.0.1:4433 --profile wan-poor --rtt 20ms --tcp --queue 1m";
        let config = Args::try_parse_from(line.split(' ')).unwrap().config();
        assert_eq!(
            (config.rtt, config.rate_bps, config.loss_ppm),
            (Duration::from_millis(20), 10_000_000, 10_000)
        );
        assert_eq!((config.protocol, config.queue_bytes), (Protocol::Tcp, Some(1 << 20)));
        assert!(Args::try_parse_from(["wormhole-link", "--target", "x", "--profile", "dsl"]).is_err());
    }
}
