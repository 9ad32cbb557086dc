//! The Rust engine as one client of the benchmarks: `engine run|stream URL COUNT CONNECTIONS BODY [NAME=VALUE …]`.
//!
//! `run` holds all outcomes in a list, `stream` drops each one once it is checked. URL may be `@FILE`, whose lines are
//! asked for in turn. BODY is a file with the body that each answer must have, or `-` when only the status is checked.
//!
//! - `version=2`: HTTP/2 alone; without it each answer must have come in HTTP/1.1, which TLS peers choose.
//! - `streams=N`: so many rows side by side on each of the CONNECTIONS; 1 unless said.
//! - `upload=FILE`: each row is a PUT of that file.
//! - `rate=20000/s`: a limit for the batch as a whole.
//! - `offered=20000`: no limit, but the rows come at so many a second.
//! - `journal=FILE`: what is done is recorded there; the file is made anew.
//! - `auto=aimd` or `auto=gradient2`: CONNECTIONS is the most there may be, and how many there are is found on the way.
//! - `refusals=2`: so many of a hundred answers may be 503 instead.
//!
//! Certificates are verified against those that `SSL_CERT_FILE` names.

use std::cell::Cell;
use std::error::Error;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use http::Version;
use loamy::{Adaptive, Client, HttpVersion, Journal, JournalOptions, Limit, Order, Outcome, Policy, Request};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Enough of both ends to tell a cut or shifted body; what is smaller is compared whole.
const ENDS: usize = 256;

fn main() -> ExitCode {
    match exchange() {
        Ok(right) => {
            println!("{{\"right\": {right}}}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("wrong answer: {error}");
            ExitCode::FAILURE
        }
    }
}

fn exchange() -> Result<usize, Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [mode, url, count, connections, body, options @ ..] = arguments.as_slice() else {
        return Err("engine run|stream URL COUNT CONNECTIONS BODY [NAME=VALUE …]".into());
    };
    let task = Task::read(url, count, connections, body, options)?;
    let client = Client::builder().threads(1).build()?;
    let begun = Instant::now();
    let rows = (0..task.count).map(|row| {
        task.wait_for(row, begun);
        task.request(row)
    });

    let mut right = 0;
    match mode.as_str() {
        "run" => {
            for outcome in &client.run(rows, &task.policy) {
                if outcome.index != right {
                    return Err(format!("row {} stands at place {right}", outcome.index).into());
                }
                task.check(outcome, right)?;
                right += 1;
            }
        }
        "stream" => {
            let mut outcomes = match &task.journal {
                None => client.stream(rows, &task.policy, Order::AsDone),
                Some(path) => {
                    let journal = Journal::open(path, JournalOptions::default())?;
                    client.with_journal(journal).stream(rows, &task.policy, Order::AsDone)
                }
            };
            for outcome in &mut outcomes {
                task.check(&outcome, right)?;
                right += 1;
            }
            outcomes.finish()?;
        }
        other => return Err(format!("no mode {other}").into()),
    }
    if right != task.count {
        return Err(format!("{right} right answers to {} requests", task.count).into());
    }
    Ok(right)
}

/// What was asked for on the command line.
struct Task {
    urls: Vec<String>,
    count: usize,
    policy: Policy,
    version: Version,
    upload: Option<bytes::Bytes>,
    journal: Option<String>,
    /// Rows a second.
    offered: Option<f64>,
    /// How many of the answers may still be refusals.
    refusals: Cell<usize>,
    expected: Option<Expected>,
}

impl Task {
    fn read(
        url: &str,
        count: &str,
        connections: &str,
        body: &str,
        options: &[String],
    ) -> Result<Self, Box<dyn Error>> {
        let urls = match url.strip_prefix('@') {
            Some(listing) => std::fs::read_to_string(listing)?.lines().map(str::to_owned).collect(),
            None => vec![url.to_owned()],
        };
        let connections: usize = connections.parse()?;
        let mut streams = 1;
        let mut version = Version::HTTP_11;
        let (mut upload, mut journal, mut offered, mut refusals) = (None, None, None, 0);
        let mut policy = Policy::default();
        for option in options {
            match option.split_once('=') {
                Some(("version", "2")) => version = Version::HTTP_2,
                Some(("streams", number)) => streams = number.parse()?,
                Some(("upload", path)) => upload = Some(std::fs::read(path)?.into()),
                Some(("rate", rate)) => policy = policy.limit(Limit::new("requests", rate.parse()?)),
                Some(("offered", rows)) => offered = Some(rows.parse()?),
                Some(("journal", path)) => journal = Some(begun_anew(path)?),
                Some(("auto", "aimd")) => policy = policy.adaptive(Adaptive::Aimd),
                Some(("auto", "gradient2")) => policy = policy.adaptive(Adaptive::Gradient2),
                Some(("refusals", percent)) => refusals = percent.parse()?,
                _ => return Err(format!("no option {option}").into()),
            }
        }
        policy = policy.concurrency(connections * streams);
        if version == Version::HTTP_2 {
            policy = policy.http_version(HttpVersion::Http2).h2_connections(connections).h2_streams(streams);
        }
        let expected = if body == "-" { None } else { Some(Expected::of(body)?) };
        let count = count.parse()?;
        let refusals = Cell::new(count * refusals / 100);
        Ok(Self { urls, count, policy, version, upload, journal, offered, refusals, expected })
    }

    /// Sleeps until the row is on offer. Who comes too early sleeps a millisecond at the least, as a limit has its thread woken.
    fn wait_for(&self, row: usize, begun: Instant) {
        if let Some(rows_a_second) = self.offered {
            let due = Duration::from_secs_f64(row as f64 / rows_a_second);
            let early = due.saturating_sub(begun.elapsed());
            if !early.is_zero() {
                std::thread::sleep(early.max(Duration::from_millis(1)));
            }
        }
    }

    fn request(&self, row: usize) -> Request {
        let url = self.urls[row % self.urls.len()].as_str();
        match &self.upload {
            Some(body) => Request::new("PUT", url).body(body.clone()),
            None => Request::get(url),
        }
    }

    /// The row's status, the version spoken, and the body.
    fn check(&self, outcome: &Outcome, row: usize) -> Result<(), Box<dyn Error>> {
        let response = outcome.result.as_ref().map_err(ToString::to_string)?;
        let status = if self.upload.is_some() { 201 } else { 200 };
        if response.status() == 503 && self.refusals.get() > 0 {
            self.refusals.set(self.refusals.get() - 1);
            return Ok(());
        }
        if response.status() != status {
            return Err(format!("row {row}: status {}", response.status()).into());
        }
        if response.version() != self.version {
            return Err(format!("row {row}: {:?} instead of {:?}", response.version(), self.version).into());
        }
        match &self.expected {
            Some(expected) if !expected.is(response.body()) => {
                Err(format!("row {row}: {} bytes instead of {}", response.body().len(), expected.len).into())
            }
            _ => Ok(()),
        }
    }
}

/// The path of a journal, of which nothing is there any more.
fn begun_anew(path: &str) -> std::io::Result<String> {
    for end in ["", "-wal", ".part", ".bodies"] {
        match std::fs::remove_file(format!("{path}{end}")) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(path.to_owned())
}

/// A body by its length and both ends, so that a large one is not held for the comparison.
struct Expected {
    len: usize,
    begins: Vec<u8>,
    ends: Vec<u8>,
}

impl Expected {
    fn of(path: &str) -> Result<Self, Box<dyn Error>> {
        let mut file = File::open(path)?;
        let len = usize::try_from(file.metadata()?.len())?;
        let mut begins = vec![0; ENDS.min(len)];
        file.read_exact(&mut begins)?;
        let mut ends = vec![0; ENDS.min(len)];
        file.seek(SeekFrom::Start((len - ends.len()) as u64))?;
        file.read_exact(&mut ends)?;
        Ok(Self { len, begins, ends })
    }

    fn is(&self, body: &[u8]) -> bool {
        body.len() == self.len && body.starts_with(&self.begins) && body.ends_with(&self.ends)
    }
}
