//! A row under way, as it passes between the scheduler and those who send it.

use std::time::{Duration, Instant};

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
    pub(crate) authorization: Option<Box<str>>,
    pub(crate) attempts: u32,
    pub(crate) redirects: u16,
    /// Whether a request of it that is not idempotent was answered, with a redirect that made a GET of it.
    pub(crate) has_acted: bool,
    /// Whether it must go out on a connection of its own making (rule 3 of `retry`).
    pub(crate) on_new_connection: bool,
    pub(crate) started: Option<Instant>,
    /// When it must have ended, redirects included.
    pub(crate) deadline: Option<Instant>,
    /// The span that the deadline stands for.
    pub(crate) limit: Option<Duration>,
}

impl Job {
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

/// How one sending of a row ended.
#[derive(Debug)]
pub(crate) enum End {
    Answered(Response),
    /// Nothing of the row was written: no connection.
    NotConnected(Error),
    /// It was not even tried, for want of a descriptor.
    NotTried,
    /// Broken on the wire.
    Broken(Error, Failed),
    /// It ends like this whatever the rules say: a panic while it was worked on, an interrupt before it was sent.
    Over(Error),
}
