//! The well-behaved test server, for `loamy.testing`.

use std::sync::{Mutex, PoisonError};

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use testkit::{Farewell, Listen, Log, Options, Protocol, Tls};

/// A server on a port of 127.0.0.1.
#[pyclass(frozen, module = "loamy._loamy", name = "Server")]
pub(crate) struct Server {
    running: Mutex<State>,
    base: String,
    tls: bool,
    process: u32,
}

enum State {
    Running(testkit::Server),
    Stopped(Box<Log>),
}

#[pymethods]
impl Server {
    #[new]
    #[pyo3(signature = (close_after=None, announce_close=true, keep_log=true, tls=false, http2=true, port=0))]
    fn new(
        py: Python<'_>,
        close_after: Option<u64>,
        announce_close: bool,
        keep_log: bool,
        tls: bool,
        http2: bool,
        port: u16,
    ) -> PyResult<Self> {
        if close_after == Some(0) {
            return Err(PyValueError::new_err("close_after is 0; it must be 1 or more"));
        }
        let farewell = if announce_close { Farewell::Announced } else { Farewell::Silent };
        let http = if http2 { vec![Protocol::Http2, Protocol::Http11] } else { vec![Protocol::Http11] };
        let encryption = tls.then(Tls::default);
        let listen = Listen { port, ..Listen::default() };
        let options =
            Options { listen, close_after, keep_log, farewell, tls: encryption, http, ..Options::default() };
        let server = py.detach(|| testkit::Server::try_serve_with(options))?;
        let base = server.url("");
        Ok(Self { running: Mutex::new(State::Running(server)), base, tls, process: std::process::id() })
    }

    /// The server's address followed by a path.
    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// The certificate of the authority that has signed its own, as PEM; None where it speaks no TLS.
    fn ca<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        self.tls.then(|| PyBytes::new(py, testkit::ca_pem().as_bytes()))
    }

    /// What it saw so far, as JSON.
    fn log(&self, py: Python<'_>) -> PyResult<String> {
        if !self.is_own() {
            return Err(PyRuntimeError::new_err(
                "this server was begun before the process forked; the parent knows what it saw",
            ));
        }
        Ok(py.detach(|| match &*self.state() {
            State::Running(server) => server.log().to_json().to_string(),
            State::Stopped(log) => log.to_json().to_string(),
        }))
    }

    /// Stops it; what it saw stays. In a process that was forked from its own, it is left alone.
    fn stop(&self, py: Python<'_>) -> PyResult<()> {
        if !self.is_own() {
            return Ok(());
        }
        py.detach(|| {
            let mut state = self.state();
            if let State::Running(_) = &*state {
                let before = std::mem::replace(&mut *state, State::Stopped(Box::default()));
                if let State::Running(server) = before {
                    let log = server.into_log();
                    let failures = log.failures.join("; ");
                    *state = State::Stopped(Box::new(log));
                    if !failures.is_empty() {
                        return Err(PyRuntimeError::new_err(failures));
                    }
                }
            }
            Ok(())
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if !self.is_own() {
            // Its threads are the other process's, and not here to be ended.
            let state = self.running.get_mut().unwrap_or_else(PoisonError::into_inner);
            std::mem::forget(std::mem::replace(state, State::Stopped(Box::default())));
        }
    }
}

impl Server {
    fn is_own(&self) -> bool {
        self.process == std::process::id()
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
