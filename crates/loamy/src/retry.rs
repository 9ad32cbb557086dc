//! Whether a row that failed goes out again: one rule, a function of values.
//!
//! 1. What would fail the same way again never does.
//! 2. With proof that nothing happened (not one byte of it was taken), any method does, at most [`SENDINGS`] times in all.
//! 3. On a reused connection that died without a byte of response, an idempotent or keyed row does once, on a new
//!    connection (RFC 9112 §9.3.1, RFC 9110 §9.2.2).
//! 4. Everything else ends here; in doubt where something was sent and a second effect would matter. An answer that came
//!    in part, or came whole and could not be decoded, does not help: who resends the row for it has its effect twice.

use crate::Kind;

/// How often a row is sent at the most on proof that nothing happened.
pub(crate) const SENDINGS: u32 = 3;

/// What is known of a failed sending.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Failed {
    pub(crate) kind: Kind,
    /// Bytes of this sending that the operating system took.
    pub(crate) sent: u64,
    /// Bytes that came back.
    pub(crate) received: u64,
    /// Whether the connection had served a row before.
    pub(crate) reused: bool,
}

/// What is known of the row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sender {
    pub(crate) idempotent: bool,
    /// Sendings so far, the failed one included.
    pub(crate) attempts: u32,
    /// Whether rule 3 was used already.
    pub(crate) outlived: bool,
}

/// What becomes of the row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It goes out again by proof (rule 2).
    ByProof,
    /// It goes out again on a new connection (rule 3).
    OnNewConnection,
    /// It ends.
    End { in_doubt: bool },
}

/// The rule.
pub(crate) fn verdict(failed: Failed, sender: Sender) -> Verdict {
    let on_the_wire = matches!(failed.kind, Kind::Closed | Kind::Refused);
    if on_the_wire && (failed.sent == 0 || failed.kind == Kind::Refused) && sender.attempts < SENDINGS {
        return Verdict::ByProof;
    }
    if failed.kind == Kind::Closed
        && failed.reused
        && failed.received == 0
        && sender.idempotent
        && !sender.outlived
    {
        return Verdict::OnNewConnection;
    }
    Verdict::End { in_doubt: failed.sent > 0 && failed.kind != Kind::Refused && !sender.idempotent }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[rustfmt::skip]
    fn the_rule_as_a_table() {
        use Kind::*;
        use Verdict::{ByProof, OnNewConnection};
        const END: Verdict = Verdict::End { in_doubt: false };
        const DOUBT: Verdict = Verdict::End { in_doubt: true };
        const Y: bool = true;
        const N: bool = false;
        for (kind, sent, received, reused, idempotent, attempts, outlived, expected) in [
            (Closed,         0,  0,  Y, N, 1, N, ByProof),
            (Closed,         0,  0,  N, N, 2, N, ByProof),
            (Closed,         0,  0,  N, N, 3, N, END),
            (Refused,        99, 0,  Y, N, 1, N, ByProof),
            (Refused,        99, 0,  Y, N, 3, N, END),
            (Closed,         99, 0,  Y, Y, 1, N, OnNewConnection),
            (Closed,         99, 0,  Y, Y, 2, Y, END),
            (Closed,         99, 0,  Y, N, 1, N, DOUBT),
            (Closed,         99, 0,  N, Y, 1, N, END),
            (Closed,         99, 0,  N, N, 1, N, DOUBT),
            (Closed,         99, 7,  Y, Y, 1, N, END),
            (Closed,         99, 7,  Y, N, 1, N, DOUBT),
            (Incomplete,     99, 70, Y, Y, 1, N, END),
            (Incomplete,     99, 70, Y, N, 1, N, DOUBT),
            (Decode,         99, 70, Y, N, 1, N, DOUBT),
            (TooLarge,       99, 70, N, N, 1, N, DOUBT),
            (TimeoutTotal,   99, 0,  N, N, 1, N, DOUBT),
            (TimeoutTotal,   0,  0,  N, N, 1, N, END),
            (TimeoutWrite,   10, 0,  N, N, 1, N, DOUBT),
            (Protocol,       99, 20, N, N, 1, N, DOUBT),
            (Cancelled,      99, 0,  N, N, 1, N, DOUBT),
            (ConnectRefused, 0,  0,  N, N, 1, N, END),
        ] {
            let failed = Failed { kind, sent, received, reused };
            let sender = Sender { idempotent, attempts, outlived };
            assert_eq!(verdict(failed, sender), expected, "{failed:?} {sender:?}");
        }
    }
}
