//! Limits: what is granted, what is refused, and what is told of them.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::json;
use testkit::{Server, Usage};

use super::{SLACK, get};
use crate::client::connect;

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
    assert_eq!(get(&server, "/usage/fixed").json()["limited"], json!({"granted": 5, "refused": 2}));
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

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

fn hints(name: &str) -> bool {
    name.to_ascii_lowercase().contains("ratelimit") || name == "Retry-After"
}
