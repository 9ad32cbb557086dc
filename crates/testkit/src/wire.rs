//! The one place that touches a socket, with TLS around it or without.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, Interest, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::server::TlsStream;

use crate::server::Listen;

pub(crate) enum Wire {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Wire {
    pub(crate) fn plain(stream: TcpStream) -> Wire {
        // A dripped byte must leave at once. It fails only when the client is already gone,
        // which the first read reports.
        let _ = stream.set_nodelay(true);
        Wire::Plain(stream)
    }

    pub(crate) async fn read(&mut self, into: &mut Vec<u8>) -> io::Result<usize> {
        match self {
            Wire::Plain(stream) => stream.read_buf(into).await,
            Wire::Tls(stream) => match stream.read_buf(into).await {
                // The end of the connection without a close_notify is one for a server, too.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
                read => read,
            },
        }
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Wire::Plain(stream) => stream.write_all(bytes).await,
            Wire::Tls(stream) => {
                stream.write_all(bytes).await?;
                stream.flush().await
            }
        }
    }

    /// Ends our sending side (close_notify, FIN) and leaves the other one open.
    pub(crate) async fn half_close(&mut self) -> io::Result<()> {
        match self {
            Wire::Plain(stream) => stream.shutdown().await,
            Wire::Tls(stream) => stream.shutdown().await,
        }
    }

    /// Ends our sending side, and reads on for a while: closing on unread bytes would be a
    /// reset, which may take what was sent last with it (RFC 9112 section 9.6).
    pub(crate) async fn leave(&mut self) {
        const PATIENCE: Duration = Duration::from_secs(1);
        if self.half_close().await.is_ok() {
            let drained = async {
                let mut dropped = Vec::new();
                while matches!(self.read(&mut dropped).await, Ok(1..)) {
                    dropped.clear();
                }
            };
            let _ = tokio::time::timeout(PATIENCE, drained).await;
        }
    }

    /// Closes, over TLS with a close_notify.
    pub(crate) async fn close(self) {
        // A client that does not read would keep the close_notify, and us with it.
        const PATIENCE: Duration = Duration::from_millis(200);
        if let Wire::Tls(mut stream) = self {
            let _ = tokio::time::timeout(PATIENCE, stream.shutdown()).await;
        }
    }

    /// Closes with RST and drops what was not yet sent.
    pub(crate) fn reset(self) -> io::Result<()> {
        SockRef::from(self.socket()).set_linger(Some(Duration::ZERO))
    }

    /// Waits until the client has closed or reset, without reading a byte.
    pub(crate) async fn client_gone(&mut self) -> io::Result<()> {
        // Unread bytes keep the socket readable, so readiness alone would spin.
        const LOOK_EVERY: Duration = Duration::from_millis(10);
        loop {
            if self.socket().ready(Interest::READABLE).await?.is_read_closed() {
                return Ok(());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// A second handle of the socket, for whoever gives the wire away.
    pub(crate) fn handle(&self) -> io::Result<Socket> {
        SockRef::from(self.socket()).try_clone()
    }

    /// The protocol that TLS agreed on (ALPN).
    pub(crate) fn protocol(&self) -> Option<&[u8]> {
        match self {
            Wire::Plain(_) => None,
            Wire::Tls(stream) => stream.get_ref().1.alpn_protocol(),
        }
    }

    pub(crate) fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self {
            Wire::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Wire::Tls(stream) => match Pin::new(stream).poll_read(context, buffer) {
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    Poll::Ready(Ok(()))
                }
                polled => polled,
            },
        }
    }

    pub(crate) fn poll_write(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Wire::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Wire::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    pub(crate) fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Wire::Plain(stream) => Pin::new(stream).poll_flush(context),
            Wire::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    pub(crate) fn poll_shutdown(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Wire::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Wire::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }

    fn socket(&self) -> &TcpStream {
        match self {
            Wire::Plain(stream) => stream,
            Wire::Tls(stream) => stream.get_ref().0,
        }
    }
}

/// Binds and listens at once, so that a client may connect before the first accept.
pub(crate) fn listen(listen: &Listen) -> io::Result<std::net::TcpListener> {
    let address = SocketAddr::new(listen.address, listen.port);
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    if let Some(bytes) = listen.receive_buffer {
        // Set before listen: accepted sockets inherit it, and with it their TCP window.
        socket.set_recv_buffer_size(bytes)?;
    }
    if let Some(bytes) = listen.send_buffer {
        socket.set_send_buffer_size(bytes)?;
    }
    socket.bind(&address.into())?;
    socket.listen(listen.backlog)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

pub(crate) fn into_tokio(listener: std::net::TcpListener) -> io::Result<TcpListener> {
    TcpListener::from_std(listener)
}
