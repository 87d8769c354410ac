//! Running a command: parse, run, print the error in one line, exit code: 0 done, 1 failed, 2 wrong usage.

use std::{io::Write, net::SocketAddr, process::ExitCode};

use anyhow::Context;
use clap::Parser;
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder};
use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;
use uring::Backend;

use super::{Cli, Command, HostArgs};
use crate::{host::Host, state::write_private};

/// Reads the command line, does it, and says how it went.
pub fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Host(args) => host(&args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // A closed stderr leaves nobody to tell.
            let _ = writeln!(std::io::stderr(), "wormhole-engine: {}", one_line(&error));
            ExitCode::FAILURE
        }
    }
}

/// The chain of reasons in one line; a reason that its predecessor quotes is not said twice.
fn one_line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for reason in error.chain().map(ToString::to_string) {
        if line.is_empty() {
            line = reason;
        } else if !line.contains(&reason) {
            line = format!("{line}: {reason}");
        }
    }
    line.replace('\n', " ")
}

fn host(args: &HostArgs) -> anyhow::Result<()> {
    start_log(&args.log)?;
    let config = args.config()?;
    if let Some(address) = args.metrics {
        serve_metrics(address).with_context(|| {
            format!("serving metrics on {address}: choose another address with --metrics")
        })?;
    }
    // Before the host runs, so that a signal from then on ends it in order.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().context("starting up")?;
    let (mut terminate, mut interrupt) = {
        let _runtime = runtime.enter();
        (listen_for(SignalKind::terminate())?, listen_for(SignalKind::interrupt())?)
    };
    let host = Host::start(config)?;
    if let Err(error) = hand_out(args, &host) {
        // Its own error is the one to tell; the host ends either way.
        let _ = host.stop();
        return Err(error);
    }
    let shares: Vec<String> = host.share_names().iter().map(ToString::to_string).collect();
    tracing::info!(
        disk = %disk(&host.backend()),
        shares = shares.join(", "),
        addresses = host.ticket().addresses.join(", "),
        ticket = %host.ticket().claims.id,
        "ready"
    );
    tell_manager(&[NotifyState::Ready, NotifyState::Status(&format!("serving {}", shares.join(", ")))]);
    runtime.block_on(async {
        // Waits for a person or the system, without a deadline.
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
    });
    tracing::info!("stopping");
    tell_manager(&[NotifyState::Stopping]);
    if let Err(error) = host.stop() {
        tracing::warn!("{}", one_line(&error.into()));
    }
    // Without running destructors of what may still hang on a disk: the kernel cleans up after a process.
    std::process::exit(0);
}

/// What reads the disk, in words.
fn disk(backend: &Backend) -> String {
    match backend {
        Backend::Uring => "io_uring".to_owned(),
        Backend::Blocking { reason } => format!("blocking threads, because of {reason}"),
    }
}

/// Tells the service manager that started this, if one did (`NOTIFY_SOCKET`). Source: sd_notify(3).
fn tell_manager(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "the service manager could not be told; it may take this for hanging");
    }
}

/// Upper bounds of the latency histograms, in seconds: from a page cache hit to a disk that hangs.
const LATENCY_BUCKETS: [f64; 14] =
    [25e-6, 50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 100e-3, 500e-3, 2.0, 10.0];

fn serve_metrics(address: SocketAddr) -> Result<(), BuildError> {
    PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &LATENCY_BUCKETS)?
        .with_http_listener(address)
        .install()
}

fn listen_for(kind: SignalKind) -> anyhow::Result<Signal> {
    signal(kind).context("listening for signals")
}

/// Gives the ticket to whoever started this: it also says that the host is ready.
fn hand_out(args: &HostArgs, host: &Host) -> anyhow::Result<()> {
    let line = format!("{}\n", host.ticket());
    match &args.ticket_file {
        Some(path) => write_private(path, line.as_bytes()).with_context(|| {
            format!("writing the ticket to {path:?}: choose another place with --ticket-file")
        }),
        None => {
            let mut stdout = std::io::stdout().lock();
            stdout.write_all(line.as_bytes()).and_then(|()| stdout.flush()).context("printing the ticket")
        }
    }
}

fn start_log(filter: &str) -> anyhow::Result<()> {
    let filter =
        EnvFilter::try_new(filter).with_context(|| format!("--log {filter:?} is no level or filter"))?;
    let ansi = std::io::IsTerminal::is_terminal(&std::io::stderr());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(ansi)
        .with_target(false)
        .init();
    Ok(())
}
