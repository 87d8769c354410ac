//! One direction of a TCP connection across the link, as a state machine: bytes in at one time, out at another.

use std::collections::VecDeque;
use std::time::Duration;

use super::pipe::Pipe;
use super::report::DirectionReport;

/// How often a segment can be lost in a row; a further retransmission arrives.
const LOSSES_MAX: u32 = 6;

/// What a segment is on the wire.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segments {
    /// Payload of a full one.
    pub(super) payload_bytes: usize,
    pub(super) headers_bytes: u32,
}

/// The bytes of one direction between their arrival at the link and their delivery, in order.
///
/// A segment that is lost comes a round trip later, and everything behind it with it, as with a fast retransmit. It uses
/// the link again. Nothing slows the sender down for it: see `profiles/README.md`.
#[derive(Debug)]
pub(super) struct Stream {
    bytes: VecDeque<u8>,
    /// The segments on their way, as the time each is due and its length.
    segments: VecDeque<(Duration, usize)>,
    /// Bytes at the front that have arrived.
    arrived: usize,
    /// No byte is delivered before: the handshake takes its round trips.
    opens_at: Duration,
    last_due: Duration,
    rtt: Duration,
    end: End,
}

/// How far a direction is with its end of file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Open,
    /// It reaches the far end at this time.
    Due(Duration),
    /// It was handed on.
    Done,
}

impl Stream {
    /// A direction whose first byte is delivered at `opens_at` at the earliest.
    pub(super) fn new(opens_at: Duration, rtt: Duration) -> Self {
        Self {
            bytes: VecDeque::new(),
            segments: VecDeque::new(),
            arrived: 0,
            opens_at,
            last_due: opens_at,
            rtt,
            end: End::Open,
        }
    }

    /// Bytes held.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether the sender may have more to say.
    pub(super) fn is_open(&self) -> bool {
        self.end == End::Open
    }

    /// Whether all is delivered and the end too.
    pub(super) fn is_done(&self) -> bool {
        self.end == End::Done
    }

    /// Takes what the sender wrote by `now`.
    pub(super) fn admit(
        &mut self,
        now: Duration,
        data: &[u8],
        segments: Segments,
        (pipe, counts): (&mut Pipe, &mut DirectionReport),
    ) {
        self.bytes.extend(data);
        for segment in data.chunks(segments.payload_bytes) {
            let wire_bytes = segment.len() as u64 + u64::from(segments.headers_bytes);
            let mut turn = pipe.carry(now, wire_bytes);
            let mut losses = 0;
            while turn.lost && losses < LOSSES_MAX {
                losses += 1;
                turn = pipe.carry(now, wire_bytes);
            }
            counts.drops_loss += u64::from(losses);
            self.last_due = self.last_due.max(turn.due + self.rtt * losses);
            self.segments.push_back((self.last_due, segment.len()));
        }
    }

    /// The sender closed its direction at `now`.
    pub(super) fn finish(&mut self, now: Duration, pipe: &Pipe) {
        if self.end == End::Open {
            self.end = End::Due(self.last_due.max(pipe.end_due(now)));
        }
    }

    /// The bytes to deliver at `now`; not always all of them at once.
    pub(super) fn due(&mut self, now: Duration, counts: &mut DirectionReport) -> &[u8] {
        let (mut packets, mut bytes, mut first) = (0, 0, None);
        while let Some(&(due, len)) = self.segments.front().filter(|(due, _)| *due <= now) {
            self.segments.pop_front();
            (packets, bytes) = (packets + 1, bytes + len);
            first.get_or_insert(due);
        }
        if let Some(due) = first {
            counts.released(packets, bytes, now.saturating_sub(due));
        }
        self.arrived += bytes;
        let (front, _) = self.bytes.as_slices();
        &front[..self.arrived.min(front.len())]
    }

    /// The receiver took `count` of the bytes of [`Stream::due`].
    pub(super) fn delivered(&mut self, count: usize) {
        self.bytes.drain(..count);
        self.arrived -= count;
    }

    /// Whether the end of file is to be handed on at `now`; true once.
    pub(super) fn ends(&mut self, now: Duration) -> bool {
        let ends = self.bytes.is_empty() && matches!(self.end, End::Due(due) if due <= now);
        if ends {
            self.end = End::Done;
        }
        ends
    }

    /// When there is something to hand on; `None` while the link holds nothing.
    pub(super) fn next_due(&self) -> Option<Duration> {
        if self.arrived > 0 {
            return Some(self.opens_at);
        }
        match (self.segments.front(), self.end) {
            (Some(&(due, _)), _) | (None, End::Due(due)) => Some(due),
            (None, End::Open | End::Done) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::config::{LinkConfig, Profile};
    use super::super::pipe::Direction;
    use super::*;

    const SEGMENTS: Segments = Segments { payload_bytes: 1448, headers_bytes: 52 };

    fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    /// 20 ms, 12 Mbit/s: a full segment takes 1 ms.
    fn parts(loss_ppm: u32) -> (Stream, Pipe, DirectionReport) {
        let config =
            LinkConfig { rtt: ms(20), rate_bps: 12_000_000, loss_ppm, ..LinkConfig::from(Profile::WanGood) };
        let pipe = Pipe::new(&config, Direction::Up);
        (Stream::new(ms(0), config.rtt), pipe, DirectionReport::default())
    }

    #[test]
    fn bytes_come_segment_by_segment_at_the_rate_after_the_delay() {
        let (mut stream, mut pipe, mut counts) = parts(0);
        stream.admit(ms(0), &[7; 3000], SEGMENTS, (&mut pipe, &mut counts));
        assert_eq!((stream.len(), stream.next_due()), (3000, Some(ms(11))));
        assert!(stream.due(ms(10), &mut counts).is_empty());
        assert_eq!(stream.due(ms(11), &mut counts).len(), 1448);
        stream.delivered(1000);
        assert_eq!(stream.due(ms(12), &mut counts).len(), 1896);
        stream.delivered(1896);
        assert_eq!(stream.due(ms(13), &mut counts), [7; 104]);
        stream.delivered(104);
        assert_eq!((stream.len(), stream.next_due(), counts.packets, counts.bytes), (0, None, 3, 3000));
    }

    #[test]
    fn the_end_comes_behind_the_bytes_and_once() {
        let (mut stream, mut pipe, mut counts) = parts(0);
        stream.admit(ms(0), &[7; 1448], SEGMENTS, (&mut pipe, &mut counts));
        stream.finish(ms(0), &pipe);
        assert!(!stream.is_open() && !stream.ends(ms(99)));
        let len = stream.due(ms(11), &mut counts).len();
        stream.delivered(len);
        assert_eq!(stream.next_due(), Some(ms(11)));
        assert!(!stream.ends(ms(10)) && stream.ends(ms(11)) && !stream.ends(ms(11)) && stream.is_done());
        assert_eq!(stream.next_due(), None);
    }

    #[test]
    fn the_handshake_holds_the_first_bytes() {
        let (_, mut pipe, mut counts) = parts(0);
        let mut stream = Stream::new(ms(30), ms(20));
        stream.admit(ms(0), &[7; 10], SEGMENTS, (&mut pipe, &mut counts));
        assert_eq!(stream.next_due(), Some(ms(30)));
        stream.admit(ms(40), &[7; 1448], SEGMENTS, (&mut pipe, &mut counts));
        assert!(stream.due(ms(29), &mut counts).is_empty());
        assert_eq!(stream.due(ms(30), &mut counts).len(), 10);
    }

    #[test]
    fn a_lost_segment_holds_those_behind_it_for_a_round_trip() {
        let (mut stream, mut pipe, mut counts) = parts(50_000);
        let mut last = Duration::ZERO;
        let mut stalls = 0;
        for turn in 0..1000 {
            let now = ms(turn * 50);
            stream.admit(now, &[7; 2896], SEGMENTS, (&mut pipe, &mut counts));
            let due: Vec<Duration> = stream.segments.drain(..).map(|(due, _)| due).collect();
            assert!(due[0] >= last && due[1] >= due[0]);
            stalls += u32::from(due[0] >= now + ms(20));
            last = due[1];
        }
        // 5 % of the 1,000 first segments, and those that a stall of the turn before still holds.
        assert!((25..=90).contains(&stalls), "{stalls}");
        assert!((60..=150).contains(&counts.drops_loss), "{}", counts.drops_loss);
    }
}
