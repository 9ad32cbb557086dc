//! Addresses where no server is: a port that refuses, and a backlog that is full.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

/// A port of 127.0.0.1 where connections are refused as long as this process lives; but for a
/// server of its own that listens there, between whose runs nobody else is given the port.
///
/// # Panics
/// When no port can be bound.
pub fn refused_port() -> u16 {
    // Bound and never listening: the port refuses, and nobody else is given it.
    static RESERVED: Mutex<Vec<Socket>> = Mutex::new(Vec::new());
    let (socket, address) = match bound() {
        Ok(bound) => bound,
        Err(error) => panic!("no port to refuse on: {error}"),
    };
    let mut reserved = RESERVED.lock().unwrap_or_else(PoisonError::into_inner);
    reserved.push(socket);
    address.port()
}

/// An address whose backlog is full: further connection attempts get no answer, as behind a
/// firewall that drops them. Needs Linux, which drops the SYN then.
pub struct FullBacklog {
    address: SocketAddr,
    _listener: Socket,
    _waiting: Vec<TcpStream>,
}

impl FullBacklog {
    /// Listens and fills the backlog.
    ///
    /// # Errors
    /// The socket cannot be made, or the backlog does not fill up.
    pub fn new() -> io::Result<FullBacklog> {
        const NO_ANSWER: Duration = Duration::from_millis(200);
        const MORE_THAN_FITS: usize = 64;
        let (listener, address) = bound()?;
        listener.listen(0)?;
        let mut waiting = Vec::new();
        while waiting.len() < MORE_THAN_FITS {
            match TcpStream::connect_timeout(&address, NO_ANSWER) {
                Ok(stream) => waiting.push(stream),
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                    return Ok(FullBacklog { address, _listener: listener, _waiting: waiting });
                }
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::other("the backlog took every connection"))
    }

    /// The address that does not answer.
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// `http://ADDRESS:PORT` followed by `path`, which starts with a slash.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

fn bound() -> io::Result<(Socket, SocketAddr)> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    // So that a server, which says the same, may listen where a port is kept for it.
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    let address = socket.local_addr()?.as_socket();
    let address = address.ok_or_else(|| io::Error::other("no address of the internet"))?;
    Ok((socket, address))
}
