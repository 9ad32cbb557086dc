//! gzip, deflate, br and zstd, each from a slice into a buffer that grows no further than the limit.

use std::cell::RefCell;

use brotli::{BrotliDecompressStream, BrotliResult, BrotliState, HeapAlloc, HuffmanCode};
use flate2::{Crc, Decompress, FlushDecompress, Status};
use zstd::stream::raw::{DParameter, Decoder, InBuffer, Operation, OutBuffer};
use zstd::zstd_safe::get_frame_content_size;

use super::too_large;
use crate::growth::TRUSTED;
use crate::policy::Sizes;
use crate::{Error, Kind};

/// How much a body is guessed to grow when it does not say.
const USUAL_RATIO: u64 = 4;

/// RFC 9659 §3: a body in zstd needs no window of more than 8 MiB.
const ZSTD_WINDOW_LOG: u32 = 23;

/// Bytes made at once where the coder wants them zeroed before.
const BROTLI_STEP: usize = 16 << 10;

thread_local! {
    /// Some 40 KiB of state, which is dearer to make than most bodies are to decode.
    static INFLATE: RefCell<Decompress> = RefCell::new(Decompress::new(false));
}

/// A content coding that can be undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    Gzip,
    Deflate,
    Brotli,
    Zstd,
}

impl Coding {
    /// The coding of that name, in any spelling.
    pub(super) fn named(name: &[u8]) -> Option<Self> {
        const NAMES: [(&[u8], Coding); 5] = [
            (b"gzip", Coding::Gzip),
            (b"x-gzip", Coding::Gzip),
            (b"deflate", Coding::Deflate),
            (b"br", Coding::Brotli),
            (b"zstd", Coding::Zstd),
        ];
        NAMES.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, coding)| *coding)
    }

    /// What the coded bytes stand for, behind a copy of `before`.
    pub(super) fn undo(self, before: &[u8], coded: &[u8], sizes: &Sizes) -> Result<Vec<u8>, Error> {
        let guess = match self {
            // RFC 1952 §2.3.1: the last four bytes are the length of the last member, which mostly is the only one.
            Self::Gzip => coded.last_chunk().map(|size| u64::from(u32::from_le_bytes(*size))),
            Self::Zstd => get_frame_content_size(coded).ok().flatten(),
            Self::Deflate | Self::Brotli => None,
        };
        let guess = guess.unwrap_or(coded.len() as u64 * USUAL_RATIO).min(TRUSTED as u64).min(sizes.body);
        let mut sink = Sink::new(before, guess as usize, sizes.body);
        match self {
            Self::Gzip => gzip(coded, &mut sink)?,
            Self::Deflate => deflate(coded, &mut sink)?,
            Self::Brotli => brotli(coded, &mut sink)?,
            Self::Zstd => zstd(coded, &mut sink)?,
        }
        sink.check()?;
        Ok(sink.out)
    }
}

/// Where decoded bytes go, and how many may.
struct Sink {
    out: Vec<u8>,
    start: usize,
    limit: u64,
}

impl Sink {
    fn new(before: &[u8], guess: usize, limit: u64) -> Self {
        let mut out = Vec::with_capacity(before.len() + guess);
        out.extend_from_slice(before);
        Self { start: out.len(), out, limit }
    }

    fn produced(&self) -> u64 {
        (self.out.len() - self.start) as u64
    }

    fn check(&self) -> Result<(), Error> {
        if self.produced() > self.limit {
            return Err(too_large(format!("the decoded body is larger than {} bytes", self.limit)));
        }
        Ok(())
    }

    /// Makes room for at least one byte, and never for more than one past the limit.
    fn make_room(&mut self) -> Result<(), Error> {
        const LEAST: u64 = 1 << 10;
        self.check()?;
        if self.out.len() == self.out.capacity() {
            let more = self.produced().max(LEAST).min((self.limit - self.produced()).saturating_add(1));
            self.out.reserve_exact(usize::try_from(more).unwrap_or(usize::MAX));
        }
        Ok(())
    }
}

/// RFC 1952: one member or several, each with its own check; zeros may pad the end, as some writers of blocks do.
fn gzip(coded: &[u8], sink: &mut Sink) -> Result<(), Error> {
    let mut rest = coded;
    loop {
        let body = gzip_header(rest)?;
        let begin = sink.out.len();
        let after = inflate("gzip", body, sink, Wrapper::None)?;
        let Some((check, after)) = after.split_first_chunk::<8>() else {
            return Err(cut("gzip"));
        };
        let member = &sink.out[begin..];
        let mut crc = Crc::new();
        crc.update(member);
        let [sum @ .., _, _, _, _] = *check;
        let [_, _, _, _, size @ ..] = *check;
        if u32::from_le_bytes(sum) != crc.sum() || u32::from_le_bytes(size) != member.len() as u32 {
            return Err(broken("the gzip body does not match its checksum"));
        }
        rest = after;
        if rest.iter().all(|byte| *byte == 0) {
            return Ok(());
        }
        if !rest.starts_with(&[0x1f, 0x8b]) {
            return Err(junk("gzip", rest));
        }
    }
}

/// Skips a member's header (RFC 1952 §2.3).
fn gzip_header(member: &[u8]) -> Result<&[u8], Error> {
    const HEADER_CHECK: u8 = 2;
    const EXTRA: u8 = 4;
    const NAME: u8 = 8;
    const COMMENT: u8 = 16;
    const RESERVED: u8 = 0xe0;
    if !member.starts_with(&[0x1f, 0x8b][..member.len().min(2)]) {
        return Err(broken("the body is labelled gzip and is not"));
    }
    let Some(([_, _, method, flags, ..], mut rest)) = member.split_first_chunk::<10>() else {
        return Err(cut("gzip"));
    };
    if *method != 8 || flags & RESERVED != 0 {
        return Err(broken("the gzip body has a header of an unknown form"));
    }
    let skip = |rest: &[u8], len: usize| {
        if len <= rest.len() { Ok(len) } else { Err(cut("gzip")) }
    };
    if flags & EXTRA != 0 {
        let len = rest
            .first_chunk::<2>()
            .map(|len| usize::from(u16::from_le_bytes(*len)))
            .ok_or_else(|| cut("gzip"))?;
        rest = &rest[skip(rest, 2 + len)?..];
    }
    for text in [NAME, COMMENT] {
        if flags & text != 0 {
            let end = memchr::memchr(0, rest).ok_or_else(|| cut("gzip"))?;
            rest = &rest[end + 1..];
        }
    }
    if flags & HEADER_CHECK != 0 {
        rest = &rest[skip(rest, 2)?..];
    }
    Ok(rest)
}

/// RFC 9110 §8.4.1.2 means zlib, and notes that some send the bare data.
fn deflate(coded: &[u8], sink: &mut Sink) -> Result<(), Error> {
    let is_zlib = matches!(coded, [method, flags, ..] if method & 0x0f == 8 && (u16::from(*method) << 8 | u16::from(*flags)) % 31 == 0);
    let end = if is_zlib {
        let begin = sink.out.len();
        match inflate("deflate", coded, sink, Wrapper::Zlib) {
            Err(error) if error.kind() == Kind::Decode => {
                // Bare data may begin with what looks like zlib's header.
                sink.out.truncate(begin);
                inflate("deflate", coded, sink, Wrapper::None).map_err(|_| error)?
            }
            result => result?,
        }
    } else {
        inflate("deflate", coded, sink, Wrapper::None)?
    };
    if end.iter().any(|byte| *byte != 0) {
        return Err(junk("deflate", end));
    }
    Ok(())
}

/// What stands around deflated data.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wrapper {
    None,
    Zlib,
}

/// Undoes one deflated stream; what follows it is handed back.
fn inflate<'b>(name: &str, coded: &'b [u8], sink: &mut Sink, wrapper: Wrapper) -> Result<&'b [u8], Error> {
    INFLATE.with_borrow_mut(|state| {
        state.reset(wrapper == Wrapper::Zlib);
        let mut rest = coded;
        loop {
            sink.make_room()?;
            let (taken, made) = (state.total_in(), state.total_out());
            let status = state
                .decompress_vec(rest, &mut sink.out, FlushDecompress::None)
                .map_err(|error| broken(format!("the {name} body is corrupt")).caused_by(error))?;
            let taken = state.total_in() - taken;
            rest = &rest[taken as usize..];
            if status == Status::StreamEnd {
                return Ok(rest);
            }
            let idle = taken == 0 && state.total_out() == made;
            if idle || (rest.is_empty() && sink.out.len() < sink.out.capacity()) {
                return Err(if rest.is_empty() {
                    cut(name)
                } else {
                    broken(format!("the {name} body is corrupt"))
                });
            }
        }
    })
}

/// RFC 7932. The strict form: windows above 16 MiB are no part of it, and would be memory on the peer's word.
fn brotli(coded: &[u8], sink: &mut Sink) -> Result<(), Error> {
    let mut state = BrotliState::new_strict(
        HeapAlloc::<u8>::new(0),
        HeapAlloc::<u32>::new(0),
        HeapAlloc::<HuffmanCode>::new(HuffmanCode::default()),
    );
    let (mut left, mut at, mut total) = (coded.len(), 0, 0);
    loop {
        sink.make_room()?;
        let begin = sink.out.len();
        let mut room = (sink.out.capacity() - begin).min(BROTLI_STEP);
        sink.out.resize(begin + room, 0);
        let mut made = 0;
        let result = BrotliDecompressStream(
            &mut left,
            &mut at,
            coded,
            &mut room,
            &mut made,
            &mut sink.out[begin..],
            &mut total,
            &mut state,
        );
        sink.out.truncate(begin + made);
        match result {
            BrotliResult::NeedsMoreOutput => {}
            BrotliResult::ResultSuccess if left == 0 => return Ok(()),
            BrotliResult::ResultSuccess => return Err(junk("br", &coded[at..])),
            BrotliResult::NeedsMoreInput => return Err(cut("br")),
            BrotliResult::ResultFailure => return Err(broken("the br body is corrupt")),
        }
    }
}

/// RFC 8878: frames one after the other, within the window of RFC 9659.
fn zstd(coded: &[u8], sink: &mut Sink) -> Result<(), Error> {
    let failed =
        |error: std::io::Error| broken(format!("the zstd body is corrupt: {error}")).caused_by(error);
    let mut decoder = Decoder::new().map_err(failed)?;
    decoder.set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG)).map_err(failed)?;
    let mut input = InBuffer::around(coded);
    loop {
        sink.make_room()?;
        let (taken, begin) = (input.pos(), sink.out.len());
        let mut output = OutBuffer::around_pos(&mut sink.out, begin);
        let wanted = decoder.run(&mut input, &mut output).map_err(failed)?;
        if input.pos() == coded.len() && wanted == 0 {
            return Ok(());
        }
        let idle = input.pos() == taken && sink.out.len() == begin;
        if idle || (input.pos() == coded.len() && sink.out.len() < sink.out.capacity()) {
            return Err(cut("zstd"));
        }
    }
}

fn broken(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(Kind::Decode, message)
}

fn cut(name: &str) -> Error {
    broken(format!("the {name} body ends early"))
}

fn junk(name: &str, rest: &[u8]) -> Error {
    broken(format!("{} bytes follow the end of the {name} body", rest.len()))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::super::decoded;
    use super::*;

    const TEXT: &[u8] = br#"{"id": 17, "name": "seventeen", "again": "seventeen seventeen seventeen"}"#;

    fn gzipped(data: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    fn zlibbed(data: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    fn deflated(data: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    fn brotlied(data: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut encoder = brotli::CompressorWriter::new(&mut out, 4096, 5, 22);
        encoder.write_all(data).unwrap();
        drop(encoder);
        out
    }

    fn zstded(data: &[u8]) -> Vec<u8> {
        zstd::bulk::compress(data, 3).unwrap()
    }

    fn decode_with(encoding: &str, body: &[u8], sizes: &Sizes) -> Result<Option<Vec<u8>>, Error> {
        let fields = format!("Server: x\r\nContent-Encoding: {encoding}\r\n");
        let decoded = decoded(fields.as_bytes(), body, sizes)?;
        Ok(decoded.map(|bytes| bytes.strip_prefix(fields.as_bytes()).expect("the fields stay").to_vec()))
    }

    fn decode(encoding: &str, body: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        decode_with(encoding, body, &Sizes::default())
    }

    type Coder = fn(&[u8]) -> Vec<u8>;
    const CODERS: [(&str, Coder); 5] =
        [("gzip", gzipped), ("deflate", zlibbed), ("deflate", deflated), ("br", brotlied), ("zstd", zstded)];

    #[test]
    fn every_coding_is_undone_for_every_size_of_body() {
        let mut noise = 1u64;
        let noisy: Vec<u8> = std::iter::repeat_with(|| {
            noise = noise.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (noise >> 60) as u8
        })
        .take(300_000)
        .collect();
        for (name, code) in CODERS {
            for data in [&b""[..], b"x", TEXT, &vec![b'a'; 3_000_000], &noisy] {
                let decoded = decode(name, &code(data)).unwrap().unwrap();
                assert!(decoded == data, "{name}: {} of {} bytes", decoded.len(), data.len());
            }
        }
    }

    #[test]
    fn names_are_read_in_any_spelling_and_identity_is_no_coding() {
        for name in ["x-gzip", "GZip", " gzip ,", "identity, gzip", "gzip, identity"] {
            assert_eq!(decode(name, &gzipped(TEXT)).unwrap().unwrap(), TEXT, "{name}");
        }
        assert_eq!(decode("identity", TEXT).unwrap(), None);
        assert_eq!(decode("", TEXT).unwrap(), None);
        assert_eq!(decoded(b"Server: x\r\n", TEXT, &Sizes::default()).unwrap(), None);
    }

    #[test]
    fn codings_are_undone_from_the_last_to_the_first() {
        assert_eq!(decode("gzip, br", &brotlied(&gzipped(TEXT))).unwrap().unwrap(), TEXT);
        assert_eq!(decode("br, gzip", &brotlied(&gzipped(TEXT))).unwrap_err().kind(), Kind::Decode);
        let fields = b"Content-Encoding: gzip\r\nX: y\r\ncontent-encoding: zstd, deflate\r\n";
        let body = zlibbed(&zstded(&gzipped(TEXT)));
        assert_eq!(&decoded(fields, &body, &Sizes::default()).unwrap().unwrap()[fields.len()..], TEXT);
    }

    #[test]
    fn an_empty_body_needs_no_decoding_whatever_its_label() {
        for name in ["gzip", "br", "nonsense"] {
            assert_eq!(decode(name, b"").unwrap(), None, "{name}");
        }
    }

    #[test]
    fn e15_a_body_under_an_unknown_coding_stays_as_it_came() {
        for name in ["compress", "utf-8", "aws-chunked", "gzip, nonsense", "nonsense, gzip"] {
            assert_eq!(decode(name, &gzipped(TEXT)).unwrap(), None, "{name}");
        }
    }

    #[test]
    fn e15_every_cut_of_a_coded_body_is_an_error() {
        for (name, code) in CODERS {
            let coded = code(TEXT);
            for end in 1..coded.len() {
                let error = decode(name, &coded[..end]).expect_err(name);
                assert_eq!(error.kind(), Kind::Decode, "{name} cut at {end}: {error}");
            }
        }
    }

    #[test]
    fn e15_a_wrong_label_is_an_error() {
        for label in ["gzip", "br", "zstd"] {
            for (name, code) in CODERS.iter().filter(|(name, _)| *name != label) {
                let error = decode(label, &code(TEXT)).expect_err(name);
                assert_eq!(error.kind(), Kind::Decode, "{name} labelled {label}");
            }
            assert_eq!(decode(label, TEXT).unwrap_err().kind(), Kind::Decode, "text labelled {label}");
        }
        assert_eq!(decode("deflate", TEXT).unwrap_err().kind(), Kind::Decode);
    }

    #[test]
    fn e15_a_flipped_bit_is_an_error_or_ends_in_the_same_text() {
        // Bits that no check covers may flip unnoticed: gzip's time stamp, for one.
        for (name, code) in [("gzip", gzipped as Coder), ("deflate", zlibbed)] {
            let coded = code(TEXT);
            for bit in 0..coded.len() * 8 {
                let mut flipped = coded.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                if let Ok(decoded) = decode(name, &flipped) {
                    assert_eq!(decoded.unwrap(), TEXT, "{name} bit {bit}");
                }
            }
        }
    }

    #[test]
    fn e15_members_and_frames_follow_one_another() {
        let twice = [TEXT, TEXT].concat();
        let members = |code: Coder| [code(TEXT), code(b""), code(TEXT)].concat();
        assert_eq!(decode("gzip", &members(gzipped)).unwrap().unwrap(), twice);
        assert_eq!(decode("zstd", &members(zstded)).unwrap().unwrap(), twice);
    }

    #[test]
    fn e15_what_follows_the_end_is_an_error_unless_it_is_padding_of_gzip_or_deflate() {
        for (name, code) in CODERS {
            for junk in [&b"junk"[..], b"\x1f\x8b", b"\0\0\0x"] {
                let error = decode(name, &[code(TEXT), junk.to_vec()].concat()).expect_err(name);
                assert_eq!(error.kind(), Kind::Decode, "{name} and {junk:?}");
            }
            let padded = decode(name, &[code(TEXT), vec![0; 512]].concat());
            if matches!(name, "gzip" | "deflate") {
                assert_eq!(padded.unwrap().unwrap(), TEXT, "{name}");
            } else {
                assert_eq!(padded.unwrap_err().kind(), Kind::Decode, "{name}");
            }
        }
    }

    #[test]
    fn a_gzip_header_may_hold_every_field() {
        let plain = gzipped(TEXT);
        let mut full = vec![0x1f, 0x8b, 8, 2 | 4 | 8 | 16, 0, 0, 0, 0, 0, 255, 3, 0];
        full.extend_from_slice(b"abcname\0comment\0\x12\x34");
        let header = full.len();
        full.extend_from_slice(&plain[10..]);
        assert_eq!(decode("gzip", &full).unwrap().unwrap(), TEXT);
        for end in 1..header {
            assert_eq!(decode("gzip", &full[..end]).unwrap_err().kind(), Kind::Decode, "cut at {end}");
        }
        full[3] |= 0x20;
        assert_eq!(decode("gzip", &full).unwrap_err().kind(), Kind::Decode);
    }

    #[test]
    fn e16_a_decoded_body_is_as_large_as_the_limit_allows_and_no_larger() {
        let data = vec![b'a'; 10_000];
        for (name, code) in CODERS {
            let coded = code(&data);
            let limited = |body| Sizes { body, ..Sizes::default() };
            assert_eq!(decode_with(name, &coded, &limited(10_000)).unwrap().unwrap(), data, "{name}");
            for limit in [0, 1, 9_999] {
                let error = decode_with(name, &coded, &limited(limit)).expect_err(name);
                assert_eq!(error.kind(), Kind::TooLarge, "{name} within {limit}: {error}");
            }
        }
    }

    #[test]
    fn e16_the_limit_holds_between_codings_too() {
        let bomb = gzipped(&gzipped(&vec![0; 5_000_000]));
        let sizes = Sizes { body: 2_000, ..Sizes::default() };
        assert!(bomb.len() < 2_000, "{}", bomb.len());
        assert_eq!(decode_with("gzip, gzip", &bomb, &sizes).unwrap_err().kind(), Kind::TooLarge);
    }

    #[test]
    fn e16_more_codings_than_allowed_are_refused_before_any_is_undone() {
        let chain = |count: usize| vec!["gzip"; count].join(", ");
        let body = (0..5).fold(TEXT.to_vec(), |body, _| gzipped(&body));
        assert_eq!(decode(&chain(5), &body).unwrap().unwrap(), TEXT);
        for count in [6, 100] {
            let error = decode(&chain(count), b"not even coded").unwrap_err();
            assert_eq!(error.kind(), Kind::TooLarge, "{count}");
        }
    }

    #[test]
    fn e16_many_tiny_members_are_counted_together() {
        let members = gzipped(b"ab").repeat(1_000);
        let sizes = Sizes { body: 1_999, ..Sizes::default() };
        assert_eq!(decode("gzip", &members).unwrap().unwrap().len(), 2_000);
        assert_eq!(decode_with("gzip", &members, &sizes).unwrap_err().kind(), Kind::TooLarge);
    }

    #[test]
    fn e16_windows_past_what_a_body_needs_are_refused() {
        // A frame header with a window of 2^30 bytes, and no content size (RFC 8878 §3.1.1.1).
        let window = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 20 << 3, 0x01, 0x00, 0x00];
        let error = decode("zstd", &window).unwrap_err();
        assert_eq!(error.kind(), Kind::Decode);
        assert!(error.message().contains("memory"), "{error}");
        // An empty stream with a large window of 2^30 bytes, which is no part of RFC 7932 §9.1 and which the coder takes
        // unless told otherwise.
        let window = [0x11, 0xde];
        assert_eq!(
            std::io::copy(&mut brotli::Decompressor::new(&window[..], 64), &mut std::io::sink()).unwrap(),
            0
        );
        assert_eq!(decode("br", &window).unwrap_err().kind(), Kind::Decode);
    }

    #[test]
    fn a_length_that_lies_reserves_little() {
        let mut coded = gzipped(TEXT);
        let len = coded.len();
        coded[len - 4..].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(decode("gzip", &coded).unwrap_err().kind(), Kind::Decode);
        let sink = Sink::new(b"", TRUSTED, 1 << 30);
        assert!(sink.out.capacity() <= 2 * TRUSTED);
    }
}
