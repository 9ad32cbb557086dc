//! Bodies of responses as Python objects.

use jiter::{FloatMode, PartialMode, PythonParse, StringCacheMode};
use loamy::HeaderView;
use pyo3::exceptions::{PyRecursionError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict};

use crate::failure;

/// What a body is said to be.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Media {
    /// It may be JSON, whatever it is called (K5), in UTF-8 or what its first bytes say.
    Data,
    /// The same in a charset that its Content-Type names.
    Foreign,
    /// A page for people, which is never taken for JSON (K2).
    Html,
}

impl Media {
    pub(crate) fn of(headers: HeaderView<'_>) -> Self {
        let named = headers.get("content-type").unwrap_or_default();
        let end = named.iter().position(|byte| *byte == b';').unwrap_or(named.len());
        let essence = named[..end].trim_ascii();
        if essence.eq_ignore_ascii_case(b"text/html")
            || essence.eq_ignore_ascii_case(b"application/xhtml+xml")
        {
            Self::Html
        } else if is_utf8(charset(headers)) {
            Self::Data
        } else {
            Self::Foreign
        }
    }
}

/// Whether text of that charset is UTF-8.
fn is_utf8(charset: Option<&str>) -> bool {
    charset.is_none_or(|name| {
        ["utf-8", "utf8", "us-ascii", "ascii"].iter().any(|known| name.eq_ignore_ascii_case(known))
    })
}

/// Decodes JSON as `json.loads` does, only faster; None where it needs `json.loads` itself: for its errors, for other
/// encodings than UTF-8, and for what only it takes (half a surrogate pair, deep nesting).
pub(crate) fn decode<'py>(py: Python<'py>, body: &[u8]) -> Option<Bound<'py, PyAny>> {
    let parse = PythonParse {
        allow_inf_nan: true,
        cache_mode: StringCacheMode::All,
        partial_mode: PartialMode::Off,
        catch_duplicate_keys: false,
        float_mode: FloatMode::Float,
    };
    parse.python_parse(py, body).ok()
}

/// Decodes JSON of any encoding.
///
/// # Errors
/// `json.JSONDecodeError` and its kin.
pub(crate) fn loads<'py>(
    py: Python<'py>,
    body: &[u8],
    charset: Option<&str>,
    options: Option<&Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, PyAny>> {
    static LOADS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    // All charsets that servers name are ASCII below 0x80, save UTF-16 and UTF-32, whose zeros are no JSON.
    if options.is_none_or(|options| options.is_empty())
        && (is_utf8(charset) || body.is_ascii())
        && let Some(value) = decode(py, body)
    {
        return Ok(value);
    }
    let loads = LOADS.import(py, "loamy._bodies", "loads")?;
    loads.call((PyBytes::new(py, body), charset), options)
}

/// The body as the contract gives it: the JSON value, None when empty, or `{"text": …}` with the reason beside it.
pub(crate) fn contract<'py>(
    py: Python<'py>,
    media: Media,
    headers: HeaderView<'_>,
    body: &[u8],
) -> PyResult<(Bound<'py, PyAny>, Option<Bound<'py, PyAny>>)> {
    if body.is_empty() {
        return Ok((py.None().into_bound(py), None));
    }
    if media == Media::Data
        && let Some(value) = decode(py, body)
    {
        return Ok((value, None));
    }
    let charset = charset(headers);
    let reason = if media == Media::Html {
        intern!(py, "the Content-Type is HTML").clone().into_any()
    } else {
        if is_blank_json(headers, body) {
            return Ok((py.None().into_bound(py), None));
        }
        match as_before(py, body, charset) {
            Ok(value) => return Ok((value, None)),
            Err(error) if is_verdict(py, &error)? => error.into_value(py).into_bound(py).into_any(),
            Err(error) => return Err(error),
        }
    };
    let wrapped = PyDict::new(py);
    wrapped.set_item(intern!(py, "text"), text(py, body, charset)?)?;
    Ok((wrapped.into_any(), Some(reason)))
}

/// Whether an exception says that a body is no JSON, rather than that something broke in upon the reading of it.
///
/// # Errors
/// What a signal handler raises meanwhile.
pub(crate) fn is_verdict(py: Python<'_>, error: &PyErr) -> PyResult<bool> {
    let says_so = error.is_instance_of::<PyValueError>(py) || error.is_instance_of::<PyRecursionError>(py);
    Ok(says_so && failure::is_own(py, error)?)
}

/// Whether a body that claims to be JSON holds nothing but blanks, which counts as empty (K4).
fn is_blank_json(headers: HeaderView<'_>, body: &[u8]) -> bool {
    let named = headers.get_str("content-type").unwrap_or_default().to_ascii_lowercase();
    let essence = named.split(';').next().unwrap_or_default().trim();
    body.trim_ascii().is_empty() && (essence == "application/json" || essence.ends_with("+json"))
}

fn as_before<'py>(py: Python<'py>, body: &[u8], charset: Option<&str>) -> PyResult<Bound<'py, PyAny>> {
    static LOADS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let loads = LOADS.import(py, "loamy._bodies", "loads_as_before")?;
    loads.call1((PyBytes::new(py, body), charset))
}

/// The body as text: by the charset of its Content-Type, else UTF-8; bytes that are no text become U+FFFD.
pub(crate) fn text<'py>(py: Python<'py>, body: &[u8], charset: Option<&str>) -> PyResult<Bound<'py, PyAny>> {
    let plain = charset.is_none_or(|charset| charset.eq_ignore_ascii_case("utf-8"));
    if plain && let Ok(text) = std::str::from_utf8(body) {
        return Ok(pyo3::types::PyString::new(py, text).into_any());
    }
    static DECODE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    DECODE.import(py, "loamy._bodies", "decode")?.call1((PyBytes::new(py, body), charset))
}

/// The charset that the Content-Type names (RFC 9110 §8.3.2).
pub(crate) fn charset(headers: HeaderView<'_>) -> Option<&str> {
    let parameters = headers.get_str("content-type")?.split(';').skip(1);
    for parameter in parameters {
        if let Some((name, value)) = parameter.split_once('=')
            && name.trim().eq_ignore_ascii_case("charset")
        {
            return Some(value.trim().trim_matches('"')).filter(|value| !value.is_empty());
        }
    }
    None
}
