//! The same bytes, read by loamy and by hyper: equal, both refused, or different for a reason that is written down.

use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use loamy::unstable_codec::{Read, read};
use loamy::{Kind, Sizes};
use streams::Io;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// How a comparison ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Both read the same response.
    Same,
    /// Neither read a response.
    BothRefused,
    /// They differ, and may: the reason.
    Permitted(&'static str),
}

/// A difference that may be: how the two readings look, and why ours is right.
struct Difference {
    reason: &'static str,
    holds: fn(&Ours, &Theirs) -> bool,
}

type Ours = Result<Read, (Kind, String)>;
type Theirs = Result<Response, String>;

/// What hyper made of the bytes.
#[derive(Debug)]
struct Response {
    status: u16,
    version: http::Version,
    fields: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
}

const DIFFERENCES: &[Difference] = &[
    Difference {
        reason: "101 was not asked for: hyper hands it out as an upgrade (RFC 9110 §15.2.2)",
        holds: |ours, theirs| {
            refused(ours, Kind::Protocol, "the peer switched protocols") && status(theirs) == Some(101)
        },
    },
    Difference {
        reason: "a transfer coding other than chunked alone: hyper reads to the end, or undoes the last (RFC 9112 §6.1)",
        holds: |ours, theirs| {
            refused(ours, Kind::Protocol, "Transfer-Encoding ")
                && (has(theirs, "transfer-encoding") || theirs.is_err())
        },
    },
    Difference {
        reason: "empty elements of Transfer-Encoding are ignored (RFC 9110 §5.6.1.2): hyper takes them for a coding",
        holds: |ours, theirs| {
            let fields = ours.as_ref().map_or(&[][..], |read| &read.fields).iter();
            let fields = fields.chain(theirs.as_ref().map_or(&[][..], |response| &response.fields));
            let mut values = fields.filter(|(name, _)| name.eq_ignore_ascii_case("transfer-encoding"));
            values.any(|(_, value)| {
                value.split(|byte| *byte == b',').any(|element| element.trim_ascii().is_empty())
            })
        },
    },
    Difference {
        reason: "lengths that are equal as numbers but not as text: hyper takes them (RFC 9112 §6.3 permits either)",
        holds: |ours, theirs| {
            refused(ours, Kind::Protocol, "Content-Length ") && has(theirs, "content-length")
        },
    },
    Difference {
        reason: "a chunk size of more than 16 digits, or with blanks behind it: hyper takes them (RFC 9112 §7.1 has neither)",
        holds: |ours, _| {
            refused(ours, Kind::Protocol, "chunk size has more")
                || refused(ours, Kind::Protocol, "chunk size is followed by a blank")
        },
    },
    Difference {
        reason: "a control character in a chunk extension: hyper looks at LF only (RFC 9112 §7.1.1)",
        holds: |ours, _| refused(ours, Kind::Protocol, "chunk extension holds"),
    },
    Difference {
        reason: "a trailer line that is no field, or ends without CR: hyper reads trailers as it reads heads (RFC 9112 §2.2)",
        holds: |ours, _| refused(ours, Kind::Protocol, "trailer "),
    },
    Difference {
        reason: "more empty lines before the status line than a sloppy server sends: hyper has no bound",
        holds: |ours, _| refused(ours, Kind::Protocol, "empty lines"),
    },
    Difference {
        reason: "limits: hyper counts other things, and has none for informational responses and bodies",
        holds: |ours, _| matches!(ours, Err((Kind::TooLarge, _))),
    },
];

/// Reads the bytes as the answer to a HEAD or a GET with both.
///
/// # Panics
/// When they differ in a way that is not written down above, or when it matters to ours how the bytes are cut.
pub(crate) async fn compare(head_only: bool, input: &[u8], mut cut: impl FnMut(usize) -> usize) -> Verdict {
    let method = if head_only { http::Method::HEAD } else { http::Method::GET };
    let sizes = Sizes::default();
    let ours = read(&method, &sizes, input, |rest| rest);
    let shown = input.escape_ascii();
    for (how, cut) in [
        ("byte by byte", read(&method, &sizes, input, |_| 1)),
        ("cut", read(&method, &sizes, input, &mut cut)),
    ] {
        match (&ours, &cut) {
            (Ok(whole), Ok(cut)) => assert_eq!(whole, cut, "{how}: {shown}"),
            (Err((whole, _)), Err((cut, _))) => assert_eq!(whole, cut, "{how}: {shown}"),
            _ => panic!("whole {ours:?}, {how} {cut:?}: {shown}"),
        }
    }
    let theirs = hyper_reads(method, input).await;
    match (&ours, &theirs) {
        (Ok(ours), Ok(theirs)) if same(ours, theirs) => return Verdict::Same,
        (Err(_), Err(_)) => return Verdict::BothRefused,
        _ => {}
    }
    match DIFFERENCES.iter().find(|difference| (difference.holds)(&ours, &theirs)) {
        Some(difference) => Verdict::Permitted(difference.reason),
        None => panic!("loamy: {ours:?}\nhyper: {theirs:?}\nbytes (HEAD: {head_only}): {shown}"),
    }
}

fn refused(ours: &Ours, kind: Kind, message: &str) -> bool {
    matches!(ours, Err((own, text)) if *own == kind && text.starts_with(message))
}

fn status(theirs: &Theirs) -> Option<u16> {
    theirs.as_ref().ok().map(|response| response.status)
}

fn has(theirs: &Theirs, name: &str) -> bool {
    theirs.as_ref().is_ok_and(|response| response.fields.iter().any(|(own, _)| own == name))
}

fn same(ours: &Read, theirs: &Response) -> bool {
    ours.status == theirs.status
        && ours.version == theirs.version
        && ours.body == theirs.body
        && comparable(&ours.fields) == comparable(&theirs.fields)
}

/// hyper lowers names, groups fields by them, and keeps the blanks around a fold.
fn comparable(fields: &[(String, Vec<u8>)]) -> Vec<(String, Vec<Vec<u8>>)> {
    let words = |value: &[u8]| {
        value.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).map(<[u8]>::to_vec).collect()
    };
    let mut fields: Vec<_> =
        fields.iter().map(|(name, value)| (name.to_ascii_lowercase(), words(value))).collect();
    fields.sort_by(|(one, _), (other, _)| one.cmp(other));
    fields
}

async fn hyper_reads(method: http::Method, input: &[u8]) -> Theirs {
    let (client, mut server) = tokio::io::duplex(input.len() + 4096);
    let mut builder = http1::Builder::new();
    builder.allow_obsolete_multiline_headers_in_responses(true).max_headers(Sizes::default().fields);
    let (mut sender, connection) = builder.handshake(Io(client)).await.map_err(|error| error.to_string())?;
    let request =
        http::Request::builder().method(method).uri("/").header("Host", "h").body(Empty::<Bytes>::new());
    let request = request.map_err(|error| error.to_string())?;
    let answer = async {
        // An answer that came before the question would be refused for that alone.
        let mut question = Vec::new();
        while !question.ends_with(b"\r\n\r\n") {
            if server.read_buf(&mut question).await.unwrap_or(0) == 0 {
                break;
            }
        }
        // The peer may hang up first: then the rest is not for it.
        let _ = server.write_all(input).await;
        let _ = server.shutdown().await;
        server
    };
    let exchange = async {
        let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
        let (parts, body) = response.into_parts();
        let body = body.collect().await.map_err(|error| error.to_string())?.to_bytes();
        Ok(Response {
            status: parts.status.as_u16(),
            version: parts.version,
            fields: parts
                .headers
                .iter()
                .map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()))
                .collect(),
            body: body.to_vec(),
        })
    };
    let drive = async {
        // What goes wrong reaches the exchange too; an upgrade leaves the connection behind.
        let _ = connection.await;
    };
    let (theirs, _, _server) = tokio::join!(exchange, drive, answer);
    theirs
}

/// hyper's traits for tokio's streams, as far as they are needed here.
mod streams {
    use std::io;
    use std::pin::Pin;
    use std::task::{Context, Poll, ready};

    use hyper::rt::ReadBufCursor;
    use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};

    pub(super) struct Io(pub(super) DuplexStream);

    impl hyper::rt::Read for Io {
        fn poll_read(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            mut cursor: ReadBufCursor<'_>,
        ) -> Poll<io::Result<()>> {
            let mut buffer = [0; 4096];
            let room = cursor.remaining().min(buffer.len());
            let mut read = ReadBuf::new(&mut buffer[..room]);
            ready!(Pin::new(&mut self.0).poll_read(context, &mut read))?;
            cursor.put_slice(read.filled());
            Poll::Ready(Ok(()))
        }
    }

    impl hyper::rt::Write for Io {
        fn poll_write(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            Pin::new(&mut self.0).poll_write(context, bytes)
        }

        fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_flush(context)
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_shutdown(context)
        }
    }
}
