//! TLS and HTTP/2 against the scripted server: what is spoken, on how many connections, and what the server saw.

use std::collections::BTreeSet;
use std::time::Duration;

use http::Version;
use loamy::{Client, HttpVersion, Kind, Outcome, Policy, Request, Tls, TlsProfile};
use testkit::{Options, Protocol, Server};

/// Trusts the authority of the test servers.
fn trusting() -> TlsProfile {
    Tls::default().only_roots_pem(testkit::ca_pem()).build().unwrap()
}

fn policy() -> Policy {
    Policy::default().tls(trusting()).timeout(Duration::from_secs(10))
}

fn over_tls(http: Vec<Protocol>) -> Server {
    Server::serve_with(Options { tls: Some(testkit::Tls::default()), http, ..Options::default() })
}

fn versions(outcomes: &[Outcome]) -> BTreeSet<String> {
    outcomes
        .iter()
        .map(|outcome| match &outcome.result {
            Ok(response) => format!("{:?}", response.version()),
            Err(error) => error.to_string(),
        })
        .collect()
}

fn rows(server: &Server, count: usize) -> impl Iterator<Item = Request> + use<'_> {
    (0..count).map(|row| {
        let url = server.url(&format!("/echo?row={row}"));
        if row % 3 == 0 { Request::post(url, format!("body {row}")) } else { Request::get(url) }
    })
}

#[test]
fn what_is_spoken_is_what_the_peer_chooses_of_what_is_offered() {
    let both = over_tls(vec![Protocol::Http2, Protocol::Http11]);
    let old = over_tls(vec![Protocol::Http11]);
    let client = Client::new().unwrap();
    for (server, version, spoken) in [
        (&both, HttpVersion::Auto, Version::HTTP_2),
        (&both, HttpVersion::Http1, Version::HTTP_11),
        (&both, HttpVersion::Http2, Version::HTTP_2),
        (&old, HttpVersion::Auto, Version::HTTP_11),
    ] {
        let outcomes = client.run(rows(server, 200), &policy().http_version(version));
        assert_eq!(versions(&outcomes), [format!("{spoken:?}")].into(), "{version:?}");
        assert!(outcomes.iter().enumerate().all(|(at, outcome)| outcome.index == at));
    }
    assert_eq!(both.counts().requests, 600);
    let refused = client.run(rows(&old, 3), &policy().http_version(HttpVersion::Http2));
    assert!(
        refused.iter().all(|row| matches!(&row.result, Err(error) if error.kind() == Kind::TlsHandshake))
    );
}
