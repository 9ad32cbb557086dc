//! Batches with a journal, in this process and in one of their own, and what the server saw of their rows.
#![allow(
    clippy::disallowed_methods,
    reason = "the walls around the clock are the engine's; this drives it from outside"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use loamy::{Journal, JournalOptions, Outcome};
use tempfile::TempDir;
use testkit::Server;

const PATIENCE: Duration = Duration::from_secs(60);

/// A folder, and where in it a journal goes.
pub(crate) fn place() -> (TempDir, PathBuf) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("run.loamy");
    (folder, path)
}

pub(crate) fn open(path: &Path, options: JournalOptions) -> Journal {
    Journal::open(path, options).unwrap()
}

/// How often the server saw each row, which went to `/count/` and its number.
pub(crate) fn seen(server: &Server, count: usize) -> Vec<u64> {
    let visits = server.visits();
    (0..count).map(|row| visits.get(&row.to_string()).map_or(0, |own| own.values().sum())).collect()
}

/// The same once the client is gone and its connections have ended: what it wrote last may still be on its way before.
pub(crate) fn seen_when_left(server: &Server, count: usize) -> Vec<u64> {
    server.wait_for(|log| log.counts.open == 0, PATIENCE);
    seen(server, count)
}

pub(crate) fn is_in_doubt(outcome: &Outcome) -> bool {
    outcome.result.as_ref().is_err_and(|error| error.in_doubt())
}

/// A job of the program `journal_job`, and the server that it goes to.
pub(crate) struct Job {
    folder: TempDir,
    server: Server,
    rows: usize,
    suffix: &'static str,
    methods: Methods,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Methods {
    /// GET, PUT, POST, POST with a key, DELETE.
    InTurn,
    /// One word of the program for all rows: `get`, `post` or `keyed`.
    All(&'static str),
}

/// What a run made of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) what: String,
    pub(crate) replayed: bool,
}

impl Job {
    /// As many rows at once as the job has.
    pub(crate) const SLOTS: usize = 50;
    /// Rows that may have ended while their outcomes wait to be recorded.
    const UNRECORDED: usize = 1_000;

    pub(crate) fn new(rows: usize, suffix: &'static str, methods: Methods) -> Self {
        Self { folder: TempDir::new().unwrap(), server: Server::serve(), rows, suffix, methods }
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn journal(&self) -> PathBuf {
        self.file("run.loamy")
    }

    /// Whether it is a POST without a key.
    pub(crate) fn is_unsafe(&self, row: usize) -> bool {
        match self.methods {
            Methods::InTurn => row % 5 == 2,
            Methods::All(word) => word == "post",
        }
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
        if let Methods::All(word) = self.methods {
            words.push(word.to_owned());
        }
        words.extend(options.iter().map(|word| (*word).to_owned()));
        words
    }

    pub(crate) fn start(&self, under: &[&str], options: &[&str]) -> Child {
        let mut words: Vec<String> = under.iter().map(|word| (*word).to_owned()).collect();
        words.extend(self.words(&self.journal(), options));
        Command::new(&words[0])
            .args(&words[1..])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    pub(crate) fn run(&self, under: &[&str], options: &[&str]) -> Output {
        self.start(under, options).wait_with_output().unwrap()
    }

    /// What the last run that came to its end made of each row.
    pub(crate) fn ends(&self) -> Vec<End> {
        self.ends_in("outcomes")
    }

    fn ends_in(&self, name: &str) -> Vec<End> {
        let text = fs::read_to_string(self.file(name)).unwrap();
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

    pub(crate) fn seen(&self) -> Vec<u64> {
        seen(&self.server, self.rows)
    }

    pub(crate) fn wait_until_seen(&self, mut is_enough: impl FnMut(&[u64]) -> bool) {
        let until = Instant::now() + PATIENCE;
        while !is_enough(&self.seen()) {
            assert!(Instant::now() < until, "{:?}", self.seen());
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// After a run that came to its end and others that were killed: how many rows were sent again, and how many are in doubt.
    pub(crate) fn sent_again_and_in_doubt(&self) -> (usize, usize) {
        let (mut again, mut in_doubt) = (0, 0);
        for (row, (end, seen)) in self.ends().iter().zip(self.seen()).enumerate() {
            let (doubtful, is_unsafe) = (end.what == "cancelled?", self.is_unsafe(row));
            assert!(end.what == "200" || (doubtful && is_unsafe), "row {row}: {end:?}");
            assert!(seen <= 1 || !is_unsafe, "row {row} must not be sent twice: {seen}");
            assert!(seen >= 1 || doubtful, "row {row} has an answer and was never sent");
            in_doubt += usize::from(doubtful);
            again += seen.saturating_sub(1) as usize;
        }
        (again, in_doubt)
    }

    /// The first run fails for its journal: what it called done is done, what it called not sent was not.
    pub(crate) fn fails_and_goes_on(&self, context: &str, first_under: &[&str]) {
        let output = self.run(first_under, &[]);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(3), "{context}: {text}");
        let (ends, before) = (self.ends(), self.seen());
        let output = self.run(&[], &[]);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{context}: {text}");
        self.has_gone_on(context, &ends, &before);
    }

    /// The same on a disk of so many KiB, which has room when the job goes on.
    pub(crate) fn fills_its_disk_and_goes_on(&self, size: usize) {
        let small = self.file("small");
        fs::create_dir(&small).unwrap();
        let words = self.words(&small.join("run.loamy"), &[]);
        // The first run keeps the file system that the second one finds: both are in one namespace.
        let script = format!(
            "mount -t tmpfs -o size={size}k tmpfs {small} && {run}; code=$?; cp {outcomes} {first}; read go <{pipe}; \
             mount -o remount,size=64m {small}; {run}; echo $code $? >{codes}",
            small = small.display(),
            run = words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" "),
            outcomes = self.file("outcomes").display(),
            first = self.file("first").display(),
            pipe = self.file("pipe").display(),
            codes = self.file("codes").display(),
        );
        assert!(Command::new("mkfifo").arg(self.file("pipe")).status().unwrap().success());
        let child = Command::new("unshare")
            .args(["-rm", "sh", "-c", &script])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // Once somebody reads the pipe the first run is over.
        let pipe = fs::OpenOptions::new().write(true).open(self.file("pipe")).unwrap();
        let before = self.seen();
        drop(pipe);
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(fs::read_to_string(self.file("codes")).unwrap(), "3 0\n", "{text}");
        assert!(text.contains("hint: make room, then run again with the same journal"), "{text}");
        let ends = self.ends_in("first");
        assert!(ends.iter().any(|end| end.what == "200"), "nothing was done: {text}");
        self.has_gone_on("a full disk", &ends, &before);
    }

    /// What was told and seen after the run that failed, against what is now.
    fn has_gone_on(&self, context: &str, earlier: &[End], before: &[u64]) {
        let count = |what: &str| earlier.iter().filter(|end| end.what.trim_end_matches('?') == what).count();
        assert!(count("not_sent") > 0, "{context}: all was sent although the disk failed");
        // What was under way and what waited to be recorded, and no more, was sent without being called done.
        let sent = before.iter().filter(|times| **times > 0).count();
        let beyond = sent.saturating_sub(count("200"));
        assert!(
            beyond <= Self::SLOTS + Self::UNRECORDED,
            "{context}: {beyond} rows were sent after the disk had failed"
        );
        assert_eq!(
            count("200") + count("not_sent") + count("cancelled"),
            self.rows,
            "{context}: {earlier:?}"
        );
        let (ends, after) = (self.ends(), self.seen());
        for (row, (earlier, end)) in earlier.iter().zip(ends).enumerate() {
            if earlier.what == "not_sent" {
                assert_eq!(before[row], 0, "{context}: row {row} was sent");
            }
            if earlier.what == "200" {
                assert!(
                    end.replayed && after[row] == before[row],
                    "{context}: row {row} was done and is sent again"
                );
            }
            let is_unsafe = self.is_unsafe(row);
            assert!(!is_unsafe || after[row] <= 1, "{context}: row {row} was sent {} times", after[row]);
            assert!(end.what == "200" || (is_unsafe && end.what == "cancelled?"), "{context}: {end:?}");
        }
    }
}

pub(crate) fn kill(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

fn program() -> PathBuf {
    // Tests are built into `deps`, examples beside it.
    let own = std::env::current_exe().unwrap();
    let program = own.ancestors().nth(2).unwrap().join("examples/journal_job");
    assert!(program.exists(), "there is no {}: build the examples", program.display());
    program
}
