//! The handle that a test holds: starts the server's thread, reads its log, stops it.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::clock::Clock;
use crate::limit::Usage;
use crate::log::{Counts, Log};
use crate::options::Options;
use crate::peak::PeakUsage;
use crate::play::play;
use crate::recorder::Recorder;
use crate::script::{Script, ScriptError};
use crate::serve::{Site, attend};
use crate::tls::Door;
use crate::wire::{self, Wire};

/// Where a server listens.
#[derive(Clone, Debug)]
pub struct Listen {
    /// Any address of 127.0.0.0/8, or `::1`. Default: 127.0.0.1.
    pub address: IpAddr,
    /// The port; 0, the default, takes a free one.
    pub port: u16,
    /// How many connections may wait to be accepted. Default: 4096, Linux's own ceiling.
    pub backlog: i32,
    /// SO_RCVBUF of accepted connections in bytes, for uploads that must stall early.
    /// Default: the system's, which grows.
    pub receive_buffer: Option<usize>,
    /// SO_SNDBUF of accepted connections in bytes. Default: the system's.
    pub send_buffer: Option<usize>,
}

impl Default for Listen {
    fn default() -> Listen {
        Listen {
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port: 0,
            backlog: 4096,
            receive_buffer: None,
            send_buffer: None,
        }
    }
}

impl Listen {
    /// Sets the field of this name from JSON.
    pub(crate) fn set(&mut self, name: &str, field: &Value) -> Result<(), ScriptError> {
        let wrong = || ScriptError(format!("{name}: {field} is no value for it"));
        let size = || field.as_u64().and_then(|size| usize::try_from(size).ok());
        match name {
            "address" => {
                let address = field.as_str().and_then(|text| text.parse().ok());
                self.address = address.ok_or_else(wrong)?;
            }
            "port" => {
                let port = field.as_u64().and_then(|port| u16::try_from(port).ok());
                self.port = port.ok_or_else(wrong)?;
            }
            "backlog" => {
                let backlog = field.as_i64().and_then(|size| i32::try_from(size).ok());
                self.backlog = backlog.ok_or_else(wrong)?;
            }
            "receive_buffer" => self.receive_buffer = Some(size().ok_or_else(wrong)?),
            "send_buffer" => self.send_buffer = Some(size().ok_or_else(wrong)?),
            _ => return Err(ScriptError(format!("{name}: no such field"))),
        }
        Ok(())
    }
}

/// A running server. Dropping it stops it, joins its thread, and panics if the server's
/// thread panicked or an expectation of the script was broken.
pub struct Server {
    address: SocketAddr,
    recorder: Arc<Recorder>,
    site: Arc<Site>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts a server that plays `script`. It accepts connections when this returns.
    ///
    /// # Panics
    /// When the address cannot be bound or the script would spin; see [`Server::try_start`].
    #[track_caller]
    pub fn start(script: impl Into<Script>) -> Server {
        match Server::try_start(script) {
            Ok(server) => server,
            Err(error) => panic!("the scripted server did not start: {error}"),
        }
    }

    /// Like [`Server::start`].
    ///
    /// # Errors
    /// The address cannot be bound, or the script would spin or its TLS options do not fit
    /// (`InvalidInput`).
    pub fn try_start(script: impl Into<Script>) -> io::Result<Server> {
        let script = script.into();
        script.check().map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let clock = Clock::start();
        let recorder = Arc::new(Recorder::new(true, clock));
        let listen = script.listen.clone();
        let door = script.tls.as_ref().map(|tls| Door::new(tls, listen.address));
        let door = door.transpose()?.map(Arc::new);
        let script = Arc::new(script);
        let scheme = scheme(door.is_some());
        let site = Arc::new(Site::new(Options::default(), scheme, clock));
        let (seen, asked) = (Arc::clone(&recorder), Arc::clone(&site));
        Server::spawn(&listen, recorder, asked, move |wire, number| {
            let (script, site, door) = (Arc::clone(&script), Arc::clone(&site), door.clone());
            play(wire, number, script, site, door, Arc::clone(&seen))
        })
    }

    /// Starts the well-behaved server with the default [`Options`].
    ///
    /// # Panics
    /// When no port of 127.0.0.1 can be bound.
    #[track_caller]
    pub fn serve() -> Server {
        Server::serve_with(Options::default())
    }

    /// Starts the well-behaved server.
    ///
    /// # Panics
    /// When the address cannot be bound; see [`Server::try_serve_with`].
    #[track_caller]
    pub fn serve_with(options: Options) -> Server {
        match Server::try_serve_with(options) {
            Ok(server) => server,
            Err(error) => panic!("the server did not start: {error}"),
        }
    }

    /// Like [`Server::serve_with`].
    ///
    /// # Errors
    /// The address cannot be bound, or the options of TLS or HTTP/2 do not fit (`InvalidInput`).
    pub fn try_serve_with(options: Options) -> io::Result<Server> {
        options.http2.check().map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let clock = Clock::start();
        let recorder = Arc::new(Recorder::new(options.keep_log, clock));
        let listen = options.listen.clone();
        let door = options.tls.as_ref().map(|tls| Door::new(tls, listen.address));
        let door = door.transpose()?.map(Arc::new);
        let scheme = scheme(door.is_some());
        let site = Arc::new(Site::new(options, scheme, clock));
        let (seen, asked) = (Arc::clone(&recorder), Arc::clone(&site));
        Server::spawn(&listen, recorder, asked, move |wire, number| {
            attend(wire, number, Arc::clone(&site), door.clone(), Arc::clone(&seen))
        })
    }

    /// The address it listens on.
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// `http://ADDRESS:PORT`, with TLS `https://ADDRESS:PORT`, followed by `path`, which starts
    /// with a slash.
    pub fn url(&self, path: &str) -> String {
        format!("{}://{}{path}", self.site.scheme, self.address)
    }

    /// A copy of what the server saw so far.
    pub fn log(&self) -> Log {
        self.recorder.lock().clone()
    }

    /// The totals alone, without a copy of the log.
    pub fn counts(&self) -> Counts {
        self.recorder.lock().counts
    }

    /// How often each id of `/count/{id}`, `/flaky/{id}` and `/keyed/{id}` was asked for, by
    /// method. It is kept without the log as well.
    pub fn visits(&self) -> BTreeMap<String, BTreeMap<String, u64>> {
        self.site.memory().tally.visits()
    }

    /// When the requests to `/limited/{name}` and `/stamp/{name}` came, since the server started.
    /// It is kept without the log as well.
    pub fn arrivals(&self, name: &str) -> Vec<Duration> {
        self.site.memory().tally.arrivals(name).to_vec()
    }

    /// What became of the requests to `/limited/{name}`.
    pub fn usage(&self, name: &str) -> Usage {
        self.site.memory().usage(name)
    }

    /// How often requests to each id of `/keyed/{id}` took effect.
    pub fn effects(&self) -> BTreeMap<String, u64> {
        self.site.memory().effects()
    }

    /// What became of the requests to `/peak/{name}`; `""` is the name of `/peak`.
    pub fn peak(&self, name: &str) -> PeakUsage {
        self.site.memory().peak(name)
    }

    /// Waits until `condition` holds for the log, and returns the log as it is then. The
    /// condition is looked at on each change; it must not call the server.
    ///
    /// # Panics
    /// When `timeout` passes first; the message says what the server saw.
    #[track_caller]
    pub fn wait_for(&self, condition: impl FnMut(&Log) -> bool, timeout: Duration) -> Log {
        match self.recorder.wait_for(condition, timeout) {
            Ok(log) => log,
            Err(log) => panic!("not seen within {timeout:?}; the server saw {:#}", log.to_json()),
        }
    }

    /// Stops the server and returns the whole log.
    ///
    /// # Panics
    /// Like dropping it: when the log has failures.
    #[track_caller]
    pub fn stop(mut self) -> Log {
        let log = self.end();
        assert!(log.failures.is_empty(), "{}", report(&log));
        log
    }

    /// Stops the server and returns the whole log, for callers that look at
    /// [`Log::failures`] themselves.
    pub fn into_log(mut self) -> Log {
        self.end()
    }

    fn spawn<Visit, Visited>(
        listen: &Listen,
        recorder: Arc<Recorder>,
        site: Arc<Site>,
        visit: Visit,
    ) -> io::Result<Server>
    where
        Visit: Fn(Wire, usize) -> Visited + Send + 'static,
        Visited: Future<Output = ()> + Send + 'static,
    {
        let listener = wire::listen(listen)?;
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
        let (stop, stopped) = oneshot::channel();
        let seen = Arc::clone(&recorder);
        let thread = std::thread::Builder::new()
            .name(format!("testkit {}", address.port()))
            .spawn(move || runtime.block_on(accept(listener, seen, visit, stopped)))?;
        Ok(Server { address, recorder, site, stop: Some(stop), thread: Some(thread) })
    }

    fn end(&mut self) -> Log {
        // An error means that the thread has ended already; join tells why.
        let _ = self.stop.take().map(|stop| stop.send(()));
        if let Some(Err(panic)) = self.thread.take().map(JoinHandle::join) {
            self.recorder.failed(panic_text(panic.as_ref()));
        }
        self.log()
    }
}

impl Drop for Server {
    #[track_caller]
    fn drop(&mut self) {
        if self.thread.is_none() {
            return;
        }
        let log = self.end();
        if !log.failures.is_empty() && !std::thread::panicking() {
            panic!("{}", report(&log));
        }
    }
}

fn scheme(with_tls: bool) -> &'static str {
    if with_tls { "https" } else { "http" }
}

fn report(log: &Log) -> String {
    format!("the test server failed: {}\nit saw {:#}", log.failures.join("; "), log.to_json())
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = (panic.downcast_ref::<String>().map(String::as_str))
        .or_else(|| panic.downcast_ref::<&str>().copied());
    format!("panicked: {}", text.unwrap_or("not with a text"))
}

async fn accept<Visit, Visited>(
    listener: std::net::TcpListener,
    recorder: Arc<Recorder>,
    visit: Visit,
    mut stopped: oneshot::Receiver<()>,
) where
    Visit: Fn(Wire, usize) -> Visited,
    Visited: Future<Output = ()> + Send + 'static,
{
    let listener = match wire::into_tokio(listener) {
        Ok(listener) => listener,
        Err(error) => return recorder.failed(format!("listen: {error}")),
    };
    let mut visits = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            _ = &mut stopped => break,
            // Unconstrained: the backlog is emptied before any connection is served, or a
            // burst of thousands would overflow it and wait a second for its SYN again.
            accepted = tokio::task::unconstrained(listener.accept()) => match accepted {
                Ok((stream, peer)) => {
                    let number = recorder.accepted(peer);
                    visits.spawn(visit(Wire::plain(stream), number));
                }
                // Out of descriptors, or aborted while it waited. The former leaves the
                // connection in the backlog, where the next try finds it.
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            },
            Some(visited) = visits.join_next(), if !visits.is_empty() => {
                if let Err(error) = visited {
                    recorder.failed(panic_text(error.into_panic().as_ref()));
                }
            }
        }
    }
    drop(listener);
    // The visits that panicked just before the stop count as well.
    while let Some(visited) = visits.try_join_next() {
        if let Err(error) = visited {
            recorder.failed(panic_text(error.into_panic().as_ref()));
        }
    }
}
