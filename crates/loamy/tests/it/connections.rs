//! Which connection a row goes on, and what is done where there is none for it: asserted by what the server saw.
#![allow(
    clippy::disallowed_methods,
    reason = "the walls around the clock are the engine's; this drives it from outside"
)]

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use http::Version;
use loamy::{
    Backoff, Client, Dns, HttpVersion, Kind, Outcome, Policy, Request, Response, Timeouts, Tls, TlsProfile,
};
use testkit::{Http2, Options, Protocol, Script, Server};

use crate::expectations::{LATE, PATIENCE, all_answered, client, kept};

/// How long a further connection is not tried where one could not be made.
const A_MOMENT: Duration = Duration::from_secs(1);

fn trusting() -> TlsProfile {
    Tls::default().only_roots_pem(testkit::ca_pem()).build().unwrap()
}

/// HTTP/2 that is known to be spoken, with so many streams on a connection.
fn with_streams(streams: u32) -> Server {
    Server::serve_with(Options {
        http: vec![Protocol::Http2],
        http2: Http2 { max_concurrent_streams: Some(streams), ..Http2::default() },
        keep_log: true,
        ..Options::default()
    })
}

fn over_http2() -> Policy {
    Policy::default().http_version(HttpVersion::Http2).timeout(PATIENCE)
}

/// A client of one thread that finds every name at this machine; its look-up does this first.
fn at_home(first: impl Fn() + Send + Sync + 'static) -> Client {
    let dns = Dns::Fixed(Arc::new(move |_| {
        first();
        Ok(vec![IpAddr::V4(Ipv4Addr::LOCALHOST)])
    }));
    Client::builder().threads(1).dns(dns).build().unwrap()
}

fn gets(url: &str, rows: usize) -> impl Iterator<Item = Request> + use<'_> {
    (0..rows).map(move |_| Request::get(url))
}

/// Hands on so many connections to the server, and then listens no more.
fn hand_on(listener: TcpListener, server: SocketAddr, connections: usize) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        for _ in 0..connections {
            let (near, _) = listener.accept().unwrap();
            let far = TcpStream::connect(server).unwrap();
            for (mut from, mut to) in [(near.try_clone().unwrap(), far.try_clone().unwrap()), (far, near)] {
                thread::spawn(move || {
                    let _ = io::copy(&mut from, &mut to);
                    let _ = to.shutdown(std::net::Shutdown::Both);
                });
            }
        }
    })
}

#[test]
fn e8_once_a_peer_has_sent_what_nobody_asked_for_each_of_its_connections_carries_one_row() {
    const LEARNT: usize = 40;
    let script = [
        "read",
        r"send HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        r"send HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
        "again",
    ];
    let server = Server::start(Script::parse(script).unwrap());
    let client = client(2);
    let url = server.url("/row");
    let send = |rows| client.run(gets(&url, rows), &Policy::default().concurrency(4));
    let is_evil = |outcome: &&Outcome| outcome.response().is_none_or(|response| response.body() == b"evil");
    let wrong = send(400).iter().filter(is_evil).count();
    assert!(wrong < LEARNT, "{wrong} of 400 rows have what was no answer to them");
    let before = server.counts();
    assert_eq!(send(100).iter().filter(is_evil).count(), 0, "by then it is known");
    let after = server.counts();
    assert_eq!(after.connections - before.connections, 100, "each row has a connection of its own");
    let carried = server.log().connections.iter().skip(LEARNT).map(|own| own.requests).max();
    assert_eq!(carried, Some(1));
}

#[test]
fn f6_rows_that_wait_for_a_stream_wait_on_when_another_connection_cannot_be_made() {
    let server = with_streams(10);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let url = format!("http://{}/delay/0.1", listener.local_addr().unwrap());
    let listening = hand_on(listener, server.addr(), 1);
    let outcomes = client(1).run(gets(&url, 60), &over_http2());
    listening.join().unwrap();
    all_answered(&outcomes, 60);
    assert!(outcomes.iter().all(|outcome| outcome.attempts == 1));
    let counts = server.counts();
    assert_eq!((counts.connections, counts.requests, counts.max_streams), (1, 60, 10));
}

#[test]
fn where_another_connection_could_not_be_made_it_is_tried_again_after_a_moment() {
    let server = with_streams(10);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let near = listener.local_addr().unwrap();
    let listening = hand_on(listener, server.addr(), 1);
    let (policy, url) = (over_http2(), format!("http://{near}/delay/1.5"));
    thread::scope(|scope| {
        let began = Instant::now();
        let sent = scope.spawn(|| client(1).run(gets(&url, 20), &policy));
        listening.join().unwrap();
        // The other connection is refused meanwhile.
        thread::sleep(A_MOMENT / 2);
        assert_eq!(server.counts().connections, 1);
        let listening = hand_on(TcpListener::bind(near).unwrap(), server.addr(), 1);
        all_answered(&sent.join().unwrap(), 20);
        listening.join().unwrap();
        let took = began.elapsed();
        // Two after the other on one connection take 3 s.
        assert!(
            took > A_MOMENT + Duration::from_millis(1500)
                && took < Duration::from_millis(1500) + A_MOMENT + LATE
        );
    });
    let log = server.log();
    let carried: Vec<_> = log.connections.iter().map(|own| own.requests).collect();
    assert_eq!(carried, [10, 10]);
}

/// Answers one request on the first connection, and closes it a little later.
const ONE_ROW: [&str; 8] = [
    "read",
    r"send HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "wait 200ms",
    "close",
    "connection",
    "read",
    r"send HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "again",
];

/// The same over HTTP/2.
const ONE_STREAM: [&str; 7] =
    ["h2 preface", "h2 serve 1", "h2 wait 200ms", "close", "connection", "h2 preface", "h2 serve"];

#[test]
fn c7_a_post_goes_on_no_connection_whose_end_is_here_already() {
    let script = |over_tls: bool, version| {
        let steps = if version == HttpVersion::Http1 { &ONE_ROW[..] } else { &ONE_STREAM[..] };
        let script = Script::parse(steps).unwrap();
        if over_tls { script.tls(testkit::Tls::default()) } else { script }
    };
    let mut carried = BTreeMap::new();
    for (over_tls, version) in [
        (false, HttpVersion::Http1),
        (true, HttpVersion::Http1),
        (false, HttpVersion::Http2),
        (true, HttpVersion::Http2),
    ] {
        let server = Server::start(script(over_tls, version));
        // The look-up keeps the thread from hearing of the end that comes meanwhile, as any long turn does.
        let client = at_home(|| thread::sleep(Duration::from_millis(500)));
        let policy = Policy::default().tls(trusting()).http_version(version);
        let post = || Request::post(server.url("/post"), "x");
        all_answered(&client.run([post()], &policy), 1);
        let held = Request::get(format!("http://held.test:{}/", testkit::refused_port()));
        let outcomes = client.run([held, post()], &policy);
        let requests: Vec<_> = server.log().connections.iter().map(|own| own.requests).collect();
        carried.insert((over_tls, format!("{version:?}")), (outcomes[1].is_ok(), requests));
    }
    assert!(carried.values().all(|own| *own == (true, vec![1, 1])), "{carried:#?}");
}

#[test]
fn rows_that_waited_too_long_for_a_stream_are_sent_again_as_the_policy_allows() {
    let server = with_streams(1);
    let mut timeouts = Timeouts::default();
    timeouts.acquire = Some(Duration::from_millis(300));
    let brief = Backoff { base: Duration::from_millis(200), ..Backoff::default() };
    let once = over_http2().h2_connections(1).timeouts(timeouts);
    let url = server.url("/delay/0.7");
    let ended = client(1).run(gets(&url, 2), &once);
    let late = ended.iter().filter_map(|outcome| outcome.result.as_ref().err());
    let late: Vec<_> = late.map(|error| (error.kind(), error.attempts(), error.in_doubt())).collect();
    assert_eq!(late, [(Kind::TimeoutAcquire, 1, false)]);
    assert_eq!(server.counts().requests, 1);
    let rows = || (0..2).map(|_| Request::post(server.url("/delay/0.7"), "x"));
    let outcomes = client(1).run(rows(), &once.clone().retries(20).backoff(brief));
    all_answered(&outcomes, 2);
    let mut attempts: Vec<_> = outcomes.iter().map(|outcome| outcome.attempts).collect();
    attempts.sort_unstable();
    assert!(attempts[0] == 1 && attempts[1] > 1, "{attempts:?}");
    assert_eq!(server.counts().requests, 3, "each was written once");
}

#[test]
fn f13_who_asks_for_http_1_1_is_spoken_to_in_http_2_where_nothing_else_may_be() {
    let steps = [
        "h2 preface",
        "h2 read request",
        "h2 rst HTTP_1_1_REQUIRED",
        "h2 drain",
        "connection",
        "read",
        r"send HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        "again",
        "connection",
        "h2 preface",
        "h2 serve",
    ];
    let server = Server::start(Script::parse(steps).unwrap().tls(testkit::Tls::default()));
    let client = client(1);
    let send = |version| {
        let policy = over_http2().tls(trusting()).http_version(version);
        let outcomes = client.run([Request::get(server.url("/json"))], &policy);
        all_answered(&outcomes, 1);
        outcomes[0].response().map(Response::version)
    };
    assert_eq!(send(HttpVersion::Auto), Some(Version::HTTP_11));
    assert_eq!(send(HttpVersion::Http2), Some(Version::HTTP_2));
    assert_eq!(send(HttpVersion::Auto), Some(Version::HTTP_11), "it is not forgotten");
    let spoken: Vec<_> = server.log().requests.iter().map(|request| request.http).collect();
    assert_eq!(spoken, [Protocol::Http2, Protocol::Http11, Protocol::Http2, Protocol::Http11]);
}

#[test]
fn a_host_that_http_2_cannot_say_is_refused_where_nothing_else_may_be_spoken() {
    let (client, server) = (at_home(|| {}), kept());
    let url = format!("http://a{{b.test:{}/json", server.port());
    let outcomes = client.run([Request::get(&*url)], &over_http2());
    let error = outcomes[0].result.as_ref().unwrap_err();
    assert_eq!(error.kind(), Kind::BadRequest, "{error}");
    assert_eq!(server.counts().connections, 0);
    all_answered(&client.run([Request::get(url)], &Policy::default()), 1);
}
