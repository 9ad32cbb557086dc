//! The well-behaved half over HTTP/2: the same routes, a task for each stream.

use std::future::poll_fn;
use std::io;
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use h2::server::{Builder, Connection, SendResponse};
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderName, HeaderValue, Request, Response};
use tokio::task::JoinSet;

use crate::coded;
use crate::http2::tapped::Tapped;
use crate::log::Ending;
use crate::options::Farewell;
use crate::play::lost;
use crate::recorder::Recorder;
use crate::reply::Parts;
use crate::request::{Framing, Head};
use crate::routes::{self, Answer};
use crate::serve::Site;
use crate::wire::Wire;

/// Keeps one connection going. `early` was read already.
pub(crate) async fn attend(
    wire: Wire,
    early: Vec<u8>,
    number: usize,
    site: &Arc<Site>,
    recorder: &Arc<Recorder>,
) -> Ending {
    let handle = match wire.handle() {
        Ok(handle) => handle,
        Err(error) => return lost(error),
    };
    let open = Arc::new(AtomicU32::new(0));
    let tapped = Tapped::new(wire, early, number, Arc::clone(recorder), Arc::clone(&open));
    let mut connection = match builder(site).handshake::<_, Bytes>(tapped).await {
        Ok(connection) => connection,
        Err(error) => return ending(error),
    };
    let ending = converse(&mut connection, &open, number, site, recorder).await;
    // Failing here means that the client was faster.
    match ending {
        Ending::ServerReset => drop(handle.set_linger(Some(Duration::ZERO))),
        Ending::ByServer => {
            // See `Wire::leave`: the client's last acknowledgements would make this a reset.
            const PATIENCE: Duration = Duration::from_secs(1);
            let _ = handle.shutdown(Shutdown::Write);
            let drained = async { while let Some(Ok(_)) = connection.accept().await {} };
            let _ = tokio::time::timeout(PATIENCE, drained).await;
        }
        _ => {}
    }
    ending
}

async fn converse(
    connection: &mut Connection<Tapped, Bytes>,
    open: &AtomicU32,
    number: usize,
    site: &Arc<Site>,
    recorder: &Arc<Recorder>,
) -> Ending {
    let options = &site.options;
    let mut answers = JoinSet::new();
    let mut seen = 0;
    let mut leaving = false;
    loop {
        let enough = options.close_after.is_some_and(|most| seen >= most);
        if enough && !leaving && options.farewell == Farewell::Announced {
            connection.graceful_shutdown();
            leaving = true;
        }
        let silent = enough && options.farewell == Farewell::Silent;
        let idle = answers.is_empty();
        let patience = async {
            match options.idle_timeout {
                Some(patience) if idle && !leaving => tokio::time::sleep(patience).await,
                _ => std::future::pending().await,
            }
        };
        let accepted = poll_fn(|context| match connection.poll_accept(context) {
            // All answers have left: nobody was told, and nobody has to wait.
            Poll::Pending if silent && open.load(Ordering::Relaxed) == 0 => {
                Poll::Ready(Err(Ending::ByServer))
            }
            polled => polled.map(Ok),
        });
        tokio::select! {
            accepted = accepted => match accepted {
                Ok(Some(Ok((request, respond)))) if silent => drop((request, respond)),
                Ok(Some(Ok((request, respond)))) => {
                    seen += 1;
                    let call = Call::receive(request, number, site, recorder);
                    answers.spawn(call.answer(respond));
                }
                Ok(Some(Err(error))) => return ending(error),
                Ok(None) if leaving => return Ending::ByServer,
                Ok(None) => return Ending::ByClient,
                Err(ending) => return ending,
            },
            Some(answered) = answers.join_next(), if !answers.is_empty() => match answered {
                Ok(None) => {}
                Ok(Some((ending, _unanswered))) => return ending,
                Err(error) => std::panic::resume_unwind(error.into_panic()),
            },
            () = patience => {
                connection.graceful_shutdown();
                leaving = true;
            }
        }
    }
}

fn builder(site: &Site) -> Builder {
    let http2 = site.options.http2;
    let mut builder = Builder::new();
    if let Some(most) = http2.max_concurrent_streams {
        builder.max_concurrent_streams(most);
    }
    if let Some(bytes) = http2.stream_window {
        builder.initial_window_size(bytes);
    }
    if let Some(bytes) = http2.connection_window {
        builder.initial_connection_window_size(bytes);
    }
    if let Some(bytes) = http2.max_frame_size {
        builder.max_frame_size(bytes);
    }
    if let Some(bytes) = http2.max_header_list_size {
        builder.max_header_list_size(bytes);
    }
    builder
}

fn ending(error: h2::Error) -> Ending {
    if error.is_go_away() && error.is_remote() {
        return Ending::ByClient;
    }
    if error.is_io() {
        return error.into_io().map_or(Ending::ClientReset, |error| match error.kind() {
            io::ErrorKind::UnexpectedEof => Ending::ByClient,
            _ => lost(error),
        });
    }
    Ending::Malformed(error.to_string())
}

/// One request on its way to an answer.
struct Call {
    request: Request<RecvStream>,
    entry: Option<usize>,
    in_flight: InFlight,
    site: Arc<Site>,
}

/// Counts the request as answered once, at the latest when it is dropped.
struct InFlight(Option<Arc<Recorder>>);

impl InFlight {
    fn answered(&mut self) {
        if let Some(recorder) = self.0.take() {
            recorder.answered();
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.answered();
    }
}

impl Call {
    fn receive(
        request: Request<RecvStream>,
        number: usize,
        site: &Arc<Site>,
        recorder: &Arc<Recorder>,
    ) -> Call {
        let entry = with_head(&request, |head| recorder.request(number, &[], head));
        let in_flight = InFlight(Some(Arc::clone(recorder)));
        Call { request, entry, in_flight, site: Arc::clone(site) }
    }

    /// The result is how the connection has to end, if it does, and the stream: dropping that
    /// one any earlier would reset it.
    async fn answer(mut self, mut respond: SendResponse<Bytes>) -> Option<(Ending, SendResponse<Bytes>)> {
        // An error means that the stream or the connection is gone, and the log tells why.
        let ending = self.respond(&mut respond).await.unwrap_or(None)?;
        Some((ending, respond))
    }

    async fn respond(&mut self, respond: &mut SendResponse<Bytes>) -> Result<Option<Ending>, h2::Error> {
        let Some(body) = self.body().await? else {
            let mut parts = Parts::default();
            let reason = format!("a body longer than {} bytes", self.site.options.max_body);
            routes::refusal(413, &reason, &mut parts);
            self.finish(respond, parts, Rest::Nothing).await?;
            return Ok(None);
        };
        let mut parts = Parts::default();
        let site = &self.site;
        let answer = with_head(&self.request, |head| routes::answer(site, head, &body, false, &mut parts));
        let (pause, rest) = match answer {
            Answer::Ready => (None, Rest::Nothing),
            Answer::After { pause, .. } => (Some(pause), Rest::Nothing),
            Answer::Drip { pause, bytes, every } => (Some(pause), Rest::Stars { bytes, every }),
            Answer::Bytes(bytes) => (None, Rest::Pattern(bytes)),
            Answer::Hang => {
                poll_fn(|context| respond.poll_reset(context)).await?;
                return Ok(None);
            }
            Answer::End { pause, ending } => {
                if !pause.is_zero() {
                    tokio::time::sleep(pause).await;
                }
                return Ok(Some(ending));
            }
        };
        if let Some(pause) = pause {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                reset = poll_fn(|context| respond.poll_reset(context)) => return reset.map(|_| None),
            }
        }
        self.finish(respond, parts, rest).await?;
        Ok(None)
    }

    /// The whole body; `None` when it is too long.
    async fn body(&mut self) -> Result<Option<Vec<u8>>, h2::Error> {
        let mut whole = Vec::new();
        let stream = self.request.body_mut();
        while let Some(part) = stream.data().await {
            let part = part?;
            whole.extend_from_slice(&part);
            stream.flow_control().release_capacity(part.len())?;
            if whole.len() > self.site.options.max_body {
                return Ok(None);
            }
        }
        if let Some(recorder) = &self.in_flight.0 {
            recorder.body(self.entry, &whole, true);
        }
        Ok(Some(whole))
    }

    async fn finish(
        &mut self,
        respond: &mut SendResponse<Bytes>,
        parts: Parts,
        rest: Rest,
    ) -> Result<(), h2::Error> {
        let mut response = Response::new(());
        *response.status_mut() = http::StatusCode::from_u16(parts.status).unwrap_or_default();
        for (name, value) in &parts.headers {
            // What no header can hold is left out, as a query may ask for anything.
            let name = HeaderName::from_bytes(name.as_bytes());
            if let (Ok(name), Ok(value)) = (name, HeaderValue::from_str(value)) {
                response.headers_mut().append(name, value);
            }
        }
        let last = parts.body.is_empty() && matches!(rest, Rest::Nothing);
        if last {
            self.in_flight.answered();
        }
        let mut stream = respond.send_response(response, last)?;
        if !last && matches!(rest, Rest::Nothing) {
            self.in_flight.answered();
            return stream.send_data(parts.body.into(), true);
        }
        match rest {
            Rest::Nothing => Ok(()),
            Rest::Stars { bytes, every } => {
                for left in (0..bytes).rev() {
                    if left == 0 {
                        self.in_flight.answered();
                    }
                    stream.send_data(Bytes::from_static(b"*"), left == 0)?;
                    if left > 0 {
                        tokio::time::sleep(every).await;
                    }
                }
                Ok(())
            }
            Rest::Pattern(bytes) => self.pattern(&mut stream, bytes).await,
        }
    }

    async fn pattern(&mut self, stream: &mut SendStream<Bytes>, bytes: u64) -> Result<(), h2::Error> {
        let pattern = Bytes::from_static(coded::pattern());
        let mut left = bytes;
        while left > 0 {
            let wanted = left.min(pattern.len() as u64) as usize;
            stream.reserve_capacity(wanted);
            // Only an increase is ever announced, so what is left of the last one comes first.
            let granted = match stream.capacity() {
                0 => match poll_fn(|context| stream.poll_capacity(context)).await {
                    Some(granted) => granted?.min(wanted),
                    None => return Err(Reason::CANCEL.into()),
                },
                left_over => left_over.min(wanted),
            };
            let offset = ((bytes - left) % pattern.len() as u64) as usize;
            let count = granted.min(pattern.len() - offset);
            left -= count as u64;
            if left == 0 {
                self.in_flight.answered();
            }
            stream.send_data(pattern.slice(offset..offset + count), left == 0)?;
        }
        Ok(())
    }
}

/// The body besides what is in the parts.
enum Rest {
    Nothing,
    Stars { bytes: u64, every: Duration },
    Pattern(u64),
}

fn with_head<R>(request: &Request<RecvStream>, read: impl FnOnce(&Head<'_>) -> R) -> R {
    let fields = request.headers().iter();
    let headers: Vec<_> = fields
        .map(|(name, value)| httparse::Header { name: name.as_str(), value: value.as_bytes() })
        .collect();
    let uri = request.uri();
    // CONNECT has no path (RFC 9113 section 8.5).
    let authority = uri.authority().map(|authority| authority.as_str());
    let target = uri.path_and_query().map(|path| path.as_str()).or(authority);
    read(&Head {
        method: request.method().as_str(),
        target: target.unwrap_or_default(),
        headers: &headers,
        framing: Framing::Length(0),
        keep_alive: true,
        expects_continue: false,
        scheme: uri.scheme_str(),
        authority,
        stream: Some(request.body().stream_id().as_u32()),
    })
}
