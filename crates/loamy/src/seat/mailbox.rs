//! How a worker is woken: by messages of others, and by the connections that have something to do.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};

use super::Shared;

/// What a worker is told.
pub(crate) enum Message {
    /// Work for this batch too, from that seat at it.
    Begin { shared: Arc<Shared>, seat: usize },
    /// Look at your batches again: rows came, slots are free, or one was stopped.
    Look,
    /// End as soon as no batch is left.
    Leave,
}

/// One for each worker.
#[derive(Default)]
pub(crate) struct Mailbox {
    state: Mutex<State>,
    /// Batches that the worker has a seat at.
    pub(crate) batches: AtomicUsize,
}

#[derive(Default)]
struct State {
    messages: VecDeque<Message>,
    /// Connections that were woken.
    woken: Vec<usize>,
    /// The worker itself, while it sleeps.
    sleeper: Option<Waker>,
}

impl Mailbox {
    pub(crate) fn send(&self, message: Message) {
        let mut state = self.lock();
        state.messages.push_back(message);
        rouse(state);
    }

    /// Takes what came; without anything, the waker is kept until something does.
    pub(crate) fn collect(
        &self,
        messages: &mut VecDeque<Message>,
        woken: &mut Vec<usize>,
        sleeper: &Waker,
    ) -> bool {
        let mut state = self.lock();
        // A turn that broke off has left some.
        messages.append(&mut state.messages);
        std::mem::swap(&mut state.woken, woken);
        let is_something = !messages.is_empty() || !woken.is_empty();
        state.sleeper = (!is_something).then(|| sleeper.clone());
        is_something
    }

    /// A waker for the connection of that number.
    pub(crate) fn waker(self: &Arc<Self>, connection: usize) -> (Waker, Arc<Bell>) {
        let bell = Arc::new(Bell { mailbox: Arc::clone(self), connection, rung: AtomicBool::new(false) });
        (Waker::from(Arc::clone(&bell)), bell)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Wakes a worker for one of its connections.
pub(crate) struct Bell {
    mailbox: Arc<Mailbox>,
    connection: usize,
    rung: AtomicBool,
}

impl Bell {
    /// The worker looks at the connection now; what rings from here on counts again.
    pub(crate) fn reset(&self) {
        self.rung.store(false, Ordering::Release);
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.rung.swap(true, Ordering::AcqRel) {
            let mut state = self.mailbox.lock();
            state.woken.push(self.connection);
            rouse(state);
        }
    }
}

fn rouse(mut state: MutexGuard<'_, State>) {
    let sleeper = state.sleeper.take();
    drop(state);
    if let Some(sleeper) = sleeper {
        sleeper.wake();
    }
}
