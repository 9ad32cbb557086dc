//! HTTP/2: one connection that carries many rows, each on a stream of its own (RFC 9113). The frames are the `h2`
//! crate's; what a connection may carry, who of its streams has something to do, and what a failure is called are ours.

mod fault;
mod heard;
mod heard_out;
mod request;
mod response;
mod talk;

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use ::h2::client::{Builder, Connection, ResponseFuture, SendRequest};
use ::h2::{Ping, PingPong, SendStream};
use bytes::Bytes;

pub(crate) use fault::{Came, failure};
use heard::Heard;
use heard_out::HeardOut;
pub(crate) use request::{RequestHead, cannot, defaults, head as request_head};
pub(crate) use response::{Head, head as response_head};
use talk::Talk;

use super::{Moved, Stream, Traffic};
use crate::Error;

/// Streams until the peer has said how many it allows: one row goes first.
const UNTIL_TOLD: usize = 1;

/// What the `h2` crate knows of that until then: a number that no peer can say.
const NOT_TOLD: usize = usize::MAX - 1;

/// What the peer may send on one stream before it waits for us. Bodies are taken as they come, so this is no buffer but
/// what may be under way: 1 MiB keeps 80 Mbit/s at 100 ms busy with a single row.
const STREAM_WINDOW: u32 = 1 << 20;

/// What the peer may send on all streams of a connection together: the bound of what one connection can hold unread.
const CONNECTION_WINDOW: u32 = 16 << 20;

/// How many times as large as allowed a head may be before the connection gives up on it, and not only its row.
const HEADROOM: usize = 4;

/// Streams that are remembered when their row gave up, for as long as the peer may not know of it. The `h2` crate closes the
/// connection over what comes too late for those that it has forgotten.
const LATE_STREAMS: usize = 1 << 10;

/// A connection that carries many rows.
pub(crate) struct Carrier {
    connection: Connection<HeardOut, Bytes>,
    /// Makes the senders of the rows, and never sends itself: what one has opened that has to wait for its place would keep it
    /// from opening more, and after rows that gave up there is such a wait, until the peer can be told of them.
    senders: SendRequest<Bytes>,
    pinger: Option<PingPong>,
    /// When the PING was sent that is not answered yet.
    pinged: Option<Instant>,
    traffic: Rc<Traffic>,
    woken: Arc<Woken>,
    /// Streams that the peer allows, as it last said.
    allowed: usize,
    open: usize,
    served: u32,
    /// Whether the peer has said what it allows.
    is_told: bool,
    /// Whether no further stream may be opened: the peer said so, or the connection is broken.
    is_closing: bool,
    heard: Rc<RefCell<Heard>>,
    /// Whether the peer went away because it has too much to do.
    calm: Calm,
    talk: Talk,
    /// When the peer last showed that it is there, and by what.
    alive: (Instant, Moved),
}

/// What is known of a peer that goes away because it has too much to do (RFC 9113 §7). Streams that it may have worked on go
/// on, or end with the connection: none of them tells of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Calm {
    NotAsked,
    Asked,
    HandedOn,
}

/// What became of a stream that was to be opened for a row.
pub(crate) enum Opened {
    Stream(ResponseFuture, SendStream<Bytes>),
    /// The connection takes no more; nothing was sent.
    Not,
    /// No connection would take such a head.
    Never(Error),
}

impl Carrier {
    /// Begins to speak HTTP/2: the preface and our settings go out with the first row, the peer's settings are on their
    /// way. Until they have come one stream is all that may be opened.
    pub(crate) async fn begin(stream: Stream, max_head: usize, now: Instant) -> Result<Self, ::h2::Error> {
        let traffic = Rc::clone(&stream.socket().traffic);
        let heard = Rc::default();
        let (senders, mut connection) = Builder::new()
            .enable_push(false)
            .initial_max_send_streams(NOT_TOLD)
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(u32::try_from(max_head.saturating_mul(HEADROOM)).unwrap_or(u32::MAX))
            .max_concurrent_reset_streams(LATE_STREAMS)
            .handshake(HeardOut::new(stream, Rc::clone(&heard)))
            .await?;
        let pinger = connection.ping_pong();
        Ok(Self {
            connection,
            senders,
            pinger,
            pinged: None,
            alive: (now, traffic.moved()),
            talk: Talk::new(traffic.read(), max_head),
            traffic,
            woken: Arc::default(),
            allowed: UNTIL_TOLD,
            open: 0,
            served: 0,
            is_told: false,
            is_closing: false,
            heard,
            calm: Calm::NotAsked,
        })
    }

    pub(crate) fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    /// Rows that it served whole.
    pub(crate) fn served(&self) -> u32 {
        self.served
    }

    /// Streams under way.
    pub(crate) fn open(&self) -> usize {
        self.open
    }

    /// Whether it takes no further row.
    pub(crate) fn is_closing(&self) -> bool {
        self.is_closing
    }

    /// Whether the peer said, before the connection ended, that it would end for a reason of the peer's own.
    pub(crate) fn was_to_end(&self) -> bool {
        self.heard.borrow().farewell()
    }

    /// Whether a part of the head on that stream was the last of any head to come.
    pub(crate) fn heard_a_head_of(&self, stream: u32) -> bool {
        self.heard.borrow().head_of() == Some(stream)
    }

    /// By what reading failed, if it did.
    pub(crate) fn broke(&self) -> Option<io::Error> {
        self.heard.borrow().broke()
    }

    /// Whether the peer has not said yet how many streams it allows.
    pub(crate) fn is_fresh(&self) -> bool {
        !self.is_told
    }

    /// Streams that the peer allows side by side.
    pub(crate) fn allowed(&self) -> usize {
        self.allowed
    }

    /// Whether another row may go on it, where no more than so many are wanted side by side.
    pub(crate) fn has_room(&self, at_most: usize) -> bool {
        !self.is_closing && self.open < self.allowed.min(at_most)
    }

    /// Goes on as far as it goes. Once it is broken it says by what, and its streams know it too.
    pub(crate) fn poll(&mut self, context: &mut Context<'_>, now: Instant) -> Poll<Result<(), ::h2::Error>> {
        self.traffic.begin_a_go();
        let polled = Pin::new(&mut self.connection).poll(context);
        let moved = self.traffic.moved();
        if moved != self.alive.1 {
            self.alive = (now, moved);
        }
        self.talk.came(self.traffic.read());
        if let (Some(pinger), Some(_)) = (&mut self.pinger, self.pinged)
            && let Poll::Ready(answered) = pinger.poll_pong(context)
        {
            self.pinged = None;
            self.is_closing |= answered.is_err();
        }
        self.is_closing |= polled.is_ready() || !self.takes_streams();
        if self.calm == Calm::NotAsked && self.heard.borrow().call_for_calm() {
            self.calm = Calm::Asked;
        }
        let allowed = self.connection.max_concurrent_send_streams();
        self.is_told = allowed != NOT_TOLD;
        self.allowed = if self.is_told { allowed } else { UNTIL_TOLD };
        polled
    }

    /// Opens a stream, if the `h2` crate takes the head.
    pub(crate) fn open_stream(&mut self, head: http::Request<()>, ends: bool) -> Opened {
        match self.senders.clone().send_request(head, ends) {
            Ok((response, body)) => {
                self.open += 1;
                Opened::Stream(response, body)
            }
            Err(error) if self.takes_streams() => Opened::Never(cannot(&error.to_string()).caused_by(error)),
            Err(_) => {
                self.is_closing = true;
                Opened::Not
            }
        }
    }

    /// Whether the connection is as it should be, and has numbers left for streams.
    fn takes_streams(&mut self) -> bool {
        let ready = self.senders.poll_ready(&mut Context::from_waker(Waker::noop()));
        matches!(ready, Poll::Ready(Ok(())))
    }

    /// A stream ended, with its row served or not.
    pub(crate) fn close_stream(&mut self, served: bool) {
        self.open -= 1;
        self.served += u32::from(served);
    }

    /// Whether the peer went away because it has too much to do; the first time alone.
    pub(crate) fn take_calm(&mut self) -> bool {
        let is_asked = self.calm == Calm::Asked;
        if is_asked {
            self.calm = Calm::HandedOn;
        }
        is_asked
    }

    /// Takes no further row.
    pub(crate) fn close(&mut self) {
        self.is_closing = true;
    }

    /// A row had a use for what was read: it took so many bytes of a body, or goes on otherwise.
    pub(crate) fn note_use(&mut self, taken: usize) {
        self.talk.was_of_use(taken);
    }

    /// A row gives up of whose response more may be under way.
    pub(crate) fn note_leftovers(&mut self) {
        self.talk.will_be_late(STREAM_WINDOW, CONNECTION_WINDOW);
    }

    /// Whether the peer talks without end and none of it is for a row (RFC 9113 §10.5).
    pub(crate) fn is_flooded(&self) -> bool {
        self.talk.is_flood()
    }

    /// When a silent peer has to be asked whether it is there, or to have answered.
    pub(crate) fn ping_due(&self, every: Duration) -> Option<Instant> {
        self.pinged.map_or(self.alive.0, |at| at.max(self.alive.0)).checked_add(every)
    }

    /// Asks a silent peer whether it is there (RFC 9113 §6.7); says whether it owes the answer to the last time.
    pub(crate) fn ping(&mut self, now: Instant) -> bool {
        if self.pinged.is_some() {
            return true;
        }
        if let Some(pinger) = &mut self.pinger
            && pinger.send_ping(Ping::opaque()).is_ok()
        {
            self.pinged = Some(now);
        }
        false
    }

    /// Something that notes when the stream of that number has something to do.
    pub(crate) fn waker(&self, number: usize) -> (Waker, Arc<StreamBell>) {
        let bell = StreamBell { woken: Arc::clone(&self.woken), number, rung: AtomicBool::new(false) };
        let bell = Arc::new(bell);
        (Waker::from(Arc::clone(&bell)), bell)
    }

    /// Takes the numbers of the streams that have something to do.
    pub(crate) fn take_woken(&mut self, numbers: &mut Vec<usize>) {
        numbers.clear();
        std::mem::swap(numbers, &mut *self.woken.numbers.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// The streams of a connection that have something to do, so that nobody asks the others.
#[derive(Debug, Default)]
struct Woken {
    numbers: Mutex<Vec<usize>>,
}

/// Notes that a stream has something to do. The connection, which alone can give it anything, is looked at already.
#[derive(Debug)]
pub(crate) struct StreamBell {
    woken: Arc<Woken>,
    number: usize,
    rung: AtomicBool,
}

impl StreamBell {
    /// The stream is looked at now; what rings from here on counts again.
    pub(crate) fn reset(&self) {
        self.rung.store(false, Ordering::Release);
    }
}

impl Wake for StreamBell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.rung.swap(true, Ordering::AcqRel) {
            self.woken.numbers.lock().unwrap_or_else(PoisonError::into_inner).push(self.number);
        }
    }
}
