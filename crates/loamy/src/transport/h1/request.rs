//! The head of a request.

use http::Method;

use crate::headers::HeaderView;

/// What a request head is made of. All of it was checked when the row was admitted.
pub(crate) struct RequestHead<'a> {
    /// The method.
    pub(crate) method: &'a Method,
    /// Path and query, as `/path?query` (RFC 9112 §3.2.1).
    pub(crate) target: &'a str,
    /// The value of `Host`, unless the row sets its own.
    pub(crate) host: &'a str,
    /// The row's own fields: order and spelling are kept.
    pub(crate) headers: HeaderView<'a>,
    /// Fields for every row, each left out when the row sets one of that name.
    pub(crate) defaults: HeaderView<'a>,
    /// The body's length, where there is a body.
    pub(crate) body_len: Option<u64>,
    /// The value of `Authorization` made from the URL, unless the row sets its own.
    pub(crate) authorization: Option<&'a str>,
}

/// Writes a request head, its empty line included, behind what `out` holds already.
pub(crate) fn encode_head(out: &mut Vec<u8>, head: &RequestHead<'_>) {
    let own = head.headers.as_bytes();
    let defaults = head.defaults.as_bytes();
    let method = head.method.as_str();
    out.reserve(method.len() + head.target.len() + head.host.len() + own.len() + defaults.len() + 96);
    out.extend_from_slice(method.as_bytes());
    out.push(b' ');
    out.extend_from_slice(head.target.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");

    let said = if own.is_empty() { Said::default() } else { Said::by(own, defaults) };
    if !said.host {
        line(out, b"Host: ", head.host.as_bytes());
    }
    out.extend_from_slice(own);
    let authorization = head.authorization.filter(|_| !said.authorization);
    if let Some(authorization) = authorization {
        line(out, b"Authorization: ", authorization.as_bytes());
    }
    if said.defaults == 0 && authorization.is_none() {
        out.extend_from_slice(defaults);
    } else {
        for (position, (name, whole)) in lines(defaults).enumerate() {
            let by_url = authorization.is_some() && name.eq_ignore_ascii_case(b"authorization");
            let by_row =
                if position < Said::DEFAULTS { said.defaults >> position & 1 == 1 } else { has(own, name) };
            if !by_url && !by_row {
                out.extend_from_slice(whole);
            }
        }
    }
    if !said.content_length {
        content_length(out, head.method, head.body_len);
    }
    out.extend_from_slice(b"\r\n");
}

/// Which fields the row sets itself, of those that would be written for it.
#[derive(Default)]
struct Said {
    host: bool,
    content_length: bool,
    authorization: bool,
    /// One bit for each default, the first in the lowest; with more defaults than bits, the highest says that there are.
    defaults: u32,
}

impl Said {
    /// Defaults found in one pass over the row's fields; for more, which nobody has, each is looked for on its own.
    const DEFAULTS: usize = 16;

    fn by(own: &[u8], defaults: &[u8]) -> Self {
        let mut said = Self::default();
        let mut names = [&[][..]; Self::DEFAULTS];
        let mut count = 0;
        for (name, _) in lines(defaults) {
            if count == Self::DEFAULTS {
                said.defaults |= 1 << Self::DEFAULTS;
                break;
            }
            names[count] = name;
            count += 1;
        }
        for (name, _) in lines(own) {
            match name.len() {
                4 => said.host |= name.eq_ignore_ascii_case(b"host"),
                13 => said.authorization |= name.eq_ignore_ascii_case(b"authorization"),
                14 => said.content_length |= name.eq_ignore_ascii_case(b"content-length"),
                _ => {}
            }
            for (position, default) in names[..count].iter().enumerate() {
                if default.len() == name.len() && default.eq_ignore_ascii_case(name) {
                    said.defaults |= 1 << position;
                }
            }
        }
        said
    }
}

/// Each field as its name and its whole line.
fn lines(mut fields: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    std::iter::from_fn(move || {
        let (whole, rest) = fields.split_at(memchr::memchr(b'\n', fields)? + 1);
        fields = rest;
        let name = whole.iter().position(|byte| *byte == b':').unwrap_or(whole.len());
        Some((&whole[..name], whole))
    })
}

fn has(fields: &[u8], name: &[u8]) -> bool {
    lines(fields).any(|(own, _)| own.eq_ignore_ascii_case(name))
}

fn line(out: &mut Vec<u8>, before: &[u8], value: &[u8]) {
    out.extend_from_slice(before);
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// RFC 9110 §8.6: methods that define a meaning for a body say so even when there is none.
fn content_length(out: &mut Vec<u8>, method: &Method, body_len: Option<u64>) {
    let length = match body_len {
        Some(length) => length,
        None if matches!(*method, Method::POST | Method::PUT | Method::PATCH) => 0,
        None => return,
    };
    let mut text = [0; 20];
    let mut start = text.len();
    let mut rest = length;
    loop {
        start -= 1;
        text[start] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    line(out, b"Content-Length: ", &text[start..]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::headers::Headers;

    fn encoded(
        method: &str,
        own: &[(&str, &str)],
        defaults: &[(&str, &str)],
        body_len: Option<u64>,
        authorization: Option<&str>,
    ) -> String {
        let (own, defaults) = (Headers::of(own), Headers::of(defaults));
        let mut out = b"before".to_vec();
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let head = RequestHead {
            method: &method,
            target: "/a?b=c",
            host: "h:8080",
            headers: own.view(),
            defaults: defaults.view(),
            body_len,
            authorization,
        };
        encode_head(&mut out, &head);
        String::from_utf8(out).unwrap().strip_prefix("before").unwrap().to_owned()
    }

    #[test]
    fn a_bare_row_gets_host_and_the_defaults() {
        assert_eq!(
            encoded("GET", &[], &[("User-Agent", "loamy/1"), ("Accept", "*/*")], None, None),
            "GET /a?b=c HTTP/1.1\r\nHost: h:8080\r\nUser-Agent: loamy/1\r\nAccept: */*\r\n\r\n"
        );
    }

    #[test]
    fn a_rows_own_fields_keep_order_and_spelling_and_replace_defaults_of_their_name() {
        assert_eq!(
            encoded(
                "GET",
                &[("x-ONE", "1"), ("accept", "a/b"), ("x-one", "2")],
                &[("User-Agent", "loamy/1"), ("Accept", "*/*")],
                None,
                None
            ),
            "GET /a?b=c HTTP/1.1\r\nHost: h:8080\r\nx-ONE: 1\r\naccept: a/b\r\nx-one: 2\r\nUser-Agent: loamy/1\r\n\r\n"
        );
    }

    #[test]
    fn defaults_are_replaced_however_many_there_are() {
        let names: Vec<_> = (0..40).map(|n| format!("X-Default-{n}")).collect();
        let defaults: Vec<_> = names.iter().map(|name| (name.as_str(), "policy")).collect();
        for name in &names {
            let lower = name.to_lowercase();
            let text = encoded("GET", &[(&lower, "row")], &defaults, None, None);
            assert_eq!(text.matches("policy").count(), 39, "{text}");
            assert!(
                text.contains(&format!("{lower}: row\r\n")) && !text.contains(&format!("{name}: ")),
                "{text}"
            );
        }
    }

    #[test]
    fn a6_a_rows_own_host_and_length_are_sent_once() {
        assert_eq!(
            encoded("POST", &[("host", "other"), ("content-length", "3")], &[], Some(3), None),
            "POST /a?b=c HTTP/1.1\r\nhost: other\r\ncontent-length: 3\r\n\r\n"
        );
    }

    #[test]
    fn authorization_of_the_url_gives_way_to_the_rows_and_replaces_the_policys() {
        assert_eq!(
            encoded("GET", &[("authorization", "own")], &[("Authorization", "policy")], None, Some("url")),
            "GET /a?b=c HTTP/1.1\r\nHost: h:8080\r\nauthorization: own\r\n\r\n"
        );
        assert_eq!(
            encoded("GET", &[], &[("Authorization", "policy"), ("A", "b")], None, Some("url")),
            "GET /a?b=c HTTP/1.1\r\nHost: h:8080\r\nAuthorization: url\r\nA: b\r\n\r\n"
        );
    }

    #[test]
    fn content_length_is_written_for_a_body_and_for_methods_that_mean_one() {
        for (method, body_len, expected) in [
            ("GET", None, None),
            ("GET", Some(0), Some("0")),
            ("GET", Some(12), Some("12")),
            ("DELETE", None, None),
            ("OPTIONS", None, None),
            ("PURGE", None, None),
            ("HEAD", None, None),
            ("POST", None, Some("0")),
            ("PUT", None, Some("0")),
            ("PATCH", None, Some("0")),
            ("POST", Some(u64::MAX), Some("18446744073709551615")),
        ] {
            let text = encoded(method, &[], &[], body_len, None);
            let length = text.lines().find_map(|line| line.strip_prefix("Content-Length: "));
            assert_eq!(length, expected, "{method} {body_len:?}");
        }
    }
}
