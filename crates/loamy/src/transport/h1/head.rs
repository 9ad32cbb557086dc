//! One response head: parsed by httparse, judged by RFC 9112 §6, and copied once.

use std::mem::MaybeUninit;

use http::Version;
use httparse::{Header, ParserConfig, Status};

use super::Fault;
use crate::growth::TRUSTED;
use crate::headers::elements;
use crate::headers::is_token_byte;
use crate::mask::excerpt;
use crate::policy::Sizes;

/// Fields for which there is room on the stack; more are rare, and get room on the heap.
const COMMON_FIELDS: usize = 64;

/// A final response's head, and the buffer that it begins.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) status: u16,
    pub(super) version: Version,
    pub(super) framing: Framing,
    pub(super) reusable: bool,
    pub(super) coded: bool,
    /// The fields as `Name: value\r\n`, with room for the body.
    pub(super) bytes: Vec<u8>,
}

/// How the body ends (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// There is none, whatever the fields say.
    Empty,
    Length(u64),
    Chunked,
    /// With the connection.
    Close,
}

/// What a piece of input turned out to be.
pub(super) enum Parsed {
    /// No whole head yet.
    Partial,
    /// A whole head of a 1xx response: its status, and how many bytes it is long.
    Informational(u16, usize),
    /// A whole head, so many bytes long.
    Final(usize, Head),
}

enum Failed {
    Parser(httparse::Error),
    Fault(Fault),
}

impl From<Fault> for Failed {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// Whether a value may go on in the next line (obs-fold, RFC 9112 §5.2).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Folds {
    Refused,
    Allowed,
}

/// Parses the head at the start of `input`, of which no more than the limit may be head; `head_only` for an answer to
/// HEAD.
pub(super) fn parse(input: &[u8], head_only: bool, sizes: &Sizes) -> Result<Parsed, Fault> {
    let mut folds = Folds::Refused;
    let mut slots = [const { MaybeUninit::uninit() }; COMMON_FIELDS];
    let mut many = Vec::new();
    let mut fields = COMMON_FIELDS.min(sizes.fields);
    loop {
        let slots = if fields <= COMMON_FIELDS { &mut slots[..fields] } else { &mut many[..] };
        match attempt(input, slots, folds, head_only) {
            Ok(parsed) => return Ok(parsed),
            Err(Failed::Fault(fault)) => return Err(fault),
            Err(Failed::Parser(httparse::Error::TooManyHeaders)) if fields < sizes.fields => {
                // Three bytes are the shortest field, so the input bounds their number.
                fields = sizes.fields.min(input.len() / 3 + 1).max(fields + 1);
                many = vec![MaybeUninit::uninit(); fields];
            }
            // A line that begins with a blank is no name. Folds are rare: the check for them is not made for every head.
            Err(Failed::Parser(httparse::Error::HeaderName)) if folds == Folds::Refused => {
                folds = Folds::Allowed
            }
            Err(Failed::Parser(error)) => return Err(blame(input, error, sizes)),
        }
    }
}

fn attempt<'b>(
    input: &'b [u8],
    slots: &mut [MaybeUninit<Header<'b>>],
    folds: Folds,
    head_only: bool,
) -> Result<Parsed, Failed> {
    let mut config = ParserConfig::default();
    config.allow_obsolete_multiline_headers_in_responses(folds == Folds::Allowed);
    let mut response = httparse::Response::new(&mut []);
    let parsed =
        config.parse_response_with_uninit_headers(&mut response, input, slots).map_err(Failed::Parser)?;
    let Status::Complete(len) = parsed else {
        return Ok(Parsed::Partial);
    };
    let status = response.code.unwrap_or_default();
    match status {
        0..100 => return Err(Fault::protocol(format!("status {status:03} is below 100")).into()),
        101 => return Err(Fault::protocol("the peer switched protocols (101) unasked").into()),
        102..200 | 100 => return Ok(Parsed::Informational(status, len)),
        _ => {}
    }
    let version = if response.version == Some(0) { Version::HTTP_10 } else { Version::HTTP_11 };

    let mut judge = Judge::default();
    let mut canonical = folds == Folds::Refused;
    let mut lines = 0;
    let first = response.headers.first().map_or(len - 2, |field| offset(input, field.name.as_bytes()));
    let mut next = first;
    for field in response.headers.iter() {
        let (name, value) = (offset(input, field.name.as_bytes()), offset(input, field.value));
        let end = value + field.value.len();
        canonical &= name == next
            && value == name + field.name.len() + 2
            && input[value - 1] == b' '
            && input[end] == b'\r';
        next = end + 2;
        lines += field.name.len() + field.value.len() + 4;
        judge.hear(field);
    }
    canonical &= next + 2 == len;

    let (framing, reusable) = judge.framing(status, version, head_only)?;
    let available = input.len() - len;
    let body = match framing {
        Framing::Empty => 0,
        Framing::Length(length) => {
            usize::try_from(length).map_or(TRUSTED, |length| length.min(TRUSTED.max(available)))
        }
        Framing::Chunked | Framing::Close => available,
    };
    let mut bytes = Vec::with_capacity(lines + body);
    if canonical {
        bytes.extend_from_slice(&input[first..len - 2]);
    } else {
        for field in response.headers.iter() {
            write_field(&mut bytes, field, folds);
        }
    }
    Ok(Parsed::Final(len, Head { status, version, framing, reusable, coded: judge.coded, bytes }))
}

/// Where a piece of the input begins in it.
fn offset(input: &[u8], piece: &[u8]) -> usize {
    piece.as_ptr() as usize - input.as_ptr() as usize
}

fn write_field(bytes: &mut Vec<u8>, field: &Header<'_>, folds: Folds) {
    bytes.extend_from_slice(field.name.as_bytes());
    bytes.extend_from_slice(b": ");
    if folds == Folds::Refused {
        bytes.extend_from_slice(field.value);
    } else {
        // RFC 9112 §5.2: each fold, with the blanks around it, becomes a space.
        let mut lines =
            field.value.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty());
        bytes.extend_from_slice(lines.next().unwrap_or_default());
        for line in lines {
            bytes.push(b' ');
            bytes.extend_from_slice(line);
        }
    }
    bytes.extend_from_slice(b"\r\n");
}

/// What the fields say about framing, gathered in one pass.
#[derive(Default)]
struct Judge<'b> {
    length: Option<&'b [u8]>,
    /// The first `Content-Length` that cannot be one, or is not the same as the one before.
    bad_length: Option<&'b [u8]>,
    transfer: bool,
    chunked: bool,
    bad_transfer: Option<&'b [u8]>,
    close: bool,
    keep_alive: bool,
    coded: bool,
}

impl<'b> Judge<'b> {
    fn hear(&mut self, field: &Header<'b>) {
        let name = field.name.as_bytes();
        match name.len() {
            10 if name.eq_ignore_ascii_case(b"connection") => {
                // Most servers say just this, and say it in every response.
                if field.value == b"keep-alive" {
                    self.keep_alive = true;
                    return;
                }
                for option in elements(field.value) {
                    self.close |= option.eq_ignore_ascii_case(b"close");
                    self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
                }
            }
            14 if name.eq_ignore_ascii_case(b"content-length") => self.hear_length(field.value),
            16 if name.eq_ignore_ascii_case(b"content-encoding") => self.coded = true,
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                self.transfer = true;
                for coding in elements(field.value).filter(|coding| !coding.is_empty()) {
                    if !coding.eq_ignore_ascii_case(b"chunked") || self.chunked {
                        self.bad_transfer.get_or_insert(field.value);
                    }
                    self.chunked = true;
                }
                if !self.chunked {
                    self.bad_transfer.get_or_insert(field.value);
                }
            }
            _ => {}
        }
    }

    /// RFC 9110 §8.6: a list of the same number may be taken for that number; anything else may not.
    fn hear_length(&mut self, value: &'b [u8]) {
        if self.length.is_none() && !value.is_empty() && value.iter().all(u8::is_ascii_digit) {
            self.length = Some(value);
            return;
        }
        for element in elements(value) {
            let fine = !element.is_empty() && element.iter().all(u8::is_ascii_digit);
            if !fine || self.length.is_some_and(|before| before != element) {
                self.bad_length.get_or_insert(value);
            }
            self.length = Some(element);
        }
    }

    fn framing(&self, status: u16, version: Version, head_only: bool) -> Result<(Framing, bool), Fault> {
        let persistent =
            if version == Version::HTTP_10 { self.keep_alive && !self.close } else { !self.close };
        // RFC 9112 §6.3 rule 1 stands before all fields; what they contradict, no further request may hang on.
        if head_only || status == 204 || status == 304 {
            let plain = self.bad_length.is_none()
                && self.bad_transfer.is_none()
                && !(self.transfer && self.length.is_some());
            return Ok((Framing::Empty, persistent && plain));
        }
        if self.transfer {
            if version == Version::HTTP_10 {
                return Err(Fault::protocol("an HTTP/1.0 response has a Transfer-Encoding"));
            }
            if let Some(value) = self.bad_transfer {
                return Err(Fault::protocol(format!(
                    "Transfer-Encoding {} is not chunked alone",
                    excerpt(value)
                )));
            }
            // RFC 9112 §6.3 rule 3: the coding wins over a length, and the connection is not to be trusted.
            return Ok((Framing::Chunked, persistent && self.length.is_none()));
        }
        if let Some(value) = self.bad_length {
            return Err(Fault::protocol(format!("Content-Length {} is no length", excerpt(value))));
        }
        match self.length {
            None => Ok((Framing::Close, false)),
            Some(text) => match text
                .iter()
                .try_fold(0u64, |sum, digit| sum.checked_mul(10)?.checked_add(u64::from(digit - b'0')))
            {
                Some(length) => Ok((Framing::Length(length), persistent)),
                None => Err(Fault::protocol(format!("Content-Length {} is past every size", excerpt(text)))),
            },
        }
    }
}

/// Finds the words for what the parser refused; it says what, not where.
fn blame(input: &[u8], error: httparse::Error, sizes: &Sizes) -> Fault {
    let mut lines = input.split(|byte| *byte == b'\n');
    let status_line = lines.next().unwrap_or_default().trim_ascii_end();
    match error {
        httparse::Error::TooManyHeaders => {
            Fault::too_large(format!("the response head has more than {} fields", sizes.fields))
        }
        httparse::Error::HeaderName => {
            let named = |line: &&[u8]| {
                let colon = memchr::memchr(b':', line).unwrap_or(0);
                colon > 0 && line[..colon].iter().copied().all(is_token_byte)
            };
            let line = lines.find(|line| !named(line)).unwrap_or_default();
            let colon = memchr::memchr(b':', line).map_or(line.len(), |colon| colon + 1);
            Fault::protocol(format!(
                "{} does not begin with a field name and a colon",
                excerpt(line[..colon].trim_ascii_end())
            ))
        }
        httparse::Error::HeaderValue => {
            let broken = |line: &&[u8]| {
                let line = line.strip_suffix(b"\r").unwrap_or(line);
                line.iter().any(|byte| (*byte < b' ' && *byte != b'\t') || *byte == 0x7f)
            };
            let line = lines.find(broken).unwrap_or_default();
            let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
            Fault::protocol(format!("the value of {} holds a control character", excerpt(name)))
        }
        _ => Fault::protocol(format!("{} is no status line of HTTP/1.1", excerpt(status_line))),
    }
}
