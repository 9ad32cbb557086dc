//! The wire of the well-behaved half, for a library that wants to read and write by itself.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::http2::watch::Watch;
use crate::recorder::Recorder;
use crate::wire::Wire;

/// A connection whose bytes are counted and whose frames are watched.
pub(crate) struct Tapped {
    wire: Wire,
    /// What was read before it was known to be HTTP/2.
    early: Vec<u8>,
    number: usize,
    recorder: Arc<Recorder>,
    watch: Watch,
    begun: bool,
    /// Streams open now, for the one who drives this.
    open: Arc<AtomicU32>,
}

impl Tapped {
    pub(crate) fn new(
        wire: Wire,
        early: Vec<u8>,
        number: usize,
        recorder: Arc<Recorder>,
        open: Arc<AtomicU32>,
    ) -> Tapped {
        Tapped { wire, early, number, recorder, watch: Watch::default(), begun: false, open }
    }

    fn report(&mut self) {
        self.recorder.http2(self.number, &self.watch.log, !self.begun);
        self.begun = true;
        self.open.store(self.watch.log.open, Ordering::Relaxed);
    }
}

impl AsyncRead for Tapped {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buffer.filled().len();
        if !this.early.is_empty() {
            let take = this.early.len().min(buffer.remaining());
            buffer.put_slice(&this.early[..take]);
            this.early.drain(..take);
        } else {
            std::task::ready!(this.wire.poll_read(context, buffer))?;
            this.recorder.received(this.number, &buffer.filled()[before..]);
        }
        let read = &buffer.filled()[before..];
        if !read.is_empty() {
            this.watch.received(read);
            this.report();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Tapped {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = std::task::ready!(self.wire.poll_write(context, bytes))?;
        self.watch.sent(&bytes[..written]);
        self.report();
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.wire.poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.wire.poll_shutdown(context)
    }
}
