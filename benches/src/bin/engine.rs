//! The Rust engine as one client of the benchmarks: `engine run|stream URL COUNT CONNECTIONS BODY [NAME=VALUE …]`.
//!
//! `run` holds all outcomes in a list, `stream` drops each one once it is checked. URL may be `@FILE`, whose lines are
//! asked for in turn. BODY is a file with the body that each answer must have, or `-` when only the status is checked.
//!
//! - `version=2`: HTTP/2 alone; without it each answer must have come in HTTP/1.1, which TLS peers choose.
//! - `streams=N`: so many rows side by side on each of the CONNECTIONS; 1 unless said.
//! - `upload=FILE`: each row is a PUT of that file.
//!
//! Certificates are verified against those that `SSL_CERT_FILE` names.

use std::error::Error;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::process::ExitCode;

use http::Version;
use loamy::{Client, HttpVersion, Order, Outcome, Policy, Request};

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
    let rows = (0..task.count).map(|row| task.request(row));

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
            for outcome in client.stream(rows, &task.policy, Order::AsDone) {
                task.check(&outcome, right)?;
                right += 1;
            }
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
        let mut upload = None;
        for option in options {
            match option.split_once('=') {
                Some(("version", "2")) => version = Version::HTTP_2,
                Some(("streams", number)) => streams = number.parse()?,
                Some(("upload", path)) => upload = Some(std::fs::read(path)?.into()),
                _ => return Err(format!("no option {option}").into()),
            }
        }
        let mut policy = Policy::default().concurrency(connections * streams);
        if version == Version::HTTP_2 {
            policy = policy.http_version(HttpVersion::Http2).h2_connections(connections).h2_streams(streams);
        }
        let expected = if body == "-" { None } else { Some(Expected::of(body)?) };
        Ok(Self { urls, count: count.parse()?, policy, version, upload, expected })
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
