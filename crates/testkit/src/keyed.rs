//! Idempotency keys (draft-ietf-httpapi-idempotency-key-header): the first request of a key has
//! its effect, and each further one gets the first one's answer. A function of what was asked
//! before and of the time that the caller gives.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

/// What one id has seen.
#[derive(Default)]
pub(crate) struct Keyed {
    /// How often a request took effect.
    pub effects: u64,
    keys: HashMap<String, Kept>,
    /// Answers without a key that were lost.
    lost: u64,
}

/// What is remembered of a key.
struct Kept {
    payload: u64,
    /// When the first request is done.
    done: Duration,
    answer: Told,
    lost: u64,
}

/// An answer as it can be told again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub status: u16,
    /// Which effect of the id it tells of, from 1.
    pub effect: u64,
}

/// One request, and what its query asks for.
#[derive(Clone, Copy)]
pub(crate) struct Order<'a> {
    pub key: Option<&'a str>,
    /// See [`fingerprint`].
    pub payload: u64,
    /// The status of the answer.
    pub status: u16,
    /// How long the effect takes.
    pub takes: Duration,
    /// How many answers of each key are lost, or of the id if there is no key.
    pub lose: u64,
}

/// What becomes of a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ruling {
    /// The answer of its effect, or of that of an earlier one, after so long.
    Answer { told: Told, pause: Duration },
    /// There was an effect, now or before, but the answer never arrives.
    Lost { pause: Duration },
    /// The first one with this key needs so much longer: 409.
    Running { wait: Duration },
    /// The key belongs to another payload: 422.
    OtherPayload,
}

impl Keyed {
    pub(crate) fn ask(&mut self, order: &Order<'_>, now: Duration) -> Ruling {
        let effect = self.effects + 1;
        let answer = Told { status: order.status, effect };
        let Some(key) = order.key else {
            self.effects = effect;
            return ruling(answer, order.takes, &mut self.lost, order.lose);
        };
        if let Some(kept) = self.keys.get_mut(key) {
            if kept.payload != order.payload {
                return Ruling::OtherPayload;
            }
            if now < kept.done {
                return Ruling::Running { wait: kept.done - now };
            }
            return ruling(kept.answer.clone(), Duration::ZERO, &mut kept.lost, order.lose);
        }
        self.effects = effect;
        let done = now + order.takes;
        let mut kept = Kept { payload: order.payload, done, answer: answer.clone(), lost: 0 };
        let ruling = ruling(answer, order.takes, &mut kept.lost, order.lose);
        self.keys.insert(key.to_owned(), kept);
        ruling
    }

    /// How many keys it has seen.
    pub(crate) fn keys(&self) -> usize {
        self.keys.len()
    }
}

fn ruling(told: Told, pause: Duration, lost: &mut u64, lose: u64) -> Ruling {
    if *lost < lose {
        *lost += 1;
        return Ruling::Lost { pause };
    }
    Ruling::Answer { told, pause }
}

/// What two requests with the same key must have in common.
pub(crate) fn fingerprint(method: &str, body: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    (method, body).hash(&mut hasher);
    hasher.finish()
}

/// How strictly a key is read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reading {
    /// As servers do: any text, with or without quotes.
    Lenient,
    /// As the draft's section 2.1 says: a string of RFC 9651 section 3.3.3.
    Strict,
}

/// The key in the value of an Idempotency-Key; `None` when there is none in it.
pub(crate) fn key(value: &str, reading: Reading) -> Option<String> {
    let value = value.trim();
    let Some(quoted) = value.strip_prefix('"') else {
        return (reading == Reading::Lenient && !value.is_empty()).then(|| value.to_owned());
    };
    let mut key = String::new();
    let mut characters = quoted.chars();
    loop {
        match characters.next()? {
            '"' => break,
            '\\' => key.push(characters.next().filter(|escaped| matches!(escaped, '"' | '\\'))?),
            plain @ ' '..='~' => key.push(plain),
            _ => return None,
        }
    }
    // Parameters of the item have no meaning here, and take none away.
    let rest = characters.as_str();
    (!key.is_empty() && (rest.is_empty() || rest.starts_with(';'))).then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(key: Option<&str>, payload: u64) -> Order<'_> {
        Order { key, payload, status: 201, takes: Duration::ZERO, lose: 0 }
    }

    fn answer(effect: u64) -> Ruling {
        Ruling::Answer { told: Told { status: 201, effect }, pause: Duration::ZERO }
    }

    const NOW: Duration = Duration::from_secs(5);

    #[test]
    fn a_key_has_one_effect_and_one_answer() {
        let mut keyed = Keyed::default();
        assert_eq!(keyed.ask(&order(Some("a"), 1), NOW), answer(1));
        assert_eq!(keyed.ask(&order(Some("b"), 1), NOW), answer(2));
        let again = Order { status: 500, ..order(Some("a"), 1) };
        assert_eq!(keyed.ask(&again, NOW), answer(1));
        assert_eq!((keyed.effects, keyed.keys()), (2, 2));
    }

    #[test]
    fn without_a_key_each_request_has_its_effect() {
        let mut keyed = Keyed::default();
        for effect in 1..=3 {
            assert_eq!(keyed.ask(&order(None, 1), NOW), answer(effect));
        }
        assert_eq!((keyed.effects, keyed.keys()), (3, 0));
    }

    #[test]
    fn a_key_with_another_payload_is_refused_even_while_the_first_one_runs() {
        let mut keyed = Keyed::default();
        let slow = Order { takes: Duration::from_secs(1), ..order(Some("a"), 1) };
        keyed.ask(&slow, NOW);
        for later in [0, 1, 100] {
            let now = NOW + Duration::from_secs(later);
            assert_eq!(keyed.ask(&order(Some("a"), 2), now), Ruling::OtherPayload);
        }
        assert_eq!(keyed.effects, 1);
    }

    #[test]
    fn while_the_first_one_runs_the_key_is_taken() {
        let mut keyed = Keyed::default();
        let pause = Duration::from_millis(200);
        let slow = Order { takes: pause, ..order(Some("a"), 1) };
        assert_eq!(keyed.ask(&slow, NOW), Ruling::Answer { told: Told { status: 201, effect: 1 }, pause });
        let wait = Duration::from_millis(1);
        assert_eq!(keyed.ask(&slow, NOW + pause - wait), Ruling::Running { wait });
        assert_eq!(keyed.ask(&slow, NOW + pause), answer(1));
        assert_eq!(keyed.effects, 1);
    }

    #[test]
    fn an_answer_may_be_lost_after_the_effect() {
        let mut keyed = Keyed::default();
        let pause = Duration::ZERO;
        for key in ["a", "b"] {
            let careless = Order { lose: 2, ..order(Some(key), 1) };
            assert_eq!(keyed.ask(&careless, NOW), Ruling::Lost { pause });
            assert_eq!(keyed.ask(&careless, NOW), Ruling::Lost { pause });
            assert_eq!(keyed.ask(&careless, NOW), answer(keyed.effects));
        }
        assert_eq!(keyed.effects, 2);
        let careless = Order { lose: 1, ..order(None, 1) };
        assert_eq!(keyed.ask(&careless, NOW), Ruling::Lost { pause });
        assert_eq!(keyed.ask(&careless, NOW), answer(4));
    }

    #[test]
    fn keys_are_strings_of_structured_fields_or_whatever_servers_take() {
        let table = [
            (r#""8e03978e-40d5""#, Some("8e03978e-40d5"), Some("8e03978e-40d5")),
            (r#""a\"b\\c""#, Some(r#"a"b\c"#), Some(r#"a"b\c"#)),
            (r#" "a" "#, Some("a"), Some("a")),
            (r#""a";v=1"#, Some("a"), Some("a")),
            ("8e03978e", Some("8e03978e"), None),
            (r#""a"#, None, None),
            (r#""a" b"#, None, None),
            (r#""a\b""#, None, None),
            (r#""""#, None, None),
            ("", None, None),
        ];
        for (value, lenient, strict) in table {
            assert_eq!(key(value, Reading::Lenient).as_deref(), lenient, "{value}");
            assert_eq!(key(value, Reading::Strict).as_deref(), strict, "{value}");
        }
    }

    #[test]
    fn payloads_differ_by_method_and_body() {
        let prints = [("POST", &b"a"[..]), ("POST", b"b"), ("PATCH", b"a"), ("POST", b"")];
        let prints = prints.map(|(method, body)| fingerprint(method, body));
        for (at, print) in prints.iter().enumerate() {
            assert!(!prints[..at].contains(print));
        }
        assert_eq!(fingerprint("POST", b"a"), prints[0]);
    }
}
