//! Names to addresses: once for each name, however many rows and threads ask.

use std::collections::HashMap;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use crate::clock::now;
use crate::{Error, Kind};

/// How long an answer is used. The operating system's look-up tells no lifetime; a minute is short enough for a fail-over.
const LIFETIME: Duration = Duration::from_secs(60);

/// Where names are looked up.
#[derive(Clone, Default)]
pub enum Dns {
    /// The operating system: `getaddrinfo`, with all that it honours.
    #[default]
    System,
    /// A function from host name to addresses, in the order to be tried; for tests and for names that only you know. An
    /// error of the kind `NotFound` says that there is no such name, any other that it may be there later.
    Fixed(FixedDns),
}

/// The function of [`Dns::Fixed`].
pub type FixedDns = Arc<dyn Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync>;

impl fmt::Debug for Dns {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Dns::System => "System",
            Dns::Fixed(_) => "Fixed",
        })
    }
}

/// Looks names up and remembers the answers, for all threads of a client.
#[derive(Debug, Default)]
pub(crate) struct Resolver {
    source: Dns,
    lookups: Mutex<HashMap<Box<str>, Arc<Lookup>>>,
}

type Answer = Result<Arc<[IpAddr]>, Error>;

#[derive(Debug, Default)]
struct Lookup {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    answer: Option<Answer>,
    until: Option<Instant>,
    waiting: Vec<Waker>,
}

impl State {
    /// Whether the answer is still to come, or not yet too old.
    fn is_current(&self) -> bool {
        self.until.is_none_or(|until| now() < until)
    }
}

impl Resolver {
    pub(crate) fn new(source: Dns) -> Self {
        Self { source, lookups: Mutex::default() }
    }

    /// The addresses of a host, in the order to be tried. Numbers need no look-up.
    pub(crate) async fn resolve(self: &Arc<Self>, host: &str) -> Result<Arc<[IpAddr]>, Error> {
        if let Ok(address) = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
            return Ok(Arc::new([address]));
        }
        let lookup = self.lookup(host);
        poll_fn(|context| {
            let mut state = locked(&lookup.state);
            if let Some(answer) = &state.answer {
                return Poll::Ready(answer.clone());
            }
            if !state.waiting.iter().any(|waker| waker.will_wake(context.waker())) {
                state.waiting.push(context.waker().clone());
            }
            Poll::Pending
        })
        .await
    }

    /// Makes the address that worked the first to be tried by those who come later.
    pub(crate) fn prefer(&self, host: &str, address: IpAddr) {
        let Some(lookup) = locked(&self.lookups).get(host).cloned() else {
            return;
        };
        let mut state = locked(&lookup.state);
        if let Some(Ok(addresses)) = &mut state.answer
            && addresses.first() != Some(&address)
            && let Some(position) = addresses.iter().position(|own| *own == address)
        {
            let mut reordered = addresses.to_vec();
            reordered[..=position].rotate_right(1);
            *addresses = reordered.into();
        }
    }

    fn lookup(self: &Arc<Self>, host: &str) -> Arc<Lookup> {
        let mut lookups = locked(&self.lookups);
        if let Some(lookup) = lookups.get(host)
            && locked(&lookup.state).is_current()
        {
            return Arc::clone(lookup);
        }
        let lookup = Arc::new(Lookup::default());
        lookups.insert(host.into(), Arc::clone(&lookup));
        drop(lookups);
        self.begin(host, &lookup);
        lookup
    }

    fn begin(self: &Arc<Self>, host: &str, lookup: &Arc<Lookup>) {
        match &self.source {
            Dns::Fixed(addresses) => {
                let answer = catch_unwind(AssertUnwindSafe(|| addresses(host)));
                let answer = match answer {
                    Ok(answer) => judged(host, answer),
                    Err(_) => {
                        Err(Error::new(Kind::Internal, format!("the given look-up panicked for {host}")))
                    }
                };
                self.answered(host, lookup, answer);
            }
            Dns::System => {
                let (resolver, host, lookup) = (Arc::clone(self), host.to_owned(), Arc::clone(lookup));
                // Detached on purpose: others may wait for the answer when this row no longer does.
                drop(tokio::task::spawn_blocking(move || {
                    resolver.answered(&host, &lookup, judged(&host, asked(&host)));
                }));
            }
        }
    }

    fn answered(&self, host: &str, lookup: &Arc<Lookup>, answer: Answer) {
        if answer.is_err() {
            // A failure serves those who wait for it and nobody after them.
            let mut lookups = locked(&self.lookups);
            if lookups.get(host).is_some_and(|own| Arc::ptr_eq(own, lookup)) {
                lookups.remove(host);
            }
        }
        let mut state = locked(&lookup.state);
        state.answer = Some(answer);
        state.until = Some(now() + LIFETIME);
        for waker in state.waiting.drain(..) {
            waker.wake();
        }
    }
}

/// Asks the system.
///
/// Without a descriptor for its socket and its files, `getaddrinfo` says that there is no such name, or that it failed for
/// now. So a failure counts only when there were some right before and right after it; else it is the lack of them.
#[expect(clippy::disallowed_methods, reason = "the one place that asks the system for a name")]
fn asked(host: &str) -> io::Result<Vec<IpAddr>> {
    let before = has_spare_descriptors();
    let answer = (host, 0).to_socket_addrs();
    if answer.is_err() {
        before?;
        has_spare_descriptors()?;
    }
    answer.map(|found| found.map(|address| address.ip()).collect())
}

/// Whether there are as many descriptors as a look-up holds at once, with some to spare.
fn has_spare_descriptors() -> io::Result<()> {
    const ENOUGH: usize = 4;
    let mut held = Vec::with_capacity(ENOUGH);
    for _ in 0..ENOUGH {
        held.push(rustix::io::fcntl_dupfd_cloexec(io::stderr(), 0)?);
    }
    Ok(())
}

fn judged(host: &str, answer: io::Result<Vec<IpAddr>>) -> Answer {
    match answer {
        Ok(addresses) if addresses.is_empty() => {
            Err(Error::new(Kind::Dns, format!("{host} has no address")).lasting())
        }
        Ok(addresses) => Ok(interleaved(addresses)),
        Err(error) => {
            let message = format!("the look-up of {host} failed: {error}");
            let named = Error::new(Kind::Dns, message);
            let named = if is_no_such_name(&error) { named.lasting() } else { named };
            Err(named.caused_by_io(error))
        }
    }
}

/// Whether the answer was that there is no such name, or none with an address (EAI_NONAME, EAI_NODATA), and not that there was none
/// for now. The standard library passes on the system's words and not its number; where they are others, the failure counts as
/// one that may pass.
fn is_no_such_name(error: &io::Error) -> bool {
    let said = error.to_string();
    error.kind() == io::ErrorKind::NotFound
        || ["not known", "No address associated"].iter().any(|words| said.contains(words))
}

/// Alternates the families, beginning with the one that the resolver put first (RFC 8305 §4).
fn interleaved(mut addresses: Vec<IpAddr>) -> Arc<[IpAddr]> {
    let mut seen = Vec::with_capacity(addresses.len());
    addresses.retain(|address| {
        !seen.contains(address) && {
            seen.push(*address);
            true
        }
    });
    let leads_with_v6 = addresses.first().is_some_and(IpAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|own| own.is_ipv6() == leads_with_v6);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut ordered = Vec::new();
    loop {
        match (first.next(), second.next()) {
            (None, None) => return ordered.into(),
            (one, other) => ordered.extend(one.into_iter().chain(other)),
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn families_alternate_and_repetitions_are_dropped() {
        let ordered = interleaved(addresses(&["::1", "::2", "::1", "127.0.0.1", "127.0.0.2", "127.0.0.3"]));
        assert_eq!(*ordered, addresses(&["::1", "127.0.0.1", "::2", "127.0.0.2", "127.0.0.3"]));
    }

    #[test]
    fn the_address_that_worked_is_tried_first_by_those_who_come_later() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let dns =
            Dns::Fixed(Arc::new(|_| Ok(vec!["127.0.0.1".parse().unwrap(), "127.0.0.2".parse().unwrap()])));
        let resolver = Arc::new(Resolver::new(dns));
        #[expect(clippy::disallowed_methods, reason = "a test has no runtime around it")]
        let first = |resolver: &Arc<Resolver>| runtime.block_on(resolver.resolve("h")).unwrap()[0];
        assert_eq!(first(&resolver).to_string(), "127.0.0.1");
        resolver.prefer("h", "127.0.0.2".parse().unwrap());
        assert_eq!(first(&resolver).to_string(), "127.0.0.2");
    }
}
