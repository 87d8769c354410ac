//! What `wormhole status` shows of a mount: the report, as JSON and as text.

use std::fmt;

use engine::{stages::write_table, status::BoundStatus};
use serde::{Deserialize, Serialize};

use crate::stages::ReadStagesStatus;

/// One mount at one moment. Counters begin at zero when it is mounted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Where it is mounted.
    pub mountpoint: String,
    /// The name of the share, or of all.
    pub share: String,
    /// The names of the shares that the host has for this mount now.
    #[serde(default)]
    pub shares: Vec<String>,
    /// The process that serves it.
    pub pid: u32,
    /// Seconds since it was mounted.
    pub uptime_s: u64,
    /// The session with the host.
    pub session: Session,
    /// What programs get while there is no session: `block`, `fail` or `stale`.
    pub on_disconnect: String,
    /// Milliseconds after which an operation fails.
    pub deadline_ms: u64,
    /// Whether programs are shown what memory holds because the host is out of reach.
    pub serves_stale: bool,
    /// That it was mounted without its host; `None` where the host was there.
    #[serde(default)]
    pub offline: Option<Offline>,
    /// What bounded the session in the last seconds.
    #[serde(default)]
    pub bound: BoundStatus,
    /// Reads of file contents.
    pub reads: Reads,
    /// Where their time went.
    #[serde(default)]
    pub stages: ReadStagesStatus,
    /// Requests for names and attributes sent to the host.
    pub metadata_requests: u64,
    /// What the host pushes changes of.
    #[serde(default)]
    pub leases: Leases,
    /// Requests of programs being answered now.
    pub in_flight: u64,
    /// Requests for file contents at the host now.
    pub fetches_in_flight: u64,
    /// Operations that failed with an I/O error.
    pub errors: u64,
    /// Operations refused because the file changed on the host.
    pub stale: u64,
    /// Times the host was asked whether a changed file still holds what was read of it.
    #[serde(default)]
    pub verifications: u64,
    /// Memory for caches, read-ahead and data in flight.
    pub memory: Memory,
    /// The cache on the disk of this machine; `None` where there is none.
    #[serde(default)]
    pub cache: Option<Cache>,
    /// What the kernel knows of the mount.
    pub kernel: Kernel,
}

/// A mount that began without its host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offline {
    /// When what it began with was known, in UTC.
    pub known_at: String,
    /// Seconds since the host appeared; `None` while it has not.
    pub host_appeared_s: Option<u64>,
}

/// Folders that the host watches for this mount, and what memory holds of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leases {
    /// Leases held.
    pub held: u64,
    /// Complete listings in memory.
    pub listings: u64,
    /// Bytes of names and listings.
    pub bytes: u64,
    /// Folders without a lease since the host watches as many as it may.
    pub exhausted: u64,
    /// Folders without a lease since the host cannot watch them.
    pub unwatchable: u64,
    /// Changes that the host pushed.
    pub pushed_changes: u64,
    /// Folders listed before they were opened, in a tree that a program walks.
    #[serde(default)]
    pub listed_ahead: u64,
    /// Of these, opened then.
    #[serde(default)]
    pub ahead_used: u64,
    /// Of these, forgotten or changed before they were.
    #[serde(default)]
    pub ahead_wasted: u64,
}

/// The session with the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Whether there is one now.
    pub connected: bool,
    /// The host's address.
    pub peer: Option<String>,
    /// How the last session ended, while there is none.
    pub lost_because: Option<String>,
    /// How the latest attempt at another one failed, while there is none.
    pub last_attempt: Option<String>,
    /// Whether the host refuses the ticket, which may have expired or been revoked.
    #[serde(default)]
    pub refused: bool,
    /// Seconds since this session began, or the last one was lost.
    pub since_s: u64,
    /// Sessions after the first.
    pub reconnects: u64,
    /// Requests that the host put off because a limit of it was reached; each was asked again until its deadline.
    #[serde(default)]
    pub busy_calls: u64,
    /// Round-trip time in microseconds.
    pub rtt_us: u64,
    /// Bytes of a packet.
    pub mtu_bytes: u64,
    /// Congestion window in bytes.
    pub cwnd_bytes: u64,
    /// Packets lost.
    pub lost_packets: u64,
    /// Times the path swallowed large packets.
    pub black_holes: u64,
    /// Bytes sent, packets and all.
    pub sent_bytes: u64,
    /// Bytes received, packets and all.
    pub received_bytes: u64,
}

/// Reads of file contents, by where the bytes came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reads {
    /// Requests answered.
    pub requests: u64,
    /// Bytes of the answers.
    pub replied_bytes: u64,
    /// Of these, bytes that were in memory when asked for.
    pub l1_bytes: u64,
    /// Bytes read from the disk cache.
    #[serde(default)]
    pub l2_bytes: u64,
    /// Bytes received from the host.
    pub host_bytes: u64,
    /// Of these, bytes fetched before a program asked.
    pub readahead_bytes: u64,
    /// Fetches ahead that were called off.
    pub readahead_cancelled: u64,
    /// Files fetched whole before they were opened, since their folder is being read file by file.
    pub scan_files: u64,
    /// Their bytes.
    pub scan_bytes: u64,
    /// Bytes fetched for such a folder that nobody had read when it was left.
    pub scan_wasted_bytes: u64,
    /// Bytes copied because an answer straddled blocks.
    pub copied_bytes: u64,
}

/// Memory for caches, read-ahead and data in flight.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// All there may be.
    pub capacity_bytes: u64,
    /// Lent out: cached, in flight or being answered with.
    pub lent_bytes: u64,
    /// Of these, cached.
    pub l1_bytes: u64,
    /// Held from the system.
    pub resident_bytes: u64,
}

/// The cache on the disk of this machine; counts are since it was mounted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cache {
    /// Its folder.
    pub dir: String,
    /// The most that the folder takes, all mounts together.
    pub quota_bytes: u64,
    /// Bytes of files that this mount holds there.
    pub bytes: u64,
    /// Chunks of them.
    pub chunks: u64,
    /// Bytes of this mount's files there.
    pub region_bytes: u64,
    /// Files that are pinned.
    pub pinned_files: u64,
    /// Whether what earlier mounts left is still being read.
    pub is_loading: bool,
    /// Whether it is read and written past the kernel's cache.
    pub is_direct: bool,
    /// Why it is left alone now, when it is.
    pub degraded: Option<String>,
    /// Whether chunks are left out for want of room: the file system has too little free, or too much is pinned.
    #[serde(default)]
    pub lacks_room: bool,
    /// Reads answered.
    #[serde(default)]
    pub hits: u64,
    /// Bytes of them.
    #[serde(default)]
    pub hit_bytes: u64,
    /// Reads that found nothing where something had been.
    pub misses: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Chunks not taken: the disk too slow, failing or full.
    pub dropped: u64,
    /// Chunks given up to make room.
    pub evicted: u64,
    /// Chunks whose bytes were not those written; fetched from the host instead.
    pub corrupt: u64,
    /// Reads and writes that failed.
    pub errors: u64,
    /// Chunks of a changed file that the host confirmed, and that were not fetched again.
    pub carried_over: u64,
}

/// What the kernel knows of the mount.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kernel {
    /// Its read-ahead in KiB; `None` when it cannot be told.
    pub read_ahead_kb: Option<u32>,
    /// Why the read-ahead could not be raised.
    pub read_ahead_error: Option<String>,
    /// Files it holds a number of.
    pub nodes: u64,
    /// Open files.
    pub open_files: u64,
    /// Open directories.
    pub open_dirs: u64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { session, reads, memory, kernel, .. } = self;
        writeln!(f, "{}", self.mountpoint)?;
        let noun = if self.shares.len() > 1 { "shares" } else { "share " };
        writeln!(f, "  {noun}      {} (pid {}, up {})", self.share, self.pid, Seconds(self.uptime_s))?;
        writeln!(f, "  session     {session}")?;
        self.fmt_offline(f)?;
        self.fmt_loss(f)?;
        if session.busy_calls > 0 {
            writeln!(
                f,
                "  busy        {} requests put off by a busy host and asked again",
                session.busy_calls
            )?;
        }
        writeln!(
            f,
            "  path        RTT {:.2} ms, MTU {}, window {}, {} packets lost, {} black holes",
            session.rtt_us as f64 / 1000.0,
            session.mtu_bytes,
            Bytes(session.cwnd_bytes),
            session.lost_packets,
            session.black_holes
        )?;
        if !self.bound.words.is_empty() {
            writeln!(f, "  bound by    {}", self.bound.words)?;
        }
        writeln!(
            f,
            "  reads       {} in {} requests: {} from memory, {} from disk, {} from the host ({} ahead)",
            Bytes(reads.replied_bytes),
            reads.requests,
            Bytes(reads.l1_bytes),
            Bytes(reads.l2_bytes),
            Bytes(reads.host_bytes),
            Bytes(reads.readahead_bytes)
        )?;
        writeln!(
            f,
            "  requests    {} in flight, {} fetches, {} for names; {} I/O errors, {} stale",
            self.in_flight, self.fetches_in_flight, self.metadata_requests, self.errors, self.stale
        )?;
        self.fmt_leases(f)?;
        writeln!(
            f,
            "  memory      {} of {} lent ({} cached), {} resident",
            Bytes(memory.lent_bytes),
            Bytes(memory.capacity_bytes),
            Bytes(memory.l1_bytes),
            Bytes(memory.resident_bytes)
        )?;
        match &self.cache {
            Some(cache) => write!(f, "{cache}")?,
            None => writeln!(f, "  cache       none on the disk")?,
        }
        write!(f, "  kernel      {} files known, {} open, read-ahead ", kernel.nodes, kernel.open_files)?;
        match kernel.read_ahead_kb {
            Some(kb) => write!(f, "{kb} KiB")?,
            None => write!(f, "not known")?,
        }
        match &kernel.read_ahead_error {
            Some(error) => writeln!(f, " (could not be raised: {error})")?,
            None => writeln!(f)?,
        }
        write_table(f, "  READS FROM MEMORY", &self.stages.l1)?;
        write_table(f, "  READS FROM DISK OR HOST", &self.stages.host)
    }
}

impl Report {
    /// Which folders the host tells of, and which not.
    fn fmt_leases(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let leases = &self.leases;
        write!(
            f,
            "  leases      {} folders, {} listings in {}; {} changes pushed",
            leases.held,
            leases.listings,
            Bytes(leases.bytes),
            leases.pushed_changes
        )?;
        if leases.exhausted + leases.unwatchable > 0 {
            write!(
                f,
                "; without a lease: {} (the host watches as many as it may), {} (it cannot watch them)",
                leases.exhausted, leases.unwatchable
            )?;
        }
        if leases.listed_ahead > 0 {
            let (ahead, used) = (leases.listed_ahead, leases.ahead_used);
            write!(f, "; {ahead} folders listed ahead, {used} of them opened")?;
        }
        writeln!(f)
    }

    /// That it began without the host, and whether that is over.
    fn fmt_offline(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(Offline { known_at, host_appeared_s }) = &self.offline else { return Ok(()) };
        write!(
            f,
            "  offline     since it was mounted {} ago, from what was known on {known_at}",
            Seconds(self.uptime_s)
        )?;
        match host_appeared_s {
            Some(s) => writeln!(f, "; the host appeared {} ago", Seconds(*s)),
            None => writeln!(f, "; the host has not appeared"),
        }
    }

    /// Why there is no session, and what that means for programs.
    fn fmt_loss(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(reason) = self.session.lost_because.as_ref().filter(|_| !self.session.connected) else {
            return Ok(());
        };
        writeln!(f, "  lost        {reason}")?;
        if let Some(attempt) = &self.session.last_attempt {
            writeln!(f, "  last try    {attempt}")?;
        }
        if self.session.refused {
            return writeln!(
                f,
                "  meanwhile   programs get \"Permission denied\"; mount again with a new ticket"
            );
        }
        let meanwhile = match self.on_disconnect.as_str() {
            "stale" => "serving STALE data from memory and disk, the rest fails at once",
            "fail" => "what memory does not hold fails at once",
            _ => "programs wait for the host",
        };
        write!(f, "  meanwhile   {meanwhile} (--on-disconnect {}", self.on_disconnect)?;
        writeln!(f, ", --deadline {} ms)", self.deadline_ms)
    }
}

impl fmt::Display for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let peer = self.peer.as_deref().unwrap_or("the host");
        if self.connected {
            write!(f, "connected to {peer} for {}", Seconds(self.since_s))?;
        } else {
            write!(f, "NOT connected: lost {} ago", Seconds(self.since_s))?;
        }
        write!(f, ", {} reconnects", self.reconnects)
    }
}

impl fmt::Display for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "  cache       {}: {} in {} chunks, {} on the disk",
            self.dir,
            Bytes(self.bytes),
            self.chunks,
            Bytes(self.region_bytes)
        )?;
        // Without a mount nobody says what it may take.
        if self.quota_bytes > 0 {
            write!(f, " of {}", Bytes(self.quota_bytes))?;
        }
        writeln!(f, "{}", if self.is_loading { "; still looking through it" } else { "" })?;
        if let Some(reason) = &self.degraded {
            writeln!(f, "  cache OFF   {reason}; what it cannot give comes from the host")?;
        }
        if self.lacks_room {
            writeln!(
                f,
                "  cache FULL  no room for more: free the disk, or unpin; it keeps 1 GiB of it free"
            )?;
        }
        let Cache { written_bytes, dropped, evicted, corrupt, errors, .. } = self;
        writeln!(
            f,
            "  cached      {} written; {dropped} chunks not taken, {evicted} evicted, {corrupt} corrupt; {errors} errors",
            Bytes(*written_bytes)
        )
    }
}

/// Bytes in binary units, three digits or so.
pub(crate) struct Bytes(pub(crate) u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
        if self.0 < 1024 {
            return write!(f, "{} B", self.0);
        }
        let mut value = self.0 as f64 / 1024.0;
        let mut unit = 0;
        while value >= 1024.0 && unit + 1 < UNITS.len() {
            value /= 1024.0;
            unit += 1;
        }
        write!(f, "{value:.1} {}", UNITS[unit])
    }
}

/// Seconds as people say them.
struct Seconds(u64);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            s @ 0..60 => write!(f, "{s} s"),
            s @ 60..3600 => write!(f, "{} min {} s", s / 60, s % 60),
            s => write!(f, "{} h {} min", s / 3600, s % 3600 / 60),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_read_well() {
        assert_eq!(Bytes(1023).to_string(), "1023 B");
        assert_eq!(Bytes(1536).to_string(), "1.5 KiB");
        assert_eq!(Bytes(3 << 40).to_string(), "3.0 TiB");
        assert_eq!(Bytes(u64::MAX).to_string(), "16384.0 PiB");
        assert_eq!(Seconds(59).to_string(), "59 s");
        assert_eq!(Seconds(61).to_string(), "1 min 1 s");
        assert_eq!(Seconds(3 * 3600 + 120).to_string(), "3 h 2 min");
    }
}
