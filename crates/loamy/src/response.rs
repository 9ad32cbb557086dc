//! A response in one right-sized piece of memory.

use std::fmt;

use bytes::Bytes;

use crate::headers::HeaderView;

/// A whole response: status, headers, body and where it came from.
///
/// Head and body stand in one allocation of their own size; no read buffer is kept alive by it.
#[derive(Clone)]
pub struct Response {
    pub(crate) status: u16,
    pub(crate) version: http::Version,
    pub(crate) redirects: u16,
    pub(crate) head: u32,
    /// Of its own size, save for large bodies of unknown length, which may have address space to spare. A clone shares it.
    pub(crate) bytes: Bytes,
    pub(crate) url: Box<str>,
}

impl Response {
    /// The status code, as received: 100 to 999.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Whether the status is below 400.
    pub fn is_ok(&self) -> bool {
        self.status < 400
    }

    /// The header fields in the order and spelling received; an obsolete line fold stands as a space.
    pub fn headers(&self) -> HeaderView<'_> {
        HeaderView::trusted(&self.bytes[..self.head as usize])
    }

    /// The body, with its content coding undone.
    pub fn body(&self) -> &[u8] {
        &self.bytes[self.head as usize..]
    }

    /// The body, owned, without copying it.
    pub fn into_body(self) -> Bytes {
        self.bytes.slice(self.head as usize..)
    }

    /// The URL that answered, after redirects, without fragment and credentials.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The protocol version that the peer spoke.
    pub fn version(&self) -> http::Version {
        self.version
    }

    /// How many redirects led here.
    pub fn redirects(&self) -> u16 {
        self.redirects
    }

    /// The response in the terms of the `http` crate.
    ///
    /// # Errors
    /// When a field of the response has no form there.
    pub fn into_http(self) -> Result<http::Response<Bytes>, http::Error> {
        let mut builder = http::Response::builder().status(self.status).version(self.version);
        for (name, value) in self.headers().iter() {
            builder = builder.header(name, value);
        }
        builder.body(self.into_body())
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Response")
            .field("status", &self.status)
            .field("version", &self.version)
            .field("url", &format_args!("{}", crate::mask::MaskedUrl(&self.url)))
            .field("headers", &self.headers())
            .field("body", &format_args!("{} bytes", self.body().len()))
            .finish()
    }
}
