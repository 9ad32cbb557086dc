//! What holds for the rows of a call: its policy, and what rows that trust others have led to.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use loamy::{Error, Idempotency, Policy, TlsProfile};
use pyo3::prelude::*;

use super::trust::Wanted;

/// Profiles of rows kept, for the rows that follow. More hosts with a bundle of their own are rare, and cost only time.
const KEPT: usize = 64;

/// What becomes of the tags of rows.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tags {
    /// They come back with the outcomes, and may be anything.
    OnlyCarried,
    /// Keys are made of them.
    Read,
}

/// What holds for the rows of a call.
pub(crate) struct Terms {
    pub(super) policy: Policy,
    pub(super) tags: Tags,
    pub(super) wanted: Wanted,
    /// Latest first. A bundle that cannot be read is looked for once as well.
    made: Mutex<Vec<(Wanted, Result<TlsProfile, Error>)>>,
    unverified: Once,
}

/// What is to be said once.
#[derive(Default)]
struct Once {
    happened: AtomicBool,
    told: AtomicBool,
}

impl Terms {
    pub(super) fn new(policy: Policy, wanted: Wanted) -> Self {
        let makes_keys = policy.idempotency != Idempotency::AsGiven;
        let tags = if makes_keys { Tags::Read } else { Tags::OnlyCarried };
        Self { policy, tags, wanted, made: Mutex::default(), unverified: Once::default() }
    }

    pub(crate) fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Rows are sent again, and may have had keys that are made of their tags.
    pub(crate) fn read_tags(&mut self) {
        self.tags = Tags::Read;
    }

    /// Has rows carry these fields where neither they nor the policy have them.
    pub(crate) fn carry(&mut self, fields: &[(String, String)]) {
        for (name, value) in fields {
            if self.policy.headers.view().get(name).is_none() {
                // What is no field stays away: no call fails for what others wanted to write on it.
                let _ = self.policy.headers.append(name, value);
            }
        }
    }

    /// Whether rows were read that want no verification although the policy does; says so once.
    pub(crate) fn take_unverified(&self) -> bool {
        self.unverified.happened.load(Ordering::Relaxed)
            && !self.unverified.told.swap(true, Ordering::Relaxed)
    }

    /// The profile of a row that wants something of its own; None where that is what the policy wants.
    ///
    /// # Errors
    /// The outer one only for what is no `Exception`; the inner one is that of the row.
    pub(super) fn profile(
        &self,
        py: Python<'_>,
        wanted: Wanted,
    ) -> PyResult<Result<Option<TlsProfile>, Error>> {
        if wanted == self.wanted {
            return Ok(Ok(None));
        }
        let fallback = wanted.fallback(py)?;
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let profile = match made.iter().position(|(known, _)| *known == wanted) {
            Some(position) => {
                made[..=position].rotate_right(1);
                made[0].1.clone()
            }
            None => {
                let fresh = wanted.build(fallback);
                made.truncate(KEPT - 1);
                made.insert(0, (wanted, fresh.clone()));
                fresh
            }
        };
        drop(made);
        if self.policy.tls.is_verified() && profile.as_ref().is_ok_and(|profile| !profile.is_verified()) {
            self.unverified.happened.store(true, Ordering::Relaxed);
        }
        Ok(profile.map(Some))
    }
}
