//! What may be shown: URLs without their credentials, pieces of input without what would not print.

use std::fmt;

/// Shows a URL with userinfo and the secret values of its query replaced by `***`.
pub struct MaskedUrl<'a>(pub &'a str);

impl fmt::Display for MaskedUrl<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (head, query) = match self.0.split_once('?') {
            Some((head, query)) => (head, Some(query)),
            None => (self.0, None),
        };
        write_without_userinfo(formatter, head)?;
        let Some(query) = query else { return Ok(()) };
        for (position, pair) in query.split('&').enumerate() {
            formatter.write_str(if position == 0 { "?" } else { "&" })?;
            match pair.split_once('=') {
                Some((name, _)) if is_secret_parameter(name) => write!(formatter, "{name}=***")?,
                _ => formatter.write_str(pair)?,
            }
        }
        Ok(())
    }
}

fn write_without_userinfo(formatter: &mut fmt::Formatter<'_>, head: &str) -> fmt::Result {
    let (scheme, rest) = match head.find("//") {
        Some(at) => head.split_at(at + 2),
        None => ("", head),
    };
    let authority_ends = rest.find(['/', '\\', '#']).unwrap_or(rest.len());
    match rest[..authority_ends].rfind('@') {
        Some(at) => write!(formatter, "{scheme}***{}", &rest[at..]),
        None => formatter.write_str(head),
    }
}

/// A text that is never printed.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Secret(Box<str>);

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl std::ops::Deref for Secret {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("***")
    }
}

/// A piece of what came from outside, safe to print: quoted, escaped, and cut.
pub(crate) fn excerpt(bytes: &[u8]) -> String {
    const SHOWN: usize = 60;
    let cut = if bytes.len() > SHOWN { "…" } else { "" };
    format!("\"{}{cut}\"", bytes[..bytes.len().min(SHOWN)].escape_ascii())
}

/// Whether a query parameter of that name carries a credential.
fn is_secret_parameter(name: &str) -> bool {
    const WORDS: [&str; 6] = ["token", "key", "signature", "secret", "password", "credential"];
    let name = name.to_ascii_lowercase();
    name == "sig" || WORDS.iter().any(|word| name == *word || name.ends_with(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_in_a_url_are_never_shown() {
        for (url, shown) in [
            ("http://u:p@h/x", "http://***@h/x"),
            ("http://u@h", "http://***@h"),
            ("http://h/a@b", "http://h/a@b"),
            ("http://h/?api_key=1&a=2&access_token=3#f", "http://h/?api_key=***&a=2&access_token=***"),
            ("http://h/?X-Amz-Signature=9&keyboard=1", "http://h/?X-Amz-Signature=***&keyboard=1"),
            ("no url", "no url"),
            ("u:p@h/x?key=1", "***@h/x?key=***"),
            ("//u:p@h/x", "//***@h/x"),
        ] {
            assert_eq!(MaskedUrl(url).to_string(), shown, "{url}");
        }
    }
}
