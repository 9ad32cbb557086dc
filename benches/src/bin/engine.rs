//! The Rust engine as one client of the benchmarks: `engine run|stream URL COUNT CONNECTIONS BODY`.
//!
//! `run` holds all outcomes in a list, `stream` drops each one once it is checked. BODY is a file with the body that each
//! answer must have, or `-` when only the status is checked.

use std::error::Error;
use std::process::ExitCode;

use loamy::{Client, Order, Outcome, Policy, Request};

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
    let [mode, url, count, connections, body] = arguments.as_slice() else {
        return Err("engine run|stream URL COUNT CONNECTIONS BODY".into());
    };
    let count: usize = count.parse()?;
    let expected = match body.as_str() {
        "-" => None,
        path => Some(std::fs::read(path)?),
    };
    let client = Client::builder().threads(1).build()?;
    let policy = Policy::default().concurrency(connections.parse()?);
    let rows = (0..count).map(|_| Request::get(url.as_str()));

    let mut right = 0;
    match mode.as_str() {
        "run" => {
            for outcome in &client.run(rows, &policy) {
                if outcome.index != right {
                    return Err(format!("row {} stands at place {right}", outcome.index).into());
                }
                check(outcome, right, expected.as_deref())?;
                right += 1;
            }
        }
        "stream" => {
            for outcome in client.stream(rows, &policy, Order::AsDone) {
                check(&outcome, right, expected.as_deref())?;
                right += 1;
            }
        }
        other => return Err(format!("no mode {other}").into()),
    }
    if right != count {
        return Err(format!("{right} right answers to {count} requests").into());
    }
    Ok(right)
}

/// The row's place, its status and its body, the latter by length and both ends.
fn check(outcome: &Outcome, index: usize, expected: Option<&[u8]>) -> Result<(), Box<dyn Error>> {
    let response = outcome.result.as_ref().map_err(ToString::to_string)?;
    if response.status() != 200 {
        return Err(format!("row {index}: status {}", response.status()).into());
    }
    let Some(expected) = expected else {
        return Ok(());
    };
    let body = response.body();
    let ends = ENDS.min(expected.len());
    let same = body.len() == expected.len()
        && body[..ends] == expected[..ends]
        && body[body.len() - ends..] == expected[expected.len() - ends..];
    if !same {
        return Err(format!(
            "row {index}: {} bytes instead of {}",
            body.len(),
            expected.len()
        )
        .into());
    }
    Ok(())
}
