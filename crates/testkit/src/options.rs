//! What the well-behaved half may be asked for, and the defaults.

use std::time::Duration;

use crate::server::Listen;

/// What the well-behaved server may be asked for.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where it listens. Default: a free port of 127.0.0.1.
    pub listen: Listen,
    /// Closes each connection after so many requests. Default: never.
    pub close_after: Option<u64>,
    /// How the client learns of that. Default: announced.
    pub farewell: Farewell,
    /// Closes a connection that was silent for so long between requests. Default: never.
    pub idle_timeout: Option<Duration>,
    /// Keeps connections and requests in the log, not just the counts. Default: no, so that
    /// a million requests need no memory.
    pub keep_log: bool,
    /// The longest request body in bytes; a longer one is answered 413. Default: 1 GiB.
    pub max_body: usize,
}

/// How a connection is closed after [`Options::close_after`] requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Farewell {
    /// The last answer says `Connection: close`.
    Announced,
    /// It does not: the client may be about to send the next request.
    Silent,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            listen: Listen::default(),
            close_after: None,
            farewell: Farewell::Announced,
            idle_timeout: None,
            keep_log: false,
            max_body: 1 << 30,
        }
    }
}
