//! How the buffer of a body grows: what a peer announces is believed in proportion to what came.

/// Memory reserved on the word of a `Content-Length` alone; the rest is taken as the body comes.
pub(crate) const TRUSTED: usize = 1 << 20;

/// From here on the rest is believed at once: growing step by step would copy a large body again and again, and hold it
/// twice each time. Address space that is never filled costs no memory.
const PROVEN: usize = 16 << 20;

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

#[cfg(test)]
mod tests {
    use super::*;

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
