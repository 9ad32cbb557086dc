//! The text form of steps, so that a file of cases can hold them.

use std::str::FromStr;
use std::time::Duration;

use crate::coded::Coding;
use crate::handshake::Handshake;
use crate::http2;
use crate::script::{ScriptError, Step};

/// Every step of the text form with what follows it; errors print it.
const FORMS: &[(&str, &str)] = &[
    ("read", ""),
    ("read-head", ""),
    ("read-body", ""),
    ("read-bytes", "N"),
    ("send", "TEXT"),
    ("send-hex", "HEX"),
    ("send-coded", "CODING[,CODING…] [OPTION=VALUE…] : TEXT"),
    ("send-gzip-bomb", "SIZE [OPTION=VALUE…]"),
    ("send-deflate-bomb", "SIZE [OPTION=VALUE…]"),
    ("send-br-bomb", "SIZE [OPTION=VALUE…]"),
    ("send-zstd-bomb", "SIZE [OPTION=VALUE…]"),
    ("send-zeros", "SIZE"),
    ("drip", "PAUSE TEXT"),
    ("repeat", "N|forever TEXT"),
    ("repeat-every", "PAUSE N|forever TEXT"),
    ("serve", ""),
    ("wait", "TIME"),
    ("wait-requests", "N"),
    ("half-close", ""),
    ("drain", ""),
    ("close", ""),
    ("close-without-notify", ""),
    ("h2", "STEP …"),
    ("handshake", "reset|close|silence|plain-http|garbage|truncated|unoffered-protocol|skip"),
    ("reset", ""),
    ("hold", ""),
    ("again", ""),
    ("expect-silence", "TIME"),
    ("expect-close", "TIME"),
];

impl FromStr for Step {
    type Err = ScriptError;

    fn from_str(line: &str) -> Result<Step, ScriptError> {
        let (name, rest) = word(line);
        let Some((_, form)) = FORMS.iter().find(|(known, _)| *known == name) else {
            let known: Vec<&str> = FORMS.iter().map(|(known, _)| *known).collect();
            return Err(ScriptError(format!("{name:?} is no step; there are {}", known.join(", "))));
        };
        step(name, rest)
            .map_err(|reason| ScriptError(format!("`{line}`: {reason}; the form is `{name} {form}`")))
    }
}

fn step(name: &str, rest: &str) -> Result<Step, String> {
    let bare = |step: Step| match rest.is_empty() {
        true => Ok(step),
        false => Err(format!("{rest:?} is too much")),
    };
    match name {
        "read" => bare(Step::ReadRequest),
        "read-head" => bare(Step::ReadHead),
        "read-body" => bare(Step::ReadBody),
        "read-bytes" => Ok(Step::ReadBytes(number(rest)? as usize)),
        "send" => Ok(Step::send(unescape(rest)?)),
        "send-hex" => Ok(Step::send(hex(rest)?)),
        "send-coded" => send_coded(rest).map(Step::send),
        "send-zeros" => Ok(Step::send(vec![0; size(rest)? as usize])),
        "drip" => {
            let (pause, text) = word(rest);
            Ok(Step::drip(duration(pause)?, unescape(text)?))
        }
        "repeat" => repeat(Duration::ZERO, rest),
        "repeat-every" => {
            let (pause, rest) = word(rest);
            repeat(duration(pause)?, rest)
        }
        "serve" => bare(Step::Serve),
        "wait" => Ok(Step::Wait(duration(rest)?)),
        "wait-requests" => Ok(Step::WaitForRequests(number(rest)?)),
        "half-close" => bare(Step::HalfClose),
        "drain" => bare(Step::Drain),
        "close" => bare(Step::Close),
        "close-without-notify" => bare(Step::CloseWithoutNotify),
        "h2" => http2::parse(rest).map(Step::Http2),
        "handshake" => Handshake::named(rest).map(Step::Handshake),
        "reset" => bare(Step::Reset),
        "hold" => bare(Step::Hold),
        "again" => bare(Step::Again),
        "expect-silence" => Ok(Step::ExpectSilence(duration(rest)?)),
        "expect-close" => Ok(Step::ExpectClose(duration(rest)?)),
        _ => {
            let coding = name.trim_start_matches("send-").trim_end_matches("-bomb");
            let coding = Coding::named(coding).ok_or("no such coding")?;
            let (length, options) = word(rest);
            let body = coding.bomb(size(length)?);
            Ok(Step::send(Dressing::parse(options)?.response(&[coding], body)))
        }
    }
}

fn repeat(every: Duration, rest: &str) -> Result<Step, String> {
    let (times, text) = word(rest);
    let times = match times {
        "forever" => None,
        times => Some(number(times)?),
    };
    Ok(Step::Repeat { bytes: unescape(text)?.into(), times, every })
}

fn send_coded(rest: &str) -> Result<Vec<u8>, String> {
    let (options, text) = rest.split_once(" : ").ok_or("no ` : ` before the text")?;
    let (names, options) = word(options);
    let codings: Option<Vec<Coding>> = names.split(',').map(Coding::named).collect();
    let codings = codings.ok_or_else(|| format!("{names:?} has an unknown coding"))?;
    let dressing = Dressing::parse(options)?;
    let plain = unescape(text)?.repeat(dressing.times);
    // Content-Encoding lists the codings in the order in which they were applied.
    let body = codings.iter().fold(plain, |body, coding| coding.encode(&body));
    Ok(dressing.response(&codings, body))
}

/// The options of `send-coded` and the bombs: the response around a body, and its damage.
struct Dressing {
    status: u64,
    location: Option<String>,
    content_type: String,
    label: Option<String>,
    times: usize,
    members: usize,
    cut: usize,
    flip: Option<usize>,
    tail: usize,
}

impl Dressing {
    fn parse(options: &str) -> Result<Dressing, String> {
        let mut dressing = Dressing {
            status: 200,
            location: None,
            content_type: "text/plain".into(),
            label: None,
            times: 1,
            members: 1,
            cut: 0,
            flip: None,
            tail: 0,
        };
        for option in options.split_whitespace() {
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            match name {
                "status" => dressing.status = number(value)?,
                "location" => dressing.location = Some(value.into()),
                "type" => dressing.content_type = value.into(),
                "label" => dressing.label = Some(value.into()),
                "times" => dressing.times = number(value)? as usize,
                "members" => dressing.members = number(value)? as usize,
                "cut" => dressing.cut = number(value)? as usize,
                "flip" => dressing.flip = Some(number(value)? as usize),
                "tail" => dressing.tail = number(value)? as usize,
                _ => {
                    return Err(format!(
                        "{name:?} is no option; there are status, location, type, label, times, \
                         members, cut, flip, tail"
                    ));
                }
            }
        }
        Ok(dressing)
    }

    fn response(&self, codings: &[Coding], body: Vec<u8>) -> Vec<u8> {
        let mut body = body.repeat(self.members);
        if let Some(byte) = self.flip.and_then(|at| body.get_mut(at)) {
            *byte ^= 0xff;
        }
        body.truncate(body.len().saturating_sub(self.cut));
        body.extend(vec![b'!'; self.tail]);
        let labels: Vec<&str> = codings.iter().map(|coding| coding.label()).collect();
        let label = self.label.clone().unwrap_or_else(|| labels.join(", "));
        let location = match &self.location {
            Some(location) => format!("Location: {location}\r\n"),
            None => String::new(),
        };
        let mut response = format!(
            "HTTP/1.1 {} Coded\r\nContent-Type: {}\r\nContent-Encoding: {label}\r\n{location}\
             Content-Length: {}\r\n\r\n",
            self.status,
            self.content_type,
            body.len()
        )
        .into_bytes();
        response.extend(body);
        response
    }
}

/// The first word, and what follows its one space.
pub(crate) fn word(text: &str) -> (&str, &str) {
    text.split_once(' ').unwrap_or((text, ""))
}

pub(crate) fn unescape(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        if first != b'\\' {
            bytes.push(first);
            continue;
        }
        let Some((&escape, after)) = after.split_first() else {
            return Err("a lone backslash at the end".into());
        };
        rest = after;
        bytes.push(match escape {
            b'r' => b'\r',
            b'n' => b'\n',
            b't' => b'\t',
            b'0' => 0,
            b'\\' => b'\\',
            b'x' => {
                let digits = after.get(..2).ok_or("\\x needs two hexadecimal digits")?;
                rest = &after[2..];
                hex_byte(digits)?
            }
            other => return Err(format!("\\{} is no escape", char::from(other))),
        });
    }
    Ok(bytes)
}

pub(crate) fn hex(text: &str) -> Result<Vec<u8>, String> {
    let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b' ').collect();
    digits.chunks(2).map(hex_byte).collect()
}

fn hex_byte(digits: &[u8]) -> Result<u8, String> {
    let text = std::str::from_utf8(digits).ok();
    text.filter(|_| digits.len() == 2 && digits.iter().all(u8::is_ascii_hexdigit))
        .and_then(|text| u8::from_str_radix(text, 16).ok())
        .ok_or_else(|| format!("{:?} is no byte", String::from_utf8_lossy(digits)))
}

pub(crate) fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("{text:?} is no number"))
}

pub(crate) fn size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|last: char| !last.is_ascii_digit());
    let unit: u64 = match &text[digits.len()..] {
        "" | "B" => 1,
        "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        unit => return Err(format!("{unit:?} is no unit of size")),
    };
    let size = number(digits)?.checked_mul(unit);
    size.ok_or_else(|| format!("{text:?} is too large"))
}

pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|last: char| !last.is_ascii_digit());
    let unit = match &text[digits.len()..] {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        unit => return Err(format!("{unit:?} is no unit of time (us, ms, s)")),
    };
    let value: f64 = digits.parse().map_err(|_| format!("{text:?} is no time"))?;
    Duration::try_from_secs_f64(value * unit).map_err(|error| error.to_string())
}
