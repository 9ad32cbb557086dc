//! The part file: what arrived, one framed record after another, each with its checksum. No I/O.

/// At the very beginning: the file's own word, and the journal that it belongs to.
pub(crate) const MAGIC: [u8; 8] = *b"loamy\0p\x01";
pub(crate) const HEADER: u64 = 24;

/// Length and checksum before each record.
const FRAME: usize = 8;

/// What a record is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Record<'a> {
    /// A row's outcome, with what the index says of it, so that the index can be made anew.
    Row { row: u64, traits: u8, fingerprint: [u8; 16], outcome: &'a [u8] },
    /// That the commit before this one is on disk.
    Mark { number: u64 },
}

/// What is said of a row beside its outcome, as bits.
pub(crate) const FAILED: u8 = 1;
pub(crate) const IN_DOUBT: u8 = 2;
pub(crate) const UNSAFE: u8 = 4;

/// Where in the part file something stands, and its checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) at: u64,
    pub(crate) length: u32,
    pub(crate) checksum: u32,
}

/// An outcome so large that the frame cannot say its length.
#[derive(Debug)]
pub(crate) struct TooLong;

/// Frames a row's record, which `fill` writes; `end` is the file's length before `into`.
pub(crate) fn frame_row(
    into: &mut Vec<u8>,
    end: u64,
    row: u64,
    traits: u8,
    fingerprint: [u8; 16],
    fill: impl FnOnce(&mut Vec<u8>),
) -> Result<Span, TooLong> {
    let start = into.len();
    into.extend_from_slice(&[0; FRAME]);
    into.push(1);
    into.extend_from_slice(&row.to_le_bytes());
    into.push(traits);
    into.extend_from_slice(&fingerprint);
    fill(into);
    close(into, start, end).inspect_err(|_| into.truncate(start))
}

pub(crate) fn frame_mark(into: &mut Vec<u8>, number: u64) {
    let start = into.len();
    into.extend_from_slice(&[0; FRAME]);
    into.push(2);
    into.extend_from_slice(&number.to_le_bytes());
    let Ok(_) = close(into, start, 0) else { unreachable!("a mark is short") };
}

fn close(into: &mut [u8], start: usize, end: u64) -> Result<Span, TooLong> {
    let length = u32::try_from(into.len() - start).map_err(|_| TooLong)?;
    let payload = length - FRAME as u32;
    into[start..start + 4].copy_from_slice(&payload.to_le_bytes());
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&payload.to_le_bytes()), &into[start + FRAME..]);
    into[start + 4..start + 8].copy_from_slice(&checksum.to_le_bytes());
    Ok(Span { at: end + start as u64, length, checksum })
}

/// Reads the whole record that stands at the front, and says how long it is with its frame. None if there is none.
pub(crate) fn first(bytes: &[u8]) -> Option<(Record<'_>, usize, u32)> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (checksum, rest) = rest.split_first_chunk::<4>()?;
    let checksum = u32::from_le_bytes(*checksum);
    let payload = rest.get(..u32::from_le_bytes(*length) as usize)?;
    if crc32c::crc32c_append(crc32c::crc32c(length), payload) != checksum {
        return None;
    }
    let (word, rest) = payload.split_first()?;
    let (number, rest) = rest.split_first_chunk::<8>()?;
    let number = u64::from_le_bytes(*number);
    let record = match word {
        1 => {
            let (traits, rest) = rest.split_first()?;
            let (fingerprint, outcome) = rest.split_first_chunk::<16>()?;
            Record::Row { row: number, traits: *traits, fingerprint: *fingerprint, outcome }
        }
        2 => Record::Mark { number },
        _ => return None,
    };
    Some((record, FRAME + payload.len(), checksum))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h7_any_flipped_bit_and_any_cut_of_a_record_is_noticed() {
        let mut bytes = Vec::new();
        frame_mark(&mut bytes, 3);
        let span = frame_row(&mut bytes, 100, 7, FAILED, [9; 16], |into| into.extend_from_slice(b"outcome"))
            .unwrap();
        assert_eq!(span.at, 100 + 17);
        let (mark, length, _) = first(&bytes).unwrap();
        assert_eq!((mark, length), (Record::Mark { number: 3 }, 17));
        let row = &bytes[length..];
        let expected = Record::Row { row: 7, traits: FAILED, fingerprint: [9; 16], outcome: b"outcome" };
        assert_eq!(first(row), Some((expected, row.len(), span.checksum)));
        assert_eq!(span.length as usize, row.len());
        for cut in 0..row.len() {
            assert_eq!(first(&row[..cut]), None, "cut at {cut}");
        }
        for bit in 0..row.len() * 8 {
            let mut flipped = row.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(first(&flipped), None, "bit {bit}");
        }
    }
}
