//! How a batch is to be sent: plain values, each with its default and the reason.

mod conduct;

use std::time::Duration;

pub use conduct::{Adaptive, Backoff, Duplicates, Governor, Hedging, Idempotency, Retried};

use crate::headers::Headers;
use crate::rate::Limit;
use crate::tls::TlsProfile;
use crate::{Error, Kind, framing};

/// How a batch is sent. Its own builder: `Policy::default().concurrency(256).per_host(8)`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Policy {
    /// Rows in flight at once, over all origins. 100, the figure that users of aiohttp are used to; never more than
    /// the process may open descriptors.
    pub concurrency: usize,
    /// Rows in flight at once for one scheme, host and port, and one `limit_key`. None: only `concurrency` binds.
    pub per_host: Option<usize>,
    /// Threads that work for this batch at most. None: as many as the client has and the work is worth.
    pub threads: Option<usize>,
    /// How long each phase of a row may take.
    pub timeouts: Timeouts,
    /// How long the batch may take in all. None. Rows not sent by then end as `not_sent`, rows
    /// in flight as `timeout.total`, rows without a connection as `timeout.connect`.
    pub deadline: Option<Duration>,
    /// How often a row is sent again at the most that failed or was answered 408, 425, 429, 500, 502, 503 or 504: 0. What
    /// provably had no effect is sent again besides, as ever.
    pub retries: u32,
    /// Which rows that holds for.
    pub retried: Retried,
    /// How long they wait before it.
    pub backoff: Backoff,
    /// The longest wait that a peer may ask for: 60 s. Beyond it a row ends with what it has, and those that wait for the
    /// origin are not sent.
    pub max_pause: Duration,
    /// Whether what origins say about their limits is obeyed.
    pub governor: Governor,
    /// How fast rows are sent. Empty: as fast as they go.
    pub limits: Vec<Limit>,
    /// How `concurrency` is shared out to an origin. None: as much as is free.
    pub adaptive: Option<Adaptive>,
    /// After how many failed rows (an error, or a status of 400 and above) no further row is sent. None.
    pub max_failures: Option<u64>,
    /// After how many rows that failed by the fault of their origin (no connection, no answer, 408, 429, 5xx) no further row
    /// is sent there. None.
    pub max_failures_per_host: Option<u64>,
    /// Whether rows get an `Idempotency-Key`.
    pub idempotency: Idempotency,
    /// What becomes of rows that ask for the same.
    pub duplicates: Duplicates,
    /// Whether a row that takes long gets a second try beside the first.
    pub hedging: Hedging,
    /// Redirects followed for a row: 10. With 0 the redirect itself is the response.
    pub max_redirects: u16,
    /// What guards memory.
    pub sizes: Sizes,
    /// Fields for every row that does not set them itself.
    pub headers: Headers,
    /// How peers are known that speak TLS, and what must be spoken with them at the least.
    pub tls: TlsProfile,
    /// Which version of HTTP is spoken: what the peer chooses, of what `https` peers can be asked for in the handshake.
    pub http_version: HttpVersion,
    /// HTTP/2 connections to one origin at most, over all threads. None: as many as the rows in flight fill.
    pub h2_connections: Option<usize>,
    /// Rows side by side on one HTTP/2 connection at most: 100, which most servers allow. The peer's own limit holds
    /// besides.
    pub h2_streams: usize,
    /// After how much silence an HTTP/2 peer that owes an answer is asked whether it is there (PING), and how long it
    /// has to say so: 15 s, as it takes most firewalls longer to forget a connection. None: it is not asked.
    pub h2_ping: Option<Duration>,
    /// Whether a redirect may lead from `https` to `http`.
    pub downgrade: Downgrade,
    /// Names of fields dropped, with Authorization, Cookie and Proxy-Authorization, when a redirect leaves the origin.
    pub secret_headers: Vec<String>,
}

/// Which version of HTTP is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HttpVersion {
    /// HTTP/2 with `https` peers that choose it in the handshake (ALPN, RFC 7301), else HTTP/1.1.
    #[default]
    Auto,
    /// HTTP/1.1 alone.
    Http1,
    /// HTTP/2 alone: in the handshake nothing else is offered, and `http` peers are known to speak it (RFC 9113 §3.3).
    Http2,
}

/// Whether a redirect may lead from `https` to `http`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Downgrade {
    /// Such a row ends as `blocked`: what was kept from others would be there for all to read.
    #[default]
    Refuse,
    /// It is followed like any other.
    Allow,
}

/// How long each phase of a row may take. The clock of a row starts when it takes its slot, not while it waits for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Timeouts {
    /// From the slot to having a connection, a new one's making included.
    pub acquire: Option<Duration>,
    /// The look-up of the name.
    pub resolve: Option<Duration>,
    /// The TCP connection, all addresses tried: 30 s, as aiohttp.
    pub connect: Option<Duration>,
    /// The TLS handshake: 30 s, so that a peer that is silent in it does not hold its row for as long as `total`.
    pub tls: Option<Duration>,
    /// Between two advances in sending the request.
    pub write: Option<Duration>,
    /// From the request's last byte to the response's first.
    pub first_byte: Option<Duration>,
    /// Between two advances of the response.
    pub read: Option<Duration>,
    /// The row as a whole, redirects included; a retry by permission has all of it anew. 300 s, as aiohttp.
    pub total: Option<Duration>,
}

/// The guards of memory, each in bytes or pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sizes {
    /// Response head: 256 KiB, curl's order of magnitude.
    pub head: usize,
    /// Fields in a response head: 256.
    pub fields: usize,
    /// Response body, before and after decoding: 1 GiB.
    pub body: u64,
    /// Content codings on top of each other: 5, as curl.
    pub codings: usize,
    /// Informational responses before the final one: 100.
    pub informational: usize,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            concurrency: 100,
            per_host: None,
            threads: None,
            timeouts: Timeouts::default(),
            deadline: None,
            retries: 0,
            retried: Retried::Idempotent,
            backoff: Backoff::default(),
            max_pause: Duration::from_secs(60),
            governor: Governor::On,
            limits: Vec::new(),
            adaptive: None,
            max_failures: None,
            max_failures_per_host: None,
            idempotency: Idempotency::AsGiven,
            duplicates: Duplicates::Send,
            hedging: Hedging::Off,
            max_redirects: 10,
            sizes: Sizes::default(),
            headers: Headers::new(),
            tls: TlsProfile::default(),
            http_version: HttpVersion::Auto,
            h2_connections: None,
            h2_streams: 100,
            h2_ping: Some(Duration::from_secs(15)),
            downgrade: Downgrade::Refuse,
            secret_headers: Vec::new(),
        }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            acquire: None,
            resolve: None,
            connect: Some(Duration::from_secs(30)),
            tls: Some(Duration::from_secs(30)),
            write: None,
            first_byte: None,
            read: None,
            total: Some(Duration::from_secs(300)),
        }
    }
}

impl Default for Sizes {
    fn default() -> Self {
        Self { head: 256 << 10, fields: 256, body: 1 << 30, codings: 5, informational: 100 }
    }
}

impl Policy {
    /// Sets how many rows may be in flight at once.
    pub fn concurrency(mut self, rows: usize) -> Self {
        self.concurrency = rows;
        self
    }

    /// Sets how many rows may be in flight at once for one origin.
    pub fn per_host(mut self, rows: usize) -> Self {
        self.per_host = Some(rows);
        self
    }

    /// Sets how many threads may work for the batch.
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = Some(threads);
        self
    }

    /// Sets how long each phase may take.
    pub fn timeouts(mut self, timeouts: Timeouts) -> Self {
        self.timeouts = timeouts;
        self
    }

    /// Sets how long a row may take in all.
    pub fn timeout(mut self, total: Duration) -> Self {
        self.timeouts.total = Some(total);
        self
    }

    /// Sets how long the batch may take in all.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Sets how often a row is sent again at the most.
    pub fn retries(mut self, times: u32) -> Self {
        self.retries = times;
        self
    }

    /// Sets which rows are sent again whose effect is not known.
    pub fn retried(mut self, rows: Retried) -> Self {
        self.retried = rows;
        self
    }

    /// Sets how long a row waits before it is sent again.
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// Sets the longest wait that a peer may ask for.
    pub fn max_pause(mut self, pause: Duration) -> Self {
        self.max_pause = pause;
        self
    }

    /// Sets whether what origins say about their limits is obeyed.
    pub fn governor(mut self, governor: Governor) -> Self {
        self.governor = governor;
        self
    }

    /// Adds a limit.
    pub fn limit(mut self, limit: Limit) -> Self {
        self.limits.push(limit);
        self
    }

    /// Has the number of rows in flight for an origin found on the way.
    pub fn adaptive(mut self, manner: Adaptive) -> Self {
        self.adaptive = Some(manner);
        self
    }

    /// Sets after how many failed rows no further row is sent.
    pub fn max_failures(mut self, rows: u64) -> Self {
        self.max_failures = Some(rows);
        self
    }

    /// Sets after how many rows that failed by the fault of their origin no further row is sent there.
    pub fn max_failures_per_host(mut self, rows: u64) -> Self {
        self.max_failures_per_host = Some(rows);
        self
    }

    /// Sets whether rows get an `Idempotency-Key`.
    pub fn idempotency(mut self, idempotency: Idempotency) -> Self {
        self.idempotency = idempotency;
        self
    }

    /// Sets what becomes of rows that ask for the same.
    pub fn duplicates(mut self, duplicates: Duplicates) -> Self {
        self.duplicates = duplicates;
        self
    }

    /// Sets whether a row that takes long gets a second try.
    pub fn hedging(mut self, hedging: Hedging) -> Self {
        self.hedging = hedging;
        self
    }

    /// Sets how many redirects are followed.
    pub fn max_redirects(mut self, redirects: u16) -> Self {
        self.max_redirects = redirects;
        self
    }

    /// Sets the guards of memory.
    pub fn sizes(mut self, sizes: Sizes) -> Self {
        self.sizes = sizes;
        self
    }

    /// Sets the fields for every row that does not set them itself.
    pub fn headers(mut self, headers: Headers) -> Self {
        self.headers = headers;
        self
    }

    /// Sets how peers are known that speak TLS.
    pub fn tls(mut self, profile: TlsProfile) -> Self {
        self.tls = profile;
        self
    }

    /// Sets which version of HTTP is spoken.
    pub fn http_version(mut self, version: HttpVersion) -> Self {
        self.http_version = version;
        self
    }

    /// Sets how many HTTP/2 connections there may be to one origin.
    pub fn h2_connections(mut self, connections: usize) -> Self {
        self.h2_connections = Some(connections);
        self
    }

    /// Sets how many rows may be side by side on one HTTP/2 connection.
    pub fn h2_streams(mut self, streams: usize) -> Self {
        self.h2_streams = streams;
        self
    }

    /// Sets after how much silence an HTTP/2 peer is asked whether it is there.
    pub fn h2_ping(mut self, silence: impl Into<Option<Duration>>) -> Self {
        self.h2_ping = silence.into();
        self
    }

    /// Sets whether a redirect may lead from `https` to `http`.
    pub fn downgrade(mut self, downgrade: Downgrade) -> Self {
        self.downgrade = downgrade;
        self
    }

    /// Says what is wrong with the policy, if anything.
    ///
    /// # Errors
    /// `bad_request` naming the field, with what it may be.
    pub fn validate(&self) -> Result<(), Error> {
        let at_least_one = [
            ("concurrency", self.concurrency),
            ("per_host", self.per_host.unwrap_or(1)),
            ("threads", self.threads.unwrap_or(1)),
            ("h2_connections", self.h2_connections.unwrap_or(1)),
            ("h2_streams", self.h2_streams),
            ("max_failures", self.max_failures.unwrap_or(1) as usize),
            ("max_failures_per_host", self.max_failures_per_host.unwrap_or(1) as usize),
            ("sizes.head", self.sizes.head),
            ("sizes.fields", self.sizes.fields),
        ];
        for (name, value) in at_least_one {
            if value == 0 {
                return Err(Error::new(Kind::BadRequest, format!("{name} is 0; it must be 1 or more")));
            }
        }
        let timeouts = &self.timeouts;
        let spans = [
            ("timeouts.acquire", timeouts.acquire),
            ("timeouts.resolve", timeouts.resolve),
            ("timeouts.connect", timeouts.connect),
            ("timeouts.tls", timeouts.tls),
            ("timeouts.write", timeouts.write),
            ("timeouts.first_byte", timeouts.first_byte),
            ("timeouts.read", timeouts.read),
            ("timeouts.total", timeouts.total),
            ("deadline", self.deadline),
            ("h2_ping", self.h2_ping),
        ];
        for (name, span) in spans {
            if span.is_some_and(|span| span.is_zero()) {
                return Err(Error::new(Kind::BadRequest, format!("{name} is 0; leave it out for no limit")));
            }
        }
        if let Hedging::After(span) = self.hedging
            && span.is_zero()
        {
            return Err(Error::new(Kind::BadRequest, "hedging after 0 s would send every row twice"));
        }
        for (at, limit) in self.limits.iter().enumerate() {
            let same = |other: &&Limit| other.name() == limit.name() && other.scope() == limit.scope();
            if let Some(twice) = self.limits[..at].iter().find(same) {
                let text =
                    format!("limit {:?} is given twice: {} and {}", limit.name(), twice.rate(), limit.rate());
                return Err(Error::new(Kind::BadRequest, text));
            }
        }
        if let Idempotency::Auto { job } = &self.idempotency
            && job.is_empty()
        {
            return Err(Error::new(
                Kind::BadRequest,
                "the job that idempotency keys are made of has no name",
            ));
        }
        framing::check_defaults(self.headers.view())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zero_is_refused_by_name() {
        for (policy, name) in [
            (Policy::default().concurrency(0), "concurrency"),
            (Policy::default().per_host(0), "per_host"),
            (Policy::default().threads(0), "threads"),
            (Policy::default().timeout(Duration::ZERO), "timeouts.total"),
            (Policy::default().deadline(Duration::ZERO), "deadline"),
            (Policy::default().h2_connections(0), "h2_connections"),
            (Policy::default().h2_streams(0), "h2_streams"),
            (Policy::default().h2_ping(Duration::ZERO), "h2_ping"),
            (Policy::default().max_failures(0), "max_failures"),
            (Policy::default().max_failures_per_host(0), "max_failures_per_host"),
        ] {
            let error = policy.validate().unwrap_err();
            assert!(error.message().starts_with(&format!("{name} is 0")), "{error}");
        }
        assert!(Policy::default().validate().is_ok());
    }
}
