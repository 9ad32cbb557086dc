//! What a scripted connection knows of its HTTP/2: what the client sent, and what may be sent.

use std::collections::{BTreeMap, HashMap};

use loona_hpack::Decoder;

use crate::http2::frame::{self, Head};
use crate::http2::steps::{Answering, Awaited, Draft, Granting, Send, Target};
use crate::http2::watch::Watch;
use crate::recorder::Recorder;
use crate::request::{self, Framing};

/// The window of a stream and of a connection at first (RFC 9113 section 6.9.2).
const FIRST_WINDOW: i64 = 65_535;

pub(crate) struct Session {
    pub(crate) watch: Watch,
    begun: bool,
    number: usize,
    decoder: Decoder<'static>,
    /// A field block that goes on in the next frame.
    block: Option<Block>,
    pub(crate) streams: BTreeMap<u32, Stream>,
    heads: Vec<u32>,
    /// Streams whose requests are whole, in this order.
    requests: Vec<u32>,
    /// How many of them were looked at for an answer.
    served: usize,
    seen: HashMap<Seen, u64>,
    taken: HashMap<Awaited, u64>,
    pub(crate) last: u32,
    highest: u32,
    promised: u32,
    pub(crate) answering: Answering,
    pub(crate) granting: Granting,
    /// Whether the server's SETTINGS are out: nothing may go before them (RFC 9113 section 3.4).
    greeted: bool,
    /// Answers to frames of the client, not yet sent.
    replies: Vec<u8>,
    pub(crate) window: i64,
    initial_window: i64,
}

type Seen = (u8, bool);

struct Block {
    stream: u32,
    flags: u8,
    bytes: Vec<u8>,
}

/// A stream that the client opened.
#[derive(Default)]
pub(crate) struct Stream {
    entry: Option<usize>,
    fields: Vec<(String, Vec<u8>)>,
    pub(crate) body: Vec<u8>,
    complete: bool,
    /// Answered, or reset by either side.
    pub(crate) ended: bool,
    in_flight: bool,
    pub(crate) window: i64,
}

impl Stream {
    /// The request as the routes and the log want it.
    pub(crate) fn with_head<R>(&self, stream: u32, read: impl FnOnce(&request::Head<'_>) -> R) -> R {
        let pseudo = |wanted: &str| {
            let (_, value) = self.fields.iter().find(|(name, _)| name == wanted)?;
            std::str::from_utf8(value).ok()
        };
        let headers: Vec<_> = (self.fields.iter())
            .filter(|(name, _)| !name.starts_with(':'))
            .map(|(name, value)| httparse::Header { name, value })
            .collect();
        let authority = pseudo(":authority");
        read(&request::Head {
            method: pseudo(":method").unwrap_or_default(),
            // CONNECT has no path (RFC 9113 section 8.5).
            target: pseudo(":path").or(authority).unwrap_or_default(),
            headers: &headers,
            framing: Framing::Length(0),
            keep_alive: true,
            expects_continue: false,
            scheme: pseudo(":scheme"),
            authority,
            stream: Some(stream),
        })
    }
}

impl Session {
    pub(crate) fn new(number: usize) -> Session {
        Session {
            watch: Watch::default(),
            begun: false,
            number,
            decoder: Decoder::new(),
            block: None,
            streams: BTreeMap::new(),
            heads: Vec::new(),
            requests: Vec::new(),
            served: 0,
            seen: HashMap::new(),
            taken: HashMap::new(),
            last: 0,
            highest: 0,
            promised: 0,
            answering: Answering::Attentive,
            granting: Granting::Generous,
            greeted: false,
            replies: Vec::new(),
            window: FIRST_WINDOW,
            initial_window: FIRST_WINDOW,
        }
    }

    /// Tells the log what the frames said.
    pub(crate) fn report(&mut self, recorder: &Recorder) {
        recorder.http2(self.number, &self.watch.log, !self.begun);
        self.begun = true;
    }

    /// The stream of the next whole request that nobody has answered.
    pub(crate) fn next_unserved(&mut self) -> Option<u32> {
        while let Some(&number) = self.requests.get(self.served) {
            self.served += 1;
            if !self.streams[&number].ended {
                return Some(number);
            }
        }
        None
    }

    /// What has to be sent back now.
    pub(crate) fn replies(&mut self) -> Vec<u8> {
        if self.greeted { std::mem::take(&mut self.replies) } else { Vec::new() }
    }

    /// Takes `count` more of what is awaited, if so many have come.
    pub(crate) fn take(&mut self, count: u64, awaited: Awaited) -> bool {
        let come = match awaited {
            Awaited::Requests => self.requests.len() as u64,
            Awaited::Heads => self.heads.len() as u64,
            Awaited::SettingsAck => self.seen(frame::SETTINGS, true),
            Awaited::PingAck => self.seen(frame::PING, true),
            Awaited::Frames(kind) => self.seen(kind, false),
        };
        let taken = self.taken.entry(awaited).or_default();
        if come < *taken + count {
            return false;
        }
        *taken += count;
        let at = (*taken as usize).wrapping_sub(1);
        match awaited {
            Awaited::Requests => self.last = self.requests.get(at).copied().unwrap_or(self.last),
            Awaited::Heads => self.last = self.heads.get(at).copied().unwrap_or(self.last),
            _ => {}
        }
        true
    }

    fn seen(&self, kind: u8, ack: bool) -> u64 {
        self.seen.get(&(kind, ack)).copied().unwrap_or(0)
    }

    /// One frame of the client. An error is what was wrong with it.
    pub(crate) fn received(&mut self, head: Head, payload: &[u8], recorder: &Recorder) -> Result<(), String> {
        let ack = matches!(head.kind, frame::SETTINGS | frame::PING) && head.has(frame::ACK);
        *self.seen.entry((head.kind, ack)).or_default() += 1;
        let attentive = self.answering == Answering::Attentive;
        match head.kind {
            frame::DATA => self.data(head, payload, recorder)?,
            frame::HEADERS => {
                let mut fields = unpadded(head, payload)?;
                if head.has(frame::PRIORITIZED) {
                    fields = fields.get(5..).ok_or("HEADERS without its priority")?;
                }
                let block = Block { stream: head.stream, flags: head.flags, bytes: fields.to_vec() };
                self.fields(block, recorder)?;
            }
            frame::CONTINUATION => {
                let mut block = self.block.take().ok_or("CONTINUATION of nothing")?;
                block.bytes.extend_from_slice(payload);
                block.flags |= head.flags & frame::END_HEADERS;
                self.fields(block, recorder)?;
            }
            frame::RST_STREAM => self.end(head.stream, recorder),
            frame::SETTINGS if !ack => {
                for (identifier, value) in frame::settings(payload) {
                    if frame::setting_name(identifier) == "initial_window_size" {
                        let change = i64::from(value) - self.initial_window;
                        self.initial_window += change;
                        self.streams.values_mut().for_each(|stream| stream.window += change);
                    }
                }
                if attentive {
                    frame::push(&mut self.replies, frame::SETTINGS, frame::ACK, 0, &[]);
                }
            }
            frame::PING if !ack && attentive => {
                frame::push(&mut self.replies, frame::PING, frame::ACK, 0, payload);
            }
            frame::WINDOW_UPDATE => {
                let increment = i64::from(frame::number(payload) & 0x7fff_ffff);
                match self.streams.get_mut(&head.stream) {
                    Some(stream) => stream.window += increment,
                    None if head.stream == 0 => self.window += increment,
                    None => {}
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn data(&mut self, head: Head, payload: &[u8], recorder: &Recorder) -> Result<(), String> {
        let body = unpadded(head, payload)?;
        let Some(stream) = self.streams.get_mut(&head.stream) else {
            return Err(format!("DATA on stream {}, which is idle", head.stream));
        };
        stream.body.extend_from_slice(body);
        stream.complete |= head.has(frame::END_STREAM);
        recorder.body(stream.entry, body, stream.complete);
        if stream.complete {
            self.requests.push(head.stream);
        }
        if self.granting == Granting::Generous && head.length > 0 {
            let increment = (head.length as u32).to_be_bytes();
            frame::push(&mut self.replies, frame::WINDOW_UPDATE, 0, 0, &increment);
            if !head.has(frame::END_STREAM) {
                frame::push(&mut self.replies, frame::WINDOW_UPDATE, 0, head.stream, &increment);
            }
        }
        Ok(())
    }

    fn fields(&mut self, block: Block, recorder: &Recorder) -> Result<(), String> {
        if block.flags & frame::END_HEADERS == 0 {
            self.block = Some(block);
            return Ok(());
        }
        // Trailers are decoded as well: they may have changed the table.
        let fields = self.decoder.decode(&block.bytes).map_err(|error| format!("HPACK: {error:?}"))?;
        let end = block.flags & frame::END_STREAM != 0;
        if let Some(stream) = self.streams.get_mut(&block.stream) {
            if end && !stream.complete {
                stream.complete = true;
                recorder.body(stream.entry, &[], true);
                self.requests.push(block.stream);
            }
            return Ok(());
        }
        if block.stream <= self.highest || block.stream.is_multiple_of(2) {
            return Err(format!("HEADERS on stream {} after {}", block.stream, self.highest));
        }
        self.highest = block.stream;
        let text = |name: Vec<u8>| String::from_utf8_lossy(&name).into_owned();
        let fields = fields.into_iter().map(|(name, value)| (text(name), value)).collect();
        let mut stream = Stream { fields, complete: end, in_flight: true, ..Stream::default() };
        stream.window = self.initial_window;
        stream.entry =
            stream.with_head(block.stream, |head| recorder.request(self.number, &block.bytes, head));
        self.heads.push(block.stream);
        if end {
            recorder.body(stream.entry, &[], true);
            self.requests.push(block.stream);
        }
        self.streams.insert(block.stream, stream);
        Ok(())
    }

    /// The stream has no more to come from the server.
    pub(crate) fn end(&mut self, number: u32, recorder: &Recorder) {
        if let Some(stream) = self.streams.get_mut(&number) {
            stream.ended = true;
            if std::mem::take(&mut stream.in_flight) {
                recorder.answered();
            }
        }
    }

    /// The connection is over.
    pub(crate) fn end_all(&mut self, recorder: &Recorder) {
        for number in self.streams.keys().copied().collect::<Vec<_>>() {
            self.end(number, recorder);
        }
    }

    /// The bytes of a step. What it ends counts as answered from here on.
    pub(crate) fn encode(&mut self, send: &Send, recorder: &Recorder) -> Result<Vec<u8>, String> {
        let mut out = Vec::new();
        for stream in self.resolve(send.stream)? {
            for draft in &send.frames {
                self.frame(stream, draft, &mut out, recorder)?;
            }
        }
        Ok(out)
    }

    fn frame(
        &mut self,
        stream: u32,
        draft: &Draft,
        out: &mut Vec<u8>,
        recorder: &Recorder,
    ) -> Result<(), String> {
        let mut payload = Vec::new();
        if let Some(mentioned) = draft.mentioned {
            let number = self.resolve(mentioned)?.last().copied().unwrap_or(0);
            payload.extend_from_slice(&number.to_be_bytes());
        }
        payload.extend_from_slice(&draft.payload);
        let length = draft.length.unwrap_or(payload.len());
        frame::push_with_length(out, length, draft.kind, draft.flags, stream, &payload);
        let end = draft.flags & frame::END_STREAM != 0;
        match draft.kind {
            frame::SETTINGS if draft.flags & frame::ACK == 0 => {
                for (identifier, value) in frame::settings(&payload) {
                    if frame::setting_name(identifier) == "header_table_size" {
                        self.decoder.set_max_allowed_table_size(value as usize);
                    }
                }
                if !std::mem::replace(&mut self.greeted, true) {
                    out.append(&mut self.replies);
                }
            }
            frame::DATA => {
                let length = payload.len() as i64;
                self.window -= length;
                if let Some(stream) = self.streams.get_mut(&stream) {
                    stream.window -= length;
                }
                if end {
                    self.end(stream, recorder);
                }
            }
            frame::HEADERS if end => self.end(stream, recorder),
            frame::RST_STREAM => self.end(stream, recorder),
            _ => {}
        }
        Ok(())
    }

    fn resolve(&mut self, target: Target) -> Result<Vec<u32>, String> {
        Ok(vec![match target {
            Target::Number(number) => number,
            Target::Last => self.last,
            Target::Request(which) => match which.checked_sub(1).and_then(|at| self.heads.get(at)) {
                Some(number) => *number,
                None => return Err(format!("there is no request #{which}")),
            },
            Target::Next => self.highest + if self.highest == 0 { 1 } else { 2 },
            Target::Promised => {
                self.promised += 2;
                self.promised
            }
            Target::All => {
                let open = self.streams.iter().filter(|(_, stream)| !stream.ended);
                return Ok(open.map(|(number, _)| *number).collect());
            }
        }])
    }
}

/// The payload without the padding (RFC 9113 section 6.1).
fn unpadded(head: Head, payload: &[u8]) -> Result<&[u8], String> {
    if !head.has(frame::PADDED) {
        return Ok(payload);
    }
    let (&pad, rest) = payload.split_first().ok_or("padding without its length")?;
    let length = rest.len().checked_sub(usize::from(pad)).ok_or("more padding than payload")?;
    Ok(&rest[..length])
}
