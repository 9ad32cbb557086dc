//! Python objects read into requests and policies. No other room does that.
//!
//! A row that is wrong is never an exception: it becomes a request with a defect, whose outcome says what is wrong.

mod bodies;
mod conduct;
mod mapping;
mod policy;
mod terms;
mod trust;

use loamy::{Error, MaskedUrl, Request};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyList, PyMapping, PyString, PyTuple};

use self::bodies::{json_body, without_body};
pub(crate) use self::conduct::{check_rate, known_by};
use self::mapping::from_mapping;
pub(crate) use self::policy::{check_headers, terms};
pub(crate) use self::terms::{Tags, Terms};
pub(crate) use self::trust::{Trust, certifi};
use crate::failure;
use crate::query::{self, Nothing};
use crate::response::Response;

/// A row as read: what the engine gets, and the mark that comes back with it.
pub(crate) struct Row {
    pub(crate) request: Request,
    pub(crate) tag: Option<Py<PyAny>>,
}

impl From<Request> for Row {
    fn from(request: Request) -> Self {
        Self { request, tag: None }
    }
}

/// The methods of the two contract classes.
const CONTRACT_METHODS: [&str; 6] = ["GET", "POST", "PUT", "PATCH", "OPTIONS", "DELETE"];

/// Reads one row of any accepted form.
///
/// # Errors
/// Only what is no failure of the row's own code: what is no `Exception`, and what a signal handler raises in its midst.
pub(crate) fn row(row: &Bound<'_, PyAny>, terms: &Terms) -> PyResult<Row> {
    let read = if let Ok(url) = row.cast::<PyString>() {
        string(url.as_any(), "url").map(|url| Request::get(url).into())
    } else if row.is_instance_of::<PyDict>() {
        from_mapping(row, terms)
    } else if row.is_instance_of::<PyTuple>() || row.is_instance_of::<PyList>() {
        from_pair(row)
    } else {
        from_object(row, terms)
    };
    match read {
        Err(error) if failure::is_own(row.py(), &error)? => defect(row, &error),
        read => read,
    }
}

/// Turns what went wrong in reading a row into the row's own failure.
fn defect(row: &Bound<'_, PyAny>, error: &PyErr) -> PyResult<Row> {
    let message = match error.value(row.py()).str() {
        Ok(text) if text.len()? > 0 => text.to_string_lossy().into_owned(),
        _ => error.to_string(),
    };
    let method = method_of(row)?.filter(|method| !is_like_url(method));
    let request = Request::new(method.as_deref().unwrap_or("GET"), url_of(row)?.unwrap_or_default());
    Ok(Row { request: request.refuse(Error::bad_request(message)), tag: tag_of(row)? })
}

/// The mark of a row that was not read, or could not be.
///
/// # Errors
/// Only what is no failure of the row's own code.
pub(crate) fn tag_of(row: &Bound<'_, PyAny>) -> PyResult<Option<Py<PyAny>>> {
    let py = row.py();
    match key_of(row, intern!(py, "tag")).transpose() {
        Ok(tag) => Ok(tag.flatten().filter(|tag| !tag.is_none()).map(Bound::unbind)),
        Err(error) if failure::is_own(py, &error)? => Ok(None),
        Err(error) => Err(error),
    }
}

/// What a row that is a mapping has under a key; None where it is no mapping.
fn key_of<'py>(
    row: &Bound<'py, PyAny>,
    key: &Bound<'py, PyString>,
) -> Option<PyResult<Option<Bound<'py, PyAny>>>> {
    if let Ok(fields) = row.cast::<PyDict>() {
        return Some(fields.get_item(key));
    }
    let fields = row.cast::<PyMapping>().ok()?;
    Some(fields.contains(key).and_then(|has| if has { fields.get_item(key).map(Some) } else { Ok(None) }))
}

/// The URL that a row names, as text; None where it names none.
///
/// # Errors
/// Only what is no failure of the row's own code.
pub(crate) fn url_of(row: &Bound<'_, PyAny>) -> PyResult<Option<String>> {
    let py = row.py();
    if row.is_instance_of::<PyTuple>() || row.is_instance_of::<PyList>() {
        let own = text_of(py, row.get_item(1).map(Some))?;
        let other = text_of(py, row.get_item(0).map(Some))?.filter(|first| is_like_url(first));
        return Ok(match (own, other) {
            (Some(own), Some(other)) if !is_like_url(&own) => Some(other),
            (own, other) => own.or(other),
        });
    }
    let url = if row.is_instance_of::<PyString>() {
        Ok(Some(row.clone()))
    } else if let Some(url) = key_of(row, intern!(py, "url")) {
        url
    } else {
        row.getattr_opt(intern!(py, "url"))
    };
    text_of(py, url)
}

/// The method that a row names, as text; what looks like a URL, without its credentials.
///
/// # Errors
/// Only what is no failure of the row's own code.
pub(crate) fn method_of(row: &Bound<'_, PyAny>) -> PyResult<Option<String>> {
    let py = row.py();
    if row.is_instance_of::<PyString>() {
        return Ok(Some("GET".to_owned()));
    }
    if row.is_instance_of::<PyTuple>() || row.is_instance_of::<PyList>() {
        // Where the URL was written first, the other part is the method.
        for part in 0..2 {
            let text = text_of(py, row.get_item(part).map(Some))?;
            if text.as_ref().is_some_and(|text| !is_like_url(text)) {
                return Ok(text);
            }
        }
        return Ok(None);
    }
    let method = if let Some(method) = key_of(row, intern!(py, "method")) {
        if method.as_ref().is_ok_and(|method| method.as_ref().is_none_or(Bound::is_none)) {
            return Ok(Some("GET".to_owned()));
        }
        method
    } else {
        match row.getattr_opt(intern!(py, "http_op")) {
            Ok(None) => row.getattr_opt(intern!(py, "httpOperation")),
            operation => operation,
        }
    };
    let method = text_of(py, method)?;
    Ok(method.map(|method| if is_like_url(&method) { MaskedUrl(&method).to_string() } else { method }))
}

fn text_of(py: Python<'_>, value: PyResult<Option<Bound<'_, PyAny>>>) -> PyResult<Option<String>> {
    match value {
        Ok(value) => Ok(value
            .and_then(|value| value.cast::<PyString>().ok().map(|text| text.to_string_lossy().into_owned()))),
        Err(error) if failure::is_own(py, &error)? => Ok(None),
        Err(error) => Err(error),
    }
}

fn from_pair(pair: &Bound<'_, PyAny>) -> PyResult<Row> {
    let count = pair.len()?;
    if count != 2 {
        let instead = if count > 2 { "; what has more to say is a dict" } else { "" };
        let message = format!("a pair is (method, url); this row has {count} parts{instead}");
        return Err(PyTypeError::new_err(message));
    }
    let (method, url) = (pair.get_item(0)?, pair.get_item(1)?);
    let method = string(&method, "method")?;
    if is_like_url(method) {
        return Err(PyTypeError::new_err("a pair is (method, url); this one begins with a URL"));
    }
    Ok(Request::new(method, string(&url, "url")?).into())
}

/// Whether a text is a URL where a method was looked for. Taken for a method, it would be shown with its credentials.
fn is_like_url(text: &str) -> bool {
    text.contains([':', '/', '@'])
}

fn from_object(row: &Bound<'_, PyAny>, terms: &Terms) -> PyResult<Row> {
    if let Some(map) = ContractMap::of(row)? {
        return map.read().map(Row::from);
    }
    if row.is_instance_of::<PyMapping>() {
        return from_mapping(row, terms);
    }
    let name = row.get_type();
    let name = name.name()?;
    let instead =
        if row.is_instance_of::<Response>() { "; its `request` is the row that it came of" } else { "" };
    let message =
        format!("a row is a URL, a (method, url) pair, a dict or a RequestMap, not {name}{instead}");
    Err(PyTypeError::new_err(message))
}

/// A RequestMap of either contract, found by its attributes.
struct ContractMap<'py> {
    row: Bound<'py, PyAny>,
    operation: Bound<'py, PyAny>,
    older: bool,
}

impl<'py> ContractMap<'py> {
    fn of(row: &Bound<'py, PyAny>) -> PyResult<Option<Self>> {
        let py = row.py();
        if let Some(operation) = row.getattr_opt(intern!(py, "http_op"))? {
            return Ok(Some(Self { row: row.clone(), operation, older: false }));
        }
        let operation = row.getattr_opt(intern!(py, "httpOperation"))?;
        Ok(operation.map(|operation| Self { row: row.clone(), operation, older: true }))
    }

    fn read(&self) -> PyResult<Request> {
        let py = self.row.py();
        let (operation_name, params_name) = if self.older {
            ("httpOperation", intern!(py, "queryParams"))
        } else {
            ("http_op", intern!(py, "query_params"))
        };
        let operation = string(&self.operation, operation_name)?;
        if !CONTRACT_METHODS.iter().any(|method| method.eq_ignore_ascii_case(operation)) {
            let known = CONTRACT_METHODS.join(", ");
            let shown = MaskedUrl(operation).to_string();
            return Err(PyValueError::new_err(format!("{operation_name} {shown:?} is none of {known}")));
        }
        let url = self.row.getattr(intern!(py, "url"))?;
        let url = string(&url, "url")?;
        let params = self.row.getattr(params_name)?;
        let mut request = if params.is_none() {
            Request::new(operation, url)
        } else {
            Request::new(operation, query::extend(url, &params, Nothing::Refused)?)
        };
        let given = self.row.getattr(intern!(py, "headers"))?;
        if !given.is_none() {
            request = headers(request, &given)?;
        }
        // GET drops its body, the other five send it (K16).
        if operation == "GET" {
            return Ok(request);
        }
        let body = self.row.getattr(intern!(py, "body"))?;
        if body.is_none() {
            return Ok(without_body(request, operation));
        }
        json_body(request, &body)
    }
}

/// A mapping names a header once: of two spellings the last wins. A list of pairs may repeat one.
fn headers(mut request: Request, given: &Bound<'_, PyAny>) -> PyResult<Request> {
    let repeats = given.is_instance_of::<PyList>() || given.is_instance_of::<PyTuple>();
    each_pair(given, |name, value| {
        let name = string(name, "header name")?;
        let value = match (value.cast::<PyString>(), value.cast::<PyBytes>()) {
            (Ok(_), _) => string(value, "header value")?.as_bytes(),
            (_, Ok(bytes)) => bytes.as_bytes(),
            _ => return Err(not_a(value, &format!("header {name}"), "str")),
        };
        let own = std::mem::replace(&mut request, Request::get(""));
        request = if repeats { own.header(name, value) } else { own.set_header(name, value) };
        Ok(())
    })?;
    Ok(request)
}

/// Goes through a mapping or a list of pairs (a list may name a header twice).
fn each_pair(
    given: &Bound<'_, PyAny>,
    mut each: impl FnMut(&Bound<'_, PyAny>, &Bound<'_, PyAny>) -> PyResult<()>,
) -> PyResult<()> {
    if let Ok(map) = given.cast_exact::<PyDict>() {
        for (name, value) in map.iter() {
            each(&name, &value)?;
        }
        return Ok(());
    }
    let pairs = match given.cast::<PyMapping>() {
        Ok(map) => map.items()?.into_any(),
        Err(_) if given.is_instance_of::<PyList>() || given.is_instance_of::<PyTuple>() => given.clone(),
        Err(_) => return Err(not_a(given, "headers", "a mapping of str to str")),
    };
    for pair in pairs.try_iter()? {
        let pair = pair?;
        let is_pair = pair.is_instance_of::<PyTuple>() || pair.is_instance_of::<PyList>();
        if !is_pair || pair.len()? != 2 {
            return Err(PyTypeError::new_err("headers that are a list hold pairs of name and value"));
        }
        each(&pair.get_item(0)?, &pair.get_item(1)?)?;
    }
    Ok(())
}

/// A dict of what a mapping has. Its values may have code of their own, which may change the mapping while it is read.
fn copied<'py>(mapping: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyDict>> {
    if let Ok(fields) = mapping.cast::<PyDict>() {
        return fields.copy();
    }
    let fields = PyDict::new(mapping.py());
    fields.update(mapping.cast::<PyMapping>()?)?;
    Ok(fields)
}

fn string<'a>(value: &'a Bound<'_, PyAny>, name: &str) -> PyResult<&'a str> {
    match value.cast::<PyString>() {
        Ok(text) => text.to_str().map_err(|_| without_utf8(name)),
        Err(_) => Err(not_a(value, name, "str")),
    }
}

pub(crate) fn without_utf8(name: &str) -> PyErr {
    PyValueError::new_err(format!("{name} holds half of a surrogate pair, which has no UTF-8"))
}

fn flag(value: &Bound<'_, PyAny>, name: &str) -> PyResult<bool> {
    value.cast::<PyBool>().map(|flag| flag.is_true()).map_err(|_| not_a(value, name, "True or False"))
}

fn not_a(value: &Bound<'_, PyAny>, name: &str, wanted: &str) -> PyErr {
    let kind = value.get_type();
    let kind = kind.name().map_or_else(|_| "something else".to_owned(), |name| name.to_string());
    PyTypeError::new_err(format!("{name} must be {wanted}, not {kind}"))
}
