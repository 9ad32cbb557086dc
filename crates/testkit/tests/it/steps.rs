//! What each step does, as a client sees it.

use std::net::{IpAddr, Ipv6Addr, TcpStream};
use std::time::{Duration, Instant};

use testkit::{Ending, FullBacklog, Listen, Script, Server, Step, refused_port};

use crate::client::{End, PATIENCE, connect};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn start(lines: &[&str]) -> Server {
    Server::start(Script::parse(lines).expect("a script"))
}

#[test]
fn read_then_send_then_close_answers_once() {
    let server = Server::start([Step::ReadRequest, Step::send(OK)]);
    let mut client = connect(&server);
    assert_eq!(client.get("/a").text_to_end(), (OK.to_owned(), End::Fin));
    let log = server.wait_for(|log| log.counts.ended == 1, PATIENCE);
    let (_, ending) = log.connections[0].ended.as_ref().expect("ended");
    assert_eq!(*ending, Ending::ByServer);
}

#[test]
fn again_keeps_the_connection_and_reads_pipelined_requests_one_by_one() {
    let server = Server::start(Script::respond(OK));
    let mut client = connect(&server);
    client.send(
        "GET /1 HTTP/1.1\r\n\r\nPOST /2 HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcGET /3 HTTP/1.1\r\n\r\n",
    );
    assert_eq!(client.read(3 * OK.len()), OK.repeat(3));
    let log = server.stop();
    let seen: Vec<_> = log
        .requests
        .iter()
        .map(|request| (request.connection, request.number, request.target.as_str()))
        .collect();
    assert_eq!(seen, [(0, 0, "/1"), (0, 1, "/2"), (0, 2, "/3")]);
    assert_eq!(log.requests[1].body, b"abc");
    assert_eq!(log.counts.max_in_flight, 1);
}

#[test]
fn each_connection_plays_its_own_list_and_the_last_one_repeats() {
    let server =
        start(&["read", "reset", "connection", "read", "send one", "connection", "read", "send two"]);
    let ends: Vec<_> = (0..4).map(|_| connect(&server).get("/").text_to_end()).collect();
    assert_eq!(ends[0], (String::new(), End::Reset));
    assert_eq!(ends[1], ("one".into(), End::Fin));
    assert_eq!(ends[2], ("two".into(), End::Fin));
    assert_eq!(ends[3], ends[2]);
    assert_eq!(server.counts().connections, 4);
}

#[test]
fn an_empty_list_closes_at_once() {
    let server = Server::start(Script::new([]));
    assert_eq!(connect(&server).text_to_end(), (String::new(), End::Fin));
}

#[test]
fn a_chunked_request_body_is_decoded_over_several_segments() {
    let server = Server::start(Script::respond(OK));
    let mut client = connect(&server);
    let request = "PUT /c HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n\
                   4;x=y\r\nWiki\r\nA\r\n0123456789\r\n0\r\nTrailer: t\r\n\r\n";
    for byte in request.bytes() {
        client.send([byte]);
    }
    assert_eq!(client.read(OK.len()), OK);
    let log = server.stop();
    assert_eq!(log.requests[0].body, b"Wiki0123456789");
    assert!(log.requests[0].complete);
    assert_eq!(log.connections[0].bytes, request.as_bytes());
}

#[test]
fn read_head_leaves_the_body_for_read_body() {
    let server = start(&["read-head", "send HTTP/1.1 100 Continue\\r\\n\\r\\n", "read-body", "send done"]);
    let mut client = connect(&server);
    client.send("POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\n");
    assert!(client.read(25).starts_with("HTTP/1.1 100 Continue"));
    assert!(!server.log().requests[0].complete);
    assert_eq!(client.send("body").text_to_end().0, "done");
    assert_eq!(server.log().requests[0].body, b"body");
}

#[test]
fn read_bytes_takes_so_many_and_no_request() {
    let server = start(&["read-bytes 5", "send got five", "drain"]);
    let mut client = connect(&server);
    assert_eq!(client.send("hello").read(8), "got five");
    drop(client);
    let log = server.wait_for(|log| log.counts.ended == 1, PATIENCE);
    assert!(log.requests.is_empty());
    assert_eq!(log.connections[0].bytes, b"hello");
}

#[test]
fn bytes_of_an_unfinished_head_are_in_the_log() {
    let server = Server::start(Script::respond(OK));
    connect(&server).send("GET / HT").half_close();
    let log = server.wait_for(|log| log.counts.ended == 1, PATIENCE);
    assert_eq!(log.connections[0].received, 8);
    assert_eq!(log.connections[0].bytes, b"GET / HT");
    assert_eq!(log.counts.requests, 0);
    let (_, ending) = log.connections[0].ended.as_ref().expect("ended");
    assert_eq!(*ending, Ending::ByClient);
}

#[test]
fn drip_sends_one_byte_at_a_time() {
    let server = start(&["read", "drip 100ms abcdef"]);
    let mut client = connect(&server);
    client.get("/");
    let mut segments = 0;
    let started = Instant::now();
    while std::io::Read::read(&mut client.stream, &mut [0; 16]).expect("read") == 1 {
        segments += 1;
    }
    assert_eq!(segments, 6);
    assert!(started.elapsed() >= Duration::from_millis(400));
}

#[test]
fn repeat_sends_exactly_so_many() {
    let server = start(&["read", "repeat 70000 ab\\n"]);
    let (bytes, end) = connect(&server).get("/").read_to_end();
    assert_eq!((bytes, end), (b"ab\n".repeat(70_000), End::Fin));
}

#[test]
fn repeat_every_pauses_in_between() {
    let server = start(&["read", "repeat-every 30ms 3 xy"]);
    let started = Instant::now();
    assert_eq!(connect(&server).get("/").text_to_end().0, "xyxyxy");
    assert!(started.elapsed() >= Duration::from_millis(60));
}

#[test]
fn repeat_forever_goes_on_until_the_client_goes() {
    const ENOUGH: usize = 8 << 20;
    let server = start(&["read", "repeat forever HTTP/1.1 103 Early Hints\\r\\n\\r\\n"]);
    let mut client = connect(&server);
    client.get("/");
    assert!(client.read(ENOUGH).contains("103 Early Hints"));
    drop(client);
    server.wait_for(|log| log.counts.ended == 1, PATIENCE);
}

#[test]
fn repeating_nothing_for_ever_leaves_the_other_connections_their_turn() {
    let server = start(&["read", "repeat forever ", "connection", "read", "send here"]);
    let mut stuck = connect(&server);
    stuck.get("/");
    server.wait_for(|log| log.counts.requests == 1, PATIENCE);
    assert_eq!(connect(&server).get("/").text_to_end().0, "here");
}

#[test]
fn wait_waits() {
    let server = start(&["read", "wait 150ms", "send late"]);
    let started = Instant::now();
    assert_eq!(connect(&server).get("/").text_to_end().0, "late");
    assert!(started.elapsed() >= Duration::from_millis(150));
}

#[test]
fn wait_requests_holds_the_answers_until_all_have_come() {
    let server = start(&["read", "wait-requests 3", "send go", "again"]);
    let mut clients: Vec<_> = (0..3).map(|_| connect(&server)).collect();
    for client in &mut clients {
        client.get("/");
    }
    for client in &mut clients {
        assert_eq!(client.read(2), "go");
    }
    let counts = server.counts();
    assert_eq!((counts.max_in_flight, counts.max_open), (3, 3));
}

#[test]
fn half_close_ends_our_side_and_drain_goes_on_reading() {
    let server = start(&["read-head", "send early", "half-close", "drain"]);
    let mut client = connect(&server);
    client.send("POST / HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n");
    assert_eq!(client.text_to_end(), ("early".into(), End::Fin));
    client.send(vec![b'x'; 500_000]);
    drop(client);
    let log = server.wait_for(|log| log.counts.ended == 1, PATIENCE);
    assert!(log.connections[0].received > 500_000);
    assert!(!log.requests[0].complete);
}

#[test]
fn reset_is_seen_as_a_reset_after_what_was_sent() {
    let server = start(&["read", "send partial", "wait 100ms", "reset"]);
    let mut client = connect(&server);
    assert_eq!(client.get("/").text_to_end(), ("partial".into(), End::Reset));
}

#[test]
fn a_reset_without_reading_meets_the_connection_itself() {
    let server = start(&["reset"]);
    let mut client = connect(&server);
    assert_eq!(client.text_to_end(), (String::new(), End::Reset));
}

#[test]
fn hold_never_reads_so_an_upload_stalls() {
    const RECEIVE_BUFFER: usize = 4096;
    const FAR_TOO_MUCH: usize = 64 << 20;
    let listen = Listen { receive_buffer: Some(RECEIVE_BUFFER), ..Listen::default() };
    let script = Script::parse(["read-head", "hold"]).expect("a script");
    let server = Server::start(script.listen(listen));
    let mut client = connect(&server);
    client.send("POST / HTTP/1.1\r\nContent-Length: 67108864\r\n\r\n");
    let stall = Some(Duration::from_millis(300));
    client.stream.set_write_timeout(stall).expect("a timeout");
    let body = vec![0; FAR_TOO_MUCH];
    let stalled = std::io::Write::write_all(&mut client.stream, &body);
    let error = stalled.expect_err("the upload stalls");
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
    let log = server.log();
    assert_eq!(log.counts.open, 1);
    assert!(log.connections[0].received < 64 << 10);
}

#[test]
fn hold_ends_when_the_client_goes_though_bytes_lie_unread() {
    let server = start(&["hold"]);
    connect(&server).send("never read");
    let log = server.wait_for(|log| log.counts.ended == 1, PATIENCE);
    assert_eq!(log.connections[0].received, 0);
}

#[test]
fn answer_makes_the_response_from_the_request() {
    let server = Server::start([
        Step::ReadRequest,
        Step::answer(|request| {
            let body = format!("{} {}", request.target, request.body.len());
            format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
        }),
        Step::Again,
    ]);
    let mut client = connect(&server);
    client.send("POST /row/17 HTTP/1.1\r\nContent-Length: 4\r\n\r\nbody");
    assert_eq!(client.response().text(), "/row/17 4");
}

#[test]
fn serve_answers_like_the_well_behaved_half_and_the_script_goes_on() {
    let server = start(&["read", "serve", "read", "reset"]);
    let mut client = connect(&server);
    client.get("/get?a=1");
    assert_eq!(client.response().json()["args"]["a"], "1");
    client.get("/get");
    assert_eq!(client.text_to_end(), (String::new(), End::Reset));
}

#[test]
fn serve_counts_visits_over_all_connections() {
    let server = start(&["read", "serve"]);
    for seen in 1..=2 {
        let response = connect(&server).get("/count/x").response();
        assert_eq!(response.json()["seen"], seen);
    }
}

#[test]
fn it_listens_on_other_loopback_addresses_and_on_ipv6() {
    let other: IpAddr = "127.0.0.77".parse().expect("an address");
    for address in [other, IpAddr::V6(Ipv6Addr::LOCALHOST)] {
        let server = Server::start(Script::respond(OK).address(address));
        assert_eq!(server.addr().ip(), address);
        assert_eq!(connect(&server).get("/").read(OK.len()), OK);
        let port = server.port();
        assert!(server.url("/x").ends_with(&format!(":{port}/x")));
    }
}

#[test]
fn a_refused_port_refuses_and_each_is_another() {
    let (one, two) = (refused_port(), refused_port());
    assert_ne!(one, two);
    for port in [one, two, one] {
        let refused = TcpStream::connect(("127.0.0.1", port)).expect_err("nobody listens");
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    }
}

#[test]
fn a_full_backlog_gives_no_answer() {
    let full = FullBacklog::new().expect("a backlog");
    let timeout = Duration::from_millis(300);
    let error = TcpStream::connect_timeout(&full.addr(), timeout).expect_err("no answer");
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
}
