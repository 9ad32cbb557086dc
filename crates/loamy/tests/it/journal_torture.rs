//! A real job in a process of its own, which is killed, or whose disk fails: what the server saw of each row, and what the
//! job made of it.
//!
//! `LOAMY_KILLS=200` kills it so often instead.
#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "the walls around the clock are the engine's; how many were killed is worth knowing"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use loamy::{Journal, JournalOptions, Trouble};
use tempfile::TempDir;
use testkit::Server;

/// As many as the job has.
const SLOTS: usize = 50;

/// Rows that may have ended and not be on disk when a process is killed.
const UNRECORDED: usize = 1_000;

const PATIENCE: Duration = Duration::from_secs(60);

/// A job, and the server that it goes to.
struct Job {
    folder: TempDir,
    server: Server,
    rows: usize,
    suffix: &'static str,
}

/// What a run made of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
struct End {
    what: String,
    replayed: bool,
}

impl Job {
    fn new(rows: usize, suffix: &'static str) -> Self {
        Self { folder: TempDir::new().unwrap(), server: Server::serve(), rows, suffix }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn words(&self, journal: &Path, options: &[&str]) -> Vec<String> {
        let mut words = vec![
            program().display().to_string(),
            journal.display().to_string(),
            self.server.url("/count/"),
            self.suffix.to_owned(),
            self.rows.to_string(),
            self.file("outcomes").display().to_string(),
        ];
        words.extend(options.iter().map(|word| (*word).to_owned()));
        words
    }

    fn start(&self, under: &[&str], options: &[&str]) -> Child {
        let mut words: Vec<String> = under.iter().map(|word| (*word).to_owned()).collect();
        words.extend(self.words(&self.file("run.loamy"), options));
        Command::new(&words[0])
            .args(&words[1..])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    fn run(&self, under: &[&str], options: &[&str]) -> Output {
        self.start(under, options).wait_with_output().unwrap()
    }

    /// What the last run that came to its end made of each row.
    fn ends(&self) -> Vec<End> {
        let text = fs::read_to_string(self.file("outcomes")).unwrap();
        let ends: Vec<End> = text
            .lines()
            .enumerate()
            .map(|(row, line)| {
                let words: Vec<&str> = line.split(' ').collect();
                assert_eq!(words[0], row.to_string(), "each row stands once, in its place");
                End { what: words[1].to_owned(), replayed: words[2] == "replayed" }
            })
            .collect();
        assert_eq!(ends.len(), self.rows, "each row stands in the output");
        ends
    }

    fn seen(&self) -> Vec<u64> {
        let visits = self.server.visits();
        (0..self.rows).map(|row| visits.get(&row.to_string()).map_or(0, |own| own.values().sum())).collect()
    }
}

fn program() -> PathBuf {
    // Tests are built into `deps`, examples beside it.
    let own = std::env::current_exe().unwrap();
    let program = own.ancestors().nth(2).unwrap().join("examples/journal_job");
    assert!(program.exists(), "there is no {}: build the examples", program.display());
    program
}

/// A POST without a key.
fn is_unsafe(row: usize) -> bool {
    row % 5 == 2
}

#[test]
fn h5_a_job_that_is_killed_at_any_instant_loses_no_row_and_sends_no_post_twice() {
    let kills = std::env::var("LOAMY_KILLS").map_or(20, |text| text.parse().unwrap());
    let (mut tried, mut survived, mut sent_again, mut in_doubt) = (0, 0, 0, 0);
    let mut seed = 3_u64;
    while tried < kills {
        let job = Job::new(20_000, "");
        let mut killed = 0;
        loop {
            let mut child = job.start(&[], &[]);
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            thread::sleep(Duration::from_micros((seed >> 33) % 900_000));
            if tried + killed < kills {
                child.kill().unwrap();
            }
            let output = child.wait_with_output().unwrap();
            if output.status.code().is_none() {
                killed += 1;
                continue;
            }
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            break;
        }
        let (seen, mut again) = (job.seen(), 0);
        for (row, end) in job.ends().iter().enumerate() {
            let doubtful = end.what == "cancelled?";
            assert!(end.what == "200" || (doubtful && is_unsafe(row)), "row {row}: {end:?}");
            assert!(seen[row] <= 1 || !is_unsafe(row), "row {row} must not be sent twice: {}", seen[row]);
            assert!(seen[row] >= 1 || doubtful, "row {row} has an answer and was never sent");
            in_doubt += usize::from(doubtful);
            again += seen[row].saturating_sub(1) as usize;
        }
        assert!(again <= killed * (SLOTS + UNRECORDED), "{again} rows were sent again after {killed} kills");
        sent_again += again;
        tried += killed;
        survived += killed;
    }
    println!("tried {tried} survived {survived} ({sent_again} rows sent again, {in_doubt} in doubt)");
    assert!(tried >= kills && sent_again > 0);
}

#[test]
fn h5_a_post_that_was_under_way_when_its_process_was_killed_is_in_doubt_and_sent_again_only_when_asked() {
    let job = Job::new(3, "?takes=30s");
    let mut child = job.start(&[], &[]);
    let until = Instant::now() + PATIENCE;
    while job.seen() != [1, 1, 1] {
        assert!(Instant::now() < until, "{:?}", job.seen());
        thread::sleep(Duration::from_millis(5));
    }
    // H7: another process has it.
    let error = Journal::open(job.file("run.loamy"), JournalOptions::default()).unwrap_err();
    assert_eq!(error.trouble(), Trouble::InUse);
    assert!(error.to_string().ends_with(&format!("in use: process {} uses it", child.id())), "{error}");
    let other = job.run(&[], &[]);
    assert_eq!(other.status.code(), Some(3), "{}", String::from_utf8_lossy(&other.stderr));
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(job.seen(), [1, 1, 1]);

    let child = job.start(&[], &[]);
    while job.seen() != [2, 2, 1] {
        assert!(Instant::now() < until, "{:?}", job.seen());
        thread::sleep(Duration::from_millis(5));
    }
    kill(child);
    let child = job.start(&[], &["resend_in_doubt"]);
    while job.seen() != [3, 3, 2] {
        assert!(Instant::now() < until, "{:?}", job.seen());
        thread::sleep(Duration::from_millis(5));
    }
    kill(child);
}

fn kill(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

/// After a run whose journal failed: what it called done is done, what it called not sent was not.
fn fails_and_goes_on(
    job: &Job,
    context: &str,
    first: impl FnOnce() -> Output,
    again: impl FnOnce() -> Output,
) {
    let output = first();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(3), "{context}: {text}");
    let (ends, before) = (job.ends(), job.seen());
    let count = |what: &str| ends.iter().filter(|end| end.what.trim_end_matches('?') == what).count();
    for (row, end) in ends.iter().enumerate() {
        if end.what == "not_sent" {
            assert_eq!(before[row], 0, "{context}: row {row} was sent");
        }
    }
    assert!(count("not_sent") > 0, "{context}: all was sent although the disk failed");
    assert_eq!(count("200") + count("not_sent") + count("cancelled"), job.rows, "{context}: {ends:?}");
    let output = again();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{context}: {text}");
    let after = job.seen();
    for (row, (earlier, end)) in ends.iter().zip(job.ends()).enumerate() {
        if earlier.what == "200" {
            assert!(
                end.replayed && after[row] == before[row],
                "{context}: row {row} was done and is sent again"
            );
        }
        assert!(!is_unsafe(row) || after[row] <= 1, "{context}: row {row} was sent {} times", after[row]);
        assert!(end.what == "200" || (is_unsafe(row) && end.what == "cancelled?"), "{context}: {end:?}");
    }
}

#[test]
fn h4_a_sync_that_fails_stops_the_sending_and_what_was_called_done_is_on_disk() {
    for number in [6, 7, 12, 13] {
        let job = Job::new(5_000, "");
        let inject = format!("inject=fdatasync:error=EIO:when={number}");
        let under = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync", "-e", &inject];
        fails_and_goes_on(&job, &inject, || job.run(&under, &[]), || job.run(&[], &[]));
    }
}

#[test]
fn h4_a_full_disk_stops_the_sending_and_room_lets_it_go_on() {
    let job = Job::new(5_000, "");
    let small = job.file("small");
    fs::create_dir(&small).unwrap();
    let line =
        |words: Vec<String>| words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" ");
    // The first run keeps the file system that the second one finds: both are in one namespace.
    let script = format!(
        "mount -t tmpfs -o size=600k tmpfs {small} && {run}; code=$?; cp {outcomes} {first}; read go <{pipe}; \
         mount -o remount,size=64m {small}; {run}; echo $code $? >{codes}",
        small = small.display(),
        run = line(job.words(&small.join("run.loamy"), &[])),
        outcomes = job.file("outcomes").display(),
        first = job.file("first").display(),
        pipe = job.file("pipe").display(),
        codes = job.file("codes").display(),
    );
    assert!(Command::new("mkfifo").arg(job.file("pipe")).status().unwrap().success());
    let child =
        Command::new("unshare").args(["-rm", "sh", "-c", &script]).stderr(Stdio::piped()).spawn().unwrap();
    // Once somebody reads the pipe the first run is over.
    let pipe = fs::OpenOptions::new().write(true).open(job.file("pipe")).unwrap();
    let before = job.seen();
    drop(pipe);
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(fs::read_to_string(job.file("codes")).unwrap(), "3 0\n", "{text}");
    assert!(text.contains("hint: make room, then run again with the same journal"), "{text}");
    let first = fs::read_to_string(job.file("first")).unwrap();
    let (mut done, mut unsent, after, ends) = (0, 0, job.seen(), job.ends());
    for (row, line) in first.lines().enumerate() {
        match line.split(' ').nth(1).unwrap() {
            "200" => {
                done += 1;
                assert!(
                    ends[row].replayed && after[row] == before[row],
                    "row {row} was done and is sent again"
                );
            }
            "not_sent" => {
                unsent += 1;
                assert_eq!(before[row], 0, "row {row} was sent");
            }
            other => assert!(other.starts_with("cancelled"), "row {row}: {other}"),
        }
        assert!(!is_unsafe(row) || after[row] <= 1, "row {row} was sent {} times", after[row]);
    }
    assert!(done > 0 && unsent > 0, "{done} done, {unsent} not sent");
}
