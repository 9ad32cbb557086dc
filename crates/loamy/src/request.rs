//! One row: a plain value, checked when it is admitted.

use bytes::Bytes;
use http::Method;

use crate::headers::{HeaderView, Headers, is_token_byte};
use crate::mask::MaskedUrl;
use crate::policy::{Policy, Timeouts};
use crate::tls::TlsProfile;
use crate::{Error, Kind, framing};

/// A request to send. Building one never fails: what is wrong with it becomes the outcome of its row.
#[derive(Clone, Debug)]
pub struct Request {
    pub(crate) method: Method,
    pub(crate) url: String,
    pub(crate) headers: Headers,
    pub(crate) body: Option<Bytes>,
    pub(crate) tag: Option<Box<str>>,
    pub(crate) overrides: Option<Box<Overrides>>,
    pub(crate) defect: Option<Error>,
}

/// What a row may set for itself; where None, the policy holds.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Overrides {
    /// How long each phase may take.
    pub timeouts: Option<Timeouts>,
    /// Redirects followed; 0 makes the redirect itself the response.
    pub max_redirects: Option<u16>,
    /// How the peer is known, if it speaks TLS. Rows of other settings never share a connection with it.
    pub tls: Option<TlsProfile>,
    /// Whether path and query are sent byte for byte as given.
    pub raw_url: bool,
    /// What the row costs, by name of limit; 1 where a limit is not named.
    pub cost: Vec<(Box<str>, u64)>,
    /// Rows with the same key share limits and pauses as rows of one origin do, whatever their origin; without one, the
    /// origin is what they share.
    pub limit_key: Option<Box<str>>,
}

impl Request {
    /// A request with a method and a URL: `Request::new("GET", "http://host/path")`.
    ///
    /// The method is sent as given; the lower-case forms of the usual ones are refused with a hint.
    pub fn new(method: &str, url: impl Into<String>) -> Self {
        let mut request = Self::get(url);
        match parse_method(method) {
            Ok(method) => request.method = method,
            Err(error) => request.defect = Some(error),
        }
        request
    }

    /// A GET request.
    pub fn get(url: impl Into<String>) -> Self {
        Self {
            method: Method::GET,
            url: url.into(),
            headers: Headers::new(),
            body: None,
            tag: None,
            overrides: None,
            defect: None,
        }
    }

    /// A POST request with a body.
    pub fn post(url: impl Into<String>, body: impl Into<Bytes>) -> Self {
        let mut request = Self::get(url);
        request.method = Method::POST;
        request.body(body)
    }

    /// The row is known to be wrong: it ends with this error and is never sent.
    pub fn refuse(mut self, error: Error) -> Self {
        self.defect.get_or_insert(error);
        self
    }

    /// Appends a header field; a bad one becomes the outcome of the row.
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        match self.headers.append(name, value) {
            Ok(()) => self,
            Err(error) => self.refuse(error),
        }
    }

    /// Sets a header field: every one of that name, in any spelling, is replaced; a bad one becomes the outcome of the
    /// row.
    pub fn set_header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        match self.headers.set(name, value) {
            Ok(()) => self,
            Err(error) => self.refuse(error),
        }
    }

    /// Sets the body. `Content-Length` is added; a `Content-Type` is not.
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = Some(body.into());
        self
    }

    /// Marks the row; the mark comes back with its outcome.
    pub fn tag(mut self, tag: impl Into<Box<str>>) -> Self {
        self.tag = Some(tag.into());
        self
    }

    /// Sets what the row wants otherwise than the policy.
    pub fn overrides(mut self, overrides: Overrides) -> Self {
        self.overrides = Some(Box::new(overrides));
        self
    }

    /// The method.
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// The URL as given.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The header fields given.
    pub fn headers(&self) -> HeaderView<'_> {
        self.headers.view()
    }

    /// The bytes of the body; empty without one.
    pub fn payload(&self) -> &[u8] {
        self.body.as_deref().unwrap_or_default()
    }

    /// How its peer is known, if it speaks TLS.
    pub(crate) fn tls<'a>(&'a self, policy: &'a Policy) -> &'a TlsProfile {
        self.overrides.as_ref().and_then(|own| own.tls.as_ref()).unwrap_or(&policy.tls)
    }

    /// Whether that is a matter of its own.
    pub(crate) fn has_own_tls(&self) -> bool {
        self.overrides.as_ref().is_some_and(|own| own.tls.is_some())
    }

    /// Takes back the row's question whether the peer wants its body. Says whether it asked.
    pub(crate) fn ask_nothing(&mut self) -> bool {
        let asks = framing::expects_continue(self.headers.view());
        if asks {
            self.headers.remove("expect");
        }
        asks
    }

    /// What cannot be sent, found before it is queued.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.method == Method::TRACE && self.body.is_some() {
            return Err(Error::new(Kind::BadRequest, "a TRACE request has no body (RFC 9110 §9.3.8)"));
        }
        if self.headers.view().is_empty() {
            return Ok(());
        }
        framing::check_framing(self.headers.view(), self.body.as_ref().map(|body| body.len() as u64))
    }

    /// Whether sending it twice does no more than sending it once (RFC 9110 §9.2.2, or an `Idempotency-Key`).
    pub fn is_idempotent(&self) -> bool {
        self.method.is_idempotent() || self.headers.view().get("idempotency-key").is_some()
    }
}

impl Overrides {
    /// Sets how long each phase may take.
    pub fn timeouts(mut self, timeouts: Timeouts) -> Self {
        self.timeouts = Some(timeouts);
        self
    }

    /// Sets how many redirects are followed.
    pub fn max_redirects(mut self, redirects: u16) -> Self {
        self.max_redirects = Some(redirects);
        self
    }

    /// Sends path and query byte for byte as given.
    pub fn raw_url(mut self) -> Self {
        self.raw_url = true;
        self
    }

    /// Sets what the row costs of the limit with this name.
    pub fn cost(mut self, limit: impl Into<Box<str>>, cost: u64) -> Self {
        self.cost.push((limit.into(), cost));
        self
    }

    /// Sets whose limits and pauses the row shares.
    pub fn limit_key(mut self, key: impl Into<Box<str>>) -> Self {
        self.limit_key = Some(key.into());
        self
    }
}

impl From<&str> for Request {
    fn from(url: &str) -> Self {
        Self::get(url)
    }
}

impl From<String> for Request {
    fn from(url: String) -> Self {
        Self::get(url)
    }
}

impl From<http::Request<Bytes>> for Request {
    fn from(request: http::Request<Bytes>) -> Self {
        let (parts, body) = request.into_parts();
        let mut own = Self::new(parts.method.as_str(), parts.uri.to_string());
        for (name, value) in &parts.headers {
            own = own.header(name.as_str(), value.as_bytes());
        }
        if body.is_empty() { own } else { own.body(body) }
    }
}

fn parse_method(method: &str) -> Result<Method, Error> {
    const USUAL: [&str; 9] = ["GET", "POST", "PUT", "PATCH", "OPTIONS", "DELETE", "HEAD", "TRACE", "CONNECT"];
    if method.is_empty() {
        return Err(Error::new(Kind::BadRequest, "the method is empty"));
    }
    if let Some(bad) = method.chars().find(|c| !u8::try_from(*c).is_ok_and(is_token_byte)) {
        // A URL in its place may have credentials in it.
        let shown = MaskedUrl(method).to_string();
        return Err(Error::new(Kind::BadRequest, format!("method {shown:?} holds {bad:?}")));
    }
    if let Some(usual) = USUAL.iter().find(|usual| **usual != method && usual.eq_ignore_ascii_case(method)) {
        let hint = format!("methods are case-sensitive; use {usual:?}");
        return Err(
            Error::new(Kind::BadRequest, format!("method {method:?} is unknown")).hinted(Some(hint.into()))
        );
    }
    if method == "CONNECT" {
        return Err(Error::new(
            Kind::BadRequest,
            "method \"CONNECT\" makes a tunnel, which is no request to send",
        ));
    }
    Method::from_bytes(method.as_bytes())
        .map_err(|_| Error::new(Kind::BadRequest, format!("method {method:?} is not valid")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a2_any_token_is_a_method_and_lower_case_forms_of_the_usual_ones_are_not() {
        for (method, fine) in [
            ("GET", true),
            ("PURGE", true),
            ("purge", true),
            ("M-SEARCH", true),
            ("get", false),
            ("Post", false),
            ("", false),
            ("GET ", false),
            ("GE\r\nT", false),
            ("GÉT", false),
            ("CONNECT", false),
        ] {
            let request = Request::new(method, "http://h/");
            assert_eq!(request.defect.is_none(), fine, "{method:?}");
        }
        for (method, fine) in
            [("GET", true), ("PURGE", true), ("purge", true), ("get", false), ("CONNECT", false)]
        {
            let request =
                http::Request::builder().method(method).uri("http://h/").body(Bytes::new()).unwrap();
            assert_eq!(Request::from(request).defect.is_none(), fine, "{method:?}");
        }
        let defect = Request::new("get", "http://h/").defect.unwrap();
        assert_eq!(defect.hint(), Some("methods are case-sensitive; use \"GET\""));
    }

    #[test]
    fn a_url_where_the_method_belongs_is_shown_without_its_credentials() {
        let defect = Request::new("https://u:p@h/?token=1&a=2", "GET").defect.unwrap();
        assert_eq!(defect.message(), "method \"https://***@h/?token=***&a=2\" holds ':'");
    }

    #[test]
    fn a_key_makes_a_post_idempotent() {
        assert!(!Request::post("http://h/", "x").is_idempotent());
        assert!(Request::post("http://h/", "x").header("Idempotency-Key", "1").is_idempotent());
        assert!(Request::new("PUT", "http://h/").is_idempotent());
    }
}
