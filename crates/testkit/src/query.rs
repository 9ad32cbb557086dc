//! The parameters of a target, read by name. What is wrong with one is told together with what
//! it may be.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::reply::pairs;
use crate::text;

/// What a query gives.
pub(crate) struct Query {
    given: Vec<(String, String)>,
}

/// A parameter that is not as it has to be.
#[derive(Debug)]
pub(crate) struct Mistake {
    pub parameter: String,
    /// What is wrong with it.
    pub wrong: String,
    pub allowed: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}; allowed: {}", self.parameter, self.wrong, self.allowed)
    }
}

impl Query {
    pub(crate) fn read(query: &str) -> Query {
        Query { given: pairs(query).collect() }
    }

    /// Like [`Query::read`], and refuses names that are not among these, or that come twice.
    pub(crate) fn only(query: &str, known: &[&str]) -> Result<Query, Mistake> {
        let query = Query::read(query);
        for (at, (name, _)) in query.given.iter().enumerate() {
            let wrong = if !known.contains(&name.as_str()) {
                "no such parameter"
            } else if query.given[..at].iter().any(|(earlier, _)| earlier == name) {
                "it is given twice"
            } else {
                continue;
            };
            let allowed = if known.is_empty() { "none".into() } else { known.join(", ") };
            return Err(Mistake { parameter: name.clone(), wrong: wrong.into(), allowed });
        }
        Ok(query)
    }

    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        let found = self.given.iter().find(|(given, _)| given == name);
        found.map(|(_, value)| value.as_str())
    }

    pub(crate) fn number(
        &self,
        name: &str,
        default: u64,
        range: RangeInclusive<u64>,
    ) -> Result<u64, Mistake> {
        self.parsed(name, default, &format!("{} to {}", range.start(), range.end()), |text| {
            text.parse().ok().filter(|number| range.contains(number))
        })
    }

    pub(crate) fn status(
        &self,
        name: &str,
        default: u16,
        range: RangeInclusive<u16>,
    ) -> Result<u16, Mistake> {
        let range = u64::from(*range.start())..=u64::from(*range.end());
        Ok(self.number(name, default.into(), range)? as u16)
    }

    /// A number is in seconds, unless it has a unit: `10`, `0.5`, `1.5s`, `20ms`, `100us`.
    pub(crate) fn time(
        &self,
        name: &str,
        default: Duration,
        range: RangeInclusive<Duration>,
    ) -> Result<Duration, Mistake> {
        let allowed = format!("{:?} to {:?}, as 10, 0.5, 1.5s, 20ms", range.start(), range.end());
        self.parsed(name, default, &allowed, |text| time(text).filter(|time| range.contains(time)))
    }

    /// Whether `1` or `true` is given for it.
    pub(crate) fn flag(&self, name: &str) -> Result<bool, Mistake> {
        self.choice(name, false, &[("1", true), ("true", true), ("0", false), ("false", false)])
    }

    pub(crate) fn choice<T: Clone>(&self, name: &str, default: T, table: &[(&str, T)]) -> Result<T, Mistake> {
        let names: Vec<_> = table.iter().map(|(name, _)| *name).collect();
        self.parsed(name, default, &names.join(", "), |text| {
            table.iter().find(|(known, _)| *known == text).map(|(_, value)| value.clone())
        })
    }

    /// What `parse` makes of a parameter, or the default when it is not there.
    pub(crate) fn parsed<T>(
        &self,
        name: &str,
        default: T,
        allowed: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, Mistake> {
        let Some(text) = self.text(name) else { return Ok(default) };
        parse(text).ok_or_else(|| self.mistake(name, allowed))
    }

    /// Says that what was given for a parameter is no value for it.
    pub(crate) fn mistake(&self, name: &str, allowed: &str) -> Mistake {
        let wrong = format!("{:?} is no value for it", self.text(name).unwrap_or_default());
        Mistake { parameter: name.into(), wrong, allowed: allowed.into() }
    }
}

/// A number of seconds, or one with a unit.
pub(crate) fn time(text: &str) -> Option<Duration> {
    match text.parse() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds).ok(),
        Err(_) => text::duration(text).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(60);

    #[test]
    fn what_is_left_out_has_its_default() {
        let query = Query::only("b=", &["a", "b"]).expect("known");
        assert_eq!(query.number("a", 7, 0..=9).expect("a default"), 7);
        assert_eq!(query.text("b"), Some(""));
        assert!(!query.flag("a").expect("a default"));
    }

    #[test]
    fn times_are_seconds_or_have_a_unit() {
        for (text, milliseconds) in [("2", 2000), ("0.5", 500), ("1.5s", 1500), ("20ms", 20), ("1000us", 1)] {
            let query = Query::read(&format!("t={text}"));
            let time = query.time("t", Duration::ZERO, SHORT).expect(text);
            assert_eq!(time, Duration::from_millis(milliseconds), "{text}");
        }
    }

    #[test]
    fn a_mistake_names_the_parameter_and_what_is_allowed() {
        let known = ["limit", "how"];
        let told = |query: &str| match Query::only(query, &known) {
            Err(mistake) => mistake.to_string(),
            Ok(query) => {
                let number = query.number("limit", 1, 1..=9).map(drop);
                let choice = query.choice("how", 1, &[("fixed", 1), ("sliding", 2)]).map(drop);
                number.and(choice).expect_err("refused").to_string()
            }
        };
        assert_eq!(told("limmit=1"), "limmit: no such parameter; allowed: limit, how");
        assert_eq!(told("how=fixed&how=fixed"), "how: it is given twice; allowed: limit, how");
        assert_eq!(told("limit=0"), "limit: \"0\" is no value for it; allowed: 1 to 9");
        assert_eq!(told("limit=x"), "limit: \"x\" is no value for it; allowed: 1 to 9");
        assert_eq!(told("how=leaky"), "how: \"leaky\" is no value for it; allowed: fixed, sliding");
        let query = Query::read("t=0&u=1h");
        for name in ["t", "u"] {
            let mistake = query.time(name, Duration::ZERO, SHORT).expect_err("refused");
            assert_eq!(mistake.allowed, "1ms to 60s, as 10, 0.5, 1.5s, 20ms");
        }
        assert_eq!(query.flag("u").expect_err("refused").allowed, "1, true, 0, false");
    }
}
