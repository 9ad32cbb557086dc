//! What becomes of one row.

use std::fmt;
use std::time::Duration;

use crate::{Error, Kind, Response};

/// The end of one row: exactly one for each request given.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The row's place in the list given, from 0.
    pub index: usize,
    /// The row's own mark, as given.
    pub tag: Option<Box<str>>,
    /// How often the row was sent, or a connection tried for it; 0 when it never came to that.
    pub attempts: u32,
    /// What became of the attempts before the last, in their order.
    pub earlier: Vec<Attempt>,
    /// How long it took.
    pub timing: Timing,
    /// Whether an earlier run of the same journal had this outcome, so that nothing was sent for it now.
    pub replayed: bool,
    /// Whether `retries` would have had it sent again, but for the budget of its origin, which was used up.
    pub over_budget: bool,
    /// The whole response, or why there is none.
    pub result: Result<Response, Error>,
}

impl Outcome {
    /// Of a row that was not sent itself.
    pub(crate) fn unsent(index: usize, tag: Option<Box<str>>, result: Result<Response, Error>) -> Self {
        Self {
            index,
            tag,
            attempts: 0,
            earlier: Vec::new(),
            timing: Timing::default(),
            replayed: false,
            over_budget: false,
            result,
        }
    }

    /// The response, whole or partial: that of an error counts too.
    pub fn response(&self) -> Option<&Response> {
        match &self.result {
            Ok(response) => Some(response),
            Err(error) => error.response(),
        }
    }

    /// Whether a whole answer arrived with a status below 400.
    pub fn is_ok(&self) -> bool {
        self.result.as_ref().is_ok_and(Response::is_ok)
    }
}

/// What became of an attempt after which the row was sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// It was answered with this status.
    Answered(u16),
    /// It failed.
    Failed(Kind),
    /// Another try beside it was answered first.
    Outrun,
}

/// As in `status 503`, `timeout.connect` or `outrun`.
impl fmt::Display for Attempt {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answered(status) => write!(formatter, "status {status}"),
            Self::Failed(kind) => kind.fmt(formatter),
            Self::Outrun => formatter.write_str("outrun"),
        }
    }
}

/// How long a row took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timing {
    /// From taking its slot to its end, redirects and second sendings included; zero when it never took one.
    pub elapsed: Duration,
}
