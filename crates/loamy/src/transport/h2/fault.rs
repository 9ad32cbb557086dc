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
    /// Whether we ended the stream, and not the peer.
    pub(crate) is_ours: bool,
    /// Whether the peer asks for the row over HTTP/1.1.
    pub(crate) wants_http1: bool,
    /// Whether the peer has too much to do (RFC 9113 §7).
    pub(crate) asks_for_calm: bool,
}

/// What is known of a response that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Came {
    /// Nothing of it, though perhaps of others on its connection.
    Nothing,
    /// Of all heads on its connection a part of its own was the last to come.
    PartOfTheHead,
    /// Its head.
    TheHead,
}

/// Names the failure of a stream.
pub(crate) fn failure(error: &Error, came: Came) -> Failure {
    let has_head = came == Came::TheHead;
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
    } else if gives_up_on_a_head(error) && came == Came::PartOfTheHead {
        Fault::too_large("the response head is too large")
    } else if error.is_library() && error.is_go_away() {
        Fault::protocol(format!("the peer breaks the rules of HTTP/2 ({reason:?})"))
    } else if error.is_library() {
        Fault::protocol(format!("the response breaks the rules of HTTP/2 ({reason:?})"))
    } else {
        ended(has_head, "the connection broke".to_owned())
    };
    let asks_for_calm = error.is_remote() && reason == Reason::ENHANCE_YOUR_CALM;
    let is_ours = error.is_library() && error.is_reset();
    Failure { fault, of_connection: !error.is_reset(), is_ours, wants_http1, asks_for_calm }
}

/// Whether the `h2` crate closed the connection for a head beyond all measure. It closes it with the same code for DATA without
/// content and for too many frames on streams that have ended; only the text tells them apart.
fn gives_up_on_a_head(error: &Error) -> bool {
    let text = if error.is_library() && error.is_go_away() { error.to_string() } else { String::new() };
    ["header_list_way_too_large", "too_many_continuations"].iter().any(|reason| text.contains(reason))
}

fn ended(has_head: bool, what: String) -> Fault {
    if has_head {
        Fault::incomplete(format!("{what} in the body of the response"))
    } else {
        Fault { kind: Kind::Closed, message: format!("{what} before the response began").into() }
    }
}
