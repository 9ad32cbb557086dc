//! A row under way, as it passes between the scheduler and those who send it.

use std::time::{Duration, Instant};

use crate::governor::Sending;
use crate::mask::Secret;
use crate::outcome::Attempt;
use crate::policy::Timeouts;
use crate::request::Request;
use crate::retry::Failed;
use crate::{Error, Policy, Response};

/// An origin's number within one batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct OriginId(pub(crate) u32);

/// A row under way.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) index: usize,
    pub(crate) request: Request,
    pub(crate) origin: OriginId,
    pub(crate) path_at: usize,
    /// What userinfo of the URL asks for.
    pub(crate) authorization: Option<Secret>,
    /// Which of the tries that it may have at once this is.
    pub(crate) which: Try,
    pub(crate) attempts: u32,
    /// Whether its next sending is another attempt; a hop belongs to the one before.
    pub(crate) is_new_attempt: bool,
    pub(crate) redirects: u16,
    /// Whether a redirect has led it away from its origin: then the credentials of the policy stay behind, as its own do.
    pub(crate) is_abroad: bool,
    /// What the sendings before the one that is under way may have done.
    pub(crate) acted: Acted,
    /// Whether it would have been sent again, had the budget of its origin not been used up.
    pub(crate) over_budget: bool,
    /// Whether it must go out on a connection of its own making (rule 3 of `retry`).
    pub(crate) on_new_connection: bool,
    pub(crate) costs: Costs,
    /// Whether it may be written, while it holds a slot.
    pub(crate) permit: Permit,
    pub(crate) past: Option<Box<Past>>,
    /// Its number with the governor of where it goes.
    pub(crate) sending: Option<Sending>,
    /// When it took the slot that it holds, or held last.
    pub(crate) claimed: Option<Instant>,
    /// When it had its connection after that.
    pub(crate) sent_at: Option<Instant>,
    pub(crate) started: Option<Instant>,
    /// When it must have ended, redirects included.
    pub(crate) deadline: Option<Instant>,
    /// The span that the deadline stands for.
    pub(crate) limit: Option<Duration>,
}

/// Whether a row that holds a slot may be written. Between the slot and the first byte a connection may have to be made, or a stream
/// become free: what was right then may be wrong now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Permit {
    /// It had no connection when it got its slot, and asks again when it has one. What it costs is held for it until then.
    Reserved,
    /// It may be written at once, and what it costs is paid.
    Given,
    /// It might have been written, but the connection was gone: it asks again when it has another, and pays anew.
    Lapsed,
}

/// What is known of the effect of sendings that have ended, of a row whose effect must not be had twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Acted {
    No,
    /// The server said that it failed (503), which says little of its effect, and the policy has the row sent all the same.
    Unlikely,
    /// The answer never came, or was a redirect that made a GET of the row.
    Likely,
}

/// Where a row waits that was sent before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Again {
    pub(crate) origin: OriginId,
    pub(crate) started: Option<Instant>,
    pub(crate) index: usize,
}

/// Rows that take long may be tried twice at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Try {
    First,
    Second,
}

impl Try {
    pub(crate) fn other(self) -> Self {
        match self {
            Self::First => Self::Second,
            Self::Second => Self::First,
        }
    }
}

/// What became of a row's attempts so far.
#[derive(Debug, Default)]
pub(crate) struct Past {
    pub(crate) attempts: Vec<Attempt>,
    /// How often it was sent again because the policy allows it (rule 4 of `retry`).
    pub(crate) retried: u32,
    /// How the last of these ended, while the row waits for the next: what it ends with if there is none.
    pub(crate) last: Option<Result<Response, Error>>,
}

impl Job {
    /// A row that was never sent.
    pub(crate) fn new(index: usize, request: Request, placed: Placed, costs: Costs) -> Self {
        Self {
            index,
            request,
            origin: placed.origin,
            path_at: placed.path_at,
            authorization: placed.authorization,
            which: Try::First,
            attempts: 0,
            is_new_attempt: true,
            redirects: 0,
            is_abroad: false,
            acted: Acted::No,
            over_budget: false,
            on_new_connection: false,
            costs,
            permit: Permit::Reserved,
            past: None,
            sending: None,
            claimed: None,
            sent_at: None,
            started: None,
            deadline: None,
            limit: None,
        }
    }

    /// The same row, to be tried beside this one.
    pub(crate) fn second_try(&self) -> Self {
        let placed =
            Placed { origin: self.origin, path_at: self.path_at, authorization: self.authorization.clone() };
        Self {
            which: Try::Second,
            attempts: self.attempts,
            is_abroad: self.is_abroad,
            started: self.started,
            deadline: self.deadline,
            limit: self.limit,
            ..Self::new(self.index, self.request.clone(), placed, self.costs.clone())
        }
    }

    /// Where it waits if it is to be sent again.
    pub(crate) fn again(&self) -> Again {
        Again { origin: self.origin, started: self.started, index: self.index }
    }

    /// It has no connection after all.
    pub(crate) fn lapse(&mut self) {
        if self.permit == Permit::Given {
            self.permit = Permit::Lapsed;
        }
    }

    /// How often it was sent again because the policy allows it.
    pub(crate) fn retried(&self) -> u32 {
        self.past.as_ref().map_or(0, |past| past.retried)
    }

    /// Another attempt follows the one that ended like this.
    pub(crate) fn begins_anew(&mut self, ended: Attempt, with: Result<Response, Error>) -> &mut Past {
        self.is_new_attempt = true;
        let past = self.past.get_or_insert_default();
        past.attempts.push(ended);
        past.last = Some(with);
        past
    }

    /// The sending under way goes on elsewhere.
    pub(crate) fn goes_on(&mut self) {
        self.is_new_attempt = false;
        self.redirects += 1;
        if let Some(past) = &mut self.past {
            past.last = None;
        }
    }

    /// It waits, and goes no further. Says what its last sending came to, unless that only led on.
    pub(crate) fn goes_no_further(&mut self) -> Option<Result<Response, Error>> {
        let past = self.past.as_mut()?;
        // What the last one came to is the outcome now, and not one before it.
        past.attempts.truncate(self.attempts.saturating_sub(1) as usize);
        past.last.take()
    }

    /// What it costs of a limit of the policy, by the limit's number.
    pub(crate) fn cost(&self, limit: usize) -> u64 {
        self.costs.as_ref().map_or(1, |costs| costs[limit])
    }

    /// The request target in origin form.
    pub(crate) fn path(&self) -> &str {
        &self.request.url[self.path_at..]
    }

    /// Whether its time is measured by the policy alone, as that of every other row is.
    pub(crate) fn goes_by(&self, policy: &Policy) -> bool {
        std::ptr::eq(self.timeouts(policy), &policy.timeouts) && self.redirects == 0
    }

    /// How long each phase of it may take.
    pub(crate) fn timeouts<'a>(&'a self, policy: &'a Policy) -> &'a Timeouts {
        self.request.overrides.as_ref().and_then(|own| own.timeouts.as_ref()).unwrap_or(&policy.timeouts)
    }
}

/// What a row costs of each limit of the policy, in their order; 1 of each where None.
pub(crate) type Costs = Option<Box<[u64]>>;

/// Where a row goes.
#[derive(Debug)]
pub(crate) struct Placed {
    pub(crate) origin: OriginId,
    /// Where the request target begins in the row's URL.
    pub(crate) path_at: usize,
    /// What userinfo of the URL asks for.
    pub(crate) authorization: Option<Secret>,
}

/// How one sending of a row ended.
#[derive(Debug)]
pub(crate) enum End {
    Answered(Response),
    /// Nothing of the row was written: no connection.
    NotConnected(Error),
    /// It was not even tried, for want of a descriptor.
    NotTried,
    /// Broken on the wire, or before it got there for want of a stream.
    Broken(Error, Failed),
    /// It ends like this whatever the rules say: a panic while it was worked on, an interrupt before it was sent.
    Over(Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_userinfo_asks_for_is_never_printed() {
        let placed = Placed {
            origin: OriginId(0),
            path_at: 8,
            authorization: Some("Basic c2VjcmV0".to_owned().into()),
        };
        let shown = format!("{placed:?}");
        let job = Job::new(0, Request::get("http://h/"), placed, None);
        assert_eq!(job.authorization.as_deref(), Some("Basic c2VjcmV0"));
        let target = crate::target::parse("http://us:er@h/", false).unwrap();
        for shown in [shown, format!("{job:?}"), format!("{:?}", job.second_try()), format!("{target:?}")] {
            assert!(shown.contains("authorization: Some(***)") && !shown.contains("Basic"), "{shown}");
        }
    }
}
