//! The rules of politeness in virtual time: retries and their budget, limits, pauses, what ends a batch early, rows that ask for
//! the same. Origins refuse, fail, restart and publish quotas as they like; what was granted is held against each rule.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Seen, over_seeds, response};
use crate::backoff::Jitter;
use crate::batch::{Batch, Claim};
use crate::clock::now;
use crate::job::{End, Job, Permit, Try};
use crate::retry::Failed;
use crate::{
    Adaptive, Attempt, Backoff, Duplicates, Error, Governor, Hedging, Idempotency, Kind, Limit, Outcome,
    Overrides, Policy, Rate, Request, Response, Retried, Scope,
};

/// A batch that takes longer has stopped to get anywhere.
const LONGEST: Duration = Duration::from_secs(3 * 3600);

#[test]
fn no_rule_of_politeness_breaks_whatever_the_origins_do() {
    over_seeds(&THINGS, |seed| World::new(seed).run());
}

/// What must happen often enough for the simulation to prove something.
const THINGS: [&str; 21] = [
    "a try outrun by another",
    "a grant",
    "a retry",
    "a retry of an unsafe row",
    "a wait for a limit",
    "a pause",
    "a row beyond max_pause",
    "a row over a broken origin",
    "a row after too many failures",
    "a row past the deadline",
    "a shared answer",
    "an answer kept when the batch ended",
    "a second sending with the same key",
    "a budget used up",
    "a retry of a row refused with others",
    "a row over its budget",
    "a peer that asked for calm",
    "a restart survived",
    "a row that waited for its connection",
    "a row that might not go when it had its connection",
    "a row that was outrun before it had its connection",
];

/// How an origin behaves.
#[derive(Clone, Copy, Debug)]
enum Manner {
    Fine,
    /// So many of a hundred fail in some way.
    Flaky(u64),
    /// Takes so many in each second and refuses more; says when to come back, or does not.
    Limited {
        most: usize,
        says: bool,
    },
    /// Refuses connections until then.
    Away(Duration),
    /// 503 to everything.
    Overloaded,
    /// Says once that nobody shall come for so long.
    Closed(Duration),
}

struct Origin {
    manner: Manner,
    taken: Vec<Instant>,
    /// Nothing may be granted before then.
    shut_until: Option<Instant>,
    rows: u64,
    retried: u64,
    failures: u64,
    /// When it last asked for calm, and how many it bears since.
    calm: Option<(Instant, usize)>,
    in_flight: usize,
    /// How many were granted, and how many when the last pause began: what was among those and is refused costs nothing.
    granted: u64,
    volley: u64,
    has_taken: bool,
}

#[derive(Debug)]
struct Row {
    origin: usize,
    method: &'static str,
    tokens: Option<u64>,
    same_as: Option<usize>,
    keyed: bool,
    grants: u32,
    /// Whether it had its slot once.
    counted: bool,
    retried: u32,
    url: String,
    key: Option<Vec<u8>>,
    /// Whether a sending of it may have had its effect.
    has_acted: bool,
    not_before: Option<Instant>,
    shown: bool,
}

/// A row that is under way.
struct Flight {
    due: Instant,
    job: Box<Job>,
    origin: usize,
    /// Which grant of its origin it is.
    number: u64,
    is_outrun: bool,
}

/// A row that has a slot and waits for its connection.
struct Connecting {
    due: Instant,
    job: Box<Job>,
}

struct World {
    random: Jitter,
    begin: Instant,
    now: Instant,
    policy: Arc<Policy>,
    batch: Batch,
    origins: Vec<Origin>,
    rows: Vec<Row>,
    connecting: Vec<Connecting>,
    in_flight: Vec<Flight>,
    /// Of a hundred rows, so many find no connection ready.
    unready: u64,
    /// Rows that were sent for the first time and may be tried twice, and how many were.
    hedged: (u64, u64),
    granted: Vec<(Instant, usize)>,
    failures: u64,
    outcomes: HashMap<usize, Outcome>,
    seen: Seen,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Jitter::seeded(seed);
        let begin = now();
        let policy = Arc::new(policy(&mut random));
        let count = random.between(1, 5);
        let origins = (0..count).map(|_| Origin::new(&mut random)).collect();
        let unready = random.pick(&[0, 0, 20, 100]);
        Self {
            batch: Batch::new(Arc::clone(&policy), begin, seed),
            random,
            begin,
            now: begin,
            policy,
            origins,
            rows: Vec::new(),
            connecting: Vec::new(),
            in_flight: Vec::new(),
            unready,
            hedged: (0, 0),
            granted: Vec::new(),
            failures: 0,
            outcomes: HashMap::new(),
            seen: Seen::default(),
        }
    }

    fn run(mut self) -> Seen {
        for _ in 0..self.random.between(1, 80) {
            self.admit();
        }
        self.batch.close();
        let mut at_once = 0;
        loop {
            self.turn();
            if self.batch.is_settled() {
                break;
            }
            let due = self.in_flight.iter().map(|flight| flight.due);
            let due = due.chain(self.connecting.iter().map(|connecting| connecting.due)).min();
            let next = [due, self.batch.next_event(), self.batch.next_grant()].into_iter().flatten().min();
            let next = next.expect("rows are left, and nothing will ever happen: a wake-up was lost");
            at_once = if next > self.now { 0 } else { at_once + 1 };
            assert!(at_once < 3, "a moment that has come is not waited for");
            assert!(next < self.begin + LONGEST, "the batch gets nowhere: {:?}", self.batch.progress());
            self.now = self.now.max(next);
        }
        self.at_the_end();
        self.seen
    }

    fn admit(&mut self) {
        let index = self.rows.len();
        let origin = self.random.below(self.origins.len() as u64) as usize;
        let method = self.random.pick(&["GET", "GET", "GET", "POST", "PUT", "PATCH"]);
        let shares = self.policy.duplicates == Duplicates::Share && method == "GET";
        let path = if shares { self.random.below(10) as usize } else { index };
        let url = format!("http://o{origin}.test/{path}");
        let tokens = self.random.chance(30).then(|| self.random.between(0, 50));
        let mut request = Request::new(method, &url);
        if let Some(tokens) = tokens
            && self.policy.limits.iter().any(|limit| limit.name() == "tokens")
        {
            request = request.overrides(Overrides::default().cost("tokens", tokens));
        }
        let tokens = request.overrides.as_ref().and(tokens);
        let shares = shares && tokens.is_none();
        let same = |row: &Row| row.method == "GET" && row.tokens.is_none() && row.url == url;
        let same_as = if shares { self.rows.iter().position(same) } else { None };
        let keyed = matches!(self.policy.idempotency, Idempotency::Auto { .. });
        let keyed = keyed && matches!(method, "POST" | "PATCH");
        self.rows.push(Row {
            origin,
            method,
            tokens,
            same_as,
            keyed,
            grants: 0,
            counted: false,
            retried: 0,
            url,
            key: None,
            has_acted: false,
            not_before: None,
            shown: false,
        });
        if self.rows[index].same_as.is_none() {
            self.origins[origin].rows += 1;
        }
        self.batch.admit(self.now, request);
    }

    /// As a worker's turn.
    fn turn(&mut self) {
        self.batch.expire(self.now);
        let now = self.now;
        while let Some(at) = self.in_flight.iter().position(|flight| flight.due <= now) {
            let flight = self.in_flight.remove(at);
            self.origins[flight.origin].in_flight -= 1;
            if flight.is_outrun {
                self.batch.settle(self.now, flight.job, broken(Kind::Cancelled, 100));
            } else {
                self.end(flight.job, flight.origin, flight.number);
            }
            self.cancel_what_is_outrun();
            self.take();
        }
        while let Some(at) = self.connecting.iter().position(|connecting| connecting.due <= now) {
            let Connecting { job, .. } = self.connecting.remove(at);
            self.connected(job);
            self.take();
        }
        loop {
            let is_ready = !self.random.chance(self.unready);
            let lead = (!is_ready).then(|| self.random.up_to_millis(300));
            match self.batch.claim(self.now, None, |_| lead) {
                Claim::Granted(job) => {
                    self.claimed(&job);
                    match job.permit {
                        Permit::Reserved => self.reserved(job),
                        _ => self.granted(job),
                    }
                }
                Claim::Full => break,
                Claim::Nothing => {
                    if self.batch.next_grant().is_some() {
                        self.seen.note("a wait for a limit");
                    }
                    break;
                }
            }
        }
        self.take();
        for pause in self.batch.take_pauses() {
            assert!(pause.left >= Duration::from_secs(1));
            self.seen.note("a pause");
        }
    }

    /// As a worker does, within a moment.
    fn cancel_what_is_outrun(&mut self) {
        for (index, which) in self.batch.outrun() {
            let moment = self.random.up_to_millis(3);
            let is_it = |job: &Job| job.index == index && job.which == which;
            if let Some(own) = self.connecting.iter_mut().find(|own| is_it(&own.job)) {
                own.due = self.now;
                continue;
            }
            let flight = self.in_flight.iter_mut().find(|own| is_it(&own.job));
            let flight = flight.expect("what is outrun is under way");
            if !flight.is_outrun {
                (flight.is_outrun, flight.due) = (true, self.now + moment);
                self.seen.note("a try outrun by another");
            }
        }
    }

    /// A row has its slot: that counts as an attempt, even if it only has a connection made for it.
    fn claimed(&mut self, job: &Job) {
        let row = &mut self.rows[job.index];
        row.grants += 1;
        assert_eq!(job.attempts, row.grants, "row {}", job.index);
        if job.which == Try::Second && row.grants == 2 {
            assert!(job.request.is_idempotent(), "row {} is tried twice at once", job.index);
            self.hedged.1 += 1;
        } else if row.grants == 1 && job.request.is_idempotent() {
            self.hedged.0 += u64::from(!std::mem::replace(&mut row.counted, true));
        }
        assert!(self.hedged.1 * 20 <= self.hedged.0, "at most one in twenty is tried twice at once");
    }

    /// A row has its slot, and no connection yet.
    fn reserved(&mut self, job: Box<Job>) {
        let due = self.now + self.random.up_to_millis(300);
        self.connecting.push(Connecting { due, job });
        assert!(self.in_flight.len() + self.connecting.len() <= self.policy.concurrency);
        self.seen.note("a row that waited for its connection");
    }

    /// A row has its connection, unless there was no descriptor for one.
    fn connected(&mut self, job: Box<Job>) {
        let is_outrun = self.batch.outrun().contains(&(job.index, job.which));
        let index = job.index;
        let renewed = if self.random.chance(5) {
            self.batch.settle(self.now, job, End::NotTried);
            None
        } else {
            self.batch.renew(self.now, job)
        };
        match renewed {
            Some(job) => {
                assert!(!is_outrun, "row {index} goes although another try of it was answered");
                self.granted(job);
            }
            None if is_outrun => self.seen.note("a row that was outrun before it had its connection"),
            None => {
                self.rows[index].grants -= 1;
                self.seen.note("a row that might not go when it had its connection");
            }
        }
    }

    /// A row is sent.
    fn granted(&mut self, job: Box<Job>) {
        let (index, now) = (job.index, self.now);
        let deadline = self.policy.deadline.map(|span| self.begin + span);
        assert!(deadline.is_none_or(|deadline| now < deadline), "nothing is sent after the deadline");
        let most = self.policy.max_failures.unwrap_or(u64::MAX);
        assert!(self.failures < most, "nothing is sent after so many failures");
        let row = &mut self.rows[index];
        let origin = &mut self.origins[row.origin];
        let most = self.policy.max_failures_per_host.unwrap_or(u64::MAX);
        assert!(origin.failures < most, "nothing is sent to an origin after so many failures");
        assert_eq!(row.same_as, None, "row {index} asks for what another one is sent for");
        assert!(
            row.not_before.is_none_or(|at| at <= now),
            "row {index} is sent earlier than it was asked for"
        );
        if self.policy.governor == Governor::On {
            assert!(origin.shut_until.is_none_or(|at| at <= now), "a paused origin is sent row {index}");
        }
        assert!(
            !row.has_acted || self.policy.retried == Retried::All,
            "row {index} may have its effect twice"
        );
        let key = job.request.headers().get("Idempotency-Key").map(<[u8]>::to_vec);
        assert_eq!(key.is_some(), row.keyed, "row {index}");
        if row.keyed && row.key.is_some() {
            assert_eq!(row.key, key, "row {index} keeps its key");
            self.seen.note("a second sending with the same key");
        }
        row.key = key;
        origin.in_flight += 1;
        origin.granted += 1;
        let number = origin.granted;
        assert!(self.policy.per_host.is_none_or(|most| origin.in_flight <= most));
        if let Some((asked, most)) = origin.calm {
            assert!(asked < now, "row {index} is sent to a peer that has just asked for calm");
            assert!(origin.in_flight <= most, "row {index} is more than a peer bears that asked for calm");
        }
        let at = row.origin;
        self.granted.push((now, index));
        let span = self.random.up_to_millis(200) + Duration::from_micros(1);
        let span = if self.random.chance(5) { span * 10 } else { span };
        self.in_flight.push(Flight { due: now + span, job, origin: at, number, is_outrun: false });
        assert!(self.in_flight.len() + self.connecting.len() <= self.policy.concurrency);
        self.seen.note("a grant");
    }

    fn end(&mut self, job: Box<Job>, at: usize, number: u64) {
        let index = job.index;
        let retrying = self.batch.progress().retrying;
        let row = &mut self.rows[index];
        let is_safe_to_repeat = row.keyed || matches!(row.method, "GET" | "PUT");
        let end = self.origins[at].answer(&mut self.random, self.begin, self.now, &job);
        let had_no_effect = match &end {
            End::Broken(_, failed) => failed.sent == 0 || failed.kind == Kind::Refused,
            End::NotConnected(_) => true,
            End::Answered(response) => response.status() == 429,
            _ => false,
        };
        if let End::Answered(response) = &end
            && let Some(asked) = retry_after(response)
        {
            let until = self.now + asked;
            row.not_before = Some(until);
            let origin = &mut self.origins[at];
            origin.shut_until = origin.shut_until.max(Some(until));
        }
        let row = &mut self.rows[index];
        // A status of 5xx is an answer; what it did is not known. The rule lets idempotent rows alone try again.
        row.has_acted |= !had_no_effect && !is_safe_to_repeat;
        let governed = self.policy.governor == Governor::On;
        let costs_nothing = governed && self.origins[at].refuses_with_others(number, &end);
        if self.origins[at].heard(self.now, &job, &end) {
            self.seen.note("a peer that asked for calm");
        }
        self.batch.settle(self.now, job, end);
        if self.batch.progress().retrying > retrying {
            let row = &mut self.rows[index];
            row.retried += 1;
            self.origins[at].retried += u64::from(!costs_nothing);
            assert!(row.retried <= self.policy.retries, "row {index} is retried more often than allowed");
            let unsafe_row = row.has_acted;
            let origin = &self.origins[at];
            let worth = origin.rows / 5 + 10;
            assert!(origin.retried <= worth, "an origin is worth no more retries than its budget");
            if origin.retried == worth {
                self.seen.note("a budget used up");
            }
            if costs_nothing {
                self.seen.note("a retry of a row refused with others");
            }
            self.seen.note(if unsafe_row { "a retry of an unsafe row" } else { "a retry" });
        }
    }

    fn take(&mut self) {
        for outcome in self.batch.take_ready() {
            let index = outcome.index;
            let row = &mut self.rows[index];
            assert!(!std::mem::replace(&mut row.shown, true), "row {index} has one outcome");
            assert_eq!(outcome.attempts, row.grants, "row {index}");
            let earlier = outcome.earlier.len() as u32;
            assert_eq!(earlier, outcome.attempts.saturating_sub(1), "{outcome:?}");
            let ended_by_itself =
                !matches!(outcome.result.as_ref().map_err(Error::kind), Err(Kind::NotSent | Kind::Cancelled));
            let status = outcome.result.as_ref().ok().map(Response::status);
            let of_host = status.map_or(ended_by_itself, |status| matches!(status, 408 | 429 | 500..));
            let failed = status.map_or(ended_by_itself, |status| status >= 400);
            let is_first = row.same_as.is_none();
            let at = row.origin;
            if let Err(error) = &outcome.result
                && error.in_doubt()
            {
                assert!(row.has_acted, "row {index} is in doubt without having been sent");
            }
            self.failures += u64::from(is_first && failed);
            self.origins[at].failures += u64::from(is_first && of_host);
            let text =
                outcome.result.as_ref().err().map(|error| error.message().to_owned()).unwrap_or_default();
            for (words, what) in [
                ("takes no further request", "a row beyond max_pause"),
                ("max_failures_per_host", "a row over a broken origin"),
                ("max_failures allows", "a row after too many failures"),
                ("deadline of the batch passed", "a row past the deadline"),
            ] {
                if text.contains(words) {
                    self.seen.note(what);
                }
            }
            if outcome.over_budget {
                let row = &self.rows[index];
                assert!(row.same_as.is_some() || row.retried < self.policy.retries, "{outcome:?}");
                assert!(self.origins[at].retried >= 10, "the budget is 10 at the least: {outcome:?}");
                self.seen.note("a row over its budget");
            }
            if let Some(first) = self.rows[index].same_as {
                let shared =
                    self.outcomes.get(&first).expect("the first ends before those that share with it");
                assert_eq!(format!("{:?}", shared.result), format!("{:?}", outcome.result));
                self.seen.note("a shared answer");
            }
            let was_away = outcome.earlier.contains(&Attempt::Failed(Kind::ConnectRefused));
            if was_away && outcome.is_ok() && matches!(self.origins[at].manner, Manner::Away(_)) {
                self.seen.note("a restart survived");
            }
            let has_stopped = self.policy.deadline.is_some_and(|span| self.now >= self.begin + span);
            if has_stopped
                && outcome.result.as_ref().is_ok_and(|own| own.status() >= 500)
                && outcome.attempts > 0
            {
                self.seen.note("an answer kept when the batch ended");
            }
            self.outcomes.insert(index, outcome);
        }
    }

    fn at_the_end(&mut self) {
        self.take();
        assert_eq!(self.outcomes.len(), self.rows.len(), "n in, n out");
        // A try that another outran may end after all rows have.
        let beside = self.batch.under_way();
        assert_eq!(beside, self.in_flight.len());
        assert!(self.in_flight.iter().all(|flight| flight.is_outrun));
        assert_eq!(self.batch.progress().in_flight, 0);
        for limit in &self.policy.limits {
            match limit.scope() {
                Scope::Batch => self.hold_to(limit, |_| true),
                Scope::Origin => {
                    for origin in 0..self.origins.len() {
                        self.hold_to(limit, |row| row.origin == origin);
                    }
                }
            }
        }
    }

    /// In every span of time at most `rate · span + burst` was granted: what leaks out of a bucket never lets it run over.
    fn hold_to(&self, limit: &Limit, concerns: impl Fn(&Row) -> bool) {
        let per = limit.rate().per().as_nanos();
        let (mut level, mut before) = (0_u128, self.begin);
        let mut most = u128::from(limit.at_once()) * per;
        for (at, index) in &self.granted {
            let row = &self.rows[*index];
            if !concerns(row) {
                continue;
            }
            let cost = match (limit.name(), row.tokens) {
                ("tokens", Some(tokens)) => tokens,
                _ => 1,
            };
            let cost = u128::from(cost) * per;
            level = level.saturating_sub((*at - before).as_nanos() * u128::from(limit.rate().count())) + cost;
            before = *at;
            // A row that costs more than the burst goes alone.
            most = most.max(cost);
            assert!(level <= most, "{} {} is broken by row {index}", limit.name(), limit.rate());
        }
    }
}

impl Origin {
    fn new(random: &mut Jitter) -> Self {
        let manner = match random.below(10) {
            0..3 => Manner::Fine,
            3..5 => Manner::Flaky(random.between(1, 60)),
            5..7 => Manner::Limited { most: random.between(1, 8) as usize, says: random.chance(50) },
            7 => Manner::Away(Duration::from_millis(random.between(1, 8_000))),
            8 => Manner::Overloaded,
            _ => Manner::Closed(Duration::from_secs(random.between(1, 200))),
        };
        Self {
            manner,
            taken: Vec::new(),
            shut_until: None,
            calm: None,
            rows: 0,
            retried: 0,
            failures: 0,
            in_flight: 0,
            granted: 0,
            volley: 0,
            has_taken: false,
        }
    }

    /// Whether the row was refused by an origin that takes some, and had been sent before another was refused.
    fn refuses_with_others(&mut self, number: u64, end: &End) -> bool {
        let End::Answered(response) = end else { return false };
        match response.status() {
            429 => {}
            503 if retry_after(response).is_some() => {}
            status => {
                self.has_taken |= status < 500;
                return false;
            }
        }
        let is_alone = number > self.volley;
        if is_alone {
            self.volley = self.granted;
        }
        response.status() == 429 && !is_alone && self.has_taken
    }

    /// What it says of how many rows it bears; whether it asked for calm, and not with what it refused before.
    fn heard(&mut self, now: Instant, job: &Job, end: &End) -> bool {
        let is_new = self.calm.is_none_or(|(asked, _)| job.sent_at.is_some_and(|sent| sent > asked));
        let calms = matches!(end, End::Broken(_, Failed { asked_for_calm: true, .. }));
        let were = self.in_flight + 1;
        match (&mut self.calm, end) {
            (calm, _) if calms && is_new => {
                let most = calm.map_or(were, |(_, most)| most.min(were)) / 2;
                *calm = Some((now, most.max(1)));
            }
            (Some((_, most)), End::Answered(_)) if is_new => *most += 1,
            _ => {}
        }
        calms && is_new
    }

    fn answer(&mut self, random: &mut Jitter, begin: Instant, now: Instant, job: &Job) -> End {
        let answer = |status: u16, said: &str| End::Answered(answer(status, said, job));
        match self.manner {
            Manner::Fine => answer(200, ""),
            Manner::Flaky(part) if random.chance(part) => match random.below(9) {
                0 => answer(503, ""),
                1 => answer(500, ""),
                2 => answer(404, ""),
                3 => answer(409, ""),
                4 => End::NotConnected(Error::new(Kind::ConnectRefused, "refused")),
                5 => broken(Kind::TimeoutRead, 100),
                6 => broken(Kind::Closed, random.pick(&[0, 100])),
                7 => for_calm(random.pick(&[Kind::Closed, Kind::Refused])),
                _ => broken(Kind::Refused, 100),
            },
            Manner::Flaky(_) => answer(200, ""),
            Manner::Limited { most, says } => {
                self.taken.retain(|at| *at + Duration::from_secs(1) > now);
                if self.taken.len() < most {
                    self.taken.push(now);
                    let left = most - self.taken.len();
                    return answer(
                        200,
                        &if says { format!("RateLimit: \"a\";r={left};t=1\r\n") } else { String::new() },
                    );
                }
                answer(429, if says { "Retry-After: 1\r\n" } else { "" })
            }
            Manner::Away(until) if now < begin + until => {
                End::NotConnected(Error::new(Kind::ConnectRefused, "refused"))
            }
            Manner::Away(_) => answer(200, ""),
            Manner::Overloaded => answer(503, ""),
            Manner::Closed(span) if self.shut_until.is_none() => {
                answer(random.pick(&[429, 503]), &format!("Retry-After: {}\r\n", span.as_secs()))
            }
            Manner::Closed(_) => answer(200, ""),
        }
    }
}

fn policy(random: &mut Jitter) -> Policy {
    let mut policy = Policy::default()
        .concurrency(random.between(1, 32) as usize)
        .retries(random.pick(&[0, 1, 2, 5]))
        .max_pause(random.pick(&[Duration::from_secs(2), Duration::from_secs(60), Duration::from_secs(300)]))
        .backoff(Backoff {
            base: Duration::from_millis(random.between(10, 1000)),
            cap: Duration::from_secs(random.between(1, 20)),
        });
    let mut some = |percent| random.chance(percent);
    if some(20) {
        policy = policy.retried(Retried::All);
    }
    if some(30) {
        policy = policy.governor(Governor::Off);
    }
    if some(20) {
        policy = policy.duplicates(Duplicates::Share);
    }
    if some(20) {
        policy = policy.idempotency(Idempotency::Auto { job: "simulation".into() });
    }
    if some(20) {
        policy = policy.adaptive(if some(50) { Adaptive::Aimd } else { Adaptive::Gradient2 });
    }
    if random.chance(25) {
        let after = Duration::from_millis(random.between(1, 300));
        policy = policy.hedging(random.pick(&[Hedging::Auto, Hedging::After(after)]));
    }
    if random.chance(30) {
        policy = policy.per_host(random.between(1, 8) as usize);
    }
    if random.chance(10) {
        policy = policy.max_failures(random.between(1, 20));
    }
    if random.chance(10) {
        policy = policy.max_failures_per_host(random.between(1, 10));
    }
    if random.chance(30) {
        policy = policy.deadline(Duration::from_millis(random.between(10, 20_000)));
    }
    for (name, each) in [("requests", false), ("requests", true), ("tokens", false), ("tokens", true)] {
        if random.chance(15) {
            let rate = Rate::new(
                random.between(1, 300),
                random.pick(&[Duration::from_secs(1), Duration::from_secs(7)]),
            );
            let mut limit = Limit::new(name, rate.unwrap());
            if random.chance(50) {
                limit = limit.burst(random.between(1, 20));
            }
            policy = policy.limit(if each { limit.for_each_origin() } else { limit });
        }
    }
    policy
}

fn answer(status: u16, said: &str, job: &Job) -> Response {
    let mut response = response(status, None, job.index, &job.request.url);
    response.head = said.len() as u32;
    response.bytes = [said.as_bytes(), b"body"].concat().into();
    response
}

fn retry_after(response: &Response) -> Option<Duration> {
    let said = response.headers().get_str("Retry-After")?;
    said.parse().ok().map(Duration::from_secs)
}

/// How a stream ends whose peer has too much to do.
fn for_calm(kind: Kind) -> End {
    match broken(kind, 100) {
        End::Broken(error, failed) => End::Broken(error, Failed { asked_for_calm: true, ..failed }),
        other => other,
    }
}

fn broken(kind: Kind, sent: u64) -> End {
    let failed = Failed { kind, sent, received: 0, reused: false, was_to_end: false, asked_for_calm: false };
    End::Broken(Error::new(kind, "broken").moved(sent, 0), failed)
}
