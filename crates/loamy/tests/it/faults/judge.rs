//! Compares what came of a row, and what its servers saw of it, with what its cell says.

use std::time::Duration;

use loamy::Outcome;
use testkit::{Http2Log, Log, Protocol, RequestLog, Step, TlsLog};

use super::cell::{Cell, Column, InDoubt};
use super::scene::Scene;
use crate::expectations::LATE;

/// What became of a row.
pub(super) fn judge(cell: &Cell, scene: &Scene, outcome: &Outcome, wrong: &mut Vec<String>) {
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
    if let Some(earlier) = &cell.earlier {
        let is: Vec<_> = outcome.earlier.iter().map(ToString::to_string).collect();
        expect("what became of earlier attempts", &is, earlier, wrong);
    }
    if let (Ok(response), None) = (&outcome.result, &cell.spoken) {
        let is_http2 = response.version() == http::Version::HTTP_2;
        expect("HTTP/2 of the response", &is_http2, &(cell.over.speaks() == Protocol::Http2), wrong);
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
    let should: Vec<_> = cell.fields.iter().map(|(name, value)| (spelt(cell, name), value.clone())).collect();
    expect_sequence("fields of the response", &fields, &should, wrong);
    if let Some(url) = &cell.final_url {
        let is = outcome.response().map(|response| response.url().to_owned());
        expect("url of the response", &is, &Some(scene.fill(url)), wrong);
    }
}

/// Names go in lower case over HTTP/2 (RFC 9113 §8.2).
fn spelt(cell: &Cell, name: &str) -> String {
    match cell.over.speaks() {
        Protocol::Http2 => name.to_ascii_lowercase(),
        _ => name.to_owned(),
    }
}

/// What the servers saw of the row.
pub(super) fn judge_servers(
    cell: &Cell,
    scene: &Scene,
    log: &Log,
    other: Option<&Log>,
    wrong: &mut Vec<String>,
) {
    let sendings = sendings(log);
    if let Some(seen) = cell.seen {
        expect("requests of the row at the server", &sendings.len(), &seen, wrong);
    }
    if let Some(waits) = &cell.waits_ms {
        judge_waits(&sendings, waits, wrong);
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
    let spoken: Vec<_> = sendings.iter().map(|request| request.http.alpn().to_owned()).collect();
    let should = cell.spoken.clone();
    let should = should.unwrap_or_else(|| vec![cell.over.speaks().alpn().to_owned(); spoken.len()]);
    expect("what the requests went over", &spoken, &should, wrong);

    let nothing = Log::default();
    let theirs = self::sendings(other.unwrap_or(&nothing));
    expect("requests at the other server", &theirs.len(), &cell.other_seen.unwrap_or(0), wrong);
    if let Some(wire) = &cell.other_wire {
        expect("on the wire to the other server", &on_the_wire(&theirs), wire, wrong);
    }
    judge_head("the head there", theirs.last(), (&cell.other_head_has, &cell.other_head_lacks), scene, wrong);
}

fn judge_waits(sendings: &[&RequestLog], waits: &[(u64, u64)], wrong: &mut Vec<String>) {
    let is: Vec<_> = sendings.windows(2).map(|two| two[1].arrived - two[0].arrived).collect();
    let fits = |(is, (least, most)): (&Duration, &(u64, u64))| {
        *is >= Duration::from_millis(*least) && *is <= Duration::from_millis(*most) + LATE
    };
    if is.len() != waits.len() || !is.iter().zip(waits).all(fits) {
        wrong.push(format!("from one sending to the next the server waited {is:?}, not {waits:?} ms"));
    }
}

fn judge_head(
    what: &str,
    request: Option<&&RequestLog>,
    (has, lacks): (&[String], &[String]),
    scene: &Scene,
    wrong: &mut Vec<String>,
) {
    let lines = request.map(|request| lines_of(request)).unwrap_or_default();
    let is_http2 = request.is_some_and(|request| request.http == Protocol::Http2);
    let spelt = |line: &String| match (is_http2, scene.fill(line).split_once(':')) {
        (true, Some((name, value))) => format!("{}:{value}", name.to_ascii_lowercase()),
        _ => scene.fill(line),
    };
    let has: Vec<String> = has.iter().map(spelt).collect();
    expect_sequence(&format!("lines of {what}"), &lines, &has, wrong);
    for name in lacks {
        if request.is_none_or(|request| request.header_values(name).next().is_some()) {
            wrong.push(format!("{what} has {name}, or there is none: {lines:?}"));
        }
    }
}

/// The lines of a head; over HTTP/2 its fields as lines, the authority among them as that of Host.
fn lines_of(request: &RequestLog) -> Vec<String> {
    if request.http != Protocol::Http2 {
        let head = String::from_utf8_lossy(&request.head);
        return head.split("\r\n").map(str::to_owned).collect();
    }
    let authority = request.authority.iter().map(|authority| format!("host: {authority}"));
    let fields = request.headers.iter();
    let fields = fields.map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value)));
    authority.chain(fields).collect()
}

/// What the server saw of the connections.
pub(super) fn judge_connections(cell: &Cell, log: &Log, wrong: &mut Vec<String>) {
    let counts = log.counts;
    for (what, is, should) in [
        ("streams at once", counts.max_streams, cell.max_streams),
        ("handshakes", counts.handshakes, cell.handshakes),
        ("sessions resumed", counts.resumed, cell.resumed),
        ("failed handshakes", counts.failed_handshakes, cell.failed_handshakes),
    ] {
        if let Some(should) = should {
            expect(what, &is, &should, wrong);
        }
    }
    let tls: Vec<&TlsLog> = log.connections.iter().filter_map(|connection| connection.tls.as_ref()).collect();
    if let Some(should) = &cell.server_names {
        let names = tls.iter().map(|tls| tls.server_name.clone().unwrap_or_else(|| "none".to_owned()));
        expect("server names", &names.collect::<Vec<_>>(), should, wrong);
    }
    if let Some(should) = &cell.offered {
        expect("protocols offered", &tls.last().map(|tls| &tls.offered), &Some(should), wrong);
    }
    let http2: Vec<&Http2Log> =
        log.connections.iter().filter_map(|connection| connection.http2.as_ref()).collect();
    let said: Vec<_> =
        http2.iter().flat_map(|log| &log.settings).map(|(name, value)| format!("{name}={value}")).collect();
    for setting in &cell.settings {
        if !said.contains(setting) {
            wrong.push(format!("settings of the client: {said:?} without {setting}"));
        }
    }
    let resets: Vec<_> = http2.iter().flat_map(|log| &log.reset).map(|(_, code)| code.clone()).collect();
    expect_sequence("resets of the client", &resets, &cell.resets, wrong);
    let goaways: Vec<_> = http2.iter().flat_map(|log| &log.goaway).map(|(_, code)| code.clone()).collect();
    expect_sequence("farewells of the client", &goaways, &cell.goaways, wrong);
    for (what, is, at_least) in [
        ("PINGs of the client", http2.iter().map(|log| log.pings).sum::<u64>(), cell.pings),
        ("its acknowledgements", http2.iter().map(|log| log.settings_acks).sum::<u64>(), cell.settings_acks),
    ] {
        if at_least.is_some_and(|least| is < least) {
            wrong.push(format!("{what}: {is}, fewer than {at_least:?}"));
        }
    }
}

/// The requests of the row itself.
fn sendings(log: &Log) -> Vec<&RequestLog> {
    let is_neighbour =
        |target: &str| ["/before/", "/ahead/", "/after/"].iter().any(|own| target.starts_with(own));
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

/// Every attempt but the last is told of.
pub(super) fn expect_each_attempt(outcome: &Outcome, wrong: &mut Vec<String>) {
    let told = outcome.earlier.len() as u32;
    if told + 1 != outcome.attempts.max(1) {
        wrong.push(format!("{} attempts, and {told} before the last: {outcome:?}", outcome.attempts));
    }
}

pub(super) fn expect<T: PartialEq<U> + std::fmt::Debug, U: std::fmt::Debug>(
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

/// How the server saw a connection, for whoever looks at a failure.
pub(super) fn seen(connection: &testkit::ConnectionLog) -> String {
    let ended = connection.ended.as_ref().map(|(_, ending)| ending.to_string()).unwrap_or_default();
    let (number, requests, received) = (connection.number, connection.requests, connection.received);
    let tls = connection.tls.as_ref().map(|tls| format!(", {tls:?}")).unwrap_or_default();
    let http2 = connection.http2.as_ref().map(|http2| format!(", {http2:?}")).unwrap_or_default();
    format!("(connection {number}: {ended}, {requests} requests, {received} bytes{tls}{http2})")
}
