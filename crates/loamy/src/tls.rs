//! What a user wants of TLS: a [`Tls`] says it, and what [`Tls::build`] makes of it, a [`TlsProfile`], has been read and checked.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::{self, PemObject, SectionKind};

use crate::Error;

/// How TLS is spoken. Its own builder: `Tls::default().add_roots_file("corporate.pem").build()?`.
///
/// Without further ado: certificates are verified against the system's, TLS 1.2 and 1.3 are spoken, and no secret is
/// written anywhere. The system's certificates are those that `SSL_CERT_FILE` and `SSL_CERT_DIR` name, where one of the
/// two is set.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    verify: Verify,
    system: System,
    roots: Vec<Bundle>,
    fallback: Option<PathBuf>,
    min_version: TlsVersion,
    key_log: KeyLog,
}

/// Whether the peer must prove who it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Verify {
    /// Its certificate must come from a trusted issuer, be valid now, and have the name of the URL.
    #[default]
    Full,
    /// Any certificate will do. What passes is hidden from those who only listen; whoever stands in between reads and
    /// alters it at will.
    Off,
}

/// A version of TLS. Older ones are not spoken (RFC 8996).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TlsVersion {
    /// TLS 1.2, RFC 5246.
    #[default]
    V1_2,
    /// TLS 1.3, RFC 8446.
    V1_3,
}

/// Whether the secrets of connections are written down, so that a tool such as Wireshark can read what was recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum KeyLog {
    /// Never, whatever the environment says.
    #[default]
    Off,
    /// To the file that `SSLKEYLOGFILE` names, if it names one.
    FromEnvironment,
}

/// Whether the system's certificates count besides those that were given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
enum System {
    #[default]
    Trusted,
    Ignored,
}

impl Tls {
    /// Sets whether the peer must prove who it is.
    pub fn verify(mut self, verify: Verify) -> Self {
        self.verify = verify;
        self
    }

    /// Trusts the certificates of a file, PEM or DER, and the system's no more. Several calls add up.
    pub fn only_roots_file(self, path: impl Into<PathBuf>) -> Self {
        self.without_system().add_roots_file(path)
    }

    /// Trusts these certificates, PEM or DER, and the system's no more. Several calls add up.
    pub fn only_roots_pem(self, bytes: impl Into<Vec<u8>>) -> Self {
        self.without_system().add_roots_pem(bytes)
    }

    /// Trusts the certificates of a file, PEM or DER, as well. Several calls add up.
    pub fn add_roots_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.roots.push(Bundle::File(path.into()));
        self
    }

    /// Trusts these certificates, PEM or DER, as well. Several calls add up.
    pub fn add_roots_pem(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.roots.push(Bundle::Bytes(bytes.into()));
        self
    }

    /// Names a file to be read in the system's place where the system has no certificates, as in bare containers. It is
    /// read when that is found out, not before.
    pub fn fallback_roots_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.fallback = Some(path.into());
        self
    }

    /// Sets the oldest version that is spoken: 1.2, since a good part of the servers has no other yet.
    pub fn min_version(mut self, version: TlsVersion) -> Self {
        self.min_version = version;
        self
    }

    /// Sets whether the secrets of connections are written down.
    pub fn key_log(mut self, key_log: KeyLog) -> Self {
        self.key_log = key_log;
        self
    }

    /// Reads the files and checks what is in them.
    ///
    /// # Errors
    ///
    /// `bad_request`, when a file cannot be read, has no certificate, or one that is broken.
    pub fn build(self) -> Result<TlsProfile, Error> {
        let mut roots = Vec::new();
        for bundle in &self.roots {
            roots.extend(bundle.read()?);
        }
        // One order, each once: what is equal is found to be equal.
        roots.sort_unstable_by(|one, other| one.as_ref().cmp(other.as_ref()));
        roots.dedup();
        Ok(TlsProfile::new(Settings {
            verify: self.verify,
            system: self.system,
            roots,
            fallback: self.fallback,
            min_version: self.min_version,
            key_log: self.key_log,
        }))
    }

    fn without_system(mut self) -> Self {
        self.system = System::Ignored;
        self
    }
}

/// How TLS is spoken, read and checked: made by [`Tls::build`], cheap to clone.
///
/// Two are equal when they ask for the same, wherever they were built. Connections are shared among rows with equal
/// profiles, and with no others.
#[derive(Clone)]
pub struct TlsProfile(Arc<Inner>);

struct Inner {
    settings: Settings,
    /// Connections are looked up by profile all the time, and a bundle has hundreds of kilobytes.
    hash: u64,
}

#[derive(Default, PartialEq, Eq, Hash)]
struct Settings {
    verify: Verify,
    system: System,
    roots: Vec<CertificateDer<'static>>,
    fallback: Option<PathBuf>,
    min_version: TlsVersion,
    key_log: KeyLog,
}

impl TlsProfile {
    /// Whether the peer must prove who it is.
    pub fn is_verified(&self) -> bool {
        self.0.settings.verify == Verify::Full
    }

    /// The certificates that the user gave.
    pub(crate) fn roots(&self) -> &[CertificateDer<'static>] {
        &self.0.settings.roots
    }

    pub(crate) fn trusts_system(&self) -> bool {
        self.0.settings.system == System::Trusted
    }

    pub(crate) fn fallback(&self) -> Option<&Path> {
        self.0.settings.fallback.as_deref()
    }

    pub(crate) fn min_version(&self) -> TlsVersion {
        self.0.settings.min_version
    }

    pub(crate) fn key_log(&self) -> KeyLog {
        self.0.settings.key_log
    }

    fn new(settings: Settings) -> Self {
        let mut hasher = DefaultHasher::new();
        settings.hash(&mut hasher);
        Self(Arc::new(Inner { settings, hash: hasher.finish() }))
    }
}

impl Default for TlsProfile {
    fn default() -> Self {
        static DEFAULT: LazyLock<TlsProfile> = LazyLock::new(|| TlsProfile::new(Settings::default()));
        DEFAULT.clone()
    }
}

impl PartialEq for TlsProfile {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0.hash == other.0.hash && self.0.settings == other.0.settings
    }
}

impl Eq for TlsProfile {}

impl Hash for TlsProfile {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0.hash);
    }
}

impl fmt::Debug for TlsProfile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let settings = &self.0.settings;
        formatter
            .debug_struct("TlsProfile")
            .field("verify", &settings.verify)
            .field("system", &settings.system)
            .field("roots", &settings.roots.len())
            .field("fallback", &settings.fallback)
            .field("min_version", &settings.min_version)
            .field("key_log", &settings.key_log)
            .finish()
    }
}

/// Certificates that a user gave, not yet read.
#[derive(Clone)]
enum Bundle {
    File(PathBuf),
    Bytes(Vec<u8>),
}

impl Bundle {
    fn read(&self) -> Result<Vec<CertificateDer<'static>>, Error> {
        match self {
            Self::File(path) => read_bundle(path),
            Self::Bytes(bytes) => certificates(bytes, "the CA bundle"),
        }
    }
}

impl fmt::Debug for Bundle {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.fmt(formatter),
            Self::Bytes(bytes) => write!(formatter, "{} bytes", bytes.len()),
        }
    }
}

/// Reads the certificates of a file that a user named.
pub(crate) fn read_bundle(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let subject = format!("the CA bundle {path:?}");
    match std::fs::read(path) {
        Ok(bytes) => certificates(&bytes, &subject),
        Err(error) => Err(unreadable(&subject, error)),
    }
}

fn unreadable(subject: &str, error: io::Error) -> Error {
    let (message, hint) = match error.kind() {
        io::ErrorKind::NotFound => (
            format!("{subject} does not exist"),
            Some("a relative path is looked for in the current directory"),
        ),
        io::ErrorKind::IsADirectory => (
            format!("{subject} is a directory"),
            Some("name a file; SSL_CERT_DIR may name a directory of certificates"),
        ),
        _ => (format!("{subject} cannot be read: {error}"), None),
    };
    Error::bad_request(message).hinted(hint.map(Into::into)).caused_by_io(error)
}

/// The certificates in PEM text, or the one that DER is.
///
/// One that is broken fails the whole: it may be the very one that was meant, at the end of a copy of everybody's list.
fn certificates(bytes: &[u8], subject: &str) -> Result<Vec<CertificateDer<'static>>, Error> {
    // Some editors put a mark before the first line, which would hide it.
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    if bytes.trim_ascii().is_empty() {
        return Err(Error::bad_request(format!("{subject} is empty")).with_hint(WANTED));
    }
    // DER begins with a SEQUENCE whose length is in the long form (X.690 §8.1.3.5); text never has such a byte there.
    if matches!(bytes, [0x30, 0x81..=0x84, ..]) {
        let certificate = CertificateDer::from(bytes.to_vec());
        check(&certificate, || subject.to_owned())?;
        return Ok(vec![certificate]);
    }
    let mut found = Vec::new();
    let mut has_key = false;
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(bytes) {
        match section.map_err(|error| broken_pem(subject, error))? {
            (SectionKind::Certificate, der) => {
                let certificate = CertificateDer::from(der);
                check(&certificate, || format!("certificate {} in {subject}", found.len() + 1))?;
                found.push(certificate);
            }
            (kind, _) => has_key |= is_private_key(kind),
        }
    }
    match (found.is_empty(), has_key) {
        (false, _) => Ok(found),
        (true, true) => Err(Error::bad_request(format!("{subject} has a private key and no certificate"))
            .with_hint(
                "a CA bundle has the certificates of issuers, which are public; the key stays with its owner",
            )),
        (true, false) => Err(Error::bad_request(format!("{subject} has no certificate")).with_hint(WANTED)),
    }
}

const WANTED: &str =
    "wanted is PEM, with a line \"-----BEGIN CERTIFICATE-----\" before each certificate, or DER";

fn check(certificate: &CertificateDer<'_>, subject: impl FnOnce() -> String) -> Result<(), Error> {
    rustls::RootCertStore::empty().add(certificate.clone()).map_err(|error| {
        Error::bad_request(format!("{} is broken or of a form that is not understood", subject()))
            .with_hint(WANTED)
            .caused_by(error)
    })
}

fn broken_pem(subject: &str, error: pem::Error) -> Error {
    let what = match &error {
        pem::Error::MissingSectionEnd { .. } => "ends within a certificate or key",
        pem::Error::IllegalSectionStart { .. } => "has a malformed BEGIN line",
        pem::Error::Base64Decode(_) => "has a section that is not base64",
        _ => "is not PEM",
    };
    Error::bad_request(format!("{subject} {what}")).with_hint(WANTED).caused_by(error)
}

fn is_private_key(kind: SectionKind) -> bool {
    matches!(kind, SectionKind::PrivateKey | SectionKind::RsaPrivateKey | SectionKind::EcPrivateKey)
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use rcgen::{CertificateParams, KeyPair};

    use super::*;
    use crate::Kind;

    fn certificate_pem(name: &str) -> String {
        let key = KeyPair::generate().unwrap();
        CertificateParams::new([name.to_owned()]).unwrap().self_signed(&key).unwrap().pem()
    }

    fn only(pem: &str) -> TlsProfile {
        Tls::default().only_roots_pem(pem).build().unwrap()
    }

    /// A file of its own for a test.
    struct File(PathBuf);

    impl File {
        fn of(name: &str, bytes: impl AsRef<[u8]>) -> Self {
            let path = std::env::temp_dir().join(format!("loamy-tls-{}-{name}", std::process::id()));
            std::fs::write(&path, bytes).unwrap();
            Self(path)
        }
    }

    impl Drop for File {
        fn drop(&mut self) {
            std::fs::remove_file(&self.0).unwrap();
        }
    }

    #[test]
    fn d6_a_bundle_that_is_no_bundle_is_refused_when_it_is_built() {
        let good = certificate_pem("a.example");
        let key = KeyPair::generate().unwrap().serialize_pem();
        let garbled = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
        let der = CertificateDer::from_pem_slice(good.as_bytes()).unwrap();
        for (bytes, expected) in [
            ("".into(), "the CA bundle is empty"),
            (" \r\n".into(), "the CA bundle is empty"),
            ("no PEM at all".into(), "the CA bundle has no certificate"),
            ("\u{0}\u{1}".into(), "the CA bundle has no certificate"),
            (
                "-----BEGIN CERTIFICATE REQUEST-----\nMAA=\n-----END CERTIFICATE REQUEST-----\n".into(),
                "the CA bundle has no certificate",
            ),
            (key.clone(), "the CA bundle has a private key and no certificate"),
            (good.replace("-----END CERTIFICATE-----", ""), "the CA bundle ends within a certificate or key"),
            (
                good.replacen("CERTIFICATE-----", "CERTIFICATE--", 1),
                "the CA bundle has a malformed BEGIN line",
            ),
            (good.replacen("\nMI", "\n!!", 1), "the CA bundle has a section that is not base64"),
            (
                garbled.to_owned(),
                "certificate 1 in the CA bundle is broken or of a form that is not understood",
            ),
            (
                format!("{good}{garbled}"),
                "certificate 2 in the CA bundle is broken or of a form that is not understood",
            ),
        ] {
            for tls in
                [Tls::default().only_roots_pem(bytes.as_str()), Tls::default().add_roots_pem(bytes.as_str())]
            {
                let error = tls.build().unwrap_err();
                assert_eq!((error.kind(), error.message()), (Kind::BadRequest, expected), "{bytes:?}");
                assert!(error.hint().is_some(), "{bytes:?}");
            }
        }
        let cut = &der[..der.len() - 1];
        let error = Tls::default().only_roots_pem(cut).build().unwrap_err();
        assert_eq!(error.message(), "the CA bundle is broken or of a form that is not understood");
        assert!(error.source().is_some());
        assert_eq!(only(&format!("{good}{key}")), only(&good), "a key beside the certificate is passed over");
        assert_eq!(only(&format!("\u{feff}{good}")), only(&good), "a byte order mark hides nothing");
    }

    #[test]
    fn d6_a_file_that_cannot_be_read_is_named() {
        let error = Tls::default().add_roots_file("/no/such/file.pem").build().unwrap_err();
        assert_eq!(error.kind(), Kind::BadRequest);
        assert_eq!(error.message(), "the CA bundle \"/no/such/file.pem\" does not exist");
        assert_eq!(error.hint(), Some("a relative path is looked for in the current directory"));
        assert!(error.os_error().is_some());

        let directory = std::env::temp_dir();
        let error = Tls::default().only_roots_file(&directory).build().unwrap_err();
        assert_eq!(error.message(), format!("the CA bundle {directory:?} is a directory"));

        let file = File::of("empty.pem", "");
        let error = Tls::default().only_roots_file(&file.0).build().unwrap_err();
        assert_eq!(error.message(), format!("the CA bundle {:?} is empty", file.0));
    }

    #[test]
    fn profiles_that_ask_for_the_same_are_equal_and_no_others() {
        let (one, other) = (certificate_pem("a.example"), certificate_pem("b.example"));
        let der = CertificateDer::from_pem_slice(one.as_bytes()).unwrap();
        let file = File::of("one.pem", &one);
        let build = |tls: Tls| tls.build().unwrap();
        let hash = |profile: &TlsProfile| {
            let mut hasher = DefaultHasher::new();
            profile.hash(&mut hasher);
            hasher.finish()
        };

        for (left, right) in [
            (build(Tls::default()), TlsProfile::default()),
            (build(Tls::default().only_roots_file(&file.0)), only(&one)),
            (build(Tls::default().only_roots_pem(der.as_ref())), only(&one)),
            (build(Tls::default().only_roots_pem(one.as_str()).only_roots_pem(other.as_str())), {
                only(&format!("{other}{one}{other}"))
            }),
            (build(Tls::default().verify(Verify::Off).verify(Verify::Full)), TlsProfile::default()),
        ] {
            assert_eq!(left, right);
            assert_eq!(hash(&left), hash(&right));
        }

        let distinct = [
            TlsProfile::default(),
            build(Tls::default().verify(Verify::Off)),
            only(&one),
            only(&other),
            build(Tls::default().only_roots_pem(one.as_str()).verify(Verify::Off)),
            build(Tls::default().add_roots_pem(one.as_str())),
            build(Tls::default().min_version(TlsVersion::V1_3)),
            build(Tls::default().key_log(KeyLog::FromEnvironment)),
            build(Tls::default().fallback_roots_file("/certifi.pem")),
        ];
        for (position, left) in distinct.iter().enumerate() {
            assert_eq!(left, &left.clone());
            assert!(distinct[position + 1..].iter().all(|right| left != right), "{left:?}");
        }
        assert!(distinct[0].is_verified() && !distinct[1].is_verified());
    }

    #[test]
    fn what_was_given_is_not_shown() {
        let tls = Tls::default().only_roots_pem(certificate_pem("a.example"));
        assert!(!format!("{tls:?}").contains("BEGIN"), "{tls:?}");
        let shown = format!("{:?}", tls.build().unwrap());
        assert_eq!(
            shown,
            "TlsProfile { verify: Full, system: Ignored, roots: 1, fallback: None, min_version: V1_2, key_log: Off }"
        );
    }
}
