//! The host's counters: names, and handles that are looked up once.

use metrics::{Counter, Gauge, Unit, counter, describe_counter, describe_gauge, gauge};
use transport::{PathStats, SessionEnd, StageCounts, Usage};
use uring::Backend;
use wire::bound::Bound;

use crate::{stages::write_histogram, watch::usage::WatchUsage};

/// Handles to the host's counters; they count nowhere until the process installs a recorder.
pub(crate) struct Metrics {
    /// Requests taken up, of any kind.
    pub(crate) requests: Counter,
    /// Requests answered with an error.
    pub(crate) errors: Counter,
    /// Bytes of files answered.
    pub(crate) read_bytes: Counter,
    /// Those of them that the page cache had.
    pub(crate) cached_bytes: Counter,
    /// Files opened, the cache of open files not counted.
    pub(crate) opens: Counter,
    /// Reads that found no buffer free.
    pub(crate) slot_waits: Counter,
    /// Names that the wire cannot carry, left out of listings.
    pub(crate) names_skipped: Counter,
    /// Mounts let in.
    pub(crate) admitted: Counter,
    /// Mounts refused.
    pub(crate) refused: Counter,
    /// Sessions over, by how they ended.
    pub(crate) ended: Ended,
    /// What the server holds and counts.
    pub(crate) server: ServerMetrics,
    /// What is watched for the leases of mounts.
    pub(crate) watch: WatchMetrics,
    /// Mounts connected now.
    pub(crate) sessions: Gauge,
    /// Files kept open now.
    pub(crate) files_open: Gauge,
    /// Bytes of buffers lent now.
    pub(crate) lent_bytes: Gauge,
}

impl Metrics {
    pub(crate) fn new() -> Metrics {
        describe();
        // Shown from the start, so that a first one is a rise.
        counter!(REVOKED).absolute(0);
        Metrics {
            requests: counter!("host.requests"),
            errors: counter!("host.errors"),
            read_bytes: counter!("host.read_bytes"),
            cached_bytes: counter!("host.cached_bytes"),
            opens: counter!("host.opens"),
            slot_waits: counter!("host.slot_waits"),
            names_skipped: counter!("host.names_skipped"),
            admitted: counter!("host.sessions_admitted"),
            refused: counter!("host.sessions_refused"),
            ended: Ended::new(),
            server: ServerMetrics::new(),
            watch: WatchMetrics::new(),
            sessions: gauge!("host.sessions"),
            files_open: gauge!("host.files_open"),
            lent_bytes: gauge!("host.lent_bytes"),
        }
    }
}

fn describe() {
    describe_counter!("host.requests", Unit::Count, "requests taken up");
    describe_counter!("host.errors", Unit::Count, "requests answered with an error");
    describe_counter!("host.read_bytes", Unit::Bytes, "bytes of files answered");
    describe_counter!("host.cached_bytes", Unit::Bytes, "bytes of files found in the page cache");
    describe_counter!("host.opens", Unit::Count, "files opened");
    describe_counter!("host.slot_waits", Unit::Count, "reads that waited for a buffer");
    describe_counter!("host.names_skipped", Unit::Count, "names the wire cannot carry");
    describe_counter!("host.sessions_admitted", Unit::Count, "mounts let in");
    describe_counter!("host.sessions_refused", Unit::Count, "mounts refused");
    describe_counter!(
        ENDED,
        Unit::Count,
        "sessions over, by how: left, lost (silence), closed (by the host), broken"
    );
    describe_counter!(REVOKED, Unit::Count, "tickets revoked");
    describe_gauge!("host.sessions", Unit::Count, "mounts connected");
    describe_gauge!("host.files_open", Unit::Count, "files kept open");
    describe_gauge!("host.lent_bytes", Unit::Bytes, "buffers lent");
    describe_gauge!(
        BACKEND,
        Unit::Count,
        "1, labelled with what reads the disk: io_uring or blocking_threads"
    );
}

/// What the network's side of the host holds and counts; shown when a scraper asks.
pub(crate) struct ServerMetrics {
    strangers: Gauge,
    requests_in_flight: Gauge,
    requests_waiting: Gauge,
    answer_bytes: Gauge,
    busy: Counter,
    handshakes_limited: Counter,
    violations: Counter,
    bounds: Vec<(Bound, Gauge)>,
}

impl ServerMetrics {
    fn new() -> ServerMetrics {
        describe_server();
        ServerMetrics {
            strangers: gauge!("host.strangers"),
            requests_in_flight: gauge!("host.requests_in_flight"),
            requests_waiting: gauge!("host.requests_waiting"),
            answer_bytes: gauge!("host.answer_bytes"),
            busy: counter!("host.busy"),
            handshakes_limited: counter!("host.handshakes_limited"),
            violations: counter!("host.violations"),
            bounds: Bound::all()
                .map(|bound| (bound, gauge!("host.sessions_bound", "bound" => bound.as_str())))
                .collect(),
        }
    }

    /// Sets each to what the server says. The gauges are far below 2^53.
    pub(crate) fn show(&self, usage: &Usage, paths: &[PathStats]) {
        for (bound, gauge) in &self.bounds {
            gauge.set(paths.iter().filter(|path| path.bound == Some(*bound)).count() as f64);
        }
        self.strangers.set(usage.strangers as f64);
        self.requests_in_flight.set(usage.requests_in_flight as f64);
        self.requests_waiting.set(usage.requests_waiting as f64);
        self.answer_bytes.set(usage.answer_bytes_in_flight as f64);
        self.busy.absolute(usage.busy_total);
        self.handshakes_limited.absolute(usage.handshakes_limited_total);
        self.violations.absolute(usage.violations_total);
    }
}

fn describe_server() {
    describe_gauge!("host.strangers", Unit::Count, "connections that are not admitted, or not yet");
    describe_gauge!("host.requests_in_flight", Unit::Count, "requests being read, sent or not yet acked");
    describe_gauge!("host.requests_waiting", Unit::Count, "requests that wait until their answer fits");
    describe_gauge!("host.answer_bytes", Unit::Bytes, "answers being read, sent or not yet acked");
    describe_counter!("host.busy", Unit::Count, "requests and mounts told to come again later");
    describe_counter!(
        "host.handshakes_limited",
        Unit::Count,
        "new connections over the rate of their address"
    );
    describe_gauge!("host.sessions_bound", Unit::Count, "mounts, by what bounds them");
    describe_counter!("host.violations", Unit::Count, "requests and connections against the protocol");
}

/// What is watched for the leases of mounts; shown when a scraper asks, and every few seconds.
pub(crate) struct WatchMetrics {
    watches: Gauge,
    watches_max: Gauge,
    leases: Gauge,
    pushes: Counter,
    revoked: Counter,
    refused: Counter,
    overflows: Counter,
}

impl WatchMetrics {
    fn new() -> WatchMetrics {
        describe_watch();
        WatchMetrics {
            watches: gauge!("host.watches"),
            watches_max: gauge!("host.watches_max"),
            leases: gauge!("host.leases"),
            pushes: counter!("host.pushes"),
            revoked: counter!("host.leases_revoked"),
            refused: counter!("host.leases_refused"),
            overflows: counter!("host.watch_overflows"),
        }
    }

    /// Sets each to what the watches say. The gauges are far below 2^53.
    pub(crate) fn show(&self, usage: &WatchUsage) {
        let WatchUsage { watches, watches_max, leases, failed: _, counts } = usage;
        self.watches.set(*watches as f64);
        self.watches_max.set(*watches_max as f64);
        self.leases.set(*leases as f64);
        self.pushes.absolute(counts.pushes);
        self.revoked.absolute(counts.revoked);
        self.refused.absolute(counts.refused);
        self.overflows.absolute(counts.overflows);
    }
}

fn describe_watch() {
    describe_gauge!("host.watches", Unit::Count, "folders watched for leases");
    describe_gauge!("host.watches_max", Unit::Count, "folders that may be watched");
    describe_gauge!("host.leases", Unit::Count, "leases of all mounts");
    describe_counter!("host.pushes", Unit::Count, "pushes handed to mounts");
    describe_counter!("host.leases_revoked", Unit::Count, "leases called back");
    describe_counter!("host.leases_refused", Unit::Count, "leases refused for want of a watch");
    describe_counter!("host.watch_overflows", Unit::Count, "times the kernel dropped events");
}

/// The times of requests, which the transport counts.
pub(crate) fn stages(counts: &StageCounts) -> String {
    let StageCounts { queue, read, send, answered } = counts;
    let mut text = String::new();
    let help = "from a request's arrival to its answer";
    write_histogram(&mut text, "host_request_seconds", help, &[("", answered)]);
    let stages = [("stage=\"queue\"", queue), ("stage=\"read\"", read), ("stage=\"send\"", send)];
    write_histogram(&mut text, "host_request_stage_seconds", "parts of the time of reads", &stages);
    text
}

/// One more ticket that was revoked.
pub(crate) fn revoked() {
    counter!(REVOKED).increment(1);
}

const REVOKED: &str = "host.tickets_revoked";
const ENDED: &str = "host.sessions_ended";
const BACKEND: &str = "host.backend";

/// One counter for each way a session ends; all of them start at zero, so that a first loss shows as a rise.
pub(crate) struct Ended {
    left: Counter,
    lost: Counter,
    closed: Counter,
    broken: Counter,
}

impl Ended {
    fn new() -> Ended {
        let of = |how: &'static str| {
            let counter = counter!(ENDED, "how" => how);
            counter.absolute(0);
            counter
        };
        Ended { left: of("left"), lost: of("lost"), closed: of("closed"), broken: of("broken") }
    }

    pub(crate) fn of(&self, end: SessionEnd) -> &Counter {
        match end {
            SessionEnd::Left => &self.left,
            SessionEnd::Lost => &self.lost,
            SessionEnd::Closed => &self.closed,
            SessionEnd::Broken => &self.broken,
        }
    }
}

/// Says which back end reads the disk, once.
pub(crate) fn show_backend(backend: &Backend) {
    let name = match backend {
        Backend::Uring => "io_uring",
        Backend::Blocking { .. } => "blocking_threads",
    };
    gauge!(BACKEND, "backend" => name).set(1.0);
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}
