//! What a response holds: as the engine gave it, or out of a pickle.

use pyo3::PyResult;
use pyo3::exceptions::PyValueError;

/// A response as the engine gave it, or out of a pickle.
pub(crate) enum Answer {
    Received(loamy::Response),
    Restored(Box<Restored>),
}

pub(crate) struct Restored {
    pub(crate) status: u16,
    pub(crate) version: Box<str>,
    pub(crate) url: Box<str>,
    pub(crate) lines: loamy::Headers,
    pub(crate) body: Box<[u8]>,
    pub(crate) redirects: u16,
}

impl Answer {
    pub(crate) fn status(&self) -> u16 {
        match self {
            Self::Received(response) => response.status(),
            Self::Restored(restored) => restored.status,
        }
    }

    pub(crate) fn version(&self) -> &str {
        match self {
            Self::Received(response) => version(response),
            Self::Restored(restored) => &restored.version,
        }
    }

    pub(crate) fn url(&self) -> &str {
        match self {
            Self::Received(response) => response.url(),
            Self::Restored(restored) => &restored.url,
        }
    }

    pub(crate) fn headers(&self) -> loamy::HeaderView<'_> {
        match self {
            Self::Received(response) => response.headers(),
            Self::Restored(restored) => restored.lines.view(),
        }
    }

    pub(crate) fn body(&self) -> &[u8] {
        match self {
            Self::Received(response) => response.body(),
            Self::Restored(restored) => &restored.body,
        }
    }

    pub(crate) fn redirects(&self) -> u16 {
        match self {
            Self::Received(response) => response.redirects(),
            Self::Restored(restored) => restored.redirects,
        }
    }
}

/// What was spoken, as users read it.
pub(crate) fn version(response: &loamy::Response) -> &'static str {
    match response.version() {
        http::Version::HTTP_09 => "HTTP/0.9",
        http::Version::HTTP_10 => "HTTP/1.0",
        http::Version::HTTP_2 => "HTTP/2",
        http::Version::HTTP_3 => "HTTP/3",
        _ => "HTTP/1.1",
    }
}

/// Headers from the lines of the wire.
///
/// # Errors
/// ValueError when they are none.
pub(crate) fn read_lines(lines: &[u8]) -> PyResult<loamy::Headers> {
    let mut headers = loamy::Headers::new();
    for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let name = std::str::from_utf8(&line[..colon]).unwrap_or_default();
        let value = line.get(colon + 1..).unwrap_or_default();
        headers
            .append(name, value.strip_prefix(b" ").unwrap_or(value))
            .map_err(|error| PyValueError::new_err(error.message().to_owned()))?;
    }
    Ok(headers)
}
