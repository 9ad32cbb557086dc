//! An outcome as bytes and back. What the row itself can say again (tag, URL, method) is not kept.

use std::fmt;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Version};

use crate::kind::KINDS;
use crate::mask::MaskedUrl;
use crate::{Attempt, Error, Kind, Outcome, Request, Response, Timing};

/// The layout below. Another layout is another number; old ones stay readable.
const LAYOUT: u8 = 1;

/// What does not read as an outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unreadable;

/// Appends the outcome's record.
pub(crate) fn write(outcome: &Outcome, into: &mut Vec<u8>) {
    let mut writer = Writer(into);
    writer.byte(LAYOUT);
    writer.four(outcome.attempts);
    // Fewer than attempts.
    writer.four(outcome.earlier.len() as u32);
    for attempt in &outcome.earlier {
        match attempt {
            Attempt::Answered(status) => {
                writer.byte(0);
                writer.two(*status);
            }
            Attempt::Failed(kind) => {
                writer.byte(1);
                writer.piece(kind.name().as_bytes());
            }
            Attempt::Outrun => writer.byte(2),
        }
    }
    writer.eight(u64::try_from(outcome.timing.elapsed.as_nanos()).unwrap_or(u64::MAX));
    match &outcome.result {
        Ok(response) => {
            writer.byte(if outcome.has_acted { 2 } else { 0 });
            writer.response(response);
        }
        Err(error) => {
            writer.byte(1);
            writer.error(error);
        }
    }
}

/// Reads the record of a row's outcome; tag and URL are those of the row.
pub(crate) fn read(bytes: &[u8], index: usize, request: &Request) -> Result<Outcome, Unreadable> {
    let mut reader = Reader(bytes);
    if reader.byte()? != LAYOUT {
        return Err(Unreadable);
    }
    let attempts = reader.four()?;
    let earlier = (0..reader.four()?).map(|_| reader.attempt()).collect::<Result<_, _>>()?;
    let elapsed = Duration::from_nanos(reader.eight()?);
    let (has_acted, result) = match reader.byte()? {
        0 => (false, Ok(reader.response(request)?)),
        1 => (false, Err(reader.error(request)?)),
        2 => (true, Ok(reader.response(request)?)),
        _ => return Err(Unreadable),
    };
    if !reader.0.is_empty() {
        return Err(Unreadable);
    }
    Ok(Outcome {
        index,
        tag: request.tag.clone(),
        attempts,
        earlier,
        timing: Timing { elapsed },
        replayed: true,
        over_budget: false,
        has_acted,
        is_left: false,
        result,
    })
}

struct Writer<'a>(&'a mut Vec<u8>);

impl Writer<'_> {
    fn byte(&mut self, byte: u8) {
        self.0.push(byte);
    }

    fn two(&mut self, number: u16) {
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    fn four(&mut self, number: u32) {
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    fn eight(&mut self, number: u64) {
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    fn piece(&mut self, bytes: &[u8]) {
        self.eight(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn optional<T: ?Sized>(&mut self, value: Option<&T>, write: impl FnOnce(&mut Self, &T)) {
        self.byte(u8::from(value.is_some()));
        if let Some(value) = value {
            write(self, value);
        }
    }

    fn response(&mut self, response: &Response) {
        self.two(response.status);
        self.byte(match response.version {
            Version::HTTP_09 => 9,
            Version::HTTP_10 => 10,
            Version::HTTP_2 => 20,
            Version::HTTP_3 => 30,
            _ => 11,
        });
        self.two(response.redirects);
        // Where a redirect led may hold a secret that is good for whoever reads it (a signed URL). The row's own URL is
        // not kept at all.
        let elsewhere = (response.redirects > 0).then(|| MaskedUrl(&response.url).to_string());
        self.optional(elsewhere.as_deref(), |writer, url| writer.piece(url.as_bytes()));
        self.four(response.head);
        self.piece(&response.bytes);
    }

    fn error(&mut self, error: &Error) {
        self.piece(error.kind().name().as_bytes());
        self.piece(error.message().as_bytes());
        self.optional(error.hint(), |writer, hint| writer.piece(hint.as_bytes()));
        // The subject is masked where it is made.
        let subject = error.subject();
        self.byte(u8::from(subject.is_some()));
        if let Some((method, url)) = subject {
            self.piece(method.as_str().as_bytes());
            self.piece(url.as_bytes());
        }
        self.byte(u8::from(error.in_doubt()));
        self.four(error.attempts());
        self.eight(error.bytes_sent());
        self.eight(error.bytes_received());
        let peer = error.peer();
        self.byte(u8::from(peer.is_some()));
        if let Some((host, port)) = peer {
            self.piece(host.as_bytes());
            self.two(port);
        }
        self.optional(error.os_error().as_ref(), |writer, number| writer.four(number.cast_unsigned()));
        let chain: Vec<String> =
            std::iter::successors(std::error::Error::source(error), |cause| cause.source())
                .map(ToString::to_string)
                .take(usize::from(u8::MAX))
                .collect();
        self.byte(chain.len() as u8);
        for cause in &chain {
            self.piece(cause.as_bytes());
        }
        self.optional(error.response(), Self::response);
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], Unreadable> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Unreadable)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Unreadable> {
        self.take(N)?.try_into().map_err(|_| Unreadable)
    }

    fn byte(&mut self) -> Result<u8, Unreadable> {
        Ok(self.array::<1>()?[0])
    }

    fn flag(&mut self) -> Result<bool, Unreadable> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Unreadable),
        }
    }

    fn two(&mut self) -> Result<u16, Unreadable> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    fn four(&mut self) -> Result<u32, Unreadable> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn eight(&mut self) -> Result<u64, Unreadable> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn piece(&mut self) -> Result<&'a [u8], Unreadable> {
        let length = usize::try_from(self.eight()?).map_err(|_| Unreadable)?;
        self.take(length)
    }

    fn text(&mut self) -> Result<&'a str, Unreadable> {
        std::str::from_utf8(self.piece()?).map_err(|_| Unreadable)
    }

    fn optional<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, Unreadable>,
    ) -> Result<Option<T>, Unreadable> {
        if self.flag()? { read(self).map(Some) } else { Ok(None) }
    }

    fn response(&mut self, request: &Request) -> Result<Response, Unreadable> {
        let status = self.two()?;
        let version = match self.byte()? {
            9 => Version::HTTP_09,
            10 => Version::HTTP_10,
            11 => Version::HTTP_11,
            20 => Version::HTTP_2,
            30 => Version::HTTP_3,
            _ => return Err(Unreadable),
        };
        let redirects = self.two()?;
        let url = self.optional(Self::text)?.unwrap_or(&request.url);
        let head = self.four()?;
        let bytes = self.piece()?;
        if head as usize > bytes.len() {
            return Err(Unreadable);
        }
        Ok(Response {
            status,
            version,
            redirects,
            head,
            bytes: Bytes::copy_from_slice(bytes),
            url: url.into(),
        })
    }

    fn kind(&mut self) -> Result<Kind, Unreadable> {
        let name = self.text()?;
        Ok(KINDS.iter().find(|row| row.name == name).ok_or(Unreadable)?.kind)
    }

    fn attempt(&mut self) -> Result<Attempt, Unreadable> {
        match self.byte()? {
            0 => self.two().map(Attempt::Answered),
            1 => self.kind().map(Attempt::Failed),
            2 => Ok(Attempt::Outrun),
            _ => Err(Unreadable),
        }
    }

    fn error(&mut self, request: &Request) -> Result<Error, Unreadable> {
        let mut error = Error::new(self.kind()?, self.text()?.to_owned());
        error = error.hinted(self.optional(Self::text)?.map(|hint| hint.to_owned().into()));
        if self.flag()? {
            let method = Method::from_bytes(self.piece()?).map_err(|_| Unreadable)?;
            error = error.about(&method, self.text()?);
        }
        error = error.doubtful(self.flag()?).after(self.four()?);
        let sent = self.eight()?;
        error = error.moved(sent, self.eight()?);
        if self.flag()? {
            let host = self.text()?;
            error = error.at_peer(host, self.two()?);
        }
        if let Some(number) = self.optional(Self::four)? {
            error = error.caused_by_io(io::Error::from_raw_os_error(number.cast_signed()));
        }
        let causes: Vec<&str> = (0..self.byte()?).map(|_| self.text()).collect::<Result<_, _>>()?;
        let below = causes
            .into_iter()
            .rev()
            .fold(None, |below, text| Some(Box::new(Cause { text: text.into(), below })));
        if let Some(cause) = below {
            error = error.caused_by(*cause);
        }
        let response = self.optional(|reader| reader.response(request))?;
        Ok(error.with_response(response))
    }
}

/// What lay below an error of an earlier run: its words are left.
#[derive(Debug)]
struct Cause {
    text: Box<str>,
    below: Option<Box<Cause>>,
}

impl fmt::Display for Cause {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl std::error::Error for Cause {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.below.as_deref().map(|below| below as &(dyn std::error::Error + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backoff::Jitter;

    fn text(dice: &mut Jitter) -> String {
        (0..dice.below(12))
            .map(|_| ['a', 'é', '"', '\n', '/', '?', '\u{1f980}'][dice.below(7) as usize])
            .collect()
    }

    fn response(dice: &mut Jitter, request: &Request) -> Response {
        let mut bytes = Vec::new();
        for _ in 0..dice.below(4) {
            bytes.extend_from_slice(format!("X-{}: \u{fc}{}\r\n", dice.below(9), dice.below(99)).as_bytes());
        }
        let head = bytes.len() as u32;
        bytes.extend((0..dice.below(300)).map(|_| dice.below(256) as u8));
        let redirects = dice.below(3) as u16;
        let url = if redirects > 0 { "http://elsewhere/x?a=1".into() } else { request.url.as_str().into() };
        let versions =
            [Version::HTTP_09, Version::HTTP_10, Version::HTTP_11, Version::HTTP_2, Version::HTTP_3];
        Response {
            status: 100 + dice.below(900) as u16,
            version: versions[dice.below(5) as usize],
            redirects,
            head,
            bytes: bytes.into(),
            url,
        }
    }

    fn attempt(dice: &mut Jitter) -> Attempt {
        match dice.below(3) {
            0 => Attempt::Answered(100 + dice.below(900) as u16),
            1 => Attempt::Failed(KINDS[dice.below(KINDS.len() as u64) as usize].kind),
            _ => Attempt::Outrun,
        }
    }

    fn error(dice: &mut Jitter, request: &Request) -> Error {
        let kind = KINDS[dice.below(KINDS.len() as u64) as usize].kind;
        let mut error = Error::new(kind, text(dice)).doubtful(dice.chance(50)).after(dice.below(9) as u32);
        error = error.moved(dice.below(u64::MAX), dice.below(u64::MAX));
        if dice.chance(50) {
            error = error.with_hint(text(dice));
        }
        if dice.chance(70) {
            error = error.about(&request.method, &request.url);
        }
        if dice.chance(50) {
            error = error.at_peer("h", dice.below(65536) as u16);
        }
        match dice.below(3) {
            0 => error = error.caused_by_io(io::Error::from_raw_os_error(dice.below(100) as i32)),
            1 => {
                let below = dice.chance(50).then(|| Box::new(Cause { text: text(dice).into(), below: None }));
                error = error.caused_by(Cause { text: text(dice).into(), below });
            }
            _ => {}
        }
        let part = dice.chance(40).then(|| response(dice, request));
        error.with_response(part)
    }

    /// Everything that a user can see of an outcome.
    fn seen(outcome: &Outcome) -> String {
        let response = outcome.response().map(|response| {
            let Response { status, version, redirects, head, bytes, url } = response;
            format!("{status} {version:?} {redirects} {head} {bytes:?} {url}")
        });
        let error = outcome.result.as_ref().err().map(|error| {
            let causes: Vec<_> =
                std::iter::successors(std::error::Error::source(error), |cause| cause.source())
                    .map(ToString::to_string)
                    .collect();
            format!(
                "{error:?} {error} {:?} {:?} {:?} {causes:?}",
                error.hint(),
                error.peer(),
                error.os_error()
            )
        });
        let Outcome { index, tag, attempts, earlier, timing, result, .. } = outcome;
        let (ok, in_doubt) = (result.is_ok(), outcome.in_doubt());
        format!("{index} {tag:?} {attempts} {earlier:?} {timing:?} {ok} {in_doubt} {response:?} {error:?}")
    }

    #[test]
    fn every_outcome_comes_back_as_it_was_and_no_piece_of_one_reads_as_another() {
        for seed in 0..20_000 {
            let mut dice = Jitter::seeded(seed);
            let mut request = Request::get("http://h/p?q=1");
            request.tag = dice.chance(50).then(|| text(&mut dice).into());
            let result = if dice.chance(50) {
                Ok(response(&mut dice, &request))
            } else {
                Err(error(&mut dice, &request))
            };
            let timing = Timing { elapsed: Duration::from_nanos(dice.below(u64::MAX)) };
            let index = dice.below(1 << 40) as usize;
            let outcome = Outcome {
                index,
                tag: request.tag.clone(),
                attempts: dice.below(1 << 32) as u32,
                timing,
                earlier: (0..dice.below(3)).map(|_| attempt(&mut dice)).collect(),
                replayed: false,
                over_budget: false,
                has_acted: dice.chance(20),
                is_left: false,
                result,
            };
            let mut bytes = Vec::new();
            write(&outcome, &mut bytes);
            let back = read(&bytes, outcome.index, &request).unwrap();
            assert_eq!(seen(&back), seen(&outcome), "seed {seed}");
            let cut = dice.below(bytes.len() as u64) as usize;
            assert!(
                read(&bytes[..cut], 0, &request).is_err(),
                "seed {seed}: cut at {cut} of {}",
                bytes.len()
            );
            // Whatever the bytes are, reading them ends without a panic.
            let at = dice.below(bytes.len() as u64) as usize;
            bytes[at] ^= 1 << dice.below(8);
            let _ = read(&bytes, 0, &request);
        }
    }

    #[test]
    fn secrets_of_urls_are_not_kept() {
        let request = Request::get("http://h/?token=own");
        let bytes = Bytes::from_static(b"body");
        let url = "http://s3/x?X-Amz-Signature=abc".into();
        let response = Response { status: 200, version: Version::HTTP_11, redirects: 1, head: 0, bytes, url };
        let error = Error::new(Kind::Redirect, "m")
            .about(&request.method, "http://u:pw@h/?token=own")
            .with_response(Some(response));
        let outcome = Outcome { attempts: 1, ..Outcome::unsent(0, None, Err(error)) };
        let mut bytes = Vec::new();
        write(&outcome, &mut bytes);
        let shown = String::from_utf8_lossy(&bytes);
        assert!(!["own", "abc", "pw"].iter().any(|secret| shown.contains(secret)), "{shown}");
        let back = read(&bytes, 0, &request).unwrap();
        assert_eq!(back.response().unwrap().url(), "http://s3/x?X-Amz-Signature=***");
    }
}
