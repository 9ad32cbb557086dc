//! A run that is cancelled: how soon its call returns, what becomes of its rows, that nothing is written afterwards, and that
//! whoever waits for a run learns of its end.
#![allow(
    clippy::disallowed_methods,
    reason = "the walls around the clock are the engine's; this drives it from outside"
)]

use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use loamy::{Client, Dns, HttpVersion, Kind, Policy, Request};
use testkit::{Ending, Listen, Script, Server, Step};

use crate::expectations::{IN_TRANSIT, INTERRUPT, LATE, PATIENCE, client, kept, only_error, until};

#[test]
fn p1_a_cancelled_run_ends_within_200_ms_and_writes_no_byte_afterwards() {
    let server = kept();
    let upload = {
        let listen = Listen { receive_buffer: Some(64 << 10), ..Listen::default() };
        let slowly =
            (0..2_000).flat_map(|_| [Step::ReadBytes(16 << 10), Step::Wait(Duration::from_millis(2))]);
        Server::start(Script::new([Step::ReadHead].into_iter().chain(slowly)).listen(listen))
    };
    let client = client(4);
    let run = client.begin(&Policy::default().concurrency(12).threads(4));
    let body = vec![b'x'; 64 << 20];
    run.admit((0..3).map(|_| Request::post(upload.url("/"), body.clone())));
    run.admit((0..2_000).map(|_| Request::get(server.url("/delay/0.01"))));
    run.close();
    server.wait_for(|log| log.counts.requests > 30, PATIENCE);
    upload.wait_for(|log| log.counts.bytes_received > 1 << 20, PATIENCE);
    let begin = Instant::now();
    run.cancel();
    let took = begin.elapsed();
    assert!(took <= INTERRUPT, "the interrupt took {took:?}");
    thread::sleep(IN_TRANSIT);
    let (seen, requests) = (server.counts().bytes_received, server.counts().requests);
    let outcomes = run.wait(usize::MAX, PATIENCE);
    assert!(run.is_finished());
    thread::sleep(IN_TRANSIT * 2);
    assert_eq!((server.counts().bytes_received, server.counts().requests), (seen, requests));
    // What the system had buffered may still be read; what was not yet written never comes.
    upload.wait_for(
        |log| log.counts.ended == 3 || log.connections.iter().all(|one| one.ended.is_some()),
        PATIENCE,
    );
    for connection in upload.into_log().connections {
        assert!(connection.received < 48 << 20, "{} bytes of the body arrived", connection.received);
    }
    let of = |kind| {
        outcomes
            .iter()
            .filter(|outcome| outcome.result.as_ref().is_err_and(|error| error.kind() == kind))
            .count()
    };
    let (cancelled, unsent) = (of(Kind::Cancelled), of(Kind::NotSent));
    assert!((1..=12).contains(&cancelled), "{cancelled} rows were in flight");
    assert!(unsent > 1_000, "{unsent} rows were never sent");
    let answered = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    assert_eq!(answered + cancelled + unsent, 2_003, "every row has its outcome");
}

/// By then the system's buffers are full, and it takes no more of a body that nobody reads.
const UNTIL_FULL: Duration = Duration::from_millis(700);

#[test]
fn p1_a_post_that_a_shared_connection_still_holds_is_in_doubt_when_its_batch_is_interrupted() {
    // SETTINGS with 100 streams and a window of 2^31 - 1 for each, as much for the connection; and nothing is read.
    let settings = [0, 0, 12, 4, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 100, 0, 4, 0x7f, 0xff, 0xff, 0xff];
    let window = [0, 0, 4, 8, 0, 0, 0, 0, 0, 0x7f, 0xff, 0, 0];
    let server = Server::start(Script::new([Step::send(settings), Step::send(window), Step::Hold]));
    let (client, policy) = (client(1), Policy::default().http_version(HttpVersion::Http2));
    let upload = client.begin(&policy);
    upload.admit([Request::post(server.url("/"), vec![0; 64 << 20])]);
    thread::sleep(UNTIL_FULL);
    let run = client.begin(&policy);
    run.admit([Request::post(server.url("/"), "")]);
    until(|| run.progress().in_flight == 1);
    thread::sleep(IN_TRANSIT);
    run.cancel();
    let outcomes = run.wait(1, Duration::ZERO);
    let error = only_error(&outcomes);
    assert_eq!((error.kind(), error.bytes_sent(), error.in_doubt()), (Kind::Cancelled, 0, true));
    assert_eq!((upload.progress().in_flight, server.counts().connections), (1, 1));
}

/// By then a thread that was just begun waits.
const ASLEEP: Duration = Duration::from_millis(100);

#[test]
fn a_cancel_wakes_the_thread_that_waits_for_the_run() {
    // A row holds the only worker's thread, so that nothing of the other run is in flight when it is cancelled.
    let gate = Arc::new((Mutex::new(false), Condvar::new()));
    let keeper = Arc::clone(&gate);
    let (asked, was_asked) = mpsc::channel();
    let dns = Dns::Fixed(Arc::new(move |_| {
        let _ = asked.send(());
        drop(keeper.1.wait_while(keeper.0.lock().unwrap(), |opened| !*opened));
        Err(std::io::Error::other("none"))
    }));
    let held = Client::builder().threads(1).dns(dns).build().unwrap();
    thread::scope(|scope| {
        let blocked = scope.spawn(|| held.run(["http://held.test/"], &Policy::default()));
        was_asked.recv_timeout(PATIENCE).expect("the look-up begins");
        let run = Arc::new(held.begin(&Policy::default()));
        run.admit([Request::get("http://waits.test/")]);
        run.close();
        let waiting = Arc::clone(&run);
        let waiter = scope.spawn(move || {
            let begin = Instant::now();
            (waiting.wait(usize::MAX, Duration::from_secs(5)), begin.elapsed())
        });
        thread::sleep(ASLEEP);
        run.cancel();
        let (outcomes, waited) = waiter.join().unwrap();
        *gate.0.lock().unwrap() = true;
        gate.1.notify_all();
        assert_eq!(only_error(&outcomes).kind(), Kind::NotSent);
        assert!(waited < Duration::from_secs(2), "the waiting thread was told after {waited:?}");
        assert_eq!(only_error(&blocked.join().unwrap()).kind(), Kind::Dns);
    });
}

#[test]
fn two_threads_that_wait_for_one_run_both_learn_of_its_end() {
    let server = Server::serve();
    let run = client(1).begin(&Policy::default());
    run.admit([Request::get(server.url("/count/0?takes=400ms"))]);
    run.close();
    let begin = Instant::now();
    thread::scope(|scope| {
        let patient = scope.spawn(|| run.wait(1_000, PATIENCE).len());
        thread::sleep(ASLEEP);
        assert!(run.wait(1, Duration::from_millis(50)).is_empty());
        assert_eq!(patient.join().unwrap(), 1);
    });
    assert!(begin.elapsed() < Duration::from_millis(400) + LATE, "{:?}", begin.elapsed());
}

#[test]
fn p1_no_body_is_written_without_its_head_when_a_batch_is_interrupted() {
    // Who takes it for a request does what nobody asked for.
    const BODY: &str = "GET /smuggled HTTP/1.1\r\nHost: nobody\r\n\r\n";
    let server = kept();
    let client = client(2);
    for round in 0..100 {
        let run = client.begin(&Policy::default().concurrency(32));
        run.admit((0..500).map(|_| Request::post(server.url("/post"), BODY)));
        run.close();
        run.wait(round, PATIENCE);
        run.cancel();
    }
    thread::sleep(IN_TRANSIT);
    let log = server.log();
    let smuggled = log.requests.iter().filter(|request| request.target != "/post").count();
    assert_eq!(smuggled, 0, "of {} requests", log.requests.len());
    for connection in &log.connections {
        assert!(!matches!(connection.ended, Some((_, Ending::Malformed(_)))), "{:?}", connection.ended);
    }
}
