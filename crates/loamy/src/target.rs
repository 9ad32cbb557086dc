//! From a URL to an origin and a request target: one parser for what is checked and for what is connected to.

use std::borrow::Cow;
use std::fmt;

use base64::Engine;
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use url::Url;

use crate::mask::Secret;
use crate::{Error, Kind};

/// The scheme of an origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Scheme {
    Http,
    Https,
}

/// Scheme, host and port: what limits, queues and connections are kept for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Origin {
    pub(crate) scheme: Scheme,
    /// As WHATWG serialises it: lower case, IPv6 in brackets, names in ASCII.
    pub(crate) host: Box<str>,
    pub(crate) port: u16,
}

impl Origin {
    /// The value of the Host field (RFC 9110 §7.2).
    pub(crate) fn authority(&self) -> String {
        match (self.scheme, self.port) {
            (Scheme::Http, 80) | (Scheme::Https, 443) => self.host.to_string(),
            (_, port) => format!("{}:{port}", self.host),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.host, self.port)
    }
}

/// A URL, parsed: the text that is kept and where its request target begins.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) origin: Origin,
    /// Without userinfo and fragment; `url[path_at..]` is the request target in origin form.
    pub(crate) url: String,
    pub(crate) path_at: usize,
    /// `Basic …`, where the URL had userinfo (RFC 9110 §4.2.4, RFC 7617).
    pub(crate) authorization: Option<Secret>,
}

/// Parses a row's URL as WHATWG does, save that tab, CR and LF are refused instead of dropped.
pub(crate) fn parse(text: &str, raw: bool) -> Result<Target, Error> {
    if let Some(bad) = text.chars().find(|c| c.is_ascii_control()) {
        let hint = text.ends_with(['\n', '\r']).then_some("the URL ends with a line break; strip it".into());
        return Err(bad_url(format!("the URL holds the control character {bad:?}")).hinted(hint));
    }
    if text.starts_with(' ') || text.ends_with(' ') {
        return Err(bad_url("the URL begins or ends with a space".to_owned()));
    }
    let (before_query, query) = split_query(text);
    let url = Url::parse(before_query).map_err(|why| match why {
        url::ParseError::RelativeUrlWithoutBase if text.is_empty() => bad_url("the URL is empty".to_owned()),
        url::ParseError::RelativeUrlWithoutBase => {
            let shown = crate::mask::MaskedUrl(text).to_string();
            let is_path = text.starts_with('/') && !text.starts_with("//");
            let whole = if is_path {
                format!("example.com{shown}")
            } else {
                shown.trim_start_matches('/').to_owned()
            };
            bad_url(format!("the URL {shown:?} has no scheme")).hinted(Some(written_whole(&whole)))
        }
        why => bad_url(format!("the URL is not valid: {why}")),
    })?;
    resolve(url, if raw { Behind::Raw(text) } else { Behind::Query(query) })
}

fn written_whole(url: &str) -> Cow<'static, str> {
    format!("write it whole, as in \"http://{url}\"").into()
}

/// What stands behind the path of a parsed URL.
enum Behind<'a> {
    /// What the parser found there.
    AsParsed,
    /// A query as typed, to be serialised.
    Query(Option<&'a str>),
    /// Path and query are those of this URL, byte for byte.
    Raw(&'a str),
}

/// The URL up to its query, and the query; the fragment is dropped, as it is never sent (RFC 9110 §7.1).
fn split_query(text: &str) -> (&str, Option<&str>) {
    let text = text.split_once('#').map_or(text, |(text, _)| text);
    text.split_once('?').map_or((text, None), |(before, query)| (before, Some(query)))
}

/// What a query may not hold as it is: WHATWG's query set. Its extra `'` for http is left alone, since RFC 3986 allows
/// it and signed URLs have it.
const QUERY: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'<').add(b'>');

/// Parses a Location against the URL that sent it (RFC 9110 §10.2.2).
pub(crate) fn join(base: &str, location: &[u8]) -> Result<Target, Error> {
    let location: String = location
        .iter()
        .map(|byte| if byte.is_ascii() { char::from(*byte).to_string() } else { format!("%{byte:02X}") })
        .collect();
    let url = Url::parse(base).and_then(|base| base.join(&location)).map_err(|why| {
        Error::new(
            Kind::Redirect,
            format!("the Location {:?} is not valid: {why}", crate::mask::MaskedUrl(&location).to_string()),
        )
    })?;
    resolve(url, Behind::AsParsed)
}

fn resolve(mut url: Url, behind: Behind<'_>) -> Result<Target, Error> {
    let scheme = match url.scheme() {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        other => {
            let error = Error::new(
                Kind::Blocked,
                format!("the scheme {other:?} is not spoken; \"http\" and \"https\" are"),
            );
            // `localhost:8080/x`: a host and its port are a scheme and a path to the grammar (RFC 3986 §3).
            let is_port =
                url.cannot_be_a_base() && url.path().starts_with(|first: char| first.is_ascii_digit());
            let hint = is_port.then(|| written_whole(&crate::mask::MaskedUrl(url.as_str()).to_string()));
            return Err(error.hinted(hint));
        }
    };
    let authorization = basic(&url);
    url.set_fragment(None);
    if authorization.is_some() {
        // Both setters fail only for URLs without a host, which http URLs never are.
        let _ = url.set_username("");
        let _ = url.set_password(None);
    }
    let host = url.host_str().ok_or_else(|| bad_url("the URL has no host".to_owned()))?;
    let port = url.port_or_known_default().unwrap_or(80);
    let origin = Origin { scheme, host: host.into(), port };
    let path_at = url[..url::Position::BeforePath].len();
    let url = match behind {
        Behind::AsParsed | Behind::Query(None) => String::from(url),
        Behind::Query(Some(query)) => format!("{url}?{}", utf8_percent_encode(query, QUERY)),
        Behind::Raw(text) => with_raw_target(&url[..url::Position::BeforePath], text)?,
    };
    Ok(Target { origin, url, path_at, authorization })
}

/// The parsed authority with path and query exactly as typed.
fn with_raw_target(authority: &str, text: &str) -> Result<String, Error> {
    // What the parser mends here, it would have mended in the target too: where that begins must not be a matter of opinion.
    let rest = text.split_once(':').and_then(|(_, rest)| rest.strip_prefix("//"));
    let rest = rest.ok_or_else(|| bad_url("a URL sent as it is has \"://\" behind its scheme".to_owned()))?;
    let (host, target) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    if host.is_empty() || host.contains('\\') {
        return Err(bad_url(
            "a URL sent as it is has its host, and no backslash, before its path".to_owned(),
        ));
    }
    let target = target.split_once('#').map_or(target, |(target, _)| target);
    if target.contains(' ') {
        return Err(bad_url("a URL sent as it is must not hold a space".to_owned()));
    }
    let slash = if target.starts_with('/') { "" } else { "/" };
    Ok(format!("{authority}{slash}{target}"))
}

fn basic(url: &Url) -> Option<Secret> {
    if url.username().is_empty() && url.password().is_none() {
        return None;
    }
    let mut pair = percent_decoded(url.username());
    pair.push(b':');
    pair.extend(percent_decoded(url.password().unwrap_or_default()));
    Some(format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair)).into())
}

fn percent_decoded(text: &str) -> Vec<u8> {
    percent_decode_str(text).collect()
}

/// Whether everything behind the authority is sent as it stands: then the URL need not be parsed again.
///
/// True only for what WHATWG's path and query states copy unchanged; a dot segment, its `%2e` spelling and every
/// byte that is rewritten or uncertain go the long way.
pub(crate) fn is_plain_target(target: &[u8]) -> bool {
    target.first() == Some(&b'/')
        && target.iter().all(|byte| PLAIN[*byte as usize])
        && !target.windows(2).any(|pair| pair == b"/.")
        && !target.windows(3).any(|three| three.eq_ignore_ascii_case(b"%2e"))
}

const PLAIN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = b'!';
    while byte < 0x7f {
        table[byte as usize] =
            !matches!(byte, b'"' | b'#' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}');
        byte += 1;
    }
    table
};

fn bad_url(message: String) -> Error {
    Error::new(Kind::BadRequest, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(text: &str) -> String {
        let target = parse(text, false).unwrap();
        target.url[target.path_at..].to_owned()
    }

    #[test]
    fn b8_b9_path_and_query_go_out_as_whatwg_serialises_them_without_fragment() {
        for (url, sent) in [
            ("http://h", "/"),
            ("http://h?", "/?"),
            ("http://h/a/../b", "/b"),
            ("http://h/%2e%2e/b", "/b"),
            ("http://h/%00%zz%", "/%00%zz%"),
            ("http://h/a b?c d", "/a%20b?c%20d"),
            ("http://h/é?é", "/%C3%A9?%C3%A9"),
            ("http://h/a;b?x=%2F+%20'", "/a;b?x=%2F+%20'"),
            ("http://h/x#frag", "/x"),
            ("http://h/?sig=a%2Bb%3d==", "/?sig=a%2Bb%3d=="),
        ] {
            assert_eq!(target(url), sent, "{url}");
        }
    }

    #[test]
    fn k15_a_raw_url_goes_out_byte_for_byte() {
        for (url, sent) in [
            ("http://h/a/../b?'", "/a/../b?'"),
            ("http://h?x", "/?x"),
            ("http://h/%2e#f", "/%2e"),
            ("http://u:p@h/a\\b", "/a\\b"),
            ("HTTP://h/a?b=http://c", "/a?b=http://c"),
            ("http://h", "/"),
        ] {
            let target = parse(url, true).unwrap();
            assert_eq!(&target.url[target.path_at..], sent, "{url}");
        }
        for url in [
            "http://h/a b",
            "http:/h/a",
            "http:///h/a",
            "http:h/a",
            "http:h/a?http://h/b",
            "http://h\\a/b",
            "http:\\\\h/a",
            "http://u\\@h/a",
        ] {
            assert_eq!(parse(url, true).unwrap_err().kind(), Kind::BadRequest, "{url}");
        }
    }

    #[test]
    fn b1_b2_bad_urls_are_refused_by_name() {
        for (url, kind) in [
            ("ftp://h/", Kind::Blocked),
            ("file:///etc/passwd", Kind::Blocked),
            ("data:,x", Kind::Blocked),
            ("h/path", Kind::BadRequest),
            ("", Kind::BadRequest),
            ("http://", Kind::BadRequest),
            ("http://h:99999/", Kind::BadRequest),
            ("http://[::1/", Kind::BadRequest),
            ("http://a b/", Kind::BadRequest),
            ("http://h/\r\nX: y", Kind::BadRequest),
            ("http://h/\t", Kind::BadRequest),
            ("http://h/ ", Kind::BadRequest),
        ] {
            assert_eq!(parse(url, false).unwrap_err().kind(), kind, "{url:?}");
        }
        assert_eq!(
            parse("api.x.com/v1", false).unwrap_err().hint(),
            Some("write it whole, as in \"http://api.x.com/v1\"")
        );
    }

    #[test]
    fn b1_a_host_without_a_scheme_is_told_how_to_write_it() {
        for (url, hint) in [
            ("localhost:8080/x", Some("write it whole, as in \"http://localhost:8080/x\"")),
            ("api.example:443", Some("write it whole, as in \"http://api.example:443\"")),
            ("u:1@h/", Some("write it whole, as in \"http://***@h/\"")),
            ("//h/x", Some("write it whole, as in \"http://h/x\"")),
            ("/a?b=c", Some("write it whole, as in \"http://example.com/a?b=c\"")),
            ("mailto:a", None),
            ("file:///1", None),
        ] {
            assert_eq!(parse(url, false).unwrap_err().hint(), hint, "{url:?}");
        }
    }

    #[test]
    fn b3_b4_b5_b6_the_host_is_what_whatwg_says_and_userinfo_becomes_basic() {
        for (url, host, port) in [
            ("http://good@evil/", "evil", 80),
            ("http://evil\\@good/", "evil", 80),
            ("http://a@b@c:81/", "c", 81),
            ("http://0x7f.1/", "127.0.0.1", 80),
            ("http://2130706433/", "127.0.0.1", 80),
            ("http://0/", "0.0.0.0", 80),
            ("http://[::ffff:127.0.0.1]/", "[::ffff:7f00:1]", 80),
            ("http://BÜCHER.example/", "xn--bcher-kva.example", 80),
            ("http://a。b/", "a.b", 80),
            ("http://h./", "h.", 80),
        ] {
            let origin = parse(url, false).unwrap().origin;
            assert_eq!((&*origin.host, origin.port), (host, port), "{url}");
        }
        assert!(parse("http://xn--example-.org/", false).is_err());
        let target = parse("http://us%40er:p%3Aw@h/x", false).unwrap();
        assert_eq!(target.authorization.as_deref(), Some("Basic dXNAZXI6cDp3"));
        assert_eq!(target.url, "http://h/x");
    }

    #[test]
    fn a_plain_target_is_one_that_parsing_would_not_change() {
        for text in ["/", "/a/b-c_d~e?x=1&y=%2F", "/a;b,c:d@e!$()*+=[]", "/a?b?c/d"] {
            assert!(is_plain_target(text.as_bytes()), "{text}");
            assert_eq!(target(&format!("http://h{text}")), text);
        }
        for text in ["", "a", "/a/../b", "/%2E/b", "/a b", "/a#b", "/é", "/a\\b", "/a|b"] {
            assert!(!is_plain_target(text.as_bytes()), "{text}");
        }
    }
}
