//! The kinds of failure: one table, from which the Python classes, the documentation and the report names are made.

use std::fmt;

/// What went wrong, as a stable word: the same in Rust, Python, reports and files.
///
/// A status of 4xx or 5xx is a response, not an error. That an effect is unknown is a flag on any error
/// ([`Error::in_doubt`](crate::Error::in_doubt)), never a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Kind {
    /// The row itself is wrong: its URL, method, a header, the body or an option.
    BadRequest,
    /// A guard forbids the row: scheme, https to http, private address.
    Blocked,
    /// The name has no address, or the look-up failed.
    Dns,
    /// No connection could be made.
    Connect,
    /// The peer refused the connection.
    ConnectRefused,
    /// No route to the peer.
    ConnectUnreachable,
    /// The proxy refused or failed.
    Proxy,
    /// The TLS handshake failed.
    TlsHandshake,
    /// The peer's certificate is not trusted.
    TlsCertificate,
    /// No connection or stream became free in time.
    TimeoutAcquire,
    /// The look-up of the name took too long.
    TimeoutResolve,
    /// The connection took too long.
    TimeoutConnect,
    /// The TLS handshake took too long.
    TimeoutTls,
    /// The peer did not take the request in time.
    TimeoutWrite,
    /// The first byte of the response did not come in time.
    TimeoutFirstByte,
    /// The response paused for too long.
    TimeoutRead,
    /// The row as a whole took too long.
    TimeoutTotal,
    /// The connection ended before the response head.
    Closed,
    /// The peer said that it did not process the request.
    Refused,
    /// The response ended early.
    Incomplete,
    /// The response is malformed.
    Protocol,
    /// The response's head, body or decoded body passes a limit.
    TooLarge,
    /// The content coding could not be undone.
    Decode,
    /// Too many redirects, or one that leads nowhere.
    Redirect,
    /// The body is not JSON where JSON was promised (the contract classes only).
    NotJson,
    /// The row was never sent.
    NotSent,
    /// The row was interrupted in flight.
    Cancelled,
    /// A bug in this library, confined to one row.
    Internal,
}

/// Whether a row that failed in a certain way may be sent again, and on what ground.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resend {
    /// The same would happen again.
    Never,
    /// Nothing of the row reached the peer: harmless for any method.
    Safe,
    /// Only with proof that nothing happened, an idempotent method or key, or the caller's permission.
    ByProof,
    /// Only where the method, a key or the caller permits it.
    ByPermission,
    /// The question does not arise.
    NotApplicable,
}

/// One row of [`KINDS`].
#[derive(Clone, Copy, Debug)]
pub struct KindRow {
    /// The kind that the row describes.
    pub kind: Kind,
    /// Its stable name, as in `timeout.connect`.
    pub name: &'static str,
    /// The Python exception class.
    pub class: &'static str,
    /// The builtin classes that the Python class also is.
    pub parents: &'static [&'static str],
    /// Whether such a row may be sent again.
    pub resend: Resend,
    /// When it happens, in one phrase.
    pub when: &'static str,
}

macro_rules! kinds {
    ($($kind:ident $name:literal $class:literal [$($parent:literal),*] $resend:ident $when:literal;)*) => {
        /// Every kind, in the order of [`Kind`].
        pub const KINDS: &[KindRow] = &[$(KindRow {
            kind: Kind::$kind,
            name: $name,
            class: $class,
            parents: &[$($parent),*],
            resend: Resend::$resend,
            when: $when,
        }),*];
    };
}

kinds! {
    BadRequest "bad_request" "InvalidRequest" ["ValueError"] Never "URL, method, header, body or option of the row";
    Blocked "blocked" "Blocked" ["ValueError"] Never "a guard forbids it";
    Dns "dns" "DNSError" ["ConnectionError"] Safe "the name has no address, or the look-up failed";
    Connect "connect" "ConnectError" ["ConnectionError"] Safe "no connection";
    ConnectRefused "connect.refused" "ConnectError" ["ConnectionError"] Safe "the peer refused the connection";
    ConnectUnreachable "connect.unreachable" "ConnectError" ["ConnectionError"] Safe "no route to the peer";
    Proxy "proxy" "ProxyError" ["ConnectionError"] Safe "the proxy refused or failed";
    TlsHandshake "tls.handshake" "TLSError" ["ConnectionError", "ssl.SSLError"] Safe "the TLS handshake failed";
    TlsCertificate "tls.certificate" "CertificateError" ["ssl.SSLCertVerificationError"] Never "the peer's certificate is not trusted";
    TimeoutAcquire "timeout.acquire" "ConnectTimeout" ["TimeoutError", "ConnectionError"] Safe "no connection became free in time";
    TimeoutResolve "timeout.resolve" "ConnectTimeout" ["TimeoutError", "ConnectionError"] Safe "the look-up took too long";
    TimeoutConnect "timeout.connect" "ConnectTimeout" ["TimeoutError", "ConnectionError"] Safe "the connection took too long";
    TimeoutTls "timeout.tls" "ConnectTimeout" ["TimeoutError", "ConnectionError"] Safe "the TLS handshake took too long";
    TimeoutWrite "timeout.write" "WriteTimeout" ["TimeoutError"] ByProof "the peer did not take the request in time";
    TimeoutFirstByte "timeout.first_byte" "ReadTimeout" ["TimeoutError"] ByProof "the response did not begin in time";
    TimeoutRead "timeout.read" "ReadTimeout" ["TimeoutError"] ByProof "the response paused for too long";
    TimeoutTotal "timeout.total" "TotalTimeout" ["TimeoutError"] ByProof "the row as a whole took too long";
    Closed "closed" "ConnectionClosed" ["ConnectionError"] ByProof "the connection ended before the response head";
    Refused "refused" "Refused" ["ConnectionError"] Safe "the peer did not process the request and said so";
    Incomplete "incomplete" "IncompleteResponse" ["ConnectionError"] ByPermission "the response ended early";
    Protocol "protocol" "ProtocolError" [] ByPermission "malformed response";
    TooLarge "too_large" "TooLarge" [] Never "head, body or decoded body passes a limit";
    Decode "decode" "DecodeError" ["ValueError"] Never "the content coding could not be undone";
    Redirect "redirect" "TooManyRedirects" [] Never "too many redirects, or a bad Location";
    NotJson "not_json" "JSONDecodeError" ["json.JSONDecodeError"] NotApplicable "the body is not JSON; the answer stands";
    NotSent "not_sent" "NotSent" [] NotApplicable "deadline, breaker, fail-fast, long pause or interrupt: never sent";
    Cancelled "cancelled" "Cancelled" [] NotApplicable "interrupted in flight";
    Internal "internal" "InternalError" ["RuntimeError"] NotApplicable "a bug, confined to this row";
}

impl Kind {
    /// The stable name, as in `timeout.connect`.
    pub const fn name(self) -> &'static str {
        self.row().name
    }

    /// Whether a time limit passed.
    pub(crate) fn is_timeout(self) -> bool {
        self.name().starts_with("timeout.")
    }

    /// The whole row of the table.
    pub const fn row(self) -> &'static KindRow {
        &KINDS[self as usize]
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_stands_in_the_order_of_the_kinds() {
        for (position, row) in KINDS.iter().enumerate() {
            assert_eq!(row.kind as usize, position, "{}", row.name);
            assert_eq!(row.kind.name(), row.name);
        }
        assert_eq!(KINDS.len(), Kind::Internal as usize + 1);
    }

    #[test]
    fn names_are_words_of_lower_case_and_occur_once() {
        let mut names: Vec<_> = KINDS.iter().map(|row| row.name).collect();
        assert!(
            names
                .iter()
                .all(|name| { name.bytes().all(|b| b.is_ascii_lowercase() || b == b'.' || b == b'_') })
        );
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), KINDS.len());
    }
}
