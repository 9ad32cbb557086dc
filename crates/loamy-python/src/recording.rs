//! The journal of a call: opened before anything is sent, ended when the last row has been taken.

use std::path::PathBuf;

use loamy::{Client, Journal, JournalError, JournalOptions, Policy, Run, Trouble};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyList, PyType};

use crate::ending::Call;

/// What a call wants to be recorded, and what it wants of an earlier record: the path, whether failed rows are sent again, whether
/// those in doubt are, whether a damaged record is used as far as it goes.
pub(crate) type Wanted = (PathBuf, bool, bool, bool);

/// Begins a batch that is recorded.
///
/// # Errors
/// `JournalError` when the journal cannot be used.
pub(crate) fn begin(py: Python<'_>, client: &Client, policy: &Policy, wanted: Wanted) -> PyResult<Run> {
    let (path, retry_failed, resend_in_doubt, keep_good) = wanted;
    let mut options = JournalOptions::default();
    if retry_failed {
        options = options.retry_failed();
    }
    if resend_in_doubt {
        options = options.resend_in_doubt();
    }
    if keep_good {
        options = options.keep_good();
    }
    // Reading a long record takes its time, and others need not wait for it.
    let _call = Call::begin();
    let journal = py.detach(|| Journal::open(path, options));
    let journal = journal.map_err(|error| raised(py, &error, None))?;
    Ok(py.detach(|| client.clone().with_journal(journal).begin(policy)))
}

/// Ends the journal of a run, if it has one.
///
/// # Errors
/// `JournalError`, with all rows in it, when something could not be put on record.
pub(crate) fn end(py: Python<'_>, run: &Run, made: Option<&Bound<'_, PyList>>) -> PyResult<()> {
    py.detach(|| run.finish_journal()).map_err(|error| raised(py, &error, made))
}

fn raised(py: Python<'_>, error: &JournalError, made: Option<&Bound<'_, PyList>>) -> PyErr {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let class = CLASS.import(py, "loamy.errors", "JournalError");
    let made =
        class.and_then(|class| class.call1((error.to_string(), error.hint(), word(error.trouble()), made)));
    made.map_or_else(|other| other, PyErr::from_value)
}

fn word(trouble: Trouble) -> &'static str {
    match trouble {
        Trouble::InUse => "in_use",
        Trouble::OtherInput => "other_input",
        Trouble::OtherFormat => "other_format",
        Trouble::NetworkFileSystem => "network_file_system",
        Trouble::Damaged => "damaged",
        _ => "system",
    }
}
