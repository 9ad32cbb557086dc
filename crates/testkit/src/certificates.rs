//! Certificates for the servers, good ones and bad ones, made in memory. The authority that
//! signs them is made once per process.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::OnceLock;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, CidrSubnet, DnType, Error, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, KeyPair, KeyUsagePurpose, NameConstraints, SanType, date_time_ymd,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// What a server shows for a certificate. Unless it says otherwise, it is valid now, signed by
/// the authority of [`ca_pem`], and has the names `localhost`, `127.0.0.1`, `::1`,
/// `test.example`, `*.test.example`, the address it listens on, and those of
/// [`Tls::names`](crate::Tls::names).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Certificate {
    /// Nothing is wrong with it.
    #[default]
    Good,
    /// Nothing is wrong with it; an intermediate authority signed it, which is sent along.
    Chain,
    /// Like `Chain`, but the intermediate is not sent.
    MissingIntermediate,
    /// Its time is over.
    Expired,
    /// Its time has not come.
    NotYetValid,
    /// Signed by itself.
    SelfSigned,
    /// Signed by an authority that [`ca_pem`] does not have.
    UnknownCa,
    /// Good for `wrong.example` alone.
    WrongHost,
    /// Only its DNS names, so that it does not fit when it is asked for by address; among them
    /// the address as text.
    DnsOnly,
    /// Only its addresses, so that it does not fit when it is asked for by name.
    IpOnly,
    /// `localhost` as the common name and no subject alternative names at all.
    CommonNameOnly,
    /// `*` alone for a name.
    BareWildcard,
    /// `*.*.test.example` alone for a name.
    DoubleWildcard,
    /// `*.test.example` alone: it fits `a.test.example`, neither `test.example` nor
    /// `a.b.test.example`.
    Wildcard,
    /// `l*.test.example` and `l*ocalhost` alone, where the wildcard is a part of a label.
    PartialWildcard,
    /// An intermediate authority signed it that may sign for `permitted.example` alone.
    NameConstraints,
    /// It may prove a client, no server (extended key usage).
    WrongUsage,
}

/// A certificate with its key, for a client that has to show one. Both are PEM text.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The certificate.
    pub certificate: String,
    /// Its private key (PKCS #8).
    pub key: String,
}

/// The authority that signed what the servers of this process show, as PEM text. Each process
/// has its own.
pub fn ca_pem() -> String {
    authority().pem()
}

/// A certificate that servers accept which ask for one; the authority of [`ca_pem`] signed it.
pub fn client_identity() -> Identity {
    client_signed_by(authority())
}

/// A client certificate signed by an authority that no server knows.
pub fn stranger_identity() -> Identity {
    client_signed_by(stranger())
}

type Authority = CertifiedIssuer<'static, KeyPair>;

const SURE: &str = "the parameters of this certificate are our own, and they are sound";

pub(crate) fn authority() -> &'static Authority {
    static AUTHORITY: OnceLock<Authority> = OnceLock::new();
    AUTHORITY.get_or_init(|| root("testkit authority").expect(SURE))
}

fn stranger() -> &'static Authority {
    static STRANGER: OnceLock<Authority> = OnceLock::new();
    STRANGER.get_or_init(|| root("testkit stranger").expect(SURE))
}

fn client_signed_by(issuer: &Authority) -> Identity {
    let made = || {
        let key = KeyPair::generate()?;
        let mut parameters = leaf("testkit client");
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = parameters.signed_by(&key, issuer)?.pem();
        Ok::<_, Error>(Identity { certificate, key: key.serialize_pem() })
    };
    made().expect(SURE)
}

/// What a server shows, leaf first, and the key of the leaf.
pub(crate) struct Shown {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
}

impl Certificate {
    /// Every kind with its name in JSON.
    const NAMES: &[(&str, Certificate)] = &[
        ("good", Certificate::Good),
        ("chain", Certificate::Chain),
        ("missing-intermediate", Certificate::MissingIntermediate),
        ("expired", Certificate::Expired),
        ("not-yet-valid", Certificate::NotYetValid),
        ("self-signed", Certificate::SelfSigned),
        ("unknown-ca", Certificate::UnknownCa),
        ("wrong-host", Certificate::WrongHost),
        ("dns-only", Certificate::DnsOnly),
        ("ip-only", Certificate::IpOnly),
        ("common-name-only", Certificate::CommonNameOnly),
        ("bare-wildcard", Certificate::BareWildcard),
        ("double-wildcard", Certificate::DoubleWildcard),
        ("wildcard", Certificate::Wildcard),
        ("partial-wildcard", Certificate::PartialWildcard),
        ("name-constraints", Certificate::NameConstraints),
        ("wrong-usage", Certificate::WrongUsage),
    ];

    /// The kind by its name in JSON: that of the variant in lower case with hyphens.
    pub fn named(name: &str) -> Option<Certificate> {
        Certificate::NAMES.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind)
    }

    pub(crate) fn names() -> impl Iterator<Item = &'static str> {
        Certificate::NAMES.iter().map(|(name, _)| *name)
    }

    /// Makes one. `address` is where the server listens.
    pub(crate) fn make(self, address: IpAddr, extra: &[String]) -> Result<Shown, Error> {
        let key = KeyPair::generate()?;
        let mut parameters = leaf("testkit server");
        parameters.subject_alt_names = self.subject_names(address, extra)?;
        let mut intermediate = None;
        match self {
            Certificate::Expired => {
                parameters.not_before = date_time_ymd(2020, 1, 1);
                parameters.not_after = date_time_ymd(2021, 1, 1);
            }
            Certificate::NotYetValid => {
                parameters.not_before = date_time_ymd(2098, 1, 1);
                parameters.not_after = date_time_ymd(2099, 1, 1);
            }
            Certificate::CommonNameOnly => {
                parameters.distinguished_name.push(DnType::CommonName, "localhost")
            }
            Certificate::Chain | Certificate::MissingIntermediate => {
                intermediate = Some(subordinate("testkit intermediate", None)?);
            }
            Certificate::NameConstraints => {
                intermediate = Some(subordinate(
                    "testkit constrained intermediate",
                    Some(NameConstraints {
                        permitted_subtrees: vec![
                            GeneralSubtree::DnsName("permitted.example".into()),
                            GeneralSubtree::IpAddress(CidrSubnet::V4([192, 0, 2, 0], [255, 255, 255, 0])),
                        ],
                        excluded_subtrees: Vec::new(),
                    }),
                )?);
            }
            Certificate::WrongUsage => {
                parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            }
            _ => {}
        }
        let signed = match (self, &intermediate) {
            (Certificate::SelfSigned, _) => parameters.self_signed(&key)?,
            (Certificate::UnknownCa, _) => parameters.signed_by(&key, stranger())?,
            (_, Some(intermediate)) => parameters.signed_by(&key, intermediate)?,
            (_, None) => parameters.signed_by(&key, authority())?,
        };
        let mut chain = vec![signed.der().clone()];
        chain.extend(
            intermediate
                .filter(|_| self != Certificate::MissingIntermediate)
                .map(|intermediate| intermediate.der().clone()),
        );
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        Ok(Shown { chain, key })
    }

    fn subject_names(self, address: IpAddr, extra: &[String]) -> Result<Vec<SanType>, Error> {
        let dns = |name: &str| Ok::<_, Error>(SanType::DnsName(name.try_into()?));
        let mut usual = vec![dns("localhost")?, dns("test.example")?, dns("*.test.example")?];
        let local = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
        usual.extend(local.map(SanType::IpAddress));
        if !local.contains(&address) {
            usual.push(SanType::IpAddress(address));
        }
        for name in extra {
            usual.push(match name.parse() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => dns(name)?,
            });
        }
        Ok(match self {
            Certificate::WrongHost => vec![dns("wrong.example")?],
            Certificate::CommonNameOnly => Vec::new(),
            Certificate::BareWildcard => vec![dns("*")?],
            Certificate::DoubleWildcard => vec![dns("*.*.test.example")?],
            Certificate::Wildcard => vec![dns("*.test.example")?],
            Certificate::PartialWildcard => vec![dns("l*.test.example")?, dns("l*ocalhost")?],
            Certificate::DnsOnly => {
                usual.retain(|name| matches!(name, SanType::DnsName(_)));
                // An address is never looked for among the DNS names (RFC 9525 section 6.5).
                usual.push(dns(&address.to_string())?);
                usual
            }
            Certificate::IpOnly => {
                usual.retain(|name| matches!(name, SanType::IpAddress(_)));
                usual
            }
            _ => usual,
        })
    }
}

fn leaf(name: &str) -> CertificateParams {
    let mut parameters = dated(name);
    parameters.is_ca = IsCa::ExplicitNoCa;
    parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    parameters
}

fn root(name: &str) -> Result<Authority, Error> {
    CertifiedIssuer::self_signed(signer(name, None), KeyPair::generate()?)
}

fn subordinate(name: &str, constraints: Option<NameConstraints>) -> Result<Authority, Error> {
    CertifiedIssuer::signed_by(signer(name, constraints), KeyPair::generate()?, authority())
}

fn signer(name: &str, constraints: Option<NameConstraints>) -> CertificateParams {
    let mut parameters = dated(name);
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    parameters.name_constraints = constraints;
    parameters
}

fn dated(name: &str) -> CertificateParams {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name.push(DnType::CommonName, name);
    parameters.not_before = date_time_ymd(2020, 1, 1);
    parameters.not_after = date_time_ymd(2090, 1, 1);
    // Strict verifiers want to see who signed (RFC 5280 section 4.2.1.1).
    parameters.use_authority_key_identifier_extension = true;
    parameters
}
