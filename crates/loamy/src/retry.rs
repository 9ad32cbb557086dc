//! Whether a row that failed goes out again: one rule, a function of values.
//!
//! 1. What would fail the same way again never does.
//! 2. With proof that nothing happened (not one byte of it was taken), any method does, at most [`SENDINGS`] times in all.
//! 3. On a connection that died without a byte of response, though not for the row's sake, an idempotent or keyed row does
//!    on a new one (RFC 9110 §9.2.2): once where it had served another row (RFC 9112 §9.3.1); at most [`SENDINGS`] times in
//!    all where the peer had said that it would end (GOAWAY without an error, RFC 9113 §6.8).
//! 4. Beyond that only what the policy allows (`retries`): rows that are idempotent or keyed, or all; also those that were answered
//!    with a status that a second try may better ([`may_better`]). Without a connection, and with 429, nothing happened, so there any row does.
//! 5. Everything else ends here; in doubt where something was sent and a second effect would matter. An answer that came
//!    in part, or came whole and could not be decoded, does not help: who resends the row for it has its effect twice.

use crate::Kind;
use crate::kind::Resend;

/// How often a row is sent at the most on proof that nothing happened, or because the peer was about to end the connection.
pub(crate) const SENDINGS: u32 = 3;

/// What is known of a failed sending.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Failed {
    pub(crate) kind: Kind,
    /// Bytes of this sending that the operating system took, or may still be given.
    pub(crate) sent: u64,
    /// Bytes that came back.
    pub(crate) received: u64,
    /// Whether the connection had served a row before.
    pub(crate) reused: bool,
    /// Whether the peer had said that it would end the connection, for a reason of its own.
    pub(crate) was_to_end: bool,
    /// Whether the peer said that it has too much to do (ENHANCE_YOUR_CALM, RFC 9113 §7).
    pub(crate) asked_for_calm: bool,
}

impl Failed {
    /// No connection could be made.
    pub(crate) fn to_connect(kind: Kind) -> Self {
        Self { kind, sent: 0, received: 0, reused: false, was_to_end: false, asked_for_calm: false }
    }

    /// Whether the row may have had an effect. A peer of TLS 1.3 that does not let a client in says so when rows are on their
    /// way already, and looks at none of them (RFC 8446 §4.4.2.4).
    fn may_have_acted(self) -> bool {
        self.sent > 0 && !matches!(self.kind, Kind::Refused | Kind::TlsHandshake)
    }
}

/// What is known of the row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sender {
    pub(crate) idempotent: bool,
    /// Sendings so far, the failed one included.
    pub(crate) attempts: u32,
    /// Whether rule 3 was used already.
    pub(crate) outlived: bool,
    pub(crate) permission: Permission,
}

/// What the policy allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Permission {
    /// No retry, or no further one.
    None,
    Idempotent,
    All,
}

/// What becomes of the row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It goes out again by proof (rule 2).
    ByProof,
    /// It goes out again on a new connection (rule 3).
    OnNewConnection,
    /// It goes out again after a while, as the policy allows (rule 4).
    ByPermission { in_doubt: bool },
    /// It ends.
    End { in_doubt: bool },
}

/// The rule, where no whole answer came.
pub(crate) fn verdict(failed: Failed, sender: Sender) -> Verdict {
    let on_the_wire = matches!(failed.kind, Kind::Closed | Kind::Refused);
    if on_the_wire && (failed.sent == 0 || failed.kind == Kind::Refused) && sender.attempts < SENDINGS {
        return Verdict::ByProof;
    }
    let died_on_its_own =
        (failed.reused && !sender.outlived) || (failed.was_to_end && sender.attempts < SENDINGS);
    if failed.kind == Kind::Closed && failed.received == 0 && sender.idempotent && died_on_its_own {
        return Verdict::OnNewConnection;
    }
    let in_doubt = failed.may_have_acted() && !sender.idempotent;
    let can_help = !matches!(failed.kind.row().resend, Resend::Never | Resend::NotApplicable);
    let allowed = match sender.permission {
        Permission::None => false,
        Permission::Idempotent => !in_doubt,
        Permission::All => true,
    };
    if can_help && allowed { Verdict::ByPermission { in_doubt } } else { Verdict::End { in_doubt } }
}

/// The rule, where a whole answer came: whether the row goes out again as the policy allows.
pub(crate) fn may_better(status: u16, idempotent: bool, has_key: bool, permission: Permission) -> bool {
    match status {
        _ if permission == Permission::None => false,
        // RFC 6585 §4: it was refused, so nothing happened.
        429 => true,
        // The first sending with this key is still being worked on (draft-ietf-httpapi-idempotency-key-header §2.6).
        409 => has_key,
        408 | 425 | 500 | 502 | 503 | 504 => idempotent || permission == Permission::All,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[rustfmt::skip]
    fn the_rule_as_a_table() {
        use Kind::*;
        use Permission::{All, Idempotent, None};
        use Verdict::{ByProof, OnNewConnection};
        const END: Verdict = Verdict::End { in_doubt: false };
        const DOUBT: Verdict = Verdict::End { in_doubt: true };
        const AGAIN: Verdict = Verdict::ByPermission { in_doubt: false };
        const AGAIN_IN_DOUBT: Verdict = Verdict::ByPermission { in_doubt: true };
        const Y: bool = true;
        const N: bool = false;
        // Whether the connection had served a row, and whether the peer had said that it would end it.
        const NEW: (bool, bool) = (false, false);
        const USED: (bool, bool) = (true, false);
        const LEFT: (bool, bool) = (false, true);
        const BOTH: (bool, bool) = (true, true);
        for (kind, sent, received, (reused, was_to_end), idempotent, attempts, outlived, permission, expected) in [
            (Closed,         0,  0,  USED, N, 1, N, None,       ByProof),
            (Closed,         0,  0,  NEW,  N, 2, N, None,       ByProof),
            (Closed,         0,  0,  NEW,  N, 3, N, None,       END),
            (Refused,        99, 0,  USED, N, 1, N, None,       ByProof),
            (Refused,        99, 0,  USED, N, 3, N, None,       END),
            (Closed,         99, 0,  USED, Y, 1, N, None,       OnNewConnection),
            (Closed,         99, 0,  USED, Y, 2, Y, None,       END),
            (Closed,         99, 0,  USED, N, 1, N, None,       DOUBT),
            (Closed,         99, 0,  NEW,  Y, 1, N, None,       END),
            (Closed,         99, 0,  NEW,  N, 1, N, None,       DOUBT),
            (Closed,         99, 0,  LEFT, Y, 1, N, None,       OnNewConnection),
            (Closed,         99, 0,  LEFT, Y, 2, Y, None,       OnNewConnection),
            (Closed,         99, 0,  LEFT, Y, 3, Y, None,       END),
            (Closed,         99, 0,  BOTH, Y, 3, N, None,       OnNewConnection),
            (Closed,         99, 0,  LEFT, N, 1, N, None,       DOUBT),
            (Closed,         99, 7,  LEFT, Y, 1, N, None,       END),
            (TimeoutTotal,   99, 0,  LEFT, Y, 1, N, None,       END),
            (Incomplete,     99, 70, LEFT, Y, 1, N, None,       END),
            (Closed,         99, 7,  USED, Y, 1, N, None,       END),
            (Closed,         99, 7,  USED, N, 1, N, None,       DOUBT),
            (Incomplete,     99, 70, USED, Y, 1, N, None,       END),
            (Incomplete,     99, 70, USED, N, 1, N, None,       DOUBT),
            (Decode,         99, 70, USED, N, 1, N, None,       DOUBT),
            (TooLarge,       99, 70, NEW,  N, 1, N, None,       DOUBT),
            (TimeoutTotal,   99, 0,  NEW,  N, 1, N, None,       DOUBT),
            (TimeoutTotal,   0,  0,  NEW,  N, 1, N, None,       END),
            (TimeoutWrite,   10, 0,  NEW,  N, 1, N, None,       DOUBT),
            (Protocol,       99, 20, NEW,  N, 1, N, None,       DOUBT),
            (Cancelled,      99, 0,  NEW,  N, 1, N, None,       DOUBT),
            (ConnectRefused, 0,  0,  NEW,  N, 1, N, None,       END),
            (ConnectRefused, 0,  0,  NEW,  N, 1, N, Idempotent, AGAIN),
            (TimeoutConnect, 0,  0,  NEW,  N, 9, N, Idempotent, AGAIN),
            (Dns,            0,  0,  NEW,  N, 1, N, Idempotent, AGAIN),
            (TlsCertificate, 0,  0,  NEW,  N, 1, N, All,        END),
            (TlsHandshake,   99, 0,  NEW,  N, 1, N, None,       END),
            (TlsHandshake,   99, 0,  USED, N, 1, N, Idempotent, AGAIN),
            (Refused,        99, 0,  NEW,  N, 3, N, Idempotent, AGAIN),
            (Closed,         0,  0,  NEW,  N, 1, N, All,        ByProof),
            (Closed,         99, 0,  NEW,  Y, 1, N, Idempotent, AGAIN),
            (Closed,         99, 0,  NEW,  N, 1, N, Idempotent, DOUBT),
            (Closed,         99, 0,  NEW,  N, 1, N, All,        AGAIN_IN_DOUBT),
            (Incomplete,     99, 70, USED, Y, 1, N, Idempotent, AGAIN),
            (Protocol,       99, 20, NEW,  Y, 1, N, Idempotent, AGAIN),
            (TimeoutTotal,   99, 0,  NEW,  Y, 1, N, Idempotent, AGAIN),
            (TimeoutTotal,   0,  0,  NEW,  N, 1, N, Idempotent, AGAIN),
            (TimeoutRead,    99, 20, NEW,  N, 1, N, Idempotent, DOUBT),
            (Decode,         99, 70, USED, Y, 1, N, All,        END),
            (TooLarge,       99, 70, USED, Y, 1, N, All,        END),
            (Cancelled,      99, 0,  NEW,  Y, 1, N, All,        END),
            (Internal,       0,  0,  NEW,  Y, 1, N, All,        END),
        ] {
            let failed = Failed { kind, sent, received, reused, was_to_end, asked_for_calm: false };
            let sender = Sender { idempotent, attempts, outlived, permission };
            assert_eq!(verdict(failed, sender), expected, "{failed:?} {sender:?}");
        }
    }

    #[test]
    #[rustfmt::skip]
    fn the_statuses_as_a_table() {
        use Permission::{All, Idempotent, None};
        for (statuses, idempotent, has_key, permission, expected) in [
            (&[408, 425, 429, 500, 502, 503, 504, 409][..], true,  true,  None,       false),
            (&[408, 425, 429, 500, 502, 503, 504],          true,  false, Idempotent, true),
            (&[408, 425, 500, 502, 503, 504],               false, false, Idempotent, false),
            (&[429],                                        false, false, Idempotent, true),
            (&[408, 425, 429, 500, 502, 503, 504],          false, false, All,        true),
            (&[409],                                        true,  true,  Idempotent, true),
            (&[409],                                        true,  false, All,        false),
            (&[200, 304, 400, 401, 404, 418, 422, 501, 505], true, true,  All,        false),
        ] {
            for status in statuses {
                assert_eq!(may_better(*status, idempotent, has_key, permission), expected, "{status}");
            }
        }
    }
}
