//! A server that has a peak.

use std::sync::Barrier;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::{PeakUsage, Server};

use super::get;
use crate::client::{PATIENCE, connect};

/// Asks from so many threads at once, each so often; what each was told.
fn crowd(server: &Server, clients: usize, times: usize, target: &str) -> Vec<(u16, Value)> {
    let barrier = Barrier::new(clients);
    std::thread::scope(|scope| {
        let asking: Vec<_> = (0..clients)
            .map(|_| {
                scope.spawn(|| {
                    let mut client = connect(server);
                    barrier.wait();
                    let ask = |_| {
                        let response = client.get(target).response();
                        (response.status, response.json())
                    };
                    (0..times).map(ask).collect::<Vec<_>>()
                })
            })
            .collect();
        asking.into_iter().flat_map(|asking| asking.join().expect("no panic")).collect()
    })
}

#[test]
fn up_to_the_peak_each_request_takes_as_long_as_one() {
    let server = Server::serve();
    let started = Instant::now();
    let told = crowd(&server, 5, 10, "/peak?at=5&most=10&service=20ms");
    assert!(started.elapsed() >= Duration::from_millis(200), "{:?}", started.elapsed());
    assert!(told.iter().all(|(status, told)| *status == 200 && told["milliseconds"] == 20.0), "{told:?}");
    let usage = server.peak("");
    assert_eq!((usage.served, usage.refused), (50, 0));
    assert!(usage.most <= 5);
}

#[test]
fn beyond_the_peak_each_request_takes_longer_and_in_the_end_it_is_refused() {
    let server = Server::serve();
    // Long enough that all have come before the first one leaves.
    let target = "/peak/steep/row?at=4&most=8&service=1s&retry_after=true";
    let started = Instant::now();
    let mut told = crowd(&server, 10, 1, target);
    told.sort_by_key(|(status, told)| (*status, told["in_service"].as_u64()));
    let service: Vec<_> = told[..8].iter().map(|(_, told)| told["milliseconds"].as_f64()).collect();
    for (at, over) in [(3, 1.0), (4, 1.25), (5, 1.5), (7, 2.0)] {
        let expected = 1000.0 * over * (1.0 + 0.1 * (over - 1.0));
        let seen = service[at].expect("a number");
        assert!((seen - expected).abs() < 0.01, "{at}: {seen} is not {expected}");
    }
    assert!(started.elapsed() >= Duration::from_millis(2200), "{:?}", started.elapsed());
    assert_eq!(told[8..], [(503, json!({"in_service": 8})), (503, json!({"in_service": 8}))]);
    assert_eq!(server.peak("steep"), PeakUsage { served: 8, refused: 2, most: 8 });
    assert_eq!(server.peak(""), PeakUsage::default());
    let told = get(&server, "/usage/steep").json();
    assert_eq!(told["peak"], json!({"served": 8, "refused": 2, "most": 8}));
}

#[test]
fn a_refusal_at_the_peak_says_when_to_come_again_if_asked_to() {
    let server = Server::serve();
    let mut client = connect(&server);
    client.get("/peak?at=1&most=1&service=1.5s");
    server.wait_for(|log| log.counts.requests == 1, PATIENCE);
    let refusal = get(&server, "/peak?at=1&most=1&retry_after=true&refuse=529");
    assert_eq!((refusal.status, refusal.header("retry-after")), (529, Some("2")));
    assert_eq!(get(&server, "/peak?at=1&most=1").header("retry-after"), None);
}
