//! Names to addresses: once for each name, however many rows and threads ask.

use std::collections::HashMap;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::os::unix::net::UnixDatagram;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use rustix::io::Errno;

use crate::clock::now;
use crate::{Error, Kind};

/// How long an answer is used. The operating system's look-up tells no lifetime; a minute is short enough for a fail-over.
const LIFETIME: Duration = Duration::from_secs(60);

/// So few look-ups are never looked through for old ones.
const FEW: usize = 64;

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
    lookups: Mutex<Lookups>,
}

/// Those under way and those that were of use last.
#[derive(Debug, Default)]
struct Lookups {
    by_host: HashMap<Box<str>, Arc<Lookup>>,
    /// How many were left when the old ones were last dropped.
    left: usize,
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
    fn is_current(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

impl Lookups {
    /// Takes one in. Each time there are twice as many as were left the last time, the old ones are dropped.
    fn insert(&mut self, host: &str, lookup: &Arc<Lookup>, now: Instant) {
        if self.by_host.len() >= FEW.max(self.left * 2) {
            self.by_host.retain(|_, own| locked(&own.state).is_current(now));
            self.left = self.by_host.len();
            self.by_host.shrink_to(self.left * 2);
        }
        self.by_host.insert(host.into(), Arc::clone(lookup));
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
        let Some(lookup) = locked(&self.lookups).by_host.get(host).cloned() else {
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
        let now = now();
        let mut lookups = locked(&self.lookups);
        if let Some(lookup) = lookups.by_host.get(host)
            && locked(&lookup.state).is_current(now)
        {
            return Arc::clone(lookup);
        }
        let lookup = Arc::new(Lookup::default());
        lookups.insert(host, &lookup, now);
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
                let (resolver, name, own) = (Arc::clone(self), host.to_owned(), Arc::clone(lookup));
                let ask = move || resolver.answered(&name, &own, judged(&name, asked(&name)));
                // Detached on purpose: others may wait for the answer when this row no longer does. Where the system has no thread
                // for it, the runtime panics.
                let begun = catch_unwind(AssertUnwindSafe(|| drop(tokio::task::spawn_blocking(ask))));
                if begun.is_err() {
                    let message = format!("the look-up of {host} failed: the system has no thread for it");
                    self.answered(host, lookup, Err(Error::new(Kind::Dns, message)));
                }
            }
        }
    }

    fn answered(&self, host: &str, lookup: &Arc<Lookup>, answer: Answer) {
        if answer.is_err() {
            // A failure serves those who wait for it and nobody after them.
            let mut lookups = locked(&self.lookups);
            if lookups.by_host.get(host).is_some_and(|own| Arc::ptr_eq(own, lookup)) {
                lookups.by_host.remove(host);
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
    let before = lack_of_descriptors();
    let answer = (host, 0).to_socket_addrs();
    if answer.is_err()
        && let Some(lack) = before.or_else(lack_of_descriptors)
    {
        return Err(lack);
    }
    answer.map(|found| found.map(|address| address.ip()).collect())
}

/// What is said where there are fewer descriptors than a look-up holds at once, with some to spare.
fn lack_of_descriptors() -> Option<io::Error> {
    const ENOUGH: usize = 4;
    let lacks = [Errno::MFILE, Errno::NFILE].map(|errno| Some(errno.raw_os_error()));
    let taken: Result<Vec<_>, _> = (0..ENOUGH).map(|_| UnixDatagram::unbound()).collect();
    taken.err().filter(|error| lacks.contains(&error.raw_os_error()))
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
    fn old_lookups_are_dropped_when_there_are_twice_as_many() {
        let begin = now();
        let mut lookups = Lookups::default();
        let mut most = 0;
        for number in 0..100_000_u32 {
            let at = begin + number * Duration::from_millis(10);
            let lookup = Arc::new(Lookup::default());
            locked(&lookup.state).until = Some(at + LIFETIME);
            lookups.insert(&format!("host{number}"), &lookup, at);
            most = most.max(lookups.by_host.len());
        }
        // 6,000 begin within the time that an answer is used.
        assert!((6_000..=12_001).contains(&most), "there were {most} at once");
        assert!((99_000..100_000).all(|own| lookups.by_host.contains_key(&*format!("host{own}"))));
        let waits = Arc::new(Lookup::default());
        let late = begin + 2_000 * LIFETIME;
        lookups.insert("waits", &waits, begin);
        (0..12_001).for_each(|own| lookups.insert(&format!("other{own}"), &Arc::default(), late));
        assert!(lookups.by_host.contains_key("waits"), "one without an answer is never old");
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
