//! Whether a row that failed goes out again: one rule, a function of values.
//!
//! 1. What would fail the same way again never does.
//! 2. With proof that nothing happened (not one byte of it was taken), any method does, at most [`SENDINGS`] times in all.
//! 3. On a reused connection that died without a byte of response, an idempotent or keyed row does once, on a new
//!    connection (RFC 9112 §9.3.1, RFC 9110 §9.2.2).
//! 4. Everything else ends here, in doubt where its effect is unknown and a second effect would matter.

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
    /// Whether the response head came whole.
    pub(crate) answered: bool,
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
    if on_the_wire
        && (failed.sent == 0 || failed.kind == Kind::Refused)
        && sender.attempts < SENDINGS
    {
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
    let unknown = failed.sent > 0 && !failed.answered && failed.kind != Kind::Refused;
    Verdict::End {
        in_doubt: unknown && !sender.idempotent,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rule_as_a_table() {
        const END: Verdict = Verdict::End { in_doubt: false };
        const DOUBT: Verdict = Verdict::End { in_doubt: true };
        // kind, sent, received, answered, reused, idempotent, attempts, outlived
        for (kind, sent, received, answered, reused, idempotent, attempts, outlived, expected) in [
            (
                Kind::Closed,
                0,
                0,
                false,
                true,
                false,
                1,
                false,
                Verdict::ByProof,
            ),
            (
                Kind::Closed,
                0,
                0,
                false,
                false,
                false,
                2,
                false,
                Verdict::ByProof,
            ),
            (Kind::Closed, 0, 0, false, false, false, 3, false, END),
            (
                Kind::Refused,
                99,
                0,
                false,
                true,
                false,
                1,
                false,
                Verdict::ByProof,
            ),
            (Kind::Refused, 99, 0, false, true, false, 3, false, END),
            (
                Kind::Closed,
                99,
                0,
                false,
                true,
                true,
                1,
                false,
                Verdict::OnNewConnection,
            ),
            (Kind::Closed, 99, 0, false, true, true, 2, true, END),
            (Kind::Closed, 99, 0, false, true, false, 1, false, DOUBT),
            (Kind::Closed, 99, 0, false, false, true, 1, false, END),
            (Kind::Closed, 99, 0, false, false, false, 1, false, DOUBT),
            (Kind::Closed, 99, 7, false, true, true, 1, false, END),
            (Kind::Closed, 99, 7, false, true, false, 1, false, DOUBT),
            (Kind::Incomplete, 99, 70, true, true, false, 1, false, END),
            (
                Kind::TimeoutTotal,
                99,
                0,
                false,
                false,
                false,
                1,
                false,
                DOUBT,
            ),
            (Kind::TimeoutTotal, 0, 0, false, false, false, 1, false, END),
            (
                Kind::TimeoutWrite,
                10,
                0,
                false,
                false,
                false,
                1,
                false,
                DOUBT,
            ),
            (Kind::Protocol, 99, 20, false, false, false, 1, false, DOUBT),
            (
                Kind::ConnectRefused,
                0,
                0,
                false,
                false,
                false,
                1,
                false,
                END,
            ),
        ] {
            let failed = Failed {
                kind,
                sent,
                received,
                answered,
                reused,
            };
            let sender = Sender {
                idempotent,
                attempts,
                outlived,
            };
            assert_eq!(verdict(failed, sender), expected, "{failed:?} {sender:?}");
        }
    }
}
