//! The end of the process: every batch ends before the interpreter goes away beneath its threads. And a fork, which is the end of all that
//! other threads were at.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use loamy::Run;
use pyo3::exceptions::PySystemExit;
use pyo3::prelude::*;
use pyo3::{ffi, intern};

/// Runs that may be under way, for the end of the process.
static RUNS: Mutex<Vec<Weak<Run>>> = Mutex::new(Vec::new());
/// Calls under way.
static CALLS: AtomicUsize = AtomicUsize::new(0);
/// Threads in the midst of a function of the user's, by Python's numbers for them.
static IN_HOOKS: Mutex<Vec<ThreadNumber>> = Mutex::new(Vec::new());
static CLOSING: AtomicBool = AtomicBool::new(false);

/// Whether nothing may begin any more.
pub(crate) fn is_near() -> bool {
    CLOSING.load(Ordering::Acquire)
}

/// Makes a run known, so that it is ended in time.
pub(crate) fn watch(run: &Arc<Run>) {
    let mut runs = RUNS.lock().unwrap_or_else(PoisonError::into_inner);
    runs.retain(|run| run.strong_count() > 0);
    runs.push(Arc::downgrade(run));
}

/// A call under way, in the process that has begun it.
pub(crate) struct Call(u32);

impl Call {
    pub(crate) fn begin() -> Self {
        CALLS.fetch_add(1, Ordering::AcqRel);
        Self(std::process::id())
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if self.0 == std::process::id() {
            CALLS.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

type ThreadNumber = std::ffi::c_ulong;

/// Calls a function of the user's, from which the end of the process has to get the thread back: where the interpreter goes away
/// meanwhile, the thread would be unwound through frames that cannot be.
///
/// # Errors
/// What the function raises; SystemExit when the interpreter is going away, which ends a thread in silence.
pub(crate) fn hook<T>(py: Python<'_>, call: impl FnOnce() -> PyResult<T>) -> PyResult<T> {
    let thread = py.import(intern!(py, "_thread"))?.call_method0(intern!(py, "get_ident"))?.extract()?;
    in_hooks().push(thread);
    let made = if is_near() { Err(PySystemExit::new_err(())) } else { call() };
    let mut threads = in_hooks();
    if let Some(place) = threads.iter().rposition(|known| *known == thread) {
        threads.remove(place);
    }
    made
}

fn in_hooks() -> MutexGuard<'static, Vec<ThreadNumber>> {
    IN_HOOKS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Has the thread raise SystemExit at its next bytecode.
fn call_back(py: Python<'_>, thread: ThreadNumber) {
    let exception = py.get_type::<PySystemExit>();
    // SAFETY: the interpreter is attached, the class alive; a number that no thread has any more is passed over.
    unsafe { ffi::PyThreadState_SetAsyncExc(thread.cast_signed(), exception.as_ptr()) };
}

/// Forgets what the process had under way from which this one was forked: none of its threads is here.
pub(crate) fn forget() {
    RUNS.lock().unwrap_or_else(PoisonError::into_inner).clear();
    in_hooks().clear();
    CALLS.store(0, Ordering::Release);
}

/// Ends every batch and waits until no call is under way; for the end of the process.
#[pyfunction]
#[expect(clippy::disallowed_methods, reason = "the end of the process, after the last call")]
pub(crate) fn shut_down(py: Python<'_>) {
    CLOSING.store(true, Ordering::Release);
    let runs = std::mem::take(&mut *RUNS.lock().unwrap_or_else(PoisonError::into_inner));
    for thread in in_hooks().clone() {
        call_back(py, thread);
    }
    py.detach(|| {
        for run in runs.iter().filter_map(Weak::upgrade) {
            run.cancel();
        }
        let end = Instant::now() + Duration::from_secs(1);
        while CALLS.load(Ordering::Acquire) > 0 && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(1));
        }
    });
}
