//! The mount's counters as Prometheus sees them: names, and handles that are looked up once.
//!
//! Reads and the rest of the hot path count in [`crate::stats`]; [`Metrics::show`] copies those numbers when a scraper asks
//! for them. Latencies alone are recorded where they arise. METRICS.md lists them all.

use std::time::Duration;

use metrics::{
    Counter, Gauge, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge,
    histogram,
};
use tokio::time::Instant;
use wire::bound::Bound;

use crate::status::{Cache, Report};

/// What programs ask of the mount and wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A name in a folder.
    Lookup,
    /// Attributes.
    Getattr,
    /// Where a symbolic link leads.
    Readlink,
    /// Opening a file.
    Open,
    /// Bytes of a file.
    Read,
    /// Opening a folder.
    Opendir,
    /// Names of a folder.
    Readdir,
    /// Names of a folder with attributes.
    Readdirplus,
    /// One extended attribute.
    Getxattr,
    /// The names of the extended attributes.
    Listxattr,
}

/// As they are labelled, in the order of [`Operation`].
const OPERATIONS: [&str; 10] = [
    "lookup",
    "getattr",
    "readlink",
    "open",
    "read",
    "opendir",
    "readdir",
    "readdirplus",
    "getxattr",
    "listxattr",
];
const OPERATION_SECONDS: &str = "mount.operation_seconds";

/// How long operations take, from the kernel's request to the reply; counts nowhere until the process installs a
/// recorder.
pub struct Latencies([Histogram; OPERATIONS.len()]);

impl Default for Latencies {
    fn default() -> Latencies {
        describe_histogram!(OPERATION_SECONDS, Unit::Seconds, "from a request of the kernel to its reply");
        Latencies(OPERATIONS.map(|operation| histogram!(OPERATION_SECONDS, "operation" => operation)))
    }
}

impl Latencies {
    /// One reply was given now.
    pub fn record(&self, operation: Operation, started: Instant) {
        self.record_time(operation, started.elapsed());
    }

    /// One reply was given after this time.
    pub fn record_time(&self, operation: Operation, time: Duration) {
        self.0[operation as usize].record(time.as_secs_f64());
    }
}

/// A counter, and where its number is.
type Counted = (Counter, fn(&Report) -> u64);
/// A gauge, and where its number is.
type Gauged = (Gauge, fn(&Report) -> f64);

/// Handles to what [`Report`] has; they count nowhere until the process installs a recorder.
#[derive(Debug)]
pub struct Metrics {
    counters: Vec<Counted>,
    gauges: Vec<Gauged>,
    bounds: Vec<(Bound, Gauge)>,
}

impl Metrics {
    /// All of them, for the mount that `report` is about.
    pub fn new(report: &Report) -> Metrics {
        let info = gauge!(
            "mount.info",
            "mountpoint" => report.mountpoint.clone(),
            "share" => report.share.clone()
        );
        describe_gauge!("mount.info", Unit::Count, "1, labelled with the mountpoint and the share");
        info.set(1.0);
        describe_gauge!("mount.bound", Unit::Count, "1 for what bounds the session now");
        let bounds =
            Bound::all().map(|bound| (bound, gauge!("mount.bound", "bound" => bound.as_str()))).collect();
        Metrics { counters: counters(), gauges: gauges(), bounds }
    }

    /// Sets each to what the report says.
    pub fn show(&self, report: &Report) {
        for (counter, value) in &self.counters {
            counter.absolute(value(report));
        }
        for (gauge, value) in &self.gauges {
            gauge.set(value(report));
        }
        for (bound, gauge) in &self.bounds {
            gauge.set(truth(report.bound.name == bound.as_str()));
        }
    }
}

/// The disk cache; all zeroes where there is none.
fn cache(report: &Report) -> Cache {
    report.cache.clone().unwrap_or_default()
}

fn counters() -> Vec<Counted> {
    let of = |name: &'static str, unit: Unit, help: &'static str, value: fn(&Report) -> u64| {
        describe_counter!(name, unit, help);
        (counter!(name), value)
    };
    let bytes = |name, help, value| of(name, Unit::Bytes, help, value);
    let count = |name, help, value| of(name, Unit::Count, help, value);
    vec![
        count("mount.reads", "reads answered with bytes", |report| report.reads.requests),
        bytes("mount.read_bytes", "bytes of those answers", |report| report.reads.replied_bytes),
        bytes("mount.l1_bytes", "of these, in memory when asked for", |report| report.reads.l1_bytes),
        bytes("mount.l2_bytes", "contents read from the disk cache", |report| report.reads.l2_bytes),
        bytes("mount.l2_written_bytes", "written to the disk cache", |report| cache(report).written_bytes),
        count("mount.l2_dropped", "chunks that the disk cache did not take", |report| cache(report).dropped),
        count("mount.l2_evicted", "chunks given up to make room", |report| cache(report).evicted),
        count("mount.l2_corrupt", "chunks that were not as written", |report| cache(report).corrupt),
        count("mount.l2_errors", "reads and writes of the cache's disk that failed", |report| {
            cache(report).errors
        }),
        count("mount.l2_carried_over", "chunks of changed files that the host confirmed", |report| {
            cache(report).carried_over
        }),
        bytes("mount.host_bytes", "contents received from the host", |report| report.reads.host_bytes),
        bytes("mount.readahead_bytes", "of these, ahead of any reader", |report| {
            report.reads.readahead_bytes
        }),
        count("mount.readahead_cancelled", "fetches ahead called off", |report| {
            report.reads.readahead_cancelled
        }),
        count("mount.scan_files", "files fetched whole before they were opened", |report| {
            report.reads.scan_files
        }),
        bytes("mount.scan_bytes", "their bytes", |report| report.reads.scan_bytes),
        bytes("mount.scan_wasted_bytes", "fetched for a scan and not read by its end", |report| {
            report.reads.scan_wasted_bytes
        }),
        bytes("mount.copied_bytes", "copied because a reply straddled blocks", |report| {
            report.reads.copied_bytes
        }),
        count("mount.metadata_requests", "requests for names and attributes", |report| {
            report.metadata_requests
        }),
        count("mount.pushed_changes", "changes the host told of", |report| report.leases.pushed_changes),
        count("mount.walk_listings", "folders listed before they were opened", |report| {
            report.leases.listed_ahead
        }),
        count("mount.walk_listings_used", "of these, opened then", |report| report.leases.ahead_used),
        count("mount.walk_listings_wasted", "of these, forgotten or changed before", |report| {
            report.leases.ahead_wasted
        }),
        count("mount.errors", "operations that failed with EIO", |report| report.errors),
        count("mount.stale", "operations that failed with ESTALE", |report| report.stale),
        count("mount.verifications", "questions whether read bytes still hold", |report| {
            report.verifications
        }),
        count("mount.reconnects", "sessions after the first", |report| report.session.reconnects),
        count("mount.busy_calls", "requests put off by a busy host and asked again", |report| {
            report.session.busy_calls
        }),
        count("mount.lost_packets", "packets to the host that were lost", |report| {
            report.session.lost_packets
        }),
        count("mount.black_holes", "times the path swallowed large packets", |report| {
            report.session.black_holes
        }),
        bytes("mount.sent_bytes", "UDP payload sent", |report| report.session.sent_bytes),
        bytes("mount.received_bytes", "UDP payload received", |report| report.session.received_bytes),
    ]
}

// All of these are far below 2^53.
fn gauges() -> Vec<Gauged> {
    let of = |name: &'static str, unit: Unit, help: &'static str, value: fn(&Report) -> f64| {
        describe_gauge!(name, unit, help);
        (gauge!(name), value)
    };
    let bytes = |name, help, value| of(name, Unit::Bytes, help, value);
    let count = |name, help, value| of(name, Unit::Count, help, value);
    vec![
        count("mount.connected", "1 while there is a session", |report| truth(report.session.connected)),
        count("mount.serves_stale", "1 while old data is served", |report| truth(report.serves_stale)),
        of("mount.rtt_seconds", Unit::Seconds, "round trip to the host", |report| {
            match report.session.connected {
                true => report.session.rtt_us as f64 / 1e6,
                false => 0.0,
            }
        }),
        bytes("mount.mtu_bytes", "largest packet the path carries", |report| report.session.mtu_bytes as f64),
        bytes("mount.cwnd_bytes", "congestion window", |report| report.session.cwnd_bytes as f64),
        count("mount.in_flight", "operations being answered", |report| report.in_flight as f64),
        count("mount.fetches_in_flight", "fetches at the host", |report| report.fetches_in_flight as f64),
        bytes("mount.memory_bytes", "memory there may be", |report| report.memory.capacity_bytes as f64),
        bytes("mount.lent_bytes", "of it, lent out", |report| report.memory.lent_bytes as f64),
        bytes("mount.cached_bytes", "of these, cached contents", |report| report.memory.l1_bytes as f64),
        bytes("mount.l2_held_bytes", "contents in the disk cache", |report| cache(report).bytes as f64),
        bytes("mount.l2_quota_bytes", "what the disk cache may take", |report| {
            cache(report).quota_bytes as f64
        }),
        count("mount.l2_degraded", "1 while the disk cache is left alone", |report| {
            truth(cache(report).degraded.is_some())
        }),
        bytes("mount.resident_bytes", "held from the system", |report| report.memory.resident_bytes as f64),
        count("mount.leases", "folders whose changes the host tells", |report| report.leases.held as f64),
        count("mount.unleased", "folders that it does not watch", |report| {
            (report.leases.exhausted + report.leases.unwatchable) as f64
        }),
        bytes("mount.names_bytes", "names and attributes kept", |report| report.leases.bytes as f64),
        count("mount.nodes", "files the kernel knows", |report| report.kernel.nodes as f64),
        count("mount.open_files", "open files", |report| report.kernel.open_files as f64),
        count("mount.open_dirs", "open folders", |report| report.kernel.open_dirs as f64),
    ]
}

fn truth(is: bool) -> f64 {
    f64::from(u8::from(is))
}
