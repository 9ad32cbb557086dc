//! Cells about many rows that are sent again: what they cost a peer, and that they do not come back as one.

use std::time::{Duration, Instant};

use loamy::{Attempt, Backoff, Client, HttpVersion, Kind, Outcome, Policy, Request};
use testkit::{Listen, Log, Protocol, Script, Server, refused_port};

use super::cell::{Cell, Column, Retried, Transport};
use super::checks::row;
use super::frames;
use super::judge::expect_each_attempt;
use super::play::trusting;
use crate::expectations::LATE;

/// No call of these takes as long, whatever its rows wait for.
const DEADLINE: Duration = Duration::from_secs(20);

/// The first ceiling of the waits, where their length is no matter.
const BACKOFF: Duration = Duration::from_millis(4);

fn script(cell: &Cell, single: &[&str], frames: &[&str]) -> Script {
    let lines = match cell.over.speaks() {
        Protocol::Http2 => frames,
        _ => single,
    };
    let lines: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
    let script = Script::parse(frames::written_out(&lines)).unwrap_or_else(|error| panic!("{cell}: {error}"));
    if cell.over.is_secure() { script.tls(testkit::Tls::default()) } else { script }
}

fn policy(cell: &Cell, backoff: Duration) -> Policy {
    let version = if cell.over == Transport::H2c { HttpVersion::Http2 } else { HttpVersion::Auto };
    let policy = Policy::default().tls(trusting()).http_version(version).deadline(DEADLINE);
    policy.backoff(Backoff { base: backoff, ..Backoff::default() }).retried(match cell.retried {
        Retried::Idempotent => loamy::Retried::Idempotent,
        Retried::All => loamy::Retried::All,
    })
}

fn client() -> Client {
    Client::builder().threads(1).build().unwrap()
}

fn rows(cell: &Cell, server: &Server, count: usize) -> Vec<Request> {
    (0..count).map(|n| row(cell, server.url(&format!("/{n}")))).collect()
}

/// What is wrong with outcomes that should be as many as the rows, all answered below 400.
fn not_answered(outcomes: &[Outcome], rows: usize) -> Vec<String> {
    let mut wrong = all_told(outcomes, rows);
    let failed = outcomes.iter().filter(|outcome| !outcome.is_ok());
    wrong.extend(failed.take(2).map(|outcome| format!("{outcome:?}")));
    wrong
}

/// What is wrong with outcomes that should be as many as the rows, with each attempt told of.
fn all_told(outcomes: &[Outcome], rows: usize) -> Vec<String> {
    let mut wrong = Vec::new();
    if !outcomes.iter().map(|outcome| outcome.index).eq(0..rows) {
        wrong.push(format!("{} outcomes of {rows} rows, or in another order", outcomes.len()));
    }
    outcomes.iter().for_each(|outcome| expect_each_attempt(outcome, &mut wrong));
    wrong
}

pub(super) fn a_batch_outlives_the_restart_of_its_server(cell: &Cell) -> Vec<String> {
    const BEFORE: usize = 10;
    const AFTER: usize = 60;
    const DOWN: Duration = Duration::from_millis(1200);
    // Until then the client has seen that its connections are closed: no row is lost with one.
    const NOTICED: Duration = Duration::from_millis(300);
    // Four rows are on their way when it begins, and later one asks from time to time; the budget of 70 rows is 24.
    const ASKED_AT_MOST: usize = 20;
    const AT_ONCE: usize = 4;
    const ENOUGH: Duration = Duration::from_secs(10);
    let port = refused_port();
    let start = || {
        let serving = ["read", r"send HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "again"];
        let script = script(cell, &serving, &["h2 preface", "h2 serve"]);
        Server::start(script.listen(Listen { port, ..Listen::default() }))
    };
    let server = start();
    let client = client();
    let policy = policy(cell, Duration::from_millis(40)).concurrency(AT_ONCE).retries(9);
    let run = client.begin(&policy);
    let url = |n: usize| server.url(&format!("/anything/{n}"));
    let urls: Vec<_> = (0..BEFORE + AFTER).map(url).collect();
    let row = |n: usize| row(cell, urls[n].clone());
    run.admit((0..BEFORE).map(row));
    let mut outcomes = run.wait(BEFORE, ENOUGH);
    let log = server.into_log();
    std::thread::sleep(NOTICED);
    run.admit((BEFORE..BEFORE + AFTER).map(row));
    run.close();
    std::thread::sleep(DOWN);
    let early = run.progress();
    let server = start();
    let came_back = Instant::now();
    while !run.is_finished() && came_back.elapsed() < ENOUGH {
        outcomes.append(&mut run.wait(AFTER, ENOUGH));
    }
    drop(client);
    let again = server.into_log();
    outcomes.sort_by_key(|outcome| outcome.index);
    let mut wrong = not_answered(&outcomes, BEFORE + AFTER);
    let seen: Vec<_> = log.requests.iter().chain(&again.requests).map(|request| &request.target).collect();
    let once = (0..BEFORE + AFTER).all(|n| {
        let target = format!("/anything/{n}");
        seen.iter().filter(|own| ***own == target).count() == 1
    });
    if !once || log.requests.len() != BEFORE {
        wrong.push(format!("{} requests before, {} after it", log.requests.len(), again.requests.len()));
    }
    if early.waiting + early.in_flight != AFTER {
        wrong.push(format!("while the server was down: {early:?}"));
    }
    let asked: Vec<_> = outcomes.iter().flat_map(|outcome| &outcome.earlier).collect();
    let refused = asked.iter().filter(|own| ***own == Attempt::Failed(Kind::ConnectRefused)).count();
    if refused != asked.len() || refused == 0 || refused > ASKED_AT_MOST {
        wrong.push(format!("{refused} refusals: {asked:?}"));
    }
    wrong
}

pub(super) fn one_row_asks_for_all_whether_the_peer_is_there_again(cell: &Cell) -> Vec<String> {
    const ROWS: usize = 60;
    const RETRIES: u32 = 3;
    // The first row asks four times and takes sixteen with it, the next one all others.
    const ASKED_AT_MOST: u32 = 12;
    let url = format!("{}://127.0.0.1:{}/row", cell.over.scheme(), refused_port());
    let policy = policy(cell, BACKOFF).concurrency(20).retries(RETRIES);
    let outcomes = client().run((0..ROWS).map(|_| row(cell, url.clone())), &policy);
    let mut wrong = all_told(&outcomes, ROWS);
    let is_refused = |outcome: &&Outcome| {
        let error = outcome.result.as_ref().err();
        error.is_some_and(|error| error.kind() == Kind::ConnectRefused && !error.in_doubt())
    };
    if outcomes.iter().filter(is_refused).count() != ROWS {
        wrong.push(format!("not all are refused: {outcomes:?}"));
    }
    let most = outcomes.iter().map(|outcome| outcome.attempts).max().unwrap_or_default();
    let asked: u32 = outcomes.iter().map(|outcome| outcome.attempts).sum();
    if most != RETRIES + 1 || asked > ASKED_AT_MOST {
        wrong.push(format!("{asked} attempts in all, {most} for one row"));
    }
    wrong
}

pub(super) fn rows_that_wait_for_an_origin_that_is_paused_too_long_are_not_sent(cell: &Cell) -> Vec<String> {
    const ROWS: usize = 5;
    let refusing = [
        "read",
        r"send HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1000000000\r\nContent-Length: 2\r\n\r\nno",
        "again",
    ];
    let in_frames = [
        "h2 preface",
        r#"{9 times} h2 read request | h2 answer status=429 retry-after=1000000000 "no""#,
        "h2 drain",
    ];
    let server = Server::start(script(cell, &refusing, &in_frames));
    let well = Server::start(script(cell, &["read", "serve", "again"], &["h2 preface", "h2 serve"]));
    let mut list = rows(cell, &server, ROWS);
    list.extend((0..ROWS).map(|n| row(cell, well.url(&format!("/anything/{n}")))));
    let outcomes = client().run(list, &policy(cell, BACKOFF).concurrency(1).retries(2));
    let mut wrong = all_told(&outcomes, 2 * ROWS);
    for outcome in &outcomes {
        let fits = match (&outcome.result, outcome.index) {
            (Ok(response), 0) => response.status() == 429 && outcome.attempts == 1,
            (Err(error), 1..ROWS) => {
                let message = error.message();
                error.kind() == Kind::NotSent
                    && !error.in_doubt()
                    && outcome.attempts == 0
                    && message.contains("takes no further request for")
                    && message.contains("max_pause is 60 s")
            }
            (_, index) => index >= ROWS && outcome.is_ok() && outcome.attempts == 1,
        };
        if !fits {
            wrong.push(format!("{outcome:?}"));
        }
    }
    let (refused, answered) = (server.into_log().requests.len(), well.into_log().requests.len());
    if (refused, answered) != (1, ROWS) {
        wrong.push(format!("{refused} and {answered} requests seen"));
    }
    wrong
}

pub(super) fn rows_that_were_refused_together_come_back_one_first(cell: &Cell) -> Vec<String> {
    const ROWS: usize = 12;
    const TOGETHER: usize = 6;
    const ASKED: Duration = Duration::from_secs(1);
    const ANSWERED_AFTER: Duration = Duration::from_millis(30);
    let answers = ["read", "wait 30ms", r"send HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"].repeat(ROWS);
    let refused = [
        "read",
        "wait-requests 6",
        r"send HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\nContent-Length: 2\r\n\r\nno",
    ];
    let single = [&refused[..], &answers[..], &["drain"]].concat();
    let in_frames = [
        "h2 preface",
        "h2 read 6 requests",
        r#"h2 answer stream=all status=429 retry-after=1 "no""#,
        r#"{12 times} h2 read request | h2 wait 30ms | h2 answer "ok""#,
        "h2 drain",
    ];
    let server = Server::start(script(cell, &single, &in_frames));
    let policy = policy(cell, BACKOFF).concurrency(TOGETHER).h2_connections(1).retries(1);
    let outcomes = client().run(rows(cell, &server, ROWS), &policy);
    let mut wrong = not_answered(&outcomes, ROWS);
    let arrived: Vec<_> = server.into_log().requests.iter().map(|request| request.arrived).collect();
    let twice = outcomes.iter().filter(|outcome| outcome.earlier == [Attempt::Answered(429)]).count();
    if twice != TOGETHER || arrived.len() != ROWS + TOGETHER {
        wrong.push(format!("{twice} rows went twice, {} requests seen", arrived.len()));
    } else if arrived[TOGETHER] < arrived[TOGETHER - 1] + ASKED
        || arrived[TOGETHER + 1] < arrived[TOGETHER] + ANSWERED_AFTER
    {
        wrong.push(format!("they came at {arrived:?}"));
    }
    wrong
}

pub(super) fn a_peer_that_asks_for_calm_is_given_some(cell: &Cell) -> Vec<String> {
    // A wait is drawn from nothing to its ceiling, so one may be short: eight that last less than this in all happen once in
    // 200,000 times.
    const PEERS: usize = 8;
    const CEILING: Duration = Duration::from_secs(1);
    const IN_ALL: Duration = Duration::from_millis(800);
    let in_frames = [
        "h2 preface",
        "h2 read request",
        "h2 goaway last=0 ENHANCE_YOUR_CALM",
        "h2 close",
        "connection",
        "h2 preface",
        "{well}",
    ];
    let servers: Vec<_> = (0..PEERS).map(|_| Server::start(script(cell, &[], &in_frames))).collect();
    let list = servers.iter().map(|server| row(cell, server.url("/row")));
    let outcomes = client().run(list, &policy(cell, CEILING));
    let mut wrong = not_answered(&outcomes, PEERS);
    let mut waits = Vec::new();
    for (server, outcome) in servers.into_iter().zip(&outcomes) {
        let log = server.into_log();
        if log.requests.len() != 2 || outcome.earlier != [Attempt::Failed(Kind::Refused)] {
            wrong.push(format!("{} requests seen: {outcome:?}", log.requests.len()));
            continue;
        }
        waits.push(log.requests[1].arrived - log.requests[0].arrived);
    }
    if waits.iter().sum::<Duration>() < IN_ALL || waits.iter().any(|wait| *wait > CEILING + LATE) {
        wrong.push(format!("from one sending to the next: {waits:?}"));
    }
    wrong
}

pub(super) fn fewer_rows_at_once_go_to_a_peer_that_asked_for_calm(cell: &Cell) -> Vec<String> {
    const ROWS: usize = 40;
    // As many as come at once are answered together.
    let in_frames = [
        "h2 preface",
        "h2 read 40 requests",
        "h2 goaway last=0 ENHANCE_YOUR_CALM",
        "h2 close",
        "connection",
        "h2 preface",
        r#"{40 times} h2 read request | h2 wait 200ms | h2 answer stream=all "ok""#,
    ];
    let server = Server::start(script(cell, &[], &in_frames));
    let outcomes =
        client().run(rows(cell, &server, ROWS), &policy(cell, BACKOFF).concurrency(ROWS).h2_connections(1));
    let mut wrong = not_answered(&outcomes, ROWS);
    let log = server.into_log();
    let at_once = |connection: usize| at_once(&log, connection, Duration::from_millis(150));
    if at_once(0) != ROWS || at_once(1) > ROWS / 2 || log.requests.len() != 2 * ROWS {
        wrong.push(format!(
            "{} at once before and {} after it, {} requests",
            at_once(0),
            at_once(1),
            log.requests.len()
        ));
    }
    wrong
}

pub(super) fn fewer_rows_at_once_go_to_a_peer_that_ended_each_stream_for_calm(cell: &Cell) -> Vec<String> {
    let in_frames = [
        "h2 preface",
        "h2 read 40 requests",
        "h2 rst stream=all ENHANCE_YOUR_CALM",
        r#"{40 times} h2 read request | h2 wait 200ms | h2 answer stream=all "ok""#,
    ];
    after_a_calm(cell, &in_frames, Kind::Closed)
}

pub(super) fn fewer_rows_at_once_go_to_a_peer_that_went_away_for_calm_and_answered_none(
    cell: &Cell,
) -> Vec<String> {
    let in_frames = [
        "h2 preface",
        "h2 read 40 requests",
        "h2 goaway ENHANCE_YOUR_CALM",
        "h2 wait 20ms",
        "h2 close",
        "connection",
        "h2 preface",
        r#"{40 times} h2 read request | h2 wait 200ms | h2 answer stream=all "ok""#,
    ];
    after_a_calm(cell, &in_frames, Kind::Closed)
}

pub(super) fn fewer_rows_at_once_go_to_a_peer_that_went_away_for_calm_and_answered_all(
    cell: &Cell,
) -> Vec<String> {
    let in_frames = [
        "h2 preface",
        "h2 read 40 requests",
        "h2 goaway ENHANCE_YOUR_CALM",
        r#"h2 answer stream=all "ok""#,
        "h2 close",
        "connection",
        "h2 preface",
        r#"{40 times} h2 read request | h2 wait 200ms | h2 answer stream=all "ok""#,
    ];
    after_a_calm(cell, &in_frames, None)
}

/// Twice as many rows as go at once. A peer that has all of the first half says that it is too much, and answers as many as come
/// together after that together.
fn after_a_calm(cell: &Cell, in_frames: &[&str], first: impl Into<Option<Kind>>) -> Vec<String> {
    const AT_ONCE: usize = 40;
    let first = first.into();
    let server = Server::start(script(cell, &[], in_frames));
    let policy = policy(cell, BACKOFF).concurrency(AT_ONCE).h2_connections(1);
    let outcomes = client().run(rows(cell, &server, 2 * AT_ONCE), &policy);
    let mut wrong = all_told(&outcomes, 2 * AT_ONCE);
    for outcome in &outcomes {
        let fits = match (first, outcome.index) {
            (Some(kind), 0..AT_ONCE) => outcome.result.as_ref().is_err_and(|error| error.kind() == kind),
            _ => outcome.is_ok(),
        };
        if !fits || outcome.attempts != 1 {
            wrong.push(format!("{outcome:?}"));
        }
    }
    let arrived: Vec<_> = server.into_log().requests.iter().map(|request| request.arrived).collect();
    let Some(after) = arrived.get(AT_ONCE..) else {
        return [wrong, vec![format!("{} requests seen", arrived.len())]].concat();
    };
    let together = after.iter().filter(|at| **at < after[0] + Duration::from_millis(150)).count();
    if together > AT_ONCE / 2 || arrived.len() != 2 * AT_ONCE {
        wrong.push(format!("{together} at once after it, {} requests", arrived.len()));
    }
    wrong
}

pub(super) fn rows_that_wait_for_a_stream_of_a_peer_that_asks_for_calm_wait_on(cell: &Cell) -> Vec<String> {
    // As many streams as the peer allows; the other rows have their turn and wait for one.
    const STREAMS: usize = 4;
    const ROWS: usize = 20;
    let in_frames = [
        "h2 preface max_concurrent_streams=4",
        "h2 read 4 requests",
        "h2 wait 100ms",
        "h2 goaway last=0 ENHANCE_YOUR_CALM",
        "h2 close",
        "connection",
        "h2 preface",
        r#"{20 times} h2 read request | h2 wait 200ms | h2 answer stream=all "ok""#,
    ];
    let server = Server::start(script(cell, &[], &in_frames));
    let outcomes =
        client().run(rows(cell, &server, ROWS), &policy(cell, BACKOFF).concurrency(ROWS).h2_connections(1));
    let mut wrong = not_answered(&outcomes, ROWS);
    let twice = outcomes.iter().filter(|own| own.earlier == [Attempt::Failed(Kind::Refused)]).count();
    let log = server.into_log();
    let together = at_once(&log, 1, Duration::from_millis(150));
    if twice != STREAMS || together > ROWS / 2 || log.requests.len() != ROWS + STREAMS {
        wrong.push(format!("{twice} twice, {together} at once after it, {} requests", log.requests.len()));
    }
    wrong
}

pub(super) fn a_peer_that_asks_for_calm_of_each_row_is_given_some_before_each(cell: &Cell) -> Vec<String> {
    // Twelve waits, each drawn from nothing to a ceiling of 100 ms, 200 ms and from the third on 400 ms: that they last less than
    // this in all happens once in a million times.
    const ROWS: usize = 13;
    const CEILING: Duration = Duration::from_millis(100);
    const IN_ALL: Duration = Duration::from_millis(500);
    let in_frames = ["h2 preface", "{13 times} h2 read request | h2 rst ENHANCE_YOUR_CALM", "h2 drain"];
    let server = Server::start(script(cell, &[], &in_frames));
    let outcomes = client().run(rows(cell, &server, ROWS), &policy(cell, CEILING).concurrency(1));
    let mut wrong = all_told(&outcomes, ROWS);
    for outcome in &outcomes {
        let in_doubt = cell.column == Column::Post;
        let fits = |error: &loamy::Error| error.kind() == Kind::Closed && error.in_doubt() == in_doubt;
        if !outcome.result.as_ref().is_err_and(fits) || outcome.attempts != 1 {
            wrong.push(format!("{outcome:?}"));
        }
    }
    let arrived: Vec<_> = server.into_log().requests.iter().map(|request| request.arrived).collect();
    let in_all = arrived.last().zip(arrived.first()).map(|(last, first)| *last - *first);
    if arrived.len() != ROWS || in_all < Some(IN_ALL) {
        wrong.push(format!("{} requests seen, within {in_all:?}", arrived.len()));
    }
    wrong
}

/// How many requests came on a connection within so long of its first.
fn at_once(log: &Log, connection: usize, within: Duration) -> usize {
    let own = || log.requests.iter().filter(|request| request.connection == connection);
    let Some(first) = own().next() else { return 0 };
    own().filter(|request| request.arrived < first.arrived + within).count()
}

pub(super) fn a_peer_that_fails_everything_is_sent_a_fifth_more_and_ten(cell: &Cell) -> Vec<String> {
    const ROWS: usize = 100;
    const AGAIN: usize = ROWS / 5 + 10;
    const RETRIES: u32 = 5;
    let failing = ["read", r"send HTTP/1.1 503 Service Unavailable\r\nContent-Length: 2\r\n\r\nno", "again"];
    let in_frames = ["h2 preface", r#"{200 times} h2 read request | h2 answer status=503 "no""#, "h2 drain"];
    let server = Server::start(script(cell, &failing, &in_frames));
    let well = Server::start(script(cell, &["read", "serve", "again"], &["h2 preface", "h2 serve"]));
    let both = (0..2 * ROWS).map(|n| {
        let peer = if n % 2 == 0 { &server } else { &well };
        row(cell, peer.url(&format!("/anything/{n}")))
    });
    let outcomes = client().run(both, &policy(cell, BACKOFF).concurrency(20).retries(RETRIES));
    let mut wrong = all_told(&outcomes, 2 * ROWS);
    let protected = cell.column != Column::Post || cell.retried == Retried::All;
    for outcome in &outcomes {
        let status = outcome.result.as_ref().map(loamy::Response::status);
        let fits = match outcome.index % 2 {
            0 => {
                matches!(status, Ok(503))
                    && outcome.attempts <= RETRIES + 1
                    && outcome.over_budget == (protected && outcome.attempts <= RETRIES)
                    && outcome.earlier.iter().all(|own| *own == Attempt::Answered(503))
            }
            _ => outcome.is_ok() && outcome.attempts == 1 && !outcome.over_budget,
        };
        if !fits {
            wrong.push(format!("{outcome:?}"));
        }
    }
    let should = if protected { ROWS + AGAIN } else { ROWS };
    let (failed, answered) = (server.into_log().requests.len(), well.into_log().requests.len());
    if (failed, answered) != (should, ROWS) {
        wrong.push(format!("{failed} and {answered} requests seen, not {should} and {ROWS}"));
    }
    wrong
}
