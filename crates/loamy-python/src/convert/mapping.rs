//! A row that is a dict, or another mapping: its keys, and what is said of one that is unknown.

use loamy::{MaskedUrl, Overrides, Policy, Request};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;

use super::bodies::{form_body, json_body, raw_body};
use super::policy::read_timeouts;
use super::trust::Wanted;
use super::{Row, Terms, conduct, copied, flag, headers, string};
use crate::query::{self, Nothing};

/// The keys of a row that is a dict.
const KEYS: [&str; 18] = [
    "method",
    "url",
    "params",
    "json",
    "data",
    "content",
    "headers",
    "timeout",
    "tag",
    "allow_redirects",
    "follow_redirects",
    "max_redirects",
    "verify",
    "extra_ca",
    "tls_min",
    "raw_url",
    "cost",
    "limit_key",
];

/// What other clients call it, and what is no row's to say.
const ELSEWHERE: [(&[&str], &str); 13] = [
    (&["cert"], "client certificates are not supported"),
    (&["ssl"], "verify=False, verify='bundle.pem' or extra_ca='issuer.pem' say whom to trust"),
    (&["auth"], "put user:password@ before the host of the URL, or an Authorization header into \"headers\""),
    (&["cookies", "cookie"], "none are kept; what is to be sent is a Cookie header in \"headers\""),
    (&["proxies", "proxy"], "proxies are not spoken in this version"),
    (&["files"], "bodies of several parts are not made in this version; \"content\" takes the bytes of one"),
    (&["body", "payload"], "a body is \"json\", \"data\" (a form) or \"content\" (bytes)"),
    (&["form"], "a form is \"data\""),
    (&["query", "query_params", "queryParams"], "it is \"params\""),
    (&["http_op", "httpOperation", "verb"], "it is \"method\""),
    (&["host", "path", "uri", "link", "href"], "where to is \"url\", whole"),
    (
        &["id", "key", "name", "meta", "metadata", "extra", "context"],
        "what comes back with the response is \"tag\"",
    ),
    (
        &[
            "concurrency",
            "per_host",
            "deadline",
            "retries",
            "backoff",
            "rate",
            "limits",
            "idempotency",
            "job",
            "hedge",
            "duplicates",
            "http_version",
            "journal",
        ],
        "rows have no such thing of their own; a keyword of the call holds for all of them",
    ),
];

pub(super) fn from_mapping(row: &Bound<'_, PyAny>, terms: &Terms) -> PyResult<Row> {
    let py = row.py();
    let fields = copied(row)?;
    let policy = &terms.policy;
    let Some(url) = fields.get_item(intern!(py, "url"))? else {
        return Err(PyValueError::new_err("the row has no \"url\""));
    };
    let mut url = string(&url, "url")?.to_owned();
    let mut method = "GET".to_owned();
    let mut tag = None;
    let mut overrides = Overrides::default();
    let mut overridden = false;
    let mut redirects: Option<u16> = None;
    let mut follows: Option<bool> = None;
    let mut trusts: Option<Wanted> = None;
    let mut raw = false;
    let mut bodies: Vec<(&str, Bound<'_, PyAny>)> = Vec::new();
    let mut given_headers = None;
    for (key, value) in fields.iter() {
        let key = string(&key, "key of a row")?;
        if !KEYS.contains(&key) {
            return Err(PyTypeError::new_err(unknown_key(key)));
        }
        // None is as if it were not there, save where it says something.
        if value.is_none() && key != "timeout" {
            continue;
        }
        match key {
            "method" => string(&value, "method")?.clone_into(&mut method),
            "params" => url = query::extend(&url, &value, Nothing::LeftOut)?,
            "json" => bodies.push(("json", value)),
            "data" => bodies.push(("data", value)),
            "content" => bodies.push(("content", value)),
            "headers" => given_headers = Some(value),
            "tag" => tag = Some(value.unbind()),
            "timeout" => {
                overrides = overrides.timeouts(read_timeouts(&value, &policy.timeouts)?);
                overridden = true;
            }
            "allow_redirects" | "follow_redirects" => follows = Some(flag(&value, key)?),
            "max_redirects" => {
                redirects = Some(conduct::whole(&value, key, "a number from 0 to 65535")?);
            }
            "verify" | "extra_ca" | "tls_min" => {
                trusts.get_or_insert_with(|| terms.wanted.clone()).set(key, &value)?;
            }
            "raw_url" => raw = flag(&value, key)?,
            "cost" => {
                overrides = conduct::cost(overrides, &value, policy)?;
                overridden = true;
            }
            "limit_key" => {
                overrides = conduct::limit_key(overrides, &value)?;
                overridden = true;
            }
            _ => {}
        }
    }
    let mut request = Request::new(&method, url);
    if let Some(given) = given_headers {
        request = headers(request, &given)?;
    }
    match bodies.as_slice() {
        [] => {}
        [("json", value)] => request = json_body(request, value)?,
        [("data", value)] => request = form_body(request, value)?,
        [(_, value)] => request = raw_body(request, value, "content", "bytes or str")?,
        [(one, _), (other, _), ..] => {
            return Err(PyValueError::new_err(format!("a row has one body; this one has {one} and {other}")));
        }
    }
    let redirects = match (follows, redirects) {
        (Some(false), _) => Some(0),
        // The row follows although the policy does not: as far as a policy does by default.
        (Some(true), None) if policy.max_redirects == 0 => Some(Policy::default().max_redirects),
        (_, own) => own,
    };
    if let Some(most) = redirects {
        overrides = overrides.max_redirects(most);
    }
    if raw {
        overrides = overrides.raw_url();
    }
    if let Some(wanted) = trusts {
        match terms.profile(py, wanted)? {
            Ok(None) => {}
            Ok(profile) => {
                overrides.tls = profile;
                overridden = true;
            }
            Err(error) => request = request.refuse(error),
        }
    }
    if overridden || raw || redirects.is_some() {
        request = request.overrides(overrides);
    }
    if let Some(tag) = &tag {
        request = conduct::known_by(request, tag.bind(py), terms.tags)?;
    }
    Ok(Row { request, tag })
}

fn unknown_key(key: &str) -> String {
    // A URL in its place may have credentials in it.
    let key = &*MaskedUrl(key).to_string();
    if let Some((_, advice)) = ELSEWHERE.iter().find(|(names, _)| names.contains(&key)) {
        return format!("the row's key {key:?} is unknown: {advice}");
    }
    let nearest = KEYS.iter().map(|known| (distance(key, known), known)).min();
    match nearest {
        // A third of the letters: what has less in common is another word.
        Some((far, known)) if far <= (key.len() / 3).max(1) && far < key.len() => {
            format!("the row's key {key:?} is unknown; is it {known:?}?")
        }
        _ => format!("the row's key {key:?} is unknown; known are {}", KEYS.join(", ")),
    }
}

/// How many characters must change to make one word of the other.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut costs: Vec<usize> = (0..=other.len()).collect();
    for (line, character) in one.chars().enumerate() {
        let mut diagonal = costs[0];
        costs[0] = line + 1;
        for (column, candidate) in other.iter().enumerate() {
            let replaced = diagonal + usize::from(character != *candidate);
            diagonal = costs[column + 1];
            costs[column + 1] = replaced.min(diagonal + 1).min(costs[column] + 1);
        }
    }
    costs[other.len()]
}
