//! The garbage collector held off while a slice of rows is made into objects: they all live on, so that looking
//! through them again and again would cost more than making them.

use std::marker::PhantomData;
use std::sync::{Mutex, PoisonError};

use pyo3::{Python, ffi};

/// How many guards stand, and whether the first of them found the collector on.
static STANDING: Mutex<(usize, bool)> = Mutex::new((0, false));

/// Holds the collector off until dropped; the last guard restores what the first one changed, and nothing else.
pub(crate) struct HeldOff<'py> {
    process: u32,
    attached: PhantomData<Python<'py>>,
}

impl<'py> HeldOff<'py> {
    pub(crate) fn new(_py: Python<'py>) -> Self {
        let mut standing = STANDING.lock().unwrap_or_else(PoisonError::into_inner);
        if standing.0 == 0 {
            // SAFETY: the interpreter is attached; both functions only set a flag.
            standing.1 = unsafe { ffi::PyGC_Disable() } != 0;
        }
        standing.0 += 1;
        Self { process: std::process::id(), attached: PhantomData }
    }
}

/// Puts the collector right in a process that was forked while guards stood, whose threads are not here to take them down.
pub(crate) fn release(_py: Python<'_>) {
    let (guards, found_on) = std::mem::take(&mut *STANDING.lock().unwrap_or_else(PoisonError::into_inner));
    if guards > 0 && found_on {
        // SAFETY: as above.
        unsafe { ffi::PyGC_Enable() };
    }
}

impl Drop for HeldOff<'_> {
    fn drop(&mut self) {
        // A guard of the thread that has forked; in the child all were taken down at once.
        if self.process != std::process::id() {
            return;
        }
        let mut standing = STANDING.lock().unwrap_or_else(PoisonError::into_inner);
        standing.0 -= 1;
        if standing.0 == 0 && standing.1 {
            // SAFETY: as above; the guard holds the attachment.
            unsafe { ffi::PyGC_Enable() };
        }
    }
}
