//! Writes responses, and reads what a target says.

use std::fmt::Arguments;
use std::io::Write;

use serde_json::Value;

use crate::coded;

/// A response in the making.
pub(crate) struct Reply {
    pub status: u16,
    pub extra: Vec<(String, String)>,
    pub head_only: bool,
    pub close: bool,
}

impl Reply {
    /// With one more header. CR and LF become spaces: the framing stays ours.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Reply {
        let clean = |text: &str| text.replace(['\r', '\n'], " ");
        self.extra.push((clean(name), clean(value)));
        self
    }

    pub(crate) fn json(self, value: &Value, out: &mut impl Sheet) {
        self.body("application/json", value.to_string().as_bytes(), out);
    }

    pub(crate) fn body(self, content_type: &str, body: &[u8], out: &mut impl Sheet) {
        // RFC 9110 sections 8.6 and 15.3.5: 204 has no Content-Length, and 304 no body.
        let bodiless = self.bodiless();
        let length = if bodiless { Length::None } else { Length::Known(body.len() as u64) };
        out.head(&self, content_type, length);
        if !bodiless && !self.head_only {
            out.body(body);
        }
    }

    fn bodiless(&self) -> bool {
        matches!(self.status, 204 | 304)
    }
}

/// How long the body is that follows a head.
#[derive(Clone, Copy)]
pub(crate) enum Length {
    /// So many bytes.
    Known(u64),
    /// The head does not say; the body comes in chunks.
    Chunked,
    /// There is none.
    None,
}

/// What answers are written to: the bytes of HTTP/1.1, or the parts that HTTP/2 frames.
pub(crate) trait Sheet {
    fn head(&mut self, reply: &Reply, content_type: &str, length: Length);

    /// A part of a body of known length.
    fn body(&mut self, bytes: &[u8]);

    /// A part of a body in chunks.
    fn chunk(&mut self, bytes: &[u8]);

    fn last_chunk(&mut self);

    /// How many bytes it holds.
    fn written(&self) -> usize;
}

impl Sheet for Vec<u8> {
    fn head(&mut self, reply: &Reply, content_type: &str, length: Length) {
        match reply.status {
            200 => self.extend_from_slice(b"HTTP/1.1 200 OK\r\nServer: testkit\r\n"),
            status => {
                let reason = reason(status);
                push(self, format_args!("HTTP/1.1 {status} {reason}\r\nServer: testkit\r\n"));
            }
        }
        if !reply.bodiless() {
            push(self, format_args!("Content-Type: {content_type}\r\n"));
        }
        match length {
            Length::Known(length) => push(self, format_args!("Content-Length: {length}\r\n")),
            Length::Chunked => self.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
            Length::None => {}
        }
        if reply.close {
            self.extend_from_slice(b"Connection: close\r\n");
        }
        for (name, value) in &reply.extra {
            push(self, format_args!("{name}: {value}\r\n"));
        }
        self.extend_from_slice(b"\r\n");
    }

    fn body(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }

    fn chunk(&mut self, bytes: &[u8]) {
        push(self, format_args!("{:x}\r\n", bytes.len()));
        self.extend_from_slice(bytes);
        self.extend_from_slice(b"\r\n");
    }

    fn last_chunk(&mut self) {
        self.extend_from_slice(b"0\r\n\r\n");
    }

    fn written(&self) -> usize {
        self.len()
    }
}

/// An answer in parts, as HTTP/2 wants it.
#[derive(Default)]
pub(crate) struct Parts {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Sheet for Parts {
    fn head(&mut self, reply: &Reply, content_type: &str, length: Length) {
        // RFC 9113 section 8.2.2: they are about the connection, which HTTP/2 frames itself.
        const OF_THE_CONNECTION: [&str; 5] =
            ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"];
        self.status = reply.status;
        self.headers.push(("server".into(), "testkit".into()));
        if !reply.bodiless() {
            self.headers.push(("content-type".into(), content_type.into()));
        }
        if let Length::Known(length) = length {
            self.headers.push(("content-length".into(), length.to_string()));
        }
        let extra = reply.extra.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.clone()));
        self.headers.extend(extra.filter(|(name, _)| !OF_THE_CONNECTION.contains(&name.as_str())));
    }

    fn body(&mut self, bytes: &[u8]) {
        self.body.extend_from_slice(bytes);
    }

    fn chunk(&mut self, bytes: &[u8]) {
        self.body.extend_from_slice(bytes);
    }

    fn last_chunk(&mut self) {}

    fn written(&self) -> usize {
        self.body.len()
    }
}

/// Formats into a buffer, which has no way to fail.
pub(crate) fn push(out: &mut Vec<u8>, text: Arguments<'_>) {
    let _ = out.write_fmt(text);
}

/// The first `size` bytes of the repeated pattern, in pieces of at most `largest`.
pub(crate) fn pieces(size: u64, largest: usize, mut piece: impl FnMut(&[u8])) {
    let pattern = coded::pattern();
    let mut at = 0;
    while at < size {
        let offset = (at % pattern.len() as u64) as usize;
        let room = largest.min(pattern.len() - offset) as u64;
        let count = room.min(size - at);
        piece(&pattern[offset..offset + count as usize]);
        at += count;
    }
}

/// The path and query of a target, which is a whole URL towards a proxy.
pub(crate) fn origin_form(target: &str) -> &str {
    match target.split_once("://") {
        Some((scheme, rest)) if !scheme.contains(['/', '?']) => match rest.find('/') {
            Some(path) => &rest[path..],
            None => "/",
        },
        _ => target,
    }
}

/// The names and values of a query, decoded.
pub(crate) fn pairs(query: &str) -> impl Iterator<Item = (String, String)> {
    let parts = query.split('&').filter(|part| !part.is_empty());
    parts.map(|part| {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        (decoded(name), decoded(value))
    })
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        let escaped = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match (first, escaped.and_then(|hex| u8::from_str_radix(hex, 16).ok())) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            (b'+', _) => bytes.push(b' '),
            _ => bytes.push(first),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

pub(crate) fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let word = (0..3).fold(0, |word, at| word << 8 | u32::from(group.get(at).copied().unwrap_or(0)));
        for digit in 0..4 {
            if digit <= group.len() {
                let index = word >> (18 - 6 * digit) & 63;
                text.push(char::from(DIGITS[index as usize]));
            } else {
                text.push('=');
            }
        }
    }
    text
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        206 => "Partial Content",
        300 => "Multiple Choices",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        413 => "Content Too Large",
        417 => "Expectation Failed",
        418 => "I'm a teapot",
        422 => "Unprocessable Content",
        425 => "Too Early",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        // RFC 9112 section 4: the reason may be empty, its space may not be left out.
        _ => "",
    }
}
