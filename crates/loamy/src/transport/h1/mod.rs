//! HTTP/1.1 without I/O: request heads go out as bytes, responses are made from the bytes that were read.
//!
//! [`encode_head`] writes, [`Decoder`] reads; both only move memory, so every rule of framing (RFC 9112 §6 and §7) is
//! tested by feeding slices. One response becomes one allocation of its own size: its fields as `Name: value\r\n`,
//! then its body. The caller's read buffer is scratch; what is incomplete is all that a decoder keeps of it.

mod chunked;
#[cfg(feature = "_fuzz")]
pub mod door;
mod head;
mod request;
mod response;

pub(crate) use request::{RequestHead, encode_head};
pub(crate) use response::{Decoder, Finished};

use super::Fault;
