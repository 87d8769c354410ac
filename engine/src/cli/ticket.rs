//! `wormhole-engine ticket`: making, listing and revoking tickets, of a host that runs or of its files.

use std::{
    ffi::{OsStr, OsString},
    fmt::Write as _,
    io::Write as _,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use wire::{Name, SharePath, Ticket};

use super::{HostOptions, failure::Failure, host, pages::print, table};
use crate::{
    control::{
        self, Answerer,
        protocol::{Id, Request, Response},
    },
    state::write_private,
    tickets::{
        Revoked, TicketInfo, TicketRequest, TicketState,
        date::{self, Span},
        seconds_now,
    },
};

pub(super) const EXAMPLES: &str = "\
Examples:
  wormhole-engine ticket new --label 'edit bay 3' --expires 7d
      A ticket for every share, for a week. Its one line goes to stdout; it is a password.
  wormhole-engine ticket new --share footage --prefix 2026/lisbon --expires 2026-12-31 --ticket-file lisbon.ticket
      A ticket for one folder of one share, until the end of the year, in a file that only you can read.
  wormhole-engine ticket list
      Every ticket that lets mounts in, and who is connected with it; --all shows the others too.
  wormhole-engine ticket revoke 'edit bay 3'
      That ticket opens nothing any more; its mounts are cut off at once.

They reach a running host through its state directory; while none runs, they work on its files.";

const NEW_EXAMPLES: &str = "\
Examples:
  wormhole-engine ticket new --label farm > farm.ticket
  wormhole-engine ticket new --share footage --share music --label 'grading suite' --expires 12h
  wormhole-engine ticket new --share footage --prefix 2026/lisbon --expires 2026-12-31T18:00Z --ticket-file lisbon.ticket

The ticket is printed this once: the host keeps no copy. If it is lost, revoke it and make another.";

const REVOKE_EXAMPLES: &str = "\
Examples:
  wormhole-engine ticket revoke 9f31c2
  wormhole-engine ticket revoke 'edit bay 3' farm
  wormhole-engine ticket revoke 'first ticket'
      Also the one that the host prints: its next start prints another.";

/// The commands about tickets.
#[derive(Debug, Subcommand)]
pub enum TicketCommand {
    /// Make a ticket and print its one line
    #[command(after_help = NEW_EXAMPLES)]
    New(NewArgs),
    /// Show the tickets, when each was last used, and who is connected with it
    List(ListArgs),
    /// End tickets for good: their mounts are cut off at once, and none is let in any more
    #[command(after_help = REVOKE_EXAMPLES)]
    Revoke(RevokeArgs),
}

/// `ticket`, as typed.
#[derive(Debug, Args)]
#[command(arg_required_else_help = true, disable_help_subcommand = true)]
pub struct TicketArgs {
    /// What to do with tickets.
    #[command(subcommand)]
    pub command: TicketCommand,
}

/// Which host is meant.
#[derive(Debug, Args)]
pub struct StateArg {
    /// The state directory of the host [default: $XDG_STATE_HOME/wormhole]
    #[arg(long, value_name = "DIR", env = "WORMHOLE_STATE_DIR")]
    pub state_dir: Option<PathBuf>,
    /// The configuration of the host, which names its state directory
    #[arg(long, value_name = "FILE", env = "WORMHOLE_CONFIG")]
    pub config: Option<PathBuf>,
}

/// `ticket new`, as typed.
#[derive(Debug, Args)]
pub struct NewArgs {
    /// A share it opens; repeatable [default: all, also those the host gets later]
    #[arg(long = "share", value_name = "NAME")]
    pub shares: Vec<OsString>,
    /// The folder inside the share that it opens, and nothing outside of it [default: the whole share]
    #[arg(long, value_name = "PATH")]
    pub prefix: Option<OsString>,
    /// When it runs out: 7d, 12h, a day (2026-12-31, to its end in UTC) or a moment (2026-12-31T18:00Z) [default: never]
    #[arg(long, value_name = "WHEN", value_parser = parse_end)]
    pub expires: Option<u64>,
    /// What to call it in the list and in the log
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub label: String,
    /// Write the ticket there (mode 0600) instead of to stdout
    #[arg(long, value_name = "FILE")]
    pub ticket_file: Option<PathBuf>,
    /// Which host is meant.
    #[command(flatten)]
    pub state: StateArg,
}

/// `ticket list`, as typed.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Also those that expired (for a month) or were revoked
    #[arg(long)]
    pub all: bool,
    /// As JSON, with the mounts of each; times are seconds since 1970
    #[arg(long)]
    pub json: bool,
    /// Which host is meant.
    #[command(flatten)]
    pub state: StateArg,
}

/// `ticket revoke`, as typed.
#[derive(Debug, Args)]
pub struct RevokeArgs {
    /// Tickets, each by its id, the beginning of its id, or its label
    #[arg(required = true, value_name = "ID|LABEL")]
    pub tickets: Vec<String>,
    /// Which host is meant.
    #[command(flatten)]
    pub state: StateArg,
}

/// Does it.
///
/// # Errors
/// Whatever is in the way, with what to do about it.
pub(super) fn run(args: &TicketArgs) -> Result<(), Failure> {
    match &args.command {
        TicketCommand::New(args) => new(args),
        TicketCommand::List(args) => list(args),
        TicketCommand::Revoke(args) => revoke(args),
    }
}

impl StateArg {
    pub(super) fn resolve(&self) -> Result<PathBuf, Failure> {
        let named = match (&self.state_dir, &self.config) {
            (None, Some(config)) => HostOptions::read(config)?.state_dir,
            (state_dir, _) => state_dir.clone(),
        };
        Ok(host::state_dir_or_default(named)?)
    }
}

impl NewArgs {
    fn request(&self) -> anyhow::Result<TicketRequest> {
        let name = |name: &OsString| {
            Name::new(name.as_bytes())
                .with_context(|| format!("--share {name:?}: no share can be called that"))
        };
        Ok(TicketRequest {
            label: self.label.clone(),
            shares: self.shares.iter().map(name).collect::<Result<_, _>>()?,
            prefix: self.prefix.as_deref().map(parse_prefix).transpose()?.unwrap_or_default(),
            expires: self.expires,
        })
    }
}

fn new(args: &NewArgs) -> Result<(), Failure> {
    let (request, state_dir) = (args.request()?, args.state.resolve()?);
    let (response, answerer) = control::ask(&state_dir, &Request::TicketNew(request.clone()))?;
    let Response::Ticket(ticket) = response else { return Err(unfitting().into()) };
    let id = Ticket::parse(ticket.expose()).context("the host gave something else than a ticket")?.claims.id;
    let line = format!("{}\n", ticket.expose());
    let handed_out = match &args.ticket_file {
        Some(path) => write_private(path, line.as_bytes()).with_context(|| {
            format!("writing the ticket to {path:?}: choose another place with --ticket-file")
        }),
        None => print(line.as_bytes()),
    };
    if let Err(error) = handed_out {
        // A ticket that nobody holds is not to stay in the list; if that fails, it is nobody's all the same.
        let _ = control::ask(&state_dir, &Request::TicketRevoke { which: vec![id.to_string()] });
        return Err(error.into());
    }
    let mut said = format!("ticket {id}{}: {}", called(&request.label), opens(&request));
    if answerer == Answerer::Files && !request.prefix.is_root() {
        said.push_str("; no host runs, so whether the folder exists was not checked");
    }
    say(&said);
    Ok(())
}

/// What a ticket opens and until when, in words.
fn opens(request: &TicketRequest) -> String {
    let end = request.expires.map_or("never expires".to_owned(), |at| format!("expires {}", date::utc(at)));
    format!("{}, {}, {end}", shares(&request.shares), folder(&request.prefix))
}

fn shares(names: &[Name]) -> String {
    if names.is_empty() {
        return "all shares".to_owned();
    }
    names.iter().map(|name| table::shown(name.as_bytes())).collect::<Vec<_>>().join(", ")
}

fn folder(prefix: &SharePath) -> String {
    format!("/{}", table::shown(prefix.as_bytes()))
}

fn called(label: &str) -> String {
    if label.is_empty() { String::new() } else { format!(" ({label})") }
}

fn list(args: &ListArgs) -> Result<(), Failure> {
    let mut tickets = all_tickets(&args.state.resolve()?)?;
    tickets.retain(|info| args.all || info.state == TicketState::Good);
    tickets.sort_by_key(|info| (info.created, info.id));
    if args.json {
        let mut text = serde_json::to_string_pretty(&tickets)?;
        text.push('\n');
        return Ok(print(text.as_bytes())?);
    }
    Ok(print(as_table(&tickets, seconds_now()).as_bytes())?)
}

/// Every page of the list, until one is empty.
fn all_tickets(state_dir: &Path) -> anyhow::Result<Vec<TicketInfo>> {
    let mut all: Vec<TicketInfo> = Vec::new();
    loop {
        let after = all.last().map(|info| Id(info.id));
        let (Response::Tickets(page), _) = control::ask(state_dir, &Request::TicketList { after })? else {
            return Err(unfitting());
        };
        // Each page goes on behind the last one: a host that does not keep to that is not asked for ever.
        if page.first().is_some_and(|first| after.is_some_and(|Id(after)| first.id <= after)) {
            return Err(unfitting());
        }
        if page.is_empty() {
            return Ok(all);
        }
        all.extend(page);
    }
}

fn as_table(tickets: &[TicketInfo], now: u64) -> String {
    let mut rows = vec![
        ["ID", "LABEL", "SHARES", "FOLDER", "EXPIRES", "CREATED", "LAST USED", "MOUNTS", "STATE"]
            .map(str::to_owned)
            .into(),
    ];
    for info in tickets {
        let ago = |at: u64| format!("{} ago", Span(now.saturating_sub(at)));
        let last_used = if info.sessions.is_empty() {
            info.last_used.map_or("never".to_owned(), ago)
        } else {
            "now".to_owned()
        };
        rows.push(vec![
            info.id.to_string(),
            table::shown(info.label.as_bytes()),
            if info.shares.is_empty() { "all".to_owned() } else { shares(&info.shares) },
            folder(&info.prefix),
            info.expires.map_or("never".to_owned(), |at| end(at, now)),
            date::utc(info.created),
            last_used,
            info.sessions.len().to_string(),
            info.state.word().to_owned(),
        ]);
    }
    table::aligned(&rows)
}

fn end(at: u64, now: u64) -> String {
    if at <= now {
        return date::utc(at);
    }
    format!("{} (in {})", date::utc(at), Span(at - now))
}

fn revoke(args: &RevokeArgs) -> Result<(), Failure> {
    let request = Request::TicketRevoke { which: args.tickets.clone() };
    let (response, answerer) = control::ask(&args.state.resolve()?, &request)?;
    let Response::Revoked(revoked) = response else { return Err(unfitting().into()) };
    let mut text = String::new();
    for Revoked { id, label, sessions } in revoked {
        let ended = match (answerer, sessions) {
            (Answerer::Files, _) => "no host runs".to_owned(),
            (Answerer::Host, 0) => "no mount was connected".to_owned(),
            (Answerer::Host, 1) => "1 mount was cut off".to_owned(),
            (Answerer::Host, n) => format!("{n} mounts were cut off"),
        };
        let name = match &label {
            Some(label) => called(&table::shown(label.as_bytes())),
            None => {
                ", which is not in the list; if the id is right, its ticket opens nothing any more".to_owned()
            }
        };
        writeln!(text, "revoked {id}{name}: {ended}")?;
    }
    Ok(print(text.as_bytes())?)
}

/// A line for people, beside what was asked for.
fn say(line: &str) {
    // A closed stderr leaves nobody to tell.
    let _ = writeln!(std::io::stderr(), "{line}");
}

pub(super) fn unfitting() -> anyhow::Error {
    anyhow::anyhow!("the host's answer does not fit: use the wormhole-engine it was started from")
}

fn parse_end(text: &str) -> Result<u64, String> {
    date::parse_end(text, seconds_now()).map_err(|error| error.to_string())
}

/// A folder inside a share, however its slashes were typed.
fn parse_prefix(text: &OsStr) -> anyhow::Result<SharePath> {
    let components = text.as_bytes().split(|&byte| byte == b'/');
    let named: Vec<&[u8]> = components.filter(|name| !name.is_empty() && *name != b".").collect();
    if named.contains(&&b".."[..]) {
        bail!("--prefix {text:?}: a folder inside the share, without ..");
    }
    let path = SharePath::new(&named.join(&b'/'));
    path.with_context(|| format!("--prefix {text:?}: a name has 255 bytes at most, a path 4,096"))
}

#[cfg(test)]
mod tests {
    use wire::TicketId;

    use super::*;
    use crate::tickets::TicketSession;

    #[test]
    fn a_prefix_however_it_is_typed() {
        let parsed = |text: &str| parse_prefix(OsStr::new(text)).map(|path| path.as_bytes().to_owned());
        for (text, path) in [("a/b", "a/b"), ("/a//b/", "a/b"), ("./a/./b", "a/b"), ("/", ""), (".", "")] {
            assert_eq!(parsed(text).unwrap(), path.as_bytes(), "{text}");
        }
        assert!(parsed("a/../b").unwrap_err().to_string().contains("without .."));
        assert!(parsed(&"a".repeat(256)).is_err());
    }

    #[test]
    fn the_table_says_what_matters() {
        let session = TicketSession {
            session: 4,
            label: "bay".into(),
            peer: "10.0.0.9:50000".parse().unwrap(),
            connected_s: 9,
        };
        let good = TicketInfo {
            id: TicketId([0xab; 8]),
            label: "bay\u{1b}[1m".into(),
            shares: vec![Name::new(b"footage").unwrap()],
            prefix: SharePath::new("2026/café".as_bytes()).unwrap(),
            expires: Some(1_000 + 3 * 86_400),
            created: 0,
            last_used: Some(900),
            revoked: None,
            state: TicketState::Good,
            sessions: vec![session],
        };
        let never = TicketInfo { expires: None, last_used: None, sessions: Vec::new(), ..good.clone() };
        let text = as_table(&[good, never], 1_000);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3);
        assert!(lines[0].starts_with("ID                LABEL"), "{text}");
        assert!(lines[1].contains("1970-01-04T00:16:40Z (in 3 d)") && lines[1].contains("  now  "), "{text}");
        assert!(lines[1].contains("/2026/café") && !text.contains('\u{1b}'), "{text}");
        assert!(lines[2].contains("  never  ") && lines[2].ends_with("0       good"), "{text}");
    }
}
