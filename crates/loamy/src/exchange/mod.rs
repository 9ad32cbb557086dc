//! One hop on one connection: the request is written, the response read and decoded. [`single`] has a connection to
//! itself, [`multiplexed`] a stream of one that it shares; what a row may take and what becomes of its answer is the same.

pub(crate) mod multiplexed;
pub(crate) mod single;

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::HeaderMap;

use crate::headers::Headers;
use crate::job::{End, Job};
use crate::policy::{Policy, Sizes, Timeouts};
use crate::retry::Failed;
use crate::target::Origin;
use crate::transport::connect::seconds;
use crate::transport::h2;
use crate::{Error, Kind, Response, decode, framing, redirect};

/// Memory for reading and writing, shared by all connections of a thread: idle ones hold none.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    read: Vec<u8>,
    write: Vec<u8>,
}

/// What all exchanges of a batch go by.
#[derive(Debug)]
pub(crate) struct Terms {
    pub(crate) policy: Arc<Policy>,
    at_home: Defaults,
    /// For rows that a redirect has led away from their origin, where they differ.
    abroad: Option<Defaults>,
}

/// The fields that every row is sent with unless it sets them itself.
#[derive(Debug)]
struct Defaults {
    headers: Headers,
    /// The same, as HTTP/2 has them.
    fields: HeaderMap,
}

impl Terms {
    pub(crate) fn new(policy: Arc<Policy>) -> Self {
        let (at_home, abroad) = (defaults(&policy), defaults_abroad(&policy));
        Self { policy, at_home: Defaults::new(at_home), abroad: abroad.map(Defaults::new) }
    }

    fn defaults(&self, job: &Job) -> &Defaults {
        match &self.abroad {
            Some(abroad) if job.is_abroad => abroad,
            _ => &self.at_home,
        }
    }
}

impl Defaults {
    fn new(headers: Headers) -> Self {
        Self { fields: h2::defaults(headers.view()), headers }
    }
}

fn defaults(policy: &Policy) -> Headers {
    let mut headers = policy.headers.clone();
    let codings = if cfg!(feature = "decompression") { "gzip, deflate, br, zstd" } else { "identity" };
    let user_agent = concat!("loamy/", env!("CARGO_PKG_VERSION"));
    for (name, value) in [("Accept", "*/*"), ("Accept-Encoding", codings), ("User-Agent", user_agent)] {
        if headers.view().get(name).is_none() {
            // The names and values are well-formed, so nothing is refused.
            let _ = headers.append(name, value);
        }
    }
    headers
}

/// None where there is nothing that must stay behind.
fn defaults_abroad(policy: &Policy) -> Option<Headers> {
    let mut headers = policy.headers.clone();
    redirect::leave_behind(&mut headers, policy);
    (headers.view().as_bytes() != policy.headers.view().as_bytes())
        .then(|| defaults(&Policy { headers, ..policy.clone() }))
}

/// The end of an exchange.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) end: End,
    /// Whether the connection may serve another row.
    pub(crate) reusable: bool,
    /// Whether the peer wants the row over HTTP/1.1.
    pub(crate) wants_http1: bool,
}

/// What a row on the wire waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Write,
    FirstByte,
    Read,
}

/// How long a peer that is asked whether it wants the body of a request, and says nothing, keeps it waiting: it may know nothing of such
/// questions (RFC 9110 §10.1.1).
const WANTED_WITHIN: Duration = Duration::from_secs(1);

/// Until when the body of the row is held back, unless the peer says before that it wants it; None where nobody is asked.
fn held_until(job: &Job, terms: &Terms, now: Instant) -> Option<Instant> {
    let has_body = job.request.body.as_ref().is_some_and(|body| !body.is_empty());
    let asks = || {
        let own = job.request.headers.view();
        framing::expects_continue(if own.get("expect").is_some() {
            own
        } else {
            terms.defaults(job).headers.view()
        })
    };
    (has_body && asks()).then(|| now + WANTED_WITHIN)
}

/// How long a row on the wire may take.
#[derive(Debug)]
struct Pace {
    deadline: Option<Instant>,
    limit: Option<Duration>,
    timeouts: Timeouts,
    /// When bytes last moved.
    advanced: Instant,
    /// Until when the body waits for the peer's word that it wants it.
    held_until: Option<Instant>,
}

impl Pace {
    fn new(job: &Job, terms: &Terms, now: Instant) -> Self {
        Self {
            deadline: job.deadline,
            limit: job.limit,
            timeouts: *job.timeouts(&terms.policy),
            advanced: now,
            held_until: held_until(job, terms, now),
        }
    }

    /// Whether the body still waits.
    fn holds_the_body(&self) -> bool {
        self.held_until.is_some()
    }

    /// The body waits no longer.
    fn let_the_body_go(&mut self, now: Instant) {
        self.held_until = None;
        self.advanced = now;
    }

    /// Whether the peer had its time to say that it wants the body, which then goes without its word.
    fn waits_no_longer(&mut self, now: Instant) -> bool {
        let is_over = self.held_until.is_some_and(|until| until <= now);
        if is_over {
            self.let_the_body_go(now);
        }
        is_over
    }

    /// When the row must have moved on, and what it is called if it has not.
    fn deadline(&self, phase: Phase) -> Option<(Instant, Kind)> {
        let (span, kind) = match phase {
            Phase::Write => (self.timeouts.write, Kind::TimeoutWrite),
            Phase::FirstByte => (self.timeouts.first_byte, Kind::TimeoutFirstByte),
            Phase::Read => (self.timeouts.read, Kind::TimeoutRead),
        };
        // What is held goes when the peer answers nothing, and never once it has answered.
        let held = self.held_until.filter(|_| phase == Phase::FirstByte).map(|at| (at, Kind::TimeoutWrite));
        let phase = span.and_then(|span| Some((self.advanced.checked_add(span)?, kind)));
        let total = self.deadline.map(|at| (at, Kind::TimeoutTotal));
        [held, phase, total].into_iter().flatten().min_by_key(|(at, _)| *at)
    }

    /// The error of a row whose time is over.
    fn late(&self, kind: Kind, origin: &Origin) -> Error {
        let own = &self.timeouts;
        let message = match kind {
            Kind::TimeoutWrite => format!("{origin} took nothing of the request for {}", seconds(own.write)),
            Kind::TimeoutFirstByte => format!("no response from {origin} within {}", seconds(own.first_byte)),
            Kind::TimeoutRead => format!("the response of {origin} paused for {}", seconds(own.read)),
            _ => format!("no whole response from {origin} within {}", seconds(self.limit)),
        };
        Error::new(kind, message)
    }
}

/// What becomes of a response that is whole.
#[derive(Clone, Copy, Debug)]
struct Taking {
    sizes: Sizes,
    follows_redirects: bool,
}

impl Taking {
    fn new(job: &Job, policy: &Policy) -> Self {
        Self { sizes: policy.sizes, follows_redirects: redirect::limit(&job.request, policy) > 0 }
    }

    /// Undoes the content coding. The body of a redirect that is followed is nobody's to read.
    fn decoded(&self, mut response: Response, is_coded: bool) -> Result<Response, Error> {
        let is_passed_on = self.follows_redirects && redirect::is_redirect(response.status);
        if !is_coded || is_passed_on {
            return Ok(response);
        }
        match decode::decoded(response.headers().as_bytes(), response.body(), &self.sizes) {
            Ok(decoded) => {
                if let Some(decoded) = decoded {
                    response.bytes = decoded.into();
                }
                Ok(response)
            }
            Err(error) => Err(error.with_response(Some(response))),
        }
    }
}

pub(crate) fn cancelled() -> Error {
    Error::new(Kind::Cancelled, "the batch was interrupted")
}

/// The end of a row that failed, with what moved until then.
fn failed(error: Error, sent: u64, received: u64, reused: bool) -> End {
    let kind = error.kind();
    let failed = Failed { kind, sent, received, reused, was_to_end: false, asked_for_calm: false };
    End::Broken(error.moved(sent, received), failed)
}
