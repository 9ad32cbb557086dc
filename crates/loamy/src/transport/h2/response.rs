//! The head of a response, in the one form that responses are kept in.

use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, HeaderMap};

use crate::growth::TRUSTED;
use crate::policy::Sizes;
use crate::transport::Fault;

/// A final response's head, and the buffer that it begins.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) status: u16,
    /// Whether there is a `content-encoding`.
    pub(crate) is_coded: bool,
    /// The body's length, where it was said; the `h2` crate holds the peer to it (RFC 9113 §8.1.1).
    pub(crate) body_len: Option<u64>,
    /// The fields as `name: value\r\n`, with room for the body.
    pub(crate) bytes: Vec<u8>,
}

/// Takes a head over.
pub(crate) fn head(status: u16, fields: &HeaderMap, sizes: &Sizes) -> Result<Head, Fault> {
    if fields.len() > sizes.fields {
        return Err(Fault::too_large(format!("the response head has more than {} fields", sizes.fields)));
    }
    let size: usize = fields.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    if size > sizes.head {
        return Err(Fault::too_large(format!("the response head is larger than {} bytes", sizes.head)));
    }
    let body_len = fields.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    if body_len.is_some_and(|length| length > sizes.body) {
        let (length, limit) = (body_len.unwrap_or_default(), sizes.body);
        return Err(Fault::too_large(format!("the body is {length} bytes large, more than {limit}")));
    }
    let trusted = body_len.and_then(|length: u64| usize::try_from(length).ok()).unwrap_or(0).min(TRUSTED);
    let mut bytes = Vec::with_capacity(size + trusted);
    for (name, value) in fields {
        bytes.extend_from_slice(name.as_str().as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    Ok(Head { status, is_coded: fields.contains_key(CONTENT_ENCODING), body_len, bytes })
}
