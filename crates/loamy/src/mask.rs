//! What may be shown: URLs without their credentials, pieces of input without what would not print.

use std::fmt;

/// Shows a URL with userinfo and the secret values of its query and its fragment replaced by `***`.
pub struct MaskedUrl<'a>(pub &'a str);

impl fmt::Display for MaskedUrl<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, rest) = split_scheme(self.0);
        let shown = match userinfo_end(self.0, rest) {
            Some(at) => {
                write!(formatter, "{scheme}***")?;
                &rest[at..]
            }
            None => {
                formatter.write_str(scheme)?;
                rest
            }
        };
        let (head, pairs) = shown.split_at(shown.find(['?', '#']).unwrap_or(shown.len()));
        formatter.write_str(head)?;
        for (position, pair) in pairs.split('&').enumerate() {
            formatter.write_str(if position == 0 { "" } else { "&" })?;
            match secret_value(pair) {
                Some(at) => write!(formatter, "{}***", &pair[..at])?,
                None => formatter.write_str(pair)?,
            }
        }
        Ok(())
    }
}

/// Where the value of a secret parameter begins; behind `?` and `#` a pair begins anew.
fn secret_value(text: &str) -> Option<usize> {
    let begins = text.match_indices(['?', '#']).map(|(at, _)| at + 1);
    std::iter::once(0).chain(begins).find_map(|begin| {
        let (name, _) = text[begin..].split_once('=')?;
        is_secret_parameter(name).then_some(begin + name.len() + 1)
    })
}

/// The text up to its authority, and what follows.
fn split_scheme(text: &str) -> (&str, &str) {
    match text.find("//") {
        Some(at) if at == 0 || text[..at].ends_with(':') => text.split_at(at + 2),
        _ => ("", text),
    }
}

/// Where the `@` stands that ends the userinfo; `rest` is the text behind the scheme.
fn userinfo_end(text: &str, rest: &str) -> Option<usize> {
    let authority_ends = rest.find(['/', '\\', '?', '#']).unwrap_or(rest.len());
    let behind = rest[authority_ends..].rfind('@').map(|at| authority_ends + at);
    // A path, which has no authority before it, has no userinfo.
    let is_path = authority_ends == 0;
    match behind {
        // A password with one of these four in it cuts the authority short. What is left is hardly ever a URL of ours, and where it is
        // none, more is hidden rather than less.
        Some(at) if !is_path && !is_web_url(text) => Some(at),
        _ => rest[..authority_ends].rfind('@'),
    }
}

fn is_web_url(text: &str) -> bool {
    url::Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "http" | "https"))
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
    const NAMES: [&str; 4] = ["sig", "code", "sid", "session_id"];
    const ENDINGS: [&str; 13] = [
        "token",
        "key",
        "signature",
        "secret",
        "password",
        "passwd",
        "pwd",
        "passphrase",
        "credential",
        "credentials",
        "auth",
        "jwt",
        "session",
    ];
    let name = name.to_ascii_lowercase();
    NAMES.contains(&name.as_str()) || ENDINGS.iter().any(|ending| name.ends_with(ending))
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
            ("http://h/#access_token=1&a=2", "http://h/#access_token=***&a=2"),
            ("http://h/?a=1#token=2", "http://h/?a=1#token=***"),
            ("http://h/?next=/x?token=1&a=2#b", "http://h/?next=/x?token=***&a=2#b"),
            ("http://h/?token=1?a=2#key=3", "http://h/?token=***"),
            ("http://h/?a=1&token=1#key=3", "http://h/?a=1&token=***"),
            ("no url", "no url"),
            ("u:p@h/x?key=1", "***@h/x?key=***"),
            ("//u:p@h/x", "//***@h/x"),
            (
                "http://h/?pwd=1&auth=2&jwt=3&code=4&zipcode=5",
                "http://h/?pwd=***&auth=***&jwt=***&code=***&zipcode=5",
            ),
        ] {
            assert_eq!(MaskedUrl(url).to_string(), shown, "{url}");
        }
    }

    #[test]
    fn a_password_that_breaks_its_url_is_not_shown_either() {
        for (url, shown) in [
            ("http://u:s3c/r3t@h:9/x", "http://***@h:9/x"),
            ("http://u:s3c#r3t@h/", "http://***@h/"),
            ("http://u:s3c?r3t@h/?a=b", "http://***@h/?a=b"),
            ("http://u:s3c\\r3t@h/", "http://***@h/"),
            ("http://u:s3c//r3t@h/", "http://***@h/"),
            ("http://u:s3c/r3t@h ost/", "http://***@h ost/"),
            ("u:s3c/r3t@h/x", "***@h/x"),
            ("u:s3c//r3t@h/x", "***@h/x"),
            ("ftp://u:s3c/r3t@h/x", "ftp://***@h/x"),
            ("http://h/a@b/c?mail=d@e#f@g", "http://h/a@b/c?mail=d@e#f@g"),
            ("/a@b", "/a@b"),
        ] {
            assert_eq!(MaskedUrl(url).to_string(), shown, "{url}");
        }
    }
}
