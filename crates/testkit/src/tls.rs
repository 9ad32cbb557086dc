//! TLS towards the client: what a server offers, and how its handshake goes or fails.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::{Acceptor, ClientHello, NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{HandshakeKind, RootCertStore, ServerConfig, ServerConnection, version};
use serde_json::Value;
use tokio_rustls::LazyConfigAcceptor;

use crate::certificates::{Certificate, authority};
use crate::handshake::{self, Handshake};
use crate::log::{Ending, TlsLog};
use crate::options::Protocol;
use crate::recorder::Recorder;
use crate::script::ScriptError;
use crate::wire::Wire;

/// What a server does with TLS. The default is a good server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// What it shows. Default: a good certificate.
    pub certificate: Certificate,
    /// Names and addresses besides the usual ones.
    pub names: Vec<String>,
    /// Which versions it speaks. Default: both.
    pub versions: Versions,
    /// The only cipher suites that it takes, by the names that rustls gives them
    /// (`TLS13_AES_128_GCM_SHA256`, `TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256`). Default: all.
    pub cipher_suites: Vec<String>,
    /// The protocols that it chooses from (ALPN), best first, when they are others than those
    /// that it speaks. An empty list: it chooses none.
    pub alpn: Option<Vec<String>>,
    /// Whether clients show a certificate. Default: not asked for.
    pub client_certificate: ClientCertificate,
    /// How the handshake goes. Default: as it should.
    pub handshake: Handshake,
    /// Whether a session may be resumed. Default: offered.
    pub resumption: Resumption,
}

/// The versions of TLS that a server speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Versions {
    /// 1.2 and 1.3.
    #[default]
    Both,
    /// 1.2 alone.
    Only12,
    /// 1.3 alone.
    Only13,
}

/// Whether clients have to show a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientCertificate {
    /// The server does not ask.
    #[default]
    NotAsked,
    /// It asks, and goes on without.
    Requested,
    /// It asks, and fails the handshake without one that its authority signed.
    Required,
}

/// Whether a later connection may go on with the session of an earlier one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Resumption {
    /// The server hands out what it takes.
    #[default]
    Offered,
    /// It does not.
    Refused,
}

impl Tls {
    /// Reads `true`, or an object whose fields are all optional: `{"certificate": "expired",
    /// "names": […], "min": "1.2", "max": "1.3", "cipher_suites": […], "alpn": […],
    /// "client_certificate": "not asked"|"requested"|"required", "handshake": "reset",
    /// "resumption": "offered"|"refused"}`.
    ///
    /// # Errors
    /// A field that is unknown or has a value that it cannot have.
    pub fn from_json(value: &Value) -> Result<Tls, ScriptError> {
        let mut tls = Tls::default();
        if *value == Value::Bool(true) {
            return Ok(tls);
        }
        let fields = value.as_object().ok_or_else(|| ScriptError("tls: true or an object".into()))?;
        let (mut oldest, mut newest) = ("1.2", "1.3");
        for (name, field) in fields {
            let wrong = || ScriptError(format!("tls: {name}: {field} is no value for it"));
            let text = || field.as_str().ok_or_else(wrong);
            match name.as_str() {
                "certificate" => {
                    tls.certificate = Certificate::named(text()?).ok_or_else(|| {
                        let known = Certificate::names().collect::<Vec<_>>().join(", ");
                        ScriptError(format!("tls: {field} is no certificate; there are {known}"))
                    })?;
                }
                "names" => tls.names = texts(field).ok_or_else(wrong)?,
                "min" => oldest = text()?,
                "max" => newest = text()?,
                "cipher_suites" => tls.cipher_suites = texts(field).ok_or_else(wrong)?,
                "alpn" => tls.alpn = Some(texts(field).ok_or_else(wrong)?),
                "client_certificate" => {
                    tls.client_certificate = match text()? {
                        "not asked" => ClientCertificate::NotAsked,
                        "requested" => ClientCertificate::Requested,
                        "required" => ClientCertificate::Required,
                        _ => return Err(wrong()),
                    };
                }
                "handshake" => tls.handshake = Handshake::named(text()?).map_err(ScriptError)?,
                "resumption" => {
                    tls.resumption = match text()? {
                        "offered" => Resumption::Offered,
                        "refused" => Resumption::Refused,
                        _ => return Err(wrong()),
                    };
                }
                _ => return Err(ScriptError(format!("tls: {name}: no such field"))),
            }
        }
        tls.versions = match (oldest, newest) {
            ("1.2", "1.3") => Versions::Both,
            ("1.2", "1.2") => Versions::Only12,
            ("1.3", "1.3") => Versions::Only13,
            _ => return Err(ScriptError(format!("tls: no versions from {oldest} to {newest}"))),
        };
        Ok(tls)
    }
}

/// The strings of a JSON list.
pub(crate) fn texts(value: &Value) -> Option<Vec<String>> {
    value.as_array()?.iter().map(|text| text.as_str().map(str::to_owned)).collect()
}

/// [`Tls`] ready for use: the certificate is made, the names are checked.
pub(crate) struct Door {
    config: Arc<ServerConfig>,
    /// Whether ALPN follows what a connection speaks.
    alpn_follows: bool,
    handshake: Handshake,
}

impl Door {
    /// `address` is where the server listens.
    pub(crate) fn new(tls: &Tls, address: IpAddr) -> io::Result<Door> {
        let invalid = |error: &dyn std::fmt::Display| {
            io::Error::new(io::ErrorKind::InvalidInput, format!("tls: {error}"))
        };
        let shown = tls.certificate.make(address, &tls.names).map_err(|error| invalid(&error))?;
        let provider = Arc::new(tls.provider().map_err(|error| invalid(&error))?);
        let versions: &[_] = match (tls.versions, tls.handshake) {
            (Versions::Only12, _) | (_, Handshake::UnofferedProtocol) => &[&version::TLS12],
            (Versions::Only13, _) => &[&version::TLS13],
            (Versions::Both, _) => &[&version::TLS12, &version::TLS13],
        };
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder.with_protocol_versions(versions).map_err(|error| invalid(&error))?;
        let builder = match tls.client_certificate {
            ClientCertificate::NotAsked => builder.with_no_client_auth(),
            asked => {
                let mut roots = RootCertStore::empty();
                roots.add(authority().der().clone()).map_err(|error| invalid(&error))?;
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                let verifier = match asked {
                    ClientCertificate::Requested => verifier.allow_unauthenticated(),
                    _ => verifier,
                };
                builder.with_client_cert_verifier(verifier.build().map_err(|error| invalid(&error))?)
            }
        };
        let config = builder.with_single_cert(shown.chain, shown.key);
        let mut config = config.map_err(|error| invalid(&error))?;
        let names = tls.alpn.iter().flatten();
        config.alpn_protocols = names.map(|name| name.clone().into_bytes()).collect();
        if tls.resumption == Resumption::Refused {
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
        let alpn_follows = tls.alpn.is_none();
        Ok(Door { config: Arc::new(config), alpn_follows, handshake: tls.handshake })
    }

    /// Makes the handshake, unless `instead` or the options say what happens instead of it.
    /// `http` is what this connection speaks.
    pub(crate) async fn open(
        &self,
        wire: Wire,
        instead: Option<Handshake>,
        http: &[Protocol],
        recorder: &Recorder,
        number: usize,
    ) -> Result<Wire, (Option<Wire>, Ending)> {
        let handshake = instead.unwrap_or(self.handshake);
        let stream = match wire {
            Wire::Plain(stream) if handshake != Handshake::Skip => stream,
            wire => return Ok(wire),
        };
        let mut acceptor = LazyConfigAcceptor::new(Acceptor::default(), stream);
        let start = match (&mut acceptor).await {
            Ok(start) => start,
            Err(error) => {
                let failed = TlsLog { error: Some(error.to_string()), ..TlsLog::default() };
                recorder.secured(number, failed);
                let mut wire = acceptor.take_io().map(Wire::Plain);
                if let Some(wire) = &mut wire {
                    wire.leave().await;
                }
                return Err((wire, Ending::Handshake(error.to_string())));
            }
        };
        let config = self.config_for(http);
        let mut seen = hello(&start.client_hello());
        if handshake != Handshake::Proper {
            seen.error = Some(format!("{handshake:?}, as the script says"));
            recorder.secured(number, seen);
            let (wire, ending) = handshake::fail(start, &config, handshake).await;
            return Err((Some(wire), ending));
        }
        match start.into_stream(config).into_fallible().await {
            Ok(stream) => {
                outcome(&mut seen, stream.get_ref().1);
                recorder.secured(number, seen);
                Ok(Wire::Tls(Box::new(stream)))
            }
            Err((error, stream)) => {
                seen.error = Some(error.to_string());
                recorder.secured(number, seen);
                let mut wire = Wire::Plain(stream);
                // The alert is on its way, and closing on unread bytes could take it along.
                wire.leave().await;
                Err((Some(wire), Ending::Handshake(error.to_string())))
            }
        }
    }
}

impl Door {
    fn config_for(&self, http: &[Protocol]) -> Arc<ServerConfig> {
        if !self.alpn_follows {
            return Arc::clone(&self.config);
        }
        // What can be resumed is shared: the clone has the same storage.
        let mut config = ServerConfig::clone(&self.config);
        config.alpn_protocols = http.iter().map(|protocol| protocol.alpn().as_bytes().to_vec()).collect();
        Arc::new(config)
    }
}

impl Tls {
    fn provider(&self) -> Result<CryptoProvider, String> {
        let mut provider = aws_lc_rs::default_provider();
        if self.cipher_suites.is_empty() {
            return Ok(provider);
        }
        let known = std::mem::take(&mut provider.cipher_suites);
        for wanted in &self.cipher_suites {
            let found = known.iter().find(|suite| format!("{:?}", suite.suite()) == *wanted);
            provider.cipher_suites.push(*found.ok_or_else(|| {
                let known: Vec<_> = known.iter().map(|suite| format!("{:?}", suite.suite())).collect();
                format!("{wanted:?} is no cipher suite; there are {}", known.join(", "))
            })?);
        }
        Ok(provider)
    }
}

fn hello(hello: &ClientHello<'_>) -> TlsLog {
    let offered = hello.alpn().into_iter().flatten();
    TlsLog {
        server_name: hello.server_name().map(str::to_owned),
        offered: offered.map(|name| String::from_utf8_lossy(name).into_owned()).collect(),
        ..TlsLog::default()
    }
}

fn outcome(seen: &mut TlsLog, session: &ServerConnection) {
    seen.version = session.protocol_version().map(|version| match version {
        rustls::ProtocolVersion::TLSv1_2 => "1.2".to_owned(),
        rustls::ProtocolVersion::TLSv1_3 => "1.3".to_owned(),
        other => format!("{other:?}"),
    });
    seen.alpn = session.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned());
    seen.cipher_suite = session.negotiated_cipher_suite().map(|suite| format!("{:?}", suite.suite()));
    seen.resumed = session.handshake_kind() == Some(HandshakeKind::Resumed);
    seen.client_certificate = session.peer_certificates().is_some_and(|chain| !chain.is_empty());
}
