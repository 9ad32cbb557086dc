//! Visits, attempts and times of arrival.

use std::time::{Duration, Instant};

use serde_json::json;
use testkit::Server;

use super::{SLACK, ask, get};
use crate::client::{End, PATIENCE, connect};

#[test]
fn a_visit_is_counted_before_its_answer_takes_its_time() {
    let server = Server::serve();
    let table = [("a", "/count/a?takes=400ms", true), ("b", "/flaky/b?status=close&takes=400ms", false)];
    for (id, target, answered) in table {
        let started = Instant::now();
        let mut client = connect(&server);
        client.get(target);
        server.wait_for(|log| log.counts.in_flight == 1, PATIENCE);
        // It is in flight a moment before it is counted.
        while !server.visits().contains_key(id) {
            assert!(started.elapsed() < SLACK);
        }
        assert_eq!(server.counts().in_flight, 1, "it is not answered yet");
        client.half_close();
        let (text, end) = client.text_to_end();
        assert!(started.elapsed() >= Duration::from_millis(400), "{target}");
        assert_eq!((text.contains('{'), end), (answered, End::Fin));
    }
}

#[test]
fn flaky_fails_the_first_attempts_of_each_id() {
    let server = Server::serve();
    for id in ["a", "b"] {
        for attempt in 1..=5 {
            let answer = get(&server, &format!("/flaky/{id}?fail=3&status=502&retry_after=1"));
            let expected = if attempt <= 3 { (502, Some("1")) } else { (200, None) };
            assert_eq!((answer.status, answer.header("retry-after")), expected, "{id}: {attempt}");
            assert_eq!(answer.json(), json!({"id": id, "attempts": attempt}));
        }
    }
    assert_eq!(get(&server, "/flaky/c").status, 503);
    assert_eq!(get(&server, "/flaky/c").status, 200);
    assert_eq!(get(&server, "/flaky/d?fail=0").status, 200);
}

#[test]
fn flaky_may_break_connections_and_each_failure_may_be_another() {
    let server = Server::serve();
    let target = "/flaky/x?fail=4&status=close,reset,429&retry_after=date:30";
    assert_eq!(connect(&server).get(target).text_to_end(), (String::new(), End::Fin));
    assert_eq!(connect(&server).get(target).text_to_end(), (String::new(), End::Reset));
    for _ in 0..2 {
        let refusal = get(&server, target);
        let dates =
            (refusal.header("date").expect("Date"), refusal.header("retry-after").expect("Retry-After"));
        assert!(refusal.status == 429 && dates.0 != dates.1 && dates.1.ends_with("GMT"), "{dates:?}");
    }
    assert_eq!(get(&server, target).json(), json!({"id": "x", "attempts": 5}));
    let mut client = connect(&server);
    client.get("/flaky/y?status=hang");
    server.wait_for(|log| log.counts.in_flight == 1 && log.counts.requests == 6, PATIENCE);
    assert_eq!(get(&server, "/flaky/y").json()["attempts"], 2);
}

#[test]
fn visits_are_counted_by_id_and_method() {
    let server = Server::serve();
    let mut client = connect(&server);
    for method in ["GET", "POST", "POST", "DELETE", "BREW"] {
        ask(&mut client, method, "/count/a", "", "x");
        assert_eq!(client.response().status, 200);
    }
    for (target, status) in [("/count/b?status=204", 204), ("/count/b?status=404", 404), ("/flaky/b", 200)] {
        assert_eq!(client.get(target).response().status, status);
    }
    let expected = json!({"a": {"BREW": 1, "DELETE": 1, "GET": 1, "POST": 2}, "b": {"GET": 3}});
    assert_eq!(client.get("/counts").response().json(), expected);
    assert_eq!(server.visits()["a"]["POST"], 2);
    assert_eq!(client.get("/counts").response().text(), expected.to_string(), "they are in order");
}

#[test]
fn a_visit_counts_though_its_client_is_gone() {
    let server = Server::serve();
    for row in 0..20 {
        connect(&server).send(format!("POST /count/{row} HTTP/1.1\r\nContent-Length: 1\r\n\r\nx"));
        // Its body has not come, so there was no request.
        connect(&server).send(format!("POST /count/{row} HTTP/1.1\r\nContent-Length: 2\r\n\r\nx"));
    }
    server.wait_for(|log| log.counts.ended == 40, PATIENCE);
    let visits = server.visits();
    assert_eq!(visits.len(), 20);
    assert!(visits.values().all(|methods| methods.len() == 1 && methods["POST"] == 1), "{visits:?}");
}

#[test]
fn twenty_thousand_ids_are_counted_and_told() {
    const IDS: usize = 20_000;
    const AT_ONCE: usize = 100;
    let server = Server::serve();
    let mut client = connect(&server);
    for first in (0..IDS).step_by(AT_ONCE) {
        let requests = (first..first + AT_ONCE).map(|id| format!("GET /count/{id} HTTP/1.1\r\n\r\n"));
        client.send(requests.collect::<String>());
        for id in first..first + AT_ONCE {
            let length = format!("{{\"id\":\"{id}\",\"seen\":1}}").len();
            let head = "HTTP/1.1 200 OK\r\nServer: testkit\r\nContent-Type: application/json\r\n";
            client.read(head.len() + format!("Content-Length: {length}\r\n\r\n").len() + length);
        }
    }
    assert_eq!(server.visits().len(), IDS);
    let told = client.get("/counts").response().json();
    let told = told.as_object().expect("an object");
    assert!(told.len() == IDS && told.values().all(|methods| *methods == json!({"GET": 1})));
}

#[test]
fn times_of_arrival_are_kept_by_name() {
    const PAUSE: Duration = Duration::from_millis(50);
    let server = Server::serve();
    for target in ["/stamp/a", "/stamp/a/7?row=7", "/limited/a?limit=1&window=3600", "/limited/a?limit=1"] {
        get(&server, target);
        std::thread::sleep(PAUSE);
    }
    get(&server, "/stamp/b");
    let times = server.arrivals("a");
    assert_eq!((times.len(), server.arrivals("b").len(), server.arrivals("c").len()), (4, 1, 0));
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] >= PAUSE), "{times:?}");
    let told = get(&server, "/arrivals/a").json();
    let expected: Vec<_> = times.iter().map(|at| at.as_micros() as u64).collect();
    assert_eq!(told, json!(expected));
    assert_eq!(get(&server, "/arrivals/c").json(), json!([]));
}
