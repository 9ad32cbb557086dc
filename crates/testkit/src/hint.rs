//! What a server tells about its limit, in the spellings that are in use, and when it wants a
//! client to come again.

use std::time::Duration;

use crate::clock::{Date, whole_seconds};
use crate::limit::{Rule, Standing};
use crate::query;

/// A header to be sent.
pub(crate) type Field = (&'static str, String);

/// How a limit is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spelling {
    /// Structured fields, draft-ietf-httpapi-ratelimit-headers-10.
    Draft10,
    /// One field of pairs, the draft's 07.
    Draft7,
    /// Three fields, the draft up to 06.
    Draft6,
    /// `X-RateLimit-…`, its reset a time since 1970.
    Epoch,
    /// The same, its reset in seconds from now.
    Delta,
    /// The same, its reset as `6m0s`.
    Compound,
    /// The same, its reset a date of RFC 3339.
    Stamp,
    /// `x-ratelimit-…-requests`, its reset as `6m0s`.
    OpenAi,
    /// `anthropic-ratelimit-requests-…`, its reset a date of RFC 3339.
    Anthropic,
    /// Retry-After with a refusal, nothing else.
    RetryAfter,
    /// The same as a date.
    RetryAfterDate,
    /// Nothing.
    Silent,
}

impl Spelling {
    pub(crate) const NAMES: [(&'static str, Spelling); 12] = [
        ("draft10", Spelling::Draft10),
        ("draft7", Spelling::Draft7),
        ("draft6", Spelling::Draft6),
        ("x-epoch", Spelling::Epoch),
        ("x-delta", Spelling::Delta),
        ("x-duration", Spelling::Compound),
        ("x-rfc3339", Spelling::Stamp),
        ("openai", Spelling::OpenAi),
        ("anthropic", Spelling::Anthropic),
        ("retry-after", Spelling::RetryAfter),
        ("retry-after-date", Spelling::RetryAfterDate),
        ("none", Spelling::Silent),
    ];

    /// The fields that tell how a limit stands. Times are rounded up, so that nobody comes early.
    pub(crate) fn fields(self, rule: &Rule, standing: &Standing, now: Date) -> Vec<Field> {
        let (limit, window) = (rule.limit, whole_seconds(rule.window));
        let remaining = standing.remaining;
        let reset = whole_seconds(standing.reset);
        let date = now.plus(standing.reset).rounded_up();
        let three = |names: [&'static str; 3], reset: String| {
            let [first, second, third] = names;
            vec![(first, limit.to_string()), (second, remaining.to_string()), (third, reset)]
        };
        const CUSTOMARY: [&str; 3] = ["X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset"];
        match self {
            Spelling::Draft10 => vec![
                ("RateLimit-Policy", format!("\"default\";q={limit};w={window}")),
                ("RateLimit", format!("\"default\";r={remaining};t={reset}")),
            ],
            Spelling::Draft7 => vec![
                ("RateLimit-Policy", format!("{limit};w={window}")),
                ("RateLimit", format!("limit={limit}, remaining={remaining}, reset={reset}")),
            ],
            Spelling::Draft6 => {
                let names = ["RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset"];
                let mut fields = three(names, reset.to_string());
                fields.push(("RateLimit-Policy", format!("{limit};w={window}")));
                fields
            }
            Spelling::Epoch => three(CUSTOMARY, date.epoch().to_string()),
            Spelling::Delta => three(CUSTOMARY, reset.to_string()),
            Spelling::Compound => three(CUSTOMARY, compound(standing.reset)),
            Spelling::Stamp => three(CUSTOMARY, date.rfc3339()),
            Spelling::OpenAi => {
                let names = [
                    "x-ratelimit-limit-requests",
                    "x-ratelimit-remaining-requests",
                    "x-ratelimit-reset-requests",
                ];
                three(names, compound(standing.reset))
            }
            Spelling::Anthropic => {
                let names = [
                    "anthropic-ratelimit-requests-limit",
                    "anthropic-ratelimit-requests-remaining",
                    "anthropic-ratelimit-requests-reset",
                ];
                three(names, date.rfc3339())
            }
            Spelling::RetryAfter | Spelling::RetryAfterDate | Spelling::Silent => Vec::new(),
        }
    }

    /// What Retry-After says with a refusal, unless the query tells otherwise.
    pub(crate) fn retry_after(self) -> RetryAfter {
        match self {
            Spelling::RetryAfter => RetryAfter::True,
            Spelling::RetryAfterDate => RetryAfter::TrueDate,
            _ => RetryAfter::Absent,
        }
    }
}

/// What Retry-After says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RetryAfter {
    Absent,
    /// In seconds, what the server knows.
    True,
    /// As a date, what the server knows.
    TrueDate,
    /// A date so far from now, whatever the server knows.
    Date(Duration),
    /// This, whatever the server knows.
    Text(String),
}

impl RetryAfter {
    pub(crate) const ALLOWED: &str = "a number of seconds, true, date, date:SECONDS, text:ANYTHING";
    /// What is allowed where the server does not know.
    pub(crate) const UNKNOWN: &str = "a number of seconds, date:SECONDS, text:ANYTHING";

    pub(crate) fn parse(text: &str) -> Option<RetryAfter> {
        Some(match text.split_once(':') {
            Some(("date", time)) => RetryAfter::Date(query::time(time)?),
            Some(("text", text)) => RetryAfter::Text(text.to_owned()),
            Some(_) => return None,
            None if text == "true" => RetryAfter::True,
            None if text == "date" => RetryAfter::TrueDate,
            None => RetryAfter::Text(text.parse::<u32>().ok()?.to_string()),
        })
    }

    /// The field, with `wait` for what the server knows.
    pub(crate) fn field(&self, wait: Duration, now: Date) -> Option<Field> {
        let value = match self {
            RetryAfter::Absent => return None,
            RetryAfter::True => whole_seconds(wait).to_string(),
            RetryAfter::TrueDate => now.plus(wait).rounded_up().http(),
            RetryAfter::Date(time) => now.plus(*time).rounded_up().http(),
            RetryAfter::Text(text) => text.clone(),
        };
        Some(("Retry-After", value))
    }
}

/// `1h0m5s`, `6m0s`, `1.5s`, `120ms`: a time in the manner of Go, rounded up to milliseconds.
fn compound(time: Duration) -> String {
    let milliseconds = time.as_nanos().div_ceil(1_000_000) as u64;
    if (1..1_000).contains(&milliseconds) {
        return format!("{milliseconds}ms");
    }
    let (minutes, rest) = (milliseconds / 60_000, milliseconds % 60_000);
    let seconds = rest as f64 / 1e3;
    match (minutes / 60, minutes % 60) {
        (0, 0) => format!("{seconds}s"),
        (0, minutes) => format!("{minutes}m{seconds}s"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limit::How;

    /// 2026-11-22T07:28:16.25Z.
    const NOW: Date = Date(Duration::from_millis(1_795_332_496_250));
    const RULE: Rule = Rule { how: How::Fixed, limit: 100, window: Duration::from_secs(60), burst: 100 };
    const RESET: Duration = Duration::from_millis(29_500);
    const STANDING: Standing = Standing { granted: true, remaining: 50, reset: RESET, wait: Duration::ZERO };

    fn written(fields: Vec<Field>) -> Vec<String> {
        fields.into_iter().map(|(name, value)| format!("{name}: {value}")).collect()
    }

    #[test]
    fn each_spelling_is_as_it_is_seen_in_the_wild() {
        let table: [(&str, &[&str]); 12] = [
            ("draft10", &["RateLimit-Policy: \"default\";q=100;w=60", "RateLimit: \"default\";r=50;t=30"]),
            ("draft7", &["RateLimit-Policy: 100;w=60", "RateLimit: limit=100, remaining=50, reset=30"]),
            (
                "draft6",
                &[
                    "RateLimit-Limit: 100",
                    "RateLimit-Remaining: 50",
                    "RateLimit-Reset: 30",
                    "RateLimit-Policy: 100;w=60",
                ],
            ),
            (
                "x-epoch",
                &["X-RateLimit-Limit: 100", "X-RateLimit-Remaining: 50", "X-RateLimit-Reset: 1795332526"],
            ),
            ("x-delta", &["X-RateLimit-Limit: 100", "X-RateLimit-Remaining: 50", "X-RateLimit-Reset: 30"]),
            (
                "x-duration",
                &["X-RateLimit-Limit: 100", "X-RateLimit-Remaining: 50", "X-RateLimit-Reset: 29.5s"],
            ),
            (
                "x-rfc3339",
                &[
                    "X-RateLimit-Limit: 100",
                    "X-RateLimit-Remaining: 50",
                    "X-RateLimit-Reset: 2026-11-22T07:28:46Z",
                ],
            ),
            (
                "openai",
                &[
                    "x-ratelimit-limit-requests: 100",
                    "x-ratelimit-remaining-requests: 50",
                    "x-ratelimit-reset-requests: 29.5s",
                ],
            ),
            (
                "anthropic",
                &[
                    "anthropic-ratelimit-requests-limit: 100",
                    "anthropic-ratelimit-requests-remaining: 50",
                    "anthropic-ratelimit-requests-reset: 2026-11-22T07:28:46Z",
                ],
            ),
            ("retry-after", &[]),
            ("retry-after-date", &[]),
            ("none", &[]),
        ];
        assert_eq!(table.map(|(name, _)| name), Spelling::NAMES.map(|(name, _)| name));
        for ((name, expected), (_, spelling)) in table.into_iter().zip(Spelling::NAMES) {
            assert_eq!(written(spelling.fields(&RULE, &STANDING, NOW)), expected, "{name}");
        }
    }

    #[test]
    fn a_refusal_may_say_when_to_come_again() {
        let wait = Duration::from_millis(1_500);
        let table = [
            ("7", Some("7")),
            ("0", Some("0")),
            ("true", Some("2")),
            ("date", Some("Sun, 22 Nov 2026 07:28:18 GMT")),
            ("date:2", Some("Sun, 22 Nov 2026 07:28:19 GMT")),
            ("text:soon: really", Some("soon: really")),
            ("soon", None),
            ("-1", None),
            ("date:never", None),
            ("", None),
        ];
        for (text, expected) in table {
            let field = RetryAfter::parse(text).and_then(|retry_after| retry_after.field(wait, NOW));
            assert_eq!(field.map(|(_, value)| value).as_deref(), expected, "{text:?}");
        }
        assert_eq!(Spelling::Draft10.retry_after().field(wait, NOW), None);
        let seconds = Spelling::RetryAfter.retry_after().field(wait, NOW);
        assert_eq!(seconds, Some(("Retry-After", "2".to_owned())));
        let date = Spelling::RetryAfterDate.retry_after().field(wait, NOW);
        assert_eq!(date, Some(("Retry-After", "Sun, 22 Nov 2026 07:28:18 GMT".to_owned())));
    }

    #[test]
    fn compound_times_leave_out_the_units_before_the_first() {
        let table = [
            (0, "0s"),
            (1, "1ms"),
            (999, "999ms"),
            (1_500, "1.5s"),
            (60_000, "1m0s"),
            (360_000, "6m0s"),
            (90_050, "1m30.05s"),
            (3_605_000, "1h0m5s"),
        ];
        for (milliseconds, expected) in table {
            assert_eq!(compound(Duration::from_millis(milliseconds)), expected);
        }
        assert_eq!(compound(Duration::from_nanos(1)), "1ms");
    }
}
