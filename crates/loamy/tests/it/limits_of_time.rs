//! How long a row may take, in each of its phases and in all, and how long a batch: asserted by the clock and by what the
//! server saw.
#![allow(
    clippy::disallowed_methods,
    reason = "the walls around the clock are the engine's; this drives it from outside"
)]

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use loamy::{Client, Dns, HttpVersion, Kind, Overrides, Policy, Request, Timeouts};
use testkit::{FullBacklog, Listen, Script, Server, Step};

use crate::expectations::{LATE, PATIENCE, all_answered, client, only_error, until};

#[track_caller]
fn on_time(begin: Instant, limit: Duration) {
    let elapsed = begin.elapsed();
    assert!(elapsed >= limit, "{elapsed:?} is before the limit of {limit:?}");
    assert!(elapsed <= limit + LATE, "{elapsed:?} is long after the limit of {limit:?}");
}

fn limits(set: impl FnOnce(&mut Timeouts)) -> Policy {
    let mut timeouts = Timeouts::default();
    set(&mut timeouts);
    Policy::default().timeouts(timeouts)
}

const SHORT: Duration = Duration::from_millis(300);

#[test]
fn c5_no_connection_in_time_is_named_after_the_limit_that_passed() {
    let silent = FullBacklog::new().unwrap();
    for (policy, kind) in [
        (limits(|limits| limits.connect = Some(SHORT)), Kind::TimeoutConnect),
        (limits(|limits| limits.acquire = Some(SHORT)), Kind::TimeoutAcquire),
        (limits(|limits| limits.total = Some(SHORT)), Kind::TimeoutConnect),
    ] {
        let begin = Instant::now();
        let outcomes = client(1).run([Request::post(silent.url("/"), "x")], &policy);
        on_time(begin, SHORT);
        let error = only_error(&outcomes);
        assert_eq!((error.kind(), error.in_doubt(), error.bytes_sent()), (kind, false, 0));
    }
}

#[test]
fn a_look_up_that_takes_too_long_is_a_timeout_of_its_own_name() {
    let server = Server::serve();
    let gate = Arc::new((Mutex::new(false), Condvar::new()));
    let (asked, keeper) = (Arc::new(AtomicUsize::new(0)), Arc::clone(&gate));
    let counter = Arc::clone(&asked);
    let dns = Dns::Fixed(Arc::new(move |_| {
        counter.fetch_add(1, Ordering::SeqCst);
        let opened = keeper.1.wait_while(keeper.0.lock().unwrap(), |opened| !*opened);
        drop(opened);
        Ok(vec![Ipv4Addr::LOCALHOST.into()])
    }));
    let client = Client::builder().threads(2).dns(dns).build().unwrap();
    let url = format!("http://slow.test:{}/json", server.port());
    thread::scope(|scope| {
        // The function given is called on the thread that needs the answer first; another waits for it meanwhile.
        let first = scope.spawn(|| client.run([url.as_str()], &Policy::default()));
        until(|| asked.load(Ordering::SeqCst) == 1);
        let begin = Instant::now();
        let outcomes = client.run([url.as_str()], &limits(|limits| limits.resolve = Some(SHORT)));
        on_time(begin, SHORT);
        *gate.0.lock().unwrap() = true;
        gate.1.notify_all();
        let error = only_error(&outcomes);
        assert_eq!((error.kind(), error.in_doubt()), (Kind::TimeoutResolve, false));
        all_answered(&first.join().unwrap(), 1);
    });
    assert_eq!(asked.load(Ordering::SeqCst), 1, "whoever waits does not ask again");
}

#[test]
fn c10_a_server_that_does_not_read_is_a_timeout_of_writing() {
    let listen = Listen { receive_buffer: Some(4096), ..Listen::default() };
    let server = Server::start(Script::new([Step::Hold]).listen(listen));
    let body = vec![b'x'; 32 << 20];
    for (method, in_doubt) in [("POST", true), ("PUT", false)] {
        let begin = Instant::now();
        let row = Request::new(method, server.url("/")).body(body.clone());
        let outcomes = client(1).run([row], &limits(|limits| limits.write = Some(SHORT)));
        on_time(begin, SHORT);
        let error = only_error(&outcomes);
        assert_eq!((error.kind(), error.in_doubt()), (Kind::TimeoutWrite, in_doubt));
        assert!((1..32 << 20).contains(&error.bytes_sent()), "{error:?}");
    }
}

#[test]
fn silence_before_the_response_a_pause_in_it_and_slowness_in_all_are_told_apart() {
    let silent = Server::serve();
    let paused = Server::start(
        Script::parse(["read", "send HTTP/1.1 200 OK\\r\\nContent-Length: 9\\r\\n\\r\\nhalf", "hold"])
            .unwrap(),
    );
    let slow = Server::start(
        Script::parse([
            "read",
            "send HTTP/1.1 200 OK\\r\\nContent-Length: 999\\r\\n\\r\\n",
            "repeat-every 20ms forever x",
        ])
        .unwrap(),
    );
    let first_byte = limits(|limits| limits.first_byte = Some(SHORT));
    let read = limits(|limits| limits.read = Some(SHORT));
    let both = limits(|limits| (limits.read, limits.total) = (Some(SHORT / 2), Some(SHORT)));
    for (url, policy, kind, answered) in [
        (silent.url("/hang"), &first_byte, Kind::TimeoutFirstByte, false),
        (silent.url("/hang"), &Policy::default().timeout(SHORT), Kind::TimeoutTotal, false),
        (paused.url("/"), &read, Kind::TimeoutRead, true),
        (slow.url("/"), &both, Kind::TimeoutTotal, true),
    ] {
        let begin = Instant::now();
        let outcomes = client(1).run([Request::post(url, "x")], policy);
        on_time(begin, SHORT);
        let error = only_error(&outcomes);
        assert_eq!((error.kind(), error.response().is_some()), (kind, answered), "{error}");
        // A POST that has no whole answer may have taken effect, even where the answer had begun.
        assert!(error.in_doubt(), "{error}");
        assert!(outcomes[0].timing.elapsed >= SHORT, "{:?}", outcomes[0].timing);
    }
}

#[test]
fn the_clock_of_a_row_does_not_run_while_it_waits_for_a_slot() {
    let server = Server::serve();
    let policy = Policy::default().concurrency(1).timeout(Duration::from_millis(700));
    all_answered(&client(1).run((0..8).map(|_| server.url("/delay/0.2")), &policy), 8);
}

#[test]
fn a_rows_own_limit_holds_for_it_alone() {
    let server = Server::serve();
    let mut own = Timeouts::default();
    own.total = Some(SHORT);
    let rows = [
        Request::get(server.url("/delay/0.8")),
        Request::get(server.url("/delay/0.8")).overrides(Overrides::default().timeouts(own)),
        Request::get(server.url("/delay/0.8")),
    ];
    let outcomes = client(1).run(rows, &Policy::default());
    assert!(outcomes[0].is_ok() && outcomes[2].is_ok(), "{outcomes:?}");
    assert_eq!(outcomes[1].result.as_ref().unwrap_err().kind(), Kind::TimeoutTotal);
}

#[test]
fn a_rows_own_limit_to_connect_takes_no_other_row_with_it() {
    let silent = FullBacklog::new().unwrap();
    let mut own = Timeouts::default();
    own.connect = Some(Duration::from_millis(50));
    let rows = (0..8).map(|row| {
        let request = Request::get(silent.url("/"));
        if row == 0 { request.overrides(Overrides::default().timeouts(own)) } else { request }
    });
    let run = client(1).begin(&Policy::default());
    run.admit(rows);
    run.close();
    let ended = run.wait(2, Duration::from_millis(50) + LATE);
    assert_eq!(ended.iter().map(|outcome| outcome.index).collect::<Vec<_>>(), [0], "{ended:?}");
    run.cancel();
}

#[test]
fn a_redirected_row_that_waits_for_its_next_slot_still_ends_in_time() {
    let silent = FullBacklog::new().unwrap();
    let server = Server::serve();
    // The other rows hold the silent origin's only slot for far longer than the redirected row may take.
    let target = silent.url("/").replace(':', "%3A").replace('/', "%2F");
    let mut own = Timeouts::default();
    own.total = Some(SHORT);
    let redirected = Request::get(server.url(&format!("/redirect-to?url={target}")))
        .overrides(Overrides::default().timeouts(own));
    let run = client(1).begin(&Policy::default());
    run.admit([Request::get(silent.url("/"))]);
    until(|| run.progress().in_flight == 1);
    run.admit([redirected]);
    run.close();
    let begin = Instant::now();
    let ended = run.wait(1, SHORT + LATE);
    assert_eq!(
        ended.iter().map(|outcome| outcome.index).collect::<Vec<_>>(),
        [1],
        "after {:?}",
        begin.elapsed()
    );
    run.cancel();
}

#[test]
fn limits_without_end_are_no_limits() {
    let server = Server::serve();
    let endless = Some(Duration::MAX);
    let policy = limits(|limits| {
        (limits.acquire, limits.resolve, limits.connect) = (endless, endless, endless);
        (limits.write, limits.first_byte, limits.read, limits.total) = (endless, endless, endless, endless);
    });
    let (sender, receiver) = mpsc::channel();
    let url = server.url("/json");
    thread::spawn(move || sender.send(client(1).run([url], &policy.deadline(Duration::MAX))));
    let outcomes = receiver.recv_timeout(PATIENCE).expect("the call returns");
    all_answered(&outcomes, 1);
}

#[test]
fn the_deadline_of_the_batch_ends_what_is_in_flight_and_leaves_the_rest_unsent() {
    let server = Server::serve();
    let policy = Policy::default().concurrency(4).deadline(SHORT);
    let begin = Instant::now();
    let outcomes = client(2).run((0..200).map(|_| server.url("/hang")), &policy);
    on_time(begin, SHORT);
    assert!(outcomes.iter().map(|outcome| outcome.index).eq(0..200));
    let mut kinds: HashMap<Kind, usize> = HashMap::new();
    for outcome in &outcomes {
        *kinds.entry(outcome.result.as_ref().unwrap_err().kind()).or_default() += 1;
    }
    assert_eq!(kinds, HashMap::from([(Kind::TimeoutTotal, 4), (Kind::NotSent, 196)]));
    assert_eq!(server.counts().requests, 4);
}

#[test]
fn a_connect_limit_of_one_row_ends_no_other_that_waits_for_the_same_connection() {
    const SHORT: Duration = Duration::from_millis(100);
    const LONG: Duration = Duration::from_millis(800);
    let silent = FullBacklog::new().unwrap();
    let client = client(1);
    let begun = |limit: Duration| {
        let mut timeouts = Timeouts::default();
        timeouts.connect = Some(limit);
        let run = client.begin(&Policy::default().http_version(HttpVersion::Http2).timeouts(timeouts));
        run.admit([Request::get(silent.url("/"))]);
        run.close();
        run
    };
    let begin = Instant::now();
    let (hasty, patient) = (begun(SHORT), begun(LONG));
    for (run, limit) in [(hasty, SHORT), (patient, LONG)] {
        let outcomes = run.wait(1, PATIENCE);
        assert_eq!(only_error(&outcomes).kind(), Kind::TimeoutConnect);
        assert!(begin.elapsed() >= limit, "after {:?}, with {limit:?} to connect", begin.elapsed());
    }
}
