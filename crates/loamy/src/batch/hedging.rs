//! A second try beside the first, for rows that take long. The first answer is the row's; the other try is cancelled.
//!
//! Only the first sending of a row that is idempotent or keyed gets one, and at most one in twenty of those does. It waits for a slot as any
//! row does and costs what any sending costs. Where one try fails, the other goes on alone.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use crate::Kind;
use crate::job::{Job, OriginId, Try};
use crate::outcome::Attempt;
use crate::policy::Hedging;

/// One row in so many gets a second try at the most.
const ONE_IN: u64 = 20;

/// Answers that are looked at to know what is usual, and how many must have come before anything is.
const ANSWERS: usize = 128;
const ENOUGH: usize = 20;

/// See the head of this file.
#[derive(Debug)]
pub(super) struct Hedges {
    after: Option<Duration>,
    /// How long the last answers took; unused where `after` is given.
    usual: Option<Usual>,
    /// Rows whose first try is under way, by when it began.
    first: BTreeMap<(Instant, usize), Box<Job>>,
    second: HashMap<usize, Second>,
    /// Tries that another one outran, until they are gone.
    outrun: BTreeSet<(usize, Try)>,
    /// Whether one was added that nobody was told of.
    has_news: bool,
    sent: u64,
    spent: u64,
}

/// Where the second try of a row is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Second {
    Waits(OriginId),
    UnderWay,
    /// One of the two has ended like this, if it was sent at all, and the other goes on.
    OneLeft(Option<Attempt>),
}

#[derive(Debug, Default)]
struct Usual {
    spans: Vec<Duration>,
    next: usize,
}

/// How a try ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    Answered,
    Failed(Kind),
    NotTried,
}

/// What the end of a try means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// It is how the sending of the row ended.
    TheRow,
    /// So it is; and the second try, which still waits, is to be taken back.
    TheRowTakeBack(OriginId),
    /// So it is; and the other try was never made.
    TheRowAlone,
    /// So it is; and this is what became of the other try.
    TheRowBeside(Attempt),
    /// The row goes on without it.
    Nothing,
}

impl Hedges {
    pub(super) fn new(hedging: Hedging) -> Option<Self> {
        let (after, usual) = match hedging {
            Hedging::Off => return None,
            Hedging::Auto => (None, Some(Usual::default())),
            Hedging::After(span) => (Some(span), None),
        };
        Some(Self {
            after,
            usual,
            first: BTreeMap::new(),
            second: HashMap::new(),
            outrun: BTreeSet::new(),
            has_news: false,
            sent: 0,
            spent: 0,
        })
    }

    /// A try was granted its slot.
    pub(super) fn granted(&mut self, now: Instant, job: &Job) {
        if let Some(second) = self.second.get_mut(&job.index) {
            *second = Second::UnderWay;
        } else if is_counted(job) {
            self.sent += 1;
            self.first.insert((now, job.index), Box::new(job.second_try()));
        }
    }

    /// The next row that has taken too long, to be queued as its second try.
    pub(super) fn due(&mut self, now: Instant) -> Option<Box<Job>> {
        while self.next_due().is_some_and(|at| at <= now)
            && let Some(entry) = self.first.first_entry()
        {
            let (index, job) = (entry.key().1, entry.remove());
            if (self.spent + 1) * ONE_IN <= self.sent {
                self.spent += 1;
                self.second.insert(index, Second::Waits(job.origin));
                return Some(job);
            }
        }
        None
    }

    /// When [`due`](Self::due) has something.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let ((began, _), _) = self.first.first_key_value()?;
        began.checked_add(self.after?)
    }

    /// A try ended.
    pub(super) fn ended(&mut self, now: Instant, job: &Job, ended: Ended) -> Meaning {
        if self.outrun.remove(&(job.index, job.which)) {
            return Meaning::Nothing;
        }
        let claimed = job.claimed.unwrap_or(now);
        if ended == Ended::Answered
            && let Some(usual) = &mut self.usual
        {
            usual.add(now.saturating_duration_since(claimed));
            self.after = usual.most();
        }
        self.first.remove(&(claimed, job.index));
        let second = self.second.remove(&job.index);
        if ended == Ended::NotTried {
            // A row counts when it is tried, and once.
            match second {
                Some(Second::Waits(_)) => (self.sent, self.spent) = (self.sent - 1, self.spent - 1),
                Some(Second::OneLeft(None)) => self.sent -= 1,
                None if is_counted(job) => self.sent -= 1,
                _ => {}
            }
        }
        match second {
            None => Meaning::TheRow,
            Some(Second::Waits(origin)) => Meaning::TheRowTakeBack(origin),
            Some(Second::OneLeft(None)) => Meaning::TheRowAlone,
            Some(Second::OneLeft(Some(other))) => Meaning::TheRowBeside(other),
            Some(Second::UnderWay) => {
                let own = match ended {
                    Ended::Answered => {
                        self.outrun.insert((job.index, job.which.other()));
                        self.has_news = true;
                        return Meaning::TheRowBeside(Attempt::Outrun);
                    }
                    Ended::Failed(kind) => Some(Attempt::Failed(kind)),
                    Ended::NotTried => None,
                };
                self.second.insert(job.index, Second::OneLeft(own));
                Meaning::Nothing
            }
        }
    }

    /// A job that waited does so no more. Says whether it was the second try of a row whose first is under way.
    pub(super) fn take_back(&mut self, job: &Job) -> bool {
        let waits = matches!(self.second.get(&job.index), Some(Second::Waits(_)));
        if waits {
            self.second.remove(&job.index);
            self.spent -= 1;
        }
        waits
    }

    /// Whether there is a try to cancel of which this was not said before.
    pub(super) fn has_news(&mut self) -> bool {
        std::mem::take(&mut self.has_news)
    }

    /// Whether another try outran this one.
    pub(super) fn is_outrun(&self, job: &Job) -> bool {
        self.outrun.contains(&(job.index, job.which))
    }

    /// The tries that are to be cancelled wherever they are.
    pub(super) fn outrun(&self) -> impl Iterator<Item = (usize, Try)> {
        self.outrun.iter().copied()
    }

    /// Second tries that wait.
    pub(super) fn waiting(&self) -> usize {
        self.count(|second| matches!(second, Second::Waits(_)))
    }

    /// Tries under way beyond the one that each row under way has.
    pub(super) fn beside(&self) -> usize {
        self.count(|second| *second == Second::UnderWay) + self.outrun.len()
    }

    fn count(&self, which: impl Fn(&Second) -> bool) -> usize {
        self.second.values().filter(|second| which(second)).count()
    }
}

/// Whether it is the first sending of a row that may have a second try.
fn is_counted(job: &Job) -> bool {
    job.attempts == 1 && job.redirects == 0 && job.request.is_idempotent()
}

impl Usual {
    fn add(&mut self, span: Duration) {
        if self.spans.len() < ANSWERS {
            return self.spans.push(span);
        }
        self.spans[self.next] = span;
        self.next = (self.next + 1) % ANSWERS;
    }

    /// What 19 of 20 did not exceed.
    fn most(&self) -> Option<Duration> {
        let mut spans = self.spans.clone();
        let rank = spans.len() - spans.len() / 20 - 1;
        (spans.len() >= ENOUGH).then(|| *spans.select_nth_unstable(rank).1)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::batch::{Batch, Claim};
    use crate::job::End;
    use crate::{Error, Policy, Request};

    #[test]
    fn a_try_that_was_not_made_is_not_counted() {
        let after = Duration::from_millis(1);
        let policy = Policy::default().hedging(Hedging::After(after));
        for untried in [Try::First, Try::Second] {
            let mut now = crate::clock::now();
            let mut batch = Batch::new(Arc::new(policy.clone()), now, 1);
            for row in 0..ONE_IN {
                batch.admit(now, Request::get(format!("http://h/{row}")));
            }
            let mut tries = Vec::new();
            for _ in 0..2 {
                while let Claim::Granted(job) = batch.claim(now, None, |_| None) {
                    batch.connected(job.origin, ONE_IN as usize);
                    tries.push(job);
                }
                now += after;
                batch.expire(now);
            }
            let second = tries.pop().unwrap();
            assert_eq!((second.which, tries.len()), (Try::Second, ONE_IN as usize));
            let at = tries.iter().position(|job| job.index == second.index).unwrap();
            let (first, index) = (tries.swap_remove(at), second.index);
            let (gone, left) = match untried {
                Try::First => (first, second),
                Try::Second => (second, first),
            };
            batch.settle(now, gone, End::NotTried);
            batch.settle(now, left, End::Over(Error::new(Kind::Internal, "ended")));
            let ended = batch.take_ready();
            assert_eq!((ended[0].index, ended[0].attempts, ended[0].earlier.len()), (index, 1, 0));
        }
    }

    #[test]
    fn of_two_tries_that_were_not_made_the_row_is_tried_anew_and_may_be_hedged_again() {
        let after = Duration::from_millis(1);
        let policy = Policy::default().hedging(Hedging::After(after));
        let mut now = crate::clock::now();
        let mut batch = Batch::new(Arc::new(policy), now, 1);
        for row in 0..ONE_IN {
            batch.admit(now, Request::get(format!("http://h/{row}")));
        }
        let mut tries = Vec::new();
        let mut claim = |batch: &mut Batch, now| {
            while let Claim::Granted(job) = batch.claim(now, None, |_| None) {
                batch.connected(job.origin, ONE_IN as usize);
                tries.push(job);
            }
            (tries.pop().unwrap(), std::mem::take(&mut tries))
        };
        let (last, mut others) = claim(&mut batch, now);
        others.push(last);
        now += after;
        batch.expire(now);
        let (second, _) = claim(&mut batch, now);
        let (index, at) = (second.index, others.iter().position(|job| job.index == second.index).unwrap());
        let first = others.swap_remove(at);
        batch.settle(now, first, End::NotTried);
        batch.settle(now, second, End::NotTried);
        let (first, _) = claim(&mut batch, now);
        assert_eq!((first.index, first.which, first.attempts), (index, Try::First, 1));
        for row in 0..ONE_IN {
            batch.admit(now, Request::get(format!("http://h/later/{row}")));
        }
        let (last, more) = claim(&mut batch, now);
        others.extend(more);
        others.push(last);
        now += after;
        batch.expire(now);
        let (second, _) = claim(&mut batch, now);
        assert_eq!((second.index, second.which), (index, Try::Second));
        let answer = || crate::Response {
            status: 200,
            version: http::Version::HTTP_11,
            redirects: 0,
            head: 0,
            bytes: Default::default(),
            url: "http://h/".into(),
        };
        batch.settle(now, second, End::Answered(answer()));
        assert_eq!(batch.outrun(), [(index, Try::First)]);
        batch.settle(now, first, End::Answered(answer()));
        assert_eq!((batch.outrun().len(), batch.take_ready().len()), (0, 1));
        assert_eq!(batch.progress().in_flight, others.len());
    }
}
