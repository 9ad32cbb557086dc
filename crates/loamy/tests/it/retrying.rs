//! Rows that go out again after a while, as the server sees it.
#![allow(
    clippy::disallowed_methods,
    reason = "the walls around the clock are the engine's; this drives it from outside"
)]

use std::time::{Duration, Instant};

use loamy::{Attempt, Backoff, Client, Kind, Overrides, Policy, Request, Retried, Timeouts};
use testkit::{RequestLog, Script, Server, Step, refused_port};

use crate::expectations::SOON;

#[test]
fn a_row_that_was_late_goes_out_again_though_nothing_else_happens() {
    let server = Server::serve();
    let client = Client::builder().threads(1).build().unwrap();
    let span = Duration::from_millis(100);
    let mut timeouts = Timeouts::default();
    timeouts.first_byte = Some(span);
    let backoff = Backoff { base: span, cap: span };
    let policy = Policy::default().timeouts(timeouts).retries(2).backoff(backoff);
    let begin = Instant::now();
    let row = Request::get(server.url("/flaky/late?fail=2&status=hang"));
    let outcomes = client.run([row], &policy);
    assert!(begin.elapsed() < 4 * span + SOON, "{:?}", begin.elapsed());
    assert!(outcomes[0].is_ok(), "{outcomes:?}");
    assert_eq!(outcomes[0].earlier, [Attempt::Failed(Kind::TimeoutFirstByte); 2]);
    assert_eq!(server.visits()["late"].values().sum::<u64>(), 3);
}

#[test]
fn h10_rows_that_the_budget_keeps_from_going_again_say_so_and_their_origin_is_told_once() {
    const ROWS: usize = 20;
    const BUDGET: usize = ROWS / 5 + 10;
    let server = Server::serve();
    let client = Client::builder().threads(1).build().unwrap();
    let backoff = Backoff { base: Duration::from_millis(5), cap: Duration::from_millis(5) };
    let policy = Policy::default().retries(1).backoff(backoff);
    let run = client.begin(&policy);
    run.admit((0..ROWS).map(|_| Request::get(server.url("/flaky/down?fail=99"))));
    run.close();
    let mut outcomes = Vec::new();
    while !run.is_finished() {
        outcomes.extend(run.wait(ROWS, SOON));
    }
    // Who was sent as often as `retries` allows was not kept from anything.
    let kept = |own: &&loamy::Outcome| own.over_budget && own.attempts == 1;
    let sent_again = |own: &&loamy::Outcome| !own.over_budget && own.attempts == 2;
    assert_eq!(outcomes.iter().filter(kept).count(), ROWS - BUDGET, "{outcomes:?}");
    assert_eq!(outcomes.iter().filter(sent_again).count(), BUDGET, "{outcomes:?}");
    let origin = server.url("");
    assert_eq!(run.take_spent_budgets(), [origin.trim_start_matches("http://").trim_end_matches('/')]);
    assert_eq!(run.take_spent_budgets(), [""; 0]);
    assert_eq!(server.visits()["down"].values().sum::<u64>(), (ROWS + BUDGET) as u64);
}

#[test]
fn h10_the_error_of_a_row_that_the_budget_keeps_from_going_again_has_it_in_its_hint() {
    const BUDGET: u32 = 10;
    let client = Client::builder().threads(1).build().unwrap();
    let backoff = Backoff { base: Duration::from_millis(1), cap: Duration::from_millis(1) };
    let policy = Policy::default().retries(99).backoff(backoff);
    let port = refused_port();
    let [outcome] = &client.run([Request::get(format!("http://127.0.0.1:{port}/"))], &policy)[..] else {
        panic!("one row has one outcome");
    };
    assert_eq!((outcome.attempts, outcome.over_budget), (BUDGET + 1, true));
    let error = outcome.result.as_ref().unwrap_err();
    let hint = error.hint().unwrap();
    assert!(hint.starts_with(&format!("nothing listens on port {port} of this machine")), "{hint}");
    let budget = format!("; not sent again: the budget of retries of 127.0.0.1:{port} is used up");
    assert!(hint.ends_with(&budget), "{hint}");
}

#[test]
fn rows_that_came_by_a_redirect_count_for_what_an_origin_is_worth() {
    const ROWS: usize = 200;
    let busy = || {
        Server::start(Script::new([
            Step::ReadRequest,
            Step::send("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"),
            Step::Again,
        ]))
    };
    let client = Client::builder().threads(1).build().unwrap();
    let span = Duration::from_millis(1);
    let policy = Policy::default().retries(1).backoff(Backoff { base: span, cap: span });
    for overrides in [Overrides::default(), Overrides::default().limit_key("both")] {
        let busy = busy();
        let there = busy.url("/");
        let answer = move |_: &RequestLog| {
            format!("HTTP/1.1 307 There\r\nLocation: {there}\r\nContent-Length: 0\r\n\r\n").into_bytes()
        };
        let moved = Server::start(Script::new([Step::ReadRequest, Step::answer(answer), Step::Again]));
        let row = |_| Request::get(moved.url("/")).overrides(overrides.clone());
        let outcomes = client.run((0..ROWS).map(row), &policy);
        assert!(outcomes.iter().all(|own| own.response().is_some_and(|answer| answer.status() == 503)));
        // 20 % of its rows and 10.
        assert_eq!(busy.counts().requests, (ROWS + ROWS / 5 + 10) as u64, "{overrides:?}");
    }
}

#[test]
fn a_post_that_was_answered_and_sent_again_is_in_doubt_when_the_second_sending_fails() {
    for (status, in_doubt) in [("503 Busy", true), ("429 Wait", false)] {
        let answer = format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
        let server = Server::start(Script::new([Step::ReadRequest, Step::send(answer), Step::Close]));
        let client = Client::builder().threads(1).build().unwrap();
        let span = Duration::from_millis(500);
        let policy =
            Policy::default().retries(1).retried(Retried::All).backoff(Backoff { base: span, cap: span });
        let run = client.begin(&policy);
        run.admit([Request::post(server.url("/"), "x")]);
        run.close();
        let until = Instant::now() + SOON;
        while run.progress().retrying == 0 && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(server.counts().requests, 1);
        drop(server);
        let outcomes = run.wait(1, 4 * SOON);
        let error = outcomes[0].result.as_ref().unwrap_err();
        assert_eq!((error.kind(), error.in_doubt()), (Kind::ConnectRefused, in_doubt), "{status}");
    }
}
