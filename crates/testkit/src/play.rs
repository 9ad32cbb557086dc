//! The ill-behaved half: plays the steps of one connection.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::http2::Session;
use crate::log::{Ending, RequestLog};
use crate::recorder::Recorder;
use crate::request::{Chunks, Framing, Inbox, parse_head};
use crate::script::{Script, Step};
use crate::serve::{self, Site};
use crate::tls::Door;
use crate::wire::Wire;

pub(crate) async fn play(
    wire: Wire,
    number: usize,
    script: Arc<Script>,
    site: Arc<Site>,
    door: Option<Arc<Door>>,
    recorder: Arc<Recorder>,
) {
    // A connection that the client closed before this one was made must be seen as closed
    // first, or the count of open ones would be one too high.
    tokio::task::yield_now().await;
    recorder.opened();
    let steps = script.steps(number);
    let opened = match door {
        Some(door) => {
            let instead = match steps.first() {
                Some(Step::Handshake(handshake)) => Some(*handshake),
                _ => None,
            };
            door.open(wire, instead, &script.speaks(number), &recorder, number).await
        }
        None => Ok(wire),
    };
    let mut wire = match opened {
        Ok(wire) => wire,
        Err((wire, ending)) => return serve::part(wire, ending, &recorder, number).await,
    };
    let mut player = Player {
        wire: &mut wire,
        inbox: Inbox::default(),
        site: &site,
        recorder: &recorder,
        number,
        session: None,
        current: None,
        in_flight: false,
        notify: true,
    };
    let ending = player.run(steps).await.unwrap_or_else(|stop| stop);
    player.answered();
    if let Some(session) = &mut player.session {
        session.end_all(&recorder);
    }
    if player.notify {
        serve::part(Some(wire), ending, &recorder, number).await;
    } else {
        drop(wire);
        recorder.ended(number, ending);
    }
}

pub(crate) struct Player<'a> {
    pub(crate) wire: &'a mut Wire,
    pub(crate) inbox: Inbox,
    /// What `serve` answers from.
    pub(crate) site: &'a Site,
    pub(crate) recorder: &'a Recorder,
    pub(crate) number: usize,
    /// HTTP/2, from the first step with frames on.
    pub(crate) session: Option<Box<Session>>,
    current: Option<Current>,
    in_flight: bool,
    /// Whether TLS ends with a close_notify.
    notify: bool,
}

/// The request that was read last.
struct Current {
    head: Vec<u8>,
    body: Vec<u8>,
    framing: Framing,
    entry: Option<usize>,
}

impl Player<'_> {
    async fn run(&mut self, steps: &[Step]) -> Result<Ending, Ending> {
        let mut at = 0;
        while let Some(step) = steps.get(at) {
            let last = step.sends() && ends_answer(steps.get(at + 1));
            at += 1;
            match step {
                Step::ReadRequest => {
                    self.read_head().await?;
                    self.read_body().await?;
                }
                Step::ReadHead => self.read_head().await?,
                Step::ReadBody => self.read_body().await?,
                Step::ReadBytes(count) => self.read_bytes(*count).await?,
                Step::Send(bytes) => self.send(bytes, last).await?,
                Step::Answer(answer) => {
                    let bytes = answer(&self.last_request()?);
                    self.send(&bytes, last).await?;
                }
                Step::Drip { bytes, every } => {
                    for (index, byte) in bytes.iter().enumerate() {
                        if index > 0 {
                            tokio::time::sleep(*every).await;
                        }
                        self.send(&[*byte], last && index + 1 == bytes.len()).await?;
                    }
                }
                Step::Repeat { bytes, times, every } => self.repeat(bytes, *times, *every, last).await?,
                Step::Serve => self.serve(last).await?,
                Step::Wait(pause) => tokio::time::sleep(*pause).await,
                Step::WaitForRequests(count) => self.wait_for_requests(*count).await,
                Step::HalfClose => self.wire.half_close().await.map_err(lost)?,
                Step::Drain => {
                    self.drain().await?;
                    return Ok(Ending::ByClient);
                }
                Step::Close => return Ok(Ending::ByServer),
                Step::CloseWithoutNotify => {
                    self.notify = false;
                    return Ok(Ending::ByServer);
                }
                Step::Http2(step) => self.http2(&step.act).await?,
                Step::Handshake(_) => {}
                Step::Reset => return Ok(Ending::ServerReset),
                Step::Hold => {
                    self.wire.client_gone().await.map_err(lost)?;
                    return Ok(Ending::ByClient);
                }
                Step::Again => at = 0,
                Step::ExpectSilence(time) => self.expect_silence(*time).await?,
                Step::ExpectClose(time) => self.expect_close(*time).await?,
            }
        }
        Ok(Ending::ByServer)
    }

    async fn read_head(&mut self) -> Result<(), Ending> {
        self.answered();
        self.current = None;
        let length = loop {
            match self.inbox.head_length() {
                Some(length) => break length,
                None => self.fill().await?,
            }
        };
        let head = self.inbox.take(length);
        let parsed = parse_head(&head, |parsed| {
            let entry = self.recorder.request(self.number, &head, parsed);
            (entry, parsed.framing)
        });
        let (entry, framing) = parsed.map_err(Ending::Malformed)?;
        self.in_flight = true;
        if framing == Framing::Length(0) {
            self.recorder.body(entry, &[], true);
        }
        self.current = Some(Current { head, body: Vec::new(), framing, entry });
        Ok(())
    }

    async fn read_body(&mut self) -> Result<(), Ending> {
        let framing = match &self.current {
            Some(current) => current.framing,
            None => return Err(self.misused("read-body")),
        };
        let body = match framing {
            Framing::Length(length) => {
                while self.inbox.unread().len() < length {
                    self.fill().await?;
                }
                self.inbox.take(length)
            }
            Framing::Chunked => {
                let mut chunks = Chunks::default();
                let coded = loop {
                    let done = chunks.advance(self.inbox.unread());
                    match done.map_err(Ending::Malformed)? {
                        Some(length) => break length,
                        None => self.fill().await?,
                    }
                };
                self.inbox.consume(coded);
                chunks.body
            }
        };
        if let Some(current) = &mut self.current {
            self.recorder.body(current.entry, &body, true);
            current.body = body;
        }
        Ok(())
    }

    async fn read_bytes(&mut self, count: usize) -> Result<(), Ending> {
        while self.inbox.unread().len() < count {
            self.fill().await?;
        }
        let bytes = self.inbox.take(count);
        if let Some(current) = &mut self.current {
            self.recorder.body(current.entry, &bytes, false);
            current.body.extend_from_slice(&bytes);
        }
        Ok(())
    }

    pub(crate) async fn fill(&mut self) -> Result<(), Ending> {
        let read = self.inbox.fill(self.wire, self.recorder, self.number);
        match read.await {
            Ok(0) => Err(Ending::ByClient),
            Ok(count) => {
                if let Some(session) = &mut self.session {
                    let unread = self.inbox.unread();
                    session.watch.received(&unread[unread.len() - count..]);
                    session.report(self.recorder);
                }
                Ok(())
            }
            Err(error) => Err(lost(error)),
        }
    }

    /// Writes, and lets the log know which frames went out.
    pub(crate) async fn put(&mut self, bytes: &[u8]) -> Result<(), Ending> {
        self.wire.write(bytes).await.map_err(lost)?;
        if let Some(session) = &mut self.session {
            session.watch.sent(bytes);
            session.report(self.recorder);
        }
        Ok(())
    }

    /// `last`: the answer is whole with these bytes.
    async fn send(&mut self, mut bytes: &[u8], last: bool) -> Result<(), Ending> {
        // What a socket may not take at once is still in flight while it is being written.
        const TAKEN_AT_ONCE: usize = 64 << 10;
        if last {
            if bytes.len() > TAKEN_AT_ONCE {
                let (first, rest) = bytes.split_at(bytes.len() - TAKEN_AT_ONCE);
                self.put(first).await?;
                bytes = rest;
            }
            self.answered();
        }
        self.put(bytes).await
    }

    pub(crate) async fn repeat(
        &mut self,
        bytes: &[u8],
        times: Option<u64>,
        every: Duration,
        last: bool,
    ) -> Result<(), Ending> {
        const BLOCK: usize = 64 << 10;
        let mut left = times.unwrap_or(u64::MAX);
        let per_block = if every.is_zero() { (BLOCK / bytes.len().max(1)).max(1) as u64 } else { 1 };
        let block = bytes.repeat(per_block.min(left) as usize);
        while left > 0 {
            let count = left.min(per_block);
            left -= if times.is_some() { count } else { 0 };
            let part = &block[..bytes.len() * count as usize];
            self.send(part, last && left == 0).await?;
            if !every.is_zero() && left > 0 {
                tokio::time::sleep(every).await;
            }
            // An empty text repeated for ever writes nothing, so nothing else would yield.
            tokio::task::coop::consume_budget().await;
        }
        Ok(())
    }

    async fn serve(&mut self, last: bool) -> Result<(), Ending> {
        let Some(current) = self.current.take() else {
            return Err(self.misused("serve"));
        };
        let mut out = Vec::new();
        let answer = serve::answer(self.site, &current.head, &current.body, &mut out);
        let answer = answer.map_err(Ending::Malformed)?;
        if last {
            self.answered();
        }
        let finished = serve::finish(self.wire, answer, &mut out, || {}).await;
        self.current = Some(current);
        match finished {
            Ok(None) => Ok(()),
            Ok(Some(ending)) => Err(ending),
            Err(error) => Err(lost(error)),
        }
    }

    async fn wait_for_requests(&self, count: u64) {
        const LOOK_EVERY: Duration = Duration::from_millis(1);
        while self.recorder.lock().counts.requests < count {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn drain(&mut self) -> Result<(), Ending> {
        loop {
            let unread = self.inbox.unread().len();
            self.inbox.consume(unread);
            match self.fill().await {
                Ok(()) => {}
                Err(Ending::ByClient) => return Ok(()),
                Err(ending) => return Err(ending),
            }
        }
    }

    async fn expect_silence(&mut self, time: Duration) -> Result<(), Ending> {
        if !self.inbox.unread().is_empty() {
            return self.heard(&format!("silence for {time:?}"));
        }
        match tokio::time::timeout(time, self.fill()).await {
            Err(_) => Ok(()),
            Ok(Ok(())) => self.heard(&format!("silence for {time:?}")),
            Ok(Err(ending)) => Err(ending),
        }
    }

    async fn expect_close(&mut self, time: Duration) -> Result<(), Ending> {
        if self.inbox.unread().is_empty() {
            match tokio::time::timeout(time, self.fill()).await {
                Ok(Ok(())) => {}
                Ok(Err(ending)) => return Err(ending),
                Err(_) => {
                    let number = self.number;
                    let failure = format!("connection {number}: still open after {time:?}");
                    self.recorder.failed(failure);
                    return Err(Ending::ByServer);
                }
            }
        }
        self.heard(&format!("the client to close within {time:?}"))
    }

    fn heard(&self, expected: &str) -> Result<(), Ending> {
        let unread = self.inbox.unread();
        self.recorder.failed(format!(
            "connection {}: expected {expected}, got {} bytes: {:?}",
            self.number,
            unread.len(),
            String::from_utf8_lossy(&unread[..unread.len().min(200)])
        ));
        Err(Ending::ByServer)
    }

    fn misused(&self, step: &str) -> Ending {
        let number = self.number;
        let failure = format!("connection {number}: `{step}` before any request was read");
        self.recorder.failed(failure);
        Ending::ByServer
    }

    fn last_request(&self) -> Result<RequestLog, Ending> {
        let entry = self.current.as_ref().and_then(|current| current.entry);
        match entry {
            Some(entry) => Ok(self.recorder.lock().requests[entry].clone()),
            None => Err(self.misused("answer")),
        }
    }

    fn answered(&mut self) {
        if std::mem::take(&mut self.in_flight) {
            self.recorder.answered();
        }
    }
}

/// Whether the client may take the answer as whole once the step before `next` has sent.
fn ends_answer(next: Option<&Step>) -> bool {
    matches!(
        next,
        None | Some(
            Step::Again
                | Step::ReadRequest
                | Step::ReadHead
                | Step::Close
                | Step::CloseWithoutNotify
                | Step::HalfClose
                | Step::ExpectSilence(_)
                | Step::ExpectClose(_)
        )
    )
}

pub(crate) fn lost(error: io::Error) -> Ending {
    match error.kind() {
        // What TLS says of records that are none, and of the alerts of the client.
        io::ErrorKind::InvalidData => Ending::Malformed(error.to_string()),
        _ => Ending::ClientReset,
    }
}
