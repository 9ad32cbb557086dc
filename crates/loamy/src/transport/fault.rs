//! Why a response is not whole, or cannot become so.

use std::borrow::Cow;

use crate::{Error, Kind};

/// A failure with its kind, before it is known whose row it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// `closed`, `refused`, `incomplete`, `protocol` or `too_large`.
    pub(crate) kind: Kind,
    /// What was wrong, with the piece of the response that shows it.
    pub(crate) message: Cow<'static, str>,
}

impl Fault {
    pub(crate) fn protocol(message: impl Into<Cow<'static, str>>) -> Self {
        Self { kind: Kind::Protocol, message: message.into() }
    }

    pub(crate) fn too_large(message: impl Into<Cow<'static, str>>) -> Self {
        Self { kind: Kind::TooLarge, message: message.into() }
    }

    pub(crate) fn incomplete(message: impl Into<Cow<'static, str>>) -> Self {
        Self { kind: Kind::Incomplete, message: message.into() }
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        Self::new(fault.kind, fault.message)
    }
}
