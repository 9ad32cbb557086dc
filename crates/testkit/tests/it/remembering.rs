//! The routes that remember: limits, attempts, idempotency keys, a peak, and counts.

use std::collections::BTreeMap;
use std::sync::Barrier;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use testkit::{PeakUsage, Server, Usage};

use crate::client::{Client, End, PATIENCE, Response, connect};

/// How much later than it should a thing may happen on a busy machine.
const SLACK: Duration = Duration::from_secs(2);

fn ask(client: &mut Client, method: &str, target: &str, headers: &str, body: &str) {
    let length = body.len();
    client.send(format!(
        "{method} {target} HTTP/1.1\r\nHost: here\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
    ));
}

fn get(server: &Server, target: &str) -> Response {
    connect(server).get(target).response()
}

fn post(server: &Server, target: &str, key: &str, body: &str) -> Response {
    let mut client = connect(server);
    ask(&mut client, "POST", target, &keyed(key), body);
    client.response()
}

fn keyed(key: &str) -> String {
    if key.is_empty() { String::new() } else { format!("Idempotency-Key: {key}\r\n") }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

#[test]
fn each_algorithm_grants_its_limit_and_then_refuses() {
    let server = Server::serve();
    for how in ["fixed", "sliding", "bucket"] {
        let target = format!("/limited/{how}?limit=5&window=3600&how={how}");
        let mut client = connect(&server);
        for left in (0..5).rev() {
            let granted = client.get(&target).response();
            assert_eq!((granted.status, granted.json()["granted"].as_u64()), (200, Some(5 - left)));
            assert_eq!(granted.header("ratelimit-policy"), Some("\"default\";q=5;w=3600"));
            let told = granted.header("ratelimit").expect("RateLimit");
            assert!(told.starts_with(&format!("\"default\";r={left};t=")), "{how}: {told}");
        }
        for refused in 1..=2 {
            let refusal = client.get(&target).response();
            assert_eq!(refusal.status, 429, "{how}");
            assert_eq!(refusal.json(), json!({"name": how, "granted": 5, "refused": refused}));
            assert!(refusal.header("ratelimit").expect("RateLimit").contains(";r=0;t="), "{how}");
            assert_eq!(refusal.header("retry-after"), None);
        }
        assert_eq!(server.usage(how), Usage { granted: 5, refused: 2 });
    }
    assert_eq!(server.usage("nobody"), Usage::default());
}

#[test]
fn a_limit_grants_again_when_it_has_said_so() {
    const WINDOW: Duration = Duration::from_secs(1);
    let server = Server::serve();
    for (how, again) in [("fixed", WINDOW), ("sliding", WINDOW), ("bucket", WINDOW / 2)] {
        let target = format!("/limited/{how}?limit=2&window=1s&how={how}");
        let mut client = connect(&server);
        let started = Instant::now();
        let mut statuses = Vec::new();
        while statuses.iter().filter(|status| **status == 200).count() < 3 {
            statuses.push(client.get(&target).response().status);
            assert!(started.elapsed() < again + SLACK, "{how}: {statuses:?}");
        }
        assert_eq!(statuses[..3], [200, 200, 429], "{how}");
        // The clock here was read before the first grant.
        assert!(started.elapsed() >= again, "{how}: after {:?}", started.elapsed());
        let usage = server.usage(how);
        assert_eq!((usage.granted, usage.refused), (3, statuses.len() as u64 - 3));
    }
}

#[test]
fn limits_of_different_names_are_apart_and_rows_of_one_may_have_urls_of_their_own() {
    let server = Server::serve();
    let statuses = |targets: [&str; 3]| targets.map(|target| get(&server, target).status);
    let rule = "limit=2&window=3600";
    let targets = [1, 2, 3].map(|row| format!("/limited/one/{row}?{rule}"));
    assert_eq!(statuses(targets.each_ref().map(String::as_str)), [200, 200, 429]);
    let other = format!("/limited/other?{rule}");
    assert_eq!(statuses([&other, &other, &other]), [200, 200, 429]);
    // The limit may change on the way, how it counts may not.
    assert_eq!(get(&server, "/limited/one?limit=3&window=3600").status, 200);
    let wrong = get(&server, "/limited/one?how=bucket");
    assert_eq!((wrong.status, &wrong.json()["parameter"]), (400, &json!("how")));
    assert_eq!(wrong.json()["allowed"], "fixed, as one is counted from its first request on");
    assert_eq!(server.usage("one"), Usage { granted: 3, refused: 1 });
}

#[test]
fn each_spelling_goes_out_with_what_is_granted_and_what_is_refused() {
    let spellings: [(&str, &[&str]); 12] = [
        ("draft10", &["RateLimit-Policy", "RateLimit"]),
        ("draft7", &["RateLimit-Policy", "RateLimit"]),
        ("draft6", &["RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset", "RateLimit-Policy"]),
        ("x-epoch", &["X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset"]),
        ("x-delta", &["X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset"]),
        ("x-duration", &["X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset"]),
        ("x-rfc3339", &["X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset"]),
        (
            "openai",
            &["x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"],
        ),
        (
            "anthropic",
            &[
                "anthropic-ratelimit-requests-limit",
                "anthropic-ratelimit-requests-remaining",
                "anthropic-ratelimit-requests-reset",
            ],
        ),
        ("retry-after", &[]),
        ("retry-after-date", &[]),
        ("none", &[]),
    ];
    let server = Server::serve();
    for (spelling, expected) in spellings {
        let target = format!("/limited/{spelling}?limit=1&window=3600&as={spelling}&refuse=503");
        for status in [200, 503] {
            let answer = get(&server, &target);
            assert_eq!(answer.status, status, "{spelling}");
            let names = answer.head.lines().filter_map(|line| line.split_once(": "));
            let hints: Vec<_> = names.map(|(name, _)| name).filter(|name| hints(name)).collect();
            let mut expected = expected.to_vec();
            if status == 503 && spelling.starts_with("retry-after") {
                expected.push("Retry-After");
            }
            assert_eq!(hints, expected, "{spelling}: {status}");
        }
    }
}

fn hints(name: &str) -> bool {
    name.to_ascii_lowercase().contains("ratelimit") || name == "Retry-After"
}

#[test]
fn resets_are_told_by_the_clock_of_the_server() {
    let server = Server::serve();
    let told = |spelling: &str, more: &str, name: &str| {
        let target = format!("/limited/{spelling}{more}?limit=1&window=3600&as={spelling}{more}");
        get(&server, &target);
        get(&server, &target).header(name).unwrap_or_else(|| panic!("no {name}")).to_owned()
    };
    let before = now() + 3600;
    let epoch: u64 = told("x-epoch", "", "x-ratelimit-reset").parse().expect("a number");
    // Rounded up, and perhaps asked for just before the second was full.
    assert!((before..=now() + 3601).contains(&epoch), "{epoch} is not about {before}");
    let ahead: u64 = told("x-epoch", "&clock_ahead=7200", "x-ratelimit-reset").parse().expect("a number");
    assert!((before + 7200..=now() + 10_801).contains(&ahead), "{ahead}");
    let behind: u64 = told("x-epoch", "&clock_ahead=-7200", "x-ratelimit-reset").parse().expect("a number");
    assert!((before - 7200..=now() - 3599).contains(&behind), "{behind}");
    let seconds: u64 = told("retry-after", "", "retry-after").parse().expect("a number");
    assert!((3590..=3600).contains(&seconds), "{seconds}");
    assert_eq!(told("draft7", "&retry_after=2", "retry-after"), "2");
    assert_eq!(told("none", "&retry_after=text:soon", "retry-after"), "soon");
    let date = told("retry-after-date", "", "retry-after");
    assert!(date.ends_with(" GMT") && date.len() == 29, "{date}");
    assert_ne!(date, told("none", "", "date"));
    let far = get(&server, "/limited/none?limit=1&window=3600&as=none&retry_after=date:86400");
    let (date, hint) = (far.header("date").expect("Date"), far.header("retry-after").expect("Retry-After"));
    assert!(hint.len() == 29 && hint[..3] != date[..3], "a day later is another day: {date}, {hint}");
}

#[test]
fn what_is_granted_may_take_its_time_and_a_refusal_does_not() {
    let server = Server::serve();
    let target = "/limited/slow?limit=1&window=3600&takes=1s";
    let started = Instant::now();
    assert_eq!(get(&server, target).status, 200);
    assert!(started.elapsed() >= Duration::from_secs(1));
    let started = Instant::now();
    assert_eq!(get(&server, target).status, 429);
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
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
    ask(&mut client, "PATCH", "/keyed/a", &keyed("\"k\""), "one");
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
    ask(&mut first, "POST", target, &keyed("\"k\""), "x");
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
            ask(&mut client, "POST", &target, &keyed(key), "x");
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
    ask(&mut client, "POST", "/keyed/a?takes=500ms", &keyed("\"k\""), "x");
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
