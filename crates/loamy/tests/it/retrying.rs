//! Rows that go out again after a while, as the server sees it.
#![allow(
    clippy::disallowed_methods,
    reason = "the walls around the clock are the engine's; this drives it from outside"
)]

use std::time::{Duration, Instant};

use loamy::{Attempt, Backoff, Client, Kind, Policy, Request, Timeouts};
use testkit::Server;

/// How much later than it may be sent again a row may have its answer.
const SOON: Duration = Duration::from_millis(1500);

#[test]
fn a_row_that_was_late_goes_out_again_though_nothing_else_happens() {
    let server = Server::serve();
    let client = Client::builder().threads(1).build().unwrap();
    let span = Duration::from_millis(100);
    let mut timeouts = Timeouts::default();
    timeouts.first_byte = Some(span);
    let backoff = Backoff { base: span, cap: span };
    let policy = Policy::default().timeouts(timeouts).retries(2).backoff(backoff);
    let begin = Instant::now();
    let row = Request::get(server.url("/flaky/late?fail=2&status=hang"));
    let outcomes = client.run([row], &policy);
    assert!(begin.elapsed() < 4 * span + SOON, "{:?}", begin.elapsed());
    assert!(outcomes[0].is_ok(), "{outcomes:?}");
    assert_eq!(outcomes[0].earlier, [Attempt::Failed(Kind::TimeoutFirstByte); 2]);
    assert_eq!(server.visits()["late"].values().sum::<u64>(), 3);
}
