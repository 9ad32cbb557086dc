//! Bytes on wires, behind one door: [`connect`](connect::connect) gives a [`Wire`], whatever lies below it.

pub(crate) mod connect;
pub(crate) mod dns;
pub(crate) mod h1;

use std::future::Future;
use std::io;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use bytes::BufMut;
use tokio::io::{AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;

/// A connection that counts what passes: the counts are the only proof that nothing was written.
#[derive(Debug)]
pub(crate) struct Wire {
    stream: TcpStream,
    written: u64,
    read: u64,
    served: u32,
}

impl Wire {
    fn new(stream: TcpStream) -> Self {
        Self { stream, written: 0, read: 0, served: 0 }
    }

    /// Bytes that the operating system took.
    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    /// Bytes that came.
    pub(crate) fn read(&self) -> u64 {
        self.read
    }

    /// Rows that it served whole.
    pub(crate) fn served(&self) -> u32 {
        self.served
    }

    pub(crate) fn count_served(&mut self) {
        self.served += 1;
    }

    pub(crate) fn poll_write(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        if let Poll::Ready(Ok(count)) = &written {
            self.written += *count as u64;
        }
        written
    }

    /// Reads into what room the buffer has; 0 is the end.
    pub(crate) fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut impl BufMut,
    ) -> Poll<io::Result<usize>> {
        let reading = pin!(self.stream.read_buf(buffer));
        let read = reading.poll(context);
        if let Poll::Ready(Ok(count)) = &read {
            self.read += *count as u64;
        }
        read
    }

    /// Whether the peer has neither closed nor sent anything, asked of the operating system just now.
    pub(crate) fn is_quiet(&self) -> bool {
        let mut byte = [MaybeUninit::uninit(); 1];
        let looked = socket2::SockRef::from(&self.stream).peek(&mut byte);
        matches!(looked, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }
}
