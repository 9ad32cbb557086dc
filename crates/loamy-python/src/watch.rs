//! How rows ended, for whoever watches calls from outside: the same whatever the door makes of them.

use loamy::{MaskedUrl, Outcome};
use pyo3::prelude::*;

use crate::{answer, convert};

/// How one row ended.
pub(crate) struct Ended {
    method: String,
    /// Without its credentials.
    url: String,
    /// 0: there was no head of a response.
    status: u16,
    kind: Option<&'static str>,
    version: &'static str,
    attempts: u32,
    elapsed: f64,
}

impl Ended {
    /// How the row of that outcome ended.
    ///
    /// # Errors
    /// Only what a signal handler raises meanwhile.
    pub(crate) fn of(outcome: &Outcome, row: &Bound<'_, PyAny>) -> PyResult<Self> {
        let response = outcome.response();
        let error = outcome.result.as_ref().err();
        let subject = error.and_then(loamy::Error::subject);
        let url = response.map(loamy::Response::url).or(subject.map(|(_, url)| url)).unwrap_or_default();
        Ok(Self {
            method: convert::method_of(row)?.unwrap_or_default(),
            url: MaskedUrl(url).to_string(),
            status: response.map_or(0, loamy::Response::status),
            kind: error.map(|error| error.kind().name()),
            version: response.map_or("", answer::version),
            attempts: outcome.attempts,
            elapsed: outcome.timing.elapsed.as_secs_f64(),
        })
    }
}

/// Tells how rows ended: a list of `(method, url, status, kind, version, attempts, elapsed)`.
///
/// # Errors
/// What the watcher raises.
pub(crate) fn tell(watch: &Bound<'_, PyAny>, rows: Vec<Ended>) -> PyResult<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let rows = rows
        .into_iter()
        .map(|row| (row.method, row.url, row.status, row.kind, row.version, row.attempts, row.elapsed));
    watch.call1((rows.collect::<Vec<_>>(),)).map(drop)
}
