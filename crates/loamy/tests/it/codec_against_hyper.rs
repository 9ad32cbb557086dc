//! Thousands of responses, well-formed and mutated, read by loamy and by hyper.

use std::collections::BTreeMap;

#[path = "../../fuzz/compare.rs"]
mod compare;

use compare::{Verdict, compare};

/// Cases in one run; each prints its seed when it fails.
const CASES: u64 = 6_000;

/// A plain generator (splitmix64): the same cases on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// True once in so many times.
    fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    fn one_of<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }
}

const STATUS_LINES: &[&str] = &[
    "HTTP/1.1 200 OK",
    "HTTP/1.1 200 OK",
    "HTTP/1.1 200 OK",
    "HTTP/1.1 200 OK",
    "HTTP/1.0 200 OK",
    "HTTP/1.1 204 No Content",
    "HTTP/1.1 304 Not Modified",
    "HTTP/1.1 404 Not Found",
    "HTTP/1.1 205 Reset Content",
    "HTTP/1.1 999",
    "HTTP/1.1 503 ",
    "HTTP/1.1 099 Low",
    "HTTP/1.1 1000 High",
    "HTTP/2.0 200 OK",
    "ICY 200 OK",
    "HTTP/1.1 101 Switching Protocols",
];
const FIELDS: &[&str] = &[
    "Server: nginx",
    "Date: Sun, 06 Nov 1994 08:49:37 GMT",
    "Content-Type: application/json",
    "Set-Cookie: a=1; Path=/",
    "set-cookie: b=2",
    "X-Empty:",
    "X-Blank: ",
    "X-Tab:\tv\t",
    "X-Folded: a\r\n b",
    "X-Folded: \r\n\tb \r\n c",
    "X-Bytes: \u{fc}\u{2713}",
    "Connection: keep-alive",
    "Connection: close",
    "Content-Encoding: gzip",
    "ETag: \"a,b\"",
];
const BAD_FIELDS: &[&str] = &[
    "X : v",
    ": v",
    "no colon",
    "X: a\0b",
    "X: a\rb",
    " leading: v",
    "X\u{fc}: v",
    "Transfer-Encoding: gzip",
    "Content-Length: 1, 2",
];
const LENGTHS: &[&str] = &["+5", "-1", "5, 5", "05, 5", "0x5", "", "5,", "18446744073709551616", "99", "5 5"];
const CODINGS: &[&str] = &[
    "chunked, chunked",
    "gzip, chunked",
    "chunked, gzip",
    "identity",
    "Chunked",
    "chunked,",
    "xchunked",
    "",
];
const SIZES: &[&str] = &[
    "xyz",
    "+3",
    "0x3",
    "3 ",
    " 3",
    "3;a",
    "3;a=\"b\"",
    "0003",
    "3 ;a",
    "10000000000000000",
    "",
    "3\n",
    "00000000000000003",
];
const TRAILERS: &[&str] = &["X-Checksum: 1\r\n", "bad\r\n", "A: b\n", " folded\r\n"];
const SPLICES: &[&str] = &[
    "\r",
    "\n",
    "\r\n",
    "\0",
    " ",
    "\t",
    ":",
    ",",
    ";",
    "0",
    "\r\n\r\n",
    "\u{ff}",
    "HTTP/1.1 ",
    "chunked",
    "Content-Length: 1\r\n",
];

fn response(random: &mut Random) -> Vec<u8> {
    let mut out = Vec::new();
    while random.once_in(8) {
        out.extend_from_slice(
            random
                .one_of(&[
                    "HTTP/1.1 100 Continue\r\n\r\n",
                    "HTTP/1.1 103 Hints\r\nLink: </a>\r\n\r\n",
                    "\r\n",
                ])
                .as_bytes(),
        );
    }
    let eol = if random.once_in(12) { "\n" } else { "\r\n" };
    let mut line = |text: &str| {
        out.extend_from_slice(text.as_bytes());
        out.extend_from_slice(eol.as_bytes());
    };
    let status = if random.once_in(3) { random.one_of(STATUS_LINES) } else { STATUS_LINES[0] };
    line(status);
    for _ in 0..random.below(8) {
        let from = if random.once_in(60) { BAD_FIELDS } else { FIELDS };
        line(random.one_of(from));
    }
    let body: Vec<u8> = (0..random.below(300)).map(|_| random.next() as u8).collect();
    let chunked = match random.below(10) {
        0..=3 => {
            line(&format!("Content-Length: {}", body.len()));
            false
        }
        4..=7 => {
            line("Transfer-Encoding: chunked");
            true
        }
        8 if random.once_in(2) => {
            line(&format!("Content-Length: {}", random.one_of(LENGTHS)));
            false
        }
        8 => {
            line(&format!("Transfer-Encoding: {}", random.one_of(CODINGS)));
            true
        }
        _ => false,
    };
    if random.once_in(25) {
        line(&format!("Content-Length: {}", body.len()));
    }
    line("");
    if chunked {
        chunk(random, &body, &mut out);
    } else {
        out.extend_from_slice(&body);
    }
    if random.once_in(10) {
        out.extend_from_slice(random.one_of(&["extra", "\r\n", "HTTP/1.1 200 OK\r\n\r\n"]).as_bytes());
    }
    out
}

fn chunk(random: &mut Random, body: &[u8], out: &mut Vec<u8>) {
    let mut rest = body;
    while !rest.is_empty() {
        let (data, after) = rest.split_at(1 + random.below(rest.len()));
        let size =
            if random.once_in(40) { random.one_of(SIZES).to_owned() } else { format!("{:x}", data.len()) };
        out.extend_from_slice(size.as_bytes());
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(data);
        out.extend_from_slice(b"\r\n");
        rest = after;
    }
    out.extend_from_slice(random.one_of(&["0\r\n", "0\r\n", "000;last\r\n"]).as_bytes());
    if random.once_in(10) {
        out.extend_from_slice(random.one_of(TRAILERS).as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}

fn mutate(random: &mut Random, bytes: &mut Vec<u8>) {
    for _ in 0..1 + random.below(3) {
        let at = random.below(bytes.len().max(1)).min(bytes.len());
        match random.below(5) {
            0 => bytes.truncate(at),
            1 if at < bytes.len() => bytes[at] = random.next() as u8,
            2 if at < bytes.len() => {
                bytes.remove(at);
            }
            3 => {
                let end = bytes.len().min(at + 1 + random.below(40));
                let again = bytes[at..end].to_vec();
                bytes.splice(at..at, again);
            }
            _ => {
                bytes.splice(at..at, random.one_of(SPLICES).bytes());
            }
        }
    }
}

#[test]
fn loamy_and_hyper_read_the_same_or_differ_for_a_reason_that_is_written_down() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime without drivers needs nothing");
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for seed in 0..CASES {
        let mut random = Random(seed);
        let mut input = response(&mut random);
        if random.once_in(3) {
            mutate(&mut random, &mut input);
        }
        let head_only = random.once_in(12);
        let most = 1 + random.below(input.len().max(1));
        let comparison = compare(head_only, &input, |rest| 1 + random.below(most.min(rest)));
        let announce = Announce(seed);
        #[expect(clippy::disallowed_methods, reason = "the test's own thread has no other runtime")]
        let verdict = runtime.block_on(comparison);
        drop(announce);
        *counts.entry(format!("{verdict:?}")).or_default() += 1;
    }
    // A comparison that mostly compares refusals, or mostly excuses, would prove little.
    let of = |verdict: Verdict| counts.get(&format!("{verdict:?}")).copied().unwrap_or_default();
    assert!(of(Verdict::Same) > CASES / 2, "{counts:#?}");
    assert!(of(Verdict::BothRefused) > CASES / 20, "{counts:#?}");
    assert!(of(Verdict::Same) + of(Verdict::BothRefused) > CASES * 9 / 10, "{counts:#?}");
}

/// Says which case failed, when the comparison panics.
struct Announce(u64);

impl Drop for Announce {
    fn drop(&mut self) {
        if std::thread::panicking() {
            #[expect(clippy::print_stderr, reason = "the seed is what repeats the failure")]
            {
                eprintln!("the case of seed {} failed", self.0);
            }
        }
    }
}
