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
    /// Whether a sending of the row before the one that was answered may have had its effect: what it then was answered with
    /// says nothing of that.
    pub(crate) has_acted: bool,
    /// Whether it was the end of the batch that ended the row, so that a later run of the same journal sends it.
    pub(crate) is_left: bool,
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
            has_acted: false,
            is_left: false,
            result,
        }
    }

    /// Of a row that asked for the same and was not sent itself.
    pub(crate) fn of_another(&self, index: usize, tag: Option<Box<str>>) -> Self {
        Self { is_left: self.is_left, ..Self::unsent(index, tag, self.result.clone()) }
    }

    /// The response, whole or partial: that of an error counts too.
    pub fn response(&self) -> Option<&Response> {
        match &self.result {
            Ok(response) => Some(response),
            Err(error) => error.response(),
        }
    }

    /// Whether the row failed and may have taken effect all the same, so that sending it again could do it twice: as its error
    /// says; or where it was answered with a status of 400 or above, and what was answered so was the GET that a redirect
    /// had made of it, or another sending of it after one that was never answered.
    pub fn in_doubt(&self) -> bool {
        match &self.result {
            Ok(response) => self.has_acted && !response.is_ok(),
            Err(error) => error.in_doubt(),
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
