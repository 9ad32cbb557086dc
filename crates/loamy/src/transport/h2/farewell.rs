//! Whether the peer said that it is about to close the connection, for a reason of its own: a GOAWAY without an error
//! (RFC 9113 §6.8); and whether TLS said that the peer does not let this client in. The `h2` crate tells of the last GOAWAY
//! alone, of none once the connection broke, and of no reason that TLS gave.

use std::io;

use crate::Kind;
use crate::transport::{Fault, tls};

/// The head of a frame (RFC 9113 §4.1).
const HEAD: usize = 9;

/// What stands before the debug data of a GOAWAY: the last stream and the code.
const LAST_AND_CODE: usize = 8;

const GOAWAY: u8 = 7;

/// Follows the frames of the peer from one to the next.
#[derive(Debug, Default)]
pub(super) struct Farewell {
    was_said: bool,
    refusal: Option<Fault>,
    /// What came of the frame that is looked at, as far as it tells anything.
    begun: [u8; HEAD + LAST_AND_CODE],
    len: usize,
    /// What is still to come of it and tells nothing.
    rest: usize,
}

impl Farewell {
    pub(super) fn was_said(&self) -> bool {
        self.was_said
    }

    /// Why the peer does not let this client in.
    pub(super) fn refusal(&self) -> Option<Fault> {
        self.refusal.clone()
    }

    /// Looks at why nothing more comes.
    pub(super) fn hear_failure(&mut self, error: &io::Error) {
        if let Some((kind @ Kind::TlsHandshake, message)) = tls::alert(error) {
            self.refusal = Some(Fault { kind, message: message.into() });
        }
    }

    /// Looks at what came.
    pub(super) fn hear(&mut self, mut came: &[u8]) {
        while !came.is_empty() && !self.was_said {
            let skipped = self.rest.min(came.len());
            self.rest -= skipped;
            let (taken, further) = came[skipped..].split_at(self.wanted().min(came.len() - skipped));
            self.begun[self.len..self.len + taken.len()].copy_from_slice(taken);
            self.len += taken.len();
            came = further;
            self.judge();
        }
    }

    /// Bytes that are missing until the frame can be judged.
    fn wanted(&self) -> usize {
        let whole = if self.len >= HEAD { self.begun.len() } else { HEAD };
        whole - self.len
    }

    fn judge(&mut self) {
        if self.len < HEAD {
            return;
        }
        let [high, middle, low, kind, ..] = self.begun;
        let payload = u32::from_be_bytes([0, high, middle, low]) as usize;
        let is_goaway = kind == GOAWAY && payload >= LAST_AND_CODE;
        if is_goaway && self.wanted() > 0 {
            return;
        }
        self.was_said = is_goaway && self.begun.ends_with(&[0; 4]);
        self.rest = payload - (self.len - HEAD);
        self.len = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: &[u8] = b"\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0\x64";
    const DATA: &[u8] = b"\0\0\x11\0\x01\0\0\0\x01\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\0";
    const GOODBYE: &[u8] = b"\0\0\x08\x07\0\0\0\0\0\x7f\xff\xff\xff\0\0\0\0";
    const WITH_A_REASON: &[u8] = b"\0\0\x0f\x07\0\0\0\0\0\0\0\0\x01\0\0\0\0timeout";
    const IN_ANGER: &[u8] = b"\0\0\x0a\x07\0\0\0\0\0\0\0\0\x01\0\0\0\x0bno";
    const TOO_SHORT: &[u8] = b"\0\0\x04\x07\0\0\0\0\0\0\0\0\0";

    #[test]
    fn a_goaway_without_an_error_is_a_farewell_however_it_comes() {
        for (frames, expected) in [
            (&[SETTINGS, DATA][..], false),
            (&[SETTINGS, GOODBYE], true),
            (&[DATA, SETTINGS, WITH_A_REASON], true),
            (&[SETTINGS, IN_ANGER, DATA], false),
            (&[IN_ANGER, GOODBYE], true),
            (&[GOODBYE, IN_ANGER], true),
            (&[TOO_SHORT, SETTINGS], false),
            (&[TOO_SHORT, GOODBYE], true),
        ] {
            let bytes = frames.concat();
            for at_a_time in 1..=bytes.len() {
                let mut farewell = Farewell::default();
                bytes.chunks(at_a_time).for_each(|came| farewell.hear(came));
                assert_eq!(farewell.was_said(), expected, "{frames:?}, {at_a_time} at a time");
            }
        }
        let mut cut_short = Farewell::default();
        cut_short.hear(&GOODBYE[..GOODBYE.len() - 1]);
        assert!(!cut_short.was_said());
    }
}
