use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::batch::{Batch, Claim};
use crate::clock::now;
use crate::job::{End, Job};
use crate::ledger::{Entry, Ledger, Word};
use crate::retry::Failed;
use crate::{Attempt, Backoff, Error, Governor, Kind, Limit, Outcome, Policy, Request, Response, Retried};

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// A batch in virtual time, whose rows are answered by hand.
struct Trial {
    batch: Batch,
    begin: Instant,
    now: Instant,
}

impl Trial {
    fn new(policy: Policy, rows: impl IntoIterator<Item = Request>) -> Self {
        let begin = now();
        Self::of(Batch::new(Arc::new(policy), begin, 7), begin, rows)
    }

    fn of(batch: Batch, begin: Instant, rows: impl IntoIterator<Item = Request>) -> Self {
        let mut trial = Self { batch, begin, now: begin };
        for row in rows {
            trial.batch.admit(begin, row);
        }
        trial.batch.close();
        trial
    }

    fn claim(&mut self) -> Option<Box<Job>> {
        match self.batch.claim(self.now, None, |_| None) {
            Claim::Granted(job) => Some(job),
            Claim::Full | Claim::Nothing => None,
        }
    }

    /// The next row that is sent, when its time has come.
    fn next(&mut self) -> Box<Job> {
        loop {
            self.batch.expire(self.now);
            if let Some(job) = self.claim() {
                return job;
            }
            let events = [self.batch.next_event(), self.batch.next_grant()];
            self.now = events.into_iter().flatten().min().expect("a row that will be sent");
        }
    }

    fn answer(&mut self, job: Box<Job>, status: u16, fields: &str) {
        self.batch.settle(self.now, job, End::Answered(response(status, fields)));
    }

    fn fail(&mut self, job: Box<Job>, kind: Kind, sent: u64) {
        let failed =
            Failed { kind, sent, received: 0, reused: false, was_to_end: false, asked_for_calm: false };
        let error = Error::new(kind, "broken").moved(sent, 0);
        self.batch.settle(self.now, job, End::Broken(error, failed));
    }

    /// What became of the rows that have ended, by their number.
    fn ended(&mut self) -> Vec<(usize, Ending)> {
        let mut outcomes = self.batch.take_ready();
        outcomes.sort_by_key(|outcome| outcome.index);
        outcomes.into_iter().map(|outcome| (outcome.index, Ending::of(outcome))).collect()
    }

    fn only(&mut self) -> Ending {
        assert!(self.batch.is_settled());
        let mut ended = self.ended();
        assert_eq!(ended.len(), 1);
        ended.remove(0).1
    }
}

/// What a user sees of an outcome.
#[derive(Debug, PartialEq, Eq)]
struct Ending {
    result: Result<u16, Kind>,
    in_doubt: bool,
    attempts: u32,
    earlier: Vec<Attempt>,
}

impl Ending {
    fn of(outcome: Outcome) -> Self {
        let in_doubt = outcome.in_doubt();
        let result = outcome.result.map(|response| response.status()).map_err(|error| error.kind());
        Self { result, in_doubt, attempts: outcome.attempts, earlier: outcome.earlier }
    }

    fn new<const N: usize>(result: Result<u16, Kind>, attempts: u32, earlier: [Attempt; N]) -> Self {
        Self { result, in_doubt: false, attempts, earlier: earlier.into() }
    }

    fn in_doubt(self) -> Self {
        Self { in_doubt: true, ..self }
    }
}

fn response(status: u16, fields: &str) -> Response {
    Response {
        status,
        version: http::Version::HTTP_11,
        redirects: 0,
        head: fields.len() as u32,
        bytes: fields.to_owned().into(),
        url: "http://h/".into(),
    }
}

fn get() -> Request {
    Request::get("http://h/")
}

fn post() -> Request {
    Request::post("http://h/", "x")
}

/// Rows are sent again as often as they like, and nothing but them holds them back.
fn retrying() -> Policy {
    Policy::default().retries(9).governor(Governor::Off)
}

const SEE_OTHER: &str = "Location: /done\r\n";

#[test]
fn g2_a_post_that_was_redirected_after_a_retry_does_not_end_with_the_answer_before() {
    let mut trial = Trial::new(retrying(), [post()]);
    let job = trial.next();
    trial.answer(job, 429, "");
    let job = trial.next();
    trial.answer(job, 303, SEE_OTHER);
    trial.batch.cancel(trial.now);
    assert_eq!(trial.only(), Ending::new(Err(Kind::Cancelled), 2, [Attempt::Answered(429)]).in_doubt());
}

#[test]
fn c8_a_row_that_waits_ends_with_what_its_last_sending_came_to_and_not_the_one_before() {
    let stops: [fn(&mut Trial); 2] =
        [|trial| trial.batch.cancel(trial.now), |trial| trial.batch.expire(trial.now + SECOND)];
    for stop in stops {
        let mut trial = Trial::new(retrying().timeout(SECOND), [get()]);
        let job = trial.next();
        trial.answer(job, 503, "");
        let job = trial.next();
        trial.fail(job, Kind::Closed, 0);
        stop(&mut trial);
        assert_eq!(trial.only(), Ending::new(Err(Kind::Closed), 2, [Attempt::Answered(503)]));
    }
}

#[test]
fn c8_what_became_of_attempts_is_told_of_each_but_the_last_also_of_rows_that_end_waiting() {
    let mut trial = Trial::new(retrying(), [get(), get()]);
    let job = trial.next();
    trial.batch.connected(job.origin, 2);
    let other = trial.next();
    trial.fail(job, Kind::Closed, 0);
    trial.batch.abandon(&Error::new(Kind::Internal, "a worker broke down"));
    drop(other);
    assert_eq!(trial.ended()[0].1, Ending::new(Err(Kind::Closed), 1, []));

    // A row that waits shares the fate of one that finds no connection, and has more to tell.
    let noting = Noting::default();
    let mut trial = noting.begin(retrying().retries(0), [get(), get(), get()]);
    let job = trial.next();
    trial.batch.connected(job.origin, 1);
    let others = [trial.next(), trial.next()];
    trial.fail(job, Kind::Closed, 0);
    for other in others {
        let refused = Error::new(Kind::ConnectRefused, "nobody listens");
        trial.batch.settle(trial.now, other, End::NotConnected(refused));
    }
    let ended = trial.ended();
    assert_eq!(ended[0].1, Ending::new(Err(Kind::Closed), 1, []));
    assert_eq!(ended[2].1, Ending::new(Err(Kind::ConnectRefused), 1, []));
    assert_eq!(noting.left(), [0]);
}

/// A server that takes so many at once and so many a second; what it has seen, and what of that it refused.
struct Bucket {
    per_second: f64,
    at_once: f64,
    left: f64,
    filled: Instant,
    says: bool,
    seen: Vec<(Duration, bool)>,
}

impl Bucket {
    fn answer(&mut self, begin: Instant, now: Instant) -> Response {
        let filled = self.left + (now - self.filled).as_secs_f64() * self.per_second;
        (self.left, self.filled) = (filled.min(self.at_once), now);
        let takes = self.left >= 1.0;
        self.left -= f64::from(u8::from(takes));
        self.seen.push((now - begin, takes));
        let fields = if self.says {
            let left = self.left as u64;
            format!("RateLimit-Policy: \"d\";q={};w=1\r\nRateLimit: \"d\";r={left};t=1\r\n", self.at_once)
        } else {
            String::new()
        };
        response(if takes { 200 } else { 429 }, &fields)
    }
}

#[test]
fn e20_the_pace_of_a_peer_is_kept_up_to_the_deadline() {
    const ROUND_TRIP: Duration = Duration::from_millis(20);
    for (says, per_second, at_once, seconds) in [(true, 10.0, 10.0, 4), (false, 50.0, 10.0, 6)] {
        let policy = retrying().governor(Governor::On).deadline(SECOND * seconds);
        let mut trial = Trial::new(policy, (0..1500).map(|_| get()));
        let begin = trial.begin;
        let mut bucket = Bucket { per_second, at_once, left: at_once, filled: begin, says, seen: Vec::new() };
        let mut under_way: VecDeque<(Instant, Box<Job>, Response)> = VecDeque::new();
        while !trial.batch.is_settled() {
            trial.batch.expire(trial.now);
            while let Some((due, ..)) = under_way.front()
                && *due <= trial.now
            {
                let (_, job, answer) = under_way.pop_front().unwrap();
                trial.batch.settle(trial.now, job, End::Answered(answer));
            }
            while let Some(job) = trial.claim() {
                under_way.push_back((trial.now + ROUND_TRIP, job, bucket.answer(begin, trial.now)));
            }
            let due = under_way.front().map(|(due, ..)| *due);
            let events = [due, trial.batch.next_event(), trial.batch.next_grant()];
            let Some(next) = events.into_iter().flatten().min() else { break };
            trial.now = next.max(trial.now);
        }
        assert!(trial.batch.is_settled());
        let last = SECOND * seconds - MILLISECOND * 300;
        let at_the_end: Vec<_> = bucket.seen.iter().filter(|(at, _)| *at >= last).collect();
        let refused = at_the_end.iter().filter(|(_, takes)| !takes).count();
        assert!(!at_the_end.is_empty() && refused <= 1, "{says}: {refused} refused: {at_the_end:?}");
        let most = (per_second * 0.3 * 1.5).ceil() as usize + 1;
        assert!(at_the_end.len() <= most, "{says}: {} in the last 300 ms", at_the_end.len());
    }
}

#[test]
fn what_a_breaker_leaves_unsent_waits_for_no_rate_no_pause_and_no_time_to_be_sent_again() {
    let slow = || Limit::new("requests", "1/8s".parse().unwrap()).burst(1);
    let refused = || End::NotConnected(Error::new(Kind::ConnectRefused, "nobody listens"));
    let once = || retrying().retries(0).max_failures_per_host(1);
    for limit in [slow(), slow().for_each_origin()] {
        let mut trial = Trial::new(once().limit(limit), (0..5).map(|_| get()));
        let job = trial.next();
        assert!(trial.claim().is_none(), "the others wait for the rate");
        trial.answer(job, 500, "");
        assert!(trial.batch.is_settled(), "rows that will not be sent wait for something");
        assert!(trial.ended()[1..].iter().all(|(_, ending)| ending.result == Err(Kind::NotSent)));
    }

    // The first is to be sent again, and the host paused meanwhile; the second ends it.
    let mut trial = Trial::new(once().retries(9), [get(), post(), get()]);
    let first = trial.next();
    trial.batch.connected(first.origin, 1);
    let second = trial.next();
    let third = trial.next();
    trial.answer(first, 503, "");
    trial.batch.settle(trial.now, third, refused());
    trial.answer(second, 500, "");
    assert!(trial.batch.is_settled(), "rows that will not be sent wait for something");
    let ended = trial.ended();
    assert_eq!(ended[0].1, Ending::new(Ok(503), 1, []));
    assert_eq!(ended[2].1, Ending::new(Err(Kind::ConnectRefused), 1, []));

    // What is still under way then, or comes later, is not sent again either.
    let mut trial = Trial::new(once().retries(9), [get(), post(), get()]);
    let first = trial.next();
    trial.batch.connected(first.origin, 1);
    let (second, third) = (trial.next(), trial.next());
    trial.answer(second, 500, "");
    trial.answer(first, 503, "");
    trial.fail(third, Kind::Closed, 0);
    assert!(trial.batch.is_settled());
    let ended = trial.ended();
    assert_eq!(ended[0].1, Ending::new(Ok(503), 1, []));
    assert_eq!(ended[2].1, Ending::new(Err(Kind::Closed), 1, []));
}

#[test]
fn a_row_that_is_no_request_is_a_failed_row_too() {
    let bad = || Request::get("example.com");
    let mut trial = Trial::new(Policy::default().max_failures(1), [bad(), post(), bad()]);
    assert!(trial.batch.is_settled() && trial.claim().is_none());
    let ended: Vec<_> = trial.ended().into_iter().map(|(_, ending)| ending.result).collect();
    assert_eq!(ended, [Err(Kind::BadRequest), Err(Kind::NotSent), Err(Kind::BadRequest)]);

    // One that waits already is not sent either.
    let mut trial = Trial::new(Policy::default().max_failures(2), [bad(), post(), bad()]);
    assert!(trial.batch.is_settled() && trial.claim().is_none());
    assert_eq!(trial.ended()[1].1, Ending::new(Err(Kind::NotSent), 0, []));

    // It says nothing of any host.
    let mut trial = Trial::new(Policy::default().max_failures_per_host(1), [bad(), post()]);
    let job = trial.next();
    trial.answer(job, 200, "");
    assert!(trial.batch.is_settled());
}

/// Notes which rows are done, and which are left to a later run.
#[derive(Clone, Default)]
struct Noting(Arc<Mutex<Vec<(usize, bool)>>>);

impl Ledger for Noting {
    fn most_unrecorded(&self) -> usize {
        usize::MAX
    }

    fn admit(&mut self, job: Box<Job>) -> Entry {
        Entry::Open(job)
    }

    fn intend(&mut self, _: usize) {}

    fn release(&mut self, _: usize) {}

    fn settle(&mut self, outcome: Outcome) -> Option<Outcome> {
        self.0.lock().unwrap().push((outcome.index, outcome.is_left));
        Some(outcome)
    }

    fn stop_looking(&mut self) {}

    fn collect(&mut self, _: &mut Vec<Word>) {}

    fn hurry(&mut self) {}
}

impl Noting {
    fn begin(&self, policy: Policy, rows: impl IntoIterator<Item = Request>) -> Trial {
        let begin = now();
        let batch = Batch::with_ledger(Arc::new(policy), begin, 7, Box::new(self.clone()));
        Trial::of(batch, begin, rows)
    }

    /// The rows that are left to a later run.
    fn left(&self) -> Vec<usize> {
        let noted = std::mem::take(&mut *self.0.lock().unwrap());
        let mut left: Vec<_> =
            noted.into_iter().filter(|(_, is_left)| *is_left).map(|(row, _)| row).collect();
        left.sort_unstable();
        left
    }
}

#[test]
fn h6_a_row_that_waits_to_be_sent_again_when_the_batch_ends_is_left_to_a_later_run() {
    let noting = Noting::default();
    let stops: [fn(&mut Trial); 2] =
        [|trial| trial.batch.cancel(trial.now), |trial| trial.batch.expire(trial.begin + SECOND)];
    for stop in stops {
        let mut trial = noting.begin(retrying().deadline(SECOND), [get(), post(), get()]);
        let job = trial.next();
        trial.batch.connected(job.origin, 9);
        let (other, third) = (trial.next(), trial.next());
        trial.now += MILLISECOND;
        trial.answer(job, 503, "Retry-After: 0\r\n");
        trial.answer(other, 429, "Retry-After: 0\r\n");
        trial.fail(third, Kind::Closed, 0);
        stop(&mut trial);
        assert!(trial.batch.is_settled());
        assert_eq!(trial.ended()[0].1, Ending::new(Ok(503), 1, []));
        assert_eq!(noting.left(), [0, 1, 2]);
    }

    // So is one that shares the answer.
    let policy = retrying().duplicates(crate::Duplicates::Share);
    let mut trial = noting.begin(policy, [get(), get()]);
    let job = trial.next();
    trial.answer(job, 503, "");
    trial.batch.cancel(trial.now);
    assert_eq!(trial.ended()[1].1.result, Ok(503));
    assert_eq!(noting.left(), [0, 1]);
}

#[test]
fn h6_a_row_that_would_have_been_sent_again_but_for_the_end_of_the_batch_is_left_to_a_later_run() {
    let noting = Noting::default();
    let mut trial = noting.begin(retrying().max_failures(1), [get(), post(), get(), get()]);
    let job = trial.next();
    trial.batch.connected(job.origin, 9);
    let (second, third, fourth) = (trial.next(), trial.next(), trial.next());
    trial.answer(second, 404, "");
    trial.answer(job, 503, "");
    trial.fail(third, Kind::Closed, 0);
    trial.answer(fourth, 404, "");
    assert!(trial.batch.is_settled());
    assert_eq!(noting.left(), [0, 2], "what is no better for another sending is done");
}

#[test]
fn h6_a_row_whose_earlier_sending_may_have_acted_is_done_with_what_it_came_to() {
    let noting = Noting::default();
    let mut trial = noting.begin(retrying().retried(Retried::All), [post(), post()]);
    let job = trial.next();
    trial.batch.connected(job.origin, 9);
    let other = trial.next();
    trial.answer(job, 503, "");
    trial.answer(other, 303, SEE_OTHER);
    let hop = trial.next();
    assert_eq!(hop.index, 1);
    trial.answer(hop, 503, "");
    trial.batch.cancel(trial.now);
    let ended = trial.ended();
    assert_eq!(ended[0].1, Ending::new(Ok(503), 1, []));
    assert_eq!(ended[1].1, Ending::new(Ok(503), 1, []).in_doubt());
    assert_eq!(noting.left(), [0; 0]);
}

#[test]
fn h6_what_the_deadline_of_the_batch_cuts_off_is_left_to_a_later_run_and_what_ends_by_itself_is_done() {
    let noting = Noting::default();
    let late = |trial: &mut Trial, rows: [u64; 3]| {
        let jobs: Vec<_> = std::iter::from_fn(|| {
            let job = trial.claim()?;
            trial.batch.connected(job.origin, 9);
            Some(job)
        })
        .collect();
        assert_eq!(jobs.len(), 3);
        trial.now += SECOND;
        for (job, sent) in jobs.into_iter().zip(rows) {
            trial.fail(job, Kind::TimeoutTotal, sent);
        }
        trial.batch.expire(trial.now);
    };
    let rows = || [get(), post(), post()];
    let mut trial = noting.begin(Policy::default().deadline(SECOND), rows());
    late(&mut trial, [9, 9, 0]);
    let ended: Vec<_> =
        trial.ended().into_iter().map(|(_, ending)| (ending.result, ending.in_doubt)).collect();
    let timeout = Err(Kind::TimeoutTotal);
    assert_eq!(ended, [(timeout, false), (timeout, true), (timeout, false)]);
    assert_eq!(noting.left(), [0, 2]);

    let mut trial = noting.begin(Policy::default().deadline(SECOND * 9).timeout(SECOND), rows());
    late(&mut trial, [9, 9, 0]);
    assert_eq!(noting.left(), [0; 0]);
}

#[test]
fn g2_an_answer_after_a_hop_leaves_a_post_in_doubt_unless_it_went_well() {
    let ends = |policy: Policy, row: Request, answers: &[(u16, &str)]| {
        let mut trial = Trial::new(policy.backoff(Backoff { base: MILLISECOND, cap: MILLISECOND }), [row]);
        for (status, fields) in answers {
            let job = trial.next();
            match status {
                0 => trial.fail(job, Kind::Closed, 9),
                status => trial.answer(job, *status, fields),
            }
        }
        let ending = trial.only();
        (ending.result, ending.in_doubt)
    };
    let (plain, all) =
        (Policy::default().governor(Governor::Off), retrying().retried(Retried::All).retries(1));
    let keyed = post().header("Idempotency-Key", "k");
    for (policy, row, answers, expected) in [
        (&plain, post(), &[(303, SEE_OTHER), (503, "")][..], (Ok(503), true)),
        (&plain, post(), &[(303, SEE_OTHER), (404, "")], (Ok(404), true)),
        (&plain, post(), &[(303, SEE_OTHER), (200, "")], (Ok(200), false)),
        (&plain, post(), &[(307, SEE_OTHER), (503, "")], (Ok(503), false)),
        (&plain, keyed, &[(303, SEE_OTHER), (503, "")], (Ok(503), false)),
        (&plain, get(), &[(303, SEE_OTHER), (503, "")], (Ok(503), false)),
        (&plain, post(), &[(503, "")], (Ok(503), false)),
        // The server said of both that it failed.
        (&all, post(), &[(503, ""), (503, "")], (Ok(503), false)),
        // Of the first nobody knows.
        (&all, post(), &[(0, ""), (503, "")], (Ok(503), true)),
        (&all, post(), &[(0, ""), (200, "")], (Ok(200), false)),
        (&all, post(), &[(429, ""), (503, "")], (Ok(503), false)),
    ] {
        assert_eq!(ends(policy.clone(), row, answers), expected, "{answers:?}");
    }
}
