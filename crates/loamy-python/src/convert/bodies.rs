//! The body of a row: JSON, a form, or bytes as they are.

use loamy::{Bytes, Request};
use pyo3::exceptions::{PyUnicodeEncodeError, PyValueError};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyByteArray, PyBytes, PyList, PyMapping, PyString, PyTuple};

use super::{not_a, without_utf8};
use crate::{failure, json_out};

/// From here on the object itself is sent, and kept until then, instead of a copy. Where the engine lets go of it, its count
/// goes down when the interpreter is next at hand: too dear for small bodies.
const LARGE: usize = 64 << 10;

pub(super) fn json_body(request: Request, body: &Bound<'_, PyAny>) -> PyResult<Request> {
    let text = json_out::dumps(body).map_err(|error| {
        let py = body.py();
        match failure::is_own(py, &error) {
            Ok(true) => PyValueError::new_err(format!("the body has no form in JSON: {}", error.value(py))),
            Ok(false) => error,
            Err(other) => other,
        }
    })?;
    Ok(typed(request, "application/json").body(text))
}

/// What servers have seen so far of a contract row without a body: an empty one, save with OPTIONS.
pub(super) fn without_body(request: Request, operation: &str) -> Request {
    match operation {
        "POST" | "PUT" | "PATCH" => typed(request, "application/octet-stream").body(Vec::new()),
        "DELETE" => request.body(Vec::new()),
        _ => request,
    }
}

/// The media type, unless the row names one.
fn typed(request: Request, media_type: &str) -> Request {
    if request.headers().get("content-type").is_some() {
        request
    } else {
        request.header("Content-Type", media_type)
    }
}

pub(super) fn form_body(request: Request, data: &Bound<'_, PyAny>) -> PyResult<Request> {
    static FORM: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = data.py();
    let pairs = if let Ok(map) = data.cast::<PyMapping>() {
        map.items()?
    } else if data.is_instance_of::<PyList>() || data.is_instance_of::<PyTuple>() {
        pairs(data)?
    } else {
        return raw_body(request, data, "data", "bytes, str, a mapping or a list of pairs");
    };
    let text = FORM.import(py, "loamy._bodies", "form")?.call1((pairs,)).map_err(|error| {
        if error.is_instance_of::<PyUnicodeEncodeError>(py) { without_utf8("data") } else { error }
    })?;
    let text = text.cast::<PyString>()?.to_str()?.to_owned();
    Ok(typed(request, "application/x-www-form-urlencoded").body(text))
}

/// The items of a form that is a list, each of which may be a list itself, as JSON has it.
fn pairs<'py>(data: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyList>> {
    let pairs = PyList::empty(data.py());
    for pair in data.try_iter()? {
        let pair = pair?;
        let is_pair =
            (pair.is_instance_of::<PyTuple>() || pair.is_instance_of::<PyList>()) && pair.len()? == 2;
        if !is_pair {
            let kind = data.get_type();
            let field = format!("data is a {}, whose items", kind.name()?);
            return Err(not_a(&pair, &field, "pairs of name and value"));
        }
        pairs.append((pair.get_item(0)?, pair.get_item(1)?))?;
    }
    Ok(pairs)
}

pub(super) fn raw_body(
    request: Request,
    data: &Bound<'_, PyAny>,
    name: &str,
    wanted: &str,
) -> PyResult<Request> {
    if let Ok(bytes) = data.cast::<PyBytes>() {
        return Ok(if bytes.as_bytes().len() < LARGE {
            request.body(bytes.as_bytes().to_vec())
        } else {
            request.body(Bytes::from_owner(PyBackedBytes::from(bytes.clone())))
        });
    }
    if let Ok(text) = data.cast::<PyString>() {
        return Ok(request.body(text.to_str().map_err(|_| without_utf8(name))?.to_owned()));
    }
    if let Ok(bytes) = data.cast::<PyByteArray>() {
        return Ok(request.body(bytes.to_vec()));
    }
    Err(not_a(data, name, wanted))
}
