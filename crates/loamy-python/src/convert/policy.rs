//! `loamy.Policy` as the engine's, and the timeouts that a row may set for itself.

use std::time::Duration;

use loamy::{Downgrade, Headers, HttpVersion, Policy, Timeouts};
use pyo3::exceptions::{PyOverflowError, PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyList, PyMapping, PyString, PyTuple};

use super::terms::Terms;
use super::trust::Trust;
use super::{conduct, copied, each_pair, not_a, string};

/// What a `loamy.Policy` asks for. It has checked itself when it was built.
///
/// # Errors
/// TypeError and ValueError for what is no policy.
pub(crate) fn terms(given: &Bound<'_, PyAny>) -> PyResult<Terms> {
    let py = given.py();
    let trust = given.getattr(intern!(py, "_trust"))?;
    let trust = trust.cast::<Trust>()?.get();
    let mut policy = policy(given)?;
    policy.tls = trust.profile(py)?;
    Ok(Terms::new(policy, trust.wanted().clone()))
}

fn policy(given: &Bound<'_, PyAny>) -> PyResult<Policy> {
    let py = given.py();
    let mut policy = Policy::default();
    policy.per_host = given.getattr(intern!(py, "per_host"))?.extract()?;
    policy.threads = given.getattr(intern!(py, "threads"))?.extract()?;
    policy.deadline = seconds(&given.getattr(intern!(py, "deadline"))?, "deadline")?;
    policy.timeouts = read_timeouts(&given.getattr(intern!(py, "timeout"))?, &Timeouts::default())?;
    let follow: bool = given.getattr(intern!(py, "follow_redirects"))?.extract()?;
    policy.max_redirects = if follow { given.getattr(intern!(py, "max_redirects"))?.extract()? } else { 0 };
    policy.sizes.head = given.getattr(intern!(py, "max_head"))?.extract()?;
    policy.sizes.fields = given.getattr(intern!(py, "max_fields"))?.extract()?;
    policy.sizes.body = given.getattr(intern!(py, "max_body"))?.extract()?;
    policy.secret_headers = given.getattr(intern!(py, "secret_headers"))?.extract()?;
    policy.http_version = http_version(&given.getattr(intern!(py, "http_version"))?)?;
    policy.h2_connections = given.getattr(intern!(py, "h2_connections"))?.extract()?;
    policy.h2_streams = given.getattr(intern!(py, "h2_streams"))?.extract()?;
    policy.h2_ping = seconds(&given.getattr(intern!(py, "h2_ping"))?, "h2_ping")?;
    if given.getattr(intern!(py, "allow_downgrade"))?.extract()? {
        policy.downgrade = Downgrade::Allow;
    }
    conduct::set(&mut policy, given)?;
    let common = given.getattr(intern!(py, "headers"))?;
    if !common.is_none() {
        policy.headers = common_headers(&common)?.0;
    }
    policy.validate().map_err(|error| PyValueError::new_err(error.message().to_owned()))?;
    Ok(policy)
}

/// Checks the headers of a policy when it is built, and returns them as pairs that nobody can change any more.
///
/// # Errors
/// TypeError and ValueError that name the field.
#[pyfunction]
pub(crate) fn check_headers(given: &Bound<'_, PyAny>) -> PyResult<Vec<(String, String)>> {
    let (headers, pairs) = common_headers(given)?;
    let mut policy = Policy::default();
    policy.headers = headers;
    policy.validate().map_err(|error| PyValueError::new_err(format!("headers: {}", error.message())))?;
    Ok(pairs)
}

/// Of two spellings of a name in a mapping the last wins, as in a row.
fn common_headers(given: &Bound<'_, PyAny>) -> PyResult<(Headers, Vec<(String, String)>)> {
    let repeats = given.is_instance_of::<PyList>() || given.is_instance_of::<PyTuple>();
    let mut fields = Headers::new();
    let mut pairs: Vec<(String, String)> = Vec::new();
    each_pair(given, |name, value| {
        let name = string(name, "headers: a name")?;
        let value = string(value, &format!("headers: {name}"))?;
        if !repeats {
            fields.remove(name);
            pairs.retain(|(own, _)| !own.eq_ignore_ascii_case(name));
        }
        pairs.push((name.to_owned(), value.to_owned()));
        fields
            .append(name, value)
            .map_err(|error| PyValueError::new_err(format!("headers: {}", error.message())))
    })?;
    Ok((fields, pairs))
}

fn http_version(given: &Bound<'_, PyAny>) -> PyResult<HttpVersion> {
    match string(given, "http_version")? {
        "auto" => Ok(HttpVersion::Auto),
        "1.1" => Ok(HttpVersion::Http1),
        "2" => Ok(HttpVersion::Http2),
        other => Err(PyValueError::new_err(format!("http_version has no value {other:?}"))),
    }
}

/// Reads a timeout: seconds in all, a (connect, read) pair, or an object or mapping with phases.
pub(super) fn read_timeouts(given: &Bound<'_, PyAny>, base: &Timeouts) -> PyResult<Timeouts> {
    let mut timeouts = *base;
    if given.is_none() {
        timeouts.total = None;
        timeouts.connect = None;
        return Ok(timeouts);
    }
    if given.is_instance_of::<PyTuple>() || given.is_instance_of::<PyList>() {
        if given.len()? != 2 {
            let count = given.len()?;
            let message = "timeout must be seconds, or a (connect, read) pair";
            return Err(PyTypeError::new_err(format!("{message}; this one has {count} parts")));
        }
        let (connect, read) = (given.get_item(0)?, given.get_item(1)?);
        timeouts.connect = seconds(&connect, "timeout")?;
        timeouts.first_byte = seconds(&read, "timeout")?;
        timeouts.read = timeouts.first_byte;
        return Ok(timeouts);
    }
    let phases = given.is_instance_of::<PyMapping>().then(|| copied(given)).transpose()?;
    if let Some(phases) = &phases {
        for key in phases.keys() {
            let key = string(&key, "phase of a timeout")?.to_owned();
            if !PHASES.contains(&key.as_str()) {
                return Err(PyTypeError::new_err(format!(
                    "timeout has no phase {key:?}; it has {}",
                    PHASES.join(", ")
                )));
            }
        }
    } else if !given.hasattr(intern!(given.py(), "first_byte"))? {
        timeouts.total = seconds(given, "timeout")?;
        return Ok(timeouts);
    }
    let slots = [
        &mut timeouts.acquire,
        &mut timeouts.resolve,
        &mut timeouts.connect,
        &mut timeouts.tls,
        &mut timeouts.write,
        &mut timeouts.first_byte,
        &mut timeouts.read,
        &mut timeouts.total,
    ];
    for (phase, slot) in PHASES.iter().zip(slots) {
        let name = PyString::intern(given.py(), phase);
        let value = match &phases {
            Some(phases) => phases.get_item(name)?,
            None => Some(given.getattr(name)?),
        };
        if let Some(value) = value {
            *slot = seconds(&value, "timeout")?;
        }
    }
    Ok(timeouts)
}

/// The phases of a timeout, in the order in which they happen.
const PHASES: [&str; 8] = ["acquire", "resolve", "connect", "tls", "write", "first_byte", "read", "total"];

fn seconds(value: &Bound<'_, PyAny>, name: &str) -> PyResult<Option<Duration>> {
    if value.is_none() {
        return Ok(None);
    }
    if value.is_instance_of::<PyBool>() {
        return Err(not_a(value, name, "a number of seconds"));
    }
    let number: f64 = match value.extract() {
        Ok(number) => number,
        // An integer that is too large for a float, which may be written in hundreds of digits.
        Err(error) if error.is_instance_of::<PyOverflowError>(value.py()) => {
            if value.lt(0)? {
                let message = format!("{name} is below 0; it must be above 0, or None for no limit");
                return Err(PyValueError::new_err(message));
            }
            f64::INFINITY
        }
        Err(error) if error.is_instance_of::<PyTypeError>(value.py()) => {
            return Err(not_a(value, name, "a number of seconds"));
        }
        Err(error) => return Err(error),
    };
    let least = if number.is_nan() || number <= 0.0 {
        "above 0"
    } else if number < 1e-9 {
        "a nanosecond or more"
    } else {
        // Beyond what a clock can hold there is no limit.
        return Ok(Duration::try_from_secs_f64(number).ok().filter(|span| span.as_secs() < 1 << 32));
    };
    Err(PyValueError::new_err(format!("{name} is {value}; it must be {least}, or None for no limit")))
}
