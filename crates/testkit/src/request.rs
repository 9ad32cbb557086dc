//! What a client sends: heads, framing and chunked bodies, parsed from a growing buffer.

use std::io;

use crate::recorder::Recorder;
use crate::wire::Wire;

/// The request head, borrowed from the bytes it was parsed from.
pub(crate) struct Head<'a> {
    pub method: &'a str,
    pub target: &'a str,
    pub headers: &'a [httparse::Header<'a>],
    pub framing: Framing,
    pub keep_alive: bool,
    pub expects_continue: bool,
    /// `:scheme` and `:authority` of HTTP/2.
    pub scheme: Option<&'a str>,
    pub authority: Option<&'a str>,
    /// The stream of HTTP/2 that it came on.
    pub stream: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    Length(usize),
    Chunked,
}

impl Head<'_> {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(found.value).ok()
    }
}

/// Parses one whole head (it ends with its empty line) and hands it to `read`.
pub(crate) fn parse_head<R>(bytes: &[u8], read: impl FnOnce(&Head<'_>) -> R) -> Result<R, String> {
    const USUAL: usize = 48;
    let mut slots = [httparse::EMPTY_HEADER; USUAL];
    let mut request = httparse::Request::new(&mut slots);
    match request.parse(bytes) {
        Ok(httparse::Status::Complete(_)) => read_head(&request, read),
        Err(httparse::Error::TooManyHeaders) => {
            let lines = memchr::memchr_iter(b'\n', bytes).count();
            let mut slots = vec![httparse::EMPTY_HEADER; lines];
            let mut request = httparse::Request::new(&mut slots);
            match request.parse(bytes) {
                Ok(httparse::Status::Complete(_)) => read_head(&request, read),
                Ok(httparse::Status::Partial) => Err("incomplete head".into()),
                Err(error) => Err(error.to_string()),
            }
        }
        Ok(httparse::Status::Partial) => Err("incomplete head".into()),
        Err(error) => Err(error.to_string()),
    }
}

fn read_head<R>(request: &httparse::Request<'_, '_>, read: impl FnOnce(&Head<'_>) -> R) -> Result<R, String> {
    let mut length = None;
    let mut chunked = false;
    let mut keep_alive = request.version == Some(1);
    let mut expects_continue = false;
    for header in request.headers.iter() {
        // Names of these lengths are the only ones that frame or steer the connection.
        match header.name.len() {
            14 if header.name.eq_ignore_ascii_case("content-length") => {
                let value = parse_length(header.value)?;
                if length.is_some_and(|earlier| earlier != value) {
                    return Err("two Content-Length that differ (RFC 9112 section 6.3)".into());
                }
                length = Some(value);
            }
            17 if header.name.eq_ignore_ascii_case("transfer-encoding") => {
                if !header.value.eq_ignore_ascii_case(b"chunked") || chunked {
                    return Err("a Transfer-Encoding other than chunked".into());
                }
                chunked = true;
            }
            10 if header.name.eq_ignore_ascii_case("connection") => {
                for option in header.value.split(|byte| *byte == b',') {
                    let option = option.trim_ascii();
                    if option.eq_ignore_ascii_case(b"close") {
                        keep_alive = false;
                    } else if option.eq_ignore_ascii_case(b"keep-alive") {
                        keep_alive = true;
                    }
                }
            }
            6 if header.name.eq_ignore_ascii_case("expect") => {
                expects_continue = header.value.eq_ignore_ascii_case(b"100-continue");
            }
            _ => {}
        }
    }
    let framing = match (length, chunked) {
        // RFC 9112 section 6.1: a client must not send both; here that is a bug of the client.
        (Some(_), true) => return Err("both Content-Length and Transfer-Encoding".into()),
        (length, false) => Framing::Length(length.unwrap_or(0)),
        (None, true) => Framing::Chunked,
    };
    Ok(read(&Head {
        method: request.method.unwrap_or_default(),
        target: request.path.unwrap_or_default(),
        headers: request.headers,
        framing,
        keep_alive,
        expects_continue,
        scheme: None,
        authority: None,
        stream: None,
    }))
}

fn parse_length(value: &[u8]) -> Result<usize, String> {
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(value)
        .ok()
        .filter(|_| digits)
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| format!("Content-Length {:?}", String::from_utf8_lossy(value)))
}

/// Decodes a chunked body (RFC 9112 section 7.1) from a buffer that grows at its end.
#[derive(Default)]
pub(crate) struct Chunks {
    pub body: Vec<u8>,
    at: usize,
    part: Part,
}

#[derive(Clone, Copy, Default)]
enum Part {
    #[default]
    Size,
    Data(usize),
    DataEnd,
    Trailers,
}

impl Chunks {
    /// Goes on where it stopped; `raw` starts at the first byte of the body each time.
    /// Returns the length of the whole coded body once its end is there.
    pub(crate) fn advance(&mut self, raw: &[u8]) -> Result<Option<usize>, String> {
        loop {
            let rest = &raw[self.at..];
            match self.part {
                Part::Size => {
                    let Some(line) = line(rest) else {
                        return Ok(None);
                    };
                    let size = line.split(|byte| *byte == b';').next().unwrap_or_default();
                    let size = std::str::from_utf8(size.trim_ascii()).unwrap_or_default();
                    let size = usize::from_str_radix(size, 16)
                        .map_err(|_| format!("chunk size {:?}", String::from_utf8_lossy(line)))?;
                    self.at += line.len() + 2;
                    self.part = if size == 0 { Part::Trailers } else { Part::Data(size) };
                }
                Part::Data(size) => {
                    let take = size.min(rest.len());
                    self.body.extend_from_slice(&rest[..take]);
                    self.at += take;
                    if take < size {
                        self.part = Part::Data(size - take);
                        return Ok(None);
                    }
                    self.part = Part::DataEnd;
                }
                Part::DataEnd => {
                    if rest.len() < 2 {
                        return Ok(None);
                    }
                    if !rest.starts_with(b"\r\n") {
                        return Err("a chunk that does not end with CRLF".into());
                    }
                    self.at += 2;
                    self.part = Part::Size;
                }
                Part::Trailers => {
                    let Some(line) = line(rest) else {
                        return Ok(None);
                    };
                    self.at += line.len() + 2;
                    if line.is_empty() {
                        return Ok(Some(self.at));
                    }
                }
            }
        }
    }
}

fn line(bytes: &[u8]) -> Option<&[u8]> {
    memchr::memmem::find(bytes, b"\r\n").map(|end| &bytes[..end])
}

/// The bytes received on one connection and not yet used.
#[derive(Default)]
pub(crate) struct Inbox {
    bytes: Vec<u8>,
    start: usize,
    scanned: usize,
}

impl Inbox {
    pub(crate) fn unread(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    pub(crate) fn consume(&mut self, count: usize) {
        self.start += count;
        self.scanned = 0;
        if self.start == self.bytes.len() {
            self.bytes.clear();
            self.start = 0;
            if self.bytes.capacity() > 1 << 20 {
                self.bytes.shrink_to(4096);
            }
        }
    }

    pub(crate) fn take(&mut self, count: usize) -> Vec<u8> {
        let taken = self.unread()[..count].to_vec();
        self.consume(count);
        taken
    }

    /// The length of the first head, its empty line included, once all of it is there.
    pub(crate) fn head_length(&mut self) -> Option<usize> {
        let from = self.scanned.saturating_sub(3);
        let found = memchr::memmem::find(&self.unread()[from..], b"\r\n\r\n");
        self.scanned = self.unread().len();
        found.map(|at| from + at + 4)
    }

    /// Reads once. 0 is the end of what the client sends.
    pub(crate) async fn fill(
        &mut self,
        wire: &mut Wire,
        recorder: &Recorder,
        connection: usize,
    ) -> io::Result<usize> {
        if self.start > 0 {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        if self.bytes.capacity() - self.bytes.len() < 1024 {
            self.bytes.reserve(1024);
        }
        let before = self.bytes.len();
        let count = wire.read(&mut self.bytes).await?;
        recorder.received(connection, &self.bytes[before..]);
        Ok(count)
    }
}
