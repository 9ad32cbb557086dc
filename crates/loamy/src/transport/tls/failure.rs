//! What went wrong in TLS, by name.
//!
//! tokio-rustls hands every failure on as an `io::Error`, with rustls's own inside where it is one of TLS. This is where
//! they get their kind; nobody above looks into them again.

use std::borrow::Cow;
use std::io;
use std::net::IpAddr;

use rustls::{AlertDescription, CertificateError, InvalidMessage, PeerIncompatible};

use super::verifier::SelfSigned;
use crate::mask::excerpt;
use crate::target::Origin;
use crate::{Error, Kind};

/// The error of a handshake that failed. `first` is how the peer began.
pub(super) fn in_handshake(origin: &Origin, error: io::Error, first: &[u8]) -> Error {
    let named = match of_rustls(&error) {
        _ if is_foreign(first) => foreign(origin, first),
        Some(rustls::Error::InvalidCertificate(reason)) => certificate(origin, reason),
        Some(rustls::Error::NoCertificatesPresented) => {
            Error::new(Kind::TlsCertificate, format!("{origin} has shown no certificate"))
        }
        Some(rustls::Error::AlertReceived(alert)) => alerted(origin, *alert),
        Some(reason) => broken(origin, reason),
        None => cut(origin, &error),
    };
    named.at_peer(&origin.host, origin.port).caused_by_io(error)
}

/// What TLS says when reading or writing fails after the handshake, or nothing when it says nothing.
///
/// In TLS 1.3 the peer judges the client's certificate when the client holds the handshake to be over (RFC 8446 §4.4.2.4);
/// so its refusal comes in the answer's place. Such a peer has looked at nothing that was sent: `tls.handshake`.
pub(crate) fn alert(error: &io::Error) -> Option<(Kind, String)> {
    Some(match of_rustls(error)? {
        rustls::Error::AlertReceived(alert) => match for_client(*alert) {
            Some(what) => (Kind::TlsHandshake, format!("the peer {what}")),
            None => (Kind::Protocol, format!("the peer ended TLS with the alert {}", name(*alert))),
        },
        reason => (Kind::Protocol, format!("the peer broke the rules of TLS: {reason}")),
    })
}

/// The same failure once more: all rows of a connection may end by it.
pub(crate) fn copy(error: &io::Error) -> io::Error {
    match (error.raw_os_error(), of_rustls(error), error.get_ref()) {
        (Some(code), ..) => io::Error::from_raw_os_error(code),
        (_, Some(reason), _) => io::Error::new(error.kind(), reason.clone()),
        (.., Some(other)) => io::Error::new(error.kind(), other.to_string()),
        _ => error.kind().into(),
    }
}

/// What webpki has found where rustls has no word of its own for it.
pub(super) fn reason_of_webpki(reason: &CertificateError) -> Option<&webpki::Error> {
    match reason {
        CertificateError::Other(other) => other.0.downcast_ref(),
        _ => None,
    }
}

fn of_rustls(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

/// Whether what came is no record of TLS: those begin with a content type (RFC 8446 §5.1).
fn is_foreign(first: &[u8]) -> bool {
    first.first().is_some_and(|content_type| !matches!(content_type, 20..=24))
}

fn foreign(origin: &Origin, first: &[u8]) -> Error {
    let what = match first {
        b"HTTP/" => "it answered in plain HTTP".to_owned(),
        _ => format!("what came begins with {}", excerpt(first)),
    };
    Error::new(Kind::TlsHandshake, format!("{origin} does not speak TLS: {what}"))
        .with_hint("if that port is for plain HTTP, write http:// instead of https://")
}

fn cut(origin: &Origin, error: &io::Error) -> Error {
    let message = match error.kind() {
        io::ErrorKind::UnexpectedEof => format!("{origin} closed the connection during the TLS handshake"),
        io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted | io::ErrorKind::BrokenPipe => {
            format!("{origin} reset the connection during the TLS handshake")
        }
        _ => format!("the TLS handshake with {origin} broke off: {error}"),
    };
    Error::new(Kind::TlsHandshake, message)
}

fn alerted(origin: &Origin, alert: AlertDescription) -> Error {
    let error = |message: String| Error::new(Kind::TlsHandshake, message);
    if let Some(what) = for_client(alert) {
        return error(format!("{origin} {what}"));
    }
    match alert {
        AlertDescription::ProtocolVersion => no_version(origin),
        AlertDescription::NoApplicationProtocol => {
            error(format!("{origin} speaks none of the versions of HTTP that it was offered"))
        }
        AlertDescription::UnrecognisedName => error(format!("{origin} knows no site of that name")),
        AlertDescription::HandshakeFailure | AlertDescription::InsufficientSecurity => {
            error(format!("{origin} refused the TLS handshake: {}", name(alert))).with_hint(
                "it may speak nothing newer than TLS 1.1, which is not safe (TLS 1.2 and 1.3 are spoken), have no cipher suite or \
                 key exchange in common, or want a client certificate",
            )
        }
        _ => error(format!("{origin} refused the TLS handshake: {}", name(alert))),
    }
}

fn broken(origin: &Origin, reason: &rustls::Error) -> Error {
    let message = match reason {
        rustls::Error::PeerIncompatible(
            PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig,
        )
        | rustls::Error::InvalidMessage(InvalidMessage::UnknownProtocolVersion) => return no_version(origin),
        rustls::Error::PeerIncompatible(PeerIncompatible::NoCipherSuitesInCommon) => {
            format!("{origin} has no cipher suite in common with us")
        }
        rustls::Error::PeerIncompatible(PeerIncompatible::NoKxGroupsInCommon) => {
            format!("{origin} has no key exchange in common with us")
        }
        rustls::Error::PeerIncompatible(_)
        | rustls::Error::PeerMisbehaved(_)
        | rustls::Error::InvalidMessage(_)
        | rustls::Error::InappropriateMessage { .. }
        | rustls::Error::InappropriateHandshakeMessage { .. }
        | rustls::Error::PeerSentOversizedRecord
        | rustls::Error::DecryptError => format!("{origin} broke the rules of TLS: {reason}"),
        _ => format!("the TLS handshake with {origin} failed: {reason}"),
    };
    Error::new(Kind::TlsHandshake, message)
}

fn no_version(origin: &Origin) -> Error {
    Error::new(Kind::TlsHandshake, format!("{origin} speaks no version of TLS that is allowed here"))
        .with_hint("TLS 1.2 and 1.3 are spoken, down to the minimum that was set; 1.0 and 1.1 are not safe (RFC 8996)")
}

/// What an alert says about the client's certificate, which stands for the client.
fn for_client(alert: AlertDescription) -> Option<&'static str> {
    Some(match alert {
        AlertDescription::CertificateRequired | AlertDescription::NoCertificate => {
            "wants a client certificate"
        }
        // What peers say that know TLS 1.2 only, where `certificate_required` is not to be had.
        AlertDescription::BadCertificate => "wants a client certificate, or another one",
        AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateRevoked
        | AlertDescription::CertificateExpired
        | AlertDescription::CertificateUnknown
        | AlertDescription::UnknownCA
        | AlertDescription::AccessDenied => "does not let this client in",
        _ => return None,
    })
}

/// The alert as the RFCs spell it: `handshake_failure`.
fn name(alert: AlertDescription) -> String {
    let Some(camel) = alert.as_str() else { return format!("{}", u8::from(alert)) };
    let mut name = String::new();
    for letter in camel.chars() {
        if letter.is_ascii_uppercase() && name.ends_with(|before: char| before.is_ascii_lowercase()) {
            name.push('_');
        }
        name.push(letter.to_ascii_lowercase());
    }
    name
}

fn certificate(origin: &Origin, reason: &CertificateError) -> Error {
    let (what, hint): (Cow<'static, str>, Option<&'static str>) = match reason {
        CertificateError::ExpiredContext { time, not_after } => (
            format!("expired {} ago", span(time.as_secs(), not_after.as_secs())).into(),
            Some("it has to be renewed at the server, unless it is this machine's clock that is wrong"),
        ),
        CertificateError::NotValidYetContext { time, not_before } => (
            format!("is not valid before {} from now", span(not_before.as_secs(), time.as_secs())).into(),
            Some("look whether this machine's clock is right"),
        ),
        CertificateError::Expired => ("has expired".into(), None),
        CertificateError::NotValidYet => ("is not valid yet".into(), None),
        CertificateError::UnknownIssuer => (
            "comes from an issuer that is not trusted here".into(),
            Some(
                "if that issuer is your organisation's, pass its certificate as a CA bundle; \
                 a server that forgets to send its intermediate certificates looks the same",
            ),
        ),
        CertificateError::Other(other) if other.0.is::<SelfSigned>() => (
            "is self-signed".into(),
            Some(
                "if it is yours, pass it as a CA bundle: then it is trusted, and no other that calls itself so",
            ),
        ),
        CertificateError::NotValidForNameContext { presented, .. } => return wrong_name(origin, presented),
        CertificateError::NotValidForName => (format!("is not for {}", origin.host).into(), None),
        CertificateError::Revoked => ("was revoked by its issuer".into(), None),
        CertificateError::BadEncoding => ("cannot be read: its encoding is broken".into(), None),
        CertificateError::BadSignature => ("has a wrong signature, or was used to make one".into(), None),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            ("is not meant for servers".into(), None)
        }
        CertificateError::UnhandledCriticalExtension => {
            ("has a critical extension that is not understood".into(), None)
        }
        CertificateError::UnsupportedSignatureAlgorithmContext { .. }
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            ("is signed with an algorithm that is not accepted".into(), None)
        }
        _ => match reason_of_webpki(reason) {
            Some(webpki::Error::NameConstraintViolation) => {
                ("has a name that its issuer may not certify (name constraints)".into(), None)
            }
            Some(webpki::Error::CaUsedAsEndEntity) => ("is an issuer's, not a server's".into(), None),
            Some(webpki::Error::EndEntityUsedAsCa) => {
                ("was issued with a certificate that is not an issuer's".into(), None)
            }
            _ => (format!("is not acceptable: {reason}").into(), None),
        },
    };
    Error::new(Kind::TlsCertificate, format!("the certificate of {origin} {what}"))
        .hinted(hint.map(Into::into))
}

/// RFC 9525 §2: only what stands in subjectAltName counts, and an address is no name.
fn wrong_name(origin: &Origin, presented: &[String]) -> Error {
    let hosts: Vec<String> = presented.iter().filter_map(|name| host(name)).collect();
    if hosts.is_empty() {
        return Error::new(
            Kind::TlsCertificate,
            format!("the certificate of {origin} has no host in a subjectAltName"),
        )
        .with_hint("the common name is not looked at (RFC 9525); the certificate has to be made anew");
    }
    const SHOWN: usize = 5;
    let more = match hosts.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let shown = hosts[..hosts.len().min(SHOWN)].join(", ");
    let message = format!("the certificate of {origin} is not for {}, only for {shown}{more}", origin.host);
    Error::new(Kind::TlsCertificate, message)
}

/// What webpki writes as `DnsName("a.example")` or `IpAddress(192.0.2.1)`. Whoever made the certificate chose the name.
fn host(presented: &str) -> Option<String> {
    if let Some(name) = presented.strip_prefix("DnsName(\"") {
        return Some(excerpt(name.strip_suffix("\")")?.as_bytes()).trim_matches('"').to_owned());
    }
    let address: IpAddr = presented.strip_prefix("IpAddress(")?.strip_suffix(')')?.parse().ok()?;
    Some(address.to_string())
}

/// The time between two moments in the largest unit that fits, rounded down: `3 days`.
fn span(later: u64, earlier: u64) -> String {
    let seconds = later.saturating_sub(earlier);
    let (count, unit) = match seconds {
        0..60 => (seconds, "second"),
        60..3_600 => (seconds / 60, "minute"),
        3_600..86_400 => (seconds / 3_600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {unit}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_told_in_the_largest_unit_that_fits() {
        for (seconds, told) in [
            (0, "0 seconds"),
            (1, "1 second"),
            (119, "1 minute"),
            (7_200, "2 hours"),
            (86_399, "23 hours"),
            (86_400, "1 day"),
            (90 * 86_400, "90 days"),
        ] {
            assert_eq!(span(1_000_000_000 + seconds, 1_000_000_000), told);
        }
    }

    #[test]
    fn a_name_chosen_by_a_stranger_is_escaped_and_cut() {
        assert_eq!(host("DnsName(\"a.example\")").unwrap(), "a.example");
        assert_eq!(host("DnsName(\"a\u{1b}[31m\nb\")").unwrap(), "a\\x1b[31m\\nb");
        let long = "x".repeat(500);
        assert_eq!(host(&format!("DnsName(\"{long}\")")).unwrap(), format!("{}…", "x".repeat(60)));
        assert_eq!(host("IpAddress(0::1)").unwrap(), "::1");
        for other in
            ["DirectoryName", "UniformResourceIdentifier(\"https://a.example\")", "Unsupported(0x00)"]
        {
            assert_eq!(host(other), None);
        }
    }
}
