//! The routes of the well-behaved half.

use std::io::Read;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::Server;

use crate::client::{End, PATIENCE, Response, connect};

fn get(target: &str) -> Response {
    connect(&Server::serve()).get(target).response()
}

#[test]
fn json_is_an_object_of_197_bytes() {
    let response = get("/json");
    assert_eq!(response.header("content-type"), Some("application/json"));
    assert_eq!(response.body.len(), 197);
    assert_eq!(response.json()["name"], "Ada Lovelace");
}

#[test]
fn json_of_a_size_has_that_size() {
    for size in [10, 11, 4096] {
        let response = get(&format!("/json/{size}"));
        assert_eq!(response.body.len(), size);
        assert!(response.json()["pad"].is_string());
    }
    assert_eq!(get("/json/9").status, 400);
}

#[test]
fn get_echoes_the_request() {
    let server = Server::serve();
    let mut client = connect(&server);
    client.send("GET /get?a=1&b=x%20y+z&b=2&c HTTP/1.1\r\nHost: h:1\r\nX-A: 1\r\nX-A: 2\r\n\r\n");
    let echo = client.response().json();
    assert_eq!(echo["method"], "GET");
    assert_eq!(echo["url"], "http://h:1/get?a=1&b=x%20y+z&b=2&c");
    assert_eq!(echo["args"], json!({"a": "1", "b": ["x y z", "2"], "c": ""}));
    assert_eq!(echo["headers"], json!({"Host": "h:1", "X-A": "1, 2"}));
    assert_eq!((&echo["data"], &echo["json"]), (&json!(""), &Value::Null));
}

#[test]
fn anything_echoes_bodies_as_text_as_json_and_as_base64() {
    let server = Server::serve();
    let mut client = connect(&server);
    let mut put = |body: &[u8]| {
        client.send(format!("PUT /anything/x HTTP/1.1\r\nContent-Length: {}\r\n\r\n", body.len()));
        client.send(body).response().json()
    };
    assert_eq!(put(b"{\"a\": [1]}")["json"], json!({"a": [1]}));
    let text = put(b"plain");
    assert_eq!((&text["data"], &text["json"]), (&json!("plain"), &Value::Null));
    for (body, expected) in [(&b"\xff"[..], "/w=="), (b"\xff\xfe", "//4="), (b"\xff\xfe\xfd", "//79")] {
        let data = format!("data:application/octet-stream;base64,{expected}");
        assert_eq!(put(body)["data"], data);
    }
}

#[test]
fn the_routes_named_after_methods_take_no_other() {
    let server = Server::serve();
    let mut client = connect(&server);
    for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
        let route = method.to_lowercase();
        client.send(format!("{method} /{route} HTTP/1.1\r\n\r\n"));
        assert_eq!(client.response().json()["method"], method);
        client.send(format!("TRACE /{route} HTTP/1.1\r\n\r\n"));
        let refused = client.response();
        assert_eq!(refused.status, 405);
        assert!(refused.header("allow").expect("Allow").contains(method));
    }
}

#[test]
fn bytes_come_in_any_number_and_never_shifted() {
    for size in [0, 1, 65_536, 65_537, 300_000] {
        let body = get(&format!("/bytes/{size}")).body;
        let chunked = get(&format!("/stream-bytes/{size}?chunk_size=999"));
        assert_eq!(chunked.header("transfer-encoding"), Some("chunked"));
        assert_eq!(body.len(), size);
        assert_eq!(body, chunked.body);
        let block = |at: usize| ((at % 65_536 + at % 65_536 / 251) % 251) as u8;
        assert!(body.iter().enumerate().all(|(at, byte)| *byte == block(at)));
    }
    assert_eq!(get("/bytes/x").status, 400);
    assert_eq!(get("/stream-bytes/9?chunk_size=0").status, 400);
}

#[test]
fn text_and_html_have_their_types() {
    assert_eq!(get("/text").header("content-type"), Some("text/plain; charset=utf-8"));
    assert_eq!(get("/text").text(), "It is well.\n");
    let page = get("/html");
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    assert!(page.text().starts_with("<!DOCTYPE html>"));
}

#[test]
fn status_answers_with_it_and_with_the_headers_asked_for() {
    assert_eq!(get("/status/418").json(), json!({"status": 418}));
    let busy = get("/status/429?Retry-After=2&X-B=a%0D%0Ab");
    assert_eq!((busy.status, busy.header("retry-after")), (429, Some("2")));
    assert_eq!(busy.header("x-b"), Some("a  b"));
    assert_eq!(get("/status/302").header("location"), Some("/redirect/1"));
    assert_eq!(get("/status/199").status, 400);
    for code in [204, 304] {
        let bare = get(&format!("/status/{code}"));
        assert_eq!((bare.status, bare.header("content-length")), (code, None));
    }
}

#[test]
fn delay_answers_later_and_others_meanwhile() {
    let server = Server::serve();
    let started = Instant::now();
    let (mut slow, mut quick) = (connect(&server), connect(&server));
    slow.get("/delay/1?row=7");
    server.wait_for(|log| log.counts.requests == 1, PATIENCE);
    assert_eq!(quick.get("/json").response().status, 200);
    let counts = server.counts();
    assert_eq!((counts.requests, counts.in_flight), (2, 1));
    assert_eq!(slow.response().json()["args"]["row"], "7");
    assert!(started.elapsed() >= Duration::from_secs(1));
    for wrong in ["/delay/-1", "/delay/x", "/delay/inf"] {
        assert_eq!(quick.get(wrong).response().status, 400, "{wrong}");
    }
}

#[test]
fn drip_comes_byte_by_byte() {
    let started = Instant::now();
    let response = get("/drip?numbytes=4&duration=0.2&delay=0.1&code=206");
    assert_eq!((response.status, response.text()), (206, "****"));
    assert!(started.elapsed() >= Duration::from_millis(250));
    assert_eq!(get("/drip?numbytes=0").status, 400);
}

#[test]
fn redirect_counts_down_to_get() {
    assert_eq!(get("/redirect/2").header("location"), Some("/redirect/1"));
    assert_eq!(get("/redirect/1").header("location"), Some("/get"));
    assert_eq!(get("/redirect/2").status, 302);
    assert_eq!(get("/redirect/0").status, 400);
    let absolute = get("/absolute-redirect/2");
    assert_eq!(absolute.header("location"), Some("http://here/absolute-redirect/1"));
}

#[test]
fn redirect_to_goes_where_it_is_told() {
    let response = get("/redirect-to?url=http%3A%2F%2Fother%3A1%2Fx%3Fy&status_code=307");
    assert_eq!(response.status, 307);
    assert_eq!(response.header("location"), Some("http://other:1/x?y"));
    assert_eq!(get("/redirect-to?url=/a").status, 302);
    assert_eq!(get("/redirect-to").status, 400);
    assert_eq!(get("/redirect-to?url=/&status_code=200").status, 400);
}

#[test]
fn coded_answers_decode_to_the_echo() {
    type Decode = fn(&[u8]) -> Box<dyn Read + '_>;
    let table: [(&str, &str, Decode); 4] = [
        ("/gzip", "gzip", |body| Box::new(flate2::read::GzDecoder::new(body))),
        ("/deflate", "deflate", |body| Box::new(flate2::read::ZlibDecoder::new(body))),
        ("/brotli", "br", |body| Box::new(brotli::Decompressor::new(body, 4096))),
        ("/zstd", "zstd", |body| Box::new(zstd::Decoder::new(body).expect("zstd"))),
    ];
    for (route, coding, decode) in table {
        let response = get(&format!("{route}?a=1"));
        assert_eq!(response.header("content-encoding"), Some(coding));
        let echo: Value = serde_json::from_reader(decode(&response.body)).expect("JSON");
        assert_eq!((&echo["coding"], &echo["args"]["a"]), (&json!(coding), &json!("1")));
    }
}

#[test]
fn headers_go_both_ways() {
    assert_eq!(get("/headers").json(), json!({"headers": {"Host": "here"}}));
    let response = get("/response-headers?X-One=1&X-Two=b");
    assert_eq!(response.header("x-one"), Some("1"));
    assert_eq!(response.header("x-two"), Some("b"));
}

#[test]
fn echo_gives_the_body_back_with_its_type() {
    let server = Server::serve();
    let mut client = connect(&server);
    client.send("POST /echo HTTP/1.1\r\nContent-Type: x/y\r\nContent-Length: 3\r\n\r\na\0b");
    let response = client.response();
    assert_eq!(response.header("content-type"), Some("x/y"));
    assert_eq!(response.body, b"a\0b");
}

#[test]
fn count_counts_by_id_and_may_refuse_the_first_visits() {
    let server = Server::serve();
    let mut client = connect(&server);
    let mut visit = |target: &str| {
        let response = client.get(target).response();
        (response.status, response.json()["seen"].clone())
    };
    assert_eq!(visit("/count/a"), (200, json!(1)));
    assert_eq!(visit("/count/a"), (200, json!(2)));
    assert_eq!(visit("/count/b?fail=2"), (503, json!(1)));
    assert_eq!(visit("/count/b?fail=2&status=429"), (429, json!(2)));
    assert_eq!(visit("/count/b?fail=2"), (200, json!(3)));
}

#[test]
fn close_and_reset_and_hang_answer_nothing() {
    let server = Server::serve();
    assert_eq!(connect(&server).get("/close").text_to_end(), (String::new(), End::Fin));
    assert_eq!(connect(&server).get("/reset").text_to_end(), (String::new(), End::Reset));
    let mut client = connect(&server);
    let short = Some(Duration::from_millis(150));
    client.stream.set_read_timeout(short).expect("a timeout");
    client.get("/hang");
    let error = client.stream.read(&mut [0]).expect_err("nothing comes");
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
}

#[test]
fn the_rest_is_a_404_in_json() {
    for target in ["/", "/nope", "/json/1/2/3x", "/bytes", "/statuses/200", "*"] {
        let response = get(target);
        assert!(matches!(response.status, 404 | 400), "{target}");
        assert!(response.json()["error"].is_string(), "{target}");
    }
    assert_eq!(get("/nope?x").json()["path"], "/nope");
}

#[test]
fn a_target_in_absolute_form_is_answered_like_its_path() {
    assert_eq!(get("http://other:80/json").body.len(), 197);
    let echo = get("http://other/get?u=http://x/").json();
    assert_eq!(echo["args"]["u"], "http://x/");
    assert_eq!(get("/get?u=http://x/").json()["args"]["u"], "http://x/");
}
