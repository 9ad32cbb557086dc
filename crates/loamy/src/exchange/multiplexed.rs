//! A row on a stream of a connection that it shares, in HTTP/2.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use ::h2::client::ResponseFuture;
use ::h2::{RecvStream, SendStream};
use bytes::Bytes;
use http::uri::{Authority, Scheme};

use super::{Done, Pace, Phase, Taking, Terms, cancelled, failed};
use crate::growth;
use crate::job::{End, Job};
use crate::target::Origin;
use crate::transport::h2::{self, Came, Carrier, Opened};
use crate::transport::{Fault, tls};
use crate::{Error, Kind, Response};

/// How much of a body is handed over at a time: what a connection holds of an upload beyond what the peer will take.
const PIECE: usize = 256 << 10;

/// A row on a stream.
#[derive(Debug)]
pub(crate) struct Exchange {
    incoming: Incoming,
    /// The sending side, until all of the body is handed over.
    outgoing: Option<SendStream<Bytes>>,
    body: Bytes,
    taking: Taking,
    pace: Pace,
    informational: usize,
    /// Whether anything can have come: not before the first look.
    was_looked_at: bool,
    written_before: u64,
    /// Bytes of the response that came, its head as it is kept.
    received: u64,
}

#[derive(Debug)]
enum Incoming {
    Head(ResponseFuture),
    Body { head: h2::Head, head_len: usize, stream: RecvStream },
    Ended,
}

/// What becomes of the connection when a row gives up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Others {
    /// It is closed, and what it holds back is never written.
    None,
    /// It goes on with other rows.
    GoOn,
}

/// How a row began on a stream.
pub(crate) enum Begun {
    /// It is on its way.
    Sent(Box<Exchange>),
    /// Nothing of it was sent, and it will do as well on another connection.
    Unsent,
    /// It cannot be sent at all.
    Refused(Error),
}

impl Exchange {
    /// Opens a stream for the row and sends its head.
    pub(crate) fn begin(
        job: &Job,
        terms: &Terms,
        scheme: &Scheme,
        authority: &Authority,
        carrier: &mut Carrier,
        now: Instant,
    ) -> Begun {
        let request = &job.request;
        let head = h2::request_head(&h2::RequestHead {
            method: &request.method,
            scheme,
            authority,
            target: job.path(),
            headers: request.headers.view(),
            defaults: &terms.defaults(job).fields,
            body_len: request.body.as_ref().map(|body| body.len() as u64),
            authorization: job.authorization.as_deref(),
        });
        let head = match head {
            Ok(head) => head,
            Err(error) => return Begun::Refused(error),
        };
        let body = request.body.clone().unwrap_or_default();
        let written_before = carrier.traffic().written();
        let (response, outgoing) = match carrier.open_stream(head, body.is_empty()) {
            Opened::Stream(response, outgoing) => (response, outgoing),
            Opened::Not => return Begun::Unsent,
            Opened::Never(error) => return Begun::Refused(error),
        };
        Begun::Sent(Box::new(Self {
            incoming: Incoming::Head(response),
            outgoing: (!body.is_empty()).then_some(outgoing),
            body,
            taking: Taking::new(job, &terms.policy),
            pace: Pace::new(job, terms, now),
            informational: 0,
            was_looked_at: false,
            written_before,
            received: 0,
        }))
    }

    /// Goes on as far as it goes.
    pub(crate) fn poll(
        &mut self,
        carrier: &mut Carrier,
        context: &mut Context<'_>,
        now: Instant,
    ) -> Poll<Done> {
        self.write(carrier, context, now);
        loop {
            let mut taken = 0;
            let step = match &mut self.incoming {
                Incoming::Head(response) => {
                    while std::mem::replace(&mut self.was_looked_at, true)
                        && let Poll::Ready(Some(Ok(early))) = response.poll_informational(context)
                    {
                        self.informational += 1;
                        self.pace.advanced = now;
                        if early.status() == http::StatusCode::CONTINUE && self.pace.holds_the_body() {
                            self.pace.let_the_body_go(now);
                            return self.poll(carrier, context, now);
                        }
                        let limit = self.taking.sizes.informational;
                        if early.status() == http::StatusCode::SWITCHING_PROTOCOLS {
                            carrier.close();
                            let message = "the peer switched protocols (101) unasked";
                            return Poll::Ready(self.faulty(carrier, Fault::protocol(message)));
                        }
                        if self.informational > limit {
                            // It goes on talking on that stream, and nobody there would listen.
                            carrier.close();
                            let message = format!(
                                "more than {limit} informational responses came before the final one"
                            );
                            return Poll::Ready(self.faulty(carrier, Fault::too_large(message)));
                        }
                    }
                    match std::task::ready!(Pin::new(response).poll(context)) {
                        Ok(response) => self.take_head(response),
                        Err(error) => Err(error.into()),
                    }
                }
                Incoming::Body { head, head_len, stream } => {
                    match std::task::ready!(stream.poll_data(context)) {
                        Some(Ok(piece)) => {
                            taken = piece.len();
                            self.received += taken as u64;
                            // Given back at once: the body is in its place, so the peer may send on.
                            let _ = stream.flow_control().release_capacity(taken);
                            let kept = take_piece(head, *head_len, &piece, self.taking.sizes.body);
                            kept.map(|()| Step::GoOn).map_err(Broken::from)
                        }
                        Some(Err(error)) => Err(error.into()),
                        None => Ok(Step::Whole),
                    }
                }
                Incoming::Ended => return Poll::Pending,
            };
            self.pace.advanced = now;
            match step {
                Ok(Step::GoOn) => carrier.note_use(taken),
                Ok(Step::Whole) => return Poll::Ready(self.answered(carrier)),
                Err(Broken::Fault(fault)) => return Poll::Ready(self.faulty(carrier, fault)),
                Err(Broken::Protocol(error)) => return Poll::Ready(self.broken_by(carrier, error)),
            }
        }
    }

    /// When it must have moved on, and what it is called if it has not.
    pub(crate) fn deadline(&self) -> Option<(Instant, Kind)> {
        self.pace.deadline(match &self.incoming {
            Incoming::Head(_) if self.outgoing.is_some() && !self.pace.holds_the_body() => Phase::Write,
            Incoming::Head(_) => Phase::FirstByte,
            _ => Phase::Read,
        })
    }

    /// Whether the peer had its time to say that it wants the body, which then goes without its word.
    pub(crate) fn waits_no_longer(&mut self, now: Instant) -> bool {
        matches!(self.incoming, Incoming::Head(_)) && self.pace.waits_no_longer(now)
    }

    /// Gives up because the time is over.
    pub(crate) fn time_out(&mut self, carrier: &mut Carrier, origin: &Origin, kind: Kind) -> Done {
        let error = self.pace.late(kind, origin);
        self.given_up(carrier, error, Others::GoOn)
    }

    /// Gives up because the batch was interrupted.
    pub(crate) fn cancel(&mut self, carrier: &mut Carrier, others: Others) -> Done {
        self.given_up(carrier, cancelled(), others)
    }

    /// Gives up because the connection is of no use any more.
    pub(crate) fn abandon(&mut self, carrier: &mut Carrier, why: &Fault) -> Done {
        let kind = match (&self.incoming, why.kind) {
            (Incoming::Body { .. }, Kind::Closed) => Kind::Incomplete,
            (_, kind) => kind,
        };
        self.broken(carrier, Error::new(kind, why.message.clone()))
    }

    fn write(&mut self, carrier: &mut Carrier, context: &mut Context<'_>, now: Instant) {
        if self.pace.holds_the_body() {
            return;
        }
        while let Some(outgoing) = &mut self.outgoing {
            outgoing.reserve_capacity(self.body.len().min(PIECE));
            let room = match outgoing.capacity() {
                0 => match outgoing.poll_capacity(context) {
                    Poll::Ready(Some(Ok(room))) => room,
                    Poll::Pending => return,
                    // The stream is closed or broken, and its other side says how.
                    Poll::Ready(None | Some(Err(_))) => return self.outgoing = None,
                },
                room => room,
            };
            let piece = self.body.split_to(room.min(self.body.len()));
            let ends = self.body.is_empty();
            self.pace.advanced = now;
            // What opened its window was for this row.
            carrier.note_use(0);
            if outgoing.send_data(piece, ends).is_err() || ends {
                self.outgoing = None;
            }
        }
    }

    fn take_head(&mut self, response: http::Response<RecvStream>) -> Result<Step, Broken> {
        if self.pace.holds_the_body() {
            // It has its answer without the body.
            self.outgoing = None;
        }
        let (parts, stream) = response.into_parts();
        let head = h2::response_head(parts.status.as_u16(), &parts.headers, &self.taking.sizes);
        let head = head.map_err(Broken::Fault)?;
        let head_len = head.bytes.len();
        self.received += head_len as u64;
        let is_whole = stream.is_end_stream();
        self.incoming = Incoming::Body { head, head_len, stream };
        Ok(if is_whole { Step::Whole } else { Step::GoOn })
    }

    fn answered(&mut self, carrier: &mut Carrier) -> Done {
        carrier.note_use(0);
        let Some((response, is_coded)) = self.take_response() else {
            return self.faulty(carrier, Fault::protocol("the response ended twice"));
        };
        let end = match self.taking.decoded(response, is_coded) {
            Ok(response) => End::Answered(response),
            Err(error) => self.failed(carrier, error),
        };
        Done { end, reusable: true, wants_http1: false }
    }

    fn broken_by(&mut self, carrier: &mut Carrier, error: ::h2::Error) -> Done {
        let failure = h2::failure(&error, self.came(carrier));
        if failure.is_ours {
            carrier.note_leftovers();
        }
        // The `h2` crate keeps nothing of what reading failed by but its sort.
        let source = error.is_io().then(|| carrier.broke()).flatten();
        let of_tls = source.as_ref().and_then(tls::alert);
        let named = match of_tls {
            Some((kind, message)) => Error::new(kind, message),
            None => failure.fault.into(),
        };
        let named = named.with_response(self.take_response().map(|(it, _)| it));
        let named = match source {
            Some(source) => named.caused_by_io(source),
            None => named.caused_by(error),
        };
        let mut end = self.failed(carrier, named);
        if let End::Broken(_, failed) = &mut end {
            failed.asked_for_calm = failure.asks_for_calm;
            // A stream that the peer ended on its own tells nothing of a connection that died.
            failed.reused &= failure.of_connection;
            failed.was_to_end &= failure.of_connection;
        }
        Done { end, reusable: !failure.of_connection, wants_http1: failure.wants_http1 }
    }

    /// What is known of the response when its stream fails.
    fn came(&self, carrier: &Carrier) -> Came {
        match &self.incoming {
            Incoming::Head(response) if carrier.heard_a_head_of(response.stream_id().as_u32()) => {
                Came::PartOfTheHead
            }
            Incoming::Head(_) => Came::Nothing,
            _ => Came::TheHead,
        }
    }

    fn faulty(&mut self, carrier: &mut Carrier, fault: Fault) -> Done {
        self.broken(carrier, fault.into())
    }

    fn given_up(&mut self, carrier: &mut Carrier, error: Error, others: Others) -> Done {
        let mut done = self.broken(carrier, error);
        if let (Others::GoOn, End::Broken(_, failed)) = (others, &mut done.end) {
            // The head was handed to the connection, which writes it when it can: that nothing was written is no proof.
            failed.sent = failed.sent.max(1);
        }
        done
    }

    fn broken(&mut self, carrier: &mut Carrier, error: Error) -> Done {
        carrier.note_leftovers();
        let error = error.with_response(self.take_response().map(|(response, _)| response));
        Done { end: self.failed(carrier, error), reusable: true, wants_http1: false }
    }

    /// The end of a row that failed. Its stream is one of many, so all that was written since it began may be its own.
    fn failed(&self, carrier: &Carrier, error: Error) -> End {
        let sent = carrier.traffic().written() - self.written_before;
        // Rows begin side by side: that it served another one may have turned out since.
        let mut end = failed(error, sent, self.received, carrier.served() > 0);
        if let End::Broken(_, failed) = &mut end {
            failed.was_to_end = carrier.was_to_end();
        }
        end
    }

    /// What came of the response; the stream is let go, which resets it unless it had ended.
    fn take_response(&mut self) -> Option<(Response, bool)> {
        self.outgoing = None;
        match std::mem::replace(&mut self.incoming, Incoming::Ended) {
            Incoming::Body { head, head_len, .. } => {
                let response = Response {
                    status: head.status,
                    version: http::Version::HTTP_2,
                    redirects: 0,
                    head: head_len as u32,
                    bytes: growth::settled(head.bytes).into(),
                    url: Box::default(),
                };
                Some((response, head.is_coded))
            }
            Incoming::Head(_) | Incoming::Ended => None,
        }
    }
}

enum Step {
    GoOn,
    Whole,
}

enum Broken {
    Fault(Fault),
    Protocol(::h2::Error),
}

impl From<::h2::Error> for Broken {
    fn from(error: ::h2::Error) -> Self {
        Self::Protocol(error)
    }
}

impl From<Fault> for Broken {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

fn take_piece(head: &mut h2::Head, head_len: usize, piece: &[u8], limit: u64) -> Result<(), Fault> {
    let so_far = head.bytes.len() - head_len;
    let room = limit.saturating_sub(so_far as u64);
    let taken = usize::try_from(room).map_or(piece.len(), |room| room.min(piece.len()));
    match head.body_len.and_then(|length| usize::try_from(length).ok()) {
        Some(whole) => growth::make_room(&mut head.bytes, head_len.saturating_add(whole), taken),
        None => growth::make_room_unknown(&mut head.bytes, limit.saturating_add(head_len as u64), taken),
    }
    head.bytes.extend_from_slice(&piece[..taken]);
    if taken < piece.len() {
        return Err(Fault::too_large(format!("the body is larger than {limit} bytes")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_beyond_all_memory_is_taken_as_it_comes() {
        for body_len in [u64::MAX, u64::MAX - 3, 1 << 62] {
            let bytes = b"x: 1\r\n".to_vec();
            let mut head = h2::Head { status: 200, is_coded: false, body_len: Some(body_len), bytes };
            let head_len = head.bytes.len();
            for _ in 0..2 {
                take_piece(&mut head, head_len, b"piece", u64::MAX).unwrap();
            }
            assert_eq!(head.bytes, b"x: 1\r\npiecepiece");
        }
    }
}
