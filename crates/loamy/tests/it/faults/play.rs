//! Plays one cell: starts its servers, sends its rows, and says what was otherwise than the list has it.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use loamy::{Client, Dns, Outcome, Overrides, Policy, Request, Sizes, Timeouts};
use testkit::{FullBacklog, Listen, Log, RequestLog, Script, Server, Step, refused_port};

use super::cell::{Answer, Cell, Column, InDoubt};
use super::checks;

/// How long a call may go on past its deadline.
const GRACE: Duration = Duration::from_secs(1);

/// How long a row has unless its cell says otherwise.
const TOTAL: Duration = Duration::from_secs(5);

/// How long the client is kept after the call, so that whatever it would still send is seen.
const LINGER: Duration = Duration::from_millis(40);

/// How long the connections may take to end once the client is gone.
const ENDING: Duration = Duration::from_secs(5);

const WELL: [&str; 3] = ["read", r"send HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "again"];

/// What stands for itself in the list: addresses that are known only now.
struct Scene {
    host: IpAddr,
    port: u16,
    other: u16,
    backlog: Option<FullBacklog>,
}

impl Scene {
    fn fill(&self, text: &str) -> String {
        let server = std::net::SocketAddr::new(self.host, self.port).to_string();
        let mut filled = text
            .replace("{server}", &server)
            .replace("{port}", &self.port.to_string())
            .replace("{other}", &self.other.to_string());
        if filled.contains("{refused}") {
            filled = filled.replace("{refused}", &refused_port().to_string());
        }
        match &self.backlog {
            Some(backlog) => filled.replace("{backlog}", &backlog.addr().port().to_string()),
            None => filled,
        }
    }
}

/// Everything that is otherwise than it should be.
pub(crate) fn play(cell: &Cell) -> Vec<String> {
    match &cell.check {
        Some(name) => checks::by_name(name)(cell),
        None => play_rows(cell),
    }
}

fn play_rows(cell: &Cell) -> Vec<String> {
    let mut wrong = Vec::new();
    let scene = Scene { host: IpAddr::V4(Ipv4Addr::LOCALHOST), port: 0, other: 0, backlog: None };
    let other = cell.other.as_ref().map(|lines| start(cell, lines, &scene));
    let scene = Scene { other: other.as_ref().map_or(0, Server::port), ..scene };
    let well = WELL.map(str::to_owned);
    let server = start(cell, cell.server.as_deref().unwrap_or(&well), &scene);
    let backlog = cell.url.as_ref().is_some_and(|url| url.contains("{backlog}"));
    let backlog =
        backlog.then(|| FullBacklog::new().unwrap_or_else(|error| panic!("no full backlog: {error}")));
    let scene = Scene { host: server.addr().ip(), port: server.port(), backlog, ..scene };

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

    let mut rows = vec![row(cell, &scene)];
    let following = (0..cell.after).map(|n| neighbour(cell, &server.url(&format!("/after/{n}"))));
    let mut outcomes = match cell.after_pause_ms {
        None => {
            rows.extend(following);
            run(&client, rows, &policy, &mut wrong)
        }
        Some(pause) => {
            let mut outcomes = run(&client, rows, &policy, &mut wrong);
            std::thread::sleep(Duration::from_millis(pause));
            let later = run(&client, following.collect(), &policy, &mut wrong);
            outcomes.extend(later);
            outcomes
        }
    };
    std::thread::sleep(LINGER);
    drop(client);
    let log = ended(server, &mut wrong);
    let other = other.map(|other| ended(other, &mut wrong));

    if outcomes.len() == 1 + cell.after {
        let after = outcomes.split_off(1);
        judge(cell, &scene, &outcomes[0], &mut wrong);
        for outcome in after {
            if outcome.response().is_none_or(|response| response.body() != b"ok") || !outcome.is_ok() {
                wrong.push(format!("a row that follows: {outcome:?}"));
            }
        }
    }
    judge_servers(cell, &scene, &log, other.as_ref(), &mut wrong);
    let lookups = lookups.lock().unwrap();
    expect("names looked up", &*lookups, &cell.lookups, &mut wrong);
    wrong
}

fn start(cell: &Cell, lines: &[String], scene: &Scene) -> Server {
    let lines: Vec<String> = lines.iter().map(|line| scene.fill(line)).collect();
    let script = Script::parse(&lines).unwrap_or_else(|error| panic!("{cell}: {error}"));
    let mut listen = Listen { receive_buffer: cell.receive_buffer, ..Listen::default() };
    if let Some(address) = cell.address {
        listen.address = address;
    }
    Server::start(script.listen(listen))
}

fn dns(cell: &Cell, lookups: &Arc<Mutex<Vec<String>>>) -> Dns {
    let (names, lookups) = (cell.dns.clone(), Arc::clone(lookups));
    Dns::Fixed(Arc::new(move |name: &str| {
        lookups.lock().unwrap().push(name.to_owned());
        match names.get(name) {
            Some(Answer::Addresses(addresses)) => Ok(addresses.clone()),
            Some(Answer::Word(word)) if word == "panic" => {
                panic!("the look-up of {name} panics, as the cell wants")
            }
            _ => Err(io::Error::new(io::ErrorKind::NotFound, "no such name")),
        }
    }))
}

fn policy(cell: &Cell) -> Policy {
    let millis = |millis: Option<u64>| millis.map(Duration::from_millis);
    let mut timeouts = Timeouts::default();
    timeouts.total = Some(millis(cell.total_ms).unwrap_or(TOTAL));
    timeouts.connect = millis(cell.connect_ms).or(timeouts.connect);
    timeouts.write = millis(cell.write_ms);
    let mut sizes = Sizes::default();
    sizes.body = cell.max_body.unwrap_or(sizes.body);
    sizes.fields = cell.max_fields.unwrap_or(sizes.fields);
    sizes.head = cell.max_head.unwrap_or(sizes.head);
    let mut policy =
        Policy::default().concurrency(cell.concurrency.unwrap_or(1)).timeouts(timeouts).sizes(sizes);
    policy.max_redirects = cell.max_redirects.unwrap_or(policy.max_redirects);
    policy
}

fn row(cell: &Cell, scene: &Scene) -> Request {
    let url = scene.fill(cell.url.as_deref().unwrap_or("http://{server}/row"));
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
    let within = policy.timeouts.total.unwrap_or(TOTAL) * count as u32 + GRACE;
    let began = Instant::now();
    let outcomes = client.run(rows, policy);
    if began.elapsed() > within {
        wrong.push(format!("the call took {:?}, more than {within:?}", began.elapsed()));
    }
    let order: Vec<_> =
        outcomes.iter().map(|outcome| (outcome.index, outcome.tag.as_deref().map(str::to_owned))).collect();
    let given: Vec<_> = (0..count).map(|n| (n, Some(format!("row {n}")))).collect();
    expect("index and tag of the outcomes", &order, &given, wrong);
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

fn judge(cell: &Cell, scene: &Scene, outcome: &Outcome, wrong: &mut Vec<String>) {
    let is = outcome.result.as_ref().map_or_else(|error| error.kind().name(), |_| "ok");
    let should = cell.expect.as_deref().unwrap_or_default();
    if !should.split('|').any(|one| one == is) {
        wrong.push(format!("it is {is}, not {should}: {outcome:?}"));
    }
    if let Err(error) = &outcome.result {
        let unprotected = cell.column == Column::Post;
        let in_doubt = match cell.in_doubt {
            Some(InDoubt::Post) => unprotected,
            Some(InDoubt::PostIfSent) => unprotected && error.bytes_sent() > 0,
            Some(InDoubt::Never) | None => false,
        };
        expect("in_doubt", &error.in_doubt(), &in_doubt, wrong);
        expect("attempts of the error", &error.attempts(), &outcome.attempts, wrong);
        if let Some(retryable) = cell.retryable {
            expect("retryable", &error.retryable(), &retryable, wrong);
        }
        if let Some(message) = &cell.message {
            expect_in("message", error.message(), &scene.fill(message), wrong);
        }
        if let Some(hint) = &cell.hint {
            expect_in("hint", error.hint().unwrap_or_default(), &scene.fill(hint), wrong);
        }
    }
    if let Some(attempts) = cell.attempts {
        expect("attempts", &outcome.attempts, &attempts, wrong);
    }
    if !should.contains('|') {
        expect("status", &outcome.response().map(loamy::Response::status), &cell.status, wrong);
    }
    if let Some(most) = cell.at_most_ms {
        let elapsed = outcome.timing.elapsed;
        if elapsed > Duration::from_millis(most) {
            wrong.push(format!("the row took {elapsed:?}, more than {most} ms"));
        }
    }
    let printed = format!("{outcome:?}{}", outcome.result.as_ref().err().map(chain).unwrap_or_default());
    for secret in &cell.masked {
        if printed.contains(secret.as_str()) {
            wrong.push(format!("{secret:?} is shown: {printed}"));
        }
    }
    judge_response(cell, scene, outcome, wrong);
}

fn judge_response(cell: &Cell, scene: &Scene, outcome: &Outcome, wrong: &mut Vec<String>) {
    let body = outcome.response().map(loamy::Response::body).unwrap_or_default();
    if let Some(text) = &cell.text {
        expect("body", &body.escape_ascii().to_string(), &text.as_bytes().escape_ascii().to_string(), wrong);
    }
    if let Some(size) = cell.text_size {
        expect("bytes of the body", &body.len(), &size, wrong);
    }
    if cell.raw {
        let sent = cell.server.iter().flatten().find_map(|line| match line.parse() {
            Ok(Step::Send(bytes)) => Some(bytes),
            _ => None,
        });
        let sent = sent.unwrap_or_else(|| panic!("{cell} has no sending step"));
        let end = sent.windows(4).position(|four| four == b"\r\n\r\n").map_or(sent.len(), |at| at + 4);
        if body != &sent[end..] {
            wrong.push(format!(
                "the body is {} bytes and not the {} that were sent",
                body.len(),
                sent.len() - end
            ));
        }
    }
    let fields: Vec<_> =
        outcome.response().map(|response| response.headers().iter().collect()).unwrap_or_default();
    let fields: Vec<_> = fields
        .into_iter()
        .map(|(name, value): (&str, &[u8])| (name.to_owned(), value.escape_ascii().to_string()))
        .collect();
    expect_sequence("fields of the response", &fields, &cell.fields, wrong);
    if let Some(url) = &cell.final_url {
        let is = outcome.response().map(|response| response.url().to_owned());
        expect("url of the response", &is, &Some(scene.fill(url)), wrong);
    }
}

fn judge_servers(cell: &Cell, scene: &Scene, log: &Log, other: Option<&Log>, wrong: &mut Vec<String>) {
    let sendings = sendings(log);
    if let Some(seen) = cell.seen {
        expect("requests of the row at the server", &sendings.len(), &seen, wrong);
    }
    if let Some(connections) = cell.connections {
        expect("connections", &log.connections.len(), &connections, wrong);
    }
    if let Some(wire) = &cell.wire {
        expect("on the wire", &on_the_wire(&sendings), wire, wrong);
    }
    if let Some(bodies) = &cell.bodies {
        let is: Vec<_> =
            sendings.iter().map(|request| String::from_utf8_lossy(&request.body).into_owned()).collect();
        expect("bodies at the server", &is, bodies, wrong);
    }
    if let Some(size) = cell.target_size {
        expect(
            "bytes of the target",
            &sendings.last().map_or(0, |request| request.target.len()),
            &size,
            wrong,
        );
    }
    if let Some(size) = cell.header_size {
        let is = sendings.last().and_then(|request| request.header("X-Long")).map_or(0, str::len);
        expect("bytes of the long header", &is, &size, wrong);
    }
    if cell.received_at_most.is_some_and(|most| log.counts.bytes_received > most) {
        wrong.push(format!("the server received {} bytes, more than it may", log.counts.bytes_received));
    }
    judge_head("the head", sendings.last(), (&cell.head_has, &cell.head_lacks), scene, wrong);

    let nothing = Log::default();
    let theirs = self::sendings(other.unwrap_or(&nothing));
    expect("requests at the other server", &theirs.len(), &cell.other_seen.unwrap_or(0), wrong);
    if let Some(wire) = &cell.other_wire {
        expect("on the wire to the other server", &on_the_wire(&theirs), wire, wrong);
    }
    judge_head("the head there", theirs.last(), (&cell.other_head_has, &cell.other_head_lacks), scene, wrong);
}

fn judge_head(
    what: &str,
    request: Option<&&RequestLog>,
    (has, lacks): (&[String], &[String]),
    scene: &Scene,
    wrong: &mut Vec<String>,
) {
    let head = request.map(|request| String::from_utf8_lossy(&request.head).into_owned()).unwrap_or_default();
    let lines: Vec<String> = head.split("\r\n").map(str::to_owned).collect();
    let has: Vec<String> = has.iter().map(|line| scene.fill(line)).collect();
    expect_sequence(&format!("lines of {what}"), &lines, &has, wrong);
    for name in lacks {
        if request.is_none_or(|request| request.header_values(name).next().is_some()) {
            wrong.push(format!("{what} has {name}, or there is none: {head:?}"));
        }
    }
}

/// The requests of the row itself.
fn sendings(log: &Log) -> Vec<&RequestLog> {
    let is_neighbour = |target: &str| target.starts_with("/before/") || target.starts_with("/after/");
    log.requests.iter().filter(|request| !is_neighbour(&request.target)).collect()
}

fn on_the_wire(requests: &[&RequestLog]) -> Vec<String> {
    requests.iter().map(|request| format!("{} {}", request.method, request.target)).collect()
}

/// The error and what lies below it, as they are printed.
fn chain(error: &loamy::Error) -> String {
    let mut text = format!(" {error} {}", error.hint().unwrap_or_default());
    let mut below = std::error::Error::source(error);
    while let Some(error) = below {
        text += &format!(": {error} {error:?}");
        below = error.source();
    }
    text
}

fn expect<T: PartialEq<U> + std::fmt::Debug, U: std::fmt::Debug>(
    what: &str,
    is: &T,
    should: &U,
    wrong: &mut Vec<String>,
) {
    if is != should {
        wrong.push(format!("{what}: {is:?}, not {should:?}"));
    }
}

fn expect_in(what: &str, is: &str, should: &str, wrong: &mut Vec<String>) {
    if !is.contains(should) {
        wrong.push(format!("{what}: {is:?} does not say {should:?}"));
    }
}

/// Whether `should` stands in `is`, in this order, with anything between.
fn expect_sequence<T: PartialEq + std::fmt::Debug>(
    what: &str,
    is: &[T],
    should: &[T],
    wrong: &mut Vec<String>,
) {
    let mut rest = is.iter();
    if !should.iter().all(|one| rest.any(|own| own == one)) {
        wrong.push(format!("{what}: {is:?} without {should:?}, or in another order"));
    }
}
