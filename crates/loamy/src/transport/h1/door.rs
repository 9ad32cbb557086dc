//! A way in for the fuzzer and for the comparison with hyper. No part of the public interface.

use http::{Method, Version};

use super::{Decoder, Finished};
use crate::headers::HeaderView;
use crate::{Kind, Sizes};

/// What the decoder made of some bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    /// The status.
    pub status: u16,
    /// The version that the peer named.
    pub version: Version,
    /// The fields, as they came.
    pub fields: Vec<(String, Vec<u8>)>,
    /// The body without its transfer coding.
    pub body: Vec<u8>,
    /// Whether the connection may be used again, as far as this response tells.
    pub reusable: bool,
    /// Bytes that followed the response.
    pub left: usize,
}

/// Feeds the bytes in pieces, of which `piece` says the length given how many are left, then the connection's end.
///
/// # Errors
/// What was wrong, as the row would be told.
pub fn read(
    method: &Method,
    sizes: &Sizes,
    input: &[u8],
    mut piece: impl FnMut(usize) -> usize,
) -> Result<Read, (Kind, String)> {
    let mut decoder = Decoder::new(method, sizes);
    let mut at = 0;
    while at < input.len() {
        let end = at + piece(input.len() - at).clamp(1, input.len() - at);
        let fed = decoder.feed(&input[at..end]).map_err(|fault| (fault.kind, fault.message.into_owned()))?;
        at += fed.used;
        if fed.done {
            return Ok(reading(decoder.finish(), input.len() - at));
        }
    }
    decoder.eof().map_err(|fault| (fault.kind, fault.message.into_owned()))?;
    Ok(reading(decoder.finish(), 0))
}

fn reading(finished: Finished, left: usize) -> Read {
    let (fields, body) = finished.bytes.split_at(finished.head_len as usize);
    Read {
        status: finished.status,
        version: finished.version,
        fields: HeaderView::trusted(fields)
            .iter()
            .map(|(name, value)| (name.to_owned(), value.to_vec()))
            .collect(),
        body: body.to_vec(),
        reusable: finished.reusable,
        left,
    }
}
