//! How much at once, on which connections: asserted by what the server saw.
#![allow(
    clippy::disallowed_methods,
    reason = "the walls around the clock are the engine's; this drives it from outside"
)]

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use loamy::{Client, Dns, Duplicates, Kind, Outcome, Policy, Request};
use testkit::{Farewell, FullBacklog, Listen, Options, Server};

use crate::child;
use crate::expectations::{LATE, PATIENCE, all_answered, client, kept};

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
