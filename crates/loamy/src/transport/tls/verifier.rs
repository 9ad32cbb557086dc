//! Whether a certificate is good for a name: by the rules, or whatever it is.

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::CryptoProvider;
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, OtherError, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::failure;
use crate::tls::TlsProfile;
use crate::{Error, Kind};

/// By the rules: a trusted issuer, valid now, the right name (RFC 5280, RFC 9525).
#[derive(Debug)]
pub(super) struct Strict {
    rules: Arc<WebPkiServerVerifier>,
    profile: TlsProfile,
}

impl Strict {
    pub(super) fn new(
        anchors: RootCertStore,
        profile: &TlsProfile,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, Error> {
        let rules = WebPkiServerVerifier::builder_with_provider(Arc::new(anchors), provider.clone()).build();
        let rules = rules
            .map_err(|error| Error::new(Kind::Internal, "no certificate can be verified").caused_by(error))?;
        Ok(Self { rules, profile: profile.clone() })
    }
}

impl ServerCertVerifier for Strict {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let judged = self.rules.verify_server_cert(certificate, intermediates, name, ocsp_response, now);
        let Err(rustls::Error::InvalidCertificate(reason)) = &judged else { return judged };
        let says_issuer = matches!(failure::reason_of_webpki(reason), Some(webpki::Error::CaUsedAsEndEntity));
        if says_issuer && self.profile.roots().iter().any(|own| own == certificate) {
            // The user gave this very certificate. `openssl req -x509` makes them so that they call themselves an issuer,
            // which webpki takes no server's word for; it has looked at the dates before it says so.
            verify_server_name(&ParsedCertificate::try_from(certificate)?, name)?;
            return Ok(ServerCertVerified::assertion());
        }
        if (says_issuer || *reason == CertificateError::UnknownIssuer) && is_self_signed(certificate) {
            return Err(CertificateError::Other(OtherError(Arc::new(SelfSigned))).into());
        }
        judged
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.rules.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.rules.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.rules.supported_verify_schemes()
    }
}

fn is_self_signed(certificate: &CertificateDer<'_>) -> bool {
    webpki::EndEntityCert::try_from(certificate).is_ok_and(|parsed| parsed.issuer() == parsed.subject())
}

/// The reason that rustls has no word for: the certificate was issued by itself.
#[derive(Debug)]
pub(super) struct SelfSigned;

impl fmt::Display for SelfSigned {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the certificate is self-signed")
    }
}

impl std::error::Error for SelfSigned {}

/// Whatever it is. The signatures of the handshake are not looked at either: they prove that the peer has the key of the
/// certificate that it showed, and whoever stands in between shows one of his own. To look would only shut out the old
/// devices with odd keys and certificates for which verification is turned off.
#[derive(Debug)]
pub(super) struct Lenient {
    schemes: Vec<SignatureScheme>,
}

impl Lenient {
    pub(super) fn new(provider: &CryptoProvider) -> Self {
        Self { schemes: provider.signature_verification_algorithms.supported_schemes() }
    }
}

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes.clone()
    }
}
