//! Gathers what `wormhole status` shows: counters read where they are, nothing asked of host or kernel.

use std::{
    path::{Path, PathBuf},
    process,
    time::Duration,
};

use engine::{
    cache::{L1, l2::L2Stats},
    tickets::date,
};
use tokio::time::Instant;
use transport::Client;
use uring::Pool;

use super::bound;
use crate::{
    bdi,
    config::{MountConfig, OnDisconnect},
    mountinfo::MountInfo,
    stats::Stats,
    status::{Cache, Kernel, Leases, Memory, Offline, Reads, Report, Session},
    vfs::Vfs,
};

/// What stays the same over the life of a mount.
pub(super) struct Reporter {
    info: MountInfo,
    on_disconnect: OnDisconnect,
    deadline: Duration,
    read_ahead_error: Option<String>,
    cache_dir: Option<PathBuf>,
    began_with: Option<Duration>,
    mounted: Instant,
}

impl Reporter {
    /// For a mount made now; `read_ahead_error` says why the kernel's read-ahead could not be raised, `began_with` when
    /// what it began with in place of the host was known.
    pub(super) fn new(
        info: MountInfo,
        config: &MountConfig,
        (read_ahead_error, began_with): (Option<String>, Option<Duration>),
    ) -> Reporter {
        Reporter {
            info,
            on_disconnect: config.on_disconnect,
            deadline: config.deadline,
            read_ahead_error,
            cache_dir: config.cache.as_ref().map(|cache| cache.dir.clone()),
            began_with,
            mounted: Instant::now(),
        }
    }

    /// The mount now.
    pub(super) fn report(&self, client: &Client, vfs: &Vfs, pool: &Pool, l1: &L1) -> Report {
        let stats = vfs.stats();
        let memory = pool.stats();
        let held = vfs.held();
        let session = session(client);
        let rtt = Duration::from_micros(session.rtt_us);
        Report {
            mountpoint: self.info.mountpoint.display().to_string(),
            share: names(vfs),
            shares: vfs.shares().iter().map(|share| share.name.to_string()).collect(),
            pid: process::id(),
            uptime_s: self.mounted.elapsed().as_secs(),
            session,
            on_disconnect: self.on_disconnect.as_str().to_owned(),
            deadline_ms: u64::try_from(self.deadline.as_millis()).unwrap_or(u64::MAX),
            serves_stale: vfs.serves_stale(),
            offline: self.began_with.map(|known| Offline {
                known_at: date::utc(known.as_secs()),
                host_appeared_s: client.stats().first_session.map(|since| since.elapsed().as_secs()),
            }),
            bound: bound::status(&stats.recent.lock(), client.stats().host_bound),
            reads: reads(stats),
            stages: stats.read_stages.status(rtt),
            metadata_requests: stats.metadata_requests.get(),
            leases: leases(vfs, stats),
            in_flight: stats.in_flight.get(),
            fetches_in_flight: stats.fetches_in_flight.get(),
            errors: stats.errors.get(),
            stale: stats.stale.get(),
            verifications: stats.verifications.get(),
            memory: Memory {
                capacity_bytes: memory.capacity_bytes as u64,
                lent_bytes: memory.lent_bytes as u64,
                l1_bytes: l1.stats().bytes,
                resident_bytes: memory.resident_bytes as u64,
            },
            cache: self
                .cache_dir
                .as_ref()
                .zip(vfs.l2())
                .map(|(dir, l2)| cache(dir, &l2.stats(), stats.l2_carried.get())),
            kernel: Kernel {
                read_ahead_kb: bdi::read_ahead_kb(&self.info.device),
                read_ahead_error: self.read_ahead_error.clone(),
                nodes: held.nodes,
                open_files: held.open_files,
                open_dirs: held.open_dirs,
            },
        }
    }
}

/// The names of the shares that a mount shows, for people.
pub(super) fn names(vfs: &Vfs) -> String {
    vfs.shares().iter().map(|share| share.name.to_string()).collect::<Vec<_>>().join(", ")
}

fn session(client: &Client) -> Session {
    let (stats, loss) = (client.stats(), client.loss());
    Session {
        connected: stats.connected,
        peer: stats.peer.map(|peer| peer.to_string()),
        lost_because: loss.as_ref().map(|loss| printable(&loss.reason)),
        refused: loss.as_ref().is_some_and(|loss| loss.refused),
        last_attempt: loss.and_then(|loss| loss.attempt).map(|attempt| printable(&attempt)),
        since_s: stats.since.elapsed().as_secs(),
        reconnects: stats.reconnects,
        busy_calls: stats.busy_calls,
        rtt_us: stats.rtt_us,
        mtu_bytes: stats.mtu_bytes.into(),
        cwnd_bytes: stats.cwnd_bytes,
        lost_packets: stats.lost_packets,
        black_holes: stats.black_holes,
        sent_bytes: stats.sent_bytes,
        received_bytes: stats.received_bytes,
    }
}

/// A disk cache, of whose chunks `carried_over` were another version's.
pub fn cache(dir: &Path, l2: &L2Stats, carried_over: u64) -> Cache {
    Cache {
        dir: dir.display().to_string(),
        quota_bytes: l2.quota_bytes,
        bytes: l2.bytes,
        chunks: l2.records,
        region_bytes: l2.region_bytes,
        pinned_files: l2.pinned_files,
        is_loading: l2.is_loading,
        is_direct: l2.is_direct,
        degraded: l2.degraded.clone(),
        lacks_room: l2.lacks_room,
        hits: l2.hits,
        hit_bytes: l2.hit_bytes,
        misses: l2.misses,
        written_bytes: l2.written_bytes,
        dropped: l2.dropped,
        evicted: l2.evicted,
        corrupt: l2.corrupt,
        errors: l2.read_errors + l2.write_errors,
        carried_over,
    }
}

/// A text that the host may have chosen, as one line that moves no cursor of a terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

fn leases(vfs: &Vfs, stats: &Stats) -> Leases {
    let known = vfs.folders();
    Leases {
        held: known.leases,
        listings: known.listings,
        bytes: known.bytes,
        exhausted: known.exhausted,
        unwatchable: known.unwatchable,
        pushed_changes: stats.pushed_changes.get(),
        listed_ahead: known.ahead.listed,
        ahead_used: known.ahead.used,
        ahead_wasted: known.ahead.wasted,
    }
}

fn reads(stats: &Stats) -> Reads {
    Reads {
        requests: stats.reads.get(),
        replied_bytes: stats.read_bytes.get(),
        l1_bytes: stats.l1_bytes.get(),
        l2_bytes: stats.l2_bytes.get(),
        host_bytes: stats.host_bytes(),
        readahead_bytes: stats.host_readahead_bytes.get(),
        readahead_cancelled: stats.readahead_cancelled.get(),
        scan_files: stats.scan_files.get(),
        scan_bytes: stats.scan_bytes.get(),
        scan_wasted_bytes: stats.scan_wasted_bytes.get(),
        copied_bytes: stats.copied_gather_bytes.get(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_of_the_host_is_one_harmless_line() {
        assert_eq!(printable("stopped: a\nb\u{1b}[2Jc\u{9b}d"), "stopped: a\u{fffd}b\u{fffd}[2Jc\u{fffd}d");
        assert_eq!(printable("closed by peer: süß"), "closed by peer: süß");
    }
}
