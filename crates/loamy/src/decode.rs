//! Content codings undone (RFC 9110 §8.4): a function of the bytes received, with every growth counted.

use crate::Error;
use crate::policy::Sizes;

#[cfg(feature = "decompression")]
mod codings;

/// The response's fields and its body without its content codings, in one piece of its own size; None when there is
/// nothing that can be undone: no body, no coding, `identity` alone, or a coding that is not known.
///
/// The fields are the `Name: value\r\n` lines received, and stay as they are.
///
/// # Errors
/// `decode` when the data of a coding is broken, cut or followed by something else; `too_large` when there are
/// more codings, or more bytes after any of them, than `sizes` allows.
#[cfg(feature = "decompression")]
pub(crate) fn decoded(fields: &[u8], body: &[u8], sizes: &Sizes) -> Result<Option<Vec<u8>>, Error> {
    use std::borrow::Cow;

    use crate::growth::settled;
    use crate::headers::HeaderView;

    if body.is_empty() {
        return Ok(None);
    }
    let mut codings = Vec::new();
    for value in HeaderView::trusted(fields).get_all("content-encoding") {
        for name in value
            .split(|byte| *byte == b',')
            .map(<[u8]>::trim_ascii)
            .filter(|name| !name.is_empty() && !name.eq_ignore_ascii_case(b"identity"))
        {
            if codings.len() == sizes.codings {
                return Err(too_large(format!("the body has more than {} content codings", sizes.codings)));
            }
            codings.push(name);
        }
    }
    // All are known before the first is undone: a body is never handed over half decoded. One that nobody asked for is
    // the sender's own affair (`aws-chunked`, or a charset in the wrong field), and the answer stands as it came.
    let Some(known) = codings.into_iter().map(codings::Coding::named).collect::<Option<Vec<_>>>() else {
        return Ok(None);
    };
    // They stand in the order applied, so the last is undone first.
    let Some((first, outer)) = known.split_first() else {
        return Ok(None);
    };
    let mut body = Cow::Borrowed(body);
    for coding in outer.iter().rev() {
        body = Cow::Owned(coding.undo(&[], &body, sizes)?);
    }
    Ok(Some(settled(first.undo(fields, &body, sizes)?)))
}

/// Without the feature nothing is asked for but `identity`, and a body stays as it came.
#[cfg(not(feature = "decompression"))]
pub(crate) fn decoded(_fields: &[u8], _body: &[u8], _sizes: &Sizes) -> Result<Option<Vec<u8>>, Error> {
    Ok(None)
}

#[cfg(feature = "decompression")]
fn too_large(message: String) -> Error {
    Error::new(crate::Kind::TooLarge, message)
}
