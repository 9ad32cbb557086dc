//! How a batch is to be sent: plain values, each with its default and the reason.

use std::time::Duration;

use crate::headers::Headers;
use crate::{Error, Kind, framing};

/// How a batch is sent. Its own builder: `Policy::default().concurrency(256).per_host(8)`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Policy {
    /// Rows in flight at once, over all origins. 100, the figure that users of aiohttp are used to; never more than
    /// the process may open descriptors.
    pub concurrency: usize,
    /// Rows in flight at once for one scheme, host and port. None: only `concurrency` binds.
    pub per_host: Option<usize>,
    /// Threads that work for this batch at most. None: as many as the client has and the work is worth.
    pub threads: Option<usize>,
    /// How long each phase of a row may take.
    pub timeouts: Timeouts,
    /// How long the batch may take in all. None. Rows not sent by then end as `not_sent`, rows
    /// in flight as `timeout.total`, rows without a connection as `timeout.connect`.
    pub deadline: Option<Duration>,
    /// Redirects followed for a row: 10. With 0 the redirect itself is the response.
    pub max_redirects: u16,
    /// What guards memory.
    pub sizes: Sizes,
    /// Fields for every row that does not set them itself.
    pub headers: Headers,
    /// Names of fields dropped, with Authorization, Cookie and Proxy-Authorization, when a redirect leaves the origin.
    pub secret_headers: Vec<String>,
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
    /// The TLS handshake.
    pub tls: Option<Duration>,
    /// Between two advances in sending the request.
    pub write: Option<Duration>,
    /// From the request's last byte to the response's first.
    pub first_byte: Option<Duration>,
    /// Between two advances of the response.
    pub read: Option<Duration>,
    /// The row as a whole, redirects included: 300 s, as aiohttp.
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
            max_redirects: 10,
            sizes: Sizes::default(),
            headers: Headers::new(),
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
            tls: None,
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

    /// Says what is wrong with the policy, if anything.
    ///
    /// # Errors
    /// `bad_request` naming the field, with what it may be.
    pub fn validate(&self) -> Result<(), Error> {
        let at_least_one = [
            ("concurrency", self.concurrency),
            ("per_host", self.per_host.unwrap_or(1)),
            ("threads", self.threads.unwrap_or(1)),
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
        ];
        for (name, span) in spans {
            if span.is_some_and(|span| span.is_zero()) {
                return Err(Error::new(Kind::BadRequest, format!("{name} is 0; leave it out for no limit")));
            }
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
        ] {
            let error = policy.validate().unwrap_err();
            assert!(error.message().starts_with(&format!("{name} is 0")), "{error}");
        }
        assert!(Policy::default().validate().is_ok());
    }
}
