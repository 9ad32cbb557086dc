//! Frames (RFC 9113 section 4) and the names of what is in them.

/// What a client sends first (RFC 9113 section 3.4).
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub(crate) const HEAD: usize = 9;

pub(crate) const DATA: u8 = 0x0;
pub(crate) const HEADERS: u8 = 0x1;
pub(crate) const PRIORITY: u8 = 0x2;
pub(crate) const RST_STREAM: u8 = 0x3;
pub(crate) const SETTINGS: u8 = 0x4;
pub(crate) const PUSH_PROMISE: u8 = 0x5;
pub(crate) const PING: u8 = 0x6;
pub(crate) const GOAWAY: u8 = 0x7;
pub(crate) const WINDOW_UPDATE: u8 = 0x8;
pub(crate) const CONTINUATION: u8 = 0x9;

pub(crate) const END_STREAM: u8 = 0x1;
pub(crate) const ACK: u8 = 0x1;
pub(crate) const END_HEADERS: u8 = 0x4;
pub(crate) const PADDED: u8 = 0x8;
pub(crate) const PRIORITIZED: u8 = 0x20;

const KINDS: [(u8, &str); 10] = [
    (DATA, "data"),
    (HEADERS, "headers"),
    (PRIORITY, "priority"),
    (RST_STREAM, "rst"),
    (SETTINGS, "settings"),
    (PUSH_PROMISE, "push"),
    (PING, "ping"),
    (GOAWAY, "goaway"),
    (WINDOW_UPDATE, "window"),
    (CONTINUATION, "continuation"),
];

const ERRORS: [&str; 14] = [
    "NO_ERROR",
    "PROTOCOL_ERROR",
    "INTERNAL_ERROR",
    "FLOW_CONTROL_ERROR",
    "SETTINGS_TIMEOUT",
    "STREAM_CLOSED",
    "FRAME_SIZE_ERROR",
    "REFUSED_STREAM",
    "CANCEL",
    "COMPRESSION_ERROR",
    "CONNECT_ERROR",
    "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY",
    "HTTP_1_1_REQUIRED",
];

const SETTINGS_NAMES: [(u16, &str); 7] = [
    (1, "header_table_size"),
    (2, "enable_push"),
    (3, "max_concurrent_streams"),
    (4, "initial_window_size"),
    (5, "max_frame_size"),
    (6, "max_header_list_size"),
    (8, "enable_connect_protocol"),
];

/// The head of a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) length: usize,
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
}

impl Head {
    pub(crate) fn parse(bytes: &[u8; HEAD]) -> Head {
        Head {
            length: usize::from(bytes[0]) << 16 | usize::from(bytes[1]) << 8 | usize::from(bytes[2]),
            kind: bytes[3],
            flags: bytes[4],
            stream: number(&bytes[5..9]) & 0x7fff_ffff,
        }
    }

    pub(crate) fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// Appends one frame. `length` is what its head says, whatever the payload has.
pub(crate) fn push_with_length(
    out: &mut Vec<u8>,
    length: usize,
    kind: u8,
    flags: u8,
    stream: u32,
    payload: &[u8],
) {
    out.extend_from_slice(&(length as u32).to_be_bytes()[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

/// Appends one frame.
pub(crate) fn push(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    push_with_length(out, payload.len(), kind, flags, stream, payload);
}

/// The first four bytes as a number; what is missing counts as zero.
pub(crate) fn number(bytes: &[u8]) -> u32 {
    (0..4).fold(0, |number, at| number << 8 | u32::from(bytes.get(at).copied().unwrap_or(0)))
}

/// The identifiers and values of a SETTINGS frame.
pub(crate) fn settings(payload: &[u8]) -> impl Iterator<Item = (u16, u32)> {
    payload.chunks_exact(6).map(|one| (u16::from_be_bytes([one[0], one[1]]), number(&one[2..])))
}

pub(crate) fn setting_name(identifier: u16) -> String {
    let known = SETTINGS_NAMES.iter().find(|(known, _)| *known == identifier);
    known.map_or_else(|| format!("{identifier:#x}"), |(_, name)| (*name).to_owned())
}

/// The identifier of a setting by its name or number.
pub(crate) fn setting(name: &str) -> Option<u16> {
    let known = SETTINGS_NAMES.iter().find(|(_, known)| *known == name);
    known.map(|(identifier, _)| *identifier).or_else(|| integer(name)?.try_into().ok())
}

pub(crate) fn error_name(code: u32) -> String {
    ERRORS.get(code as usize).map_or_else(|| format!("{code:#x}"), |name| (*name).to_owned())
}

/// An error code by its name or number.
pub(crate) fn error(name: &str) -> Option<u32> {
    let known = ERRORS.iter().position(|known| *known == name);
    known.map(|code| code as u32).or_else(|| integer(name)?.try_into().ok())
}

/// A type of frame by its name or number.
pub(crate) fn kind(name: &str) -> Option<u8> {
    let known = KINDS.iter().find(|(_, known)| *known == name);
    known.map(|(kind, _)| *kind).or_else(|| integer(name)?.try_into().ok())
}

/// A number in decimal, or in hexadecimal after `0x`.
pub(crate) fn integer(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}
