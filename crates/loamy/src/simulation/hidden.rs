//! Servers that have a limit and say no more of it than 429, in virtual time: how soon a batch finds out what they bear, how much
//! is refused meanwhile, and that no row is lost to it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::response;
use crate::backoff::Jitter;
use crate::batch::{Batch, Claim};
use crate::clock::now;
use crate::job::{End, Job};
use crate::{Policy, Request};

const SECOND: Duration = Duration::from_secs(1);

/// Round trips, of which each leg takes a tenth more or less by chance.
const ROUND_TRIPS: [Duration; 3] =
    [Duration::from_millis(1), Duration::from_millis(10), Duration::from_millis(100)];

/// No system wakes a thread more exactly.
const LATE_MICROS: u64 = 1000;

const SEEDS: u64 = 5;
const RETRIES: u32 = 3;

/// How long a batch may take, as a multiple of what it would take whoever knows the limit.
const OF_IDEAL: f64 = 2.0;

/// The share that may be refused once a second has passed since the first refusal.
const REFUSED_LATER: f64 = 0.05;

#[test]
fn a_hidden_limit_is_found_soon_and_seldom_overrun() {
    let cases = [
        (bucket(100, 20), 300),
        (bucket(100, 20), 2000),
        (bucket(10, 5), 200),
        (bucket(1000, 100), 2500),
        (bucket(50, 2), 300),
        (bucket(100, 200), 600),
        (bucket(2, 1), 200),
        (bucket(5, 50), 150),
        (queue(100, 20), 300),
        (queue(10, 5), 100),
        (queue(1000, 100), 2500),
        (window(100, 1), 500),
        (window(10, 1), 150),
        (window(1000, 10), 3000),
        (window(600, 60), 1500),
    ];
    let changing = [
        (bucket(100, 20).changes(5, 0.5), 1000),
        (bucket(100, 20).changes(5, 2.0), 1500),
        (bucket(10, 5).changes(10, 2.0), 300),
        (bucket(10, 5).changes(10, 0.5), 300),
        (window(100, 1).changes(5, 0.5), 1000),
        (window(100, 1).changes(5, 2.0), 1500),
    ];
    hold_to(cases.into_iter().chain(changing), OF_IDEAL, REFUSED_LATER);
}

/// Most of what is refused here asks whether a minute is over: each time after a longer pause, six times in half a minute.
#[test]
fn a_window_of_a_minute_is_sat_out() {
    hold_to([(window(60, 60), 200), (window(60, 60), 400)], OF_IDEAL, 0.12);
}

/// nginx without `burst`: any two rows that stand closer than the rate are one too many, so the late wake-ups of a thread and the
/// jitter of the way cost some of the rate, and more is refused. No row is lost to it.
#[test]
fn who_takes_no_two_rows_at_once_is_served_all_the_same() {
    hold_to([(bucket(10, 0), 60), (bucket(100, 0), 300)], 5.0, 0.08);
}

#[test]
fn h10_who_refuses_everything_is_sent_a_fifth_more_and_ten() {
    for round_trip in ROUND_TRIPS {
        let mut world = World::new(1, bucket(100, 20).changes(0, 0.0), 100, round_trip);
        world.server.level = f64::INFINITY;
        world.run(SECOND * 3600 * 24);
        assert!(world.batch.is_settled());
        assert!(world.server.seen.len() <= 100 + 100 / 5 + 10, "{}", world.server.seen.len());
    }
}

#[test]
fn h10_who_stops_to_take_anything_is_asked_seldom() {
    /// Pauses of a few rows grow to those of 20 s within the first seconds.
    const ASKED_IN_A_MINUTE: usize = 15;
    for round_trip in ROUND_TRIPS {
        let mut world = World::new(1, bucket(100, 20).changes(5, 0.0), 2000, round_trip);
        world.run(SECOND * 66);
        let from = world.begin + SECOND * 6;
        let asked = world.server.seen.iter().filter(|(at, _)| *at >= from).count();
        assert!((3..=ASKED_IN_A_MINUTE).contains(&asked), "{round_trip:?}: {asked}");
    }
}

fn hold_to(cases: impl IntoIterator<Item = (Limit, usize)>, of_ideal: f64, refused_later: f64) {
    let mut wrong = Vec::new();
    for (limit, rows) in cases {
        for round_trip in ROUND_TRIPS {
            let seen = Seen::of(limit, rows, round_trip);
            if seen.of_ideal > of_ideal
                || seen.refused_later > refused_later
                || seen.lost > limit.may_lose(rows)
            {
                wrong.push(format!("{limit:?}, {rows} rows, {round_trip:?}: {seen:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What a server bears.
#[derive(Clone, Copy, Debug)]
struct Limit {
    counting: Counting,
    rate: f64,
    at_once: f64,
    /// From then on it bears so much of it.
    change: Option<(Duration, f64)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Counting {
    /// A bucket that leaks, as nginx has with `limit_req … burst=… nodelay`.
    Bucket,
    /// The same, where what is too early waits for its turn: without `nodelay`.
    Queue,
    /// So many in each window, which began some time before.
    Window,
}

fn bucket(rate: u64, burst: u64) -> Limit {
    Limit { counting: Counting::Bucket, rate: rate as f64, at_once: burst as f64 + 1.0, change: None }
}

fn queue(rate: u64, burst: u64) -> Limit {
    Limit { counting: Counting::Queue, ..bucket(rate, burst) }
}

fn window(limit: u64, seconds: u64) -> Limit {
    let rate = limit as f64 / seconds as f64;
    Limit { counting: Counting::Window, rate, at_once: limit as f64, change: None }
}

impl Limit {
    fn changes(self, after: u64, factor: f64) -> Self {
        Self { change: Some((SECOND * after as u32, factor)), ..self }
    }

    fn factor(self, elapsed: Duration) -> f64 {
        self.change.map_or(1.0, |(after, factor)| if elapsed >= after { factor } else { 1.0 })
    }

    /// How long so many rows take at the least, in seconds; of a window half has passed when they begin.
    fn ideal(self, rows: usize) -> f64 {
        let paced = rows as f64
            - match self.counting {
                Counting::Bucket => self.at_once,
                Counting::Queue => 1.0,
                Counting::Window => self.at_once / 2.0,
            };
        let (after, factor) = self.change.unwrap_or((Duration::MAX, 1.0));
        let before = paced.min(self.rate * after.as_secs_f64());
        before / self.rate + (paced - before) / (self.rate * factor)
    }

    /// A row that comes back in vain as often as it may, while a long window is used up, is lost: two in each at the most.
    fn may_lose(self, rows: usize) -> usize {
        let is_long = self.counting == Counting::Window && self.at_once / self.rate >= 10.0;
        if is_long { 2 * rows.div_ceil(self.at_once as usize) } else { 0 }
    }
}

/// The worst of some runs.
#[derive(Debug)]
struct Seen {
    of_ideal: f64,
    refused_later: f64,
    lost: usize,
}

impl Seen {
    fn of(limit: Limit, rows: usize, round_trip: Duration) -> Self {
        let mut worst = Self { of_ideal: 0.0, refused_later: 0.0, lost: 0 };
        for seed in 0..SEEDS {
            let mut world = World::new(seed, limit, rows, round_trip);
            world.run(SECOND * 3600);
            assert!(world.batch.is_settled(), "{limit:?}, seed {seed}: gets nowhere");
            let of_ideal = (world.now - world.begin).as_secs_f64() / limit.ideal(rows);
            worst.of_ideal = worst.of_ideal.max(of_ideal);
            worst.refused_later = worst.refused_later.max(world.server.refused_later());
            worst.lost = worst.lost.max(world.lost);
        }
        worst
    }
}

struct Server {
    limit: Limit,
    begin: Instant,
    /// What has not leaked yet, and when that was.
    level: f64,
    leaked: Instant,
    /// How much of a window had passed at the beginning, which one it is, and what was taken in it.
    phase: Duration,
    window: u128,
    used: f64,
    /// When each request came, and whether it was taken.
    seen: Vec<(Instant, bool)>,
}

impl Server {
    /// How long the answer takes, or nothing where the request is refused.
    fn takes(&mut self, now: Instant) -> Option<Duration> {
        let factor = self.limit.factor(now - self.begin);
        let rate = self.limit.rate * factor;
        let taken = match self.limit.counting {
            Counting::Bucket | Counting::Queue => {
                self.level = (self.level - (now - self.leaked).as_secs_f64() * rate).max(0.0);
                self.leaked = now;
                let waits = if self.limit.counting == Counting::Queue { self.level / rate } else { 0.0 };
                (self.level <= self.limit.at_once - 1.0).then(|| {
                    self.level += 1.0;
                    Duration::from_secs_f64(waits)
                })
            }
            Counting::Window => {
                let span = Duration::from_secs_f64(self.limit.at_once / self.limit.rate);
                let window = (now - self.begin + self.phase).as_nanos() / span.as_nanos();
                if window != self.window {
                    (self.window, self.used) = (window, 0.0);
                }
                self.used += 1.0;
                (self.used <= self.limit.at_once * factor).then_some(Duration::ZERO)
            }
        };
        self.seen.push((now, taken.is_some()));
        taken
    }

    fn refused_later(&self) -> f64 {
        let Some((first, _)) = self.seen.iter().find(|(_, taken)| !taken) else { return 0.0 };
        let later: Vec<_> = self.seen.iter().filter(|(at, _)| *at >= *first + SECOND).collect();
        let refused = later.iter().filter(|(_, taken)| !taken).count();
        refused as f64 / later.len().max(1) as f64
    }
}

enum Event {
    Wake,
    Arrive(Box<Job>),
    Answer(Box<Job>, u16),
}

struct World {
    random: Jitter,
    begin: Instant,
    now: Instant,
    batch: Batch,
    server: Server,
    round_trip: Duration,
    /// In the order of their time, and of their number where that is the same.
    events: BTreeMap<(Instant, u64), Event>,
    scheduled: u64,
    lost: usize,
}

impl World {
    fn new(seed: u64, limit: Limit, rows: usize, round_trip: Duration) -> Self {
        let (mut random, begin) = (Jitter::seeded(seed), now());
        let mut batch = Batch::new(Arc::new(Policy::default().retries(RETRIES)), begin, seed);
        for row in 0..rows {
            batch.admit(begin, Request::get(format!("http://hidden.test/{row}")));
        }
        batch.close();
        let phase = SECOND.mul_f64(limit.at_once / limit.rate * random.below(1000) as f64 / 1000.0);
        let server = Server {
            limit,
            begin,
            level: 0.0,
            leaked: begin,
            phase,
            window: u128::MAX,
            used: 0.0,
            seen: Vec::new(),
        };
        let events = BTreeMap::from([((begin, 0), Event::Wake)]);
        Self { random, begin, now: begin, batch, server, round_trip, events, scheduled: 0, lost: 0 }
    }

    /// Until all is done, or so much time has passed.
    fn run(&mut self, longest: Duration) {
        let mut wakes_at = None;
        while !self.batch.is_settled()
            && let Some(((at, _), event)) = self.events.pop_first()
            && at <= self.begin + longest
        {
            self.now = at;
            match event {
                Event::Wake => {}
                Event::Arrive(job) => {
                    let (status, takes) =
                        self.server.takes(at).map_or((429, Duration::ZERO), |takes| (200, takes));
                    let leg = self.leg();
                    self.schedule(takes + leg, Event::Answer(job, status));
                    continue;
                }
                Event::Answer(job, status) => {
                    let answer = response(status, None, job.index, &job.request.url);
                    self.batch.settle(at, job, End::Answered(answer));
                }
            }
            self.turn();
            let next = [self.batch.next_grant(), self.batch.next_event()].into_iter().flatten().min();
            if let Some(next) = next
                && wakes_at.is_none_or(|wakes| wakes <= at || wakes > next)
            {
                wakes_at = Some(next);
                let late = Duration::from_micros(self.random.below(LATE_MICROS));
                self.schedule(next.saturating_duration_since(at) + late, Event::Wake);
            }
        }
    }

    fn turn(&mut self) {
        self.batch.expire(self.now);
        while let Claim::Granted(job) = self.batch.claim(self.now, None, |_| None) {
            let leg = self.leg();
            self.schedule(leg, Event::Arrive(job));
        }
        for outcome in self.batch.take_ready() {
            self.lost += usize::from(!outcome.is_ok());
        }
    }

    fn schedule(&mut self, after: Duration, event: Event) {
        self.scheduled += 1;
        self.events.insert((self.now + after, self.scheduled), event);
    }

    fn leg(&mut self) -> Duration {
        self.round_trip.mul_f64(0.45 + 0.1 * self.random.below(1000) as f64 / 1000.0)
    }
}
