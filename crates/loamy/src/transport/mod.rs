//! Bytes on wires, behind one door: [`connect`](connect::connect) gives a connection, whatever lies below it.
//!
//! A [`Connection`] either carries one row at a time (a [`Wire`], spoken to by `h1`) or many side by side (an
//! [`h2::Carrier`]). A further protocol is a further variant: what it needs from here is the count of its bytes
//! ([`Traffic`]) and a way to be polled.

pub(crate) mod connect;
pub(crate) mod dns;
mod fault;
pub(crate) mod h1;
pub(crate) mod h2;
pub(crate) mod network;
pub(crate) mod tls;

use std::cell::Cell;
use std::future::Future;
use std::io::{self, Read};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::BufMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

pub(crate) use fault::Fault;

/// How often a connection may be read in one go: a peer that sends faster than it is read must not keep the others of
/// its thread, nor their deadlines, from being looked at.
const READS_IN_A_GO: u32 = 32;

/// A connection that stands.
pub(crate) enum Connection {
    /// For one row at a time.
    Single(Wire),
    /// For many rows side by side.
    Many(Box<h2::Carrier>),
}

/// What passed through a socket. Below any encryption: only what the operating system took can have reached the peer.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    written: Cell<u64>,
    read: Cell<u64>,
    reads_left: Cell<u32>,
    readiness: Cell<Readiness>,
    /// Whether the operating system took no more when it was last asked to.
    is_full: Cell<bool>,
    /// How often it took something after that.
    relieved: Cell<u64>,
}

/// What only a peer that is there can have caused: bytes that came, and room for more after none was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moved {
    read: u64,
    relieved: u64,
}

/// Whose word counts for it that nothing is there to be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Readiness {
    /// The runtime's, which knows what the operating system told it last.
    #[default]
    Told,
    /// The operating system's, at each read.
    Asked,
}

impl Traffic {
    /// Bytes that the operating system took: the only proof that nothing was written.
    pub(crate) fn written(&self) -> u64 {
        self.written.get()
    }

    /// Bytes that came.
    pub(crate) fn read(&self) -> u64 {
        self.read.get()
    }

    /// What the peer has caused so far.
    pub(crate) fn moved(&self) -> Moved {
        Moved { read: self.read(), relieved: self.relieved.get() }
    }

    /// The connection has its turn: it may be read again.
    pub(crate) fn begin_a_go(&self) {
        self.reads_left.set(READS_IN_A_GO);
    }

    /// From here on the operating system is asked at each read, until [`trust_the_runtime`](Self::trust_the_runtime): between two
    /// turns of the thread the runtime hears of nothing that comes.
    pub(crate) fn ask_the_system(&self) {
        self.readiness.set(Readiness::Asked);
    }

    pub(crate) fn trust_the_runtime(&self) {
        self.readiness.set(Readiness::Told);
    }
}

/// A socket that counts what passes.
#[derive(Debug)]
pub(crate) struct Counted {
    socket: TcpStream,
    traffic: Rc<Traffic>,
}

impl Counted {
    pub(crate) fn new(socket: TcpStream) -> Self {
        let traffic = Rc::new(Traffic::default());
        traffic.begin_a_go();
        Self { socket, traffic }
    }

    /// Reads what is there, past the runtime, which tells the waker of whatever comes after it.
    fn read_past_the_runtime(&self, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match (&*socket2::SockRef::from(&self.socket)).read(buffer.initialize_unfilled()) {
            Ok(count) => {
                buffer.advance(count);
                Poll::Ready(Ok(()))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    fn count_written(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        let traffic = &self.traffic;
        if let Poll::Ready(Ok(count)) = &written {
            traffic.written.set(traffic.written() + *count as u64);
            traffic.relieved.set(traffic.relieved.get() + u64::from(traffic.is_full.get()));
        }
        traffic.is_full.set(written.is_pending());
        written
    }
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Some(left) = self.traffic.reads_left.get().checked_sub(1) else {
            context.waker().wake_by_ref();
            return Poll::Pending;
        };
        let before = buffer.filled().len();
        let mut read = Pin::new(&mut self.socket).poll_read(context, buffer);
        if read.is_pending() && self.traffic.readiness.get() == Readiness::Asked {
            read = self.read_past_the_runtime(buffer);
        }
        if read.is_ready() {
            let count = buffer.filled().len() - before;
            self.traffic.read.set(self.traffic.read() + count as u64);
            self.traffic.reads_left.set(left);
        }
        read
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write(context, bytes);
        self.count_written(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write_vectored(context, pieces);
        self.count_written(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}

/// Bytes in order, encrypted or not.
#[derive(Debug)]
pub(crate) enum Stream {
    Plain(Counted),
    Tls(Box<tls::TlsStream<Counted>>),
}

impl Stream {
    fn socket(&self) -> &Counted {
        match self {
            Self::Plain(counted) => counted,
            Self::Tls(stream) => stream.get_ref().0,
        }
    }
}

impl Drop for Stream {
    /// Says goodbye as TLS wants it (RFC 8446 §6.1), unless something is held back: what was not sent must stay so.
    fn drop(&mut self) {
        if let Self::Tls(stream) = self {
            let (socket, session) = stream.get_mut();
            if !session.wants_write() {
                session.send_close_notify();
                // Nobody is told when it fails: the peer is gone then.
                let _ = session.write_tls(&mut Unwaiting(&socket.socket));
            }
        }
    }
}

/// A socket that takes what it can take at once.
struct Unwaiting<'a>(&'a TcpStream);

impl io::Write for Unwaiting<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Hands a call on to whatever the stream is made of.
macro_rules! inner {
    ($stream:expr, $inner:ident => $call:expr) => {
        match $stream.get_mut() {
            Stream::Plain(counted) => {
                let $inner = Pin::new(counted);
                $call
            }
            Stream::Tls(stream) => {
                let $inner = Pin::new(&mut **stream);
                $call
            }
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        inner!(self, inner => inner.poll_read(context, buffer))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        inner!(self, inner => inner.poll_write(context, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        inner!(self, inner => inner.poll_write_vectored(context, pieces))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(counted) => counted.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        inner!(self, inner => inner.poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        inner!(self, inner => inner.poll_shutdown(context))
    }
}

/// A connection for one row at a time.
#[derive(Debug)]
pub(crate) struct Wire {
    stream: Stream,
    traffic: Rc<Traffic>,
    served: u32,
    /// Whether more came on it than was asked for.
    has_surplus: bool,
}

/// What is heard on a connection without work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    Nothing,
    /// The peer closed it, or it broke.
    End,
    /// Bytes that answer nothing.
    Unasked,
}

impl Wire {
    pub(crate) fn new(stream: Stream) -> Self {
        let traffic = Rc::clone(&stream.socket().traffic);
        Self { stream, traffic, served: 0, has_surplus: false }
    }

    pub(crate) fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    /// Rows that it served whole.
    pub(crate) fn served(&self) -> u32 {
        self.served
    }

    pub(crate) fn count_served(&mut self) {
        self.served += 1;
    }

    /// Whether more came on it than was asked for: what comes next answers nobody knows what (RFC 9112 §9.2).
    pub(crate) fn has_surplus(&self) -> bool {
        self.has_surplus
    }

    pub(crate) fn note_surplus(&mut self) {
        self.has_surplus = true;
    }

    /// Takes bytes; those that encryption holds back are sent by [`poll_flush`](Self::poll_flush).
    pub(crate) fn poll_write(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Plain(counted) => Pin::new(counted).poll_write(context, bytes),
            Stream::Tls(stream) => Pin::new(&mut **stream).poll_write(context, bytes),
        }
    }

    /// Waits until the operating system has all that was taken.
    pub(crate) fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(_) => Poll::Ready(Ok(())),
            Stream::Tls(stream) => Pin::new(&mut **stream).poll_flush(context),
        }
    }

    /// Reads into what room the buffer has; 0 is the end.
    pub(crate) fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut impl BufMut,
    ) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Plain(counted) => pin!(counted.read_buf(buffer)).poll(context),
            Stream::Tls(stream) => pin!(stream.read_buf(buffer)).poll(context),
        }
    }

    /// What the peer did while nothing was asked of it, as far as the runtime was told; the waker is told of more. What concerns the
    /// encryption alone, such as session tickets, is none of it.
    pub(crate) fn hear(&mut self, context: &mut Context<'_>) -> Heard {
        self.traffic.begin_a_go();
        let mut byte = [0; 1];
        match self.poll_read(context, &mut &mut byte[..]) {
            Poll::Pending => Heard::Nothing,
            Poll::Ready(Ok(0) | Err(_)) => Heard::End,
            Poll::Ready(Ok(_)) => Heard::Unasked,
        }
    }

    /// The same, asked of the operating system just now.
    pub(crate) fn hear_now(&mut self, context: &mut Context<'_>) -> Heard {
        self.traffic.ask_the_system();
        let heard = self.hear(context);
        self.traffic.trust_the_runtime();
        heard
    }
}
