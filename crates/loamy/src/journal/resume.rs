//! What an earlier run's record means for a row. One rule, one table of tests.

use super::fingerprint::Fingerprint;
use super::scribe::Effect;
use super::store::{Done, Known};
use super::trouble::{JournalError, Trouble};
use crate::JournalOptions;
use crate::policy::Idempotency;

/// What becomes of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is sent.
    Send,
    /// It is sent once its intent is on disk.
    Intend,
    /// It has this outcome.
    Replay(Done),
    /// It may have taken effect, and nobody knows.
    InDoubt,
    /// It is not the row of that number that the journal knows: these parts differ.
    OtherRow(String),
}

pub(crate) fn verdict(
    known: Option<Known>,
    fingerprint: Fingerprint,
    effect: Effect,
    forgot_intents: bool,
    options: JournalOptions,
) -> Fate {
    if let Some(parts) = known.and_then(|known| known.fingerprint().differs_in(fingerprint)) {
        return Fate::OtherRow(parts);
    }
    match known {
        None if forgot_intents && effect == Effect::Unsafe && !options.resends_in_doubt => Fate::InDoubt,
        None => send(effect),
        // Its intent stands already, and must outlast a clean stop before it is sent.
        Some(Known::Intended(_)) if options.resends_in_doubt => Fate::Send,
        Some(Known::Intended(_)) => Fate::InDoubt,
        Some(Known::Done(done)) => {
            let again = if done.is_in_doubt() { options.resends_in_doubt } else { options.retries_failed };
            if done.is_failed() && again { send(effect) } else { Fate::Replay(done) }
        }
    }
}

/// Whether an earlier run may have had the row's effect, and it must not be had twice. It stays so however often the row is sent again
/// and provably does nothing, until it is answered.
pub(crate) fn may_have_acted(known: Option<Known>, effect: Effect, forgot_intents: bool) -> bool {
    effect == Effect::Unsafe
        && match known {
            None => forgot_intents,
            Some(Known::Intended(_)) => true,
            Some(Known::Done(done)) => done.is_in_doubt(),
        }
}

/// A row that is done, but how cannot be read any more.
pub(crate) fn unreadable(effect: Effect, options: JournalOptions) -> Fate {
    if effect == Effect::Safe || options.resends_in_doubt { send(effect) } else { Fate::InDoubt }
}

fn send(effect: Effect) -> Fate {
    match effect {
        Effect::Safe => Fate::Send,
        Effect::Unsafe => Fate::Intend,
    }
}

pub(crate) fn other_row(row: u64, parts: &str) -> JournalError {
    other_input(format!("the journal belongs to another input: row {row} differs in its {parts}"))
}

pub(crate) fn more_rows(rows: u64) -> JournalError {
    other_input(format!(
        "the journal belongs to another input: it was finished with {rows} rows, and there are more now"
    ))
}

pub(crate) fn fewer_rows(rows: u64, last: u64) -> JournalError {
    other_input(format!(
        "the journal belongs to another input: it knows row {last}, and there are only {rows} rows now"
    ))
}

pub(crate) fn other_keys(first: &Idempotency, own: &Idempotency) -> JournalError {
    let named = |keys: &Idempotency| match keys {
        Idempotency::AsGiven => "no idempotency keys but those of the rows".to_owned(),
        Idempotency::Auto { job } => format!("the idempotency keys of the job {job:?}"),
    };
    let message = format!(
        "the journal was begun with {}, and this run has {}: a row that is sent again would be another one to its server",
        named(first),
        named(own)
    );
    JournalError::new(Trouble::OtherInput, message)
        .with_hint("give idempotency and job as in the first run, or name another journal")
}

fn other_input(message: String) -> JournalError {
    JournalError::new(Trouble::OtherInput, message)
        .with_hint("give the rows of the first run in the same order, or name another journal")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Request;
    use crate::journal::part::{FAILED, IN_DOUBT, Span, UNSAFE};

    #[test]
    fn h5_what_an_earlier_run_may_have_done_is_known_of_rows_that_are_sent_again() {
        let mark = Fingerprint::of(&Request::post("http://h/", "x"), &[0; 16]);
        let span = Span { at: 24, length: 9, checksum: 0 };
        let known = |traits| Some(Known::Done(Done { row: 0, span, traits, fingerprint: mark }));
        let intended = Some(Known::Intended(mark));
        let (safe, harmful) = (Effect::Safe, Effect::Unsafe);
        for (number, (known, effect, forgot, expected)) in [
            (None, harmful, false, false),
            (None, harmful, true, true),
            (None, safe, true, false),
            (intended, harmful, false, true),
            (known(FAILED | UNSAFE), harmful, false, false),
            (known(FAILED | UNSAFE), harmful, true, false),
            (known(FAILED | IN_DOUBT | UNSAFE), harmful, false, true),
            (known(FAILED), safe, false, false),
        ]
        .into_iter()
        .enumerate()
        {
            assert_eq!(may_have_acted(known, effect, forgot), expected, "line {number}");
        }
    }

    #[test]
    fn h5_h8_what_an_earlier_run_knew_decides_what_becomes_of_a_row() {
        let mark = Fingerprint::of(&Request::get("http://h/"), &[0; 16]);
        let done = |traits| Done {
            row: 0,
            span: Span { at: 24, length: 9, checksum: 0 },
            traits,
            fingerprint: mark,
        };
        let plain = JournalOptions::default();
        let failed = JournalOptions::default().retry_failed();
        let doubt = JournalOptions::default().resend_in_doubt();
        let (safe, harmful) = (Effect::Safe, Effect::Unsafe);
        let intended = Some(Known::Intended(mark));
        let known = |traits| Some(Known::Done(done(traits)));
        let ends = |traits| Fate::Replay(done(traits));
        for (number, (known, effect, forgot, options, fate)) in [
            (None, safe, false, plain, Fate::Send),
            (None, harmful, false, plain, Fate::Intend),
            (None, safe, true, plain, Fate::Send),
            (None, harmful, true, plain, Fate::InDoubt),
            (None, harmful, true, failed, Fate::InDoubt),
            (None, harmful, true, doubt, Fate::Intend),
            (intended, harmful, false, plain, Fate::InDoubt),
            (intended, harmful, false, failed, Fate::InDoubt),
            (intended, harmful, false, doubt, Fate::Send),
            (known(0), safe, false, plain, ends(0)),
            (known(0), safe, false, failed, ends(0)),
            (known(0), harmful, true, doubt, ends(0)),
            (known(FAILED), safe, false, plain, ends(FAILED)),
            (known(FAILED), safe, false, failed, Fate::Send),
            (known(FAILED), safe, false, doubt, ends(FAILED)),
            (known(FAILED | UNSAFE), harmful, false, failed, Fate::Intend),
            (known(FAILED | IN_DOUBT | UNSAFE), harmful, false, failed, ends(FAILED | IN_DOUBT | UNSAFE)),
            (known(FAILED | IN_DOUBT | UNSAFE), harmful, false, doubt, Fate::Intend),
        ]
        .into_iter()
        .enumerate()
        {
            assert_eq!(verdict(known, mark, effect, forgot, options), fate, "line {number}");
        }
        let other = Fingerprint::of(&Request::get("http://h/2"), &[0; 16]);
        assert_eq!(verdict(known(0), other, safe, false, plain), Fate::OtherRow("url".into()));
        assert_eq!(verdict(intended, other, harmful, false, doubt), Fate::OtherRow("url".into()));
    }
}
