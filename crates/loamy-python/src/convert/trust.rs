//! Whom a policy or a row trusts, and how TLS is spoken with them: read from Python, and made into the engine's profile.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use loamy::{Error, KeyLog, Tls, TlsProfile, TlsVersion, Verify};
use pyo3::exceptions::{PyException, PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyBytes, PyList, PyString, PyTuple, PyType};

use super::{flag, not_a, string};

/// What was said of TLS, before a file is read.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Wanted {
    verify: Whom,
    extra: Vec<Bundle>,
    min_version: TlsVersion,
    key_log: KeyLog,
}

/// Against whose certificates the peer's is verified.
#[derive(Clone, Debug, PartialEq)]
enum Whom {
    System,
    Bundle(Bundle),
    Nobody,
}

/// Certificates of issuers, where they are or as they are.
#[derive(Clone, Debug)]
enum Bundle {
    File(PathBuf),
    Pem(Arc<PyBackedBytes>),
}

impl PartialEq for Bundle {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::File(one), Self::File(other)) => one == other,
            // Rows mostly hold the very object, and a bundle may have hundreds of kilobytes.
            (Self::Pem(one), Self::Pem(other)) => one.as_ptr() == other.as_ptr() || **one == **other,
            _ => false,
        }
    }
}

impl Wanted {
    /// Sets one of the keys that a row may have for itself.
    ///
    /// # Errors
    /// TypeError and ValueError for what it cannot be.
    pub(super) fn set(&mut self, key: &str, value: &Bound<'_, PyAny>) -> PyResult<()> {
        match key {
            "verify" => self.verify = Whom::read(value)?,
            "extra_ca" => self.extra = bundles(value)?,
            _ => self.min_version = version(value)?,
        }
        Ok(())
    }

    /// Reads the files and checks what is in them.
    ///
    /// # Errors
    /// `bad_request`, its text begins with the field that is to blame.
    pub(super) fn build(&self, fallback: Option<PathBuf>) -> Result<TlsProfile, Error> {
        let mut tls = Tls::default().min_version(self.min_version).key_log(self.key_log);
        tls = match &self.verify {
            Whom::System => match fallback {
                Some(path) => tls.fallback_roots_file(path),
                None => tls,
            },
            Whom::Bundle(Bundle::File(path)) => tls.only_roots_file(path),
            Whom::Bundle(Bundle::Pem(bytes)) => tls.only_roots_pem(&bytes[..]),
            Whom::Nobody => tls.verify(Verify::Off),
        };
        tls = self.extra.iter().fold(tls, |tls, bundle| bundle.beside(tls));
        tls.build().map_err(|error| self.blame(error))
    }

    fn blame(&self, error: Error) -> Error {
        let broken = match &self.verify {
            Whom::Bundle(bundle) => bundle.broken().map(|error| ("verify", error)),
            _ => None,
        };
        let broken =
            broken.or_else(|| self.extra.iter().find_map(Bundle::broken).map(|error| ("extra_ca", error)));
        // None: whoever writes to the file has mended it meanwhile.
        let Some((field, error)) = broken else { return error };
        let named = Error::bad_request(format!("{field}: {}", error.message()));
        match error.hint() {
            Some(hint) => named.with_hint(hint.to_owned()),
            None => named,
        }
    }

    fn has_bundles(&self) -> bool {
        matches!(self.verify, Whom::Bundle(_)) || !self.extra.is_empty()
    }

    /// The file that stands in for a system without certificates, where the system is asked at all.
    pub(super) fn fallback(&self, py: Python<'_>) -> PyResult<Option<PathBuf>> {
        if self.verify == Whom::System { certifi(py) } else { Ok(None) }
    }
}

impl Whom {
    fn read(value: &Bound<'_, PyAny>) -> PyResult<Self> {
        match value.cast::<PyBool>() {
            Ok(verified) if verified.is_true() => Ok(Self::System),
            Ok(_) => Ok(Self::Nobody),
            Err(_) => {
                Bundle::read(value, "verify", "True, False, a path or the bytes of PEM").map(Self::Bundle)
            }
        }
    }
}

impl Bundle {
    fn read(value: &Bound<'_, PyAny>, field: &str, wanted: &str) -> PyResult<Self> {
        if let Ok(bytes) = value.cast::<PyBytes>() {
            return Ok(Self::Pem(Arc::new(bytes.clone().into())));
        }
        if let Ok(text) = value.cast::<PyString>()
            && text.to_string_lossy().contains("-----BEGIN")
        {
            let message = format!(
                "{field} is the text of PEM where a path was looked for; give it as bytes: text.encode()"
            );
            return Err(PyValueError::new_err(message));
        }
        match value.extract::<PathBuf>() {
            Ok(path) => Ok(Self::File(path)),
            Err(error) if error.is_instance_of::<PyTypeError>(value.py()) => Err(not_a(value, field, wanted)),
            Err(error) => Err(error),
        }
    }

    fn beside(&self, tls: Tls) -> Tls {
        match self {
            Self::File(path) => tls.add_roots_file(path),
            Self::Pem(bytes) => tls.add_roots_pem(&bytes[..]),
        }
    }

    fn broken(&self) -> Option<Error> {
        self.beside(Tls::default()).build().err()
    }
}

fn bundles(value: &Bound<'_, PyAny>) -> PyResult<Vec<Bundle>> {
    const WANTED: &str = "a path, the bytes of PEM, or a list of them";
    if value.is_none() {
        return Ok(Vec::new());
    }
    if !value.is_instance_of::<PyList>() && !value.is_instance_of::<PyTuple>() {
        return Ok(vec![Bundle::read(value, "extra_ca", WANTED)?]);
    }
    value.try_iter()?.map(|bundle| Bundle::read(&bundle?, "extra_ca", WANTED)).collect()
}

fn version(value: &Bound<'_, PyAny>) -> PyResult<TlsVersion> {
    match string(value, "tls_min")? {
        "1.2" => Ok(TlsVersion::V1_2),
        "1.3" => Ok(TlsVersion::V1_3),
        other => Err(PyValueError::new_err(format!(
            "tls_min is {other:?}; it must be \"1.2\" or \"1.3\": older versions are not safe and not spoken (RFC 8996)"
        ))),
    }
}

/// How TLS is spoken under a policy: read and checked when the policy is built.
#[pyclass(frozen, module = "loamy._loamy", name = "Trust")]
pub(crate) struct Trust {
    wanted: Wanted,
    profile: OnceLock<TlsProfile>,
}

#[pymethods]
impl Trust {
    #[new]
    fn new(
        py: Python<'_>,
        verify: &Bound<'_, PyAny>,
        extra_ca: &Bound<'_, PyAny>,
        tls_min: &Bound<'_, PyAny>,
        key_log: &Bound<'_, PyAny>,
    ) -> PyResult<Self> {
        let wanted = Wanted {
            verify: Whom::read(verify)?,
            extra: bundles(extra_ca)?,
            min_version: version(tls_min)?,
            key_log: if flag(key_log, "key_log")? { KeyLog::FromEnvironment } else { KeyLog::Off },
        };
        let own = Self { wanted, profile: OnceLock::new() };
        // Without files there is nothing that could be wrong, and nothing is looked for before it is needed.
        if own.wanted.has_bundles() {
            own.profile(py)?;
        }
        Ok(own)
    }
}

impl Trust {
    pub(super) fn wanted(&self) -> &Wanted {
        &self.wanted
    }

    /// The engine's profile.
    ///
    /// # Errors
    /// InvalidRequest, a ValueError, which names the field that is to blame.
    pub(super) fn profile(&self, py: Python<'_>) -> PyResult<TlsProfile> {
        if let Some(made) = self.profile.get() {
            return Ok(made.clone());
        }
        let fallback = self.wanted.fallback(py)?;
        // Attached: a thread that came back to an interpreter that is going away would take the process with it.
        let made = self.wanted.build(fallback).map_err(|error| invalid(py, &error))?;
        Ok(self.profile.get_or_init(|| made).clone())
    }
}

fn invalid(py: Python<'_>, error: &Error) -> PyErr {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let made = CLASS.import(py, "loamy.errors", "InvalidRequest").and_then(|class| {
        let made = class.call1((error.message(),))?;
        if let Some(hint) = error.hint() {
            made.setattr(intern!(py, "hint"), hint)?;
        }
        Ok(made)
    });
    made.map_or_else(|other| other, PyErr::from_value)
}

/// The bundle of the package `certifi`, where that is installed: found without importing it, once a process, when the module
/// is imported. Looking for files lets go of the interpreter, and a thread that comes back to one that is going away would
/// take the process with it.
pub(crate) fn certifi(py: Python<'_>) -> PyResult<Option<PathBuf>> {
    static FOUND: PyOnceLock<Option<PathBuf>> = PyOnceLock::new();
    let found = FOUND.get_or_try_init(py, || match look_for_certifi(py) {
        // It stands in for what is usually there: not finding it is no failure.
        Err(error) if error.is_instance_of::<PyException>(py) => Ok(None),
        found => found,
    })?;
    Ok(found.clone())
}

fn look_for_certifi(py: Python<'_>) -> PyResult<Option<PathBuf>> {
    // The finder of sys.path, which every interpreter has in memory; `importlib.util` would have to be imported.
    let finder = py.import("_frozen_importlib_external")?.getattr("PathFinder")?;
    let spec = finder.call_method1("find_spec", ("certifi",))?;
    if spec.is_none() {
        return Ok(None);
    }
    let origin: PathBuf = spec.getattr("origin")?.extract()?;
    Ok(origin.parent().map(|package| package.join("cacert.pem")).filter(|path| path.is_file()))
}
