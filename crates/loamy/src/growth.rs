//! How the buffer of a body grows: what a peer announces is believed in proportion to what came, and a large body of
//! unknown length is given all that it may become, as address space.

/// Memory reserved on the word of a `Content-Length` alone, or of a coded body about its own length; the rest is taken as the
/// body comes.
pub(crate) const TRUSTED: usize = 1 << 20;

/// From here on the rest is believed at once: growing step by step would copy a large body again and again, and hold it
/// twice each time. Address space that is never filled costs no memory.
const PROVEN: usize = 4 << 20;

/// Makes room for `more` bytes in a buffer that will be `whole` bytes long and no longer.
pub(crate) fn make_room(bytes: &mut Vec<u8>, whole: usize, more: usize) {
    let len = bytes.len();
    if bytes.capacity() - len >= more {
        return;
    }
    let missing = whole.saturating_sub(len).max(more);
    if len >= PROVEN && bytes.try_reserve_exact(missing).is_ok() {
        return;
    }
    bytes.reserve_exact(missing.min(more.max(len).max(TRUSTED)));
}

/// Makes room for `more` bytes of a body whose length nobody said, in a buffer that becomes no longer than `most`.
pub(crate) fn make_room_unknown(bytes: &mut Vec<u8>, most: u64, more: usize) {
    let len = bytes.len();
    if bytes.capacity() - len >= more {
        return;
    }
    let rest = usize::try_from(most).unwrap_or(usize::MAX).saturating_sub(len).saturating_add(more);
    if len < PROVEN || bytes.try_reserve_exact(rest).is_err() {
        bytes.reserve(more);
    }
}

/// The buffer of a whole body. What is left over goes back, save of large ones: it was never filled and is only address
/// space, and to give it back could copy them.
pub(crate) fn settled(mut bytes: Vec<u8>) -> Vec<u8> {
    if bytes.len() < PROVEN {
        bytes.shrink_to_fit();
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_of_unknown_length_is_moved_no_more_once_it_is_large() {
        const MOST: u64 = 1 << 30;
        let mut bytes = vec![0; PROVEN];
        make_room_unknown(&mut bytes, MOST, 1);
        assert_eq!(bytes.capacity() as u64, MOST + 1);
        assert_eq!(settled(bytes).len(), PROVEN);
        let mut small = Vec::with_capacity(8);
        small.extend([0; 8]);
        make_room_unknown(&mut small, MOST, 1);
        assert_eq!(small.capacity(), 16);
        assert_eq!(settled(small).capacity(), 8);
    }

    #[test]
    fn a_limit_that_no_memory_could_hold_is_none() {
        let mut bytes = vec![0; PROVEN];
        make_room_unknown(&mut bytes, u64::MAX, 1);
        assert!(bytes.capacity() > PROVEN);
    }

    #[test]
    fn what_is_announced_is_believed_in_proportion_to_what_came() {
        const WHOLE: usize = 1 << 30;
        for (len, room) in
            [(0, TRUSTED), (TRUSTED, 2 * TRUSTED), (PROVEN - 1, 2 * (PROVEN - 1)), (PROVEN, WHOLE)]
        {
            let mut bytes = vec![0; len];
            bytes.shrink_to_fit();
            make_room(&mut bytes, WHOLE, 1);
            assert_eq!(bytes.capacity(), room, "{len}");
        }
    }

    #[test]
    fn room_is_made_for_no_more_than_the_whole() {
        let mut bytes = Vec::new();
        make_room(&mut bytes, 100, 10);
        assert_eq!(bytes.capacity(), 100);
    }
}
