//! The well-behaved half over HTTP/2.

use std::time::{Duration, Instant};

use http::Method;
use serde_json::json;
use testkit::{Ending, Farewell, Http2, Log, Options, Protocol, Script, Server, Tls};

use super::{connect, run, told};
use crate::client::PATIENCE;

fn over_tls() -> Options {
    Options { tls: Some(Tls::default()), keep_log: true, ..Options::default() }
}

fn in_plain() -> Options {
    Options { keep_log: true, ..Options::default() }
}

#[test]
fn the_routes_answer_over_tls_and_in_plain() {
    for options in [over_tls(), in_plain()] {
        let scheme = if options.tls.is_some() { "https" } else { "http" };
        let server = Server::serve_with(options);
        run(async {
            let (peer, _) = connect(&server).await;
            let (status, headers, body) =
                peer.ask(Method::POST, "/anything/a?b=c", b"[1]").await.expect("answered");
            let echo: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
            assert_eq!((status, &echo["json"]), (200, &json!([1])));
            assert_eq!(echo["url"], format!("{scheme}://{}/anything/a?b=c", server.addr()));
            assert_eq!(headers["content-length"], body.len().to_string());
            assert_eq!(told(peer.get("/status/404?X-A=b&Connection=close").await), "404 {\"status\":404}");
            assert_eq!(peer.get("/bytes/3000000").await.expect("answered").2.len(), 3_000_000);
            assert_eq!(peer.get("/stream-bytes/30000").await.expect("answered").2.len(), 30_000);
            assert_eq!(told(peer.get("/drip?numbytes=3&duration=0.1").await), "200 ***");
            assert_eq!(peer.get("/status/204").await.expect("answered").2, b"");
            let head = peer.ask(Method::HEAD, "/json", b"").await.expect("answered");
            assert_eq!((head.1["content-length"].as_bytes(), head.2.len()), (&b"197"[..], 0));
            let large = vec![7; 2_000_000];
            assert_eq!(peer.ask(Method::POST, "/echo", &large).await.expect("answered").2, large);
        });
        let log = server.stop();
        let first = &log.requests[0];
        assert_eq!((first.http, first.stream), (Protocol::Http2, Some(1)));
        assert_eq!((first.method.as_str(), first.target.as_str()), ("POST", "/anything/a?b=c"));
        assert_eq!(first.authority, Some(log_authority(&log)));
        assert_eq!((first.header("x-one"), first.body.as_slice()), (Some("1"), &b"[1]"[..]));
        assert_eq!((log.counts.requests, log.counts.http2, log.counts.in_flight), (8, 1, 0));
        assert_eq!(log.connections[0].http2.as_ref().expect("frames").streams, 8);
    }
}

fn log_authority(log: &Log) -> String {
    log.requests.iter().find_map(|request| request.authority.clone()).expect("an authority")
}

#[test]
fn http1_and_http2_share_a_plain_port() {
    let server = Server::serve_with(in_plain());
    assert_eq!(crate::client::connect(&server).get("/json").response().status, 200);
    run(async {
        let (peer, _) = connect(&server).await;
        assert_eq!(told(peer.get("/text").await), "200 It is well.\n");
    });
    let log = server.stop();
    let versions: Vec<_> = log.requests.iter().map(|request| request.http).collect();
    assert_eq!(versions, [Protocol::Http11, Protocol::Http2]);
    assert_eq!((log.counts.connections, log.counts.http2), (2, 1));
}

#[test]
fn a_server_of_one_protocol_takes_no_other() {
    let old = Server::serve_with(Options { http: vec![Protocol::Http11], ..in_plain() });
    let mut client = crate::client::connect(&old);
    assert_eq!(client.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").response().status, 400);
    let new = Server::serve_with(Options { http: vec![Protocol::Http2], ..in_plain() });
    crate::client::connect(&new).get("/json").read_to_end();
    let log = new.wait_for(|log| log.counts.ended == 1, PATIENCE);
    assert_eq!(log.counts.requests, 0);
}

#[test]
fn slow_answers_share_a_connection_and_the_highest_number_is_told() {
    const STREAMS: u32 = 20;
    let http2 = Http2 { max_concurrent_streams: Some(STREAMS), ..Http2::default() };
    let server = Server::serve_with(Options { http2, ..in_plain() });
    let started = Instant::now();
    run(async {
        let (peer, _) = connect(&server).await;
        peer.get("/json").await.expect("the SETTINGS have come");
        let asked: Vec<_> = (0..2 * STREAMS)
            .map(|_| {
                let peer = peer.clone();
                tokio::spawn(async move { peer.get("/delay/0.3").await })
            })
            .collect();
        for answer in asked {
            assert_eq!(answer.await.expect("no panic").expect("answered").0, 200);
        }
    });
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    let log = server.stop();
    assert_eq!((log.counts.connections, log.counts.max_streams), (1, u64::from(STREAMS)));
    assert_eq!(log.counts.max_in_flight, u64::from(STREAMS));
    let seen = log.connections[0].http2.as_ref().expect("frames");
    assert_eq!((seen.max_open, seen.open, seen.streams), (STREAMS, 0, u64::from(2 * STREAMS) + 1));
}

#[test]
fn close_after_says_goaway_or_says_nothing() {
    for (farewell, expected) in [(Farewell::Announced, "GOAWAY NO_ERROR"), (Farewell::Silent, "lost")] {
        let server = Server::serve_with(Options { close_after: Some(2), farewell, ..in_plain() });
        run(async {
            let (peer, connection) = connect(&server).await;
            assert_eq!(peer.get("/json").await.expect("answered").0, 200);
            assert_eq!(peer.get("/json").await.expect("answered").0, 200);
            connection.await.expect("no panic").unwrap_or_else(|error| assert!(error.is_io(), "{error}"));
            let third = told(peer.get("/json").await);
            assert!(third.contains(expected) || third.starts_with("lost"), "{farewell:?}: {third}");
        });
        let log = server.wait_for(|log| log.counts.ended == 1, PATIENCE);
        assert_eq!(log.connections[0].ended.as_ref().expect("ended").1, Ending::ByServer);
        assert_eq!(log.counts.requests, 2);
    }
}

#[test]
fn the_ends_of_connections_are_those_of_http1() {
    let table = [("/close", "closed by the server"), ("/reset", "reset by the server")];
    for (path, ending) in table {
        let server = Server::serve_with(in_plain());
        let answer = run(async { told(connect(&server).await.0.get(path).await) });
        assert!(answer.starts_with("lost"), "{path}: {answer}");
        let log = server.wait_for(|log| log.counts.ended == 1, PATIENCE);
        assert_eq!(log.connections[0].ended.as_ref().expect("ended").1.to_string(), ending);
        assert_eq!(log.counts.in_flight, 0);
    }
    let idle = Options { idle_timeout: Some(Duration::from_millis(100)), ..in_plain() };
    let server = Server::serve_with(idle);
    run(async {
        let (peer, connection) = connect(&server).await;
        peer.get("/json").await.expect("answered");
        connection.await.expect("no panic").expect("a proper end");
    });
    server.wait_for(|log| log.counts.ended == 1, PATIENCE);
}

#[test]
fn a_client_that_resets_a_stream_is_seen_and_the_rest_goes_on() {
    let server = Server::serve_with(in_plain());
    run(async {
        let (peer, _) = connect(&server).await;
        let hanging = tokio::time::timeout(Duration::from_millis(100), peer.get("/hang"));
        assert!(hanging.await.is_err());
        assert_eq!(peer.get("/json").await.expect("answered").0, 200);
    });
    let log = server.wait_for(|log| log.counts.in_flight == 0, PATIENCE);
    let seen = log.connections[0].http2.as_ref().expect("frames");
    assert_eq!((seen.resets, seen.reset.as_slice()), (1, &[(1, "CANCEL".to_owned())][..]));
}

#[test]
fn a_body_beyond_the_limit_is_a_413_and_options_come_from_json() {
    let options = json!({"max_body": 4, "http": ["h2"], "keep_log": true,
        "http2": {"max_concurrent_streams": 9, "stream_window": 100_000, "connection_window": 100_000,
                  "max_frame_size": 20_000, "max_header_list_size": 5_000}});
    let server = Server::serve_with(Options::from_json(&options).expect("options"));
    run(async {
        let (peer, _) = connect(&server).await;
        assert_eq!(peer.ask(Method::POST, "/echo", b"hello").await.expect("answered").0, 413);
        assert_eq!(told(peer.ask(Method::POST, "/echo", b"four").await), "200 four");
    });
    let table = [
        (json!({"http": ["h3"]}), "http: [\"h3\"] is no value for it"),
        (json!({"http2": {"streams": 1}}), "http2: streams: no such field"),
        (json!({"http2": {"stream_window": -1}}), "stream_window: -1 is no value"),
        (json!({"colour": 1}), "colour: no such field"),
    ];
    for (value, expected) in table {
        let error = Options::from_json(&value).expect_err("refused").to_string();
        assert!(error.contains(expected), "{value}: {error}");
    }
    let table = [
        (Http2 { max_frame_size: Some(1), ..Http2::default() }, "16384 to 16777215"),
        (Http2 { stream_window: Some(1 << 31), ..Http2::default() }, "up to 2^31-1"),
    ];
    for (http2, expected) in table {
        let Err(error) = Server::try_serve_with(Options { http2, ..Options::default() }) else {
            panic!("{http2:?} started");
        };
        assert!(error.to_string().contains(expected), "{http2:?}: {error}");
    }
}

#[test]
fn the_routes_that_remember_do_so_over_every_protocol() {
    for options in [over_tls(), in_plain()] {
        let server = Server::serve_with(options);
        run(async {
            let (peer, _) = connect(&server).await;
            for status in [200, 200, 429] {
                let target = "/limited/a?limit=2&window=3600&as=draft10&retry_after=7";
                let (seen, headers, _) = peer.get(target).await.expect("answered");
                assert_eq!(
                    (seen, headers["ratelimit-policy"].as_bytes()),
                    (status, &b"\"default\";q=2;w=3600"[..])
                );
                assert_eq!(headers.contains_key("retry-after"), status == 429);
            }
            assert_eq!(told(peer.get("/flaky/b").await), "503 {\"attempts\":1,\"id\":\"b\"}");
            assert_eq!(told(peer.get("/flaky/b").await), "200 {\"attempts\":2,\"id\":\"b\"}");
            let quick = peer.get("/peak?at=1&most=2&service=300ms");
            let slow = peer.get("/peak?at=1&most=2&service=300ms");
            let refused = peer.get("/peak?at=1&most=2&service=300ms");
            let (quick, slow, refused) = tokio::join!(quick, slow, refused);
            assert_eq!(told(quick), "200 {\"in_service\":1,\"milliseconds\":300.0}");
            assert_eq!(told(slow), "200 {\"in_service\":2,\"milliseconds\":660.0}");
            assert_eq!(told(refused), "503 {\"in_service\":2}");
            let lost = told(peer.ask(Method::POST, "/keyed/c?lose=1&takes=50ms", b"x").await);
            assert!(lost.starts_with("lost"), "{lost}");
            let (peer, _) = connect(&server).await;
            let kept = peer.ask(Method::POST, "/keyed/c?lose=1", b"x").await;
            assert_eq!(told(kept), "201 {\"effect\":2,\"id\":\"c\",\"key\":null}");
        });
        // HTTP/1.1 and HTTP/2 are counted together, in the log and besides.
        assert_eq!(
            (server.usage("a").refused, server.visits()["c"]["POST"], server.effects()["c"]),
            (1, 2, 2)
        );
        assert_eq!(server.arrivals("a").len(), 3);
    }
}

#[test]
fn a_script_that_serves_frames_loses_answers_as_well() {
    let script = Script::parse(["h2 preface", "h2 serve"]).expect("a script");
    let server = Server::start(script);
    run(async {
        let (peer, _) = connect(&server).await;
        assert_eq!(told(peer.get("/flaky/a?status=429").await), "429 {\"attempts\":1,\"id\":\"a\"}");
        let lost = told(peer.ask(Method::POST, "/keyed/b?lose=1&takes=100ms", b"x").await);
        assert!(lost.starts_with("lost"), "{lost}");
        let (peer, _) = connect(&server).await;
        let kept = peer.ask(Method::POST, "/keyed/b?lose=1", b"x").await;
        assert_eq!(told(kept), "201 {\"effect\":2,\"id\":\"b\",\"key\":null}");
    });
    assert_eq!(server.effects()["b"], 2);
}
