//! What a response says about limits, in all the spellings that are in use.
//!
//! - `Retry-After` (RFC 9110 §10.2.3), in seconds or as a date, and `Retry-After-Ms`.
//! - `RateLimit` and `RateLimit-Policy`: lists of policies since draft-ietf-httpapi-ratelimit-headers-08 (`"default";r=50;t=30`), a
//!   dictionary in draft 07 (`limit=100, remaining=50, reset=30`).
//! - `RateLimit-Limit`, `-Remaining`, `-Reset` (up to draft 06), and the same after `X-`, where the reset is a number of seconds, a
//!   time since 1970, a duration such as `6m0s` or a date; with `-Requests` and `-Tokens` behind, or between, as the
//!   makers of language models have it.
//!
//! What is malformed is ignored, as the drafts ask (§4 of draft 10); what is absurd is cut to [`LONGEST`] and [`MOST`]. Times of day are
//! measured against the `Date` of the same response, so that no clock but the peer's has to be right.

use std::time::{Duration, UNIX_EPOCH};

use sfv::{BareItem, Dictionary, GenericBareItem, List, ListEntry, Parameters, Parser};

/// What a response says about limits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hint {
    /// How long to stay away.
    pub(crate) retry_after: Option<Duration>,
    /// Every quota that it names, in its order, which is the same in each response of a server.
    pub(crate) quotas: Vec<Quota>,
}

/// How much is left, and until when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Quota {
    pub(crate) unit: Unit,
    pub(crate) remaining: u64,
    /// From the response on.
    pub(crate) reset: Duration,
    pub(crate) precision: Precision,
    /// How much there is in a whole window.
    pub(crate) limit: Option<u64>,
    pub(crate) window: Option<Duration>,
}

/// What a quota counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    Requests,
    /// Something of which a request may use more or less than one.
    Tokens,
}

/// How exactly a reset is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Precision {
    /// In whole seconds: it may be a second off.
    Seconds,
    Finer,
}

/// The longest wait that is believed.
pub(crate) const LONGEST: Duration = Duration::from_secs(366 * 86_400);

/// The largest quota that is believed.
pub(crate) const MOST: u64 = 1_000_000_000_000;

/// Reads the fields of a response. Without a `Date` times of day say nothing.
pub(crate) fn read<'a>(fields: impl Iterator<Item = (&'a str, &'a [u8])>) -> Hint {
    let mut said = Said::default();
    for (name, value) in fields {
        // Most fields of most responses are none of these.
        if let Some(b'd' | b'r' | b'x' | b'a' | b'D' | b'R' | b'X' | b'A') = name.as_bytes().first()
            && let Ok(value) = std::str::from_utf8(value)
        {
            said.field(name, value.trim_matches([' ', '\t']));
        }
    }
    if said.is_silent() {
        return Hint::default();
    }
    let clock = Clock(said.date.and_then(since_1970));
    let retry_after = said.retry_after_ms.and_then(|value| seconds(value).map(|ms| ms / 1000));
    let retry_after = retry_after.or_else(|| said.retry_after.and_then(|value| clock.retry_after(value)));
    Hint { retry_after: retry_after.map(|span| span.min(LONGEST)), quotas: said.quotas(clock) }
}

/// The fields that matter, as they stand.
#[derive(Default)]
struct Said<'a> {
    date: Option<&'a str>,
    retry_after: Option<&'a str>,
    retry_after_ms: Option<&'a str>,
    rate_limit: Option<String>,
    policy: Option<String>,
    families: Vec<Family<'a>>,
}

/// Fields that together tell of one quota: `X-RateLimit-Remaining-Tokens` and those beside it.
struct Family<'a> {
    prefix: &'static str,
    unit: String,
    limit: Option<&'a str>,
    remaining: Option<&'a str>,
    reset: Option<&'a str>,
}

/// What the names of such fields begin with.
const PREFIXES: [&str; 4] = ["ratelimit-", "x-ratelimit-", "x-rate-limit-", "anthropic-ratelimit-"];

impl<'a> Said<'a> {
    /// Whether nothing was said of limits, as in most responses: then no date need be read.
    fn is_silent(&self) -> bool {
        self.retry_after.is_none()
            && self.retry_after_ms.is_none()
            && self.rate_limit.is_none()
            && self.families.is_empty()
    }

    fn field(&mut self, name: &str, value: &'a str) {
        let is = |other: &str| name.eq_ignore_ascii_case(other);
        let begins_with =
            |prefix: &&str| name.get(..prefix.len()).is_some_and(|it| it.eq_ignore_ascii_case(prefix));
        if is("date") {
            self.date = self.date.or(Some(value));
        } else if is("retry-after") {
            self.retry_after = self.retry_after.or(Some(value));
        } else if is("retry-after-ms") {
            self.retry_after_ms = self.retry_after_ms.or(Some(value));
        } else if is("ratelimit") {
            join(&mut self.rate_limit, value);
        } else if is("ratelimit-policy") {
            join(&mut self.policy, value);
        } else if let Some(prefix) = PREFIXES.into_iter().find(begins_with) {
            self.member(prefix, &name[prefix.len()..].to_ascii_lowercase(), value);
        }
    }

    fn member(&mut self, prefix: &'static str, rest: &str, value: &'a str) {
        let is_part = |word: &&str| matches!(*word, "limit" | "remaining" | "reset" | "after");
        let unit = rest.split('-').filter(|word| !is_part(word)).collect::<Vec<_>>().join("-");
        if !matches!(unit.as_str(), "" | "requests" | "tokens" | "input-tokens" | "output-tokens") {
            return;
        }
        let known = self.families.iter().position(|family| family.prefix == prefix && family.unit == unit);
        let at = known.unwrap_or_else(|| {
            self.families.push(Family { prefix, unit, limit: None, remaining: None, reset: None });
            self.families.len() - 1
        });
        let family = &mut self.families[at];
        let parts = rest.split('-').filter(is_part).collect::<Vec<_>>();
        match parts.as_slice() {
            ["limit"] => family.limit = family.limit.or(Some(value)),
            ["remaining"] => family.remaining = family.remaining.or(Some(value)),
            ["reset"] => family.reset = family.reset.or(Some(value)),
            // A span, where `-Reset` beside it is a time of day.
            ["reset", "after"] => family.reset = Some(value),
            _ => {}
        }
    }

    /// The newest spelling that says something; the older ones beside it say the same.
    fn quotas(&self, clock: Clock) -> Vec<Quota> {
        let policies = self.policy.as_deref().map(policies).unwrap_or_default();
        let mut quotas = self.rate_limit.as_deref().map(|value| listed(value, &policies)).unwrap_or_default();
        for prefix in PREFIXES {
            if quotas.is_empty() {
                let own = self.families.iter().filter(|family| family.prefix == prefix);
                quotas.extend(own.filter_map(|family| family.quota(clock, &policies)));
            }
        }
        quotas
    }
}

/// A list in several fields is one list (RFC 9651 §4.2).
fn join(list: &mut Option<String>, value: &str) {
    match list {
        Some(list) => {
            list.push_str(", ");
            list.push_str(value);
        }
        None => *list = Some(value.to_owned()),
    }
}

impl Family<'_> {
    fn quota(&self, clock: Clock, policies: &[Policy]) -> Option<Quota> {
        let (reset, precision) = clock.reset(self.reset?)?;
        let remaining = whole(self.remaining?)?;
        // Draft 06 has the policies behind the limit: `100, 100;w=60`.
        let (limit, others) = match self.limit.map(|value| value.split_once(',').unwrap_or((value, ""))) {
            Some((limit, others)) => (whole(limit.split(';').next().unwrap_or_default().trim()), others),
            None => (None, ""),
        };
        let limit = limit.filter(|limit| *limit > 0);
        let own = self::policies(others);
        let window = own.iter().chain(policies).find(|policy| policy.quota == limit).and_then(|it| it.window);
        let unit = if self.unit.ends_with("tokens") { Unit::Tokens } else { Unit::Requests };
        Some(Quota { unit, remaining, reset, precision, limit, window })
    }
}

/// A member of `RateLimit-Policy`.
struct Policy {
    name: Option<String>,
    quota: Option<u64>,
    window: Option<Duration>,
    unit: Option<Unit>,
}

fn policies(value: &str) -> Vec<Policy> {
    let Ok(list) = Parser::new(value).parse::<List>() else { return Vec::new() };
    let policy = |entry: &ListEntry| {
        let ListEntry::Item(item) = entry else { return None };
        let quota = parameter(&item.params, "q").or(integer(&item.bare_item));
        let window = parameter(&item.params, "w").filter(|window| *window > 0);
        let window = window.map(|window| Duration::from_secs(window).min(LONGEST));
        let unit = match item.params.get("qu").map(text) {
            None => Some(Unit::Requests),
            Some(Some(unit)) if unit == "requests" => Some(Unit::Requests),
            Some(Some(unit)) if unit.ends_with("tokens") => Some(Unit::Tokens),
            // Bytes, or requests at once: no pace follows from those.
            Some(_) => None,
        };
        Some(Policy { name: text(&item.bare_item), quota: quota.filter(|quota| *quota > 0), window, unit })
    };
    list.iter().filter_map(policy).collect()
}

/// The members of `RateLimit`.
fn listed(value: &str, policies: &[Policy]) -> Vec<Quota> {
    let Ok(list) = Parser::new(value).parse::<List>() else {
        return dictionary(value, policies).into_iter().collect();
    };
    let quota = |entry: &ListEntry| {
        let ListEntry::Item(item) = entry else { return None };
        let name = text(&item.bare_item)?;
        let policy = policies.iter().find(|policy| policy.name.as_deref() == Some(&name));
        let window = policy.and_then(|policy| policy.window);
        Some(Quota {
            unit: policy.map_or(Some(Unit::Requests), |policy| policy.unit)?,
            remaining: parameter(&item.params, "r")?,
            reset: parameter(&item.params, "t").map(Duration::from_secs).or(window)?.min(LONGEST),
            precision: Precision::Seconds,
            limit: policy.and_then(|policy| policy.quota),
            window,
        })
    };
    list.iter().filter_map(quota).collect()
}

/// `RateLimit` of draft 07.
fn dictionary(value: &str, policies: &[Policy]) -> Option<Quota> {
    let dictionary = Parser::new(value).parse::<Dictionary>().ok()?;
    let member = |key: &str| match dictionary.get(key)? {
        ListEntry::Item(item) => integer(&item.bare_item),
        ListEntry::InnerList(_) => None,
    };
    let limit = member("limit").filter(|limit| *limit > 0);
    let policy = policies.iter().find(|policy| policy.quota == limit);
    Some(Quota {
        unit: Unit::Requests,
        remaining: member("remaining")?,
        reset: Duration::from_secs(member("reset")?).min(LONGEST),
        precision: Precision::Seconds,
        limit,
        window: policy.and_then(|policy| policy.window),
    })
}

fn parameter(parameters: &Parameters, name: &str) -> Option<u64> {
    integer(parameters.get(name)?)
}

fn integer(item: &BareItem) -> Option<u64> {
    let number = u64::try_from(i64::from(item.as_integer()?)).ok()?;
    Some(number.min(MOST))
}

fn text(item: &BareItem) -> Option<String> {
    match item {
        GenericBareItem::String(string) => Some(string.as_str().to_owned()),
        GenericBareItem::Token(token) => Some(token.as_str().to_owned()),
        _ => None,
    }
}

/// When the response was made, in time since 1970.
#[derive(Clone, Copy)]
struct Clock(Option<Duration>);

impl Clock {
    /// A time of day as a span from the response on: nothing, if it is over.
    fn until(self, time: Duration) -> Option<Duration> {
        Some(time.saturating_sub(self.0?))
    }

    fn retry_after(self, value: &str) -> Option<Duration> {
        seconds(value).or_else(|| self.until(since_1970(value)?))
    }

    fn reset(self, value: &str) -> Option<(Duration, Precision)> {
        // As a span, this would be 31 years; in milliseconds, as a time in seconds, the year 33658.
        const A_TIME: Duration = Duration::from_secs(1_000_000_000);
        const IN_MILLISECONDS: Duration = Duration::from_secs(1_000_000_000_000);
        let precision = match value.bytes().all(|byte| byte.is_ascii_digit()) {
            true => Precision::Seconds,
            false => Precision::Finer,
        };
        let (span, precision) = match seconds(value) {
            Some(number) if number >= IN_MILLISECONDS => (self.until(number / 1000)?, Precision::Seconds),
            Some(number) if number >= A_TIME => (self.until(number)?, Precision::Seconds),
            Some(number) => (number, precision),
            None => match duration(value) {
                Some(span) => (span, Precision::Finer),
                None => (self.until(rfc_3339(value).or_else(|| since_1970(value))?)?, Precision::Seconds),
            },
        };
        Some((span.min(LONGEST), precision))
    }
}

/// An HTTP-date (RFC 9110 §5.6.7) as time since 1970.
fn since_1970(value: &str) -> Option<Duration> {
    httpdate::parse_http_date(value).ok()?.duration_since(UNIX_EPOCH).ok()
}

fn whole(value: &str) -> Option<u64> {
    if value.is_empty() || !value.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    // Only too many digits are left to fail.
    Some(value.parse().unwrap_or(MOST).min(MOST))
}

/// `120` or `1.25`, of whatever unit.
fn seconds(value: &str) -> Option<Duration> {
    let (whole, fraction) = value.split_once('.').unwrap_or((value, "0"));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(whole) || !is_number(fraction) {
        return None;
    }
    let seconds = whole.parse().unwrap_or(u64::MAX);
    let nanoseconds = fraction.bytes().chain(std::iter::repeat(b'0')).take(9);
    let nanoseconds = nanoseconds.fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0'));
    Some(Duration::new(seconds, nanoseconds))
}

/// `6m0s`, `1s`, `250ms`: numbers with units, one after the other.
fn duration(mut value: &str) -> Option<Duration> {
    if value.is_empty() {
        return None;
    }
    let mut sum = Duration::ZERO;
    while !value.is_empty() {
        let split = value.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number = seconds(&value[..split])?;
        value = &value[split..];
        let unit = &value[..value.find(|c: char| c.is_ascii_digit()).unwrap_or(value.len())];
        value = &value[unit.len()..];
        let (times, parts) = match unit {
            "d" => (86_400, 1),
            "h" => (3600, 1),
            "m" => (60, 1),
            "s" => (1, 1),
            "ms" => (1, 1000),
            "us" | "µs" | "μs" => (1, 1_000_000),
            "ns" => (1, 1_000_000_000),
            _ => return None,
        };
        sum = sum.saturating_add(number.saturating_mul(times) / parts);
    }
    Some(sum)
}

/// `2026-11-22T06:00:00Z`, with fractions and offsets, as time since 1970.
fn rfc_3339(value: &str) -> Option<Duration> {
    let part = |from: usize, to: usize| {
        value.get(from..to).filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?.parse::<u64>().ok()
    };
    let stands = |at: usize, what: &[u8]| value.as_bytes().get(at).is_some_and(|byte| what.contains(byte));
    let separated =
        stands(4, b"-") && stands(7, b"-") && stands(10, b"Tt ") && stands(13, b":") && stands(16, b":");
    let (year, month, day) = (part(0, 4)?, part(5, 7)?, part(8, 10)?);
    let (hour, minute, second) = (part(11, 13)?, part(14, 16)?, part(17, 19)?);
    let in_range = year >= 1970
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second <= 60;
    if !separated || !in_range {
        return None;
    }
    let rest = value.get(19..)?;
    let (fraction, offset) = rest.split_at(rest.find(['Z', 'z', '+', '-'])?);
    let fraction = if fraction.is_empty() { Duration::ZERO } else { seconds(&format!("0{fraction}"))? };
    let local = days_since_1970(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
    let minutes = |text: &str| {
        let (hours, minutes) = text.split_once(':')?;
        Some((whole(hours)? * 60 + whole(minutes)?) * 60).filter(|seconds| *seconds < 86_400)
    };
    let at = match offset {
        "Z" | "z" => local,
        _ if offset.starts_with('+') => local.checked_sub(minutes(&offset[1..])?)?,
        _ => local + minutes(&offset[1..])?,
    };
    Some(Duration::from_secs(at) + fraction)
}

/// Days of the Gregorian calendar, counted from a March, so that the leap day is the last of its year.
fn days_since_1970(year: u64, month: u64, day: u64) -> u64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year / 4 - year / 100 + year / 400;
    year * 365 + leap_days + (month * 153 + 2) / 5 + day - 1 - 719_468
}

#[cfg(test)]
mod tests;
