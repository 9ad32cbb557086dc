//! What a row may say about its own framing, and what it must leave to the connection.

use crate::headers::{HeaderView, elements};
use crate::mask::excerpt;
use crate::{Error, Kind};

/// Refuses what would break the framing of a row's own request (RFC 9112 §6), or ask for an answer that is no response
/// to it: a length that is not the body's, a transfer coding, a second `Host`, an upgrade.
///
/// # Errors
/// `bad_request`, naming the field.
pub(crate) fn check_framing(headers: HeaderView<'_>, body_len: Option<u64>) -> Result<(), Error> {
    if headers.is_empty() {
        return Ok(());
    }
    let refuse = |message: String| Err(Error::new(Kind::BadRequest, message));
    let (mut hosts, mut lengths) = (0, 0);
    for (name, value) in headers.iter() {
        if name.eq_ignore_ascii_case("host") {
            hosts += 1;
            if hosts > 1 {
                return refuse("header Host is set twice".into());
            }
        } else if name.eq_ignore_ascii_case("content-length") {
            lengths += 1;
            let body = body_len.unwrap_or(0);
            if lengths > 1 {
                return refuse("header Content-Length is set twice; leave it out, it is added".into());
            }
            if digits(value) != Some(body) {
                let value = excerpt(value);
                return refuse(format!(
                    "header Content-Length is {value}, and the body has {body} bytes; leave it out, it is added"
                ));
            }
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            return refuse("header Transfer-Encoding: the body is sent with its length".into());
        } else if name.eq_ignore_ascii_case("upgrade") {
            return refuse("header Upgrade: the protocol of a connection is not a row's to change".into());
        } else if name.eq_ignore_ascii_case("te") {
            if !value.eq_ignore_ascii_case(b"trailers") {
                return refuse(format!("header TE is {}; only \"trailers\" can be answered", excerpt(value)));
            }
        } else if name.eq_ignore_ascii_case("connection") {
            for option in elements(value).filter(|option| !option.is_empty()) {
                if ![&b"close"[..], b"keep-alive", b"te"]
                    .iter()
                    .any(|known| known.eq_ignore_ascii_case(option))
                {
                    return refuse(format!(
                        "header Connection holds {}; it may hold close, keep-alive and TE",
                        excerpt(option)
                    ));
                }
            }
        }
    }
    Ok(())
}

/// Refuses fields that cannot be the same for every row.
///
/// # Errors
/// `bad_request`, naming the field.
pub(crate) fn check_defaults(headers: HeaderView<'_>) -> Result<(), Error> {
    for name in ["Host", "Content-Length", "Transfer-Encoding", "Upgrade", "TE"] {
        if headers.get(name).is_some() {
            return Err(Error::new(
                Kind::BadRequest,
                format!("header {name} belongs to a single row, not to all"),
            ));
        }
    }
    check_framing(headers, None)
}

/// Whether the fields ask for the connection to end after this exchange (RFC 9112 §9.6).
pub(crate) fn wants_close(headers: HeaderView<'_>) -> bool {
    headers.get_all("connection").flat_map(elements).any(|option| option.eq_ignore_ascii_case(b"close"))
}

/// Whether the fields ask the peer to say whether it wants the body (RFC 9110 §10.1.1).
pub(crate) fn expects_continue(headers: HeaderView<'_>) -> bool {
    headers
        .get_all("expect")
        .flat_map(elements)
        .any(|expected| expected.eq_ignore_ascii_case(b"100-continue"))
}

fn digits(value: &[u8]) -> Option<u64> {
    if value.is_empty() {
        return None;
    }
    value.iter().try_fold(0u64, |sum, byte| match byte {
        b'0'..=b'9' => sum.checked_mul(10)?.checked_add(u64::from(byte - b'0')),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::headers::Headers;

    #[test]
    fn a6_what_would_break_the_framing_is_refused_by_name() {
        for (own, body_len, refused) in [
            (&[("Host", "a")][..], None, None),
            (&[("Host", "a"), ("host", "a")], None, Some("Host")),
            (&[("Content-Length", "3")], Some(3), None),
            (&[("Content-Length", "03")], Some(3), None),
            (&[("Content-Length", "0")], None, None),
            (&[("Content-Length", "4")], Some(3), Some("Content-Length")),
            (&[("Content-Length", "3")], None, Some("Content-Length")),
            (&[("Content-Length", "+3")], Some(3), Some("Content-Length")),
            (&[("Content-Length", "")], None, Some("Content-Length")),
            (&[("Content-Length", "3, 3")], Some(3), Some("Content-Length")),
            (&[("Content-Length", "18446744073709551619")], Some(3), Some("Content-Length")),
            (&[("Content-Length", "3"), ("content-length", "3")], Some(3), Some("Content-Length")),
            (&[("transfer-encoding", "chunked")], Some(3), Some("Transfer-Encoding")),
            (&[("Transfer-Encoding", "identity")], None, Some("Transfer-Encoding")),
            (&[("Connection", "close")], None, None),
            (&[("Connection", "Keep-Alive, TE,")], None, None),
            (&[("Connection", "upgrade")], None, Some("Connection")),
            (&[("Connection", "close, x-secret")], None, Some("Connection")),
            (&[("TE", "trailers")], None, None),
            (&[("TE", "gzip")], None, Some("TE")),
            (&[("Upgrade", "h2c")], None, Some("Upgrade")),
            (&[("Expect", "100-continue"), ("Trailer", "X")], Some(1), None),
        ] {
            let checked = check_framing(Headers::of(own).view(), body_len);
            match refused {
                None => assert!(checked.is_ok(), "{own:?}: {checked:?}"),
                Some(name) => {
                    let error = checked.unwrap_err();
                    assert_eq!(error.kind(), Kind::BadRequest);
                    assert!(error.message().starts_with(&format!("header {name}")), "{own:?}: {error}");
                }
            }
        }
    }

    #[test]
    fn fields_for_every_row_hold_no_framing() {
        assert!(check_defaults(Headers::of(&[("X-Key", "1"), ("Connection", "close")]).view()).is_ok());
        for name in ["host", "Content-Length", "transfer-encoding", "TE", "upgrade"] {
            assert!(check_defaults(Headers::of(&[(name, "0")]).view()).is_err(), "{name}");
        }
    }

    #[test]
    fn close_is_found_among_the_options_of_a_connection() {
        assert!(wants_close(Headers::of(&[("connection", "te, Close")]).view()));
        assert!(!wants_close(Headers::of(&[("connection", "keep-alive"), ("X", "close")]).view()));
    }
}
