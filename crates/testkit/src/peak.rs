//! A server that has a peak: up to some number of requests at once it is quick, beyond it does
//! less the more is asked of it, and in the end it refuses. A function of what was asked before
//! and of the time that the caller gives.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

/// How a server bears its load.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Curve {
    /// Up to so many requests in service, each takes `service`.
    pub at: u64,
    /// Beyond so many, requests are refused.
    pub most: u64,
    pub service: Duration,
}

/// What became of the requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeakUsage {
    /// Those that were taken into service.
    pub served: u64,
    /// Those that were refused.
    pub refused: u64,
    /// The greatest number in service at once.
    pub most: u64,
}

/// The requests in service. One whose client has gone stays until its time is over: the server
/// works for nobody then.
#[derive(Default)]
pub(crate) struct Peak {
    leaving: BinaryHeap<Reverse<Duration>>,
    pub usage: PeakUsage,
}

/// What becomes of one request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    Taken {
        /// With this one.
        in_service: u64,
        time: Duration,
    },
    Refused {
        in_service: u64,
        /// Until the next one leaves.
        wait: Duration,
    },
}

impl Peak {
    pub(crate) fn arrive(&mut self, curve: &Curve, now: Duration) -> Admission {
        while self.leaving.peek().is_some_and(|Reverse(leaves)| *leaves <= now) {
            self.leaving.pop();
        }
        let before = self.leaving.len() as u64;
        if before >= curve.most {
            self.usage.refused += 1;
            let next = self.leaving.peek().map_or(now, |Reverse(leaves)| *leaves);
            return Admission::Refused { in_service: before, wait: next - now };
        }
        let in_service = before + 1;
        let time = curve.time(in_service);
        self.leaving.push(Reverse(now + time));
        self.usage.served += 1;
        self.usage.most = self.usage.most.max(in_service);
        Admission::Taken { in_service, time }
    }
}

impl Curve {
    /// How long a request takes when so many are in service. What is done in a second is
    /// `in_service` by this: flat up to `at`, and less and less beyond.
    fn time(&self, in_service: u64) -> Duration {
        const DECLINE: f64 = 0.1;
        let over = in_service as f64 / self.at as f64;
        let factor = if over > 1.0 { over * (1.0 + DECLINE * (over - 1.0)) } else { 1.0 };
        self.service.mul_f64(factor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CURVE: Curve = Curve { at: 25, most: 50, service: Duration::from_millis(20) };

    /// How many requests are done in 10 s by so many clients, each of which asks again at once
    /// when it is answered, and 5 ms later when it is refused.
    fn done(clients: usize) -> (u64, PeakUsage) {
        let mut peak = Peak::default();
        let mut asking: BinaryHeap<_> = vec![Reverse(Duration::ZERO); clients].into();
        let mut done = 0;
        while let Some(Reverse(now)) = asking.pop().filter(|Reverse(now)| *now < Duration::from_secs(10)) {
            asking.push(Reverse(match peak.arrive(&CURVE, now) {
                Admission::Taken { time, .. } => {
                    done += 1;
                    now + time
                }
                Admission::Refused { .. } => now + Duration::from_millis(5),
            }));
        }
        (done, peak.usage)
    }

    #[test]
    fn throughput_rises_to_the_peak_and_falls_beyond() {
        let (half, at, beyond, far) = (done(12).0, done(25).0, done(38).0, done(50).0);
        assert_eq!((half, at), (12 * 500, 25 * 500));
        // 38 / 25 is 1.52 times the load, each of which takes 1.52 * 1.052 times as long.
        let expected = |over: f64| 12_500.0 / (1.0 + 0.1 * (over - 1.0));
        for (seen, over) in [(beyond, 1.52), (far, 2.0)] {
            let ratio = seen as f64 / expected(over);
            assert!((0.98..1.02).contains(&ratio), "{seen} at {over}");
        }
        assert!(far < beyond && beyond < at);
    }

    #[test]
    fn beyond_the_most_it_refuses_and_is_none_the_slower() {
        let (usage, full) = (done(80).1, done(50).1);
        assert_eq!((usage.most, full.most, full.refused), (50, 50, 0));
        assert!(usage.refused > 0);
        let ratio = usage.served as f64 / full.served as f64;
        assert!((0.95..1.05).contains(&ratio), "{usage:?} {full:?}");
    }

    #[test]
    fn a_refusal_tells_when_the_next_one_leaves() {
        let mut peak = Peak::default();
        let curve = Curve { at: 2, most: 2, ..CURVE };
        let at = Duration::from_millis;
        assert_eq!(peak.arrive(&curve, at(0)), Admission::Taken { in_service: 1, time: at(20) });
        assert_eq!(peak.arrive(&curve, at(5)), Admission::Taken { in_service: 2, time: at(20) });
        assert_eq!(peak.arrive(&curve, at(19)), Admission::Refused { in_service: 2, wait: at(1) });
        assert_eq!(peak.arrive(&curve, at(20)), Admission::Taken { in_service: 2, time: at(20) });
        assert_eq!(peak.usage, PeakUsage { served: 3, refused: 1, most: 2 });
    }
}
