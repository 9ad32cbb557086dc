//! TLS and HTTP/2 against the scripted server: what is spoken, on how many connections, and what the server saw.
#![allow(
    clippy::disallowed_methods,
    reason = "the walls around the clock are the engine's; this drives it from outside"
)]

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use http::Version;
use loamy::{HttpVersion, Kind, Outcome, Overrides, Policy, Request, Tls, TlsProfile, Verify};
use testkit::{Http2, Options, Protocol, Script, Server};

use crate::expectations::{IN_TRANSIT, INTERRUPT, LATE, PATIENCE, all_answered, client};

/// Trusts the authority of the test servers.
fn trusting() -> TlsProfile {
    Tls::default().only_roots_pem(testkit::ca_pem()).build().unwrap()
}

fn policy() -> Policy {
    Policy::default().tls(trusting()).timeout(Duration::from_secs(20))
}

fn over_tls(http: Vec<Protocol>) -> Server {
    let tls = Some(testkit::Tls::default());
    Server::serve_with(Options { tls, http, keep_log: true, ..Options::default() })
}

/// HTTP/2 over TLS with so many streams on a connection.
fn with_streams(streams: u32) -> Server {
    Server::serve_with(Options {
        tls: Some(testkit::Tls::default()),
        http: vec![Protocol::Http2],
        http2: Http2 { max_concurrent_streams: Some(streams), ..Http2::default() },
        keep_log: true,
        ..Options::default()
    })
}

fn rows<'a>(server: &'a Server, path: &'a str, count: usize) -> impl Iterator<Item = Request> + use<'a> {
    (0..count).map(move |row| {
        let url = server.url(&format!("{path}?row={row}"));
        if row % 3 == 0 { Request::post(url, format!("body {row}")) } else { Request::get(url) }
    })
}

fn versions(outcomes: &[Outcome]) -> BTreeSet<String> {
    let of = |outcome: &Outcome| match &outcome.result {
        Ok(response) => format!("{:?}", response.version()),
        Err(error) => error.to_string(),
    };
    outcomes.iter().map(of).collect()
}

#[test]
fn what_is_spoken_is_what_the_peer_chooses_of_what_is_offered() {
    let both = over_tls(vec![Protocol::Http2, Protocol::Http11]);
    let old = over_tls(vec![Protocol::Http11]);
    let plain = Server::serve_with(Options { http: vec![Protocol::Http2], ..Options::default() });
    let client = client(2);
    for (server, version, spoken) in [
        (&both, HttpVersion::Auto, Version::HTTP_2),
        (&both, HttpVersion::Http1, Version::HTTP_11),
        (&both, HttpVersion::Http2, Version::HTTP_2),
        (&old, HttpVersion::Auto, Version::HTTP_11),
        (&plain, HttpVersion::Http2, Version::HTTP_2),
    ] {
        let outcomes = client.run(rows(server, "/echo", 200), &policy().http_version(version));
        all_answered(&outcomes, 200);
        assert_eq!(versions(&outcomes), [format!("{spoken:?}")].into(), "{version:?}");
    }
    assert_eq!(both.counts().requests, 600);
    let refused = client.run(rows(&old, "/echo", 3), &policy().http_version(HttpVersion::Http2));
    assert!(
        refused.iter().all(|row| matches!(&row.result, Err(error) if error.kind() == Kind::TlsHandshake))
    );
    assert_eq!(old.counts().requests, 200);
}

#[test]
fn one_connection_goes_first_and_is_enough_while_its_streams_are() {
    let server = with_streams(250);
    all_answered(&client(1).run(rows(&server, "/echo", 1000), &policy()), 1000);
    let counts = server.counts();
    assert_eq!((counts.connections, counts.requests), (1, 1000));
    assert!((2..=100).contains(&counts.max_streams), "{counts:?}");
}

#[test]
fn a_second_thread_makes_no_more_connections_than_its_rows_need() {
    let server = with_streams(250);
    all_answered(&client(2).run(rows(&server, "/delay/0.01", 1200), &policy().concurrency(300)), 1200);
    let counts = server.counts();
    // Two connections for each thread's share of 150 rows.
    assert!(counts.connections <= 4, "{counts:?}");
}

#[test]
fn further_connections_are_made_for_rows_that_find_no_stream() {
    let server = with_streams(250);
    let policy = policy().concurrency(256).h2_streams(64);
    all_answered(&client(1).run(rows(&server, "/delay/0.01", 2000), &policy), 2000);
    let counts = server.counts();
    assert_eq!((counts.connections, counts.max_streams), (4, 64));
}

#[test]
fn h2_connections_binds_over_all_threads() {
    for (connections, threads) in [(1, 4), (2, 2), (3, 2)] {
        let server = with_streams(250);
        let policy = policy().concurrency(256).h2_streams(16).h2_connections(connections);
        all_answered(&client(threads).run(rows(&server, "/delay/0.002", 1500), &policy), 1500);
        let counts = server.counts();
        assert!(counts.connections <= connections as u64, "{connections} × {threads}: {counts:?}");
        assert!(counts.max_streams <= 16, "{counts:?}");
    }
}

#[test]
fn f6_a_peer_never_sees_more_streams_than_it_allows() {
    for streams in [1, 7] {
        let server = with_streams(streams);
        all_answered(&client(2).run(rows(&server, "/delay/0.001", 600), &policy()), 600);
        let counts = server.counts();
        assert!(counts.max_streams <= u64::from(streams), "{counts:?}");
        assert_eq!(counts.requests, 600, "nothing was refused and sent again");
    }
}

#[test]
fn rows_of_different_trust_never_share_a_connection() {
    for http in [Protocol::Http11, Protocol::Http2] {
        let server = over_tls(vec![http]);
        let off = Tls::default().verify(Verify::Off).build().unwrap();
        let mixed = (0..60).map(|row| {
            let mut own = Overrides::default();
            own.tls = (row % 2 == 0).then(|| off.clone());
            Request::get(server.url(&format!("/echo?verified={}", row % 2))).overrides(own)
        });
        all_answered(&client(1).run(mixed, &policy()), 60);
        let log = server.log();
        assert_eq!(log.requests.len(), 60);
        for connection in 0..log.connections.len() {
            let trust: BTreeSet<_> = log
                .requests
                .iter()
                .filter(|request| request.connection == connection)
                .map(|request| request.target.rsplit('=').next().unwrap().to_owned())
                .collect();
            assert!(trust.len() <= 1, "connection {connection} carried {trust:?}");
        }
    }
}

#[test]
fn sessions_are_resumed_by_all_threads_and_not_beyond_their_profile() {
    let server = over_tls(vec![Protocol::Http11]);
    let client = client(2);
    all_answered(&client.run(rows(&server, "/delay/0.005", 400), &policy().concurrency(40)), 400);
    let counts = server.counts();
    assert!(counts.handshakes > 2, "{counts:?}");
    // A ticket serves once, and connections are made faster than tickets come back.
    assert!(4 * counts.resumed >= counts.handshakes, "{counts:?}");
    let off = Tls::default().verify(Verify::Off).build().unwrap();
    all_answered(&client.run(rows(&server, "/echo", 1), &policy().tls(off)), 1);
    assert_eq!(server.counts().resumed, counts.resumed);
}

#[test]
fn a_silent_peer_is_asked_whether_it_is_there() {
    let steps = ["h2 preface", "h2 deaf", "h2 read 3 requests", "hold"];
    let server = Server::start(Script::parse(steps).unwrap());
    let ping = Duration::from_millis(300);
    let policy = policy().http_version(HttpVersion::Http2).h2_ping(ping);
    let began = Instant::now();
    let outcomes =
        client(1).run((0..3).map(|row| Request::post(server.url("/x"), format!("{row}"))), &policy);
    let took = began.elapsed();
    assert!(took >= 2 * ping && took < 2 * ping + LATE, "{took:?}");
    for outcome in outcomes {
        let error = outcome.result.unwrap_err();
        assert_eq!((error.kind(), error.in_doubt()), (Kind::Closed, true), "{error}");
        assert!(error.message().contains("PING within 0.3 s"), "{error}");
    }
}

#[test]
fn a_peer_that_answers_pings_is_waited_for() {
    let server = with_streams(100);
    let policy = policy().h2_ping(Duration::from_millis(100));
    all_answered(&client(1).run([Request::get(server.url("/delay/1"))], &policy), 1);
    let log = server.log();
    let pings = log.connections[0].http2.as_ref().unwrap().pings;
    assert!((5..=11).contains(&pings), "{pings}");
}

#[test]
fn p1_after_an_interrupt_no_byte_of_the_batch_is_written() {
    let server = with_streams(50);
    let client = client(2);
    let run = client.begin(&policy());
    run.admit(rows(&server, "/delay/0.01", 6_000));
    run.close();
    let before = run.wait(200, Duration::from_secs(10)).len();
    let began = Instant::now();
    run.cancel();
    assert!(began.elapsed() < INTERRUPT, "{:?}", began.elapsed());
    thread::sleep(IN_TRANSIT);
    let seen = server.counts().requests;
    thread::sleep(4 * IN_TRANSIT);
    assert_eq!(server.counts().requests, seen);
    let rest = run.wait(usize::MAX, Duration::from_secs(1)).len();
    assert_eq!(before + rest, 6_000);
    all_answered(&client.run(rows(&server, "/echo", 50), &policy()), 50);
}

#[test]
fn an_interrupt_leaves_other_batches_their_connections() {
    let server = with_streams(100);
    let client = client(1);
    let stays = client.begin(&policy());
    stays.admit(rows(&server, "/delay/0.5", 20));
    stays.close();
    let goes = client.begin(&policy());
    goes.admit(rows(&server, "/delay/5", 20));
    goes.close();
    server.wait_for(|log| log.counts.requests == 40, PATIENCE);
    goes.cancel();
    let mut outcomes = Vec::new();
    while !stays.is_finished() {
        outcomes.append(&mut stays.wait(20, Duration::from_secs(5)));
    }
    outcomes.sort_by_key(|outcome| outcome.index);
    all_answered(&outcomes, 20);
    assert!(outcomes.iter().all(|outcome| outcome.attempts == 1));
}

#[test]
fn a_handshake_that_comes_byte_by_byte_is_read_to_its_end() {
    let server = over_tls(vec![Protocol::Http2]);
    let (near, far) = (TcpListener::bind("127.0.0.1:0").unwrap(), server.addr());
    let url = format!("https://{}/json", near.local_addr().unwrap());
    let relay = thread::spawn(move || {
        let (mut client, _) = near.accept().unwrap();
        let mut server = TcpStream::connect(far).unwrap();
        let (mut up, mut down) = (client.try_clone().unwrap(), server.try_clone().unwrap());
        client.set_nodelay(true).unwrap();
        thread::spawn(move || std::io::copy(&mut up, &mut server));
        let mut byte = [0];
        while down.read(&mut byte).is_ok_and(|count| count > 0) && client.write_all(&byte).is_ok() {
            thread::sleep(Duration::from_micros(200));
        }
    });
    all_answered(&client(1).run([Request::get(url)], &policy()), 1);
    drop(server);
    relay.join().unwrap();
}

#[test]
fn d3_rows_that_waited_for_a_connection_that_came_to_nothing_make_one_of_their_own() {
    let steps = ["handshake silence", "hold", "connection", "h2 preface", "h2 serve"];
    let script = Script::parse(steps).unwrap().tls(testkit::Tls::default());
    let server = Server::start(script);
    let client = client(1);
    let first = client.begin(&policy().timeout(Duration::from_millis(400)));
    first.admit([Request::get(server.url("/json"))]);
    first.close();
    server.wait_for(|log| log.counts.connections == 1, PATIENCE);
    let began = Instant::now();
    all_answered(&client.run([Request::get(server.url("/json"))], &policy()), 1);
    let took = began.elapsed();
    assert!(took > Duration::from_millis(200) && took < LATE, "{took:?}");
    let outcome = first.wait(1, LATE).pop().unwrap();
    assert_eq!(outcome.result.unwrap_err().kind(), Kind::TimeoutConnect);
}

#[test]
fn f15_a_large_slow_body_keeps_no_other_row_of_its_connection_waiting() {
    let server = with_streams(100);
    let slow = Request::get(server.url("/drip?numbytes=20&duration=2"));
    let mut quick = policy();
    quick.h2_connections = Some(1);
    let began = Instant::now();
    let outcomes: Vec<_> = client(1)
        .stream(
            std::iter::once(slow).chain(rows(&server, "/echo", 500).collect::<Vec<_>>()),
            &quick,
            loamy::Order::AsDone,
        )
        .map(|outcome| (outcome.index, began.elapsed()))
        .collect();
    let (last, _) = outcomes[500];
    assert_eq!(last, 0, "the slow row ends last");
    assert!(outcomes[499].1 < Duration::from_millis(1500), "{:?}", outcomes[499]);
    assert_eq!(server.counts().connections, 1);
}
