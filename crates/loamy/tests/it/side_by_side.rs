//! Rows that share an HTTP/2 connection: what becomes of one leaves the others, and those that come later, as they were.
#![allow(
    clippy::disallowed_methods,
    reason = "the walls around the clock are the engine's; this drives it from outside"
)]

use std::time::Duration;

use loamy::{Attempt, Backoff, HttpVersion, Kind, Outcome, Overrides, Policy, Request, Timeouts};
use testkit::{Http2, Log, Options, Protocol, Script, Server};

use crate::expectations::{LATE, all_answered, client};

fn policy() -> Policy {
    Policy::default().http_version(HttpVersion::Http2).h2_connections(1).timeout(Duration::from_secs(20))
}

fn played(steps: impl IntoIterator<Item = impl AsRef<str>>) -> Server {
    Server::start(Script::parse(steps).unwrap())
}

fn serving(max_concurrent_streams: u32) -> Server {
    Server::serve_with(Options {
        http: vec![Protocol::Http2],
        http2: Http2 { max_concurrent_streams: Some(max_concurrent_streams), ..Http2::default() },
        keep_log: true,
        ..Options::default()
    })
}

/// A row that has so much time.
fn within(request: Request, limit: Duration) -> Request {
    let mut own = Overrides::default();
    let mut timeouts = Timeouts::default();
    timeouts.total = Some(limit);
    own.timeouts = Some(timeouts);
    request.overrides(own)
}

fn kind(outcome: &Outcome) -> Option<Kind> {
    outcome.result.as_ref().err().map(loamy::Error::kind)
}

/// How often the server saw the target, on which connections.
fn seen(log: &Log, target: &str) -> Vec<usize> {
    log.to_target(target).map(|request| request.connection).collect()
}

#[test]
fn f8_what_is_late_for_rows_that_gave_up_is_no_flood() {
    const GONE: usize = 70;
    const FRAMES: usize = 20;
    let mut steps = vec![
        "h2 preface".to_owned(),
        "h2 read request".to_owned(),
        r#"h2 answer "ok""#.to_owned(),
        format!("h2 read {} requests", GONE + 1),
        format!("h2 read {GONE} rst"),
    ];
    for stream in 3..GONE + 3 {
        steps.push(format!("h2 headers stream=#{stream} status=200"));
        steps.push(format!("h2 repeat {FRAMES} data stream=#{stream} size=2000"));
    }
    steps.extend(["h2 wait 100ms", r#"h2 answer stream=#2 "fine""#, "h2 drain"].map(str::to_owned));
    let server = played(steps);
    let client = client(1);
    all_answered(&client.run([Request::get(server.url("/first"))], &policy()), 1);
    let gone = (0..GONE)
        .map(|n| within(Request::get(server.url(&format!("/gone/{n}"))), Duration::from_millis(400)));
    let rows: Vec<_> = std::iter::once(Request::post(server.url("/stays"), "x")).chain(gone).collect();
    let outcomes = client.run(rows, &policy());
    assert_eq!(outcomes[0].response().map(loamy::Response::body), Some(&b"fine"[..]), "{:?}", outcomes[0]);
    assert!(outcomes[1..].iter().all(|row| kind(row) == Some(Kind::TimeoutTotal)), "{:?}", outcomes[1]);
    drop(client);
    let log = server.into_log();
    let http2 = log.connections[0].http2.as_ref().unwrap();
    assert_eq!((log.connections.len(), http2.resets), (1, GONE as u64));
    assert_eq!(seen(&log, "/stays"), [0]);
}

#[test]
fn f9_the_size_of_a_head_that_one_call_allows_is_its_own() {
    const LARGE: usize = 1 << 21;
    let piece = format!("h2 continuation more x-large={}", "x".repeat(16_000));
    let mut steps = vec!["h2 preface".to_owned()];
    let middle = format!(r#"h2 answer x-middle={} "ok""#, "x".repeat(10_000));
    for _ in 0..2 {
        steps.extend(["h2 read request".to_owned(), middle.clone()]);
    }
    steps.extend(
        ["h2 drain", "connection", "h2 preface", "h2 read request", "h2 headers status=200 more"]
            .map(str::to_owned),
    );
    steps.extend(std::iter::repeat_n(piece, LARGE / 16_000));
    steps.extend(["h2 continuation x-end=1", r#"h2 data "ok" end"#, "h2 drain"].map(str::to_owned));
    let server = played(steps);
    let client = client(1);
    let one = |policy: &Policy| client.run([Request::post(server.url("/row"), "x")], policy).remove(0);
    let sized = |head| {
        let mut policy = policy();
        policy.sizes.head = head;
        policy
    };
    let refused = one(&sized(1000));
    assert_eq!(kind(&refused), Some(Kind::TooLarge), "{refused:?}");
    let answered = one(&policy());
    assert!(answered.is_ok(), "{answered:?}");
    let large = one(&sized(2 * LARGE));
    assert_eq!(large.response().map(loamy::Response::body), Some(&b"ok"[..]), "{large:?}");
    drop(client);
    assert_eq!(seen(&server.into_log(), "/row"), [0, 0, 1]);
}

#[test]
fn f12_the_pings_that_one_call_wants_are_its_own() {
    let server = serving(100);
    let client = client(1);
    let answered = |path: &str, ping: Option<Duration>| {
        all_answered(&client.run([Request::get(server.url(path))], &policy().h2_ping(ping)), 1);
        let log = server.log();
        assert_eq!(log.connections.len(), 1);
        log.connections[0].http2.as_ref().unwrap().pings
    };
    let wanted = answered("/delay/0.35", Some(Duration::from_millis(100)));
    assert!((1..=4).contains(&wanted), "{wanted}");
    assert_eq!(answered("/delay/0.5", None), wanted);
    assert_eq!(answered("/delay/0.4", Some(Duration::from_secs(9))), wanted);
}

#[test]
fn f8_rows_beside_one_that_is_sent_empty_frames_without_end_are_not_said_to_be_too_large() {
    let steps = [
        "h2 preface",
        "h2 read request",
        r#"h2 answer "ok""#,
        "h2 read 3 requests",
        "h2 headers stream=#2 status=200",
        "h2 repeat 120 data stream=#2",
        "h2 drain",
        "connection",
        "h2 preface",
        "h2 serve",
    ];
    let server = played(steps);
    let client = client(1);
    all_answered(&client.run([Request::get(server.url("/first"))], &policy()), 1);
    let rows = [
        Request::get(server.url("/echo?guilty")),
        Request::get(server.url("/echo?beside")),
        Request::post(server.url("/echo?post"), "x"),
    ];
    let outcomes = client.run(rows, &policy().retries(2));
    for row in &outcomes[..2] {
        assert!(row.is_ok() && row.earlier == [Attempt::Failed(Kind::Protocol)], "{row:?}");
    }
    let post = outcomes[2].result.as_ref().unwrap_err();
    assert_eq!((post.kind(), post.in_doubt(), post.attempts()), (Kind::Protocol, true, 1), "{post}");
    drop(client);
    let log = server.into_log();
    assert_eq!(seen(&log, "/echo?beside"), [0, 1]);
    assert_eq!((seen(&log, "/echo?guilty"), seen(&log, "/echo?post")), (vec![0, 1], vec![0]));
}

#[test]
fn f9_only_the_row_is_too_large_whose_head_has_no_end() {
    let steps = [
        "h2 preface",
        "h2 read request",
        r#"h2 answer "ok""#,
        "h2 read 3 requests",
        "h2 headers stream=#3 status=200 more",
        "h2 repeat 200 continuation stream=#3 more x-a=b",
        "h2 drain",
        "connection",
        "h2 preface",
        "h2 serve",
    ];
    let server = played(steps);
    let client = client(1);
    all_answered(&client.run([Request::get(server.url("/first"))], &policy()), 1);
    let rows = (0..3).map(|n| Request::get(server.url(&format!("/echo?row={n}"))));
    let outcomes = client.run(rows, &policy().retries(2));
    assert_eq!(kind(&outcomes[1]), Some(Kind::TooLarge), "{:?}", outcomes[1]);
    for row in [0, 2] {
        assert!(
            outcomes[row].is_ok() && outcomes[row].earlier == [Attempt::Failed(Kind::Protocol)],
            "{:?}",
            outcomes[row]
        );
    }
    drop(client);
    let log = server.into_log();
    let each: Vec<_> = (0..3).map(|row| seen(&log, &format!("/echo?row={row}"))).collect();
    assert_eq!(each, [vec![0, 1], vec![0], vec![0, 1]]);
}

#[test]
fn f6_rows_that_give_up_together_leave_their_connection_to_those_that_wait() {
    const STREAMS: u32 = 4;
    let server = serving(STREAMS);
    let client = client(1);
    all_answered(&client.run([Request::get(server.url("/echo"))], &policy()), 1);
    let gone = (0..2).map(|_| within(Request::get(server.url("/hang")), Duration::from_millis(300)));
    let stay = (0..2).map(|_| Request::get(server.url("/delay/1")));
    let wait = (0..8).map(|n| Request::post(server.url(&format!("/echo?row={n}")), vec![b'x'; 100_000]));
    let outcomes = client.run(gone.chain(stay).chain(wait).collect::<Vec<_>>(), &policy());
    assert!(outcomes[..2].iter().all(|row| kind(row) == Some(Kind::TimeoutTotal)), "{outcomes:?}");
    assert!(outcomes[2..].iter().all(|row| row.is_ok() && row.attempts == 1), "{:?}", &outcomes[2..]);
    drop(client);
    let log = server.into_log();
    let (connections, most) = (log.connections.len(), log.connections[0].http2.as_ref().unwrap().max_open);
    assert!(connections == 1 && most <= STREAMS, "{connections} connections, {most} streams at once");
    assert!((0..8).all(|n| seen(&log, &format!("/echo?row={n}")) == [0]));
}

#[test]
fn f3_a_call_for_calm_is_heard_though_the_connection_is_reset_behind_it() {
    // A wait is drawn from nothing to its ceiling, so one may be short: eight that last less than this in all happen once in
    // 200,000 times.
    const PEERS: usize = 8;
    const CEILING: Duration = Duration::from_secs(1);
    const IN_ALL: Duration = Duration::from_millis(800);
    let steps = [
        "h2 preface max_concurrent_streams=1",
        "h2 read request",
        "h2 goaway last=2147483647 ENHANCE_YOUR_CALM",
        "reset",
        "connection",
        "h2 preface",
        "h2 serve",
    ];
    let servers: Vec<_> = (0..PEERS).map(|_| played(steps)).collect();
    let rows =
        servers.iter().flat_map(|server| ["/echo?1", "/echo?2"].map(|path| Request::get(server.url(path))));
    let policy = policy().backoff(Backoff { base: CEILING, ..Backoff::default() });
    let outcomes = client(1).run(rows.collect::<Vec<_>>(), &policy);
    let mut waits = Vec::new();
    for (server, rows) in servers.into_iter().zip(outcomes.chunks(2)) {
        assert_eq!((kind(&rows[0]), kind(&rows[1])), (Some(Kind::Closed), None), "{rows:?}");
        let log = server.into_log();
        assert_eq!((seen(&log, "/echo?1"), seen(&log, "/echo?2")), (vec![0], vec![1]));
        waits.push(log.requests[1].arrived - log.requests[0].arrived);
    }
    assert!(waits.iter().sum::<Duration>() >= IN_ALL, "{waits:?}");
    assert!(waits.iter().all(|wait| *wait < CEILING + LATE), "{waits:?}");
}

#[test]
fn f2_each_row_of_a_connection_that_breaks_is_told_by_what() {
    let steps =
        ["h2 preface", "h2 read request", r#"h2 answer "ok""#, "h2 read 3 requests", "wait 50ms", "reset"];
    let server = played(steps);
    let client = client(1);
    all_answered(&client.run([Request::get(server.url("/first"))], &policy()), 1);
    let outcomes =
        client.run((0..3).map(|n| Request::post(server.url(&format!("/row/{n}")), "x")), &policy());
    for outcome in &outcomes {
        let error = outcome.result.as_ref().unwrap_err();
        assert_eq!((error.kind(), error.in_doubt()), (Kind::Closed, true), "{error}");
        assert_eq!(error.os_error(), Some(rustix::io::Errno::CONNRESET.raw_os_error()), "{error:?}");
        assert!(std::error::Error::source(error).is_some_and(|cause| cause.to_string().contains("reset")));
    }
    drop(client);
    let log = server.into_log();
    assert_eq!(log.connections.len(), 1);
    assert!((0..3).all(|n| seen(&log, &format!("/row/{n}")) == [0]));
}
