//! A connection whose writes never fail, so that what the peer said before it took nothing more is read.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::heard::Heard;
use crate::transport::Stream;

/// A peer that takes nothing more is still heard out: what it said last tells which rows it did not look at (RFC 9113
/// §6.8).
pub(super) struct HeardOut {
    stream: Stream,
    takes_nothing: bool,
    heard: Rc<RefCell<Heard>>,
}

impl HeardOut {
    pub(super) fn new(stream: Stream, heard: Rc<RefCell<Heard>>) -> Self {
        Self { stream, takes_nothing: false, heard }
    }

    /// What a failed write becomes: bytes that nobody counts.
    fn unless_failed<T>(&mut self, tried: Poll<io::Result<T>>, instead: T) -> Poll<io::Result<T>> {
        match tried {
            Poll::Ready(Err(_)) => {
                self.takes_nothing = true;
                Poll::Ready(Ok(instead))
            }
            tried => tried,
        }
    }
}

impl AsyncRead for HeardOut {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        let mut heard = self.heard.borrow_mut();
        heard.hear(&buffer.filled()[before..]);
        if let Poll::Ready(Err(error)) = &read {
            heard.fail(error);
        }
        drop(heard);
        read
    }
}

impl AsyncWrite for HeardOut {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.takes_nothing {
            return Poll::Ready(Ok(bytes.len()));
        }
        let tried = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.unless_failed(tried, bytes.len())
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let whole = pieces.iter().map(|piece| piece.len()).sum();
        if self.takes_nothing {
            return Poll::Ready(Ok(whole));
        }
        let tried = Pin::new(&mut self.stream).poll_write_vectored(context, pieces);
        self.unless_failed(tried, whole)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.takes_nothing {
            return Poll::Ready(Ok(()));
        }
        let tried = Pin::new(&mut self.stream).poll_flush(context);
        self.unless_failed(tried, ())
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
