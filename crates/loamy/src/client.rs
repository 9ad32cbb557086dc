//! The front of the engine: a client, and the calls that send a list.

#[cfg(feature = "journal")]
mod journaled;

use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "journal")]
pub use self::journaled::Journaled;
use crate::run::{LONG, Run};
use crate::runtime::{self, Threads};
use crate::stream::{Order, Replay, Rows, Stream};
use crate::transport::dns::{Dns, Resolver};
use crate::transport::network::Network;
use crate::{Error, Kind, Outcome, Policy, Request};

/// Rows handed to the workers and outcomes taken from them at a time: the workers begin while the rest is still being
/// made, and memory that passes through is used again.
const SLICE: usize = 1024;

/// How long a list that is fed waits at the most before it is looked at again: an origin may have come to its limit.
const PAUSE: Duration = Duration::from_millis(20);

/// The expensive thing: threads, connections kept alive, addresses looked up. Clones are the same client.
///
/// Its calls may be used from any thread, inside an asynchronous runtime too: they never block on one.
#[derive(Clone)]
pub struct Client {
    threads: Arc<Threads>,
}

/// Builds a [`Client`].
#[derive(Clone, Debug, Default)]
pub struct ClientBuilder {
    threads: Option<usize>,
    dns: Dns,
}

impl ClientBuilder {
    /// How many threads the client may have; as many as there are cores unless set.
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = Some(threads);
        self
    }

    /// Where names are looked up.
    pub fn dns(mut self, dns: Dns) -> Self {
        self.dns = dns;
        self
    }

    /// Builds the client and starts its first thread.
    ///
    /// # Errors
    /// `bad_request` for 0 threads; `internal` when the system starts no thread.
    pub fn build(self) -> Result<Client, Error> {
        let count = self.threads.unwrap_or_else(runtime::cores);
        if count == 0 {
            return Err(Error::new(Kind::BadRequest, "threads is 0; it must be 1 or more"));
        }
        let threads = Threads::start(count, Network::new(Resolver::new(self.dns))).map_err(|error| {
            Error::new(Kind::Internal, "the system started no thread").caused_by_io(error)
        })?;
        Ok(Client { threads: Arc::new(threads) })
    }
}

impl Client {
    /// A client with the defaults.
    ///
    /// # Errors
    /// As [`ClientBuilder::build`].
    pub fn new() -> Result<Self, Error> {
        Self::builder().build()
    }

    /// A builder, for a client with other than the defaults.
    pub fn builder() -> ClientBuilder {
        ClientBuilder::default()
    }

    /// The one client of this process, made at its first use, and made anew in a child process.
    ///
    /// # Errors
    /// As [`ClientBuilder::build`].
    pub fn shared() -> Result<Self, Error> {
        runtime::shared_client()
    }

    /// Sends the list and waits: n requests in, n outcomes out, in the same order, whatever happens on the way.
    ///
    /// With a policy that cannot be followed, every outcome is `bad_request` and says why.
    ///
    /// All outcomes are held until the last one is there. Where they cannot fit into what
    /// [`memory_limit`](crate::memory_limit) says, [`stream`](Self::stream) is what there is.
    pub fn run<R: Into<Request>>(&self, rows: impl IntoIterator<Item = R>, policy: &Policy) -> Vec<Outcome> {
        send_list(&self.begin(policy), rows)
    }

    /// Sends rows as they are taken from the iterator, and yields outcomes as they end or in the order given.
    ///
    /// The iterator is asked on the thread that asks for outcomes, and only while fewer than `4 × concurrency` rows
    /// (and 1,000 more with a journal) are under way; memory stays flat however long it is. Dropping the result cancels
    /// the rest.
    pub fn stream<I>(&self, rows: I, policy: &Policy, order: Order) -> Rows<I::IntoIter>
    where
        I: IntoIterator,
        I::Item: Into<Request>,
    {
        Rows::new(self.begin(policy), rows.into_iter(), policy, order, Replay::Yield)
    }

    /// As [`run`](Self::run), on any executor. Dropping the future cancels the batch.
    pub async fn run_async<R: Into<Request>>(
        &self,
        rows: impl IntoIterator<Item = R>,
        policy: &Policy,
    ) -> Vec<Outcome> {
        await_list(&self.begin(policy), rows).await
    }

    /// As [`stream`](Self::stream), as a `Stream` on any executor.
    pub fn stream_async<I>(&self, rows: I, policy: &Policy, order: Order) -> Stream<I::IntoIter>
    where
        I: IntoIterator,
        I::Item: Into<Request>,
    {
        Stream::new(self.stream(rows, policy, order))
    }

    /// The same calls, with a journal: a record on disk that outlives the process, so that a later run with the same rows
    /// sends only what is left.
    ///
    /// ```no_run
    /// use loamy::{Client, Journal, JournalOptions, Policy, Request};
    ///
    /// let client = Client::new()?;
    /// let rows = (0..100_000).map(|n| Request::post(format!("http://127.0.0.1:8080/orders/{n}"), "{}"));
    /// let journal = Journal::open("run.loamy", JournalOptions::default())?;
    /// let (outcomes, recorded) = client.with_journal(journal).run(rows, &Policy::default());
    /// recorded?;
    /// let in_doubt = outcomes.iter().filter(|row| row.result.as_ref().is_err_and(|error| error.in_doubt()));
    /// println!("{} rows may or may not have taken effect", in_doubt.count());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg(feature = "journal")]
    pub fn with_journal(&self, journal: crate::Journal) -> Journaled {
        Journaled::new(self.clone(), journal)
    }

    /// Begins a batch that its owner feeds and drains; for doors of other languages.
    pub fn begin(&self, policy: &Policy) -> Run {
        Run::begin(Arc::clone(&self.threads), policy)
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Client").field("threads", &self.threads.count()).finish()
    }
}

fn send_list<R: Into<Request>>(run: &Run, rows: impl IntoIterator<Item = R>) -> Vec<Outcome> {
    let mut rows = rows.into_iter().map(Into::into).peekable();
    let mut outcomes = Vec::with_capacity(rows.size_hint().0);
    while rows.peek().is_some() {
        run.admit(rows.by_ref().take(SLICE));
        outcomes.append(&mut run.wait(SLICE, Duration::ZERO));
        while run.is_fed() {
            outcomes.append(&mut run.wait(SLICE, PAUSE));
        }
    }
    run.close();
    while !run.is_finished() {
        outcomes.append(&mut run.wait(SLICE, LONG));
    }
    in_order(outcomes)
}

async fn await_list<R: Into<Request>>(run: &Run, rows: impl IntoIterator<Item = R>) -> Vec<Outcome> {
    run.admit(rows.into_iter().map(Into::into));
    run.close();
    let mut outcomes = Vec::new();
    while !run.is_finished() {
        outcomes.append(&mut std::future::poll_fn(|context| run.poll_wait(context)).await);
    }
    in_order(outcomes)
}

/// Puts each outcome at its index. They come nearly in order, so nearly all moves are short.
fn in_order(mut outcomes: Vec<Outcome>) -> Vec<Outcome> {
    for place in 0..outcomes.len() {
        loop {
            let own = outcomes[place].index;
            if outcomes[own].index == own {
                break;
            }
            outcomes.swap(place, own);
        }
    }
    outcomes
}
