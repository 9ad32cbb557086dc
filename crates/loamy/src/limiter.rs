//! Holds to a rate.

use std::time::{Duration, Instant};

use crate::rate::{LONGEST, Rate};

/// Whether something may go now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    Ready,
    /// Asked again then, the answer is `Ready`, unless somebody else has gone meanwhile.
    NotBefore(Instant),
}

impl Admission {
    /// Both must let it go.
    pub(crate) fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Ready, other) => other,
            (one, Self::Ready) => one,
            (Self::NotBefore(one), Self::NotBefore(other)) => Self::NotBefore(one.max(other)),
        }
    }
}

/// Holds to a rate by GCRA (the generic cell rate algorithm, ITU-T I.371): in every span of time W, however it is laid, at
/// most `rate · W + burst` are granted, and nothing that was not used is saved up beyond the burst.
///
/// A cost above the burst goes when nothing is owed any more, and what follows waits until it is paid off; in the sentence
/// above, the largest such cost then stands for the burst. Whoever asks for little can so overtake who asks for much: ask
/// in the order of a queue.
///
/// Time is counted in parts of a nanosecond, of which there are as many as the rate counts in its span, so that no division is
/// ever rounded: hours do not add up to an error. Only the clock is coarser: a grant that is due within a nanosecond waits
/// for its end.
#[derive(Clone, Debug)]
pub(crate) struct Limiter {
    rate: Rate,
    burst: u64,
    /// The instant that counts as 0.
    since: Option<Instant>,
    /// The latest `now` that was given. Who reads the clock before waiting for a lock comes with an earlier one.
    latest: u128,
    /// When all that was granted is paid off (the theoretical arrival time).
    paid_off: u128,
    /// The same with what is reserved, were it taken when it is expected to be.
    reserved: u128,
    /// How many rows were granted, and what they cost.
    granted: (u64, u64),
}

impl Limiter {
    pub(crate) fn new(rate: Rate, burst: u64) -> Self {
        Self { rate, burst: burst.max(1), since: None, latest: 0, paid_off: 0, reserved: 0, granted: (0, 0) }
    }

    /// Whether so much may go now, and if not, when it may.
    pub(crate) fn check(&mut self, now: Instant, cost: u64) -> Admission {
        let clock = self.clock(now);
        self.opens(now, clock, self.paid_off, cost)
    }

    /// Whether so much may be reserved now, to be taken after so long.
    ///
    /// A plan, and no promise: what is reserved goes as evenly as what is taken, so that it is there when it can be taken. What may go
    /// is for `check` to say then.
    pub(crate) fn check_ahead(&mut self, now: Instant, lead: Duration, cost: u64) -> Admission {
        let clock = self.clock(now);
        let owed = self.paid_off.max(self.reserved).saturating_sub(self.parts(lead));
        self.opens(now, clock, owed, cost)
    }

    /// Reserves it.
    pub(crate) fn reserve(&mut self, now: Instant, lead: Duration, cost: u64) {
        let then = self.clock(now) + self.parts(lead);
        self.reserved = self.reserved.max(self.paid_off).max(then).saturating_add(self.price(cost));
    }

    /// It will not be taken.
    pub(crate) fn release(&mut self, cost: u64) {
        self.reserved = self.reserved.saturating_sub(self.price(cost));
    }

    /// Whether so much may go at the instant that the clock shows, where so much is owed.
    fn opens(&self, now: Instant, clock: u128, owed: u128, cost: u64) -> Admission {
        let room = self.price(self.burst.saturating_sub(cost));
        let opens = owed.saturating_sub(room);
        if cost == 0 || opens <= clock {
            return Admission::Ready;
        }
        let wait = (opens - clock).div_ceil(u128::from(self.rate.count()));
        let wait = Duration::from_nanos(u64::try_from(wait).unwrap_or(u64::MAX));
        // `now` may lie before `latest`; the wait counts from the later of the two.
        let from = self.since.map_or(now, |since| since + self.latest_span());
        Admission::NotBefore(from.checked_add(wait).unwrap_or_else(|| from + LONGEST))
    }

    /// Takes it, `Ready` or not: what was promised is sent, and what follows waits the longer.
    pub(crate) fn take(&mut self, now: Instant, cost: u64) {
        let clock = self.clock(now);
        self.paid_off = self.paid_off.max(clock).saturating_add(self.price(cost));
        self.granted.0 += 1;
        self.granted.1 = self.granted.1.saturating_add(cost);
    }

    /// How much later than it might somebody who wants so much may ask again without losing any of the rate: as long as the burst
    /// is not full by then. Who is woken for several rows at once is woken less often.
    pub(crate) fn leeway(&self, cost: u64) -> Duration {
        const ENOUGH: Duration = Duration::from_millis(1);
        let half_full = self.rate.per().as_nanos() * u128::from(self.burst.saturating_sub(cost) / 2);
        let span = half_full / u128::from(self.rate.count());
        u64::try_from(span).map_or(ENOUGH, |span| Duration::from_nanos(span).min(ENOUGH))
    }

    /// How long so many rows take, if they cost what rows cost so far.
    pub(crate) fn at_least(&self, rows: usize) -> Duration {
        let (granted, cost) = self.granted;
        let each = if granted == 0 { 1.0 } else { cost as f64 / granted as f64 };
        let seconds = rows as f64 * each * self.rate.per().as_secs_f64() / self.rate.count() as f64;
        Duration::try_from_secs_f64(seconds).unwrap_or(LONGEST)
    }

    fn clock(&mut self, now: Instant) -> u128 {
        let since = *self.since.get_or_insert(now);
        self.latest = self.latest.max(self.parts(now.saturating_duration_since(since)));
        self.latest
    }

    fn parts(&self, span: Duration) -> u128 {
        span.as_nanos() * u128::from(self.rate.count())
    }

    fn latest_span(&self) -> Duration {
        Duration::from_nanos((self.latest / u128::from(self.rate.count())) as u64)
    }

    fn price(&self, cost: u64) -> u128 {
        u128::from(cost) * self.rate.per().as_nanos()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backoff::Jitter;
    use crate::clock;

    const SEEDS: u64 = 10_000;

    fn rate(text: &str) -> Rate {
        text.parse().unwrap()
    }

    #[test]
    fn without_a_burst_rows_stand_apart() {
        let begin = clock::now();
        let mut limiter = Limiter::new(rate("3/s"), 1);
        assert_eq!(limiter.check(begin, 1), Admission::Ready);
        limiter.take(begin, 1);
        // A third of a second, rounded up to the nanosecond in which it is over.
        let then = begin + Duration::from_nanos(333_333_334);
        assert_eq!(limiter.check(begin, 1), Admission::NotBefore(then));
        assert_eq!(limiter.check(then, 1), Admission::Ready);
    }

    #[test]
    fn a_cost_above_the_burst_goes_alone_and_is_paid_off_afterwards() {
        let begin = clock::now();
        let mut limiter = Limiter::new(rate("100/s"), 10);
        assert_eq!(limiter.check(begin, 250), Admission::Ready);
        limiter.take(begin, 250);
        let ten_missing = begin + Duration::from_millis(2400);
        assert_eq!(limiter.check(begin, 10), Admission::NotBefore(begin + Duration::from_millis(2500)));
        assert_eq!(limiter.check(begin, 0), Admission::Ready);
        assert_eq!(
            limiter.check(ten_missing, 1),
            Admission::NotBefore(ten_missing + Duration::from_millis(10))
        );
        assert_eq!(limiter.check(begin, 1000), Admission::NotBefore(begin + Duration::from_millis(2500)));
    }

    #[test]
    fn who_asks_a_little_later_loses_nothing_of_the_rate() {
        let leeway = |text, burst| Limiter::new(rate(text), burst).leeway(1);
        assert_eq!(leeway("20000/s", 100), Duration::from_millis(1));
        assert_eq!(leeway("20000/s", 5), Duration::from_micros(100));
        assert_eq!([leeway("100/s", 1), leeway("100/s", 2)], [Duration::ZERO; 2]);
        for (text, burst, costs) in [
            ("20000/s", 100, &[1][..]),
            ("1000/s", 5, &[1]),
            ("300/s", 3, &[1]),
            ("7/3s", 40, &[1]),
            ("20000/s", 100, &[100]),
            ("20000/s", 100, &[99]),
            ("1000000/min", 83, &[100]),
            ("600/s", 3, &[3]),
            ("20000/s", 100, &[150]),
            ("20000/s", 100, &[1000]),
            ("20000/s", 100, &[60, 1, 100, 7, 99, 250, 2]),
        ] {
            let (mut limiter, mut now) = (Limiter::new(rate(text), burst), clock::now());
            let (begin, mut spent) = (now, 0);
            let mut last = 0;
            for cost in costs.iter().cycle().take(10_000) {
                while let Admission::NotBefore(then) = limiter.check(now, *cost) {
                    now = then + limiter.leeway(*cost);
                }
                limiter.take(now, *cost);
                (last, spent) = (*cost, spent + cost);
            }
            let owed = spent - last.max(burst);
            let least = owed as f64 * rate(text).per().as_secs_f64() / rate(text).count() as f64;
            assert!((now - begin).as_secs_f64() <= least + 0.002, "{text} {costs:?}: {:?}", now - begin);
        }
    }

    #[test]
    fn what_is_reserved_goes_as_evenly_as_what_is_taken_and_takes_nothing() {
        let begin = clock::now();
        let mut limiter = Limiter::new(rate("10/s"), 2);
        let [tenth, lead] = [100, 250].map(Duration::from_millis);
        for wait in [Duration::ZERO, Duration::ZERO, tenth, tenth * 2] {
            let now = begin + wait;
            assert_eq!(limiter.check_ahead(now, lead, 1), Admission::Ready);
            limiter.reserve(now, lead, 1);
        }
        let next = Admission::NotBefore(begin + tenth * 3);
        assert_eq!(limiter.check_ahead(begin + tenth * 2, lead, 1), next);
        assert_eq!(limiter.check(begin + tenth * 2, 2), Admission::Ready, "whoever comes first takes it");
        limiter.release(1);
        assert_eq!(limiter.check_ahead(begin + tenth * 2, lead, 1), Admission::Ready);
    }

    #[test]
    fn what_is_taken_at_once_puts_off_what_may_be_reserved() {
        let begin = clock::now();
        let mut limiter = Limiter::new(rate("10/s"), 1);
        let [tenth, lead] = [100, 250].map(Duration::from_millis);
        (0..5).for_each(|_| limiter.take(begin, 1));
        let then = begin + tenth * 5 - lead;
        assert_eq!(limiter.check_ahead(begin, lead, 1), Admission::NotBefore(then));
        assert_eq!(limiter.check_ahead(then, lead, 1), Admission::Ready);
        assert_eq!(limiter.check(then, 1), Admission::NotBefore(begin + tenth * 5));
    }

    #[test]
    fn hours_do_not_add_up_to_an_error() {
        let begin = clock::now();
        // Seven in 3 s: the span between two is no whole number of nanoseconds.
        let mut limiter = Limiter::new(rate("7/3s"), 2);
        let (mut now, rows) = (begin, 7 * 1200 * 24);
        limiter.take(now, 1);
        for _ in 0..rows {
            while let Admission::NotBefore(then) = limiter.check(now, 1) {
                now = then;
            }
            limiter.take(now, 1);
        }
        let exact = (u128::from(rows - 1_u64) * 3_000_000_000).div_ceil(7);
        assert_eq!((now - begin).as_nanos(), exact);
    }

    #[test]
    fn without_a_burst_the_clock_costs_a_nanosecond_a_row_at_most() {
        let begin = clock::now();
        for (text, lost) in [("7/3s", 1), ("5/s", 0), ("1000000/s", 0), ("3/s", 1)] {
            let rate = rate(text);
            let (mut limiter, mut now) = (Limiter::new(rate, 1), begin);
            for _ in 0..100_000 {
                while let Admission::NotBefore(then) = limiter.check(now, 1) {
                    now = then;
                }
                limiter.take(now, 1);
            }
            let least = (99_999 * rate.per().as_nanos()).div_ceil(u128::from(rate.count()));
            let spent = (now - begin).as_nanos();
            assert!((least..=least + lost * 100_000).contains(&spent), "{text}: {spent} against {least}");
        }
    }

    /// Rows that come as an adversary would have them: at once, just too early, just in time, late, with all kinds of costs.
    #[test]
    fn in_every_span_at_most_rate_times_span_and_the_burst_are_granted() {
        let begin = clock::now();
        let (mut waits, mut large) = (0_u64, 0_u64);
        for seed in 0..SEEDS {
            let mut random = Jitter::seeded(seed);
            let per = [1, 7, 100, 1000, 2000, 60_000][random.below(6) as usize];
            let rate = Rate::new(random.below(1000) + 1, Duration::from_millis(per)).unwrap();
            let burst = [1, 1, 2, 5, 40][random.below(5) as usize];
            let most = [1, burst, burst * 3][random.below(3) as usize].max(1);
            let mut limiter = Limiter::new(rate, burst);
            let mut now = begin;
            let mut kept: Vec<(Instant, u64)> = Vec::new();
            for _ in 0..60 {
                let cost = random.below(most) + 1;
                match limiter.check(now, cost) {
                    Admission::Ready => {
                        large += u64::from(cost > burst);
                        limiter.take(now, cost);
                        kept.push((now, cost));
                    }
                    Admission::NotBefore(then) => {
                        waits += 1;
                        assert!(then > now, "seed {seed}");
                        let before = then - Duration::from_nanos(1);
                        assert_ne!(
                            limiter.clone().check(before.max(now), cost),
                            Admission::Ready,
                            "seed {seed}"
                        );
                        assert_eq!(limiter.clone().check(then, cost), Admission::Ready, "seed {seed}");
                        now = [
                            then,
                            then,
                            before.max(now),
                            now + Duration::from_nanos(random.below(per * 3_000_000)),
                        ][random.below(4) as usize];
                    }
                }
            }
            for first in 0..kept.len() {
                let (mut sum, mut largest) = (0, burst);
                for last in first..kept.len() {
                    sum += kept[last].1;
                    largest = largest.max(kept[last].1);
                    let span = (kept[last].0 - kept[first].0).as_nanos();
                    // sum ≤ rate · span + burst, in whole numbers.
                    let allowed =
                        u128::from(rate.count()) * span + u128::from(largest) * rate.per().as_nanos();
                    assert!(
                        u128::from(sum) * rate.per().as_nanos() <= allowed,
                        "seed {seed}: {sum} in {span} ns"
                    );
                }
            }
        }
        assert!(waits > SEEDS && large > SEEDS / 10, "{waits} {large}");
    }

    #[test]
    fn a_clock_read_before_another_turn_changes_nothing() {
        let begin = clock::now();
        let later = begin + Duration::from_secs(5);
        let mut limiter = Limiter::new(rate("1/s"), 1);
        limiter.take(begin, 1);
        limiter.take(later, 1);
        let Admission::NotBefore(then) = limiter.check(later - Duration::from_micros(1), 1) else { panic!() };
        assert_eq!(then, later + Duration::from_secs(1));
        assert_eq!(limiter.check(then, 1), Admission::Ready);
    }
}
