//! The steps of scripts that know frames.

use std::fmt;
use std::time::Duration;

/// One step of a script over HTTP/2. It is made from its text: `"h2 ack".parse::<Step>()`.
#[derive(Clone)]
pub struct Http2Step {
    pub(crate) text: String,
    pub(crate) act: Act,
}

#[derive(Clone)]
pub(crate) enum Act {
    /// Reads the client's preface and its first SETTINGS.
    ReadPreface,
    /// The same, then sends these.
    Preface(Send),
    /// Reads until so many more of these have come.
    Read(u64, Awaited),
    /// Reads for so long.
    Wait(Duration),
    /// Reads until the client ends its side.
    Drain,
    /// Ends the sending side, reads on for a while, and closes.
    Close,
    /// Reads, and fails the test unless the client ends its side within this time.
    ExpectClose(Duration),
    Answering(Answering),
    Granting(Granting),
    /// Answers requests as the well-behaved half would; so many, or for ever.
    Serve(Option<u64>),
    Send(Send),
    Repeat {
        send: Send,
        times: Option<u64>,
        every: Duration,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Awaited {
    Requests,
    Heads,
    SettingsAck,
    PingAck,
    Frames(u8),
}

/// Whether PING and SETTINGS of the client are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answering {
    Attentive,
    Deaf,
}

/// Whether the windows that bodies use up are opened again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Granting {
    Generous,
    Stingy,
}

/// Frames that go out together, on one stream or on each of several.
#[derive(Clone, Debug)]
pub(crate) struct Send {
    pub(crate) stream: Target,
    pub(crate) frames: Vec<Draft>,
}

/// Which stream is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Number(u32),
    /// That of the request that was read last.
    Last,
    /// That of the n-th request of the connection, from 1.
    Request(usize),
    /// The lowest one that the client has not used.
    Next,
    /// Each one whose request is neither answered nor reset.
    All,
    /// The lowest one of the server's that no promise has used.
    Promised,
}

/// A frame whose streams are not known yet.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    /// A number of a stream before the rest of the payload: GOAWAY and PUSH_PROMISE have one.
    pub(crate) mentioned: Option<Target>,
    pub(crate) payload: Vec<u8>,
    /// What the head says instead of the true length.
    pub(crate) length: Option<usize>,
}

impl Http2Step {
    /// Whether it gives the thread away.
    pub(crate) fn rests(&self) -> bool {
        match &self.act {
            Act::ReadPreface | Act::Preface(_) | Act::Drain | Act::Serve(_) => true,
            Act::Read(count, _) => *count > 0,
            Act::Wait(pause) => !pause.is_zero(),
            _ => false,
        }
    }
}

impl fmt::Debug for Http2Step {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Http2({})", self.text)
    }
}

impl Draft {
    pub(crate) fn new(kind: u8, flags: u8, payload: Vec<u8>) -> Draft {
        Draft { kind, flags, mentioned: None, payload, length: None }
    }
}
