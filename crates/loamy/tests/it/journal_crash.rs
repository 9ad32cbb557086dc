//! Processes that are killed, and disks that fail, at every step: what was shown stays, nothing unsafe is sent twice.
#![allow(
    clippy::disallowed_methods,
    reason = "the walls around the clock are the engine's; this drives it from outside"
)]

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use loamy::unstable_drill::is_unsafe;
use tempfile::TempDir;

/// A journal in a folder of its own, with what the server saw and what was shown.
pub(crate) struct Place {
    pub(crate) folder: TempDir,
    pub(crate) rows: usize,
    pub(crate) body: usize,
    runs: usize,
}

impl Place {
    pub(crate) fn new(rows: usize, body: usize) -> Self {
        Self { folder: TempDir::new().unwrap(), rows, body, runs: 0 }
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// One run of the batch; `under` is what it runs under.
    pub(crate) fn command(&mut self, under: &[String]) -> Command {
        self.runs += 1;
        let mut words: Vec<String> = under.to_vec();
        words.push(drill_path().display().to_string());
        words.extend(["run.loamy", "server", "shown"].map(|name| self.file(name).display().to_string()));
        words.extend([self.rows, self.body, self.runs].map(|number| number.to_string()));
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).stdout(Stdio::null()).stderr(Stdio::piped());
        command
    }

    pub(crate) fn run(&mut self, under: &[String]) -> Output {
        self.command(under).output().unwrap()
    }

    /// How often the server saw each row.
    pub(crate) fn seen(&self) -> Vec<usize> {
        let mut seen = vec![0; self.rows];
        for line in fs::read_to_string(self.file("server")).unwrap_or_default().lines() {
            seen[line.parse::<usize>().unwrap()] += 1;
        }
        seen
    }

    /// What each run has shown of each row.
    pub(crate) fn shown(&self) -> Vec<HashMap<usize, String>> {
        let mut runs = Vec::new();
        for line in fs::read_to_string(self.file("shown")).unwrap_or_default().lines() {
            if line == "run" {
                runs.push(HashMap::new());
                continue;
            }
            let (row, how) = line.split_once(' ').unwrap();
            let earlier = runs.last_mut().unwrap().insert(row.parse().unwrap(), how.to_owned());
            assert!(earlier.is_none(), "row {row} was shown twice in one run");
        }
        runs
    }

    /// After a run that came to its end: everything that is promised. Says how many rows are in doubt.
    pub(crate) fn check(&self, context: &str) -> usize {
        let (seen, runs) = (self.seen(), self.shown());
        let last = runs.last().unwrap();
        assert_eq!(last.len(), self.rows, "{context}: each row has an outcome");
        for (row, seen) in seen.iter().enumerate() {
            if is_unsafe(row) {
                assert!(*seen <= 1, "{context}: row {row} may not be sent twice and was, {seen} times");
            }
            let how = &last[&row];
            assert!(
                how.starts_with("done") || (how == "doubt" && is_unsafe(row)),
                "{context}: row {row}: {how}"
            );
            assert!(how == "doubt" || *seen > 0, "{context}: row {row} has an answer and was never sent");
            for earlier in runs.iter().filter_map(|run| run.get(&row)).filter(|how| how.starts_with("done")) {
                assert_eq!(earlier, how, "{context}: row {row} was shown otherwise");
            }
        }
        last.values().filter(|how| *how == "doubt").count()
    }
}

fn drill_path() -> PathBuf {
    // Tests are built into `deps`, examples beside it.
    let own = std::env::current_exe().unwrap();
    own.ancestors()
        .nth(2)
        .map(|folder| folder.join("examples/journal_drill"))
        .filter(|path| path.exists())
        .unwrap()
}

fn pseudo_random(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *seed >> 33
}

#[test]
fn h5_a_process_killed_at_any_instant_loses_no_row_and_sends_nothing_unsafe_twice() {
    let (mut kills, mut doubtful, mut seed) = (0, 0, 7);
    for journal in 0..12 {
        let mut place = Place::new(400, 4_000);
        loop {
            let mut child = place.command(&[]).spawn().unwrap();
            std::thread::sleep(Duration::from_micros(500 + pseudo_random(&mut seed) % 12_000));
            child.kill().unwrap();
            let output = child.wait_with_output().unwrap();
            if output.status.success() {
                break;
            }
            let text = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), None, "journal {journal}: {text}");
            kills += 1;
            if kills % 40 == 39 {
                assert!(place.run(&[]).status.success());
                break;
            }
        }
        doubtful += place.check(&format!("journal {journal}"));
    }
    assert!(kills > 30 && doubtful > 0, "{kills} kills, {doubtful} in doubt");
}

/// Every call of that name on the journal's files in turn, until there are no more: it fails, or the process ends in it.
fn inject(call: &str, fault: &str, stride: usize) -> (usize, usize) {
    let (mut hits, mut doubtful) = (0, 0);
    for number in (1..).step_by(stride) {
        let mut place = Place::new(60, 3_000);
        let mut under: Vec<String> = ["strace", "-f", "-y", "-qq", "-o"].map(str::to_owned).into();
        under.push(place.file("trace").display().to_string());
        for name in ["run.loamy", "run.loamy-wal", "run.loamy.part", "run.loamy.bodies", "."] {
            under.extend(["-P".into(), place.file(name).display().to_string()]);
        }
        under.extend(["-e".into(), format!("trace={call}")]);
        under.extend(["-e".into(), format!("inject={call}:{fault}:when={number}")]);
        let output = place.run(&under);
        let trace = fs::read_to_string(place.file("trace")).unwrap();
        let hit = trace.contains("INJECTED") || trace.contains("SIGKILL");
        let context = format!("{call} {number} {fault}");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        if !hit {
            assert!(output.status.success(), "{context}: {text}");
            place.check(&context);
            return (hits, doubtful);
        }
        hits += 1;
        // SQLite goes on when it could not sync the folder in which it has made its log. The journal syncs the folder itself
        // after that, before the first row.
        let of_folder = format!("{}>", place.folder.path().display());
        if fault.starts_with("error")
            && !trace.lines().any(|line| line.contains("INJECTED") && line.contains(&of_folder))
        {
            assert_eq!(
                output.status.code(),
                Some(3),
                "{context}: success was reported after a failure: {text}"
            );
            // What was called done before the failure must be there, and nothing may be tried again.
            let after: Vec<&str> =
                trace.lines().skip_while(|line| !line.contains("INJECTED")).skip(1).collect();
            assert!(
                !after.iter().any(|line| line.contains("sync(")),
                "{context}: a sync after a failed one:\n{trace}"
            );
        }
        let output = place.run(&[]);
        assert!(output.status.success(), "{context}, then: {}", String::from_utf8_lossy(&output.stderr));
        doubtful += place.check(&context);
    }
    unreachable!()
}

#[test]
fn h4_h5_a_sync_that_fails_ends_the_run_and_is_never_tried_again() {
    for (call, least) in [("fdatasync", 3), ("fsync", 8)] {
        let (failed, _) = inject(call, "error=EIO", 1);
        let (killed, _) = inject(call, "signal=KILL", 1);
        assert!(failed >= least && killed >= least, "{call}: {failed} failed, {killed} killed");
    }
}

#[test]
fn h4_h5_a_write_that_fails_ends_the_run() {
    for (call, least) in [("pwrite64", 5), ("write", 3), ("rename", 1), ("ftruncate", 0)] {
        let (full, _) = inject(call, "error=ENOSPC", if call == "pwrite64" { 5 } else { 1 });
        let (killed, _) = inject(call, "signal=KILL", if call == "pwrite64" { 5 } else { 1 });
        assert!(full >= least && killed >= least, "{call}: {full} failed, {killed} killed");
    }
}

#[test]
fn h4_a_full_disk_ends_the_run_and_room_lets_it_go_on() {
    let mut place = Place::new(300, 3_000);
    let folder = place.folder.path().display().to_string();
    let small = Path::new(&folder).join("small");
    fs::create_dir(&small).unwrap();
    // The logs stay on the large disk.
    let run = |seed: usize| {
        format!(
            "{} {}/run.loamy {folder}/server {folder}/shown 300 3000 {seed}; echo ended $?",
            drill_path().display(),
            small.display()
        )
    };
    let script = format!(
        "mount -t tmpfs -o size=200k tmpfs {small} && ({}) && mount -o remount,size=8m {small} && ({})",
        run(1),
        run(2),
        small = small.display(),
    );
    let output = Command::new("unshare").args(["-rm", "sh", "-c", &script]).output().unwrap();
    let (said, text) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(said, "ended 3\nended 0\n", "{text}");
    assert!(text.contains("o space left on device") || text.contains("no room"), "{text}");
    assert!(text.contains("make room"), "{text}");
    place.runs = 2;
    place.check("full disk");
    let unsent = place.shown()[0].values().filter(|how| *how == "unsent").count();
    assert!(unsent > 0, "the first run had room for everything");
}
