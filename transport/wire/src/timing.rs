//! What a host says about the time an answer took it.

use std::time::Duration;

use zerocopy::little_endian::U32;

use crate::bound::Bound;

/// Where the host's part of a request's time went; zero where the host does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timing {
    /// From the whole request to its admission.
    pub queue: Duration,
    /// From there until the answer was whole: the page cache, the disk, and what waits in front of them.
    pub read: Duration,
    /// What bounded the session lately, as the host sees it; `None` where it does not say.
    pub bound: Option<Bound>,
}

/// Bits of a time's mantissa; the other five shift it.
const MANTISSA_BITS: u32 = 11;

impl Timing {
    /// As the header has it: the number of the bound, and the times, the queue's in the low half.
    pub(crate) fn encode(self) -> (u8, U32) {
        let times = U32::new(u32::from(short(self.queue)) | u32::from(short(self.read)) << 16);
        (self.bound.map_or(0, Bound::number), times)
    }

    pub(crate) fn decode(bound: u8, times: U32) -> Timing {
        let [queue_low, queue_high, read_low, read_high] = times.get().to_le_bytes();
        let long = |low, high| long(u16::from_le_bytes([low, high]));
        Timing {
            queue: long(queue_low, queue_high),
            read: long(read_low, read_high),
            bound: Bound::from_number(bound),
        }
    }
}

/// Nanoseconds in 16 bits, rounded down by a thousandth at most; more than 73 minutes are that.
fn short(time: Duration) -> u16 {
    let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let shift = (u64::BITS - nanos.leading_zeros()).saturating_sub(MANTISSA_BITS);
    if shift > 31 {
        return u16::MAX;
    }
    let mantissa = u16::try_from(nanos >> shift).expect("eleven bits are left");
    mantissa | u16::try_from(shift << MANTISSA_BITS).expect("five bits above eleven")
}

fn long(bits: u16) -> Duration {
    let mantissa = u64::from(bits & ((1 << MANTISSA_BITS) - 1));
    Duration::from_nanos(mantissa << (bits >> MANTISSA_BITS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_come_back_within_a_thousandth() {
        for nanos in [0, 1, 2_047, 2_048, 5_001, 999_999, 61_000_000_001, 2_047 << 31] {
            let time = Duration::from_nanos(nanos);
            let back = long(short(time));
            assert!(back <= time && time - back <= time / 1_000, "{time:?} became {back:?}");
        }
    }

    #[test]
    fn the_longest_time_is_a_bound() {
        assert_eq!(long(short(Duration::MAX)), long(u16::MAX));
        assert_eq!(long(u16::MAX), Duration::from_nanos(2_047 << 31));
    }

    #[test]
    fn both_times_have_their_half() {
        let (queue, read) = (Duration::from_nanos(3), Duration::from_micros(2));
        let timing = Timing { queue, read, bound: Some(Bound::Disk) };
        let (bound, times) = timing.encode();
        assert_eq!((bound, times.get().to_le_bytes()), (5, [3, 0, 0xd0, 0x07]));
        assert_eq!(Timing::decode(bound, times), timing);
        assert_eq!(Timing::default().encode(), (0, U32::ZERO));
    }
}
