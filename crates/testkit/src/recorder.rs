//! Writes the log, and wakes those who wait for something in it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::Clock;
use crate::http2::Http2Log;
use crate::log::{ConnectionLog, Ending, KEPT_BYTES, Log, RequestLog, TlsLog};
use crate::options::Protocol;
use crate::request::Head;

/// Where the server's thread writes and the tests read.
pub(crate) struct Recorder {
    log: Mutex<Log>,
    changed: Condvar,
    waiting: AtomicUsize,
    clock: Clock,
    keep: bool,
}

impl Recorder {
    pub(crate) fn new(keep: bool, clock: Clock) -> Recorder {
        Recorder { log: Mutex::default(), changed: Condvar::new(), waiting: AtomicUsize::new(0), clock, keep }
    }

    /// A condition that panics inside `wait_for` must not take the server along.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<R>(&self, change: impl FnOnce(&mut Log) -> R) -> R {
        let result = change(&mut self.lock());
        // Waking nobody is a system call all the same. The lock orders this load after the
        // addition of anyone who looked at the log before the change.
        if self.waiting.load(Ordering::Relaxed) > 0 {
            self.changed.notify_all();
        }
        result
    }

    pub(crate) fn accepted(&self, peer: SocketAddr) -> usize {
        let opened = self.clock.now();
        self.change(|log| {
            let number = log.counts.connections as usize;
            log.counts.connections += 1;
            if self.keep {
                log.connections.push(ConnectionLog {
                    number,
                    peer,
                    opened,
                    ended: None,
                    requests: 0,
                    received: 0,
                    bytes: Vec::new(),
                    tls: None,
                    http2: None,
                });
            }
            number
        })
    }

    pub(crate) fn opened(&self) {
        self.change(|log| {
            log.counts.open += 1;
            log.counts.max_open = log.counts.max_open.max(log.counts.open);
        });
    }

    pub(crate) fn secured(&self, connection: usize, tls: TlsLog) {
        self.change(|log| {
            if tls.error.is_some() {
                log.counts.failed_handshakes += 1;
            } else {
                log.counts.handshakes += 1;
                log.counts.resumed += u64::from(tls.resumed);
            }
            if let Some(entry) = log.connections.get_mut(connection) {
                entry.tls = Some(tls);
            }
        });
    }

    /// What the frames of a connection said so far; `first` the first time.
    pub(crate) fn http2(&self, connection: usize, seen: &Http2Log, first: bool) {
        self.change(|log| {
            log.counts.http2 += u64::from(first);
            log.counts.max_streams = log.counts.max_streams.max(u64::from(seen.max_open));
            if let Some(entry) = log.connections.get_mut(connection) {
                entry.http2 = Some(seen.clone());
            }
        });
    }

    pub(crate) fn ended(&self, connection: usize, ending: Ending) {
        let at = self.clock.now();
        self.change(|log| {
            log.counts.open -= 1;
            log.counts.ended += 1;
            if let Some(entry) = log.connections.get_mut(connection) {
                entry.ended = Some((at, ending));
            }
        });
    }

    pub(crate) fn received(&self, connection: usize, bytes: &[u8]) {
        self.change(|log| {
            log.counts.bytes_received += bytes.len() as u64;
            if let Some(entry) = log.connections.get_mut(connection) {
                entry.received += bytes.len() as u64;
                let room = KEPT_BYTES.saturating_sub(entry.bytes.len());
                entry.bytes.extend_from_slice(&bytes[..bytes.len().min(room)]);
            }
        });
    }

    /// Counts a request as in flight; the result names its entry, if the log is kept.
    pub(crate) fn request(&self, connection: usize, raw: &[u8], head: &Head<'_>) -> Option<usize> {
        let arrived = self.clock.now();
        self.change(|log| {
            log.counts.requests += 1;
            log.counts.in_flight += 1;
            log.counts.max_in_flight = log.counts.max_in_flight.max(log.counts.in_flight);
            let entry = log.connections.get_mut(connection)?;
            let number = entry.requests;
            entry.requests += 1;
            log.requests.push(RequestLog {
                connection,
                number,
                method: head.method.to_owned(),
                target: head.target.to_owned(),
                head: raw.to_vec(),
                headers: (head.headers.iter())
                    .map(|header| (header.name.to_owned(), header.value.to_vec()))
                    .collect(),
                body: Vec::new(),
                complete: false,
                arrived,
                http: if head.stream.is_some() { Protocol::Http2 } else { Protocol::Http11 },
                stream: head.stream,
                scheme: head.scheme.map(str::to_owned),
                authority: head.authority.map(str::to_owned),
            });
            Some(log.requests.len() - 1)
        })
    }

    pub(crate) fn body(&self, request: Option<usize>, body: &[u8], complete: bool) {
        let Some(request) = request else { return };
        self.change(|log| {
            log.requests[request].body.extend_from_slice(body);
            log.requests[request].complete = complete;
        });
    }

    pub(crate) fn answered(&self) {
        self.change(|log| log.counts.in_flight -= 1);
    }

    pub(crate) fn failed(&self, failure: String) {
        self.change(|log| log.failures.push(failure));
    }

    /// Waits until `condition` holds; the log as it is then, or at the timeout.
    pub(crate) fn wait_for(
        &self,
        mut condition: impl FnMut(&Log) -> bool,
        timeout: Duration,
    ) -> Result<Log, Box<Log>> {
        let mut held = false;
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let waited = self.changed.wait_timeout_while(self.lock(), timeout, |log| {
            held = condition(log);
            !held
        });
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        let log = waited.unwrap_or_else(PoisonError::into_inner).0.clone();
        if held { Ok(log) } else { Err(Box::new(log)) }
    }
}
