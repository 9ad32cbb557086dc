//! A job that is there to be killed: `journal_job JOURNAL PREFIX SUFFIX ROWS OUTCOMES [retry_failed] [resend_in_doubt]`.
//!
//! Row n goes to PREFIX, n, SUFFIX, and its method is the n-th of five in turn. At the end OUTCOMES has a line for each row.

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
    let rows = (0..rows).map(|row| request(row, &format!("{prefix}{row}{suffix}")));
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

fn request(row: usize, url: &str) -> Request {
    match row % 5 {
        0 => Request::get(url),
        1 => Request::new("PUT", url).body("x"),
        2 => Request::post(url, "x"),
        3 => Request::post(url, "x").header("Idempotency-Key", format!("job-{row}")),
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
