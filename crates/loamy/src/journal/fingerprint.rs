//! How a row is known again in a later run, without keeping anything of it that could be read.

use std::hash::Hasher;

use siphasher::sip::SipHasher24;

use crate::Request;

/// Method, URL, body and mark (tag and idempotency key) of a row, each as 32 bits of a hash under the journal's own key.
///
/// The key keeps two journals from being compared. Headers and userinfo are left out: credentials may change between
/// runs. What is unlikely enough is a change by accident; nobody gains by forging one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fingerprint([u32; 4]);

/// The journal's own key.
pub(crate) type Salt = [u8; 16];

impl Fingerprint {
    /// Of a row as it is admitted, its URL already freed of userinfo and fragment.
    pub(crate) fn of(request: &Request, salt: &Salt) -> Self {
        let key = request.headers.view().get("idempotency-key");
        let tag = request.tag.as_deref().map(str::as_bytes);
        Self([
            word(salt, 0, [Some(request.method.as_str().as_bytes()), None]),
            word(salt, 1, [Some(request.url.as_bytes()), None]),
            word(salt, 2, [request.body.as_deref(), None]),
            word(salt, 3, [tag, key]),
        ])
    }

    /// What distinguishes the rows, in words.
    pub(crate) fn differs_in(self, other: Self) -> Option<String> {
        const PARTS: [&str; 4] = ["method", "url", "body", "tag or idempotency key"];
        let parts: Vec<&str> =
            (0..PARTS.len()).filter(|&part| self.0[part] != other.0[part]).map(|part| PARTS[part]).collect();
        (!parts.is_empty()).then(|| parts.join(", "))
    }

    pub(crate) fn to_bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        for (part, word) in bytes.chunks_exact_mut(4).zip(self.0) {
            part.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    pub(crate) fn from_bytes(bytes: [u8; 16]) -> Self {
        let mut words = [0; 4];
        for (word, part) in words.iter_mut().zip(bytes.chunks_exact(4)) {
            *word = u32::from_le_bytes([part[0], part[1], part[2], part[3]]);
        }
        Self(words)
    }
}

fn word(salt: &Salt, domain: u8, parts: [Option<&[u8]>; 2]) -> u32 {
    let mut hasher = SipHasher24::new_with_key(salt);
    hasher.write(&[domain]);
    for part in parts {
        // Nothing and an empty piece differ, and so do two pieces that are cut elsewhere.
        hasher.write(&part.map_or(u64::MAX, |part| part.len() as u64).to_le_bytes());
        hasher.write(part.unwrap_or_default());
    }
    hasher.finish() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h8_each_part_of_a_row_counts_and_is_named() {
        let row = || Request::post("http://h/a?b=1", "body");
        let mark = |request: &Request| Fingerprint::of(request, &[7; 16]);
        let mut changed = [row(), row(), row(), row(), row(), row()];
        changed[1].method = http::Method::PUT;
        changed[2].url.push('2');
        changed[3].body = None;
        changed[4].tag = Some("t".into());
        changed[5].headers.append("Idempotency-Key", "t").unwrap();
        let named = changed.each_ref().map(|other| mark(&row()).differs_in(mark(other)));
        let named: Vec<_> = named.iter().map(Option::as_deref).collect();
        let mark_of_row = Some("tag or idempotency key");
        assert_eq!(named, [None, Some("method"), Some("url"), Some("body"), mark_of_row, mark_of_row]);
        assert!(mark(&changed[4]).differs_in(mark(&changed[5])).is_some(), "a tag is no key");
        let mut empty = row();
        empty.body = Some("".into());
        assert!(mark(&empty).differs_in(mark(&changed[3])).is_some(), "an empty body is a body");
        let mut all = row();
        all.headers.append("Authorization", "other").unwrap();
        assert_eq!(mark(&row()), mark(&all), "credentials may change");
        assert_ne!(mark(&row()), Fingerprint::of(&row(), &[8; 16]));
        assert_eq!(Fingerprint::from_bytes(mark(&all).to_bytes()), mark(&all));
    }
}
