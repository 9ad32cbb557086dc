//! HTTP/2: the well-behaved half on a library, the scripted half on raw frames, and one eye
//! that watches the frames of both.

mod attend;
pub(crate) mod frame;
mod play;
mod session;
mod steps;
mod tapped;
mod text;
mod watch;

use serde_json::Value;

pub(crate) use attend::attend;
pub(crate) use session::Session;
pub use steps::Http2Step;
pub(crate) use text::parse;
pub use watch::Http2Log;

use crate::script::ScriptError;

/// What the well-behaved server says in its SETTINGS, and how wide its windows are. What is
/// `None` is left to the protocol's default (RFC 9113 section 6.5.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Http2 {
    /// How many streams a client may have open at once.
    pub max_concurrent_streams: Option<u32>,
    /// The window of each stream for request bodies, in bytes.
    pub stream_window: Option<u32>,
    /// The window of a connection for request bodies, in bytes.
    pub connection_window: Option<u32>,
    /// The longest frame it takes, in bytes.
    pub max_frame_size: Option<u32>,
    /// The longest field section it takes, in bytes.
    pub max_header_list_size: Option<u32>,
}

impl Http2 {
    /// Reads an object with the names of these fields, all optional.
    ///
    /// # Errors
    /// A field that is unknown or no number.
    pub fn from_json(value: &Value) -> Result<Http2, ScriptError> {
        let mut http2 = Http2::default();
        let fields = value.as_object().ok_or_else(|| ScriptError("http2: an object".into()))?;
        for (name, field) in fields {
            let place = match name.as_str() {
                "max_concurrent_streams" => &mut http2.max_concurrent_streams,
                "stream_window" => &mut http2.stream_window,
                "connection_window" => &mut http2.connection_window,
                "max_frame_size" => &mut http2.max_frame_size,
                "max_header_list_size" => &mut http2.max_header_list_size,
                _ => return Err(ScriptError(format!("http2: {name}: no such field"))),
            };
            let number = field.as_u64().and_then(|number| u32::try_from(number).ok());
            let wrong = || ScriptError(format!("http2: {name}: {field} is no value for it"));
            *place = Some(number.ok_or_else(wrong)?);
        }
        Ok(http2)
    }

    /// Refuses what no SETTINGS may say (RFC 9113 section 6.5.2).
    pub(crate) fn check(&self) -> Result<(), ScriptError> {
        const LARGEST_WINDOW: u32 = (1 << 31) - 1;
        let windows = [self.stream_window, self.connection_window];
        if windows.iter().flatten().any(|window| *window > LARGEST_WINDOW) {
            return Err(ScriptError("http2: a window has up to 2^31-1 bytes".into()));
        }
        match self.max_frame_size {
            Some(size) if !(16_384..=16_777_215).contains(&size) => {
                Err(ScriptError("http2: max_frame_size is 16384 to 16777215".into()))
            }
            _ => Ok(()),
        }
    }
}
