use std::sync::Arc;

use super::{Batch, Claim};
use crate::clock::now;
use crate::{Error, Kind, Policy, Request};

#[test]
fn h11_rows_on_their_way_when_all_breaks_down_are_in_doubt_and_those_that_wait_keep_their_tags() {
    let policy = Policy::default().concurrency(2);
    let mut batch = Batch::new(Arc::new(policy), now(), 7);
    for row in [
        Request::post("http://a.test/", "x"),
        Request::get("http://b.test/"),
        Request::post("http://c.test/", "x").tag("waits"),
    ] {
        batch.admit(row);
    }
    batch.close();
    while let Claim::Granted(_) = batch.claim(now(), None, |_| None) {}
    batch.abandon(&Error::new(Kind::Internal, "a worker broke down"));

    let mut outcomes = batch.take_ready();
    outcomes.sort_by_key(|outcome| outcome.index);
    let seen = outcomes.iter().map(|outcome| {
        let error = outcome.result.as_ref().unwrap_err();
        (error.kind(), error.in_doubt(), outcome.attempts, error.attempts(), outcome.tag.as_deref())
    });
    assert_eq!(
        seen.collect::<Vec<_>>(),
        [
            (Kind::Internal, true, 1, 1, None),
            (Kind::Internal, false, 0, 0, None),
            (Kind::Internal, false, 0, 0, Some("waits")),
        ]
    );
    assert!(batch.is_settled());
}
