//! A real job in a process of its own, which is killed, or whose disk fails: what the server saw of each row, and what the
//! job made of it.
//!
//! `LOAMY_KILLS=200` kills it so often instead.
#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "the walls around the clock are the engine's; how many were killed is worth knowing"
)]

use std::thread;
use std::time::Duration;

use loamy::{Journal, JournalOptions, Trouble};

use crate::journaled::{Job, Methods, kill};

/// Rows that may have ended and not be on disk when a process is killed.
const UNRECORDED: usize = 1_000;

#[test]
fn h5_a_job_that_is_killed_at_any_instant_loses_no_row_and_sends_no_post_twice() {
    let kills = std::env::var("LOAMY_KILLS").map_or(20, |text| text.parse().unwrap());
    let (mut tried, mut survived, mut sent_again, mut in_doubt) = (0, 0, 0, 0);
    let mut seed = 3_u64;
    while tried < kills {
        let job = Job::new(20_000, "", Methods::InTurn);
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
        let (again, doubtful) = job.sent_again_and_in_doubt();
        let most = killed * (Job::SLOTS + UNRECORDED);
        assert!(again <= most, "{again} rows were sent again after {killed} kills");
        sent_again += again;
        in_doubt += doubtful;
        tried += killed;
        survived += killed;
    }
    println!("tried {tried} survived {survived} ({sent_again} rows sent again, {in_doubt} in doubt)");
    assert!(tried >= kills && sent_again > 0);
}

#[test]
fn h5_a_post_that_was_under_way_when_its_process_was_killed_is_in_doubt_and_sent_again_only_when_asked() {
    let job = Job::new(3, "?takes=30s", Methods::InTurn);
    let child = job.start(&[], &[]);
    job.wait_until_seen(|seen| seen == [1, 1, 1]);
    // H7: another process has it.
    let error = Journal::open(job.journal(), JournalOptions::default()).unwrap_err();
    assert_eq!(error.trouble(), Trouble::InUse);
    assert!(error.to_string().ends_with(&format!("in use: process {} uses it", child.id())), "{error}");
    let other = job.run(&[], &[]);
    assert_eq!(other.status.code(), Some(3), "{}", String::from_utf8_lossy(&other.stderr));
    kill(child);
    assert_eq!(job.seen(), [1, 1, 1]);

    let child = job.start(&[], &[]);
    job.wait_until_seen(|seen| seen == [2, 2, 1]);
    kill(child);
    let child = job.start(&[], &["resend_in_doubt"]);
    job.wait_until_seen(|seen| seen == [3, 3, 2]);
    kill(child);
}

#[test]
fn h4_a_sync_that_fails_stops_the_sending_and_what_was_called_done_is_on_disk() {
    for number in [6, 7, 12, 13] {
        let job = Job::new(5_000, "", Methods::InTurn);
        let inject = format!("inject=fdatasync:error=EIO:when={number}");
        let under = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync", "-e", &inject];
        job.fails_and_goes_on(&inject, &under);
    }
}

#[test]
fn h4_a_full_disk_stops_the_sending_and_room_lets_it_go_on() {
    Job::new(5_000, "", Methods::InTurn).fills_its_disk_and_goes_on(600);
}
