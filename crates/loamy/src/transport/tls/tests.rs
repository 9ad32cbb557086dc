//! Each failure and each resumption, against a server of rustls in the same process.

#![expect(
    clippy::disallowed_methods,
    reason = "a test drives its own runtime, makes its own peer, and sets an environment"
)]

use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, GeneralSubtree,
    IsCa, KeyPair, NameConstraints, SanType, date_time_ymd,
};
use rustls::server::{ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{HandshakeKind, RootCertStore, ServerConfig};
use rustls_native_certs::CertificateResult;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::target::Scheme;
use crate::tls::{Tls, Verify};

type Issuer = CertifiedIssuer<'static, KeyPair>;

/// Whom the tests trust.
static AUTHORITY: LazyLock<Issuer> = LazyLock::new(|| authority("the authority"));

fn issuer_named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

fn authority(name: &str) -> Issuer {
    CertifiedIssuer::self_signed(issuer_named(name), KeyPair::generate().unwrap()).unwrap()
}

fn leaf(names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name.push(DnType::CommonName, "a leaf");
    params
}

fn but(mut params: CertificateParams, change: impl FnOnce(&mut CertificateParams)) -> CertificateParams {
    change(&mut params);
    params
}

/// What a server shows: its certificate, what it sends along, and the key.
struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: KeyPair,
}

impl Identity {
    fn by(issuer: &Issuer, params: CertificateParams) -> Self {
        let key = KeyPair::generate().unwrap();
        Self { chain: vec![params.signed_by(&key, issuer).unwrap().der().clone()], key }
    }

    fn good() -> Self {
        Self::by(&AUTHORITY, leaf(&["a.example"]))
    }

    fn self_signed(params: CertificateParams) -> Self {
        let key = KeyPair::generate().unwrap();
        Self { chain: vec![params.self_signed(&key).unwrap().der().clone()], key }
    }

    fn with(mut self, issuer: &Issuer) -> Self {
        self.chain.push(issuer.der().clone());
        self
    }

    fn certified(&self) -> Arc<CertifiedKey> {
        let key = PrivateKeyDer::try_from(self.key.serialized_der().to_vec()).unwrap();
        let key = aws_lc_rs::sign::any_supported_type(&key).unwrap();
        Arc::new(CertifiedKey::new(self.chain.clone(), key))
    }
}

#[derive(Debug)]
struct Always(Arc<CertifiedKey>);

impl ResolvesServerCert for Always {
    fn resolve(&self, _: rustls::server::ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}

const ALL: &[&SupportedProtocolVersion] = &[&TLS12, &TLS13];

fn server_of(identity: &Identity, versions: &[&'static SupportedProtocolVersion]) -> ServerConfig {
    ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Always(identity.certified())))
}

fn server_that_wants_a_certificate(versions: &[&'static SupportedProtocolVersion]) -> ServerConfig {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(AUTHORITY.der().clone()).unwrap();
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build().unwrap();
    ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(Always(Identity::good().certified())))
}

/// What the server saw of a handshake.
#[derive(Debug)]
struct Seen {
    handshake: HandshakeKind,
    sni: Option<String>,
}

type Served = tokio::task::JoinHandle<io::Result<Seen>>;

/// A server for one connection; it echoes one byte, since the tickets of TLS 1.3 come after the handshake.
fn serve(config: &Arc<ServerConfig>) -> (DuplexStream, Served) {
    let (ours, theirs) = duplex(1 << 16);
    let acceptor = TlsAcceptor::from(config.clone());
    let served = tokio::spawn(async move {
        let mut stream = acceptor.accept(theirs).await?;
        let connection = stream.get_ref().1;
        let handshake = connection.handshake_kind().unwrap();
        let sni = connection.server_name().map(str::to_owned);
        let byte = stream.read_u8().await?;
        stream.write_u8(byte).await?;
        stream.shutdown().await?;
        Ok(Seen { handshake, sni })
    });
    (ours, served)
}

/// A peer that hears the client out and answers with bytes of its own.
fn answer(bytes: &'static [u8]) -> DuplexStream {
    let (ours, mut theirs) = duplex(1 << 16);
    tokio::spawn(async move {
        theirs.read_u8().await.unwrap();
        theirs.write_all(bytes).await.unwrap();
    });
    ours
}

fn origin(host: &str) -> Origin {
    Origin { scheme: Scheme::Https, host: host.into(), port: 443 }
}

fn trusting(certificate: &CertificateDer<'static>) -> TlsProfile {
    Tls::default().only_roots_pem(certificate.as_ref()).build().unwrap()
}

fn unverified() -> TlsProfile {
    Tls::default().verify(Verify::Off).build().unwrap()
}

async fn shake<S: AsyncRead + AsyncWrite + Unpin>(
    profile: &TlsProfile,
    host: &str,
    stream: S,
) -> Result<Spoken, Error> {
    shake_with(&Configs::default(), profile, Offer::Both, host, stream).await
}

async fn shake_with<S: AsyncRead + AsyncWrite + Unpin>(
    configs: &Configs,
    profile: &TlsProfile,
    offer: Offer,
    host: &str,
    stream: S,
) -> Result<Spoken, Error> {
    let config = configs.config(profile, offer).await?;
    let (mut stream, spoken) = handshake(config, &origin(host), stream).await?;
    stream.write_u8(7).await.unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), 7);
    Ok(spoken)
}

/// The error of a client that trusts the authority, and what the server saw instead of a request.
async fn refused(
    identity: &Identity,
    host: &str,
    versions: &[&'static SupportedProtocolVersion],
) -> (Error, String) {
    let (stream, served) = serve(&Arc::new(server_of(identity, versions)));
    let error = shake(&trusting(AUTHORITY.der()), host, stream).await.unwrap_err();
    (error, served.await.unwrap().unwrap_err().to_string())
}

#[tokio::test]
async fn d1_a_certificate_that_is_not_good_is_refused_with_its_reason_and_nothing_is_sent() {
    let stranger = authority("a stranger");
    let impostor = authority("the authority");
    let constrained = CertifiedIssuer::signed_by(
        but(issuer_named("of the corporation"), |params| {
            params.name_constraints = Some(NameConstraints {
                permitted_subtrees: vec![GeneralSubtree::DnsName("corp.example".into())],
                excluded_subtrees: vec![],
            });
        }),
        KeyPair::generate().unwrap(),
        &*AUTHORITY,
    )
    .unwrap();
    let no_issuer =
        CertifiedIssuer::signed_by(leaf(&["b.example"]), KeyPair::generate().unwrap(), &*AUTHORITY).unwrap();
    let stale = CertifiedIssuer::signed_by(
        but(issuer_named("long ago"), |params| params.not_after = date_time_ymd(2020, 1, 1)),
        KeyPair::generate().unwrap(),
        &*AUTHORITY,
    )
    .unwrap();
    let by = |params| Identity::by(&AUTHORITY, params);
    let dns = |name: &str| SanType::DnsName(name.try_into().unwrap());
    let many: Vec<String> = (1..=7).map(|number| format!("h{number}.example")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();

    let own_clock = "it has to be renewed at the server, unless it is this machine's clock that is wrong";
    let bundle = "pass its certificate as a CA bundle";
    let renamed = "the common name is not looked at (RFC 9525)";
    for (identity, host, message, hint) in [
        (
            by(but(leaf(&["a.example"]), |p| p.not_after = date_time_ymd(2020, 1, 1))),
            "a.example",
            "expired # days ago",
            own_clock,
        ),
        (
            Identity::by(&stale, leaf(&["a.example"])).with(&stale),
            "a.example",
            "expired # days ago",
            own_clock,
        ),
        (
            by(but(leaf(&["a.example"]), |p| p.not_before = date_time_ymd(2999, 1, 1))),
            "a.example",
            "is not valid before # days from now",
            "look whether this machine's clock is right",
        ),
        (
            Identity::by(&stranger, leaf(&["a.example"])),
            "a.example",
            "comes from an issuer that is not trusted here",
            bundle,
        ),
        (
            Identity::by(&stranger, leaf(&["a.example"])).with(&stranger),
            "a.example",
            "comes from an issuer that is not trusted here",
            bundle,
        ),
        (
            Identity::by(&constrained, leaf(&["a.corp.example"])),
            "a.corp.example",
            "comes from an issuer that is not trusted here",
            "forgets to send",
        ),
        (
            Identity::self_signed(leaf(&["a.example"])),
            "a.example",
            "is self-signed",
            "pass it as a CA bundle",
        ),
        (
            Identity::self_signed(but(leaf(&["a.example"]), |p| {
                p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)
            })),
            "a.example",
            "is self-signed",
            "pass it as a CA bundle",
        ),
        (
            by(but(leaf(&["a.example"]), |p| p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained))),
            "a.example",
            "is an issuer's, not a server's",
            "",
        ),
        (
            Identity::by(&no_issuer, leaf(&["a.example"])).with(&no_issuer),
            "a.example",
            "was issued with a certificate that is not an issuer's",
            "",
        ),
        (
            Identity::by(&impostor, leaf(&["a.example"])),
            "a.example",
            "has a wrong signature, or was used to make one",
            "",
        ),
        (
            by(but(leaf(&["a.example"]), |p| {
                p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]
            })),
            "a.example",
            "is not meant for servers",
            "",
        ),
        (
            Identity::by(&constrained, leaf(&["a.example"])).with(&constrained),
            "a.example",
            "has a name that its issuer may not certify (name constraints)",
            "",
        ),
        (
            by(leaf(&["b.example", "*.b.example"])),
            "a.example",
            "is not for a.example, only for b.example, *.b.example",
            "",
        ),
        (
            by(leaf(&many)),
            "a.example",
            "is not for a.example, only for h1.example, h2.example, h3.example, h4.example, h5.example and 2 more",
            "",
        ),
        // RFC 9525 §6.3: a wildcard stands for one label.
        (by(leaf(&["*.a.example"])), "x.y.a.example", "is not for x.y.a.example, only for *.a.example", ""),
        (by(leaf(&["*.example"])), "a.example", "is not for a.example, only for *.example", ""),
        (by(leaf(&["*.a.example"])), "a.example", "is not for a.example, only for *.a.example", ""),
        (by(leaf(&["localhost"])), "127.0.0.1", "is not for 127.0.0.1, only for localhost", ""),
        (
            by(but(leaf(&[]), |p| p.subject_alt_names = vec![dns("127.0.0.1")])),
            "127.0.0.1",
            "is not for 127.0.0.1, only for 127.0.0.1",
            "",
        ),
        (by(leaf(&["127.0.0.1", "::1"])), "127.0.0.2", "is not for 127.0.0.2, only for 127.0.0.1, ::1", ""),
        (by(leaf(&["127.0.0.1"])), "a.example", "is not for a.example, only for 127.0.0.1", ""),
        (
            by(but(leaf(&[]), |p| p.distinguished_name.push(DnType::CommonName, "a.example"))),
            "a.example",
            "has no host in a subjectAltName",
            renamed,
        ),
        (
            Identity {
                chain: vec![CertificateDer::from(b"0\x03abc".to_vec())],
                key: KeyPair::generate().unwrap(),
            },
            "a.example",
            "cannot be read: its encoding is broken",
            "",
        ),
    ] {
        for versions in [&[&TLS12] as &[_], &[&TLS13]] {
            let (error, seen) = refused(&identity, host, versions).await;
            assert_eq!(error.kind(), Kind::TlsCertificate, "{error}");
            let said: String = error
                .message()
                .split(' ')
                .map(|word| if word.parse::<u64>().is_ok_and(|count| count > 1_000) { "#" } else { word })
                .collect::<Vec<_>>()
                .join(" ");
            assert_eq!(said, format!("the certificate of {host}:443 {message}"));
            assert_eq!(error.hint().is_some(), !hint.is_empty(), "{error}: {:?}", error.hint());
            assert!(error.hint().unwrap_or_default().contains(hint), "{error}: {:?}", error.hint());
            assert_eq!(error.peer(), Some((host, 443)));
            assert!(seen.contains("alert"), "the server saw {seen:?} after {error}");
        }
    }
}

#[tokio::test]
async fn d1_a_certificate_that_is_good_is_taken_for_each_kind_of_host() {
    for (names, host, sni) in [
        (&["a.example"] as &[_], "a.example", Some("a.example")),
        (&["a.example"], "a.example.", Some("a.example")),
        (&["*.b.example"], "a.b.example", Some("a.b.example")),
        (&["a_b.example"], "a_b.example", Some("a_b.example")),
        (&["xn--bcher-kva.example"], "xn--bcher-kva.example", Some("xn--bcher-kva.example")),
        (&["127.0.0.1"], "127.0.0.1", None),
        (&["::1"], "[::1]", None),
    ] {
        for versions in [&[&TLS12] as &[_], &[&TLS13]] {
            let identity = Identity::by(&AUTHORITY, leaf(names));
            let (stream, served) = serve(&Arc::new(server_of(&identity, versions)));
            shake(&trusting(AUTHORITY.der()), host, stream).await.unwrap();
            assert_eq!(served.await.unwrap().unwrap().sni.as_deref(), sni, "{host}");
        }
    }
}

#[tokio::test]
async fn d6_a_self_signed_certificate_given_as_bundle_is_trusted_and_no_other_of_its_maker() {
    let itself = |params| {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::self_signed(&params, &key).unwrap().der().clone();
        Identity { chain: vec![certificate], key }
    };
    for is_ca in [IsCa::NoCa, IsCa::ExplicitNoCa, IsCa::Ca(BasicConstraints::Unconstrained)] {
        let identity = itself(but(leaf(&["a.example"]), |params| params.is_ca = is_ca));
        let (stream, served) = serve(&Arc::new(server_of(&identity, ALL)));
        shake(&trusting(&identity.chain[0]), "a.example", stream).await.unwrap();
        assert_eq!(served.await.unwrap().unwrap().handshake, HandshakeKind::Full);

        let (stream, _served) = serve(&Arc::new(server_of(&identity, ALL)));
        let error = shake(&trusting(&identity.chain[0]), "b.example", stream).await.unwrap_err();
        assert_eq!(
            error.message(),
            "the certificate of b.example:443 is not for b.example, only for a.example"
        );

        let twin = itself(but(leaf(&["a.example"]), |params| params.is_ca = is_ca));
        let (stream, _served) = serve(&Arc::new(server_of(&twin, ALL)));
        let error = shake(&trusting(&identity.chain[0]), "a.example", stream).await.unwrap_err();
        assert_eq!(error.kind(), Kind::TlsCertificate);

        let old = itself(but(leaf(&["a.example"]), |params| {
            params.is_ca = is_ca;
            params.not_after = date_time_ymd(2020, 1, 1);
        }));
        let (stream, _served) = serve(&Arc::new(server_of(&old, ALL)));
        let error = shake(&trusting(&old.chain[0]), "a.example", stream).await.unwrap_err();
        assert!(error.message().contains(" expired "), "{error}");
    }
}

#[tokio::test]
async fn d6_without_verification_any_certificate_will_do_and_the_name_is_still_sent() {
    for identity in [
        Identity::self_signed(leaf(&["b.example"])),
        Identity::by(&AUTHORITY, but(leaf(&[]), |p| p.not_after = date_time_ymd(2020, 1, 1))),
        Identity { chain: vec![CertificateDer::from(b"junk".to_vec())], key: KeyPair::generate().unwrap() },
    ] {
        for versions in [&[&TLS12] as &[_], &[&TLS13]] {
            let (stream, served) = serve(&Arc::new(server_of(&identity, versions)));
            shake(&unverified(), "a.example", stream).await.unwrap();
            assert_eq!(served.await.unwrap().unwrap().sni.as_deref(), Some("a.example"));
        }
    }
}

#[tokio::test]
async fn d2_a_peer_with_nothing_in_common_is_named_with_what_is_missing() {
    let modern = Tls::default()
        .only_roots_pem(AUTHORITY.der().as_ref())
        .min_version(TlsVersion::V1_3)
        .build()
        .unwrap();
    let (stream, served) = serve(&Arc::new(server_of(&Identity::good(), &[&TLS12])));
    let error = shake(&modern, "a.example", stream).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.message()),
        (Kind::TlsHandshake, "a.example:443 speaks no version of TLS that is allowed here")
    );
    assert!(error.hint().unwrap().contains("RFC 8996"));
    served.await.unwrap().unwrap_err();

    let mut foreign = server_of(&Identity::good(), ALL);
    foreign.alpn_protocols = vec![b"spdy/3".to_vec()];
    let (stream, _served) = serve(&Arc::new(foreign));
    let error = shake(&trusting(AUTHORITY.der()), "a.example", stream).await.unwrap_err();
    assert_eq!(error.message(), "a.example:443 speaks none of the versions of HTTP that it was offered");

    // Records of a server that is not rustls: alerts, and a ServerHello of TLS 1.0.
    const TLS_1_0: &[u8] =
        b"\x16\x03\x01\x00\x2a\x02\x00\x00\x26\x03\x0101234567890123456789012345678901\x00\x00\x2f\x00";
    for (bytes, message) in [
        (TLS_1_0, "a.example:443 speaks no version of TLS that is allowed here"),
        (b"\x15\x03\x01\x00\x02\x02\x46", "a.example:443 speaks no version of TLS that is allowed here"),
        (b"\x15\x03\x03\x00\x02\x02\x28", "a.example:443 refused the TLS handshake: handshake_failure"),
        (b"\x15\x03\x03\x00\x02\x02\x47", "a.example:443 refused the TLS handshake: insufficient_security"),
        (b"\x15\x03\x03\x00\x02\x02\x50", "a.example:443 refused the TLS handshake: internal_error"),
        (b"\x15\x03\x03\x00\x02\x02\xee", "a.example:443 refused the TLS handshake: 238"),
        (b"\x15\x03\x03\x00\x02\x02\x70", "a.example:443 knows no site of that name"),
        (b"\x15\x03\x03\x00\x02\x02\x2a", "a.example:443 wants a client certificate, or another one"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "a.example:443 does not speak TLS: it answered in plain HTTP"),
        (b"SSH-2.0-OpenSSH_9.9\r\n", "a.example:443 does not speak TLS: what came begins with \"SSH-2\""),
        (b"\n", "a.example:443 does not speak TLS: what came begins with \"\\n\""),
        (b"", "a.example:443 closed the connection during the TLS handshake"),
        (b"\x16\x03\x03", "a.example:443 closed the connection during the TLS handshake"),
    ] {
        let error = shake(&unverified(), "a.example", answer(bytes)).await.unwrap_err();
        assert_eq!((error.kind(), error.message()), (Kind::TlsHandshake, message), "{bytes:?}");
        assert_eq!(error.peer(), Some(("a.example", 443)));
        assert!(std::error::Error::source(&error).is_some());
    }
    let error =
        shake(&unverified(), "a.example", answer(b"\x16\x03\x03\x00\x04\x0b\x00\x00\x00")).await.unwrap_err();
    assert!(error.message().starts_with("a.example:443 broke the rules of TLS: "), "{error}");
}

#[tokio::test]
async fn d3_a_reset_keeps_the_number_of_the_operating_system() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let peer = std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        io::Read::read_exact(&mut socket, &mut [0; 5]).unwrap();
        // Closed with bytes unread, the connection is reset.
    });
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let error = shake(&unverified(), "a.example", stream).await.unwrap_err();
    peer.join().unwrap();
    assert_eq!(
        (error.kind(), error.message()),
        (Kind::TlsHandshake, "a.example:443 reset the connection during the TLS handshake")
    );
    assert!(error.os_error().is_some());
}

#[tokio::test]
async fn d6_a_peer_that_wants_a_client_certificate_says_so_in_the_handshake_or_after() {
    let (stream, served) = serve(&Arc::new(server_that_wants_a_certificate(&[&TLS12])));
    let error = shake(&trusting(AUTHORITY.der()), "a.example", stream).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.message()),
        (Kind::TlsHandshake, "a.example:443 wants a client certificate")
    );
    served.await.unwrap().unwrap_err();

    let (stream, served) = serve(&Arc::new(server_that_wants_a_certificate(&[&TLS13])));
    let configs = Configs::default();
    let config = configs.config(&trusting(AUTHORITY.der()), Offer::Http1).await.unwrap();
    let (mut stream, _) = handshake(config, &origin("a.example"), stream).await.unwrap();
    let error = stream.read_u8().await.unwrap_err();
    assert_eq!(alert(&error), Some((Kind::TlsHandshake, "the peer wants a client certificate".into())));
    served.await.unwrap().unwrap_err();

    let other = rustls::Error::AlertReceived(rustls::AlertDescription::InternalError);
    assert_eq!(
        alert(&io::Error::other(other)),
        Some((Kind::Protocol, "the peer ended TLS with the alert internal_error".into()))
    );
    assert_eq!(alert(&io::ErrorKind::ConnectionReset.into()), None);
}

#[tokio::test]
async fn what_the_peer_chooses_of_the_offer_is_what_is_spoken() {
    let profile = trusting(AUTHORITY.der());
    let identity = Identity::good();
    for (offer, known, spoken) in [
        (Offer::Both, &["h2", "http/1.1"] as &[&str], Ok(Spoken::Http2)),
        (Offer::Both, &["http/1.1"], Ok(Spoken::Http1)),
        (Offer::Both, &[], Ok(Spoken::Http1)),
        (Offer::Http1, &["h2", "http/1.1"], Ok(Spoken::Http1)),
        (Offer::Http1, &[], Ok(Spoken::Http1)),
        (Offer::Http1, &["h2"], Err("a.example:443 speaks none of the versions of HTTP that it was offered")),
        (Offer::Http2, &["h2", "http/1.1"], Ok(Spoken::Http2)),
        (Offer::Http2, &[], Err("a.example:443 does not speak HTTP/2")),
        (
            Offer::Http2,
            &["http/1.1"],
            Err("a.example:443 speaks none of the versions of HTTP that it was offered"),
        ),
    ] {
        let mut server = server_of(&identity, ALL);
        server.alpn_protocols = known.iter().map(|name| name.as_bytes().to_vec()).collect();
        let (stream, _served) = serve(&Arc::new(server));
        let outcome = shake_with(&Configs::default(), &profile, offer, "a.example", stream).await;
        match outcome {
            Ok(chosen) => assert_eq!(Ok(chosen), spoken, "{offer:?} {known:?}"),
            Err(error) => {
                assert_eq!(Err(error.message()), spoken, "{offer:?} {known:?}");
                assert_eq!(error.kind(), Kind::TlsHandshake);
            }
        }
    }
}

#[tokio::test]
async fn a_host_that_no_certificate_can_be_for_is_a_bad_request() {
    let config = Configs::default().config(&unverified(), Offer::Both).await.unwrap();
    for host in ["a!b.example", ".", "a..example", "", "-.example"] {
        let (stream, _peer) = duplex(1 << 16);
        let error = handshake(Arc::clone(&config), &origin(host), stream).await.err().unwrap();
        assert_eq!(error.kind(), Kind::BadRequest, "{host:?}");
        assert_eq!(error.message(), format!("no certificate can be for the host {host:?}"));
    }
}

#[tokio::test]
async fn a_session_is_resumed_by_the_next_connection_in_this_thread_and_in_another() {
    for versions in [&[&TLS12] as &[_], &[&TLS13]] {
        let server = Arc::new(server_of(&Identity::good(), versions));
        let configs = Arc::new(Configs::default());
        let profile = trusting(AUTHORITY.der());
        let visit = async |configs: Arc<Configs>, profile: TlsProfile, server: Arc<ServerConfig>| {
            let (stream, served) = serve(&server);
            shake_with(&configs, &profile, Offer::Both, "a.example", stream).await.unwrap();
            served.await.unwrap().unwrap().handshake
        };
        let first = visit(configs.clone(), profile.clone(), server.clone()).await;
        let second = visit(configs.clone(), profile.clone(), server.clone()).await;
        assert_eq!((first, second), (HandshakeKind::Full, HandshakeKind::Resumed));

        let (configs, profile) = (configs, trusting(AUTHORITY.der()));
        let elsewhere = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(visit(configs, profile, server))
        });
        assert_eq!(elsewhere.join().unwrap(), HandshakeKind::Resumed);
    }
}

#[tokio::test]
async fn g7_a_session_made_without_verification_is_not_resumed_with_it() {
    for versions in [&[&TLS12] as &[_], &[&TLS13]] {
        let server = Arc::new(server_of(&Identity::self_signed(leaf(&["a.example"])), versions));
        let configs = Configs::default();
        let visit = async |profile: &TlsProfile| {
            let (stream, served) = serve(&server);
            let outcome = shake_with(&configs, profile, Offer::Both, "a.example", stream).await;
            outcome.map(|_| ()).map_err(|error| error.kind())?;
            Ok(served.await.unwrap().unwrap().handshake)
        };
        let verified = trusting(AUTHORITY.der());
        assert_eq!(visit(&unverified()).await, Ok(HandshakeKind::Full));
        assert_eq!(visit(&unverified()).await, Ok(HandshakeKind::Resumed));
        assert_eq!(visit(&verified).await, Err(Kind::TlsCertificate));

        let server = Arc::new(server_of(&Identity::good(), versions));
        let visit = async |profile: &TlsProfile| {
            let (stream, served) = serve(&server);
            shake_with(&configs, profile, Offer::Both, "a.example", stream).await.unwrap();
            served.await.unwrap().unwrap().handshake
        };
        visit(&unverified()).await;
        assert_eq!(visit(&unverified()).await, HandshakeKind::Resumed);
        assert_eq!(visit(&verified).await, HandshakeKind::Full);
        assert_eq!(visit(&verified).await, HandshakeKind::Resumed);
    }
}

#[tokio::test]
async fn sessions_are_kept_for_many_names() {
    let names: Vec<String> = (0..100).map(|number| format!("h{number}.b.example")).collect();
    let server = Arc::new(server_of(&Identity::by(&AUTHORITY, leaf(&["*.b.example"])), &[&TLS13]));
    let configs = Configs::default();
    let profile = trusting(AUTHORITY.der());
    for expected in [HandshakeKind::Full, HandshakeKind::Resumed] {
        for name in &names {
            let (stream, served) = serve(&server);
            shake_with(&configs, &profile, Offer::Both, name, stream).await.unwrap();
            assert_eq!(served.await.unwrap().unwrap().handshake, expected, "{name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_configuration_is_made_for_equal_profiles_and_the_system_is_read_once() {
    static READ: AtomicUsize = AtomicUsize::new(0);
    fn system() -> CertificateResult {
        READ.fetch_add(1, Ordering::SeqCst);
        found(&[AUTHORITY.der().clone()])
    }
    let configs = Arc::new(Configs::with_roots(Roots::loaded_by(system)));
    let asked: Vec<_> = (0..8)
        .map(|_| {
            let configs = configs.clone();
            tokio::spawn(async move {
                configs.config(&Tls::default().build().unwrap(), Offer::Both).await.unwrap()
            })
        })
        .collect();
    let first = configs.config(&TlsProfile::default(), Offer::Both).await.unwrap();
    for config in asked {
        assert!(Arc::ptr_eq(&config.await.unwrap(), &first));
    }
    let other = configs.config(&TlsProfile::default(), Offer::Http1).await.unwrap();
    assert!(!Arc::ptr_eq(&other, &first));
    assert_eq!(READ.load(Ordering::SeqCst), 1);
    for config in [first, other] {
        assert!(!config.enable_early_data, "D7");
    }
}

#[tokio::test]
async fn configurations_that_nobody_uses_are_let_go() {
    let configs = Configs::default();
    for number in 0..3 * IDLE_CONFIGS {
        let profile = Tls::default().verify(Verify::Off).fallback_roots_file(format!("/{number}"));
        configs.config(&profile.build().unwrap(), Offer::Both).await.unwrap();
    }
    assert!(configs.0.made.lock().unwrap().len() <= IDLE_CONFIGS);
}

fn found(certificates: &[CertificateDer<'static>]) -> CertificateResult {
    let mut result = CertificateResult::default();
    result.certs = certificates.to_vec();
    result
}

#[tokio::test]
async fn own_certificates_stand_beside_the_systems_or_in_their_place() {
    static SYSTEM: LazyLock<Issuer> = LazyLock::new(|| authority("the system's"));
    fn system() -> CertificateResult {
        found(&[CertificateDer::from(b"unreadable".to_vec()), SYSTEM.der().clone()])
    }
    let own = AUTHORITY.der().as_ref();
    let configs = Configs::with_roots(Roots::loaded_by(system));
    let by_system = Identity::by(&SYSTEM, leaf(&["a.example"]));
    let by_own = Identity::good();
    for (profile, takes_system, takes_own) in [
        (Tls::default(), true, false),
        (Tls::default().add_roots_pem(own), true, true),
        (Tls::default().only_roots_pem(own), false, true),
        (Tls::default().add_roots_pem(own).only_roots_pem(own), false, true),
        (Tls::default().fallback_roots_file("/no/such/file"), true, false),
    ] {
        let profile = profile.build().unwrap();
        for (identity, taken) in [(&by_system, takes_system), (&by_own, takes_own)] {
            let (stream, _served) = serve(&Arc::new(server_of(identity, ALL)));
            let outcome = shake_with(&configs, &profile, Offer::Both, "a.example", stream).await;
            assert_eq!(outcome.is_ok(), taken, "{profile:?}: {outcome:?}");
        }
    }
}

#[tokio::test]
async fn a_system_without_certificates_is_told_unless_there_are_others() {
    fn nothing() -> CertificateResult {
        CertificateResult::default()
    }
    fn no_file() -> CertificateResult {
        rustls_native_certs::load_certs_from_paths(Some("/no/such/file.pem".as_ref()), None)
    }
    for (load, detail) in [(nothing as fn() -> CertificateResult, ""), (no_file, "/no/such/file.pem")] {
        let configs = Configs::with_roots(Roots::loaded_by(load));
        let error = configs.config(&TlsProfile::default(), Offer::Both).await.unwrap_err();
        assert_eq!(error.kind(), Kind::TlsCertificate);
        assert!(error.message().starts_with("no system certificates were found"), "{error}");
        assert!(error.message().contains(detail), "{error}");
        for word in ["ca-certificates", "CA bundle", "certifi", "SSL_CERT_FILE"] {
            assert!(error.hint().unwrap().contains(word), "{:?}", error.hint());
        }
        configs.config(&unverified(), Offer::Both).await.unwrap();
        configs.config(&trusting(AUTHORITY.der()), Offer::Both).await.unwrap();
        let beside = Tls::default().add_roots_pem(AUTHORITY.der().as_ref()).build().unwrap();
        configs.config(&beside, Offer::Both).await.unwrap();

        let path = std::env::temp_dir().join(format!("loamy-fallback-{}.pem", std::process::id()));
        std::fs::write(&path, AUTHORITY.pem()).unwrap();
        let fallback = Tls::default().fallback_roots_file(&path).build().unwrap();
        let (stream, served) = serve(&Arc::new(server_of(&Identity::good(), ALL)));
        shake_with(&configs, &fallback, Offer::Both, "a.example", stream).await.unwrap();
        served.await.unwrap().unwrap();
        std::fs::remove_file(&path).unwrap();

        let fallback = Tls::default().fallback_roots_file("/no/certifi.pem").build().unwrap();
        let error = configs.config(&fallback, Offer::Both).await.unwrap_err();
        assert_eq!(error.message(), "the CA bundle \"/no/certifi.pem\" does not exist");
    }
}

/// The environment belongs to the whole process; so a test about it runs itself again in one of its own.
fn run_again(test: &str, environment: &[(&str, &str)]) {
    let room = module_path!().split_once("::").unwrap().1;
    let inside = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("{room}::{test}")])
        .env_remove("SSL_CERT_FILE")
        .env_remove("SSL_CERT_DIR")
        .envs(environment.iter().copied())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&inside.stdout);
    assert!(inside.status.success() && said.contains("1 passed"), "{environment:?}: {said}");
}

/// What a test that runs again has to see.
const INSIDE: &str = "LOAMY_TEST_INSIDE";

#[test]
fn d8_ssl_cert_file_and_ssl_cert_dir_stand_for_the_systems() {
    if let Ok(expected) = std::env::var(INSIDE) {
        let anchors = Roots::of_system().anchors(&TlsProfile::default());
        let count = anchors.map(|anchors| anchors.len().to_string());
        assert_eq!(count.unwrap_or_else(|error| error.kind().to_string()), expected);
        return;
    }
    let directory = std::env::temp_dir().join(format!("loamy-roots-{}", std::process::id()));
    std::fs::create_dir(&directory).unwrap();
    let (file, empty) = (directory.join("two.pem"), directory.join("empty.pem"));
    std::fs::write(&file, AUTHORITY.pem() + &authority("another").pem()).unwrap();
    std::fs::write(&empty, "").unwrap();
    for (variable, path, expected) in [
        ("SSL_CERT_FILE", &file, "2"),
        ("SSL_CERT_DIR", &directory, "2"),
        ("SSL_CERT_FILE", &empty, "tls.certificate"),
    ] {
        run_again(
            "d8_ssl_cert_file_and_ssl_cert_dir_stand_for_the_systems",
            &[(variable, path.to_str().unwrap()), (INSIDE, expected)],
        );
    }
    std::fs::remove_dir_all(&directory).unwrap();
}

#[tokio::test]
async fn d8_secrets_are_written_to_sslkeylogfile_only_when_that_is_asked_for() {
    if let Ok(asked) = std::env::var(INSIDE) {
        let key_log = if asked == "yes" { KeyLog::FromEnvironment } else { KeyLog::Off };
        let profile =
            Tls::default().only_roots_pem(AUTHORITY.der().as_ref()).key_log(key_log).build().unwrap();
        let (stream, served) = serve(&Arc::new(server_of(&Identity::good(), ALL)));
        shake(&profile, "a.example", stream).await.unwrap();
        served.await.unwrap().unwrap();
        return;
    }
    let path = std::env::temp_dir().join(format!("loamy-keys-{}", std::process::id()));
    let test = "d8_secrets_are_written_to_sslkeylogfile_only_when_that_is_asked_for";
    run_again(test, &[("SSLKEYLOGFILE", path.to_str().unwrap()), (INSIDE, "no")]);
    assert!(!path.exists());
    run_again(test, &[("SSLKEYLOGFILE", path.to_str().unwrap()), (INSIDE, "yes")]);
    let written = std::fs::read_to_string(&path).unwrap();
    assert!(written.contains("CLIENT_TRAFFIC_SECRET_0 "), "{written:?}");
    std::fs::remove_file(&path).unwrap();
}
