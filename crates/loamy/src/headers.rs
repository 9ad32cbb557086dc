//! Header fields as they stand on the wire, in one piece of memory: cheap to clone, to send and to keep.

use crate::mask::MaskedUrl;
use crate::{Error, Kind};

/// Header fields in the order and spelling given; a name may occur more than once.
///
/// Kept as the lines `Name: value\r\n` of HTTP/1.1 (RFC 9112 §5), so sending them is one copy.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers {
    lines: Vec<u8>,
}

impl Headers {
    /// No headers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a field; one of the same name that stands already is kept.
    ///
    /// # Errors
    /// `bad_request` when the name is no token (RFC 9110 §5.6.2) or the value holds a control character (§5.5).
    pub fn append(&mut self, name: &str, value: impl AsRef<[u8]>) -> Result<(), Error> {
        let value = value.as_ref();
        check_name(name)?;
        check_value(name, value)?;
        self.lines.reserve(name.len() + value.len() + 4);
        self.lines.extend_from_slice(name.as_bytes());
        self.lines.extend_from_slice(b": ");
        self.lines.extend_from_slice(value);
        self.lines.extend_from_slice(b"\r\n");
        Ok(())
    }

    /// Sets a field: every field of that name is replaced.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    pub fn set(&mut self, name: &str, value: impl AsRef<[u8]>) -> Result<(), Error> {
        self.remove(name);
        self.append(name, value)
    }

    /// Removes every field of that name, in any spelling.
    pub fn remove(&mut self, name: &str) {
        if self.view().get(name).is_none() {
            return;
        }
        let mut kept = Vec::with_capacity(self.lines.len());
        for line in self.view().lines() {
            if !split(line).0.eq_ignore_ascii_case(name) {
                kept.extend_from_slice(line);
            }
        }
        self.lines = kept;
    }

    /// The fields, to look at.
    pub fn view(&self) -> HeaderView<'_> {
        HeaderView { lines: &self.lines }
    }
}

#[cfg(test)]
impl Headers {
    pub(crate) fn of(fields: &[(&str, &str)]) -> Self {
        let mut headers = Self::new();
        for (name, value) in fields {
            headers.append(name, value).unwrap();
        }
        headers
    }
}

impl std::fmt::Debug for Headers {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.view().fmt(formatter)
    }
}

/// Header fields of a [`Request`](crate::Request) or [`Response`](crate::Response), borrowed.
#[derive(Clone, Copy, Default)]
pub struct HeaderView<'a> {
    lines: &'a [u8],
}

impl<'a> HeaderView<'a> {
    /// Reads lines that are known to be well-formed: `Name: value\r\n`, one after the other.
    pub(crate) const fn trusted(lines: &'a [u8]) -> Self {
        Self { lines }
    }

    /// The first value of that name, in any spelling.
    pub fn get(self, name: &str) -> Option<&'a [u8]> {
        self.get_all(name).next()
    }

    /// The first value of that name, where it is UTF-8.
    pub fn get_str(self, name: &str) -> Option<&'a str> {
        self.get(name).and_then(|value| std::str::from_utf8(value).ok())
    }

    /// Every value of that name, in the order received.
    pub fn get_all(self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.iter().filter(move |(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// Every field as name and value, in order.
    pub fn iter(self) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        self.lines().map(split)
    }

    /// The lines as they stand on the wire, each with its CRLF.
    pub fn as_bytes(self) -> &'a [u8] {
        self.lines
    }

    /// Whether there is no field at all.
    pub fn is_empty(self) -> bool {
        self.lines.is_empty()
    }

    fn lines(self) -> impl Iterator<Item = &'a [u8]> {
        let mut rest = self.lines;
        std::iter::from_fn(move || {
            let end = memchr::memchr(b'\n', rest)? + 1;
            let (line, after) = rest.split_at(end);
            rest = after;
            Some(line)
        })
    }
}

impl std::fmt::Debug for HeaderView<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut map = formatter.debug_map();
        for (name, value) in self.iter() {
            let value = String::from_utf8_lossy(value);
            if is_secret(name) {
                map.entry(&name, &"***");
            } else if name.eq_ignore_ascii_case("location") {
                map.entry(&name, &MaskedUrl(&value).to_string());
            } else {
                map.entry(&name, &value);
            }
        }
        map.finish()
    }
}

/// Whether a header of that name carries a credential, so that its value is never shown.
pub fn is_secret(name: &str) -> bool {
    const NAMES: [&str; 10] = [
        "authorization",
        "proxy-authorization",
        "cookie",
        "set-cookie",
        "authentication",
        "apikey",
        "x-auth",
        "x-session",
        "x-session-id",
        "x-password",
    ];
    const ENDINGS: [&str; 8] =
        ["-key", "-apikey", "-token", "-secret", "-signature", "-password", "-authorization", "-jwt"];
    let name = name.to_ascii_lowercase();
    NAMES.contains(&name.as_str())
        || (ENDINGS.iter().any(|ending| name.ends_with(ending)) && name != "idempotency-key")
}

/// Whether a byte may stand in a method or header name (RFC 9110 §5.6.2).
pub(crate) const fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

/// The elements of a comma-separated list (RFC 9110 §5.6.1), trimmed, empty ones included.
pub(crate) fn elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}

fn split(line: &[u8]) -> (&str, &[u8]) {
    let colon = memchr::memchr(b':', line).unwrap_or(line.len().saturating_sub(2));
    let name = std::str::from_utf8(&line[..colon]).unwrap_or_default();
    let value = line.get(colon + 1..line.len().saturating_sub(2)).unwrap_or_default();
    (name, value.strip_prefix(b" ").unwrap_or(value))
}

fn check_name(name: &str) -> Result<(), Error> {
    if name.is_empty() {
        return Err(Error::new(Kind::BadRequest, "header with an empty name"));
    }
    if name.starts_with(':') {
        return Err(Error::new(
            Kind::BadRequest,
            format!("header {name:?}: pseudo-headers are the connection's to set"),
        ));
    }
    if let Some(end) = name.bytes().position(|byte| !is_token_byte(byte)) {
        let bad = char::from(name.as_bytes()[end]);
        // A whole line where a name belongs has its value in it.
        let shown = match &name[..end] {
            before if bad == ':' || is_secret(before) => format!("{before}…"),
            _ => name.to_owned(),
        };
        return Err(Error::new(Kind::BadRequest, format!("header name {shown:?} holds {bad:?}")));
    }
    Ok(())
}

fn check_value(name: &str, value: &[u8]) -> Result<(), Error> {
    match value.iter().find(|byte| (**byte < b' ' && **byte != b'\t') || **byte == 0x7f) {
        Some(bad) => Err(Error::new(
            Kind::BadRequest,
            format!("header {name}: its value holds the control character {:?}", char::from(*bad)),
        )),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_keep_order_spelling_and_repetition() {
        let headers = Headers::of(&[("X-One", "1"), ("x-two", ""), ("X-ONE", "a: b")]);
        let fields: Vec<_> = headers.view().iter().collect();
        assert_eq!(fields, [("X-One", &b"1"[..]), ("x-two", b""), ("X-ONE", b"a: b")]);
        assert_eq!(headers.view().get_all("x-one").collect::<Vec<_>>(), [&b"1"[..], b"a: b"]);
        assert_eq!(headers.view().as_bytes(), b"X-One: 1\r\nx-two: \r\nX-ONE: a: b\r\n");
    }

    #[test]
    fn setting_replaces_every_field_of_the_name() {
        let mut headers = Headers::of(&[("A", "1"), ("B", "2"), ("a", "3")]);
        headers.set("A", "4").unwrap();
        assert_eq!(headers.view().as_bytes(), b"B: 2\r\nA: 4\r\n");
    }

    #[test]
    fn a3_a4_names_that_are_no_token_and_values_with_controls_are_refused() {
        for (name, value) in [
            ("", "v"),
            ("a b", "v"),
            ("a:", "v"),
            (":path", "v"),
            ("é", "v"),
            ("A", "a\r\nB: c"),
            ("A", "\0"),
            ("A", "\n"),
            ("A", "\x7f"),
        ] {
            let error = Headers::new().append(name, value).unwrap_err();
            assert_eq!(error.kind(), Kind::BadRequest, "{name:?}: {value:?}");
        }
        assert!(Headers::new().append("A", "tab\tand \u{fc}").is_ok());
    }

    #[test]
    fn a_line_where_a_name_belongs_is_not_shown_with_its_value() {
        for (name, shown) in [
            ("Authorization: Bearer abc", "header name \"Authorization…\" holds ':'"),
            ("X-Any: abc", "header name \"X-Any…\" holds ':'"),
            ("Authorization Bearer abc", "header name \"Authorization…\" holds ' '"),
            ("a b", "header name \"a b\" holds ' '"),
        ] {
            let error = Headers::new().append(name, "v").unwrap_err();
            assert_eq!(error.message(), shown);
        }
    }

    #[test]
    fn credentials_never_reach_debug() {
        let shown = format!(
            "{:?}",
            Headers::of(&[("Authorization", "Bearer abc"), ("X-Api-Key", "abc"), ("Accept", "x/y")])
        );
        assert!(!shown.contains("abc"), "{shown}");
        assert!(shown.contains("x/y"), "{shown}");
    }
}
