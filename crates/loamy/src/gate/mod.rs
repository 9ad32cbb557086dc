//! How much may be in flight: slots for the batch, and a gate for each origin. What an origin says or is held to besides is
//! its [`Meter`].

mod meter;

use std::time::Instant;

pub(crate) use meter::{Limits, Meter};

use crate::governor;

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
    /// Those of them that have no connection yet.
    unsent: usize,
    /// Connections that stood and responses that came: the ground for opening more.
    proven: usize,
    /// Failures to connect since the last success.
    failures: u32,
    /// How many may be in flight since the peer asked for calm; one more with each answer.
    most: Option<usize>,
    /// Until when it is left alone for that.
    calm_until: Option<Instant>,
    /// How often it asked since something that was sent after a calm was answered.
    calms: u32,
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

    /// Whether the origin may have one more row in flight, as far as its meter has room.
    pub(crate) fn admits(&self, origin: &OriginGate) -> bool {
        origin.in_flight < self.allows(origin)
    }

    /// How many rows the origin may have in flight by what it has proved. One goes first; each success allows two more, so
    /// that the rest fans out within a few round trips and an origin without a working connection holds one slot.
    pub(crate) fn allows(&self, origin: &OriginGate) -> usize {
        let grown = origin.proven.saturating_mul(2).saturating_add(1);
        self.per_host.min(grown).min(origin.most.unwrap_or(usize::MAX))
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

    /// A row that holds a slot has no connection yet.
    pub(crate) fn reserve(&mut self) {
        self.unsent += 1;
    }

    /// It has one, or gives its slot back.
    pub(crate) fn release(&mut self) {
        self.unsent -= 1;
    }

    /// A connection stands that takes so many rows, or a response came on one.
    pub(crate) fn proved(&mut self, proofs: usize) {
        if proofs > 0 {
            self.proven = self.proven.saturating_add(proofs);
            self.failures = 0;
        }
    }

    /// A response came to a row that was sent then. What was sent before the peer asked for calm proves nothing of how many it
    /// bears.
    pub(crate) fn answered(&mut self, sent: Option<Instant>) {
        self.proved(1);
        if self.most.is_some() && sent.is_none_or(|sent| self.is_new_volley(sent)) {
            self.calms = 0;
            self.most = self.most.and_then(governor::one_more);
        }
    }

    /// Whether what was sent then went after the last calm that the peer asked for: what it refuses of one volley counts as one.
    pub(crate) fn is_new_volley(&self, sent: Instant) -> bool {
        self.calm_until.is_none_or(|until| until <= sent)
    }

    /// How often in a row it has asked for calm.
    pub(crate) fn calms(&self) -> u32 {
        self.calms
    }

    /// The peer has too much to do: half of what it was sent at once is enough, whatever its next connection allows
    /// (RFC 9113 §7).
    pub(crate) fn asked_for_calm(&mut self, until: Instant) {
        self.calms = self.calms.saturating_add(1);
        let were = self.in_flight - self.unsent;
        self.most = Some((self.most.map_or(were, |most| most.min(were)) / 2).max(1));
        self.calm_until = Some(until);
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
    use std::time::Duration;

    use super::*;

    #[test]
    fn one_row_goes_first_and_each_success_allows_two_more() {
        let mut gate = Gate::new(100, None);
        let mut origin = OriginGate::default();
        let mut fan_out = || {
            let before = origin.in_flight();
            while gate.admits(&origin) {
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
        assert!(!gate.admits(&origin));
    }

    #[test]
    fn a_refusal_halves_what_may_go_at_once() {
        let mut gate = Gate::new(100, None);
        let mut origin = OriginGate::default();
        (0..20).for_each(|_| origin.proved(1));
        origin.refused();
        while gate.admits(&origin) {
            gate.take(&mut origin);
        }
        assert_eq!(origin.in_flight(), 21);
    }

    #[test]
    fn f3_who_asks_for_calm_gets_half_as_many_at_once_and_one_more_with_each_answer() {
        let now = crate::clock::now();
        let soon = now + Duration::from_millis(300);
        let mut gate = Gate::new(100, None);
        let mut origin = OriginGate::default();
        origin.proved(100);
        (0..40).for_each(|_| gate.take(&mut origin));
        for _ in 0..40 {
            if origin.is_new_volley(now) {
                origin.asked_for_calm(soon);
            }
            gate.give_back(&mut origin);
        }
        // A further connection proves that there is room on it, not that the peer has less to do.
        origin.proved(100);
        assert_eq!(gate.allows(&origin), 20);
        // Nor do answers to what it had already.
        (0..3).for_each(|_| origin.answered(Some(now)));
        assert_eq!(gate.allows(&origin), 20);
        (0..3).for_each(|_| origin.answered(Some(soon)));
        assert_eq!(gate.allows(&origin), 23);
        gate.take(&mut origin);
        assert!(origin.is_new_volley(soon));
        assert_eq!(origin.calms(), 0);
        origin.asked_for_calm(soon + Duration::from_secs(1));
        assert_eq!(origin.calms(), 1);
        gate.give_back(&mut origin);
        assert_eq!(gate.allows(&origin), 1);
        (0..2000).for_each(|_| origin.answered(None));
        assert_eq!(origin.most, None);
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
