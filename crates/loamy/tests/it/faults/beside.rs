//! Cells about what many rows do to each other.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use loamy::{Client, Dns, HttpVersion, Kind, Order, Outcome, Policy, Request};
use testkit::{Farewell, Options, Server};

use super::cell::{Cell, Column};
use super::checks::row;
use super::play::trusting;
use crate::expectations::IN_TRANSIT;

fn over_http2() -> (Server, Policy) {
    let server = Server::serve_with(Options { tls: Some(testkit::Tls::default()), ..Options::default() });
    let policy = Policy::default().tls(trusting()).h2_connections(1).timeout(Duration::from_secs(20));
    (server, policy)
}

/// Sends the slow rows first and gives the places in which they ended.
fn places(
    client: &Client,
    slow: Vec<Request>,
    fast: Vec<Request>,
    policy: &Policy,
) -> Result<Vec<usize>, String> {
    let (first, count) = (slow.len(), slow.len() + fast.len());
    let outcomes: Vec<Outcome> = client.stream(slow.into_iter().chain(fast), policy, Order::AsDone).collect();
    if let Some(failed) = outcomes.iter().find(|outcome| !outcome.is_ok()) {
        return Err(format!("{failed:?}"));
    }
    if outcomes.len() != count {
        return Err(format!("{} outcomes of {count}", outcomes.len()));
    }
    Ok((0..count).filter(|place| outcomes[*place].index < first).collect())
}

pub(super) fn a_large_row_does_not_stall_the_others_of_its_connection(cell: &Cell) -> Vec<String> {
    const OTHERS: usize = 99;
    /// So many may end after the large one: it may be fast.
    const LATE: usize = 20;
    let (server, policy) = over_http2();
    let client = Client::builder().threads(1).build().unwrap();
    let large = vec![row(cell, server.url("/bytes/33554432"))];
    let others = (0..OTHERS).map(|n| row(cell, server.url(&format!("/bytes/{}", 100 + n)))).collect();
    let mut wrong = Vec::new();
    match places(&client, large, others, &policy) {
        Ok(places) if places[0] + LATE >= OTHERS => {}
        Ok(places) => wrong.push(format!("the large row was the one that ended at place {}", places[0])),
        Err(error) => wrong.push(error),
    }
    drop(client);
    let counts = server.counts();
    if counts.connections != 1 || counts.requests != 1 + OTHERS as u64 {
        wrong.push(format!("{counts:?}"));
    }
    wrong
}

pub(super) fn rows_that_drip_do_not_stall_the_others_of_their_connection(cell: &Cell) -> Vec<String> {
    const DRIPPING: usize = 10;
    const OTHERS: usize = 90;
    let (server, policy) = over_http2();
    let client = Client::builder().threads(1).build().unwrap();
    let slow = (0..DRIPPING).map(|_| row(cell, server.url("/drip?numbytes=5&duration=1.5"))).collect();
    let others = (0..OTHERS).map(|n| row(cell, server.url(&format!("/bytes/{n}")))).collect();
    let mut wrong = Vec::new();
    match places(&client, slow, others, &policy) {
        Ok(places) if places[0] >= OTHERS => {}
        Ok(places) => wrong.push(format!("the rows that drip ended at {places:?}")),
        Err(error) => wrong.push(error),
    }
    wrong
}

/// Sends rows to a peer whose connections end after a few answers; gives the outcomes and how often each row was seen.
fn to_a_peer_that_leaves(cell: &Cell, farewell: Farewell) -> (Vec<Outcome>, Vec<usize>) {
    const ROWS: usize = 60;
    let server = Server::serve_with(Options {
        tls: cell.over.is_secure().then(testkit::Tls::default),
        http: vec![cell.over.speaks()],
        close_after: Some(5),
        farewell,
        keep_log: true,
        ..Options::default()
    });
    let client = Client::builder().threads(1).build().unwrap();
    let policy = Policy::default().tls(trusting()).http_version(HttpVersion::Http2).concurrency(20);
    let rows = (0..ROWS).map(|n| row(cell, server.url(&format!("/anything/{n}"))));
    let outcomes = client.run(rows, &policy.timeout(Duration::from_secs(10)));
    drop(client);
    let log = server.into_log();
    let seen = |n: usize| log.to_target(&format!("/anything/{n}")).count();
    (outcomes, (0..ROWS).map(seen).collect())
}

pub(super) fn a_peer_that_says_farewell_after_every_few_rows_loses_none_and_sees_none_twice(
    cell: &Cell,
) -> Vec<String> {
    let (outcomes, seen) = to_a_peer_that_leaves(cell, Farewell::Announced);
    let mut wrong: Vec<_> =
        outcomes.iter().filter(|outcome| !outcome.is_ok()).map(|outcome| format!("{outcome:?}")).collect();
    if outcomes.len() != seen.len() || seen.iter().any(|times| *times != 1) {
        wrong.push(format!("{} outcomes, seen {seen:?}", outcomes.len()));
    }
    wrong
}

pub(super) fn a_peer_that_closes_after_every_few_rows_without_a_word_sees_no_post_twice(
    cell: &Cell,
) -> Vec<String> {
    let (outcomes, seen) = to_a_peer_that_leaves(cell, Farewell::Silent);
    let protected = cell.column != Column::Post;
    let mut wrong = Vec::new();
    for outcome in &outcomes {
        match &outcome.result {
            Ok(_) => {}
            Err(error) if error.kind() == Kind::Closed && error.in_doubt() != protected => {}
            Err(_) => wrong.push(format!("{outcome:?}")),
        }
    }
    let most = if protected { 2 } else { 1 };
    if outcomes.len() != seen.len() || seen.iter().any(|times| *times > most) {
        wrong.push(format!("{} outcomes, seen {seen:?}", outcomes.len()));
    }
    wrong
}

pub(super) fn each_name_is_looked_up_once(cell: &Cell) -> Vec<String> {
    const NAMES: usize = 300;
    const ROWS: usize = 3_000;
    let server = Server::serve();
    let asked = Arc::new(Mutex::new(BTreeMap::<String, usize>::new()));
    let own = Arc::clone(&asked);
    let dns = Dns::Fixed(Arc::new(move |name: &str| {
        *own.lock().unwrap().entry(name.to_owned()).or_default() += 1;
        Ok(vec!["127.0.0.1".parse().unwrap()])
    }));
    let client = Client::builder().threads(2).dns(dns).build().unwrap();
    let port = server.port();
    let rows = (0..ROWS).map(|n| row(cell, format!("http://n{}.test:{port}/anything/{n}", n % NAMES)));
    let outcomes = client.run(rows, &Policy::default());
    let mut wrong: Vec<_> = outcomes
        .iter()
        .filter(|outcome| !outcome.is_ok())
        .take(1)
        .map(|outcome| format!("{outcome:?}"))
        .collect();
    let asked = asked.lock().unwrap();
    let twice: Vec<_> = asked.iter().filter(|(_, times)| **times > 1).collect();
    if asked.len() != NAMES || !twice.is_empty() {
        wrong.push(format!("{} names were looked up, more than once {twice:?}", asked.len()));
    }
    if outcomes.len() != ROWS || server.counts().requests != ROWS as u64 {
        wrong.push(format!("{} outcomes, {:?}", outcomes.len(), server.counts()));
    }
    wrong
}

pub(super) fn a_slow_consumer_holds_up_the_rows(cell: &Cell) -> Vec<String> {
    let client = Client::builder().threads(1).build().unwrap();
    held_up_by_a_slow_consumer(cell, 0, |rows, policy| client.stream(rows, policy, Order::AsDone))
}

/// Streams rows to a consumer that comes to a halt again and again. `lag` more rows than ever may be ahead of it.
pub(super) fn held_up_by_a_slow_consumer<S: Iterator<Item = Outcome>>(
    cell: &Cell,
    lag: usize,
    stream: impl FnOnce(Box<dyn Iterator<Item = Request>>, &Policy) -> S,
) -> Vec<String> {
    const ROWS: usize = 3_000;
    const SLOTS: usize = 4;
    const HALTS: [usize; 2] = [1, 600];
    const ENOUGH: Duration = Duration::from_secs(10);
    let ahead_at_most = 4 * SLOTS + lag;
    let server = Server::serve();
    let pulled = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&pulled);
    let list: Vec<_> = (0..ROWS).map(|n| row(cell, server.url(&format!("/count/{n}")))).collect();
    let rows = list.into_iter().inspect(move |_| {
        count.fetch_add(1, Ordering::Relaxed);
    });
    let (mut wrong, mut taken) = (Vec::new(), 0);
    for outcome in stream(Box::new(rows), &Policy::default().concurrency(SLOTS)) {
        taken += 1;
        if !outcome.is_ok() {
            wrong.push(format!("{outcome:?}"));
        }
        if !HALTS.contains(&taken) {
            continue;
        }
        let ahead = pulled.load(Ordering::Relaxed);
        server.wait_for(|log| log.counts.requests as usize == ahead, ENOUGH);
        std::thread::sleep(IN_TRANSIT);
        let (later, counts) = (pulled.load(Ordering::Relaxed), server.counts());
        if ahead > taken + ahead_at_most || later != ahead || counts.requests as usize != ahead {
            wrong.push(format!("at a halt after {taken} rows {ahead} were pulled, then {later}: {counts:?}"));
        }
    }
    if taken != ROWS || server.visits().values().any(|own| own.values().sum::<u64>() != 1) {
        wrong.push(format!("{taken} outcomes, {:?}", server.counts()));
    }
    wrong
}
