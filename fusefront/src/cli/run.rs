//! Running a command: exit code 0 when it is done, 1 when it failed, 2 for wrong usage.

use std::{
    env,
    ffi::{OsStr, OsString},
    fs,
    io::{self, Read, Write},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, anyhow};
use clap::CommandFactory;
use engine::cli::{
    endpoint::Endpoint,
    failure::{self, Failure},
    keylog, pages,
    profile::Profile,
    topics,
};
use sd_notify::NotifyState;
use tokio::{
    runtime::Builder,
    signal::unix::{Signal, SignalKind, signal},
    time::timeout,
};
use wire::{Ticket, limits};

use super::{
    args::{Cli, Command, StatusArgs, UnmountArgs},
    cache, daemon, help, mount_8,
    resolve::MountRun,
    watch,
};
use crate::{
    config::MountConfig,
    control,
    error::MountError,
    guard::{self, Guard},
    metrics::Metrics,
    mount::{self, Mounted},
    mountinfo,
    status::Report,
    unmount::{self, Detach},
};

/// How it names itself.
const PROGRAM: &str = "wormhole";
/// Bytes of a ticket file that are read: the longest ticket and some white space.
const TICKET_FILE_BYTES_MAX: u64 = 4 * limits::TICKET_BYTES_MAX as u64;

/// Reads the command line, does it, and says how it went.
pub fn main() -> ExitCode {
    let mut arguments: Vec<OsString> = env::args_os().collect();
    if arguments.get(1).is_some_and(|first| first == guard::ARGUMENT) {
        return guard::run();
    }
    arguments = mount_8::translate(&arguments).unwrap_or(arguments);
    let is_daemon = arguments.get(1).is_some_and(|first| first == daemon::ARGUMENT);
    if is_daemon {
        daemon::leave_session();
        arguments.remove(1);
    }
    match failure::parse(&arguments).and_then(|cli| run(cli, &arguments, is_daemon)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(PROGRAM),
    }
}

fn run(cli: Cli, arguments: &[OsString], is_daemon: bool) -> Result<(), Failure> {
    match cli.command {
        Command::Mount(args) => {
            let run = MountRun::new(args.options, args.config.as_deref())?;
            let place = Place { ticket: args.ticket, mountpoint: args.mountpoint };
            match args.daemon && !is_daemon {
                true => start_daemon(&place, &arguments[1..])?,
                false => mount(run, place, args.daemon)?,
            }
        }
        Command::Unmount(args) => unmount(&args)?,
        Command::Status(args) => status(&args)?,
        Command::Cache(args) => cache::run(args)?,
        Command::Watch(args) => watch::run(&args)?,
        Command::Help(args) => {
            pages::print(topics::help(Cli::command(), &help::TOPICS, &args)?.as_bytes())?;
        }
        Command::Completions(args) => pages::completions(Cli::command(), &help::TOPICS, &args)?,
        Command::Man(args) => pages::man(Cli::command(), &help::TOPICS, &args)?,
    }
    Ok(())
}

/// One line on standard error.
pub(super) fn say(line: &str) {
    // With nobody left to read it, there is nobody to tell.
    let _ = writeln!(io::stderr(), "{PROGRAM}: {}", line.replace('\n', " "));
}

/// What is mounted where, as typed.
struct Place {
    ticket: OsString,
    mountpoint: PathBuf,
}

/// `--daemon`, in the process that was called.
fn start_daemon(place: &Place, arguments: &[OsString]) -> Result<(), Failure> {
    let text = ticket_text(&place.ticket)?;
    Ticket::parse(&text)?;
    match daemon::start(arguments, &place.ticket, &text)? {
        daemon::Started::Mounted => Ok(()),
        daemon::Started::Failed => Err(Failure::Said),
    }
}

fn mount(run: MountRun, place: Place, is_daemon: bool) -> anyhow::Result<()> {
    let is_kept = is_daemon || run.log_file.is_some();
    if is_kept { run.log.clone().without_color() } else { run.log.clone() }.start();
    let key_log = keylog::from_env()?;
    let ticket = Ticket::parse(&ticket_text(&place.ticket)?)?;
    let log_file = run.log_file.as_deref().map(open_log).transpose()?;
    let output = Output { is_daemon, log_file };
    let endpoint = run.metrics.map(Endpoint::bind).transpose()?;
    // All three before the first thread.
    uring::bound_free_heap();
    let guard = Guard::start();
    if let Err(error) = &guard {
        tracing::warn!(%error, "no guard process: if this one is killed, a dead mount stays behind");
    }
    let profile = Profile::start(run.profile_cpu.clone(), "wormhole mount")?;
    let config = MountConfig { key_log, ..run.config(ticket, place.mountpoint) };
    let runtime = Builder::new_current_thread().enable_all().build().map_err(MountError::Thread)?;
    runtime.spawn(profile.clone().serve());
    let served = runtime.block_on(serve(config, guard.ok(), &output, endpoint));
    profile.finish();
    served
}

/// Where output goes once the share is mounted.
struct Output {
    is_daemon: bool,
    log_file: Option<fs::File>,
}

impl Output {
    fn mounted(&self) -> anyhow::Result<()> {
        if self.is_daemon {
            daemon::ready().context("nobody waits for this mount any more")?;
        }
        match &self.log_file {
            Some(file) => nix::unistd::dup2_stderr(file)?,
            None if self.is_daemon => nix::unistd::dup2_stderr(open_log(Path::new("/dev/null"))?)?,
            None => {}
        }
        Ok(())
    }
}

fn open_log(path: &Path) -> anyhow::Result<fs::File> {
    let file = fs::File::options().create(true).append(true).open(path);
    file.with_context(|| format!("the log file {} cannot be written", path.display()))
}

/// SIGTERM and SIGINT, taken from the start: a default action would leave a dead mount behind.
struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    fn new() -> io::Result<Stop> {
        Ok(Stop { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn recv(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Mounts, waits for the end, and cleans up.
async fn serve(
    config: MountConfig,
    mut guard: Option<Guard>,
    output: &Output,
    endpoint: Option<Endpoint>,
) -> anyhow::Result<()> {
    let mut stop = Stop::new().context("signals cannot be handled")?;
    let deadline = config.deadline;
    let prepared = tokio::select! {
        prepared = mount::connect(config) => prepared?,
        () = stop.recv() => return Err(anyhow!("stopped before the share was mounted")),
    };
    let share = prepared.share().to_string();
    if let Some(Err(error)) = guard.as_mut().map(|guard| guard.watch(prepared.mountpoint())) {
        tracing::warn!(%error, "the guard process is gone: if this one is killed, a dead mount stays behind");
    }
    let mounted = prepared.attach()?;
    // A guard that is gone was told of above.
    let _ = guard.as_mut().map(|guard| guard.watch_only(mounted.info()));
    tracing::info!(%share, mountpoint = %mounted.mountpoint().display(), "mounted");
    if !output.is_daemon {
        say(&format!("mounted {share} on {}", mounted.mountpoint().display()));
    }
    tell_manager(&[NotifyState::Ready]);
    output.mounted()?;
    if let (Some(endpoint), Some(report)) = (endpoint, mounted.report()) {
        let (metrics, report, stats) = (Metrics::new(&report), mounted.reporter(), mounted.stats());
        tokio::spawn(endpoint.serve(move || {
            if let Some(report) = report() {
                metrics.show(&report);
            }
            stats.read_stages.exposition()
        }));
    }
    tokio::select! {
        // From here on, a mount in this place is another's.
        () = mounted.ended() => drop(guard.take()),
        () = stop.recv() => {
            tell_manager(&[NotifyState::Stopping]);
            end(&mounted, &mut stop, deadline).await;
        }
    }
    if let Some(report) = mounted.report() {
        tracing::info!(
            %share,
            mountpoint = report.mountpoint,
            seconds = report.uptime_s,
            reads = report.reads.requests,
            read_bytes = report.reads.replied_bytes,
            host_bytes = report.reads.host_bytes,
            errors = report.errors,
            reconnects = report.session.reconnects,
            "unmounted"
        );
    }
    mounted.finish().await;
    Ok(())
}

/// Unmounts on a signal. A busy mount leaves the tree and serves what is open for one more deadline; a second signal
/// ends that at once.
async fn end(mounted: &Mounted, stop: &mut Stop, deadline: Duration) {
    match mounted.detach(Detach::IfIdle) {
        Ok(()) => {}
        Err(MountError::Busy { path, by }) => {
            say(&format!(
                "{} is busy{by}: detached; open files are served for {} s more",
                path.display(),
                deadline.as_secs()
            ));
            if let Err(error) = mounted.detach(Detach::Lazily) {
                tracing::warn!(%error, "the mount could not be detached");
            }
        }
        // Somebody unmounted it in the same moment, or it ends with the process.
        Err(error) => tracing::warn!(%error, "the mount could not be taken off the tree"),
    }
    tokio::select! {
        _ = timeout(deadline, mounted.ended()) => {}
        () = stop.recv() => {}
    }
}

fn unmount(args: &UnmountArgs) -> anyhow::Result<()> {
    unmount::unmount(&args.mountpoint, if args.lazy { Detach::Lazily } else { Detach::IfIdle })?;
    Ok(())
}

fn status(args: &StatusArgs) -> anyhow::Result<()> {
    let mut reports = control::ask_all(&control::dirs()).context("the status sockets cannot be read")?;
    if let Some(wanted) = &args.mountpoint {
        reports = only(reports, wanted)?;
    }
    let text = if args.json {
        serde_json::to_string_pretty(&reports)? + "\n"
    } else if reports.is_empty() {
        "no wormhole mounts of this user\n".to_owned()
    } else {
        reports.iter().map(Report::to_string).collect::<Vec<_>>().join("\n")
    };
    pages::print(text.as_bytes())
}

/// The report of the mount at `wanted`, which is not touched.
pub(super) fn only(reports: Vec<Report>, wanted: &Path) -> anyhow::Result<Vec<Report>> {
    let near = mountinfo::resolve_parent(wanted).unwrap_or_else(|_| wanted.to_owned());
    let found: Vec<Report> =
        reports.into_iter().filter(|report| Path::new(&report.mountpoint) == near).collect();
    if found.is_empty() {
        return Err(anyhow!(
            "no mount of this user answers for {} (`wormhole status` lists them)",
            wanted.display()
        ));
    }
    Ok(found)
}

/// Tells the service manager that started this, if one did (`NOTIFY_SOCKET`). Source: sd_notify(3).
fn tell_manager(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "the service manager could not be told; it may take this for hanging");
    }
}

fn ticket_text(argument: &OsStr) -> anyhow::Result<String> {
    let bytes = argument.as_bytes();
    let text = if bytes == b"-" {
        let mut text = String::new();
        io::stdin()
            .take(TICKET_FILE_BYTES_MAX)
            .read_to_string(&mut text)
            .context("the ticket cannot be read from standard input")?;
        text
    } else if let Some(path) = bytes.strip_prefix(b"@") {
        let path = PathBuf::from(OsStr::from_bytes(path));
        read_bounded(&path).with_context(|| format!("the ticket file {} cannot be read", path.display()))?
    } else {
        String::from_utf8_lossy(bytes).into_owned()
    };
    Ok(text)
}

fn read_bounded(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    fs::File::open(path)?.take(TICKET_FILE_BYTES_MAX).read_to_string(&mut text)?;
    Ok(text)
}
