//! Every way into the engine: `run`, `stream` and their asynchronous twins, inside and outside of runtimes.
#![allow(
    clippy::disallowed_methods,
    reason = "the walls around clock and runtimes are the engine's; this drives it from outside"
)]

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::mpsc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use futures_core::Stream;
use loamy::{Bytes, Kind, Order, Outcome, Policy, Request, Run};
use testkit::{Options, Server};
use tokio::runtime::{Builder, Runtime};

use crate::expectations::{IN_TRANSIT, INTERRUPT, PATIENCE, client};

fn numbered(server: &Server, rows: usize) -> Vec<String> {
    (0..rows).map(|row| server.url(&format!("/anything/{row}"))).collect()
}

#[track_caller]
fn is_own(outcome: &Outcome) {
    let body = String::from_utf8_lossy(outcome.response().unwrap().body()).into_owned();
    assert!(
        outcome.is_ok() && body.contains(&format!("/anything/{}\"", outcome.index)),
        "{outcome:?} {body}"
    );
}

#[track_caller]
fn all_own(outcomes: &[Outcome], rows: usize) {
    assert!(outcomes.iter().map(|outcome| outcome.index).eq(0..rows), "one outcome a row, in order");
    outcomes.iter().for_each(is_own);
}

/// Runs the work on a thread of its own; a call that hangs fails the test instead of holding it.
#[track_caller]
fn returns<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || sender.send(work()));
    receiver.recv_timeout(PATIENCE).expect("the call returns")
}

fn current_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn multi_thread() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// An executor of our own: one task, and the thread sleeps until it is woken.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    let give_up = Instant::now() + PATIENCE;
    loop {
        if let Poll::Ready(done) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return done;
        }
        assert!(Instant::now() < give_up, "nobody woke the task");
        thread::park_timeout(PATIENCE);
    }
}

async fn collect<S: Stream<Item = Outcome> + Unpin>(mut stream: S) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    while let Some(outcome) = poll_fn(|context| Pin::new(&mut stream).poll_next(context)).await {
        outcomes.push(outcome);
    }
    assert!(
        poll_fn(|context| Pin::new(&mut stream).poll_next(context)).await.is_none(),
        "the end stays the end"
    );
    outcomes
}

#[test]
fn a1_an_empty_list_returns_at_once_by_every_door() {
    let (client, policy, none) = (client(1), Policy::default(), || Vec::<Request>::new());
    let begin = Instant::now();
    assert!(client.run(none(), &policy).is_empty());
    assert!(client.stream(none(), &policy, Order::AsGiven).next().is_none());
    assert!(block_on(client.run_async(none(), &policy)).is_empty());
    assert!(block_on(collect(client.stream_async(none(), &policy, Order::AsDone))).is_empty());
    assert!(begin.elapsed() < INTERRUPT, "{:?}", begin.elapsed());
}

#[test]
fn run_gives_the_outcomes_in_the_order_of_the_rows() {
    let server = Server::serve();
    all_own(&client(2).run(numbered(&server, 500), &Policy::default()), 500);
}

#[test]
fn p2_run_and_stream_work_inside_a_running_tokio_runtime_of_either_flavour() {
    for runtime in [current_thread, multi_thread] {
        returns(move || {
            let (server, policy) = (Server::serve(), Policy::default());
            runtime().block_on(async {
                let client = client(2);
                all_own(&client.run(numbered(&server, 200), &policy), 200);
                all_own(
                    &client.stream(numbered(&server, 200), &policy, Order::AsGiven).collect::<Vec<_>>(),
                    200,
                );
            });
        });
    }
}

#[test]
fn run_async_works_on_tokio_and_on_any_other_executor() {
    let server = Server::serve();
    let (client, policy) = (client(2), Policy::default());
    let rows = || numbered(&server, 300);
    all_own(&current_thread().block_on(client.run_async(rows(), &policy)), 300);
    all_own(&multi_thread().block_on(client.run_async(rows(), &policy)), 300);
    all_own(&block_on(client.run_async(rows(), &policy)), 300);
}

#[test]
fn run_async_may_be_spawned_and_many_go_on_at_once_on_one_thread() {
    let server = Server::serve();
    let client = client(2);
    let runtime = current_thread();
    let begin = Instant::now();
    let tasks: Vec<_> = (0..10)
        .map(|_| {
            let (client, rows) = (client.clone(), vec![server.url("/delay/0.3"); 3]);
            runtime.spawn(async move { client.run_async(rows, &Policy::default()).await })
        })
        .collect();
    for task in tasks {
        let outcomes = runtime.block_on(task).unwrap();
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 3);
    }
    // One after the other they would take 3 s and more.
    assert!(begin.elapsed() < Duration::from_millis(2_500), "{:?}", begin.elapsed());
}

#[test]
fn stream_async_works_on_tokio_and_on_any_other_executor_in_both_orders() {
    let server = Server::serve();
    let (client, policy) = (client(2), Policy::default().concurrency(5));
    for order in [Order::AsGiven, Order::AsDone] {
        let stream = || client.stream_async(numbered(&server, 300), &policy, order);
        for mut outcomes in [
            current_thread().block_on(collect(stream())),
            multi_thread().block_on(collect(stream())),
            block_on(collect(stream())),
        ] {
            if order == Order::AsDone {
                outcomes.sort_by_key(|outcome| outcome.index);
            }
            all_own(&outcomes, 300);
        }
    }
}

#[test]
fn dropping_the_future_of_run_async_cancels_the_batch() {
    let server = Server::serve();
    let client = client(1);
    let policy = Policy::default().concurrency(3);
    let mut future = Box::pin(client.run_async(vec![server.url("/hang"); 50], &policy));
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    assert!(future.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    server.wait_for(|log| log.counts.requests == 3, PATIENCE);
    let begin = Instant::now();
    drop(future);
    assert!(begin.elapsed() <= INTERRUPT, "{:?}", begin.elapsed());
    server.wait_for(|log| log.counts.ended == 3, PATIENCE);
    thread::sleep(IN_TRANSIT);
    assert_eq!(server.counts().requests, 3);
}

#[test]
fn a_stream_yields_in_the_order_asked_for() {
    let server = Server::serve();
    let (client, policy) = (client(1), Policy::default().concurrency(8));
    let rows = || (0..30).map(|row| server.url(if row == 0 { "/delay/0.4" } else { "/json" }));
    let given: Vec<_> = client.stream(rows(), &policy, Order::AsGiven).map(|outcome| outcome.index).collect();
    assert!(given.iter().copied().eq(0..30), "{given:?}");
    let done: Vec<_> = client.stream(rows(), &policy, Order::AsDone).map(|outcome| outcome.index).collect();
    assert_eq!(done.last(), Some(&0), "the slow row ends last: {done:?}");
    let mut sorted = done.clone();
    sorted.sort_unstable();
    assert!(sorted.iter().copied().eq(0..30), "{done:?}");
}

#[test]
fn a_stream_asks_for_no_more_rows_than_four_times_concurrency_beyond_those_yielded() {
    let server = Server::serve();
    let client = client(2);
    for (order, concurrency) in
        [(Order::AsGiven, 1), (Order::AsDone, 1), (Order::AsGiven, 6), (Order::AsDone, 6)]
    {
        let (asked, yielded, most) = (Cell::new(0), Cell::new(0), Cell::new(0));
        let rows = (0_u64..).map(|row| {
            asked.set(asked.get() + 1);
            most.set(most.get().max(asked.get() - yielded.get()));
            server.url(&format!("/anything/{row}"))
        });
        let mut stream = client.stream(rows, &Policy::default().concurrency(concurrency), order);
        assert_eq!(asked.get(), 0, "nothing is asked for before the first outcome is");
        for _ in 0..200 {
            is_own(&stream.next().unwrap());
            yielded.set(yielded.get() + 1);
        }
        assert_eq!(most.get(), 4 * concurrency, "{order:?} {concurrency}");
        thread::sleep(IN_TRANSIT);
        assert!(server.counts().requests > 0 && asked.get() <= yielded.get() + 4 * concurrency);
    }
}

#[test]
fn dropping_a_stream_cancels_what_is_left() {
    let server = Server::serve();
    let client = client(2);
    let rows = (0_u64..).map(|row| server.url(if row == 0 { "/json" } else { "/hang" }));
    let mut stream = client.stream(rows, &Policy::default().concurrency(4), Order::AsDone);
    assert_eq!(stream.next().unwrap().index, 0);
    server.wait_for(|log| log.counts.in_flight == 4, PATIENCE);
    let seen = server.counts();
    let begin = Instant::now();
    drop(stream);
    assert!(begin.elapsed() <= INTERRUPT, "{:?}", begin.elapsed());
    server.wait_for(|log| log.counts.in_flight == 0 && log.counts.open == 0, PATIENCE);
    assert_eq!(server.counts().requests, seen.requests);
}

#[test]
fn a_client_that_is_dropped_closes_its_connections_even_after_a_stream_was_left_half_way() {
    let server = Server::serve();
    let client = client(1);
    let mut stream = client.stream(
        (0_u64..).map(|_| server.url("/json")),
        &Policy::default().concurrency(2),
        Order::AsDone,
    );
    assert!(stream.next().unwrap().is_ok());
    // All that was admitted is answered by now: nothing is left to cancel.
    server.wait_for(|log| log.counts.requests == 8, PATIENCE);
    thread::sleep(IN_TRANSIT);
    drop(stream);
    drop(client);
    // Far less than the time after which idle connections are closed anyway.
    server.wait_for(|log| log.counts.open == 0, Duration::from_secs(5));
}

#[test]
fn two_streams_taken_in_turn_share_one_client() {
    let server = Server::serve();
    let (client, policy) = (client(1), Policy::default().concurrency(2));
    let one = client.stream(numbered(&server, 100), &policy, Order::AsGiven);
    let other = client.stream(numbered(&server, 100), &policy, Order::AsGiven);
    let mut pairs = 0;
    for (one, other) in one.zip(other) {
        is_own(&one);
        is_own(&other);
        assert_eq!((one.index, other.index), (pairs, pairs));
        pairs += 1;
    }
    assert_eq!(pairs, 100);
}

#[test]
fn rows_may_be_made_by_calls_of_the_same_client() {
    returns(|| {
        let server = Server::serve();
        let client = client(1);
        let rows = (0..9_000).map(|row| {
            if row % 900 == 899 {
                all_own(&client.run(numbered(&server, 2), &Policy::default()), 2);
            }
            server.url(&format!("/anything/{row}"))
        });
        all_own(&client.run(rows, &Policy::default()), 9_000);
    });
}

/// How long an iterator takes for one row.
const SLOW_ROW: Duration = Duration::from_secs(1);

#[test]
fn a_slow_iterator_holds_up_no_other_batch_and_not_its_own() {
    let server = Server::serve();
    let client = client(1);
    let begun = mpsc::channel();
    thread::scope(|scope| {
        let (client, server, begun_sender) = (&client, &server, begun.0);
        scope.spawn(move || {
            let rows = (0..8_200).map(|row| {
                if row == 8_199 {
                    begun_sender.send(()).unwrap();
                    thread::sleep(SLOW_ROW);
                }
                server.url(&format!("/anything/{row}"))
            });
            all_own(&client.run(rows, &Policy::default()), 8_200);
        });
        begun.1.recv_timeout(PATIENCE).unwrap();
        let begin = Instant::now();
        all_own(&client.run(numbered(server, 20), &Policy::default()), 20);
        assert!(begin.elapsed() < SLOW_ROW * 3 / 5, "waited for another's iterator: {:?}", begin.elapsed());
    });
}

#[test]
fn a13_an_iterator_that_panics_midway_leaves_the_client_whole() {
    let server = Server::serve();
    let client = client(2);
    let policy = Policy::default().concurrency(4);
    let rows = |bad: usize| (0..3_000).map(move |row| if row == bad { panic!("row {row}") } else { row });
    for bad in [0, 7, 2_999] {
        let url = |row: usize| server.url(&format!("/anything/{row}"));
        let called: [&dyn Fn() -> usize; 3] = [
            &|| client.run(rows(bad).map(url), &policy).len(),
            &|| client.stream(rows(bad).map(url), &policy, Order::AsDone).count(),
            &|| block_on(client.run_async(rows(bad).map(url), &policy)).len(),
        ];
        for call in called {
            let panic = catch_unwind(AssertUnwindSafe(call)).expect_err("the panic is the caller's");
            assert_eq!(panic.downcast_ref::<String>(), Some(&format!("row {bad}")));
        }
    }
    let seen = server.wait_for(|log| log.counts.in_flight == 0, PATIENCE).counts.requests;
    thread::sleep(IN_TRANSIT);
    assert_eq!(server.counts().requests, seen, "what was begun is cancelled");
    all_own(&client.run(numbered(&server, 50), &policy), 50);
}

#[test]
fn outcomes_that_a_stream_yielded_before_its_iterator_panicked_are_good() {
    let server = Server::serve();
    let rows = (0..100)
        .map(|row| if row == 60 { panic!("row 60") } else { server.url(&format!("/anything/{row}")) });
    let client = client(1);
    let mut stream = client.stream(rows, &Policy::default().concurrency(2), Order::AsGiven);
    let mut yielded = 0;
    let panic = catch_unwind(AssertUnwindSafe(|| {
        for outcome in stream.by_ref() {
            is_own(&outcome);
            yielded += 1;
        }
    }));
    assert!(panic.is_err());
    assert!(yielded >= 48, "only {yielded} rows were yielded, though the window is 8");
}

#[test]
fn a_policy_that_cannot_be_followed_is_the_outcome_of_every_row_by_every_door() {
    returns(|| {
        let server = Server::serve();
        let client = client(1);
        for (policy, field) in [
            (Policy::default().concurrency(0), "concurrency"),
            (Policy::default().per_host(0), "per_host"),
            (Policy::default().threads(0), "threads"),
            (Policy::default().deadline(Duration::ZERO), "deadline"),
        ] {
            let rows = || numbered(&server, 5);
            for outcomes in [
                client.run(rows(), &policy),
                client.stream(rows(), &policy, Order::AsGiven).collect(),
                block_on(client.run_async(rows(), &policy)),
                block_on(collect(client.stream_async(rows(), &policy, Order::AsGiven))),
            ] {
                assert!(outcomes.iter().map(|outcome| outcome.index).eq(0..5), "{field}: {outcomes:?}");
                for outcome in outcomes {
                    let error = outcome.result.unwrap_err();
                    assert_eq!((error.kind(), outcome.attempts), (Kind::BadRequest, 0));
                    assert!(error.message().starts_with(field), "{error}");
                }
            }
        }
        assert_eq!(server.counts().connections, 0);
    });
}

#[test]
fn a_bad_row_is_the_outcome_of_its_index_and_stops_nobody() {
    let server = Server::serve();
    let rows = (0..50).map(|row| match row % 10 {
        3 => Request::get("no scheme"),
        6 => Request::new("get", server.url("/json")),
        9 => Request::get(server.url("/json")).header("bad name", "x"),
        _ => Request::get(server.url(&format!("/anything/{row}"))),
    });
    let outcomes = client(1).run(rows, &Policy::default());
    assert!(outcomes.iter().map(|outcome| outcome.index).eq(0..50));
    for outcome in &outcomes {
        if matches!(outcome.index % 10, 3 | 6 | 9) {
            assert_eq!(outcome.result.as_ref().unwrap_err().kind(), Kind::BadRequest);
        } else {
            is_own(outcome);
        }
    }
    assert_eq!(server.counts().requests, 35);
}

#[test]
fn a_request_of_the_http_crate_is_sent_whole_and_its_response_comes_back_whole() {
    let server = Server::serve_with(Options { keep_log: true, ..Options::default() });
    let request = http::Request::builder()
        .method("PATCH")
        .uri(server.url("/echo?a=b"))
        .header("x-one", "1")
        .header("x-one", "2")
        .header("content-type", "text/plain")
        .body(Bytes::from_static(b"a body"))
        .unwrap();
    let outcome = client(1).run([request], &Policy::default()).remove(0);
    let log = server.log();
    let seen = &log.requests[0];
    assert_eq!((&*seen.method, &*seen.target, &*seen.body), ("PATCH", "/echo?a=b", &b"a body"[..]));
    assert_eq!(seen.header_values("x-one").collect::<Vec<_>>(), [b"1", b"2"]);
    let response = outcome.result.unwrap().into_http().unwrap();
    assert_eq!((response.status().as_u16(), response.version()), (200, http::Version::HTTP_11));
    assert_eq!(response.headers()["content-type"], "text/plain");
    assert_eq!(response.body(), &Bytes::from_static(b"a body"));
}

#[test]
fn repeated_fields_of_a_response_are_kept_in_the_terms_of_the_http_crate() {
    let server = Server::serve();
    let url = server.url("/response-headers?Set-Cookie=a&Set-Cookie=b&X=y");
    let outcome = client(1).run([url], &Policy::default()).remove(0);
    let response = outcome.result.unwrap().into_http().unwrap();
    let cookies: Vec<_> = response.headers().get_all("set-cookie").iter().collect();
    assert_eq!(cookies, ["a", "b"]);
    assert_eq!(response.headers()["x"], "y");
}

#[test]
fn client_and_run_are_shared_between_threads_and_their_futures_may_be_sent() {
    fn shared<T: Send + Sync>(_: &T) {}
    fn cloned<T: Clone>(own: &T) -> T {
        own.clone()
    }
    fn sent<T: Send>(_: &T) {}
    let client = client(1);
    shared(&client);
    let policy = Policy::default();
    let run: Run = cloned(&client).begin(&policy);
    shared(&run);
    sent(&client.run_async(vec!["http://127.0.0.1:1/"], &policy));
    sent(&client.stream(vec!["http://127.0.0.1:1/"], &policy, Order::AsDone));
    sent(&client.stream_async(vec!["http://127.0.0.1:1/"], &policy, Order::AsDone));
}

#[test]
fn a_clone_uses_the_connections_of_its_original() {
    let server = Server::serve();
    let client = client(1);
    all_own(&client.run(numbered(&server, 1), &Policy::default()), 1);
    let clone = client.clone();
    drop(client);
    all_own(&clone.run(numbered(&server, 1), &Policy::default()), 1);
    assert_eq!(server.counts().connections, 1);
}

#[test]
fn rows_admitted_late_and_from_several_threads_go_on_in_one_numbering() {
    let server = Server::serve();
    let run = client(2).begin(&Policy::default().concurrency(8));
    thread::scope(|scope| {
        for _ in 0..8 {
            let (run, server) = (&run, &server);
            scope.spawn(move || (0..25).for_each(|_| run.admit([Request::get(server.url("/json"))])));
        }
    });
    let mut outcomes = run.wait(200, PATIENCE);
    assert!(!run.is_finished(), "rows may still come");
    run.admit([Request::get(server.url("/json"))]);
    run.close();
    while !run.is_finished() {
        outcomes.extend(run.wait(1, PATIENCE));
    }
    outcomes.sort_by_key(|outcome| outcome.index);
    assert!(outcomes.iter().map(|outcome| outcome.index).eq(0..201));
    assert!(outcomes.iter().all(Outcome::is_ok));
}

#[test]
fn the_progress_of_a_run_counts_every_row_once() {
    let server = Server::serve();
    let run = client(1).begin(&Policy::default().concurrency(3));
    run.admit((0..20).map(|row| match row {
        0 => Request::get("bad"),
        _ => Request::get(server.url("/delay/0.01")),
    }));
    run.close();
    while !run.is_finished() {
        let progress = run.progress();
        assert_eq!(progress.waiting + progress.in_flight + progress.settled, 20, "{progress:?}");
        assert!(progress.in_flight <= 3, "{progress:?}");
        drop(run.wait(1, PATIENCE));
    }
    let progress = run.progress();
    assert_eq!((progress.waiting, progress.in_flight, progress.settled, progress.failed), (0, 0, 20, 1));
}

#[test]
fn a2_requests_of_the_http_crate_have_methods_that_any_row_may_have() {
    let server = Server::serve();
    let request = |method: &str| {
        let url = server.url("/anything");
        http::Request::builder().method(method).uri(url).body(Bytes::new()).unwrap()
    };
    let outcomes = client(1).run(["CONNECT", "get", "PURGE"].map(request), &Policy::default());
    let kinds: Vec<_> =
        outcomes.iter().map(|own| own.result.as_ref().err().map(loamy::Error::kind)).collect();
    assert_eq!(kinds, [Some(Kind::BadRequest), Some(Kind::BadRequest), None]);
    assert_eq!(server.counts().requests, 1);
}

#[test]
fn a_wait_ends_when_its_time_is_over() {
    let server = Server::serve();
    let run = client(1).begin(&Policy::default());
    run.admit([Request::get(server.url("/hang"))]);
    let begin = Instant::now();
    assert!(run.wait(1, Duration::from_millis(200)).is_empty());
    assert!(
        (Duration::from_millis(200)..Duration::from_millis(900)).contains(&begin.elapsed()),
        "{:?}",
        begin.elapsed()
    );
    run.cancel();
    let outcomes = run.wait(1, Duration::MAX);
    assert_eq!(outcomes[0].result.as_ref().unwrap_err().kind(), Kind::Cancelled);
}
