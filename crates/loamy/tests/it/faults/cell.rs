//! One cell: what the server does, what the row is, what must become of it. Read from the list, where unknown words are
//! refused.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use testkit::{Certificate, ClientCertificate, Protocol, Resumption, Versions};

const LIST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/faults/cells.toml");

/// Runs only the cells whose name holds this text; for looking at a failure.
const CHOICE: &str = "LOAMY_FAULTS";

pub(crate) struct List {
    pub(crate) count: usize,
    /// The same for each transport.
    pub(crate) over: BTreeMap<Transport, usize>,
    pub(crate) cells: Vec<Cell>,
}

/// What the requests of a cell go over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Transport {
    /// HTTP/1.1 in the clear.
    #[default]
    Plain,
    /// HTTP/1.1 over TLS.
    Tls,
    /// HTTP/2 over TLS.
    H2,
    /// HTTP/2 in the clear, which the client knows of.
    H2c,
}

impl Transport {
    pub(crate) const ALL: [Transport; 4] = [Transport::Plain, Transport::Tls, Transport::H2, Transport::H2c];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Transport::Plain => "plain",
            Transport::Tls => "tls",
            Transport::H2 => "h2",
            Transport::H2c => "h2c",
        }
    }

    pub(crate) fn is_secure(self) -> bool {
        matches!(self, Transport::Tls | Transport::H2)
    }

    pub(crate) fn scheme(self) -> &'static str {
        if self.is_secure() { "https" } else { "http" }
    }

    pub(crate) fn speaks(self) -> Protocol {
        match self {
            Transport::Plain | Transport::Tls => Protocol::Http11,
            Transport::H2 | Transport::H2c => Protocol::Http2,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Column {
    #[default]
    Get,
    Post,
    Keyed,
}

impl Column {
    pub(crate) const ALL: [Column; 3] = [Column::Get, Column::Post, Column::Keyed];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Column::Get => "get",
            Column::Post => "post",
            Column::Keyed => "keyed",
        }
    }

    pub(crate) fn method(self) -> &'static str {
        if self == Column::Get { "GET" } else { "POST" }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Runner {
    Engine,
    Python,
}

/// When a row must be in doubt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum InDoubt {
    Never,
    /// In the column POST, which neither its method nor a key protects.
    Post,
    /// In the column POST, if any byte of it was sent.
    PostIfSent,
}

/// What the look-up of a name gives.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Answer {
    Addresses(Vec<std::net::IpAddr>),
    /// `not found`, `try again`, `timed out` or `panic`.
    Word(String),
    /// Such a word or an address for each look-up; the last holds for all further ones.
    InTurn(Vec<String>),
}

/// Which rows are sent again under `retries` whose effect is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Retried {
    #[default]
    Idempotent,
    All,
}

/// Whether what the servers say about their limits is obeyed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Governor {
    #[default]
    On,
    Off,
}

/// Whom the client trusts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Roots {
    /// The authority of the test servers.
    #[default]
    Testkit,
    /// Those of the system, which the authority of the test servers is not among.
    System,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verify {
    #[default]
    Full,
    Off,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Version {
    Auto,
    Http1,
    Http2,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Downgrade {
    #[default]
    Refuse,
    Allow,
}

/// What TLS is like at a server; good unless it is said.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ServerTls {
    /// By the name of testkit: `expired`, `wrong-host`.
    certificate: Option<String>,
    #[serde(default)]
    names: Vec<String>,
    /// The one version that is spoken, `1.2` or `1.3`.
    version: Option<String>,
    #[serde(default)]
    cipher_suites: Vec<String>,
    alpn: Option<Vec<String>>,
    #[serde(default)]
    client_certificate: Demand,
    #[serde(default)]
    no_resumption: bool,
}

/// Whether clients have to show a certificate, of which the engine has none.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Demand {
    #[default]
    NotAsked,
    Requested,
    Required,
}

impl ServerTls {
    pub(crate) fn for_testkit(&self) -> testkit::Tls {
        let certificate = self.certificate.as_deref().unwrap_or("good");
        let certificate = Certificate::named(certificate);
        let versions = match self.version.as_deref() {
            None => Versions::Both,
            Some("1.2") => Versions::Only12,
            Some("1.3") => Versions::Only13,
            Some(other) => panic!("TLS {other} is not spoken"),
        };
        testkit::Tls {
            certificate: certificate.unwrap_or_else(|| panic!("{:?} is no certificate", self.certificate)),
            names: self.names.clone(),
            versions,
            cipher_suites: self.cipher_suites.clone(),
            alpn: self.alpn.clone(),
            client_certificate: match self.client_certificate {
                Demand::NotAsked => ClientCertificate::NotAsked,
                Demand::Requested => ClientCertificate::Requested,
                Demand::Required => ClientCertificate::Required,
            },
            resumption: if self.no_resumption { Resumption::Refused } else { Resumption::Offered },
            ..testkit::Tls::default()
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Cell {
    #[serde(skip)]
    pub(crate) column: Column,
    #[serde(skip)]
    pub(crate) over: Transport,
    pub(crate) id: String,
    pub(crate) variant: String,
    pub(crate) runner: Runner,
    /// Why the cell cannot be.
    pub(crate) na: Option<String>,
    /// A check of its own, by name, in place of what follows.
    pub(crate) check: Option<String>,
    /// What the Python runner's check takes.
    #[serde(default, rename = "with")]
    pub(crate) _with: Option<toml::Value>,

    // The servers, as steps of testkit. `{port}`, `{other}`, `{refused}` and `{backlog}` stand for ports, `{server}` for
    // the server's address and port, `{scheme}` for that of the transport, `{x*N}` for N times the letter, `{fields*N}`
    // for N fields. Among steps with frames, `{well}` answers ever so many requests, `{well N}` so many, and
    // `{N times} STEP | STEP` stands for these steps so often.
    pub(crate) server: Option<Vec<String>>,
    /// The same over HTTP/2. Without it, `server` is said in frames.
    pub(crate) h2: Option<Vec<String>>,
    pub(crate) address: Option<std::net::IpAddr>,
    pub(crate) receive_buffer: Option<usize>,
    /// Listens on the port of an address of 127.0.0.1 whose backlog is full.
    #[serde(default)]
    pub(crate) beside_backlog: bool,
    /// What TLS is like at the server; its handshake is the first step of a connection.
    pub(crate) tls: Option<ServerTls>,
    /// What the server chooses from in ALPN; what its steps speak unless it is said.
    pub(crate) http: Option<Vec<String>>,
    pub(crate) other: Option<Vec<String>>,
    /// What the other server speaks; the transport of the cell unless it is said.
    pub(crate) other_over: Option<Transport>,

    // The row.
    pub(crate) method: Option<String>,
    pub(crate) url: Option<String>,
    /// Puts so many bytes in the place of `{long}` in the URL.
    pub(crate) long: Option<usize>,
    /// Puts so many query parameters in the place of `{params}`.
    pub(crate) params: Option<usize>,
    #[serde(default)]
    pub(crate) headers: Vec<(String, String)>,
    /// Adds a field `X-Long` of so many bytes.
    pub(crate) long_header: Option<usize>,
    pub(crate) body: Option<String>,
    pub(crate) no_body: Option<bool>,
    /// A body of so many bytes.
    pub(crate) long_body: Option<usize>,
    #[serde(default)]
    pub(crate) raw_url: bool,
    /// The row so many times in one batch. What is said of it holds of each; what the server saw is of all.
    pub(crate) rows: Option<usize>,

    // The client.
    #[serde(default)]
    pub(crate) dns: BTreeMap<String, Answer>,
    #[serde(default)]
    pub(crate) roots: Roots,
    #[serde(default)]
    pub(crate) verify: Verify,
    /// The oldest version of TLS that is spoken: `1.2` or `1.3`.
    pub(crate) min_tls: Option<String>,
    pub(crate) version: Option<Version>,
    #[serde(default)]
    pub(crate) downgrade: Downgrade,
    pub(crate) h2_streams: Option<usize>,
    pub(crate) h2_connections: Option<usize>,
    pub(crate) h2_ping_ms: Option<u64>,
    pub(crate) total_ms: Option<u64>,
    pub(crate) acquire_ms: Option<u64>,
    pub(crate) connect_ms: Option<u64>,
    pub(crate) tls_ms: Option<u64>,
    pub(crate) write_ms: Option<u64>,
    pub(crate) first_byte_ms: Option<u64>,
    pub(crate) read_ms: Option<u64>,
    pub(crate) deadline_ms: Option<u64>,
    pub(crate) retries: Option<u32>,
    #[serde(default)]
    pub(crate) retried: Retried,
    /// The first ceiling of the waits between sendings: 4 ms, so that a cell is quick.
    pub(crate) backoff_ms: Option<u64>,
    #[serde(default)]
    pub(crate) governor: Governor,
    pub(crate) max_pause_ms: Option<u64>,
    pub(crate) concurrency: Option<usize>,
    pub(crate) max_redirects: Option<u16>,
    pub(crate) max_body: Option<u64>,
    pub(crate) max_fields: Option<usize>,
    pub(crate) max_head: Option<usize>,

    // The neighbours: rows sent before on the same client, rows ahead of it in its batch, and rows that follow.
    #[serde(default)]
    pub(crate) before: usize,
    #[serde(default)]
    pub(crate) pause_ms: u64,
    #[serde(default)]
    pub(crate) ahead: usize,
    #[serde(default)]
    pub(crate) after: usize,
    /// The rows that follow go in a batch of their own, so much later.
    pub(crate) after_pause_ms: Option<u64>,

    // What must become of the row: `ok` or a kind; alternatives stand with `|` between.
    pub(crate) expect: Option<String>,
    pub(crate) in_doubt: Option<InDoubt>,
    pub(crate) attempts: Option<u32>,
    /// What became of the attempts before the last: `status 503`, or a kind.
    pub(crate) earlier: Option<Vec<String>>,
    pub(crate) retryable: Option<bool>,
    /// The status received, also that of a response that is not whole; none where no head came.
    pub(crate) status: Option<u16>,
    pub(crate) text: Option<String>,
    pub(crate) text_size: Option<usize>,
    /// The body is that of the server's `send-…` step, byte for byte.
    #[serde(default)]
    pub(crate) raw: bool,
    /// Fields that the response has, in this order; values with ASCII escapes.
    #[serde(default)]
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) final_url: Option<String>,
    pub(crate) message: Option<String>,
    pub(crate) hint: Option<String>,
    /// What may not be found in anything printed about the row.
    #[serde(default)]
    pub(crate) masked: Vec<String>,
    pub(crate) at_most_ms: Option<u64>,

    // What the servers and the look-up saw.
    pub(crate) seen: Option<usize>,
    /// How long the server waited from each sending of the row to the next, in milliseconds: at least, and but for the
    /// lateness of a busy machine at the most.
    pub(crate) waits_ms: Option<Vec<(u64, u64)>>,
    pub(crate) connections: Option<usize>,
    pub(crate) other_seen: Option<usize>,
    /// Method and target of each sending of the row.
    pub(crate) wire: Option<Vec<String>>,
    pub(crate) other_wire: Option<Vec<String>>,
    pub(crate) target_size: Option<usize>,
    pub(crate) header_size: Option<usize>,
    /// The body of each sending of the row.
    pub(crate) bodies: Option<Vec<String>>,
    /// Lines that the head of the last sending has, in this order.
    #[serde(default)]
    pub(crate) head_has: Vec<String>,
    /// Names that it has not.
    #[serde(default)]
    pub(crate) head_lacks: Vec<String>,
    #[serde(default)]
    pub(crate) other_head_has: Vec<String>,
    #[serde(default)]
    pub(crate) other_head_lacks: Vec<String>,
    /// Bytes that the server received at the most.
    pub(crate) received_at_most: Option<u64>,
    #[serde(default)]
    pub(crate) lookups: Vec<String>,
    /// What the requests of the row were sent over, one after the other; else all go over that of the cell.
    pub(crate) spoken: Option<Vec<String>>,
    /// The greatest number of streams that were open at once on one connection.
    pub(crate) max_streams: Option<u64>,
    /// Handshakes of TLS, how many of them went on with an earlier session, and how many failed.
    pub(crate) handshakes: Option<u64>,
    pub(crate) resumed: Option<u64>,
    pub(crate) failed_handshakes: Option<u64>,
    /// The name that each handshake asked for; `none` where it asked for none.
    pub(crate) server_names: Option<Vec<String>>,
    /// What the last handshake offered in ALPN.
    pub(crate) offered: Option<Vec<String>>,
    /// Settings that the client sent, as `enable_push=0`.
    #[serde(default)]
    pub(crate) settings: Vec<String>,
    /// The codes with which it reset streams and went away, in this order, among others.
    #[serde(default)]
    pub(crate) resets: Vec<String>,
    #[serde(default)]
    pub(crate) goaways: Vec<String>,
    /// So many PINGs that it sent, and so many acknowledgements of SETTINGS, at the least.
    pub(crate) pings: Option<u64>,
    pub(crate) settings_acks: Option<u64>,
    /// By how much the memory of a process may grow that runs the cell alone.
    pub(crate) memory_mb: Option<u64>,
}

impl Cell {
    pub(crate) fn is_chosen(&self) -> bool {
        chosen().is_none_or(|text| self.to_string().contains(&text))
    }

    /// What no cell may leave open.
    fn check(&self) {
        if self.na.is_some() || self.check.is_some() {
            return;
        }
        assert_eq!(self.runner, Runner::Engine, "{self} names no check");
        let expect = self.expect.as_deref().unwrap_or_else(|| panic!("{self} has no `expect`"));
        assert!(self.seen.is_some() || self.wire.is_some(), "{self} does not say how often it is seen");
        assert!(expect == "ok" || self.in_doubt.is_some(), "{self} does not say whether it is in doubt");
        assert!(expect != "ok" || self.status.is_some(), "{self} has no `status`");
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let over = match self.over {
            Transport::Plain => String::new(),
            over => format!(" over {}", over.name()),
        };
        write!(formatter, "{} {} [{}]{over}", self.id, self.variant, self.column.name())
    }
}

pub(crate) fn chosen() -> Option<String> {
    std::env::var(CHOICE).ok()
}

/// Reads the list. A case is written once, with what its columns and transports have in common; each pair of them makes
/// a cell.
pub(crate) fn list() -> List {
    let text = std::fs::read_to_string(LIST).unwrap_or_else(|error| panic!("{LIST}: {error}"));
    let table: toml::Table = text.parse().unwrap_or_else(|error| panic!("{LIST}: {error}"));
    let known = ["count", "over", "case"];
    assert!(
        table.keys().all(|key| known.contains(&key.as_str())),
        "the list holds {known:?} and nothing else"
    );
    let count =
        table["count"].as_integer().and_then(|count| usize::try_from(count).ok()).expect("count is a number");
    let over = table["over"].clone().try_into().expect("over has a number for each transport");
    let cases = table["case"].as_array().expect("case is a list of tables");
    let cells = cases.iter().flat_map(|case| cells_of(case.as_table().expect("a case is a table"))).collect();
    List { count, over, cells }
}

fn cells_of(case: &toml::Table) -> Vec<Cell> {
    let mut common = case.clone();
    let over =
        common.remove("over").map(|over| over.try_into().unwrap_or_else(|error| panic!("{error}in {case}")));
    let over: Vec<Transport> = over.unwrap_or_else(|| vec![Transport::Plain]);
    // What is said of a transport replaces what is said of all.
    let mut on = common.remove("on").unwrap_or_else(|| toml::Table::new().into());
    let on = on.as_table_mut().expect("on is a table");
    let mut cells = Vec::new();
    for over in over {
        let mut case = common.clone();
        if let Some(own) = on.remove(over.name()) {
            lay_over(&mut case, own.as_table().expect("a transport is a table"));
        }
        let columns = Column::ALL.map(|column| (column, case.remove(column.name())));
        for (column, own) in columns {
            let mut merged = case.clone();
            if let Some(own) = own {
                lay_over(&mut merged, own.as_table().expect("a column is a table"));
            }
            let mut cell: Cell = merged.try_into().unwrap_or_else(|error| panic!("{error}in {case}"));
            (cell.column, cell.over) = (column, over);
            cell.check();
            cells.push(cell);
        }
    }
    assert!(on.is_empty(), "{case} tells of {on}, which it does not go over");
    cells
}

/// Puts the words of one table over those of another; a column's are words of their own.
fn lay_over(below: &mut toml::Table, above: &toml::Table) {
    for (word, value) in above {
        match (below.get_mut(word), value) {
            (Some(toml::Value::Table(below)), toml::Value::Table(above))
                if Column::ALL.iter().any(|column| column.name() == word) =>
            {
                lay_over(below, above);
            }
            _ => drop(below.insert(word.clone(), value.clone())),
        }
    }
}
