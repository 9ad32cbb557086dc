//! How a `loamy.Policy` wants a call to behave towards servers, and what a row says of its part in it.

use std::time::Duration;

use loamy::{
    Adaptive, Backoff, Duplicates, Governor, Hedging, Idempotency, Limit, Overrides, Policy, Rate, Request,
    Retried,
};
use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyInt, PyMapping, PyString};

use super::{Tags, copied, not_a, string};

/// The limit that every row costs 1 of, whatever the `cost` of the row is.
const REQUESTS: &str = "requests";

/// Sets what a `loamy.Policy` says of retries, limits and the like. It has checked itself when it was built.
///
/// # Errors
/// TypeError and ValueError for what is no policy.
pub(super) fn set(policy: &mut Policy, given: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = given.py();
    policy.retries = given.getattr(intern!(py, "retries"))?.extract()?;
    if given.getattr(intern!(py, "retry_unsafe"))?.extract()? {
        policy.retried = Retried::All;
    }
    let (base, cap): (f64, f64) = given.getattr(intern!(py, "backoff"))?.extract()?;
    policy.backoff = Backoff { base: span(base), cap: span(cap) };
    policy.max_pause = span(given.getattr(intern!(py, "max_pause"))?.extract()?);
    if !given.getattr(intern!(py, "governor"))?.extract::<bool>()? {
        policy.governor = Governor::Off;
    }
    policy.limits = limits(given)?;
    set_concurrency(policy, given)?;
    policy.max_failures = given.getattr(intern!(py, "max_failures"))?.extract()?;
    policy.max_failures_per_host = given.getattr(intern!(py, "max_failures_per_host"))?.extract()?;
    if given.getattr(intern!(py, "fail_fast"))?.extract()? {
        policy.max_failures = Some(1);
    }
    if !given.getattr(intern!(py, "idempotency"))?.is_none() {
        let job: String = given.getattr(intern!(py, "job"))?.extract()?;
        policy.idempotency = Idempotency::Auto { job: job.into() };
    }
    if string(&given.getattr(intern!(py, "duplicates"))?, "duplicates")? == "share" {
        policy.duplicates = Duplicates::Share;
    }
    let hedge = given.getattr(intern!(py, "hedge"))?;
    policy.hedging = match hedge.cast::<PyBool>() {
        Ok(flag) if flag.is_true() => Hedging::Auto,
        Ok(_) => Hedging::Off,
        Err(_) => Hedging::After(span(hedge.extract()?)),
    };
    Ok(())
}

fn set_concurrency(policy: &mut Policy, given: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = given.py();
    let most = given.getattr(intern!(py, "concurrency"))?;
    if most.is_instance_of::<PyString>() {
        policy.adaptive = Some(Adaptive::Aimd);
    } else {
        policy.concurrency = most.extract()?;
    }
    let manner = given.getattr(intern!(py, "adaptive"))?;
    if !manner.is_none() {
        policy.adaptive = Some(match string(&manner, "adaptive")? {
            "gradient2" => Adaptive::Gradient2,
            _ => Adaptive::Aimd,
        });
    }
    Ok(())
}

fn limits(given: &Bound<'_, PyAny>) -> PyResult<Vec<Limit>> {
    let py = given.py();
    let mut limits = Vec::new();
    let rate = given.getattr(intern!(py, "rate"))?;
    if !rate.is_none() {
        let burst: Option<u64> = given.getattr(intern!(py, "burst"))?.extract()?;
        let limit = Limit::new(REQUESTS, read_rate("rate", string(&rate, "rate")?)?);
        limits.push(match burst {
            Some(burst) => limit.burst(burst),
            None => limit,
        });
    }
    let rate = given.getattr(intern!(py, "rate_per_host"))?;
    if !rate.is_none() {
        let rate = read_rate("rate_per_host", string(&rate, "rate_per_host")?)?;
        limits.push(Limit::new(REQUESTS, rate).for_each_origin());
    }
    for field in ["limits", "limits_per_host"] {
        let named = given.getattr(field)?;
        if named.is_none() {
            continue;
        }
        for pair in named.cast::<PyMapping>()?.items()? {
            let (name, rate): (String, String) = pair.extract()?;
            let limit = Limit::new(name, read_rate(field, &rate)?);
            limits.push(if field == "limits" { limit } else { limit.for_each_origin() });
        }
    }
    Ok(limits)
}

/// Checks how fast a field says; for policies, when they are built.
///
/// # Errors
/// ValueError with what is wrong with it and how it is written.
#[pyfunction]
pub(crate) fn check_rate(field: &str, text: &str) -> PyResult<()> {
    read_rate(field, text).map(drop)
}

fn read_rate(field: &str, text: &str) -> PyResult<Rate> {
    text.parse().map_err(|error: loamy::Error| {
        let hint = error.hint().map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
        PyValueError::new_err(format!("{field}: {}{hint}", error.message()))
    })
}

/// What a row says it costs: a number, of every limit that does not count requests; or numbers by name of limit.
pub(super) fn cost(mut own: Overrides, given: &Bound<'_, PyAny>, policy: &Policy) -> PyResult<Overrides> {
    if given.is_instance_of::<PyMapping>() {
        for (name, value) in copied(given)?.iter() {
            let name = string(&name, "name of a limit")?;
            own = own.cost(name, count(&value, &format!("cost of {name:?}"))?);
        }
        return Ok(own);
    }
    let cost = count(given, "cost")?;
    let mut others: Vec<&str> =
        policy.limits.iter().map(Limit::name).filter(|name| *name != REQUESTS).collect();
    others.sort_unstable();
    others.dedup();
    if others.is_empty() {
        return Err(PyValueError::new_err(
            "cost says what the row takes of limits other than \"requests\", and there is none; name one in limits, \
             as in limits={\"tokens\": \"40000/min\"}",
        ));
    }
    Ok(others.into_iter().fold(own, |own, name| own.cost(name, cost)))
}

fn count(value: &Bound<'_, PyAny>, name: &str) -> PyResult<u64> {
    whole(value, name, "a whole number, 0 or more")
}

/// A whole number of the size that its field has.
pub(super) fn whole<'py, T>(value: &Bound<'py, PyAny>, name: &str, wanted: &str) -> PyResult<T>
where
    T: for<'a> FromPyObject<'a, 'py>,
{
    if value.is_instance_of::<PyBool>() || !value.is_instance_of::<PyInt>() {
        return Err(not_a(value, name, wanted));
    }
    value.extract().map_err(|_| PyValueError::new_err(format!("{name} is {value}; it must be {wanted}")))
}

/// Whose limits and pauses a row shares.
pub(super) fn limit_key(own: Overrides, given: &Bound<'_, PyAny>) -> PyResult<Overrides> {
    match string(given, "limit_key")? {
        "" => Err(PyValueError::new_err("limit_key is empty; leave it out for the host's own limits")),
        key => Ok(own.limit_key(key)),
    }
}

/// Has the row's mark tell its idempotency key apart, where keys are made: the text that it is, or the number.
pub(crate) fn known_by(request: Request, tag: &Bound<'_, PyAny>, tags: Tags) -> PyResult<Request> {
    if tags == Tags::OnlyCarried {
        return Ok(request);
    }
    let is_number = tag.is_instance_of::<PyInt>() && !tag.is_instance_of::<PyBool>();
    if tag.is_instance_of::<PyString>() || is_number {
        let text = tag.str()?;
        return Ok(request.tag(string(text.as_any(), "tag")?));
    }
    Ok(request)
}

/// Beyond what a clock can hold, as long as it takes.
fn span(seconds: f64) -> Duration {
    const LONGEST: Duration = Duration::from_secs(1 << 32);
    Duration::try_from_secs_f64(seconds).map_or(LONGEST, |span| span.min(LONGEST))
}
