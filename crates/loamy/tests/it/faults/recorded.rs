//! Cells about batches with a journal: processes that end, disks that fail, files of others, and calls that are broken off.

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use loamy::{Journal, JournalError, JournalOptions, Order, Outcome, Policy, Trouble};
use testkit::Server;

use super::beside::held_up_by_a_slow_consumer;
use super::cell::{Cell, Column};
use super::checks::{row, row_of};
use crate::child;
use crate::expectations::client;
use crate::journal;
use crate::journaled::{Job, Methods, is_in_doubt, kill, open, place, seen};

fn job(cell: &Cell, rows: usize, suffix: &'static str) -> Job {
    Job::new(rows, suffix, Methods::All(cell.column.name()))
}

pub(super) fn a_job_that_is_killed_goes_on_where_it_stood(cell: &Cell) -> Vec<String> {
    const ROWS: usize = 700;
    // Four times as many as go at once have been answered by then, most of them longer ago than a group of writes takes.
    const KILLED_AT: u64 = 5 * Job::SLOTS as u64;
    let job = job(cell, ROWS, "?takes=30ms");
    let child = job.start(&[], &[]);
    job.wait_until_seen(|seen| seen.iter().sum::<u64>() >= KILLED_AT);
    kill(child);
    let output = job.run(&[], &[]);
    let mut wrong = Vec::new();
    if !output.status.success() {
        wrong.push(String::from_utf8_lossy(&output.stderr).into_owned());
        return wrong;
    }
    let (again, in_doubt) = job.sent_again_and_in_doubt();
    let ends = job.ends();
    let replayed = ends.iter().filter(|end| end.replayed && end.what == "200").count();
    let sent_twice = ends.iter().zip(job.seen()).filter(|(end, seen)| {
        // What was on record was sent by the first run alone.
        end.replayed && end.what == "200" && *seen != 1
    });
    let sent_twice = sent_twice.count();
    if replayed == 0 || sent_twice > 0 {
        wrong.push(format!("{replayed} rows were on record, {sent_twice} of them sent again"));
    }
    let is_post = cell.column == Column::Post;
    if (is_post && (again > 0 || in_doubt == 0)) || (!is_post && (again == 0 || in_doubt > 0)) {
        wrong.push(format!("{again} rows were sent again, {in_doubt} are in doubt"));
    }
    wrong
}

pub(super) fn what_was_under_way_in_a_process_that_was_killed_is_sent_again_only_if_it_may(
    cell: &Cell,
) -> Vec<String> {
    let job = job(cell, 3, "?takes=30s");
    let child = job.start(&[], &[]);
    job.wait_until_seen(|seen| seen == [1, 1, 1]);
    kill(child);
    if cell.column != Column::Post {
        let child = job.start(&[], &[]);
        job.wait_until_seen(|seen| seen == [2, 2, 2]);
        kill(child);
        return Vec::new();
    }
    let output = job.run(&[], &[]);
    let in_doubt = job.ends().iter().filter(|end| end.what == "cancelled?").count();
    let mut wrong = Vec::new();
    if !output.status.success() || in_doubt != 3 || job.seen() != [1, 1, 1] {
        wrong.push(format!("{in_doubt} in doubt, seen {:?}", job.seen()));
    }
    let child = job.start(&[], &["resend_in_doubt"]);
    job.wait_until_seen(|seen| seen == [2, 2, 2]);
    kill(child);
    wrong
}

pub(super) fn a_slow_consumer_holds_up_the_rows_of_a_journal(cell: &Cell) -> Vec<String> {
    // A group that is written together may wait for the disk.
    const GROUP: usize = 1_000;
    let (_folder, path) = place();
    let journaled = client(1).with_journal(open(&path, JournalOptions::default()));
    held_up_by_a_slow_consumer(cell, GROUP, |rows, policy| journaled.stream(rows, policy, Order::AsDone))
}

pub(super) fn a_journal_in_use_is_refused(cell: &Cell) -> Vec<String> {
    let job = job(cell, 10, "");
    let own = open(&job.journal(), JournalOptions::default());
    let mut wrong = Vec::new();
    match Journal::open(job.journal(), JournalOptions::default()) {
        Err(error) if error.trouble() == Trouble::InUse => {}
        other => wrong.push(format!("a second batch of this process: {:?}", other.err())),
    }
    let output = job.run(&[], &[]);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let said = format!("is in use: process {} uses it", std::process::id());
    if output.status.code() != Some(3) || !text.contains(&said) || job.seen() != [0; 10] {
        wrong.push(format!("another process: {}, seen {:?}: {text}", output.status, job.seen()));
    }
    drop(own);
    if !job.run(&[], &[]).status.success() || job.seen() != [1; 10] {
        wrong.push(format!("once it is free: seen {:?}", job.seen()));
    }
    wrong
}

pub(super) fn rows_of_another_input_are_refused(cell: &Cell) -> Vec<String> {
    journal::rows_of_another_input_are_refused(|url| row(cell, url));
    Vec::new()
}

pub(super) fn rows_with_the_same_tag_keep_a_record_each(cell: &Cell) -> Vec<String> {
    journal::rows_with_the_same_tag_keep_an_outcome_each(|_, url| row(cell, url));
    Vec::new()
}

pub(super) fn an_interrupt_leaves_in_time_and_what_is_done_is_on_record(cell: &Cell) -> Vec<String> {
    journal::an_interrupt_leaves_in_time_and_what_is_done_is_on_disk(
        |_, url| row(cell, url),
        |_| cell.column == Column::Post,
    );
    Vec::new()
}

/// Rows go on for longer than a few groups of writes take, however fast the machine is.
const STEADILY: &str = "?takes=20ms";

pub(super) fn a_full_disk_stops_the_sending_and_room_lets_it_go_on(cell: &Cell) -> Vec<String> {
    job(cell, 1_200, STEADILY).fills_its_disk_and_goes_on(250);
    Vec::new()
}

pub(super) fn a_sync_that_fails_stops_the_sending(cell: &Cell) -> Vec<String> {
    // The journal is made with the first ones; the rows go on for many more.
    let inject = "inject=fdatasync:error=EIO:when=7";
    let under = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync", "-e", inject];
    job(cell, 1_200, STEADILY).fails_and_goes_on(inject, &under);
    Vec::new()
}

pub(super) fn a_cut_record_is_noticed_and_what_is_good_stays_usable(cell: &Cell) -> Vec<String> {
    a_damaged_record_is_noticed(cell, |bytes| bytes.truncate(bytes.len() / 2))
}

pub(super) fn a_flipped_bit_is_noticed_and_what_is_good_stays_usable(cell: &Cell) -> Vec<String> {
    a_damaged_record_is_noticed(cell, |bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x10;
    })
}

fn a_damaged_record_is_noticed(cell: &Cell, damage: impl Fn(&mut Vec<u8>)) -> Vec<String> {
    const ROWS: usize = 60;
    let (server, (_folder, path)) = (Server::serve(), place());
    let run = |options: JournalOptions| -> Result<Vec<Outcome>, JournalError> {
        let rows = (0..ROWS).map(|n| row(cell, server.url(&format!("/count/{n}"))));
        let (outcomes, recorded) =
            client(1).with_journal(Journal::open(&path, options)?).run(rows, &Policy::default());
        recorded.map(|()| outcomes)
    };
    let first = run(JournalOptions::default()).unwrap();
    let bodies = path.with_extension("loamy.bodies");
    let mut bytes = fs::read(&bodies).unwrap();
    damage(&mut bytes);
    fs::write(&bodies, bytes).unwrap();

    let mut wrong = Vec::new();
    match run(JournalOptions::default()) {
        Err(error)
            if error.trouble() == Trouble::Damaged
                && error.hint().is_some_and(|hint| hint.contains("keep_good")) => {}
        other => wrong.push(format!("it was not noticed: {other:?}")),
    }
    if seen(&server, ROWS) != [1; ROWS] {
        wrong.push(format!("rows were sent all the same: {:?}", seen(&server, ROWS)));
    }
    let kept = match run(JournalOptions::default().keep_good()) {
        Ok(outcomes) => outcomes,
        Err(error) => return vec![format!("what is good was not kept: {error}")],
    };
    let body = |own: &Outcome| own.response().map(|response| response.body().to_vec());
    let replayed = |own: &Outcome| own.replayed && own.is_ok();
    for ((first, kept), seen) in first.iter().zip(&kept).zip(seen(&server, ROWS)) {
        let is_right = match cell.column {
            _ if replayed(kept) => seen == 1 && body(kept) == body(first),
            // Whether it was sent is on record where its answer is lost.
            Column::Post => seen == 1 && is_in_doubt(kept),
            Column::Get | Column::Keyed => seen == 2 && kept.is_ok(),
        };
        if !is_right {
            wrong.push(format!("seen {seen} times: {kept:?}"));
        }
    }
    let good = kept.iter().filter(|own| replayed(own)).count();
    if kept.len() != ROWS || good == 0 || good == ROWS {
        wrong.push(format!("{} outcomes, {good} of them as they were", kept.len()));
    }
    wrong
}

/// Where the child finds its server, its rows' column and the folder for its journal.
const CHILD: [&str; 3] = ["LOAMY_RECORDED_URL", "LOAMY_RECORDED_COLUMN", "LOAMY_RECORDED_FOLDER"];

const SHOWN: usize = 10;

/// A loss of power leaves what was synced. Rows go one by one, so that whatever was written before one is shown, or an unsafe
/// one sent, can be told to have been for it.
pub(super) fn what_is_shown_and_what_may_not_go_twice_is_synced_before(cell: &Cell) -> Vec<String> {
    let (server, (folder, path)) = (Server::serve(), place());
    let trace = folder.path().join("trace");
    let mut child = Command::new("strace");
    child
        .args(["-f", "-y", "-qq", "-s", "16", "-o"])
        .arg(&trace)
        .args(["-e", "trace=fdatasync,fsync,write,writev,pwrite64,pwritev,sendto,sendmsg"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "faults::recorded::rows_that_go_one_by_one_are_shown_one_by_one"])
        .envs(CHILD.into_iter().zip([server.url("/count/"), cell.column.name().to_owned()]))
        .env(CHILD[2], folder.path());
    if let Some(wrong) = child::wrong(&mut child) {
        return vec![wrong];
    }
    let mut wrong = Vec::new();
    if seen(&server, SHOWN) != [1; SHOWN] {
        wrong.push(format!("seen {:?}", seen(&server, SHOWN)));
    }
    let text = fs::read_to_string(&trace).unwrap();
    let mut disk = Disk::default();
    let (mut shown, mut sent) = (0, 0);
    for line in text.lines() {
        let is_shown = disk.hear(line, &path);
        let is_sent = line.contains("<socket:") || line.contains("<TCP:");
        shown += usize::from(is_shown);
        sent += usize::from(is_sent);
        let is_unsafe = cell.column == Column::Post;
        if !(is_shown || is_sent && is_unsafe) {
            continue;
        }
        let what = if is_shown { "shown" } else { "sent" };
        if !disk.unsynced.is_empty() || disk.syncs == 0 {
            wrong.push(format!(
                "row {shown} was {what} after {} syncs, and not synced were {:?}",
                disk.syncs, disk.unsynced
            ));
        }
        disk.syncs = 0;
    }
    if shown != SHOWN || sent < SHOWN {
        wrong.push(format!("{shown} shown, {sent} sent:\n{text}"));
    }
    wrong
}

/// What a trace of calls says of the files of a journal.
#[derive(Default)]
struct Disk {
    /// Files that were written to and not synced since.
    unsynced: BTreeSet<String>,
    /// How often their log was synced since something was shown or sent.
    syncs: usize,
    /// Which file a thread is syncing.
    syncing: HashMap<String, String>,
}

impl Disk {
    /// Whether the line is one of something that was shown.
    fn hear(&mut self, line: &str, journal: &Path) -> bool {
        let thread = line.split(' ').next().unwrap_or_default().to_owned();
        let file = line.split_once('<').and_then(|(_, rest)| rest.split_once('>')).map(|(file, _)| file);
        let is_sync = line.contains("sync(");
        if let Some(file) = file.filter(|file| file.starts_with(&journal.display().to_string())) {
            if is_sync {
                self.syncing.insert(thread.clone(), file.to_owned());
            } else {
                self.unsynced.insert(file.to_owned());
            }
        }
        let has_ended = line.ends_with(" = 0") && (is_sync || line.contains("sync resumed>"));
        if let Some(file) = has_ended.then(|| self.syncing.remove(&thread)).flatten() {
            self.syncs += usize::from(file.ends_with("-wal"));
            self.unsynced.remove(&file);
        }
        file.is_some_and(|file| file.ends_with("/shown"))
    }
}

#[test]
fn rows_that_go_one_by_one_are_shown_one_by_one() {
    let [url, column, folder] = CHILD.map(|name| std::env::var(name).ok());
    let server = url.is_none().then(Server::serve);
    let url = url.unwrap_or_else(|| server.as_ref().unwrap().url("/count/"));
    let own = tempfile::tempdir().unwrap();
    let folder = folder.map_or_else(|| own.path().to_owned(), PathBuf::from);
    let column = Column::ALL.into_iter().find(|own| column.as_deref() == Some(own.name()));
    let mut shown = OpenOptions::new().create(true).append(true).open(folder.join("shown")).unwrap();
    let journal = open(&folder.join("run.loamy"), JournalOptions::default());
    let run = client(1).with_journal(journal).begin(&Policy::default());
    for n in 0..SHOWN {
        run.admit([row_of(column.unwrap_or_default(), format!("{url}{n}"))]);
        let outcomes = run.wait(1, Duration::from_secs(10));
        assert!(outcomes.len() == 1 && outcomes[0].is_ok(), "{outcomes:?}");
        shown.write_all(b"one\n").unwrap();
    }
    run.close();
    run.finish_journal().unwrap();
    assert_eq!(fs::read(folder.join("shown")).unwrap().len(), 4 * SHOWN);
}
