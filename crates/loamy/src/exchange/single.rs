//! A row on a connection of its own, in HTTP/1.1.

use std::io;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::{BufMut, Bytes};

use super::{Done, Pace, Phase, Scratch, Taking, Terms, cancelled, failed};
use crate::job::{End, Job};
use crate::target::Origin;
use crate::transport::{Fault, Wire, h1, tls};
use crate::{Error, Kind, Response, framing};

/// A body up to this many bytes is written in one piece with its head.
const SMALL_BODY: usize = 16 << 10;

/// What one read of the operating system may bring; larger bodies are read straight to where they stay.
const READ: usize = 32 << 10;

/// A row on the wire. Not to be printed: its head has secrets.
pub(crate) struct Exchange {
    decoder: h1::Decoder,
    taking: Taking,
    pace: Pace,
    head: Vec<u8>,
    body: Bytes,
    write_error: Option<io::Error>,
    written_before: u64,
    /// Bytes of the response that came.
    received: u64,
    reused: bool,
    /// Whether the row itself asked for the connection to end with it.
    closes: bool,
    /// Whether the operating system has all that the connection took.
    is_flushed: bool,
}

impl Exchange {
    /// Writes the head, and as much of the body as is taken at once.
    pub(crate) fn begin(
        job: &Job,
        terms: &Terms,
        authority: &str,
        wire: &mut Wire,
        context: &mut Context<'_>,
        now: Instant,
        scratch: &mut Scratch,
    ) -> Self {
        let request = &job.request;
        let body = request.body.clone().unwrap_or_default();
        scratch.write.clear();
        h1::encode_head(
            &mut scratch.write,
            &h1::RequestHead {
                method: &request.method,
                target: job.path(),
                host: authority,
                headers: request.headers.view(),
                defaults: terms.defaults(job).headers.view(),
                body_len: request.body.as_ref().map(|body| body.len() as u64),
                authorization: job.authorization.as_deref(),
            },
        );
        let mut own = Self {
            decoder: h1::Decoder::new(&request.method, &terms.policy.sizes),
            taking: Taking::new(job, &terms.policy),
            pace: Pace::new(job, terms, now),
            head: Vec::new(),
            body,
            write_error: None,
            written_before: wire.traffic().written(),
            received: 0,
            reused: wire.served() > 0,
            closes: framing::wants_close(request.headers.view()),
            is_flushed: false,
        };
        own.write_first(wire, context, scratch);
        own
    }

    /// The head is in the scratch.
    fn write_first(&mut self, wire: &mut Wire, context: &mut Context<'_>, scratch: &mut Scratch) {
        if !self.body.is_empty() && self.body.len() <= SMALL_BODY && !self.pace.holds_the_body() {
            scratch.write.extend_from_slice(&self.body);
            self.body = Bytes::new();
        }
        let taken = match wire.poll_write(context, &scratch.write) {
            Poll::Ready(Ok(taken)) => taken,
            Poll::Ready(Err(error)) => return self.stop_writing(error),
            Poll::Pending => 0,
        };
        self.head.extend_from_slice(&scratch.write[taken..]);
        if self.next_to_write().is_none() {
            self.flush(wire, context);
        }
    }

    /// Goes on as far as it goes.
    pub(crate) fn poll(
        &mut self,
        wire: &mut Wire,
        context: &mut Context<'_>,
        scratch: &mut Scratch,
        now: Instant,
    ) -> Poll<Done> {
        if !self.is_written() {
            self.write(wire, context, now);
        }
        loop {
            let read = match self.read(wire, context, scratch) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(read) => read,
            };
            self.pace.advanced = now;
            let step = match read {
                Ok(Read::Fed { done }) if done => return Poll::Ready(self.answered(wire)),
                Ok(Read::Fed { .. }) => {
                    if self.decoder.continues() && self.pace.holds_the_body() {
                        self.pace.let_the_body_go(now);
                        self.is_flushed = false;
                        self.write(wire, context, now);
                    }
                    continue;
                }
                Ok(Read::End) => self.decoder.eof().map(|()| true),
                Ok(Read::Bad(fault)) => Err(fault),
                Err(error) => return Poll::Ready(self.broken_by(wire, error)),
            };
            return Poll::Ready(match step {
                Ok(_) => self.answered(wire),
                Err(fault) => {
                    let source = self.write_error.take();
                    self.broken(wire, Error::new(fault.kind, fault.message), source)
                }
            });
        }
    }

    /// When it must have moved on, and what it is called if it has not.
    pub(crate) fn deadline(&self) -> Option<(Instant, Kind)> {
        let has_begun = self.decoder.final_has_begun();
        self.pace.deadline(match (self.is_written() || self.pace.holds_the_body(), has_begun) {
            (false, _) => Phase::Write,
            (true, false) => Phase::FirstByte,
            (true, true) => Phase::Read,
        })
    }

    /// Whether the peer had its time to say that it wants the body, which then goes without its word.
    pub(crate) fn waits_no_longer(&mut self, now: Instant) -> bool {
        let is_over = !self.decoder.final_has_begun() && self.pace.waits_no_longer(now);
        self.is_flushed &= !is_over;
        is_over
    }

    /// Gives up because the time is over.
    pub(crate) fn time_out(&mut self, wire: &Wire, origin: &Origin, kind: Kind) -> Done {
        let error = self.pace.late(kind, origin);
        self.broken(wire, error, None)
    }

    /// Gives up because the batch was interrupted.
    pub(crate) fn cancel(&mut self, wire: &Wire) -> Done {
        self.broken(wire, cancelled(), None)
    }

    fn is_written(&self) -> bool {
        self.write_error.is_some() || (self.head.is_empty() && self.body.is_empty() && self.is_flushed)
    }

    fn write(&mut self, wire: &mut Wire, context: &mut Context<'_>, now: Instant) {
        while let Some(rest) = self.next_to_write() {
            match wire.poll_write(context, rest) {
                Poll::Ready(Ok(taken)) => {
                    self.pace.advanced = now;
                    if self.head.is_empty() {
                        self.body = self.body.slice(taken..);
                    } else {
                        self.head.drain(..taken);
                    }
                }
                Poll::Ready(Err(error)) => return self.stop_writing(error),
                Poll::Pending => return,
            }
        }
        self.flush(wire, context);
    }

    fn next_to_write(&self) -> Option<&[u8]> {
        let body = if self.pace.holds_the_body() { &[] } else { &self.body[..] };
        [&self.head[..], body].into_iter().find(|rest| !rest.is_empty())
    }

    fn flush(&mut self, wire: &mut Wire, context: &mut Context<'_>) {
        match wire.poll_flush(context) {
            Poll::Ready(Ok(())) => self.is_flushed = true,
            Poll::Ready(Err(error)) => self.stop_writing(error),
            Poll::Pending => {}
        }
    }

    /// The peer takes no more; what it has to say may be waiting to be read (RFC 9112 §9.5).
    fn stop_writing(&mut self, error: io::Error) {
        self.write_error = Some(error);
    }

    fn read(
        &mut self,
        wire: &mut Wire,
        context: &mut Context<'_>,
        scratch: &mut Scratch,
    ) -> Poll<io::Result<Read>> {
        if let Some((buffer, wanted)) = self.decoder.direct() {
            let count = std::task::ready!(wire.poll_read(context, &mut buffer.limit(wanted)))?;
            self.received += count as u64;
            return Poll::Ready(Ok(match count {
                0 => Read::End,
                _ => Read::Fed { done: self.decoder.direct_filled() },
            }));
        }
        scratch.read.clear();
        scratch.read.reserve(READ);
        let count = std::task::ready!(wire.poll_read(context, &mut (&mut scratch.read).limit(READ)))?;
        self.received += count as u64;
        if count == 0 {
            return Poll::Ready(Ok(Read::End));
        }
        Poll::Ready(Ok(match self.decoder.feed(&scratch.read) {
            Ok(fed) => {
                if fed.used < scratch.read.len() {
                    wire.note_surplus();
                }
                Read::Fed { done: fed.done }
            }
            Err(fault) => Read::Bad(fault),
        }))
    }

    fn answered(&mut self, wire: &Wire) -> Done {
        let finished = self.take_decoder().finish();
        let reusable = finished.reusable
            && !self.closes
            && !wire.has_surplus()
            && self.is_written()
            && self.write_error.is_none();
        let is_coded = finished.coded;
        let end = match self.taking.decoded(received(finished), is_coded) {
            Ok(response) => End::Answered(response),
            Err(error) => self.failed(wire, error),
        };
        Done { end, reusable, wants_http1: false }
    }

    fn broken_by(&mut self, wire: &Wire, error: io::Error) -> Done {
        let (kind, message) = match (self.decoder.head_is_complete(), self.decoder.has_begun()) {
            (true, _) => (Kind::Incomplete, "the connection broke in the body of the response"),
            (false, true) => (Kind::Incomplete, "the connection broke in the head of the response"),
            (false, false) => (Kind::Closed, "the connection broke before the response began"),
        };
        let error_of_row = match tls::alert(&error) {
            Some((kind, message)) => Error::new(kind, message),
            None => Error::new(kind, message),
        };
        self.broken(wire, error_of_row, Some(error))
    }

    fn broken(&mut self, wire: &Wire, error: Error, source: Option<io::Error>) -> Done {
        let mut error = error.with_response(self.take_decoder().partial().map(received));
        if let Some(source) = source {
            error = error.caused_by_io(source);
        }
        Done { end: self.failed(wire, error), reusable: false, wants_http1: false }
    }

    /// The end of a row that failed, with what moved until then.
    fn failed(&self, wire: &Wire, error: Error) -> End {
        failed(error, wire.traffic().written() - self.written_before, self.received, self.reused)
    }

    fn take_decoder(&mut self) -> h1::Decoder {
        std::mem::replace(&mut self.decoder, h1::Decoder::new(&http::Method::GET, &self.taking.sizes))
    }
}

fn received(finished: h1::Finished) -> Response {
    Response {
        status: finished.status,
        version: finished.version,
        redirects: 0,
        head: finished.head_len,
        bytes: finished.bytes.into(),
        url: Box::default(),
    }
}

enum Read {
    Fed { done: bool },
    End,
    Bad(Fault),
}
