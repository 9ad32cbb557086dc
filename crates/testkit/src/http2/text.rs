//! The text form of the steps with frames.

use std::time::Duration;

use crate::http2::frame;
use crate::http2::steps::{Act, Answering, Awaited, Draft, Granting, Http2Step, Send, Target};
use crate::text::{duration, hex, number, size, unescape, word};

/// Every form after `h2`; errors print it.
const FORMS: &[(&str, &str)] = &[
    ("preface", "[SETTING=N…]"),
    ("read", "preface | [N] request|requests|head|heads|ack|pong|KIND"),
    ("wait", "TIME"),
    ("drain", ""),
    ("close", ""),
    ("expect-close", "TIME"),
    ("deaf", ""),
    ("attentive", ""),
    ("stingy", ""),
    ("generous", ""),
    ("serve", "[N]"),
    ("settings", "[SETTING=N…]"),
    ("ack", ""),
    ("headers", "[stream=S] [status=N] [NAME=VALUE…] [end] [more] [pad=N] [block=HEX]"),
    ("continuation", "[stream=S] [NAME=VALUE…] [more] [block=HEX]"),
    ("data", "[stream=S] [\"TEXT\"] [size=SIZE] [frame=SIZE] [end] [pad=N]"),
    ("answer", "[stream=S] [status=N] [NAME=VALUE…] [\"TEXT\"] [size=SIZE]"),
    ("rst", "[stream=S] CODE"),
    ("goaway", "[last=S] CODE [\"TEXT\"]"),
    ("ping", "[ack] [HEX]"),
    ("window", "[stream=S] N"),
    ("push", "[stream=S] [promised=S] [NAME=VALUE…] [more] [block=HEX]"),
    ("priority", "[stream=S] [on=N] [weight=N]"),
    ("raw", "type=T [flags=F] [stream=S] [length=N] [HEX]"),
    ("repeat", "N|forever FRAME"),
    ("repeat-every", "PAUSE N|forever FRAME"),
];

/// What a frame may carry without a word of the client (RFC 9113 section 4.2).
const LONGEST: u64 = 16_384;

pub(crate) fn parse(text: &str) -> Result<Http2Step, String> {
    let (name, rest) = word(text);
    let Some((_, form)) = FORMS.iter().find(|(known, _)| *known == name) else {
        let known: Vec<&str> = FORMS.iter().map(|(known, _)| *known).collect();
        return Err(format!("{name:?} is no step of h2; there are {}", known.join(", ")));
    };
    let act = act(name, rest).map_err(|reason| format!("{reason}; the form is `h2 {name} {form}`"))?;
    Ok(Http2Step { text: text.to_owned(), act })
}

fn act(name: &str, rest: &str) -> Result<Act, String> {
    let bare = |act: Act| match rest.is_empty() {
        true => Ok(act),
        false => Err(format!("{rest:?} is too much")),
    };
    match name {
        "preface" => Ok(Act::Preface(send("settings", rest)?)),
        "read" => read(rest),
        "wait" => Ok(Act::Wait(duration(rest)?)),
        "drain" => bare(Act::Drain),
        "close" => bare(Act::Close),
        "expect-close" => Ok(Act::ExpectClose(duration(rest)?)),
        "deaf" => bare(Act::Answering(Answering::Deaf)),
        "attentive" => bare(Act::Answering(Answering::Attentive)),
        "stingy" => bare(Act::Granting(Granting::Stingy)),
        "generous" => bare(Act::Granting(Granting::Generous)),
        "serve" if rest.is_empty() => Ok(Act::Serve(None)),
        "serve" => Ok(Act::Serve(Some(number(rest)?))),
        "repeat" => repeat(Duration::ZERO, rest),
        "repeat-every" => {
            let (pause, rest) = word(rest);
            repeat(duration(pause)?, rest)
        }
        name => Ok(Act::Send(send(name, rest)?)),
    }
}

fn read(rest: &str) -> Result<Act, String> {
    if rest == "preface" {
        return Ok(Act::ReadPreface);
    }
    let (count, noun) = match rest.split_once(' ') {
        Some((count, noun)) => (number(count)?, noun),
        None => (1, rest),
    };
    let awaited = match noun {
        "request" | "requests" => Awaited::Requests,
        "head" | "heads" => Awaited::Heads,
        "ack" => Awaited::SettingsAck,
        "pong" => Awaited::PingAck,
        kind => Awaited::Frames(frame::kind(kind).ok_or_else(|| format!("{kind:?} is nothing to read"))?),
    };
    Ok(Act::Read(count, awaited))
}

fn repeat(every: Duration, rest: &str) -> Result<Act, String> {
    let (times, rest) = word(rest);
    let times = match times {
        "forever" => None,
        times => Some(number(times)?),
    };
    let (name, rest) = word(rest);
    Ok(Act::Repeat { send: send(name, rest)?, times, every })
}

/// The forms that send frames.
fn send(name: &str, rest: &str) -> Result<Send, String> {
    let mut words = Words::parse(rest)?;
    let usual = match name {
        "settings" | "ack" | "goaway" | "ping" | "window" | "raw" => Target::Number(0),
        _ => Target::Last,
    };
    let stream = words.target("stream")?.unwrap_or(usual);
    let frames = match name {
        "settings" => vec![settings(&mut words)?],
        "ack" => vec![Draft::new(frame::SETTINGS, frame::ACK, Vec::new())],
        "headers" => vec![headers(&mut words)?],
        "continuation" => {
            let flags = words.end_headers();
            vec![Draft::new(frame::CONTINUATION, flags, words.block()?)]
        }
        "data" => data(&mut words)?,
        "answer" => answer(&mut words)?,
        "rst" => vec![Draft::new(frame::RST_STREAM, 0, words.code()?.to_be_bytes().to_vec())],
        "goaway" => {
            let last = words.target("last")?.unwrap_or(Target::Last);
            let mut payload = words.code()?.to_be_bytes().to_vec();
            payload.extend(words.text.take().unwrap_or_default());
            vec![Draft { mentioned: Some(last), ..Draft::new(frame::GOAWAY, 0, payload) }]
        }
        "ping" => {
            let flags = if words.has("ack") { frame::ACK } else { 0 };
            let payload = match words.bare.pop() {
                Some(digits) => hex(&digits)?,
                None => vec![0; 8],
            };
            vec![Draft::new(frame::PING, flags, payload)]
        }
        "window" => {
            let increment = words.bare.pop().ok_or("no increment")?;
            let increment = frame::integer(&increment).and_then(|number| u32::try_from(number).ok());
            let increment = increment.ok_or("the increment has 32 bits")?;
            vec![Draft::new(frame::WINDOW_UPDATE, 0, increment.to_be_bytes().to_vec())]
        }
        "push" => {
            let promised = words.target("promised")?.unwrap_or(Target::Promised);
            let flags = words.end_headers();
            let draft = Draft::new(frame::PUSH_PROMISE, flags, words.block()?);
            vec![Draft { mentioned: Some(promised), ..draft }]
        }
        "priority" => {
            let on = words.integer("on")?.unwrap_or(0) as u32;
            let weight = words.integer("weight")?.unwrap_or(16) as u8;
            let payload = [&on.to_be_bytes()[..], &[weight.wrapping_sub(1)]].concat();
            vec![Draft::new(frame::PRIORITY, 0, payload)]
        }
        "raw" => {
            let kind = words.take("type").ok_or("no type")?;
            let kind = frame::kind(&kind).ok_or_else(|| format!("{kind:?} is no type of frame"))?;
            let flags = words.integer("flags")?.unwrap_or(0) as u8;
            let length = words.integer("length")?.map(|length| length as usize);
            let payload = hex(&std::mem::take(&mut words.bare).concat())?;
            vec![Draft { length, ..Draft::new(kind, flags, payload) }]
        }
        name => return Err(format!("`h2 {name}` sends no frame")),
    };
    words.nothing_left()?;
    Ok(Send { stream, frames })
}

fn settings(words: &mut Words) -> Result<Draft, String> {
    let mut payload = Vec::new();
    for (name, value) in std::mem::take(&mut words.pairs) {
        let (name, value) = (lossy(&name), lossy(&value));
        let identifier = frame::setting(&name).ok_or_else(|| format!("{name:?} is no setting"))?;
        let value = frame::integer(&value).and_then(|value| u32::try_from(value).ok());
        payload.extend_from_slice(&identifier.to_be_bytes());
        payload.extend_from_slice(&value.ok_or_else(|| format!("{name} has 32 bits"))?.to_be_bytes());
    }
    Ok(Draft::new(frame::SETTINGS, 0, payload))
}

fn headers(words: &mut Words) -> Result<Draft, String> {
    let pad = words.pad()?;
    let mut flags = words.end_headers();
    flags |= if words.has("end") { frame::END_STREAM } else { 0 };
    Ok(padded(Draft::new(frame::HEADERS, flags, words.block()?), pad))
}

fn data(words: &mut Words) -> Result<Vec<Draft>, String> {
    let pad = words.pad()?;
    let longest = match words.take("frame") {
        Some(longest) => size(&longest)?.max(1),
        None => LONGEST - pad.map_or(0, |pad| u64::from(pad) + 1),
    };
    let body = words.body()?.unwrap_or_default();
    let end = if words.has("end") { frame::END_STREAM } else { 0 };
    Ok(in_frames(&body, longest, end).into_iter().map(|draft| padded(draft, pad)).collect())
}

/// A whole response: its length fits unless it is given.
fn answer(words: &mut Words) -> Result<Vec<Draft>, String> {
    let body = words.body()?.unwrap_or_default();
    if !words.knows("status") {
        words.pairs.insert(0, (b"status".to_vec(), b"200".to_vec()));
    }
    if !words.knows("content-length") {
        words.pairs.push((b"content-length".to_vec(), body.len().to_string().into_bytes()));
    }
    let block = words.block()?;
    let end = if body.is_empty() { frame::END_STREAM } else { 0 };
    let mut frames = vec![Draft::new(frame::HEADERS, frame::END_HEADERS | end, block)];
    if !body.is_empty() {
        frames.extend(in_frames(&body, LONGEST, frame::END_STREAM));
    }
    Ok(frames)
}

fn in_frames(body: &[u8], longest: u64, end: u8) -> Vec<Draft> {
    let mut parts: Vec<&[u8]> = body.chunks(longest as usize).collect();
    if parts.is_empty() {
        parts.push(&[]);
    }
    let last = parts.len() - 1;
    let flags = |at: usize| if at == last { end } else { 0 };
    (parts.iter().enumerate()).map(|(at, part)| Draft::new(frame::DATA, flags(at), part.to_vec())).collect()
}

fn padded(mut draft: Draft, pad: Option<u8>) -> Draft {
    if let Some(pad) = pad {
        draft.flags |= frame::PADDED;
        draft.payload.insert(0, pad);
        draft.payload.extend(vec![0; usize::from(pad)]);
    }
    draft
}

/// Fields as literals that touch no table (RFC 7541 section 6.2.2), so that whatever is wrong
/// with them arrives as it was written.
pub(crate) fn literals<'a>(fields: impl IntoIterator<Item = (&'a [u8], &'a [u8])>) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            // RFC 7541 section 5.1: an integer with a prefix of 7 bits, and no Huffman code.
            if text.len() < 127 {
                block.push(text.len() as u8);
            } else {
                block.push(127);
                let mut left = text.len() - 127;
                while left >= 128 {
                    block.push(left as u8 | 0x80);
                    left >>= 7;
                }
                block.push(left as u8);
            }
            block.extend_from_slice(text);
        }
    }
    block
}

/// What follows the name of a form.
struct Words {
    /// `name=value`, in order.
    pairs: Vec<(Vec<u8>, Vec<u8>)>,
    bare: Vec<String>,
    text: Option<Vec<u8>>,
}

impl Words {
    fn parse(mut rest: &str) -> Result<Words, String> {
        let mut words = Words { pairs: Vec::new(), bare: Vec::new(), text: None };
        loop {
            rest = rest.trim_start_matches(' ');
            if rest.is_empty() {
                return Ok(words);
            }
            let end = rest.find([' ', '"']).unwrap_or(rest.len());
            let (plain, after) = rest.split_at(end);
            let quoted = match after.strip_prefix('"') {
                Some(inner) => {
                    let (inner, after) = inner.split_once('"').ok_or("a quotation that does not end")?;
                    rest = after;
                    Some(unescape(inner)?)
                }
                None => {
                    rest = after;
                    None
                }
            };
            // A pseudo-header begins with a colon, so any sign but the first may be the equals sign.
            let equals = plain.char_indices().skip(1).find(|(_, sign)| *sign == '=').map(|(at, _)| at);
            match (equals, quoted) {
                (Some(at), None) => {
                    words.pairs.push((unescape(&plain[..at])?, unescape(&plain[at + 1..])?));
                }
                (Some(at), Some(value)) if at + 1 == plain.len() => {
                    words.pairs.push((unescape(&plain[..at])?, value));
                }
                (None, Some(text)) if plain.is_empty() && words.text.is_none() => words.text = Some(text),
                (None, None) => words.bare.push(plain.to_owned()),
                _ => return Err(format!("{plain:?} before a quotation")),
            }
        }
    }

    fn take(&mut self, name: &str) -> Option<String> {
        self.take_bytes(name).map(|value| lossy(&value))
    }

    fn take_bytes(&mut self, name: &str) -> Option<Vec<u8>> {
        let at = self.pairs.iter().position(|(known, _)| known == name.as_bytes())?;
        Some(self.pairs.remove(at).1)
    }

    fn knows(&self, name: &str) -> bool {
        self.pairs.iter().any(|(known, _)| known == name.as_bytes())
    }

    fn has(&mut self, name: &str) -> bool {
        let before = self.bare.len();
        self.bare.retain(|word| word != name);
        self.bare.len() < before
    }

    fn integer(&mut self, name: &str) -> Result<Option<u64>, String> {
        let Some(text) = self.take(name) else { return Ok(None) };
        frame::integer(&text).map(Some).ok_or_else(|| format!("{name}={text:?} is no number"))
    }

    fn target(&mut self, name: &str) -> Result<Option<Target>, String> {
        let Some(text) = self.take(name) else { return Ok(None) };
        Ok(Some(match text.as_str() {
            "last" => Target::Last,
            "next" => Target::Next,
            "all" => Target::All,
            text => match text.strip_prefix('#') {
                Some(which) => Target::Request(number(which)? as usize),
                None => {
                    let stream = frame::integer(text).and_then(|number| u32::try_from(number).ok());
                    Target::Number(stream.ok_or_else(|| {
                        format!("{text:?} is no stream; there are a number, #N, last, next, all")
                    })?)
                }
            },
        }))
    }

    fn code(&mut self) -> Result<u32, String> {
        let name = self.bare.pop().ok_or("no error code")?;
        frame::error(&name).ok_or_else(|| format!("{name:?} is no error code"))
    }

    fn pad(&mut self) -> Result<Option<u8>, String> {
        let pad = self.integer("pad")?;
        pad.map(|pad| u8::try_from(pad).map_err(|_| "pad is 0 to 255".to_owned())).transpose()
    }

    fn end_headers(&mut self) -> u8 {
        if self.has("more") { 0 } else { frame::END_HEADERS }
    }

    fn body(&mut self) -> Result<Option<Vec<u8>>, String> {
        let zeros = self.take("size").map(|length| size(&length)).transpose()?;
        let text = self.text.take().or_else(|| self.take_bytes("text"));
        Ok(text.or_else(|| zeros.map(|length| vec![b'*'; length as usize])))
    }

    /// The field block: what is left of the pairs, or bytes.
    fn block(&mut self) -> Result<Vec<u8>, String> {
        if let Some(digits) = self.take("block") {
            return hex(&digits);
        }
        for (name, _) in &mut self.pairs {
            if name == b"status" {
                *name = b":status".to_vec();
            }
        }
        let fields = std::mem::take(&mut self.pairs);
        Ok(literals(fields.iter().map(|(name, value)| (name.as_slice(), value.as_slice()))))
    }

    fn nothing_left(&self) -> Result<(), String> {
        if let Some(word) = self.bare.first() {
            return Err(format!("{word:?} is too much"));
        }
        if let Some((name, _)) = self.pairs.first() {
            return Err(format!("{:?} is too much", lossy(name)));
        }
        match &self.text {
            Some(text) => Err(format!("{:?} is too much", lossy(text))),
            None => Ok(()),
        }
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
