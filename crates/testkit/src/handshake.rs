//! The ways in which a TLS handshake goes wrong on purpose.

use std::sync::Arc;

use rustls::ServerConfig;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::StartHandshake;

use crate::log::Ending;
use crate::wire::Wire;

/// How a handshake goes. All but `Skip` read the ClientHello first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Handshake {
    /// As it should.
    #[default]
    Proper,
    /// The connection is reset.
    Reset,
    /// The connection is closed (FIN).
    Close,
    /// Nothing comes any more, until the client goes.
    Silence,
    /// An answer in plain HTTP/1.1, as from a server that speaks no TLS on this port.
    PlainHttp,
    /// Bytes that are no TLS, then the end.
    Garbage,
    /// A ServerHello that stops in the middle, then the end.
    Truncated,
    /// TLS 1.2 with a protocol that the client never offered (ALPN): the one that the server
    /// would choose, with its first byte replaced by `x`. It needs one to choose.
    UnofferedProtocol,
    /// None at all: the steps read and write what is on the wire.
    Skip,
}

impl Handshake {
    const NAMES: &[(&str, Handshake)] = &[
        ("proper", Handshake::Proper),
        ("reset", Handshake::Reset),
        ("close", Handshake::Close),
        ("silence", Handshake::Silence),
        ("plain-http", Handshake::PlainHttp),
        ("garbage", Handshake::Garbage),
        ("truncated", Handshake::Truncated),
        ("unoffered-protocol", Handshake::UnofferedProtocol),
        ("skip", Handshake::Skip),
    ];

    pub(crate) fn named(name: &str) -> Result<Handshake, String> {
        let found = Handshake::NAMES.iter().find(|(known, _)| *known == name);
        found.map(|(_, handshake)| *handshake).ok_or_else(|| {
            let known: Vec<&str> = Handshake::NAMES.iter().map(|(known, _)| *known).collect();
            format!("{name:?} is no handshake; there are {}", known.join(", "))
        })
    }
}

/// What happens after the ClientHello instead of the rest.
pub(crate) async fn fail(
    start: StartHandshake<TcpStream>,
    config: &Arc<ServerConfig>,
    handshake: Handshake,
) -> (Wire, Ending) {
    const ANSWER: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: 12\r\n\
        Connection: close\r\n\r\nno TLS here\n";
    const NO_TLS: [u8; 64] = [0xA5; 64];
    let (mut stream, flight) = match handshake {
        Handshake::Truncated | Handshake::UnofferedProtocol => first_flight(start, config),
        _ => (start.io, Ok(Vec::new())),
    };
    let mut flight = match flight {
        Ok(flight) => flight,
        Err(error) => return (Wire::Plain(stream), Ending::Handshake(error.to_string())),
    };
    match handshake {
        Handshake::Reset => return (Wire::Plain(stream), Ending::ServerReset),
        Handshake::Silence => {
            let mut wire = Wire::Plain(stream);
            // Failing means that the client reset it, which is an end as well.
            let _ = wire.client_gone().await;
            return (wire, Ending::ByClient);
        }
        Handshake::PlainHttp => flight = ANSWER.to_vec(),
        Handshake::Garbage => flight = NO_TLS.to_vec(),
        // 40 bytes are the head of the record and of the ServerHello, and some of its random.
        Handshake::Truncated => flight.truncate(40),
        Handshake::UnofferedProtocol => replace_protocol(&mut flight, config),
        Handshake::Close | Handshake::Proper | Handshake::Skip => {}
    }
    let sent = stream.write_all(&flight).await;
    let mut wire = Wire::Plain(stream);
    let ending = match sent {
        Ok(()) => {
            wire.leave().await;
            Ending::ByServer
        }
        Err(_) => Ending::ClientReset,
    };
    (wire, ending)
}

/// The bytes with which the server answers the ClientHello, not yet sent.
fn first_flight(
    start: StartHandshake<TcpStream>,
    config: &Arc<ServerConfig>,
) -> (TcpStream, Result<Vec<u8>, rustls::Error>) {
    let mut session = match start.accepted.into_connection(Arc::clone(config)) {
        Ok(session) => session,
        Err((error, _)) => return (start.io, Err(error)),
    };
    let mut flight = Vec::new();
    // A vector takes whatever it is given.
    while session.wants_write() && session.write_tls(&mut flight).is_ok() {}
    (start.io, Ok(flight))
}

/// Puts another name where the ServerHello says which protocol was chosen (RFC 7301
/// section 3.1). The client has to refuse it before it gets to the Finished that would betray
/// the change.
fn replace_protocol(flight: &mut [u8], config: &ServerConfig) {
    for name in &config.alpn_protocols {
        let length = name.len() as u8;
        let mut extension = vec![0x00, 0x10, 0x00, length + 3, 0x00, length + 1, length];
        extension.extend_from_slice(name);
        if let Some(at) = memchr::memmem::find(flight, &extension) {
            flight[at + 7] = b'x';
        }
    }
}
