//! What all connections of a client share, whichever of its threads makes them.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use super::dns::Resolver;
use super::tls::Configs;
use crate::target::Origin;

/// Names looked up, TLS settings and sessions, and what was learned of peers.
#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) resolver: Arc<Resolver>,
    pub(crate) tls: Configs,
    without_http2: Known,
    speaking_unasked: Known,
}

/// Origins of which the same was found out.
#[derive(Debug, Default)]
struct Known {
    origins: Mutex<HashSet<Arc<Origin>>>,
    /// Whether there is any, so that nobody takes the lock for none.
    is_any: AtomicBool,
}

impl Known {
    fn add(&self, origin: &Arc<Origin>) {
        self.origins.lock().unwrap_or_else(PoisonError::into_inner).insert(Arc::clone(origin));
        self.is_any.store(true, Ordering::Release);
    }

    fn has(&self, origin: &Origin) -> bool {
        self.is_any.load(Ordering::Acquire)
            && self.origins.lock().unwrap_or_else(PoisonError::into_inner).contains(origin)
    }
}

impl Network {
    pub(crate) fn new(resolver: Resolver) -> Self {
        Self {
            resolver: Arc::new(resolver),
            tls: Configs::default(),
            without_http2: Known::default(),
            speaking_unasked: Known::default(),
        }
    }

    /// The peer asked for HTTP/1.1 in the middle of HTTP/2 (RFC 9113 §7, HTTP_1_1_REQUIRED).
    pub(crate) fn forgo_http2(&self, origin: &Arc<Origin>) {
        self.without_http2.add(origin);
    }

    /// Whether HTTP/2 is not to be spoken with it.
    pub(crate) fn forgoes_http2(&self, origin: &Origin) -> bool {
        self.without_http2.has(origin)
    }

    /// The peer sent what answers nothing. What it sends next may be taken for the answer to another row (RFC 9112 §9.2), so from
    /// here on a connection to it carries one row, whichever thread has it.
    pub(crate) fn spoke_unasked(&self, origin: &Arc<Origin>) {
        self.speaking_unasked.add(origin);
    }

    /// Whether it ever did so.
    pub(crate) fn speaks_unasked(&self, origin: &Origin) -> bool {
        self.speaking_unasked.has(origin)
    }
}
