//! The chunked transfer coding (RFC 9112 §7.1), one byte at a time or many.

use super::Fault;
use crate::headers::is_token_byte;
use crate::mask::excerpt;
use crate::policy::Sizes;

/// Chunk extensions of one response, in bytes: nobody uses them, and they are not worth more.
const EXTENSIONS: usize = 16 << 10;

/// Sixteen hexadecimal digits hold every size that a `u64` can.
const SIZE_DIGITS: u8 = 16;

/// Where in a chunked body the bytes have got to.
#[derive(Debug)]
pub(super) struct Chunks {
    place: Place,
    left: u64,
    digits: u8,
    body: u64,
    extensions: usize,
    trailers: usize,
    fields: usize,
    line: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Size,
    BlankBeforeExtension,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    Trailer,
    End,
}

impl Chunks {
    pub(super) fn new() -> Self {
        Self {
            place: Place::Size,
            left: 0,
            digits: 0,
            body: 0,
            extensions: 0,
            trailers: 0,
            fields: 0,
            line: Vec::new(),
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.place == Place::End
    }

    /// What is missing, for the error's text.
    pub(super) fn missing(&self) -> &'static str {
        match self.place {
            Place::Data => "inside a chunk",
            Place::Trailer => "before the end of the trailers",
            _ => "before the last chunk",
        }
    }

    /// Takes bytes, appends the data among them to `out`, and says how many it used: all, unless the body ended.
    pub(super) fn feed(&mut self, input: &[u8], out: &mut Vec<u8>, sizes: &Sizes) -> Result<usize, Fault> {
        let mut at = 0;
        while at < input.len() {
            let byte = input[at];
            match self.place {
                Place::Size => at += self.size(&input[at..], sizes)?,
                Place::BlankBeforeExtension => {
                    self.count_extension()?;
                    at += 1;
                    match byte {
                        b' ' | b'\t' => {}
                        b';' => self.place = Place::Extension,
                        _ => return Err(Fault::protocol("chunk size is followed by a blank")),
                    }
                }
                Place::Extension => {
                    self.count_extension()?;
                    at += 1;
                    match byte {
                        b'\r' => self.place = Place::SizeLf,
                        b'\t' | b' '..=b'~' | 0x80.. => {}
                        _ => {
                            return Err(Fault::protocol(format!(
                                "chunk extension holds {}",
                                excerpt(&[byte])
                            )));
                        }
                    }
                }
                Place::SizeLf => {
                    if byte != b'\n' {
                        return Err(Fault::protocol(format!(
                            "chunk size ends in CR and {}",
                            excerpt(&[byte])
                        )));
                    }
                    at += 1;
                    self.digits = 0;
                    self.place = if self.left == 0 { Place::Trailer } else { Place::Data };
                }
                Place::Data => {
                    let wanted = usize::try_from(self.left).unwrap_or(usize::MAX);
                    let taken = wanted.min(input.len() - at);
                    out.extend_from_slice(&input[at..at + taken]);
                    at += taken;
                    self.left -= taken as u64;
                    if self.left == 0 {
                        self.place = Place::DataCr;
                    }
                }
                Place::DataCr | Place::DataLf => {
                    let (expected, next) = if self.place == Place::DataCr {
                        (b'\r', Place::DataLf)
                    } else {
                        (b'\n', Place::Size)
                    };
                    if byte != expected {
                        let rest = &input[at..];
                        return Err(Fault::protocol(format!(
                            "chunk is followed by {} in place of CRLF",
                            excerpt(&rest[..rest.len().min(16)])
                        )));
                    }
                    at += 1;
                    self.place = next;
                }
                Place::Trailer => at += self.trailer(&input[at..], sizes)?,
                Place::End => break,
            }
        }
        Ok(at)
    }

    fn size(&mut self, input: &[u8], sizes: &Sizes) -> Result<usize, Fault> {
        let mut at = 0;
        while let Some(digit) = input.get(at).copied().and_then(hexadecimal) {
            if self.digits == SIZE_DIGITS {
                return Err(Fault::protocol(format!("chunk size has more than {SIZE_DIGITS} digits")));
            }
            self.left = self.left << 4 | u64::from(digit);
            self.digits += 1;
            at += 1;
        }
        let Some(byte) = input.get(at).copied() else {
            return Ok(at);
        };
        self.place = match byte {
            b'\r' if self.digits > 0 => Place::SizeLf,
            b';' if self.digits > 0 => Place::Extension,
            b' ' | b'\t' if self.digits > 0 => Place::BlankBeforeExtension,
            _ => return Err(self.bad_size(&input[at..])),
        };
        self.body = self.body.checked_add(self.left).filter(|body| *body <= sizes.body).ok_or_else(|| {
            Fault::too_large(format!(
                "the body is larger than {} bytes (a chunk of {} follows {})",
                sizes.body, self.left, self.body
            ))
        })?;
        Ok(at + 1)
    }

    fn bad_size(&self, rest: &[u8]) -> Fault {
        let end = memchr::memchr2(b'\r', b'\n', rest).unwrap_or(rest.len()).clamp(1, 40);
        let mut text = match self.digits {
            0 => Vec::new(),
            digits => format!("{:0width$x}", self.left, width = usize::from(digits)).into_bytes(),
        };
        text.extend_from_slice(&rest[..end.min(rest.len())]);
        Fault::protocol(format!("chunk size {} is no hexadecimal number", excerpt(&text)))
    }

    fn count_extension(&mut self) -> Result<(), Fault> {
        self.extensions += 1;
        if self.extensions > EXTENSIONS {
            return Err(Fault::too_large(format!("chunk extensions are larger than {EXTENSIONS} bytes")));
        }
        Ok(())
    }

    /// Trailer fields are checked and dropped: none may be merged into the head unasked (RFC 9110 §6.5.1).
    fn trailer(&mut self, input: &[u8], sizes: &Sizes) -> Result<usize, Fault> {
        let end = memchr::memchr(b'\n', input).map(|end| end + 1);
        let piece = &input[..end.unwrap_or(input.len())];
        self.trailers += piece.len();
        // The line that ends the body is no field, and is not counted as one.
        if self.trailers > sizes.head.saturating_add(2) {
            return Err(Fault::too_large(format!("the trailers are larger than {} bytes", sizes.head)));
        }
        if end.is_none() {
            self.line.extend_from_slice(piece);
            return Ok(piece.len());
        }
        let kept;
        let line = if self.line.is_empty() {
            piece
        } else {
            self.line.extend_from_slice(piece);
            kept = std::mem::take(&mut self.line);
            &kept
        };
        match line.strip_suffix(b"\r\n") {
            None => {
                return Err(Fault::protocol(format!("trailer line {} ends without CR", excerpt(line))));
            }
            Some(b"") => self.place = Place::End,
            Some(field) => {
                check_field(field)?;
                self.fields += 1;
                if self.fields > sizes.fields {
                    return Err(Fault::too_large(format!(
                        "there are more than {} trailer fields",
                        sizes.fields
                    )));
                }
            }
        }
        Ok(piece.len())
    }
}

fn check_field(line: &[u8]) -> Result<(), Fault> {
    let colon = memchr::memchr(b':', line).unwrap_or(0);
    let (name, value) = line.split_at(colon);
    if name.is_empty() || !name.iter().copied().all(is_token_byte) {
        return Err(Fault::protocol(format!("trailer line {} is no field", excerpt(line))));
    }
    if value.iter().any(|byte| (*byte < b' ' && *byte != b'\t') || *byte == 0x7f) {
        return Err(Fault::protocol(format!("trailer {} holds a control character", excerpt(name))));
    }
    Ok(())
}

const fn hexadecimal(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}
