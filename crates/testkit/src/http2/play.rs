//! Plays the steps with frames.

use std::time::Duration;

use tokio::time::Instant;

use crate::coded;
use crate::http2::frame::{self, HEAD, Head, PREFACE};
use crate::http2::session::Session;
use crate::http2::steps::{Act, Answering, Awaited, Draft, Granting, Send, Target};
use crate::http2::text::literals;
use crate::log::Ending;
use crate::play::{Player, lost};
use crate::reply::Parts;
use crate::routes::{self, Answer};

impl Player<'_> {
    pub(crate) async fn http2(&mut self, act: &Act) -> Result<(), Ending> {
        self.session();
        match act {
            Act::ReadPreface => self.read_preface().await,
            Act::Preface(settings) => {
                self.read_preface().await?;
                self.frames(settings).await
            }
            Act::Read(count, awaited) => self.await_frames(*count, *awaited).await,
            Act::Wait(time) => match tokio::time::timeout(*time, self.read_on()).await {
                Err(_) => Ok(()),
                Ok(ending) => Err(ending),
            },
            Act::Drain => Err(self.read_on().await),
            Act::Close => Err(self.leave().await),
            Act::ExpectClose(time) => match tokio::time::timeout(*time, self.read_on()).await {
                Err(_) => {
                    let number = self.number;
                    self.recorder.failed(format!("connection {number}: still open after {time:?}"));
                    Err(Ending::ByServer)
                }
                Ok(ending) => Err(ending),
            },
            Act::Answering(answering) => {
                self.session().answering = *answering;
                Ok(())
            }
            Act::Granting(granting) => {
                self.session().granting = *granting;
                Ok(())
            }
            Act::Serve(count) => self.serve_streams(*count).await,
            Act::Send(send) => self.frames(send).await,
            Act::Repeat { send, times, every } => self.repeat_frames(send, *times, *every).await,
        }
    }

    /// The state of the connection, begun with the first step that needs it.
    fn session(&mut self) -> &mut Session {
        let (number, unread) = (self.number, self.inbox.unread());
        self.session.get_or_insert_with(|| {
            let mut session = Box::new(Session::new(number));
            session.watch.received(unread);
            session
        })
    }

    async fn read_preface(&mut self) -> Result<(), Ending> {
        while self.inbox.unread().len() < PREFACE.len() {
            self.fill().await?;
        }
        if self.inbox.take(PREFACE.len()) != PREFACE {
            return Err(Ending::Malformed("no preface of HTTP/2".into()));
        }
        self.whole_frame().await?;
        self.take_frame().await?;
        match self.session().take(1, Awaited::Frames(frame::SETTINGS)) {
            true => Ok(()),
            false => Err(Ending::Malformed("no SETTINGS after the preface".into())),
        }
    }

    async fn await_frames(&mut self, count: u64, awaited: Awaited) -> Result<(), Ending> {
        while !self.session().take(count, awaited) {
            self.whole_frame().await?;
            self.take_frame().await?;
        }
        Ok(())
    }

    /// Reads frames until the connection ends.
    async fn read_on(&mut self) -> Ending {
        loop {
            if let Err(ending) = self.whole_frame().await {
                return ending;
            }
            if let Err(ending) = self.take_frame().await {
                return ending;
            }
        }
    }

    /// See `Wire::leave`: the client's last acknowledgements would make a plain close a reset.
    async fn leave(&mut self) -> Ending {
        const PATIENCE: Duration = Duration::from_secs(1);
        if let Err(error) = self.wire.half_close().await {
            return lost(error);
        }
        let session = self.session();
        session.answering = Answering::Deaf;
        session.granting = Granting::Stingy;
        // However the client takes it, it was the server that has closed.
        let _ = tokio::time::timeout(PATIENCE, self.read_on()).await;
        Ending::ByServer
    }

    /// Waits until a frame lies in the inbox. Nothing is lost when it is not waited for.
    async fn whole_frame(&mut self) -> Result<(), Ending> {
        while !self.has_frame() {
            self.fill().await?;
        }
        Ok(())
    }

    fn has_frame(&self) -> bool {
        let unread = self.inbox.unread();
        unread.first_chunk::<HEAD>().is_some_and(|head| unread.len() >= HEAD + Head::parse(head).length)
    }

    async fn take_frame(&mut self) -> Result<(), Ending> {
        let Some(head) = self.inbox.unread().first_chunk::<HEAD>().map(Head::parse) else {
            return Ok(());
        };
        let frame = self.inbox.take(HEAD + head.length);
        let recorder = self.recorder;
        let session = self.session();
        session.received(head, &frame[HEAD..], recorder).map_err(Ending::Malformed)?;
        let replies = session.replies();
        if replies.is_empty() { Ok(()) } else { self.put(&replies).await }
    }

    async fn frames(&mut self, send: &Send) -> Result<(), Ending> {
        let bytes = self.encoded(send)?;
        self.put(&bytes).await
    }

    fn encoded(&mut self, send: &Send) -> Result<Vec<u8>, Ending> {
        let recorder = self.recorder;
        self.session().encode(send, recorder).map_err(|reason| {
            recorder.failed(format!("connection {}: {reason}", self.number));
            Ending::ByServer
        })
    }

    async fn repeat_frames(
        &mut self,
        send: &Send,
        times: Option<u64>,
        every: Duration,
    ) -> Result<(), Ending> {
        let varies = send.frames.iter().any(|draft| draft.mentioned == Some(Target::Promised));
        if !varies {
            let bytes = self.encoded(send)?;
            return self.repeat(&bytes, times, every, false).await;
        }
        let mut left = times.unwrap_or(u64::MAX);
        while left > 0 {
            left -= u64::from(times.is_some());
            self.frames(send).await?;
            if !every.is_zero() && left > 0 {
                tokio::time::sleep(every).await;
            }
        }
        Ok(())
    }

    /// Answers requests as the well-behaved half would, several at a time.
    async fn serve_streams(&mut self, count: Option<u64>) -> Result<(), Ending> {
        let mut under_way: Vec<Serving> = Vec::new();
        let mut left = count;
        loop {
            while left != Some(0) {
                let Some(number) = self.session().next_unserved() else { break };
                left = left.map(|left| left - 1);
                if let Some(serving) = self.begin(number)? {
                    under_way.push(serving);
                }
            }
            let before = under_way.len();
            // A stream that the client has reset leaves its place to another.
            under_way.retain(|serving| {
                self.session.as_ref().is_none_or(|session| !session.streams[&serving.stream].ended)
            });
            if let Some(left) = &mut left {
                *left += (before - under_way.len()) as u64;
            }
            if before > under_way.len() {
                continue;
            }
            for serving in &mut under_way {
                self.advance(serving).await?;
            }
            under_way.retain(|serving| !serving.done);
            if left == Some(0) && under_way.is_empty() {
                return Ok(());
            }
            let due = under_way.iter().filter_map(|serving| serving.wakes()).min();
            let pause = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                whole = self.whole_frame() => {
                    whole?;
                    self.take_frame().await?;
                }
                () = pause => {}
            }
        }
    }

    /// Asks the routes. `None`: the request never gets an answer.
    fn begin(&mut self, number: u32) -> Result<Option<Serving>, Ending> {
        let site = self.site;
        let session = self.session();
        session.last = number;
        let stream = &session.streams[&number];
        let mut parts = Parts::default();
        let answer =
            stream.with_head(number, |head| routes::answer(site, head, &stream.body, false, &mut parts));
        let mut serving = Serving {
            stream: number,
            due: Instant::now(),
            instead: None,
            head: Some(head_block(&parts)),
            body: Body::Whole { bytes: std::mem::take(&mut parts.body), at: 0 },
            done: false,
        };
        match answer {
            Answer::Ready => {}
            Answer::After { pause, .. } => serving.due += pause,
            Answer::Drip { pause, bytes, every } => {
                serving.due += pause;
                serving.body = Body::Stars { left: bytes, every };
            }
            Answer::Bytes(left) => serving.body = Body::Pattern { left, at: 0 },
            Answer::Hang => return Ok(None),
            Answer::End { pause, ending } => {
                serving.due += pause;
                serving.instead = Some(ending);
            }
        }
        Ok(Some(serving))
    }

    /// Sends what is due and fits into the windows.
    async fn advance(&mut self, serving: &mut Serving) -> Result<(), Ending> {
        while !serving.done && serving.due <= Instant::now() {
            if let Some(ending) = serving.instead.take() {
                return Err(ending);
            }
            let draft = match serving.head.take() {
                Some(block) => {
                    serving.done = serving.body.left() == 0;
                    let end = if serving.done { frame::END_STREAM } else { 0 };
                    Draft::new(frame::HEADERS, frame::END_HEADERS | end, block)
                }
                None => {
                    let session = self.session();
                    let window = session.window.min(session.streams[&serving.stream].window);
                    let Ok(room @ 1..) = usize::try_from(window) else { return Ok(()) };
                    let payload = serving.next(room.min(LONGEST));
                    serving.done = serving.body.left() == 0;
                    Draft::new(frame::DATA, u8::from(serving.done) * frame::END_STREAM, payload)
                }
            };
            let send = Send { stream: Target::Number(serving.stream), frames: vec![draft] };
            self.frames(&send).await?;
        }
        Ok(())
    }
}

const LONGEST: usize = 16_384;

/// An answer on its way.
struct Serving {
    stream: u32,
    due: Instant,
    /// How the connection ends when it is due, if nothing is answered.
    instead: Option<Ending>,
    head: Option<Vec<u8>>,
    body: Body,
    done: bool,
}

enum Body {
    Whole { bytes: Vec<u8>, at: usize },
    Pattern { left: u64, at: u64 },
    Stars { left: u64, every: Duration },
}

impl Body {
    fn left(&self) -> u64 {
        match self {
            Body::Whole { bytes, at } => (bytes.len() - at) as u64,
            Body::Pattern { left, .. } | Body::Stars { left, .. } => *left,
        }
    }
}

impl Serving {
    /// When it goes on by itself; what waits for a window does not.
    fn wakes(&self) -> Option<Instant> {
        (self.due > Instant::now()).then_some(self.due)
    }

    fn next(&mut self, room: usize) -> Vec<u8> {
        match &mut self.body {
            Body::Whole { bytes, at } => {
                let end = bytes.len().min(*at + room);
                let from = std::mem::replace(at, end);
                bytes[from..end].to_vec()
            }
            Body::Pattern { left, at } => {
                let pattern = coded::pattern();
                let offset = (*at % pattern.len() as u64) as usize;
                let count = room.min(pattern.len() - offset).min(usize::try_from(*left).unwrap_or(room));
                *at += count as u64;
                *left -= count as u64;
                pattern[offset..offset + count].to_vec()
            }
            Body::Stars { left, every } => {
                *left -= 1;
                self.due += *every;
                b"*".to_vec()
            }
        }
    }
}

fn head_block(parts: &Parts) -> Vec<u8> {
    let status = parts.status.to_string();
    let status = [(":status", status.as_str())];
    let headers = parts.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    literals(status.into_iter().chain(headers).map(|(name, value)| (name.as_bytes(), value.as_bytes())))
}
