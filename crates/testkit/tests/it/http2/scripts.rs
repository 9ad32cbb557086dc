//! Steps with frames: what they send, and what a client makes of it.

use std::sync::Arc;
use std::time::Duration;

use h2::client;
use http::Method;
use rustls::pki_types::ServerName;
use testkit::{Ending, Log, Script, Server, Tls};
use tokio::net::TcpStream;

use super::{connect, run, told};
use crate::client::PATIENCE;
use crate::tls::trusting;

/// Plays the steps after the first request, and tells what its client made of them.
fn outcome(steps: &[&str]) -> String {
    let lines = ["h2 preface", "h2 read request"].iter().chain(steps).chain(&["h2 drain"]);
    let server = Server::start(Script::parse(lines).expect("a script"));
    run(async {
        let (peer, _connection) = connect(&server).await;
        match tokio::time::timeout(PATIENCE / 5, peer.get("/x")).await {
            Ok(answer) => told(answer),
            Err(_) => "nothing".into(),
        }
    })
}

#[test]
fn each_frame_is_taken_for_what_it_is() {
    let table: &[(&[&str], &str)] = &[
        (&["h2 answer \"hello\""], "200 hello"),
        (&["h2 answer status=404 x-a=b text=no"], "404 no"),
        (&["h2 headers stream=1 status=200 end"], "200 "),
        (&["h2 headers status=200 content-length=5", "h2 data \"hel\"", "h2 data \"lo\" end"], "200 hello"),
        (
            &[
                "h2 headers status=200 more",
                "h2 continuation x-a=b more",
                "h2 continuation",
                "h2 data \"x\" end",
            ],
            "200 x",
        ),
        (&["h2 headers stream=last status=200 pad=9", "h2 data stream=#1 \"x\" pad=200 end"], "200 x"),
        (&["h2 headers status=103 link=x", "h2 answer \"x\""], "200 x"),
        (&["h2 headers status=200", "h2 data \"x\"", "h2 headers x-trailer=1 end"], "200 x"),
        (
            &[
                "h2 ping",
                "h2 read pong",
                "h2 settings max_concurrent_streams=3",
                "h2 read ack",
                "h2 answer \"x\"",
            ],
            "200 x",
        ),
        (
            &["h2 window 1000", "h2 window stream=1 5", "h2 priority stream=1 weight=3", "h2 answer \"x\""],
            "200 x",
        ),
        (&["h2 raw type=0xee flags=0xff stream=1 0102", "h2 answer \"x\""], "200 x"),
        (&["h2 headers status=200", "h2 data size=3 frame=1", "h2 data \"\" end"], "200 ***"),
        (&["h2 rst REFUSED_STREAM"], "told RST REFUSED_STREAM"),
        (&["h2 headers status=200", "h2 data \"x\"", "h2 rst stream=1 CANCEL"], "told RST CANCEL"),
        (&["h2 rst stream=1 0xd"], "told RST HTTP_1_1_REQUIRED"),
        (&["h2 goaway last=0 NO_ERROR"], "told GOAWAY NO_ERROR"),
        (&["h2 goaway last=0 ENHANCE_YOUR_CALM \"slower\""], "told GOAWAY ENHANCE_YOUR_CALM"),
        (&["h2 goaway NO_ERROR", "h2 answer \"x\""], "200 x"),
        // What is wrong with these is for the client to find; the codes are its choice.
        (&["h2 headers status=200 X-Upper=1 end"], "found GOAWAY PROTOCOL_ERROR"),
        (&["h2 headers x-a=1 end"], "found RST PROTOCOL_ERROR"),
        (&["h2 headers status=200 connection=close end"], "found RST PROTOCOL_ERROR"),
        (&["h2 headers block=ff end"], "found GOAWAY PROTOCOL_ERROR"),
        (&["h2 headers status=200 content-length=5", "h2 data \"x\" end"], "found RST PROTOCOL_ERROR"),
        (&["h2 headers status=200", "h2 data size=70000 end"], "found GOAWAY FLOW_CONTROL_ERROR"),
        (&["h2 data stream=next \"x\""], "found GOAWAY PROTOCOL_ERROR"),
        (&["h2 headers stream=2 status=200"], "found GOAWAY PROTOCOL_ERROR"),
        (&["h2 raw type=data flags=0x8 stream=1 ff00"], "found GOAWAY PROTOCOL_ERROR"),
        (&["h2 raw type=ping 00"], "found GOAWAY PROTOCOL_ERROR"),
        (&["h2 raw type=data stream=1 length=0xffffff 00"], "found GOAWAY FRAME_SIZE_ERROR"),
        (&["h2 settings initial_window_size=0xffffffff"], "found GOAWAY PROTOCOL_ERROR"),
        (&["h2 settings max_frame_size=1"], "found GOAWAY PROTOCOL_ERROR"),
        (&["h2 window 0"], "found GOAWAY PROTOCOL_ERROR"),
        (&["h2 window 0x7fffffff"], "found GOAWAY FLOW_CONTROL_ERROR"),
        (&["h2 continuation x-a=b"], "found GOAWAY PROTOCOL_ERROR"),
        (&["h2 headers status=200 more", "h2 data \"x\" end"], "found GOAWAY PROTOCOL_ERROR"),
        (&["h2 push :method=GET :path=/y :scheme=http :authority=x"], "found GOAWAY PROTOCOL_ERROR"),
        (
            &["h2 headers status=200 more", "h2 repeat 5000 continuation more x-a=b"],
            "found GOAWAY ENHANCE_YOUR_CALM",
        ),
        (&["close"], "lost"),
        (&["h2 close"], "lost"),
        (&["reset"], "lost"),
        (&["half-close"], "lost"),
        (&["send-hex 48 54 54 50 2f 31 2e 31 20 34 30 30"], "found GOAWAY FRAME_SIZE_ERROR"),
    ];
    let mut wrong = Vec::new();
    for (steps, expected) in table {
        let outcome = outcome(steps);
        if !outcome.starts_with(expected) {
            wrong.push(format!("{steps:?}: {outcome}, not {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn play(steps: &[&str]) -> Server {
    Server::start(Script::parse(steps).expect("a script"))
}

fn frames(log: &Log) -> &testkit::Http2Log {
    log.connections[0].http2.as_ref().expect("frames")
}

#[test]
fn a_script_logs_what_its_client_asked_for() {
    let server = play(&["h2 preface", "h2 read 2 requests", "h2 answer stream=all \"x\"", "h2 drain"]);
    run(async {
        let (peer, _) = connect(&server).await;
        let large = vec![b'a'; 200_000];
        let (first, second) = tokio::join!(peer.ask(Method::PUT, "/1?q", &large), peer.get("/2"));
        assert_eq!((told(first), told(second)), ("200 x".into(), "200 x".into()));
    });
    let log = server.stop();
    let first = &log.requests[0];
    assert_eq!((first.method.as_str(), first.target.as_str(), first.stream), ("PUT", "/1?q", Some(1)));
    assert_eq!((first.body.len(), first.complete), (200_000, true));
    assert_eq!((first.header("x-one"), first.scheme.as_deref()), (Some("1"), Some("http")));
    // The second one's fields come from the table that the first one has filled.
    assert_eq!((log.requests[1].header("x-one"), log.requests[1].stream), (Some("1"), Some(3)));
    assert_eq!(log.requests[1].authority, first.authority);
    assert!(!first.head.is_empty());
    assert_eq!((log.counts.max_in_flight, log.counts.in_flight, log.counts.max_streams), (2, 0, 2));
    let seen = frames(&log);
    assert_eq!((seen.streams, seen.max_open, seen.open, seen.settings_acks), (2, 2, 0, 1));
    assert_eq!(seen.settings[0], ("enable_push".to_owned(), 0));
}

#[test]
fn some_are_served_and_the_rest_is_told_to_go_elsewhere() {
    let server = play(&[
        "h2 preface",
        "h2 read 4 heads",
        "h2 serve 2",
        "h2 goaway last=3 NO_ERROR",
        "h2 close",
        "connection",
        "h2 preface",
        "h2 serve",
    ]);
    let answers = run(async {
        let (peer, _) = connect(&server).await;
        let (a, b, c, d) = tokio::join!(peer.get("/a"), peer.get("/b"), peer.get("/c"), peer.get("/d"));
        let mut answers: Vec<String> = [a, b, c, d].map(|answer| told(answer)[..8].to_owned()).into();
        let (peer, _) = connect(&server).await;
        let slow = tokio::join!(peer.get("/delay/0.2"), peer.get("/delay/0.2"), peer.get("/bytes/300000"));
        assert_eq!(slow.2.expect("answered").2.len(), 300_000);
        answers.push(slow.0.expect("answered").0.to_string());
        let large = vec![7; 300_000];
        assert_eq!(peer.ask(Method::POST, "/echo", &large).await.expect("answered").2, large);
        assert_eq!(told(peer.get("/drip?numbytes=3&duration=0.1").await), "200 ***");
        answers
    });
    assert_eq!(answers, ["404 {\"er", "404 {\"er", "told GOA", "told GOA", "200"]);
    let log = server.wait_for(|log| log.counts.ended == 2, PATIENCE);
    assert_eq!((log.counts.requests, log.counts.in_flight), (9, 0));
    assert_eq!(log.connections[0].ended.as_ref().expect("ended").1, Ending::ByServer);
    assert_eq!((frames(&log).streams, frames(&log).max_open), (4, 4));
}

#[test]
fn the_limit_of_streams_is_seen_to_be_kept() {
    let server = play(&["h2 preface max_concurrent_streams=2", "h2 serve"]);
    run(async {
        let (peer, _) = connect(&server).await;
        peer.get("/json").await.expect("the SETTINGS have come");
        let asked = (0..6).map(|_| {
            let peer = peer.clone();
            tokio::spawn(async move { peer.get("/delay/0.05").await })
        });
        for answer in asked.collect::<Vec<_>>() {
            assert_eq!(answer.await.expect("no panic").expect("answered").0, 200);
        }
    });
    let log = server.stop();
    assert_eq!((frames(&log).max_open, frames(&log).streams), (2, 7));
}

#[test]
fn a_window_that_stays_shut_stalls_a_body_until_it_opens() {
    let server = play(&[
        "h2 stingy",
        "h2 preface initial_window_size=10",
        "h2 read data",
        "h2 wait 100ms",
        "h2 window stream=1 90",
        "h2 read data",
        "h2 read request",
        "h2 answer \"x\"",
        "h2 drain",
    ]);
    run(async {
        let (peer, _) = connect(&server).await;
        // The SETTINGS are on their way while the request is written.
        tokio::time::sleep(Duration::from_millis(50)).await;
        let body = [b'a'; 100];
        assert_eq!(told(peer.ask(Method::POST, "/", &body).await), "200 x");
    });
    let log = server.stop();
    assert_eq!((log.requests[0].body.len(), log.requests[0].complete), (100, true));
}

#[test]
fn a_deaf_server_answers_no_ping_and_an_attentive_one_does() {
    for (steps, answered) in [(&["h2 deaf"][..], false), (&["h2 deaf", "h2 attentive"], true)] {
        let lines = ["h2 preface"].iter().chain(steps).chain(&["h2 serve"]);
        let server = play(&lines.copied().collect::<Vec<_>>());
        run(async {
            let stream = TcpStream::connect(server.addr()).await.expect("the server listens");
            let (requests, mut connection) = client::handshake(stream).await.expect("a preface");
            let mut ping_pong = connection.ping_pong().expect("the only one");
            tokio::spawn(connection);
            let ping = ping_pong.ping(h2::Ping::opaque());
            let pong = tokio::time::timeout(Duration::from_millis(300), ping).await;
            assert_eq!(pong.is_ok(), answered, "{steps:?}");
            drop(requests);
        });
        assert_eq!(frames(&server.stop()).pings, 1);
    }
}

#[test]
fn pings_are_answered_while_they_are_read() {
    let server = play(&[
        "h2 preface",
        "h2 read request",
        "h2 repeat-every 1ms 20 ping",
        "h2 read 20 pong",
        "h2 answer",
    ]);
    assert_eq!(run(async { told(connect(&server).await.0.get("/").await) }), "200 ");
    assert_eq!(frames(&server.stop()).ping_acks, 20);
}

#[test]
fn settings_may_come_late_and_nothing_before_them() {
    let server = play(&[
        "h2 read preface",
        "h2 read request",
        "h2 wait 50ms",
        "h2 settings max_concurrent_streams=1",
        "h2 read ack",
        "h2 answer \"x\"",
        "h2 expect-close 5s",
    ]);
    assert_eq!(run(async { told(connect(&server).await.0.get("/").await) }), "200 x");
    server.wait_for(|log| log.counts.ended == 1, PATIENCE);
    assert_eq!(server.stop().failures, Vec::<String>::new());
}

#[test]
fn a_client_that_stays_is_reported_by_expect_close() {
    let server = play(&["h2 preface", "h2 expect-close 50ms"]);
    run(async {
        let (_peer, connection) = connect(&server).await;
        let _ = connection.await;
    });
    let log = server.into_log();
    assert_eq!(log.failures, ["connection 0: still open after 50ms"]);
}

#[test]
fn a_script_of_frames_chooses_h2_and_one_of_bytes_http1() {
    let script = Script::parse(["h2 preface", "h2 serve", "connection", "read", "send x"]);
    let server = Server::start(script.expect("a script").tls(Tls::default()));
    run(async {
        let (peer, _) = connect(&server).await;
        assert_eq!(told(peer.get("/text").await), "200 It is well.\n");
        let connector = tokio_rustls::TlsConnector::from(Arc::new(trusting(
            &testkit::ca_pem(),
            &["h2", "http/1.1"],
            None,
        )));
        let stream = TcpStream::connect(server.addr()).await.expect("the server listens");
        let name = ServerName::try_from("localhost").expect("a name");
        let stream = connector.connect(name, stream).await.expect("a handshake");
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    });
}

#[test]
fn what_is_no_http2_is_named_as_the_ending() {
    let server = play(&["h2 preface", "h2 serve"]);
    crate::client::connect(&server).get("/").read_to_end();
    let log = server.wait_for(|log| log.counts.ended == 1, PATIENCE);
    let (_, ending) = log.connections[0].ended.as_ref().expect("ended");
    assert_eq!(ending.to_string(), "malformed request: no preface of HTTP/2");
}

#[test]
fn mistakes_in_the_text_are_named_with_the_right_form() {
    let table = [
        ("h2", "\"\" is no step of h2; there are preface, read"),
        ("h2 heders", "\"heders\" is no step of h2"),
        ("h2 rst", "no error code; the form is `h2 rst [stream=S] CODE`"),
        ("h2 rst OUCH", "\"OUCH\" is no error code"),
        ("h2 headers stream=x", "\"x\" is no stream; there are a number, #N, last, next, all"),
        ("h2 headers now", "\"now\" is too much"),
        ("h2 ack x=1", "\"x\" is too much"),
        ("h2 settings colour=1", "\"colour\" is no setting"),
        ("h2 settings max_frame_size=x", "max_frame_size has 32 bits"),
        ("h2 data \"x", "a quotation that does not end"),
        ("h2 data x\"y\"", "\"x\" before a quotation"),
        ("h2 data pad=256", "pad is 0 to 255"),
        ("h2 read 3 things", "\"things\" is nothing to read"),
        ("h2 raw 00", "no type"),
        ("h2 window", "no increment"),
        ("h2 repeat 3 serve", "`h2 serve` sends no frame"),
        ("h2 serve all", "\"all\" is no number"),
        ("h2 drain now", "\"now\" is too much"),
    ];
    for (line, expected) in table {
        let error = line.parse::<testkit::Step>().expect_err("refused").to_string();
        assert!(error.contains(expected), "{line}: {error}");
    }
    let error = Script::parse(["h2 preface", "handshake skip"]).expect_err("refused").to_string();
    assert_eq!(error, "`handshake` is the first step of a connection");
    assert!(Script::parse(["h2 ping", "again"]).is_err());
    assert!(Script::parse(["h2 preface", "again"]).is_ok());
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// What a step sends, in hexadecimal.
fn sent(step: &str) -> String {
    let server = play(&["h2 deaf", "h2 read preface", step]);
    let (bytes, _) = crate::client::connect(&server).send(PREFACE).read_to_end();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn each_frame_has_its_bytes() {
    // Length, type, flags and stream, then the payload (RFC 9113 section 4.1).
    let table = [
        ("h2 settings", "000000 04 00 00000000"),
        (
            "h2 settings max_concurrent_streams=1 initial_window_size=0 0xff=0x10",
            "000012 04 00 00000000 0003 00000001 0004 00000000 00ff 00000010",
        ),
        ("h2 ack", "000000 04 01 00000000"),
        ("h2 headers stream=3 status=200 end", "00000d 01 05 00000003 00 07 3a737461747573 03 323030"),
        ("h2 headers stream=1 A=b more pad=2", "000008 01 08 00000001 02 00 01 41 01 62 0000"),
        ("h2 headers stream=1 block=8f end", "000001 01 05 00000001 8f"),
        ("h2 continuation stream=1 block=\"88 89\"", "000002 09 04 00000001 8889"),
        ("h2 data stream=1 \"a b\\x22\" end", "000004 00 01 00000001 61206222"),
        ("h2 data stream=1 text=x pad=1", "000003 00 08 00000001 01 78 00"),
        ("h2 data stream=1 size=3 frame=2 end", "000002 00 00 00000001 2a2a 000001 00 01 00000001 2a"),
        ("h2 rst stream=5 CANCEL", "000004 03 00 00000005 00000008"),
        ("h2 goaway last=7 0x1f \"no\"", "00000a 07 00 00000000 00000007 0000001f 6e6f"),
        ("h2 ping", "000008 06 00 00000000 0000000000000000"),
        ("h2 ping ack 0102030405060708", "000008 06 01 00000000 0102030405060708"),
        ("h2 window 5", "000004 08 00 00000000 00000005"),
        ("h2 window stream=next 0x7fffffff", "000004 08 00 00000001 7fffffff"),
        ("h2 push stream=1 promised=4 block=82", "000005 05 04 00000001 00000004 82"),
        ("h2 priority stream=9 on=3 weight=256", "000005 02 00 00000009 00000003 ff"),
        ("h2 raw type=0xaa flags=0x0f stream=2 length=9 01 02", "000009 aa 0f 00000002 0102"),
        ("h2 repeat 2 ack", "000000 04 01 00000000 000000 04 01 00000000"),
        (
            "h2 repeat 2 push stream=1 block=82",
            "000005 05 04 00000001 00000002 82 000005 05 04 00000001 00000004 82",
        ),
        ("h2 repeat-every 1ms 2 window 1", "000004 08 00 00000000 00000001 000004 08 00 00000000 00000001"),
        ("h2 answer stream=all", ""),
    ];
    for (step, expected) in table {
        assert_eq!(sent(step), expected.replace(' ', ""), "{step}");
    }
    // A value of 127 bytes or more has a length of several (RFC 7541 section 5.1).
    let long = sent(&format!("h2 headers stream=1 a={}", "x".repeat(300)));
    assert!(long.starts_with("000132010400000001000161 7fad01 7878".replace(' ', "").as_str()), "{long}");
}

#[test]
fn what_is_repeated_for_ever_goes_on_until_the_client_goes() {
    const MANY: usize = 100_000;
    for (step, frame) in [
        (
            "h2 repeat forever ping 0102030405060708",
            &b"\0\0\x08\x06\0\0\0\0\0\x01\x02\x03\x04\x05\x06\x07\x08"[..],
        ),
        ("h2 repeat-every 10us forever ack", b"\0\0\0\x04\x01\0\0\0\0"),
    ] {
        let server = play(&["h2 deaf", "h2 read preface", step]);
        let mut client = crate::client::connect(&server);
        let count = if step.contains("every") { 50 } else { MANY };
        let mut flood = vec![0; frame.len() * count];
        std::io::Read::read_exact(&mut client.send(PREFACE).stream, &mut flood).expect("a flood");
        assert!(flood.chunks(frame.len()).all(|one| one == frame), "{step}");
        drop(client);
        server.wait_for(|log| log.counts.ended == 1, PATIENCE);
    }
}

#[test]
fn a_step_that_needs_a_request_fails_the_test_without_one() {
    let server = play(&["h2 read preface", "h2 rst stream=#2 CANCEL"]);
    crate::client::connect(&server).send(PREFACE).read_to_end();
    assert_eq!(server.into_log().failures, ["connection 0: there is no request #2"]);
}
