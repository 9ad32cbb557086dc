use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Asked, Next, Plan};
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
        match self.plan.next(now, None, |_| None, &mut self.gate) {
            Next::Row(mut job) => {
                job.started.get_or_insert(now);
                Some(job)
            }
            Next::Nobody => None,
            Next::GiveUp(..) => panic!("nobody is given up here"),
        }
    }

    fn give_back(&mut self, job: &mut Job) {
        self.plan.give_back(job, &mut self.gate);
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
        while let Some(mut job) = waiting.next(now) {
            granted += 1;
            waiting.give_back(&mut job);
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
        let mut job = waiting.next(now).unwrap();
        hosts.push(job.index / 3);
        waiting.give_back(&mut job);
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

/// A row waits for its intent.
fn push_unsure(waiting: &mut Waiting, host: usize, key: Option<&str>) {
    let job = waiting.job(host, key);
    waiting.plan.push_unsure(job, &waiting.gate);
}

#[test]
fn who_was_sent_before_goes_first_and_among_those_who_began_first() {
    let mut waiting = Waiting::new(Policy::default());
    let begin = clock::now();
    let hops = (0..4).map(|second| {
        let mut job = waiting.job(0, None);
        job.started = Some(begin + SECOND * second);
        job
    });
    let mut hops: Vec<_> = hops.collect();
    waiting.push(0, None);
    hops.swap(1, 2);
    for hop in hops {
        waiting.plan.push_again(hop, &waiting.gate);
    }
    waiting.plan.proved(OriginId(0), 8, &waiting.gate);
    let order: Vec<_> = std::iter::from_fn(|| waiting.next(begin)).map(|job| job.index).collect();
    assert_eq!(order, [0, 1, 2, 3, 4]);
}

#[test]
fn an_origin_that_sleeps_is_not_looked_at_to_find_who_is_put_on_record_next() {
    let mut waiting = Waiting::new(Policy::default());
    let now = clock::now();
    for host in 0..HOSTS {
        push_unsure(&mut waiting, host, None);
        waiting.plan.pause(OriginId(host as u32), now + SECOND, &waiting.gate);
    }
    assert!(waiting.plan.ahead.asking.is_empty(), "who sleeps does not stand among those that may ask");
    push_unsure(&mut waiting, HOSTS, None);
    assert_eq!(waiting.plan.ask(&waiting.gate), Some(Asked::Intend(HOSTS)));
    assert_eq!(waiting.plan.ask(&waiting.gate), None);
    assert!(waiting.plan.ahead.asking.is_empty(), "nor does who is ahead by as much as it may");
    waiting.plan.wake(now + SECOND, &waiting.gate);
    let asked = std::iter::from_fn(|| waiting.plan.ask(&waiting.gate)).count();
    assert_eq!(asked, HOSTS.min(waiting.gate.concurrency() - 1));
}

#[test]
fn hosts_of_a_limit_key_that_sleeps_give_back_what_another_origin_could_use() {
    let limit = Limit::new("requests", "1/s".parse().unwrap()).burst(1).for_each_origin();
    let mut waiting = Waiting::new(Policy::default().limit(limit).concurrency(4));
    let now = clock::now();
    (0..6).for_each(|_| push_unsure(&mut waiting, 0, Some("account")));
    waiting.plan.proved(OriginId(0), 8, &waiting.gate);
    for row in 0..4 {
        assert_eq!(waiting.plan.ask(&waiting.gate), Some(Asked::Intend(row)));
        waiting.plan.intended(row, &waiting.gate);
    }
    push_unsure(&mut waiting, 1, None);
    assert_eq!(waiting.plan.ask(&waiting.gate), None, "who is awake gives nothing back");
    let mut job = waiting.next(now).unwrap();
    assert_eq!(waiting.plan.ask(&waiting.gate), Some(Asked::Intend(6)));
    push_unsure(&mut waiting, 2, None);
    waiting.give_back(&mut job);
    assert!(waiting.next(now).is_none(), "the rate has the key sleep");
    assert_eq!(waiting.plan.ask(&waiting.gate), Some(Asked::TakeBack(3)));
    assert_eq!(waiting.plan.ask(&waiting.gate), Some(Asked::Intend(7)));
}
