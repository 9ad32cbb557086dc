//! The rows of a batch on their way in, and what came of them on the way out.

use std::collections::VecDeque;
use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::PyList;

use crate::resending::Key;

/// The rows whose outcomes are outstanding.
#[derive(Default)]
pub(crate) struct Rows {
    /// Index of the first one kept.
    base: usize,
    kept: VecDeque<Option<Kept>>,
    outstanding: usize,
}

pub(crate) struct Kept {
    pub(crate) row: Py<PyAny>,
    pub(crate) tag: Option<Py<PyAny>>,
    pub(crate) key: Option<Arc<Key>>,
}

impl Rows {
    pub(crate) fn push(&mut self, kept: Kept) {
        self.kept.push_back(Some(kept));
        self.outstanding += 1;
    }

    /// The index of the row that is kept next.
    pub(crate) fn next(&self) -> usize {
        self.base + self.kept.len()
    }

    pub(crate) fn take(&mut self, index: usize) -> Option<Kept> {
        let taken = self.kept.get_mut(index.checked_sub(self.base)?)?.take();
        self.outstanding -= usize::from(taken.is_some());
        while let Some(None) = self.kept.front() {
            self.kept.pop_front();
            self.base += 1;
        }
        taken
    }

    pub(crate) fn outstanding(&self) -> usize {
        self.outstanding
    }
}

/// What came out so far, at its place.
pub(crate) struct Gathered {
    pub(crate) made: Vec<Option<Py<PyAny>>>,
    pub(crate) outstanding: usize,
}

impl Gathered {
    /// Places for so many rows.
    pub(crate) fn of(rows: usize) -> Self {
        Self { made: (0..rows).map(|_| None).collect(), outstanding: rows }
    }

    pub(crate) fn put(&mut self, index: usize, made: Py<PyAny>) {
        if let Some(place) = self.made.get_mut(index)
            && place.replace(made).is_none()
        {
            self.outstanding -= 1;
        }
    }

    pub(crate) fn into_list(self, py: Python<'_>) -> PyResult<Bound<'_, PyList>> {
        PyList::new(py, self.made)
    }
}
