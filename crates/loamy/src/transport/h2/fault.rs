//! What a failure of HTTP/2 is called, and what it says about the row and its connection.

use ::h2::{Error, Reason};

use crate::Kind;
use crate::transport::Fault;

/// How a stream failed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) fault: Fault,
    /// Whether the connection failed, and its stream with it.
    pub(crate) of_connection: bool,
    /// Whether the peer asks for the row over HTTP/1.1.
    pub(crate) wants_http1: bool,
    /// Whether the peer has too much to do (RFC 9113 §7).
    pub(crate) asks_for_calm: bool,
}

/// Names the failure of a stream, of whose response the head came or not.
pub(crate) fn failure(error: &Error, has_head: bool) -> Failure {
    let reason = error.reason().unwrap_or(Reason::NO_ERROR);
    let wants_http1 = error.is_remote() && reason == Reason::HTTP_1_1_REQUIRED;
    let fault = if error.is_remote() && error.is_go_away() {
        // Only streams above the last that the peer says it may have worked on end like this (RFC 9113 §6.8).
        let message = format!("the peer went away ({reason:?}) without having looked at the request");
        Fault { kind: Kind::Refused, message: message.into() }
    } else if error.is_remote() && (reason == Reason::REFUSED_STREAM || wants_http1) && !has_head {
        Fault { kind: Kind::Refused, message: format!("the peer refused the stream ({reason:?})").into() }
    } else if error.is_remote() {
        ended(has_head, format!("the peer reset the stream ({reason:?})"))
    } else if error.is_library() && reason == Reason::ENHANCE_YOUR_CALM && !has_head {
        Fault::too_large("the response head is too large")
    } else if error.is_library() {
        Fault::protocol(format!("the response breaks the rules of HTTP/2 ({reason:?})"))
    } else {
        ended(has_head, "the connection broke".to_owned())
    };
    Failure { fault, of_connection: !error.is_reset(), wants_http1, asks_for_calm: asks_for_calm(error) }
}

/// Whether the peer says that it has too much to do (RFC 9113 §7).
pub(super) fn asks_for_calm(error: &Error) -> bool {
    error.is_remote() && error.reason() == Some(Reason::ENHANCE_YOUR_CALM)
}

fn ended(has_head: bool, what: String) -> Fault {
    if has_head {
        Fault::incomplete(format!("{what} in the body of the response"))
    } else {
        Fault { kind: Kind::Closed, message: format!("{what} before the response began").into() }
    }
}
