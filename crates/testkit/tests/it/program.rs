//! The program `testkit`.

use std::io::{BufRead, BufReader, Read};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::client::{Client, End, PATIENCE};

struct Program {
    child: Child,
    output: BufReader<std::process::ChildStdout>,
    address: String,
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
    let address = url.trim_end().strip_prefix("http://").expect("a URL").to_owned();
    Program { child, output, address }
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
fn a_wrong_call_prints_how_to_call_it() {
    for arguments in [&[][..], &["sevre"], &["serve", "--prot", "1"]] {
        let output = Command::new(env!("CARGO_BIN_EXE_testkit")).args(arguments).output().expect("it runs");
        assert_eq!(output.status.code(), Some(2));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("usage: testkit serve"), "{said}");
    }
}
