//! How much a peer says that is for no row.

/// What may come without anything of it being any row's, before the connection is closed as one that floods.
const IDLE_TALK: u64 = 1 << 20;

/// Counts what came of which no row took anything (RFC 9113 §10.5).
#[derive(Debug)]
pub(super) struct Talk {
    /// What had been read when this was last looked at.
    read: u64,
    idle: u64,
    /// How much of it is no flood: no less than a head, which is nobody's until it is whole.
    most: u64,
    /// What may still come for rows that gave up: their peer sent it before it knew.
    late: u64,
    was_of_use: bool,
}

impl Talk {
    pub(super) fn new(read: u64, max_head: usize) -> Self {
        Self { read, idle: 0, most: IDLE_TALK.max(max_head as u64), late: 0, was_of_use: false }
    }

    /// So much has been read by now.
    pub(super) fn came(&mut self, read: u64) {
        if std::mem::take(&mut self.was_of_use) {
            self.late = self.late.saturating_sub(self.idle);
            self.idle = 0;
        }
        self.idle += read - self.read;
        self.read = read;
    }

    /// A row had a use for it: it took so many bytes of a body, or goes on otherwise.
    pub(super) fn was_of_use(&mut self, taken: usize) {
        self.idle = self.idle.saturating_sub(taken as u64);
        self.was_of_use = true;
    }

    /// A row gave up for which so much may be under way, in a connection that holds no more than `most`.
    pub(super) fn will_be_late(&mut self, bytes: u32, most: u32) {
        self.late = (self.late + u64::from(bytes)).min(most.into());
    }

    pub(super) fn is_flood(&self) -> bool {
        !self.was_of_use && self.idle > self.most + self.late
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: u32 = 1 << 20;

    #[test]
    fn what_no_row_has_a_use_for_is_a_flood_beyond_a_mebibyte() {
        let mut talk = Talk::new(500, 0);
        talk.came(500 + IDLE_TALK);
        assert!(!talk.is_flood());
        talk.came(501 + IDLE_TALK);
        assert!(talk.is_flood());
        talk.was_of_use(0);
        assert!(!talk.is_flood());
        talk.came(501 + 2 * IDLE_TALK);
        assert!(!talk.is_flood());
        talk.came(502 + 2 * IDLE_TALK);
        assert!(talk.is_flood());
    }

    #[test]
    fn a_head_that_may_come_is_no_flood() {
        let mut talk = Talk::new(0, 1 << 22);
        talk.came(1 << 22);
        assert!(!talk.is_flood());
        talk.came((1 << 22) + 1);
        assert!(talk.is_flood());
    }

    #[test]
    fn what_is_late_for_rows_that_gave_up_is_none_but_once() {
        let window = u64::from(WINDOW);
        let mut talk = Talk::new(0, 0);
        (0..3).for_each(|_| talk.will_be_late(WINDOW, 16 * WINDOW));
        // Beside what is late another row takes its body.
        talk.came(2 * window);
        talk.was_of_use(WINDOW as usize);
        talk.came(4 * window + IDLE_TALK);
        assert!(!talk.is_flood(), "one window was late before, two are now");
        talk.came(4 * window + IDLE_TALK + 1);
        assert!(talk.is_flood());
        (0..30).for_each(|_| talk.will_be_late(WINDOW, 16 * WINDOW));
        talk.was_of_use(0);
        talk.came(8 * window);
        assert!(!talk.is_flood());
        talk.came(30 * window);
        assert!(talk.is_flood(), "no more is under way than a connection holds");
    }
}
