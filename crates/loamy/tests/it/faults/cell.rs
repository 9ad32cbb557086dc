//! One cell: what the server does, what the row is, what must become of it. Read from the list, where unknown words are
//! refused.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;

const LIST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/faults/cells.toml");

/// Runs only the cells whose name holds this text; for looking at a failure.
const CHOICE: &str = "LOAMY_FAULTS";

pub(crate) struct List {
    pub(crate) count: usize,
    pub(crate) cells: Vec<Cell>,
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

    fn name(self) -> &'static str {
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
    /// `not found` or `panic`.
    Word(String),
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Cell {
    #[serde(skip)]
    pub(crate) column: Column,
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
    // the server's address and port.
    pub(crate) server: Option<Vec<String>>,
    pub(crate) address: Option<std::net::IpAddr>,
    pub(crate) receive_buffer: Option<usize>,
    pub(crate) other: Option<Vec<String>>,

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

    // The client.
    #[serde(default)]
    pub(crate) dns: BTreeMap<String, Answer>,
    pub(crate) total_ms: Option<u64>,
    pub(crate) connect_ms: Option<u64>,
    pub(crate) write_ms: Option<u64>,
    pub(crate) concurrency: Option<usize>,
    pub(crate) max_redirects: Option<u16>,
    pub(crate) max_body: Option<u64>,
    pub(crate) max_fields: Option<usize>,
    pub(crate) max_head: Option<usize>,

    // The neighbours: rows sent before on the same client, and rows that follow.
    #[serde(default)]
    pub(crate) before: usize,
    #[serde(default)]
    pub(crate) pause_ms: u64,
    #[serde(default)]
    pub(crate) after: usize,
    /// The rows that follow go in a batch of their own, so much later.
    pub(crate) after_pause_ms: Option<u64>,

    // What must become of the row: `ok` or a kind; alternatives stand with `|` between.
    pub(crate) expect: Option<String>,
    pub(crate) in_doubt: Option<InDoubt>,
    pub(crate) attempts: Option<u32>,
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
        write!(formatter, "{} {} [{}]", self.id, self.variant, self.column.name())
    }
}

pub(crate) fn chosen() -> Option<String> {
    std::env::var(CHOICE).ok()
}

/// Reads the list. A case is written once, with what its columns have in common; each makes a cell.
pub(crate) fn list() -> List {
    let text = std::fs::read_to_string(LIST).unwrap_or_else(|error| panic!("{LIST}: {error}"));
    let table: toml::Table = text.parse().unwrap_or_else(|error| panic!("{LIST}: {error}"));
    let known = ["count", "case"];
    assert!(
        table.keys().all(|key| known.contains(&key.as_str())),
        "the list holds {known:?} and nothing else"
    );
    let count =
        table["count"].as_integer().and_then(|count| usize::try_from(count).ok()).expect("count is a number");
    let cases = table["case"].as_array().expect("case is a list of tables");
    let cells = cases.iter().flat_map(|case| cells_of(case.as_table().expect("a case is a table"))).collect();
    List { count, cells }
}

fn cells_of(case: &toml::Table) -> Vec<Cell> {
    let mut common = case.clone();
    let columns = Column::ALL.map(|column| (column, common.remove(column.name())));
    let cell = |(column, own): (Column, Option<toml::Value>)| {
        let mut merged = common.clone();
        merged
            .extend(own.map(|own| own.as_table().expect("a column is a table").clone()).unwrap_or_default());
        let mut cell: Cell = merged.try_into().unwrap_or_else(|error| panic!("{error}in {case}"));
        cell.column = column;
        cell.check();
        cell
    };
    columns.into_iter().map(cell).collect()
}
