//! A Python object as JSON: the bytes of `json.dumps(object)`, which people sign.
//!
//! Exact builtin types are written here; anything else goes through `json.dumps` itself, so that the bytes are the
//! same by construction.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};
use pyo3::{ffi, intern};

/// Containers within containers that are written here; deeper ones are left to `json.dumps`, which finds cycles.
const DEPTH: usize = 64;

/// What cannot be written here.
enum Stop {
    /// `json.dumps` has to look at it.
    Elsewhere,
    Failed(PyErr),
}

impl From<PyErr> for Stop {
    fn from(error: PyErr) -> Self {
        Self::Failed(error)
    }
}

/// The JSON text of `object`.
///
/// # Errors
/// What `json.dumps(object, allow_nan=False)` raises.
pub(crate) fn dumps(object: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
    let mut out = Vec::with_capacity(128);
    match write(&mut out, object, 0) {
        Ok(()) => Ok(out),
        Err(Stop::Elsewhere) => by_python(object),
        Err(Stop::Failed(error)) => Err(error),
    }
}

fn by_python(object: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
    static DUMPS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = object.py();
    let dumps = DUMPS.import(py, "json", "dumps")?;
    let options = PyDict::new(py);
    options.set_item(intern!(py, "allow_nan"), false)?;
    let text = dumps.call((object,), Some(&options))?;
    Ok(text.cast::<PyString>()?.to_str()?.as_bytes().to_vec())
}

fn write(out: &mut Vec<u8>, object: &Bound<'_, PyAny>, depth: usize) -> Result<(), Stop> {
    if let Ok(text) = object.cast_exact::<PyString>() {
        write_string(out, text)
    } else if let Ok(number) = object.cast_exact::<PyInt>() {
        write_integer(out, number)
    } else if object.is_none() {
        out.extend_from_slice(b"null");
        Ok(())
    } else if let Ok(flag) = object.cast_exact::<PyBool>() {
        out.extend_from_slice(if flag.is_true() { b"true" } else { b"false" });
        Ok(())
    } else if let Ok(number) = object.cast_exact::<PyFloat>() {
        write_float(out, number)
    } else if depth == DEPTH {
        Err(Stop::Elsewhere)
    } else if let Ok(map) = object.cast_exact::<PyDict>() {
        write_dict(out, map, depth + 1)
    } else if let Ok(list) = object.cast_exact::<PyList>() {
        write_sequence(out, list.iter(), depth + 1)
    } else if let Ok(tuple) = object.cast_exact::<PyTuple>() {
        write_sequence(out, tuple.iter(), depth + 1)
    } else {
        Err(Stop::Elsewhere)
    }
}

fn write_dict(out: &mut Vec<u8>, map: &Bound<'_, PyDict>, depth: usize) -> Result<(), Stop> {
    out.push(b'{');
    for (position, (key, value)) in map.iter().enumerate() {
        if position > 0 {
            out.extend_from_slice(b", ");
        }
        write_key(out, &key)?;
        out.extend_from_slice(b": ");
        write(out, &value, depth)?;
    }
    out.push(b'}');
    Ok(())
}

/// Keys that are no strings become strings of what they would be as values.
fn write_key(out: &mut Vec<u8>, key: &Bound<'_, PyAny>) -> Result<(), Stop> {
    if let Ok(text) = key.cast_exact::<PyString>() {
        return write_string(out, text);
    }
    if key.is_exact_instance_of::<PyInt>()
        || key.is_none()
        || key.is_exact_instance_of::<PyBool>()
        || key.is_exact_instance_of::<PyFloat>()
    {
        out.push(b'"');
        write(out, key, DEPTH)?;
        out.push(b'"');
        return Ok(());
    }
    Err(Stop::Elsewhere)
}

fn write_sequence<'py>(
    out: &mut Vec<u8>,
    items: impl Iterator<Item = Bound<'py, PyAny>>,
    depth: usize,
) -> Result<(), Stop> {
    out.push(b'[');
    for (position, item) in items.enumerate() {
        if position > 0 {
            out.extend_from_slice(b", ");
        }
        write(out, &item, depth)?;
    }
    out.push(b']');
    Ok(())
}

fn write_string(out: &mut Vec<u8>, text: &Bound<'_, PyString>) -> Result<(), Stop> {
    // A lone surrogate has no UTF-8, yet json.dumps has an escape for it.
    let text = text.to_str().map_err(|_| Stop::Elsewhere)?;
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut done = 0;
    for (position, character) in text.char_indices() {
        let plain = matches!(character, ' '..='~') && character != '"' && character != '\\';
        if plain {
            continue;
        }
        out.extend_from_slice(&bytes[done..position]);
        done = position + character.len_utf8();
        match character {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            '\n' => out.extend_from_slice(b"\\n"),
            '\r' => out.extend_from_slice(b"\\r"),
            '\t' => out.extend_from_slice(b"\\t"),
            '\x0c' => out.extend_from_slice(b"\\f"),
            '\x08' => out.extend_from_slice(b"\\b"),
            other => write_escapes(out, other),
        }
    }
    out.extend_from_slice(&bytes[done..]);
    out.push(b'"');
    Ok(())
}

fn write_escapes(out: &mut Vec<u8>, character: char) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    for unit in character.encode_utf16(&mut [0; 2]) {
        out.extend_from_slice(b"\\u");
        for shift in [12, 8, 4, 0] {
            out.push(HEX[usize::from(*unit >> shift & 15)]);
        }
    }
}

fn write_integer(out: &mut Vec<u8>, number: &Bound<'_, PyInt>) -> Result<(), Stop> {
    if let Ok(small) = number.extract::<i64>() {
        out.extend_from_slice(small.to_string().as_bytes());
    } else {
        // Python bounds the digits that it converts; beyond, this raises as json.dumps does.
        out.extend_from_slice(number.repr()?.to_str()?.as_bytes());
    }
    Ok(())
}

fn write_float(out: &mut Vec<u8>, number: &Bound<'_, PyFloat>) -> Result<(), Stop> {
    let value = number.value();
    if !value.is_finite() {
        let message = format!("Out of range float values are not JSON compliant: {}", number.repr()?);
        return Err(Stop::Failed(PyValueError::new_err(message)));
    }
    // SAFETY: the interpreter is attached; the text is a C string of the interpreter's allocator, freed below.
    unsafe {
        let text = ffi::PyOS_double_to_string(
            value,
            b'r' as std::ffi::c_char,
            0,
            ffi::Py_DTSF_ADD_DOT_0,
            std::ptr::null_mut(),
        );
        if text.is_null() {
            return Err(Stop::Failed(PyErr::fetch(number.py())));
        }
        out.extend_from_slice(std::ffi::CStr::from_ptr(text).to_bytes());
        ffi::PyMem_Free(text.cast());
    }
    Ok(())
}
