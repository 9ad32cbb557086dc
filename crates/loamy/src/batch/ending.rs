//! What becomes of a row that was sent: an outcome, or it goes back among those that wait.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::hedging::{self, Meaning};
use super::{Batch, Stop};
use crate::backoff::Charge;
use crate::breaker::{Ended, Trip};
use crate::gate::Cost;
use crate::job::{Acted, Again, End, Job, OriginId, Try};
use crate::outcome::Attempt;
use crate::policy::{Governor, Retried};
use crate::progress::Pause;
use crate::quotas::{self, Hint};
use crate::retry::{self, Failed, Permission, Sender, Verdict};
use crate::{Error, Kind, Outcome, Response, Timing, hint, idempotency, redirect};

/// Why a row ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// Whatever became of the batch, it would end so.
    OfTheRow,
    /// The batch goes no further, or none of its rows goes to this host.
    OfTheBatch,
}

/// Pauses shorter than this are nothing to tell anybody.
const WORTH_TELLING: Duration = Duration::from_secs(1);

impl Batch {
    /// A sending ended: the row is done, or goes back among those that wait.
    pub(crate) fn settle(&mut self, now: Instant, mut job: Box<Job>, end: End) {
        let (hint, charge) = self.listen(now, &job, &end);
        self.plan.give_back(&mut job, &mut self.gate);
        if !self.is_the_rows(now, &mut job, &end) {
            return;
        }
        match end {
            End::Answered(response) => self.answered(now, job, response, &hint, charge),
            End::NotConnected(error) => self.not_connected(now, job, error),
            End::NotTried => self.not_tried(now, job),
            End::Broken(error, failed) => self.broken(now, job, error, failed),
            End::Over(error) => self.finish(now, job, Err(error)),
        }
    }

    /// Whether this is how the sending of the row ended, and not only one of two tries.
    fn is_the_rows(&mut self, now: Instant, job: &mut Job, end: &End) -> bool {
        let Some(hedges) = &mut self.hedges else {
            return true;
        };
        let ended = match end {
            End::Answered(_) => hedging::Ended::Answered,
            End::NotTried => hedging::Ended::NotTried,
            End::NotConnected(error) | End::Broken(error, _) | End::Over(error) => {
                hedging::Ended::Failed(error.kind())
            }
        };
        match hedges.ended(now, job, ended) {
            Meaning::TheRow => {}
            Meaning::TheRowTakeBack(origin) => {
                self.plan.take(Again { origin, ..job.again() }, &self.gate);
            }
            Meaning::TheRowAlone => job.attempts = 1,
            Meaning::TheRowBeside(other) => {
                // One of the two does not know of the other.
                job.attempts = 2;
                job.past.get_or_insert_default().attempts.push(other);
            }
            Meaning::Nothing => return false,
        }
        // If it is sent again, nothing is beside it.
        job.which = Try::First;
        true
    }

    /// What the end of a sending tells of the limits of where it went.
    fn listen(&mut self, now: Instant, job: &Job, end: &End) -> (Hint, Charge) {
        if let End::Broken(_, Failed { asked_for_calm: true, .. }) = end {
            self.asked_for_calm(now, job.origin, job.sent_at.unwrap_or(now));
            // However it said so, it is too many that it was sent.
            self.plan.meter(job.origin).failed(now, job, Kind::Refused);
            return (Hint::default(), Charge::AtACost);
        }
        let meter = self.plan.meter(job.origin);
        let response = match end {
            End::Answered(response) => response,
            End::NotConnected(error) | End::Broken(error, _) => {
                meter.failed(now, job, error.kind());
                return (Hint::default(), Charge::AtACost);
            }
            End::NotTried | End::Over(_) => return (Hint::default(), Charge::AtACost),
        };
        let is_governed = self.policy.governor == Governor::On;
        let hint = if is_governed || self.policy.retries > 0 {
            quotas::read(response.headers().iter())
        } else {
            Hint::default()
        };
        let charge = meter.answered(now, job, response.status(), &hint);
        if let Some(until) = meter.newly_paused_until(now)
            && until - now >= WORTH_TELLING
        {
            let origin = self.plan.name(job.origin);
            self.pauses.push(Pause { origin, left: until - now });
        }
        (hint, charge)
    }

    /// The peer has too much to do (RFC 9113 §7), and said so with what was sent to it then. Whatever becomes of its rows, nothing goes
    /// there for a while, once for all that it refused together.
    pub(crate) fn asked_for_calm(&mut self, now: Instant, origin: OriginId, sent: Instant) {
        let Some(before) = self.plan.calms_before(origin, sent).filter(|_| self.stopped.is_none()) else {
            return;
        };
        let times = (before + 1).min(retry::SENDINGS);
        let wait = self.policy.backoff.wait(times, None, &mut self.jitter);
        self.plan.asked_for_calm(origin, now + wait, &self.gate);
        if wait >= WORTH_TELLING {
            let origin = self.plan.name(origin);
            self.pauses.push(Pause { origin, left: wait });
        }
    }

    fn answered(&mut self, now: Instant, mut job: Box<Job>, response: Response, hint: &Hint, charge: Charge) {
        self.plan.answered(job.origin, job.sent_at, &self.gate);
        match redirect::verdict(&job.request, job.redirects, &response, &self.policy) {
            redirect::Verdict::Answer => {
                // RFC 9110 §10.1.1: nothing was refused but the question whether the body is wanted.
                if response.status() == 417 && job.request.ask_nothing() {
                    job.begins_anew(Attempt::Answered(417), Ok(response));
                    return self.go_on(now, job);
                }
                let has_key = job.request.headers().get(idempotency::FIELD).is_some();
                let idempotent = job.request.is_idempotent();
                if !retry::may_better(response.status(), idempotent, has_key, self.permission(&job)) {
                    return self.finish(now, job, Ok(response));
                }
                match self.when_again(now, &mut job, hint.retry_after, charge) {
                    Ok(at) => {
                        let ended = Attempt::Answered(response.status());
                        // RFC 6585 §4: only 429 says that nothing was done.
                        if !idempotent && response.status() != 429 {
                            job.acted = job.acted.max(Acted::Unlikely);
                        }
                        self.send_later(at, job, ended, Ok(response));
                    }
                    Err(cause) => self.finish_for(cause, now, job, Ok(response)),
                }
            }
            redirect::Verdict::Refuse(error) => {
                let error = error.doubtful(!job.request.is_idempotent());
                self.finish(now, job, Err(error.with_response(Some(response))))
            }
            redirect::Verdict::Follow(target) => {
                let from = Arc::clone(self.plan.origin(job.origin));
                let was_unsafe = !job.request.is_idempotent();
                redirect::follow(&mut job.request, response.status(), &from, &target.origin, &self.policy);
                job.is_abroad |= *from != target.origin;
                // What turned into a GET had its effect before that, whatever becomes of the GET.
                if was_unsafe && job.request.is_idempotent() {
                    job.acted = Acted::Likely;
                }
                let placed = self.plan.settle_in(&mut job.request, target, &self.gate);
                if placed.authorization.is_some() || placed.origin != job.origin {
                    job.authorization = placed.authorization;
                }
                self.plan.goes_on_to(placed.origin, job.origin);
                job.origin = placed.origin;
                job.path_at = placed.path_at;
                job.goes_on();
                self.go_on(now, job);
            }
        }
    }

    fn not_connected(&mut self, now: Instant, mut job: Box<Job>, error: Error) {
        let kind = error.kind();
        let late = matches!(
            kind,
            Kind::TimeoutAcquire | Kind::TimeoutResolve | Kind::TimeoutConnect | Kind::TimeoutTls
        );
        // A limit of the row's own, or one that earlier hops used up, says nothing of other rows.
        let alike = if !late || job.goes_by(&self.policy) {
            let cost = if late { Cost::Slow } else { Cost::Quick };
            self.plan.failed_to_connect(job.origin, cost, &self.gate)
        } else {
            0
        };
        let verdict = retry::verdict(Failed::to_connect(kind), self.sender(&job));
        let mut cause = Cause::OfTheRow;
        if matches!(verdict, Verdict::ByPermission { .. }) && !error.is_lasting() {
            match self.when_again(now, &mut job, None, Charge::AtACost) {
                Ok(at) => {
                    if alike > 0 {
                        // One row after the other asks whether the peer is there again, not all that wait.
                        self.plan.pause(job.origin, at, &self.gate);
                    }
                    return self.send_later(at, job, Attempt::Failed(kind), Err(error));
                }
                Err(because) => cause = because,
            }
        }
        let of_tls = matches!(kind, Kind::TlsHandshake | Kind::TlsCertificate | Kind::TimeoutTls);
        let policy = Arc::clone(&self.policy);
        // What fails in TLS fails for rows of the same terms.
        let share = |other: &Job| {
            other.which == Try::First && (!of_tls || other.request.tls(&policy) == job.request.tls(&policy))
        };
        for mut other in self.plan.take_first(job.origin, alike, share, &self.gate) {
            self.forget_deadline(&other);
            match other.goes_no_further() {
                // It had another sending before it, which this was not.
                Some(last) => self.finish_for(Cause::OfTheBatch, now, other, last),
                None => self.finish(now, other, Err(error.clone())),
            }
        }
        self.finish_for(cause, now, job, Err(error));
    }

    fn not_tried(&mut self, now: Instant, mut job: Box<Job>) {
        job.attempts -= u32::from(job.is_new_attempt);
        self.go_on(now, job);
    }

    fn broken(&mut self, now: Instant, mut job: Box<Job>, error: Error, failed: Failed) {
        if failed.kind == Kind::Refused {
            self.plan.refused(job.origin, &self.gate);
        }
        let ended = Attempt::Failed(failed.kind);
        match retry::verdict(failed, self.sender(&job)) {
            Verdict::End { in_doubt } => self.finish(now, job, Err(error.doubtful(in_doubt))),
            Verdict::ByPermission { in_doubt } => {
                match self.when_again(now, &mut job, None, Charge::AtACost) {
                    Ok(at) => {
                        if in_doubt {
                            job.acted = Acted::Likely;
                        }
                        self.send_later(at, job, ended, Err(error));
                    }
                    Err(cause) => self.finish_for(cause, now, job, Err(error.doubtful(in_doubt))),
                }
            }
            again @ (Verdict::ByProof | Verdict::OnNewConnection) => {
                job.on_new_connection |= again == Verdict::OnNewConnection;
                job.begins_anew(ended, Err(error));
                self.go_on(now, job);
            }
        }
    }

    fn sender(&self, job: &Job) -> Sender {
        Sender {
            idempotent: job.request.is_idempotent(),
            attempts: job.attempts,
            outlived: job.on_new_connection,
            permission: self.permission(job),
        }
    }

    fn permission(&self, job: &Job) -> Permission {
        match self.policy.retried {
            _ if job.retried() >= self.policy.retries => Permission::None,
            Retried::Idempotent => Permission::Idempotent,
            Retried::All => Permission::All,
        }
    }

    /// When a row that may be sent again is, if there is still time and it is worth it; else why it ends. `asked` is what the
    /// peer asked for.
    fn when_again(
        &mut self,
        now: Instant,
        job: &mut Job,
        asked: Option<Duration>,
        charge: Charge,
    ) -> Result<Instant, Cause> {
        if asked.is_some_and(|asked| asked > self.policy.max_pause) {
            return Err(Cause::OfTheRow);
        }
        if self.goes_nowhere(job.origin) {
            return Err(Cause::OfTheBatch);
        }
        let wait = self.policy.backoff.wait(job.retried() + 1, asked, &mut self.jitter);
        let at = now.checked_add(wait).filter(|at| self.deadline.is_none_or(|deadline| *at < deadline));
        let at = at.ok_or(Cause::OfTheRow)?;
        let budget = &mut self.plan.meter(job.origin).budget;
        if budget.affords(charge) {
            return Ok(at);
        }
        job.over_budget = true;
        if budget.take_told() {
            self.spent_budgets.push(self.plan.name(job.origin));
        }
        Err(Cause::OfTheRow)
    }

    /// The row waits, without a slot, and has all its time again after that.
    fn send_later(
        &mut self,
        at: Instant,
        mut job: Box<Job>,
        ended: Attempt,
        result: Result<Response, Error>,
    ) {
        job.begins_anew(ended, result).retried += 1;
        job.deadline = None;
        self.plan.push_later(at, job);
    }

    /// The row waits for its next sending, unless there is none any more.
    pub(super) fn go_on(&mut self, now: Instant, job: Box<Job>) {
        match self.stopped {
            Some(stop) => self.leave(now, job, stop),
            None if self.goes_nowhere(job.origin) => {
                let error = self.too_many_failed(job.origin);
                self.leave_unsent(now, job, error);
            }
            None => self.put_back(job),
        }
    }

    /// Whether no row of the origin is sent any more.
    pub(super) fn goes_nowhere(&self, origin: OriginId) -> bool {
        self.stopped.is_some() || self.plan.is_broken(origin)
    }

    fn put_back(&mut self, job: Box<Job>) {
        if let Some(deadline) = job.deadline {
            self.late.insert((deadline, job.again()));
        }
        self.plan.push_again(job, &self.gate);
    }

    pub(super) fn forget_deadline(&mut self, job: &Job) {
        if let Some(deadline) = job.deadline {
            self.late.remove(&(deadline, job.again()));
        }
    }

    pub(super) fn stop(&mut self, why: Stop, now: Instant) {
        self.stopped.get_or_insert(why);
        self.late.clear();
        for job in self.plan.drain() {
            self.leave(now, job, why);
        }
    }

    /// The rows that wait for an origin are not sent: it is paused for too long.
    pub(super) fn give_up(&mut self, now: Instant, origin: OriginId, until: Instant) {
        let name = self.plan.name(origin);
        let span = until.saturating_duration_since(now);
        let beyond = if span > self.policy.max_pause {
            format!("max_pause is {} s", self.policy.max_pause.as_secs_f64())
        } else {
            "the deadline of the batch is before that".to_owned()
        };
        let span = span.as_secs_f64().ceil();
        let text = format!("{name} takes no further request for {span} s, and {beyond}");
        let error =
            Error::new(Kind::NotSent, text).with_hint("send these rows again then, or allow a longer pause");
        for job in self.plan.take_first(origin, usize::MAX, |_| true, &self.gate) {
            self.forget_deadline(&job);
            self.leave_unsent(now, job, error.clone());
        }
    }

    /// Too many failed for the host: its rows wait for nothing any more.
    fn give_up_host(&mut self, now: Instant, origin: OriginId) {
        let error = self.too_many_failed(origin);
        for job in self.plan.take_metered(origin, &self.gate) {
            self.forget_deadline(&job);
            self.leave_unsent(now, job, error.clone());
        }
    }

    fn too_many_failed(&mut self, origin: OriginId) -> Error {
        let failures = self.plan.meter(origin).failures.message();
        Error::new(Kind::NotSent, format!("{failures}, and max_failures_per_host allows no more"))
    }

    /// The row is not sent for a reason that its host gave.
    fn leave_unsent(&mut self, now: Instant, job: Box<Job>, error: Error) {
        let on_the_way = || Error::new(Kind::Cancelled, error.message().to_owned());
        self.leave_with(now, job, || error.clone(), on_the_way);
    }

    fn leave(&mut self, now: Instant, job: Box<Job>, why: Stop) {
        let unsent = self.unsent(why);
        let on_the_way = || match why {
            Stop::Cancelled => Error::new(Kind::Cancelled, "the batch was interrupted"),
            Stop::Deadline => Error::new(Kind::TimeoutTotal, "the deadline of the batch passed"),
            Stop::Unrecordable => Error::new(Kind::Cancelled, "nothing can be recorded any more"),
            Stop::Failures => Error::new(Kind::Cancelled, "too many rows failed before this one could go on"),
        };
        self.leave_with(now, job, || unsent, on_the_way);
    }

    /// A row that waits is not sent.
    fn leave_with(
        &mut self,
        now: Instant,
        job: Box<Job>,
        unsent: impl FnOnce() -> Error,
        on_the_way: impl FnOnce() -> Error,
    ) {
        if self.hedges.as_mut().is_some_and(|hedges| hedges.take_back(&job)) {
            // The row is still under way.
            return;
        }
        self.end_waiting(now, job, Cause::OfTheBatch, |job| {
            if job.attempts == 0 { unsent() } else { on_the_way() }
        });
    }

    /// A row that waits goes no further: it ends with what its last sending came to or, where that only led on, like this.
    pub(super) fn end_waiting(
        &mut self,
        now: Instant,
        mut job: Box<Job>,
        cause: Cause,
        otherwise: impl FnOnce(&Job) -> Error,
    ) {
        let result = job.goes_no_further().unwrap_or_else(|| Err(otherwise(&job)));
        self.finish_for(cause, now, job, result);
    }

    pub(super) fn unsent(&self, why: Stop) -> Error {
        match why {
            Stop::Cancelled => Error::new(Kind::NotSent, "the batch was interrupted before this row's turn"),
            Stop::Deadline => {
                Error::new(Kind::NotSent, "the deadline of the batch passed before this row's turn")
            }
            Stop::Unrecordable => self.unrecordable.clone().unwrap_or_else(|| {
                Error::new(Kind::NotSent, "nothing could be recorded any more before this row's turn")
            }),
            Stop::Failures => {
                let failures = self.breaker.message();
                Error::new(
                    Kind::NotSent,
                    format!("{failures} before this row's turn, and max_failures allows no more"),
                )
            }
        }
    }

    fn finish(&mut self, now: Instant, job: Box<Job>, result: Result<Response, Error>) {
        self.finish_for(Cause::OfTheRow, now, job, result);
    }

    fn finish_for(&mut self, cause: Cause, now: Instant, job: Box<Job>, result: Result<Response, Error>) {
        let origin = job.origin;
        let ended = how(&result);
        self.end(Some(now), job, result, cause);
        match self.breaker.ended(&mut self.plan.meter(origin).failures, ended) {
            Some(Trip::Batch) if self.stopped.is_none() => self.stop(Stop::Failures, now),
            Some(Trip::Host) if self.stopped.is_none() => self.give_up_host(now, origin),
            _ => {}
        }
    }

    pub(super) fn end(
        &mut self,
        now: Option<Instant>,
        job: Box<Job>,
        mut result: Result<Response, Error>,
        cause: Cause,
    ) {
        let is_cut_off = result.as_ref().is_err_and(|error| self.is_cut_off(now, &job, error));
        let Job { index, request, attempts, redirects, started, acted, past, over_budget, origin, .. } = *job;
        if let Err(mut error) = result {
            if over_budget {
                error = hint::also(error, over_budget_at(&self.plan.name(origin)));
            }
            let in_doubt = error.in_doubt() || acted > Acted::No;
            result = Err(error.about(&request.method, &request.url).after(attempts).doubtful(in_doubt));
        }
        let response = match &mut result {
            Ok(response) => Some(response),
            Err(error) => error.response_mut(),
        };
        if let Some(response) = response {
            response.url = request.url.into_boxed_str();
            response.redirects = redirects;
        }
        let elapsed = match (now, started) {
            (Some(now), Some(started)) => now.saturating_duration_since(started),
            _ => Default::default(),
        };
        // What may have acted is not sent once more, so it is done with what it came to.
        let may_go_again = acted == Acted::No && !result.as_ref().is_err_and(Error::in_doubt);
        self.conclude(Outcome {
            index,
            tag: request.tag,
            attempts,
            earlier: past.map(|past| past.attempts).unwrap_or_default(),
            timing: Timing { elapsed },
            replayed: false,
            over_budget,
            has_acted: acted == Acted::Likely,
            is_left: may_go_again && (is_cut_off || cause == Cause::OfTheBatch),
            result,
        });
    }

    /// Whether it was the deadline of the batch that passed, and no limit of the row's own.
    fn is_cut_off(&self, now: Option<Instant>, job: &Job, error: &Error) -> bool {
        let is_late = self.ends_at.is_some() && self.ends_at <= now && self.ends_at == job.deadline;
        is_late && error.kind().is_timeout()
    }
}

fn over_budget_at(origin: &str) -> String {
    format!("not sent again: the budget of retries of {origin} is used up")
}

/// As the breaker sees it.
fn how(result: &Result<Response, Error>) -> Ended {
    match result.as_ref().map_err(Error::kind) {
        Ok(response) => Ended::with_status(response.status()),
        // Neither says anything of a peer.
        Err(Kind::NotSent | Kind::Cancelled) => Ended::Fine,
        Err(
            Kind::BadRequest
            | Kind::Blocked
            | Kind::TooLarge
            | Kind::Decode
            | Kind::Redirect
            | Kind::Internal,
        ) => Ended::OfRow,
        Err(_) => Ended::OfHost,
    }
}
