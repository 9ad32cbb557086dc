//! Responses by case, each fed in one piece, byte by byte, at random cuts, and read into place: always to the same end.

use bytes::BufMut;
use http::{Method, Version};

use super::{Decoder, Finished};
use crate::Kind;
use crate::backoff::Jitter;
use crate::headers::HeaderView;
use crate::policy::Sizes;

/// How one response ended: whole with so many bytes left over, or broken with what came.
#[derive(Clone, Debug, PartialEq, Eq)]
enum End {
    Whole(Finished, usize),
    Broken(Kind, Option<Finished>),
}

fn feed_pieces(
    method: &Method,
    sizes: &Sizes,
    input: &[u8],
    mut piece: impl FnMut(usize) -> usize,
) -> (End, String) {
    let mut decoder = Decoder::new(method, sizes);
    let mut at = 0;
    while at < input.len() {
        let end = at + piece(input.len() - at);
        match decoder.feed(&input[at..end]) {
            Ok(fed) => {
                at += fed.used;
                if fed.done {
                    return (End::Whole(decoder.finish(), input.len() - at), String::new());
                }
                assert_eq!(at, end, "an unfinished response takes all that it is fed");
            }
            Err(fault) => {
                return (End::Broken(fault.kind, decoder.partial()), fault.message.into_owned());
            }
        }
    }
    finish_at_eof(decoder)
}

fn feed_in_place(method: &Method, sizes: &Sizes, input: &[u8]) -> (End, String) {
    let mut decoder = Decoder::new(method, sizes);
    let mut at = 0;
    while at < input.len() {
        if let Some((buffer, room)) = decoder.direct() {
            assert!(room > 0);
            let (capacity, taken) = (buffer.capacity(), room.min(input.len() - at).min(1_500));
            buffer.limit(room).put_slice(&input[at..at + taken]);
            assert_eq!(buffer.capacity(), capacity, "what is read in place moves nothing");
            at += taken;
            if decoder.direct_filled() {
                return (End::Whole(decoder.finish(), input.len() - at), String::new());
            }
            continue;
        }
        let end = input.len().min(at + 1_000);
        match decoder.feed(&input[at..end]) {
            Ok(fed) => {
                at += fed.used;
                if fed.done {
                    return (End::Whole(decoder.finish(), input.len() - at), String::new());
                }
            }
            Err(fault) => {
                return (End::Broken(fault.kind, decoder.partial()), fault.message.into_owned());
            }
        }
    }
    finish_at_eof(decoder)
}

fn finish_at_eof(mut decoder: Decoder) -> (End, String) {
    match decoder.eof() {
        Ok(()) => (End::Whole(decoder.finish(), 0), String::new()),
        Err(fault) => (End::Broken(fault.kind, decoder.partial()), fault.message.into_owned()),
    }
}

/// Feeds in every way, and says how it ended, which must always be the same.
fn ends(method: &Method, sizes: &Sizes, input: &[u8]) -> (End, String) {
    let whole = feed_pieces(method, sizes, input, |rest| rest);
    let shown = input[..input.len().min(200)].escape_ascii();
    assert_eq!(feed_pieces(method, sizes, input, |_| 1).0, whole.0, "byte by byte: {shown}");
    assert_eq!(feed_in_place(method, sizes, input).0, whole.0, "in place: {shown}");
    for seed in 0..16 {
        let mut random = Jitter::seeded(seed);
        let most = 1 + random.below(input.len().max(1) as u64) as usize;
        let cut = feed_pieces(method, sizes, input, |rest| 1 + random.below(most.min(rest) as u64) as usize);
        assert_eq!(cut.0, whole.0, "cut by seed {seed}: {shown}");
    }
    whole
}

fn get(input: impl AsRef<[u8]>) -> (End, String) {
    ends(&Method::GET, &Sizes::default(), input.as_ref())
}

fn whole(input: impl AsRef<[u8]>) -> Finished {
    let input = input.as_ref();
    match get(input) {
        (End::Whole(finished, 0), _) => finished,
        other => panic!("{}: {other:?}", input[..input.len().min(200)].escape_ascii()),
    }
}

fn broken(input: impl AsRef<[u8]>) -> (Kind, String) {
    let input = input.as_ref();
    match get(input) {
        (End::Broken(kind, _), message) => (kind, message),
        other => panic!("{}: {other:?}", input[..input.len().min(200)].escape_ascii()),
    }
}

fn body(finished: &Finished) -> &[u8] {
    &finished.bytes[finished.head_len as usize..]
}

fn fields(finished: &Finished) -> &[u8] {
    &finished.bytes[..finished.head_len as usize]
}

#[test]
fn a_response_is_its_fields_and_its_body_in_one_piece() {
    let finished = whole("HTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: 5\r\n\r\nhello");
    assert_eq!((finished.status, finished.version), (200, Version::HTTP_11));
    assert_eq!(fields(&finished), b"Server: x\r\nContent-Length: 5\r\n");
    assert_eq!(body(&finished), b"hello");
    assert!(finished.reusable);
    assert!(!finished.coded);
    assert!(whole("HTTP/1.1 200 OK\r\ncontent-ENCODING: gzip\r\nContent-Length: 0\r\n\r\n").coded);
}

#[test]
fn a_body_of_known_length_is_allocated_once_at_its_own_size() {
    let input = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"
        .iter()
        .copied()
        .chain([b'x'; 100])
        .collect::<Vec<_>>();
    for first in [input.len(), input.len() - 50, 41] {
        let mut decoder = Decoder::new(&Method::GET, &Sizes::default());
        decoder.feed(&input[..first]).unwrap();
        let (place, capacity) = (decoder.bytes.as_ptr(), decoder.bytes.capacity());
        decoder.feed(&input[first..]).unwrap();
        let finished = decoder.finish();
        assert_eq!(capacity, finished.bytes.len());
        assert_eq!(place, finished.bytes.as_ptr());
    }
}

#[test]
fn a_length_that_is_announced_reserves_no_more_than_a_mebibyte() {
    let mut decoder = Decoder::new(&Method::GET, &Sizes::default());
    decoder.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\nx").unwrap();
    assert!(decoder.bytes.capacity() <= (1 << 20) + 64, "{}", decoder.bytes.capacity());
    let (_, room) = decoder.direct().unwrap();
    assert!(room < 1 << 20);
}

#[test]
fn a_large_body_read_in_place_ends_at_its_own_size() {
    let length = 5_000_000;
    let mut input = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n").into_bytes();
    input.extend((0..length).map(|at| at as u8));
    let mut decoder = Decoder::new(&Method::GET, &Sizes::default());
    let mut at = decoder.feed(&input[..1000]).unwrap().used;
    while let Some((buffer, room)) = decoder.direct() {
        buffer.limit(room).put_slice(&input[at..at + room]);
        at += room;
        if decoder.direct_filled() {
            break;
        }
    }
    assert_eq!(at, input.len());
    assert_eq!(decoder.bytes.capacity(), decoder.bytes.len());
    assert!(decoder.finish().bytes.ends_with(&input[input.len() - 4_999_000..]));
}

#[test]
fn e1_nothing_at_all_is_a_closed_connection() {
    assert_eq!(broken("").0, Kind::Closed);
    let decoder = Decoder::new(&Method::GET, &Sizes::default());
    assert!(!decoder.has_begun());
}

#[test]
fn e2_a_head_cut_anywhere_is_incomplete() {
    let head = "HTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: 0\r\n\r\n";
    for end in 1..head.len() {
        assert_eq!(broken(&head[..end]).0, Kind::Incomplete, "{:?}", &head[..end]);
    }
    assert_eq!(broken("HTTP/1.1 100 Continue\r\n\r\n").0, Kind::Incomplete);
}

#[test]
fn e3_a_body_cut_anywhere_is_incomplete_and_what_came_is_kept() {
    for (head, rest) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n", "0123456789"),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            "3;a=b\r\n012\r\n7\r\n3456789\r\n0\r\nT: u\r\n\r\n",
        ),
    ] {
        for end in 0..rest.len() {
            let (outcome, message) = get(format!("{head}{}", &rest[..end]));
            let End::Broken(Kind::Incomplete, Some(partial)) = outcome else { panic!("{end}: {outcome:?}") };
            assert_eq!(partial.status, 200);
            assert!(!partial.reusable);
            assert!(b"0123456789".starts_with(body(&partial)), "{partial:?}");
            assert!(message.contains(&format!("after {} ", body(&partial).len())), "{message}");
        }
        assert_eq!(body(&whole(format!("{head}{rest}"))), b"0123456789");
    }
}

#[test]
fn e4_a_chunk_is_a_plain_hexadecimal_size_and_ends_in_crlf() {
    const HEAD: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (chunks, expected) in [
        ("0\r\n\r\n", ""),
        ("5\r\nhello\r\n0\r\n\r\n", "hello"),
        ("000005\r\nhello\r\n000\r\n\r\n", "hello"),
        ("A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n", "01234567890123456789"),
        ("5;name=value;other=\"quoted; text\"\r\nhello\r\n0;last\r\n\r\n", "hello"),
        ("5 \t;name\r\nhello\r\n0\r\n\r\n", "hello"),
        ("5\r\nhello\r\n0\r\nExpires: never\r\nX:\r\n\r\n", "hello"),
        ("2\r\n\r\n\r\n0\r\n\r\n", "\r\n"),
    ] {
        let finished = whole(format!("{HEAD}{chunks}"));
        assert_eq!(body(&finished), expected.as_bytes(), "{chunks:?}");
        assert!(finished.reusable);
    }
    for chunks in [
        "xyz\r\n",
        "+3\r\nabc\r\n",
        "-1\r\n",
        "0x3\r\nabc\r\n",
        " 3\r\nabc\r\n",
        "3 \r\nabc\r\n",
        "3 3\r\nabc\r\n",
        "\r\n",
        ";a\r\n",
        "10000000000000000\r\n",
        "00000000000000003\r\nabc\r\n",
        "3\nabc\r\n",
        "3\r\nabc\n0\r\n\r\n",
        "3\r\nabcd\r\n",
        "3\r\nabc0\r\n\r\n",
        "3\rabc",
        "3;a\nabc\r\n",
        "3;a\0\r\nabc\r\n",
        "3\r\nabc\r\n0\n\n",
        "0\r\n\n",
        "0\r\nA: b\n\r\n",
        "0\r\n folded\r\n\r\n",
        "0\r\nno colon\r\n\r\n",
        "0\r\n: v\r\n\r\n",
        "0\r\nA: \0\r\n\r\n",
        "0\r\nA: b\rc\r\n\r\n",
    ] {
        let (outcome, message) = get(format!("{HEAD}{chunks}"));
        assert!(matches!(outcome, End::Broken(Kind::Protocol, Some(_))), "{chunks:?}: {outcome:?} {message}");
    }
    assert_eq!(broken(format!("{HEAD}xyz\r\n")).1, "chunk size \"xyz\" is no hexadecimal number");
    assert_eq!(broken(format!("{HEAD}0x3\r\n")).1, "chunk size \"0x3\" is no hexadecimal number");
}

#[test]
fn e5_a_length_is_digits_said_once_or_always_the_same() {
    for (value, length) in
        [("42", 42), ("42,42", 42), ("42 , 42,\t42", 42), ("030", 30), ("030, 030", 30), ("0", 0)]
    {
        let finished =
            whole(format!("HTTP/1.1 200 OK\r\nContent-Length: {value}\r\n\r\n{}", "x".repeat(length)));
        assert_eq!(body(&finished).len(), length, "{value:?}");
        assert!(finished.reusable);
    }
    let twice = whole("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: y\r\ncontent-length: 2\r\n\r\nab");
    assert_eq!(body(&twice), b"ab");
    for value in [
        "030, 30",
        "42, 43",
        "-1",
        "+5",
        "5x",
        "x",
        "",
        "5,",
        ",5",
        "5 5",
        "0x5",
        "18446744073709551616",
        "5.0",
        "٥",
    ] {
        let (kind, message) = broken(format!("HTTP/1.1 200 OK\r\nContent-Length: {value}\r\n\r\nxxxxx"));
        assert_eq!(kind, Kind::Protocol, "{value:?}: {message}");
    }
    assert_eq!(
        broken("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nab").0,
        Kind::Protocol
    );
}

#[test]
fn e6_a_transfer_coding_wins_over_a_length_and_ends_the_connection() {
    for head in [
        "Content-Length: 3\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 3",
        "Transfer-Encoding: chunked\r\nContent-Length: nonsense",
    ] {
        let finished = whole(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n5\r\nhello\r\n0\r\n\r\n"));
        assert_eq!(body(&finished), b"hello", "{head}");
        assert!(!finished.reusable, "{head}");
    }
}

#[test]
fn e7_any_transfer_coding_but_chunked_alone_is_refused() {
    for value in [
        "xchunked",
        "chunked, gzip",
        "gzip, chunked",
        "chunked, chunked",
        "identity",
        "gzip",
        "",
        "chunked;a=b",
        "\"chunked\"",
    ] {
        let (kind, message) =
            broken(format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: {value}\r\n\r\n0\r\n\r\n"));
        assert_eq!(kind, Kind::Protocol, "{value:?}: {message}");
    }
    let twice =
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    assert_eq!(broken(twice).0, Kind::Protocol);
    for value in ["chunked", "Chunked", "chunked,", " , chunked"] {
        let finished =
            whole(format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: {value}\r\n\r\n1\r\nx\r\n0\r\n\r\n"));
        assert_eq!(body(&finished), b"x", "{value:?}");
    }
    // RFC 9112 §6.1: no HTTP/1.0 peer can mean it.
    assert_eq!(broken("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n").0, Kind::Protocol);
}

#[test]
fn e8_what_follows_a_whole_response_is_left_over() {
    for response in [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab",
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
    ] {
        for extra in ["x", "\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"] {
            let (outcome, _) = get(format!("{response}{extra}"));
            let End::Whole(_, left) = outcome else { panic!("{response:?}: {outcome:?}") };
            assert_eq!(left, extra.len(), "{response:?}");
        }
    }
}

#[test]
fn e9_a_status_line_is_http_1_with_three_digits_from_100() {
    for (line, status) in [
        ("HTTP/1.1 200 OK", 200),
        ("HTTP/1.1 200 ", 200),
        ("HTTP/1.1 200", 200),
        ("HTTP/1.0 404 Not Found, sorry: \x7e", 404),
        ("HTTP/1.1 999 Any", 999),
        ("HTTP/1.1 600 Odd", 600),
    ] {
        assert_eq!(whole(format!("{line}\r\nContent-Length: 0\r\n\r\n")).status, status, "{line:?}");
    }
    for line in [
        "junk",
        "HTTP/0.9 200 OK",
        "HTTP/2.0 200 OK",
        "HTTP/1.2 200 OK",
        "HTTP/1.10 200 OK",
        "http/1.1 200 OK",
        "ICY 200 OK",
        "SSH-2.0-OpenSSH_9.6",
        "HTTP/1.1 99 Low",
        "HTTP/1.1 099 Low",
        "HTTP/1.1 000 Low",
        "HTTP/1.1 1000 High",
        "HTTP/1.1 abc",
        "HTTP/1.1 20",
        "HTTP/1.1 -20 OK",
        "HTTP/1.1  200 OK",
        "HTTP/1.1\t200 OK",
        "HTTP/1.1 200\tOK",
        " HTTP/1.1 200 OK",
        "HTTP/1.1 200 O\0K",
        "HTTP/1.1 200 O\rK",
        "<html>",
        "\x16\x03\x01\x02",
    ] {
        let (kind, message) = broken(format!("{line}\r\nContent-Length: 0\r\n\r\n"));
        assert_eq!(kind, Kind::Protocol, "{line:?}: {message}");
        assert!(message.len() < 140 && message.is_ascii(), "{message}");
    }
    assert_eq!(broken("ICY 200 OK\r\n\r\n").1, "\"ICY 200 OK\" is no status line of HTTP/1.1");
}

#[test]
fn e9_what_cannot_become_a_status_line_is_refused_before_its_end() {
    let mut decoder = Decoder::new(&Method::GET, &Sizes::default());
    assert_eq!(decoder.feed(b"SSH-2.0-Open").unwrap_err().kind, Kind::Protocol);
    let mut decoder = Decoder::new(&Method::GET, &Sizes::default());
    let refused = b"HTTP/2.0 200 OK and on".iter().position(|byte| decoder.feed(&[*byte]).is_err());
    assert!(refused.is_some_and(|at| at < 16), "{refused:?}");
}

#[test]
fn a_few_empty_lines_before_the_status_line_are_skipped() {
    assert_eq!(whole("\r\n\r\n\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").status, 200);
    assert_eq!(
        whole("HTTP/1.1 100 Continue\r\n\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").status,
        200
    );
    assert_eq!(broken("\r\n".repeat(100_000)).0, Kind::Protocol);
    assert_eq!(broken("\rHTTP/1.1 200 OK\r\n\r\n").0, Kind::Protocol);
    assert_eq!(broken("\r\n").0, Kind::Incomplete);
}

#[test]
fn e10_names_and_values_hold_nothing_that_could_end_them() {
    for (line, fault) in [
        ("A : b", "\"A :\" does not begin with a field name and a colon"),
        (": b", "\":\" does not begin with a field name and a colon"),
        ("no colon", "\"no colon\" does not begin with a field name and a colon"),
        ("A\u{e9}: b", "\"A\\xc3\\xa9:\" does not begin with a field name and a colon"),
        ("A: b\0c", "the value of \"A\" holds a control character"),
        ("A: b\rc", "the value of \"A\" holds a control character"),
        ("A: \x01", "the value of \"A\" holds a control character"),
        ("A: b\x7f", "the value of \"A\" holds a control character"),
    ] {
        let (kind, message) =
            broken(format!("HTTP/1.1 200 OK\r\nX: y\r\n{line}\r\nContent-Length: 0\r\n\r\n"));
        assert_eq!((kind, message.as_str()), (Kind::Protocol, fault), "{line:?}");
    }
    for line in [" A: b", "\tA: b", " "] {
        let (kind, _) = broken(format!("HTTP/1.1 200 OK\r\n{line}\r\nContent-Length: 0\r\n\r\n"));
        assert_eq!(kind, Kind::Protocol, "{line:?} before the first field");
    }
}

#[test]
fn e10_fields_come_out_as_name_colon_space_value_whatever_blanks_they_had() {
    for (lines, expected) in [
        ("A:b\r\nC: d\r\n", "A: b\r\nC: d\r\n"),
        ("A:  b\r\n", "A: b\r\n"),
        ("A:\tb\r\n", "A: b\r\n"),
        ("A: b \t\r\n", "A: b\r\n"),
        ("A: b \nC: d\r\n", "A: b\r\nC: d\r\n"),
        ("A: b\nC: d\n", "A: b\r\nC: d\r\n"),
        ("A:\r\n", "A: \r\n"),
        ("A: \r\n", "A: \r\n"),
        ("A: b\tc: d\r\n", "A: b\tc: d\r\n"),
        ("A: b\r\n c\r\n", "A: b c\r\n"),
        ("A: b \r\n \t c\r\n\td\r\nE: f\r\n", "A: b c d\r\nE: f\r\n"),
        ("A:\r\n b\r\n", "A: b\r\n"),
        ("A: b\r\n \r\nC: d\r\n", "A: b\r\nC: d\r\n"),
        ("A: b\n c\nC: d\n", "A: b c\r\nC: d\r\n"),
    ] {
        for end in ["\r\n", "\n"] {
            let finished = whole(format!("HTTP/1.1 204 OK\r\n{lines}{end}"));
            assert_eq!(
                fields(&finished).escape_ascii().to_string(),
                expected.as_bytes().escape_ascii().to_string(),
                "{lines:?}"
            );
        }
    }
    assert_eq!(fields(&whole("HTTP/1.1 204 OK\r\n\r\n")), b"");
    assert_eq!(fields(&whole("HTTP/1.1 204 OK\n\n")), b"");
}

#[test]
fn e11_a_head_is_bounded_in_fields_and_in_bytes() {
    let head = |fields: usize| {
        let fields: String = (0..fields).map(|n| format!("X-{n}: {n}\r\n")).collect();
        format!("HTTP/1.1 204 OK\r\n{fields}\r\n")
    };
    for count in [1, 63, 64, 65, 101, 255, 256] {
        let finished = whole(head(count));
        assert_eq!(HeaderView::trusted(fields(&finished)).iter().count(), count);
    }
    for count in [257, 5_000] {
        assert_eq!(broken(head(count)).0, Kind::TooLarge, "{count}");
    }
    let few = Sizes { fields: 3, ..Sizes::default() };
    assert!(matches!(ends(&Method::GET, &few, head(3).as_bytes()).0, End::Whole(..)));
    assert!(matches!(ends(&Method::GET, &few, head(4).as_bytes()).0, End::Broken(Kind::TooLarge, None)));

    let small = Sizes { head: 1_000, ..Sizes::default() };
    let of_length = |length: usize| {
        let around = "HTTP/1.1 204 OK\r\nX: \r\n\r\n".len();
        format!("HTTP/1.1 204 OK\r\nX: {}\r\n\r\n", "x".repeat(length - around))
    };
    assert!(matches!(ends(&Method::GET, &small, of_length(1_000).as_bytes()).0, End::Whole(..)));
    for length in [1_001, 1_002, 5_000] {
        let (outcome, message) = ends(&Method::GET, &small, of_length(length).as_bytes());
        assert!(matches!(outcome, End::Broken(Kind::TooLarge, None)), "{length}: {outcome:?} {message}");
    }
    let endless = format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(2_000));
    assert!(matches!(ends(&Method::GET, &small, endless.as_bytes()).0, End::Broken(Kind::TooLarge, None)));
}

#[test]
fn e11_trailers_and_chunk_extensions_are_bounded_too() {
    const HEAD: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let small = Sizes { head: 1_000, fields: 10, ..Sizes::default() };
    let limited = |body: String| ends(&Method::GET, &small, format!("{HEAD}{body}").as_bytes()).0;
    let trailers = |count: usize| format!("0\r\n{}\r\n", "A: b\r\n".repeat(count));
    assert!(matches!(limited(trailers(10)), End::Whole(..)));
    assert!(matches!(limited(trailers(11)), End::Broken(Kind::TooLarge, Some(_))));
    assert!(matches!(limited(format!("0\r\nA: {}\r\n\r\n", "x".repeat(995))), End::Whole(..)));
    assert!(matches!(
        limited(format!("0\r\nA: {}\r\n\r\n", "x".repeat(996))),
        End::Broken(Kind::TooLarge, Some(_))
    ));
    assert!(matches!(limited(format!("1;{}\r\nx\r\n0\r\n\r\n", "x".repeat(16_000))), End::Whole(..)));
    assert!(matches!(limited(format!("1;{}", "x".repeat(17_000))), End::Broken(Kind::TooLarge, Some(_))));
    assert!(matches!(
        limited("1;0123456789abcdef\r\nx\r\n".repeat(1_000)),
        End::Broken(Kind::TooLarge, Some(_))
    ));
}

#[test]
fn e12_informational_responses_are_skipped_and_counted() {
    const FINAL: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab";
    for (before, count) in [
        ("HTTP/1.1 100 Continue\r\n\r\n", 1),
        ("HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\nContent-Length: 9\r\n\r\n", 3),
        ("HTTP/1.1 102 Processing\r\n\r\n", 100),
        ("HTTP/1.1 199 Odd\r\nTransfer-Encoding: chunked\r\n\r\n", 2),
    ] {
        let finished = whole(format!("{}{FINAL}", before.repeat(count)));
        assert_eq!((finished.status, body(&finished)), (200, &b"ab"[..]), "{count} × {before:?}");
        assert_eq!(fields(&finished), b"Content-Length: 2\r\n");
    }
    assert_eq!(broken("HTTP/1.1 100 Continue\r\n\r\n".repeat(101)).0, Kind::TooLarge);
    assert_eq!(broken("HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n").0, Kind::Protocol);
    let mut decoder = Decoder::new(&Method::GET, &Sizes::default());
    decoder.feed(b"HTTP/1.1 100 Continue\r\n\r\n").unwrap();
    assert!(decoder.has_begun() && !decoder.head_is_complete());
}

#[test]
fn e14_head_204_and_304_have_no_body_whatever_the_fields_say() {
    for framing in ["Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n", ""] {
        for (method, status) in
            [(Method::HEAD, 200), (Method::GET, 204), (Method::GET, 304), (Method::HEAD, 404)]
        {
            let input = format!("HTTP/1.1 {status} X\r\n{framing}\r\n");
            let (outcome, _) = ends(&method, &Sizes::default(), input.as_bytes());
            let End::Whole(finished, 0) = outcome else { panic!("{method} {status} {framing}: {outcome:?}") };
            assert_eq!(body(&finished), b"");
            assert!(finished.reusable);
            let (outcome, _) = ends(&method, &Sizes::default(), format!("{input}hello").as_bytes());
            assert!(matches!(outcome, End::Whole(_, 5)), "{outcome:?}");
        }
    }
    for framing in
        ["Content-Length: x", "Transfer-Encoding: gzip", "Transfer-Encoding: chunked\r\nContent-Length: 1"]
    {
        let finished = whole(format!("HTTP/1.1 204 X\r\n{framing}\r\n\r\n"));
        assert!(
            !finished.reusable,
            "{framing}: nothing is to be asked on a connection that contradicts itself"
        );
    }
    // A 205 has a body like any other, RFC 9110 §15.3.6 notwithstanding: framing does not depend on it.
    assert_eq!(body(&whole("HTTP/1.1 205 X\r\nContent-Length: 1\r\n\r\nx")), b"x");
}

#[test]
fn e17_a_body_is_bounded_whether_announced_or_not() {
    let small = Sizes { body: 1_000, ..Sizes::default() };
    for (length, fits) in [(1_000, true), (1_001, false), (100_000, false)] {
        let data = "x".repeat(length);
        for input in [
            format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{data}"),
            format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{length:x}\r\n{data}\r\n0\r\n\r\n"),
            format!(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{}0\r\n\r\n",
                "1\r\nx\r\n".repeat(length)
            ),
            format!("HTTP/1.1 200 OK\r\n\r\n{data}"),
        ] {
            match ends(&Method::GET, &small, input.as_bytes()).0 {
                End::Whole(finished, 0) => assert!(fits && body(&finished).len() == length),
                End::Broken(Kind::TooLarge, Some(partial)) => {
                    assert!(!fits && body(&partial).len() <= 1_000)
                }
                other => panic!("{other:?}"),
            }
        }
    }
    let most = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n";
    assert_eq!(broken(most).0, Kind::TooLarge);
    assert_eq!(broken("HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551615\r\n\r\n").0, Kind::TooLarge);
}

#[test]
fn e19_repeated_fields_and_bytes_beyond_ascii_are_kept_as_they_came() {
    let finished = whole(b"HTTP/1.1 200 OK\r\nSet-Cookie: a=1\r\nX-odd: \xff\xfe\r\nset-cookie: b=2\r\nContent-Length: 0\r\n\r\n");
    let found: Vec<_> = HeaderView::trusted(fields(&finished)).iter().collect();
    assert_eq!(
        found,
        [
            ("Set-Cookie", &b"a=1"[..]),
            ("X-odd", b"\xff\xfe"),
            ("set-cookie", b"b=2"),
            ("Content-Length", b"0")
        ]
    );
}

#[test]
fn e21_a_body_without_length_ends_with_the_connection_and_so_does_its_use() {
    for head in ["HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\n"] {
        let finished = whole(format!("{head}some text"));
        assert_eq!(body(&finished), b"some text");
        assert!(!finished.reusable, "{head:?}");
        assert_eq!(body(&whole(head)), b"");
    }
}

#[test]
fn a_connection_is_reused_by_version_and_options() {
    for (head, reusable) in [
        ("HTTP/1.1 200 OK\r\n", true),
        ("HTTP/1.1 200 OK\r\nConnection: close\r\n", false),
        ("HTTP/1.1 200 OK\r\nconnection: foo, CLOSE\r\n", false),
        ("HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nConnection: close\r\n", false),
        ("HTTP/1.1 200 OK\r\nConnection: closed\r\n", true),
        ("HTTP/1.0 200 OK\r\n", false),
        ("HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\n", true),
        ("HTTP/1.0 200 OK\r\nConnection: keep-alive, close\r\n", false),
    ] {
        assert_eq!(whole(format!("{head}Content-Length: 0\r\n\r\n")).reusable, reusable, "{head:?}");
    }
}

#[test]
fn a_drip_of_single_bytes_costs_no_more_than_its_length() {
    // Looking from the start for each byte would be some 3·10¹⁰ steps here.
    let input = format!("HTTP/1.1 204 OK\r\n{}\r\n", format!("X: {}\r\n", "x".repeat(1_000)).repeat(250));
    let mut decoder = Decoder::new(&Method::GET, &Sizes::default());
    let mut looks = 0;
    for byte in input.as_bytes() {
        let before = decoder.look_again;
        decoder.feed(std::slice::from_ref(byte)).unwrap();
        looks += usize::from(decoder.look_again != before);
    }
    assert!(decoder.head_is_complete());
    assert!(looks <= 20, "{looks}");
}
