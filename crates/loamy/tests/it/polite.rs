//! How fast, and when not: limits of the policy, and what servers say of theirs. Asserted by what the server counted.
#![allow(
    clippy::disallowed_methods,
    reason = "the walls around the clock are the engine's; this drives it from outside"
)]

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use loamy::{Adaptive, Client, Dns, Kind, Limit, Outcome, Overrides, Policy, Request};
use testkit::Server;

use crate::expectations::{LATE, all_answered, client};

const SECOND: Duration = Duration::from_secs(1);

/// How much later than it was sent a request may be seen by the server, in what is measured between two of them.
const UNEVENLY: Duration = Duration::from_millis(20);

/// The same on a machine that has much else to do. No try may be beyond it.
const VERY_UNEVENLY: Duration = Duration::from_millis(150);

/// The share of a rate that is used at the least, be it the policy's or published by a server.
const USED: f64 = 0.95;

/// The share of rows that a server may refuse that publishes its limit.
const REFUSED: f64 = 0.01;

fn limit(name: &str, rate: &str) -> Limit {
    Limit::new(name, rate.parse().unwrap())
}

/// What is measured may be wrong by what else the machine does, a server that is not looked after for a while above all: a try may
/// miss by a little what holds in the next.
const TRIES: usize = 4;

/// Measurements do not disturb each other.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn measured(check: impl Fn() -> Result<(), String>) {
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let wrong: Vec<_> = (0..TRIES).map_while(|_| check().err()).collect();
    assert!(wrong.len() < TRIES, "each time: {wrong:?}");
}

/// All of them at once.
fn each<T: Send>(
    cases: impl IntoIterator<Item = T>,
    check: impl Fn(T) -> Result<(), String> + Sync,
) -> Result<(), String> {
    thread::scope(|scope| {
        let check = &check;
        let running: Vec<_> = cases.into_iter().map(|case| scope.spawn(move || check(case))).collect();
        running.into_iter().try_for_each(|one| one.join().unwrap())
    })
}

fn ensure(is_so: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    if is_so { Ok(()) } else { Err(otherwise()) }
}

/// In every span of time, however it is laid, no more came than the rate allows.
fn held_to(arrivals: &[Duration], cost: u64, rate: f64, burst: u64) -> Result<(), String> {
    for (first, from) in arrivals.iter().enumerate() {
        for (last, to) in arrivals.iter().enumerate().skip(first) {
            let seen = (last - first + 1) as u64 * cost;
            let allowed_if = |late: Duration| rate * (*to - *from + late).as_secs_f64() + (burst + 1) as f64;
            let (allowed, at_all) = (allowed_if(UNEVENLY), allowed_if(VERY_UNEVENLY));
            assert!(seen as f64 <= at_all, "{seen} in {:?}, {at_all:.1} allowed at all", *to - *from);
            ensure(seen as f64 <= allowed, || format!("{seen} in {:?}, {allowed:.1} allowed", *to - *from))?;
        }
    }
    Ok(())
}

/// Enough of a rate is used, but for what went at once.
fn used(arrivals: &[Duration], cost: u64, rate: f64, burst: u64) -> Result<(), String> {
    let paced = arrivals.len() as u64 * cost - burst.max(cost);
    let span = arrivals[arrivals.len() - 1] - arrivals[0];
    let used = paced as f64 / span.as_secs_f64() / rate;
    ensure(used >= USED, || format!("{used:.3} of {rate} a second is used"))
}

fn of_status(outcomes: &[Outcome], status: u16) -> usize {
    let has = |outcome: &&Outcome| outcome.result.as_ref().is_ok_and(|response| response.status() == status);
    outcomes.iter().filter(has).count()
}

#[test]
fn a_published_limit_is_neither_overrun_nor_left_idle() {
    let told = [
        (100, "limit=100&window=1&how=fixed&as=draft10"),
        (200, "limit=200&window=1&how=sliding&as=draft7"),
        (100, "limit=100&window=1&how=bucket&as=draft6"),
        (200, "limit=400&window=2&how=fixed&as=x-delta"),
        (100, "limit=100&window=1&how=sliding&as=openai"),
    ];
    let holds = |(rate, query): (u64, &str)| {
        let server = Server::serve();
        let row = |row| server.url(&format!("/limited/x/{row}?{query}&takes=10ms"));
        client(1).run((0..rate * 4).map(row), &Policy::default().concurrency(32));
        let (usage, arrivals) = (server.usage("x"), server.arrivals("x"));
        assert_eq!(usage.granted + usage.refused, rate * 4, "{query}");
        let refused = usage.refused as f64 / arrivals.len() as f64;
        ensure(refused <= REFUSED, || format!("{query}: {usage:?}"))?;
        let later = &arrivals[arrivals.partition_point(|at| *at < arrivals[0] + SECOND)..];
        used(later, 1, rate as f64, 1).map_err(|wrong| format!("{query}: {wrong}"))
    };
    measured(|| each(told, holds));
}

#[test]
fn e20_who_is_refused_without_a_hint_waits_half_a_second_and_longer_each_time() {
    let server = Server::serve();
    let rows = (0..8).map(|_| server.url("/limited/x?limit=5&window=60&as=none"));
    let outcomes = client(1).run(rows, &Policy::default().concurrency(1));
    assert_eq!((of_status(&outcomes, 200), of_status(&outcomes, 429)), (5, 3));
    let arrivals = server.arrivals("x");
    for (at, pause) in [(5, SECOND / 2), (6, SECOND)] {
        let waited = arrivals[at + 1] - arrivals[at];
        assert!(waited >= pause && waited <= pause + pause / 20 + LATE, "{waited:?} for {pause:?}");
    }
}

#[test]
fn e20_nobody_comes_earlier_than_retry_after_says() {
    thread::scope(|scope| {
        for how in ["retry_after=1", "retry_after=date:1", "retry_after=1&refuse=503"] {
            scope.spawn(move || {
                let server = Server::serve();
                // Whoever has quotas published could wait for those.
                let query = format!("limit=1&window=60&as=none&{how}");
                let rows = (0..4).map(|_| server.url(&format!("/limited/x?{query}")));
                client(1).run(rows, &Policy::default().concurrency(1));
                let arrivals = server.arrivals("x");
                assert_eq!(arrivals.len(), 4, "{how}");
                // A date is told in whole seconds, rounded up.
                for pair in arrivals[1..].windows(2) {
                    let waited = pair[1] - pair[0];
                    assert!(waited >= SECOND && waited <= SECOND * 2 + LATE, "{how}: {waited:?}");
                }
            });
        }
    });
}

#[test]
fn k20_beyond_max_pause_what_waits_is_not_sent() {
    let server = Server::serve();
    let rows = (0..100).map(|_| server.url("/limited/x?limit=3&window=3600&as=none&retry_after=3600"));
    let begin = Instant::now();
    let outcomes = client(1).run(rows, &Policy::default().concurrency(4));
    assert!(begin.elapsed() < LATE, "{:?}", begin.elapsed());
    let seen = server.arrivals("x").len();
    // Those that were under way when the first was refused.
    assert!(seen <= 3 + 4, "{seen} rows were seen");
    assert_eq!((of_status(&outcomes, 200), of_status(&outcomes, 429)), (3, seen - 3));
    for outcome in outcomes.iter().filter(|outcome| outcome.result.is_err()) {
        assert_eq!(outcome.result.as_ref().unwrap_err().kind(), Kind::NotSent, "{outcome:?}");
    }
}

#[test]
fn an_origin_that_refuses_holds_back_no_other() {
    let (limited, free) = (Server::serve(), Server::serve());
    let slow = (0..60).map(|_| limited.url("/limited/x?limit=20&window=1&as=draft10&retry_after=1"));
    let quick = (0..600).map(|_| free.url("/stamp/x"));
    client(1).run(slow.chain(quick), &Policy::default().concurrency(16));
    let span = |arrivals: &[Duration]| arrivals[arrivals.len() - 1] - arrivals[0];
    let (slow, quick) = (limited.arrivals("x"), free.arrivals("x"));
    assert_eq!((slow.len(), quick.len()), (60, 600));
    assert!(span(&slow) >= SECOND * 2, "{:?}", span(&slow));
    assert!(span(&quick) <= LATE, "{:?}", span(&quick));
}

#[test]
fn a_limit_holds_at_the_server_and_is_used() {
    let limits = [("100/s", 100.0, 1, 300), ("20/s", 20.0, 5, 60), ("400/s", 400.0, 20, 1200)];
    let holds = |(text, rate, burst, rows)| {
        let server = Server::serve();
        let policy = Policy::default().limit(limit("requests", text).burst(burst));
        all_answered(&client(2).run((0..rows).map(|_| server.url("/stamp/x")), &policy), rows);
        let arrivals = server.arrivals("x");
        held_to(&arrivals, 1, rate, burst)?;
        used(&arrivals, 1, rate, burst)
    };
    measured(|| each(limits, holds));
}

#[test]
fn a_limit_of_the_batch_counts_what_rows_cost() {
    measured(|| {
        let server = Server::serve();
        let costs = Overrides::default().cost("tokens", 50);
        let row = |_| Request::get(server.url("/stamp/x")).overrides(costs.clone());
        let policy = Policy::default().limit(limit("tokens", "1500/s").burst(100));
        all_answered(&client(1).run((0..60).map(row), &policy), 60);
        let arrivals = server.arrivals("x");
        held_to(&arrivals, 50, 1500.0, 100)?;
        used(&arrivals, 50, 1500.0, 100)
    });
}

#[test]
fn rows_of_one_limit_key_share_a_limit_whatever_their_origin() {
    let dns = Dns::Fixed(Arc::new(|_| Ok(vec![IpAddr::V4(Ipv4Addr::LOCALHOST)])));
    let client = Client::builder().threads(1).dns(dns).build().unwrap();
    let policy = Policy::default().limit(limit("requests", "50/s").burst(2).for_each_origin());
    let holds = |overrides: Overrides, rate, burst| {
        let server = Server::serve();
        let row = |row: usize| {
            let url = format!("http://{}.test:{}/stamp/x", ["a", "b"][row % 2], server.port());
            Request::get(url).overrides(overrides.clone())
        };
        all_answered(&client.run((0..100).map(row), &policy), 100);
        let arrivals = server.arrivals("x");
        held_to(&arrivals, 1, rate, burst)?;
        used(&arrivals, 1, rate, burst)
    };
    measured(|| holds(Overrides::default().limit_key("account"), 50.0, 2));
    measured(|| holds(Overrides::default(), 100.0, 4));
}

#[test]
fn adaptive_comes_near_what_a_server_bears_and_is_seldom_refused() {
    // Eight at once, each in 20 ms: 400 a second. Beyond twelve it refuses.
    const ROWS: usize = 1200;
    const BEST: Duration = Duration::from_secs(3);
    /// Finding the peak costs some, and so do other tests.
    const OF_BEST: u32 = 2;
    for adaptive in [Adaptive::Aimd, Adaptive::Gradient2] {
        measured(|| {
            let server = Server::serve();
            let rows = (0..ROWS).map(|_| server.url("/peak/x?at=8&most=12&service=20ms"));
            let begin = Instant::now();
            client(1).run(rows, &Policy::default().adaptive(adaptive));
            let (elapsed, peak) = (begin.elapsed(), server.peak("x"));
            ensure(elapsed <= BEST * OF_BEST, || format!("{adaptive:?}: {elapsed:?}, {peak:?}"))?;
            ensure(peak.refused * 20 <= ROWS as u64, || format!("{adaptive:?}: {peak:?}"))
        });
    }
}

#[test]
fn what_is_left_of_a_quota_goes_at_once_where_nobody_waits_for_the_next() {
    const LEFT: usize = 5;
    let server = Server::serve();
    let url = server.url("/limited/scarce?limit=5&window=600&as=draft10");
    let begin = Instant::now();
    // Of two at once the later may be counted first, and what it says is left is then one too many.
    let outcomes = client(1).run((0..12).map(|_| Request::get(&*url)), &Policy::default().concurrency(1));
    assert!(begin.elapsed() < SECOND, "{:?}", begin.elapsed());
    assert_eq!(of_status(&outcomes, 200), LEFT);
    for unsent in &outcomes[LEFT..] {
        let error = unsent.result.as_ref().unwrap_err();
        assert_eq!(error.kind(), Kind::NotSent, "{error}");
        assert!(error.message().contains("takes no further request for"), "{error}");
    }
    let usage = server.usage("scarce");
    assert_eq!((usage.granted, usage.refused), (LEFT as u64, 0));
}
