//! The scheduler in virtual time: simulated workers drive a `Batch` through a simulated world, on seeds, beside a model of
//! what it must do. Each step is compared with the model, so the first rule that breaks names itself and its seed.
//!
//! The model knows the rules of the design, not the code: queues per origin, first in first out, with rows that go out
//! again before the rest, who began first before the others; one row goes first and each success allows two more; a refusal halves what successes
//! allow; the k-th failure to connect takes 2^k waiting rows with it, or 8^k where it cost time; slots are shared max-min.
//! In some worlds there is a ledger that answers late, knows rows from before, and may fail on the way.
//!
//! `LOAMY_SEED=17 cargo test -p loamy simulation` runs one seed alone.

mod hidden;
mod late_ledger;
mod model;
mod polite;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use self::late_ledger::{Book, LateLedger};
use self::model::{Expected, Lane, Place, Row};
use crate::backoff::Jitter;
use crate::batch::{Batch, Claim, Heard};
use crate::clock::now;
use crate::job::{End, Job};
use crate::retry::Failed;
use crate::{Error, Governor, Kind, Outcome, Policy, Request, Response};

const SEEDS: u64 = 10_000;

/// A row is sent at most so often on proof that nothing happened, and once more on a new connection.
const SENDINGS_BY_PROOF: u32 = 3;

#[test]
fn no_rule_of_the_scheduler_breaks_whatever_the_world_does() {
    over_seeds(&THINGS, |seed| World::new(seed).run());
}

#[test]
fn a_seed_runs_the_same_way_each_time() {
    for seed in [1, 77, 4_242] {
        assert_eq!(World::new(seed).run(), World::new(seed).run());
    }
}

/// What must happen often enough for the simulation to prove something.
const THINGS: [&str; 26] = [
    "a grant",
    "a refusal at admission",
    "a row known to the ledger",
    "a row that the ledger held and let go",
    "a row on record before it was sent",
    "a row that ended before it was on record",
    "an outcome on record before it was shown",
    "a ledger that failed on the way",
    "an outcome that could not be recorded",
    "a record too far behind for another row",
    "a hop",
    "a hop to another origin",
    "too many redirects",
    "a second sending by proof",
    "a second sending on a new connection",
    "doubt",
    "a shared failure to connect",
    "a failure to connect that is the row's own",
    "a row for which no connection was tried",
    "a row late for its next sending",
    "a row left unsent",
    "a row stopped between two sendings",
    "a row admitted after the end",
    "a preferred grant among several origins",
    "an origin passed over by an equal",
    "a call to a hungry worker",
];

/// Runs each seed, or the one of `LOAMY_SEED` alone. A simulation in which something never happens proves nothing about it.
fn over_seeds(things: &[&'static str], run: impl Fn(u64) -> Seen) {
    #[expect(clippy::disallowed_methods, reason = "a seed that failed is run alone")]
    if let Ok(seed) = std::env::var("LOAMY_SEED") {
        run(seed.parse().unwrap());
        return;
    }
    let mut seen = Seen::default();
    for seed in 0..SEEDS {
        match catch_unwind(AssertUnwindSafe(|| run(seed))) {
            Ok(of_seed) => of_seed.0.into_iter().for_each(|(what, count)| seen.note_many(what, count)),
            Err(_) => panic!("seed {seed} broke a rule; run it alone with LOAMY_SEED={seed}"),
        }
    }
    for what in things {
        let count = seen.count(what);
        assert!(count >= 100, "{what} happened {count} times in {SEEDS} seeds");
    }
    let unlisted: Vec<_> = seen.0.keys().filter(|what| !things.contains(what)).collect();
    assert!(unlisted.is_empty(), "nobody asks how often these happen: {unlisted:?}");
}

/// How often what happened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Seen(BTreeMap<&'static str, u64>);

impl Seen {
    fn note(&mut self, what: &'static str) {
        self.note_many(what, 1);
    }

    fn note_many(&mut self, what: &'static str, count: u64) {
        *self.0.entry(what).or_default() += count;
    }

    fn count(&self, what: &str) -> u64 {
        self.0.get(what).copied().unwrap_or_default()
    }
}

struct Worker {
    quota: usize,
    held: Vec<Held>,
    hungry: bool,
}

/// A row that a worker works on.
struct Held {
    job: Box<Job>,
    lane: usize,
    /// When it ends.
    due: Instant,
    fate: Fate,
    reused: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    NotConnected,
    NotTried,
    TimedOut,
    OnTheWire,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Admit(usize),
    Close,
    Cancel,
    Expire,
    Look {
        worker: usize,
    },
    Connected {
        worker: usize,
        row: usize,
        sending: u32,
    },
    End {
        worker: usize,
        row: usize,
    },
    Take,
    /// The ledger says some of what it has to say.
    Speak,
}

struct World {
    random: Jitter,
    now: Instant,
    policy: Arc<Policy>,
    is_sound: bool,
    deadline: Option<Instant>,
    stopped: Option<Kind>,
    closed: bool,
    batch: Batch,
    book: Arc<Mutex<Book>>,
    speaks: bool,
    most_unrecorded: usize,
    rows: Vec<Row>,
    lanes: Vec<Lane>,
    workers: Vec<Worker>,
    events: BinaryHeap<Reverse<(Instant, u64, Event)>>,
    numbered: u64,
    outcomes: Vec<Outcome>,
    /// Rows that wait although they were sent before, and when their time is over.
    late: BTreeSet<(Instant, usize)>,
    alarm: Option<Instant>,
    ended: usize,
    shown: usize,
    failed: usize,
    in_flight: usize,
    seen: Seen,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Jitter::seeded(seed);
        let begin = now();
        // What the rules of politeness add to these is simulated beside this file.
        let mut policy =
            Policy::default().governor(Governor::Off).concurrency(random.between(1, 64) as usize);
        if random.chance(30) {
            policy.concurrency = random.between(1, 4) as usize;
        }
        if random.chance(40) {
            policy = policy.per_host(random.between(1, 8) as usize);
        }
        if random.chance(20) {
            let latest = random.pick(&[50, 500, 3_000]);
            policy = policy.deadline(Duration::from_millis(random.between(1, latest)));
        }
        policy.timeouts.total = random.chance(50).then(|| Duration::from_millis(random.between(1, 2_000)));
        policy.max_redirects = random.pick(&[0, 1, 2, 3, 10]);
        let is_sound = !random.chance(1);
        if !is_sound {
            policy.per_host = Some(0);
        }
        let mut book = Book::default();
        book.is_late = random.chance(40);
        book.horizon = if random.chance(40) { random.between(1, 60) as usize } else { 0 };
        book.most = if random.chance(50) { random.between(1, 20) as usize } else { usize::MAX };
        let most_unrecorded = book.most;
        book.known_every = random.between(2, 9) as usize;
        let book = Arc::new(Mutex::new(book));
        let policy = Arc::new(policy);
        let ledger = LateLedger(Arc::clone(&book));
        let lanes = if random.chance(30) { 1 } else { random.between(1, 20) };
        let troubled = random.pick(&[0, 0, 10, 50]);
        Self {
            now: begin,
            is_sound,
            deadline: policy.deadline.map(|span| begin + span),
            stopped: None,
            closed: false,
            batch: Batch::with_ledger(Arc::clone(&policy), begin, seed, Box::new(ledger)),
            policy,
            book,
            speaks: false,
            most_unrecorded,
            rows: Vec::new(),
            lanes: (0..lanes).map(|_| Lane::new(&mut random, troubled)).collect(),
            workers: Vec::new(),
            events: BinaryHeap::new(),
            numbered: 0,
            outcomes: Vec::new(),
            late: BTreeSet::new(),
            alarm: None,
            ended: 0,
            shown: 0,
            failed: 0,
            in_flight: 0,
            seen: Seen::default(),
            random,
        }
    }

    fn run(mut self) -> Seen {
        let rows =
            if self.random.chance(25) { self.random.between(40, 200) } else { self.random.between(0, 40) };
        self.begin_workers();
        self.announce_rows(rows as usize);
        if self.random.chance(20) {
            let latest = self.random.pick(&[50, 500, 2_000]);
            let at = self.random.up_to_millis(latest);
            self.schedule(at, Event::Cancel);
        }
        while let Some(Reverse((at, _, event))) = self.events.pop() {
            assert!(at >= self.now, "time goes forward");
            self.now = at;
            self.happen(event);
            self.compare();
            self.watch_the_time();
        }
        self.at_the_end(rows as usize)
    }

    /// As `Run::call_workers`: as many as the concurrency allows, each with its share of it.
    fn begin_workers(&mut self) {
        let count = self.random.between(1, 4).min(self.policy.concurrency as u64) as usize;
        let quota = self.policy.concurrency.div_ceil(count);
        for worker in 0..count {
            self.workers.push(Worker { quota, held: Vec::new(), hungry: false });
            let at = self.random.up_to_millis(20);
            self.schedule(at, Event::Look { worker });
        }
    }

    fn announce_rows(&mut self, mut rows: usize) {
        let mut at = Duration::ZERO;
        while rows > 0 {
            let some =
                if self.random.chance(60) { rows } else { self.random.between(1, rows as u64) as usize };
            self.schedule(at, Event::Admit(some));
            rows -= some;
            at += self.random.up_to_millis(500);
        }
        self.schedule(at, Event::Close);
    }

    fn schedule(&mut self, after: Duration, event: Event) {
        self.numbered += 1;
        self.events.push(Reverse((self.now + after, self.numbered, event)));
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Admit(rows) => {
                (0..rows).for_each(|_| self.admit());
                self.tell(None);
            }
            Event::Close => {
                self.batch.close();
                self.closed = true;
                self.tell(None);
            }
            Event::Cancel => self.cancel(),
            Event::Expire => {
                self.alarm = None;
                let worker = self.random.below(self.workers.len() as u64) as usize;
                self.turn(worker, None);
            }
            Event::Look { worker } => {
                if self.stopped == Some(Kind::Cancelled) {
                    self.workers[worker].held.iter_mut().for_each(|held| held.due = self.now);
                }
                self.turn(worker, None);
            }
            Event::Connected { worker, row, sending } => {
                let held = self.workers[worker].held.iter().any(|held| held.job.index == row);
                if held && self.rows[row].sendings == sending {
                    self.turn(worker, Some(row));
                }
            }
            Event::End { worker, row } => {
                if self.workers[worker].held.iter().any(|held| held.job.index == row && held.due <= self.now)
                {
                    self.turn(worker, None);
                }
            }
            Event::Take => self.take(),
            Event::Speak => {
                self.speaks = false;
                self.hear();
                self.tell(None);
            }
        }
    }

    fn admit(&mut self) {
        let index = self.rows.len();
        let lane = self.random.below(self.lanes.len() as u64) as usize;
        let (request, wrong) = self.request(index, lane);
        let idempotent = request.is_idempotent();
        let post = request.method() == http::Method::POST;
        let own = request.overrides.as_deref();
        let own_total = own.and_then(|own| own.timeouts).map(|own| own.total);
        let own_limit = own.and_then(|own| own.max_redirects);
        self.batch.admit(self.now, request);
        self.rows.push(Row {
            place: Place::Waiting,
            lane,
            idempotent,
            harmful: !idempotent,
            held: false,
            unrecorded: false,
            ended_waiting: false,
            refused: false,
            last: None,
            ends_with_the_batch: false,
            intended: false,
            has_acted: false,
            post,
            sendings: 0,
            is_anew: true,
            renewed: false,
            hops: 0,
            started: None,
            must_end: None,
            own_timeouts: own_total.is_some(),
            own_total: own_total.unwrap_or(self.policy.timeouts.total),
            own_limit,
            expected: None,
            shown: false,
        });
        let wrong = if self.is_sound { wrong } else { Some(Kind::BadRequest) };
        if let Some(kind) = wrong {
            self.seen.note("a refusal at admission");
            self.rows[index].refused = true;
            return self.expect(index, Err(kind), false);
        }
        let book = self.book.lock().unwrap();
        assert!(book.admitted.contains(&index), "the ledger was told of row {index}");
        let (is_late, holds) = (book.is_late, book.holds(index));
        drop(book);
        if holds {
            self.rows[index].held = true;
            return;
        }
        self.enter(index, is_late && !idempotent);
    }

    /// The row waits for its turn, or for its intent.
    fn enter(&mut self, index: usize, must_intend: bool) {
        if self.stopped.is_some() {
            self.seen.note("a row admitted after the end");
            return self.expect_unsent(index);
        }
        let lane = &mut self.lanes[self.rows[index].lane];
        if must_intend { &mut lane.unsure } else { &mut lane.queue }.push_back(index);
    }

    /// A row, and what is wrong with it.
    fn request(&mut self, index: usize, lane: usize) -> (Request, Option<Kind>) {
        let method =
            self.random.pick(&["GET", "GET", "GET", "POST", "POST", "PUT", "PATCH", "DELETE", "HEAD"]);
        let url = match self.random.below(12) {
            0 => format!("http://LANE{lane}.test:80/{index}"),
            1 => format!("http://user:word@lane{lane}.test/{index}"),
            2 => format!("http://lane{lane}.test/a/../{index}#part"),
            _ => format!("http://lane{lane}.test/{index}"),
        };
        let mut request = Request::new(method, url).tag(format!("tag {index}"));
        if method == "POST" && self.random.chance(20) {
            request = request.header("Idempotency-Key", index.to_string());
        }
        if self.random.chance(10) {
            let mut timeouts = self.policy.timeouts;
            timeouts.total = self.random.chance(70).then(|| Duration::from_millis(1 + index as u64 % 900));
            let overrides = crate::Overrides::default().timeouts(timeouts).max_redirects(index as u16 % 4);
            request = request.overrides(overrides);
        }
        if !self.random.chance(6) {
            return (request, None);
        }
        match self.random.below(5) {
            0 => (Request::new("get", "http://lane0.test/"), Some(Kind::BadRequest)),
            1 => (Request::get("lane0.test/"), Some(Kind::BadRequest)),
            2 => (Request::get("ftp://lane0.test/"), Some(Kind::Blocked)),
            3 => (request.header("X", "a\r\nb"), Some(Kind::BadRequest)),
            _ => (Request::new("TRACE", "http://lane0.test/").body("x"), Some(Kind::BadRequest)),
        }
    }

    fn cancel(&mut self) {
        self.batch.cancel(self.now);
        self.stop(Kind::Cancelled);
        self.prompt();
        for worker in 0..self.workers.len() {
            self.schedule(Duration::ZERO, Event::Look { worker });
        }
    }

    fn expire(&mut self) {
        self.batch.expire(self.now);
        if self.deadline.is_some_and(|deadline| deadline <= self.now) {
            self.stop(Kind::TimeoutTotal);
        }
        while let Some((at, index)) = self.late.first().copied()
            && at <= self.now
        {
            self.leave_the_queue(index);
            self.seen.note("a row late for its next sending");
            self.rows[index].ended_waiting = true;
            let kind = self.rows[index].last.unwrap_or(Kind::TimeoutTotal);
            self.expect(index, Err(kind), false);
        }
    }

    /// As a worker's timer: somebody looks when `next_event` says.
    fn watch_the_time(&mut self) {
        let next = self.batch.next_event();
        if let Some(at) = next
            && self.alarm.is_none_or(|alarm| at < alarm)
        {
            self.alarm = next;
            self.schedule(at.saturating_duration_since(self.now), Event::Expire);
        }
    }

    fn stop(&mut self, as_kind: Kind) {
        self.stopped.get_or_insert(as_kind);
        self.seen.note_many(
            "a row that ended before it was on record",
            self.lanes.iter().map(|lane| lane.asked.len() as u64).sum::<u64>(),
        );
        let waiting: Vec<usize> =
            self.lanes.iter_mut().flat_map(|lane| lane.queues().map(std::mem::take)).flatten().collect();
        self.late.clear();
        for index in waiting {
            self.expect_unsent(index);
        }
    }

    /// As `Worker::take_turn`: what was connected and what ended is told, then rows are claimed up to the quota.
    fn turn(&mut self, worker: usize, connected: Option<usize>) {
        self.expire();
        if let Some(row) = connected {
            let held = self.workers[worker].held.iter().find(|held| held.job.index == row).unwrap();
            let lane = held.lane;
            self.batch.connected(held.job.origin, 1);
            self.proved(lane);
            self.compare();
        }
        let now = self.now;
        let ended: Vec<Held> = self.workers[worker].held.extract_if(.., |held| held.due <= now).collect();
        let mut ready: VecDeque<usize> = ended.iter().map(|held| held.lane).collect();
        for held in ended {
            self.end(held);
            self.compare();
        }
        let mut hungry = false;
        while self.workers[worker].held.len() < self.workers[worker].quota {
            if !self.claim(worker, ready.pop_front()) {
                hungry = true;
                break;
            }
            self.compare();
        }
        self.workers[worker].hungry |= hungry;
        self.tell(Some(worker));
    }

    /// As `Shared::hear`.
    fn hear(&mut self) {
        let words = late_ledger::speak(&mut self.book.lock().unwrap(), &mut self.random);
        let expected = words.iter().any(|word| matches!(word, late_ledger::Said::Failed));
        let heard = self.batch.hear(self.now);
        assert_eq!(heard == Heard::Failure, expected);
        for said in words {
            self.heard(said);
        }
        if expected {
            self.seen.note("a ledger that failed on the way");
            for worker in 0..self.workers.len() {
                self.schedule(Duration::ZERO, Event::Look { worker });
            }
        }
    }

    fn heard(&mut self, said: late_ledger::Said) {
        use late_ledger::Said;
        match said {
            Said::Let { row, must_intend } => {
                self.seen.note("a row that the ledger held and let go");
                self.rows[row].held = false;
                self.enter(row, must_intend);
            }
            Said::Known { row, result, in_doubt } => {
                self.seen.note("a row known to the ledger");
                self.rows[row].held = false;
                self.rows[row].sendings = u32::from(result != Err(Kind::NotSent));
                self.end_row(row, result, in_doubt);
                self.show(row);
            }
            Said::Intended(row) => {
                let lane = &mut self.lanes[self.rows[row].lane];
                if lane.asked.front() == Some(&row) {
                    lane.asked.pop_front();
                    lane.ready.push_back(row);
                    self.rows[row].intended = true;
                }
            }
            Said::Settled(row) => {
                self.seen.note("an outcome on record before it was shown");
                self.show(row);
            }
            Said::Failed => self.stop(Kind::Cancelled),
            Said::Unrecorded(row) => {
                self.replace_by_unrecorded(row);
                self.show(row);
            }
        }
    }

    /// As `Shared::tell` begins: what must be on record next is asked for, fewest ahead first, and nothing is left out.
    fn prompt(&mut self) {
        self.batch.prompt();
        let asked: Vec<usize> = self.book.lock().unwrap().newly_asked.drain(..).collect();
        for index in asked {
            let fewest = self.may_ask().map(|lane| self.lanes[lane].ahead()).min();
            let lane = self.rows[index].lane;
            assert!(self.may_ask().any(|own| own == lane), "origin {lane} asks beyond what it may");
            assert_eq!(
                Some(self.lanes[lane].ahead()),
                fewest,
                "origin {lane} asks before one with fewer ahead"
            );
            let lane = &mut self.lanes[lane];
            assert_eq!(lane.unsure.pop_front(), Some(index), "the first in asks first");
            lane.asked.push_back(index);
        }
        assert_eq!(self.may_ask().next(), None, "a row that may ask does");
        let under_way = self.in_flight + self.lanes.iter().map(Lane::waiting).sum::<usize>();
        let mut book = self.book.lock().unwrap();
        let unrecorded = book.done.len();
        let nothing_waits = under_way == 0 && !self.rows.iter().any(|row| row.held);
        let is_behind = self.in_flight == 0 && unrecorded >= self.most_unrecorded;
        if unrecorded > 0 && (nothing_waits || is_behind) {
            assert!(book.hurried, "nothing but the record is waited for, and the ledger takes its time");
        }
        if book.has_something_to_say() && !self.speaks {
            self.speaks = true;
            let most = if std::mem::take(&mut book.hurried) { 3 } else { 60 };
            drop(book);
            let at = self.random.up_to_millis(most);
            self.schedule(at, Event::Speak);
        }
    }

    /// The origins that may have another row put on record.
    fn may_ask(&self) -> impl Iterator<Item = usize> {
        let ahead: usize = self.lanes.iter().map(Lane::ahead).sum();
        let may = |lane: &Lane| !lane.unsure.is_empty() && lane.ahead() < self.most(lane);
        let some = if ahead < self.policy.concurrency { self.lanes.len() } else { 0 };
        (0..some).filter(|lane| may(&self.lanes[*lane])).collect::<Vec<_>>().into_iter()
    }

    /// As `Shared::tell`: whoever would take a row is called when there is one, and nobody else ever is.
    fn tell(&mut self, own: Option<usize>) {
        self.prompt();
        if self.random.chance(30) {
            let at = self.random.up_to_millis(50);
            self.schedule(at, Event::Take);
        }
        if !self.batch.has_work() {
            return;
        }
        for worker in 0..self.workers.len() {
            if std::mem::take(&mut self.workers[worker].hungry) && Some(worker) != own {
                self.seen.note("a call to a hungry worker");
                let at = self.random.up_to_millis(5);
                self.schedule(at, Event::Look { worker });
            }
        }
    }

    fn claim(&mut self, worker: usize, prefer: Option<usize>) -> bool {
        let is_full = self.is_full();
        let may: Vec<usize> = (0..self.lanes.len()).filter(|lane| self.may_send(*lane)).collect();
        let fewest = may.iter().map(|lane| self.lanes[*lane].in_flight).min();
        let preferred =
            prefer.filter(|lane| may.contains(lane) && Some(self.lanes[*lane].in_flight) == fewest);
        assert_eq!(
            self.batch.has_work(),
            !is_full && !may.is_empty(),
            "has_work tells whether a claim is granted"
        );
        let job = match self.batch.claim(self.now, prefer.and_then(|lane| self.lanes[lane].id), |_| None) {
            Claim::Full => {
                assert!(is_full, "a claim is full only when every slot is taken or the record is behind");
                if self.in_flight < self.policy.concurrency {
                    self.seen.note("a record too far behind for another row");
                }
                return false;
            }
            Claim::Nothing => {
                assert!(!is_full && may.is_empty(), "a row that may be sent is granted");
                return false;
            }
            Claim::Granted(job) => job,
        };
        let (index, lane) = (job.index, self.rows[job.index].lane);
        assert!(!is_full, "never more in flight than concurrency");
        assert_eq!(self.stopped, None, "nothing is granted after a cancel or the deadline");
        assert_eq!(
            self.rows[index].place,
            Place::Waiting,
            "row {index} is granted once, and not after its end"
        );
        assert!(may.contains(&lane), "origin {lane} may have no more in flight: {:?}", self.lanes[lane]);
        assert_eq!(
            Some(self.lanes[lane].in_flight),
            fewest,
            "origin {lane} goes before one with fewer in flight"
        );
        self.count_turns(lane, preferred, &may);
        let of_lane = &self.lanes[lane];
        let goes_again = |row: &usize| self.rows[*row].started.is_some();
        let intent_is_next = of_lane
            .ready
            .front()
            .is_some_and(|ready| of_lane.queue.front().is_none_or(|row| !goes_again(row) && ready < row));
        let of_lane = &mut self.lanes[lane];
        let first = if intent_is_next { &mut of_lane.ready } else { &mut of_lane.queue }.pop_front();
        assert_eq!(first, Some(index), "within an origin the first in is the first out");
        let is_late = self.book.lock().unwrap().is_late;
        let row = &self.rows[index];
        assert!(!is_late || !row.harmful || row.intended, "row {index} is sent and not on record");
        if row.intended {
            self.seen.note("a row on record before it was sent");
        }
        assert!(self.book.lock().unwrap().admitted.contains(&index));
        let origin = self.batch.origin(job.origin);
        assert_eq!(
            (&*origin.host, origin.port),
            (&*format!("lane{lane}.test"), 80),
            "row {index} goes to its origin"
        );
        assert_eq!(job.on_new_connection, self.rows[index].renewed);
        assert!(job.path().starts_with(&format!("/{index}")), "{}", job.path());
        let row = &mut self.rows[index];
        row.place = Place::InFlight;
        row.sendings += u32::from(row.is_anew);
        assert!(row.sendings <= SENDINGS_BY_PROOF + u32::from(row.idempotent), "{row:?}");
        let started = *row.started.get_or_insert(self.now);
        let must_end =
            [row.own_total.map(|total| started + total), self.deadline].into_iter().flatten().min();
        assert_eq!(job.deadline, must_end, "the clock of row {index} starts with its first slot");
        row.must_end = must_end;
        self.late.retain(|(_, late)| *late != index);
        self.in_flight += 1;
        self.lanes[lane].in_flight += 1;
        self.lanes[lane].id = Some(job.origin);
        self.seen.note("a grant");
        self.work_on(worker, job, lane);
        true
    }

    /// Slots are shared max-min: the origin with the fewest in flight is next. Among equals the one whose connection is
    /// ready goes on; else nobody is passed over more often than there are other origins.
    fn count_turns(&mut self, granted: usize, preferred: Option<usize>, may: &[usize]) {
        if let Some(preferred) = preferred {
            assert_eq!(
                granted, preferred,
                "the origin of a ready connection goes on while none has fewer in flight"
            );
            if may.len() > 1 {
                self.seen.note("a preferred grant among several origins");
            }
            return;
        }
        let (in_flight, others) = (self.lanes[granted].in_flight, self.lanes.len() - 1);
        for lane in may.iter().filter(|lane| **lane != granted) {
            let lane = &mut self.lanes[*lane];
            if lane.in_flight == in_flight {
                lane.passed_over += 1;
                self.seen.note("an origin passed over by an equal");
                assert!(lane.passed_over <= others, "an origin is passed over for ever: {lane:?}");
            }
        }
    }

    fn work_on(&mut self, worker: usize, job: Box<Job>, lane: usize) {
        let row = job.index;
        let must_connect = job.on_new_connection || self.lanes[lane].proven == 0 || self.random.chance(30);
        let mut due = self.now + self.random.up_to_millis(300);
        let mut fate = Fate::OnTheWire;
        if must_connect && self.random.chance(self.lanes[lane].trouble) {
            fate = Fate::NotConnected;
        } else if must_connect && self.random.chance(3) {
            fate = Fate::NotTried;
        } else if must_connect {
            let connected = self.random.up_to_millis(100);
            due += connected;
            let sending = self.rows[row].sendings;
            self.schedule(connected, Event::Connected { worker, row, sending });
        }
        if job.deadline.is_some_and(|deadline| deadline < due) {
            due = job.deadline.unwrap_or(due).max(self.now);
            fate = Fate::TimedOut;
        }
        let held = Held { job, lane, due, fate, reused: !must_connect };
        self.workers[worker].held.push(held);
        self.schedule(due - self.now, Event::End { worker, row });
    }

    fn end(&mut self, held: Held) {
        let Held { job, lane, fate, reused, .. } = held;
        let index = job.index;
        self.in_flight -= 1;
        self.lanes[lane].in_flight -= 1;
        if self.stopped == Some(Kind::Cancelled) && self.random.chance(80) {
            return self.interrupted(job, reused);
        }
        match fate {
            Fate::NotConnected => {
                let kind = self.random.pick(&[Kind::ConnectRefused, Kind::TimeoutConnect, Kind::Dns]);
                self.not_connected(job, lane, kind);
            }
            Fate::NotTried => {
                self.batch.settle(self.now, job, End::NotTried);
                self.seen.note("a row for which no connection was tried");
                self.rows[index].sendings -= u32::from(self.rows[index].is_anew);
                self.go_again(index);
            }
            Fate::TimedOut => self.broken(job, Kind::TimeoutTotal, reused),
            Fate::OnTheWire => match self.random.below(100) {
                0..50 => {
                    let status = self.random.pick(&[200, 201, 204, 304, 400, 404, 418, 429, 500, 503, 599]);
                    let response = response(status, None, index, &job.request.url);
                    self.batch.settle(self.now, job, End::Answered(response));
                    self.proved(lane);
                    self.expect(index, Ok(status), false);
                }
                50..72 => self.redirected(job, lane),
                72..97 => {
                    let kind = self.random.pick(&[
                        Kind::Closed,
                        Kind::Closed,
                        Kind::Closed,
                        Kind::Refused,
                        Kind::Incomplete,
                        Kind::Protocol,
                        Kind::TimeoutRead,
                        Kind::TooLarge,
                        Kind::Decode,
                    ]);
                    self.broken(job, kind, reused);
                }
                _ => {
                    let error = Error::new(Kind::Internal, "a bug");
                    self.batch.settle(self.now, job, End::Over(error));
                    self.expect(index, Err(Kind::Internal), false);
                }
            },
        }
    }

    fn interrupted(&mut self, job: Box<Job>, reused: bool) {
        if self.random.chance(50) {
            return self.broken(job, Kind::Cancelled, reused);
        }
        let index = job.index;
        self.batch.settle(self.now, job, End::Over(Error::new(Kind::Cancelled, "interrupted")));
        self.expect(index, Err(Kind::Cancelled), false);
    }

    fn not_connected(&mut self, job: Box<Job>, lane: usize, kind: Kind) {
        let index = job.index;
        self.batch.settle(self.now, job, End::NotConnected(Error::new(kind, "no connection")));
        self.expect(index, Err(kind), false);
        // A limit of the row's own, or one that hops used up, says nothing of the others.
        let late = matches!(kind, Kind::TimeoutAcquire | Kind::TimeoutResolve | Kind::TimeoutConnect);
        if late && (self.rows[index].own_timeouts || self.rows[index].hops > 0) {
            self.seen.note("a failure to connect that is the row's own");
            return;
        }
        let lane = &mut self.lanes[lane];
        if lane.proven > 0 {
            lane.proven /= 2;
            return;
        }
        lane.failures += if late { 3 } else { 1 };
        let mut share = lane.waiting().min(1 << lane.failures.min(20));
        let mut taken = Vec::new();
        for queue in lane.queues() {
            let some = share.min(queue.len());
            taken.extend(queue.drain(..some));
            share -= some;
        }
        for other in taken {
            self.seen.note("a shared failure to connect");
            self.late.retain(|(_, late)| *late != other);
            let row = &mut self.rows[other];
            row.ended_waiting = true;
            row.ends_with_the_batch = row.last.is_some();
            let kind = row.last.unwrap_or(kind);
            self.expect(other, Err(kind), false);
        }
    }

    fn redirected(&mut self, job: Box<Job>, lane: usize) {
        let index = job.index;
        let status = self.random.pick(&[301, 302, 303, 307, 308]);
        let target =
            if self.random.chance(50) { lane } else { self.random.below(self.lanes.len() as u64) as usize };
        let (location, wrong) = match self.random.below(20) {
            0 => (None, None),
            1 => (Some("gopher://lane0.test/".to_owned()), Some(Kind::Blocked)),
            2 => (Some("http://".to_owned()), Some(Kind::Redirect)),
            3..8 if target == lane => (Some(format!("{index}?again")), None),
            _ => (Some(format!("http://lane{target}.test/{index}?hop")), None),
        };
        let answer = response(status, location.as_deref(), index, &job.request.url);
        let post = self.rows[index].post;
        self.batch.settle(self.now, job, End::Answered(answer));
        self.proved(lane);
        let row = &mut self.rows[index];
        let limit = row.own_limit.unwrap_or(self.policy.max_redirects);
        if limit == 0 || location.is_none() {
            return self.expect(index, Ok(status), false);
        }
        if row.hops == limit {
            self.seen.note("too many redirects");
            let in_doubt = !row.idempotent;
            return self.expect(index, Err(Kind::Redirect), in_doubt);
        }
        if let Some(kind) = wrong {
            let in_doubt = !row.idempotent;
            return self.expect(index, Err(kind), in_doubt);
        }
        row.hops += 1;
        row.last = None;
        row.is_anew = false;
        row.lane = target;
        // RFC 9110 §15.4: a POST becomes a GET by 301, 302 and 303; anything but HEAD does by 303.
        if status == 303 || (status < 303 && post) {
            row.has_acted |= !row.idempotent;
            (row.idempotent, row.post) = (true, false);
        }
        self.seen.note("a hop");
        if target != lane {
            self.seen.note("a hop to another origin");
        }
        self.go_again(index);
    }

    fn broken(&mut self, job: Box<Job>, kind: Kind, reused: bool) {
        let index = job.index;
        // The rule stands by itself: it is told of a reused connection even where the row asked for a new one.
        let reused = reused || self.random.chance(10);
        let was_to_end = self.random.chance(10);
        let sent = if self.random.chance(40) { 0 } else { 120 };
        let answered = matches!(kind, Kind::TooLarge | Kind::Decode)
            || (kind == Kind::Incomplete && self.random.chance(50));
        let received = if answered || (sent > 0 && self.random.chance(30)) { 60 } else { 0 };
        let failed = Failed { kind, sent, received, reused, was_to_end, asked_for_calm: false };
        let again_by_proof = matches!((kind, sent), (Kind::Refused, _) | (Kind::Closed, 0));
        let error = Error::new(kind, "broken").moved(sent, received);
        if kind == Kind::Refused {
            self.lanes[self.rows[index].lane].proven /= 2;
        }
        self.batch.settle(self.now, job, End::Broken(error, failed));
        let row = &mut self.rows[index];
        let by_proof = again_by_proof && row.sendings < SENDINGS_BY_PROOF;
        let outlives = kind == Kind::Closed
            && received == 0
            && row.idempotent
            && (reused && !row.renewed || was_to_end && row.sendings < SENDINGS_BY_PROOF);
        if (!by_proof && !outlives) || self.stopped.is_some() {
            let unknown = sent > 0 && kind != Kind::Refused && !row.idempotent;
            assert!(!(unknown && by_proof), "what is in doubt has no proof");
            if unknown {
                self.seen.note("doubt");
            }
            row.ends_with_the_batch = by_proof || outlives;
            return self.expect(index, Err(kind), unknown);
        }
        row.is_anew = true;
        row.last = Some(kind);
        if by_proof {
            self.seen.note("a second sending by proof");
        } else {
            row.renewed = true;
            self.seen.note("a second sending on a new connection");
        }
        self.go_again(index);
    }

    fn go_again(&mut self, index: usize) {
        if self.stopped.is_some() {
            return self.expect_unsent(index);
        }
        self.rows[index].place = Place::Waiting;
        let lane = self.rows[index].lane;
        let place = |row: usize| self.rows[row].started.map(|started| (started, row));
        let goes_before = |row: &usize| place(*row).is_some_and(|other| Some(other) < place(index));
        let queue = &mut self.lanes[lane].queue;
        let before = queue.iter().take_while(|row| goes_before(row)).count();
        queue.insert(before, index);
        let must_end = self.rows[index].must_end;
        self.late.extend(must_end.map(|at| (at, index)));
    }

    /// A row that was sent before waits no more.
    fn leave_the_queue(&mut self, index: usize) {
        let row = &self.rows[index];
        self.late.retain(|(_, late)| *late != index);
        self.lanes[row.lane].queue.retain(|waiting| *waiting != index);
    }

    fn proved(&mut self, lane: usize) {
        self.lanes[lane].proven += 1;
        self.lanes[lane].failures = 0;
    }

    fn expect_unsent(&mut self, index: usize) {
        let was_sent = self.rows[index].sendings > 0;
        self.seen.note(if was_sent { "a row stopped between two sendings" } else { "a row left unsent" });
        let row = &mut self.rows[index];
        row.ends_with_the_batch = true;
        let on_the_way = row.last.or(self.stopped).unwrap();
        let kind = if was_sent { on_the_way } else { Kind::NotSent };
        self.expect(index, Err(kind), false);
    }

    fn expect(&mut self, index: usize, result: Result<u16, Kind>, in_doubt: bool) {
        self.end_row(index, result, in_doubt);
        let row = &self.rows[index];
        let was_cut_off = self.deadline.is_some_and(|at| at <= self.now && row.must_end == Some(at))
            && result.is_err_and(|kind| kind.name().starts_with("timeout"));
        let may_go_again = !row.has_acted && !in_doubt;
        let is_left = matches!(result, Err(Kind::NotSent | Kind::Cancelled | Kind::Internal))
            || may_go_again && (row.ends_with_the_batch || was_cut_off);
        let book = self.book.lock().unwrap();
        if !book.is_late || is_left || self.rows[index].refused {
            drop(book);
            return self.show(index);
        }
        let failed = book.failed;
        drop(book);
        self.rows[index].unrecorded = true;
        if failed {
            self.replace_by_unrecorded(index);
            self.show(index);
        }
    }

    fn end_row(&mut self, index: usize, result: Result<u16, Kind>, in_doubt: bool) {
        let row = &mut self.rows[index];
        assert_ne!(row.place, Place::Ended, "row {index} ends once");
        row.place = Place::Ended;
        self.ended += 1;
        let in_doubt = result.is_err() && (in_doubt || row.has_acted);
        row.expected = Some(Expected { result, in_doubt, at: self.now });
    }

    /// The row has ended, and the ledger could not record how.
    fn replace_by_unrecorded(&mut self, index: usize) {
        self.seen.note("an outcome that could not be recorded");
        let row = &mut self.rows[index];
        let expected = row.expected.as_mut().unwrap();
        (expected.result, expected.in_doubt) = (Err(Kind::Cancelled), row.harmful);
    }

    /// From here on the outcome can be taken.
    fn show(&mut self, index: usize) {
        let row = &mut self.rows[index];
        row.unrecorded = false;
        self.shown += 1;
        self.failed += usize::from(row.expected.as_ref().is_some_and(|expected| expected.result.is_err()));
    }

    /// Whether nothing is sent whatever waits: every slot is taken, or the record is too far behind.
    fn is_full(&self) -> bool {
        let unrecorded = self.rows.iter().filter(|row| row.unrecorded).count();
        self.in_flight >= self.policy.concurrency || unrecorded >= self.most_unrecorded
    }

    /// Whether the origin has a row that may take a slot, were there one.
    fn may_send(&self, lane: usize) -> bool {
        let lane = &self.lanes[lane];
        !(lane.queue.is_empty() && lane.ready.is_empty()) && lane.in_flight < self.most(lane)
    }

    /// How many rows the origin may have in flight, and how many it may have on record that are not.
    fn most(&self, lane: &Lane) -> usize {
        self.policy.per_host.unwrap_or(usize::MAX).min(2 * lane.proven + 1)
    }

    /// What must hold at every step.
    fn compare(&mut self) {
        let in_lanes: usize = self.lanes.iter().map(Lane::waiting).sum();
        let held = self.rows.iter().filter(|row| row.held).count();
        let unrecorded = self.rows.iter().filter(|row| row.unrecorded).count();
        let may_send: Vec<bool> = (0..self.lanes.len()).map(|lane| self.may_send(lane)).collect();
        let progress = self.batch.progress();
        assert_eq!(
            (progress.waiting, progress.in_flight, progress.settled, progress.failed),
            (in_lanes + held + unrecorded, self.in_flight, self.shown, self.failed)
        );
        assert_eq!(in_lanes + held + self.in_flight + self.ended, self.rows.len(), "no row is lost");
        assert_eq!(
            self.shown + unrecorded,
            self.ended,
            "what has ended is shown or on its way to the record"
        );
        assert_eq!(self.batch.ready() + self.outcomes.len(), self.shown);
        let ahead = self.lanes.iter().map(Lane::ahead).sum::<usize>();
        // A row that was sent and waits to be sent again is no sending under way, nor is it one when it ends waiting.
        let is_sending = |row: &&Row| row.unrecorded && row.started.is_some() && !row.ended_waiting;
        let unrecorded_sendings = self.rows.iter().filter(is_sending).count();
        assert!(
            unrecorded_sendings + self.in_flight
                <= self.most_unrecorded.saturating_add(self.policy.concurrency),
            "a crash has no more rows sent again than slots and what may be on its way to the record"
        );
        assert!(ahead <= self.policy.concurrency, "never more on record and unsent than there are slots");
        assert!(self.in_flight <= self.policy.concurrency);
        let is_full = self.is_full();
        assert_eq!(self.batch.has_work(), !is_full && may_send.contains(&true), "no wake-up is lost");
        assert_eq!(self.batch.is_settled(), self.closed && self.shown == self.rows.len());
        // It may be early, for a row that ended meanwhile; it must never be late.
        let batch = self.deadline.filter(|_| self.stopped.is_none());
        let row = self.late.first().map(|(at, _)| *at);
        if let Some(next) = batch.into_iter().chain(row).min() {
            assert!(self.batch.next_event().is_some_and(|at| at <= next), "somebody looks in time");
        }
        let held = self.workers.iter().map(|worker| worker.held.len()).sum::<usize>();
        assert!(
            held <= self.in_flight && self.workers.iter().all(|worker| worker.held.len() <= worker.quota)
        );
        for (lane, may_send) in self.lanes.iter_mut().zip(may_send) {
            assert!(self.policy.per_host.is_none_or(|most| lane.in_flight <= most));
            let turn = may_send.then_some(lane.in_flight);
            if lane.turn != turn {
                lane.turn = turn;
                lane.passed_over = 0;
            }
        }
    }

    fn take(&mut self) {
        for outcome in self.batch.take_ready() {
            let index = outcome.index;
            let row = &mut self.rows[index];
            assert!(!std::mem::replace(&mut row.shown, true), "row {index} has one outcome");
            let expected =
                row.expected.as_ref().unwrap_or_else(|| panic!("row {index} ended early: {outcome:?}"));
            let result = outcome.result.as_ref().map(Response::status).map_err(Error::kind);
            assert_eq!(result, expected.result, "row {index}");
            assert_eq!(outcome.attempts, row.sendings, "row {index}");
            assert_eq!(outcome.earlier.len() as u32, row.sendings.saturating_sub(1), "row {index}");
            let full = row.started.map_or(Duration::ZERO, |started| expected.at - started);
            assert_eq!(outcome.timing.elapsed, full, "row {index}");
            match &outcome.result {
                Ok(response) => {
                    assert_eq!(
                        response.body(),
                        index.to_string().as_bytes(),
                        "the response is the row's own"
                    );
                    assert_eq!(response.redirects(), row.hops);
                    assert!(response.url().starts_with(&format!("http://lane{}.test/{index}", row.lane)));
                }
                Err(error) => {
                    assert_eq!(error.in_doubt(), expected.in_doubt, "row {index}");
                    assert_eq!(error.attempts(), row.sendings, "row {index}");
                }
            }
            self.outcomes.push(outcome);
        }
    }

    fn at_the_end(mut self, rows: usize) -> Seen {
        self.take();
        assert!(self.batch.is_settled(), "nothing happens any more, and rows are left: a wake-up was lost");
        assert_eq!(self.batch.ready(), 0);
        self.outcomes.sort_unstable_by_key(|outcome| outcome.index);
        assert!(
            self.outcomes.iter().map(|outcome| outcome.index).eq(0..rows),
            "n in, n out, each once, in order"
        );
        for outcome in &self.outcomes {
            let refused_without_tag = matches!(&outcome.result, Err(error) if error.kind() == Kind::BadRequest || error.kind() == Kind::Blocked);
            let own = format!("tag {}", outcome.index);
            assert!(outcome.tag.as_deref() == Some(&own) || refused_without_tag, "{outcome:?}");
        }
        let mut book = std::mem::take(&mut *self.book.lock().unwrap());
        book.settled.append(&mut book.known);
        book.settled.sort_unstable();
        assert!(
            book.settled.iter().copied().eq(0..rows),
            "the ledger is told of each end that it does not know"
        );
        book.admitted.dedup();
        assert!(
            book.admitted.is_sorted()
                && book.admitted.len() + self.seen.count("a refusal at admission") as usize == rows
        );
        self.seen
    }
}

/// A response whose body is the row's number.
pub(crate) fn response(status: u16, location: Option<&str>, index: usize, url: &str) -> Response {
    let mut bytes = location.map(|to| format!("Location: {to}\r\n")).unwrap_or_default().into_bytes();
    let head = bytes.len() as u32;
    bytes.extend_from_slice(index.to_string().as_bytes());
    Response {
        status,
        version: http::Version::HTTP_11,
        redirects: 0,
        head,
        bytes: bytes.into(),
        url: url.into(),
    }
}
