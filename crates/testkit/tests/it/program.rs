//! The program `testkit`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};
use serde_json::{Value, json};
use testkit::Identity;

use crate::client::{Client, End, PATIENCE};
use crate::tls::trusting;

struct Program {
    child: Child,
    output: BufReader<std::process::ChildStdout>,
    address: String,
    url: String,
}

fn run(arguments: &[&str]) -> Program {
    let mut child = Command::new(env!("CARGO_BIN_EXE_testkit"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut output = BufReader::new(child.stdout.take().expect("its output"));
    let mut url = String::new();
    output.read_line(&mut url).expect("the first line");
    let (_, address) = url.trim_end().split_once("://").expect("a URL");
    let address = address.to_owned();
    Program { child, output, address, url }
}

impl Program {
    fn connect(&self) -> Client {
        let stream = TcpStream::connect(&self.address).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        Client { stream }
    }

    /// Closes its input; what it saw, and its exit code.
    fn end(mut self) -> (Value, Option<i32>) {
        drop(self.child.stdin.take());
        let mut rest = String::new();
        self.output.read_to_string(&mut rest).expect("its output");
        let code = self.child.wait().expect("it ends").code();
        (serde_json::from_str(&rest).expect("JSON"), code)
    }
}

#[test]
fn serve_serves_until_its_input_closes_and_tells_the_counts() {
    let program = run(&["serve"]);
    assert_eq!(program.connect().get("/json").response().status, 200);
    let (seen, code) = program.end();
    assert_eq!((seen["counts"]["requests"].as_u64(), code), (Some(1), Some(0)));
    assert_eq!(seen["requests"].as_array().map(Vec::len), Some(0));
}

#[test]
fn serve_takes_a_port_a_limit_of_requests_and_keeps_the_log() {
    // Below the range from which the system gives ports away.
    let port = (20_000 + std::process::id() % 12_000).to_string();
    let program = run(&["serve", "--port", &port, "--close-after", "1", "--log"]);
    assert!(program.address.ends_with(&format!(":{port}")));
    let last = program.connect().get("/anything/x").response();
    assert_eq!(last.header("connection"), Some("close"));
    assert_eq!(program.end().0["requests"][0]["target"], "/anything/x");
}

#[test]
fn serve_may_close_without_a_word() {
    let program = run(&["serve", "--close-after", "1", "--silently"]);
    let mut client = program.connect();
    assert_eq!(client.get("/json").response().header("connection"), None);
    assert_eq!(client.read_to_end(), (Vec::new(), End::Fin));
    assert_eq!(program.end().1, Some(0));
}

#[test]
fn script_plays_a_file_and_fails_when_an_expectation_broke() {
    let file = std::env::temp_dir().join(format!("testkit-{}.json", std::process::id()));
    let path = file.to_str().expect("a path");
    std::fs::write(&file, r#"{"steps": ["read", "send x", "expect-silence 5s"]}"#).expect("a file");
    let program = run(&["script", path]);
    program.connect().send("GET / HTTP/1.1\r\n\r\nmore").read_to_end();
    let (seen, code) = program.end();
    std::fs::remove_file(&file).expect("removed");
    assert_eq!(seen["requests"][0]["target"], "/");
    assert_eq!(seen["failures"].as_array().map(Vec::len), Some(1));
    assert_eq!(code, Some(1));
}

#[test]
fn the_files_of_tls_are_there_when_the_url_is_printed() {
    let path = |name: &str| {
        let file = std::env::temp_dir().join(format!("testkit-{}-{name}", std::process::id()));
        file.to_str().expect("a path").to_owned()
    };
    let (ca, client, stranger, script) = (path("ca"), path("client"), path("stranger"), path("tls.json"));
    let options = r#"{"tls": {"client_certificate": "required"}, "keep_log": true}"#;
    let program =
        run(&["serve", "--options", options, "--ca", &ca, "--client", &client, "--stranger", &stranger]);
    assert!(program.url.starts_with("https://127.0.0.1:"), "{}", program.url);
    let [authority, identity_of_client, other] =
        [&ca, &client, &stranger].map(|file| std::fs::read_to_string(file).expect("a file"));
    let identity = |text: &str| {
        let (certificate, key) = text.split_at(text.find("-----BEGIN PRIVATE KEY").expect("a key"));
        Identity { certificate: certificate.into(), key: key.into() }
    };
    let ask = |who: &str| {
        let config = Arc::new(trusting(&authority, &[], Some(&identity(who))));
        let name = ServerName::try_from("localhost").expect("a name");
        let session = ClientConnection::new(config, name).expect("a session");
        let mut stream = StreamOwned::new(session, program.connect().stream);
        stream.write_all(b"GET /json HTTP/1.1\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).map(|_| answer)
    };
    assert!(ask(&identity_of_client).expect("an answer").starts_with("HTTP/1.1 200 OK"));
    assert!(ask(&other).expect_err("refused").to_string().contains("UnknownCA"));
    let (seen, _) = program.end();
    assert_eq!((&seen["counts"]["handshakes"], &seen["counts"]["failed_handshakes"]), (&json!(1), &json!(1)));
    assert_eq!(seen["connections"][0]["tls"]["client_certificate"], true);
    assert_eq!(
        (&seen["requests"][0]["http"], &seen["requests"][0]["stream"]),
        (&json!("http/1.1"), &json!(null))
    );
    std::fs::write(&script, r#"{"steps": ["h2 preface"], "tls": true}"#).expect("a file");
    let program = run(&["script", &script, "--ca", &ca]);
    assert!(program.url.starts_with("https://"));
    assert_ne!(std::fs::read_to_string(&ca).expect("a file"), authority);
    program.end();
    for file in [&ca, &client, &stranger, &script] {
        std::fs::remove_file(file).expect("removed");
    }
}

#[test]
fn a_wrong_call_prints_how_to_call_it() {
    for arguments in [&[][..], &["sevre"], &["serve", "--prot", "1"]] {
        let output = Command::new(env!("CARGO_BIN_EXE_testkit")).args(arguments).output().expect("it runs");
        assert_eq!(output.status.code(), Some(2));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("usage: testkit serve"), "{said}");
    }
}
