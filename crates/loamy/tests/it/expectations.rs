//! What tests of time and order expect of every call, and the tolerances that they grant.

use std::thread;
use std::time::{Duration, Instant};

use loamy::{Client, Outcome};
use testkit::{Options, Server};

/// How much later than its time a limit may be seen to hold: other tests share the cores.
pub(crate) const LATE: Duration = Duration::from_millis(900);

/// When a test gives up waiting for what must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// How soon all is over that nothing holds up: other tests share the cores.
pub(crate) const SOON: Duration = Duration::from_millis(1500);

/// How long an interrupt may take.
pub(crate) const INTERRUPT: Duration = Duration::from_millis(200);

/// How long bytes that were written already may take to be seen by the server.
pub(crate) const IN_TRANSIT: Duration = Duration::from_millis(150);

/// A client of its own, with so many threads.
pub(crate) fn client(threads: usize) -> Client {
    Client::builder().threads(threads).build().unwrap()
}

/// A server that keeps what it sees.
pub(crate) fn kept() -> Server {
    Server::serve_with(Options { keep_log: true, ..Options::default() })
}

/// Waits until it is so.
#[track_caller]
#[expect(clippy::disallowed_methods, reason = "the walls around the clock are the engine's")]
pub(crate) fn until(is_so: impl Fn() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < PATIENCE, "it never came to that");
        thread::sleep(Duration::from_millis(1));
    }
}

/// As many outcomes as rows, in their order, each a whole answer below 400.
#[track_caller]
pub(crate) fn all_answered(outcomes: &[Outcome], rows: usize) {
    assert!(outcomes.iter().map(|outcome| outcome.index).eq(0..rows), "one outcome a row, in order");
    for outcome in outcomes {
        assert!(outcome.is_ok(), "{outcome:?}");
    }
}

/// The error of a batch of one row.
#[track_caller]
pub(crate) fn only_error(outcomes: &[Outcome]) -> &loamy::Error {
    let [outcome] = outcomes else { panic!("one row, {} outcomes", outcomes.len()) };
    outcome.result.as_ref().expect_err("the row fails")
}
