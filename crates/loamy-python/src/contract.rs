//! Outcomes as the structs of the two documented APIs: made eagerly, field by field, in the documented order.

use loamy::Outcome;
use pyo3::exceptions::PyBaseException;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyFloat, PyInt, PyString, PyTuple, PyType};
use pyo3::{ffi, intern};

use crate::response::{Response, earlier};
use crate::{failure, fields, json_in};

/// An answer with its body decoded; `error` where that is not JSON.
struct Decoded<'py> {
    body: Bound<'py, PyAny>,
    headers: Bound<'py, PyAny>,
    error: Option<Bound<'py, PyAny>>,
    status: u16,
    content: Bound<'py, PyBytes>,
}

/// `loamy.session.RequestResponse(request_map, status_code, body, error, headers, content, elapsed, attempts,
/// earlier)`.
///
/// # Errors
/// Only what is no `Exception`, and want of memory.
pub(crate) fn clump<'py>(
    py: Python<'py>,
    outcome: &Outcome,
    row: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let class = clump_class(py)?;
    let elapsed = PyFloat::new(py, outcome.timing.elapsed.as_secs_f64()).into_any();
    let attempts = PyInt::new(py, outcome.attempts).into_any();
    let earlier = earlier(py, &outcome.earlier)?.unwrap_or_else(|| PyTuple::empty(py)).into_any();
    let none = || py.None().into_bound(py);
    match decoded(py, outcome, row)? {
        Ok(Decoded { body, headers, error, status, content }) => {
            let status = PyInt::new(py, status).into_any();
            let error = error.unwrap_or_else(none);
            let content = content.as_any();
            construct(class, [row, &status, &body, &error, &headers, content, &elapsed, &attempts, &earlier])
        }
        Err(error) => {
            let (zero, nothing) = (PyInt::new(py, 0).into_any(), PyBytes::new(py, b"").into_any());
            let (body, headers) = (none(), none());
            construct(class, [row, &zero, &body, &error, &headers, &nothing, &elapsed, &attempts, &earlier])
        }
    }
}

/// The same for a row whose object could not be made, because of the reason given: the answer without what is made of it.
///
/// # Errors
/// Want of memory: no Python code runs.
pub(crate) fn clump_lost<'py>(
    py: Python<'py>,
    outcome: &Outcome,
    row: &Bound<'py, PyAny>,
    reason: &PyErr,
) -> PyResult<Bound<'py, PyAny>> {
    let class = clump_class(py)?;
    let answer = outcome.result.as_ref().ok();
    let status = PyInt::new(py, answer.map_or(0, loamy::Response::status)).into_any();
    let content = PyBytes::new(py, answer.map(loamy::Response::body).unwrap_or_default()).into_any();
    let elapsed = PyFloat::new(py, outcome.timing.elapsed.as_secs_f64()).into_any();
    let attempts = PyInt::new(py, outcome.attempts).into_any();
    let nothing = py.None().into_bound(py);
    let error = failure::lost(py, outcome, row, reason)?;
    construct(class, [row, &status, &nothing, &error, &nothing, &content, &elapsed, &attempts])
}

/// The same for a row that was not read when its batch was stopped; all such rows share the exception.
///
/// # Errors
/// As [`clump`].
pub(crate) fn clump_unread<'py>(
    py: Python<'py>,
    row: &Bound<'py, PyAny>,
    error: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let class = clump_class(py)?;
    let zero = PyInt::new(py, 0).into_any();
    construct(class, [row, &zero, &py.None().into_bound(py), error])
}

fn clump_class(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    CLASS.import(py, "loamy.session", "RequestResponse")
}

/// The exception of a row that was not read when its batch was stopped.
///
/// # Errors
/// Want of memory: no Python code runs.
pub(crate) fn zsession_unread<'py>(py: Python<'py>, row: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let error = failure::unread_bare(py)?;
    error.setattr(intern!(py, "request_map"), row)?;
    Ok(error)
}

/// `zconcurrent.zsession.RequestResponse(requestMap, statusCode, body)`, or the exception with its `request_map`.
///
/// # Errors
/// As [`clump`].
pub(crate) fn zsession<'py>(
    py: Python<'py>,
    outcome: &Outcome,
    row: &Bound<'py, PyAny>,
    class: &Bound<'py, PyType>,
) -> PyResult<Bound<'py, PyAny>> {
    let failed = match decoded(py, outcome, row)? {
        Ok(Decoded { body, status, error: None, .. }) => {
            return construct(class, [row, &PyInt::new(py, status).into_any(), &body]);
        }
        Ok(Decoded { error: Some(error), .. }) | Err(error) => error,
    };
    failed.setattr(intern!(py, "request_map"), row)?;
    Ok(failed)
}

/// The exception of a row whose object could not be made, because of the reason given.
///
/// # Errors
/// Want of memory: no Python code runs.
pub(crate) fn zsession_lost<'py>(
    py: Python<'py>,
    outcome: &Outcome,
    row: &Bound<'py, PyAny>,
    reason: &PyErr,
) -> PyResult<Bound<'py, PyAny>> {
    let error = failure::lost(py, outcome, row, reason)?;
    error.setattr(intern!(py, "request_map"), row)?;
    Ok(error)
}

/// The answer with its body decoded, or the exception of a row that has no whole answer.
fn decoded<'py>(
    py: Python<'py>,
    outcome: &Outcome,
    row: &Bound<'py, PyAny>,
) -> PyResult<Result<Decoded<'py>, Bound<'py, PyAny>>> {
    let response = match &outcome.result {
        Ok(response) => response,
        Err(error) => {
            let earlier = earlier(py, &outcome.earlier)?;
            return failure::exception(py, error, outcome.index, row, earlier.as_ref()).map(Err);
        }
    };
    let view = response.headers();
    let (headers, media) = fields::with_seen(py, |seen| seen.headers(py, view))?;
    let (body, reason) = json_in::contract(py, media, view, response.body())?;
    let content = PyBytes::new(py, response.body());
    let status = response.status();
    let error = match reason {
        None => None,
        Some(reason) => {
            let text = body.get_item(intern!(py, "text"))?;
            let response =
                Bound::new(py, Response::of(py, outcome.clone(), row.clone().unbind(), None, None)?)?;
            Some(failure::not_json(py, row, &text, &reason, response)?)
        }
    };
    Ok(Ok(Decoded { body, headers, error, status, content }))
}

/// Calls a struct class with positional arguments.
fn construct<'py, const N: usize>(
    class: &Bound<'py, PyType>,
    arguments: [&Bound<'py, PyAny>; N],
) -> PyResult<Bound<'py, PyAny>> {
    let pointers = arguments.map(Bound::as_ptr);
    // SAFETY: the arguments are borrowed for the call, as vectorcall asks; a null result has an exception set.
    unsafe {
        let made = ffi::PyObject_Vectorcall(class.as_ptr(), pointers.as_ptr(), N, std::ptr::null_mut());
        Bound::from_owned_ptr_or_err(class.py(), made)
    }
}

/// Whether what `zsession` made is an exception.
pub(crate) fn is_failure(made: &Bound<'_, PyAny>) -> bool {
    made.is_instance_of::<PyBaseException>()
}

/// Whether the exception says that the row fell to another one's failure.
pub(crate) fn is_collateral(made: &Bound<'_, PyAny>) -> bool {
    let kind = made.getattr(intern!(made.py(), "kind"));
    kind.is_ok_and(|kind| kind.cast::<PyString>().is_ok_and(|kind| kind == "cancelled" || kind == "not_sent"))
}
