//! What the server says it saw.

use std::time::{Duration, Instant};

use testkit::{Options, Script, Server};

use crate::client::{PATIENCE, connect};

#[test]
fn a_request_is_logged_byte_by_byte() {
    let server = Server::start(Script::respond("HTTP/1.1 204 Fine\r\n\r\n"));
    let head = "PATCH /p?q=%20 HTTP/1.1\r\nhOsT:here\r\nX-Two: 1\r\nx-two:  2 \r\nX-Latin: \u{e9}\r\nContent-Length: 2\r\n\r\n";
    connect(&server).send(head).send("hi").read(21);
    let log = server.stop();
    let request = &log.requests[0];
    assert_eq!((request.method.as_str(), request.target.as_str()), ("PATCH", "/p?q=%20"));
    assert_eq!(request.head, head.as_bytes());
    assert_eq!(request.header("host"), Some("here"));
    assert_eq!(request.header("absent"), None);
    let twice: Vec<_> = request.header_values("X-TWO").collect();
    assert_eq!(twice, [b"1", b"2"]);
    assert_eq!(request.headers[1].0, "X-Two");
    assert_eq!((request.body.as_slice(), request.complete), (&b"hi"[..], true));
    assert_eq!(log.to_target("/p?q=%20").count(), 1);
    assert_eq!(log.counts.bytes_received, head.len() as u64 + 2);
}

#[test]
fn arrival_times_are_those_of_the_wire() {
    const PAUSE: Duration = Duration::from_millis(120);
    let server = Server::start(Script::respond("HTTP/1.1 204 Fine\r\n\r\n"));
    let mut client = connect(&server);
    let started = Instant::now();
    client.get("/1").read(21);
    std::thread::sleep(PAUSE);
    client.get("/2").read(21);
    let log = server.stop();
    let between = log.requests[1].arrived - log.requests[0].arrived;
    assert!((PAUSE..=started.elapsed()).contains(&between), "{between:?}");
}

#[test]
fn a_client_that_resets_is_told_from_one_that_closes() {
    let server = Server::start(Script::respond("HTTP/1.1 204 Fine\r\n\r\n"));
    let client = connect(&server);
    socket2::SockRef::from(&client.stream).set_linger(Some(Duration::ZERO)).expect("linger");
    drop(client);
    let log = server.wait_for(|log| log.counts.ended == 1, PATIENCE);
    let (_, ending) = log.connections[0].ended.as_ref().expect("ended");
    assert_eq!(ending.to_string(), "reset by the client");
}

#[test]
fn what_is_no_request_is_named_as_the_ending() {
    let table = [
        ("BAD\r\n\r\n", "malformed request"),
        ("GET / HTTP/1.1\r\nContent-Length: +5\r\n\r\n", "Content-Length \"+5\""),
        ("GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", "two Content-Length"),
        ("GET / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", "both"),
        ("GET / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", "other than chunked"),
        ("GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", "chunk size \"xyz\""),
        ("GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n", "does not end with CRLF"),
    ];
    for (request, expected) in table {
        let server = Server::start(Script::respond("never sent"));
        assert!(connect(&server).send(request).read_to_end().0.is_empty());
        let log = server.wait_for(|log| log.counts.ended == 1, PATIENCE);
        let (_, ending) = log.connections[0].ended.as_ref().expect("ended");
        assert!(ending.to_string().contains(expected), "{request:?}: {ending}");
        assert_eq!(log.counts.in_flight, 0);
    }
}

#[test]
fn a_head_of_many_headers_and_a_megabyte_is_read_whole() {
    let server = Server::start(Script::respond("HTTP/1.1 204 Fine\r\n\r\n"));
    let mut head = "GET / HTTP/1.1\r\n".to_owned();
    for number in 0..2_000 {
        head.push_str(&format!("X-{number}: {}\r\n", "v".repeat(500)));
    }
    head.push_str("\r\n");
    connect(&server).send(&head).read(21);
    let log = server.stop();
    assert_eq!(log.requests[0].headers.len(), 2_000);
    assert_eq!(log.requests[0].head, head.as_bytes());
}

#[test]
fn closed_connections_are_not_counted_as_open_with_their_successors() {
    const ROUNDS: usize = 300;
    let server = Server::serve();
    for _ in 0..ROUNDS {
        assert_eq!(connect(&server).get("/json").response().status, 200);
    }
    let counts = server.counts();
    assert_eq!((counts.connections, counts.max_open), (ROUNDS as u64, 1));
}

#[test]
fn answered_requests_are_not_in_flight_with_the_next_ones() {
    let server = Server::serve();
    let (mut one, mut two) = (connect(&server), connect(&server));
    for _ in 0..300 {
        assert_eq!(one.get("/json").response().status, 200);
        assert_eq!(two.get("/bytes/1000000").response().body.len(), 1_000_000);
    }
    assert_eq!(server.counts().max_in_flight, 1);
}

#[test]
fn the_serving_half_keeps_no_log_unless_asked() {
    let quiet = Server::serve();
    connect(&quiet).get("/json").response();
    let log = quiet.stop();
    assert_eq!((log.counts.requests, log.counts.connections), (1, 1));
    assert!(log.requests.is_empty() && log.connections.is_empty());

    let options = Options { keep_log: true, ..Options::default() };
    let noted = Server::serve_with(options);
    connect(&noted).send("POST /echo HTTP/1.1\r\nContent-Length: 2\r\n\r\nhi").response();
    let log = noted.stop();
    assert_eq!(log.requests[0].body, b"hi");
    assert_eq!(log.connections[0].requests, 1);
}

#[test]
fn the_log_as_json_loses_no_byte() {
    let server = Server::start(Script::respond("HTTP/1.1 204 Fine\r\n\r\n"));
    connect(&server).send(b"POST /j HTTP/1.1\r\nContent-Length: 2\r\n\r\n\x00\xff").read(21);
    let json = server.stop().to_json();
    assert_eq!(json["requests"][0]["body"], "\0\u{ff}");
    assert_eq!(json["requests"][0]["headers"][0][0], "Content-Length");
    assert_eq!(json["counts"]["requests"], 1);
    assert_eq!(json["connections"][0]["received"], 41);
}
