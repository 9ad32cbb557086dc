//! Cells about whom a client trusts, and about what rows of different profiles may share.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use loamy::{Client, Dns, HttpVersion, KeyLog, Kind, Outcome, Policy, Request, Tls, TlsProfile, Verify};
use testkit::{Log, Options, Protocol, Server, refused_port};

use super::cell::Cell;
use super::checks::row;
use super::play::trusting;
use crate::child;

/// What a server of both versions of HTTP says, and what each is.
const VERSIONS: [(HttpVersion, Protocol); 2] =
    [(HttpVersion::Http1, Protocol::Http11), (HttpVersion::Auto, Protocol::Http2)];

fn server() -> Server {
    Server::serve_with(Options { tls: Some(testkit::Tls::default()), keep_log: true, ..Options::default() })
}

fn client() -> Client {
    let dns = Dns::Fixed(Arc::new(|_: &str| Ok(vec!["127.0.0.1".parse().unwrap()])));
    Client::builder().threads(1).dns(dns).build().unwrap()
}

fn unverified() -> TlsProfile {
    Tls::default().verify(Verify::Off).build().unwrap()
}

fn failed(outcomes: &[Outcome]) -> Vec<String> {
    outcomes.iter().filter(|outcome| !outcome.is_ok()).map(|outcome| format!("{outcome:?}")).collect()
}

/// The connections on which requests to a target came that begins so.
fn connections(log: &Log, target: &str) -> Vec<usize> {
    let own = log.requests.iter().filter(|request| request.target.starts_with(target));
    let mut numbers: Vec<_> = own.map(|request| request.connection).collect();
    numbers.sort_unstable();
    numbers.dedup();
    numbers
}

pub(super) fn a_bad_bundle_is_refused_when_the_profile_is_built(_: &Cell) -> Vec<String> {
    let header_alone = "-----BEGIN CERTIFICATE-----\n".to_owned();
    let cut = testkit::ca_pem().replace("-----END CERTIFICATE-----", "");
    let no_certificate = format!("{header_alone}AAAA\n-----END CERTIFICATE-----\n");
    let key_alone = testkit::client_identity().key;
    let mut wrong = Vec::new();
    let bundles = [
        ("nothing", String::new()),
        ("words", "trust me".to_owned()),
        ("a header alone", header_alone),
        ("a bundle that is cut off", cut),
        ("bytes that are no certificate", no_certificate),
        ("a key", key_alone),
    ];
    let built = bundles.map(|(what, text)| (what, Tls::default().only_roots_pem(text).build()));
    let missing = Tls::default().only_roots_file("/nowhere/ca.pem").build();
    for (what, built) in built.into_iter().chain([("a file that is not there", missing)]) {
        match built {
            Err(error) if error.kind() == Kind::BadRequest => {}
            other => wrong.push(format!("{what}: {other:?}")),
        }
    }
    wrong
}

pub(super) fn two_profiles_share_neither_a_connection_nor_a_session(cell: &Cell) -> Vec<String> {
    let mut wrong = Vec::new();
    for (version, spoken) in VERSIONS {
        let (server, client) = (server(), client());
        let policy = |tls: TlsProfile| Policy::default().concurrency(1).tls(tls).http_version(version);
        for (place, tls) in [("a", unverified()), ("b", trusting()), ("a", unverified()), ("b", trusting())] {
            let rows = (0..3).map(|n| row(cell, server.url(&format!("/anything/{place}/{n}"))));
            wrong.extend(failed(&client.run(rows, &policy(tls))));
        }
        drop(client);
        let log = server.into_log();
        let (a, b) = (connections(&log, "/anything/a/"), connections(&log, "/anything/b/"));
        if (&a[..], &b[..]) != (&[0], &[1]) || log.counts.resumed != 0 {
            wrong.push(format!("{spoken:?}: unverified on {a:?}, verified on {b:?}, {:?}", log.counts));
        }
    }
    // What one profile let pass is nothing to the other.
    let tls = testkit::Tls { certificate: testkit::Certificate::SelfSigned, ..testkit::Tls::default() };
    let (server, client) = (Server::serve_with(Options { tls: Some(tls), ..Options::default() }), client());
    let send = |tls| client.run([row(cell, server.url("/anything"))], &Policy::default().tls(tls));
    wrong.extend(failed(&send(unverified())));
    let refused = send(trusting());
    if !matches!(&refused[0].result, Err(error) if error.kind() == Kind::TlsCertificate) {
        wrong.push(format!("verified after one that was not: {refused:?}"));
    }
    wrong
}

pub(super) fn two_names_on_one_address_share_no_connection(cell: &Cell) -> Vec<String> {
    let mut wrong = Vec::new();
    for (version, spoken) in VERSIONS {
        let (server, client) = (server(), client());
        let names = ["a.test.example", "b.test.example", "127.0.0.1"];
        let rows = (0..9).map(|n| {
            let name = names[n % names.len()];
            row(cell, format!("https://{name}:{}/anything/{name}/{n}", server.port()))
        });
        let policy = Policy::default().concurrency(1).tls(trusting()).http_version(version);
        wrong.extend(failed(&client.run(rows, &policy)));
        drop(client);
        let log = server.into_log();
        for (number, name) in names.into_iter().enumerate() {
            let own = connections(&log, &format!("/anything/{name}/"));
            let asked_for = log.connections[number].tls.as_ref().and_then(|tls| tls.server_name.as_deref());
            if own != [number] || asked_for.unwrap_or("127.0.0.1") != name {
                wrong.push(format!("{spoken:?}: {name} on {own:?}, where {asked_for:?} was asked for"));
            }
        }
    }
    wrong
}

pub(super) fn the_versions_of_http_that_are_asked_for_share_no_connection(cell: &Cell) -> Vec<String> {
    let (server, client) = (server(), client());
    let mut wrong = Vec::new();
    for round in 0..2 {
        for (version, place) in
            [(HttpVersion::Http1, "h1"), (HttpVersion::Http2, "h2"), (HttpVersion::Auto, "auto")]
        {
            let policy = Policy::default().concurrency(1).tls(trusting()).http_version(version);
            let rows = (0..3).map(|n| row(cell, server.url(&format!("/anything/{place}/{round}/{n}"))));
            wrong.extend(failed(&client.run(rows, &policy)));
        }
    }
    drop(client);
    for request in &server.into_log().requests {
        let is_http1 = request.http == Protocol::Http11;
        if is_http1 != request.target.starts_with("/anything/h1/") {
            wrong.push(format!("{} went over {:?}", request.target, request.http));
        }
    }
    wrong
}

/// Where the child finds its server, its rows' column, and whether it asks for the secrets of its connections.
const CHILD: [&str; 3] = ["LOAMY_FAULTS_TLS_URL", "LOAMY_FAULTS_TLS_COLUMN", "LOAMY_FAULTS_TLS_KEYS"];

/// A folder of this process, which is taken away at the end.
pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn new() -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("loamy-faults-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(super) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Sends rows from a process with this environment, which trusts whom the environment says; `keys` is `asked` or `not`.
fn in_an_environment(cell: &Cell, environment: &[(&str, &Path)], keys: &str) -> Vec<String> {
    let server = server();
    let mut child =
        child::alone("faults::profiles::rows_end_well_in_the_environment_that_they_are_sent_from");
    child
        .envs(CHILD.into_iter().zip([&server.url("/anything"), cell.column.name(), keys]))
        .envs(environment.iter().copied());
    let mut wrong: Vec<_> = child::wrong(&mut child).into_iter().collect();
    if server.counts().requests != 3 {
        wrong.push(format!("{} requests seen, not 3", server.counts().requests));
    }
    wrong
}

#[test]
fn rows_end_well_in_the_environment_that_they_are_sent_from() {
    let [Some(url), Some(column), Some(keys)] = CHILD.map(|name| std::env::var(name).ok()) else {
        let folder = Folder::new();
        let bundle = folder.write("ca.pem", &testkit::ca_pem());
        let wrong = in_an_environment(&any_cell(), &[("SSL_CERT_FILE", &bundle)], "not");
        return assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    };
    let keys = if keys == "asked" { KeyLog::FromEnvironment } else { KeyLog::Off };
    let profile = Tls::default().key_log(keys).build().unwrap();
    let rows = (0..3).map(|_| match column.as_str() {
        "get" => Request::get(url.clone()),
        "post" => Request::post(url.clone(), "x=1"),
        _ => Request::post(url.clone(), "x=1").header("Idempotency-Key", "k-1"),
    });
    let outcomes = client().run(rows, &Policy::default().tls(profile));
    assert!(outcomes.iter().all(Outcome::is_ok), "{outcomes:?}");
}

fn any_cell() -> Cell {
    super::cell::list().cells.into_iter().find(|cell| cell.id == "D8").expect("the list has D8")
}

pub(super) fn ssl_cert_file_names_whom_to_trust(cell: &Cell) -> Vec<String> {
    let folder = Folder::new();
    let bundle = folder.write("ca.pem", &testkit::ca_pem());
    in_an_environment(cell, &[("SSL_CERT_FILE", &bundle)], "not")
}

pub(super) fn ssl_cert_dir_names_whom_to_trust(cell: &Cell) -> Vec<String> {
    let folder = Folder::new();
    // The name that OpenSSL gives such files: a hash and a number.
    folder.write("0a1b2c3d.0", &testkit::ca_pem());
    in_an_environment(cell, &[("SSL_CERT_DIR", &folder.0)], "not")
}

pub(super) fn secrets_are_written_down_only_when_it_is_asked_for(cell: &Cell) -> Vec<String> {
    let mut wrong = Vec::new();
    for keys in ["not", "asked"] {
        let folder = Folder::new();
        let bundle = folder.write("ca.pem", &testkit::ca_pem());
        let secrets = folder.0.join("secrets");
        wrong.extend(in_an_environment(
            cell,
            &[("SSL_CERT_FILE", &bundle), ("SSLKEYLOGFILE", &secrets)],
            keys,
        ));
        let written = std::fs::read_to_string(&secrets).unwrap_or_default();
        if written.contains("TRAFFIC_SECRET") != (keys == "asked") {
            wrong.push(format!("{keys}: {} bytes of secrets", written.len()));
        }
    }
    wrong
}

pub(super) fn proxies_of_the_environment_are_not_used(cell: &Cell) -> Vec<String> {
    let folder = Folder::new();
    let bundle = folder.write("ca.pem", &testkit::ca_pem());
    let nobody = PathBuf::from(format!("http://127.0.0.1:{}", refused_port()));
    let proxies = ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];
    let environment: Vec<_> = proxies.into_iter().map(|name| (name, &*nobody)).collect();
    in_an_environment(cell, &[&environment[..], &[("SSL_CERT_FILE", &*bundle)]].concat(), "not")
}
