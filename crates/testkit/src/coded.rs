//! Content codings: bodies, whole responses, and bombs of any size that cost little to make.

use std::io::Write;
use std::sync::LazyLock;

use flate2::{Compress, Compression, Crc, FlushCompress, Status};

/// A content coding, by what its bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// RFC 1952.
    Gzip,
    /// RFC 1950: what `deflate` means in HTTP (RFC 9110 section 8.4.1.2).
    Deflate,
    /// RFC 1951 without the zlib wrapper, which some servers send as `deflate`.
    RawDeflate,
    /// RFC 7932.
    Brotli,
    /// RFC 8878.
    Zstd,
    /// No coding.
    Identity,
}

impl Coding {
    /// The coding of a name used in scripts: `gzip`, `deflate`, `raw-deflate`, `br`, `zstd`,
    /// `identity`.
    pub fn named(name: &str) -> Option<Coding> {
        Some(match name {
            "gzip" => Coding::Gzip,
            "deflate" => Coding::Deflate,
            "raw-deflate" => Coding::RawDeflate,
            "br" => Coding::Brotli,
            "zstd" => Coding::Zstd,
            "identity" => Coding::Identity,
            _ => return None,
        })
    }

    /// Its name in Content-Encoding.
    pub fn label(self) -> &'static str {
        match self {
            Coding::Gzip => "gzip",
            Coding::Deflate | Coding::RawDeflate => "deflate",
            Coding::Brotli => "br",
            Coding::Zstd => "zstd",
            Coding::Identity => "identity",
        }
    }

    /// `plain` in this coding.
    pub fn encode(self, plain: &[u8]) -> Vec<u8> {
        use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
        let level = Compression::default();
        // Writing into a Vec has no way to fail.
        let coded = match self {
            Coding::Gzip => {
                let mut encoder = GzEncoder::new(Vec::new(), level);
                encoder.write_all(plain).and_then(|()| encoder.finish())
            }
            Coding::Deflate => {
                let mut encoder = ZlibEncoder::new(Vec::new(), level);
                encoder.write_all(plain).and_then(|()| encoder.finish())
            }
            Coding::RawDeflate => {
                let mut encoder = DeflateEncoder::new(Vec::new(), level);
                encoder.write_all(plain).and_then(|()| encoder.finish())
            }
            Coding::Brotli => {
                let mut coded = Vec::new();
                let mut encoder = brotli::CompressorWriter::new(&mut coded, 4096, 5, 22);
                let written = encoder.write_all(plain);
                drop(encoder);
                written.map(|()| coded)
            }
            Coding::Zstd => zstd::bulk::compress(plain, 3),
            Coding::Identity => Ok(plain.to_vec()),
        };
        coded.unwrap_or_else(|error| panic!("{}: {error}", self.label()))
    }

    /// A body that decodes to `size` zero bytes. Gzip, deflate and zstd are put together from
    /// a repeated block, so that gigabytes cost as little as their coded size.
    pub fn bomb(self, size: u64) -> Vec<u8> {
        match self {
            Coding::Gzip => gzip_of_zeros(size),
            Coding::Deflate => zlib_of_zeros(size),
            Coding::RawDeflate => deflate_of_zeros(size),
            Coding::Zstd => zstd_of_zeros(size),
            Coding::Brotli | Coding::Identity => self.encode(&vec![0; size as usize]),
        }
    }
}

const BLOCK: usize = 1 << 20;

fn deflate_of_zeros(size: u64) -> Vec<u8> {
    let zeros = vec![0; BLOCK];
    let mut compress = Compress::new(Compression::best(), false);
    let mut piece = |plain: &[u8], flush| {
        let mut coded = Vec::with_capacity(plain.len() / 8 + 64);
        let status = compress.compress_vec(plain, &mut coded, flush);
        assert!(matches!(status, Ok(Status::Ok | Status::StreamEnd)), "deflate of zeros: {status:?}");
        coded
    };
    let blocks = (size / BLOCK as u64) as usize;
    let mut coded = Vec::new();
    if blocks > 0 {
        // A flush ends on a byte, and the second block finds the same window as all others.
        coded.extend(piece(&zeros, FlushCompress::Sync));
        let further = piece(&zeros, FlushCompress::Sync);
        coded.extend(further.repeat(blocks - 1));
    }
    let rest = (size % BLOCK as u64) as usize;
    coded.extend(piece(&zeros[..rest], FlushCompress::Finish));
    coded
}

fn gzip_of_zeros(size: u64) -> Vec<u8> {
    let zeros = vec![0; BLOCK];
    let mut block = Crc::new();
    block.update(&zeros);
    let mut sum = Crc::new();
    for _ in 0..size / BLOCK as u64 {
        sum.combine(&block);
    }
    let mut rest = Crc::new();
    rest.update(&zeros[..(size % BLOCK as u64) as usize]);
    sum.combine(&rest);
    let mut coded = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    coded.extend(deflate_of_zeros(size));
    coded.extend(sum.sum().to_le_bytes());
    // RFC 1952 section 2.3.1: ISIZE is the size modulo 2^32.
    coded.extend((size as u32).to_le_bytes());
    coded
}

fn zlib_of_zeros(size: u64) -> Vec<u8> {
    let mut coded = vec![0x78, 0x9c];
    coded.extend(deflate_of_zeros(size));
    // Adler-32 of zeros: the first sum stays 1, the second counts the bytes.
    let adler = ((size % 65_521) as u32) << 16 | 1;
    coded.extend(adler.to_be_bytes());
    coded
}

/// RFC 8878 section 3.1.1.2: RLE blocks of 128 KiB, four bytes each.
fn zstd_of_zeros(size: u64) -> Vec<u8> {
    const LARGEST: u64 = 128 << 10;
    const WINDOW_128_KIB: u8 = 7 << 3;
    let mut coded = vec![0x28, 0xb5, 0x2f, 0xfd, 0, WINDOW_128_KIB];
    let mut left = size;
    loop {
        let count = left.min(LARGEST);
        left -= count;
        let last = u32::from(left == 0);
        // An empty block must be a raw one: RLE needs its byte.
        let kind = if count == 0 { 0 } else { 1 << 1 };
        let header = (count as u32) << 3 | kind | last;
        coded.extend(&header.to_le_bytes()[..3]);
        if count > 0 {
            coded.push(0);
        }
        if left == 0 {
            return coded;
        }
    }
}

/// 64 KiB that repeat: what `/bytes/{n}` sends. The byte at offset `i` is
/// `(i + i / 251) % 251` within the block, so that neither zeros nor a shift pass unseen.
pub(crate) fn pattern() -> &'static [u8] {
    static PATTERN: LazyLock<Vec<u8>> =
        LazyLock::new(|| (0..64 << 10).map(|i| ((i + i / 251) % 251) as u8).collect());
    &PATTERN
}
