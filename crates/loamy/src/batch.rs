//! The scheduler: read this first. One value, behind one mutex, without I/O and without a clock.
//!
//! A worker comes with what has ended and the time, and leaves with what to send next:
//! [`admit`](Batch::admit) rows · [`claim`](Batch::claim) one to send · [`settle`](Batch::settle) how it ended, which
//! makes an [`Outcome`], or puts the row back: again, or as the hop that a redirect asks for. Everything that decides
//! about a row is called from here and lives in `plan` (whose turn), `gate` (how much at once), `retry` (whether
//! again), `redirect` (where to); the threads only drive. So all of it is tested in virtual time.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use crate::gate::{Cost, Gate};
use crate::headers::Headers;
use crate::job::{End, Job, OriginId};
use crate::ledger::{Entry, Ledger, NoLedger};
use crate::plan::{Placed, Plan};
use crate::redirect;
use crate::request::Request;
use crate::retry::{self, Failed, Sender};
use crate::target::Origin;
use crate::{Error, Kind, Outcome, Policy, Progress, Response, Timing};

/// The answer to a claim.
#[derive(Debug)]
pub(crate) enum Claim {
    /// Send this; it holds a slot until it is settled.
    Granted(Box<Job>),
    /// Every slot is taken.
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
    deadline: Option<Instant>,
    /// When the time of rows that wait although they were sent before (hops, second sendings) is over.
    late: BTreeSet<(Instant, OriginId, usize)>,
    stopped: Option<Stop>,
    /// What is wrong with the policy: then it is the outcome of every row.
    defect: Option<Error>,
    closed: bool,
    admitted: usize,
    settled: usize,
    failed: usize,
    /// Outcomes that nobody has taken yet, in the order they ended.
    ready: Vec<Outcome>,
    /// A bit for each row that has its outcome.
    shown: Vec<u64>,
}

/// Why no further row is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    Cancelled,
    Deadline,
}

impl Batch {
    pub(crate) fn new(policy: Arc<Policy>, now: Instant) -> Self {
        Self::with_ledger(policy, now, Box::new(NoLedger))
    }

    pub(crate) fn with_ledger(policy: Arc<Policy>, now: Instant, ledger: Box<dyn Ledger>) -> Self {
        Self {
            plan: Plan::default(),
            gate: Gate::new(policy.concurrency, policy.per_host),
            ledger,
            deadline: policy.deadline.and_then(|span| now.checked_add(span)),
            late: BTreeSet::new(),
            stopped: None,
            defect: policy.validate().err(),
            closed: false,
            admitted: 0,
            settled: 0,
            failed: 0,
            ready: Vec::new(),
            shown: Vec::new(),
            policy,
        }
    }

    /// Takes a row in. A bad one is settled at once and stops nobody.
    pub(crate) fn admit(&mut self, mut request: Request) {
        let index = self.admitted;
        self.admitted += 1;
        let placed = match self.check_and_place(&mut request) {
            Ok(placed) => placed,
            Err(error) => return self.refuse(index, request, error),
        };
        let job = Box::new(Job {
            index,
            request,
            origin: placed.origin,
            path_at: placed.path_at,
            authorization: placed.authorization,
            attempts: 0,
            redirects: 0,
            has_acted: false,
            on_new_connection: false,
            started: None,
            deadline: None,
            limit: None,
        });
        match self.ledger.admit(job) {
            Entry::Open(job) => match self.stopped {
                Some(stop) => self.end(None, job, Err(unsent(stop))),
                None => self.plan.push(job, &self.gate),
            },
            Entry::Settled(outcome) => self.show(outcome),
        }
    }

    /// No more rows will come.
    pub(crate) fn close(&mut self) {
        self.closed = true;
    }

    /// The next row to send. `prefer` is the origin of a connection that is ready.
    pub(crate) fn claim(&mut self, now: Instant, prefer: Option<OriginId>) -> Claim {
        if self.gate.is_full() {
            return Claim::Full;
        }
        let Some(mut job) = self.plan.next(prefer, &mut self.gate) else {
            return Claim::Nothing;
        };
        if job.started.is_none() {
            job.started = Some(now);
            let own = job.timeouts(&self.policy).total;
            let own = own.and_then(|span| Some((now.checked_add(span)?, span)));
            let batch = self.deadline.zip(self.policy.deadline);
            (job.deadline, job.limit) = [own, batch].into_iter().flatten().min().unzip();
        } else {
            self.forget_deadline(&job);
        }
        job.attempts = job.attempts.max(1);
        Claim::Granted(job)
    }

    /// A connection to the origin stands that is proof for so many rows.
    pub(crate) fn connected(&mut self, origin: OriginId, proofs: usize) {
        self.plan.proved(origin, proofs, &self.gate);
    }

    /// A sending ended: the row is done, or goes back among those that wait.
    pub(crate) fn settle(&mut self, now: Instant, job: Box<Job>, end: End) {
        self.plan.give_back(job.origin, &mut self.gate);
        match end {
            End::Answered(response) => self.answered(now, job, response),
            End::NotConnected(error) => {
                let late = matches!(
                    error.kind(),
                    Kind::TimeoutAcquire | Kind::TimeoutResolve | Kind::TimeoutConnect | Kind::TimeoutTls
                );
                // A limit of the row's own, or one that earlier hops used up, says nothing of other rows.
                if !late || job.goes_by(&self.policy) {
                    let cost = if late { Cost::Slow } else { Cost::Quick };
                    let of_tls =
                        matches!(error.kind(), Kind::TlsHandshake | Kind::TlsCertificate | Kind::TimeoutTls);
                    let policy = Arc::clone(&self.policy);
                    // What fails in TLS fails for rows of the same terms.
                    let alike =
                        |other: &Job| !of_tls || other.request.tls(&policy) == job.request.tls(&policy);
                    for other in self.plan.failed_to_connect(job.origin, cost, alike, &self.gate) {
                        self.forget_deadline(&other);
                        self.finish(now, other, Err(error.clone()));
                    }
                }
                self.finish(now, job, Err(error));
            }
            End::NotTried => self.not_tried(now, job),
            End::Broken(error, failed) => self.broken(now, job, error, failed),
            End::Over(error) => self.finish(now, job, Err(error)),
        }
    }

    /// Nothing further is sent: what waits ends now, what is in flight as it is settled.
    pub(crate) fn cancel(&mut self, now: Instant) {
        self.stop(Stop::Cancelled, now);
    }

    /// Ends what waits once the deadline of the batch, or of a row that waits for its next hop, has passed.
    pub(crate) fn expire(&mut self, now: Instant) {
        if self.deadline.is_some_and(|deadline| deadline <= now) && self.stopped.is_none() {
            self.stop(Stop::Deadline, now);
        }
        while let Some((at, origin, index)) = self.late.first().copied()
            && at <= now
        {
            self.late.remove(&(at, origin, index));
            if let Some(job) = self.plan.take(origin, index, &self.gate) {
                let error =
                    Error::new(Kind::TimeoutTotal, "the time of the row was over before it could go on");
                self.finish(now, job, Err(error));
            }
        }
    }

    /// When [`expire`](Self::expire) has something to do.
    pub(crate) fn next_event(&self) -> Option<Instant> {
        let deadline = if self.stopped.is_some() { None } else { self.deadline };
        let late = self.late.first().map(|(at, ..)| *at);
        [deadline, late].into_iter().flatten().min()
    }

    /// Gives every row that has no outcome yet this one: whoever worked on it broke down.
    pub(crate) fn abandon(&mut self, error: &Error) {
        self.stopped.get_or_insert(Stop::Cancelled);
        drop(self.plan.drain());
        self.late.clear();
        for index in 0..self.admitted {
            let result = Err(error.clone());
            self.show(Outcome { index, tag: None, attempts: 0, timing: Timing::default(), result });
        }
    }

    /// Whether a claim would be granted.
    pub(crate) fn has_work(&self) -> bool {
        !self.gate.is_full() && self.plan.has_turn(&self.gate)
    }

    /// Whether every row has its outcome and no more will come.
    pub(crate) fn is_settled(&self) -> bool {
        self.closed && self.settled == self.admitted
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
        let in_flight = self.gate.in_flight();
        Progress { waiting: self.plan.waiting(), in_flight, settled: self.settled, failed: self.failed }
    }

    fn check_and_place(&mut self, request: &mut Request) -> Result<Placed, Error> {
        if let Some(defect) = request.defect.take().or_else(|| self.defect.clone()) {
            return Err(defect);
        }
        request.check()?;
        self.plan.place(request, &self.gate)
    }

    fn not_tried(&mut self, now: Instant, mut job: Box<Job>) {
        if job.attempts == 1 && job.redirects == 0 {
            job.attempts = 0;
        }
        match self.stopped {
            Some(stop) => self.leave_unsent(job, stop, now),
            None => self.put_back(job),
        }
    }

    fn answered(&mut self, now: Instant, mut job: Box<Job>, response: Response) {
        self.plan.proved(job.origin, 1, &self.gate);
        match redirect::verdict(&job.request, job.redirects, &response, &self.policy) {
            redirect::Verdict::Answer => self.finish(now, job, Ok(response)),
            redirect::Verdict::Refuse(error) => {
                let error = error.doubtful(!job.request.is_idempotent());
                self.finish(now, job, Err(error.with_response(Some(response))))
            }
            redirect::Verdict::Follow(target) => {
                let from = Arc::clone(self.plan.origin(job.origin));
                let was_unsafe = !job.request.is_idempotent();
                redirect::follow(&mut job.request, response.status(), &from, &target.origin, &self.policy);
                // What turned into a GET had its effect before that, whatever becomes of the GET.
                job.has_acted |= was_unsafe && job.request.is_idempotent();
                let placed = self.plan.settle_in(&mut job.request, target, &self.gate);
                if placed.authorization.is_some() || placed.origin != job.origin {
                    job.authorization = placed.authorization;
                }
                job.origin = placed.origin;
                job.path_at = placed.path_at;
                job.redirects += 1;
                match self.stopped {
                    Some(stop) => self.leave_unsent(job, stop, now),
                    None => self.put_back(job),
                }
            }
        }
    }

    fn broken(&mut self, now: Instant, mut job: Box<Job>, error: Error, failed: Failed) {
        if failed.kind == Kind::Refused {
            self.plan.refused(job.origin, &self.gate);
        }
        let sender = Sender {
            idempotent: job.request.is_idempotent(),
            attempts: job.attempts,
            outlived: job.on_new_connection,
        };
        let again = match retry::verdict(failed, sender) {
            retry::Verdict::End { in_doubt } => {
                return self.finish(now, job, Err(error.doubtful(in_doubt)));
            }
            again => again,
        };
        if self.stopped.is_some() {
            return self.finish(now, job, Err(error));
        }
        job.attempts += 1;
        job.on_new_connection |= again == retry::Verdict::OnNewConnection;
        self.put_back(job);
    }

    fn forget_deadline(&mut self, job: &Job) {
        if let Some(deadline) = job.deadline {
            self.late.remove(&(deadline, job.origin, job.index));
        }
    }

    fn put_back(&mut self, job: Box<Job>) {
        if let Some(deadline) = job.deadline {
            self.late.insert((deadline, job.origin, job.index));
        }
        self.plan.push_first(job, &self.gate);
    }

    fn stop(&mut self, why: Stop, now: Instant) {
        self.stopped.get_or_insert(why);
        self.late.clear();
        for job in self.plan.drain() {
            self.leave_unsent(job, why, now);
        }
    }

    fn leave_unsent(&mut self, job: Box<Job>, why: Stop, now: Instant) {
        let error = match why {
            why if job.attempts == 0 => unsent(why),
            Stop::Cancelled => Error::new(Kind::Cancelled, "the batch was interrupted"),
            Stop::Deadline => Error::new(Kind::TimeoutTotal, "the deadline of the batch passed"),
        };
        self.finish(now, job, Err(error));
    }

    fn refuse(&mut self, index: usize, mut request: Request, error: Error) {
        let error = error.about(&request.method, &request.url);
        self.show(Outcome {
            index,
            tag: request.tag.take(),
            attempts: 0,
            timing: Timing::default(),
            result: Err(error),
        });
    }

    fn finish(&mut self, now: Instant, job: Box<Job>, result: Result<Response, Error>) {
        self.end(Some(now), job, result);
    }

    fn end(&mut self, now: Option<Instant>, job: Box<Job>, mut result: Result<Response, Error>) {
        let Job { index, request, attempts, redirects, started, has_acted, .. } = *job;
        if let Err(error) = result {
            let in_doubt = error.in_doubt() || has_acted;
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
        self.show(Outcome { index, tag: request.tag, attempts, timing: Timing { elapsed }, result });
    }

    /// The one place where a row gets its outcome; a second one for the same row is dropped.
    fn show(&mut self, outcome: Outcome) {
        let (word, bit) = (outcome.index / 64, 1 << (outcome.index % 64));
        if self.shown.len() <= word {
            self.shown.resize(word + 1, 0);
        }
        if self.shown[word] & bit != 0 {
            return;
        }
        self.shown[word] |= bit;
        self.ledger.settle(&outcome);
        self.settled += 1;
        self.failed += usize::from(outcome.result.is_err());
        self.ready.push(outcome);
    }
}

fn unsent(why: Stop) -> Error {
    let message = match why {
        Stop::Cancelled => "the batch was interrupted before this row's turn",
        Stop::Deadline => "the deadline of the batch passed before this row's turn",
    };
    Error::new(Kind::NotSent, message)
}

/// The fields that every row is sent with unless it sets them itself.
pub(crate) fn defaults(policy: &Policy) -> Headers {
    let mut headers = policy.headers.clone();
    let codings = if cfg!(feature = "decompression") { "gzip, deflate, br, zstd" } else { "identity" };
    let user_agent = concat!("loamy/", env!("CARGO_PKG_VERSION"));
    for (name, value) in [("Accept", "*/*"), ("Accept-Encoding", codings), ("User-Agent", user_agent)] {
        if headers.view().get(name).is_none() {
            // The names and values are well-formed, so nothing is refused.
            let _ = headers.append(name, value);
        }
    }
    headers
}
