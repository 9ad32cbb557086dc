//! Where a batch stands.

/// A snapshot of a batch: `waiting + in_flight + settled` is the number of rows admitted so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Rows admitted and not yet sent.
    pub waiting: usize,
    /// Rows on the wire.
    pub in_flight: usize,
    /// Rows that have their outcome, failed ones included.
    pub settled: usize,
    /// Rows whose outcome is an error.
    pub failed: usize,
}
