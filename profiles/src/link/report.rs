//! What a link carried, dropped and cost.

use std::fmt;
use std::time::Duration;

use parking_lot::Mutex;

use super::drops;

const GIB: f64 = (1_u64 << 30) as f64;

/// One direction of a link since it started. Counters only rise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DirectionReport {
    /// Packets handed on (TCP: segments).
    pub packets: u64,
    /// Payload bytes handed on, without IP and UDP (or TCP) headers.
    pub bytes: u64,
    /// Packets dropped at the tail of the full queue.
    pub drops_queue: u64,
    /// Packets lost by chance (TCP: segments that came a retransmission late).
    pub drops_loss: u64,
    /// Packets larger than the MTU.
    pub drops_mtu: u64,
    /// Packets that the kernel did not take, or of a client beyond `flows_max`: not a property of the emulated link.
    pub drops_other: u64,
    /// The most that ever waited for the link.
    pub queue_bytes_high: u64,
    /// The latest release after the time a packet was due.
    pub late_max: Duration,
    /// The sum of that over `bursts`.
    pub late_sum: Duration,
    /// Batches handed on, one system call each.
    pub bursts: u64,
}

impl DirectionReport {
    /// How late a batch left on average.
    pub fn late_mean(&self) -> Duration {
        u32::try_from(self.bursts.max(1)).map_or(Duration::ZERO, |bursts| self.late_sum / bursts)
    }

    /// Counts a batch handed on at `now`.
    pub(super) fn released(&mut self, packets: usize, bytes: usize, late: Duration) {
        self.packets += packets as u64;
        self.bytes += bytes as u64;
        self.bursts += 1;
        self.late_sum += late;
        self.late_max = self.late_max.max(late);
    }
}

impl fmt::Display for DirectionReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} packets, {} bytes, dropped {} queue {} loss {} mtu {} other, queue high {} bytes, late {:?} mean {:?} max",
            self.packets,
            self.bytes,
            self.drops_queue,
            self.drops_loss,
            self.drops_mtu,
            self.drops_other,
            self.queue_bytes_high,
            self.late_mean(),
            self.late_max
        )
    }
}

/// A link since it started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinkReport {
    /// From clients to the target.
    pub up: DirectionReport,
    /// From the target to clients.
    pub down: DirectionReport,
    /// Clients (TCP: connections) with a way through the link now.
    pub flows_open: usize,
    /// All that ever had one.
    pub flows_opened: u64,
    /// Those beyond `flows_max`, or whose way could not be opened: packets (TCP: connections).
    pub flows_refused: u64,
    /// User and system time of the link's thread; up to 10 ms behind.
    pub cpu: Duration,
    /// Wall time since the start, when `cpu` was read.
    pub elapsed: Duration,
    /// Datagrams that the link's own socket buffers had no room for: the link was too slow, its figures do not count.
    pub socket_drops: u64,
    /// Why the link stopped carrying, when it did.
    pub fault: Option<String>,
}

impl LinkReport {
    /// CPU seconds for a GiB of payload, both directions; 0 where nothing was carried.
    pub fn cpu_seconds_per_gib(&self) -> f64 {
        let bytes = self.up.bytes + self.down.bytes;
        if bytes == 0 { 0.0 } else { self.cpu.as_secs_f64() * GIB / bytes as f64 }
    }

    /// The share of one core that the link used since it started.
    pub fn cpu_share(&self) -> f64 {
        if self.elapsed.is_zero() { 0.0 } else { self.cpu.as_secs_f64() / self.elapsed.as_secs_f64() }
    }
}

impl fmt::Display for LinkReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "up:   {}", self.up)?;
        writeln!(f, "down: {}", self.down)?;
        write!(
            f,
            "link: {:.3} s, cpu {:.3} s ({:.1} % of a core, {:.2} CPU-s/GiB), flows {} open {} opened {} refused, \
             own socket drops {}",
            self.elapsed.as_secs_f64(),
            self.cpu.as_secs_f64(),
            100.0 * self.cpu_share(),
            self.cpu_seconds_per_gib(),
            self.flows_open,
            self.flows_opened,
            self.flows_refused,
            self.socket_drops
        )?;
        match &self.fault {
            Some(fault) => write!(f, "\nlink stopped: {fault}"),
            None => Ok(()),
        }
    }
}

/// The report as the link's thread leaves it for others to read.
#[derive(Debug, Default)]
pub(super) struct Board {
    report: Mutex<LinkReport>,
    /// The sockets that may have dropped something; whoever asks looks it up, the link's thread has other work.
    inodes: Mutex<Vec<u64>>,
}

impl Board {
    pub(super) fn read(&self) -> LinkReport {
        let open_drops = drops::of_sockets(&self.inodes.lock());
        let mut report = self.report.lock().clone();
        report.socket_drops += open_drops;
        report
    }

    pub(super) fn update(&self, change: impl FnOnce(&mut LinkReport)) {
        change(&mut self.report.lock());
    }

    pub(super) fn watch_sockets(&self, inodes: Vec<u64>) {
        *self.inodes.lock() = inodes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_is_given_per_gib_and_as_a_share() {
        let mut report = LinkReport::default();
        assert_eq!((report.cpu_seconds_per_gib(), report.cpu_share()), (0.0, 0.0));
        report.up.released(10, 1 << 28, Duration::from_micros(30));
        report.down.released(10, 1 << 28, Duration::from_micros(10));
        (report.cpu, report.elapsed) = (Duration::from_secs(1), Duration::from_secs(4));
        assert_eq!((report.cpu_seconds_per_gib(), report.cpu_share()), (2.0, 0.25));
        assert!(report.to_string().contains("25.0 % of a core, 2.00 CPU-s/GiB"), "{report}");
    }

    #[test]
    fn lateness_is_kept_as_mean_and_maximum() {
        let mut way = DirectionReport::default();
        assert_eq!(way.late_mean(), Duration::ZERO);
        way.released(1, 100, Duration::from_micros(30));
        way.released(3, 300, Duration::from_micros(10));
        assert_eq!((way.late_mean(), way.late_max), (Duration::from_micros(20), Duration::from_micros(30)));
        assert_eq!((way.packets, way.bytes, way.bursts), (4, 400, 2));
    }
}
