//! The cells that rows and a server's script do not tell whole.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use loamy::{Client, Kind, Order, Policy, Request};
use testkit::{Options, Server};

use super::cell::{Cell, Column, Transport};
use super::profiles::Folder;
use super::{again, beside, profiles, recorded};
use crate::child;

type Check = fn(&Cell) -> Vec<String>;

const CHECKS: [(&str, Check); 46] = [
    ("an empty list gives nothing at once", an_empty_list_gives_nothing_at_once),
    ("the same row twice gives two outcomes", the_same_row_twice_gives_two_outcomes),
    (
        "a stream whose rows panic has yielded what was done",
        a_stream_whose_rows_panic_has_yielded_what_was_done,
    ),
    ("a URL of many at-signs is read in linear time", a_url_of_many_at_signs_is_read_in_linear_time),
    ("the engine reads no wall clock", the_engine_reads_no_wall_clock),
    ("few descriptors fail no row", few_descriptors_fail_no_row),
    ("descriptors that others hold fail no row", descriptors_that_others_hold_fail_no_row),
    ("a panic ends one row", a_panic_ends_one_row),
    ("each name is looked up once", beside::each_name_is_looked_up_once),
    (
        "a peer that says farewell after every few rows loses none and sees none twice",
        beside::a_peer_that_says_farewell_after_every_few_rows_loses_none_and_sees_none_twice,
    ),
    (
        "a peer that closes after every few rows without a word sees no POST twice",
        beside::a_peer_that_closes_after_every_few_rows_without_a_word_sees_no_post_twice,
    ),
    (
        "a large row does not stall the others of its connection",
        beside::a_large_row_does_not_stall_the_others_of_its_connection,
    ),
    (
        "rows that drip do not stall the others of their connection",
        beside::rows_that_drip_do_not_stall_the_others_of_their_connection,
    ),
    ("a slow consumer holds up the rows", beside::a_slow_consumer_holds_up_the_rows),
    (
        "a slow consumer holds up the rows of a journal",
        recorded::a_slow_consumer_holds_up_the_rows_of_a_journal,
    ),
    ("a batch outlives the restart of its server", again::a_batch_outlives_the_restart_of_its_server),
    (
        "one row asks for all whether the peer is there again",
        again::one_row_asks_for_all_whether_the_peer_is_there_again,
    ),
    (
        "rows that wait for an origin that is paused too long are not sent",
        again::rows_that_wait_for_an_origin_that_is_paused_too_long_are_not_sent,
    ),
    (
        "rows that were refused together come back one first",
        again::rows_that_were_refused_together_come_back_one_first,
    ),
    ("a peer that asks for calm is given some", again::a_peer_that_asks_for_calm_is_given_some),
    (
        "fewer rows at once go to a peer that asked for calm",
        again::fewer_rows_at_once_go_to_a_peer_that_asked_for_calm,
    ),
    (
        "fewer rows at once go to a peer that ended each stream for calm",
        again::fewer_rows_at_once_go_to_a_peer_that_ended_each_stream_for_calm,
    ),
    (
        "fewer rows at once go to a peer that went away for calm and answered none",
        again::fewer_rows_at_once_go_to_a_peer_that_went_away_for_calm_and_answered_none,
    ),
    (
        "fewer rows at once go to a peer that went away for calm and answered all",
        again::fewer_rows_at_once_go_to_a_peer_that_went_away_for_calm_and_answered_all,
    ),
    (
        "rows that wait for a stream of a peer that asks for calm wait on",
        again::rows_that_wait_for_a_stream_of_a_peer_that_asks_for_calm_wait_on,
    ),
    (
        "a peer that asks for calm of each row is given some before each",
        again::a_peer_that_asks_for_calm_of_each_row_is_given_some_before_each,
    ),
    (
        "a peer that fails everything is sent a fifth more and ten",
        again::a_peer_that_fails_everything_is_sent_a_fifth_more_and_ten,
    ),
    (
        "a bad bundle is refused when the profile is built",
        profiles::a_bad_bundle_is_refused_when_the_profile_is_built,
    ),
    (
        "two profiles share neither a connection nor a session",
        profiles::two_profiles_share_neither_a_connection_nor_a_session,
    ),
    ("two names on one address share no connection", profiles::two_names_on_one_address_share_no_connection),
    (
        "the versions of HTTP that are asked for share no connection",
        profiles::the_versions_of_http_that_are_asked_for_share_no_connection,
    ),
    ("SSL_CERT_FILE names whom to trust", profiles::ssl_cert_file_names_whom_to_trust),
    ("SSL_CERT_DIR names whom to trust", profiles::ssl_cert_dir_names_whom_to_trust),
    (
        "secrets are written down only when it is asked for",
        profiles::secrets_are_written_down_only_when_it_is_asked_for,
    ),
    ("proxies of the environment are not used", profiles::proxies_of_the_environment_are_not_used),
    ("a job that is killed goes on where it stood", recorded::a_job_that_is_killed_goes_on_where_it_stood),
    (
        "what was under way in a process that was killed is sent again only if it may",
        recorded::what_was_under_way_in_a_process_that_was_killed_is_sent_again_only_if_it_may,
    ),
    ("a journal in use is refused", recorded::a_journal_in_use_is_refused),
    ("rows of another input are refused", recorded::rows_of_another_input_are_refused),
    (
        "a cut record is noticed and what is good stays usable",
        recorded::a_cut_record_is_noticed_and_what_is_good_stays_usable,
    ),
    (
        "a flipped bit is noticed and what is good stays usable",
        recorded::a_flipped_bit_is_noticed_and_what_is_good_stays_usable,
    ),
    ("rows with the same tag keep a record each", recorded::rows_with_the_same_tag_keep_a_record_each),
    (
        "a full disk stops the sending and room lets it go on",
        recorded::a_full_disk_stops_the_sending_and_room_lets_it_go_on,
    ),
    ("a sync that fails stops the sending", recorded::a_sync_that_fails_stops_the_sending),
    (
        "what is shown and what may not go twice is synced before",
        recorded::what_is_shown_and_what_may_not_go_twice_is_synced_before,
    ),
    (
        "an interrupt leaves in time and what is done is on record",
        recorded::an_interrupt_leaves_in_time_and_what_is_done_is_on_record,
    ),
];

pub(crate) fn by_name(name: &str) -> Check {
    let known = CHECKS.iter().find(|(own, _)| *own == name);
    known.unwrap_or_else(|| panic!("{name:?} is no check")).1
}

/// How long a call may take that has nothing to wait for.
const AT_ONCE: Duration = Duration::from_millis(500);

fn an_empty_list_gives_nothing_at_once(_: &Cell) -> Vec<String> {
    let client = Client::builder().threads(1).build().unwrap();
    let began = Instant::now();
    let outcomes = client.run(Vec::<Request>::new(), &Policy::default());
    let streamed = client.stream(Vec::<Request>::new(), &Policy::default(), Order::AsGiven).count();
    let mut wrong = Vec::new();
    if !outcomes.is_empty() || streamed != 0 {
        wrong.push(format!("{} outcomes, {streamed} streamed", outcomes.len()));
    }
    if began.elapsed() > AT_ONCE {
        wrong.push(format!("it took {:?}", began.elapsed()));
    }
    wrong
}

pub(super) fn row(cell: &Cell, url: String) -> Request {
    row_of(cell.column, url)
}

pub(super) fn row_of(column: Column, url: String) -> Request {
    match column {
        Column::Get => Request::get(url),
        Column::Post => Request::post(url, "x=1"),
        Column::Keyed => Request::post(url, "x=1").header("Idempotency-Key", "k-1"),
    }
}

fn the_same_row_twice_gives_two_outcomes(cell: &Cell) -> Vec<String> {
    let server = Server::serve();
    let client = Client::builder().threads(1).build().unwrap();
    let row = row(cell, server.url("/anything")).tag("both");
    let outcomes = client.run([row.clone(), row], &Policy::default());
    let mut wrong = Vec::new();
    for (index, outcome) in outcomes.iter().enumerate() {
        if outcome.index != index || outcome.tag.as_deref() != Some("both") || !outcome.is_ok() {
            wrong.push(format!("{outcome:?}"));
        }
    }
    if outcomes.len() != 2 || server.counts().requests != 2 {
        wrong.push(format!("{} outcomes, {} requests seen", outcomes.len(), server.counts().requests));
    }
    wrong
}

fn a_stream_whose_rows_panic_has_yielded_what_was_done(cell: &Cell) -> Vec<String> {
    const GOOD: usize = 9;
    let server = Server::serve();
    let client = Client::builder().threads(1).build().unwrap();
    let rows = (0..).map(|n| match n {
        GOOD => panic!("the rows end in a panic, as the cell wants"),
        n => row(cell, server.url(&format!("/anything/{n}"))),
    });
    let mut outcomes = Vec::new();
    let ended = catch_unwind(AssertUnwindSafe(|| {
        for outcome in client.stream(rows, &Policy::default().concurrency(1), Order::AsGiven) {
            outcomes.push(outcome);
        }
    }));
    let mut wrong = Vec::new();
    if ended.is_ok() {
        wrong.push("the panic did not reach the caller".to_owned());
    }
    if outcomes.is_empty()
        || outcomes.iter().enumerate().any(|(n, outcome)| outcome.index != n || !outcome.is_ok())
    {
        wrong.push(format!("yielded before: {outcomes:?}"));
    }
    let seen = server.counts().requests as usize;
    if seen < outcomes.len() || seen > GOOD {
        wrong.push(format!("{seen} requests seen, {} outcomes, {GOOD} good rows", outcomes.len()));
    }
    // The client goes on: nothing of the broken call holds it.
    if !client.run([row(cell, server.url("/anything"))], &Policy::default())[0].is_ok() {
        wrong.push("the client does not work after it".to_owned());
    }
    wrong
}

fn a_url_of_many_at_signs_is_read_in_linear_time(cell: &Cell) -> Vec<String> {
    const MANY: usize = 100_000;
    const PROMPT: Duration = Duration::from_secs(2);
    let server = Server::serve();
    let client = Client::builder().threads(1).build().unwrap();
    // Each at-sign but the last becomes three bytes, which Basic carries: the head is refused or sent, never stuck.
    let url = format!("http://{}:{}/anything", "@".repeat(MANY) + "127.0.0.1", server.port());
    let began = Instant::now();
    let outcomes = client.run([row(cell, url.clone())], &Policy::default());
    let elapsed = began.elapsed();
    let mut wrong = Vec::new();
    if elapsed > PROMPT {
        wrong.push(format!("it took {elapsed:?}"));
    }
    if outcomes.len() != 1 || !outcomes[0].is_ok() || server.counts().requests != 1 {
        wrong.push(format!(
            "{:?}, {} requests seen",
            outcomes[0].result.as_ref().err(),
            server.counts().requests
        ));
    }
    wrong
}

fn the_engine_reads_no_wall_clock(_: &Cell) -> Vec<String> {
    const CLOCKS: [&str; 4] = ["SystemTime", "UNIX_EPOCH", "chrono::", "time::OffsetDateTime"];
    // A room that reads what peers say of times of day counts from the epoch, and still asks no clock.
    const READS_DATES: [&str; 3] = ["quotas.rs", "quotas/tests.rs", "governor/tests.rs"];
    const FILES_AT_LEAST: usize = 20;
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut wrong, mut looked_at) = (Vec::new(), 0);
    let mut folders = vec![source];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            looked_at += 1;
            let text = std::fs::read_to_string(&path).unwrap();
            for (number, line) in text.lines().enumerate() {
                let code = line.split("//").next().unwrap_or_default();
                wrong.extend(
                    CLOCKS
                        .iter()
                        .filter(|clock| code.contains(*clock))
                        .filter(|clock| {
                            **clock != "UNIX_EPOCH" || !READS_DATES.iter().any(|own| path.ends_with(own))
                        })
                        .map(|clock| format!("{}:{}: {clock}", path.display(), number + 1)),
                );
            }
        }
    }
    if looked_at < FILES_AT_LEAST {
        wrong.push(format!("only {looked_at} files were looked at"));
    }
    wrong
}

/// Where the child finds its server, its rows' column, and how many descriptors to hold while it sends.
const CHILD: [&str; 3] = ["LOAMY_FAULTS_URL", "LOAMY_FAULTS_COLUMN", "LOAMY_FAULTS_HELD"];

const ROWS: usize = 200;

fn few_descriptors_fail_no_row(cell: &Cell) -> Vec<String> {
    in_a_child_with_64_descriptors(cell, 0)
}

fn descriptors_that_others_hold_fail_no_row(cell: &Cell) -> Vec<String> {
    in_a_child_with_64_descriptors(cell, 40)
}

fn in_a_child_with_64_descriptors(cell: &Cell, held: usize) -> Vec<String> {
    let server = match cell.over {
        Transport::Plain => Server::serve(),
        over => Server::serve_with(Options {
            tls: over.is_secure().then(testkit::Tls::default),
            http: vec![over.speaks()],
            ..Options::default()
        }),
    };
    let folder = Folder::new();
    let mut child =
        child::with_64_descriptors("faults::checks::more_rows_at_once_than_descriptors_all_end_well");
    child
        .envs(CHILD.into_iter().zip([
            server.url("/delay/0.005"),
            cell.column.name().to_owned(),
            held.to_string(),
        ]))
        .env("SSL_CERT_FILE", folder.write("ca.pem", &testkit::ca_pem()));
    let mut wrong: Vec<_> = child::wrong(&mut child).into_iter().collect();
    if server.counts().requests != ROWS as u64 {
        wrong.push(format!("{} requests seen, not {ROWS}", server.counts().requests));
    }
    wrong
}

#[test]
fn more_rows_at_once_than_descriptors_all_end_well() {
    let [url, column, held] = CHILD.map(|name| std::env::var(name).ok());
    let server = url.is_none().then(Server::serve);
    let url = url.unwrap_or_else(|| server.as_ref().unwrap().url("/delay/0.005"));
    let held = held.map_or(0, |held| held.parse().unwrap());
    let client = Client::builder().threads(1).build().unwrap();
    let others: Vec<_> = (0..held).map(|_| std::fs::File::open("/dev/null").unwrap()).collect();
    let rows = (0..ROWS).map(|_| match column.as_deref() {
        Some("post") => Request::post(url.clone(), "x=1"),
        Some("keyed") => Request::post(url.clone(), "x=1").header("Idempotency-Key", "k-1"),
        _ => Request::get(url.clone()),
    });
    let policy = Policy::default().concurrency(ROWS).timeout(Duration::from_secs(20));
    let outcomes = client.run(rows, &policy);
    assert_eq!(outcomes.len(), ROWS);
    let failed: Vec<_> = outcomes.iter().filter(|outcome| !outcome.is_ok()).collect();
    assert!(failed.is_empty(), "{} of {ROWS} failed, the first: {:?}", failed.len(), failed[0]);
    drop(others);
}

fn a_panic_ends_one_row(cell: &Cell) -> Vec<String> {
    const AMONG: usize = 5;
    let server = Server::serve();
    let dns = loamy::Dns::Fixed(std::sync::Arc::new(|name: &str| match name {
        "panics.test" => panic!("the look-up panics, as the cell wants"),
        _ => Ok(vec!["127.0.0.1".parse().unwrap()]),
    }));
    let client = Client::builder().threads(1).dns(dns).build().unwrap();
    let port = server.port();
    let rows = (0..2 * AMONG).map(|n| {
        let host = if n == AMONG { "panics.test" } else { "fine.test" };
        row(cell, format!("http://{host}:{port}/anything/{n}"))
    });
    let mut wrong = Vec::new();
    let outcomes = client.run(rows, &Policy::default());
    if outcomes.len() != 2 * AMONG {
        wrong.push(format!("{} outcomes", outcomes.len()));
    }
    for outcome in outcomes {
        let kind = outcome.result.as_ref().err().map(loamy::Error::kind);
        let should = (outcome.index == AMONG).then_some(Kind::Internal);
        let in_doubt = outcome.result.as_ref().is_err_and(loamy::Error::in_doubt);
        if kind != should || in_doubt {
            wrong.push(format!("row {}: {outcome:?}, not {should:?}", outcome.index));
        }
    }
    if server.counts().requests != 2 * AMONG as u64 - 1 {
        wrong.push(format!("{} requests seen", server.counts().requests));
    }
    wrong
}
