//! `wormhole-engine status`: how a running host stands.

use std::fmt::Write;

use clap::Args;

use super::{
    failure::Failure,
    pages::print,
    table,
    ticket::{StateArg, unfitting},
};
use crate::{
    control::{
        self,
        protocol::{Request, Response},
    },
    stages::write_table,
    status::{HostStatus, LimitStatus, SessionStatus, WatchStatus},
    tickets::date::Span,
};

pub(super) const EXAMPLES: &str = "\
Examples:
  wormhole-engine status
      What the host serves, who is connected, every limit and how much of it is used.
  wormhole-engine status --json | jq '.sessions[] | {label, peer, sent_bytes}'
      The same for programs.";

/// `status`, as typed.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// As JSON
    #[arg(long)]
    pub json: bool,
    /// Which host is meant.
    #[command(flatten)]
    pub state: StateArg,
}

/// Asks the host and shows its answer.
///
/// # Errors
/// When no host runs, or it does not answer.
pub(super) fn run(args: &StatusArgs) -> Result<(), Failure> {
    let (Response::Status(status), _) = control::ask(&args.state.resolve()?, &Request::Status)? else {
        return Err(unfitting().into());
    };
    if args.json {
        let mut text = serde_json::to_string_pretty(&status)?;
        text.push('\n');
        return Ok(print(text.as_bytes())?);
    }
    Ok(print(as_text(&status)?.as_bytes())?)
}

fn as_text(status: &HostStatus) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    let HostStatus { version, pid, uptime_s, memory, totals, .. } = status;
    writeln!(text, "wormhole-engine {version}, process {pid}, up {}", Span(*uptime_s))?;
    writeln!(text, "tickets lead to {}", status.addresses.join(", "))?;
    for share in &status.shares {
        let patterns = |word: &str, patterns: &[String]| match patterns {
            [] => String::new(),
            some => format!(", {word} {}", table::shown(some.join(" ").as_bytes())),
        };
        let (name, folder) = (&share.name, table::shown(share.folder.as_bytes()));
        let (without, only) = (patterns("without", &share.exclude), patterns("only", &share.include));
        writeln!(text, "share {name}: {folder}{without}{only}")?;
    }
    writeln!(text, "disk: {}", status.disk)?;
    writeln!(
        text,
        "memory: {} of {} lent, {} reads wait for some; {} requests wait for others",
        bytes(memory.lent_bytes),
        bytes(memory.capacity_bytes),
        memory.waiting,
        status.requests_waiting
    )?;
    writeln!(text, "{}", watch(&status.watch))?;
    writeln!(
        text,
        "since the start: {} mounts let in, {} refused, {} times busy, {} handshakes over their rate, {} violations of \
         the protocol",
        totals.admitted, totals.refused, totals.busy, totals.handshakes_limited, totals.violations
    )?;
    writeln!(text)?;
    write_table(&mut text, "STAGE OF READS", &status.stages)?;
    write!(text, "\n{}\n{}", sessions(&status.sessions), limits(&status.limits))?;
    Ok(text)
}

fn watch(watch: &WatchStatus) -> String {
    let WatchStatus { watches, leases, pushes, revoked, refused, overflows, failed } = watch;
    if !failed.is_empty() {
        return format!("watch: off ({failed}): mounts see changes within seconds, not at once");
    }
    format!(
        "watch: {watches} folders for {leases} leases of mounts; since the start {pushes} pushes, {revoked} leases called \
         back, {refused} refused for want of a watch, {overflows} times events were lost"
    )
}

fn sessions(sessions: &[SessionStatus]) -> String {
    if sessions.is_empty() {
        return "no mount is connected\n".to_owned();
    }
    let head =
        ["MOUNT", "LABEL", "PEER", "TICKET", "SINCE", "REQUESTS", "IN FLIGHT", "SENT", "RTT", "BOUND BY"];
    let mut rows = vec![head.map(str::to_owned).into()];
    for session in sessions {
        let ticket = if session.ticket_label.is_empty() { &session.ticket } else { &session.ticket_label };
        rows.push(vec![
            session.session.to_string(),
            session.label.clone(),
            session.peer.to_string(),
            table::shown(ticket.as_bytes()),
            Span(session.connected_s).to_string(),
            session.requests.to_string(),
            session.requests_in_flight.to_string(),
            bytes(session.sent_bytes),
            format!("{}.{:03} ms", session.rtt_us / 1_000, session.rtt_us % 1_000),
            session.bound.words.clone(),
        ]);
    }
    table::aligned(&rows)
}

fn limits(limits: &[LimitStatus]) -> String {
    let mut rows = vec![["LIMIT", "USED", "MAX"].map(str::to_owned).into()];
    for LimitStatus { name, unit, used, max } in limits {
        let shown = |value: u64| match unit.as_str() {
            "bytes" => bytes(value),
            "bytes/s" => format!("{}/s", bytes(value)),
            "count" => value.to_string(),
            "1/s" => format!("{value}/s"),
            "ms" if value.is_multiple_of(1_000) => format!("{} s", value / 1_000),
            other => format!("{value} {other}"),
        };
        let max = max.map_or("no bound".to_owned(), shown);
        rows.push(vec![name.clone(), used.map_or("-".to_owned(), shown), max]);
    }
    table::aligned(&rows)
}

/// Bytes in the largest binary unit of which there is at least one.
fn bytes(count: u64) -> String {
    const UNITS: [(u32, &str); 4] = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
    match UNITS.iter().find(|(shift, _)| count >> shift > 0) {
        Some((shift, unit)) => {
            let tenths = (u128::from(count) * 10) >> shift;
            format!("{}.{} {unit}", tenths / 10, tenths % 10)
        }
        None => format!("{count} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_in_words() {
        let words: Vec<_> = [0, 1_023, 1_536, 64 << 20, u64::MAX].map(bytes).into();
        assert_eq!(words, ["0 B", "1023 B", "1.5 KiB", "64.0 MiB", "16777215.9 TiB"]);
    }

    #[test]
    fn limits_show_their_use_and_what_has_none() {
        let limit = |name: &str, unit: &str, used, max| LimitStatus {
            name: name.into(),
            unit: unit.into(),
            used,
            max,
        };
        let text = limits(&[
            limit("mounts", "count", Some(3), Some(256)),
            limit("bandwidth", "bytes/s", None, None),
            limit("hello", "ms", None, Some(2_000)),
            limit("handshakes", "1/s", None, Some(20)),
        ]);
        let lines: Vec<Vec<&str>> =
            text.lines().map(|line| line.split("  ").filter(|s| !s.is_empty()).collect()).collect();
        let lines: Vec<Vec<&str>> =
            lines.iter().map(|line| line.iter().map(|cell| cell.trim()).collect()).collect();
        assert_eq!(lines[1], ["mounts", "3", "256"]);
        assert_eq!(lines[2], ["bandwidth", "-", "no bound"]);
        assert_eq!(lines[3], ["hello", "-", "2 s"]);
        assert_eq!(lines[4], ["handshakes", "-", "20/s"]);
    }
}
