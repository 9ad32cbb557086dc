//! What an origin is held to, or the rows of one `limit_key`: rates, what it says of its limits, how much it bears at once, and
//! how much failing it is worth.

use std::time::{Duration, Instant};

use crate::adaptive;
use crate::backoff::{Budget, Charge, Jitter};
use crate::breaker::HostFailures;
use crate::governor::Governor;
use crate::job::{Job, Permit};
use crate::limiter::{Admission, Limiter};
use crate::policy;
use crate::quotas::Hint;
use crate::rate::Scope;
use crate::{Kind, Policy};

/// See the head of this file.
#[derive(Debug)]
pub(crate) struct Meter {
    governor: Option<Governor>,
    limits: Limits,
    adaptive: Option<adaptive::Limit>,
    pub(crate) budget: Budget,
    pub(crate) failures: HostFailures,
    in_flight: usize,
    /// Those of them that have no connection yet.
    unsent: usize,
    /// Rows in the queues that belong to it.
    pub(crate) waiting: usize,
    /// Until when it is paused, as far as anybody was told.
    told_until: Option<Instant>,
}

/// The limits of one scope, each with its number in the policy.
#[derive(Debug, Default)]
pub(crate) struct Limits(Vec<(usize, Limiter)>);

impl Meter {
    pub(crate) fn new(policy: &Policy, jitter: &mut Jitter) -> Self {
        let most = policy.per_host.unwrap_or(usize::MAX).min(policy.concurrency);
        Self {
            governor: (policy.governor == policy::Governor::On)
                .then(|| Governor::new(Jitter::seeded(jitter.next()))),
            limits: Limits::new(policy, Scope::Origin),
            adaptive: policy.adaptive.map(|manner| adaptive::Limit::new(manner, most)),
            budget: Budget::default(),
            failures: HostFailures::default(),
            in_flight: 0,
            unsent: 0,
            waiting: 0,
            told_until: None,
        }
    }

    /// Whether it bears another row at once.
    pub(crate) fn has_room(&self) -> bool {
        self.in_flight < self.most()
    }

    /// Whether it bears this one beside those that were sent.
    pub(crate) fn has_room_for(&self, job: &Job) -> bool {
        let own = usize::from(job.permit == Permit::Lapsed);
        self.in_flight - self.unsent - own < self.most()
    }

    fn most(&self) -> usize {
        let adaptive = self.adaptive.as_ref().map_or(usize::MAX, adaptive::Limit::limit);
        let returning = self.governor.as_ref().map_or(usize::MAX, Governor::most_in_flight);
        adaptive.min(returning)
    }

    /// Whether a row may go there now, by the origin's own word, `waiting` being how many are still to go, and `latest` the
    /// moment after which none of them does.
    pub(crate) fn admits_by_word(
        &mut self,
        now: Instant,
        waiting: usize,
        latest: Option<Instant>,
    ) -> Admission {
        match &mut self.governor {
            Some(governor) => governor.admits(now, waiting, latest),
            None => Admission::Ready,
        }
    }

    /// Whether the row may go there now, or after so long when it will have a connection, by the limits that it is held to.
    pub(crate) fn admits_by_limits(&mut self, now: Instant, lead: Option<Duration>, job: &Job) -> Admission {
        self.limits.check(now, lead, job)
    }

    /// The row has its slot, and goes as soon as it has a connection.
    pub(crate) fn reserve(&mut self, now: Instant, lead: Duration, job: &Job) {
        self.in_flight += 1;
        self.unsent += 1;
        self.limits.reserve(now, lead, job);
    }

    /// The row has its slot and its connection.
    pub(crate) fn take(&mut self, now: Instant, job: &mut Job) {
        self.in_flight += 1;
        self.pay(now, job);
    }

    /// The row has its connection.
    pub(crate) fn pay(&mut self, now: Instant, job: &mut Job) {
        self.limits.take(now, job);
        job.sent_at = Some(now);
        job.sending = self.governor.as_mut().map(|governor| governor.sent(now));
    }

    /// The row has a connection, whether it may go or not, or will have none.
    pub(crate) fn stops_waiting(&mut self) {
        self.unsent -= 1;
    }

    /// It will have none.
    pub(crate) fn release(&mut self, job: &Job) {
        self.limits.release(job);
    }

    /// The row is no longer there.
    pub(crate) fn give_back(&mut self) {
        self.in_flight -= 1;
    }

    /// It answered the row, and said this of its limits. Says what another sending of it would be.
    pub(crate) fn answered(&mut self, now: Instant, job: &Job, status: u16, hint: &Hint) -> Charge {
        let charge = match self.governor.as_mut().zip(job.sending) {
            Some((governor, sending)) => governor.answered(now, sending, status, hint),
            None => Charge::AtACost,
        };
        let refused = matches!(status, 429 | 503);
        self.bore(now, job, if refused { adaptive::Outcome::Refused } else { adaptive::Outcome::Ok });
        charge
    }

    /// It gave no answer.
    pub(crate) fn failed(&mut self, now: Instant, job: &Job, kind: Kind) {
        let refused = kind == Kind::Refused;
        self.bore(now, job, if refused { adaptive::Outcome::Refused } else { adaptive::Outcome::Failed });
    }

    fn bore(&mut self, now: Instant, job: &Job, outcome: adaptive::Outcome) {
        if let (Some(limit), Some(sent_at)) = (&mut self.adaptive, job.sent_at.or(job.claimed)) {
            // The row itself has given its place back by now.
            limit.on_answer(now, now.saturating_duration_since(sent_at), self.in_flight + 1, outcome);
        }
    }

    /// When it takes rows again, where it takes none by its own word.
    pub(crate) fn paused_until(&mut self, now: Instant) -> Option<Instant> {
        self.governor.as_mut()?.paused_until(now)
    }

    /// As [`paused_until`](Self::paused_until), each pause once.
    pub(crate) fn newly_paused_until(&mut self, now: Instant) -> Option<Instant> {
        let until = self.paused_until(now)?;
        let is_new = self.told_until.is_none_or(|told| told < now);
        self.told_until = self.told_until.max(Some(until));
        is_new.then_some(until)
    }

    /// How long the rows that wait take at the least.
    pub(crate) fn at_least(&mut self, now: Instant) -> Duration {
        let paused = self.paused_until(now).map_or(Duration::ZERO, |until| until - now);
        paused.max(self.limits.at_least(self.waiting))
    }
}

impl Limits {
    pub(crate) fn new(policy: &Policy, scope: Scope) -> Self {
        let own = policy.limits.iter().enumerate().filter(|(_, limit)| limit.scope() == scope);
        Self(own.map(|(number, limit)| (number, Limiter::new(limit.rate(), limit.at_once()))).collect())
    }

    /// Whether the row may go now, or after so long when it will have a connection.
    pub(crate) fn check(&mut self, now: Instant, lead: Option<Duration>, job: &Job) -> Admission {
        let each = self.0.iter_mut().map(|(number, limiter)| {
            let cost = job.cost(*number);
            let admission = match lead {
                None => limiter.check(now, cost),
                Some(lead) => limiter.check_ahead(now, lead, cost),
            };
            match admission {
                Admission::NotBefore(then) => Admission::NotBefore(then + limiter.leeway(cost)),
                ready => ready,
            }
        });
        each.fold(Admission::Ready, Admission::and)
    }

    pub(crate) fn reserve(&mut self, now: Instant, lead: Duration, job: &Job) {
        for (number, limiter) in &mut self.0 {
            limiter.reserve(now, lead, job.cost(*number));
        }
    }

    pub(crate) fn release(&mut self, job: &Job) {
        for (number, limiter) in &mut self.0 {
            limiter.release(job.cost(*number));
        }
    }

    pub(crate) fn take(&mut self, now: Instant, job: &Job) {
        for (number, limiter) in &mut self.0 {
            limiter.take(now, job.cost(*number));
        }
    }

    /// How long so many rows take at the least, if they cost what rows cost so far.
    pub(crate) fn at_least(&self, rows: usize) -> Duration {
        self.0.iter().map(|(_, limiter)| limiter.at_least(rows)).max().unwrap_or_default()
    }
}
