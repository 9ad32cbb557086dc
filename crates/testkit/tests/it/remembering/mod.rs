//! The routes that remember: limits, attempts, idempotency keys, a peak, and counts.

mod counted;
mod keyed;
mod limited;
mod peak;

use std::time::Duration;

use serde_json::json;
use testkit::Server;

use crate::client::{Client, Response, connect};

/// How much later than it should a thing may happen on a busy machine.
pub(super) const SLACK: Duration = Duration::from_secs(2);

#[test]
fn a_bad_query_is_a_400_that_names_the_parameter_and_what_is_allowed() {
    let table = [
        ("/limited/x?limit=0", "limit", "1 to 1000000000"),
        (
            "/limited/x?limmit=1",
            "limmit",
            "limit, window, how, burst, as, refuse, retry_after, takes, clock_ahead",
        ),
        ("/limited/x?window=0", "window", "1ms to 86400s, as 10, 0.5, 1.5s, 20ms"),
        ("/limited/x?how=leaky", "how", "fixed, sliding, bucket"),
        ("/limited/x?burst=2", "burst", "only with how=bucket"),
        (
            "/limited/x?as=draft9",
            "as",
            "draft10, draft7, draft6, x-epoch, x-delta, x-duration, x-rfc3339, openai, anthropic, retry-after, \
             retry-after-date, none",
        ),
        ("/limited/x?refuse=200", "refuse", "400 to 599"),
        (
            "/limited/x?retry_after=soon",
            "retry_after",
            "a number of seconds, true, date, date:SECONDS, text:ANYTHING",
        ),
        (
            "/limited/x?limit=1&limit=2",
            "limit",
            "limit, window, how, burst, as, refuse, retry_after, takes, clock_ahead",
        ),
        ("/limited/x?clock_ahead=1h", "clock_ahead", "a number of seconds, less than 0 if behind"),
        ("/flaky/x?fail=-1", "fail", "0 to 1000000000"),
        ("/flaky/x?status=503,200", "status", "300 to 599, close, reset, hang, or a list of these"),
        ("/flaky/x?retry_after=true", "retry_after", "a number of seconds, date:SECONDS, text:ANYTHING"),
        ("/count/x?fail=x", "fail", "0 to 1000000000"),
        ("/count/x?fail=1&status=99", "status", "200 to 999"),
        ("/peak?at=0", "at", "1 to 1000000000"),
        ("/peak?at=9&most=8", "most", "9 and more, which is `at`"),
        ("/peak?service=-1", "service", "0ns to 86400s, as 10, 0.5, 1.5s, 20ms"),
        ("/arrivals/x?since=1", "since", "none"),
    ];
    let server = Server::serve();
    for (target, parameter, allowed) in table {
        let refused = get(&server, target);
        let told = refused.json();
        assert_eq!((refused.status, &told["parameter"]), (400, &json!(parameter)), "{target}");
        assert_eq!(told["allowed"], allowed, "{target}");
        let error = told["error"].as_str().expect("an error");
        assert!(error.starts_with(&format!("{parameter}: ")) && error.ends_with(allowed), "{error}");
    }
    let refused = post(&server, "/keyed/x?need=maybe", "", "");
    assert_eq!((refused.status, &refused.json()["allowed"]), (400, &json!("1, true, 0, false")));
    let refused = post(&server, "/keyed/x?end=hang", "", "").json();
    assert_eq!(refused["error"], "end: \"hang\" is no value for it; allowed: close, reset");
    // What was asked wrongly has no effect, and nothing is counted.
    assert_eq!(get(&server, "/counts").json(), json!({}));
    assert_eq!((server.effects().len(), server.arrivals("x").len()), (0, 0));
}

pub(super) fn get(server: &Server, target: &str) -> Response {
    connect(server).get(target).response()
}

pub(super) fn post(server: &Server, target: &str, key: &str, body: &str) -> Response {
    let mut client = connect(server);
    ask(&mut client, "POST", target, &key_field(key), body);
    client.response()
}

pub(super) fn ask(client: &mut Client, method: &str, target: &str, headers: &str, body: &str) {
    let length = body.len();
    client.send(format!(
        "{method} {target} HTTP/1.1\r\nHost: here\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
    ));
}

pub(super) fn key_field(key: &str) -> String {
    if key.is_empty() { String::new() } else { format!("Idempotency-Key: {key}\r\n") }
}
