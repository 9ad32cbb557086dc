//! How fast: a rate as people write it, and what it is a limit of.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::Error;

/// So many in so long: `100/s`, `500/min`, `40000/min`, `5/2s`, `1000/h`, `10/day`.
///
/// What is counted is rows, or whatever a row's `cost` counts (the tokens of a call, say). At most 1,000,000,000 in a span of
/// 1 ms to 366 days; in fractions it is not written: for half a row in a second say `1/2s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rate {
    count: u64,
    per: Duration,
}

/// More would be no limit: no machine sends so many rows in the shortest span that can be written.
const MOST: u64 = 1_000_000_000;
pub(crate) const LONGEST: Duration = Duration::from_secs(366 * 86_400);
const SHORTEST: Duration = Duration::from_millis(1);

/// The units that `Display` writes, longest first, each in milliseconds.
const UNITS: [(&str, u64); 5] =
    [("day", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1000), ("ms", 1)];

impl Rate {
    /// So many in so long.
    ///
    /// # Errors
    /// `bad_request` when the count is 0 or above 1,000,000,000, or the span is not from 1 ms to 366 days in whole milliseconds.
    pub fn new(count: u64, per: Duration) -> Result<Self, Error> {
        if count == 0 {
            return Err(Error::bad_request("a rate of 0 would send nothing; it must be 1 or more"));
        }
        if count > MOST {
            return Err(Error::bad_request(format!("a rate of {count} is above {MOST}"))
                .with_hint("leave the rate out for no limit"));
        }
        if per < SHORTEST || per > LONGEST || !per.subsec_nanos().is_multiple_of(1_000_000) {
            return Err(Error::bad_request(format!(
                "a rate counts over 1 ms to 366 days in whole milliseconds, not over {per:?}"
            )));
        }
        Ok(Self { count, per })
    }

    /// How many.
    pub fn count(self) -> u64 {
        self.count
    }

    /// In how long.
    pub fn per(self) -> Duration {
        self.per
    }
}

/// A limit of how fast rows are sent: `Limit::new("requests", "500/min".parse()?)`.
///
/// Each row costs 1, or what its [`Overrides::cost`](crate::Overrides::cost) says for a limit of this name. In every span of
/// time W at most `rate · W + burst` is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    name: Box<str>,
    rate: Rate,
    burst: Option<u64>,
    scope: Scope,
}

/// What a limit holds for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// The batch as a whole.
    #[default]
    Batch,
    /// Each origin, or each `limit_key` of rows that name one.
    Origin,
}

impl Limit {
    /// A limit for the batch as a whole, without a burst of its own.
    pub fn new(name: impl Into<Box<str>>, rate: Rate) -> Self {
        Self { name: name.into(), rate, burst: None, scope: Scope::Batch }
    }

    /// Sets how much may go at once after a silence.
    pub fn burst(mut self, burst: u64) -> Self {
        self.burst = Some(burst);
        self
    }

    /// Has it hold for each origin on its own.
    pub fn for_each_origin(mut self) -> Self {
        self.scope = Scope::Origin;
        self
    }

    /// What is limited.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How fast.
    pub fn rate(&self) -> Rate {
        self.rate
    }

    /// What it holds for.
    pub fn scope(&self) -> Scope {
        self.scope
    }

    /// How much may go at once after a silence: as set, else 1, or what 5 ms of a high rate come to, since no clock wakes a
    /// thread so exactly that rows could go one by one.
    pub fn at_once(&self) -> u64 {
        let of_rate = u128::from(self.rate.count) * 5 / self.rate.per.as_millis();
        self.burst.unwrap_or(of_rate as u64).max(1)
    }
}

impl FromStr for Rate {
    type Err = Error;

    /// # Errors
    /// `bad_request` that names the text and what is wrong with it.
    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = |what: &str| {
            Error::bad_request(format!("rate {text:?}: {what}"))
                .with_hint("write a count and a span, such as 100/s, 500/min, 5/2s, 1000/h or 10/day")
        };
        let Some((count, span)) = text.split_once('/') else {
            return Err(bad(if text.trim().is_empty() { "it is empty" } else { "the unit is missing" }));
        };
        let (count, span) = (count.trim(), span.trim());
        if count.starts_with('-') {
            return Err(bad("it is negative"));
        }
        let count = number(count).ok_or_else(|| {
            bad(if count.is_empty() {
                "the count is missing"
            } else {
                "the count is no whole number in reach"
            })
        })?;
        let split = span.find(|c: char| !c.is_ascii_digit()).unwrap_or(span.len());
        let (times, unit) = (&span[..split], span[split..].trim());
        let times = if times.is_empty() { Some(1) } else { number(times) };
        let Some(unit) = milliseconds(unit) else {
            let what = if unit.is_empty() {
                "the unit is missing".into()
            } else {
                format!("{unit:?} is no unit of time (ms, s, min, h, day)")
            };
            return Err(bad(&what));
        };
        let span = times.and_then(|times| times.checked_mul(unit)).map(Duration::from_millis);
        let span = span.ok_or_else(|| bad("the span is too long"))?;
        Self::new(count, span).map_err(|error| bad(error.message()))
    }
}

/// In the longest unit of which the span is a multiple; reading it gives the same rate.
impl fmt::Display for Rate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let span = self.per.as_millis() as u64;
        let (unit, one) = UNITS.into_iter().find(|(_, one)| span.is_multiple_of(*one)).unwrap_or(("ms", 1));
        match span / one {
            1 => write!(formatter, "{}/{unit}", self.count),
            times => write!(formatter, "{}/{times}{unit}", self.count),
        }
    }
}

fn number(text: &str) -> Option<u64> {
    // `u64::from_str` takes a plus sign.
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

fn milliseconds(unit: &str) -> Option<u64> {
    Some(match unit.to_ascii_lowercase().as_str() {
        "ms" | "millisecond" | "milliseconds" => 1,
        "s" | "sec" | "secs" | "second" | "seconds" => 1000,
        "m" | "min" | "mins" | "minute" | "minutes" => 60_000,
        "h" | "hr" | "hour" | "hours" => 3_600_000,
        "d" | "day" | "days" => 86_400_000,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backoff::Jitter;

    const SEEDS: u64 = 10_000;

    fn rate(text: &str) -> Rate {
        text.parse().unwrap()
    }

    #[test]
    fn a_rate_is_read_as_people_write_it() {
        for (text, count, seconds, shown) in [
            ("100/s", 100, 1, "100/s"),
            ("500/min", 500, 60, "500/min"),
            ("40000/min", 40_000, 60, "40000/min"),
            ("5/2s", 5, 2, "5/2s"),
            ("1000/h", 1000, 3600, "1000/h"),
            ("10/day", 10, 86_400, "10/day"),
            (" 10 / 2 Days ", 10, 172_800, "10/2day"),
            ("100/minute", 100, 60, "100/min"),
            ("3/60s", 3, 60, "3/min"),
            ("1/90s", 1, 90, "1/90s"),
            ("1000000000/s", 1_000_000_000, 1, "1000000000/s"),
        ] {
            let rate = rate(text);
            assert_eq!((rate.count(), rate.per().as_secs()), (count, seconds), "{text}");
            assert_eq!(rate.to_string(), shown);
        }
        assert_eq!(rate("5/100ms").per(), Duration::from_millis(100));
    }

    #[test]
    fn a_rate_that_is_none_is_refused_by_name() {
        for (text, what) in [
            ("", "it is empty"),
            ("100", "the unit is missing"),
            ("100/", "the unit is missing"),
            ("100/5", "the unit is missing"),
            ("/s", "the count is missing"),
            ("0/s", "a rate of 0 would send nothing; it must be 1 or more"),
            ("-1/s", "it is negative"),
            ("+1/s", "the count is no whole number in reach"),
            ("1e9/s", "the count is no whole number in reach"),
            ("1.5/s", "the count is no whole number in reach"),
            ("99999999999999999999/s", "the count is no whole number in reach"),
            ("1000000001/s", "a rate of 1000000001 is above 1000000000"),
            ("5/0s", "a rate counts over 1 ms to 366 days in whole milliseconds, not over 0ns"),
            ("5/367d", "a rate counts over 1 ms to 366 days in whole milliseconds, not over 31708800s"),
            ("5/99999999999999999d", "the span is too long"),
            ("5/fortnight", "\"fortnight\" is no unit of time (ms, s, min, h, day)"),
            ("5/s/s", "\"s/s\" is no unit of time (ms, s, min, h, day)"),
            ("5/-1s", "\"-1s\" is no unit of time (ms, s, min, h, day)"),
            ("fast/s", "the count is no whole number in reach"),
        ] {
            let error = text.parse::<Rate>().unwrap_err();
            assert_eq!(error.message(), format!("rate {text:?}: {what}"));
            assert!(error.hint().unwrap().contains("500/min"));
        }
    }

    #[test]
    fn what_is_shown_reads_as_the_same_rate() {
        let mut random = Jitter::seeded(1);
        for _ in 0..SEEDS {
            let per = if random.below(2) == 0 {
                random.below(9_000_000) + 1
            } else {
                (random.below(400) + 1) * 60_000
            };
            let made = Rate::new(random.below(MOST) + 1, Duration::from_millis(per)).unwrap();
            assert_eq!(rate(&made.to_string()), made, "{made}");
        }
    }
}
