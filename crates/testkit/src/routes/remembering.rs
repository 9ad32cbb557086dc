//! The routes whose answer depends on what came before: limits, attempts, idempotency keys, a
//! peak of load, and what was counted of all this.

use std::time::Duration;

use serde_json::json;

use super::{Answer, Call, JSON};
use crate::clock::Date;
use crate::hint::{Field, RetryAfter, Spelling};
use crate::keyed::{self, Order, Reading, Ruling};
use crate::limit::{How, Rule};
use crate::log::Ending;
use crate::peak::{Admission, Curve};
use crate::query::{Mistake, Query};
use crate::reply::{Reply, Sheet};

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);
/// Counts and limits in queries.
const MANY: u64 = 1_000_000_000;

impl Call<'_> {
    pub(super) fn remembering(&self, route: &str, rest: Option<&str>, out: &mut impl Sheet) -> Answer {
        // What stands after the name lets rows that share a name have URLs of their own.
        let name = rest.map(|rest| rest.split_once('/').map_or(rest, |(name, _)| name));
        let answered = match (route, rest, name) {
            ("count", Some(id), _) => self.count(id, out),
            ("counts", None, _) => {
                Ok(self.told(serde_json::to_string(&self.site.memory().tally.visits()), out))
            }
            ("flaky", Some(id), _) => self.flaky(id, out),
            ("keyed", Some(id), _) => self.keyed(id, out),
            ("effects", None, _) => Ok(self.told(serde_json::to_string(&self.site.memory().effects()), out)),
            ("limited", _, Some(name)) => self.limited(name, out),
            ("stamp", _, Some(name)) => self.stamp(name, out),
            ("arrivals", _, Some(name)) => self.arrivals(name, out),
            ("peak", _, name) => self.peak(name.unwrap_or(""), out),
            ("usage", _, name) => self.usage(name.unwrap_or(""), out),
            _ => return self.refuse(404, "no such route", out),
        };
        answered.unwrap_or_else(|mistake| {
            let told = json!({
                "error": mistake.to_string(),
                "parameter": mistake.parameter,
                "allowed": mistake.allowed,
                "path": self.path,
            });
            self.reply(400).json(&told, out);
            Answer::Ready
        })
    }

    /// A visit that is counted; `?fail=2&status=503` refuses the first two. Names that it does not
    /// know are left alone, so that rows may have queries of their own.
    fn count(&self, id: &str, out: &mut impl Sheet) -> Result<Answer, Mistake> {
        let query = Query::read(self.query);
        let status = query.status("status", 503, 200..=999)?;
        // A status alone is meant for every visit.
        let all = if query.text("status").is_some() { MANY } else { 0 };
        let fail = query.number("fail", all, 0..=MANY)?;
        let takes = takes(&query)?;
        let seen = self.visit(id);
        let status = if seen <= fail { status } else { 200 };
        let from = out.written();
        self.reply(status).json(&json!({"id": id, "seen": seen}), out);
        Ok(later(takes, from))
    }

    /// The first visits of an id fail.
    fn flaky(&self, id: &str, out: &mut impl Sheet) -> Result<Answer, Mistake> {
        let query = Query::only(self.query, &["fail", "status", "retry_after", "takes"])?;
        let fail = query.number("fail", 1, 0..=MANY)?;
        let failures = "300 to 599, close, reset, hang, or a list of these";
        let failures = query.parsed("status", vec![Failure::Status(503)], failures, |text| {
            text.split(',').map(Failure::parse).collect()
        })?;
        let retry_after = query.parsed("retry_after", RetryAfter::Absent, RetryAfter::UNKNOWN, |text| {
            // Nobody knows when the next attempt will do better.
            let known = [RetryAfter::True, RetryAfter::TrueDate];
            RetryAfter::parse(text).filter(|retry_after| !known.contains(retry_after))
        })?;
        let pause = takes(&query)?;
        let attempts = self.visit(id);
        let told = json!({"id": id, "attempts": attempts});
        let from = out.written();
        if attempts > fail {
            self.reply(200).json(&told, out);
            return Ok(later(pause, from));
        }
        let last = failures.len() - 1;
        let at = usize::try_from(attempts - 1).unwrap_or(last).min(last);
        match failures[at] {
            Failure::Status(status) => {
                let now = self.date();
                let hint = retry_after.field(Duration::ZERO, now);
                dressed(self.reply(status), dated(now, hint)).json(&told, out);
                Ok(later(pause, from))
            }
            Failure::Close => Ok(Answer::End { pause, ending: Ending::ByServer }),
            Failure::Reset => Ok(Answer::End { pause, ending: Ending::ServerReset }),
            Failure::Hang => Ok(Answer::Hang),
        }
    }

    /// POST and PATCH have an effect, once for each key; GET tells how many there were.
    fn keyed(&self, id: &str, out: &mut impl Sheet) -> Result<Answer, Mistake> {
        if matches!(self.head.method, "GET" | "HEAD") {
            let (effects, keys) = self.site.memory().effect(id);
            self.reply(200).json(&json!({"id": id, "effects": effects, "keys": keys}), out);
            return Ok(Answer::Ready);
        }
        if !matches!(self.head.method, "POST" | "PATCH") {
            let reply = self.reply(405).with("Allow", "GET, HEAD, POST, PATCH");
            reply.json(&json!({"error": "method not allowed", "path": self.path}), out);
            return Ok(Answer::Ready);
        }
        let known = ["takes", "status", "need", "strict", "lose", "end", "retry_after"];
        let query = Query::only(self.query, &known)?;
        let takes = takes(&query)?;
        let status = query.status("status", 201, 200..=599)?;
        let (need, strict) = (query.flag("need")?, query.flag("strict")?);
        let lose = query.number("lose", 0, 0..=MANY)?;
        let endings = [("close", Ending::ByServer), ("reset", Ending::ServerReset)];
        let ending = query.choice("end", Ending::ByServer, &endings)?;
        let retry_after =
            query.parsed("retry_after", RetryAfter::Absent, RetryAfter::ALLOWED, RetryAfter::parse)?;
        self.visit(id);
        let reading = if strict { Reading::Strict } else { Reading::Lenient };
        let key = match self.head.header("idempotency-key") {
            None if need => return Ok(self.problem(400, "an Idempotency-Key is needed here", None, out)),
            None => None,
            Some(value) => match keyed::key(value, reading) {
                None => return Ok(self.problem(400, "this is no Idempotency-Key", None, out)),
                key => key,
            },
        };
        let payload = keyed::fingerprint(self.head.method, self.body);
        let order = Order { key: key.as_deref(), payload, status, takes, lose };
        let now = self.site.clock.now();
        let ruling = self.site.memory().order(id, &order, now);
        match ruling {
            Ruling::Answer { told, pause } => {
                let from = out.written();
                let answer = json!({"id": id, "effect": told.effect, "key": key});
                self.reply(told.status).json(&answer, out);
                Ok(later(pause, from))
            }
            Ruling::Lost { pause } => Ok(Answer::End { pause, ending }),
            Ruling::Running { wait } => {
                let hint = retry_after.field(wait, self.date());
                Ok(self.problem(409, "the first request with this Idempotency-Key is not done", hint, out))
            }
            Ruling::OtherPayload => {
                Ok(self.problem(422, "this Idempotency-Key came with another payload", None, out))
            }
        }
    }

    /// A limit that is kept, and published in one of many spellings.
    fn limited(&self, name: &str, out: &mut impl Sheet) -> Result<Answer, Mistake> {
        let known =
            ["limit", "window", "how", "burst", "as", "refuse", "retry_after", "takes", "clock_ahead"];
        let query = Query::only(self.query, &known)?;
        let limit = query.number("limit", 10, 1..=MANY)?;
        let how = query.choice("how", How::Fixed, &How::NAMES)?;
        if how != How::Bucket && query.text("burst").is_some() {
            return Err(query.mistake("burst", "only with how=bucket"));
        }
        let rule = Rule {
            how,
            limit,
            window: query.time("window", SECOND, Duration::from_millis(1)..=DAY)?,
            burst: query.number("burst", limit, 1..=MANY)?,
        };
        let spelling = query.choice("as", Spelling::Draft10, &Spelling::NAMES)?;
        let refusal = query.status("refuse", 429, 400..=599)?;
        let untold = spelling.retry_after();
        let retry_after = query.parsed("retry_after", untold, RetryAfter::ALLOWED, RetryAfter::parse)?;
        let takes = takes(&query)?;
        let offset =
            query.parsed("clock_ahead", 0, "a number of seconds, less than 0 if behind", |text| {
                text.parse::<i32>().ok()
            })?;
        let now = self.arrived(name);
        let asked = self.site.memory().ask(name, &rule, now);
        let (standing, usage) = asked.map_err(|counted| {
            let spelt = How::NAMES.iter().find(|(_, how)| *how == counted).map_or("", |(name, _)| name);
            query.mistake("how", &format!("{spelt}, as {name} is counted from its first request on"))
        })?;
        let ahead = Duration::from_secs(offset.unsigned_abs().into());
        let date = self.site.clock.date(now);
        let date = if offset < 0 { date.minus(ahead) } else { date.plus(ahead) };
        let status = if standing.granted { 200 } else { refusal };
        let reply = self.reply(status).with("Date", &date.http());
        let mut fields = spelling.fields(&rule, &standing, date);
        if !standing.granted {
            fields.extend(retry_after.field(standing.wait, date));
        }
        let told = json!({"name": name, "granted": usage.granted, "refused": usage.refused});
        let from = out.written();
        dressed(reply, fields).json(&told, out);
        Ok(later(if standing.granted { takes } else { Duration::ZERO }, from))
    }

    /// When it came is kept, nothing else.
    fn stamp(&self, name: &str, out: &mut impl Sheet) -> Result<Answer, Mistake> {
        let now = self.arrived(name);
        self.reply(200).json(&json!({"name": name, "arrived": micros(now)}), out);
        Ok(Answer::Ready)
    }

    fn arrivals(&self, name: &str, out: &mut impl Sheet) -> Result<Answer, Mistake> {
        Query::only(self.query, &[])?;
        let times: Vec<_> = self.site.memory().tally.arrivals(name).iter().map(|at| micros(*at)).collect();
        Ok(self.told(serde_json::to_string(&times), out))
    }

    /// A server that is quick up to its peak, slower beyond, and refuses in the end.
    fn peak(&self, name: &str, out: &mut impl Sheet) -> Result<Answer, Mistake> {
        let query = Query::only(self.query, &["at", "most", "service", "refuse", "retry_after"])?;
        let at = query.number("at", 25, 1..=MANY)?;
        let most = query.number("most", 2 * at, 1..=MANY)?;
        if most < at {
            return Err(query.mistake("most", &format!("{at} and more, which is `at`")));
        }
        let curve = Curve { at, most, service: query.time("service", SECOND / 50, Duration::ZERO..=DAY)? };
        let refusal = query.status("refuse", 503, 400..=599)?;
        let retry_after =
            query.parsed("retry_after", RetryAfter::Absent, RetryAfter::ALLOWED, RetryAfter::parse)?;
        let admission = self.site.memory().arrive(name, &curve, self.site.clock.now());
        match admission {
            Admission::Taken { in_service, time } => {
                let from = out.written();
                let told = json!({"in_service": in_service, "milliseconds": time.as_secs_f64() * 1e3});
                self.reply(200).json(&told, out);
                Ok(later(time, from))
            }
            Admission::Refused { in_service, wait } => {
                let now = self.date();
                let fields = dated(now, retry_after.field(wait, now));
                dressed(self.reply(refusal), fields).json(&json!({"in_service": in_service}), out);
                Ok(Answer::Ready)
            }
        }
    }

    /// What became of the requests to a limit and to a peak of this name.
    fn usage(&self, name: &str, out: &mut impl Sheet) -> Result<Answer, Mistake> {
        Query::only(self.query, &[])?;
        let (limited, peak) = {
            let memory = self.site.memory();
            (memory.usage(name), memory.peak(name))
        };
        let told = json!({
            "limited": {"granted": limited.granted, "refused": limited.refused},
            "peak": {"served": peak.served, "refused": peak.refused, "most": peak.most},
        });
        self.reply(200).json(&told, out);
        Ok(Answer::Ready)
    }

    fn visit(&self, id: &str) -> u64 {
        self.site.memory().tally.visit(id, self.head.method)
    }

    /// Keeps the time of arrival.
    fn arrived(&self, name: &str) -> Duration {
        let now = self.site.clock.now();
        self.site.memory().tally.arrived(name, now);
        now
    }

    fn date(&self) -> Date {
        self.site.clock.date(self.site.clock.now())
    }

    /// Numbers, written without a detour through a [`serde_json::Value`]: there may be many.
    fn told(&self, numbers: serde_json::Result<String>, out: &mut impl Sheet) -> Answer {
        // Numbers by name have no way to fail.
        self.reply(200).body(JSON, numbers.unwrap_or_default().as_bytes(), out);
        Answer::Ready
    }

    /// RFC 9457, which the draft of the Idempotency-Key asks for.
    fn problem(&self, status: u16, title: &str, hint: Option<Field>, out: &mut impl Sheet) -> Answer {
        let problem = json!({"title": title, "status": status, "instance": self.path});
        let reply = dressed(self.reply(status), dated(self.date(), hint));
        reply.body("application/problem+json", problem.to_string().as_bytes(), out);
        Answer::Ready
    }
}

/// What `/flaky` does instead of an answer of status 200.
#[derive(Clone, Copy)]
enum Failure {
    Status(u16),
    Close,
    Reset,
    Hang,
}

impl Failure {
    fn parse(text: &str) -> Option<Failure> {
        Some(match text {
            "close" => Failure::Close,
            "reset" => Failure::Reset,
            "hang" => Failure::Hang,
            status => Failure::Status(status.parse().ok().filter(|status| (300..=599).contains(status))?),
        })
    }
}

/// How long it takes to answer.
fn takes(query: &Query) -> Result<Duration, Mistake> {
    query.time("takes", Duration::ZERO, Duration::ZERO..=DAY)
}

/// What is in `out` from `from` on leaves after the pause.
fn later(pause: Duration, from: usize) -> Answer {
    if pause.is_zero() { Answer::Ready } else { Answer::After { pause, from } }
}

/// A hint, with the date that it may have to be seen beside (RFC 9110 section 6.6.1).
fn dated(now: Date, hint: Option<Field>) -> Vec<Field> {
    hint.map_or(Vec::new(), |hint| vec![("Date", now.http()), hint])
}

fn dressed(reply: Reply, fields: Vec<Field>) -> Reply {
    fields.into_iter().fold(reply, |reply, (name, value)| reply.with(name, &value))
}

fn micros(time: Duration) -> u64 {
    time.as_micros() as u64
}
