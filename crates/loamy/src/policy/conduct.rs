//! How a batch behaves towards servers: what it sends again, how it paces itself, when it gives up.

use std::time::Duration;

/// Which rows are sent again under [`Policy::retries`](crate::Policy::retries) where the effect of a sending is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Retried {
    /// Those whose second sending does no more than the first: idempotent methods (RFC 9110 §9.2.2) and rows with an
    /// `Idempotency-Key`.
    #[default]
    Idempotent,
    /// All, so that a POST may take effect twice.
    All,
}

/// How long a row waits before it is sent again: a span drawn from nothing to a ceiling that doubles with each sending (full
/// jitter), so that rows which failed together do not come back together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The first ceiling: 0.5 s.
    pub base: Duration,
    /// The highest ceiling: 20 s. Only a peer that asks for it makes a row wait longer.
    pub cap: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { base: Duration::from_millis(500), cap: Duration::from_secs(20) }
    }
}

/// Whether what origins say about their limits is obeyed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Governor {
    /// A refusal (429, or 503 with Retry-After) pauses its origin, and a quota that is published paces it.
    #[default]
    On,
    /// Each row fares for itself.
    Off,
}

/// How the number of rows in flight for an origin is found, within [`Policy::concurrency`](crate::Policy::concurrency).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Adaptive {
    /// One more a round while it goes well, a tenth less when rows are refused or take longer (additive increase,
    /// multiplicative decrease).
    Aimd,
    /// By the quotient of the usual time and the last, as Netflix's Gradient2.
    Gradient2,
}

/// Whether rows get an `Idempotency-Key`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Idempotency {
    /// Only those that were given one.
    #[default]
    AsGiven,
    /// POST and PATCH rows without one get one that is made of the job's name and the row's tag, or its index where it has
    /// none: the same in every retry, every resume and on every host.
    Auto {
        /// What tells this job's keys from those of others.
        job: Box<str>,
    },
}

/// What becomes of rows that ask for the same with a safe method (RFC 9110 §9.2.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Duplicates {
    /// Each is sent.
    #[default]
    Send,
    /// The first is sent, and its outcome is that of all. It is kept for those that may still come, so memory grows with
    /// what is asked for, not with what is asked.
    Share,
}

/// Whether an idempotent row that takes long gets a second try beside the first: at most one in twenty does. The first answer
/// wins, the other try is cancelled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Hedging {
    /// No row does.
    #[default]
    Off,
    /// Those that take longer than 19 of 20 did so far.
    Auto,
    /// Those that take longer than this.
    After(Duration),
}
