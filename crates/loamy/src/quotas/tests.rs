//! Every spelling, and what is none.

use super::*;
use crate::backoff::Jitter;

const DATE: &str = "Sun, 22 Nov 2026 06:00:00 GMT";

/// What the fields say; sent at [`DATE`], unless they say when.
fn hint(fields: &[(&str, &str)]) -> Hint {
    let date = [("Date", DATE)];
    let fields = fields.iter().chain(&date);
    read(fields.map(|(name, value)| (*name, value.as_bytes())))
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn e20_retry_after_in_every_form() {
    for (value, expected) in [
        ("0", Some(0)),
        ("2", Some(2)),
        (" 120 ", Some(120)),
        ("1000000000", Some(LONGEST.as_secs())),
        ("99999999999999999999999", Some(LONGEST.as_secs())),
        ("-1", None),
        ("+1", None),
        ("soon", None),
        ("", None),
        ("1,2", None),
        ("1e3", None),
        ("Sun, 22 Nov 2026 06:00:30 GMT", Some(30)),
        ("Sunday, 22-Nov-26 06:00:30 GMT", Some(30)),
        ("Sun Nov 22 06:00:30 2026", Some(30)),
        ("Sun, 22 Nov 2026 05:00:00 GMT", Some(0)),
        ("Thu, 01 Jan 1970 00:00:00 GMT", Some(0)),
        ("Fri, 31 Dec 9999 23:59:59 GMT", Some(LONGEST.as_secs())),
        ("Sun, 99 Nov 2026 06:00:30 GMT", None),
    ] {
        assert_eq!(hint(&[("Retry-After", value)]).retry_after, expected.map(seconds), "{value:?}");
    }
    assert_eq!(hint(&[("retry-after", "1.5")]).retry_after, Some(Duration::from_millis(1500)));
    let both = hint(&[("Retry-After", "1"), ("retry-after-ms", "250")]);
    assert_eq!(both.retry_after, Some(Duration::from_millis(250)));
}

#[test]
fn c14_times_of_day_are_measured_by_the_date_of_the_response() {
    // The peer's clock is an hour behind.
    let fields = [
        ("Date", "Sun, 22 Nov 2026 05:00:00 GMT"),
        ("Retry-After", "Sun, 22 Nov 2026 05:00:07 GMT"),
        ("X-RateLimit-Remaining", "3"),
        ("X-RateLimit-Reset", "1795323609"),
    ];
    let hint = hint(&fields);
    assert_eq!(hint.retry_after, Some(seconds(7)));
    assert_eq!(hint.quotas[0].reset, seconds(9));
    let without =
        |fields: &[(&str, &'static str)]| read(fields.iter().map(|(name, value)| (*name, value.as_bytes())));
    assert_eq!(without(&fields), hint);
    assert_eq!(without(&fields[1..]), Hint::default());
}

#[test]
#[rustfmt::skip]
fn quotas_in_every_spelling() {
    use Precision::{Finer, Seconds};
    use Unit::{Requests, Tokens};
    type Row<'a> = (&'a [(&'a str, &'a str)], &'a [(Unit, u64, u64, Precision, Option<u64>, Option<u64>)]);
    let rows: &[Row<'_>] = &[
        // Draft 10: names are strings; draft 08: tokens.
        (&[("RateLimit", r#""default";r=50;t=30"#)], &[(Requests, 50, 30_000, Seconds, None, None)]),
        (&[("RateLimit", "default;r=50;t=30")], &[(Requests, 50, 30_000, Seconds, None, None)]),
        (&[("RateLimit", r#""d";r=50;t=30"#), ("RateLimit-Policy", r#""d";q=100;w=60;pk=:YQ==:"#)],
            &[(Requests, 50, 30_000, Seconds, Some(100), Some(60))]),
        (&[("RateLimit", r#""a";r=5;t=1, "b";r=900;t=3600"#), ("RateLimit-Policy", r#""b";q=1000;w=86400, "a";q=10;w=1"#)],
            &[(Requests, 5, 1000, Seconds, Some(10), Some(1)), (Requests, 900, 3_600_000, Seconds, Some(1000), Some(86_400))]),
        (&[("RateLimit", r#""a";r=5;t=1"#), ("ratelimit", r#""b";r=9;t=3"#)],
            &[(Requests, 5, 1000, Seconds, None, None), (Requests, 9, 3000, Seconds, None, None)]),
        (&[("RateLimit", r#""d";r=50"#), ("RateLimit-Policy", r#""d";q=100;w=60"#)],
            &[(Requests, 50, 60_000, Seconds, Some(100), Some(60))]),
        (&[("RateLimit", r#""d";r=50"#)], &[]),
        (&[("RateLimit", r#""b";r=5;t=1"#), ("RateLimit-Policy", r#""b";q=10;qu="content-bytes""#)], &[]),
        (&[("RateLimit", r#""b";r=5;t=1"#), ("RateLimit-Policy", r#""b";q=10;qu="concurrent-requests""#)], &[]),
        (&[("RateLimit", r#""b";r=5;t=1"#), ("RateLimit-Policy", r#""b";q=10;qu="tokens""#)],
            &[(Tokens, 5, 1000, Seconds, Some(10), None)]),
        // Draft 07.
        (&[("RateLimit", "limit=100, remaining=50, reset=30")], &[(Requests, 50, 30_000, Seconds, Some(100), None)]),
        (&[("RateLimit", "limit=100, remaining=50, reset=30"), ("RateLimit-Policy", "10;w=1, 100;w=60")],
            &[(Requests, 50, 30_000, Seconds, Some(100), Some(60))]),
        // Up to draft 06.
        (&[("RateLimit-Limit", "100"), ("RateLimit-Remaining", "50"), ("RateLimit-Reset", "30")],
            &[(Requests, 50, 30_000, Seconds, Some(100), None)]),
        (&[("RateLimit-Limit", "100, 100;w=60;burst=1000, 5000;w=3600"), ("RateLimit-Remaining", "50"), ("RateLimit-Reset", "30")],
            &[(Requests, 50, 30_000, Seconds, Some(100), Some(60))]),
        // GitHub, Twitter, Discord.
        (&[("Date", DATE), ("X-RateLimit-Limit", "5000"), ("X-RateLimit-Remaining", "4999"), ("X-RateLimit-Reset", "1795330800"),
            ("X-RateLimit-Used", "1"), ("X-RateLimit-Resource", "core")],
            &[(Requests, 4999, 3_600_000, Seconds, Some(5000), None)]),
        (&[("x-rate-limit-limit", "15"), ("x-rate-limit-remaining", "14"), ("x-rate-limit-reset", "1795327800")],
            &[(Requests, 14, 600_000, Seconds, Some(15), None)]),
        (&[("X-RateLimit-Limit", "5"), ("X-RateLimit-Remaining", "0"), ("X-RateLimit-Reset", "1795327201.25"), ("X-RateLimit-Reset-After", "1.25")],
            &[(Requests, 0, 1250, Finer, Some(5), None)]),
        (&[("X-RateLimit-Remaining", "1"), ("X-RateLimit-Reset", "1795327260000")], &[(Requests, 1, 60_000, Seconds, None, None)]),
        (&[("X-RateLimit-Remaining", "1"), ("X-RateLimit-Reset", "60")], &[(Requests, 1, 60_000, Seconds, None, None)]),
        (&[("X-RateLimit-Remaining", "1"), ("X-RateLimit-Reset", "Sun, 22 Nov 2026 06:01:00 GMT")],
            &[(Requests, 1, 60_000, Seconds, None, None)]),
        (&[("X-RateLimit-Remaining", "1"), ("X-RateLimit-Reset", "1795327199")], &[(Requests, 1, 0, Seconds, None, None)]),
        // Makers of language models.
        (&[("x-ratelimit-limit-requests", "60"), ("x-ratelimit-limit-tokens", "150000"), ("x-ratelimit-remaining-requests", "59"),
            ("x-ratelimit-remaining-tokens", "149984"), ("x-ratelimit-reset-requests", "250ms"), ("x-ratelimit-reset-tokens", "6m0s")],
            &[(Requests, 59, 250, Finer, Some(60), None), (Tokens, 149_984, 360_000, Finer, Some(150_000), None)]),
        (&[("anthropic-ratelimit-requests-limit", "50"), ("anthropic-ratelimit-requests-remaining", "49"),
            ("anthropic-ratelimit-requests-reset", "2026-11-22T06:00:12Z"), ("anthropic-ratelimit-input-tokens-remaining", "0"),
            ("anthropic-ratelimit-input-tokens-reset", "2026-11-22T07:00:01.5+01:00")],
            &[(Requests, 49, 12_000, Seconds, Some(50), None), (Tokens, 0, 1500, Seconds, None, None)]),
        // The newest spelling wins over those beside it, unless it says nothing.
        (&[("X-RateLimit-Remaining", "1"), ("X-RateLimit-Reset", "1"), ("RateLimit", r#""d";r=50;t=30"#)],
            &[(Requests, 50, 30_000, Seconds, None, None)]),
        (&[("X-RateLimit-Remaining", "1"), ("X-RateLimit-Reset", "1"), ("RateLimit", r#""d";r="#)],
            &[(Requests, 1, 1000, Seconds, None, None)]),
        // Absurd.
        (&[("X-RateLimit-Remaining", "99999999999999999999"), ("X-RateLimit-Reset", "999999999"), ("X-RateLimit-Limit", "0")],
            &[(Requests, MOST, LONGEST.as_millis() as u64, Seconds, None, None)]),
        (&[("RateLimit", r#""d";r=999999999999999;t=999999999999999"#)],
            &[(Requests, MOST, LONGEST.as_millis() as u64, Seconds, None, None)]),
    ];
    for (fields, expected) in rows {
        let expected: Vec<_> = expected.iter().map(|(unit, remaining, reset, precision, limit, window)| Quota {
            unit: *unit, remaining: *remaining, reset: Duration::from_millis(*reset), precision: *precision, limit: *limit,
            window: window.map(seconds),
        }).collect();
        assert_eq!(hint(fields).quotas, expected, "{fields:?}");
    }
}

#[test]
fn what_is_malformed_is_ignored() {
    for value in [
        "",
        " ",
        "-1",
        "+5",
        "1.",
        ".5",
        "abc",
        "1 2",
        "0x10",
        "1,2",
        "6m0",
        "6x",
        "m",
        "1e5",
        "∞",
        "--",
        "1.2.3s",
        "2026-13-01T00:00:00Z",
        "2026-11-22T06:00:12",
        "2026-11-22",
        "2026-11-22T06:00:12+99:00",
    ] {
        let reset = hint(&[("X-RateLimit-Remaining", "1"), ("X-RateLimit-Reset", value)]);
        assert_eq!(reset, Hint::default(), "reset {value:?}");
        let remaining = hint(&[("X-RateLimit-Remaining", value), ("X-RateLimit-Reset", "1")]);
        assert_eq!(remaining, Hint::default(), "remaining {value:?}");
    }
    for value in [
        "",
        "r=50",
        "50",
        r#""d";r=-1;t=30"#,
        r#""d";r=1.5;t=30"#,
        r#""d";r=50;t="30""#,
        r#""d";t=30"#,
        r#""d"#,
        r#"("d");r=1;t=1"#,
        "limit=100",
        "remaining=50, reset=-3",
        "remaining=50; reset=3",
        "remaining=(1 2), reset=3",
        "limit=100, remaining=50 reset=30",
    ] {
        assert_eq!(hint(&[("RateLimit", value)]), Hint::default(), "{value:?}");
    }
}

#[test]
fn a_date_is_counted_right_in_every_year() {
    assert_eq!(rfc_3339("2026-11-22T06:00:00Z"), since_1970(DATE));
    for days in (0..400 * 365).step_by(17) {
        let time = UNIX_EPOCH + seconds(days * 86_400 + 3_723);
        // `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110 §5.6.7), against the library that writes such dates.
        let text = httpdate::fmt_http_date(time);
        let months = "JanFebMarAprMayJunJulAugSepOctNovDec";
        let month = months.find(&text[8..11]).unwrap() / 3 + 1;
        let other = format!("{}-{month:02}-{}T{}Z", &text[12..16], &text[5..7], &text[17..25]);
        assert_eq!(rfc_3339(&other), since_1970(&text), "{text}");
    }
}

#[test]
fn no_bytes_at_all_make_a_hint_that_is_absurd() {
    const NAMES: [&str; 12] = [
        "Retry-After",
        "Retry-After-Ms",
        "Date",
        "RateLimit",
        "RateLimit-Policy",
        "RateLimit-Limit",
        "RateLimit-Remaining",
        "X-RateLimit-Reset",
        "X-RateLimit-Remaining",
        "RateLimit-Reset",
        "x-ratelimit-reset-tokens",
        "x-ratelimit-remaining-tokens",
    ];
    const WHOLE: [&str; 7] = [
        "5",
        "30",
        "6m0s",
        "\"d\";r=5;t=9",
        "\"d\";q=10;w=60",
        "limit=9, remaining=5, reset=3",
        "1795327260",
    ];
    const PIECES: [&str; 22] = [
        "0",
        "9",
        "99999999999999",
        ".",
        "-",
        "+",
        "s",
        "ms",
        "m",
        "h",
        "\"d\"",
        ";r=",
        ";t=",
        ";w=",
        ";q=",
        ", ",
        "limit=",
        "reset=",
        "remaining=",
        "Sun, 22 Nov 2026 06:00:30 GMT",
        "2026-11-22T06:00:12",
        "é",
    ];
    let mut seen = 0;
    for seed in 0..30_000 {
        let mut random = Jitter::seeded(seed);
        let fields: Vec<_> = (0..random.below(8))
            .map(|_| {
                let pieces = (0..random.below(7)).map(|_| PIECES[random.below(22) as usize]);
                let mut value = pieces.collect::<String>().into_bytes();
                if random.below(2) == 0 {
                    value = WHOLE[random.below(7) as usize].as_bytes().to_vec();
                }
                if random.below(20) == 0 {
                    value.push(random.next() as u8);
                }
                (NAMES[random.below(12) as usize], value)
            })
            .collect();
        let hint = read(fields.iter().map(|(name, value)| (*name, value.as_slice())));
        assert!(hint.retry_after.is_none_or(|span| span <= LONGEST), "seed {seed}");
        for quota in &hint.quotas {
            seen += 1;
            assert!(quota.remaining <= MOST && quota.reset <= LONGEST, "seed {seed}");
            assert!(quota.limit.is_none_or(|limit| limit > 0 && limit <= MOST), "seed {seed}");
            assert!(quota.window.is_none_or(|window| !window.is_zero() && window <= LONGEST), "seed {seed}");
        }
    }
    assert!(seen > 1_000, "{seen}");
}
