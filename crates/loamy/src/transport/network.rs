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
    without_http2: Mutex<HashSet<Arc<Origin>>>,
    /// Whether there is any, so that nobody takes the lock for none.
    any_without_http2: AtomicBool,
}

impl Network {
    pub(crate) fn new(resolver: Resolver) -> Self {
        Self {
            resolver: Arc::new(resolver),
            tls: Configs::default(),
            without_http2: Mutex::default(),
            any_without_http2: AtomicBool::new(false),
        }
    }

    /// The peer asked for HTTP/1.1 in the middle of HTTP/2 (RFC 9113 §7, HTTP_1_1_REQUIRED).
    pub(crate) fn forgo_http2(&self, origin: &Arc<Origin>) {
        self.without_http2.lock().unwrap_or_else(PoisonError::into_inner).insert(Arc::clone(origin));
        self.any_without_http2.store(true, Ordering::Release);
    }

    /// Whether HTTP/2 is not to be spoken with it.
    pub(crate) fn forgoes_http2(&self, origin: &Origin) -> bool {
        self.any_without_http2.load(Ordering::Acquire)
            && self.without_http2.lock().unwrap_or_else(PoisonError::into_inner).contains(origin)
    }
}
