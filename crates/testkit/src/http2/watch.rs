//! Watches the frames of a connection in both directions, whoever writes them.

use std::collections::HashMap;

use serde_json::{Value, json};

use crate::http2::frame::{self, HEAD, Head};

/// How many resets and GOAWAYs of one connection are kept one by one; all are counted.
const KEPT: usize = 1_000;
/// How much of a frame's payload is looked at.
const LOOKED_AT: usize = 256;

/// What the frames on one connection said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Http2Log {
    /// Streams that the client opened.
    pub streams: u64,
    /// Those open now, half-closed ones included (RFC 9113 section 5.1.2).
    pub open: u32,
    /// The greatest number open at once.
    pub max_open: u32,
    /// Frames that the client sent.
    pub frames: u64,
    /// The settings that the client sent, in order, by name; unknown ones as `0x…`.
    pub settings: Vec<(String, u32)>,
    /// Its acknowledgements of SETTINGS.
    pub settings_acks: u64,
    /// RST_STREAM frames that it sent.
    pub resets: u64,
    /// The first 1,000 of them: stream and error code (`CANCEL`).
    pub reset: Vec<(u32, String)>,
    /// GOAWAY frames that it sent: last stream and error code.
    pub goaway: Vec<(u32, String)>,
    /// PING frames that it sent.
    pub pings: u64,
    /// Its answers to PINGs.
    pub ping_acks: u64,
    /// WINDOW_UPDATE frames that it sent.
    pub window_updates: u64,
    /// The sum of their increments for the connection.
    pub window_granted: u64,
}

impl Http2Log {
    /// The fields as a JSON object with their names.
    pub fn to_json(&self) -> Value {
        json!({
            "streams": self.streams,
            "open": self.open,
            "max_open": self.max_open,
            "frames": self.frames,
            "settings": self.settings,
            "settings_acks": self.settings_acks,
            "resets": self.resets,
            "reset": self.reset,
            "goaway": self.goaway,
            "pings": self.pings,
            "ping_acks": self.ping_acks,
            "window_updates": self.window_updates,
            "window_granted": self.window_granted,
        })
    }
}

#[derive(Default)]
pub(crate) struct Watch {
    pub(crate) log: Http2Log,
    received: Scanner,
    sent: Scanner,
    streams: HashMap<u32, Sides>,
    last: u32,
    /// How much of the preface was passed over.
    preface: usize,
}

/// Which sides of a stream have ended.
#[derive(Clone, Copy, Default)]
struct Sides {
    client: bool,
    server: bool,
}

impl Watch {
    /// The client sent these bytes.
    pub(crate) fn received(&mut self, mut bytes: &[u8]) {
        let skip = (frame::PREFACE.len() - self.preface).min(bytes.len());
        self.preface += skip;
        bytes = &bytes[skip..];
        let mut scanner = std::mem::take(&mut self.received);
        scanner.scan(bytes, |head, payload| self.client_frame(head, payload));
        self.received = scanner;
    }

    /// The server sent these bytes.
    pub(crate) fn sent(&mut self, bytes: &[u8]) {
        let mut scanner = std::mem::take(&mut self.sent);
        scanner.scan(bytes, |head, _| match head.kind {
            frame::RST_STREAM => drop(self.streams.remove(&head.stream)),
            frame::DATA | frame::HEADERS if head.has(frame::END_STREAM) => {
                self.ended(head.stream, |sides| sides.server = true);
            }
            _ => {}
        });
        self.sent = scanner;
        self.log.open = self.streams.len() as u32;
    }

    fn client_frame(&mut self, head: Head, payload: &[u8]) {
        self.log.frames += 1;
        match head.kind {
            frame::HEADERS | frame::DATA => {
                if head.kind == frame::HEADERS && head.stream > self.last {
                    self.last = head.stream;
                    self.log.streams += 1;
                    self.streams.insert(head.stream, Sides::default());
                    self.log.max_open = self.log.max_open.max(self.streams.len() as u32);
                }
                if head.has(frame::END_STREAM) {
                    self.ended(head.stream, |sides| sides.client = true);
                }
            }
            frame::RST_STREAM => {
                self.streams.remove(&head.stream);
                self.log.resets += 1;
                if self.log.reset.len() < KEPT {
                    self.log.reset.push((head.stream, frame::error_name(frame::number(payload))));
                }
            }
            frame::SETTINGS if head.has(frame::ACK) => self.log.settings_acks += 1,
            frame::SETTINGS if self.log.settings.len() < KEPT => {
                let named = frame::settings(payload).map(|(id, value)| (frame::setting_name(id), value));
                self.log.settings.extend(named);
            }
            frame::PING if head.has(frame::ACK) => self.log.ping_acks += 1,
            frame::PING => self.log.pings += 1,
            frame::GOAWAY if self.log.goaway.len() < KEPT => {
                let code = payload.get(4..).map_or(0, frame::number);
                let last = frame::number(payload) & 0x7fff_ffff;
                self.log.goaway.push((last, frame::error_name(code)));
            }
            frame::WINDOW_UPDATE => {
                self.log.window_updates += 1;
                if head.stream == 0 {
                    self.log.window_granted += u64::from(frame::number(payload));
                }
            }
            _ => {}
        }
        self.log.open = self.streams.len() as u32;
    }

    fn ended(&mut self, stream: u32, side: impl FnOnce(&mut Sides)) {
        if let Some(sides) = self.streams.get_mut(&stream) {
            side(sides);
            if sides.client && sides.server {
                self.streams.remove(&stream);
            }
        }
    }
}

/// Finds the frames in bytes that come in pieces of any size.
#[derive(Default)]
struct Scanner {
    head: Vec<u8>,
    current: Option<Head>,
    left: usize,
    payload: Vec<u8>,
}

impl Scanner {
    fn scan(&mut self, mut bytes: &[u8], mut frame: impl FnMut(Head, &[u8])) {
        loop {
            let Some(head) = self.current else {
                let take = (HEAD - self.head.len()).min(bytes.len());
                self.head.extend_from_slice(&bytes[..take]);
                bytes = &bytes[take..];
                let Ok(whole) = <&[u8; HEAD]>::try_from(self.head.as_slice()) else { return };
                let head = Head::parse(whole);
                self.head.clear();
                self.left = head.length;
                self.current = Some(head);
                continue;
            };
            let take = self.left.min(bytes.len());
            if head.kind != frame::DATA {
                let looked = take.min(LOOKED_AT - self.payload.len());
                self.payload.extend_from_slice(&bytes[..looked]);
            }
            bytes = &bytes[take..];
            self.left -= take;
            if self.left > 0 {
                return;
            }
            frame(head, &self.payload);
            self.payload.clear();
            self.current = None;
        }
    }
}
