use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Batch, Claim};
use crate::clock::now;
use crate::job::{End, Job, Permit};
use crate::simulation::response;
use crate::{Error, Kind, Limit, Policy, Request};

#[test]
fn h11_rows_on_their_way_when_all_breaks_down_are_in_doubt_and_those_that_wait_keep_their_tags() {
    let policy = Policy::default().concurrency(2);
    let mut batch = Batch::new(Arc::new(policy), now(), 7);
    for row in [
        Request::post("http://a.test/", "x"),
        Request::get("http://b.test/"),
        Request::post("http://c.test/", "x").tag("waits"),
    ] {
        batch.admit(now(), row);
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

/// When the rows are sent of a batch with that limit, to a server that closes after each and to which it takes so long to connect.
fn sent_on_connections_of_their_own(rows: usize, rate: &str, connecting: Duration) -> Vec<Instant> {
    let begin = now();
    let policy = Policy::default().limit(Limit::new("requests", rate.parse().unwrap()));
    let mut batch = Batch::new(Arc::new(policy), begin, 7);
    (0..rows).for_each(|row| batch.admit(begin, Request::get(format!("http://a.test/{row}"))));
    batch.close();
    let (mut now, mut sent, mut idle) = (begin, Vec::new(), 0_usize);
    let mut on_their_way: Vec<(Instant, Box<Job>)> = Vec::new();
    while !batch.is_settled() {
        batch.expire(now);
        let (stand, rest): (Vec<_>, Vec<_>) = on_their_way.into_iter().partition(|(due, _)| *due <= now);
        on_their_way = rest;
        let mut go: Vec<Box<Job>> = Vec::new();
        for (_, job) in stand {
            batch.connected(job.origin, 1);
            match batch.renew(now, job) {
                Some(job) => go.push(job),
                None => idle += 1,
            }
        }
        while let Claim::Granted(job) = batch.claim(now, None, |_| (idle == 0).then_some(connecting)) {
            if job.permit == Permit::Given {
                idle -= 1;
                go.push(job);
            } else {
                on_their_way.push((now + connecting, job));
            }
        }
        for job in go {
            sent.push(now);
            let answer = response(200, None, job.index, "http://a.test/");
            batch.settle(now, job, End::Answered(answer));
        }
        let next = on_their_way.iter().map(|(due, _)| *due).chain(batch.next_grant()).min();
        now = next.unwrap_or(now).max(now);
    }
    sent
}

#[test]
fn a_rate_is_held_to_and_used_though_each_row_has_to_connect() {
    for (rate, a_second) in [("5/s", 5), ("40/s", 40), ("150/s", 150)] {
        let sent = sent_on_connections_of_their_own(400, rate, Duration::from_millis(300));
        assert_eq!(sent.len(), 400);
        let each = Duration::from_secs(1) / a_second;
        assert!(sent.windows(2).all(|pair| pair[1] - pair[0] >= each - Duration::from_nanos(1)), "{rate}");
        // One connection goes first, and each that stands is the ground for two more.
        let fanned_out = &sent[100..];
        let took = fanned_out[299] - fanned_out[0];
        assert!(took <= each * 299 * 101 / 100, "{rate}: {took:?}");
    }
}
