//! Errors of the engine as exceptions of `loamy.errors`, where their classes are written.

use loamy::{Error, Kind, Outcome};
use pyo3::exceptions::PyException;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyString, PyTuple, PyType};

use crate::response::Response;

/// The exception for an error of the engine, about the row given.
pub(crate) fn exception<'py>(
    py: Python<'py>,
    error: &Error,
    index: usize,
    row: &Bound<'py, PyAny>,
    earlier: Option<&Bound<'py, PyTuple>>,
) -> PyResult<Bound<'py, PyAny>> {
    static BUILD: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let response = match error.response() {
        Some(partial) => {
            let earlier = earlier.map(|earlier| earlier.clone().unbind());
            Some(Bound::new(py, Response::partial(index, row, partial.clone(), error.attempts(), earlier))?)
        }
        None => None,
    };
    let (host, port) = error.peer().unzip();
    let state = (
        error.in_doubt(),
        error.retryable(),
        error.attempts(),
        error.bytes_sent(),
        error.bytes_received(),
        response,
        error.os_error(),
        host,
        port,
        earlier.cloned().unwrap_or_else(|| PyTuple::empty(py)),
    );
    let build = BUILD.import(py, "loamy.errors", "build")?;
    let tls = matches!(error.kind(), Kind::TlsHandshake | Kind::TlsCertificate);
    let reason = tls.then(|| error.message());
    build.call1((error.kind().name(), error.to_string(), error.hint(), state, reason))
}

/// Runs what makes objects once more where something broke in upon it, and keeps that in `broken`. Python runs signal handlers in the
/// midst of its code, so that any of it may raise what has nothing to do with it; the second time the handler has run. What comes
/// again, and is no handler's, is the making's own: it costs this object, and breaks in upon nothing else.
///
/// # Errors
/// What came the second time.
pub(crate) fn again<T>(
    py: Python<'_>,
    broken: &mut Option<PyErr>,
    mut make: impl FnMut() -> PyResult<T>,
) -> PyResult<T> {
    make().or_else(|first| {
        let made = make();
        match &made {
            Err(second) if first.get_type(py).is(second.get_type(py)) => {
                match is_own(py, &first).and_then(|first| Ok(first && is_own(py, second)?)) {
                    Ok(true) => {}
                    Ok(false) => drop(broken.get_or_insert(first)),
                    Err(other) => drop(broken.get_or_insert(other)),
                }
            }
            _ => drop(broken.get_or_insert(first)),
        }
        made
    })
}

/// Whether an exception is the doing of the code that was called, and not of a signal handler that Python ran in its midst, nor one
/// that is no `Exception`.
///
/// # Errors
/// What a signal handler raises meanwhile.
pub(crate) fn is_own(py: Python<'_>, error: &PyErr) -> PyResult<bool> {
    static IS_HANDLERS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    if !error.is_instance_of::<PyException>(py) {
        return Ok(false);
    }
    let Some(trace) = error.traceback(py) else {
        // It has passed through no Python code.
        return Ok(true);
    };
    let is_handlers = IS_HANDLERS.import(py, "loamy._signals", "is_handlers")?;
    Ok(!is_handlers.call1((trace,))?.is_truthy()?)
}

/// The exception of a row whose own could not be made, because of what that raised or what broke in upon it twice. Made without running Python code.
pub(crate) fn lost<'py>(
    py: Python<'py>,
    outcome: &Outcome,
    row: &Bound<'py, PyAny>,
    reason: &PyErr,
) -> PyResult<Bound<'py, PyAny>> {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let class = CLASS.import(py, "loamy.errors", "InternalError")?;
    let name = reason.get_type(py).name()?;
    let mut text = format!("internal: {name} came while what became of the row was made into an object");
    if let Err(error) = &outcome.result {
        text = format!("{text}: {error}");
    }
    let made = bare(class, &PyString::new(py, &text))?;
    made.setattr(intern!(py, "attempts"), outcome.attempts)?;
    let error = outcome.result.as_ref().err();
    made.setattr(intern!(py, "in_doubt"), error.is_some_and(Error::in_doubt))?;
    let answer = outcome.response();
    if let Some(answer) = answer {
        let answer = Response::partial(outcome.index, row, answer.clone(), outcome.attempts, None);
        made.setattr(intern!(py, "response"), Bound::new(py, answer)?)?;
    }
    Ok(made)
}

/// An exception without its `__init__`, so that no Python code runs.
fn bare<'py>(class: &Bound<'py, PyType>, text: &Bound<'py, PyString>) -> PyResult<Bound<'py, PyAny>> {
    class.getattr(intern!(class.py(), "__new__"))?.call1((class, text))
}

/// The exception for a row that was not even read when its batch was stopped.
pub(crate) fn unread<'py>(py: Python<'py>, row: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    not_sent(py, unread_text(row)?)
}

/// The same for one of many rows, which have to be made at once and each have their own: without running Python code.
pub(crate) fn unread_bare<'py>(py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let made = bare(CLASS.import(py, "loamy.errors", "NotSent")?, intern!(py, UNREAD))?;
    made.setattr(intern!(py, "retryable"), true)?;
    Ok(made)
}

/// The same for many rows at once, each of which stands beside it: one exception for all, since a long list is to be
/// left within a moment.
pub(crate) fn unread_together<'py>(py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
    not_sent(py, UNREAD.to_owned())
}

const UNREAD: &str = "not_sent: the batch was interrupted before this row's turn";

fn not_sent<'py>(py: Python<'py>, text: String) -> PyResult<Bound<'py, PyAny>> {
    static BUILD: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let nothing = (false, true, 0, 0, 0, py.None(), py.None(), py.None(), py.None(), ());
    BUILD.import(py, "loamy.errors", "build")?.call1((Kind::NotSent.name(), text, py.None(), nothing))
}

/// What that exception says.
pub(crate) fn unread_text(row: &Bound<'_, PyAny>) -> PyResult<String> {
    let method = crate::convert::method_of(row)?.unwrap_or_default();
    let url = masked(crate::convert::url_of(row)?).unwrap_or_default();
    Ok(format!("{UNREAD} ({method} {url})"))
}

/// The exception for a body that is not JSON although the contract promises it; the answer stands.
pub(crate) fn not_json<'py>(
    py: Python<'py>,
    row: &Bound<'py, PyAny>,
    text: &Bound<'py, PyAny>,
    reason: &Bound<'py, PyAny>,
    response: Bound<'py, Response>,
) -> PyResult<Bound<'py, PyAny>> {
    static BUILD: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let subject = (crate::convert::method_of(row)?, masked(crate::convert::url_of(row)?));
    BUILD.import(py, "loamy.errors", "build_not_json")?.call1((subject, text, reason, response))
}

/// The exception that `raise_for_status` raises for a status of 400 and above.
pub(crate) fn status<'py>(py: Python<'py>, response: &Bound<'py, Response>) -> PyResult<Bound<'py, PyAny>> {
    static BUILD: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let row = response.get().row().bind(py);
    let subject = (crate::convert::method_of(row)?, masked(Some(response.get().address(py)?)));
    BUILD.import(py, "loamy.errors", "build_status")?.call1((subject, response))
}

fn masked(url: Option<String>) -> Option<String> {
    url.map(|url| loamy::MaskedUrl(&url).to_string())
}
