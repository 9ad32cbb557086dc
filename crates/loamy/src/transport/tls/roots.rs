//! Whom a profile trusts: the system, the bundles of the user, or both.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use rustls::RootCertStore;
use rustls_native_certs::CertificateResult;
use rustls_pki_types::CertificateDer;

use crate::tls::{TlsProfile, read_bundle};
use crate::{Error, Kind};

/// The system's certificates, read once they are needed.
#[derive(Debug)]
pub(super) struct Roots {
    load: fn() -> CertificateResult,
    system: Mutex<Option<RootCertStore>>,
}

impl Roots {
    /// Where OpenSSL has them on this machine; `SSL_CERT_FILE` and `SSL_CERT_DIR` replace that.
    pub(super) fn of_system() -> Self {
        Self::loaded_by(rustls_native_certs::load_native_certs)
    }

    pub(super) fn loaded_by(load: fn() -> CertificateResult) -> Self {
        Self { load, system: Mutex::default() }
    }

    /// Whom the profile trusts; never nobody.
    pub(super) fn anchors(&self, profile: &TlsProfile) -> Result<RootCertStore, Error> {
        let own = profile.roots();
        let others = match profile.trusts_system() {
            true => self.system_or(profile.fallback(), own)?,
            false => RootCertStore::empty(),
        };
        Ok(with(others, own))
    }

    fn system_or(
        &self,
        fallback: Option<&Path>,
        own: &[CertificateDer<'static>],
    ) -> Result<RootCertStore, Error> {
        match (self.system(), fallback) {
            (Err(_), Some(path)) => Ok(with(RootCertStore::empty(), &read_bundle(path)?)),
            (Err(_), None) if !own.is_empty() => Ok(RootCertStore::empty()),
            (system, _) => system,
        }
    }

    /// Only what was found is kept: who sees the error and mends it need not start anew.
    fn system(&self) -> Result<RootCertStore, Error> {
        let mut kept = self.system.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(system) = &*kept {
            return Ok(system.clone());
        }
        let loaded = (self.load)();
        // Lists of systems are long and have ancient entries; one that cannot be read is one less that is trusted.
        let system = with(RootCertStore::empty(), &loaded.certs);
        if system.is_empty() {
            return Err(missing(loaded));
        }
        Ok(kept.insert(system).clone())
    }
}

fn with(mut anchors: RootCertStore, certificates: &[CertificateDer<'static>]) -> RootCertStore {
    anchors.add_parsable_certificates(certificates.iter().cloned());
    anchors
}

fn missing(loaded: CertificateResult) -> Error {
    const MESSAGE: &str = "no system certificates were found to verify the peer's with";
    let error = match loaded.errors.into_iter().next() {
        Some(first) => Error::new(Kind::TlsCertificate, format!("{MESSAGE} ({first})")).caused_by(first),
        None => Error::new(Kind::TlsCertificate, MESSAGE),
    };
    error.with_hint(
        "install the system's package ca-certificates, pass a CA bundle, or `pip install certifi`; \
         SSL_CERT_FILE and SSL_CERT_DIR, if set, stand for the system's",
    )
}
