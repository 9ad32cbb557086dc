//! What an origin says about its limits, obeyed: one governor for each origin.
//!
//! 1. **A refusal pauses the origin**, not the row: 429 (RFC 6585 §4), and 503 with Retry-After (RFC 9110 §15.6.4). It lasts as long
//!    as Retry-After says, else as long as an exhausted quota says, else 0.5 s, and twice as long each time up to 20 s, or
//!    less by rule 4. A little chance is added, never taken away. Rows that were under way when the pause began can make
//!    it longer, but count as one refusal with it.
//! 2. **After a pause one row goes first**; each row that is answered well lets one more be in flight: 1, 2, 4, 8 in so many
//!    round trips.
//! 3. **A quota paces the origin before it refuses**: rows go as evenly as the whole quota would be spread over its whole window, a
//!    little slower, which neither fixed windows nor sliding ones nor buckets refuse, wherever a window begins. Where all of it
//!    comes back at the reset, what is left is spread over the time until then, if that is faster, and nothing goes once
//!    none is left; where it comes back little by little, what must have come since is counted in. Which of the two it is
//!    shows in the reset: it stays where it is until much is there again, or it moves away.
//!    Where no more waits than is left, nothing is held back.
//!    Rows sent after the row that the answer belongs to are taken off, since the server had not counted them yet.
//!    Of several quotas all are kept. One that counts tokens only holds rows back when it is used up.
//! 4. **Who refuses and publishes nothing is measured**: what it took between refusals is the pace that it can bear, and pauses
//!    are short once that is known (`governor/pace.rs`).
//! 5. A governor knows one origin; what one says holds back no other.
//!
//! Whoever publishes a limit refuses at most one row in a hundred after the first second, and 95 % of what is allowed is used, but
//! for three cases. What a bucket has saved up is left there where its window is told. Where no window is told and the reset is a
//! time of day in seconds, a window may be taken for a second longer than it is: of one of 1 s that is half, of one of a
//! minute nothing to speak of. And a window is not filled when round trips are too long for `concurrency`.

mod pace;

use std::time::{Duration, Instant};

use self::pace::Pace;
use crate::backoff::{Charge, Jitter};
use crate::limiter::Admission;
use crate::policy::Backoff;
use crate::quotas::{Hint, Precision, Quota, Unit};

/// See the head of this file.
#[derive(Clone, Debug)]
pub(crate) struct Governor {
    jitter: Jitter,
    paused_until: Option<Instant>,
    /// Pauses without a good answer in between.
    refusals: u32,
    /// How many have been sent; the number of the latest sending.
    sent: u64,
    /// Sendings up to this one were under way when the last pause began.
    volley: u64,
    /// The latest sending whose answer told the quotas.
    told_by: u64,
    /// How many may be in flight while the origin comes back.
    returning: Option<usize>,
    windows: Vec<Window>,
    pace: Pace,
    /// Whether it ever took a row.
    has_accepted: bool,
}

/// A row on its way, by number, and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sending(u64, Instant);

/// A window that is too short for a reset told in seconds.
const SHORT: Duration = Duration::from_secs(5);

/// The pace, as a share of what is allowed: rows do not arrive as evenly as they are sent.
const SHARE: f64 = 0.965;

/// A worker that wakes up late may catch up on so much.
const CATCH_UP: Duration = Duration::from_millis(20);

impl Governor {
    pub(crate) fn new(jitter: Jitter) -> Self {
        Self {
            jitter,
            paused_until: None,
            refusals: 0,
            sent: 0,
            volley: 0,
            told_by: 0,
            returning: None,
            windows: Vec::new(),
            pace: Pace::default(),
            has_accepted: false,
        }
    }

    /// Whether a row may go now, `waiting` being how many wait for this origin, that row included, and `latest` the moment after
    /// which none of them goes.
    pub(crate) fn admits(&mut self, now: Instant, waiting: usize, latest: Option<Instant>) -> Admission {
        let mut admission = match self.paused_until {
            Some(until) if until > now => return Admission::NotBefore(until),
            _ => Admission::Ready,
        };
        if self.windows.is_empty() {
            admission = self.pace.admits(now);
        }
        for window in &mut self.windows {
            admission = admission.and(window.admits(now, waiting as u64, latest));
        }
        admission
    }

    /// How many may be in flight: all, but for a while after a pause.
    pub(crate) fn most_in_flight(&self) -> usize {
        self.returning.unwrap_or(usize::MAX)
    }

    /// A row goes out. What comes of it is told with the same number.
    pub(crate) fn sent(&mut self, now: Instant) -> Sending {
        self.sent += 1;
        for window in &mut self.windows {
            window.sent(now);
        }
        self.pace.sent(now);
        Sending(self.sent, now)
    }

    /// The head of a response came. (A row without one tells nothing: it is not reported.) Says what another sending of the row
    /// would be.
    pub(crate) fn answered(&mut self, now: Instant, sending: Sending, status: u16, hint: &Hint) -> Charge {
        self.learn(now, sending, hint);
        match status {
            429 => self.refused(now, sending, hint.retry_after),
            503 if hint.retry_after.is_some() => {
                self.refused(now, sending, hint.retry_after);
                Charge::AtACost
            }
            ..500 => {
                self.accepted(now, sending);
                Charge::AtACost
            }
            _ => Charge::AtACost,
        }
    }

    /// When the origin takes rows again, where it takes none now: it is paused, or its quota is used up.
    pub(crate) fn paused_until(&mut self, now: Instant) -> Option<Instant> {
        let spent = self.windows.iter_mut().filter_map(|window| window.pauses_until(now));
        self.paused_until.into_iter().chain(spent).filter(|until| *until > now).max()
    }

    fn accepted(&mut self, now: Instant, sending: Sending) {
        self.has_accepted = true;
        self.pace.accepted(now, sending.1);
        if sending.0 <= self.volley {
            return;
        }
        self.pace.goes_on(now, sending.1);
        self.refusals = 0;
        if let Some(returning) = self.returning {
            self.returning = one_more(returning);
        }
    }

    fn refused(&mut self, now: Instant, sending: Sending, retry_after: Option<Duration>) -> Charge {
        let asked = retry_after.filter(|span| !span.is_zero());
        self.pace.refused();
        if sending.0 <= self.volley {
            let until = asked.and_then(|span| now.checked_add(span));
            self.paused_until = self.paused_until.max(until);
            return if self.has_accepted { Charge::WithOthers } else { Charge::AtACost };
        }
        self.volley = self.sent;
        self.refusals += 1;
        self.returning = Some(1);
        self.pace.begin_refusal(sending.1, asked.is_some());
        let spent = self.windows.iter_mut().filter_map(|window| window.refused(now)).max();
        let by_itself = if self.windows.is_empty() {
            self.pace.pause(self.refusals)
        } else {
            Backoff::default().ceiling(self.refusals)
        };
        let span = asked.or(spent).unwrap_or(by_itself);
        let chance = self.jitter.up_to((span / 20).min(Duration::from_secs(1)));
        self.paused_until = self.paused_until.max(now.checked_add(span + chance));
        Charge::AtACost
    }

    fn learn(&mut self, now: Instant, sending: Sending, hint: &Hint) {
        // An answer that is older than the last tells of what was.
        if sending.0 < self.told_by || hint.quotas.is_empty() {
            return;
        }
        self.told_by = sending.0;
        let not_counted = self.sent - sending.0;
        if self.windows.len() != hint.quotas.len() {
            self.windows = hint.quotas.iter().map(|quota| Window::new(now, quota)).collect();
        }
        for (window, quota) in self.windows.iter_mut().zip(&hint.quotas) {
            window.told(now, sending.1, quota, not_counted);
        }
    }
}

/// One more in flight than so many were allowed, as long as that is a limit at all.
pub(crate) fn one_more(most: usize) -> Option<usize> {
    /// So many in flight are as good as no limit.
    const RETURNED: usize = 1024;
    Some(most + 1).filter(|most| *most < RETURNED)
}

/// A quota, and how far it is used up.
#[derive(Clone, Debug)]
struct Window {
    unit: Unit,
    comes: Comes,
    /// What may still be sent of what was told; below 0 where more is under way than that.
    left: i64,
    /// What was said to remain, and when.
    told: u64,
    told_at: Instant,
    reset_at: Instant,
    /// The reset that was told first of this window.
    first_reset_at: Option<Instant>,
    precision: Precision,
    /// How much there is in a whole window: as told, else the most that was ever seen.
    limit: u64,
    /// How long a whole window is: as told, else the longest reset that was ever seen.
    span: Duration,
    /// How much later than told a reset comes, where it is told in seconds and rounded down.
    late: Duration,
    /// When a window was taken to begin without having been told so.
    assumed: Option<Instant>,
    next_at: Instant,
}

/// How what is used up comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comes {
    /// All of it at the reset.
    AtOnce,
    /// Little by little, as a bucket fills, or as rows become older than a window.
    Evenly,
}

impl Window {
    fn new(now: Instant, quota: &Quota) -> Self {
        Self {
            unit: quota.unit,
            comes: Comes::AtOnce,
            left: 0,
            told: quota.remaining,
            told_at: now,
            reset_at: now,
            first_reset_at: None,
            precision: quota.precision,
            limit: 1,
            span: Duration::ZERO,
            late: Duration::ZERO,
            assumed: None,
            next_at: now,
        }
    }

    fn admits(&mut self, now: Instant, waiting: u64, latest: Option<Instant>) -> Admission {
        if let Some(until) = self.spent_until(now) {
            return Admission::NotBefore(until);
        }
        if self.unit == Unit::Tokens || waiting as i64 <= self.left || self.next_at <= now {
            return Admission::Ready;
        }
        // What is left of a quota that is filled at its reset is not spread over more time than anybody waits: the rest would not be
        // sent. Whoever is refilled little by little bears no more at the end than before.
        if self.comes == Comes::AtOnce && latest.is_some_and(|latest| self.next_at > latest) {
            return Admission::Ready;
        }
        Admission::NotBefore(self.next_at)
    }

    fn spent_until(&mut self, now: Instant) -> Option<Instant> {
        if self.comes == Comes::Evenly && self.unit == Unit::Requests {
            let missing = u32::try_from(1 - self.left).ok().filter(|missing| *missing > 0)?;
            let until = self.told_at + self.each() * missing;
            return (until > now).then_some(until);
        }
        if self.reset_at <= now {
            self.roll_over(now);
        }
        (self.left <= 0).then_some(self.reset_at)
    }

    /// As `spent_until`, unless it is no more than the pace.
    fn pauses_until(&mut self, now: Instant) -> Option<Instant> {
        let until = self.spent_until(now)?;
        (self.comes == Comes::AtOnce || until > now + SHORT).then_some(until)
    }

    fn sent(&mut self, now: Instant) {
        if self.unit == Unit::Requests {
            self.next_at = self.next_at.max(now.checked_sub(CATCH_UP).unwrap_or(now)) + self.spacing(now);
            self.left -= 1;
        }
    }

    /// The pace of a whole window; or what is left, spread over the time that is left, if that is faster.
    fn spacing(&self, now: Instant) -> Duration {
        let whole = self.each().div_f64(SHARE);
        if self.comes == Comes::Evenly {
            return whole;
        }
        whole.min(self.reset_at.saturating_duration_since(now).div_f64(self.left.max(1) as f64 * SHARE))
    }

    fn each(&self) -> Duration {
        self.span.div_f64(self.limit as f64)
    }

    /// Whether nothing follows from what is told of the reset: it is always within the next second or so.
    fn is_vague(&self) -> bool {
        self.precision == Precision::Seconds && self.span <= SHORT
    }

    /// The reset has come, and nobody has said yet what there is now.
    fn roll_over(&mut self, now: Instant) {
        self.assumed = Some(now);
        self.told = 0;
        self.left = self.limit as i64;
        self.reset_at += self.span;
        if self.reset_at <= now {
            self.reset_at = now + self.span.max(SHORT / 5);
        }
    }

    fn told(&mut self, now: Instant, sent_at: Instant, quota: &Quota, not_counted: u64) {
        const A_SECOND: Duration = Duration::from_secs(1);
        self.unit = quota.unit;
        self.precision = quota.precision;
        self.limit = quota.limit.unwrap_or(self.limit.max(quota.remaining + 1));
        self.span = quota.window.unwrap_or(self.span.max(quota.reset));
        // Answers overtake each other, so that a little more than before says nothing.
        let risen = quota.remaining.saturating_sub(self.told) > self.limit / 2;
        let reset_at = now
            + quota.reset
            + if quota.precision == Precision::Seconds { self.late } else { Duration::ZERO };
        let same = !risen && self.assumed.is_none() && reset_at <= self.reset_at + A_SECOND;
        if risen {
            self.comes = Comes::AtOnce;
            self.first_reset_at = None;
        } else if self.first_reset_at.is_none() && self.span <= SHORT {
            // To spread what is left costs more, should that be wrong, than to be slow in the first window.
            self.comes = Comes::Evenly;
        }
        // A reset that moves away while nothing rises is none: a bucket is full then, or the oldest row too old.
        let slack = if quota.precision == Precision::Seconds { A_SECOND * 2 } else { A_SECOND / 10 };
        if reset_at > *self.first_reset_at.get_or_insert(reset_at) + slack || self.is_vague() {
            self.comes = Comes::Evenly;
        }
        self.reset_at = match quota.precision {
            // Rounded up, the earliest of what is told within a window is the most exact.
            Precision::Seconds if same => self.reset_at.min(reset_at),
            _ => reset_at,
        };
        self.assumed = None;
        self.told = quota.remaining;
        self.told_at = sent_at + (now - sent_at) / 2;
        self.left = match self.unit {
            Unit::Requests => quota.remaining as i64 - not_counted as i64,
            Unit::Tokens => quota.remaining as i64,
        };
        // What was thought of the pace before may have been too slow by far.
        self.next_at = self.next_at.min(now + self.spacing(now));
    }

    /// The peer refused a row. Says until when there is nothing left, if that is known.
    fn refused(&mut self, now: Instant) -> Option<Duration> {
        const SHORTLY: Duration = Duration::from_millis(1500);
        if self.assumed.is_some_and(|at| now.saturating_duration_since(at) < SHORTLY) {
            self.late = Duration::from_secs(1);
        }
        let is_known = self.told == 0 && self.comes == Comes::AtOnce;
        is_known.then(|| self.reset_at.saturating_duration_since(now)).filter(|span| !span.is_zero())
    }
}

#[cfg(test)]
mod tests;
