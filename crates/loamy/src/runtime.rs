//! The sync seam: the threads of a client, the limit on descriptors, and what a fork leaves behind.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::thread;

use crate::seat::{Mailbox, Message};
use crate::transport::network::Network;
use crate::worker::Worker;
use crate::{Client, Error};

/// Threads that run look-ups of names, for each worker: `getaddrinfo` blocks, and fails when hundreds call it at once.
const LOOKUP_THREADS: usize = 8;

/// What of the process's limit on descriptors is left to others.
const DESCRIPTORS_LEFT: usize = 64;

/// The threads of a client. The first runs from the start; each further one from when it is needed.
pub(crate) struct Threads {
    seats: Vec<OnceLock<Option<Arc<Mailbox>>>>,
    network: Arc<Network>,
    /// Connections that one thread may have open.
    connections: usize,
}

impl Threads {
    pub(crate) fn start(count: usize, network: Network) -> io::Result<Self> {
        let threads = Self {
            seats: (0..count).map(|_| OnceLock::new()).collect(),
            network: Arc::new(network),
            connections: (descriptors() / count).max(1),
        };
        let first = threads.spawn(0)?;
        // Nobody else knows the threads yet, so the seat is free.
        let _ = threads.seats[0].set(Some(first));
        Ok(threads)
    }

    pub(crate) fn count(&self) -> usize {
        self.seats.len()
    }

    /// The threads with the fewest batches that are not taken yet, at most so many; further ones are started while too
    /// few are idle. A thread that the system would not start is passed over.
    pub(crate) fn idlest(&self, at_most: usize, taken: &[Arc<Mailbox>]) -> Vec<Arc<Mailbox>> {
        let is_free = |mailbox: &Arc<Mailbox>| !taken.iter().any(|own| Arc::ptr_eq(own, mailbox));
        let batches = |mailbox: &Arc<Mailbox>| mailbox.batches.load(Ordering::Relaxed);
        let started = self.seats.iter().filter_map(OnceLock::get).flatten();
        let mut free: Vec<_> = started.filter(|mailbox| is_free(mailbox)).cloned().collect();
        let mut unstarted = self.seats.iter().enumerate().filter(|(_, seat)| seat.get().is_none());
        while free.iter().filter(|mailbox| batches(mailbox) == 0).count() < at_most
            && let Some((number, seat)) = unstarted.next()
        {
            let started = seat.get_or_init(|| self.spawn(number).ok());
            free.extend(started.iter().filter(|mailbox| is_free(mailbox)).cloned());
        }
        free.sort_by_key(batches);
        free.truncate(at_most);
        for mailbox in &free {
            mailbox.batches.fetch_add(1, Ordering::Relaxed);
        }
        free
    }

    #[expect(clippy::disallowed_methods, reason = "a thread of our own, not the caller's")]
    fn spawn(&self, number: usize) -> io::Result<Arc<Mailbox>> {
        let mailbox = Arc::new(Mailbox::default());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .max_blocking_threads(LOOKUP_THREADS)
            .thread_name(format!("loamy-dns-{number}"))
            .build()?;
        let (own, network, room) = (Arc::clone(&mailbox), Arc::clone(&self.network), self.connections);
        thread::Builder::new()
            .name(format!("loamy-{number}"))
            .spawn(move || runtime.block_on(Worker::new(own, network, room).run()))?;
        Ok(mailbox)
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        for mailbox in self.seats.iter().filter_map(OnceLock::get).flatten() {
            mailbox.send(Message::Leave);
        }
    }
}

/// The cores that this process may use.
pub(crate) fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

fn descriptors() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let limit = limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
    limit.saturating_sub(DESCRIPTORS_LEFT).max(limit / 2)
}

/// One client for each process: a child finds its parent's, whose threads it does not have, and makes its own.
struct Process {
    id: u32,
    client: OnceLock<Client>,
    child: OnceLock<Box<Process>>,
}

static FIRST: OnceLock<Process> = OnceLock::new();

impl Process {
    fn new(id: u32) -> Self {
        Self { id, client: OnceLock::new(), child: OnceLock::new() }
    }
}

/// The client of this process. What a parent made is left alone in its child, neither used nor freed (its threads do
/// not exist there), and no lock is taken that the parent may have held at the fork.
pub(crate) fn shared_client() -> Result<Client, Error> {
    let id = std::process::id();
    let mut process = FIRST.get_or_init(|| Process::new(id));
    while process.id != id {
        process = process.child.get_or_init(|| Box::new(Process::new(id)));
    }
    if let Some(client) = process.client.get() {
        return Ok(client.clone());
    }
    let client = Client::new()?;
    Ok(process.client.get_or_init(|| client).clone())
}
