//! TLS over any stream: what a profile asks for becomes a configuration, and what goes wrong in a handshake gets its name.

mod failure;
mod roots;
#[cfg(test)]
mod tests;
mod verifier;

use std::collections::HashMap;
use std::io;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use rustls::client::Resumption;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, KeyLogFile, SupportedProtocolVersion};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::TlsConnector;

pub(crate) use self::failure::{alert, copy};
use self::roots::Roots;
use self::verifier::{Lenient, Strict};
use crate::target::Origin;
use crate::tls::{KeyLog, TlsProfile, TlsVersion};
use crate::{Error, Kind};

/// Sessions are kept for so many server names, to be resumed. rustls keeps 32 unasked, too few for a batch that goes
/// over a list of hosts and comes back to each; a name costs some kilobytes, once it is used.
const NAMES: usize = 1024;

/// rustls counts the tickets, of which it keeps 8 for each name.
const TICKETS: usize = NAMES * 8;

/// So many configurations are kept though no connection is being made with them. A process that builds profiles from
/// ever new bundles must not keep them all.
const IDLE_CONFIGS: usize = 32;

/// The configurations of a client, one for each profile and offer, shared by its threads.
///
/// Each has its own store of sessions, so that none made without verification is ever resumed with it.
#[derive(Debug, Default)]
pub(crate) struct Configs(Arc<Maker>);

#[derive(Debug)]
struct Maker {
    roots: Roots,
    provider: Arc<CryptoProvider>,
    made: Mutex<HashMap<(TlsProfile, Offer), Arc<ClientConfig>>>,
    /// Held while one is made, which may mean reading from disk.
    making: Mutex<()>,
}

/// What HTTP is offered to the peer (RFC 7301).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Offer {
    Http1,
    Http2,
    /// HTTP/2 if the peer has it.
    Both,
}

/// What HTTP the peer has chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Spoken {
    Http1,
    Http2,
}

impl Configs {
    /// The configuration for a profile, made at the first need; whoever asks meanwhile waits for it.
    ///
    /// The first that verifies against the system's certificates reads them from disk, beside the thread that asks.
    ///
    /// # Errors
    ///
    /// `tls.certificate`, when there is nobody to trust: the system has no certificates, and the profile gives none.
    pub(crate) async fn config(
        &self,
        profile: &TlsProfile,
        offer: Offer,
    ) -> Result<Arc<ClientConfig>, Error> {
        let key = (profile.clone(), offer);
        if let Some(config) = self.0.known(&key) {
            return Ok(config);
        }
        let maker = Arc::clone(&self.0);
        let made = tokio::task::spawn_blocking(move || maker.make_once(key)).await;
        made.map_err(|error| Error::new(Kind::Internal, "no TLS configuration was made").caused_by(error))?
    }

    #[cfg(test)]
    fn with_roots(roots: Roots) -> Self {
        Self(Arc::new(Maker::new(roots)))
    }
}

impl Default for Maker {
    fn default() -> Self {
        Self::new(Roots::of_system())
    }
}

impl Maker {
    fn new(roots: Roots) -> Self {
        // Given, and not the process's default: another library in the process may have set that.
        let provider = Arc::new(aws_lc_rs::default_provider());
        Self { roots, provider, made: Mutex::default(), making: Mutex::default() }
    }

    fn known(&self, key: &(TlsProfile, Offer)) -> Option<Arc<ClientConfig>> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    fn make_once(&self, key: (TlsProfile, Offer)) -> Result<Arc<ClientConfig>, Error> {
        let _alone = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(config) = self.known(&key) {
            return Ok(config);
        }
        let config = Arc::new(self.make(&key.0, key.1)?);
        // The first random bytes of a process take tens of milliseconds of gathering. Here nobody's connection waits for
        // it but the one that needs it.
        let _ = self.provider.secure_random.fill(&mut [0; 32]);
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if made.len() >= IDLE_CONFIGS {
            made.retain(|_, config| Arc::strong_count(config) > 1);
        }
        made.insert(key, Arc::clone(&config));
        Ok(config)
    }

    fn make(&self, profile: &TlsProfile, offer: Offer) -> Result<ClientConfig, Error> {
        let versions: &[&SupportedProtocolVersion] = match profile.min_version() {
            TlsVersion::V1_2 => &[&TLS13, &TLS12],
            TlsVersion::V1_3 => &[&TLS13],
        };
        let mut config = ClientConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(versions)
            .map_err(|error| Error::new(Kind::Internal, "no TLS version can be spoken").caused_by(error))?
            .dangerous()
            .with_custom_certificate_verifier(self.verifier(profile)?)
            .with_no_client_auth();
        config.alpn_protocols = offer.protocols().iter().map(|name| name.to_vec()).collect();
        config.resumption = Resumption::in_memory_sessions(TICKETS);
        // RFC 8470: what is sent early can be replayed by whoever recorded it.
        config.enable_early_data = false;
        if profile.key_log() == KeyLog::FromEnvironment {
            config.key_log = Arc::new(KeyLogFile::new());
        }
        Ok(config)
    }

    fn verifier(&self, profile: &TlsProfile) -> Result<Arc<dyn ServerCertVerifier>, Error> {
        if !profile.is_verified() {
            return Ok(Arc::new(Lenient::new(&self.provider)));
        }
        let anchors = self.roots.anchors(profile)?;
        Ok(Arc::new(Strict::new(anchors, profile, &self.provider)?))
    }
}

impl Offer {
    /// What is preferred comes first.
    fn protocols(self) -> &'static [&'static [u8]] {
        match self {
            Self::Http1 => &[b"http/1.1"],
            Self::Http2 => &[b"h2"],
            Self::Both => &[b"h2", b"http/1.1"],
        }
    }
}

/// A stream that speaks TLS over another.
pub(crate) type TlsStream<S> = tokio_rustls::client::TlsStream<Opening<S>>;

/// Speaks TLS with the origin over a stream that leads to it, and says what HTTP the peer has chosen. Nothing of a row is
/// sent before this is over.
///
/// # Errors
///
/// `tls.certificate` and `tls.handshake`; `bad_request`, when no certificate could be for such a host.
pub(crate) async fn handshake<S>(
    config: Arc<ClientConfig>,
    origin: &Origin,
    stream: S,
) -> Result<(TlsStream<S>, Spoken), Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let name = server_name(origin)?;
    let connecting = TlsConnector::from(Arc::clone(&config)).connect(name, Opening::new(stream));
    let stream = connecting
        .into_fallible()
        .await
        .map_err(|(error, opening)| failure::in_handshake(origin, error, opening.first()))?;
    let spoken = match stream.get_ref().1.alpn_protocol() {
        Some(b"h2") => Spoken::Http2,
        // RFC 7301 §3.1: who does not know the extension ignores it, and speaks HTTP/1.1.
        _ if config.alpn_protocols == Offer::Http2.protocols() => {
            return Err(Error::new(Kind::TlsHandshake, format!("{origin} does not speak HTTP/2"))
                .at_peer(&origin.host, origin.port));
        }
        _ => Spoken::Http1,
    };
    Ok((stream, spoken))
}

/// The name that the certificate must have, and that is sent as SNI unless it is an address (RFC 6066 §3).
pub(crate) fn server_name(origin: &Origin) -> Result<ServerName<'static>, Error> {
    let host = origin.host.trim_start_matches('[').trim_end_matches(']');
    // RFC 6066 §3: without the trailing dot; nor do certificates have it.
    let name = host.strip_suffix('.').unwrap_or(host);
    ServerName::try_from(name.to_owned()).map_err(|error| {
        Error::bad_request(format!("no certificate can be for the host {:?}", origin.host)).caused_by(error)
    })
}

/// The stream below TLS. It notes how the peer began: of one that does not speak TLS, that is all there is to tell by.
#[derive(Debug)]
pub(crate) struct Opening<S> {
    stream: S,
    first: [u8; 5],
    noted: usize,
}

impl<S> Opening<S> {
    fn new(stream: S) -> Self {
        Self { stream, first: [0; 5], noted: 0 }
    }

    fn first(&self) -> &[u8] {
        &self.first[..self.noted]
    }
}

impl<S> Deref for Opening<S> {
    type Target = S;

    fn deref(&self) -> &S {
        &self.stream
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Opening<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        let noted = self.noted;
        if noted < self.first.len() {
            let came = &buffer.filled()[before..];
            let count = came.len().min(self.first.len() - noted);
            self.first[noted..noted + count].copy_from_slice(&came[..count]);
            self.noted += count;
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Opening<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
