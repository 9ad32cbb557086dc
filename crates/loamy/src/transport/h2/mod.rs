//! HTTP/2: one connection that carries many rows, each on a stream of its own (RFC 9113). The frames are the `h2`
//! crate's; what a connection may carry, who of its streams has something to do, and what a failure is called are ours.

mod farewell;
mod fault;
mod heard_out;
mod request;
mod response;

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use ::h2::client::{Builder, Connection, ResponseFuture, SendRequest};
use ::h2::{Ping, PingPong, SendStream};
use bytes::Bytes;

use farewell::Farewell;
use fault::asks_for_calm;
pub(crate) use fault::failure;
use heard_out::HeardOut;
pub(crate) use request::{RequestHead, defaults, head as request_head};
pub(crate) use response::{Head, head as response_head};

use super::{Fault, Stream, Traffic};

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

/// What may come without anything of it being any row's, before the connection is closed as one that floods.
const IDLE_TALK: u64 = 1 << 20;

/// A connection that carries many rows.
pub(crate) struct Carrier {
    connection: Connection<HeardOut, Bytes>,
    sender: SendRequest<Bytes>,
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
    /// Whether the peer said that it would close the connection.
    farewell: Rc<RefCell<Farewell>>,
    /// Whether the peer went away because it has too much to do.
    calm: Calm,
    /// What had been read when a row last took something of it.
    useful: u64,
    /// When anything was last read, and how much had been by then.
    heard: (Instant, u64),
}

/// What is known of a peer that goes away because it has too much to do (RFC 9113 §7). Streams that it may have worked on go
/// on, or end with the connection: none of them tells of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Calm {
    NotAsked,
    Asked,
    HandedOn,
}

/// A stream that was opened for a row.
pub(crate) struct Opened {
    pub(crate) response: ResponseFuture,
    pub(crate) body: SendStream<Bytes>,
}

impl Carrier {
    /// Begins to speak HTTP/2: the preface and our settings go out with the first row, the peer's settings are on their
    /// way. Until they have come one stream is all that may be opened.
    pub(crate) async fn begin(stream: Stream, max_head: usize, now: Instant) -> Result<Self, ::h2::Error> {
        let traffic = Rc::clone(&stream.socket().traffic);
        let farewell = Rc::default();
        let (sender, mut connection) = Builder::new()
            .enable_push(false)
            .initial_max_send_streams(NOT_TOLD)
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(u32::try_from(max_head.saturating_mul(HEADROOM)).unwrap_or(u32::MAX))
            .handshake(HeardOut::new(stream, Rc::clone(&farewell)))
            .await?;
        let pinger = connection.ping_pong();
        Ok(Self {
            connection,
            sender,
            pinger,
            pinged: None,
            heard: (now, traffic.read()),
            useful: traffic.read(),
            traffic,
            woken: Arc::default(),
            allowed: UNTIL_TOLD,
            open: 0,
            served: 0,
            is_told: false,
            is_closing: false,
            farewell,
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
        self.farewell.borrow().was_said()
    }

    /// Why the peer does not let this client in, where TLS said so when the handshake was over already.
    pub(crate) fn refusal(&self) -> Option<Fault> {
        self.farewell.borrow().refusal()
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
        if self.traffic.read() != self.heard.1 {
            self.heard = (now, self.traffic.read());
        }
        if let (Some(pinger), Some(_)) = (&mut self.pinger, self.pinged)
            && let Poll::Ready(answered) = pinger.poll_pong(context)
        {
            self.pinged = None;
            self.is_closing |= answered.is_err();
        }
        let ready = self.sender.poll_ready(context);
        self.is_closing |= polled.is_ready() || matches!(ready, Poll::Ready(Err(_)));
        if let (Calm::NotAsked, Poll::Ready(Err(error)), _) | (Calm::NotAsked, _, Poll::Ready(Err(error))) =
            (self.calm, &polled, &ready)
            && asks_for_calm(error)
        {
            self.calm = Calm::Asked;
        }
        let allowed = self.connection.max_concurrent_send_streams();
        self.is_told = allowed != NOT_TOLD;
        self.allowed = if self.is_told { allowed } else { UNTIL_TOLD };
        polled
    }

    /// Opens a stream; the number is what [`take_woken`](Self::take_woken) knows it by. Without one, nothing was sent.
    pub(crate) fn open_stream(&mut self, head: http::Request<()>, ends: bool) -> Result<Opened, ::h2::Error> {
        let opened = self.sender.send_request(head, ends);
        match opened {
            Ok((response, body)) => {
                self.open += 1;
                Ok(Opened { response, body })
            }
            Err(error) => {
                self.is_closing = true;
                Err(error)
            }
        }
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

    /// A row took something of what was read.
    pub(crate) fn note_use(&mut self) {
        self.useful = self.traffic.read();
    }

    /// Whether the peer talks without end and none of it is for a row (RFC 9113 §10.5).
    pub(crate) fn is_flooded(&self) -> bool {
        self.traffic.read() - self.useful > IDLE_TALK
    }

    /// When a silent peer has to be asked whether it is there, or to have answered.
    pub(crate) fn ping_due(&self, every: Duration) -> Option<Instant> {
        self.pinged.unwrap_or(self.heard.0).checked_add(every)
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
