use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Next, Plan};
use crate::backoff::Jitter;
use crate::clock;
use crate::gate::Gate;
use crate::job::{Job, OriginId};
use crate::{Limit, Overrides, Policy, Request};

/// A plan with the gate that it goes by, and rows numbered as they come.
struct Waiting {
    plan: Plan,
    gate: Gate,
    rows: usize,
}

impl Waiting {
    fn new(policy: Policy) -> Self {
        let gate = Gate::new(policy.concurrency, policy.per_host);
        Self { plan: Plan::new(Arc::new(policy), None, Jitter::seeded(1)), gate, rows: 0 }
    }

    /// One whose rows pass once a second for each `limit_key`.
    fn once_a_second() -> Self {
        let limit = Limit::new("requests", "1/s".parse().unwrap()).burst(1).for_each_origin();
        Self::new(Policy::default().limit(limit))
    }

    fn job(&mut self, host: usize, key: Option<&str>) -> Box<Job> {
        let mut request = Request::get(format!("http://host{host}.test/{}", self.rows));
        if let Some(key) = key {
            request = request.overrides(Overrides::default().limit_key(key));
        }
        let placed = self.plan.place(&mut request, &self.gate).unwrap();
        self.rows += 1;
        Box::new(Job::new(self.rows - 1, request, placed, None))
    }

    fn push(&mut self, host: usize, key: Option<&str>) {
        let job = self.job(host, key);
        self.plan.push(job, &self.gate);
    }

    fn next(&mut self, now: Instant) -> Option<Box<Job>> {
        match self.plan.next(now, None, &mut self.gate) {
            Next::Row(mut job) => {
                job.started.get_or_insert(now);
                Some(job)
            }
            Next::Nobody => None,
            Next::GiveUp(..) => panic!("nobody is given up here"),
        }
    }

    fn give_back(&mut self, job: &Job) {
        self.plan.give_back(job.origin, &mut self.gate);
    }

    fn visits(&mut self) -> u64 {
        std::mem::take(&mut self.plan.visits)
    }
}

const HOSTS: usize = 200;
const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_row_of_a_limit_key_concerns_its_own_queue_however_many_hosts_there_are() {
    let mut waiting = Waiting::once_a_second();
    let mut now = clock::now();
    (0..HOSTS * 2).for_each(|row| waiting.push(row % HOSTS, Some("account")));
    assert!(waiting.visits() <= 3 * HOSTS as u64, "a row that comes in is looked at with its own queue");
    let mut granted = 0;
    while let Some(at) = Some(now).filter(|_| granted < 10).or_else(|| waiting.plan.next_event(&waiting.gate))
        && granted < 10
    {
        now = now.max(at);
        waiting.plan.wake(now, &waiting.gate);
        while let Some(job) = waiting.next(now) {
            granted += 1;
            waiting.give_back(&job);
        }
        assert_eq!(waiting.plan.asleep.len(), 1, "what all hosts of a key wait for is waited for once");
        now = waiting.plan.next_event(&waiting.gate).unwrap();
    }
    assert!(waiting.visits() <= 5 * 10, "a grant costs as much as it does with one host");
}

#[test]
fn hosts_of_one_limit_key_take_turns_at_its_rate() {
    let mut waiting = Waiting::once_a_second();
    let begin = clock::now();
    (0..9).for_each(|row| waiting.push(row / 3, Some("account")));
    let mut hosts = Vec::new();
    for second in 0..9 {
        let now = begin + (SECOND + Duration::from_millis(2)) * second;
        waiting.plan.wake(now, &waiting.gate);
        let job = waiting.next(now).unwrap();
        hosts.push(job.index / 3);
        waiting.give_back(&job);
        assert!(waiting.next(now).is_none());
    }
    assert_eq!(hosts, [0, 1, 2, 0, 1, 2, 0, 1, 2]);
}

#[test]
fn a_pause_of_one_origin_keeps_no_other_row_of_its_limit_key_back() {
    let mut waiting = Waiting::new(Policy::default());
    let now = clock::now();
    waiting.push(0, Some("account"));
    waiting.push(1, Some("account"));
    waiting.plan.pause(OriginId(0), now + SECOND, &waiting.gate);
    assert_eq!(waiting.next(now).map(|job| job.index), Some(1));
    assert!(waiting.next(now).is_none());
    waiting.plan.wake(now + SECOND, &waiting.gate);
    assert_eq!(waiting.next(now + SECOND).map(|job| job.index), Some(0));
}
