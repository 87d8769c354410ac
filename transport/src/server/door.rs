//! How often one address may knock: a token bucket for each, in a map of bounded size.

use std::{
    collections::{HashMap, VecDeque},
    net::IpAddr,
    num::NonZeroU64,
};

use tokio::time::Instant;

use super::{ServerLimits, bucket::Bucket};

/// Addresses that are remembered. Who is forgotten has a full bucket again, as somebody new has.
const ADDRESSES_MAX: usize = 4_096;
/// How many addresses that still owe are kept in place of an older one that does not.
const SECOND_CHANCES: usize = 8;

/// What becomes of a new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Knock {
    /// It may go on.
    Open,
    /// It must first prove its address (QUIC Retry), which costs us nothing that stays.
    Prove,
    /// It is refused, and may knock again later.
    Refuse,
}

/// The addresses that knocked lately.
#[derive(Debug)]
pub(super) struct Door {
    /// A second and at once; `None` where nobody is limited.
    rate: Option<(NonZeroU64, NonZeroU64)>,
    known: HashMap<Source, Visits>,
    /// The same addresses, the oldest first.
    ages: VecDeque<Source>,
}

/// An IPv4 address, or the first 64 bits of an IPv6 one: a single customer has all that follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Source {
    V4([u8; 4]),
    V6([u8; 8]),
}

/// Two buckets, so that nobody is shut out by others who write its address on their packets: those empty the first, and
/// then a proof is asked for. The second takes a packet from the address itself.
#[derive(Debug)]
struct Visits {
    claimed: Bucket,
    proved: Bucket,
}

impl Door {
    pub(super) fn new(limits: &ServerLimits) -> Door {
        let rate = NonZeroU64::new(limits.handshakes_per_s.into())
            .zip(NonZeroU64::new(limits.handshakes_burst.max(1).into()));
        Door { rate, known: HashMap::new(), ages: VecDeque::new() }
    }

    /// Somebody knocks from `ip`, having proved that it is theirs or not.
    pub(super) fn knock(&mut self, now: Instant, ip: IpAddr, proved: bool) -> Knock {
        let Some((per_s, burst)) = self.rate else { return Knock::Open };
        let source = Source::of(ip);
        if !self.known.contains_key(&source) {
            self.forget_one(now);
            self.ages.push_back(source);
        }
        let bucket = || Bucket::new(per_s, burst, now);
        let visits =
            self.known.entry(source).or_insert_with(|| Visits { claimed: bucket(), proved: bucket() });
        let (bucket, otherwise) = match proved {
            true => (&mut visits.proved, Knock::Refuse),
            false => (&mut visits.claimed, Knock::Prove),
        };
        if !bucket.is_ready(now) {
            return otherwise;
        }
        bucket.take(now, 1);
        if proved {
            // An address that proves itself all the time gets the rate once, not twice.
            visits.claimed.charge(now, 1);
        }
        Knock::Open
    }

    /// Makes room for one more address.
    fn forget_one(&mut self, now: Instant) {
        for chance in 0..=SECOND_CHANCES {
            if self.ages.len() < ADDRESSES_MAX {
                return;
            }
            let Some(oldest) = self.ages.pop_front() else { return };
            let owes = self
                .known
                .get(&oldest)
                .is_some_and(|visits| !(visits.claimed.is_full(now) && visits.proved.is_full(now)));
            if owes && chance < SECOND_CHANCES {
                self.ages.push_back(oldest);
            } else {
                self.known.remove(&oldest);
            }
        }
    }
}

impl Source {
    fn of(ip: IpAddr) -> Source {
        match ip.to_canonical() {
            IpAddr::V4(ip) => Source::V4(ip.octets()),
            IpAddr::V6(ip) => {
                let [a, b, c, d, e, f, g, h, ..] = ip.octets();
                Source::V6([a, b, c, d, e, f, g, h])
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{net::Ipv4Addr, time::Duration};

    use super::*;

    /// A moment on the paused clock.
    fn now() -> Instant {
        // clock: paused, and nothing waits for it.
        Instant::now()
    }

    fn door() -> Door {
        let limits = ServerLimits { handshakes_per_s: 10, handshakes_burst: 20, ..ServerLimits::default() };
        Door::new(&limits)
    }

    fn ip(number: u32) -> IpAddr {
        Ipv4Addr::from_bits(number).into()
    }

    fn opened(door: &mut Door, now: Instant, ip: IpAddr, proved: bool, knocks: usize) -> usize {
        (0..knocks).filter(|_| door.knock(now, ip, proved) == Knock::Open).count()
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_has_its_burst_and_its_rate() {
        let (mut door, now) = (door(), now());
        assert_eq!(opened(&mut door, now, ip(1), true, 100), 20);
        assert_eq!(door.knock(now, ip(1), true), Knock::Refuse);
        assert_eq!(door.knock(now, ip(1), false), Knock::Prove);
        assert_eq!(opened(&mut door, now + Duration::from_secs(1), ip(1), true, 100), 10);
        assert_eq!(door.knock(now, ip(2), true), Knock::Open, "another address");
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_named_on_forged_packets_gets_in_by_a_proof() {
        let (mut door, now) = (door(), now());
        assert_eq!(opened(&mut door, now, ip(1), false, 100_000), 20);
        assert_eq!(door.knock(now, ip(1), false), Knock::Prove);
        assert_eq!(door.knock(now, ip(1), true), Knock::Open);
    }

    #[tokio::test(start_paused = true)]
    async fn proofs_and_claims_together_keep_to_the_rate() {
        let (mut door, start) = (door(), now());
        let mut count = 0;
        for tick in 0..10_000 {
            let now = start + Duration::from_millis(tick * 10);
            count += opened(&mut door, now, ip(1), false, 3);
            count += opened(&mut door, now, ip(1), true, 3);
        }
        assert!(count <= 10 * 100 + 2 * 20, "{count} in 100 s");
    }

    #[tokio::test(start_paused = true)]
    async fn a_network_of_ipv6_is_one_address_and_a_mapped_one_is_ipv4() {
        let (mut door, now) = (door(), now());
        for host in 0..20 {
            assert_eq!(
                door.knock(now, format!("2001:db8:0:1::{host:x}").parse().unwrap(), true),
                Knock::Open
            );
        }
        assert_eq!(door.knock(now, "2001:db8:0:1:ffff::".parse().unwrap(), true), Knock::Refuse);
        assert_eq!(door.knock(now, "2001:db8:0:2::".parse().unwrap(), true), Knock::Open);
        opened(&mut door, now, "127.0.0.1".parse().unwrap(), true, 100);
        assert_eq!(door.knock(now, "::ffff:127.0.0.1".parse().unwrap(), true), Knock::Refuse);
    }

    #[tokio::test(start_paused = true)]
    async fn the_map_is_bounded_and_the_oldest_go_first_unless_they_owe() {
        let (mut door, now) = (door(), now());
        opened(&mut door, now, ip(0), true, 100);
        let later = now + Duration::from_millis(1);
        for number in 1..100_000 {
            door.knock(later, ip(number), false);
            assert!(door.known.len() <= ADDRESSES_MAX && door.ages.len() == door.known.len());
        }
        // All of them owe: then age alone decides.
        assert_eq!(door.knock(later, ip(0), true), Knock::Open);
        let rested = later + Duration::from_secs(60);
        opened(&mut door, rested, ip(7), true, 100);
        for number in 200_000..200_000 + u32::try_from(ADDRESSES_MAX).unwrap() {
            door.knock(rested - Duration::from_secs(50), ip(number), false);
        }
        assert_eq!(door.knock(rested, ip(7), true), Knock::Refuse, "it owes, and the others rested");
    }
}
