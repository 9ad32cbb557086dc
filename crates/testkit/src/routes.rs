//! The routes of the well-behaved server: a request in, an answer out.

mod remembering;

use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::coded::{self, Coding};
use crate::log::Ending;
use crate::reply::{Length, Reply, Sheet, base64, origin_form, pairs, pieces};
use crate::request::Head;
use crate::serve::Site;

/// What has to happen after the bytes in `out`.
pub(crate) enum Answer {
    /// They are the whole answer.
    Ready,
    /// Those from `from` on leave after the pause.
    After { pause: Duration, from: usize },
    /// After a pause they leave, then so many bytes of body, one at a time.
    Drip { pause: Duration, bytes: u64, every: Duration },
    /// They are followed by so many bytes of body.
    Bytes(u64),
    /// Nothing until the client goes.
    Hang,
    /// After a pause the connection ends, without an answer.
    End { pause: Duration, ending: Ending },
}

/// What `/json` answers: 197 bytes.
pub(crate) const SMALL_JSON: &str = "{\"id\": 1742, \"name\": \"Ada Lovelace\", \"email\": \"ada@example.com\", \"active\": true, \
     \"score\": 98.25, \"tags\": [\"engine\", \"notes\", \"analyst\"], \"address\": \
     {\"city\": \"London\", \"zip\": \"W1\", \"country\": \"UK\"}}";

const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";
/// Bodies up to this size are put together with their head.
const IN_ONE_PIECE: u64 = 256 << 10;

/// One request, as the routes see it.
struct Call<'a> {
    site: &'a Site,
    head: &'a Head<'a>,
    path: &'a str,
    query: &'a str,
    body: &'a [u8],
    close: bool,
}

pub(crate) fn answer(site: &Site, head: &Head<'_>, body: &[u8], close: bool, out: &mut impl Sheet) -> Answer {
    let target = origin_form(head.target);
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let call = Call { site, head, path, query, body, close };
    let mut parts = path.trim_start_matches('/').splitn(2, '/');
    let (first, rest) = (parts.next().unwrap_or(""), parts.next());
    let allowed = match first {
        "get" => &["GET", "HEAD"][..],
        "post" => &["POST"],
        "put" => &["PUT"],
        "patch" => &["PATCH"],
        "delete" => &["DELETE"],
        "options" => &["OPTIONS"],
        _ => &[],
    };
    if !allowed.is_empty() && !allowed.contains(&head.method) {
        let allow = allowed.join(", ");
        call.reply(405)
            .with("Allow", &allow)
            .json(&json!({"error": "method not allowed", "allow": allow}), out);
        return Answer::Ready;
    }
    match (first, rest) {
        ("json", None) => call.reply(200).body(JSON, SMALL_JSON.as_bytes(), out),
        ("json", Some(size)) => return call.json_of(size, out),
        ("get" | "post" | "put" | "patch" | "delete" | "options", None) | ("anything", _) => {
            call.reply(200).json(&call.echo(), out);
        }
        ("bytes", Some(size)) => return call.bytes(size, out),
        ("stream-bytes", Some(size)) => return call.stream_bytes(size, out),
        ("text", None) => call.reply(200).body(TEXT, b"It is well.\n", out),
        ("html", None) => {
            let page = b"<!DOCTYPE html>\n<title>testkit</title>\n<h1>It is well.</h1>\n";
            call.reply(200).body(HTML, page, out);
        }
        ("status", Some(code)) => return call.status(code, out),
        ("delay", Some(seconds)) => return call.delay(seconds, out),
        ("drip", None) => return call.drip(out),
        ("redirect" | "relative-redirect" | "absolute-redirect", Some(hops)) => {
            return call.redirect(first, hops, out);
        }
        ("redirect-to", None) => return call.redirect_to(out),
        ("gzip", None) => call.encoded(Coding::Gzip, out),
        ("deflate", None) => call.encoded(Coding::Deflate, out),
        ("brotli", None) => call.encoded(Coding::Brotli, out),
        ("zstd", None) => call.encoded(Coding::Zstd, out),
        ("headers", None) => call.reply(200).json(&json!({"headers": call.headers()}), out),
        ("response-headers", None) => call.response_headers(out),
        ("echo", _) => {
            let content_type = head.header("content-type");
            let content_type = content_type.unwrap_or("application/octet-stream");
            call.reply(200).body(content_type, body, out);
        }
        ("reset", None) => return Answer::end(Ending::ServerReset),
        ("close", None) => return Answer::end(Ending::ByServer),
        ("hang", None) => return Answer::Hang,
        (route, rest) => return call.remembering(route, rest, out),
    }
    Answer::Ready
}

/// The answer to something that is no proper request; it ends the connection.
pub(crate) fn refusal(status: u16, reason: &str, out: &mut impl Sheet) {
    let reply = Reply { status, extra: Vec::new(), head_only: false, close: true };
    reply.json(&json!({"error": reason}), out);
}

impl Answer {
    /// The connection ends at once.
    fn end(ending: Ending) -> Answer {
        Answer::End { pause: Duration::ZERO, ending }
    }
}

impl Call<'_> {
    fn reply(&self, status: u16) -> Reply {
        Reply { status, extra: Vec::new(), head_only: self.head.method == "HEAD", close: self.close }
    }

    fn refuse(&self, status: u16, reason: &str, out: &mut impl Sheet) -> Answer {
        let path = self.path;
        self.reply(status).json(&json!({"error": reason, "path": path}), out);
        Answer::Ready
    }

    fn echo(&self) -> Value {
        let data = match std::str::from_utf8(self.body) {
            Ok(text) => text.to_owned(),
            Err(_) => format!("data:application/octet-stream;base64,{}", base64(self.body)),
        };
        let mut args = Map::new();
        for (name, value) in pairs(self.query) {
            match args.get_mut(&name) {
                None => drop(args.insert(name, Value::String(value))),
                Some(Value::Array(values)) => values.push(Value::String(value)),
                Some(first) => *first = json!([first.take(), value]),
            }
        }
        json!({
            "method": self.head.method,
            "url": self.absolute(origin_form(self.head.target)),
            "args": args,
            "headers": self.headers(),
            "data": data,
            "json": serde_json::from_slice::<Value>(self.body).unwrap_or_default(),
        })
    }

    /// The URL of a path here, with the name that the client used for this server.
    fn absolute(&self, path: &str) -> String {
        let host = self.head.authority.or_else(|| self.head.header("host")).unwrap_or_default();
        format!("{}://{host}{path}", self.site.scheme)
    }

    /// Names as the client spelt them; repeated ones are joined with commas.
    fn headers(&self) -> Value {
        let mut headers = Map::new();
        for header in self.head.headers {
            let value = String::from_utf8_lossy(header.value);
            match headers.get_mut(header.name) {
                Some(Value::String(earlier)) => {
                    earlier.push_str(", ");
                    earlier.push_str(&value);
                }
                _ => drop(headers.insert(header.name.to_owned(), Value::String(value.into()))),
            }
        }
        Value::Object(headers)
    }

    fn argument(&self, wanted: &str) -> Option<String> {
        pairs(self.query).find(|(name, _)| name == wanted).map(|(_, value)| value)
    }

    fn seconds(&self, wanted: &str, default: f64) -> Option<Duration> {
        let seconds = match self.argument(wanted) {
            Some(text) => text.parse().ok()?,
            None => default,
        };
        Duration::try_from_secs_f64(seconds).ok()
    }

    fn json_of(&self, size: &str, out: &mut impl Sheet) -> Answer {
        const EMPTY: usize = "{\"pad\":\"\"}".len();
        match size.parse::<usize>() {
            Ok(size) if (EMPTY..=1 << 30).contains(&size) => {
                let body = format!("{{\"pad\":\"{}\"}}", "x".repeat(size - EMPTY));
                self.reply(200).body(JSON, body.as_bytes(), out);
                Answer::Ready
            }
            _ => self.refuse(400, "/json/{n}: n is a number of bytes from 10 to 2^30", out),
        }
    }

    fn bytes(&self, size: &str, out: &mut impl Sheet) -> Answer {
        let Ok(size) = size.parse::<u64>() else {
            return self.refuse(400, "/bytes/{n}: n is a number of bytes", out);
        };
        let reply = self.reply(200);
        out.head(&reply, "application/octet-stream", Length::Known(size));
        if reply.head_only {
            return Answer::Ready;
        }
        if size > IN_ONE_PIECE {
            return Answer::Bytes(size);
        }
        pieces(size, coded::pattern().len(), |piece| out.body(piece));
        Answer::Ready
    }

    fn stream_bytes(&self, size: &str, out: &mut impl Sheet) -> Answer {
        const LARGEST: u64 = 64 << 20;
        let chunk = self.argument("chunk_size").map(|text| text.parse::<usize>());
        let (Ok(size @ 0..=LARGEST), Ok(chunk @ 1..)) = (size.parse::<u64>(), chunk.unwrap_or(Ok(10 << 10)))
        else {
            return self.refuse(400, "/stream-bytes/{n}?chunk_size=: n up to 2^26", out);
        };
        let reply = self.reply(200);
        out.head(&reply, "application/octet-stream", Length::Chunked);
        if !reply.head_only {
            pieces(size, chunk.min(coded::pattern().len()), |piece| out.chunk(piece));
            out.last_chunk();
        }
        Answer::Ready
    }

    fn status(&self, code: &str, out: &mut impl Sheet) -> Answer {
        let Ok(code @ 200..=999) = code.parse::<u16>() else {
            return self.refuse(400, "/status/{code}: code is 200 to 999", out);
        };
        let mut reply = self.reply(code);
        for (name, value) in pairs(self.query) {
            reply = reply.with(&name, &value);
        }
        if matches!(code, 301 | 302 | 303 | 307 | 308) && self.query.is_empty() {
            reply = reply.with("Location", "/redirect/1");
        }
        if matches!(code, 204 | 205 | 304) {
            reply.body(TEXT, b"", out);
        } else {
            reply.json(&json!({"status": code}), out);
        }
        Answer::Ready
    }

    fn delay(&self, seconds: &str, out: &mut impl Sheet) -> Answer {
        let pause = seconds.parse().ok().map(Duration::try_from_secs_f64);
        let Some(Ok(pause)) = pause else {
            return self.refuse(400, "/delay/{seconds}: a number", out);
        };
        let from = out.written();
        self.reply(200).json(&self.echo(), out);
        Answer::After { pause, from }
    }

    fn drip(&self, out: &mut impl Sheet) -> Answer {
        let bytes = self.argument("numbytes").unwrap_or("10".into()).parse();
        let code = self.argument("code").unwrap_or("200".into()).parse();
        let (Ok(bytes @ 1..=1_000_000), Ok(code), Some(duration), Some(pause)) =
            (bytes, code, self.seconds("duration", 2.0), self.seconds("delay", 0.0))
        else {
            return self.refuse(400, "/drip?numbytes=&duration=&delay=&code=", out);
        };
        let reply = self.reply(code);
        out.head(&reply, "application/octet-stream", Length::Known(bytes));
        if reply.head_only {
            return Answer::Ready;
        }
        let every = duration / bytes as u32;
        Answer::Drip { pause, bytes, every }
    }

    fn redirect(&self, route: &str, hops: &str, out: &mut impl Sheet) -> Answer {
        let Ok(hops @ 1..) = hops.parse::<u64>() else {
            return self.refuse(400, "/redirect/{n}: n is 1 or more", out);
        };
        let mut location = match hops {
            1 => "/get".to_owned(),
            _ => format!("/{route}/{}", hops - 1),
        };
        if route == "absolute-redirect" {
            location = self.absolute(&location);
        }
        self.reply(302).with("Location", &location).json(&json!({"location": location}), out);
        Answer::Ready
    }

    fn redirect_to(&self, out: &mut impl Sheet) -> Answer {
        let code = self.argument("status_code").unwrap_or("302".into()).parse();
        let (Some(url), Ok(code @ 300..=399)) = (self.argument("url"), code) else {
            return self.refuse(400, "/redirect-to?url=&status_code=", out);
        };
        self.reply(code).with("Location", &url).json(&json!({"location": url}), out);
        Answer::Ready
    }

    fn encoded(&self, coding: Coding, out: &mut impl Sheet) {
        let mut echo = self.echo();
        echo["coding"] = coding.label().into();
        self.reply(200).with("Content-Encoding", coding.label()).body(
            JSON,
            &coding.encode(echo.to_string().as_bytes()),
            out,
        );
    }

    fn response_headers(&self, out: &mut impl Sheet) {
        let mut reply = self.reply(200);
        for (name, value) in pairs(self.query) {
            reply = reply.with(&name, &value);
        }
        reply.json(&self.echo(), out);
    }
}
