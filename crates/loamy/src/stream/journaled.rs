//! The end of a stream that writes a journal.

use std::task::{Context, Poll};

use super::{Rows, Stream};
use crate::JournalError;

impl<I> Rows<I> {
    /// Ends the stream, and its journal: complete if the last outcome was yielded; else what is left is interrupted, and a
    /// later run goes on from here. Returns when all is on disk, at once if nothing was left to yield. Without a journal
    /// it is the same as dropping the stream.
    ///
    /// # Errors
    /// When the journal could not be written, now or earlier, or when it knows more rows than there were.
    pub fn finish(mut self) -> Result<(), JournalError> {
        self.end_journal();
        self.recorded.take().unwrap_or(Ok(()))
    }

    pub(super) fn end_journal(&mut self) {
        if self.recorded.is_none() {
            self.recorded = Some(self.run.finish_journal());
        }
    }

    pub(super) fn poll_end_journal(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.recorded.is_none() {
            self.recorded = Some(std::task::ready!(self.run.poll_finish_journal(context)));
        }
        Poll::Ready(())
    }
}

impl<I> Stream<I> {
    /// As [`Rows::finish`]. It blocks unless the stream has come to its end.
    ///
    /// # Errors
    /// As [`Rows::finish`].
    pub fn finish(self) -> Result<(), JournalError> {
        self.rows.finish()
    }
}
