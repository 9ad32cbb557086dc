//! Response headers as `loamy.headers.Headers`, a dict.
//!
//! Servers repeat themselves: the names always, most values, and often the whole head. So names and short values are
//! made once, and a head seen a moment ago is copied instead of read again.

use std::sync::{Mutex, TryLockError};

use ahash::AHashMap;
use loamy::HeaderView;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict, PyString, PyTuple, PyType};
use pyo3::{ffi, intern};

use crate::json_in::Media;

/// Names kept.
const NAMES: usize = 512;
/// Values kept, each of at most `VALUE` bytes.
const VALUES: usize = 1024;
const VALUE: usize = 48;
/// Heads kept: one for each server of a small batch.
const HEADS: usize = 4;

/// Names whose canonical spelling is not that of capitals after each hyphen.
const SPELLINGS: [(&str, &str); 12] = [
    ("etag", "ETag"),
    ("www-authenticate", "WWW-Authenticate"),
    ("dnt", "DNT"),
    ("te", "TE"),
    ("nel", "NEL"),
    ("sourcemap", "SourceMap"),
    ("content-md5", "Content-MD5"),
    ("expect-ct", "Expect-CT"),
    ("x-xss-protection", "X-XSS-Protection"),
    ("x-ua-compatible", "X-UA-Compatible"),
    ("x-dns-prefetch-control", "X-DNS-Prefetch-Control"),
    ("sec-websocket-accept", "Sec-WebSocket-Accept"),
];

/// A head read once, to be copied.
struct Head {
    lines: Box<[u8]>,
    dict: Py<PyDict>,
    raw: Py<PyBytes>,
    media: Media,
}

/// What was seen before.
#[derive(Default)]
pub(crate) struct Seen {
    names: AHashMap<Box<[u8]>, Py<PyString>>,
    values: AHashMap<Box<[u8]>, Py<PyString>>,
    heads: Vec<Head>,
}

static SEEN: PyOnceLock<Mutex<Seen>> = PyOnceLock::new();

/// Runs `work` with what was seen before, or, where another thread has that in hand, with nothing.
pub(crate) fn with_seen<T>(py: Python<'_>, work: impl FnOnce(&mut Seen) -> T) -> T {
    let seen = SEEN.get_or_init(py, Mutex::default);
    // Never waited for: a thread that waits here while attached, or a fork in between, would stand still.
    match seen.try_lock() {
        Ok(mut seen) => work(&mut seen),
        Err(TryLockError::Poisoned(seen)) => work(&mut seen.into_inner()),
        Err(TryLockError::WouldBlock) => work(&mut Seen::default()),
    }
}

impl Seen {
    /// The headers as a new `Headers`, and the kind of body that they announce.
    pub(crate) fn headers<'py>(
        &mut self,
        py: Python<'py>,
        view: HeaderView<'_>,
    ) -> PyResult<(Bound<'py, PyAny>, Media)> {
        let lines = view.as_bytes();
        if let Some(position) = self.heads.iter().position(|head| *head.lines == *lines) {
            if position > 0 {
                self.heads.swap(0, position);
            }
            let head = &self.heads[0];
            return Ok((instance(py, head.dict.bind(py), head.raw.bind(py))?, head.media));
        }
        let dict = self.read(py, view)?;
        let raw = PyBytes::new(py, lines);
        let media = Media::of(view);
        let own = instance(py, &dict, &raw)?;
        self.heads.truncate(HEADS - 1);
        self.heads.insert(0, Head { lines: lines.into(), dict: dict.unbind(), raw: raw.unbind(), media });
        Ok((own, media))
    }

    fn read<'py>(&mut self, py: Python<'py>, view: HeaderView<'_>) -> PyResult<Bound<'py, PyDict>> {
        let dict = PyDict::new(py);
        for (name, value) in view.iter() {
            let key = self.name(py, name);
            let text = self.value(py, value);
            match dict.get_item(&key)? {
                None => dict.set_item(key, text)?,
                // The one field whose values cannot be joined (RFC 9110 §5.3); the others stand in `get_list`.
                Some(_) if name.eq_ignore_ascii_case("set-cookie") => {}
                Some(before) => {
                    let joined = format!("{}, {}", before.cast::<PyString>()?.to_str()?, text.to_str()?);
                    dict.set_item(key, joined)?;
                }
            }
        }
        Ok(dict)
    }

    fn name<'py>(&mut self, py: Python<'py>, name: &str) -> Bound<'py, PyString> {
        if let Some(known) = self.names.get(name.as_bytes()) {
            return known.bind(py).clone();
        }
        if self.names.len() >= NAMES {
            self.names.clear();
        }
        let fresh = PyString::new(py, &canonical_name(name));
        self.names.insert(name.as_bytes().into(), fresh.clone().unbind());
        fresh
    }

    fn value<'py>(&mut self, py: Python<'py>, value: &[u8]) -> Bound<'py, PyString> {
        if value.len() > VALUE {
            return text(py, value);
        }
        if let Some(known) = self.values.get(value) {
            return known.bind(py).clone();
        }
        if self.values.len() >= VALUES {
            self.values.clear();
        }
        let fresh = text(py, value);
        self.values.insert(value.into(), fresh.clone().unbind());
        fresh
    }
}

/// The spelling under which a header is found in the dict: `content-type` is `Content-Type`.
#[pyfunction]
pub(crate) fn canonical_name(name: &str) -> String {
    let lower = name.to_ascii_lowercase();
    if let Some((_, spelling)) = SPELLINGS.iter().find(|(known, _)| *known == lower) {
        return (*spelling).to_owned();
    }
    let mut out = String::with_capacity(name.len());
    let mut capital = true;
    for character in lower.chars() {
        out.push(if capital { character.to_ascii_uppercase() } else { character });
        capital = character == '-';
    }
    out
}

/// A header's value as text: UTF-8, or Latin-1 where it is none (RFC 9110 §5.5 knows no other).
fn text<'py>(py: Python<'py>, value: &[u8]) -> Bound<'py, PyString> {
    match std::str::from_utf8(value) {
        Ok(text) => PyString::new(py, text),
        Err(_) => PyString::new(py, &value.iter().map(|byte| char::from(*byte)).collect::<String>()),
    }
}

/// A new `Headers` with the fields of `dict`. Its `__init__` is passed over: this happens once a response.
fn instance<'py>(
    py: Python<'py>,
    dict: &Bound<'py, PyDict>,
    raw: &Bound<'py, PyBytes>,
) -> PyResult<Bound<'py, PyAny>> {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let class = CLASS.import(py, "loamy.headers", "Headers")?;
    let empty = PyTuple::empty(py);
    // SAFETY: `class` is a subclass of dict that keeps dict's `__new__`, which takes any arguments and returns a new
    // reference or sets an exception; `dict` is a dict.
    let own = unsafe {
        let new = (*class.as_type_ptr()).tp_new.expect("a subclass of dict can be made");
        let own =
            Bound::from_owned_ptr_or_err(py, new(class.as_type_ptr(), empty.as_ptr(), std::ptr::null_mut()))?;
        if ffi::PyDict_Update(own.as_ptr(), dict.as_ptr()) != 0 {
            return Err(PyErr::fetch(py));
        }
        own
    };
    own.setattr(intern!(py, "_lines"), raw)?;
    // SAFETY: a new object of a collected type. Strings and bytes make no cycles, so the collector need not look; a
    // container that somebody puts in makes the dict tracked again.
    unsafe { ffi::PyObject_GC_UnTrack(own.as_ptr().cast()) };
    Ok(own)
}

/// Whether a header of that name carries a credential.
#[pyfunction]
pub(crate) fn is_secret_header(name: &str) -> bool {
    loamy::is_secret(name)
}

/// A URL without the credentials that stand in it.
#[pyfunction]
pub(crate) fn masked_url(url: &str) -> String {
    loamy::MaskedUrl(url).to_string()
}
