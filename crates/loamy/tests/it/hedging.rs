//! A second try beside the first, as the server sees it.
#![allow(
    clippy::disallowed_methods,
    reason = "the walls around the clock are the engine's; this drives it from outside"
)]

use std::time::{Duration, Instant};

use loamy::{Attempt, Client, Hedging, HttpVersion, Policy, Request};
use testkit::{Options, Protocol, Server};

use crate::expectations::SOON;

/// Rows that make second tries worth having: one in twenty may get one.
const ROWS: usize = 40;

/// Later than this a row counts as one that takes long.
const AFTER: Duration = Duration::from_millis(150);

/// Rows of which those in `slow` get no answer to their first attempt.
fn rows(server: &Server, method: &str, slow: &[usize]) -> Vec<Request> {
    let url = |row| match slow.contains(&row) {
        true => server.url(&format!("/flaky/{row}?fail=1&status=hang")),
        false => server.url(&format!("/count/{row}")),
    };
    (0..ROWS).map(|row| Request::new(method, url(row))).collect()
}

fn over(protocol: Protocol) -> (Server, Policy) {
    let server = Server::serve_with(Options { http: vec![protocol], ..Options::default() });
    let version = match protocol {
        Protocol::Http2 => HttpVersion::Http2,
        _ => HttpVersion::Http1,
    };
    let policy = Policy::default().hedging(Hedging::After(AFTER)).http_version(version);
    (server, policy.timeout(Duration::from_secs(20)))
}

#[test]
fn a_row_that_hangs_is_answered_by_its_second_try_and_the_first_is_cancelled() {
    for protocol in [Protocol::Http11, Protocol::Http2] {
        let (server, policy) = over(protocol);
        let client = Client::builder().threads(2).build().unwrap();
        let begin = Instant::now();
        let outcomes = client.run(rows(&server, "GET", &[7, 23]), &policy);
        assert!(begin.elapsed() < AFTER + SOON, "{protocol:?} {:?}", begin.elapsed());
        for outcome in &outcomes {
            assert!(outcome.is_ok(), "{protocol:?} {outcome:?}");
            let earlier: &[Attempt] = if [7, 23].contains(&outcome.index) { &[Attempt::Outrun] } else { &[] };
            assert_eq!((outcome.earlier.as_slice(), outcome.attempts as usize), (earlier, earlier.len() + 1));
        }
        let visits = server.visits();
        let seen = |row: usize| visits[&row.to_string()].values().sum::<u64>();
        assert_eq!((seen(7), seen(23)), (2, 2));
        assert!((0..ROWS).filter(|row| ![7, 23].contains(row)).all(|row| seen(row) == 1));
    }
}

#[test]
fn a_second_try_is_one_in_twenty_and_never_that_of_a_post() {
    let (server, policy) = over(Protocol::Http11);
    let client = Client::builder().threads(1).build().unwrap();
    let policy = policy.timeout(Duration::from_secs(1));
    let slow: Vec<usize> = (0..10).collect();
    for (method, most) in [("GET", ROWS / 20), ("POST", 0)] {
        let begin = server.visits();
        let outcomes = client.run(rows(&server, method, &slow), &policy);
        let twice = outcomes.iter().filter(|outcome| outcome.attempts == 2).count();
        assert!(twice <= most, "{method}: {twice}");
        if most > 0 {
            assert_eq!(twice, most, "{method}");
        }
        let failed = outcomes.iter().filter(|outcome| outcome.result.is_err()).count();
        assert_eq!(failed, if begin.is_empty() { slow.len() - twice } else { 0 }, "{method}");
    }
}

#[test]
fn a_second_try_after_longer_than_there_is_time_is_none() {
    let (server, policy) = over(Protocol::Http11);
    let client = Client::builder().threads(1).build().unwrap();
    let outcomes = client.run(rows(&server, "GET", &[]), &policy.hedging(Hedging::After(Duration::MAX)));
    assert!(outcomes.iter().all(|outcome| outcome.is_ok() && outcome.attempts == 1), "{outcomes:?}");
    assert_eq!(server.counts().requests, ROWS as u64);
}
