//! `loamy.Response`: one row's end, read only where somebody looks.

use std::sync::{Arc, Mutex, PoisonError};

use loamy::{MaskedUrl, Outcome};
use pyo3::exceptions::PyValueError;
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict, PyString, PyTuple, PyWeakrefMethods, PyWeakrefReference};

use crate::answer::{Answer, Restored, read_lines};
use crate::resending::Key;
use crate::{convert, failure, fields, json_in};

/// What became of one row.
#[pyclass(frozen, module = "loamy", name = "Response", weakref)]
pub(crate) struct Response {
    #[pyo3(get)]
    index: usize,
    row: Py<PyAny>,
    tag: Option<Py<PyAny>>,
    /// None: it has none.
    key: Option<Arc<Key>>,
    #[pyo3(get)]
    attempts: u32,
    #[pyo3(get)]
    elapsed: f64,
    #[pyo3(get)]
    replayed: bool,
    #[pyo3(get)]
    over_budget: bool,
    /// Whether it failed and may have taken effect all the same, where an answer came; else its error says so.
    answered_in_doubt: bool,
    /// None: there were none.
    earlier: Option<Py<PyTuple>>,
    end: End,
    headers: PyOnceLock<Py<PyAny>>,
}

enum End {
    Answered(Answer),
    /// The exception is made when somebody asks and held weakly: held strongly, raising it would tie a knot of
    /// exception, traceback, frame and response that no collector sees.
    Failed {
        error: Box<loamy::Error>,
        made: Mutex<Option<Py<PyWeakrefReference>>>,
    },
    /// The batch was stopped before the row was read.
    Unread {
        made: Mutex<Option<Py<PyWeakrefReference>>>,
    },
    /// Out of a pickle: what the exception is made of came along.
    Restored {
        /// A function and its arguments, as `__reduce__` gives them.
        parts: Py<PyTuple>,
        made: Mutex<Option<Py<PyWeakrefReference>>>,
    },
}

impl Response {
    /// The response of an outcome, for the row given.
    ///
    /// # Errors
    /// Want of memory.
    pub(crate) fn of(
        py: Python<'_>,
        outcome: Outcome,
        row: Py<PyAny>,
        tag: Option<Py<PyAny>>,
        key: Option<Arc<Key>>,
    ) -> PyResult<Self> {
        let earlier = earlier(py, &outcome.earlier)?.map(Bound::unbind);
        let answered_in_doubt = outcome.result.is_ok() && outcome.in_doubt();
        let end = match outcome.result {
            Ok(response) => End::Answered(Answer::Received(response)),
            Err(error) => End::Failed { error: Box::new(error), made: Mutex::new(None) },
        };
        Ok(Self {
            index: outcome.index,
            row,
            tag,
            key,
            attempts: outcome.attempts,
            elapsed: outcome.timing.elapsed.as_secs_f64(),
            replayed: outcome.replayed,
            over_budget: outcome.over_budget,
            answered_in_doubt,
            earlier,
            end,
            headers: PyOnceLock::new(),
        })
    }

    /// The end of a row that was never read, because the batch was stopped.
    pub(crate) fn unread(
        index: usize,
        row: Py<PyAny>,
        tag: Option<Py<PyAny>>,
        key: Option<Arc<Key>>,
    ) -> Self {
        let end = End::Unread { made: Mutex::new(None) };
        Self {
            index,
            row,
            tag,
            key,
            attempts: 0,
            elapsed: 0.0,
            replayed: false,
            over_budget: false,
            answered_in_doubt: false,
            earlier: None,
            end,
            headers: PyOnceLock::new(),
        }
    }

    /// A response that stands beside an error.
    pub(crate) fn partial(
        index: usize,
        row: &Bound<'_, PyAny>,
        response: loamy::Response,
        attempts: u32,
        earlier: Option<Py<PyTuple>>,
    ) -> Self {
        Self {
            index,
            row: row.clone().unbind(),
            tag: None,
            key: None,
            attempts,
            elapsed: 0.0,
            replayed: false,
            over_budget: false,
            answered_in_doubt: false,
            earlier,
            end: End::Answered(Answer::Received(response)),
            headers: PyOnceLock::new(),
        }
    }

    pub(crate) fn index(&self) -> usize {
        self.index
    }

    /// By what a server knows the row.
    pub(crate) fn key(&self) -> Option<&Arc<Key>> {
        self.key.as_ref()
    }

    pub(crate) fn mark(&self) -> Option<&Py<PyAny>> {
        self.tag.as_ref()
    }

    pub(crate) fn row(&self) -> &Py<PyAny> {
        &self.row
    }

    /// The URL that answered, or the one of the row.
    ///
    /// # Errors
    /// Only what a signal handler raises meanwhile.
    pub(crate) fn address(&self, py: Python<'_>) -> PyResult<String> {
        match self.answer() {
            Some(answer) => Ok(answer.url().to_owned()),
            None => Ok(convert::url_of(self.row.bind(py))?.unwrap_or_default()),
        }
    }

    fn answer(&self) -> Option<&Answer> {
        match &self.end {
            End::Answered(answer) => Some(answer),
            _ => None,
        }
    }

    fn body(&self) -> &[u8] {
        self.answer().map(Answer::body).unwrap_or_default()
    }

    fn charset(&self) -> Option<&str> {
        self.answer().and_then(|answer| json_in::charset(answer.headers()))
    }

    fn exception<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        match &self.end {
            End::Answered(_) => Ok(None),
            End::Restored { parts, made } => held(py, made, || {
                let parts = parts.bind(py);
                parts.get_item(0)?.call1(parts.get_item(1)?.cast_into::<PyTuple>()?)
            })
            .map(Some),
            End::Failed { error, made } => {
                let earlier = self.earlier.as_ref().map(|earlier| earlier.bind(py));
                held(py, made, || failure::exception(py, error, self.index, self.row.bind(py), earlier))
                    .map(Some)
            }
            End::Unread { made } => held(py, made, || failure::unread(py, self.row.bind(py))).map(Some),
        }
    }
}

/// What became of the attempts before the last; None where there were none.
///
/// # Errors
/// Want of memory.
pub(crate) fn earlier<'py>(
    py: Python<'py>,
    attempts: &[loamy::Attempt],
) -> PyResult<Option<Bound<'py, PyTuple>>> {
    if attempts.is_empty() {
        return Ok(None);
    }
    PyTuple::new(py, attempts.iter().map(|attempt| PyString::new(py, &attempt.to_string()))).map(Some)
}

/// The exception made before, as long as somebody holds it, or a new one.
fn held<'py>(
    py: Python<'py>,
    made: &Mutex<Option<Py<PyWeakrefReference>>>,
    make: impl FnOnce() -> PyResult<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let known = made.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(|weak| weak.clone_ref(py));
    if let Some(alive) = known.and_then(|weak| weak.bind(py).upgrade()) {
        return Ok(alive);
    }
    let fresh = make()?;
    let weak = PyWeakrefReference::new(&fresh)?.unbind();
    let before = made.lock().unwrap_or_else(PoisonError::into_inner).replace(weak);
    drop(before);
    Ok(fresh)
}

#[pymethods]
impl Response {
    #[getter]
    fn request(&self, py: Python<'_>) -> Py<PyAny> {
        self.row.clone_ref(py)
    }

    #[getter]
    fn tag(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.tag.as_ref().map(|tag| tag.clone_ref(py))
    }

    /// The row's own key, or the one that was made for it.
    #[getter]
    fn idempotency_key(&self) -> Option<&str> {
        self.key.as_ref()?.parts().0
    }

    #[getter]
    fn ok(&self) -> bool {
        self.answer().is_some_and(|answer| answer.status() < 400)
    }

    #[getter]
    fn status_code(&self) -> u16 {
        self.answer().map_or(0, Answer::status)
    }

    #[getter]
    fn headers<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        if let Some(made) = self.headers.get(py) {
            return Ok(made.bind(py).clone());
        }
        let view = self.answer().map(Answer::headers).unwrap_or_default();
        let (fresh, _) = fields::with_seen(py, |seen| seen.headers(py, view))?;
        Ok(self.headers.get_or_init(py, || fresh.unbind()).bind(py).clone())
    }

    #[getter]
    fn content<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.body())
    }

    /// The body, read where it lies: `memoryview(response)` and `file.write(response)` copy nothing.
    unsafe fn __getbuffer__(
        slf: Bound<'_, Self>,
        view: *mut ffi::Py_buffer,
        flags: std::ffi::c_int,
    ) -> PyResult<()> {
        let body = slf.get().body();
        // What is exported is never written to (`readonly`), and cannot go before its view: that holds `slf`, which is
        // frozen.
        let made = unsafe {
            ffi::PyBuffer_FillInfo(
                view,
                slf.as_ptr(),
                body.as_ptr().cast_mut().cast(),
                body.len().cast_signed(),
                1,
                flags,
            )
        };
        if made == 0 { Ok(()) } else { Err(PyErr::fetch(slf.py())) }
    }

    #[getter]
    fn text<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        json_in::text(py, self.body(), self.charset())
    }

    #[pyo3(signature = (**options))]
    fn json<'py>(
        slf: &Bound<'py, Self>,
        options: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (py, own) = (slf.py(), slf.get());
        if let Some(error) = own.exception(py)? {
            return Err(PyErr::from_value(error));
        }
        json_in::loads(py, own.body(), own.charset(), options).map_err(|error| {
            match json_in::is_verdict(py, &error) {
                Ok(true) => {}
                Ok(false) => return error,
                Err(other) => return other,
            }
            let text = json_in::text(py, own.body(), own.charset());
            let reason = error.into_value(py).into_bound(py).into_any();
            let made =
                text.and_then(|text| failure::not_json(py, own.row.bind(py), &text, &reason, slf.clone()));
            made.map_or_else(|other| other, PyErr::from_value)
        })
    }

    #[getter]
    fn url(&self, py: Python<'_>) -> PyResult<String> {
        self.address(py)
    }

    /// The method that the row names.
    #[getter]
    fn method(&self, py: Python<'_>) -> PyResult<String> {
        Ok(convert::method_of(self.row.bind(py))?.unwrap_or_default())
    }

    #[getter]
    fn http_version(&self) -> &str {
        self.answer().map_or("", Answer::version)
    }

    #[getter]
    fn redirects(&self) -> u16 {
        self.answer().map_or(0, Answer::redirects)
    }

    #[getter]
    fn earlier<'py>(&self, py: Python<'py>) -> Bound<'py, PyTuple> {
        self.earlier.as_ref().map_or_else(|| PyTuple::empty(py), |earlier| earlier.bind(py).clone())
    }

    #[getter]
    fn error<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.exception(py)
    }

    #[getter]
    fn in_doubt<'py>(&self, py: Python<'py>) -> PyResult<bool> {
        match &self.end {
            End::Answered(_) => Ok(self.answered_in_doubt),
            End::Failed { error, .. } => Ok(error.in_doubt()),
            End::Unread { .. } => Ok(false),
            End::Restored { .. } => match self.exception(py)? {
                Some(error) => error.getattr("in_doubt")?.extract(),
                None => Ok(false),
            },
        }
    }

    /// The kind of the error without making the exception.
    #[getter]
    fn kind<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        match &self.end {
            End::Answered(_) => Ok(None),
            End::Failed { error, .. } => Ok(Some(PyString::intern(py, error.kind().name()).into_any())),
            End::Unread { .. } => Ok(Some(PyString::intern(py, loamy::Kind::NotSent.name()).into_any())),
            End::Restored { .. } => self.exception(py)?.map(|error| error.getattr("kind")).transpose(),
        }
    }

    fn raise_for_status<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, Self>> {
        let py = slf.py();
        let own = slf.get();
        if let Some(error) = own.exception(py)? {
            return Err(PyErr::from_value(error));
        }
        if own.status_code() >= 400 {
            return Err(PyErr::from_value(failure::status(py, slf)?));
        }
        Ok(slf.clone())
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let url = self.address(py)?;
        let url = MaskedUrl(&url);
        Ok(match &self.end {
            End::Answered(answer) => {
                let method = convert::method_of(self.row.bind(py))?.unwrap_or_default();
                format!("<Response {}: status {} ({method} {url})>", self.index, answer.status())
            }
            End::Failed { error, .. } => format!("<Response {}: {error}>", self.index),
            End::Unread { .. } => {
                format!("<Response {}: {}>", self.index, failure::unread_text(self.row.bind(py))?)
            }
            End::Restored { .. } => {
                // The first argument is the text without its hint.
                let text = self.exception(py)?.and_then(|error| error.getattr("args").ok()?.get_item(0).ok());
                format!(
                    "<Response {}: {}>",
                    self.index,
                    text.map(|text| text.to_string()).unwrap_or_default()
                )
            }
        })
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyTuple>)> {
        static RESTORE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let py = slf.py();
        let own = slf.get();
        let answer = own.answer().map(|answer| {
            (
                answer.status(),
                answer.version(),
                answer.url(),
                PyBytes::new(py, answer.headers().as_bytes()),
                PyBytes::new(py, answer.body()),
                answer.redirects(),
            )
        });
        let row = own.row.bind(py);
        let key = own.key.as_ref().map(|key| key.parts()).unwrap_or_default();
        let parts = (
            own.index,
            row,
            &own.tag,
            own.attempts,
            own.elapsed,
            answer,
            own.exception(py)?,
            own.earlier(py),
            own.replayed,
            own.over_budget,
            own.answered_in_doubt,
            key,
        )
            .into_pyobject(py)?;
        Ok((RESTORE.import(py, "loamy._loamy", "restore_response")?.clone(), parts))
    }
}

/// The parts of an answer as they stand in a pickle.
type Parts = (u16, String, String, Vec<u8>, Vec<u8>, u16);

/// A response out of a pickle.
#[pyfunction]
#[expect(clippy::too_many_arguments, reason = "the parts of a pickle, by position")]
pub(crate) fn restore_response(
    py: Python<'_>,
    index: usize,
    row: Py<PyAny>,
    tag: Option<Py<PyAny>>,
    attempts: u32,
    elapsed: f64,
    answer: Option<Parts>,
    error: Option<Py<PyAny>>,
    earlier: Py<PyTuple>,
    replayed: bool,
    over_budget: bool,
    answered_in_doubt: bool,
    key: (Option<String>, Option<String>),
) -> PyResult<Response> {
    let earlier = Some(earlier);
    let end = match (answer, error) {
        (Some((status, version, url, lines, body, redirects)), _) => {
            let restored = Restored {
                status,
                version: version.into(),
                url: url.into(),
                lines: read_lines(&lines)?,
                body: body.into(),
                redirects,
            };
            End::Answered(Answer::Restored(Box::new(restored)))
        }
        (None, Some(error)) => {
            let parts = error.bind(py).call_method0(intern!(py, "__reduce__"))?.cast_into::<PyTuple>()?;
            End::Restored { parts: parts.unbind(), made: Mutex::new(None) }
        }
        (None, None) => return Err(PyValueError::new_err("neither an answer nor an error")),
    };
    let headers = PyOnceLock::new();
    let key = Key::of_parts(key);
    Ok(Response {
        index,
        row,
        tag,
        key,
        attempts,
        elapsed,
        replayed,
        over_budget,
        answered_in_doubt,
        earlier,
        end,
        headers,
    })
}
