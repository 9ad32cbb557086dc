//! Plays one cell: starts its servers, sends its rows, and says what was otherwise than the list has it.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use loamy::{
    Backoff, Client, Dns, HttpVersion, Outcome, Overrides, Policy, Request, Sizes, Timeouts, Tls, TlsProfile,
    TlsVersion,
};
use testkit::{FullBacklog, Listen, Log, Protocol, Script, Server};

use super::cell::{
    self, Answer, Cell, Column, Downgrade, Governor, Retried, Roots, Transport, Verify, Version,
};
use super::judge::{expect, expect_each_attempt, judge, judge_connections, judge_servers, seen};
use super::scene::Scene;
use super::{checks, frames};
use crate::child;

/// How long a call may go on past its deadline.
const GRACE: Duration = Duration::from_secs(1);

/// How long a row has unless its cell says otherwise.
const TOTAL: Duration = Duration::from_secs(5);

/// The first ceiling of the waits between sendings, unless a cell says otherwise: none tests its length by it.
const BACKOFF: Duration = Duration::from_millis(4);

/// How long the client is kept after the call, so that whatever it would still send is seen.
const LINGER: Duration = Duration::from_millis(40);

/// How long the connections may take to end once the client is gone.
const ENDING: Duration = Duration::from_secs(5);

const WELL: [&str; 3] = ["read", r"send HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "again"];

/// How many connections of a failed cell are shown.
const SHOWN: usize = 4;

/// The cell that a child process has to play.
const ALONE: &str = "LOAMY_FAULTS_ALONE";

/// Everything that is otherwise than it should be.
pub(crate) fn play(cell: &Cell) -> Vec<String> {
    match &cell.check {
        Some(name) => checks::by_name(name)(cell),
        None if cell.memory_mb.is_some() => play_alone(cell),
        None => play_rows(cell),
    }
}

/// Plays the cell in a process of its own, where the memory that it takes can be told from that of others.
fn play_alone(cell: &Cell) -> Vec<String> {
    let own = "faults::play::a_cell_alone_ends_well_and_takes_no_more_memory_than_it_may";
    let mut child = child::alone(own);
    child.arg("--nocapture").env(ALONE, cell.to_string());
    child::wrong(&mut child).into_iter().collect()
}

#[test]
fn a_cell_alone_ends_well_and_takes_no_more_memory_than_it_may() {
    let cells = cell::list().cells;
    let mut limited = cells.iter().filter(|cell| cell.memory_mb.is_some());
    let Ok(name) = std::env::var(ALONE) else {
        let wrong = play_alone(limited.next().expect("the list limits the memory of some cell"));
        return assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    };
    let cell = limited.find(|cell| cell.to_string() == name).expect("the name is that of a cell");
    let before = memory("VmRSS");
    let mut wrong = play_rows(cell);
    let grown = memory("VmHWM").saturating_sub(before) >> 20;
    if grown > cell.memory_mb.unwrap_or_default() {
        wrong.push(format!("the memory grew by {grown} MiB"));
    }
    assert!(wrong.is_empty(), "{cell}: {}", wrong.join("\n    "));
}

/// A figure of this process's memory, in bytes.
fn memory(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let kilobytes =
        line.and_then(|line| line.trim().strip_suffix(" kB")).and_then(|number| number.parse::<u64>().ok());
    kilobytes.unwrap_or_else(|| panic!("no {name} in {status}")) << 10
}

fn play_rows(cell: &Cell) -> Vec<String> {
    let mut wrong = Vec::new();
    let scene =
        Scene { over: cell.over, host: IpAddr::V4(Ipv4Addr::LOCALHOST), port: 0, other: 0, backlog: None };
    let well = WELL.map(str::to_owned);
    let other = cell.other.as_ref().map(|lines| {
        let over = cell.other_over.unwrap_or(cell.over);
        Server::start(script(cell, lines, over, &scene))
    });
    let backlog = cell.beside_backlog || cell.url.as_ref().is_some_and(|url| url.contains("{backlog}"));
    let backlog =
        backlog.then(|| FullBacklog::new().unwrap_or_else(|error| panic!("no full backlog: {error}")));
    let scene = Scene { other: other.as_ref().map_or(0, Server::port), backlog, ..scene };
    let lines = match (&cell.h2, cell.over.speaks()) {
        (Some(lines), Protocol::Http2) => lines,
        _ => cell.server.as_deref().unwrap_or(&well),
    };
    let mut listen = Listen { receive_buffer: cell.receive_buffer, ..Listen::default() };
    listen.address = cell.address.unwrap_or(listen.address);
    if let (true, Some(backlog)) = (cell.beside_backlog, &scene.backlog) {
        listen.port = backlog.addr().port();
    }
    let server = Server::start(script(cell, lines, cell.over, &scene).listen(listen));
    let scene = Scene { host: server.addr().ip(), port: server.port(), ..scene };

    let lookups = Arc::new(Mutex::new(Vec::new()));
    let client = Client::builder().threads(1).dns(dns(cell, &lookups)).build().unwrap();
    let policy = policy(cell);
    if cell.before > 0 {
        let rows = (0..cell.before).map(|n| Request::get(server.url(&format!("/before/{n}"))));
        for outcome in client.run(rows, &policy) {
            if !outcome.is_ok() {
                wrong.push(format!("the row before it: {outcome:?}"));
            }
        }
        std::thread::sleep(Duration::from_millis(cell.pause_ms));
    }

    let neighbours = |place: &str, count: usize| -> Vec<Request> {
        (0..count).map(|n| neighbour(cell, &server.url(&format!("/{place}/{n}")))).collect()
    };
    let own = cell.rows.unwrap_or(1);
    let mut rows = neighbours("ahead", cell.ahead);
    rows.extend(std::iter::repeat_with(|| row(cell, &scene)).take(own));
    let following = neighbours("after", cell.after);
    let mut outcomes = match cell.after_pause_ms {
        None => {
            rows.extend(following);
            run(&client, rows, &policy, &mut wrong)
        }
        Some(pause) => {
            let mut outcomes = run(&client, rows, &policy, &mut wrong);
            std::thread::sleep(Duration::from_millis(pause));
            let later = run(&client, following, &policy, &mut wrong);
            outcomes.extend(later);
            outcomes
        }
    };
    std::thread::sleep(LINGER);
    drop(client);
    let log = ended(server, &mut wrong);
    let other = other.map(|other| ended(other, &mut wrong));

    if outcomes.len() == cell.ahead + own + cell.after {
        let after = outcomes.split_off(cell.ahead + own);
        let own = outcomes.split_off(cell.ahead);
        for outcome in &own {
            judge(cell, &scene, outcome, &mut wrong);
        }
        for outcome in outcomes.into_iter().chain(after) {
            if outcome.response().is_none_or(|response| response.body() != b"ok") || !outcome.is_ok() {
                wrong.push(format!("a row beside it: {outcome:?}"));
            }
        }
    }
    judge_servers(cell, &scene, &log, other.as_ref(), &mut wrong);
    judge_connections(cell, &log, &mut wrong);
    let lookups = lookups.lock().unwrap();
    expect("names looked up", &*lookups, &cell.lookups, &mut wrong);
    if !wrong.is_empty() {
        wrong.extend(log.connections.iter().take(SHOWN).map(seen));
    }
    wrong
}

/// The steps, in frames where the transport has them, and the TLS below.
fn script(cell: &Cell, lines: &[String], over: Transport, scene: &Scene) -> Script {
    let lines: Vec<String> = lines.iter().map(|line| scene.fill(line)).collect();
    let says_frames = lines.iter().any(|line| line.starts_with("h2 ") || line.starts_with("handshake "));
    let lines = match over.speaks() {
        Protocol::Http2 if says_frames => frames::written_out(&lines),
        Protocol::Http2 => frames::translated(&lines),
        _ => lines,
    };
    let mut script = Script::parse(&lines).unwrap_or_else(|error| panic!("{cell}: {error}"));
    if let Some(http) = &cell.http {
        let named = |name: &String| match name.as_str() {
            "h2" => Protocol::Http2,
            "http/1.1" => Protocol::Http11,
            other => panic!("{cell}: {other:?} is no protocol"),
        };
        script = script.http(http.iter().map(named).collect::<Vec<_>>());
    }
    if !over.is_secure() {
        return script;
    }
    let mut tls = cell.tls.clone().unwrap_or_default().for_testkit();
    // A name that is looked up is that of the certificate too, unless it is the certificate that is the matter.
    if cell.tls.is_none() {
        tls.names.extend(cell.dns.keys().map(|name| name.trim_end_matches('.').to_owned()));
    }
    script.tls(tls)
}

fn dns(cell: &Cell, lookups: &Arc<Mutex<Vec<String>>>) -> Dns {
    let (names, lookups) = (cell.dns.clone(), Arc::clone(lookups));
    Dns::Fixed(Arc::new(move |name: &str| {
        let mut lookups = lookups.lock().unwrap();
        let earlier = lookups.iter().filter(|own| *own == name).count();
        lookups.push(name.to_owned());
        drop(lookups);
        match names.get(name) {
            Some(Answer::Addresses(addresses)) => Ok(addresses.clone()),
            Some(Answer::Word(word)) => looked_up(name, word),
            Some(Answer::InTurn(words)) => looked_up(name, &words[earlier.min(words.len() - 1)]),
            None => looked_up(name, "not found"),
        }
    }))
}

fn looked_up(name: &str, word: &str) -> io::Result<Vec<IpAddr>> {
    match word {
        "panic" => panic!("the look-up of {name} panics, as the cell wants"),
        "try again" => Err(io::Error::other("temporary failure in name resolution")),
        "timed out" => Err(io::Error::new(io::ErrorKind::TimedOut, "no server answered")),
        "not found" => Err(io::Error::new(io::ErrorKind::NotFound, "no such name")),
        address => {
            Ok(vec![address.parse().unwrap_or_else(|_| panic!("{address:?} is no address and no word"))])
        }
    }
}

fn policy(cell: &Cell) -> Policy {
    let millis = |millis: Option<u64>| millis.map(Duration::from_millis);
    let mut timeouts = Timeouts::default();
    timeouts.total = Some(millis(cell.total_ms).unwrap_or(TOTAL));
    timeouts.acquire = millis(cell.acquire_ms);
    timeouts.connect = millis(cell.connect_ms).or(timeouts.connect);
    timeouts.tls = millis(cell.tls_ms);
    timeouts.write = millis(cell.write_ms);
    timeouts.first_byte = millis(cell.first_byte_ms);
    timeouts.read = millis(cell.read_ms);
    let mut sizes = Sizes::default();
    sizes.body = cell.max_body.unwrap_or(sizes.body);
    sizes.fields = cell.max_fields.unwrap_or(sizes.fields);
    sizes.head = cell.max_head.unwrap_or(sizes.head);
    let version = cell.version.map(|version| match version {
        Version::Auto => HttpVersion::Auto,
        Version::Http1 => HttpVersion::Http1,
        Version::Http2 => HttpVersion::Http2,
    });
    let known = if cell.over == Transport::H2c { HttpVersion::Http2 } else { HttpVersion::Auto };
    let mut policy = Policy::default()
        .concurrency(cell.concurrency.unwrap_or(1))
        .timeouts(timeouts)
        .sizes(sizes)
        .tls(profile(cell))
        .http_version(version.unwrap_or(known));
    policy.max_redirects = cell.max_redirects.unwrap_or(policy.max_redirects);
    policy.h2_streams = cell.h2_streams.unwrap_or(policy.h2_streams);
    policy.h2_connections = cell.h2_connections;
    policy.h2_ping = millis(cell.h2_ping_ms).or(policy.h2_ping);
    policy.deadline = millis(cell.deadline_ms);
    policy.retries = cell.retries.unwrap_or(policy.retries);
    policy.retried = match cell.retried {
        Retried::Idempotent => loamy::Retried::Idempotent,
        Retried::All => loamy::Retried::All,
    };
    policy.backoff = Backoff { base: millis(cell.backoff_ms).unwrap_or(BACKOFF), cap: policy.backoff.cap };
    policy.governor = match cell.governor {
        Governor::On => loamy::Governor::On,
        Governor::Off => loamy::Governor::Off,
    };
    policy.max_pause = millis(cell.max_pause_ms).unwrap_or(policy.max_pause);
    policy.downgrade = match cell.downgrade {
        Downgrade::Refuse => loamy::Downgrade::Refuse,
        Downgrade::Allow => loamy::Downgrade::Allow,
    };
    policy
}

fn profile(cell: &Cell) -> TlsProfile {
    static TRUSTING: OnceLock<TlsProfile> = OnceLock::new();
    match (cell.verify, cell.roots) {
        _ if cell.min_tls.is_some() => {
            let oldest = match cell.min_tls.as_deref() {
                Some("1.3") => TlsVersion::V1_3,
                _ => TlsVersion::V1_2,
            };
            Tls::default().only_roots_pem(testkit::ca_pem()).min_version(oldest).build().unwrap()
        }
        (Verify::Off, _) => Tls::default().verify(loamy::Verify::Off).build().unwrap(),
        (Verify::Full, Roots::System) => TlsProfile::default(),
        (Verify::Full, Roots::Testkit) => TRUSTING.get_or_init(trusting).clone(),
    }
}

/// Trusts the authority of the test servers.
pub(crate) fn trusting() -> TlsProfile {
    Tls::default().only_roots_pem(testkit::ca_pem()).build().unwrap()
}

fn row(cell: &Cell, scene: &Scene) -> Request {
    let url = scene.fill(cell.url.as_deref().unwrap_or("{scheme}://{server}/row"));
    let url = url.replace("{long}", &"x".repeat(cell.long.unwrap_or(0)));
    let params: Vec<_> = (0..cell.params.unwrap_or(0)).map(|n| format!("p{n:05}=v")).collect();
    let url = url.replace("{params}", &params.join("&"));
    let mut row = Request::new(cell.method.as_deref().unwrap_or(cell.column.method()), url).tag("row");
    for (name, value) in &cell.headers {
        row = row.header(name, scene.fill(value));
    }
    if let Some(size) = cell.long_header {
        row = row.header("X-Long", "y".repeat(size));
    }
    if cell.column == Column::Keyed {
        row = row.header("Idempotency-Key", "k-1");
    }
    if let Some(size) = cell.long_body {
        row = row.body(vec![b'z'; size]);
    } else if let Some(body) = &cell.body {
        row = row.body(body.clone());
    } else if cell.column != Column::Get && cell.no_body != Some(true) {
        row = row.body("x=1");
    }
    if cell.raw_url {
        row = row.overrides(Overrides::default().raw_url());
    }
    row
}

/// A row like those of the column, without what is peculiar to the cell.
fn neighbour(cell: &Cell, url: &str) -> Request {
    match cell.column {
        Column::Get => Request::get(url),
        Column::Post => Request::post(url, "n=1"),
        Column::Keyed => Request::post(url, "n=1").header("Idempotency-Key", "k-2"),
    }
}

fn run(client: &Client, rows: Vec<Request>, policy: &Policy, wrong: &mut Vec<String>) -> Vec<Outcome> {
    let count = rows.len();
    let rows: Vec<_> = rows.into_iter().enumerate().map(|(n, row)| row.tag(format!("row {n}"))).collect();
    let rounds = count.div_ceil(policy.concurrency);
    // Each sending that the policy allows has all its time again.
    let sendings = (rounds as u32).saturating_mul(policy.retries + 1);
    let within = policy.timeouts.total.unwrap_or(TOTAL).saturating_mul(sendings);
    let within = within.min(policy.deadline.unwrap_or(within)) + GRACE;
    let began = Instant::now();
    let outcomes = client.run(rows, policy);
    if began.elapsed() > within {
        wrong.push(format!("the call took {:?}, more than {within:?}", began.elapsed()));
    }
    let order: Vec<_> =
        outcomes.iter().map(|outcome| (outcome.index, outcome.tag.as_deref().map(str::to_owned))).collect();
    let given: Vec<_> = (0..count).map(|n| (n, Some(format!("row {n}")))).collect();
    expect("index and tag of the outcomes", &order, &given, wrong);
    for outcome in &outcomes {
        expect_each_attempt(outcome, wrong);
    }
    outcomes
}

/// Waits until every connection has ended: a sending that comes late counts too.
fn ended(server: Server, wrong: &mut Vec<String>) -> Log {
    let until = Instant::now() + ENDING;
    let open = || {
        let counts = server.counts();
        counts.ended < counts.connections
    };
    while open() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(2));
    }
    if open() {
        wrong.push(format!("connections are open although the client is gone: {:?}", server.counts()));
    }
    let log = server.into_log();
    wrong.extend(log.failures.iter().map(|failure| format!("the server: {failure}")));
    log
}
