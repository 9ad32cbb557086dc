//! The well-behaved half: keeps one connection going.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::Clock;
use crate::coded;
use crate::http2;
use crate::http2::frame::PREFACE;
use crate::log::Ending;
use crate::memory::Memory;
use crate::options::{Farewell, Options, Protocol};
use crate::play::lost;
use crate::recorder::Recorder;
use crate::request::{Chunks, Framing, Inbox, parse_head};
use crate::routes::{self, Answer};
use crate::tls::Door;
use crate::wire::Wire;

/// What the connections of one server share.
pub(crate) struct Site {
    pub(crate) options: Options,
    /// `http` or `https`, for absolute URLs.
    pub(crate) scheme: &'static str,
    pub(crate) clock: Clock,
    memory: Mutex<Memory>,
}

impl Site {
    pub(crate) fn new(options: Options, scheme: &'static str, clock: Clock) -> Site {
        Site { options, scheme, clock, memory: Mutex::default() }
    }

    /// What the routes remember. A test may look at it from another thread.
    pub(crate) fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) async fn attend(
    wire: Wire,
    number: usize,
    site: Arc<Site>,
    door: Option<Arc<Door>>,
    recorder: Arc<Recorder>,
) {
    // See `play`: a connection closed before this one was made must be seen as closed first.
    tokio::task::yield_now().await;
    recorder.opened();
    let opened = match door {
        Some(door) => door.open(wire, None, &site.options.http, &recorder, number).await,
        None => Ok(wire),
    };
    let mut wire = match opened {
        Ok(wire) => wire,
        Err((wire, ending)) => return part(wire, ending, &recorder, number).await,
    };
    let mut inbox = Inbox::default();
    match speaks_http2(&mut wire, &mut inbox, number, &site, &recorder).await {
        Ok(false) => {}
        Ok(true) => {
            let early = inbox.unread().to_vec();
            let ending = http2::attend(wire, early, number, &site, &recorder).await;
            return recorder.ended(number, ending);
        }
        Err(ending) => return part(Some(wire), ending, &recorder, number).await,
    }
    let mut attendant = Attendant {
        wire: &mut wire,
        inbox,
        out: Vec::new(),
        site: &site,
        recorder: &recorder,
        number,
        served: 0,
        in_flight: false,
    };
    let Err(ending) = attendant.run().await;
    attendant.answered();
    part(Some(wire), ending, &recorder, number).await;
}

/// Whether the client speaks HTTP/2, by what ALPN agreed on or by its first bytes.
async fn speaks_http2(
    wire: &mut Wire,
    inbox: &mut Inbox,
    number: usize,
    site: &Site,
    recorder: &Recorder,
) -> Result<bool, Ending> {
    match (wire.protocol(), site.options.http.as_slice()) {
        (Some(b"h2"), _) | (_, [Protocol::Http2]) => return Ok(true),
        (Some(_), _) | (_, [Protocol::Http11]) => return Ok(false),
        _ => {}
    }
    // No method of HTTP/1.1 is the beginning of this one, so few bytes decide.
    loop {
        let unread = inbox.unread();
        let length = unread.len().min(PREFACE.len());
        if unread[..length] != PREFACE[..length] {
            return Ok(false);
        }
        if length == PREFACE.len() {
            return Ok(true);
        }
        let read = inbox.fill(wire, recorder, number);
        let read = match site.options.idle_timeout {
            Some(patience) => tokio::time::timeout(patience, read).await,
            None => Ok(read.await),
        };
        match read {
            Ok(Ok(1..)) => {}
            Ok(Ok(0)) => return Err(Ending::ByClient),
            Ok(Err(error)) => return Err(lost(error)),
            Err(_) => return Err(Ending::ByServer),
        }
    }
}

/// Ends a connection as it has to end.
pub(crate) async fn part(wire: Option<Wire>, ending: Ending, recorder: &Recorder, number: usize) {
    match wire {
        // Failing here means that the client was faster.
        Some(wire) if ending == Ending::ServerReset => drop(wire.reset()),
        Some(wire) => wire.close().await,
        None => {}
    }
    recorder.ended(number, ending);
}

/// Answers one request that was read elsewhere into `out`; whether the connection goes on.
pub(crate) fn answer(site: &Site, head: &[u8], body: &[u8], out: &mut Vec<u8>) -> Result<Answer, String> {
    parse_head(head, |head| routes::answer(site, head, body, !head.keep_alive, out))
}

/// Sends what is in `out` and whatever the answer has besides. `answered` is called just
/// before the last bytes. The result is how the connection has to end, if it does.
pub(crate) async fn finish(
    wire: &mut Wire,
    answer: Answer,
    out: &mut Vec<u8>,
    mut answered: impl FnMut(),
) -> io::Result<Option<Ending>> {
    match answer {
        Answer::Ready => {
            answered();
            wire.write(out).await?;
        }
        Answer::After { pause, from } => {
            wire.write(&out[..from]).await?;
            tokio::time::sleep(pause).await;
            answered();
            wire.write(&out[from..]).await?;
        }
        Answer::Drip { pause, bytes, every } => {
            tokio::time::sleep(pause).await;
            wire.write(out).await?;
            for left in (0..bytes).rev() {
                if left == 0 {
                    answered();
                }
                wire.write(b"*").await?;
                if left > 0 {
                    tokio::time::sleep(every).await;
                }
            }
        }
        Answer::Bytes(length) => {
            wire.write(out).await?;
            let block = coded::pattern();
            let mut left = length;
            while left > 0 {
                let count = left.min(block.len() as u64);
                left -= count;
                if left == 0 {
                    answered();
                }
                wire.write(&block[..count as usize]).await?;
            }
        }
        Answer::Hang => {
            wire.write(out).await?;
            wire.client_gone().await?;
            return Ok(Some(Ending::ByClient));
        }
        Answer::End { pause, ending } => {
            wire.write(out).await?;
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
            return Ok(Some(ending));
        }
    }
    out.clear();
    Ok(None)
}

struct Attendant<'a> {
    wire: &'a mut Wire,
    inbox: Inbox,
    /// Answers not yet written: those of pipelined requests leave together.
    out: Vec<u8>,
    site: &'a Site,
    recorder: &'a Recorder,
    number: usize,
    served: u64,
    in_flight: bool,
}

enum Read {
    /// Answered without looking further: the request has no body.
    Whole(Answer, Then),
    Body {
        framing: Framing,
        entry: Option<usize>,
        then: Then,
        expects_continue: bool,
    },
}

/// How the connection goes on after this answer.
#[derive(Clone, Copy)]
struct Then {
    close: bool,
    announced: bool,
}

impl Attendant<'_> {
    async fn run(&mut self) -> Result<std::convert::Infallible, Ending> {
        loop {
            let length = match self.inbox.head_length() {
                Some(length) => length,
                None => {
                    self.flush().await?;
                    self.fill_or_tire().await?;
                    continue;
                }
            };
            let (answer, then) = match self.read(length) {
                Ok(Read::Whole(answer, then)) => {
                    self.inbox.consume(length);
                    (answer, then)
                }
                Ok(Read::Body { framing, entry, then, expects_continue }) => {
                    let answer = self.with_body(length, framing, entry, then, expects_continue).await?;
                    (answer, then)
                }
                Err(reason) => return Err(self.refuse(400, reason).await),
            };
            if matches!(answer, Answer::Ready) {
                self.answered();
            } else {
                let (recorder, in_flight) = (self.recorder, &mut self.in_flight);
                let finished = finish(self.wire, answer, &mut self.out, || {
                    if std::mem::take(in_flight) {
                        recorder.answered();
                    }
                });
                if let Some(ending) = finished.await.map_err(lost)? {
                    return Err(ending);
                }
                self.answered();
            }
            if then.close {
                self.leave().await?;
                return Err(Ending::ByServer);
            }
        }
    }

    fn read(&mut self, length: usize) -> Result<Read, String> {
        let raw = &self.inbox.unread()[..length];
        let served = self.served + 1;
        let enough = self.site.options.close_after.is_some_and(|n| served >= n);
        let silent = self.site.options.farewell == Farewell::Silent;
        let read = parse_head(raw, |head| {
            let entry = self.recorder.request(self.number, raw, head);
            let then = Then {
                close: enough || !head.keep_alive,
                announced: (enough && !silent) || !head.keep_alive,
            };
            if head.framing != Framing::Length(0) {
                return Read::Body {
                    framing: head.framing,
                    entry,
                    then,
                    expects_continue: head.expects_continue,
                };
            }
            self.recorder.body(entry, &[], true);
            let answer = routes::answer(self.site, head, &[], then.announced, &mut self.out);
            Read::Whole(answer, then)
        })?;
        self.served = served;
        self.in_flight = true;
        Ok(read)
    }

    async fn with_body(
        &mut self,
        head_length: usize,
        framing: Framing,
        entry: Option<usize>,
        then: Then,
        expects_continue: bool,
    ) -> Result<Answer, Ending> {
        if expects_continue && self.inbox.unread().len() == head_length {
            self.out.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
            self.flush().await?;
        }
        let limit = self.site.options.max_body;
        let mut chunks = Chunks::default();
        let raw_length = loop {
            let raw = &self.inbox.unread()[head_length..];
            let (done, long) = match framing {
                Framing::Length(length) => ((raw.len() >= length).then_some(length), length > limit),
                Framing::Chunked => match chunks.advance(raw) {
                    Ok(done) => (done, chunks.body.len() > limit),
                    Err(reason) => return Err(self.refuse(400, reason).await),
                },
            };
            if long {
                let reason = format!("a body longer than {limit} bytes");
                return Err(self.refuse(413, reason).await);
            }
            match done {
                Some(length) => break length,
                None => self.fill().await?,
            }
        };
        let (head, rest) = self.inbox.unread().split_at(head_length);
        let body = match framing {
            Framing::Length(length) => &rest[..length],
            Framing::Chunked => &chunks.body,
        };
        self.recorder.body(entry, body, true);
        let answer =
            parse_head(head, |head| routes::answer(self.site, head, body, then.announced, &mut self.out));
        self.inbox.consume(head_length + raw_length);
        answer.map_err(Ending::Malformed)
    }

    /// Says what was wrong with the request, and how the connection ends.
    async fn refuse(&mut self, status: u16, reason: String) -> Ending {
        routes::refusal(status, &reason, &mut self.out);
        match self.leave().await {
            Ok(()) => Ending::Malformed(reason),
            Err(ending) => ending,
        }
    }

    /// Half-closes and reads on for a while: closing on unread bytes would be a reset, which
    /// may take the last answer with it (RFC 9112 section 9.6).
    async fn leave(&mut self) -> Result<(), Ending> {
        const PATIENCE: Duration = Duration::from_secs(1);
        self.flush().await?;
        self.answered();
        self.wire.half_close().await.map_err(lost)?;
        let drained = async {
            loop {
                let unread = self.inbox.unread().len();
                self.inbox.consume(unread);
                self.fill().await?;
            }
        };
        match tokio::time::timeout(PATIENCE, drained).await {
            Ok(Err(ending)) if ending != Ending::ByClient => Err(ending),
            Ok(Err(_)) | Err(_) => Ok(()),
            Ok(Ok(())) => Ok(()),
        }
    }

    async fn flush(&mut self) -> Result<(), Ending> {
        if !self.out.is_empty() {
            self.wire.write(&self.out).await.map_err(lost)?;
            self.out.clear();
        }
        Ok(())
    }

    async fn fill_or_tire(&mut self) -> Result<(), Ending> {
        match self.site.options.idle_timeout {
            Some(patience) => {
                tokio::time::timeout(patience, self.fill()).await.unwrap_or(Err(Ending::ByServer))
            }
            None => self.fill().await,
        }
    }

    async fn fill(&mut self) -> Result<(), Ending> {
        let read = self.inbox.fill(self.wire, self.recorder, self.number);
        match read.await {
            Ok(0) => Err(Ending::ByClient),
            Ok(_) => Ok(()),
            Err(error) => Err(lost(error)),
        }
    }

    fn answered(&mut self) {
        if std::mem::take(&mut self.in_flight) {
            self.recorder.answered();
        }
    }
}
