//! Where a batch stands, and what lies before it.

use std::time::Duration;

/// A snapshot of a batch: `waiting + in_flight + settled` is the number of rows admitted so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Rows admitted and not on the wire.
    pub waiting: usize,
    /// Those of them that wait to be sent again.
    pub retrying: usize,
    /// Rows on the wire.
    pub in_flight: usize,
    /// Rows that have their outcome, failed ones included.
    pub settled: usize,
    /// Rows whose outcome is an error.
    pub failed: usize,
}

/// What holds a batch up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outlook {
    /// The origins that take no row now, and for how long.
    pub paused: Vec<Pause>,
    /// How long the rows that wait will take at the least, by the limits and pauses that are known.
    pub at_least: Duration,
}

/// An origin that takes no row for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pause {
    /// As in `https://api.example.com`, with the `limit_key` behind it where there is one.
    pub origin: String,
    /// From now on.
    pub left: Duration,
}
