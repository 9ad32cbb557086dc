//! What the peer said that the `h2` crate keeps to itself: that it is about to close the connection, for a reason of its
//! own (a GOAWAY without an error, RFC 9113 §6.8) or because it has too much to do (§7), where the crate tells of the last
//! GOAWAY alone, and of none once the connection broke; whose head came last; and by what the connection broke.

use std::io;

use ::h2::Reason;

use crate::transport::tls;

/// The head of a frame (RFC 9113 §4.1).
const HEAD: usize = 9;

/// What stands before the debug data of a GOAWAY: the last stream and the code.
const LAST_AND_CODE: usize = 8;

const HEADERS: u8 = 1;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;

/// Follows the frames of the peer from one to the next.
#[derive(Debug, Default)]
pub(super) struct Heard {
    farewell: bool,
    call_for_calm: bool,
    /// The stream of the head that came last.
    head_of: Option<u32>,
    broke: Option<io::Error>,
    /// What came of the frame that is looked at, as far as it tells anything.
    begun: [u8; HEAD + LAST_AND_CODE],
    len: usize,
    /// What is still to come of it and tells nothing.
    rest: usize,
}

impl Heard {
    /// Whether the peer said that it would end the connection, for a reason of its own.
    pub(super) fn farewell(&self) -> bool {
        self.farewell
    }

    /// Whether the peer said that it has too much to do.
    pub(super) fn call_for_calm(&self) -> bool {
        self.call_for_calm
    }

    /// The stream of the head that came last, or of which a part did.
    pub(super) fn head_of(&self) -> Option<u32> {
        self.head_of
    }

    /// By what reading failed; a copy for each row that ends by it.
    pub(super) fn broke(&self) -> Option<io::Error> {
        self.broke.as_ref().map(tls::copy)
    }

    /// Reading failed.
    pub(super) fn fail(&mut self, error: &io::Error) {
        self.broke = Some(tls::copy(error));
    }

    /// Looks at what came.
    pub(super) fn hear(&mut self, mut came: &[u8]) {
        while !came.is_empty() {
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
        let [high, middle, low, kind, _flags, stream @ ..] = self.begun;
        let payload = u32::from_be_bytes([0, high, middle, low]) as usize;
        let is_goaway = kind == GOAWAY && payload >= LAST_AND_CODE;
        if is_goaway && self.wanted() > 0 {
            return;
        }
        if is_goaway {
            let code = self.begun.last_chunk().map(|code| Reason::from(u32::from_be_bytes(*code)));
            self.farewell |= code == Some(Reason::NO_ERROR);
            self.call_for_calm |= code == Some(Reason::ENHANCE_YOUR_CALM);
        }
        if let (HEADERS | CONTINUATION, Some(stream)) = (kind, stream.first_chunk()) {
            // The first bit is reserved (RFC 9113 §4.1).
            self.head_of = Some(u32::from_be_bytes(*stream) & (u32::MAX >> 1));
        }
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
    const FOR_CALM: &[u8] = b"\0\0\x0a\x07\0\0\0\0\0\0\0\0\x01\0\0\0\x0bno";
    const IN_ANGER: &[u8] = b"\0\0\x08\x07\0\0\0\0\0\0\0\0\x01\0\0\0\x01";
    const TOO_SHORT: &[u8] = b"\0\0\x04\x07\0\0\0\0\0\0\0\0\0";
    const ON_STREAM_5: &[u8] = b"\0\0\x01\x01\x04\x80\0\0\x05\x88";
    const MORE_ON_STREAM_3: &[u8] = b"\0\0\0\x09\0\0\0\0\x03";

    fn heard(frames: &[&[u8]], at_a_time: usize) -> Heard {
        let mut heard = Heard::default();
        frames.concat().chunks(at_a_time).for_each(|came| heard.hear(came));
        heard
    }

    #[test]
    fn a_goaway_without_an_error_is_a_farewell_and_one_for_calm_a_call_however_it_comes() {
        for (frames, farewell, call) in [
            (&[SETTINGS, DATA][..], false, false),
            (&[SETTINGS, GOODBYE], true, false),
            (&[DATA, SETTINGS, WITH_A_REASON], true, false),
            (&[SETTINGS, FOR_CALM, DATA], false, true),
            (&[IN_ANGER, DATA], false, false),
            (&[IN_ANGER, GOODBYE], true, false),
            (&[GOODBYE, FOR_CALM], true, true),
            (&[FOR_CALM, GOODBYE], true, true),
            (&[TOO_SHORT, SETTINGS], false, false),
            (&[TOO_SHORT, GOODBYE], true, false),
        ] {
            for at_a_time in 1..=frames.concat().len() {
                let heard = heard(frames, at_a_time);
                let is = (heard.farewell(), heard.call_for_calm());
                assert_eq!(is, (farewell, call), "{frames:?}, {at_a_time} at a time");
            }
        }
        let cut_short = heard(&[&GOODBYE[..GOODBYE.len() - 1]], 1);
        assert!(!cut_short.farewell());
    }

    #[test]
    fn the_head_that_came_last_is_known_by_its_stream() {
        for (frames, stream) in [
            (&[SETTINGS, DATA][..], None),
            (&[ON_STREAM_5, DATA], Some(5)),
            (&[ON_STREAM_5, MORE_ON_STREAM_3, SETTINGS], Some(3)),
        ] {
            for at_a_time in [1, 4, usize::MAX] {
                assert_eq!(heard(frames, at_a_time).head_of(), stream, "{frames:?}");
            }
        }
    }
}
