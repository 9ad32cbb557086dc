//! Scripts: what the ill-behaved server does on each connection.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::handshake::Handshake;
use crate::http2::Http2Step;
use crate::log::RequestLog;
use crate::options::Protocol;
use crate::server::Listen;
use crate::tls::Tls;

/// One thing that a scripted connection does.
#[derive(Clone)]
pub enum Step {
    /// Reads one request, its body by its framing. At the end of what the client sends, the
    /// connection ends.
    ReadRequest,
    /// Reads one head and leaves the body unread.
    ReadHead,
    /// Reads the body of the request whose head was read last.
    ReadBody,
    /// Reads this many bytes, whatever they are.
    ReadBytes(usize),
    /// Sends these bytes.
    Send(Arc<[u8]>),
    /// Sends one byte at a time, with this pause before each but the first.
    Drip {
        /// What is sent.
        bytes: Arc<[u8]>,
        /// The pause between two bytes.
        every: Duration,
    },
    /// Sends the bytes again and again.
    Repeat {
        /// What is sent.
        bytes: Arc<[u8]>,
        /// How often; `None` is until the client goes.
        times: Option<u64>,
        /// The pause between two sendings; zero sends as fast as the client reads.
        every: Duration,
    },
    /// Sends what the function makes of the request that was read last.
    Answer(Answerer),
    /// Answers the request that was read last as the well-behaved server would.
    Serve,
    /// Does nothing for this long.
    Wait(Duration),
    /// Waits until the server has seen this many requests on all its connections.
    WaitForRequests(u64),
    /// Ends the sending side (FIN) and goes on.
    HalfClose,
    /// Reads and discards until the client ends its side.
    Drain,
    /// Closes, over TLS with a close_notify. Bytes of the client that were not read turn it
    /// into a reset.
    Close,
    /// Closes without the close_notify of TLS.
    CloseWithoutNotify,
    /// Something with frames of HTTP/2.
    Http2(Http2Step),
    /// What happens instead of the TLS handshake that the options ask for. Only as the first
    /// step of a connection.
    Handshake(Handshake),
    /// Closes with RST.
    Reset,
    /// Keeps the connection open and never reads, until the client goes.
    Hold,
    /// Goes back to the first step.
    Again,
    /// Fails the test when a byte arrives within this time; the client may close.
    ExpectSilence(Duration),
    /// Fails the test unless the client ends its side within this time, sending nothing.
    ExpectClose(Duration),
}

/// The function of [`Step::Answer`].
pub type Answerer = Arc<dyn Fn(&RequestLog) -> Vec<u8> + Send + Sync>;

impl Step {
    /// [`Step::Send`].
    pub fn send(bytes: impl AsRef<[u8]>) -> Step {
        Step::Send(bytes.as_ref().into())
    }

    /// [`Step::Drip`].
    pub fn drip(every: Duration, bytes: impl AsRef<[u8]>) -> Step {
        let bytes = bytes.as_ref().into();
        Step::Drip { bytes, every }
    }

    /// [`Step::Repeat`], as fast as the client reads; `None` is until the client goes.
    pub fn repeat(times: impl Into<Option<u64>>, bytes: impl AsRef<[u8]>) -> Step {
        Step::Repeat { bytes: bytes.as_ref().into(), times: times.into(), every: Duration::ZERO }
    }

    /// [`Step::Answer`].
    pub fn answer(answer: impl Fn(&RequestLog) -> Vec<u8> + Send + Sync + 'static) -> Step {
        Step::Answer(Arc::new(answer))
    }

    /// Whether the step gives the thread away, so that a loop with it cannot spin.
    fn rests(&self) -> bool {
        use Step::*;
        match self {
            ReadRequest | ReadHead | Drain | Hold => true,
            ReadBytes(count) => *count > 0,
            Wait(pause) => !pause.is_zero(),
            Http2(step) => step.rests(),
            _ => false,
        }
    }

    pub(crate) fn sends(&self) -> bool {
        use Step::*;
        matches!(self, Send(_) | Drip { .. } | Repeat { .. } | Answer(_) | Serve)
    }
}

impl fmt::Debug for Step {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |bytes: &[u8]| String::from_utf8_lossy(&bytes[..bytes.len().min(200)]).into_owned();
        match self {
            Step::ReadRequest => write!(formatter, "ReadRequest"),
            Step::ReadHead => write!(formatter, "ReadHead"),
            Step::ReadBody => write!(formatter, "ReadBody"),
            Step::ReadBytes(count) => write!(formatter, "ReadBytes({count})"),
            Step::Send(bytes) => write!(formatter, "Send({:?})", text(bytes)),
            Step::Drip { bytes, every } => write!(formatter, "Drip({every:?}, {:?})", text(bytes)),
            Step::Repeat { bytes, times, every } => {
                write!(formatter, "Repeat({times:?}, {every:?}, {:?})", text(bytes))
            }
            Step::Answer(_) => write!(formatter, "Answer"),
            Step::Serve => write!(formatter, "Serve"),
            Step::Wait(pause) => write!(formatter, "Wait({pause:?})"),
            Step::WaitForRequests(count) => write!(formatter, "WaitForRequests({count})"),
            Step::HalfClose => write!(formatter, "HalfClose"),
            Step::Drain => write!(formatter, "Drain"),
            Step::Close => write!(formatter, "Close"),
            Step::CloseWithoutNotify => write!(formatter, "CloseWithoutNotify"),
            Step::Http2(step) => write!(formatter, "{step:?}"),
            Step::Handshake(handshake) => write!(formatter, "Handshake({handshake:?})"),
            Step::Reset => write!(formatter, "Reset"),
            Step::Hold => write!(formatter, "Hold"),
            Step::Again => write!(formatter, "Again"),
            Step::ExpectSilence(time) => write!(formatter, "ExpectSilence({time:?})"),
            Step::ExpectClose(time) => write!(formatter, "ExpectClose({time:?})"),
        }
    }
}

/// What the server does on each of its connections, and where it listens.
#[derive(Clone, Debug, Default)]
pub struct Script {
    connections: Vec<Vec<Step>>,
    pub(crate) listen: Listen,
    pub(crate) tls: Option<Tls>,
    pub(crate) http: Option<Vec<Protocol>>,
}

/// Why a script cannot be played.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScriptError(pub(crate) String);

impl fmt::Display for ScriptError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for ScriptError {}

impl Script {
    /// A script that does the same on every connection. At the end of the list the server
    /// closes.
    pub fn new(steps: impl IntoIterator<Item = Step>) -> Script {
        Script::default().then(steps)
    }

    /// What the next connection does; the last list stands for all further ones.
    pub fn then(mut self, steps: impl IntoIterator<Item = Step>) -> Script {
        self.connections.push(steps.into_iter().collect());
        self
    }

    /// Answers every request on every connection with these bytes.
    pub fn respond(bytes: impl AsRef<[u8]>) -> Script {
        Script::new([Step::ReadRequest, Step::send(bytes), Step::Again])
    }

    /// Where it listens.
    pub fn listen(mut self, listen: Listen) -> Script {
        self.listen = listen;
        self
    }

    /// Listens on this address instead of 127.0.0.1.
    pub fn address(mut self, address: impl Into<IpAddr>) -> Script {
        self.listen.address = address.into();
        self
    }

    /// What ALPN offers over TLS. Without it, that is `h2` for a connection with steps of
    /// HTTP/2 and `http/1.1` for any other.
    pub fn http(mut self, http: impl Into<Vec<Protocol>>) -> Script {
        self.http = Some(http.into());
        self
    }

    /// Speaks TLS on every connection.
    pub fn tls(mut self, tls: Tls) -> Script {
        self.tls = Some(tls);
        self
    }

    /// Parses one step a string; the line `connection` begins the list of the next one.
    ///
    /// # Errors
    /// The first line that is no step, with its number and what was expected.
    pub fn parse<Line: AsRef<str>>(lines: impl IntoIterator<Item = Line>) -> Result<Script, ScriptError> {
        let mut lists = vec![Vec::new()];
        for (index, line) in lines.into_iter().enumerate() {
            let line = line.as_ref();
            if line.trim() == "connection" {
                lists.push(Vec::new());
                continue;
            }
            let step = line.parse().map_err(|error| ScriptError(format!("step {}: {error}", index + 1)))?;
            if let Some(list) = lists.last_mut() {
                list.push(step);
            }
        }
        let script = Script { connections: lists, ..Script::default() };
        script.check()?;
        Ok(script)
    }

    /// Reads a list of steps, or an object `{"steps": […], "address": "::1", "port": 0,
    /// "backlog": 16, "receive_buffer": 4096, "send_buffer": 4096, "tls": {…}, "http": ["h2"]}`,
    /// all but `steps` optional; [`Tls::from_json`] tells what `tls` may be.
    ///
    /// # Errors
    /// A field that is unknown or of the wrong type; a line that is no step.
    pub fn from_json(value: &Value) -> Result<Script, ScriptError> {
        let mut listen = Listen::default();
        let (mut tls, mut http) = (None, None);
        let mut steps = value;
        if let Value::Object(fields) = value {
            steps = fields.get("steps").unwrap_or(&Value::Null);
            for (name, field) in fields {
                let wrong = || ScriptError(format!("{name}: {field} is no value for it"));
                match name.as_str() {
                    "steps" => {}
                    "tls" if field.is_null() => {}
                    "tls" => tls = Some(Tls::from_json(field)?),
                    "http" => http = Some(Protocol::list(field).ok_or_else(wrong)?),
                    _ => listen.set(name, field)?,
                }
            }
        }
        let lines = steps.as_array().and_then(|lines| {
            let lines = lines.iter().map(Value::as_str);
            lines.collect::<Option<Vec<&str>>>()
        });
        let lines = lines.ok_or_else(|| ScriptError("steps: a list of strings".into()))?;
        Ok(Script { listen, tls, http, ..Script::parse(lines)? })
    }

    /// The steps of the `number`-th connection, from 0.
    pub(crate) fn steps(&self, number: usize) -> &[Step] {
        let last = self.connections.len().saturating_sub(1);
        self.connections.get(number.min(last)).map_or(&[], Vec::as_slice)
    }

    /// What the `number`-th connection speaks, for ALPN.
    pub(crate) fn speaks(&self, number: usize) -> Vec<Protocol> {
        let by_steps = || match self.steps(number).iter().any(|step| matches!(step, Step::Http2(_))) {
            true => vec![Protocol::Http2],
            false => vec![Protocol::Http11],
        };
        self.http.clone().unwrap_or_else(by_steps)
    }

    /// Refuses loops that would never give the thread away.
    pub(crate) fn check(&self) -> Result<(), ScriptError> {
        for steps in &self.connections {
            if steps.iter().skip(1).any(|step| matches!(step, Step::Handshake(_))) {
                return Err(ScriptError("`handshake` is the first step of a connection".into()));
            }
            let again = steps.iter().position(|step| matches!(step, Step::Again));
            if let Some(again) = again
                && !steps[..again].iter().any(Step::rests)
            {
                return Err(ScriptError("`again` needs a step before it that reads or waits".into()));
            }
        }
        Ok(())
    }
}

impl<const N: usize> From<[Step; N]> for Script {
    fn from(steps: [Step; N]) -> Script {
        Script::new(steps)
    }
}

impl From<Vec<Step>> for Script {
    fn from(steps: Vec<Step>) -> Script {
        Script::new(steps)
    }
}
