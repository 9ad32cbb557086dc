//! How long a row waits before it goes out again, and how many sendings again an origin is worth.

use std::time::Duration;

use crate::policy::Backoff;

impl Backoff {
    /// How long to wait after so many sendings. Never shorter than the peer asked for (RFC 9110 §10.2.3), and then a little
    /// longer by chance: who was told the same time must not come back as one.
    pub(crate) fn wait(self, sendings: u32, asked: Option<Duration>, jitter: &mut Jitter) -> Duration {
        let ceiling = self.ceiling(sendings);
        let own = jitter.up_to(ceiling);
        match asked {
            None => own,
            Some(asked) => own.max(asked.saturating_add(jitter.up_to(ceiling.min(asked / 10)))),
        }
    }

    /// The most that the wait after so many sendings may be, but for what the peer asks.
    pub(crate) fn ceiling(self, sendings: u32) -> Duration {
        let doubled = 1_u32.checked_shl(sendings.saturating_sub(1)).unwrap_or(u32::MAX);
        self.base.saturating_mul(doubled).min(self.cap)
    }
}

/// How many sendings again an origin is worth: 20 % of its rows and 10, in all. A peer that fails everything is so sent at most
/// 1.2 times the rows and 10, however often each row might be tried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Budget {
    rows: u64,
    spent: u64,
    /// Whether anybody was told that it is used up.
    is_told: bool,
}

impl Budget {
    const FREE: u64 = 10;
    const ROWS_FOR_ONE: u64 = 5;

    /// A row came into the queue of the origin for the first time.
    pub(crate) fn row(&mut self) {
        self.rows += 1;
    }

    /// Whether such a row may be sent again.
    pub(crate) fn affords(&mut self, charge: Charge) -> bool {
        charge == Charge::WithOthers || self.spend()
    }

    /// Whether it is to be told that it is used up: the first time alone.
    pub(crate) fn take_told(&mut self) -> bool {
        !std::mem::replace(&mut self.is_told, true)
    }

    /// Takes one sending out of the budget, if there is one.
    fn spend(&mut self) -> bool {
        let has_one = self.spent < self.rows / Self::ROWS_FOR_ONE + Self::FREE;
        self.spent += u64::from(has_one);
        has_one
    }
}

/// What another sending of a row costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Charge {
    /// It is taken out of the budget.
    AtACost,
    /// It is not: the row was under way when another was refused, and refused like it, by an origin that does take rows. Together
    /// they are one refusal.
    WithOthers,
}

/// Chance that runs the same way for the same seed (SplitMix64).
#[derive(Clone, Debug)]
pub(crate) struct Jitter(u64);

impl Jitter {
    pub(crate) fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below the end, which is not 0.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(end)) >> 64) as u64
    }

    /// A span from nothing to the most, both included.
    pub(crate) fn up_to(&mut self, most: Duration) -> Duration {
        let most = u64::try_from(most.as_nanos()).unwrap_or(u64::MAX - 1);
        Duration::from_nanos(self.below(most.saturating_add(1)))
    }
}

/// What simulations leave to chance, the same way for the same seed.
#[cfg(test)]
impl Jitter {
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub(crate) fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }

    pub(crate) fn up_to_millis(&mut self, most: u64) -> Duration {
        Duration::from_micros(self.below(most * 1000))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEEDS: u64 = 10_000;

    #[test]
    fn the_ceiling_doubles_up_to_the_cap() {
        let seconds = |sendings| Backoff::default().ceiling(sendings).as_secs_f64();
        assert_eq!([1, 2, 3, 4, 5, 6, 7].map(seconds), [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 20.0]);
        assert_eq!([0, 33, u32::MAX].map(seconds), [0.5, 20.0, 20.0]);
    }

    #[test]
    fn jitter_fills_the_whole_span_and_no_more() {
        let backoff = Backoff::default();
        for sendings in 1..9 {
            let ceiling = backoff.ceiling(sendings);
            let mut jitter = Jitter::seeded(u64::from(sendings));
            let mut tenths = [0; 10];
            for _ in 0..SEEDS {
                let wait = backoff.wait(sendings, None, &mut jitter);
                assert!(wait <= ceiling);
                tenths[((wait.as_secs_f64() / ceiling.as_secs_f64() * 10.0) as usize).min(9)] += 1;
            }
            assert!(tenths.iter().all(|count| (800..1200).contains(count)), "{tenths:?}");
        }
    }

    #[test]
    fn e20_a_wait_is_never_shorter_than_asked_and_no_two_are_the_same() {
        let backoff = Backoff::default();
        for seed in 0..SEEDS {
            let mut jitter = Jitter::seeded(seed);
            let asked = Duration::from_millis(jitter.below(120_000));
            let sendings = jitter.below(8) as u32 + 1;
            let one = backoff.wait(sendings, Some(asked), &mut jitter);
            let other = backoff.wait(sendings, Some(asked), &mut jitter);
            assert!(
                one >= asked && one <= (asked + asked / 10).max(backoff.ceiling(sendings)),
                "seed {seed}"
            );
            assert!(asked.is_zero() || one != other, "seed {seed}");
        }
        let forever = backoff.wait(1, Some(Duration::MAX), &mut Jitter::seeded(1));
        assert_eq!(forever, Duration::MAX);
    }

    #[test]
    fn the_same_seed_waits_the_same() {
        let waits = |seed| {
            let mut jitter = Jitter::seeded(seed);
            [1, 2, 3].map(|sendings| Backoff::default().wait(sendings, None, &mut jitter))
        };
        assert_eq!(waits(7), waits(7));
        assert_ne!(waits(7), waits(8));
    }

    #[test]
    fn h10_a_peer_that_fails_everything_is_sent_a_fifth_more_and_ten() {
        for rows in [0_u64, 1, 4, 5, 99, 100, 10_000] {
            let mut budget = Budget::default();
            (0..rows).for_each(|_| budget.row());
            let again = (0..rows * 9 + 99).filter(|_| budget.spend()).count() as u64;
            assert_eq!(again, rows / 5 + 10);
        }
    }

    #[test]
    fn rows_that_were_refused_with_another_cost_nothing() {
        let mut budget = Budget::default();
        assert!((0..99).all(|_| budget.affords(Charge::WithOthers)));
        assert_eq!((0..99).filter(|_| budget.affords(Charge::AtACost)).count(), 10);
    }

    #[test]
    fn rows_that_come_later_add_to_the_budget() {
        let mut budget = Budget::default();
        assert_eq!((0..20).filter(|_| budget.spend()).count(), 10);
        (0..5).for_each(|_| budget.row());
        assert!(budget.spend() && !budget.spend());
    }
}
