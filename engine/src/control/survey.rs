//! How a host stands: its status, gathered from its parts.

use std::{num::NonZeroU64, sync::atomic::Ordering, time::Duration};

use transport::{PathStats, ServerLimits, Usage};

use super::desk::Desk;
use crate::{
    config::TICKETS_MAX,
    stages,
    status::{BoundStatus, HostStatus, LimitStatus, MemoryStatus, SessionStatus, Totals, WatchStatus, disk},
    tickets::Occupant,
    watch::usage::WatchUsage,
};

impl Desk {
    /// How the host stands.
    pub(crate) fn status(&self) -> HostStatus {
        let Desk { service, server, .. } = self;
        let paths = server.paths();
        let sessions: Vec<_> =
            service.tickets.live().iter().map(|occupant| self.session(occupant, &paths)).collect();
        let pool = service.disk.pool.stats();
        let usage = server.usage();
        let watch = service.watches.usage();
        HostStatus {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_s: self.started.elapsed().as_secs(),
            addresses: self.door.addresses.clone(),
            listening: server.local_addrs(),
            shares: self.shares.clone(),
            disk: disk(&service.disk.ring.backend()),
            memory: MemoryStatus {
                capacity_bytes: pool.capacity_bytes as u64,
                lent_bytes: pool.lent_bytes as u64,
                resident_bytes: pool.resident_bytes as u64,
                waiting: pool.waiters as u64,
            },
            watch: WatchStatus::of(&watch),
            requests_waiting: usage.requests_waiting,
            stages: stages::of_host(&server.stages()),
            limits: self.limits(&usage, &sessions),
            sessions,
            totals: Totals {
                admitted: service.sessions.load(Ordering::Relaxed),
                refused: service.refused.load(Ordering::Relaxed),
                busy: usage.busy_total,
                handshakes_limited: usage.handshakes_limited_total,
                violations: usage.violations_total,
            },
        }
    }

    fn watch_limit(&self) -> LimitStatus {
        let WatchUsage { watches, watches_max, .. } = self.service.watches.usage();
        let (used, max) = (Some(watches as u64), Some(watches_max as u64));
        LimitStatus { name: "watched folders".into(), unit: "count".into(), used, max }
    }

    fn session(&self, occupant: &Occupant, paths: &[PathStats]) -> SessionStatus {
        // A session that has not taken its welcome yet has no path.
        let path = paths.iter().find(|path| path.peer == occupant.peer);
        let of = |field: fn(&PathStats) -> u64| path.map_or(0, field);
        let record = self.service.tickets.record(occupant.claims.id);
        SessionStatus {
            session: occupant.number,
            label: occupant.label.clone(),
            peer: occupant.peer,
            ticket: occupant.claims.id.to_string(),
            ticket_label: record.map(|record| record.label).unwrap_or_default(),
            connected_s: occupant.since.elapsed().as_secs(),
            requests: occupant.requests.load(Ordering::Relaxed),
            sent_bytes: of(|path| path.sent_bytes),
            rtt_us: of(|path| path.rtt_us),
            lost_packets: of(|path| path.lost_packets),
            requests_in_flight: of(|path| path.requests_in_flight),
            answer_bytes_in_flight: of(|path| path.answer_bytes_in_flight),
            bound: path.map(|path| BoundStatus::of(path.bound, &path.waits)).unwrap_or_default(),
        }
    }

    /// Every bound of the host, in the order of [`ServerLimits`].
    fn limits(&self, usage: &Usage, sessions: &[SessionStatus]) -> Vec<LimitStatus> {
        // Without `..`: a new bound is to be shown as well.
        let ServerLimits {
            connections_max,
            strangers_max,
            handshake_deadline,
            hello_deadline,
            request_deadline,
            answer_deadline,
            requests_max,
            bulk_bytes_max,
            answer_bytes_max,
            sessions_max,
            host_requests_max,
            host_answer_bytes_max,
            handshakes_per_s,
            handshakes_burst,
            session_bytes_per_s,
            host_bytes_per_s,
        } = self.limits.clone();
        let most = |field: fn(&SessionStatus) -> u64| Some(sessions.iter().map(field).max().unwrap_or(0));
        let millis = |deadline: Duration| u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX);
        let disk = &self.service.disk;
        let tickets = self.service.tickets.count();
        [
            ("mounts", "count", Some(usage.sessions), Some(sessions_max as u64)),
            ("connections", "count", Some(usage.sessions + usage.strangers), Some(connections_max as u64)),
            ("connections not admitted", "count", Some(usage.strangers), Some(strangers_max as u64)),
            ("requests", "count", Some(usage.requests_in_flight), Some(host_requests_max.into())),
            ("requests of a mount", "count", most(|s| s.requests_in_flight), Some(requests_max.into())),
            ("answers", "bytes", Some(usage.answer_bytes_in_flight), Some(host_answer_bytes_max)),
            (
                "answers to a mount",
                "bytes",
                most(|s| s.answer_bytes_in_flight),
                Some(answer_bytes_max.into()),
            ),
            ("read-ahead to a mount", "bytes", None, Some(bulk_bytes_max.into())),
            ("bandwidth", "bytes/s", None, host_bytes_per_s.map(NonZeroU64::get)),
            ("bandwidth to a mount", "bytes/s", None, session_bytes_per_s.map(NonZeroU64::get)),
            ("handshakes of an address", "1/s", None, Some(handshakes_per_s.into())),
            ("handshakes of an address at once", "count", None, Some(handshakes_burst.into())),
            ("handshake", "ms", None, Some(millis(handshake_deadline))),
            ("hello", "ms", None, Some(millis(hello_deadline))),
            ("arrival of a request", "ms", None, Some(millis(request_deadline))),
            ("answer to a request", "ms", None, Some(millis(answer_deadline))),
            (
                "memory",
                "bytes",
                Some(disk.pool.stats().lent_bytes as u64),
                Some(disk.pool.capacity_bytes() as u64),
            ),
            ("open files", "count", Some(disk.files.len() as u64), Some(self.files_open_max as u64)),
            ("tickets", "count", Some(tickets as u64), Some(TICKETS_MAX as u64)),
        ]
        .map(|(name, unit, used, max)| LimitStatus { name: name.into(), unit: unit.into(), used, max })
        .into_iter()
        .chain([self.watch_limit()])
        .collect()
    }
}
