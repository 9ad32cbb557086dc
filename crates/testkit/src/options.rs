//! What the well-behaved half may be asked for, and the defaults.

use std::time::Duration;

use serde_json::Value;

use crate::http2::Http2;
use crate::script::ScriptError;
use crate::server::Listen;
use crate::tls::Tls;

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
    /// TLS on every connection. Default: none.
    pub tls: Option<Tls>,
    /// What it speaks, best first. Over TLS, ALPN offers these; without ALPN, the first bytes of
    /// the client decide. Default: both.
    pub http: Vec<Protocol>,
    /// What it says in its SETTINGS of HTTP/2, and its windows.
    pub http2: Http2,
}

/// A version of HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/2, without TLS by prior knowledge.
    Http2,
    /// HTTP/1.1, and 1.0.
    Http11,
}

impl Protocol {
    /// Its name in ALPN and in JSON.
    pub fn alpn(self) -> &'static str {
        match self {
            Protocol::Http2 => "h2",
            Protocol::Http11 => "http/1.1",
        }
    }

    /// Reads a list of such names.
    pub(crate) fn list(value: &Value) -> Option<Vec<Protocol>> {
        let known = [Protocol::Http2, Protocol::Http11];
        let named = |name: &Value| known.into_iter().find(|protocol| name == protocol.alpn());
        value.as_array()?.iter().map(named).collect()
    }
}

/// How a connection is closed after [`Options::close_after`] requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Farewell {
    /// The last answer says `Connection: close`.
    Announced,
    /// It does not: the client may be about to send the next request.
    Silent,
}

impl Options {
    /// Reads an object with the names of these fields, all optional: those of `listen` stand
    /// beside the others, `farewell` is `"announced"` or `"silent"`, `idle_timeout` is in
    /// seconds; [`Tls::from_json`] tells what `tls` may be, and `http` is a list of `"h2"` and
    /// `"http/1.1"`, and `http2` an object with the fields of [`Http2`].
    ///
    /// # Errors
    /// A field that is unknown or has a value that it cannot have.
    pub fn from_json(value: &Value) -> Result<Options, ScriptError> {
        let mut options = Options::default();
        let fields = value.as_object().ok_or_else(|| ScriptError("options: an object".into()))?;
        for (name, field) in fields {
            let wrong = || ScriptError(format!("{name}: {field} is no value for it"));
            match name.as_str() {
                "close_after" => options.close_after = Some(field.as_u64().ok_or_else(wrong)?),
                "farewell" => {
                    options.farewell = match field.as_str() {
                        Some("announced") => Farewell::Announced,
                        Some("silent") => Farewell::Silent,
                        _ => return Err(wrong()),
                    };
                }
                "idle_timeout" => {
                    let patience = field.as_f64().map(Duration::try_from_secs_f64);
                    options.idle_timeout = Some(patience.and_then(Result::ok).ok_or_else(wrong)?);
                }
                "keep_log" => options.keep_log = field.as_bool().ok_or_else(wrong)?,
                "max_body" => {
                    let most = field.as_u64().and_then(|most| usize::try_from(most).ok());
                    options.max_body = most.ok_or_else(wrong)?;
                }
                "tls" if field.is_null() => {}
                "tls" => options.tls = Some(Tls::from_json(field)?),
                "http" => options.http = Protocol::list(field).ok_or_else(wrong)?,
                "http2" => options.http2 = Http2::from_json(field)?,
                _ => options.listen.set(name, field)?,
            }
        }
        Ok(options)
    }
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
            tls: None,
            http: vec![Protocol::Http2, Protocol::Http11],
            http2: Http2::default(),
        }
    }
}
