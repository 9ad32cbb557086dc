//! The end of the process: every batch ends before the interpreter goes away beneath its threads.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use loamy::Run;
use pyo3::prelude::*;

/// Runs that may be under way, for the end of the process.
static RUNS: Mutex<Vec<Weak<Run>>> = Mutex::new(Vec::new());
/// Calls under way.
static CALLS: AtomicUsize = AtomicUsize::new(0);
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

/// A call under way.
pub(crate) struct Call(());

impl Call {
    pub(crate) fn begin() -> Self {
        CALLS.fetch_add(1, Ordering::AcqRel);
        Self(())
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        CALLS.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Ends every batch and waits until no call is under way; for the end of the process.
#[pyfunction]
#[expect(clippy::disallowed_methods, reason = "the end of the process, after the last call")]
pub(crate) fn shut_down(py: Python<'_>) {
    CLOSING.store(true, Ordering::Release);
    let runs = std::mem::take(&mut *RUNS.lock().unwrap_or_else(PoisonError::into_inner));
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
