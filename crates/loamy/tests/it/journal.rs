//! What a journal keeps between runs, asserted by what the server saw of each row.
#![allow(
    clippy::disallowed_methods,
    reason = "the walls around the clock are the engine's; this drives it from outside"
)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};
use std::time::{Duration, Instant};

use futures_core::Stream;
use loamy::{
    Attempt, Client, Dns, Governor, Idempotency, JournalOptions, Kind, Limit, Order, Outcome, Policy,
    Request, Timeouts, Trouble,
};
use testkit::{FullBacklog, Listen, Options, RequestLog, Script, Server, Step};

use crate::expectations::{INTERRUPT, LATE, all_answered, client};
use crate::journaled::{is_in_doubt, open, place, seen, seen_when_left};

const SLOTS: usize = 8;

/// How long a server may take to note what it was sent.
const PATIENCE: Duration = Duration::from_secs(10);

fn policy() -> Policy {
    Policy::default().concurrency(SLOTS)
}

/// Every third row must not be sent twice.
fn rows(server: &Server, count: usize) -> Vec<Request> {
    let url = |row| server.url(&format!("/count/{row}"));
    (0..count)
        .map(|row| if row % 3 == 0 { Request::post(url(row), "x") } else { Request::get(url(row)) })
        .collect()
}

fn run(path: &Path, options: JournalOptions, rows: Vec<Request>, policy: &Policy) -> Vec<Outcome> {
    let (outcomes, recorded) = client(2).with_journal(open(path, options)).run(rows, policy);
    recorded.unwrap();
    outcomes
}

fn kind(outcome: &Outcome) -> Kind {
    outcome.result.as_ref().unwrap_err().kind()
}

#[test]
fn h5_a_run_that_was_left_goes_on_where_it_stood_and_gives_the_whole_list() {
    let (server, (_folder, path)) = (Server::serve(), place());
    let mut stream = client(2).with_journal(open(&path, JournalOptions::default())).stream(
        rows(&server, 200),
        &policy(),
        Order::AsDone,
    );
    let shown: Vec<usize> = stream.by_ref().take(60).map(|outcome| outcome.index).collect();
    stream.finish().unwrap();
    let before = seen_when_left(&server, 200);

    let outcomes = run(&path, JournalOptions::default(), rows(&server, 200), &policy());
    assert!(outcomes.iter().map(|outcome| outcome.index).eq(0..200));
    let (after, in_doubt) = (seen(&server, 200), outcomes.iter().filter(|own| is_in_doubt(own)).count());
    for outcome in &outcomes {
        let row = outcome.index;
        assert!(outcome.is_ok() || is_in_doubt(outcome) && row % 3 == 0, "{outcome:?}");
        assert!(after[row] <= 1 || row % 3 != 0, "row {row} was sent {} times", after[row]);
        assert_eq!(outcome.replayed, outcome.is_ok() && after[row] == before[row], "row {row}");
        if shown.contains(&row) {
            assert!(outcome.replayed && after[row] == 1, "row {row} was shown, and sent again");
        }
    }
    let again = after.iter().map(|own| own.saturating_sub(1)).sum::<u64>() as usize;
    assert!(in_doubt <= SLOTS && again <= SLOTS, "{in_doubt} in doubt, {again} sent again");

    // Once all is done nothing is sent any more, and the outcomes are the same.
    let last = run(&path, JournalOptions::default(), rows(&server, 200), &policy());
    assert_eq!(seen(&server, 200), after);
    for (last, before) in last.iter().zip(&outcomes) {
        let body = |own: &Outcome| own.response().map(|response| response.body().to_vec());
        assert_eq!(body(last), body(before));
        assert_eq!((last.attempts, last.is_ok()), (before.attempts, before.is_ok()));
    }
}

#[test]
fn h5_a_stream_can_pass_over_what_an_earlier_run_has_done() {
    let (server, (_folder, path)) = (Server::serve(), place());
    // More than the window, which has room for a group that is written, or nothing would be left.
    let gets = || (0..4_000).map(|row| server.url(&format!("/count/{row}"))).collect::<Vec<_>>();
    let journaled = || client(2).with_journal(open(&path, JournalOptions::default()));
    let mut stream = journaled().stream(gets(), &policy(), Order::AsGiven);
    assert_eq!(stream.by_ref().take(20).count(), 20);
    stream.finish().unwrap();

    let mut stream = journaled().only_new().stream(gets(), &policy(), Order::AsGiven);
    let new: Vec<usize> = stream.by_ref().map(|outcome| outcome.index).collect();
    assert!(new.is_sorted() && new.iter().all(|row| *row >= 20) && new.last() == Some(&3_999), "{new:?}");
    stream.finish().unwrap();
    let mut stream = journaled().only_new().stream(gets(), &policy(), Order::AsDone);
    assert!(stream.next().is_none());
    stream.finish().unwrap();
    let mut stream = journaled().stream(gets(), &policy(), Order::AsGiven);
    let all: Vec<Outcome> = stream.by_ref().collect();
    all_answered(&all, 4_000);
    assert!(all.iter().all(|outcome| outcome.replayed));
}

/// Whether a task was woken since that was asked last.
#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn h5_a_stream_goes_on_when_all_that_was_under_way_is_passed_over() {
    let (server, (_folder, path)) = (Server::serve(), place());
    let gets = || (0..4_000).map(|row| server.url(&format!("/count/{row}")));
    let journaled = || client(2).with_journal(open(&path, JournalOptions::default()));
    let (outcomes, recorded) = journaled().run(gets(), &policy());
    recorded.unwrap();
    all_answered(&outcomes, 4_000);
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    let mut stream = std::pin::pin!(journaled().only_new().stream_async(gets(), &policy(), Order::AsDone));
    while stream.as_mut().poll_next(&mut Context::from_waker(&waker)).is_pending() {
        let until = Instant::now() + PATIENCE;
        while !woken.0.swap(false, Ordering::Relaxed) {
            assert!(Instant::now() < until, "nothing is under way, and it waits for that");
            std::thread::sleep(Duration::from_millis(1));
        }
        // Until all of a window was looked up, so that it is passed over as one.
        std::thread::sleep(Duration::from_millis(300));
    }
    assert_eq!(seen(&server, 4_000), [1; 4_000]);
}

#[test]
fn h5_rows_that_failed_are_sent_again_when_asked_and_those_in_doubt_only_when_that_is_asked() {
    let (server, (_folder, path)) =
        (Server::serve_with(Options { keep_log: true, ..Options::default() }), place());
    let rows = || {
        vec![
            Request::get(server.url("/hang")),
            Request::post(server.url("/reset"), "x"),
            Request::get(server.url("/status/500")),
        ]
    };
    let mut timeouts = Timeouts::default();
    timeouts.first_byte = Some(Duration::from_millis(200));
    let policy = policy().timeouts(timeouts);
    let plain = JournalOptions::default;
    let sent = || {
        let log = server.log();
        ["/hang", "/reset", "/status/500"].map(|target| log.to_target(target).count())
    };
    for (options, expected) in [
        (plain(), [1, 1, 1]),
        (plain(), [1, 1, 1]),
        (plain().retry_failed(), [2, 1, 1]),
        (plain().resend_in_doubt(), [2, 2, 1]),
        (plain().retry_failed().resend_in_doubt(), [3, 3, 1]),
        (plain(), [3, 3, 1]),
    ] {
        let outcomes = run(&path, options, rows(), &policy);
        assert_eq!(sent(), expected, "{options:?}");
        assert_eq!(kind(&outcomes[0]), Kind::TimeoutFirstByte);
        assert!(!is_in_doubt(&outcomes[0]) && is_in_doubt(&outcomes[1]), "{outcomes:?}");
        assert_eq!(outcomes[2].response().map(|response| response.status()), Some(500));
    }
}

#[test]
fn h5_doubt_outlasts_every_sending_that_provably_did_nothing() {
    let (server, (_folder, path)) =
        (Server::serve_with(Options { keep_log: true, ..Options::default() }), place());
    let port = server.addr().port();
    let (here, nobody) = (Ipv4Addr::LOCALHOST, Ipv4Addr::new(127, 0, 0, 9));
    let plain = JournalOptions::default;
    let failing = policy().max_failures(1);
    for (address, options, policy, expected, seen) in [
        (here, plain(), policy(), Kind::Closed, 1),
        (nobody, plain().resend_in_doubt(), policy(), Kind::ConnectRefused, 1),
        (here, plain(), policy(), Kind::ConnectRefused, 1),
        (here, plain().retry_failed(), policy(), Kind::ConnectRefused, 1),
        // Here the first row ends the batch before the second one's turn.
        (here, plain().resend_in_doubt(), failing, Kind::NotSent, 1),
        (here, plain().retry_failed(), policy(), Kind::ConnectRefused, 1),
        (here, plain().resend_in_doubt(), policy(), Kind::Closed, 2),
    ] {
        let dns = Dns::Fixed(Arc::new(move |_| Ok(vec![address.into()])));
        let client = Client::builder().threads(1).dns(dns).build().unwrap();
        let rows =
            [Request::get("example.com"), Request::post(format!("http://moved.test:{port}/reset"), "x")];
        let (outcomes, recorded) = client.with_journal(open(&path, options)).run(rows, &policy);
        recorded.unwrap();
        assert_eq!((kind(&outcomes[1]), is_in_doubt(&outcomes[1])), (expected, true), "{options:?}");
        assert_eq!(server.log().to_target("/reset").count(), seen, "{options:?}");
    }
}

#[test]
fn h6_rows_that_wait_to_be_sent_again_when_the_batch_ends_are_sent_by_the_next_run() {
    let (server, (_folder, path)) = (Server::serve(), place());
    let rows = || {
        let url =
            |name: &str, status| server.url(&format!("/flaky/{name}?fail=1&status={status}&retry_after=30"));
        vec![
            Request::get(url("0", 503)),
            Request::post(url("1", 429), "x"),
            Request::get(server.url("/count/2")),
            Request::get(url("3", 503)),
        ]
    };
    let refused = policy().retries(3).governor(Governor::Off);
    let run = client(1).with_journal(open(&path, JournalOptions::default())).begin(&refused);
    run.admit(rows());
    run.close();
    let until = Instant::now() + PATIENCE;
    while run.progress().retrying < 3 && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(1));
    }
    run.cancel();
    let outcomes = run.wait(usize::MAX, PATIENCE);
    run.finish_journal().unwrap();
    let status = |own: &Outcome| own.result.as_ref().map(|answer| answer.status()).ok();
    let mut statuses: Vec<_> = outcomes.iter().map(|own| (own.index, status(own))).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [(0, Some(503)), (1, Some(429)), (2, Some(200)), (3, Some(503))]);
    assert_eq!(seen(&server, 4), [1; 4]);

    let outcomes = crate::journal::run(&path, JournalOptions::default(), rows(), &policy());
    all_answered(&outcomes, 4);
    assert_eq!(outcomes.iter().filter(|own| own.replayed).count(), 1);
    assert_eq!(seen(&server, 4), [2, 2, 1, 2]);
}

#[test]
fn h6_rows_that_the_deadline_of_the_call_cut_off_are_sent_by_the_next_run() {
    let (server, (_folder, path)) = (Server::serve(), place());
    let url = |row| server.url(&format!("/flaky/{row}?fail=1&status=hang"));
    let rows = || vec![Request::get(url(0)), Request::post(url(1), "x")];
    let short = policy().deadline(Duration::from_millis(300));
    let outcomes = run(&path, JournalOptions::default(), rows(), &short);
    assert!(outcomes.iter().all(|own| kind(own) == Kind::TimeoutTotal), "{outcomes:?}");
    assert_eq!(seen(&server, 2), [1, 1]);
    let outcomes = run(&path, JournalOptions::default(), rows(), &policy());
    assert!(outcomes[0].is_ok() && is_in_doubt(&outcomes[1]), "{outcomes:?}");
    assert_eq!(seen(&server, 2), [2, 1]);
}

#[test]
fn g2_a_post_that_was_redirected_after_a_retry_is_on_record_in_doubt_and_not_with_the_answer_before() {
    let answers = ["429 Wait", "303 See\r\nLocation: /done", "200 OK"]
        .map(|head| [Step::ReadRequest, Step::send(format!("HTTP/1.1 {head}\r\nContent-Length: 0\r\n\r\n"))]);
    let server = Server::start(Script::new(answers.into_iter().flatten()));
    let (_folder, path) = place();
    let rows = || vec![Request::post(server.url("/pay"), "x")];
    // The retry has to wait for its rate, and the hop has no time for that.
    let slow = Limit::new("requests", "1/s".parse().unwrap());
    let policy = policy().retries(1).governor(Governor::Off).limit(slow);
    let short = policy.clone().deadline(Duration::from_millis(1500));
    for short in [&short, &policy] {
        let outcomes = run(&path, JournalOptions::default(), rows(), short);
        assert_eq!((kind(&outcomes[0]), is_in_doubt(&outcomes[0])), (Kind::TimeoutTotal, true));
        assert_eq!((outcomes[0].attempts, &*outcomes[0].earlier), (2, &[Attempt::Answered(429)][..]));
        assert_eq!(server.counts().requests, 2);
    }
}

#[test]
fn h7_h8_rows_of_another_input_are_refused_and_nothing_new_is_sent() {
    rows_of_another_input_are_refused(Request::get);
}

/// With rows that are made of their URLs.
pub(crate) fn rows_of_another_input_are_refused(row: impl Fn(String) -> Request) {
    let (server, (_folder, path)) = (Server::serve(), place());
    let url = |n: usize| server.url(&format!("/count/{n}"));
    let rows = |count: usize| (0..count).map(|n| row(url(n))).collect::<Vec<_>>();
    let journaled = || client(2).with_journal(open(&path, JournalOptions::default()));
    let mut stream = journaled().stream(rows(400), &policy(), Order::AsGiven);
    assert_eq!(stream.by_ref().take(10).count(), 10);
    stream.finish().unwrap();
    let before = seen_when_left(&server, 400);

    let mut other = rows(400);
    other[7] = row(server.url("/count/other"));
    let (outcomes, recorded) = journaled().run(other, &policy());
    let error = recorded.unwrap_err();
    assert_eq!(error.trouble(), Trouble::OtherInput);
    assert_eq!(error.to_string(), "the journal belongs to another input: row 7 differs in its url");
    assert_eq!(
        error.hint(),
        Some("give the rows of the first run in the same order, or name another journal")
    );
    assert_eq!(outcomes.len(), 400);
    for outcome in &outcomes[..7] {
        assert!(outcome.is_ok() && outcome.replayed, "{outcome:?}");
    }
    for outcome in &outcomes[7..] {
        assert_eq!(kind(outcome), Kind::NotSent, "{outcome:?}");
    }
    assert_eq!(seen(&server, 400), before);
    assert!(!server.visits().contains_key("other"));

    // It was not harmed by that.
    let (outcomes, recorded) = journaled().run(rows(400), &policy());
    recorded.unwrap();
    // What was under way when it was broken off.
    assert!(outcomes.iter().all(|own| own.is_ok() || is_in_doubt(own)), "{outcomes:?}");
    assert!(outcomes.iter().filter(|own| is_in_doubt(own)).count() <= SLOTS);
    let (_, recorded) = journaled().run(rows(399), &policy());
    assert_eq!(recorded.unwrap_err().trouble(), Trouble::OtherInput);
    let (outcomes, recorded) = journaled().run(rows(401), &policy());
    assert_eq!(recorded.unwrap_err().trouble(), Trouble::OtherInput);
    assert_eq!(kind(&outcomes[400]), Kind::NotSent);
    assert!(!server.visits().contains_key("400"));
}

#[test]
fn h8_other_keys_than_those_of_the_first_run_are_refused_and_nothing_is_sent() {
    let (server, (_folder, path)) =
        (Server::serve_with(Options { keep_log: true, ..Options::default() }), place());
    let row = || Request::post(server.url("/count/0?takes=20s"), "x");
    let job = |name: &str| policy().idempotency(Idempotency::Auto { job: name.into() });
    let begin = |policy: &Policy| {
        let run = client(1).with_journal(open(&path, JournalOptions::default())).begin(policy);
        run.admit([row()]);
        run.close();
        run
    };
    // A row with a key leaves nothing on record until it has ended.
    let first = begin(&job("A"));
    server.wait_for(|log| log.counts.in_flight == 1, PATIENCE);
    drop(first);

    let given = "no idempotency keys but those of the rows";
    for (policy, own) in [(job("B"), "the idempotency keys of the job \"B\""), (policy(), given)] {
        let run = begin(&policy);
        let outcomes = run.wait(usize::MAX, PATIENCE);
        assert_eq!(outcomes.iter().map(kind).collect::<Vec<_>>(), [Kind::NotSent]);
        let error = run.finish_journal().unwrap_err();
        let said = format!(
            "the journal was begun with the idempotency keys of the job \"A\", and this run has {own}: "
        );
        assert!(error.to_string().starts_with(&said), "{error}");
        assert_eq!(error.trouble(), Trouble::OtherInput);
        assert!(error.hint().unwrap().starts_with("give idempotency and job as in the first run"));
    }
    assert_eq!(server.log().requests.len(), 1);

    let again = begin(&job("A"));
    let log = server.wait_for(|log| log.requests.len() == 2, PATIENCE);
    drop(again);
    let keys: Vec<_> = log.requests.iter().map(|seen| seen.header("idempotency-key")).collect();
    assert!(keys[0].is_some() && keys[0] == keys[1], "{keys:?}");
}

#[test]
fn h8_rows_with_the_same_tag_keep_an_outcome_each() {
    rows_with_the_same_tag_keep_an_outcome_each(|n, url| Request::post(url, format!("{}", n % 2)));
}

/// With rows that are made of their numbers and URLs, two for each URL.
pub(crate) fn rows_with_the_same_tag_keep_an_outcome_each(row: impl Fn(usize, String) -> Request) {
    let (server, (_folder, path)) = (Server::serve(), place());
    let url = |n: usize| server.url(&format!("/count/{}", n / 2));
    let rows = || (0..20).map(|n| row(n, url(n)).tag("same")).collect::<Vec<_>>();
    let first = run(&path, JournalOptions::default(), rows(), &policy());
    all_answered(&first, 20);
    let again = run(&path, JournalOptions::default(), rows(), &policy());
    for (first, again) in first.iter().zip(&again) {
        assert_eq!(first.response().unwrap().body(), again.response().unwrap().body());
        assert_eq!((again.tag.as_deref(), again.replayed), (Some("same"), true));
    }
    assert_eq!(seen(&server, 10), [2; 10]);
}

#[test]
fn a_row_that_was_refused_is_refused_again_and_rows_around_it_keep_their_numbers() {
    let (server, (_folder, path)) = (Server::serve(), place());
    let rows = || {
        let good = |row: usize| Request::post(server.url(&format!("/count/{row}")), "x");
        vec![good(0), Request::get("ftp://h/"), good(2), Request::new("get", "http://h/"), good(4)]
    };
    for round in 0..2 {
        let outcomes = run(&path, JournalOptions::default(), rows(), &policy());
        let kinds: Vec<_> =
            outcomes.iter().map(|own| own.result.as_ref().err().map(|error| error.kind())).collect();
        assert_eq!(kinds, [None, Some(Kind::Blocked), None, Some(Kind::BadRequest), None]);
        assert_eq!(outcomes[4].replayed, round == 1);
    }
    assert_eq!(seen(&server, 5), [1, 0, 1, 0, 1]);
}

#[test]
fn p1_an_interrupt_leaves_in_time_and_what_is_done_is_on_disk() {
    let is_post = |row: usize| row % 2 == 1 || row >= 40;
    an_interrupt_leaves_in_time_and_what_is_done_is_on_disk(
        |row, url| Request::new(if is_post(row) { "POST" } else { "GET" }, url),
        is_post,
    );
}

/// With rows that are made of their numbers and URLs, and which of them may not be sent twice.
pub(crate) fn an_interrupt_leaves_in_time_and_what_is_done_is_on_disk(
    row: impl Fn(usize, String) -> Request,
    is_unsafe: impl Fn(usize) -> bool,
) {
    let (server, (_folder, path)) = (Server::serve(), place());
    let url = |row: usize| {
        let takes = if row < 40 { "0" } else { "20s" };
        server.url(&format!("/count/{row}?takes={takes}"))
    };
    let row = |n: usize| row(n, url(n));
    let rows = || (0..80).map(row).collect::<Vec<_>>();
    let run = client(2).with_journal(open(&path, JournalOptions::default())).begin(&policy());
    run.admit((0..40).map(row));
    let mut outcomes = Vec::new();
    let until = Instant::now() + PATIENCE;
    while outcomes.len() < 40 && Instant::now() < until {
        outcomes.append(&mut run.wait(1, PATIENCE));
    }
    run.admit((40..80).map(row));
    run.close();
    server.wait_for(|log| log.counts.in_flight == SLOTS as u64, PATIENCE);
    let began = Instant::now();
    run.cancel();
    assert!(began.elapsed() <= INTERRUPT, "{:?}", began.elapsed());
    outcomes.append(&mut run.wait(usize::MAX, Duration::ZERO));
    assert_eq!(outcomes.len(), 80);
    run.finish_journal().unwrap();
    assert!(began.elapsed() <= LATE, "{:?}", began.elapsed());
    let before = seen(&server, 80);

    let mut timeouts = Timeouts::default();
    timeouts.total = Some(Duration::from_millis(100));
    let policy = policy().timeouts(timeouts);
    let (again, _) = client(2).with_journal(open(&path, JournalOptions::default())).run(rows(), &policy);
    let after = seen(&server, 80);
    for outcome in &outcomes {
        let (row, again) = (outcome.index, &again[outcome.index]);
        assert_eq!(again.replayed, outcome.is_ok(), "{outcome:?}, then {again:?}");
        let is_unsafe = is_unsafe(row);
        if outcome.is_ok() || (is_unsafe && before[row] > 0) {
            assert_eq!(after[row], before[row], "row {row} was sent again");
        }
        assert_eq!(is_in_doubt(again), is_unsafe && !outcome.is_ok(), "{outcome:?}, then {again:?}");
    }
    assert!(outcomes.iter().any(|own| kind_of(own) == Some(Kind::NotSent) && before[own.index] == 0));
}

#[test]
fn p1_an_interrupt_does_not_wait_until_everything_that_was_done_before_is_read() {
    const ROWS: usize = 8_000;
    let (server, (_folder, path)) = (Server::serve(), place());
    let rows = || (0..ROWS).map(|row| Request::get(server.url(&format!("/count/{row}"))));
    let journaled = || client(2).with_journal(open(&path, JournalOptions::default()));
    let (outcomes, recorded) = journaled().run(rows(), &policy().concurrency(64));
    recorded.unwrap();
    all_answered(&outcomes, ROWS);
    let run = journaled().begin(&policy());
    run.admit(rows());
    run.close();
    let began = Instant::now();
    run.cancel();
    assert!(began.elapsed() <= INTERRUPT, "{:?}", began.elapsed());
    assert!(run.progress().settled > 0);
    let mut outcomes = Vec::new();
    while !run.is_finished() {
        outcomes.append(&mut run.wait(usize::MAX, PATIENCE));
    }
    assert!(began.elapsed() <= LATE, "{:?}", began.elapsed());
    assert_eq!(outcomes.len(), ROWS);
    let unread =
        outcomes.iter().filter(|own| !own.replayed).inspect(|own| assert_eq!(kind(own), Kind::NotSent));
    assert!(unread.count() > 0, "everything was read before the interrupt was heard");
    run.finish_journal().unwrap();
    let (outcomes, recorded) = journaled().run(rows(), &policy());
    recorded.unwrap();
    assert!(outcomes.iter().all(|own| own.is_ok() && own.replayed));
    assert!(seen(&server, ROWS).iter().all(|seen| *seen == 1));
}

#[test]
fn p1_a_post_that_was_interrupted_before_anything_was_sent_is_sent_by_the_next_run() {
    let silent = FullBacklog::new().unwrap();
    let (port, (_folder, path)) = (silent.addr().port(), place());
    let listen = Listen { address: Ipv6Addr::LOCALHOST.into(), port, ..Listen::default() };
    let server = Server::try_serve_with(Options { listen, ..Options::default() })
        .unwrap_or_else(|error| panic!("no server on ::1: {error}"));
    let journaled = |address: IpAddr| {
        let dns = Dns::Fixed(Arc::new(move |_| Ok(vec![address])));
        let client = Client::builder().threads(2).dns(dns).build().unwrap();
        client.with_journal(open(&path, JournalOptions::default()))
    };
    let rows = || (0..40).map(|row| Request::post(format!("http://moved.test:{port}/count/{row}"), "x"));
    let run = journaled(Ipv4Addr::LOCALHOST.into()).begin(&policy());
    run.admit(rows());
    run.close();
    let until = Instant::now() + PATIENCE;
    while run.progress().in_flight == 0 && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(1));
    }
    run.cancel();
    let outcomes = run.wait(usize::MAX, Duration::ZERO);
    run.finish_journal().unwrap();
    assert!(outcomes.iter().any(|own| kind(own) == Kind::Cancelled), "none was interrupted");
    assert!(!outcomes.iter().any(is_in_doubt), "{outcomes:?}");

    let (outcomes, recorded) = journaled(Ipv6Addr::LOCALHOST.into()).run(rows(), &policy());
    recorded.unwrap();
    all_answered(&outcomes, 40);
    assert_eq!(seen(&server, 40), [1; 40]);
}

#[test]
fn h5_a_deadline_is_kept_by_the_rows_of_an_earlier_run_too_and_their_record_stands() {
    const ROWS: usize = 20_000;
    const DEADLINE: Duration = Duration::from_millis(1);
    let (server, (_folder, path)) = (Server::serve(), place());
    let rows = || (0..ROWS).map(|row| Request::get(server.url(&format!("/count/{row}"))));
    let journaled = || client(2).with_journal(open(&path, JournalOptions::default()));
    let (outcomes, recorded) = journaled().run(rows(), &policy().concurrency(64));
    recorded.unwrap();
    all_answered(&outcomes, ROWS);
    let run = journaled().begin(&policy().deadline(DEADLINE));
    run.admit(rows());
    let began = Instant::now();
    run.close();
    let outcomes = run.wait(usize::MAX, PATIENCE);
    assert!(began.elapsed() <= LATE, "{:?}", began.elapsed());
    run.finish_journal().unwrap();
    assert_eq!(outcomes.len(), ROWS);
    let unread =
        outcomes.iter().filter(|own| !own.replayed).inspect(|own| assert_eq!(kind(own), Kind::NotSent));
    assert!(unread.count() > 0, "everything was read although the time was over");
    let (outcomes, recorded) = journaled().run(rows(), &policy());
    recorded.unwrap();
    assert!(outcomes.iter().all(|own| own.is_ok() && own.replayed));
    assert!(seen(&server, ROWS).iter().all(|seen| *seen == 1));
}

fn kind_of(outcome: &Outcome) -> Option<Kind> {
    outcome.result.as_ref().err().map(|error| error.kind())
}

#[test]
fn e20_rows_of_an_origin_that_is_paused_keep_no_other_from_being_put_on_record() {
    let answer = |request: &RequestLog| {
        let row: usize = request.target.trim_start_matches('/').parse().unwrap();
        let status = if row < 150 { "204 Done" } else { "429 Busy\r\nRetry-After: 20" };
        format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").into_bytes()
    };
    let busy = Server::start(Script::new([Step::ReadRequest, Step::answer(answer), Step::Again]));
    let (server, (_folder, path)) = (Server::serve(), place());
    let policy = policy().concurrency(60);
    let run = client(1).with_journal(open(&path, JournalOptions::default())).begin(&policy);
    // So many that it is ahead by every slot when it is paused.
    run.admit((0..400).map(|row| Request::post(busy.url(&format!("/{row}")), "x")));
    let until = Instant::now() + PATIENCE;
    let wait_for = |status: u16, count: usize| {
        let mut found = 0;
        while found < count {
            assert!(Instant::now() < until, "{found} of {count} rows were answered {status}");
            let outcomes = run.wait(1, Duration::from_millis(100));
            let answered = outcomes.iter().filter_map(Outcome::response);
            found += answered.filter(|response| response.status() == status).count();
        }
    };
    wait_for(429, 1);
    run.admit((0..200).map(|row| Request::post(server.url(&format!("/count/{row}")), "x")));
    run.close();
    wait_for(200, 200);
    run.finish_journal().unwrap();
    assert_eq!(seen(&server, 200), [1; 200]);
}

#[test]
fn an_asynchronous_run_ends_its_journal_too() {
    let (server, (_folder, path)) = (Server::serve(), place());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let journaled = || client(1).with_journal(open(&path, JournalOptions::default()));
    let (outcomes, recorded) = runtime.block_on(journaled().run_async(rows(&server, 30), &policy()));
    recorded.unwrap();
    all_answered(&outcomes, 30);
    assert!(path.with_extension("loamy.bodies").exists(), "the journal is complete");
    let (outcomes, recorded) = runtime.block_on(journaled().run_async(rows(&server, 30), &policy()));
    recorded.unwrap();
    assert!(outcomes.iter().all(|outcome| outcome.replayed));
    assert_eq!(seen(&server, 30), [1; 30]);
}

#[test]
fn p1_a_run_that_is_cancelled_before_all_its_rows_have_come_is_left_to_a_later_one() {
    let (server, (_folder, path)) = (Server::serve(), place());
    let rows = |count: usize| (0..count).map(|row| Request::get(server.url(&format!("/count/{row}"))));
    let run = client(1).with_journal(open(&path, JournalOptions::default())).begin(&policy());
    run.admit(rows(10));
    let mut ended = 0;
    while ended < 10 {
        ended += run.wait(1, PATIENCE).len();
    }
    run.cancel();
    run.close();
    run.finish_journal().unwrap();

    let outcomes = crate::journal::run(&path, JournalOptions::default(), rows(20).collect(), &policy());
    all_answered(&outcomes, 20);
    assert!(outcomes.iter().all(|outcome| outcome.replayed == (outcome.index < 10)));
    assert_eq!(seen(&server, 20), [1; 20]);
}
