//! How much at once, on which connections, for how long: asserted by what the server saw.
#![allow(
    clippy::disallowed_methods,
    reason = "the walls around the clock are the engine's; this drives it from outside"
)]

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Condvar, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use loamy::{Client, Dns, Duplicates, HttpVersion, Kind, Outcome, Overrides, Policy, Request, Timeouts};
use testkit::{Ending, Farewell, FullBacklog, Listen, Options, Script, Server, Step};

use crate::child;
use crate::expectations::{IN_TRANSIT, INTERRUPT, LATE, PATIENCE, all_answered, client, until};

/// A client that finds every name at these addresses, and how often it was asked.
fn client_with_names(threads: usize, addresses: &[IpAddr]) -> (Client, Arc<AtomicUsize>) {
    let (asked, addresses) = (Arc::new(AtomicUsize::new(0)), addresses.to_vec());
    let counter = Arc::clone(&asked);
    let dns = Dns::Fixed(Arc::new(move |_| {
        counter.fetch_add(1, Ordering::SeqCst);
        Ok(addresses.clone())
    }));
    (Client::builder().threads(threads).dns(dns).build().unwrap(), asked)
}

fn serve_at(address: impl Into<IpAddr>) -> Server {
    Server::serve_with(Options {
        listen: Listen { address: address.into(), ..Listen::default() },
        ..Options::default()
    })
}

fn kept() -> Server {
    Server::serve_with(Options { keep_log: true, ..Options::default() })
}

#[track_caller]
fn only_error(outcomes: &[Outcome]) -> &loamy::Error {
    let [outcome] = outcomes else { panic!("one row, {} outcomes", outcomes.len()) };
    outcome.result.as_ref().expect_err("the row fails")
}

#[track_caller]
fn on_time(begin: Instant, limit: Duration) {
    let elapsed = begin.elapsed();
    assert!(elapsed >= limit, "{elapsed:?} is before the limit of {limit:?}");
    assert!(elapsed <= limit + LATE, "{elapsed:?} is long after the limit of {limit:?}");
}

#[test]
fn one_server_never_sees_more_than_concurrency_and_four_threads_use_all_of_it() {
    let server = Server::serve();
    let policy = Policy::default().concurrency(8).threads(4);
    let rows = (0..600).map(|_| server.url("/delay/0.004"));
    all_answered(&client(4).run(rows, &policy), 600);
    let counts = server.counts();
    assert_eq!(counts.max_in_flight, 8);
    assert!(counts.max_open <= 8, "{counts:?}");
}

#[test]
fn a_concurrency_that_the_threads_do_not_divide_is_kept() {
    for concurrency in [1, 3, 5, 7] {
        let server = Server::serve();
        let policy = Policy::default().concurrency(concurrency).threads(4);
        let rows = (0..300).map(|_| server.url("/delay/0.002"));
        all_answered(&client(4).run(rows, &policy), 300);
        assert_eq!(server.counts().max_in_flight, concurrency as u64);
    }
}

#[test]
fn many_origins_together_never_pass_concurrency() {
    let server = Server::serve();
    let (client, asked) = client_with_names(4, &[Ipv4Addr::LOCALHOST.into()]);
    let policy = Policy::default().concurrency(9).threads(4);
    let rows = (0..600).map(|row| format!("http://name{}.test:{}/delay/0.004", row % 12, server.port()));
    all_answered(&client.run(rows, &policy), 600);
    assert_eq!(server.counts().max_in_flight, 9);
    assert_eq!(asked.load(Ordering::SeqCst), 12, "each name is looked up once");
}

#[test]
fn no_origin_sees_more_than_per_host() {
    let servers: Vec<Server> = (1..=6).map(|last| serve_at(Ipv4Addr::new(127, 0, 0, last))).collect();
    let policy = Policy::default().concurrency(64).per_host(3).threads(4);
    let rows = (0..900).map(|row| servers[row % servers.len()].url("/delay/0.003"));
    all_answered(&client(4).run(rows, &policy), 900);
    for server in &servers {
        let counts = server.counts();
        assert_eq!((counts.max_in_flight, counts.requests), (3, 150));
    }
}

#[test]
fn slots_are_shared_between_a_long_list_and_a_short_one() {
    let (long, short) = (kept(), serve_at(Ipv4Addr::new(127, 0, 0, 2)));
    let rows = (0..400).map(|_| long.url("/delay/0.01")).chain((0..8).map(|_| short.url("/delay/0.01")));
    let run = client(2).begin(&Policy::default().concurrency(4));
    run.admit(rows.map(Request::from));
    run.close();
    let mut before = 0;
    while short.counts().requests < 8 {
        before += run.wait(1, PATIENCE).len();
    }
    assert!(before < 100, "the last 8 of 408 rows waited for {before} rows of the other origin");
}

#[test]
fn ten_thousand_rows_are_answered_in_order_each_with_its_own_body() {
    let server = Server::serve();
    let rows = (0..10_000).map(|row| server.url(&format!("/anything/{row}")));
    let outcomes = client(4).run(rows, &Policy::default().threads(4));
    all_answered(&outcomes, 10_000);
    for outcome in &outcomes {
        let body = std::str::from_utf8(outcome.response().unwrap().body()).unwrap();
        let own = format!("/anything/{}\"", outcome.index);
        assert!(body.contains(&own), "row {} has {body}", outcome.index);
    }
    let counts = server.counts();
    assert_eq!(counts.requests, 10_000);
    assert!(counts.connections <= 100, "{counts:?}");
}

#[test]
fn there_are_only_as_many_connections_as_there_is_work_for() {
    for (rows, concurrency, most) in [(1, 100, 1), (5, 100, 5), (200, 1, 1), (200, 6, 6)] {
        let server = Server::serve();
        let policy = Policy::default().concurrency(concurrency);
        all_answered(&client(1).run((0..rows).map(|_| server.url("/json")), &policy), rows);
        let connections = server.counts().connections;
        assert!(
            connections <= most,
            "{connections} connections for {rows} rows at concurrency {concurrency}"
        );
    }
}

#[test]
fn an_origin_without_a_working_connection_holds_one_slot_and_the_others_go_on() {
    let (silent, server) = (FullBacklog::new().unwrap(), Server::serve());
    let rows = (0..100).map(|row| if row % 2 == 0 { silent.url("/") } else { server.url("/json") });
    let run = client(4).begin(&Policy::default().concurrency(4).threads(4));
    run.admit(rows.map(Request::from));
    run.close();
    let answered = run.wait(50, PATIENCE);
    assert!(answered.iter().all(Outcome::is_ok), "the living origin's rows are the first to end");
    assert_eq!(answered.len(), 50);
    let progress = run.progress();
    assert_eq!((progress.in_flight, progress.waiting), (1, 49));
    run.cancel();
}

#[test]
fn connections_are_reused_by_the_next_run_of_the_client() {
    let server = Server::serve();
    let client = client(1);
    for _ in 0..3 {
        all_answered(
            &client.run((0..10).map(|_| server.url("/json")), &Policy::default().concurrency(1)),
            10,
        );
    }
    assert_eq!((server.counts().connections, server.counts().requests), (1, 30));
}

#[test]
fn rows_fan_out_at_once_although_a_connection_of_an_earlier_run_is_ready() {
    let server = Server::serve();
    let client = client(1);
    all_answered(&client.run([server.url("/json")], &Policy::default()), 1);
    let run = client.begin(&Policy::default());
    run.admit((0..5).map(|_| Request::get(server.url("/hang"))));
    run.close();
    server.wait_for(|log| log.counts.in_flight == 5, LATE);
    run.cancel();
}

#[test]
fn p4_32_threads_call_one_client_at_once() {
    let server = Server::serve();
    let (client, begin) = (client(4), Barrier::new(32));
    thread::scope(|scope| {
        for caller in 0..32 {
            let (server, client, begin) = (&server, &client, &begin);
            scope.spawn(move || {
                begin.wait();
                let rows = (0..100).map(|row| server.url(&format!("/anything/{caller}/{row}")));
                let outcomes = client.run(rows, &Policy::default().concurrency(10));
                all_answered(&outcomes, 100);
                for outcome in &outcomes {
                    let body = String::from_utf8_lossy(outcome.response().unwrap().body()).into_owned();
                    assert!(body.contains(&format!("/anything/{caller}/{}\"", outcome.index)), "{body}");
                }
            });
        }
    });
    assert_eq!(server.counts().requests, 3_200);
}

#[test]
fn one_name_is_looked_up_once_for_500_rows_on_four_threads() {
    let server = Server::serve();
    let (client, asked) = client_with_names(4, &[Ipv4Addr::LOCALHOST.into()]);
    let rows = (0..500).map(|_| format!("http://one.test:{}/json", server.port()));
    all_answered(&client.run(rows, &Policy::default().threads(4)), 500);
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

#[test]
fn c3_a_dead_address_of_either_family_is_passed_over_with_one_record() {
    let (v4, v6) = (IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST));
    for alive in [v4, v6] {
        let options =
            Options { listen: Listen { address: alive, ..Listen::default() }, ..Options::default() };
        let server =
            Server::try_serve_with(options).unwrap_or_else(|error| panic!("no server on {alive}: {error}"));
        let dead = if alive == v4 { v6 } else { v4 };
        let (client, asked) = client_with_names(2, &[dead, alive]);
        let rows = (0..20).map(|_| format!("http://both.test:{}/json", server.port()));
        let begin = Instant::now();
        all_answered(&client.run(rows, &Policy::default().concurrency(4)), 20);
        assert!(begin.elapsed() < LATE, "{:?}", begin.elapsed());
        assert_eq!((asked.load(Ordering::SeqCst), server.counts().requests), (1, 20));
    }
}

#[test]
fn c3_an_address_that_does_not_answer_is_not_waited_for() {
    let silent = FullBacklog::new().unwrap();
    let listen =
        Listen { address: Ipv6Addr::LOCALHOST.into(), port: silent.addr().port(), ..Listen::default() };
    let server = Server::try_serve_with(Options { listen, ..Options::default() })
        .unwrap_or_else(|error| panic!("no server on ::1: {error}"));
    let (client, _) = client_with_names(1, &[Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
    let begin = Instant::now();
    let rows = (0..20).map(|_| format!("http://both.test:{}/json", server.port()));
    all_answered(&client.run(rows, &Policy::default().concurrency(1)), 20);
    assert!(begin.elapsed() < Duration::from_millis(250) + LATE, "{:?}", begin.elapsed());
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
fn an_idle_connection_that_the_server_closed_is_not_used_again() {
    let options = Options { idle_timeout: Some(Duration::from_millis(50)), ..Options::default() };
    let server = Server::serve_with(options);
    let client = client(1);
    for visit in 1..=4 {
        let outcomes = client.run([Request::post(server.url("/post"), "x")], &Policy::default());
        all_answered(&outcomes, 1);
        assert_eq!(outcomes[0].attempts, 1);
        server.wait_for(|log| log.counts.ended == visit, PATIENCE);
    }
    assert_eq!((server.counts().connections, server.counts().requests), (4, 4));
}

/// Closes each connection after two requests without a word, as servers with a limit do.
fn taciturn() -> Server {
    Server::serve_with(Options {
        close_after: Some(2),
        farewell: Farewell::Silent,
        keep_log: true,
        ..Options::default()
    })
}

#[test]
fn k17_no_post_is_sent_twice_to_a_server_that_closes_silently() {
    let server = taciturn();
    let rows = (0..300).map(|row| Request::post(server.url(&format!("/anything/{row}")), "x"));
    let outcomes = client(1).run(rows, &Policy::default().concurrency(8));
    assert!(outcomes.iter().map(|outcome| outcome.index).eq(0..300));
    let mut seen: HashMap<String, usize> = HashMap::new();
    for request in server.log().requests {
        *seen.entry(request.target).or_default() += 1;
    }
    let twice: Vec<_> = seen.iter().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "sent twice: {twice:?}");
    let mut lost = 0;
    for outcome in &outcomes {
        if let Err(error) = &outcome.result {
            assert_eq!((error.kind(), error.in_doubt()), (Kind::Closed, true), "{error}");
            lost += 1;
        } else {
            assert_eq!(seen.get(&format!("/anything/{}", outcome.index)), Some(&1));
        }
    }
    // Until the server's habit is known, a row on each connection may meet it.
    assert!(lost <= 8, "{lost} of 300 rows were lost");
}

#[test]
fn c7_a_get_or_keyed_post_outlives_a_silent_close_by_one_more_sending() {
    let server = taciturn();
    let rows = (0..300).map(|row| {
        let url = server.url(&format!("/anything/{row}"));
        if row % 2 == 0 {
            Request::get(url)
        } else {
            Request::post(url, "x").header("Idempotency-Key", row.to_string())
        }
    });
    let outcomes = client(1).run(rows, &Policy::default().concurrency(8));
    all_answered(&outcomes, 300);
    assert!(outcomes.iter().all(|outcome| outcome.attempts <= 2));
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

#[test]
fn h1_without_a_descriptor_left_an_idle_connection_to_another_origin_gives_way() {
    const URLS: [&str; 2] = ["LOAMY_IDLE_URL", "LOAMY_NEXT_URL"];
    if let [Ok(idle), Ok(next)] = URLS.map(std::env::var) {
        let client = client(1);
        all_answered(&client.run([idle], &Policy::default()), 1);
        let held: Vec<_> = std::iter::from_fn(|| std::fs::File::open("/dev/null").ok()).collect();
        all_answered(&client.run([next], &Policy::default().deadline(Duration::from_secs(5))), 1);
        return drop(held);
    }
    let servers = [2, 3].map(|last| serve_at(Ipv4Addr::new(127, 0, 0, last)));
    let own = "scheduling::h1_without_a_descriptor_left_an_idle_connection_to_another_origin_gives_way";
    let mut child = child::with_64_descriptors(own);
    child.envs(URLS.into_iter().zip(servers.each_ref().map(|server| server.url("/json"))));
    assert_eq!(child::wrong(&mut child), None);
    assert_eq!(servers.map(|server| server.counts().requests), [1, 1]);
}

#[test]
fn rows_of_two_users_in_the_url_do_not_share_an_answer() {
    let server = kept();
    let as_user = |user: &str| server.url("/anything").replace("://", &format!("://{user}@"));
    let rows = ["alice:a", "bob:b", "alice:a"].map(as_user);
    let outcomes = client(1).run(rows, &Policy::default().duplicates(Duplicates::Share));
    all_answered(&outcomes, 3);
    assert_eq!(outcomes.iter().map(|outcome| outcome.attempts).collect::<Vec<_>>(), [1, 1, 0]);
    let log = server.log();
    let users: Vec<_> = log.requests.iter().map(|request| request.header("Authorization")).collect();
    assert_eq!(users.len(), 2);
    assert_ne!(users[0], users[1]);
}
