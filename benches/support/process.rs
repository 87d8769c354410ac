//! Host and mount as processes of their own, whose memory and processor time can be told apart.
//!
//! A bench cannot name the programs of other packages, so it starts itself again, in a role that `ROLE` names: the
//! same libraries, none of the bench's files or samples. Such a bench's `main` is [`main`].

use std::{
    env,
    error::Error,
    io::{self, BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio},
    thread,
    time::Duration,
};

use criterion::Criterion;
use fusefront::{MountConfig, mount, unmount::Detach};
use tempfile::TempDir;
use tokio::runtime::Builder;
use wire::Ticket;

pub use crate::proc::Usage;
use crate::rig;

/// The variable that names the role of a process that a bench started.
const ROLE: &str = "WORMHOLE_BENCH_ROLE";
const HOST: &str = "host";
const MOUNT: &str = "mount";

/// Does what this process was started for, if a bench started it; else runs `benches`, as criterion's own `main` does.
pub fn main(benches: fn()) -> ExitCode {
    if let Some(code) = play_role() {
        return code;
    }
    benches();
    Criterion::default().configure_from_args().final_summary();
    ExitCode::SUCCESS
}

/// Does what this process was started for, if a bench started it.
pub fn play_role() -> Option<ExitCode> {
    let role = env::var(ROLE).ok()?;
    let given: Vec<PathBuf> = env::args_os().skip(1).map(PathBuf::from).collect();
    let played = match (role.as_str(), &given[..]) {
        (HOST, [source]) => play_host(source),
        (MOUNT, [place]) => play_mount(place),
        _ => Err(format!("{ROLE}={role} with {} arguments", given.len()).into()),
    };
    Some(match played {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            complain(&role, why.as_ref());
            ExitCode::FAILURE
        }
    })
}

#[expect(clippy::print_stderr, reason = "the bench that started this shows it")]
fn complain(role: &str, why: &dyn Error) {
    eprintln!("the {role} of a bench: {why}");
}

/// Serves until standard input ends, which it does with the bench.
fn play_host(source: &Path) -> Result<(), Box<dyn Error>> {
    let place = TempDir::new()?;
    let host = rig::host(source, place.path())?;
    say(&host.ticket().to_string())?;
    io::stdin().read_to_end(&mut Vec::new())?;
    Ok(host.stop()?)
}

/// Mounts by the ticket that comes first; then, for each line until the end, tells the mount's report.
fn play_mount(place: &Path) -> Result<(), Box<dyn Error>> {
    let mut lines = io::stdin().lines();
    let ticket = Ticket::parse(&lines.next().ok_or("no ticket")??)?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let config = MountConfig::new(ticket, place.to_owned());
    let mounted = runtime.block_on(async { mount::connect(config).await?.attach() })?;
    say("mounted")?;
    for line in lines {
        line?;
        let report = mounted.report().ok_or("the mount has ended")?;
        say(&report.reads.host_bytes.to_string())?;
    }
    // Dropping it detaches it in any case.
    let _ = mounted.detach(Detach::Lazily);
    runtime.block_on(mounted.finish());
    Ok(())
}

fn say(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

/// A process that plays a role; ends when dropped.
pub struct Played {
    child: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Played {
    fn start(role: &str, argument: &Path) -> io::Result<Played> {
        let mut command = Command::new(env::current_exe()?);
        command.env(ROLE, role).arg(argument).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let missing = || io::Error::other("a process without pipes");
        let orders = Some(child.stdin.take().ok_or_else(missing)?);
        let answers = BufReader::new(child.stdout.take().ok_or_else(missing)?);
        Ok(Played { child, orders, answers })
    }

    fn tell(&mut self, line: &str) -> io::Result<()> {
        let orders = self.orders.as_mut().ok_or_else(|| io::Error::other("a process told to end"))?;
        writeln!(orders, "{line}")
    }

    /// The next line. Ends at the latest when the process does, and each wait in that one has a deadline.
    fn answer(&mut self) -> io::Result<String> {
        let mut line = String::new();
        match self.answers.read_line(&mut line)? {
            0 => Err(io::Error::other("a process of the bench ended before its time")),
            _ => Ok(line.trim_end().to_owned()),
        }
    }

    /// What it uses now.
    ///
    /// # Errors
    /// When it has ended.
    pub fn usage(&self) -> io::Result<Usage> {
        Usage::of(self.child.id())
    }
}

impl Drop for Played {
    fn drop(&mut self) {
        // The end of its standard input is the order to end.
        drop(self.orders.take());
        let _ = self.child.wait();
    }
}

/// A host in a process of its own.
pub struct Served {
    played: Played,
    ticket: Ticket,
}

/// Starts a host of a folder.
///
/// # Errors
/// What the process says on standard error.
pub fn serve(source: &Path) -> Result<Served, Box<dyn Error>> {
    let mut played = Played::start(HOST, source)?;
    let ticket = Ticket::parse(&played.answer()?)?;
    Ok(Served { played, ticket })
}

impl Served {
    /// What reaches it.
    pub fn ticket(&self) -> &Ticket {
        &self.ticket
    }

    /// What it uses now.
    ///
    /// # Errors
    /// When it has ended.
    pub fn usage(&self) -> io::Result<Usage> {
        self.played.usage()
    }
}

/// A mount in a process of its own.
pub struct MountApart {
    played: Played,
    // Last, so that it goes when nothing is mounted in it.
    place: TempDir,
}

impl MountApart {
    /// Mounts what the ticket opens.
    ///
    /// # Errors
    /// What the process says on standard error.
    pub fn start(ticket: &Ticket) -> Result<MountApart, Box<dyn Error>> {
        let place = TempDir::new()?;
        let mut played = Played::start(MOUNT, place.path())?;
        played.tell(&ticket.to_string())?;
        played.answer()?;
        Ok(MountApart { played, place })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.place.path()
    }

    /// What it uses now.
    ///
    /// # Errors
    /// When it has ended.
    pub fn usage(&self) -> io::Result<Usage> {
        self.played.usage()
    }

    /// Bytes of file contents received from the host so far.
    ///
    /// # Errors
    /// When the mount has ended.
    pub fn host_bytes(&mut self) -> Result<u64, Box<dyn Error>> {
        self.played.tell("")?;
        Ok(self.played.answer()?.parse()?)
    }
}

/// Lets time pass with nothing to do.
pub fn idle(time: Duration) {
    thread::sleep(time);
}
