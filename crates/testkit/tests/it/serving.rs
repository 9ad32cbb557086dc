//! How the well-behaved half keeps its connections.

use std::time::{Duration, Instant};

use testkit::{Farewell, Options, Server};

use crate::client::{End, PATIENCE, connect};

#[test]
fn a_connection_serves_many_requests() {
    let server = Server::serve();
    let mut client = connect(&server);
    for number in 0..100 {
        let target = format!("/anything/{number}");
        let echo = client.get(&target).response().json();
        assert_eq!(echo["url"], format!("http://here{target}"));
    }
    let counts = server.counts();
    assert_eq!((counts.connections, counts.requests), (1, 100));
}

#[test]
fn pipelined_requests_are_answered_in_order_whatever_they_ask() {
    let server = Server::serve();
    let mut client = connect(&server);
    client.send(
        "GET /json HTTP/1.1\r\n\r\nGET /delay/0.1?n=1 HTTP/1.1\r\n\r\n\
         POST /echo HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello\
         GET /bytes/300000 HTTP/1.1\r\n\r\n\
         POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n\
         GET /drip?numbytes=2&duration=0.01 HTTP/1.1\r\n\r\nGET /text HTTP/1.1\r\n\r\n",
    );
    assert_eq!(client.response().body.len(), 197);
    assert_eq!(client.response().json()["args"]["n"], "1");
    assert_eq!(client.response().text(), "hello");
    assert_eq!(client.response().body.len(), 300_000);
    assert_eq!(client.response().text(), "hi");
    assert_eq!(client.response().text(), "**");
    assert_eq!(client.response().text(), "It is well.\n");
    assert_eq!(server.counts().max_in_flight, 1);
}

#[test]
fn head_is_get_without_the_body() {
    let server = Server::serve();
    let mut client = connect(&server);
    let heads = ["/json", "/bytes/300000", "/stream-bytes/5", "/drip?numbytes=3", "/nope", "/get"];
    for target in heads {
        client.send(format!("HEAD {target} HTTP/1.1\r\n\r\n"));
    }
    client.get("/text");
    let (mut lengths, mut head) = (Vec::new(), String::new());
    while lengths.len() < heads.len() {
        head.push_str(&client.read(1));
        if head.ends_with("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
            lengths.push(length.map(str::to_owned));
            head.clear();
        }
    }
    let lengths: Vec<_> = lengths.iter().map(Option::as_deref).collect();
    assert_eq!(lengths[..4], [Some("197"), Some("300000"), None, Some("3")]);
    assert_eq!(client.response().text(), "It is well.\n");
}

#[test]
fn close_after_announces_the_last_answer() {
    let server = Server::serve_with(Options { close_after: Some(2), ..Options::default() });
    let mut client = connect(&server);
    assert_eq!(client.get("/json").response().header("connection"), None);
    client.get("/json").get("/json");
    assert_eq!(client.response().header("connection"), Some("close"));
    client.half_close();
    assert_eq!(client.read_to_end(), (Vec::new(), End::Fin));
    assert_eq!(server.counts().requests, 2);
}

#[test]
fn close_after_may_come_as_a_surprise() {
    let server = Server::serve_with(Options {
        close_after: Some(1),
        farewell: Farewell::Silent,
        ..Options::default()
    });
    let mut client = connect(&server);
    client.send("POST /echo HTTP/1.1\r\nContent-Length: 2\r\n\r\nhi");
    let response = client.response();
    assert_eq!((response.text(), response.header("connection")), ("hi", None));
    assert_eq!(client.read_to_end(), (Vec::new(), End::Fin));
}

#[test]
fn a_client_that_wants_to_close_is_obeyed() {
    let server = Server::serve();
    for request in ["GET /json HTTP/1.1\r\nConnection: foo, Close\r\n\r\n", "GET /json HTTP/1.0\r\n\r\n"] {
        let (text, end) = connect(&server).send(request).text_to_end();
        assert!(text.contains("Connection: close\r\n") && text.ends_with('}'), "{text}");
        assert_eq!(end, End::Fin);
    }
}

#[test]
fn an_idle_connection_is_closed_when_asked_for() {
    let server =
        Server::serve_with(Options { idle_timeout: Some(Duration::from_millis(100)), ..Options::default() });
    let mut client = connect(&server);
    client.get("/json").response();
    let started = Instant::now();
    assert_eq!(client.read_to_end(), (Vec::new(), End::Fin));
    assert!(started.elapsed() >= Duration::from_millis(50));
}

#[test]
fn continue_is_sent_before_a_body_that_waits_for_it() {
    let server = Server::serve();
    let mut client = connect(&server);
    client.send("POST /echo HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n");
    assert_eq!(client.read(25), "HTTP/1.1 100 Continue\r\n\r\n");
    assert_eq!(client.send("hi").response().text(), "hi");
}

#[test]
fn what_is_no_request_is_a_400_and_ends_the_connection() {
    let server = Server::serve();
    for request in ["BAD\r\n\r\n", "POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n"] {
        let mut client = connect(&server);
        let response = client.send(request).response();
        assert_eq!((response.status, response.header("connection")), (400, Some("close")));
        client.half_close();
        assert_eq!(client.read_to_end(), (Vec::new(), End::Fin));
    }
    server.wait_for(|log| log.counts.ended == 2 && log.counts.in_flight == 0, PATIENCE);
}

#[test]
fn a_body_beyond_the_limit_is_a_413() {
    let server = Server::serve_with(Options { max_body: 4, ..Options::default() });
    for framing in
        ["Content-Length: 5\r\n\r\nhello", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"]
    {
        let mut client = connect(&server);
        client.send(format!("POST /echo HTTP/1.1\r\n{framing}"));
        assert_eq!(client.response().status, 413);
    }
    let mut client = connect(&server);
    client.send("POST /echo HTTP/1.1\r\nContent-Length: 4\r\n\r\nfour");
    assert_eq!(client.response().text(), "four");
}

#[test]
fn a_thousand_wait_at_once_on_one_thread() {
    const CLIENTS: usize = 1_000;
    let server = Server::serve();
    let started = Instant::now();
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| connect(&server)).collect();
    for client in &mut clients {
        client.get("/delay/1");
    }
    for client in &mut clients {
        assert_eq!(client.response().status, 200);
    }
    assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
    let counts = server.counts();
    assert_eq!((counts.max_open, counts.max_in_flight), (CLIENTS as u64, CLIENTS as u64));
}
