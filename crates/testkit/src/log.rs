//! What the server saw: counts always, connections and requests when the log is kept.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::request::Head;

/// Bytes of one connection that [`ConnectionLog::bytes`] keeps; `received` goes on counting.
pub const KEPT_BYTES: usize = 16 << 20;

/// Everything the server saw so far.
#[derive(Clone, Debug, Default)]
pub struct Log {
    /// Numbers that are kept even when the log is not.
    pub counts: Counts,
    /// One entry per accepted connection, in the order of acceptance.
    pub connections: Vec<ConnectionLog>,
    /// One entry per request whose head arrived whole, in the order of arrival.
    pub requests: Vec<RequestLog>,
    /// Broken expectations of a script, and panics of the server.
    pub failures: Vec<String>,
}

/// Running totals and high-water marks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Connections accepted.
    pub connections: u64,
    /// Connections ended, by whoever. To wait for the end of the n-th one, wait for `n` here:
    /// `open` is 0 before the first as well.
    pub ended: u64,
    /// Connections open now.
    pub open: u64,
    /// The greatest number of connections open at once.
    pub max_open: u64,
    /// Requests whose head arrived whole.
    pub requests: u64,
    /// Requests not yet answered.
    pub in_flight: u64,
    /// The greatest number of requests in flight at once. A request is in flight from the
    /// last byte of its head until just before the last bytes of its answer are written.
    pub max_in_flight: u64,
    /// Bytes received on all connections.
    pub bytes_received: u64,
}

/// One accepted connection.
#[derive(Clone, Debug)]
pub struct ConnectionLog {
    /// Its number, from 0.
    pub number: usize,
    /// The client's address.
    pub peer: SocketAddr,
    /// When it was accepted, since the server started.
    pub opened: Duration,
    /// When and how it ended; `None` while it is open.
    pub ended: Option<(Duration, Ending)>,
    /// Requests whose head arrived whole on it.
    pub requests: usize,
    /// Bytes received on it, those of no whole request included.
    pub received: u64,
    /// The first [`KEPT_BYTES`] of them, exactly as received.
    pub bytes: Vec<u8>,
}

/// How a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The client closed or shut down its side.
    ByClient,
    /// The client reset it, or vanished while the server wrote.
    ClientReset,
    /// The script or route closed it, or the server stopped.
    ByServer,
    /// The script or route reset it.
    ServerReset,
    /// The client sent something that is no HTTP/1.1 request; the reason.
    Malformed(String),
}

/// One request as it arrived.
#[derive(Clone, Debug)]
pub struct RequestLog {
    /// The connection it came on, from 0.
    pub connection: usize,
    /// Its number on that connection, from 0.
    pub number: usize,
    /// The method, as sent.
    pub method: String,
    /// The request target, as sent.
    pub target: String,
    /// The head from the method to the empty line, exactly as received.
    pub head: Vec<u8>,
    /// Names and values in order, as sent.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body without its chunked framing. After `read-head`, bytes that were read by
    /// `read-bytes` are added as they came.
    pub body: Vec<u8>,
    /// Whether the whole body arrived.
    pub complete: bool,
    /// When its head was complete, since the server started.
    pub arrived: Duration,
}

impl RequestLog {
    /// The first value of a header, by its case-insensitive name; `None` when it is absent
    /// or not UTF-8.
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = (self.headers.iter()).find(|(known, _)| known.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(value).ok()
    }

    /// All values of a header, in order.
    pub fn header_values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.headers
            .iter()
            .filter(move |(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_slice())
    }
}

impl Log {
    /// The requests with this target, in order.
    pub fn to_target<'a>(&'a self, target: &'a str) -> impl Iterator<Item = &'a RequestLog> {
        self.requests.iter().filter(move |request| request.target == target)
    }

    /// The log as JSON. Times are seconds since the server started; bytes are text with one
    /// character per byte (latin-1), so nothing is lost.
    pub fn to_json(&self) -> Value {
        let connections = self.connections.iter().map(|connection| {
            json!({
                "number": connection.number,
                "peer": connection.peer.to_string(),
                "opened": connection.opened.as_secs_f64(),
                "closed": connection.ended.as_ref().map(|(at, _)| at.as_secs_f64()),
                "ending": connection.ended.as_ref().map(|(_, ending)| ending.to_string()),
                "requests": connection.requests,
                "received": connection.received,
                "bytes": latin1(&connection.bytes),
            })
        });
        let requests = self.requests.iter().map(|request| {
            let headers = request.headers.iter();
            json!({
                "connection": request.connection,
                "number": request.number,
                "method": request.method,
                "target": request.target,
                "head": latin1(&request.head),
                "headers": headers.map(|(name, value)| json!([name, latin1(value)])).collect::<Value>(),
                "body": latin1(&request.body),
                "complete": request.complete,
                "arrived": request.arrived.as_secs_f64(),
            })
        });
        json!({
            "counts": self.counts.to_json(),
            "connections": connections.collect::<Value>(),
            "requests": requests.collect::<Value>(),
            "failures": self.failures,
        })
    }
}

impl Counts {
    /// The counts as a JSON object with the names of the fields.
    pub fn to_json(&self) -> Value {
        json!({
            "connections": self.connections,
            "ended": self.ended,
            "open": self.open,
            "max_open": self.max_open,
            "requests": self.requests,
            "in_flight": self.in_flight,
            "max_in_flight": self.max_in_flight,
            "bytes_received": self.bytes_received,
        })
    }
}

impl std::fmt::Display for Ending {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Ending::ByClient => formatter.write_str("closed by the client"),
            Ending::ClientReset => formatter.write_str("reset by the client"),
            Ending::ByServer => formatter.write_str("closed by the server"),
            Ending::ServerReset => formatter.write_str("reset by the server"),
            Ending::Malformed(reason) => write!(formatter, "malformed request: {reason}"),
        }
    }
}

fn latin1(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

/// Where the server's thread writes and the tests read.
pub(crate) struct Recorder {
    log: Mutex<Log>,
    changed: Condvar,
    waiting: AtomicUsize,
    started: Instant,
    keep: bool,
}

impl Recorder {
    pub(crate) fn new(keep: bool) -> Recorder {
        Recorder {
            log: Mutex::default(),
            changed: Condvar::new(),
            waiting: AtomicUsize::new(0),
            started: Instant::now(),
            keep,
        }
    }

    /// A condition that panics inside `wait_for` must not take the server along.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<R>(&self, change: impl FnOnce(&mut Log) -> R) -> R {
        let result = change(&mut self.lock());
        // Waking nobody is a system call all the same. The lock orders this load after the
        // addition of anyone who looked at the log before the change.
        if self.waiting.load(Ordering::Relaxed) > 0 {
            self.changed.notify_all();
        }
        result
    }

    pub(crate) fn accepted(&self, peer: SocketAddr) -> usize {
        let opened = self.started.elapsed();
        self.change(|log| {
            let number = log.counts.connections as usize;
            log.counts.connections += 1;
            if self.keep {
                log.connections.push(ConnectionLog {
                    number,
                    peer,
                    opened,
                    ended: None,
                    requests: 0,
                    received: 0,
                    bytes: Vec::new(),
                });
            }
            number
        })
    }

    pub(crate) fn opened(&self) {
        self.change(|log| {
            log.counts.open += 1;
            log.counts.max_open = log.counts.max_open.max(log.counts.open);
        });
    }

    pub(crate) fn ended(&self, connection: usize, ending: Ending) {
        let at = self.started.elapsed();
        self.change(|log| {
            log.counts.open -= 1;
            log.counts.ended += 1;
            if let Some(entry) = log.connections.get_mut(connection) {
                entry.ended = Some((at, ending));
            }
        });
    }

    pub(crate) fn received(&self, connection: usize, bytes: &[u8]) {
        self.change(|log| {
            log.counts.bytes_received += bytes.len() as u64;
            if let Some(entry) = log.connections.get_mut(connection) {
                entry.received += bytes.len() as u64;
                let room = KEPT_BYTES.saturating_sub(entry.bytes.len());
                entry.bytes.extend_from_slice(&bytes[..bytes.len().min(room)]);
            }
        });
    }

    /// Counts a request as in flight; the result names its entry, if the log is kept.
    pub(crate) fn request(&self, connection: usize, raw: &[u8], head: &Head<'_>) -> Option<usize> {
        let arrived = self.started.elapsed();
        self.change(|log| {
            log.counts.requests += 1;
            log.counts.in_flight += 1;
            log.counts.max_in_flight = log.counts.max_in_flight.max(log.counts.in_flight);
            let entry = log.connections.get_mut(connection)?;
            let number = entry.requests;
            entry.requests += 1;
            log.requests.push(RequestLog {
                connection,
                number,
                method: head.method.to_owned(),
                target: head.target.to_owned(),
                head: raw.to_vec(),
                headers: (head.headers.iter())
                    .map(|header| (header.name.to_owned(), header.value.to_vec()))
                    .collect(),
                body: Vec::new(),
                complete: false,
                arrived,
            });
            Some(log.requests.len() - 1)
        })
    }

    pub(crate) fn body(&self, request: Option<usize>, body: &[u8], complete: bool) {
        let Some(request) = request else { return };
        self.change(|log| {
            log.requests[request].body.extend_from_slice(body);
            log.requests[request].complete = complete;
        });
    }

    pub(crate) fn answered(&self) {
        self.change(|log| log.counts.in_flight -= 1);
    }

    pub(crate) fn failed(&self, failure: String) {
        self.change(|log| log.failures.push(failure));
    }

    /// Waits until `condition` holds; the log as it is then, or at the timeout.
    pub(crate) fn wait_for(
        &self,
        mut condition: impl FnMut(&Log) -> bool,
        timeout: Duration,
    ) -> Result<Log, Box<Log>> {
        let mut held = false;
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let waited = self.changed.wait_timeout_while(self.lock(), timeout, |log| {
            held = condition(log);
            !held
        });
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        let log = waited.unwrap_or_else(PoisonError::into_inner).0.clone();
        if held { Ok(log) } else { Err(Box::new(log)) }
    }
}
