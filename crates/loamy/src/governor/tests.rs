//! Held against simulated servers, in virtual time.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use super::*;
use crate::clock::now as begin;
use crate::quotas;

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// How a server tells its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spelling {
    Draft10,
    Draft10WithoutPolicy,
    Draft07,
    Draft06,
    Epoch,
    Delta,
    GoDuration,
    Rfc3339,
    /// A 429 with Retry-After, and nothing before.
    RetryAfterOnly,
    /// A 429, and nothing else.
    Nothing,
}

const PUBLISHED: [Spelling; 8] = [
    Spelling::Draft10,
    Spelling::Draft10WithoutPolicy,
    Spelling::Draft07,
    Spelling::Draft06,
    Spelling::Epoch,
    Spelling::Delta,
    Spelling::GoDuration,
    Spelling::Rfc3339,
];

impl Spelling {
    fn is_time_of_day(self) -> bool {
        matches!(self, Self::Epoch | Self::Rfc3339)
    }
}

/// How a server counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Counting {
    FixedWindow,
    /// A window that begins with the first row after the last one ended.
    WindowOnDemand,
    SlidingLog,
    TokenBucket,
}

const COUNTINGS: [Counting; 4] =
    [Counting::FixedWindow, Counting::WindowOnDemand, Counting::SlidingLog, Counting::TokenBucket];

/// A server that takes `limit` in each `window`.
struct Server {
    counting: Counting,
    spelling: Spelling,
    limit: u64,
    window: Duration,
    begin: Instant,
    /// Since 1970, at `begin`.
    epoch: Duration,
    /// Where in a window `begin` lies.
    phase: Duration,
    window_number: u64,
    used: u64,
    log: VecDeque<Instant>,
    tokens: f64,
    filled: Instant,
    accepted: Vec<Instant>,
    refused: Vec<Instant>,
}

impl Server {
    fn answer(&mut self, now: Instant) -> (u16, Vec<(&'static str, String)>) {
        let (remaining, reset) = match self.counting {
            Counting::FixedWindow => {
                let time = now - self.begin + self.phase;
                let number = (time.as_nanos() / self.window.as_nanos()) as u64;
                if number != self.window_number {
                    (self.window_number, self.used) = (number, 0);
                }
                let end = self.window * (number as u32 + 1);
                (self.limit - self.used, end - time)
            }
            Counting::WindowOnDemand => {
                if now >= self.filled + self.window || self.accepted.is_empty() {
                    (self.filled, self.used) = (now, 0);
                }
                (self.limit - self.used, self.filled + self.window - now)
            }
            Counting::SlidingLog => {
                while self.log.front().is_some_and(|at| *at + self.window <= now) {
                    self.log.pop_front();
                }
                let reset = self.log.front().map_or(self.window, |at| *at + self.window - now);
                (self.limit - self.log.len() as u64, reset)
            }
            Counting::TokenBucket => {
                let per_second = self.limit as f64 / self.window.as_secs_f64();
                let filled = self.tokens + (now - self.filled).as_secs_f64() * per_second;
                (self.tokens, self.filled) = (filled.min(self.limit as f64), now);
                let missing = self.limit as f64 - self.tokens;
                (self.tokens as u64, Duration::from_secs_f64(missing / per_second))
            }
        };
        if remaining == 0 {
            self.refused.push(now);
            return (429, self.fields(now, 0, reset, true));
        }
        self.used += 1;
        self.log.push_back(now);
        self.tokens -= 1.0;
        self.accepted.push(now);
        (200, self.fields(now, remaining - 1, reset, false))
    }

    fn fields(
        &self,
        now: Instant,
        remaining: u64,
        reset: Duration,
        refused: bool,
    ) -> Vec<(&'static str, String)> {
        let seconds = reset.as_nanos().div_ceil(1_000_000_000) as u64;
        let (limit, window) = (self.limit, self.window.as_secs().max(1));
        let wall = self.epoch + (now - self.begin);
        let at = (wall + reset).as_nanos().div_ceil(1_000_000_000) as u64;
        let date =
            |seconds: u64| httpdate::fmt_http_date(std::time::UNIX_EPOCH + Duration::from_secs(seconds));
        let mut fields = vec![("Date", date(wall.as_secs()))];
        fields.extend(match self.spelling {
            Spelling::Draft10 => vec![
                ("RateLimit-Policy", format!("\"p\";q={limit};w={window}")),
                ("RateLimit", format!("\"p\";r={remaining};t={seconds}")),
            ],
            Spelling::Draft10WithoutPolicy => vec![("RateLimit", format!("\"p\";r={remaining};t={seconds}"))],
            Spelling::Draft07 => {
                vec![("RateLimit", format!("limit={limit}, remaining={remaining}, reset={seconds}"))]
            }
            Spelling::Draft06 => vec![
                ("RateLimit-Limit", format!("{limit}, {limit};w={window}")),
                ("RateLimit-Remaining", remaining.to_string()),
                ("RateLimit-Reset", seconds.to_string()),
            ],
            Spelling::Epoch | Spelling::Delta => vec![
                ("X-RateLimit-Limit", limit.to_string()),
                ("X-RateLimit-Remaining", remaining.to_string()),
                (
                    "X-RateLimit-Reset",
                    if self.spelling == Spelling::Epoch { at } else { seconds }.to_string(),
                ),
            ],
            Spelling::GoDuration => vec![
                ("x-ratelimit-limit-requests", limit.to_string()),
                ("x-ratelimit-remaining-requests", remaining.to_string()),
                (
                    "x-ratelimit-reset-requests",
                    format!("{}m{}ms", reset.as_secs() / 60, reset.as_millis() % 60_000 + 1),
                ),
            ],
            Spelling::Rfc3339 => {
                let (day, time) = (at / 86_400, at % 86_400);
                // The simulation begins on 2026-11-22, day 20779.
                let time = format!("{:02}:{:02}:{:02}", time / 3600, time / 60 % 60, time % 60);
                vec![
                    ("anthropic-ratelimit-requests-limit", limit.to_string()),
                    ("anthropic-ratelimit-requests-remaining", remaining.to_string()),
                    ("anthropic-ratelimit-requests-reset", format!("2026-11-{}T{time}Z", day - 20_779 + 22)),
                ]
            }
            Spelling::RetryAfterOnly | Spelling::Nothing => Vec::new(),
        });
        if refused && self.spelling != Spelling::Nothing {
            let wait = if self.counting == Counting::TokenBucket { 1 } else { seconds };
            fields.push(("Retry-After", wait.to_string()));
        }
        fields
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Wake,
    Arrive { row: usize },
    Answer { row: usize },
}

struct World {
    random: Jitter,
    governor: Governor,
    server: Server,
    latency: (Duration, Duration),
    concurrency: usize,
    rows: usize,
    sent: Vec<(Instant, Sending)>,
    answers: Vec<Option<(u16, Hint)>>,
    in_flight: usize,
    answered: usize,
    wakes_at: Option<Instant>,
    pauses: Vec<(Instant, Instant)>,
}

impl World {
    fn new(seed: u64, counting: Counting, spelling: Spelling, limit: u64, window: Duration) -> Self {
        let mut random = Jitter::seeded(seed);
        let begin = begin();
        // Who tells times of day in seconds has windows that begin with a second.
        let epoch = Duration::from_secs(1_795_327_200) + random.up_to(SECOND);
        let whole = spelling.is_time_of_day();
        let phase = match counting {
            Counting::FixedWindow if whole => {
                Duration::from_nanos(u64::from(epoch.subsec_nanos()))
                    + SECOND * (random.below(window.as_secs()) as u32)
            }
            Counting::FixedWindow => random.up_to(window - MILLISECOND),
            _ => Duration::ZERO,
        };
        let low = MILLISECOND * [5, 20, 35, 50][seed as usize % 4];
        let spread = random.below(2) as u32 + 1;
        Self {
            governor: Governor::new(Jitter::seeded(seed + 1)),
            server: Server {
                counting,
                spelling,
                limit,
                window,
                begin,
                epoch,
                phase,
                window_number: 0,
                used: 0,
                log: VecDeque::new(),
                tokens: limit as f64,
                filled: begin,
                accepted: Vec::new(),
                refused: Vec::new(),
            },
            latency: (low, low * spread),
            concurrency: 100,
            rows: 1_000_000,
            sent: Vec::new(),
            answers: Vec::new(),
            in_flight: 0,
            answered: 0,
            wakes_at: None,
            pauses: Vec::new(),
            random,
        }
    }

    fn run(&mut self, span: Duration) {
        let begin = self.server.begin;
        let mut events = BinaryHeap::from([Reverse((begin, Event::Wake))]);
        while let Some(Reverse((now, event))) = events.pop() {
            if now - begin > span {
                break;
            }
            match event {
                Event::Wake => {}
                Event::Arrive { row } => {
                    let (status, fields) = self.server.answer(now);
                    let fields = fields.iter().map(|(name, value)| (*name, value.as_bytes()));
                    self.answers[row] = Some((status, quotas::read(fields)));
                    events.push(Reverse((now + self.leg(), Event::Answer { row })));
                    continue;
                }
                Event::Answer { row } => {
                    let (status, hint) = self.answers[row].take().unwrap();
                    self.in_flight -= 1;
                    self.answered += usize::from(status == 200);
                    self.governor.answered(now, self.sent[row].1, status, &hint);
                    if status == 429 {
                        let asked = hint.retry_after.unwrap_or_default();
                        self.pauses.push((now, now + asked));
                    }
                }
            }
            // As the gate of a batch: one goes first, and each answer allows two more.
            while self.sent.len() < self.rows
                && self.in_flight
                    < self.concurrency.min(self.answered * 2 + 1).min(self.governor.most_in_flight())
            {
                match self.governor.admits(now, self.rows - self.sent.len(), None) {
                    Admission::Ready => {
                        let row = self.sent.len();
                        self.sent.push((now, self.governor.sent(now)));
                        self.answers.push(None);
                        self.in_flight += 1;
                        events.push(Reverse((now + self.leg(), Event::Arrive { row })));
                    }
                    Admission::NotBefore(then) => {
                        assert!(then > now, "a wait that is none");
                        if self.wakes_at.is_none_or(|at| at <= now || at > then) {
                            self.wakes_at = Some(then);
                            events.push(Reverse((then, Event::Wake)));
                        }
                        break;
                    }
                }
            }
        }
    }

    fn leg(&mut self) -> Duration {
        let (low, high) = self.latency;
        (low + self.random.up_to(high - low)) / 2
    }

    /// The share that was refused, and the share used of what was allowed, both between two times.
    fn shares(&self, from: Duration, to: Duration) -> (f64, f64) {
        let (from, to) = (self.server.begin + from, self.server.begin + to);
        let within = |times: &[Instant]| times.iter().filter(|at| (from..to).contains(*at)).count() as f64;
        let (accepted, refused) = (within(&self.server.accepted), within(&self.server.refused));
        let allowed = self.server.limit as f64 * (to - from).as_secs_f64() / self.server.window.as_secs_f64();
        (refused / (accepted + refused), accepted / allowed)
    }
}

/// The share that was refused in the worst of some runs, and the share used in all, once the first second is over and what
/// was saved up before is spent. Round trips take from 5 to 100 ms, some of them always the same time.
fn shares(counting: Counting, spelling: Spelling, limit: u64, window: Duration) -> (f64, f64) {
    const RUNS: u64 = 4;
    let (mut worst, mut used) = (0.0_f64, 0.0);
    for seed in 0..RUNS {
        let mut world = World::new(seed, counting, spelling, limit, window);
        let from = match counting {
            Counting::FixedWindow => {
                let begins = window - world.server.phase;
                if begins < SECOND { begins + window } else { begins }
            }
            Counting::TokenBucket => window,
            _ => SECOND,
        };
        let span = (window * 2).max(SECOND * 15);
        world.run(from + span);
        let shares = world.shares(from, from + span);
        worst = worst.max(shares.0);
        used += shares.1 / RUNS as f64;
    }
    (worst, used)
}

/// At most one in a hundred refused, at least 95 % of what is allowed.
#[test]
fn who_publishes_a_limit_is_neither_overrun_nor_left_idle() {
    let mut wrong = Vec::new();
    for (limit, seconds) in [(50, 1), (100, 1), (50, 10), (400, 10), (600, 60)] {
        let window = SECOND * seconds;
        for counting in COUNTINGS {
            for spelling in PUBLISHED {
                // Where no window is told, a time of day tells one of a second too much, unless it begins with a second.
                let is_vague = spelling.is_time_of_day() && counting != Counting::FixedWindow;
                let told = if is_vague { window + SECOND } else { window };
                let least = 0.95 * window.div_duration_f64(told);
                let (refused, used) = shares(counting, spelling, limit, window);
                if refused > 0.01 || used < least {
                    let (refused, used) = (refused * 100.0, used * 100.0);
                    wrong.push(format!(
                        "{counting:?} {limit}/{seconds}s {spelling:?}: {refused:.2}% refused, {used:.1}% used"
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn whoever_has_fewer_rows_than_are_left_is_not_held_back() {
    for counting in COUNTINGS {
        for spelling in PUBLISHED {
            let mut world = World::new(1, counting, spelling, 5000, SECOND * 3600);
            world.rows = 3000;
            world.run(SECOND * 20);
            let Server { accepted, refused, .. } = &world.server;
            assert_eq!((accepted.len(), refused.len()), (3000, 0), "{counting:?} {spelling:?}");
        }
    }
}

#[test]
fn e20_who_only_refuses_is_asked_no_earlier_than_it_says_and_by_one() {
    for (limit, seconds) in [(100, 1), (100, 10), (1000, 10)] {
        for seed in 0..20 {
            let mut world =
                World::new(seed, Counting::FixedWindow, Spelling::RetryAfterOnly, limit, SECOND * seconds);
            let span = (SECOND * seconds * 6).max(SECOND * 40);
            world.run(SECOND * seconds * 2 + span);
            assert!(!world.pauses.is_empty());
            for (from, to) in &world.pauses {
                assert!(
                    !world.sent.iter().any(|(at, _)| at > from && at < to),
                    "seed {seed}: sent in a pause"
                );
                let next = world.sent.iter().find(|(at, _)| at > from);
                let together =
                    world.sent.iter().filter(|(at, _)| next.is_some_and(|next| next.0 == *at)).count();
                assert!(together <= 1, "seed {seed}: {together} came back together");
            }
            let (refused, used) = world.shares(SECOND * seconds * 2, SECOND * seconds * 2 + span);
            assert!(refused < 0.02 && used > 0.5, "{limit}/{seconds}s seed {seed}: {refused} {used}");
        }
    }
}

fn hint(retry_after: Option<u64>) -> Hint {
    Hint { retry_after: retry_after.map(Duration::from_secs), quotas: Vec::new() }
}

#[test]
fn a_volley_of_refusals_is_one_and_each_further_one_doubles_the_pause() {
    let (mut now, mut governor) = (begin(), Governor::new(Jitter::seeded(1)));
    for expected in [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 20.0, 20.0] {
        let rows: Vec<_> = (0..5).map(|_| governor.sent(now)).collect();
        rows.into_iter().for_each(|row| _ = governor.answered(now, row, 429, &hint(None)));
        let until = governor.paused_until(now).unwrap();
        let span = (until - now).as_secs_f64();
        assert!((expected..=expected * 1.05).contains(&span), "{span} for {expected}");
        now = until;
    }
    let row = governor.sent(now);
    governor.answered(now, row, 200, &hint(None));
    let row = governor.sent(now);
    governor.answered(now, row, 429, &hint(None));
    assert!(governor.paused_until(now).unwrap() - now < SECOND);
}

#[test]
fn after_a_pause_one_goes_first_and_each_answer_lets_one_more_go() {
    let (now, mut governor) = (begin(), Governor::new(Jitter::seeded(1)));
    assert_eq!(governor.most_in_flight(), usize::MAX);
    let (refused, before) = (governor.sent(now), governor.sent(now));
    governor.answered(now, refused, 503, &hint(Some(7)));
    governor.answered(now, before, 200, &hint(None));
    assert!(governor.paused_until(now).unwrap() >= now + SECOND * 7);
    let mut allowed = Vec::new();
    for _ in 0..3 {
        allowed.push(governor.most_in_flight());
        let rows: Vec<_> = (0..governor.most_in_flight()).map(|_| governor.sent(now)).collect();
        rows.into_iter().for_each(|row| _ = governor.answered(now, row, 200, &hint(None)));
    }
    assert_eq!(allowed, [1, 2, 4]);
}

#[test]
fn a_503_without_retry_after_pauses_nobody() {
    let (now, mut governor) = (begin(), Governor::new(Jitter::seeded(1)));
    let row = governor.sent(now);
    governor.answered(now, row, 503, &hint(None));
    assert_eq!((governor.paused_until(now), governor.admits(now, 9, None)), (None, Admission::Ready));
}

#[test]
fn a_quota_holds_nobody_back_while_no_more_waits_than_is_left() {
    let (now, mut governor) = (begin(), Governor::new(Jitter::seeded(1)));
    let row = governor.sent(now);
    let quota = Quota {
        unit: Unit::Requests,
        remaining: 100,
        reset: SECOND * 3600,
        precision: Precision::Seconds,
        limit: None,
        window: None,
    };
    governor.answered(now, row, 200, &Hint { retry_after: None, quotas: vec![quota] });
    for waiting in (1..=100).rev() {
        assert_eq!(governor.admits(now, waiting, None), Admission::Ready);
        governor.sent(now);
    }
    assert!(governor.paused_until(now).is_some_and(|until| until == now + SECOND * 3600));
}

#[test]
fn rows_sent_after_the_one_that_is_answered_are_taken_off_what_is_left() {
    let (now, mut governor) = (begin(), Governor::new(Jitter::seeded(1)));
    let rows: Vec<_> = (0..3).map(|_| governor.sent(now)).collect();
    let quota = Quota {
        unit: Unit::Requests,
        remaining: 2,
        reset: SECOND * 9,
        precision: Precision::Finer,
        limit: None,
        window: None,
    };
    let told = |remaining| Hint { retry_after: None, quotas: vec![Quota { remaining, ..quota }] };
    governor.answered(now, rows[0], 200, &told(2));
    assert_eq!(governor.admits(now, 9, None), Admission::NotBefore(now + SECOND * 9));
    governor.answered(now, rows[2], 200, &told(4));
    assert_eq!(governor.admits(now, 4, None), Admission::Ready);
    // Older than what is known.
    governor.answered(now, rows[1], 200, &told(0));
    assert_eq!(governor.admits(now, 4, None), Admission::Ready);
}
