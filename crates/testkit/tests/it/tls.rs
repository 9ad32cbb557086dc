//! TLS, with the client of rustls.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::json;
use testkit::{
    Certificate, ClientCertificate, Ending, Handshake, Identity, Log, Options, Protocol, Resumption, Script,
    Server, Tls, TlsLog, Versions,
};

use crate::client::PATIENCE;

/// A client that trusts this authority.
pub(crate) fn trusting(authority: &str, alpn: &[&str], identity: Option<&Identity>) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    let authority = CertificateDer::from_pem_slice(authority.as_bytes()).expect("a certificate");
    roots.add(authority).expect("an authority");
    let builder =
        ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(Identity { certificate, key }) => {
            let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).expect("a certificate");
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("a key");
            builder.with_client_auth_cert(vec![certificate], key).expect("they fit")
        }
    };
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    config
}

type Stream = StreamOwned<ClientConnection, TcpStream>;

fn open(server: &Server, name: &str, config: &Arc<ClientConfig>) -> Stream {
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let session = ClientConnection::new(Arc::clone(config), name).expect("a session");
    let stream = TcpStream::connect(server.addr()).expect("the server listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    StreamOwned::new(session, stream)
}

/// One request; the answer up to the end of the connection, or why there is none.
fn ask(server: &Server, name: &str, config: &Arc<ClientConfig>) -> Result<String, String> {
    let mut stream = open(server, name, config);
    let asked = stream.write_all(b"GET /json HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let mut answer = String::new();
    asked.and_then(|()| stream.read_to_string(&mut answer)).map_err(|error| error.to_string())?;
    stream.conn.send_close_notify();
    let _ = stream.flush();
    Ok(answer)
}

fn serving(tls: Tls) -> Server {
    Server::serve_with(Options { tls: Some(tls), keep_log: true, ..Options::default() })
}

fn first(log: &Log) -> &TlsLog {
    log.connections[0].tls.as_ref().expect("a handshake")
}

#[test]
fn a_good_server_answers_over_tls_and_says_so() {
    let server = serving(Tls { names: vec!["extra.example".into()], ..Tls::default() });
    assert!(server.url("/x").starts_with("https://127.0.0.1:"));
    let config = Arc::new(trusting(&testkit::ca_pem(), &["http/1.1"], None));
    for name in ["localhost", "127.0.0.1", "::1", "test.example", "a.test.example", "extra.example"] {
        let answer = ask(&server, name, &config).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    }
    let log = server.stop();
    let seen = first(&log);
    assert_eq!(seen.server_name.as_deref(), Some("localhost"));
    assert_eq!((seen.version.as_deref(), seen.alpn.as_deref()), (Some("1.3"), Some("http/1.1")));
    assert_eq!((seen.offered.as_slice(), seen.resumed), (&["http/1.1".to_owned()][..], false));
    assert_eq!(log.connections[1].tls.as_ref().expect("a handshake").server_name, None);
    assert_eq!((log.counts.handshakes, log.counts.failed_handshakes), (6, 0));
    assert_eq!(log.counts.requests, 6);
}

#[test]
fn each_bad_certificate_is_refused_for_its_reason_before_any_request() {
    use Certificate::*;
    let table = [
        (MissingIntermediate, "localhost", "UnknownIssuer"),
        (Expired, "localhost", "certificate expired"),
        (NotYetValid, "localhost", "certificate not valid yet"),
        (SelfSigned, "localhost", "UnknownIssuer"),
        (UnknownCa, "localhost", "UnknownIssuer"),
        (WrongHost, "localhost", "not valid for name \"localhost\""),
        (DnsOnly, "127.0.0.1", "not valid for name \"127.0.0.1\""),
        (IpOnly, "localhost", "not valid for name \"localhost\""),
        (CommonNameOnly, "localhost", "not valid for"),
        (BareWildcard, "localhost", "not valid for"),
        (DoubleWildcard, "a.b.test.example", "not valid for"),
        (Wildcard, "a.b.test.example", "not valid for"),
        (Wildcard, "test.example", "not valid for"),
        (PartialWildcard, "localhost", "not valid for"),
        (NameConstraints, "localhost", "NameConstraintViolation"),
        (WrongUsage, "localhost", "extended key usage"),
    ];
    let config = Arc::new(trusting(&testkit::ca_pem(), &[], None));
    for (certificate, name, expected) in table {
        let server = serving(Tls { certificate, ..Tls::default() });
        let error = ask(&server, name, &config).expect_err("refused");
        assert!(error.contains(expected), "{certificate:?}: {error}");
        let log = server.wait_for(|log| log.counts.ended == 1, PATIENCE);
        assert_eq!((log.counts.bytes_received, log.counts.failed_handshakes), (0, 1), "{certificate:?}");
        let Some((_, Ending::Handshake(reason))) = &log.connections[0].ended else {
            panic!("{certificate:?}: {:?}", log.connections[0]);
        };
        assert!(reason.contains("alert"), "{certificate:?}: {reason}");
    }
    for (certificate, name) in
        [(Chain, "localhost"), (DnsOnly, "localhost"), (IpOnly, "127.0.0.1"), (Wildcard, "a.test.example")]
    {
        let server = serving(Tls { certificate, ..Tls::default() });
        ask(&server, name, &config).unwrap_or_else(|error| panic!("{certificate:?}: {error}"));
    }
}

#[test]
fn each_failing_handshake_fails_in_its_way() {
    use Handshake::*;
    let table = [
        (Reset, "reset by peer", "reset by the server"),
        (Close, "end of file", "closed by the server"),
        (PlainHttp, "InvalidContentType", "closed by the server"),
        (Garbage, "InvalidContentType", "closed by the server"),
        (Truncated, "end of file", "closed by the server"),
        (UnofferedProtocol, "SelectedUnofferedApplicationProtocol", "closed by the server"),
    ];
    let config = Arc::new(trusting(&testkit::ca_pem(), &["h2", "http/1.1"], None));
    for (handshake, expected, ending) in table {
        let server = serving(Tls { handshake, ..Tls::default() });
        let error = ask(&server, "localhost", &config).expect_err("no handshake");
        assert!(error.contains(expected), "{handshake:?}: {error}");
        let log = server.wait_for(|log| log.counts.ended == 1, PATIENCE);
        assert_eq!(log.connections[0].ended.as_ref().expect("ended").1.to_string(), ending);
        assert_eq!(first(&log).server_name.as_deref(), Some("localhost"));
        assert_eq!((log.counts.handshakes, log.counts.failed_handshakes), (0, 1));
        assert_eq!(log.counts.bytes_received, 0);
    }
}

#[test]
fn silence_in_the_handshake_lasts_until_the_client_goes() {
    const A_WHILE: Duration = Duration::from_millis(200);
    let server = serving(Tls { handshake: Handshake::Silence, ..Tls::default() });
    let mut stream = open(&server, "localhost", &Arc::new(trusting(&testkit::ca_pem(), &[], None)));
    stream.sock.set_read_timeout(Some(A_WHILE)).expect("a timeout");
    let error = stream.write_all(b"x").expect_err("no handshake");
    assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
    assert_eq!(server.counts().open, 1);
    drop(stream);
    server.wait_for(|log| log.counts.ended == 1, PATIENCE);
}

#[test]
fn a_connection_of_a_script_may_fail_its_handshake_alone() {
    let script = Script::parse([
        "handshake reset",
        "connection",
        "handshake skip",
        "read-bytes 5",
        // A fatal alert of TLS, handshake_failure.
        "send-hex 15 03 03 00 02 02 28",
        "connection",
        "read",
        "send HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nhi",
    ]);
    let server = Server::start(script.expect("a script").tls(Tls::default()));
    let config = Arc::new(trusting(&testkit::ca_pem(), &[], None));
    assert!(ask(&server, "localhost", &config).expect_err("reset").contains("reset"));
    let alert = ask(&server, "localhost", &config).expect_err("an alert");
    assert!(alert.contains("HandshakeFailure"), "{alert}");
    assert!(ask(&server, "localhost", &config).expect("an answer").ends_with("hi"));
    let log = server.stop();
    assert_eq!((log.counts.handshakes, log.counts.failed_handshakes), (1, 1));
    assert!(log.connections[1].tls.is_none());
    assert_eq!(log.connections[1].bytes[..3], [22, 3, 1]);
    assert_eq!(log.requests[0].connection, 2);
}

#[test]
fn versions_and_cipher_suites_are_those_that_were_asked_for() {
    let suite = |name: &str| vec![name.to_owned()];
    let table = [
        (Versions::Only12, Vec::new(), "1.2", "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"),
        (Versions::Only13, Vec::new(), "1.3", "TLS13_AES_256_GCM_SHA384"),
        (Versions::Both, suite("TLS13_CHACHA20_POLY1305_SHA256"), "1.3", "TLS13_CHACHA20_POLY1305_SHA256"),
        (
            Versions::Only12,
            suite("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"),
            "1.2",
            "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        ),
    ];
    let config = Arc::new(trusting(&testkit::ca_pem(), &[], None));
    for (versions, cipher_suites, version, cipher_suite) in table {
        let case = format!("{versions:?} {cipher_suites:?}");
        // Only the suites of the versions that it speaks can be taken.
        let versions = if cipher_suites.is_empty() || version == "1.2" { versions } else { Versions::Only13 };
        let server = serving(Tls { versions, cipher_suites, ..Tls::default() });
        ask(&server, "localhost", &config).expect("an answer");
        let log = server.stop();
        let seen = first(&log);
        assert_eq!(seen.version.as_deref(), Some(version), "{case}");
        assert_eq!(seen.cipher_suite.as_deref(), Some(cipher_suite), "{case}");
    }
    let unknown = Tls { cipher_suites: suite("NULL"), ..Tls::default() };
    let Err(error) = Server::try_serve_with(Options { tls: Some(unknown), ..Options::default() }) else {
        panic!("started");
    };
    assert!(error.to_string().contains("\"NULL\" is no cipher suite; there are TLS13_"), "{error}");
}

#[test]
fn alpn_chooses_what_is_offered_and_fails_without_a_common_protocol() {
    let server = |http: &[Protocol], alpn: Option<&[&str]>| {
        let alpn = alpn.map(|names| names.iter().map(|name| (*name).to_owned()).collect());
        let tls = Some(Tls { alpn, ..Tls::default() });
        Server::serve_with(Options { tls, http: http.to_vec(), keep_log: true, ..Options::default() })
    };
    let agreed = |server: &Server, alpn: &[&str]| {
        let mut stream = open(server, "localhost", &Arc::new(trusting(&testkit::ca_pem(), alpn, None)));
        stream.conn.complete_io(&mut stream.sock).map_err(|error| error.to_string())?;
        let agreed = stream.conn.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned());
        Ok::<_, String>(agreed)
    };
    let both = server(&[Protocol::Http2, Protocol::Http11], None);
    assert_eq!(agreed(&both, &["http/1.1", "h2"]).expect("agreed").as_deref(), Some("h2"));
    assert_eq!(agreed(&both, &["http/1.1"]).expect("agreed").as_deref(), Some("http/1.1"));
    assert_eq!(agreed(&both, &[]).expect("agreed"), None);
    let error = agreed(&both, &["spdy/3"]).expect_err("nothing in common");
    assert!(error.contains("NoApplicationProtocol"), "{error}");
    both.wait_for(|log| log.counts.failed_handshakes == 1, PATIENCE);
    let old = server(&[Protocol::Http11], None);
    assert_eq!(agreed(&old, &["h2", "http/1.1"]).expect("agreed").as_deref(), Some("http/1.1"));
    assert!(agreed(&old, &["h2"]).expect_err("h2 alone").contains("NoApplicationProtocol"));
    let none = server(&[Protocol::Http2, Protocol::Http11], Some(&[]));
    assert_eq!(agreed(&none, &["h2", "http/1.1"]).expect("agreed"), None);
    let odd = server(&[Protocol::Http11], Some(&["odd/1"]));
    assert_eq!(agreed(&odd, &["odd/1"]).expect("agreed").as_deref(), Some("odd/1"));
}

#[test]
fn a_client_certificate_is_demanded_and_checked() {
    let required = || serving(Tls { client_certificate: ClientCertificate::Required, ..Tls::default() });
    let without = Arc::new(trusting(&testkit::ca_pem(), &[], None));
    let known = Arc::new(trusting(&testkit::ca_pem(), &[], Some(&testkit::client_identity())));
    let stranger = Arc::new(trusting(&testkit::ca_pem(), &[], Some(&testkit::stranger_identity())));
    let server = required();
    ask(&server, "localhost", &known).expect("an answer");
    assert!(first(&server.stop()).client_certificate);
    for (config, expected) in [(&without, "CertificateRequired"), (&stranger, "UnknownCA")] {
        let server = required();
        let error = ask(&server, "localhost", config).expect_err("refused");
        assert!(error.contains(expected), "{error}");
        server.wait_for(|log| log.counts.failed_handshakes == 1, PATIENCE);
    }
    let asking = serving(Tls { client_certificate: ClientCertificate::Requested, ..Tls::default() });
    ask(&asking, "localhost", &without).expect("an answer");
    assert!(!first(&asking.stop()).client_certificate);
}

#[test]
fn a_session_is_resumed_unless_the_server_refuses() {
    for (resumption, resumed) in [(Resumption::Offered, 1), (Resumption::Refused, 0)] {
        for versions in [Versions::Only12, Versions::Only13] {
            let server = serving(Tls { resumption, versions, ..Tls::default() });
            let config = Arc::new(trusting(&testkit::ca_pem(), &[], None));
            ask(&server, "localhost", &config).expect("an answer");
            ask(&server, "localhost", &config).expect("an answer");
            let log = server.stop();
            assert_eq!((log.counts.handshakes, log.counts.resumed), (2, resumed), "{versions:?}");
            let second = log.connections[1].tls.as_ref().expect("a handshake");
            assert_eq!(second.resumed, resumed == 1, "{versions:?}");
        }
    }
}

#[test]
fn a_connection_ends_with_a_close_notify_or_without() {
    const ANSWER: &str = "send HTTP/1.1 200 OK\\r\\n\\r\\nhello";
    let end = |last: &str| {
        let server =
            Server::start(Script::parse(["read", ANSWER, last]).expect("a script").tls(Tls::default()));
        ask(&server, "localhost", &Arc::new(trusting(&testkit::ca_pem(), &[], None)))
    };
    assert!(end("close").expect("a whole answer").ends_with("hello"));
    let cut = end("close-without-notify").expect_err("cut off");
    assert!(cut.contains("without sending TLS close_notify"), "{cut}");
    assert!(end("reset").expect_err("reset").contains("reset"));
}

#[test]
fn the_steps_work_inside_tls() {
    let script = Script::parse([
        "read",
        "drip 1ms HTTP/1.1 200 OK\\r\\n",
        "repeat 3 X-A: b\\r\\n",
        "send \\r\\n",
        "send-zeros 100000",
        "half-close",
        "read",
        "expect-close 5s",
    ]);
    let server = Server::start(script.expect("a script").tls(Tls::default()));
    let mut stream = open(&server, "localhost", &Arc::new(trusting(&testkit::ca_pem(), &[], None)));
    stream.write_all(b"POST /1 HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc").expect("sent");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("a close_notify");
    assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\nX-A: b\r\nX-A: b\r\nX-A: b\r\n\r\n"));
    assert_eq!(answer.len(), 17 + 24 + 2 + 100_000);
    stream.write_all(b"GET /2 HTTP/1.1\r\n\r\n").expect("their side alone has ended");
    stream.conn.send_close_notify();
    stream.flush().expect("flushed");
    drop(stream);
    let log = server.wait_for(|log| log.counts.ended == 1, PATIENCE);
    let targets: Vec<_> = log.requests.iter().map(|request| request.target.as_str()).collect();
    assert_eq!(targets, ["/1", "/2"]);
    assert_eq!(log.connections[0].ended.as_ref().expect("ended").1, Ending::ByClient);
    assert!(log.connections[0].bytes.starts_with(b"POST /1 "));
}

#[test]
fn plain_http_on_the_tls_port_is_named() {
    let server = serving(Tls::default());
    let mut client = crate::client::connect(&server);
    client.get("/json").read_to_end();
    let log = server.wait_for(|log| log.counts.ended == 1, PATIENCE);
    let ending = log.connections[0].ended.as_ref().expect("ended").1.to_string();
    assert!(ending.starts_with("no TLS: "), "{ending}");
    assert_eq!(log.counts.failed_handshakes, 1);
}

#[test]
fn tls_from_json_is_what_it_says() {
    let tls = Tls::from_json(&json!({
        "certificate": "expired", "names": ["a.example"], "min": "1.2", "max": "1.2",
        "cipher_suites": ["X"], "alpn": ["h2"], "client_certificate": "required",
        "handshake": "silence", "resumption": "refused",
    }));
    let expected = Tls {
        certificate: Certificate::Expired,
        names: vec!["a.example".into()],
        versions: Versions::Only12,
        cipher_suites: vec!["X".into()],
        alpn: Some(vec!["h2".into()]),
        client_certificate: ClientCertificate::Required,
        handshake: Handshake::Silence,
        resumption: Resumption::Refused,
    };
    assert_eq!(tls, Ok(expected));
    assert_eq!(Tls::from_json(&json!(true)), Ok(Tls::default()));
    let table = [
        (json!({"certificate": "nice"}), "no certificate; there are good, chain"),
        (json!({"min": "1.0"}), "no versions from 1.0 to 1.3"),
        (json!({"handshake": "late"}), "no handshake; there are proper, reset"),
        (json!({"alpn": [1]}), "alpn: [1] is no value for it"),
        (json!({"cert": "good"}), "cert: no such field"),
        (json!(1), "true or an object"),
    ];
    for (value, expected) in table {
        let error = Tls::from_json(&value).expect_err("refused").to_string();
        assert!(error.contains(expected), "{value}: {error}");
    }
    let script = json!({"steps": ["read", "send x"], "tls": {"certificate": "chain"}, "http": ["http/1.1"]});
    let server = Server::start(Script::from_json(&script).expect("a script"));
    assert_eq!(
        ask(&server, "localhost", &Arc::new(trusting(&testkit::ca_pem(), &["http/1.1"], None))).as_deref(),
        Ok("x")
    );
}
