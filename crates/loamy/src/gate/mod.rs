//! How much may be in flight: slots for the batch, and a gate for each origin. What an origin says or is held to besides is
//! its [`Meter`].

mod meter;

pub(crate) use meter::{Limits, Meter};

/// The slots of a batch.
#[derive(Debug)]
pub(crate) struct Gate {
    concurrency: usize,
    per_host: usize,
    in_flight: usize,
}

/// What is known of one origin within a batch.
#[derive(Debug, Default)]
pub(crate) struct OriginGate {
    in_flight: usize,
    /// Connections that stood and responses that came: the ground for opening more.
    proven: usize,
    /// Failures to connect since the last success.
    failures: u32,
}

impl Gate {
    pub(crate) fn new(concurrency: usize, per_host: Option<usize>) -> Self {
        Self { concurrency, per_host: per_host.unwrap_or(usize::MAX), in_flight: 0 }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.in_flight >= self.concurrency
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight
    }

    pub(crate) fn concurrency(&self) -> usize {
        self.concurrency
    }

    /// Whether the origin may have one more row in flight.
    pub(crate) fn admits(&self, origin: &OriginGate, meter: &Meter) -> bool {
        origin.in_flight < self.allows(origin) && meter.has_room()
    }

    /// How many rows the origin may have in flight by what it has proved. One goes first; each success allows two more, so
    /// that the rest fans out within a few round trips and an origin without a working connection holds one slot.
    pub(crate) fn allows(&self, origin: &OriginGate) -> usize {
        let grown = origin.proven.saturating_mul(2).saturating_add(1);
        self.per_host.min(grown)
    }

    pub(crate) fn take(&mut self, origin: &mut OriginGate) {
        self.in_flight += 1;
        origin.in_flight += 1;
    }

    pub(crate) fn give_back(&mut self, origin: &mut OriginGate) {
        self.in_flight -= 1;
        origin.in_flight -= 1;
    }
}

impl OriginGate {
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// A connection stands that takes so many rows, or a response came on one.
    pub(crate) fn proved(&mut self, proofs: usize) {
        if proofs > 0 {
            self.proven = self.proven.saturating_add(proofs);
            self.failures = 0;
        }
    }

    /// The peer refused a row that it did not look at: it has more than it can take.
    pub(crate) fn refused(&mut self) {
        self.proven /= 2;
    }

    /// No connection could be made: says how many waiting rows share that fate. While the origin's successes still
    /// outweigh its failures none does; after that twice as many each time, and eight times where each failure costs a
    /// whole limit of time.
    pub(crate) fn failed_to_connect(&mut self, cost: Cost) -> usize {
        if self.proven > 0 {
            self.proven /= 2;
            return 0;
        }
        let doublings = match cost {
            Cost::Quick => 1,
            Cost::Slow => 3,
        };
        self.failures = (self.failures + doublings).min(usize::BITS - 2);
        1 << self.failures
    }
}

/// What it cost to learn that a connection could not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cost {
    /// The peer, or the way to it, said no.
    Quick,
    /// A limit of time passed.
    Slow,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Policy;
    use crate::backoff::Jitter;

    fn meter() -> Meter {
        Meter::new(&Policy::default(), &mut Jitter::seeded(1))
    }

    #[test]
    fn one_row_goes_first_and_each_success_allows_two_more() {
        let mut gate = Gate::new(100, None);
        let mut origin = OriginGate::default();
        let mut fan_out = || {
            let before = origin.in_flight();
            while gate.admits(&origin, &meter()) {
                gate.take(&mut origin);
            }
            origin.proved(1);
            origin.in_flight() - before
        };
        assert_eq!([fan_out(), fan_out(), fan_out()], [1, 2, 2]);
    }

    #[test]
    fn per_host_binds_however_much_is_proven() {
        let mut gate = Gate::new(100, Some(2));
        let mut origin = OriginGate::default();
        (0..9).for_each(|_| origin.proved(1));
        (0..2).for_each(|_| gate.take(&mut origin));
        assert!(!gate.admits(&origin, &meter()));
    }

    #[test]
    fn a_refusal_halves_what_may_go_at_once() {
        let mut gate = Gate::new(100, None);
        let mut origin = OriginGate::default();
        (0..20).for_each(|_| origin.proved(1));
        origin.refused();
        while gate.admits(&origin, &meter()) {
            gate.take(&mut origin);
        }
        assert_eq!(origin.in_flight(), 21);
    }

    #[test]
    fn each_failure_to_connect_in_a_row_takes_twice_as_many_with_it() {
        let mut origin = OriginGate::default();
        assert_eq!([(); 3].map(|()| origin.failed_to_connect(Cost::Quick)), [2, 4, 8]);
        assert_eq!([(); 2].map(|()| origin.failed_to_connect(Cost::Slow)), [64, 512]);
        (0..4).for_each(|_| origin.proved(1));
        assert_eq!([(); 3].map(|()| origin.failed_to_connect(Cost::Quick)), [0, 0, 0]);
        assert_eq!(origin.failed_to_connect(Cost::Quick), 2);
        assert!((0..200).all(|_| origin.failed_to_connect(Cost::Slow) > 0));
    }
}
