//! The Python binding of loamy: `loamy._loamy`.
//!
//! From the top: `drive` runs a batch from Python; `convert` reads Python objects into requests; `door` makes of the
//! outcomes what the caller wants, a `response` or a struct of the `contract`; `fields`, `json_in`, `json_out`, `query`
//! and `failure` make the parts; `watch` tells of rows whatever the door.

mod answer;
mod collector;
mod contract;
mod convert;
mod door;
mod drive;
mod ending;
mod failure;
mod fields;
mod json_in;
mod json_out;
mod memory;
mod query;
mod recording;
mod resending;
mod response;
mod rows;
mod serve;
mod slice;
mod watch;

use std::sync::atomic::{AtomicI64, Ordering};

use pyo3::exceptions::PyImportError;
use pyo3::ffi;
use pyo3::prelude::*;
#[cfg(unix)]
use pyo3::types::{PyCFunction, PyDict};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The module `loamy._loamy`.
#[pymodule(gil_used = false)]
mod _loamy {
    use pyo3::prelude::*;

    #[pymodule_export]
    use crate::convert::{Trust, check_headers, check_rate};
    #[pymodule_export]
    use crate::drive::Batch;
    #[pymodule_export]
    use crate::ending::shut_down;
    #[pymodule_export]
    use crate::fields::{canonical_name, is_secret_header, masked_url};
    #[pymodule_export]
    use crate::memory::memory_limit;
    #[pymodule_export]
    use crate::response::{Response, restore_response};
    #[pymodule_export]
    use crate::serve::Server;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        super::refuse_second_interpreter()?;
        #[cfg(unix)]
        super::watch_forks(module)?;
        crate::convert::certifi(module.py())?;
        module.add("__version__", env!("CARGO_PKG_VERSION"))?;
        module.add("optimised", !cfg!(debug_assertions))?;
        module.add(
            "KINDS",
            loamy::KINDS.iter().map(|row| (row.name, row.class, row.parents.to_vec())).collect::<Vec<_>>(),
        )
    }
}

/// Puts right what a fork leaves of the threads that it does not take along.
#[cfg(unix)]
fn watch_forks(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    let forked = PyCFunction::new_closure(py, None, None, |arguments, _| {
        ending::forget();
        collector::release(arguments.py());
    })?;
    let hooks = PyDict::new(py);
    hooks.set_item("after_in_child", forked)?;
    py.import("os")?.getattr("register_at_fork")?.call((), Some(&hooks)).map(drop)
}

/// What is kept here from one call to the next belongs to one interpreter.
fn refuse_second_interpreter() -> PyResult<()> {
    static FIRST: AtomicI64 = AtomicI64::new(-1);
    // SAFETY: the interpreter is attached, as a module is being made in it.
    let own = unsafe { ffi::PyInterpreterState_GetID(ffi::PyInterpreterState_Get()) };
    match FIRST.compare_exchange(-1, own, Ordering::SeqCst, Ordering::SeqCst) {
        Err(first) if first != own => Err(PyImportError::new_err(
            "loamy can be imported into one interpreter of a process, and another one has it",
        )),
        _ => Ok(()),
    }
}
