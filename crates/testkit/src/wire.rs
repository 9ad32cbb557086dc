//! The one place that touches a socket. TLS becomes a second variant of [`Wire`] here; raw
//! HTTP/2 frames need nothing from it, because a step sends bytes and the log keeps bytes.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::{TcpListener, TcpStream};

use crate::server::Listen;

pub(crate) enum Wire {
    Plain(TcpStream),
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
        }
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Wire::Plain(stream) => stream.write_all(bytes).await,
        }
    }

    /// Ends our sending side (FIN) and leaves the other one open.
    pub(crate) async fn half_close(&mut self) -> io::Result<()> {
        match self {
            Wire::Plain(stream) => stream.shutdown().await,
        }
    }

    /// Closes with RST and drops what was not yet sent.
    pub(crate) fn reset(self) -> io::Result<()> {
        match self {
            Wire::Plain(stream) => SockRef::from(&stream).set_linger(Some(Duration::ZERO)),
        }
    }

    /// Waits until the client has closed or reset, without reading a byte.
    pub(crate) async fn client_gone(&mut self) -> io::Result<()> {
        // Unread bytes keep the socket readable, so readiness alone would spin.
        const LOOK_EVERY: Duration = Duration::from_millis(10);
        let Wire::Plain(stream) = self;
        loop {
            if stream.ready(Interest::READABLE).await?.is_read_closed() {
                return Ok(());
            }
            tokio::time::sleep(LOOK_EVERY).await;
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
