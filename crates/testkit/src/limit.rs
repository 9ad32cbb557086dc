//! Limits: whether one more request is granted, and what is left. Functions of what was asked
//! before and of the time that the caller gives.

use std::collections::VecDeque;
use std::time::Duration;

/// What a limit grants.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rule {
    pub how: How,
    /// So many requests in each window.
    pub limit: u64,
    pub window: Duration,
    /// How much a bucket holds.
    pub burst: u64,
}

/// How requests are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// A window begins with the first request after the last one ended.
    Fixed,
    /// Each request counts until a window has passed since it.
    Sliding,
    /// A bucket of tokens that is full at first, and fills by `limit` in each window.
    Bucket,
}

impl How {
    pub(crate) const NAMES: [(&'static str, How); 3] =
        [("fixed", How::Fixed), ("sliding", How::Sliding), ("bucket", How::Bucket)];
}

/// What became of the requests that asked a limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Those that were within it.
    pub granted: u64,
    /// Those that were refused. They use nothing up.
    pub refused: u64,
}

/// How a limit stands after a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    pub granted: bool,
    /// How many more would be granted now.
    pub remaining: u64,
    /// Until there is more than that: of a fixed window until its end, of a sliding one until its
    /// oldest request leaves it. Of a bucket until it is full.
    pub reset: Duration,
    /// Until one more would be granted; zero if it would be now.
    pub wait: Duration,
}

/// The requests that one limit has seen.
pub(crate) struct Limiter {
    seen: Seen,
    pub usage: Usage,
}

enum Seen {
    Fixed {
        began: Duration,
        used: u64,
    },
    Sliding(VecDeque<Duration>),
    /// A token is `window` nanoseconds of level and `limit` of them come in each, so that
    /// nothing is ever rounded.
    Bucket {
        level: u128,
        window: Duration,
        at: Duration,
    },
}

impl Limiter {
    pub(crate) fn new(rule: &Rule, now: Duration) -> Limiter {
        let seen = match rule.how {
            How::Fixed => Seen::Fixed { began: now, used: 0 },
            How::Sliding => Seen::Sliding(VecDeque::new()),
            How::Bucket => Seen::Bucket { level: capacity(rule), window: rule.window, at: now },
        };
        Limiter { seen, usage: Usage::default() }
    }

    pub(crate) fn how(&self) -> How {
        match self.seen {
            Seen::Fixed { .. } => How::Fixed,
            Seen::Sliding(_) => How::Sliding,
            Seen::Bucket { .. } => How::Bucket,
        }
    }

    /// Asks for one more request, under a rule that may have changed since the last one, except
    /// for how it counts.
    pub(crate) fn ask(&mut self, rule: &Rule, now: Duration) -> Standing {
        let standing = match &mut self.seen {
            Seen::Fixed { began, used } => {
                if now >= *began + rule.window {
                    (*began, *used) = (now, 0);
                }
                let granted = *used < rule.limit;
                *used += u64::from(granted);
                let reset = *began + rule.window - now;
                standing(granted, rule.limit.saturating_sub(*used), reset, reset)
            }
            Seen::Sliding(log) => {
                while log.front().is_some_and(|first| now >= *first + rule.window) {
                    log.pop_front();
                }
                let granted = (log.len() as u64) < rule.limit;
                if granted {
                    log.push_back(now);
                }
                // A limit that was lowered may need more than the oldest to leave.
                let too_many = (log.len() as u64).saturating_sub(rule.limit) as usize;
                let until = |at: usize| log.get(at).map_or(Duration::ZERO, |at| *at + rule.window - now);
                let remaining = rule.limit.saturating_sub(log.len() as u64);
                standing(granted, remaining, until(too_many), until(too_many))
            }
            Seen::Bucket { level, window, at } => {
                let (token, full) = (rule.window.as_nanos(), capacity(rule));
                *level = *level * token / window.as_nanos();
                *level += (now - *at).as_nanos() * u128::from(rule.limit);
                *level = (*level).min(full);
                (*window, *at) = (rule.window, now);
                let granted = *level >= token;
                if granted {
                    *level -= token;
                }
                let until = |wanted: u128| {
                    let missing = wanted.saturating_sub(*level).div_ceil(rule.limit.into());
                    Duration::from_nanos(missing.try_into().unwrap_or(u64::MAX))
                };
                standing(granted, (*level / token) as u64, until(full), until(token))
            }
        };
        self.usage.granted += u64::from(standing.granted);
        self.usage.refused += u64::from(!standing.granted);
        standing
    }
}

fn capacity(rule: &Rule) -> u128 {
    u128::from(rule.burst) * rule.window.as_nanos()
}

fn standing(granted: bool, remaining: u64, reset: Duration, wait: Duration) -> Standing {
    let wait = if remaining > 0 { Duration::ZERO } else { wait };
    Standing { granted, remaining, reset, wait }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(how: How, limit: u64, seconds: u64) -> Rule {
        Rule { how, limit, window: Duration::from_secs(seconds), burst: limit }
    }

    fn at(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    /// Rows of a time and what is seen then: granted, remaining, reset and wait in milliseconds.
    fn check(rule: Rule, rows: &[(u64, bool, u64, u64, u64)]) {
        let mut limiter = Limiter::new(&rule, at(rows[0].0));
        for (number, (now, granted, remaining, reset, wait)) in rows.iter().enumerate() {
            let expected =
                Standing { granted: *granted, remaining: *remaining, reset: at(*reset), wait: at(*wait) };
            assert_eq!(limiter.ask(&rule, at(*now)), expected, "row {number} of {rule:?}");
        }
        let granted = rows.iter().filter(|row| row.1).count() as u64;
        assert_eq!(limiter.usage, Usage { granted, refused: rows.len() as u64 - granted });
    }

    #[test]
    fn a_fixed_window_begins_with_a_request_and_ends_at_once() {
        check(
            rule(How::Fixed, 2, 10),
            &[
                (3_000, true, 1, 10_000, 0),
                (8_000, true, 0, 5_000, 5_000),
                (12_999, false, 0, 1, 1),
                (13_000, true, 1, 10_000, 0),
                (40_000, true, 1, 10_000, 0),
            ],
        );
    }

    #[test]
    fn a_sliding_window_grants_one_as_one_leaves() {
        check(
            rule(How::Sliding, 2, 10),
            &[
                (0, true, 1, 10_000, 0),
                (6_000, true, 0, 4_000, 4_000),
                (9_999, false, 0, 1, 1),
                (10_000, true, 0, 6_000, 6_000),
                (15_999, false, 0, 1, 1),
                (16_000, true, 0, 4_000, 4_000),
            ],
        );
    }

    #[test]
    fn a_bucket_fills_evenly_and_never_above_its_burst() {
        let bucket = Rule { burst: 3, ..rule(How::Bucket, 2, 10) };
        check(
            bucket,
            &[
                (0, true, 2, 5_000, 0),
                (0, true, 1, 10_000, 0),
                (0, true, 0, 15_000, 5_000),
                (4_999, false, 0, 10_001, 1),
                (5_000, true, 0, 15_000, 5_000),
                (60_000, true, 2, 5_000, 0),
            ],
        );
    }

    #[test]
    fn in_every_window_as_many_are_granted_as_the_limit_says() {
        // A fixed window lets twice its limit pass around its end, a bucket its burst besides.
        for (how, most) in [(How::Fixed, 10), (How::Sliding, 5), (How::Bucket, 10)] {
            let rule = rule(how, 5, 1);
            let mut limiter = Limiter::new(&rule, Duration::ZERO);
            let mut granted = Vec::new();
            let mut now = 0;
            for step in 0..20_000_u64 {
                now += step * step % 41;
                if limiter.ask(&rule, at(now)).granted {
                    granted.push(now);
                }
            }
            let seconds = now / 1000;
            assert!(
                granted.len() as u64 >= seconds * 4 && granted.len() as u64 <= seconds * 5 + 10,
                "{how:?}"
            );
            for (index, first) in granted.iter().enumerate() {
                let within = granted[index..].iter().take_while(|at| **at < first + 1000).count();
                assert!(within <= most, "{how:?}: {within} from {first} on");
            }
        }
    }

    #[test]
    fn whoever_waits_as_long_as_told_is_granted_and_nobody_sooner() {
        for how in [How::Fixed, How::Sliding, How::Bucket] {
            let rule = rule(how, 7, 3);
            let mut limiter = Limiter::new(&rule, Duration::ZERO);
            let mut now = Duration::ZERO;
            for step in 0..1_000_u64 {
                let standing = limiter.ask(&rule, now);
                assert!(standing.granted, "{how:?} at {now:?}");
                if standing.remaining == 0 {
                    let early = now + standing.wait - Duration::from_nanos(1);
                    assert!(!limiter.ask(&rule, early).granted, "{how:?} at {early:?}");
                }
                now += standing.wait + at(step % 5);
            }
        }
    }

    #[test]
    fn a_limit_may_be_lowered_on_the_way() {
        for how in [How::Fixed, How::Sliding, How::Bucket] {
            let (high, low) = (rule(how, 10, 10), rule(how, 2, 10));
            let mut limiter = Limiter::new(&high, Duration::ZERO);
            for _ in 0..5 {
                assert!(limiter.ask(&high, at(0)).granted);
            }
            let refused = match how {
                // What the bucket held is cut to what it may hold now.
                How::Bucket => {
                    assert!(limiter.ask(&low, at(0)).granted && limiter.ask(&low, at(0)).granted);
                    limiter.ask(&low, at(0))
                }
                _ => limiter.ask(&low, at(0)),
            };
            let wait = if how == How::Bucket { 5_000 } else { 10_000 };
            assert_eq!((refused.granted, refused.remaining, refused.wait), (false, 0, at(wait)), "{how:?}");
            assert!(limiter.ask(&low, refused.wait).granted, "{how:?}");
        }
    }
}
