//! Running a command: exit code 0 when it is done, 1 when it failed, 2 for wrong usage.

use std::{env, ffi::OsString, io::Write, path::Path, process::ExitCode};

use anyhow::Context;
use clap::CommandFactory;
use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{
    Cli, Command, HostArgs, HostRun,
    endpoint::Endpoint,
    failure::{self, Failure, one_line},
    help, keylog, pages,
    profile::Profile,
    status, ticket, topics,
};
use crate::{error::HostError, host::Host, state::write_private, status::disk};

/// Reads the command line, does it, and says how it went.
pub fn main() -> ExitCode {
    let arguments: Vec<OsString> = env::args_os().collect();
    match failure::parse(&arguments).and_then(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report("wormhole-engine"),
    }
}

fn run(cli: Cli) -> Result<(), Failure> {
    match cli.command {
        Command::Host(args) => host(*args)?,
        Command::Ticket(args) => ticket::run(&args)?,
        Command::Status(args) => status::run(&args)?,
        Command::Help(args) => {
            pages::print(topics::help(Cli::command(), &help::TOPICS, &args)?.as_bytes())?;
        }
        Command::Completions(args) => pages::completions(Cli::command(), &help::TOPICS, &args)?,
        Command::Man(args) => pages::man(Cli::command(), &help::TOPICS, &args)?,
    }
    Ok(())
}

fn host(args: HostArgs) -> Result<(), Failure> {
    let HostRun { mut config, ticket_file, metrics, log, profile_cpu } = args.resolve()?;
    log.start();
    // Before the first thread.
    let profile = Profile::start(profile_cpu, "wormhole-engine host")?;
    config.key_log = keylog::from_env()?;
    // Before the host runs, so that a signal from then on ends it in order.
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting up")?;
    let (mut terminate, mut interrupt) = {
        let _runtime = runtime.enter();
        (listen_for(SignalKind::terminate())?, listen_for(SignalKind::interrupt())?)
    };
    // Before the host makes its counters.
    let endpoint = metrics.map(Endpoint::bind).transpose()?;
    let host = Host::start(config).map_err(refused)?;
    runtime.spawn(profile.clone().serve());
    if let Some(endpoint) = endpoint {
        runtime.spawn(endpoint.serve(host.sampler()));
    }
    if let Err(error) = hand_out(ticket_file.as_deref(), &host) {
        // Its own error is the one to tell; the host ends either way.
        let _ = host.stop();
        return Err(error.into());
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
    profile.finish();
    // Without running destructors of what may still hang on a disk: the kernel cleans up after a process.
    std::process::exit(0);
}

/// What a host says of its options is wrong usage; all else is a failure.
fn refused(error: HostError) -> Failure {
    match error {
        HostError::Config(_) | HostError::Pattern { .. } | HostError::PatternCount { .. } => {
            Failure::Usage(one_line(&error.into()))
        }
        _ => error.into(),
    }
}

/// Tells the service manager that started this, if one did (`NOTIFY_SOCKET`). Source: sd_notify(3).
fn tell_manager(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "the service manager could not be told; it may take this for hanging");
    }
}

fn listen_for(kind: SignalKind) -> anyhow::Result<Signal> {
    signal(kind).context("listening for signals")
}

/// Gives the ticket to whoever started this: it also says that the host is ready.
fn hand_out(ticket_file: Option<&Path>, host: &Host) -> anyhow::Result<()> {
    let line = format!("{}\n", host.ticket());
    match ticket_file {
        Some(path) => write_private(path, line.as_bytes()).with_context(|| {
            format!("writing the ticket to {path:?}: choose another place with --ticket-file")
        }),
        None => {
            let mut stdout = std::io::stdout().lock();
            stdout.write_all(line.as_bytes()).and_then(|()| stdout.flush()).context("printing the ticket")
        }
    }
}
