//! The scheduler: read this first. One value, behind one mutex, without I/O and without a clock.
//!
//! A worker comes with what has ended and the time, and leaves with what to send next:
//! [`admit`](Batch::admit) rows · [`claim`](Batch::claim) one to send · [`settle`](Batch::settle) how it ended, which
//! makes an [`Outcome`], or puts the row back: again, or as the hop that a redirect asks for. Everything that decides
//! about a row is called from here and lives in `plan` (whose turn), `gate` (how much at once, how fast), `retry` (whether
//! again), `redirect` (where to); the threads only drive. So all of it is tested in virtual time. What becomes of a row
//! that was sent is in `ending`.

mod ending;
mod hearing;
mod hedging;
mod marks;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::ending::Cause;
pub(crate) use self::hearing::Heard;
use self::hedging::Hedges;
use self::marks::Marks;
use crate::backoff::Jitter;
use crate::breaker::{Breaker, Trip};
use crate::duplicates::{Found, Sharing};
use crate::gate::Gate;
use crate::job::{Again, Costs, End, Job, OriginId, Placed, Try};
use crate::ledger::{Ledger, NoLedger};
use crate::plan::{Next, Plan};
use crate::policy::Duplicates;
use crate::progress::{Outlook, Pause};
use crate::request::Request;
use crate::target::Origin;
use crate::{Error, Kind, Outcome, Policy, Progress};

/// The answer to a claim.
#[derive(Debug)]
pub(crate) enum Claim {
    /// Send this; it holds a slot until it is settled.
    Granted(Box<Job>),
    /// Every slot is taken, or the record is too far behind.
    Full,
    /// Nothing waits that may be sent now.
    Nothing,
}

/// The rows of one call, from admission to outcome.
pub(crate) struct Batch {
    policy: Arc<Policy>,
    plan: Plan,
    gate: Gate,
    ledger: Box<dyn Ledger>,
    /// None once it has passed.
    deadline: Option<Instant>,
    /// The same, for good.
    ends_at: Option<Instant>,
    jitter: Jitter,
    breaker: Breaker,
    /// Rows that ask for the same, where they share.
    sharing: Option<Sharing>,
    hedges: Option<Hedges>,
    /// When the time of rows that wait although they were sent before (hops, second sendings) is over.
    late: BTreeSet<(Instant, Again)>,
    stopped: Option<Stop>,
    /// Why the ledger can record nothing any more.
    unrecordable: Option<Error>,
    /// What is wrong with the policy: then it is the outcome of every row.
    defect: Option<Error>,
    closed: bool,
    /// Whether it was interrupted before all rows had come.
    cut_short: bool,
    admitted: usize,
    /// Rows that the ledger looks up.
    held: usize,
    /// Rows whose outcome is on its way to the record.
    unrecorded: usize,
    most_unrecorded: usize,
    settled: usize,
    failed: usize,
    /// Outcomes that nobody has taken yet, in the order they ended.
    ready: Vec<Outcome>,
    /// Rows that have their outcome.
    shown: Marks,
    /// Rows that must not be sent twice, and were let go at least once.
    risked: Marks,
    /// Pauses that nobody was told of yet.
    pauses: Vec<Pause>,
    /// Origins whose budget of retries is used up, of which nobody was told yet.
    spent_budgets: Vec<String>,
}

/// Why no further row is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    Cancelled,
    Deadline,
    /// As many rows failed as the policy puts up with.
    Failures,
    Unrecordable,
}

impl Batch {
    /// `chance` is where the spread of waits comes from.
    pub(crate) fn new(policy: Arc<Policy>, now: Instant, chance: u64) -> Self {
        Self::with_ledger(policy, now, chance, Box::new(NoLedger))
    }

    pub(crate) fn with_ledger(
        policy: Arc<Policy>,
        now: Instant,
        chance: u64,
        ledger: Box<dyn Ledger>,
    ) -> Self {
        let mut jitter = Jitter::seeded(chance);
        let deadline = policy.deadline.and_then(|span| now.checked_add(span));
        let most_unrecorded = ledger.most_unrecorded();
        Self {
            plan: Plan::new(Arc::clone(&policy), deadline, Jitter::seeded(jitter.next())),
            gate: Gate::new(policy.concurrency, policy.per_host),
            ledger,
            deadline,
            ends_at: deadline,
            jitter,
            breaker: Breaker::new(policy.max_failures_per_host, policy.max_failures),
            sharing: (policy.duplicates == Duplicates::Share).then(Sharing::default),
            hedges: Hedges::new(policy.hedging),
            late: BTreeSet::new(),
            stopped: None,
            unrecordable: None,
            defect: policy.validate().err(),
            closed: false,
            cut_short: false,
            admitted: 0,
            held: 0,
            unrecorded: 0,
            most_unrecorded,
            settled: 0,
            failed: 0,
            ready: Vec::new(),
            shown: Marks::default(),
            risked: Marks::default(),
            pauses: Vec::new(),
            spent_budgets: Vec::new(),
            policy,
        }
    }

    /// Takes a row in. A bad one is settled at once and stops nobody.
    pub(crate) fn admit(&mut self, now: Instant, mut request: Request) {
        let index = self.admitted;
        self.admitted += 1;
        let (placed, costs) = match self.check_and_place(index, &mut request) {
            Ok(placed) => placed,
            Err(error) => return self.refuse(now, index, request, error),
        };
        let entry = self.ledger.admit(Box::new(Job::new(index, request, placed, costs)));
        self.enter(now, entry);
    }

    /// No more rows will come.
    pub(crate) fn close(&mut self) {
        self.closed = true;
    }

    /// The next row to send. `prefer` is the origin of a connection that is ready. `lead` says how long it takes until there is a
    /// connection for a row; where one is ready, None, and the row may be written. Else it asks again when it has one
    /// ([`renew`](Self::renew)).
    pub(crate) fn claim(
        &mut self,
        now: Instant,
        prefer: Option<OriginId>,
        lead: impl Fn(&Job) -> Option<Duration>,
    ) -> Claim {
        if self.gate.is_full() || self.is_behind() {
            return Claim::Full;
        }
        let mut job = loop {
            match self.plan.next(now, prefer, &lead, &mut self.gate) {
                Next::Row(job) => break job,
                Next::Nobody => return Claim::Nothing,
                Next::GiveUp(origin, until) => self.give_up(now, origin, until),
            }
        };
        job.started.get_or_insert(now);
        job.claimed = Some(now);
        job.attempts += u32::from(job.is_new_attempt);
        if !job.request.is_idempotent() {
            self.risked.set(job.index);
        }
        if job.deadline.is_none() {
            let own = job.timeouts(&self.policy).total;
            let own = own.and_then(|span| Some((now.checked_add(span)?, span)));
            let batch = self.deadline.zip(self.policy.deadline);
            (job.deadline, job.limit) = [own, batch].into_iter().flatten().min().unzip();
        } else {
            self.forget_deadline(&job);
        }
        if let Some(hedges) = &mut self.hedges {
            hedges.granted(now, &job);
        }
        Claim::Granted(job)
    }

    /// A row that was granted without a connection has one. Gives it back if it may go; else it waits again, or ends.
    pub(crate) fn renew(&mut self, now: Instant, mut job: Box<Job>) -> Option<Box<Job>> {
        let is_outrun = self.hedges.as_ref().is_some_and(|hedges| hedges.is_outrun(&job));
        if self.stopped.is_none() && !is_outrun && self.plan.renew(now, &mut job, &self.gate) {
            return Some(job);
        }
        self.settle(now, job, End::NotTried);
        None
    }

    /// A connection to the origin stands that is proof for so many rows.
    pub(crate) fn connected(&mut self, origin: OriginId, proofs: usize) {
        self.plan.proved(origin, proofs, &self.gate);
    }

    /// Nothing further is sent: what waits ends now, what is in flight as it is settled.
    pub(crate) fn cancel(&mut self, now: Instant) {
        self.cut_short |= !self.closed;
        self.ledger.stop_looking();
        self.stop(Stop::Cancelled, now);
    }

    /// Does what is due: ends what waits once the deadline of the batch, or of a row that waits for its next hop, has passed,
    /// and lets those go on that had to wait until now.
    pub(crate) fn expire(&mut self, now: Instant) {
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            self.deadline = None;
            // To give what is on record is no sending, but it takes time too.
            self.ledger.stop_looking();
            if self.stopped.is_none() {
                self.stop(Stop::Deadline, now);
            }
        }
        while let Some((at, again)) = self.late.first().copied()
            && at <= now
        {
            self.late.pop_first();
            if let Some(job) = self.plan.take(again, &self.gate) {
                self.end_waiting(now, job, Cause::OfTheRow, |_| {
                    Error::new(Kind::TimeoutTotal, "the time of the row was over before it could go on")
                });
            }
        }
        self.plan.wake(now, &self.gate);
        while self.stopped.is_none()
            && let Some(job) = self.hedges.as_mut().and_then(|hedges| hedges.due(now))
        {
            if !self.goes_nowhere(job.origin) {
                self.plan.push_again(job, &self.gate);
            } else if let Some(hedges) = &mut self.hedges {
                hedges.take_back(&job);
            }
        }
    }

    /// When [`expire`](Self::expire) has something to do.
    pub(crate) fn next_event(&self) -> Option<Instant> {
        let deadline = self.deadline.filter(|_| self.stopped.is_none() || self.held > 0);
        let late = self.late.first().map(|(at, _)| *at);
        let hedge = self.hedges.as_ref().filter(|_| self.stopped.is_none()).and_then(Hedges::next_due);
        [deadline, late, hedge].into_iter().flatten().min()
    }

    /// When [`expire`](Self::expire) lets rows go that wait for their time.
    pub(crate) fn next_grant(&self) -> Option<Instant> {
        self.plan.next_event(&self.gate)
    }

    /// Gives every row that has no outcome yet this one: whoever worked on it broke down. Of those that were on their way
    /// nobody knows how far they came.
    pub(crate) fn abandon(&mut self, error: &Error) {
        self.stopped.get_or_insert(Stop::Cancelled);
        self.hedges = None;
        self.late.clear();
        for mut job in self.plan.drain() {
            let result = job.goes_no_further().unwrap_or_else(|| Err(error.clone()));
            self.end(None, job, result, Cause::OfTheBatch);
        }
        for index in 0..self.admitted {
            if !self.shown.has(index) {
                let in_doubt = self.risked.has(index);
                let attempts = u32::from(in_doubt);
                let error = error.clone().after(attempts).doubtful(in_doubt);
                self.conclude(Outcome { attempts, ..Outcome::unsent(index, None, Err(error)) });
            }
        }
        (self.held, self.unrecorded) = (0, 0);
    }

    /// Whether a claim would be granted.
    pub(crate) fn has_work(&self) -> bool {
        !self.gate.is_full() && !self.is_behind() && self.plan.has_turn(&self.gate)
    }

    /// Whether every row has its outcome and no more will come.
    pub(crate) fn is_settled(&self) -> bool {
        self.closed && self.settled == self.admitted
    }

    /// Whether it was settled with all rows that there are.
    pub(crate) fn is_complete(&self) -> bool {
        self.is_settled() && !self.cut_short
    }

    /// Whether a row that was admitted has no outcome yet.
    pub(crate) fn has_unended(&self) -> bool {
        self.settled < self.admitted || self.under_way() > 0
    }

    pub(crate) fn ready(&self) -> usize {
        self.ready.len()
    }

    /// Hands over the outcomes that are ready.
    pub(crate) fn take_ready(&mut self) -> Vec<Outcome> {
        std::mem::take(&mut self.ready)
    }

    pub(crate) fn origin(&self, id: OriginId) -> &Arc<Origin> {
        self.plan.origin(id)
    }

    pub(crate) fn progress(&self) -> Progress {
        let hedges = self.hedges.as_ref();
        let shared = self.sharing.as_ref().map_or(0, Sharing::waiting);
        Progress {
            waiting: self.plan.waiting() + shared + self.held + self.unrecorded
                - hedges.map_or(0, Hedges::waiting),
            retrying: self.plan.later(),
            in_flight: self.gate.in_flight() - hedges.map_or(0, Hedges::beside),
            settled: self.settled,
            failed: self.failed,
        }
    }

    /// Sendings that nobody has told the end of.
    pub(crate) fn under_way(&self) -> usize {
        self.gate.in_flight()
    }

    /// Whether there is a try that another has just outrun.
    pub(crate) fn has_outrun(&mut self) -> bool {
        self.hedges.as_mut().is_some_and(Hedges::has_news)
    }

    /// The tries that others have outrun: whoever has one lets go of it.
    pub(crate) fn outrun(&self) -> Vec<(usize, Try)> {
        self.hedges.iter().flat_map(Hedges::outrun).collect()
    }

    /// What holds the batch up.
    pub(crate) fn outlook(&mut self, now: Instant) -> Outlook {
        let paused = self.plan.paused(now).into_iter();
        Outlook {
            paused: paused.map(|(origin, until)| Pause { origin, left: until - now }).collect(),
            at_least: self.plan.at_least(now),
        }
    }

    /// The pauses that began since this was asked last.
    pub(crate) fn take_pauses(&mut self) -> Vec<Pause> {
        std::mem::take(&mut self.pauses)
    }

    /// The origins whose budget of retries was used up since this was asked last.
    pub(crate) fn take_spent_budgets(&mut self) -> Vec<String> {
        std::mem::take(&mut self.spent_budgets)
    }

    fn check_and_place(&mut self, index: usize, request: &mut Request) -> Result<(Placed, Costs), Error> {
        if let Some(defect) = request.defect.take().or_else(|| self.defect.clone()) {
            return Err(defect);
        }
        request.check()?;
        let costs = costs(request, &self.policy)?;
        self.policy.idempotency.give_key(request, index);
        Ok((self.plan.place(request, &self.gate)?, costs))
    }

    /// Queues a row that is to be sent.
    fn open(&mut self, now: Instant, mut job: Box<Job>) {
        if self.goes_nowhere(job.origin) {
            return self.go_on(now, job);
        }
        let found = self.sharing.as_mut().map(|sharing| {
            let Job { index, request, authorization, .. } = &mut *job;
            sharing.find(*index, request, authorization.as_deref())
        });
        match found {
            None | Some(Found::New) => self.plan.push(job, &self.gate),
            Some(Found::UnderWay) => {}
            Some(Found::Ended(outcome)) => self.conclude(outcome),
        }
    }

    fn refuse(&mut self, now: Instant, index: usize, mut request: Request, error: Error) {
        let error = error.about(&request.method, &request.url);
        self.conclude(Outcome::unsent(index, request.tag.take(), Err(error)));
        if self.breaker.refused() == Some(Trip::Batch) && self.stopped.is_none() {
            self.stop(Stop::Failures, now);
        }
    }

    /// The one place where a row gets its outcome; a second one for the same row is dropped.
    fn show(&mut self, outcome: Outcome) {
        if !self.shown.set(outcome.index) {
            return;
        }
        self.settled += 1;
        self.failed += usize::from(outcome.result.is_err());
        let others = self.sharing.as_mut().map(|sharing| sharing.ended(&outcome));
        self.ready.push(outcome);
        for other in others.into_iter().flatten() {
            self.conclude(other);
        }
    }
}

/// What the row costs of each limit.
fn costs(request: &Request, policy: &Policy) -> Result<Costs, Error> {
    let own = request.overrides.as_ref().map_or(&[][..], |own| &own.cost);
    if let Some((unknown, _)) =
        own.iter().find(|(name, _)| policy.limits.iter().all(|limit| limit.name() != &**name))
    {
        let names: Vec<_> = policy.limits.iter().map(|limit| format!("{:?}", limit.name())).collect();
        let hint = match names.as_slice() {
            [] => "no limit is set".to_owned(),
            names => format!("the limits are {}", names.join(", ")),
        };
        return Err(Error::bad_request(format!("cost names no limit: {unknown:?}")).with_hint(hint));
    }
    if own.is_empty() {
        return Ok(None);
    }
    let of = |name: &str| own.iter().rfind(|(own, _)| &**own == name).map_or(1, |(_, cost)| *cost);
    Ok(Some(policy.limits.iter().map(|limit| of(limit.name())).collect()))
}

#[cfg(test)]
mod tests;
