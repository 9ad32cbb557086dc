//! One error: opaque, one word wide, with its [`Kind`] given where the failure happened.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::sync::Arc;

use crate::Response;
use crate::kind::{Kind, Resend};
use crate::mask::MaskedUrl;

/// Why a row has no whole response.
///
/// `Display` says this level only, as `kind: what happened (METHOD url, attempt n)`; what lies below is in
/// [`source`](StdError::source), and what a person can do about it in [`hint`](Error::hint).
#[derive(Clone)]
pub struct Error(Box<Inner>);

#[derive(Clone)]
struct Inner {
    kind: Kind,
    message: Cow<'static, str>,
    hint: Option<Cow<'static, str>>,
    subject: Option<Subject>,
    in_doubt: bool,
    lasting: bool,
    attempts: u32,
    bytes_sent: u64,
    bytes_received: u64,
    peer: Option<(Box<str>, u16)>,
    os_error: Option<i32>,
    response: Option<Response>,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

#[derive(Clone)]
struct Subject {
    method: http::Method,
    url: Box<str>,
}

impl Error {
    pub(crate) fn new(kind: Kind, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner {
            kind,
            message: message.into(),
            hint: None,
            subject: None,
            in_doubt: false,
            lasting: false,
            attempts: 0,
            bytes_sent: 0,
            bytes_received: 0,
            peer: None,
            os_error: None,
            response: None,
            source: None,
        }))
    }

    /// A bug, of which one row is the victim.
    pub(crate) fn of_panic(panic: &(dyn std::any::Any + Send)) -> Self {
        let said = panic
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("no message");
        Self::new(Kind::Internal, format!("this row met a bug: {said}"))
            .with_hint("please report it; the other rows went on")
    }

    /// A row that cannot be sent as it is; for doors that read rows of their own kind.
    pub fn bad_request(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::BadRequest, message)
    }

    /// Adds what a person can do about it.
    pub fn with_hint(self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.hinted(Some(hint.into()))
    }

    /// What happened, as a stable word.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// What happened, in words, without kind and subject.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// What a person can do about it, where there is something.
    pub fn hint(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// Whether the request may have taken effect at the server although the row failed, so that sending it again could
    /// do it twice. Never set for idempotent methods (RFC 9110 §9.2.2) and rows with an `Idempotency-Key`.
    pub fn in_doubt(&self) -> bool {
        self.0.in_doubt
    }

    /// Whether sending the row again can help and cannot do harm.
    pub fn retryable(&self) -> bool {
        match self.0.kind.row().resend {
            Resend::Never | Resend::NotApplicable => matches!(self.0.kind, Kind::NotSent),
            Resend::Safe => true,
            Resend::ByProof | Resend::ByPermission => !self.0.in_doubt,
        }
    }

    /// How often the row was sent or a connection tried for it.
    pub fn attempts(&self) -> u32 {
        self.0.attempts
    }

    /// Bytes of the last attempt that the operating system took, encryption included. On a connection that rows share
    /// (HTTP/2) those of others count too, so it is a bound: 0 proves that nothing was sent.
    pub fn bytes_sent(&self) -> u64 {
        self.0.bytes_sent
    }

    /// Bytes that came back in the last attempt.
    pub fn bytes_received(&self) -> u64 {
        self.0.bytes_received
    }

    /// What was received: head and as much of the body as came.
    pub fn response(&self) -> Option<&Response> {
        self.0.response.as_ref()
    }

    /// Host and port of the peer, for failures to connect.
    pub fn peer(&self) -> Option<(&str, u16)> {
        self.0.peer.as_ref().map(|(host, port)| (&**host, *port))
    }

    /// The operating system's error number, where it gave one.
    pub fn os_error(&self) -> Option<i32> {
        self.0.os_error
    }

    /// Method and URL of the row, credentials masked.
    pub fn subject(&self) -> Option<(&http::Method, &str)> {
        self.0.subject.as_ref().map(|subject| (&subject.method, &*subject.url))
    }

    pub(crate) fn hinted(mut self, hint: Option<Cow<'static, str>>) -> Self {
        self.0.hint = hint;
        self
    }

    pub(crate) fn about(mut self, method: &http::Method, url: &str) -> Self {
        let url = MaskedUrl(url).to_string().into_boxed_str();
        self.0.subject = Some(Subject { method: method.clone(), url });
        self
    }

    pub(crate) fn after(mut self, attempts: u32) -> Self {
        self.0.attempts = attempts;
        self
    }

    pub(crate) fn doubtful(mut self, in_doubt: bool) -> Self {
        self.0.in_doubt = in_doubt;
        self
    }

    /// A moment later it would be the same.
    pub(crate) fn lasting(mut self) -> Self {
        self.0.lasting = true;
        self
    }

    pub(crate) fn is_lasting(&self) -> bool {
        self.0.lasting
    }

    pub(crate) fn moved(mut self, sent: u64, received: u64) -> Self {
        self.0.bytes_sent = sent;
        self.0.bytes_received = received;
        self
    }

    pub(crate) fn at_peer(mut self, host: &str, port: u16) -> Self {
        self.0.peer = Some((host.into(), port));
        self
    }

    pub(crate) fn with_response(mut self, response: Option<Response>) -> Self {
        self.0.response = response;
        self
    }

    pub(crate) fn response_mut(&mut self) -> Option<&mut Response> {
        self.0.response.as_mut()
    }

    pub(crate) fn caused_by(mut self, source: impl StdError + Send + Sync + 'static) -> Self {
        self.0.source = Some(Arc::new(source));
        self
    }

    pub(crate) fn caused_by_io(mut self, source: io::Error) -> Self {
        self.0.os_error = source.raw_os_error();
        self.caused_by(source)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.0.kind, self.0.message)?;
        match &self.0.subject {
            Some(Subject { method, url }) if self.0.attempts > 0 => {
                write!(formatter, " ({method} {url}, attempt {})", self.0.attempts)
            }
            Some(Subject { method, url }) => write!(formatter, " ({method} {url})"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("message", &self.0.message)
            .field("in_doubt", &self.0.in_doubt)
            .field("attempts", &self.0.attempts)
            .field("bytes_sent", &self.0.bytes_sent)
            .field("bytes_received", &self.0.bytes_received)
            .field("response", &self.0.response)
            .finish_non_exhaustive()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_ref().map(|source| &**source as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_word_wide() {
        assert_eq!(size_of::<Error>(), size_of::<usize>());
        assert_eq!(size_of::<Option<Error>>(), size_of::<usize>());
    }

    #[test]
    fn the_text_names_kind_subject_and_attempt_and_masks_credentials() {
        let error = Error::new(Kind::TimeoutConnect, "no connection to api.x.com:443 within 30 s")
            .about(&http::Method::GET, "https://user:pw@api.x.com/v1/17?token=abc")
            .after(1);
        assert_eq!(
            error.to_string(),
            "timeout.connect: no connection to api.x.com:443 within 30 s (GET https://***@api.x.com/v1/17?token=***, attempt 1)"
        );
    }

    #[test]
    fn a_row_in_doubt_is_not_retryable_and_one_that_never_left_is() {
        let doubtful = |kind| Error::new(kind, "").doubtful(true).retryable();
        assert!(!doubtful(Kind::Closed));
        assert!(!doubtful(Kind::Incomplete));
        assert!(Error::new(Kind::Closed, "").retryable());
        assert!(Error::new(Kind::ConnectRefused, "").retryable());
        assert!(Error::new(Kind::NotSent, "").retryable());
        assert!(!Error::new(Kind::BadRequest, "").retryable());
        assert!(!Error::new(Kind::Internal, "").retryable());
    }
}
