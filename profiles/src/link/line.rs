//! The packets of one direction between their arrival and the time they are due, in one ring of bytes.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

use quinn_udp::EcnCodepoint;

/// A client's way through the link; never used again after it closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct FlowId(pub(super) u64);

/// Whose packet it is and what its IP header said of congestion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Label {
    pub(super) flow: FlowId,
    pub(super) ecn: Option<EcnCodepoint>,
}

#[derive(Debug)]
struct Packet {
    at: usize,
    len: usize,
    label: Label,
    due: Duration,
}

/// Packets that leave in one system call: alike in all but the last one's length, and side by side in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Burst {
    pub(super) label: Label,
    /// Packets of it.
    pub(super) count: usize,
    /// Bytes of each but the last, which may have fewer.
    pub(super) segment_bytes: usize,
    /// When the first was due.
    pub(super) due: Duration,
    at: usize,
    len: usize,
}

impl Burst {
    /// Bytes of all its packets.
    pub(super) fn len(&self) -> usize {
        self.len
    }
}

/// What one UDP send may hold, headers of the largest packet taken off.
const BURST_BYTES_MAX: usize = 65_000;

/// A queue of packets, each contiguous, in `capacity` bytes taken once.
///
/// Packets are copied in as they arrive, so that those of different batches lie side by side and leave in one batch, and
/// so that a small packet holds its own bytes and not a receive buffer of 64 KiB.
#[derive(Debug)]
pub(super) struct Line {
    bytes: Box<[u8]>,
    packets: VecDeque<Packet>,
    /// Where the next packet goes, if it fits before the end.
    head: usize,
}

impl Line {
    pub(super) fn new(capacity: usize) -> Self {
        // Zeroed memory of the kernel: pages never written cost nothing.
        Self { bytes: vec![0; capacity].into_boxed_slice(), packets: VecDeque::new(), head: 0 }
    }

    /// Takes a packet; `false` where the ring has no room for it. `due` never goes back.
    pub(super) fn push(&mut self, payload: &[u8], label: Label, due: Duration) -> bool {
        // An empty datagram has a byte of room: equal ends then always mean a full ring.
        let Some(room) = self.room(payload.len().max(1)) else { return false };
        self.bytes[room.start..room.start + payload.len()].copy_from_slice(payload);
        self.head = room.end;
        self.packets.push_back(Packet { at: room.start, len: payload.len(), label, due });
        true
    }

    fn room(&mut self, len: usize) -> Option<Range<usize>> {
        let Some(oldest) = self.packets.front() else {
            // Empty: the same memory again, which the caches have.
            return (len <= self.bytes.len()).then_some(0..len);
        };
        let (tail, head) = (oldest.at, self.head);
        // With `head` before `tail` the packets wrap around the end; equal, the ring is full.
        let (here, start) = if head > tail { (self.bytes.len(), tail) } else { (tail, 0) };
        if head + len <= here { Some(head..head + len) } else { (len <= start).then_some(0..len) }
    }

    /// When the oldest packet is due.
    pub(super) fn next_due(&self) -> Option<Duration> {
        self.packets.front().map(|packet| packet.due)
    }

    /// The oldest packets due at `now` that can leave together, `segments_max` at most.
    pub(super) fn burst(&self, now: Duration, segments_max: usize) -> Option<Burst> {
        let mut packets = self.packets.iter().take_while(|packet| packet.due <= now);
        let first = packets.next()?;
        let mut burst = Burst {
            label: first.label,
            count: 1,
            segment_bytes: first.len,
            due: first.due,
            at: first.at,
            len: first.len,
        };
        for packet in packets.take(segments_max.saturating_sub(1)) {
            let joins = packet.label == burst.label
                && packet.at == burst.at + burst.len
                && (1..=burst.segment_bytes).contains(&packet.len)
                && burst.len + packet.len <= BURST_BYTES_MAX;
            if !joins {
                break;
            }
            burst.count += 1;
            burst.len += packet.len;
            if packet.len < burst.segment_bytes {
                break;
            }
        }
        Some(burst)
    }

    /// The bytes of a burst not yet popped.
    pub(super) fn contents(&self, burst: &Burst) -> &[u8] {
        &self.bytes[burst.at..burst.at + burst.len]
    }

    /// Forgets the `count` oldest packets.
    pub(super) fn pop(&mut self, count: usize) {
        self.packets.drain(..count.min(self.packets.len()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Label = Label { flow: FlowId(1), ecn: None };
    const B: Label = Label { flow: FlowId(2), ecn: None };

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Packet number `n` holds `len` times the byte `n`.
    fn push(line: &mut Line, n: u8, len: usize, label: Label) -> bool {
        line.push(&vec![n; len], label, at(u64::from(n)))
    }

    #[test]
    fn packets_alike_and_due_leave_together_in_order() {
        let mut line = Line::new(10_000);
        for n in 1..=5 {
            assert!(push(&mut line, n, 100, A));
        }
        assert_eq!(line.next_due(), Some(at(1)));
        assert_eq!(line.burst(at(0), 64), None);
        let burst = line.burst(at(4), 64).unwrap();
        assert_eq!((burst.count, burst.segment_bytes, burst.len(), burst.due), (4, 100, 400, at(1)));
        let firsts: Vec<u8> = line.contents(&burst).chunks(100).map(|packet| packet[0]).collect();
        assert_eq!(firsts, [1, 2, 3, 4]);
        line.pop(burst.count);
        assert_eq!(line.burst(at(9), 64).unwrap().count, 1);
    }

    #[test]
    fn a_burst_ends_at_another_flow_a_longer_packet_and_after_a_shorter_one() {
        let mut line = Line::new(10_000);
        let sizes = [(100, A), (100, A), (60, A), (60, A), (100, A), (100, B), (100, B)];
        for (n, (len, label)) in (1..).zip(sizes) {
            assert!(push(&mut line, n, len, label));
        }
        let mut counts = Vec::new();
        while let Some(burst) = line.burst(at(99), 64) {
            counts.push((burst.count, burst.label.flow.0, line.contents(&burst)[0]));
            line.pop(burst.count);
        }
        assert_eq!(counts, [(3, 1, 1), (1, 1, 4), (1, 1, 5), (2, 2, 6)]);
    }

    #[test]
    fn a_burst_has_at_most_the_segments_and_bytes_of_one_send() {
        let mut line = Line::new(1 << 20);
        for n in 1..=100 {
            assert!(push(&mut line, n, 1472, A));
        }
        assert_eq!(line.burst(at(200), 1).unwrap().count, 1);
        assert_eq!(line.burst(at(200), 10).unwrap().count, 10);
        assert_eq!(line.burst(at(200), 64).unwrap().count, BURST_BYTES_MAX / 1472);
    }

    #[test]
    fn the_ring_wraps_keeps_every_byte_and_refuses_what_does_not_fit() {
        let mut line = Line::new(1000);
        let (mut pushed, mut popped, mut refused) = (0_u8, 0_u8, 0);
        for round in 0..600_usize {
            let len = 90 + round % 37;
            if push(&mut line, pushed.wrapping_add(1), len, A) {
                pushed = pushed.wrapping_add(1);
            } else {
                refused += 1;
                let burst = line.burst(Duration::MAX, 1).unwrap();
                popped = popped.wrapping_add(1);
                assert!(line.contents(&burst).iter().all(|&byte| byte == popped));
                line.pop(1);
            }
        }
        assert!(refused > 200);
        while let Some(burst) = line.burst(Duration::MAX, 1) {
            popped = popped.wrapping_add(1);
            assert!(line.contents(&burst).iter().all(|&byte| byte == popped));
            line.pop(1);
        }
        assert_eq!(popped, pushed);
        assert!(!line.push(&[0; 1001], A, at(0)));
        assert!(line.push(&[0; 1000], A, at(0)));
        assert!(!line.push(&[0; 1], A, at(0)));
    }

    #[test]
    fn empty_datagrams_are_packets_too() {
        let mut line = Line::new(100);
        assert!(push(&mut line, 1, 0, A) && push(&mut line, 2, 0, A) && push(&mut line, 3, 10, A));
        for expected in [0, 0, 10] {
            let burst = line.burst(at(9), 64).unwrap();
            assert_eq!((burst.count, burst.len()), (1, expected));
            line.pop(1);
        }
    }
}
