//! One response, from the bytes that were read: state, limits, and what becomes of it when it breaks.

use http::{Method, Version};

use super::Fault;
use super::chunked::Chunks;
use super::head::{self, Framing, Head, Parsed};
use crate::Kind;
use crate::growth::{make_room, make_room_unknown, settled};
use crate::policy::Sizes;

/// Empty lines skipped before a status line: some servers end the response before with one too many.
const EMPTY_LINES: usize = 8;

/// Bodies of which more is missing are worth reading where they will stay; smaller rests come along with what follows.
const DIRECT: usize = 4 << 10;

/// Makes one response of the bytes read; the framing is RFC 9112 §6, the limits are the policy's.
#[derive(Debug)]
pub(crate) struct Decoder {
    stage: Stage,
    head_only: bool,
    begun: bool,
    reusable: bool,
    coded: bool,
    status: u16,
    version: Version,
    head_len: usize,
    /// The fields and the body, in their final form.
    bytes: Vec<u8>,
    /// The head, as far as it came.
    pending: Vec<u8>,
    /// How long the head must have become to be looked at again: twice the length of the last time, so that a drip of
    /// single bytes costs no more than twice its length.
    look_again: usize,
    informational: usize,
    /// Whether the peer wants the body of the request (RFC 9110 §15.2.1).
    continues: bool,
    empty_lines: usize,
    sizes: Sizes,
}

#[derive(Debug)]
enum Stage {
    Head,
    /// Until `bytes` is this long.
    Length(usize),
    Chunked(Chunks),
    Close,
    Done,
}

/// How far a piece of input led.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fed {
    /// Bytes taken. Less than all only when the response is whole: the rest answers nothing that was asked, and the
    /// connection must not be used again (RFC 9112 §9.2).
    pub(crate) used: usize,
    /// Whether the response is whole.
    pub(crate) done: bool,
}

/// A response as it was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finished {
    pub(crate) status: u16,
    pub(crate) version: Version,
    /// Where in `bytes` the fields end and the body begins.
    pub(crate) head_len: u32,
    /// The fields as `Name: value\r\n`, then the body.
    pub(crate) bytes: Vec<u8>,
    /// Whether the connection may carry another request, as far as this response tells.
    pub(crate) reusable: bool,
    /// Whether there is a `Content-Encoding`.
    pub(crate) coded: bool,
}

impl Decoder {
    /// A decoder for the answer to a request of that method.
    pub(crate) fn new(method: &Method, sizes: &Sizes) -> Self {
        // Positions in the head are 32 bits wide in a response.
        let sizes = Sizes { head: sizes.head.min(u32::MAX as usize / 4), ..*sizes };
        Self {
            stage: Stage::Head,
            head_only: *method == Method::HEAD,
            begun: false,
            reusable: false,
            coded: false,
            status: 0,
            version: Version::HTTP_11,
            head_len: 0,
            bytes: Vec::new(),
            pending: Vec::new(),
            look_again: 0,
            informational: 0,
            continues: false,
            empty_lines: 0,
            sizes,
        }
    }

    /// Takes bytes that were read.
    ///
    /// # Errors
    /// `protocol` and `too_large`. The connection is then to be closed; what came so far is in [`partial`](Self::partial).
    pub(crate) fn feed(&mut self, input: &[u8]) -> Result<Fed, Fault> {
        self.begun |= !input.is_empty();
        let mut used = 0;
        while matches!(self.stage, Stage::Head) && used < input.len() {
            used += self.feed_head(&input[used..])?;
        }
        let rest = &input[used..];
        let most = self.sizes.body.saturating_add(self.head_len as u64);
        match &mut self.stage {
            Stage::Head | Stage::Done => {}
            Stage::Length(whole) => {
                let taken = rest.len().min(*whole - self.bytes.len());
                make_room(&mut self.bytes, *whole, taken);
                self.bytes.extend_from_slice(&rest[..taken]);
                used += taken;
                if self.bytes.len() == *whole {
                    self.stage = Stage::Done;
                }
            }
            Stage::Chunked(chunks) => {
                make_room_unknown(&mut self.bytes, most, rest.len());
                used += chunks.feed(rest, &mut self.bytes, &self.sizes)?;
                if chunks.is_done() {
                    self.stage = Stage::Done;
                }
            }
            Stage::Close => {
                make_room_unknown(&mut self.bytes, most, rest.len());
                let room = self.sizes.body - (self.bytes.len() - self.head_len) as u64;
                let taken = usize::try_from(room).map_or(rest.len(), |room| room.min(rest.len()));
                self.bytes.extend_from_slice(&rest[..taken]);
                used += taken;
                if taken < rest.len() {
                    return Err(self.body_too_large());
                }
            }
        }
        Ok(Fed { used, done: matches!(self.stage, Stage::Done) })
    }

    /// The peer closed the connection: a body that ends with it is whole, anything else is not.
    ///
    /// # Errors
    /// `closed` when nothing of the response came, `incomplete` when it ends early, `protocol` when what came of the
    /// head could not have become one.
    pub(crate) fn eof(&mut self) -> Result<(), Fault> {
        match &self.stage {
            Stage::Done => Ok(()),
            Stage::Close => {
                self.stage = Stage::Done;
                Ok(())
            }
            Stage::Head if !self.begun => Err(Fault {
                kind: Kind::Closed,
                message: "the connection closed before the response began".into(),
            }),
            Stage::Head => {
                if !self.pending.is_empty() {
                    head::parse(&self.pending, self.head_only, &self.sizes)?;
                }
                Err(Fault::incomplete(match (self.pending.len(), self.informational) {
                    (0, _) => "the connection closed after an informational response, before the final one"
                        .to_owned(),
                    (len, _) => format!("the connection closed after {len} bytes of the response head"),
                }))
            }
            Stage::Length(whole) => Err(Fault::incomplete(format!(
                "the connection closed after {} of {} bytes of the body",
                self.bytes.len() - self.head_len,
                whole - self.head_len
            ))),
            Stage::Chunked(chunks) => Err(Fault::incomplete(format!(
                "the connection closed {}, after {} bytes of the body",
                chunks.missing(),
                self.bytes.len() - self.head_len
            ))),
        }
    }

    /// Where the rest of a large body of known length may be read to without being copied again, and how much of it
    /// there is room for now; then [`direct_filled`](Self::direct_filled).
    ///
    /// For `read_buf(&mut buffer.limit(room))`, which takes no more than the room and so no more than the body. What
    /// the peer sends beyond it stays in the socket, and makes itself known when the connection is looked at next.
    pub(crate) fn direct(&mut self) -> Option<(&mut Vec<u8>, usize)> {
        let Stage::Length(whole) = self.stage else {
            return None;
        };
        let missing = whole - self.bytes.len();
        if missing < DIRECT {
            return None;
        }
        make_room(&mut self.bytes, whole, missing.min(DIRECT));
        let room = missing.min(self.bytes.capacity() - self.bytes.len());
        Some((&mut self.bytes, room))
    }

    /// Says that something was read into [`direct`](Self::direct)'s buffer; answers whether the response is whole.
    pub(crate) fn direct_filled(&mut self) -> bool {
        if let Stage::Length(whole) = self.stage
            && self.bytes.len() >= whole
        {
            debug_assert_eq!(self.bytes.len(), whole, "more was read than there was room for");
            self.bytes.truncate(whole);
            self.stage = Stage::Done;
        }
        matches!(self.stage, Stage::Done)
    }

    /// Whether any byte of a response came.
    pub(crate) fn has_begun(&self) -> bool {
        self.begun
    }

    /// Whether the peer said that it wants the body of the request.
    pub(crate) fn continues(&self) -> bool {
        self.continues
    }

    /// Whether any byte came of what may be the final response, behind those that are informational.
    pub(crate) fn final_has_begun(&self) -> bool {
        self.head_is_complete() || !self.pending.is_empty()
    }

    /// Whether the head of the final response came.
    pub(crate) fn head_is_complete(&self) -> bool {
        self.status != 0
    }

    /// The response. Only for one that is whole.
    pub(crate) fn finish(self) -> Finished {
        debug_assert!(matches!(self.stage, Stage::Done), "a response that is not whole was finished");
        Finished {
            status: self.status,
            version: self.version,
            head_len: self.head_len as u32,
            bytes: settled(self.bytes),
            reusable: self.reusable,
            coded: self.coded,
        }
    }

    /// What came of a response that broke, when its head is complete.
    pub(crate) fn partial(mut self) -> Option<Finished> {
        if !self.head_is_complete() {
            return None;
        }
        self.stage = Stage::Done;
        self.reusable = false;
        Some(self.finish())
    }

    /// Takes bytes of the head, up to its end; says how many.
    fn feed_head(&mut self, input: &[u8]) -> Result<usize, Fault> {
        if self.pending.is_empty() {
            match input[0] {
                b'\n' => return self.skip_empty_line(1),
                b'\r' if input.get(1) == Some(&b'\n') => return self.skip_empty_line(2),
                _ => {}
            }
            // Nearly always the whole head is here: no search for its end, no copy.
            let window = &input[..input.len().min(self.sizes.head)];
            let known = if window.len() == input.len() { input } else { window };
            return match head::parse(known, self.head_only, &self.sizes)? {
                Parsed::Partial if window.len() == self.sizes.head => Err(self.head_too_large()),
                Parsed::Partial => {
                    self.pending.extend_from_slice(input);
                    self.look_again = 2 * self.pending.len();
                    Ok(input.len())
                }
                parsed => self.take_head(parsed),
            };
        }
        if self.pending == b"\r" && input[0] == b'\n' {
            self.pending.clear();
            return self.skip_empty_line(1);
        }
        let before = self.pending.len();
        let taken = input.len().min(self.sizes.head - before);
        self.pending.extend_from_slice(&input[..taken]);
        let end = end_of_head(&self.pending, before);
        let len = self.pending.len();
        if end.is_none() && len < self.look_again && len < self.sizes.head {
            return Ok(taken);
        }
        self.look_again = 2 * len;
        // Behind the end there may be body: it is not the head's.
        let pending = std::mem::take(&mut self.pending);
        match head::parse(&pending[..end.unwrap_or(len)], self.head_only, &self.sizes)? {
            Parsed::Partial if len == self.sizes.head => Err(self.head_too_large()),
            Parsed::Partial => {
                self.pending = pending;
                Ok(taken)
            }
            parsed => Ok(self.take_head(parsed)? - before),
        }
    }

    fn take_head(&mut self, parsed: Parsed) -> Result<usize, Fault> {
        self.empty_lines = 0;
        match parsed {
            Parsed::Partial => Ok(0),
            Parsed::Informational(status, len) => {
                self.informational += 1;
                self.continues |= status == 100;
                if self.informational > self.sizes.informational {
                    let limit = self.sizes.informational;
                    return Err(Fault::too_large(format!(
                        "more than {limit} informational responses came before the final one"
                    )));
                }
                Ok(len)
            }
            Parsed::Final(len, head) => {
                self.begin_body(head)?;
                Ok(len)
            }
        }
    }

    fn begin_body(&mut self, head: Head) -> Result<(), Fault> {
        self.status = head.status;
        self.version = head.version;
        self.reusable = head.reusable;
        self.coded = head.coded;
        self.bytes = head.bytes;
        self.head_len = self.bytes.len();
        self.stage = match head.framing {
            Framing::Empty | Framing::Length(0) => Stage::Done,
            Framing::Length(length) => {
                let whole = usize::try_from(length).ok().and_then(|length| length.checked_add(self.head_len));
                match whole {
                    Some(whole) if length <= self.sizes.body => Stage::Length(whole),
                    _ => {
                        let limit = self.sizes.body;
                        return Err(Fault::too_large(format!(
                            "the body is {length} bytes large, more than {limit}"
                        )));
                    }
                }
            }
            Framing::Chunked => Stage::Chunked(Chunks::new()),
            Framing::Close => Stage::Close,
        };
        Ok(())
    }

    fn skip_empty_line(&mut self, len: usize) -> Result<usize, Fault> {
        self.empty_lines += 1;
        if self.empty_lines > EMPTY_LINES {
            return Err(Fault::protocol("empty lines came in place of a status line"));
        }
        Ok(len)
    }

    fn head_too_large(&self) -> Fault {
        Fault::too_large(format!("the response head is larger than {} bytes", self.sizes.head))
    }

    fn body_too_large(&self) -> Fault {
        Fault::too_large(format!("the body is larger than {} bytes", self.sizes.body))
    }
}

/// The end of the head: behind an empty line that ends at or behind `from`.
fn end_of_head(bytes: &[u8], from: usize) -> Option<usize> {
    memchr::memchr_iter(b'\n', &bytes[from..]).map(|at| from + at).find_map(|at| {
        let line = bytes[..at].strip_suffix(b"\r").unwrap_or(&bytes[..at]);
        line.ends_with(b"\n").then_some(at + 1)
    })
}

#[cfg(test)]
mod tests;
