//! The text form: every step parses, every mistake has a message that helps.

use std::io::Read;
use std::time::Duration;

use serde_json::json;
use testkit::{Coding, Script, Server, Step};

use crate::client::{Response, connect};

fn step(line: &str) -> String {
    match line.parse::<Step>() {
        Ok(step) => format!("{step:?}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn every_step_has_its_text() {
    let table = [
        ("read", "ReadRequest"),
        ("read-head", "ReadHead"),
        ("read-body", "ReadBody"),
        ("read-bytes 12", "ReadBytes(12)"),
        ("send a b", "Send(\"a b\")"),
        ("send  two spaces ", "Send(\" two spaces \")"),
        ("send", "Send(\"\")"),
        ("send-hex 48 69", "Send(\"Hi\")"),
        ("send-zeros 3", "Send(\"\\0\\0\\0\")"),
        ("drip 10ms ab", "Drip(10ms, \"ab\")"),
        ("repeat 1000 x-a: b\\r\\n", "Repeat(Some(1000), 0ns, \"x-a: b\\r\\n\")"),
        ("repeat forever a", "Repeat(None, 0ns, \"a\")"),
        ("repeat-every 1s forever a", "Repeat(None, 1s, \"a\")"),
        ("serve", "Serve"),
        ("wait 1.5s", "Wait(1.5s)"),
        ("wait 250us", "Wait(250µs)"),
        ("wait-requests 3", "WaitForRequests(3)"),
        ("half-close", "HalfClose"),
        ("drain", "Drain"),
        ("close", "Close"),
        ("close-without-notify", "CloseWithoutNotify"),
        ("handshake plain-http", "Handshake(PlainHttp)"),
        ("h2 answer stream=all \"x\"", "Http2(answer stream=all \"x\")"),
        ("reset", "Reset"),
        ("hold", "Hold"),
        ("again", "Again"),
        ("expect-silence 200ms", "ExpectSilence(200ms)"),
        ("expect-close 1s", "ExpectClose(1s)"),
    ];
    for (line, expected) in table {
        assert_eq!(step(line), expected, "{line}");
    }
}

#[test]
fn escapes_give_single_bytes() {
    let Ok(Step::Send(bytes)) = "send \\r\\n\\t\\0\\\\\\x00\\xfFé".parse() else {
        panic!("no step");
    };
    assert_eq!(*bytes, *b"\r\n\t\0\\\0\xff\xc3\xa9");
}

#[test]
fn mistakes_are_named_with_the_right_form() {
    let table = [
        ("sned x", "\"sned\" is no step; there are read, read-head"),
        ("send a\\q", "\\q is no escape; the form is `send TEXT`"),
        ("send a\\", "a lone backslash at the end"),
        ("send \\xg0", "\"g0\" is no byte"),
        ("send \\x1", "\\x needs two hexadecimal digits"),
        ("send-hex 123", "\"3\" is no byte"),
        ("read now", "\"now\" is too much"),
        ("wait 10", "\"\" is no unit of time"),
        ("wait soon", "\"soon\" is no unit of time"),
        ("wait ms", "\"ms\" is no time"),
        ("drip ab", "is no unit of time"),
        ("repeat often x", "\"often\" is no number; the form is `repeat N|forever TEXT`"),
        ("send-gzip-bomb 10XB", "\"XB\" is no unit of size"),
        ("send-gzip-bomb 99999999999999GB", "is too large"),
        ("send-gzip-bomb 1 colour=red", "\"colour\" is no option"),
        ("send-coded gzip x", "no ` : ` before the text"),
        ("send-coded lzma : x", "\"lzma\" has an unknown coding"),
    ];
    for (line, expected) in table {
        let said = step(line);
        assert!(said.contains(expected), "{line}: {said}");
    }
    let error = Script::parse(["read", "send x", "clsoe"]).expect_err("refused");
    assert!(error.to_string().starts_with("step 3: \"clsoe\" is no step"));
}

#[test]
fn a_json_script_says_where_to_listen() {
    let script = json!({"steps": ["read", "send x"], "address": "127.0.0.9", "port": 0,
                        "backlog": 16, "receive_buffer": 8192, "send_buffer": 8192});
    let server = Server::start(Script::from_json(&script).expect("a script"));
    assert_eq!(server.addr().ip().to_string(), "127.0.0.9");
    assert_eq!(connect(&server).get("/").text_to_end().0, "x");
}

#[test]
fn a_json_script_with_a_wrong_field_is_refused() {
    let table = [
        (json!({"steps": ["read"], "adress": "::1"}), "adress: no such field"),
        (json!({"steps": ["read"], "port": 70000}), "port: 70000 is no value for it"),
        (json!({"steps": ["read"], "address": "here"}), "address: \"here\" is no value"),
        (json!({"port": 1}), "steps: a list of strings"),
        (json!(["read", 1]), "steps: a list of strings"),
    ];
    for (value, expected) in table {
        let error = Script::from_json(&value).expect_err("refused");
        assert!(error.to_string().contains(expected), "{value}: {error}");
    }
}

fn answer_to(line: &str) -> Response {
    let server = Server::start(Script::parse(["read", line]).expect("a script"));
    connect(&server).get("/").response()
}

fn inflate(coding: Coding, coded: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut plain = Vec::new();
    match coding {
        Coding::Gzip => flate2::read::MultiGzDecoder::new(coded).read_to_end(&mut plain)?,
        Coding::Deflate => flate2::read::ZlibDecoder::new(coded).read_to_end(&mut plain)?,
        Coding::RawDeflate => flate2::read::DeflateDecoder::new(coded).read_to_end(&mut plain)?,
        Coding::Brotli => brotli::Decompressor::new(coded, 4096).read_to_end(&mut plain)?,
        Coding::Zstd => zstd::Decoder::new(coded)?.read_to_end(&mut plain)?,
        Coding::Identity => std::io::copy(&mut &*coded, &mut plain)? as usize,
    };
    Ok(plain)
}

const CODINGS: [(&str, Coding, &str); 6] = [
    ("gzip", Coding::Gzip, "gzip"),
    ("deflate", Coding::Deflate, "deflate"),
    ("raw-deflate", Coding::RawDeflate, "deflate"),
    ("br", Coding::Brotli, "br"),
    ("zstd", Coding::Zstd, "zstd"),
    ("identity", Coding::Identity, "identity"),
];

#[test]
fn a_coded_response_decodes_to_its_text() {
    for (name, coding, label) in CODINGS {
        let response = answer_to(&format!("send-coded {name} times=3 : a\\x00b : c"));
        assert_eq!(response.header("content-encoding"), Some(label));
        let plain = inflate(coding, &response.body).expect("it decodes");
        assert_eq!(plain, b"a\0b : c".repeat(3), "{name}");
    }
}

#[test]
fn codings_are_applied_in_the_order_in_which_they_are_listed() {
    let response = answer_to("send-coded gzip,br type=application/json status=203 : {}");
    assert_eq!(response.status, 203);
    assert_eq!(response.header("content-type"), Some("application/json"));
    assert_eq!(response.header("content-encoding"), Some("gzip, br"));
    let outer = inflate(Coding::Brotli, &response.body).expect("brotli outside");
    assert_eq!(inflate(Coding::Gzip, &outer).expect("gzip inside"), b"{}");
}

#[test]
fn damage_is_done_where_it_was_asked_for() {
    let whole = answer_to("send-coded gzip : hello").body;
    let cut = answer_to("send-coded gzip cut=4 : hello").body;
    assert_eq!(cut, whole[..whole.len() - 4]);
    assert!(inflate(Coding::Gzip, &cut).is_err());
    let flipped = answer_to("send-coded gzip flip=12 : hello").body;
    assert_eq!(flipped[12], whole[12] ^ 0xff);
    assert!(inflate(Coding::Gzip, &flipped).is_err());
    let tailed = answer_to("send-coded gzip tail=3 : hello").body;
    assert_eq!(tailed, [&whole[..], b"!!!"].concat());
    let twice = answer_to("send-coded gzip members=2 : hello").body;
    assert_eq!(inflate(Coding::Gzip, &twice).expect("two members"), b"hellohello");
    let lie = answer_to("send-coded gzip label=br : hello");
    assert_eq!(lie.header("content-encoding"), Some("br"));
    assert_eq!(lie.body, whole);
}

#[test]
fn bombs_are_small_and_decode_to_zeros_of_their_size() {
    const MOST: usize = 16 << 10;
    for (name, coding, _) in &CODINGS[..5] {
        for size in [0, 1, 1 << 20, (1 << 20) + 1, 10_000_000] {
            let coded = coding.bomb(size);
            assert!(coded.len() < MOST, "{name} of {size}: {}", coded.len());
            let plain = inflate(*coding, &coded).expect("it decodes");
            assert_eq!(plain.len() as u64, size, "{name}");
            assert!(plain.iter().all(|byte| *byte == 0), "{name} of {size}");
        }
    }
}

#[test]
fn bombs_of_gigabytes_are_made_at_once() {
    const SOON: Duration = Duration::from_secs(20);
    let started = std::time::Instant::now();
    assert!(Coding::Gzip.bomb(10_000_000_000).len() < 12_000_000);
    assert!(Coding::Zstd.bomb(512 << 20).len() < 17 << 10);
    assert!(started.elapsed() < SOON);
}

#[test]
fn a_bomb_may_lie_in_a_redirect() {
    let response = answer_to("send-gzip-bomb 10MB status=302 location=/next");
    assert_eq!(response.status, 302);
    assert_eq!(response.header("location"), Some("/next"));
    let plain = inflate(Coding::Gzip, &response.body).expect("it decodes");
    assert_eq!(plain.len(), 10_000_000);
}

#[test]
fn the_other_bombs_have_their_steps() {
    for (name, coding) in [("deflate", Coding::Deflate), ("br", Coding::Brotli), ("zstd", Coding::Zstd)] {
        let response = answer_to(&format!("send-{name}-bomb 2MiB"));
        assert_eq!(response.header("content-encoding"), Some(name));
        assert_eq!(inflate(coding, &response.body).expect("it decodes").len(), 2 << 20);
    }
}
