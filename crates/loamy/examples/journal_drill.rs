//! A batch with a journal and no network, to be killed: `journal_drill JOURNAL SERVER SHOWN ROWS BODY SEED [keep_good]`.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use loamy::JournalOptions;
use loamy::unstable_drill::Drill;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [journal, server, shown, rows, body, seed, more @ ..] = words.as_slice() else {
        return ExitCode::from(2);
    };
    let number = |text: &str| text.parse::<usize>().expect("a number");
    let drill = Drill {
        journal: Path::new(journal),
        server: Path::new(server),
        shown: Path::new(shown),
        rows: number(rows),
        body: number(body),
        seed: number(seed) as u64,
    };
    let mut options = JournalOptions::default();
    if more.iter().any(|word| word == "keep_good") {
        options = options.keep_good();
    }
    match drill.run(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let said = format!("{error}\nhint: {}\n", error.hint().unwrap_or("none"));
            std::io::stderr().write_all(said.as_bytes()).expect("somebody reads what went wrong");
            ExitCode::from(3)
        }
    }
}
