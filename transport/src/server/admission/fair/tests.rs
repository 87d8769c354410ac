use std::{collections::HashMap, time::Duration};

use proptest::prelude::*;

use super::*;

const MIB: u32 = 1 << 20;

fn limits() -> ServerLimits {
    ServerLimits {
        requests_max: 64,
        bulk_bytes_max: 3 * MIB,
        answer_bytes_max: 6 * MIB,
        host_requests_max: 200,
        host_answer_bytes_max: 12 << 20,
        ..ServerLimits::default()
    }
}

/// The queue and all that was admitted, by the number of the request.
struct Bench {
    fair: Fair<u32>,
    now: Instant,
    held: HashMap<u32, Grant>,
    places: HashMap<u32, Place>,
    /// Requests in the order in which they were admitted, with their session and size.
    admitted: Vec<(usize, u32)>,
    /// The same by their numbers.
    order: VecDeque<u32>,
    busy: u32,
    next: u32,
}

impl Bench {
    fn new(limits: &ServerLimits) -> Bench {
        // clock: paused, or never looked at again: the bench moves its own.
        let now = Instant::now();
        let fair = Fair::new(limits, now);
        let (held, places) = (HashMap::new(), HashMap::new());
        Bench { fair, now, held, places, admitted: Vec::new(), order: VecDeque::new(), busy: 0, next: 0 }
    }

    fn ask(&mut self, session: usize, class: Class, bytes: u32) -> u32 {
        self.next += 1;
        let (order, number) = (Order { class, bytes }, self.next);
        match self.fair.ask(self.now, session, order) {
            Asked::Granted(grant) => {
                self.admitted.push((session, bytes));
                self.order.push_back(number);
                self.held.insert(number, grant);
            }
            Asked::Wait(_) => {
                let place = self.fair.wait(session, order, number);
                self.places.insert(number, place);
                self.pump();
            }
            Asked::Busy => self.busy += 1,
        }
        number
    }

    fn pump(&mut self) {
        let Bench { held, places, admitted, order, .. } = self;
        self.fair.pump(self.now, |number, grant| {
            admitted.push((grant.session, grant.order.bytes));
            order.push_back(number);
            held.insert(number, grant);
            places.remove(&number).expect("it waited");
        });
    }

    fn release(&mut self, number: u32) {
        let grant = self.held.remove(&number).expect("it is admitted");
        self.fair.release(grant);
        self.pump();
    }

    fn withdraw(&mut self, number: u32) {
        let place = self.places.remove(&number).expect("it waits");
        assert_eq!(self.fair.withdraw(place), Some(number));
        self.pump();
    }

    /// Releases the oldest again and again, and waits for rates, until nothing is held and nothing waits.
    fn drain(&mut self) {
        loop {
            if let Some(&oldest) = self.held.keys().min() {
                self.release(oldest);
            } else if let Some(at) = self.fair.wake_at() {
                assert!(at > self.now, "a moment that is over, and nothing came of it");
                self.now = at;
                self.pump();
            } else {
                break;
            }
        }
        assert_eq!(self.fair.total(), Tally::default(), "requests were forgotten in the queue");
        assert!(self.places.is_empty());
    }

    /// The request that was admitted before all others that are held.
    fn first_admitted(&mut self) -> u32 {
        loop {
            let number = self.order.pop_front().expect("something is held");
            if self.held.contains_key(&number) {
                return number;
            }
        }
    }

    fn bytes_of(&self, session: usize) -> u64 {
        self.admitted.iter().filter(|(of, _)| *of == session).map(|(_, bytes)| u64::from(*bytes)).sum()
    }

    fn check(&self, limits: &ServerLimits) {
        let total = self.fair.total();
        assert_eq!(total.requests, self.held.len() as u64);
        assert_eq!(total.waiting, self.places.len() as u64);
        assert!(total.answer_bytes <= limits.host_answer_bytes_max, "{total:?}");
        for (_, session) in &self.fair.sessions {
            assert!(session.answer_bytes <= limits.answer_bytes_max.into());
            assert!(session.bulk_bytes <= limits.bulk_bytes_max.into());
            assert!(session.requests + session.waiting.len() as u64 <= limits.requests_max.into());
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Ask { session: usize, class: Class, bytes: u32 },
    Release(prop::sample::Index),
    Withdraw(prop::sample::Index),
    Shrink(prop::sample::Index, u32),
    Pass(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let class = prop::sample::select(vec![Class::Demand, Class::Metadata, Class::Readahead, Class::Warmup]);
    let bytes = prop_oneof![Just(1_024), Just(4_096), Just(65_536), Just(MIB), 0..=MIB, Just(u32::MAX)];
    let ask =
        (0..4_usize, class, bytes).prop_map(|(session, class, bytes)| Step::Ask { session, class, bytes });
    let step = prop_oneof![
        5 => ask,
        2 => any::<prop::sample::Index>().prop_map(Step::Release),
        1 => any::<prop::sample::Index>().prop_map(Step::Withdraw),
        1 => (any::<prop::sample::Index>(), 0..MIB).prop_map(|(which, bytes)| Step::Shrink(which, bytes)),
        1 => (0..400_u64).prop_map(Step::Pass),
    ];
    prop::collection::vec(step, 1..300)
}

fn sorted(keys: impl Iterator<Item = u32>) -> Vec<u32> {
    let mut keys: Vec<u32> = keys.collect();
    keys.sort_unstable();
    keys
}

/// Every step keeps to the bounds, and all that waits is admitted in the end.
fn run(limits: &ServerLimits, steps: Vec<Step>) {
    let mut bench = Bench::new(limits);
    let sessions: Vec<usize> = (0..4).map(|_| bench.fair.join(bench.now)).collect();
    for step in steps {
        let held = sorted(bench.held.keys().copied());
        let waiting = sorted(bench.places.keys().copied());
        match step {
            Step::Ask { session, class, bytes } => {
                bench.ask(sessions[session], class, bytes);
            }
            Step::Release(which) if !held.is_empty() => bench.release(*which.get(&held)),
            Step::Withdraw(which) if !waiting.is_empty() => bench.withdraw(*which.get(&waiting)),
            Step::Shrink(which, bytes) if !held.is_empty() => {
                let grant = bench.held.get_mut(which.get(&held)).expect("it is held");
                bench.fair.shrink(grant, bytes);
                bench.pump();
            }
            Step::Pass(ms) => {
                bench.now += Duration::from_millis(ms);
                bench.pump();
            }
            Step::Release(_) | Step::Withdraw(_) | Step::Shrink(..) => {}
        }
        bench.check(limits);
    }
    bench.drain();
    for session in sessions {
        bench.fair.leave(session);
    }
    assert!(bench.fair.ring.is_empty() && bench.fair.asleep.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    #[test]
    fn bounds_hold_and_nothing_is_forgotten(steps in steps()) {
        run(&limits(), steps);
    }

    #[test]
    fn the_same_with_rates(steps in steps()) {
        let per_s = NonZeroU64::new(2 << 20);
        run(&ServerLimits { session_bytes_per_s: per_s, host_bytes_per_s: NonZeroU64::new(3 << 20), ..limits() }, steps);
    }

    #[test]
    fn the_same_with_budgets_below_one_answer(steps in steps()) {
        let small = ServerLimits {
            bulk_bytes_max: 10_000,
            answer_bytes_max: 50_000,
            host_answer_bytes_max: 60_000,
            ..limits()
        };
        run(&small, steps);
    }
}

#[tokio::test(start_paused = true)]
async fn equal_bytes_for_each_session_whatever_it_asks_for() {
    // The host's bytes are short: half of the sessions have 60 large reads queued, the others 20 of a quarter of that.
    let limits = ServerLimits { host_requests_max: 10_000, host_answer_bytes_max: 48 << 20, ..limits() };
    let mut bench = Bench::new(&limits);
    let mut sent = HashMap::new();
    for number in 0..10 {
        let session = bench.fair.join(bench.now);
        sent.insert(session, 0_u64);
        let (bytes, count) = if number % 2 == 0 { (MIB, 60) } else { (MIB / 4, 20) };
        for _ in 0..count {
            bench.ask(session, Class::Demand, bytes);
        }
    }
    for round in 0..6_000 {
        if round == 500 {
            // Those who came first held more than their part, and have given it back.
            sent.values_mut().for_each(|bytes| *bytes = 0);
        }
        let number = bench.first_admitted();
        let Grant { session, order } = bench.held[&number];
        bench.release(number);
        *sent.get_mut(&session).expect("one of them") += u64::from(order.bytes);
        // Each reader asks for the next as soon as it has one.
        bench.ask(session, Class::Demand, order.bytes);
        let (least, most) = (sent.values().min().unwrap(), sent.values().max().unwrap());
        // A turn's worth, and what was on its way at the start.
        assert!(round < 500 || most - least <= 4 * ANSWER_BYTES_MAX, "round {round}: {sent:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn one_small_read_after_the_other_gets_as_much_as_a_queue_of_large_ones() {
    let limits = ServerLimits { host_bytes_per_s: NonZeroU64::new(8 << 20), ..limits() };
    let mut bench = Bench::new(&limits);
    let (single, queued) = (bench.fair.join(bench.now), bench.fair.join(bench.now));
    for _ in 0..60 {
        bench.ask(queued, Class::Demand, MIB);
    }
    bench.ask(single, Class::Demand, MIB / 8);
    let end = bench.now + Duration::from_secs(60);
    while bench.now < end {
        match bench.held.keys().min().copied() {
            Some(number) => {
                let Grant { session, order } = bench.held[&number];
                bench.release(number);
                bench.ask(session, Class::Demand, order.bytes);
            }
            None => {
                bench.now = bench.fair.wake_at().expect("the rate is used up");
                bench.pump();
            }
        }
    }
    let (single, queued) = (bench.bytes_of(single), bench.bytes_of(queued));
    assert!(single * 5 >= queued * 4, "{single} and {queued} bytes");
}

#[tokio::test(start_paused = true)]
async fn one_request_is_served_within_one_round() {
    let limits = ServerLimits { host_answer_bytes_max: 4 << 20, ..limits() };
    let mut bench = Bench::new(&limits);
    let crowd: Vec<usize> = (0..5).map(|_| bench.fair.join(bench.now)).collect();
    for &session in &crowd {
        for _ in 0..30 {
            bench.ask(session, Class::Demand, MIB);
        }
    }
    let single = bench.fair.join(bench.now);
    let before = bench.admitted.len();
    let request = bench.ask(single, Class::Demand, MIB);
    while bench.places.contains_key(&request) {
        let oldest = *bench.held.keys().min().expect("something is held");
        bench.release(oldest);
    }
    let others = bench.admitted[before..].iter().filter(|(session, _)| *session != single).count();
    assert!(others <= crowd.len(), "{others} reads of the others went first");
}

#[tokio::test(start_paused = true)]
async fn small_answers_pass_while_reads_wait_for_the_host() {
    let limits = ServerLimits { host_answer_bytes_max: 4 << 20, ..limits() };
    let mut bench = Bench::new(&limits);
    let (reader, user) = (bench.fair.join(bench.now), bench.fair.join(bench.now));
    for _ in 0..30 {
        bench.ask(reader, Class::Demand, MIB);
        bench.ask(user, Class::Demand, MIB);
    }
    let stat = bench.ask(user, Class::Metadata, 1_024);
    assert!(bench.places.contains_key(&stat), "its own demand goes first");
    let third = bench.fair.join(bench.now);
    let stat = bench.ask(third, Class::Metadata, 1_024);
    assert!(bench.held.contains_key(&stat));
}

#[tokio::test(start_paused = true)]
async fn those_who_never_take_their_answers_leave_room_for_another() {
    for hogs in 1..=15 {
        let mut bench = Bench::new(&ServerLimits::default());
        for _ in 0..hogs {
            let hog = bench.fair.join(bench.now);
            for _ in 0..100 {
                bench.ask(hog, Class::Demand, MIB);
            }
        }
        let honest = bench.fair.join(bench.now);
        let read = bench.ask(honest, Class::Demand, MIB);
        assert!(bench.held.contains_key(&read), "behind {hogs} that hold what they can");
    }
}

#[tokio::test(start_paused = true)]
async fn the_class_decides_inside_a_session() {
    let limits = ServerLimits { answer_bytes_max: MIB, ..limits() };
    let mut bench = Bench::new(&limits);
    let session = bench.fair.join(bench.now);
    let first = bench.ask(session, Class::Warmup, MIB);
    let classes = [Class::Warmup, Class::Readahead, Class::Metadata, Class::Demand];
    let waiting = classes.map(|class| bench.ask(session, class, MIB));
    bench.release(first);
    for number in waiting.into_iter().rev() {
        assert_eq!(sorted(bench.held.keys().copied()), [number]);
        bench.release(number);
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_is_busy_but_not_for_who_has_nothing_there() {
    let limits = limits();
    let mut bench = Bench::new(&limits);
    let crowd: Vec<usize> = (0..4).map(|_| bench.fair.join(bench.now)).collect();
    for &session in &crowd {
        for _ in 0..70 {
            bench.ask(session, Class::Demand, MIB);
        }
    }
    // 64 of three sessions and the rest of 200; what is above a session's own bound is busy as well.
    assert_eq!(bench.fair.total().requests + bench.fair.total().waiting, 200);
    assert_eq!(bench.busy, 80);
    let new = bench.fair.join(bench.now);
    let first = bench.ask(new, Class::Metadata, 1_024);
    assert!(bench.held.contains_key(&first));
    bench.ask(new, Class::Metadata, 1_024);
    assert_eq!(bench.busy, 81);
}

#[tokio::test(start_paused = true)]
async fn both_rates_hold_together() {
    let second = Duration::from_secs(1);
    let per_s = |mib: u64| NonZeroU64::new(mib << 20);
    let limits = ServerLimits { session_bytes_per_s: per_s(8), host_bytes_per_s: per_s(12), ..limits() };
    let mut bench = Bench::new(&limits);
    let sessions = [bench.fair.join(bench.now), bench.fair.join(bench.now)];
    for (alone, expected) in [(true, [8, 0]), (false, [6, 6])] {
        let readers = if alone { 1 } else { 2 };
        let before = sessions.map(|session| bench.bytes_of(session));
        let end = bench.now + 20 * second;
        for &session in &sessions[..readers] {
            bench.ask(session, Class::Demand, 128 << 10);
            bench.ask(session, Class::Demand, 128 << 10);
        }
        while bench.now < end {
            if let Some(&oldest) = bench.held.keys().min() {
                let session = bench.held[&oldest].session;
                bench.release(oldest);
                bench.ask(session, Class::Demand, 128 << 10);
            } else {
                bench.now = bench.fair.wake_at().expect("all wait for their rate");
                bench.pump();
            }
        }
        for (at, mib_per_s) in expected.into_iter().enumerate() {
            let bytes = bench.bytes_of(sessions[at]) - before[at];
            let wanted = (mib_per_s << 20) * 20;
            // The burst of the host or the session comes on top.
            assert!(
                bytes + wanted / 20 >= wanted && bytes <= wanted + wanted / 20 + (3 << 20),
                "{bytes} of {wanted}"
            );
        }
        bench.drain();
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_used_less_gives_the_rest_of_its_rate_back() {
    let limits = ServerLimits { session_bytes_per_s: NonZeroU64::new(1 << 20), ..limits() };
    let mut bench = Bench::new(&limits);
    let session = bench.fair.join(bench.now);
    let first = bench.ask(session, Class::Demand, MIB);
    let second = bench.ask(session, Class::Demand, MIB);
    assert!(bench.places.contains_key(&second));
    let grant = bench.held.get_mut(&first).expect("it was admitted");
    bench.fair.shrink(grant, 100);
    bench.pump();
    assert!(bench.held.contains_key(&second), "the first was an error of 100 bytes");
}
