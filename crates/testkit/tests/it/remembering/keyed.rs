//! Idempotency keys.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::json;
use testkit::Server;

use super::{SLACK, ask, get, key_field, post};
use crate::client::{End, PATIENCE, connect};

#[test]
fn a_key_has_one_effect_and_one_answer() {
    let server = Server::serve();
    let first = post(&server, "/keyed/a", "\"k1\"", "{}");
    assert_eq!((first.status, first.json()), (201, json!({"id": "a", "effect": 1, "key": "k1"})));
    let again = post(&server, "/keyed/a?status=500", "\"k1\"", "{}");
    assert_eq!((again.status, &again.head, &again.body), (201, &first.head, &first.body));
    assert_eq!(post(&server, "/keyed/a", "k2", "{}").json()["effect"], 2);
    // The id is part of what a key belongs to.
    assert_eq!(post(&server, "/keyed/b", "\"k1\"", "{}").json()["effect"], 1);
    for effect in 3..=4 {
        let unkeyed = post(&server, "/keyed/a", "", "{}").json();
        assert_eq!(unkeyed, json!({"id": "a", "effect": effect, "key": null}));
    }
    assert_eq!(get(&server, "/keyed/a").json(), json!({"id": "a", "effects": 4, "keys": 2}));
    assert_eq!(get(&server, "/keyed/c").json(), json!({"id": "c", "effects": 0, "keys": 0}));
    let effects = BTreeMap::from([("a".to_owned(), 4), ("b".to_owned(), 1)]);
    assert_eq!(server.effects(), effects);
    assert_eq!(get(&server, "/effects").json(), json!({"a": 4, "b": 1}));
    let visits = json!({"a": {"POST": 5}, "b": {"POST": 1}});
    assert_eq!(get(&server, "/counts").json(), visits);
}

#[test]
fn a_key_with_another_payload_is_a_422_and_without_one_a_400_where_it_is_needed() {
    let server = Server::serve();
    assert_eq!(post(&server, "/keyed/a", "\"k\"", "one").status, 201);
    let other = post(&server, "/keyed/a", "\"k\"", "two");
    assert_eq!((other.status, other.header("content-type")), (422, Some("application/problem+json")));
    assert_eq!((&other.json()["status"], &other.json()["instance"]), (&json!(422), &json!("/keyed/a")));
    let mut client = connect(&server);
    ask(&mut client, "PATCH", "/keyed/a", &key_field("\"k\""), "one");
    assert_eq!(client.response().status, 422);
    for (key, target) in [("", "/keyed/a?need=1"), ("\"\"", "/keyed/a"), ("bare", "/keyed/a?strict=1")] {
        let refused = post(&server, target, key, "one");
        assert_eq!((refused.status, refused.header("content-type")), (400, other.header("content-type")));
        assert!(refused.json()["title"].as_str().expect("a title").contains("Idempotency-Key"));
    }
    assert_eq!(post(&server, "/keyed/a?need=1", "\"k\"", "one").status, 201);
    assert_eq!(server.effects()["a"], 1);
    ask(&mut client, "PUT", "/keyed/a", "", "");
    let put = client.response();
    assert_eq!((put.status, put.header("allow")), (405, Some("GET, HEAD, POST, PATCH")));
}

#[test]
fn while_the_first_request_of_a_key_runs_the_next_one_is_a_409() {
    let server = Server::serve();
    let target = "/keyed/slow?takes=1s&retry_after=true";
    let started = Instant::now();
    let mut first = connect(&server);
    ask(&mut first, "POST", target, &key_field("\"k\""), "x");
    server.wait_for(|log| log.counts.requests == 1, PATIENCE);
    let early = post(&server, target, "\"k\"", "x");
    assert_eq!((early.status, early.header("retry-after")), (409, Some("1")));
    assert_eq!(post(&server, target, "\"k\"", "y").status, 422);
    let answer = first.response();
    assert!(started.elapsed() >= Duration::from_secs(1));
    let again = post(&server, target, "\"k\"", "x");
    assert_eq!((answer.status, again.status, &again.body), (201, 201, &answer.body));
    assert_eq!(server.effects()["slow"], 1);
}

#[test]
fn an_effect_may_lose_its_answer() {
    let server = Server::serve();
    for (end, expected) in [("close", End::Fin), ("reset", End::Reset)] {
        let target = format!("/keyed/{end}?lose=1&end={end}&takes=50ms");
        for (number, key) in [(1, "\"k\""), (2, "")] {
            let mut client = connect(&server);
            ask(&mut client, "POST", &target, &key_field(key), "x");
            assert_eq!(client.text_to_end(), (String::new(), expected));
            assert_eq!(server.effects()[end], number);
        }
        assert_eq!(post(&server, &target, "\"k\"", "x").json()["effect"], 1);
        assert_eq!(post(&server, &target, "", "x").json()["effect"], 3);
    }
}

#[test]
fn an_effect_goes_on_though_its_client_is_gone() {
    let server = Server::serve();
    let mut client = connect(&server);
    ask(&mut client, "POST", "/keyed/a?takes=500ms", &key_field("\"k\""), "x");
    server.wait_for(|log| log.counts.requests == 1, PATIENCE);
    drop(client);
    let started = Instant::now();
    let mut statuses = Vec::new();
    while statuses.last() != Some(&201) {
        assert!(started.elapsed() < SLACK, "{statuses:?}");
        statuses.push(post(&server, "/keyed/a?takes=500ms", "\"k\"", "x").status);
    }
    assert_eq!((statuses[0], server.effects()["a"]), (409, 1));
}
