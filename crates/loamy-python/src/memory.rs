//! What this process can hold, for those who must not begin what cannot end well.

use pyo3::prelude::*;

/// The most bytes that this process can ever hold; None where nothing tells.
#[pyfunction]
pub(crate) fn memory_limit() -> Option<u64> {
    loamy::memory_limit()
}
