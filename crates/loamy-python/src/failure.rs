//! Errors of the engine as exceptions of `loamy.errors`, where their classes are written.

use loamy::{Error, Kind};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyTuple;

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

/// The exception for a row that was not even read when its batch was stopped.
pub(crate) fn unread<'py>(py: Python<'py>, row: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    not_sent(py, unread_text(row))
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
pub(crate) fn unread_text(row: &Bound<'_, PyAny>) -> String {
    let method = crate::convert::method_of(row).unwrap_or_default();
    let url = masked(crate::convert::url_of(row)).unwrap_or_default();
    format!("{UNREAD} ({method} {url})")
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
    let subject = (crate::convert::method_of(row), masked(crate::convert::url_of(row)));
    BUILD.import(py, "loamy.errors", "build_not_json")?.call1((subject, text, reason, response))
}

/// The exception that `raise_for_status` raises for a status of 400 and above.
pub(crate) fn status<'py>(py: Python<'py>, response: &Bound<'py, Response>) -> PyResult<Bound<'py, PyAny>> {
    static BUILD: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let row = response.get().row().bind(py);
    let subject = (crate::convert::method_of(row), masked(Some(response.get().address(py))));
    BUILD.import(py, "loamy.errors", "build_status")?.call1((subject, response))
}

fn masked(url: Option<String>) -> Option<String> {
    url.map(|url| loamy::MaskedUrl(&url).to_string())
}
