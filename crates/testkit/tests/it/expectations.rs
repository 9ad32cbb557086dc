//! A broken expectation, or a panic of the server, fails the test that holds the server.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use testkit::{Script, Server, Step};

use crate::client::{PATIENCE, connect};

fn start(lines: &[&str]) -> Server {
    Server::start(Script::parse(lines).expect("a script"))
}

/// The message with which dropping the server panics.
fn complaint(server: Server) -> String {
    let panic = catch_unwind(AssertUnwindSafe(|| drop(server))).expect_err("dropping panics");
    *panic.downcast::<String>().expect("a message")
}

#[test]
fn silence_passes_when_the_client_says_nothing_more() {
    let server = start(&["read", "send HTTP/1.1 204 Fine\\r\\n\\r\\n", "expect-silence 100ms", "send x"]);
    assert!(connect(&server).get("/").text_to_end().0.ends_with("\r\n\r\nx"));
    assert!(server.stop().failures.is_empty());
}

#[test]
fn silence_is_broken_by_a_byte() {
    let server = start(&["read", "expect-silence 5s"]);
    let mut client = connect(&server);
    client.get("/");
    server.wait_for(|log| log.counts.requests == 1, PATIENCE);
    client.send("GET /more");
    server.wait_for(|log| log.failures.len() == 1, PATIENCE);
    let complaint = complaint(server);
    assert!(complaint.contains("expected silence for 5s, got 9 bytes: \"GET /more\""), "{complaint}");
}

#[test]
fn silence_is_broken_by_a_byte_that_came_early() {
    let server = start(&["read", "expect-silence 5s"]);
    connect(&server).send("GET / HTTP/1.1\r\n\r\nmore").read_to_end();
    assert!(complaint(server).contains("got 4 bytes"));
}

#[test]
fn expect_close_passes_when_the_client_closes() {
    let server = start(&["read", "send done", "expect-close 10s"]);
    connect(&server).get("/").read(4);
    let log = server.wait_for(|log| log.counts.ended == 1, PATIENCE);
    assert!(log.failures.is_empty());
}

#[test]
fn expect_close_fails_when_the_client_stays() {
    let server = start(&["read", "expect-close 50ms"]);
    connect(&server).get("/").read_to_end();
    assert!(complaint(server).contains("still open after 50ms"));
}

#[test]
fn answering_before_reading_is_a_mistake_of_the_script() {
    for step in ["serve", "read-body"] {
        let server = start(&[step]);
        connect(&server).read_to_end();
        assert!(complaint(server).contains(&format!("`{step}` before any request was read")));
    }
}

#[test]
fn a_panic_on_a_connection_fails_the_test_and_spares_the_other_connections() {
    let server = Server::start(
        Script::new([Step::ReadRequest, Step::answer(|request| panic!("at {}", request.target))])
            .then([Step::ReadRequest, Step::send("alive")]),
    );
    connect(&server).get("/boom").read_to_end();
    assert_eq!(connect(&server).get("/").text_to_end().0, "alive");
    server.wait_for(|log| !log.failures.is_empty(), PATIENCE);
    assert!(complaint(server).contains("panicked: at /boom"));
}

#[test]
fn stop_complains_and_into_log_leaves_it_to_the_caller() {
    let broken = || {
        let server = start(&["read", "expect-close 1ms"]);
        connect(&server).get("/").read_to_end();
        server
    };
    let log = broken().into_log();
    assert_eq!(log.failures.len(), 1);
    let server = broken();
    assert!(catch_unwind(AssertUnwindSafe(|| server.stop())).is_err());
}

#[test]
fn a_test_that_panics_already_is_not_aborted_by_the_server() {
    let panic = catch_unwind(|| {
        let server = start(&["read", "expect-close 1ms"]);
        connect(&server).get("/").read_to_end();
        server.wait_for(|log| !log.failures.is_empty(), PATIENCE);
        std::panic::resume_unwind(Box::new("the test's own"));
    });
    let own = panic.expect_err("it panicked").downcast::<&str>();
    assert_eq!(*own.expect("its own panic"), "the test's own");
}

#[test]
fn waiting_in_vain_panics_with_what_was_seen() {
    let server = start(&["read", "drain"]);
    connect(&server).get("/seen");
    server.wait_for(|log| log.counts.requests == 1, PATIENCE);
    let waited = catch_unwind(AssertUnwindSafe(|| {
        server.wait_for(|log| log.counts.requests == 2, Duration::from_millis(50));
    }));
    let message = waited.expect_err("a timeout").downcast::<String>();
    assert!(message.expect("a message").contains("\"target\": \"/seen\""));
}

#[test]
fn a_loop_that_would_spin_is_refused() {
    for lines in [&["again"][..], &["send x", "again"], &["wait 0s", "again"]] {
        let error = Script::parse(lines).expect_err("refused");
        assert!(error.to_string().contains("`again` needs"), "{error}");
    }
    let started = Server::try_start([Step::send("x"), Step::Again]);
    let error = started.err().expect("refused");
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
}

#[test]
fn stopping_ends_connections_that_never_would() {
    let server = start(&["hold", "connection", "read", "wait 1000s"]);
    let mut clients = [connect(&server), connect(&server)];
    clients[1].get("/");
    server.wait_for(|log| log.counts.requests == 1 && log.counts.open == 2, PATIENCE);
    let address = server.addr();
    drop(server);
    let [_, mut waiting] = clients;
    assert!(waiting.read_to_end().0.is_empty());
    assert!(std::net::TcpStream::connect(address).is_err());
}
