//! What the outcomes become: the doors of the package differ in nothing else.

use std::sync::Arc;

use loamy::Outcome;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyType};

use crate::failure::again;
use crate::resending::Key;
use crate::response::Response;
use crate::rows::Kept;
use crate::{contract, convert};

/// What the outcomes become.
pub(crate) enum Door {
    /// `loamy.Response`.
    Front,
    /// `loamy.session.RequestResponse`.
    Clump,
    /// A class like `zconcurrent.zsession.RequestResponse`, or exceptions.
    ZSession { class: Py<PyType>, first_failure_ends: bool },
}

impl Door {
    /// The door of that name.
    ///
    /// # Errors
    /// ValueError when there is none of that form.
    pub(crate) fn new(name: &str, class: Option<Py<PyType>>, first_failure_ends: bool) -> PyResult<Self> {
        match (name, class) {
            ("front", None) => Ok(Self::Front),
            ("clump", None) => Ok(Self::Clump),
            ("zsession", Some(class)) => Ok(Self::ZSession { class, first_failure_ends }),
            _ => Err(PyValueError::new_err(format!("no door {name:?} of that form"))),
        }
    }

    /// The object for an outcome, whatever breaks in upon the making of it; that is kept in `broken`.
    ///
    /// # Errors
    /// Want of memory.
    pub(crate) fn object<'py>(
        &self,
        py: Python<'py>,
        outcome: Outcome,
        kept: Kept,
        broken: &mut Option<PyErr>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let Kept { row, tag, key } = kept;
        let row = row.into_bound(py);
        let row = &row;
        match self {
            Self::Front => {
                let response = Response::of(py, outcome, row.clone().unbind(), tag, key)?;
                Ok(Bound::new(py, response)?.into_any())
            }
            Self::Clump => again(py, broken, || contract::clump(py, &outcome, row))
                .or_else(|error| contract::clump_lost(py, &outcome, row, &error)),
            Self::ZSession { class, .. } => {
                again(py, broken, || contract::zsession(py, &outcome, row, class.bind(py)))
                    .or_else(|error| contract::zsession_lost(py, &outcome, row, &error))
            }
        }
    }

    /// The object for a row that was not read when its batch was stopped; `shared` is an exception for all of them. What breaks in upon
    /// the making of it is kept in `broken`.
    ///
    /// # Errors
    /// As [`object`](Self::object).
    pub(crate) fn unread<'py>(
        &self,
        py: Python<'py>,
        index: usize,
        row: Bound<'py, PyAny>,
        shared: &Bound<'py, PyAny>,
        key: Option<Arc<Key>>,
        broken: &mut Option<PyErr>,
    ) -> PyResult<Bound<'py, PyAny>> {
        match self {
            Self::Front => {
                let tag = again(py, broken, || convert::tag_of(&row)).unwrap_or_default();
                Ok(Bound::new(py, Response::unread(index, row.unbind(), tag, key))?.into_any())
            }
            Self::Clump => contract::clump_unread(py, &row, shared),
            Self::ZSession { .. } => contract::zsession_unread(py, &row),
        }
    }

    /// Whether the batch ends with this object (K9).
    pub(crate) fn ends_with(&self, made: &Bound<'_, PyAny>) -> bool {
        self.raises() && contract::is_failure(made)
    }

    /// The failure to raise: that of the lowest index which did not fall to another one's failure.
    pub(crate) fn first_failure<'py>(&self, list: &Bound<'py, PyList>) -> Option<Bound<'py, PyAny>> {
        if !self.raises() {
            return None;
        }
        let failures = || list.iter().filter(contract::is_failure);
        failures().find(|made| !contract::is_collateral(made)).or_else(|| failures().next())
    }

    fn raises(&self) -> bool {
        matches!(self, Self::ZSession { first_failure_ends: true, .. })
    }
}
