//! HTTP/1.1 without I/O: request heads go out as bytes, responses are made from the bytes that were read.
//!
//! [`encode_head`] writes, [`Decoder`] reads; both only move memory, so every rule of framing (RFC 9112 §6 and §7) is
//! tested by feeding slices. One response becomes one allocation of its own size: its fields as `Name: value\r\n`,
//! then its body. The caller's read buffer is scratch; what is incomplete is all that a decoder keeps of it.

use std::borrow::Cow;

use crate::{Error, Kind};

mod chunked;
#[cfg(feature = "_fuzz")]
pub mod door;
mod head;
mod request;
mod response;

pub(crate) use request::{RequestHead, encode_head};
pub(crate) use response::{Decoder, Finished};

/// Why a response is not whole, or cannot become so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// `closed`, `incomplete`, `protocol` or `too_large`.
    pub(crate) kind: Kind,
    /// What was wrong, with the piece of the response that shows it.
    pub(crate) message: Cow<'static, str>,
}

impl Fault {
    fn protocol(message: impl Into<Cow<'static, str>>) -> Self {
        Self { kind: Kind::Protocol, message: message.into() }
    }

    fn too_large(message: impl Into<Cow<'static, str>>) -> Self {
        Self { kind: Kind::TooLarge, message: message.into() }
    }

    fn incomplete(message: impl Into<Cow<'static, str>>) -> Self {
        Self { kind: Kind::Incomplete, message: message.into() }
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        Self::new(fault.kind, fault.message)
    }
}
