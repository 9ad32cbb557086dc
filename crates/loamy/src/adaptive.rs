//! How much an origin bears at once, found out on the way.
//!
//! - **AIMD**, the default: the limit doubles each round until answers take longer, clearly and not by chance, or rows are refused;
//!   from there on it grows by one a round, or by a twentieth, stays where answers take longer than before, and shrinks by a tenth, once a
//!   round, where rows are refused. Where times differ as much by nature as by load, they decide nothing.
//! - **Gradient2**, by choice: in each round the limit is multiplied by the quotient of the usual time, a tenth allowed, and that of
//!   the round, if that is below 1, and a twentieth is added for a short queue. The idea is that of Netflix's Gradient2Limit, but
//!   rounds are compared instead of answers, so that chance counts for little, and the usual time falls at once and rises slowly:
//!   else it would follow the queue that it is to prevent.
//!
//! Both hold 90 % and more of what the best fixed limit does, with at most two in a hundred refused.
//!
//! A round is as many answers as the limit, and 50 at least (16 while it doubles). Who was refused does not go there again until a hundred rows were
//! answered for each that was refused: trying costs one in a hundred. An answer while less than half of the limit was
//! in flight says nothing of it.

use std::time::{Duration, Instant};

use crate::policy::Adaptive;

/// How many rows may be in flight for one origin.
#[derive(Clone, Debug)]
pub(crate) struct Limit {
    manner: Adaptive,
    limit: f64,
    max: f64,
    round: Round,
    /// Whether the limit still doubles.
    doubling: bool,
    /// The shortest mean of a round, and how far by chance it may be off.
    usual: Option<f64>,
    /// Where rows were refused, and how many must be answered before that is tried again.
    ceiling: f64,
    patience: u64,
    /// Since when a refusal is held against the limit: what was sent before was sent under another.
    cut_at: Option<Instant>,
    /// The part that fails whatever the limit is.
    background: f64,
    rounds: u32,
    /// Whether the next round is of rows that were sent under another limit.
    settling: bool,
    /// Cuts for failures one after the other, and the limit before them.
    streak: u32,
    before: f64,
}

/// How a row went, as far as it tells of load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Answered.
    Ok,
    /// The peer had too much: 429, 503, REFUSED_STREAM.
    Refused,
    /// No answer, or none in time. A few of these are no sign of load.
    Failed,
}

#[derive(Clone, Debug, Default)]
struct Round {
    answers: u64,
    refused: u64,
    failed: u64,
    ok: u64,
    sum: f64,
    squares: f64,
    used: bool,
}

const ANSWERS_FOR_EACH_REFUSED: u64 = 100;
const SHORTEST_ROUND: u64 = 50;
/// So much longer than usual is no sign yet, and so much is one that there are too many.
const LONGER: f64 = 1.1;
const TOO_LONG: f64 = 1.3;
/// So many cuts for failures one after the other did not help.
const CUTS_IN_VAIN: u32 = 6;
/// What is allowed before anything is known.
const FIRST: f64 = 4.0;
/// After so many rounds the usual time is measured afresh.
const AFRESH: u32 = 200;

impl Limit {
    pub(crate) fn new(manner: Adaptive, max: usize) -> Self {
        let max = max.max(1) as f64;
        Self {
            manner,
            limit: FIRST.clamp(1.0, max),
            max,
            round: Round::default(),
            doubling: true,
            usual: None,
            ceiling: f64::INFINITY,
            patience: 0,
            cut_at: None,
            background: 0.0,
            rounds: 0,
            settling: false,
            streak: 0,
            before: 0.0,
        }
    }

    /// How many may be in flight: from 1 to the most.
    pub(crate) fn limit(&self) -> usize {
        self.limit as usize
    }

    /// A row ended that took `rtt`; `in_flight` counts it.
    pub(crate) fn on_answer(&mut self, now: Instant, rtt: Duration, in_flight: usize, outcome: Outcome) {
        // What was sent under the limit before the cut was judged with it.
        let stale = self.cut_at.is_some_and(|cut| now.checked_sub(rtt).is_none_or(|sent| sent <= cut));
        let round = &mut self.round;
        round.answers += 1;
        round.used |= in_flight * 2 >= self.limit as usize;
        match outcome {
            Outcome::Ok => {
                round.ok += 1;
                round.sum += rtt.as_secs_f64();
                round.squares += rtt.as_secs_f64().powi(2);
                self.patience = self.patience.saturating_sub(1);
            }
            Outcome::Refused if stale => self.patience += ANSWERS_FOR_EACH_REFUSED,
            Outcome::Refused => round.refused += 1,
            Outcome::Failed if stale => {}
            Outcome::Failed => round.failed += 1,
        }
        if self.round.refused > 0 {
            self.cut(now);
        }
        let shortest = if self.doubling { SHORTEST_ROUND / 3 } else { SHORTEST_ROUND };
        if self.round.answers >= shortest.max(self.limit as u64) {
            self.end_of_round(now);
        }
        self.limit = self.limit.clamp(1.0, self.max);
    }

    fn cut(&mut self, now: Instant) {
        self.ceiling = self.limit.floor();
        self.patience += (self.round.refused + self.round.failed) * ANSWERS_FOR_EACH_REFUSED;
        self.limit = (self.limit * 0.9).floor().max(1.0);
        self.cut_at = Some(now);
        self.doubling = false;
        self.round = Round::default();
    }

    fn end_of_round(&mut self, now: Instant) {
        let round = std::mem::take(&mut self.round);
        if std::mem::take(&mut self.settling) {
            return;
        }
        let failing = round.failed as f64 / round.answers as f64;
        if failing > self.background.max(0.01) {
            if self.streak == 0 {
                self.before = self.limit;
            }
            self.streak += 1;
            if self.streak <= CUTS_IN_VAIN {
                self.round = round;
                self.cut(now);
                self.settling = true;
                return;
            }
            // It was cut again and again, and it fails all the same.
            self.background = self.background.max(failing * 2.0);
            self.limit = self.before;
            self.patience = 0;
        }
        self.streak = 0;
        self.cut_at = None;
        if round.ok < SHORTEST_ROUND / 4 {
            return;
        }
        let mean = round.sum / round.ok as f64;
        let error =
            (round.squares / round.ok as f64 - mean * mean).max(0.0).sqrt() / (round.ok as f64).sqrt();
        self.rounds += 1;
        if self.rounds.is_multiple_of(AFRESH) && !self.doubling {
            // What was usual may have changed. With fewer in flight, the next round tells.
            self.usual = None;
            self.limit *= 0.75;
            self.settling = true;
            return;
        }
        let usual = self.usual_after(mean + error);
        let surely = mean - 2.0 * error;
        self.usual = Some(usual);
        if !round.used {
            return;
        }
        let before = self.limit;
        let wanted = match self.manner {
            Adaptive::Aimd => self.increased_or_decreased(surely, mean, usual),
            Adaptive::Gradient2 => self.times_gradient(surely, mean, usual),
        };
        let most = if self.patience > 0 { (self.ceiling - 1.0).max(1.0) } else { self.max };
        self.limit = wanted.min(most);
        self.settling = (self.limit - before).abs() > before / 4.0;
    }

    fn usual_after(&self, likely: f64) -> f64 {
        /// So many rounds make the usual time of the gradient, where it rises.
        const ROUNDS: f64 = 600.0;
        let Some(usual) = self.usual else { return likely };
        match self.manner {
            Adaptive::Aimd => likely.min(usual),
            Adaptive::Gradient2 => likely.min(usual + (likely - usual) / ROUNDS),
        }
    }

    fn increased_or_decreased(&mut self, surely: f64, mean: f64, usual: f64) -> f64 {
        if surely <= usual * LONGER {
            return self.increased();
        }
        self.doubling = false;
        if surely <= usual * TOO_LONG {
            return self.limit;
        }
        // By Little's law, so many were in service, and the rest in a queue.
        (self.limit * usual / mean * LONGER).max(self.limit / 2.0).ceil()
    }

    /// In parts of a row as well: of a low limit, a whole one would be a long queue.
    fn times_gradient(&mut self, surely: f64, mean: f64, usual: f64) -> f64 {
        let gradient = if surely <= usual * LONGER { 1.0 } else { (LONGER * usual / mean).max(0.5) };
        self.doubling &= gradient >= 1.0;
        if self.doubling { self.increased() } else { self.limit * gradient + (self.limit / 20.0).max(0.25) }
    }

    fn increased(&self) -> f64 {
        if self.doubling { self.limit * 2.0 } else { self.limit + (self.limit / 20.0).max(1.0) }
    }
}

#[cfg(test)]
mod tests {
    use std::cmp::Reverse;
    use std::collections::BinaryHeap;

    use super::*;
    use crate::backoff::Jitter;
    use crate::clock::now as begin;

    /// A server that serves `peak` at once, each in `service`; more wait, and cost it time; beyond `most` it refuses, or
    /// leaves unanswered.
    struct Server {
        peak: usize,
        most: usize,
        service: Duration,
        beyond: Outcome,
    }

    enum Setting {
        Fixed(usize),
        Found(Limit),
    }

    impl Setting {
        fn limit(&self) -> usize {
            match self {
                Self::Fixed(limit) => *limit,
                Self::Found(limit) => limit.limit(),
            }
        }
    }

    impl Server {
        fn serve(&self, in_flight: usize, random: &mut Jitter) -> (Duration, Outcome) {
            if in_flight > self.most {
                let span = if self.beyond == Outcome::Failed { self.service * 20 } else { self.service / 10 };
                return (span, self.beyond);
            }
            // Beyond the peak throughput falls: a tenth less where there are twice as many.
            let over = (in_flight as f64 / self.peak as f64).max(1.0);
            let span = self.service.mul_f64(over * (1.0 + (over - 1.0) * 0.1));
            (span.mul_f64(0.8) + random.up_to(span.mul_f64(0.4)), Outcome::Ok)
        }

        /// What it answers and refuses with this limit within so many rows.
        fn run(&self, mut setting: Setting, seed: u64, rows: usize) -> (f64, f64) {
            let (begin, mut random) = (begin(), Jitter::seeded(seed));
            let (mut flying, mut sent) = (BinaryHeap::new(), 0);
            let (mut now, mut ok, mut bad) = (begin, 0_u64, 0_u64);
            while sent < rows {
                while flying.len() < setting.limit() && sent < rows {
                    let (span, outcome) = self.serve(flying.len() + 1, &mut random);
                    flying.push(Reverse((now + span, sent, span, outcome as u8)));
                    sent += 1;
                }
                let in_flight = flying.len();
                let Some(Reverse((at, _, span, outcome))) = flying.pop() else { break };
                now = at;
                let outcome = [Outcome::Ok, Outcome::Refused, Outcome::Failed][outcome as usize];
                if outcome == Outcome::Ok {
                    ok += 1
                } else {
                    bad += 1
                }
                if let Setting::Found(limit) = &mut setting {
                    limit.on_answer(now, span, in_flight, outcome);
                    assert!((1..=limit.max as usize).contains(&limit.limit()));
                }
            }
            (ok as f64 / (now - begin).as_secs_f64(), bad as f64 / (ok + bad) as f64)
        }
    }

    #[test]
    fn aimd_finds_the_peak_wherever_it_lies() {
        hold(Adaptive::Aimd);
    }

    #[test]
    fn gradient_finds_the_peak_wherever_it_lies() {
        hold(Adaptive::Gradient2);
    }

    /// At least 90 % of the best fixed setting, with at most two in a hundred refused.
    fn hold(manner: Adaptive) {
        const ROWS: usize = 80_000;
        let mut wrong = Vec::new();
        for beyond in [Outcome::Refused, Outcome::Failed] {
            for (peak, most) in
                [(4, 6), (4, 8), (10, 15), (25, 50), (50, 75), (100, 150), (100, 400), (200, 300), (200, 800)]
            {
                for seed in 0..2 {
                    let server = Server { peak, most, service: Duration::from_millis(50), beyond };
                    let (best, _) = server.run(Setting::Fixed(peak), seed, ROWS);
                    let own = Setting::Found(Limit::new(manner, 1000));
                    let (found, refused) = server.run(own, seed, ROWS);
                    if found < best * 0.9 || refused > 0.02 {
                        wrong.push(format!(
                            "{peak} {most} {beyond:?} {seed}: {:.2} {:.2}%",
                            found / best,
                            refused * 100.0
                        ));
                    }
                }
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    #[test]
    fn whatever_happens_the_limit_stays_between_one_and_the_most() {
        for seed in 0..10_000 {
            let mut random = Jitter::seeded(seed);
            let max = random.below(50) as usize;
            let manner = if seed % 2 == 0 { Adaptive::Aimd } else { Adaptive::Gradient2 };
            let mut limit = Limit::new(manner, max);
            let mut now = begin();
            for _ in 0..300 {
                now += random.up_to(Duration::from_millis(100));
                let slowest = Duration::from_secs(random.below(3));
                let rtt = random.up_to(slowest);
                let outcome = [Outcome::Ok, Outcome::Refused, Outcome::Failed][random.below(3) as usize];
                limit.on_answer(now, rtt, random.below(60) as usize, outcome);
                assert!((1..=max.max(1)).contains(&limit.limit()), "seed {seed}");
            }
        }
    }

    #[test]
    fn failures_that_have_nothing_to_do_with_load_do_not_starve_an_origin() {
        for manner in [Adaptive::Aimd, Adaptive::Gradient2] {
            let mut limit = Limit::new(manner, 64);
            let (mut random, mut now) = (Jitter::seeded(1), begin());
            for _ in 0..50_000 {
                now += Duration::from_millis(1);
                let outcome = if random.below(20) == 0 { Outcome::Failed } else { Outcome::Ok };
                limit.on_answer(now, Duration::from_millis(20), limit.limit(), outcome);
            }
            assert!(limit.limit() > 32, "{}", limit.limit());
        }
    }

    #[test]
    fn times_that_differ_by_nature_do_not_starve_an_origin() {
        const ROWS: usize = 50_000;
        for manner in [Adaptive::Aimd, Adaptive::Gradient2] {
            let mut limit = Limit::new(manner, 64);
            let (mut random, mut now, mut sum) = (Jitter::seeded(1), begin(), 0);
            for _ in 0..ROWS {
                now += Duration::from_millis(1);
                let span = Duration::from_millis(if random.below(5) == 0 { 100 } else { 10 });
                limit.on_answer(now, span, limit.limit(), Outcome::Ok);
                sum += limit.limit();
            }
            assert!(sum / ROWS > 32, "{manner:?}: {}", sum / ROWS);
        }
    }
}
