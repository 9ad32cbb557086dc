//! A job that is there to be killed: `journal_job JOURNAL PREFIX SUFFIX ROWS OUTCOMES [WORD…]`, where a word is an option of the
//! journal, `retry_failed` or `resend_in_doubt`, or `get`, `post` or `keyed`.
//!
//! Row n goes to PREFIX, n, SUFFIX. Its method is the n-th of five in turn, or what the word says of all. At the end OUTCOMES has a
//! line for each row.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use loamy::{Client, Governor, Journal, JournalError, JournalOptions, Outcome, Policy, Request};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [journal, prefix, suffix, rows, outcomes, options @ ..] = words.as_slice() else {
        return ExitCode::from(2);
    };
    let rows: usize = rows.parse().expect("a number of rows");
    let all = ["get", "post", "keyed"].into_iter().find(|own| options.iter().any(|word| word == own));
    let rows = (0..rows).map(|row| request(row, all, &format!("{prefix}{row}{suffix}")));
    match run(Path::new(journal), rows, Path::new(outcomes), options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let said = format!("{error}\nhint: {}\n", error.hint().unwrap_or("none"));
            std::io::stderr().write_all(said.as_bytes()).expect("somebody reads what went wrong");
            ExitCode::from(3)
        }
    }
}

fn run(
    journal: &Path,
    rows: impl Iterator<Item = Request>,
    outcomes: &Path,
    words: &[String],
) -> Result<(), JournalError> {
    let mut options = JournalOptions::default();
    for word in words {
        options = match word.as_str() {
            "retry_failed" => options.retry_failed(),
            "resend_in_doubt" => options.resend_in_doubt(),
            "get" | "post" | "keyed" => options,
            _ => panic!("{word:?} is no option"),
        };
    }
    let journal = Journal::open(journal, options)?;
    let policy = Policy::default().concurrency(50).governor(Governor::Off);
    let client = Client::builder().threads(2).build().expect("a client");
    let (all, recorded) = client.with_journal(journal).run(rows, &policy);
    std::fs::write(outcomes, all.iter().map(line).collect::<String>()).expect("a place for the outcomes");
    recorded
}

fn request(row: usize, all: Option<&str>, url: &str) -> Request {
    match all.unwrap_or(["get", "put", "post", "keyed", "delete"][row % 5]) {
        "get" => Request::get(url),
        "put" => Request::new("PUT", url).body("x"),
        "post" => Request::post(url, "x"),
        "keyed" => Request::post(url, "x").header("Idempotency-Key", format!("job-{row}")),
        _ => Request::new("DELETE", url),
    }
}

/// Its number; its status, or its kind with a `?` if it is in doubt; and whether an earlier run had it.
fn line(outcome: &Outcome) -> String {
    let what = match &outcome.result {
        Ok(response) => response.status().to_string(),
        Err(error) => format!("{}{}", error.kind(), if error.in_doubt() { "?" } else { "" }),
    };
    format!("{} {what} {}\n", outcome.index, if outcome.replayed { "replayed" } else { "new" })
}
