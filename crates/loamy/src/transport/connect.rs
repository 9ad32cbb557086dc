//! From an origin to a connection: look-up, then the addresses in turn (RFC 8305), then TLS, and what is spoken on it.

use std::future::{Future, poll_fn};
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep, timeout};

use super::h2::{self, Carrier};
use super::network::Network;
use super::tls::{self, Offer, Spoken};
use super::{Connection, Counted, Stream, Wire};
use crate::clock::now;
use crate::policy::Timeouts;
use crate::target::{Origin, Scheme};
use crate::tls::TlsProfile;
use crate::{Error, Kind, hint};

/// How long an address is given before the next is tried beside it (RFC 8305 §5).
const STAGGER: Duration = Duration::from_millis(250);

/// A connection in the making.
pub(crate) type Connecting = Pin<Box<dyn Future<Output = Result<Connection, Error>>>>;

/// What a connection is made to, and what is to be spoken on it.
#[derive(Clone, Debug)]
pub(crate) struct Destination {
    pub(crate) origin: Arc<Origin>,
    pub(crate) tls: TlsProfile,
    pub(crate) offer: Offer,
    /// How large a response head may be.
    pub(crate) max_head: usize,
}

/// Makes a connection; an error says in which phase it failed.
pub(crate) fn connect(to: Destination, network: Arc<Network>, timeouts: Timeouts) -> Connecting {
    Box::pin(async move {
        let origin = &*to.origin;
        let lookup = within(timeouts.resolve, network.resolver.resolve(&origin.host)).await;
        let addresses = lookup
            .ok_or_else(|| timed_out(Kind::TimeoutResolve, origin, timeouts.resolve))?
            .map_err(|error| error.hinted(hint::for_connection(Kind::Dns, origin)))?;
        let race = within(timeouts.connect, Race::run(&addresses, origin.port)).await;
        let (address, socket) = race
            .ok_or_else(|| timed_out(Kind::TimeoutConnect, origin, timeouts.connect))?
            .map_err(|error| not_connected(origin, error))?;
        network.resolver.prefer(&origin.host, address);
        socket.set_nodelay(true).map_err(|error| not_connected(origin, error))?;
        let socket = Counted::new(socket);
        let (stream, spoken) = match origin.scheme {
            Scheme::Http if to.offer == Offer::Http2 => (Stream::Plain(socket), Spoken::Http2),
            Scheme::Http => (Stream::Plain(socket), Spoken::Http1),
            Scheme::Https => {
                let encrypted = within(timeouts.tls, encrypt(&to, &network, socket)).await;
                encrypted.ok_or_else(|| timed_out(Kind::TimeoutTls, origin, timeouts.tls))??
            }
        };
        Ok(match spoken {
            Spoken::Http1 => Connection::Single(Wire::new(stream)),
            Spoken::Http2 => {
                let carrier = Carrier::begin(stream, to.max_head, now()).await;
                let carrier = carrier.map_err(|error| {
                    let fault = h2::failure(&error, h2::Came::Nothing).fault;
                    Error::new(fault.kind, fault.message).at_peer(&origin.host, origin.port).caused_by(error)
                })?;
                Connection::Many(Box::new(carrier))
            }
        })
    })
}

async fn encrypt(to: &Destination, network: &Network, socket: Counted) -> Result<(Stream, Spoken), Error> {
    let config = network.tls.config(&to.tls, to.offer).await?;
    let traffic = Rc::clone(&socket.traffic);
    let mut handshake = pin!(tls::handshake(config, &to.origin, socket));
    let shaken = poll_fn(|context| {
        traffic.begin_a_go();
        handshake.as_mut().poll(context)
    });
    let (stream, spoken) = shaken.await?;
    Ok((Stream::Tls(Box::new(stream)), spoken))
}

/// The error of a row that has no connection when its time is over.
pub(crate) fn timed_out(kind: Kind, origin: &Origin, limit: Option<Duration>) -> Error {
    let message = match kind {
        Kind::TimeoutResolve => format!("no address of {} within {}", origin.host, seconds(limit)),
        Kind::TimeoutTls => format!("no TLS handshake with {origin} within {}", seconds(limit)),
        _ => format!("no connection to {origin} within {}", seconds(limit)),
    };
    Error::new(kind, message).at_peer(&origin.host, origin.port).hinted(hint::for_connection(kind, origin))
}

/// A limit as people write it: `30 s`, `0.25 s`.
pub(crate) fn seconds(limit: Option<Duration>) -> String {
    format!("{} s", limit.unwrap_or_default().as_secs_f64())
}

fn not_connected(origin: &Origin, error: io::Error) -> Error {
    let (kind, message) = match error.kind() {
        io::ErrorKind::ConnectionRefused => {
            (Kind::ConnectRefused, format!("{origin} refused the connection"))
        }
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
            (Kind::ConnectUnreachable, format!("no route to {origin}"))
        }
        _ => (Kind::Connect, format!("no connection to {origin}: {error}")),
    };
    let hint = hint::for_connection(kind, origin);
    Error::new(kind, message).at_peer(&origin.host, origin.port).hinted(hint).caused_by_io(error)
}

async fn within<T>(limit: Option<Duration>, work: impl Future<Output = T>) -> Option<T> {
    match limit {
        Some(limit) => timeout(limit, work).await.ok(),
        None => Some(work.await),
    }
}

/// The addresses of a host, tried one after the other without waiting for a slow one.
struct Race {
    waiting: std::vec::IntoIter<SocketAddr>,
    trying: Vec<(IpAddr, Attempt)>,
    stagger: Pin<Box<Sleep>>,
    first_error: Option<io::Error>,
}

type Winner = io::Result<(IpAddr, TcpStream)>;

type Attempt = Pin<Box<dyn Future<Output = io::Result<TcpStream>>>>;

impl Race {
    /// Ends with the first connection that stands, or with the error of the address tried first.
    fn run(addresses: &[IpAddr], port: u16) -> impl Future<Output = Winner> {
        let addresses: Vec<_> = addresses.iter().map(|address| SocketAddr::new(*address, port)).collect();
        let mut race = Self {
            waiting: addresses.into_iter(),
            trying: Vec::with_capacity(1),
            stagger: stagger(),
            first_error: None,
        };
        race.try_next();
        poll_fn(move |context| race.poll(context))
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Winner> {
        loop {
            let mut position = 0;
            let mut lost = false;
            while position < self.trying.len() {
                let (address, attempt) = &mut self.trying[position];
                match attempt.as_mut().poll(context) {
                    Poll::Ready(Ok(stream)) => return Poll::Ready(Ok((*address, stream))),
                    Poll::Ready(Err(error)) => {
                        self.first_error.get_or_insert(error);
                        drop(self.trying.swap_remove(position));
                        lost = true;
                    }
                    Poll::Pending => position += 1,
                }
            }
            if self.waiting.len() == 0 {
                return match self.first_error.take() {
                    Some(error) if self.trying.is_empty() => Poll::Ready(Err(error)),
                    kept => {
                        self.first_error = kept;
                        Poll::Pending
                    }
                };
            }
            if !lost && self.stagger.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            self.try_next();
        }
    }

    #[expect(clippy::disallowed_methods, reason = "the one place that opens connections")]
    fn try_next(&mut self) {
        if let Some(address) = self.waiting.next() {
            let attempt = async move {
                TcpStream::connect(address).await.map_err(|error| told_from_a_lack_of_ports(address, error))
            };
            self.trying.push((address.ip(), Box::pin(attempt)));
            self.stagger = stagger();
        }
    }
}

/// EADDRNOTAVAIL means that no port is left towards the address, which passes, or that this machine has no address to come
/// from, as where IPv6 is switched off, which does not. A datagram socket needs such an address too, and none of TCP's
/// ports.
fn told_from_a_lack_of_ports(address: SocketAddr, error: io::Error) -> io::Error {
    if error.kind() != io::ErrorKind::AddrNotAvailable {
        return error;
    }
    let any: IpAddr = if address.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
    let has_source = UdpSocket::bind((any, 0)).and_then(|socket| socket.connect(address));
    if has_source.is_ok() { error } else { io::ErrorKind::NetworkUnreachable.into() }
}

#[expect(clippy::disallowed_methods, reason = "a connection in the making is off the hot path")]
fn stagger() -> Pin<Box<Sleep>> {
    Box::pin(sleep(STAGGER))
}
