//! What the server saw: counts always, connections and requests when the log is kept.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};

use crate::http2::Http2Log;
use crate::options::Protocol;

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
    /// Bytes received on all connections, inside TLS where there is TLS.
    pub bytes_received: u64,
    /// TLS handshakes that succeeded, resumed ones included.
    pub handshakes: u64,
    /// Those that went on with an earlier session.
    pub resumed: u64,
    /// TLS handshakes that failed, on purpose or not.
    pub failed_handshakes: u64,
    /// Connections whose client began HTTP/2.
    pub http2: u64,
    /// The greatest number of streams open at once on one connection of HTTP/2.
    pub max_streams: u64,
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
    /// The first [`KEPT_BYTES`] of them, exactly as received, inside TLS.
    pub bytes: Vec<u8>,
    /// What the TLS handshake gave; `None` without TLS and before the ClientHello.
    pub tls: Option<TlsLog>,
    /// What its frames said; `None` over HTTP/1.1.
    pub http2: Option<Http2Log>,
}

/// A TLS handshake, as the server saw it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsLog {
    /// The name that the client asked for (SNI).
    pub server_name: Option<String>,
    /// The protocols that it offered (ALPN), in order.
    pub offered: Vec<String>,
    /// The version, `1.2` or `1.3`; `None` when the handshake failed, like those below.
    pub version: Option<String>,
    /// The protocol that was chosen (ALPN).
    pub alpn: Option<String>,
    /// The cipher suite by its name in rustls.
    pub cipher_suite: Option<String>,
    /// Whether an earlier session was resumed.
    pub resumed: bool,
    /// Whether the client showed a certificate.
    pub client_certificate: bool,
    /// Why the handshake failed.
    pub error: Option<String>,
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
    /// The client sent something that is no HTTP request; the reason.
    Malformed(String),
    /// The TLS handshake failed, and not because the script says so; the reason.
    Handshake(String),
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
    /// The head from the method to the empty line, exactly as received; over HTTP/2 the
    /// compressed field block, in scripts alone.
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
    /// The version of HTTP.
    pub http: Protocol,
    /// Its stream, over HTTP/2.
    pub stream: Option<u32>,
    /// `:scheme`, over HTTP/2.
    pub scheme: Option<String>,
    /// `:authority`, over HTTP/2. The pseudo-headers are not among the headers.
    pub authority: Option<String>,
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
                "tls": connection.tls.as_ref().map(TlsLog::to_json),
                "http2": connection.http2.as_ref().map(Http2Log::to_json),
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
                "http": request.http.alpn(),
                "stream": request.stream,
                "scheme": request.scheme,
                "authority": request.authority,
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
            "handshakes": self.handshakes,
            "resumed": self.resumed,
            "failed_handshakes": self.failed_handshakes,
            "http2": self.http2,
            "max_streams": self.max_streams,
        })
    }
}

impl TlsLog {
    /// The fields as a JSON object with their names.
    pub fn to_json(&self) -> Value {
        json!({
            "server_name": self.server_name,
            "offered": self.offered,
            "version": self.version,
            "alpn": self.alpn,
            "cipher_suite": self.cipher_suite,
            "resumed": self.resumed,
            "client_certificate": self.client_certificate,
            "error": self.error,
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
            Ending::Handshake(reason) => write!(formatter, "no TLS: {reason}"),
        }
    }
}

fn latin1(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}
