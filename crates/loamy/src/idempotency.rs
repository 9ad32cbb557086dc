//! Keys by which a server knows that a request is the same as one before (draft-ietf-httpapi-idempotency-key-header).

use std::hash::Hasher;

use http::Method;
use siphasher::sip128::{Hasher128, SipHasher24};

use crate::policy::Idempotency;
use crate::request::Request;

/// The name of the field.
pub(crate) const FIELD: &str = "Idempotency-Key";

/// Gives the row a key if it is one whose second sending could do harm, and has none. The key is a hash of the job's name and the row's
/// tag, or its index where it has none: whoever runs the same job again, anywhere, sends the same keys.
pub(crate) fn give_key(request: &mut Request, job: &str, index: usize) {
    let needs_one = matches!(request.method, Method::POST | Method::PATCH);
    if !needs_one || request.headers.view().get(FIELD).is_some() {
        return;
    }
    // The name and value are well-formed, so nothing is refused.
    let _ = request.headers.append(FIELD, key(job, request.tag.as_deref(), index));
}

impl Idempotency {
    /// Gives a row the key that it would get at this place of a batch: for rows that are sent again in another batch, at another
    /// place.
    pub fn give_key(&self, row: &mut Request, index: usize) {
        if let Self::Auto { job } = self {
            give_key(row, job, index);
        }
    }
}

/// In the form of a UUID of version 8 (RFC 9562 §5.8), since some servers take nothing else; without the quotes of the draft, which
/// hardly a server in use expects.
fn key(job: &str, tag: Option<&str>, index: usize) -> String {
    let mut hasher = SipHasher24::new();
    let mut add = |bytes: &[u8]| {
        hasher.write(&(bytes.len() as u64).to_le_bytes());
        hasher.write(bytes);
    };
    add(job.as_bytes());
    match tag {
        Some(tag) => add(tag.as_bytes()),
        // Two pieces, so that no tag is taken for an index.
        None => {
            add(b"");
            add(&(index as u64).to_le_bytes());
        }
    }
    let version = 0x8 << 76;
    let variant = 0b10 << 62;
    let bits = hasher.finish128().as_u128() & !(0xF << 76) & !(0b11 << 62) | version | variant;
    let digits = format!("{bits:032x}");
    let [a, b, c, d, e] = [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]];
    format!("{a}-{b}-{c}-{d}-{e}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_the_same_wherever_and_whenever_it_is_made() {
        // Were these to change, a job that is resumed with a newer version would pay twice.
        assert_eq!(key("invoices", Some("A-17"), 3), "2d51e8b3-668b-8a72-bbc7-47d50d018f80");
        assert_eq!(key("invoices", None, 3), "fea4e9c9-c552-833d-8eee-77769863a0e9");
    }

    #[test]
    fn job_tag_and_index_each_tell_keys_apart() {
        let keys = [
            key("a", None, 0),
            key("a", None, 1),
            key("b", None, 0),
            key("a", Some("x"), 0),
            key("ax", Some(""), 0),
            key("a", Some(""), 0),
            key("", Some("ax"), 0),
            key("a", Some("0"), 0),
        ];
        let mut different = keys.to_vec();
        different.sort_unstable();
        different.dedup();
        assert_eq!(different.len(), keys.len());
        assert_eq!(key("a", Some("x"), 0), key("a", Some("x"), 9), "a tag counts, not the place in the list");
    }

    #[test]
    fn a_row_that_was_given_its_key_keeps_it_at_another_place() {
        let job = Idempotency::Auto { job: "invoices".into() };
        let mut row = Request::post("http://h/", "x");
        job.give_key(&mut row, 3);
        give_key(&mut row, "invoices", 0);
        assert_eq!(row.headers.view().get(FIELD), Some(key("invoices", None, 3).as_bytes()));
        let mut without = Request::post("http://h/", "x");
        Idempotency::AsGiven.give_key(&mut without, 3);
        assert_eq!(without.headers.view().get(FIELD), None);
    }

    #[test]
    fn only_rows_that_need_one_and_have_none_get_one() {
        for (method, own, expected) in [
            ("POST", None, true),
            ("PATCH", None, true),
            ("POST", Some("mine"), false),
            ("PUT", None, false),
            ("GET", None, false),
            ("DELETE", None, false),
        ] {
            let mut request = Request::new(method, "http://h/");
            if let Some(own) = own {
                request = request.header("idempotency-key", own);
            }
            give_key(&mut request, "job", 0);
            let given = request.headers.view().get(FIELD).map(<[u8]>::to_vec);
            assert_eq!(given.as_deref().map(<[u8]>::len) == Some(36), expected, "{method} {own:?}");
            assert!(own.is_none() || given.as_deref() == own.map(str::as_bytes));
        }
    }
}
