//! When enough is enough: failures counted, and what they end.
//!
//! A row counts once, when it ends, however often it was sent; one that is no request counts as it is refused, and one that was left
//! unsent does not. Failures are counted in all, not in a row: that is what the names say, what a user can foresee, and what other tools do that have such a
//! limit. Left out, a limit does not bind.
//!
//! - `max_failures_per_host`: after so many failures that say something of the host, its waiting rows are `not_sent`.
//! - `max_failures`: after so many failures of any kind, all waiting rows are.
//!
//! Rows in flight end as they end, in either case: what was sent is waited for, so that nothing ends in doubt.

/// The limits of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Breaker {
    per_host: Option<u64>,
    in_all: Option<u64>,
    failures: u64,
    tripped: bool,
}

/// The failures of one origin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct HostFailures {
    failures: u64,
    tripped: bool,
}

/// How a row ended, as far as a breaker cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Answered below 400.
    Fine,
    /// A failure that is the row's own: a bad request, 4xx, a body too large. Nothing is wrong with the host.
    OfRow,
    /// A failure that the next row there may well share: no connection, no answer, 429, 5xx.
    OfHost,
}

/// What is not sent from here on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trip {
    /// Rows of this host.
    Host,
    /// Any row.
    Batch,
}

impl Ended {
    /// What a status says. A whole answer came, or it would be an error.
    pub(crate) fn with_status(status: u16) -> Self {
        match status {
            ..400 => Self::Fine,
            408 | 429 | 500.. => Self::OfHost,
            400.. => Self::OfRow,
        }
    }
}

impl Breaker {
    pub(crate) fn new(per_host: Option<u64>, in_all: Option<u64>) -> Self {
        Self { per_host, in_all, ..Self::default() }
    }

    /// A row ended: says so once, when a limit is reached.
    pub(crate) fn ended(&mut self, host: &mut HostFailures, ended: Ended) -> Option<Trip> {
        if ended == Ended::Fine {
            return None;
        }
        self.failures += 1;
        host.failures += u64::from(ended == Ended::OfHost);
        if !self.tripped && self.in_all.is_some_and(|most| self.failures >= most) {
            self.tripped = true;
            return Some(Trip::Batch);
        }
        if !host.tripped && self.per_host.is_some_and(|most| host.failures >= most) {
            host.tripped = true;
            return Some(Trip::Host);
        }
        None
    }

    /// A row was refused before it was anybody's: says so once, when a limit is reached.
    pub(crate) fn refused(&mut self) -> Option<Trip> {
        self.ended(&mut HostFailures::default(), Ended::OfRow)
    }

    /// What a row is told that is not sent for it.
    pub(crate) fn message(&self) -> String {
        format!("{} failed", rows(self.failures))
    }
}

impl HostFailures {
    /// Whether no row is sent to the host any more.
    pub(crate) fn is_open(&self) -> bool {
        self.tripped
    }

    /// What a row of the host is told that is not sent for it.
    pub(crate) fn message(&self) -> String {
        format!("{} failed for this host", rows(self.failures))
    }
}

fn rows(count: u64) -> String {
    if count == 1 { "1 row".into() } else { format!("{count} rows") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backoff::Jitter;
    use Ended::{Fine, OfHost, OfRow};

    /// At which failure what trips.
    fn trips(breaker: &mut Breaker, endings: &[Ended]) -> Vec<(usize, Trip)> {
        let mut host = HostFailures::default();
        let told = |(at, ended): (usize, &Ended)| breaker.ended(&mut host, *ended).map(|trip| (at, trip));
        endings.iter().enumerate().filter_map(told).collect()
    }

    #[test]
    #[rustfmt::skip]
    fn the_limits_as_a_table() {
        for (per_host, in_all, endings, expected) in [
            (None,    None,    &[OfHost; 99][..],                          vec![]),
            (Some(3), None,    &[OfHost, OfHost, OfHost, OfHost],          vec![(2, Trip::Host)]),
            (Some(3), None,    &[OfHost, Fine, OfHost, Fine, OfHost],      vec![(4, Trip::Host)]),
            (Some(3), None,    &[OfRow; 99],                               vec![]),
            (None,    Some(2), &[OfRow, Fine, OfHost, OfHost],             vec![(2, Trip::Batch)]),
            (None,    Some(1), &[Fine, Fine, OfRow, OfRow],                vec![(2, Trip::Batch)]),
            (Some(1), Some(2), &[OfHost, OfHost, OfHost],                  vec![(0, Trip::Host), (1, Trip::Batch)]),
            (Some(1), Some(1), &[OfHost, OfHost, OfHost],                  vec![(0, Trip::Batch), (1, Trip::Host)]),
        ] {
            let mut breaker = Breaker::new(per_host, in_all);
            assert_eq!(trips(&mut breaker, endings), expected, "{per_host:?} {in_all:?}");
        }
    }

    #[test]
    fn a_status_says_whose_failure_it_is() {
        for (status, expected) in [
            (200, Fine),
            (302, Fine),
            (399, Fine),
            (400, OfRow),
            (404, OfRow),
            (408, OfHost),
            (429, OfHost),
            (500, OfHost),
            (503, OfHost),
            (599, OfHost),
        ] {
            assert_eq!(Ended::with_status(status), expected, "{status}");
        }
    }

    #[test]
    fn one_host_never_trips_another() {
        let mut breaker = Breaker::new(Some(2), None);
        let (mut dead, mut well) = (HostFailures::default(), HostFailures::default());
        for _ in 0..9 {
            breaker.ended(&mut dead, OfHost);
        }
        assert_eq!(breaker.ended(&mut well, OfHost), None);
        assert!(dead.is_open() && !well.is_open() && !breaker.tripped);
        assert_eq!(well.message(), "1 row failed for this host");
        assert_eq!(breaker.message(), "10 rows failed");
    }

    #[test]
    fn a_limit_trips_once_and_exactly_when_it_is_reached() {
        for seed in 0..10_000 {
            let mut random = Jitter::seeded(seed);
            let per_host = (random.below(3) > 0).then(|| random.below(20) + 1);
            let in_all = (random.below(3) > 0).then(|| random.below(60) + 1);
            let mut breaker = Breaker::new(per_host, in_all);
            let mut hosts = [HostFailures::default(); 3];
            let (mut counts, mut all) = ([0; 3], 0);
            for _ in 0..80 {
                let which = random.below(3) as usize;
                let ended = [Fine, OfRow, OfHost][random.below(3) as usize];
                breaker.ended(&mut hosts[which], ended);
                counts[which] += u64::from(ended == OfHost);
                all += u64::from(ended != Fine);
                assert_eq!(breaker.tripped, in_all.is_some_and(|most| all >= most), "seed {seed}");
                for (host, count) in hosts.iter().zip(counts) {
                    // A host whose limit falls together with that of the batch trips at its next failure.
                    let due =
                        per_host.is_some_and(|most| count > most || (count == most && !breaker.tripped));
                    assert!(!due || host.is_open(), "seed {seed}");
                    assert!(!host.is_open() || per_host.is_some_and(|most| count >= most), "seed {seed}");
                }
            }
        }
    }
}
