//! The pace that an origin bears, found out where it refuses rows and says no more than that.
//!
//! 1. **What it takes before it first refuses** is what it takes at once: a bucket is full then, a window unused. Until then nothing is
//!    held back. Rows go on at the pace of so many in the time until it took a row again, and twice that pace each time
//!    that as many more were taken: after a second it is found, however far off the beginning was.
//! 2. **What it took between two refusals** is what came back meanwhile. Where that is less than what it takes at once, it was never
//!    full, nothing was left unused, and this is its rate. Else it is the least that the rate can be, and the pace is the
//!    one before it was raised last, if that is faster.
//! 3. **The pace is raised** while nothing is refused: by a twentieth, once a hundred rows were taken for each that was refused the last
//!    time, then by a tenth, a fifth and so on, twenty rows or more apart. After a refusal the next step is half as large as the
//!    one that was too much. With many on their way a step is small: as many as it adds to those may be refused.
//! 4. **Pauses are short** once there is a pace: as long as a few rows take. One that did not help is followed by one four times as long,
//!    up to what it would be without a pace.

use std::time::{Duration, Instant};

use super::{CATCH_UP, SHARE};
use crate::limiter::Admission;
use crate::policy::Backoff;

/// See the head of this file.
#[derive(Clone, Debug, Default)]
pub(super) struct Pace {
    /// Since when is counted: the first sending, or the one that was refused last time.
    since: Option<Instant>,
    accepted: u64,
    refused: u64,
    refusal: Option<Refusal>,
    at_once: AtOnce,
    /// From one row to the next, once it is known.
    spacing: Option<Duration>,
    /// What the pace is multiplied by next, and how many have to be accepted before that.
    step: f64,
    patience: u64,
    /// What was sent before this says nothing of the pace.
    set_at: Option<Instant>,
    next_at: Option<Instant>,
}

/// Refusals of which nobody knows yet how long they last.
#[derive(Clone, Copy, Debug)]
struct Refusal {
    /// When the first row that was refused was sent.
    sent_at: Instant,
    /// Whether the peer said when to come back. Then it is no guess how much it takes in which time.
    is_told: bool,
}

/// What was taken before anything was refused, and within which time.
#[derive(Clone, Copy, Debug, Default)]
struct AtOnce {
    rows: u64,
    within: Duration,
}

const SMALLEST_STEP: f64 = 1.05;
const LARGEST_STEP: f64 = 2.0;

/// How many must be accepted for each that was refused, before the pace is raised by the smallest step, and by a larger one.
const FOR_EACH_REFUSED: u64 = 100;
const FOR_EACH_WHILE_SEARCHING: u64 = 20;

/// What a larger step waits for at the most, where much is taken at once.
const LONGEST_STEP: u64 = 200;

/// A step adds no more rows than this to those on their way.
const MORE_ON_THEIR_WAY: f64 = 4.0;

/// One refusal makes the pace slower by this factor at the most: few rows are a poor measure.
const STEEPEST_FALL: f64 = 4.0;

/// A pause gives as many rows back, if as many are taken at once.
const ROWS_IN_A_PAUSE: u64 = 10;

impl Pace {
    pub(super) fn admits(&self, now: Instant) -> Admission {
        match self.next_at {
            Some(at) if at > now => Admission::NotBefore(at),
            _ => Admission::Ready,
        }
    }

    pub(super) fn sent(&mut self, now: Instant) {
        self.since.get_or_insert(now);
        if let Some(spacing) = self.spacing {
            let missed = CATCH_UP.min(spacing.mul_f64(self.at_once.rows as f64 / 2.0).max(spacing) - spacing);
            let from = now.checked_sub(missed).unwrap_or(now);
            self.next_at = Some(self.next_at.unwrap_or(now).max(from) + spacing);
        }
    }

    /// A row that was sent then was taken.
    pub(super) fn accepted(&mut self, now: Instant, sent_at: Instant) {
        self.accepted += 1;
        let Some(spacing) = self.spacing else { return };
        if self.refusal.is_some() || self.set_at.is_some_and(|set_at| sent_at < set_at) {
            return;
        }
        self.patience = self.patience.saturating_sub(1);
        if self.patience == 0 {
            let on_their_way = now.saturating_duration_since(sent_at).div_duration_f64(spacing);
            let step = self.step.min(1.0 + MORE_ON_THEIR_WAY / on_their_way);
            self.spacing = Some(spacing.div_f64(step));
            self.set_at = Some(now);
            self.step = self.step.powi(2).min(LARGEST_STEP);
            self.patience = self.rows_for_a_step();
        }
    }

    pub(super) fn refused(&mut self) {
        self.refused += 1;
    }

    /// A pause begins because a row was refused that was sent then.
    pub(super) fn begin_refusal(&mut self, sent_at: Instant, is_told: bool) {
        let refusal = self.refusal.get_or_insert(Refusal { sent_at, is_told });
        refusal.is_told |= is_told;
    }

    /// How long the pause is after so many without a row that was taken in between.
    pub(super) fn pause(&self, refusals: u32) -> Duration {
        let longest = Backoff::default().ceiling(refusals);
        let Some(spacing) = self.spacing else { return longest };
        let rows = (self.at_once.rows + 1).min(ROWS_IN_A_PAUSE);
        let base = spacing.mul_f64(rows as f64).max(CATCH_UP);
        let grown = 4_u32.checked_pow(refusals - 1).unwrap_or(u32::MAX);
        base.saturating_mul(grown).min(longest)
    }

    /// A row was taken that was sent after a pause: what was counted until that began says something of the pace.
    pub(super) fn goes_on(&mut self, now: Instant, sent_at: Instant) {
        let Some(refusal) = self.refusal.take() else { return };
        let since = self.since.unwrap_or(refusal.sent_at);
        // The row that was taken just now belongs to the next count.
        let accepted = self.accepted - 1;
        self.accepted = 1;
        let spacing = match self.spacing {
            None if accepted < if refusal.is_told { 2 } else { 1 } => {
                // Somebody else had used it up: that says nothing.
                (self.since, self.refused) = (Some(sent_at), 0);
                return;
            }
            None => self.begun(since, &refusal, sent_at, accepted),
            Some(spacing) => self.found(since, &refusal, spacing, accepted),
        };
        // Beyond that, pauses do.
        let spacing = spacing.min(Backoff::default().cap);
        self.spacing = Some(spacing);
        self.patience = self.rows_for_a_step();
        (self.since, self.refused) = (Some(refusal.sent_at), 0);
        (self.set_at, self.next_at) = (Some(now), Some(now + spacing));
    }

    /// The first pace.
    fn begun(&mut self, since: Instant, refusal: &Refusal, sent_at: Instant, accepted: u64) -> Duration {
        self.at_once = AtOnce { rows: accepted, within: refusal.sent_at.saturating_duration_since(since) };
        if refusal.is_told {
            self.step = SMALLEST_STEP;
        } else {
            self.step = LARGEST_STEP;
            // They were refused before there was a pace.
            self.refused = 0;
        }
        sent_at.saturating_duration_since(since).div_f64(accepted as f64)
    }

    /// The next one, after one that was too fast.
    fn found(&mut self, since: Instant, refusal: &Refusal, spacing: Duration, accepted: u64) -> Duration {
        let span = refusal.sent_at.saturating_duration_since(since);
        // What was refused found more than nothing and less than one: half of one.
        let seen = span.div_f64(accepted as f64 + 0.5);
        let since_first = self.at_once.within.div_duration_f64(seen);
        let was_full = accepted as f64 + since_first >= self.at_once.rows as f64;
        let slower = if was_full && !refusal.is_told { self.step } else { STEEPEST_FALL };
        self.step = self.step.sqrt().max(SMALLEST_STEP);
        let least = spacing.mul_f64(SMALLEST_STEP);
        seen.div_f64(SHARE).clamp(least, spacing.mul_f64(slower).max(least))
    }

    /// So many that a pace which is too fast has used up what is taken at once; and the more, the more it costs to try.
    fn rows_for_a_step(&self) -> u64 {
        if self.step <= SMALLEST_STEP {
            return self.refused.max(1) * FOR_EACH_REFUSED;
        }
        let used_up = (self.at_once.rows as f64 / self.step.log2()).ceil() as u64;
        // Who was refused once takes care; but a pace that grew to the largest step is far from what is borne.
        let refused = self.refused.max(u64::from(self.step < LARGEST_STEP));
        used_up.min(LONGEST_STEP).max(refused * FOR_EACH_WHILE_SEARCHING)
    }
}
