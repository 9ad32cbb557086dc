//! A journal's files: who may use them, what becomes of damaged ones, what they hold.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use loamy::unstable_drill::is_unsafe;
use loamy::{Journal, JournalError, JournalOptions, Trouble};

use crate::journal_crash::Place;

fn refused(path: &Path) -> JournalError {
    match Journal::open(path, JournalOptions::default()) {
        Ok(_) => panic!("it was opened"),
        Err(error) => error,
    }
}

#[test]
fn h7_a_journal_is_for_one_batch_at_a_time() {
    let mut place = Place::new(10, 10);
    let path = place.file("run.loamy");
    let own = Journal::open(&path, JournalOptions::default()).unwrap();
    let error = refused(&path);
    assert_eq!(error.trouble(), Trouble::InUse);
    assert!(error.to_string().ends_with("is in use: another batch of this process uses it"), "{error}");
    let output = place.run(&[]);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(3), "{text}");
    let expected =
        format!("the journal {} is in use: process {} uses it", path.display(), std::process::id());
    assert!(text.starts_with(&expected), "{text}");
    assert!(place.seen().iter().all(|seen| *seen == 0), "nothing may be sent");
    // What was refused did not cost the first one its lock.
    assert_eq!(place.run(&[]).status.code(), Some(3));
    drop(own);
    assert!(place.run(&[]).status.success());
}

/// What is forked has the files that are open, until it is another program.
#[test]
fn h7_a_journal_that_was_closed_is_free_whatever_was_started_meanwhile() {
    const TIMES: usize = 300;
    let mut place = Place::new(10, 10);
    assert!(place.run(&[]).status.success());
    let path = place.file("run.loamy");
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    assert!(Command::new("true").status().unwrap().success());
                }
            });
        }
        let refused = (0..TIMES).find_map(|_| Journal::open(&path, JournalOptions::default()).err());
        is_over.store(true, Ordering::Relaxed);
        assert!(refused.is_none(), "{refused:?}");
    });
}

#[test]
fn only_its_owner_may_read_a_journal() {
    let mut place = Place::new(30, 100);
    assert!(place.run(&[]).status.success());
    for name in ["run.loamy", "run.loamy-wal", "run.loamy.bodies"] {
        let mode = fs::metadata(place.file(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    assert!(!place.file("run.loamy.part").exists());
}

#[test]
fn h7_what_is_no_journal_is_refused_and_left_as_it_is() {
    let place = Place::new(1, 1);
    let text = place.file("text");
    fs::write(&text, "id,url\n1,http://h/\n".repeat(100)).unwrap();
    let error = refused(&text);
    assert_eq!(
        (error.trouble(), error.hint()),
        (Trouble::OtherFormat, Some("name another file for the journal"))
    );
    assert_eq!(fs::read(&text).unwrap().len(), 1900);
    let database = place.file("database");
    let other = rusqlite::Connection::open(&database).unwrap();
    other.execute_batch("CREATE TABLE x (y)").unwrap();
    drop(other);
    let error = refused(&database);
    assert_eq!(error.trouble(), Trouble::OtherFormat, "{error}");
    let later = place.file("later");
    drop(Journal::open(&later, JournalOptions::default()).unwrap());
    let index = rusqlite::Connection::open(&later).unwrap();
    index.pragma_update(None, "user_version", 2).unwrap();
    drop(index);
    let error = refused(&later);
    assert_eq!(error.trouble(), Trouble::OtherFormat);
    assert!(error.to_string().contains("has format 2, and this version of loamy reads format 1"), "{error}");
}

#[test]
fn h8_a_journal_of_other_rows_is_refused() {
    let mut place = Place::new(30, 100);
    assert!(place.run(&[]).status.success());
    for (rows, said) in
        [(20, "it knows row 29, and there are only 20 rows now"), (31, "finished with 30 rows")]
    {
        place.rows = rows;
        let output = place.run(&[]);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(3), "{text}");
        assert!(text.contains(said), "{text}");
    }
    assert_eq!(place.seen().len(), 31);
    assert!(place.seen()[..30].iter().all(|seen| *seen == 1) && place.seen()[30] == 0);
}

/// Any bit of any file, in a journal that was broken off or finished: the run is refused with a word about damage, or
/// everything is as it was.
#[test]
fn h7_a_flipped_bit_or_a_cut_is_noticed_and_what_is_good_stays_usable() {
    let mut seed = 11_u64;
    let mut random = |bound: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % bound
    };
    let (mut noticed, mut harmless, mut kept, mut forgotten) = (0, 0, 0, 0);
    for number in 0..300 {
        let mut place = Place::new(60, 400);
        let finished = number % 2 == 0;
        if finished {
            assert!(place.run(&[]).status.success());
        } else {
            let mut under: Vec<String> = ["strace", "-f", "-qq", "-o", "/dev/null"].map(str::to_owned).into();
            under.extend(["-e".into(), "trace=fdatasync".into()]);
            under.extend(["-e".into(), format!("inject=fdatasync:signal=KILL:when={}", 2 + random(2))]);
            place.run(&under);
        }
        let before = place.seen();
        let names = ["run.loamy", "run.loamy-wal", "run.loamy.part", "run.loamy.bodies"];
        let files: Vec<_> =
            names.iter().filter(|name| fs::metadata(place.file(name)).is_ok_and(|f| f.len() > 0)).collect();
        let name = files[random(files.len() as u64) as usize];
        let mut bytes = fs::read(place.file(name)).unwrap();
        let at = random(bytes.len() as u64) as usize;
        if random(4) == 0 {
            bytes.truncate(at)
        } else {
            bytes[at] ^= 1 << random(8)
        }
        fs::write(place.file(name), &bytes).unwrap();
        let context = format!("number {number}: {name} at {at} of {}", bytes.len());
        let output = place.run(&[]);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let in_log = *name == "run.loamy-wal";
        match output.status.code() {
            Some(0) => {
                harmless += 1;
                let after = place.seen();
                let twice = (0..60).any(|row| is_unsafe(row) && after[row] > 1);
                // What happened to the very last commit of the log cannot be told from one that was never made.
                if in_log && twice {
                    forgotten += 1;
                } else {
                    place.check(&context);
                }
                let again = (0..60).filter(|row| finished && after[*row] > before[*row]).count();
                assert_eq!(again, 0, "{context}: rows of a finished journal were sent again");
            }
            Some(3) => {
                noticed += 1;
                assert!(text.contains("hint: "), "{context}: {text}");
                let clear = ["damaged", "no journal", "has format", "another input", "differs in"];
                assert!(clear.iter().any(|word| text.contains(word)), "{context}: {text}");
                if text.contains("keep_good") {
                    let mut command = place.command(&[]);
                    command.arg("keep_good");
                    let output = command.output().unwrap();
                    let text = String::from_utf8_lossy(&output.stderr).into_owned();
                    if text.contains("nothing is left") || text.contains("another journal") {
                        continue;
                    }
                    assert!(output.status.success(), "{context}: kept good, and: {text}");
                    kept += 1;
                    let after = place.seen();
                    for row in (0..60).filter(|row| is_unsafe(*row)) {
                        assert!(after[row] <= 1, "{context}: row {row} may not be sent twice and was");
                    }
                    let last = place.shown().pop().unwrap();
                    assert_eq!(last.len(), 60, "{context}");
                }
            }
            code => panic!("{context}: {code:?}: {text}"),
        }
    }
    assert!(forgotten < 10, "{forgotten}");
    assert!(
        noticed > 50 && harmless > 20 && kept > 30,
        "{noticed} noticed, {harmless} harmless, {kept} kept"
    );
}
