//! Query parameters appended to a URL, encoded as people's servers have seen them so far.

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyInt, PyList, PyMapping, PyString, PyTuple};

use crate::convert::without_utf8;

/// What a parameter of value None means.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Nothing {
    /// The parameter is left out, as `requests` does.
    LeftOut,
    /// It is a mistake.
    Refused,
}

/// Appends `params` to the URL's own query, before its fragment.
///
/// # Errors
/// TypeError or ValueError for values that have no form in a query.
pub(crate) fn extend(url: &str, params: &Bound<'_, PyAny>, nothing: Nothing) -> PyResult<String> {
    let query = encode(params, nothing)?;
    if query.is_empty() {
        return Ok(url.to_owned());
    }
    let (base, fragment) = match url.find('#') {
        Some(at) => url.split_at(at),
        None => (url, ""),
    };
    let mut whole = String::with_capacity(url.len() + query.len() + 1);
    whole.push_str(base);
    match base.find('?') {
        None => whole.push('?'),
        Some(at) if at + 1 < base.len() && !base.ends_with('&') => whole.push('&'),
        Some(_) => {}
    }
    whole.push_str(&query);
    whole.push_str(fragment);
    Ok(whole)
}

fn encode(params: &Bound<'_, PyAny>, nothing: Nothing) -> PyResult<String> {
    let mut out = String::new();
    if let Ok(map) = params.cast_exact::<PyDict>() {
        // A number may have an `__int__` of its own, which may change the dict while it is read.
        for (name, value) in map.copy()?.iter() {
            write_values(&mut out, &name, &value, nothing)?;
        }
    } else if let Ok(text) = params.cast::<PyString>() {
        out.push_str(text.to_str().map_err(|_| without_utf8("the query"))?);
    } else if params.is_instance_of::<PyBytes>() {
        return Err(PyTypeError::new_err("bytes are no query; give a mapping or a string"));
    } else if let Ok(map) = params.cast::<PyMapping>() {
        for pair in map.items()?.iter() {
            let (name, value): (Bound<'_, PyAny>, Bound<'_, PyAny>) = pair.extract()?;
            write_values(&mut out, &name, &value, nothing)?;
        }
    } else if params.is_instance_of::<PyList>() || params.is_instance_of::<PyTuple>() {
        for pair in params.try_iter()? {
            let (name, value): (Bound<'_, PyAny>, Bound<'_, PyAny>) = pair?.extract().map_err(|_| {
                PyTypeError::new_err("a list of query parameters holds pairs of name and value")
            })?;
            write_values(&mut out, &name, &value, nothing)?;
        }
    } else {
        let name = params.get_type().name()?;
        return Err(PyTypeError::new_err(format!("query parameters are a mapping, not {name}")));
    }
    Ok(out)
}

fn write_values(
    out: &mut String,
    name: &Bound<'_, PyAny>,
    value: &Bound<'_, PyAny>,
    nothing: Nothing,
) -> PyResult<()> {
    if value.is_instance_of::<PyList>() || value.is_instance_of::<PyTuple>() {
        for each in value.try_iter()? {
            write_pair(out, name, &each?, nothing)?;
        }
        return Ok(());
    }
    write_pair(out, name, value, nothing)
}

fn write_pair(
    out: &mut String,
    name: &Bound<'_, PyAny>,
    value: &Bound<'_, PyAny>,
    nothing: Nothing,
) -> PyResult<()> {
    if value.is_none() && nothing == Nothing::LeftOut {
        return Ok(());
    }
    if !out.is_empty() {
        out.push('&');
    }
    write_value(out, name, name)?;
    out.push('=');
    write_value(out, value, name)
}

fn write_value(out: &mut String, value: &Bound<'_, PyAny>, name: &Bound<'_, PyAny>) -> PyResult<()> {
    if let Ok(text) = value.cast::<PyString>() {
        quote(out, text.to_str().map_err(|_| without_utf8("a query parameter"))?);
    } else if let Ok(flag) = value.cast::<PyBool>() {
        out.push_str(if flag.is_true() { "true" } else { "false" });
    } else if value.is_instance_of::<PyInt>() {
        // Enumerations of integers are written as their number.
        let number = value.call_method0("__int__")?;
        out.push_str(number.str()?.to_str()?);
    } else if let Ok(number) = value.cast::<PyFloat>() {
        if !number.value().is_finite() {
            return Err(PyValueError::new_err(format!(
                "query parameter {}: {value} has no form in a query",
                name.repr()?
            )));
        }
        let plain = PyFloat::new(value.py(), number.value());
        quote(out, plain.repr()?.to_str()?);
    } else {
        let kind = value.get_type();
        let kind = kind.name()?;
        return Err(PyTypeError::new_err(format!(
            "query parameter {} is {kind}; it must be str, int, float, bool or a list of them",
            name.repr()?
        )));
    }
    Ok(())
}

/// Percent-encodes one name or value: a space becomes `+`; unreserved characters (RFC 3986 §2.3) and those delimiters
/// that mean nothing in a query stay.
fn quote(out: &mut String, text: &str) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => out.push(char::from(byte)),
            b'-' | b'.' | b'_' | b'~' | b'!' | b'$' | b'\'' | b'(' | b')' | b'*' | b',' | b'?' | b'/'
            | b':' | b'@' => {
                out.push(char::from(byte));
            }
            b' ' => out.push('+'),
            _ => {
                out.push('%');
                out.push(char::from(HEX[usize::from(byte >> 4)]));
                out.push(char::from(HEX[usize::from(byte & 15)]));
            }
        }
    }
}
