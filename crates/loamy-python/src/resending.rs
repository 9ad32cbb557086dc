//! Rows that are sent again: by which key a server knows them.

use std::sync::Arc;

use ahash::AHashSet;
use loamy::{Idempotency, Request};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::convert::{self, Tags, Terms};
use crate::failure;
use crate::response::Response;

const FIELD: &str = "Idempotency-Key";

/// By what a server knows a row, whenever it is sent.
pub(crate) enum Key {
    /// The row goes out with this one.
    Whole(Box<str>),
    /// The row was not read yet: it has the one of its tag or place in this job.
    OfJob(Box<str>),
}

impl Key {
    /// Of all the rows that a call did not come to read.
    pub(crate) fn of_unread(keys: &Idempotency) -> Option<Arc<Self>> {
        match keys {
            Idempotency::AsGiven => None,
            Idempotency::Auto { job } => Some(Arc::new(Self::OfJob(job.clone()))),
        }
    }

    /// Its two forms, of which one is there.
    pub(crate) fn parts(&self) -> (Option<&str>, Option<&str>) {
        match self {
            Self::Whole(key) => (Some(key), None),
            Self::OfJob(job) => (None, Some(job)),
        }
    }

    pub(crate) fn of_parts((key, job): (Option<String>, Option<String>)) -> Option<Arc<Self>> {
        let whole = key.map(|key| Self::Whole(key.into()));
        whole.or(job.map(|job| Self::OfJob(job.into()))).map(Arc::new)
    }
}

/// Gives a row that brings no key the one that it had before, or a new one where keys are made. Returns what it has then.
pub(crate) fn give(
    request: &mut Request,
    before: Option<&Arc<Key>>,
    keys: &Idempotency,
    index: usize,
) -> Option<Arc<Key>> {
    match before.map(|key| &**key) {
        None => keys.give_key(request, index),
        Some(Key::OfJob(job)) => Idempotency::Auto { job: job.clone() }.give_key(request, index),
        Some(Key::Whole(key)) if request.headers().get(FIELD).is_none() => {
            let own = std::mem::replace(request, Request::get(""));
            *request = own.header(FIELD, key.as_bytes());
        }
        Some(Key::Whole(_)) => {}
    }
    let key = std::str::from_utf8(request.headers().get(FIELD)?).ok()?;
    Some(Arc::new(Key::Whole(key.into())))
}

/// Has the rows of a call be those that had these responses before.
///
/// # Errors
/// ValueError when keys were to be made of which two were the same, so that two rows were one to their server; and what a signal
/// handler raises meanwhile.
pub(crate) fn prepare(py: Python<'_>, again: &[Py<Response>], terms: &mut Terms) -> PyResult<()> {
    if again.iter().any(|before| before.get().key().is_some_and(|key| matches!(**key, Key::OfJob(_)))) {
        terms.read_tags();
    }
    let keys = &terms.policy().idempotency;
    if *keys == Idempotency::AsGiven {
        return Ok(());
    }
    let mut made = AHashSet::new();
    for response in again.iter().map(Py::get).filter(|response| response.key().is_none()) {
        let method = convert::method_of(response.row().bind(py))?.unwrap_or_default();
        let mut row = Request::new(&method, "");
        if let Some(tag) = response.mark() {
            row = match convert::known_by(row, tag.bind(py), Tags::Read) {
                Err(error) if failure::is_own(py, &error)? => continue,
                read => read?,
            };
        }
        keys.give_key(&mut row, response.index());
        if let Some(key) = row.headers().get(FIELD)
            && !made.insert(key.to_vec())
        {
            return Err(PyValueError::new_err(
                "idempotency='auto' would give two of these rows the same key, as they have the same tag, or the same place in \
                 different calls\nhint: resend what each call returned by itself, or give each row a tag of its own",
            ));
        }
    }
    Ok(())
}
