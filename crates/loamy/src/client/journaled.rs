//! The calls that write a journal.

use std::sync::Arc;

use super::{Client, await_list, send_list};
use crate::run::Run;
use crate::stream::{Order, Replay, Rows, Stream};
use crate::{Journal, JournalError, Outcome, Policy, Request};

/// The calls of a [`Client`] with a [`Journal`]; made by [`Client::with_journal`].
///
/// The rows must be those of the earlier runs, in the same order, and [`Policy::idempotency`] as then. What an earlier run has done is not sent again and has
/// the outcome that it had, [`replayed`](Outcome::replayed). What it may or may not have done ends in doubt. Once the
/// journal can be written no more, nothing further is sent.
#[derive(Debug)]
pub struct Journaled {
    client: Client,
    journal: Journal,
    replay: Replay,
}

impl Journaled {
    pub(super) fn new(client: Client, journal: Journal) -> Self {
        Self { client, journal, replay: Replay::Yield }
    }

    /// Streams yield only what is new, and pass over what an earlier run has done. Lists are whole all the same.
    pub fn only_new(mut self) -> Self {
        self.replay = Replay::PassOver;
        self
    }

    /// As [`Client::run`]. With the outcomes comes whether the journal is whole, which is an error when it could not be
    /// written or belongs to other rows. A row that could not be recorded does not count as done, and its outcome says so.
    pub fn run<R: Into<Request>>(
        self,
        rows: impl IntoIterator<Item = R>,
        policy: &Policy,
    ) -> (Vec<Outcome>, Result<(), JournalError>) {
        let run = self.begin(policy);
        let outcomes = send_list(&run, rows);
        let recorded = run.finish_journal();
        (outcomes, recorded)
    }

    /// As [`Client::stream`]. How the journal ended is told by [`Rows::finish`].
    pub fn stream<I>(self, rows: I, policy: &Policy, order: Order) -> Rows<I::IntoIter>
    where
        I: IntoIterator,
        I::Item: Into<Request>,
    {
        let replay = self.replay;
        Rows::new(self.begin(policy), rows.into_iter(), policy, order, replay)
    }

    /// As [`run`](Self::run), on any executor.
    pub async fn run_async<R: Into<Request>>(
        self,
        rows: impl IntoIterator<Item = R>,
        policy: &Policy,
    ) -> (Vec<Outcome>, Result<(), JournalError>) {
        let run = self.begin(policy);
        let outcomes = await_list(&run, rows).await;
        let recorded = std::future::poll_fn(|context| run.poll_finish_journal(context)).await;
        (outcomes, recorded)
    }

    /// As [`stream`](Self::stream), as a `Stream` on any executor.
    pub fn stream_async<I>(self, rows: I, policy: &Policy, order: Order) -> Stream<I::IntoIter>
    where
        I: IntoIterator,
        I::Item: Into<Request>,
    {
        Stream::new(self.stream(rows, policy, order))
    }

    /// Begins a batch that its owner feeds and drains, and at last [finishes](Run::finish_journal); for doors of other
    /// languages.
    pub fn begin(self, policy: &Policy) -> Run {
        Run::begin_with_journal(Arc::clone(&self.client.threads), policy, self.journal)
    }
}
