//! How the buffer of a body grows: what a peer announces is believed in proportion to what came, and a body of unknown
//! length is kept in pieces.

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

/// From here on a piece is put aside.
const PIECE: usize = 8 << 20;

/// What came of a body whose length nobody said, but for its end: in pieces, so that it is never copied to grow.
#[derive(Debug, Default)]
pub(crate) struct Pile {
    pieces: Vec<Vec<u8>>,
    len: usize,
}

impl Pile {
    /// The bytes in it.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Puts the buffer aside once it is a piece, and leaves an empty one in its place.
    pub(crate) fn put_aside(&mut self, bytes: &mut Vec<u8>) {
        if bytes.len() >= PIECE {
            self.len += bytes.len();
            self.pieces.push(std::mem::replace(bytes, Vec::with_capacity(PIECE)));
        }
    }

    /// All of it and the end in one allocation of its own size; a piece is given back as soon as it is copied.
    pub(crate) fn join(self, end: Vec<u8>) -> Box<[u8]> {
        if self.pieces.is_empty() {
            return end.into_boxed_slice();
        }
        let mut whole = Vec::with_capacity(self.len + end.len());
        for piece in self.pieces {
            whole.extend_from_slice(&piece);
        }
        whole.extend_from_slice(&end);
        whole.into_boxed_slice()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_joined_in_order_and_in_their_own_size() {
        let (mut pile, mut bytes) = (Pile::default(), Vec::new());
        let mut expected = Vec::new();
        for round in 0..40u8 {
            bytes.extend(std::iter::repeat_n(round, 1 << 20));
            expected.extend(std::iter::repeat_n(round, 1 << 20));
            pile.put_aside(&mut bytes);
            assert_eq!(pile.len() + bytes.len(), expected.len());
        }
        assert_eq!(pile.pieces.len(), 5);
        assert_eq!(*pile.join(bytes), *expected);
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
