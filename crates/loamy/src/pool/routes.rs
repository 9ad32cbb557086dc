//! What the connections of a thread are made to. A route that nobody has a use for is forgotten in the end, and its number given to
//! another: no connection to it stands or is being made, no row waits for one, and no batch has sent rows there. The last of them
//! are kept for what was learned of their peers: who closes after each row does so in the next batch too.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::ops::{Index, IndexMut};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Task;
use crate::policy::{HttpVersion, Policy, Sizes};
use crate::target::{Origin, Scheme};
use crate::tls::TlsProfile;
use crate::transport::tls::Spoken;

/// So many that nobody has a use for are kept.
pub(super) const KEPT: usize = 1_000;

/// What must be the same for two rows to share a connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct RouteKey {
    pub(crate) origin: Arc<Origin>,
    pub(crate) tls: TlsProfile,
    pub(crate) version: HttpVersion,
    /// The largest head that its connections have to take: HTTP/2 tells it to the peer once, for all rows.
    pub(crate) max_head: usize,
}

impl RouteKey {
    /// The connections for rows of a policy; what it says of heads is theirs only where it allows more than is usual.
    pub(crate) fn new(origin: Arc<Origin>, tls: TlsProfile, policy: &Policy) -> Self {
        let max_head = policy.sizes.head.max(Sizes::default().head);
        Self { origin, tls, version: policy.http_version, max_head }
    }
}

/// What connections are made to, and those without work: the latest used is the last.
pub(crate) struct Route {
    pub(crate) key: RouteKey,
    pub(crate) authority: String,
    /// Scheme and authority as HTTP/2 has them; none where only HTTP/1.1 can say them.
    pub(crate) target: Option<(http::uri::Scheme, http::uri::Authority)>,
    pub(super) idle: Vec<usize>,
    /// After how many rows the peer was seen to close at once and without a word; rows that must not be sent twice
    /// then take another connection before that.
    pub(super) closes_after: u32,
    /// What the peer spoke when it was last connected to.
    pub(super) speaks: Option<Spoken>,
    /// Connections in the making.
    pub(super) connecting: usize,
    /// How long it took of late from the wish for one until it stood.
    took: Duration,
    /// Rows of this turn that have a connection in prospect.
    pub(super) promised: usize,
    /// Connections that rows share.
    pub(super) shared: Vec<usize>,
    /// Until when they have to do: no other could be made.
    pub(super) enough_until: Option<Instant>,
    /// Streams that the peer allowed when it last said so.
    pub(super) allowed: Option<usize>,
    /// Rows that wait for a stream.
    pub(super) waiting: VecDeque<Task>,
    /// Connections, whatever they are at.
    open: usize,
    /// How often batches name it.
    named: usize,
    /// Its place among those that nobody has a use for; it may have one again.
    out_of_use: Option<u64>,
}

/// See the head of this file.
#[derive(Default)]
pub(super) struct Routes {
    /// Boxed, so that the place of one that was forgotten takes next to nothing.
    kept: Vec<Option<Box<Route>>>,
    unused: Vec<usize>,
    by_key: HashMap<RouteKey, usize>,
    with_waiting: BTreeSet<usize>,
    /// Those of which somebody may have had the last use.
    perhaps_over: Vec<usize>,
    /// Those that nobody had a use for, the one first for which that is longest ago.
    out_of_use: BTreeMap<u64, usize>,
    numbered: u64,
}

impl Routes {
    pub(super) fn to(&mut self, key: RouteKey) -> usize {
        if let Some(route) = self.by_key.get(&key) {
            return *route;
        }
        let route = self.unused.pop().unwrap_or_else(|| {
            self.kept.push(None);
            self.kept.len() - 1
        });
        self.by_key.insert(key.clone(), route);
        self.kept[route] = Some(Box::new(Route::new(key)));
        self.perhaps_over.push(route);
        route
    }

    /// A batch has rows that go there.
    pub(super) fn name(&mut self, route: usize) {
        self[route].named += 1;
    }

    /// It is over.
    pub(super) fn unname(&mut self, route: usize) {
        self[route].named -= 1;
        self.lost_a_use(route);
    }

    /// A connection is made to it.
    pub(super) fn opened(&mut self, route: usize) {
        self[route].open += 1;
    }

    /// A connection to it is no more.
    pub(super) fn closed(&mut self, route: usize) {
        self[route].open -= 1;
        self.lost_a_use(route);
    }

    pub(super) fn wait(&mut self, route: usize, task: Task) {
        self[route].waiting.push_back(task);
        self.with_waiting.insert(route);
    }

    /// Hands over the rows that wait; to be put back where they still have to.
    pub(super) fn take_waiting(&mut self, route: usize) -> VecDeque<Task> {
        if !self.with_waiting.remove(&route) {
            return VecDeque::new();
        }
        let waiting = std::mem::take(&mut self[route].waiting);
        self.lost_a_use(route);
        waiting
    }

    /// Those that rows wait for.
    pub(super) fn with_waiting(&self) -> impl Iterator<Item = usize> {
        self.with_waiting.iter().copied()
    }

    /// Forgets those that nobody has a use for, the last of them apart. Nobody may have the number of one in hand meanwhile.
    pub(super) fn forget(&mut self) {
        while let Some(route) = self.perhaps_over.pop() {
            if let Some(own) = self.kept[route].as_mut().filter(|own| !own.is_in_use()) {
                self.numbered += 1;
                if let Some(before) = own.out_of_use.replace(self.numbered) {
                    self.out_of_use.remove(&before);
                }
                self.out_of_use.insert(self.numbered, route);
            }
        }
        while self.out_of_use.len() > KEPT
            && let Some((_, route)) = self.out_of_use.pop_first()
            && let Some(own) = &mut self.kept[route]
        {
            own.out_of_use = None;
            if let Some(over) = self.kept[route].take_if(|own| !own.is_in_use()) {
                self.by_key.remove(&over.key);
                self.unused.push(route);
            }
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.by_key.len()
    }

    fn lost_a_use(&mut self, route: usize) {
        if !self[route].is_in_use() {
            self.perhaps_over.push(route);
        }
    }
}

impl Index<usize> for Routes {
    type Output = Route;

    fn index(&self, route: usize) -> &Route {
        let Some(own) = &self.kept[route] else { unreachable!("route {route} is forgotten and has a use") };
        own
    }
}

impl IndexMut<usize> for Routes {
    fn index_mut(&mut self, route: usize) -> &mut Route {
        let Some(own) = &mut self.kept[route] else {
            unreachable!("route {route} is forgotten and has a use")
        };
        own
    }
}

impl Route {
    fn new(key: RouteKey) -> Self {
        let authority = key.origin.authority();
        let scheme = match key.origin.scheme {
            Scheme::Http => http::uri::Scheme::HTTP,
            Scheme::Https => http::uri::Scheme::HTTPS,
        };
        Self {
            key,
            target: authority.parse().ok().map(|authority| (scheme, authority)),
            authority,
            idle: Vec::new(),
            closes_after: u32::MAX,
            speaks: None,
            connecting: 0,
            took: Duration::ZERO,
            promised: 0,
            shared: Vec::new(),
            enough_until: None,
            allowed: None,
            waiting: VecDeque::new(),
            open: 0,
            named: 0,
            out_of_use: None,
        }
    }

    /// Whether rows wait for a stream.
    pub(crate) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Whether those that rows share have to do.
    pub(super) fn has_enough(&self, now: Instant) -> bool {
        self.enough_until.is_some_and(|until| now < until)
    }

    /// Whether rows may share connections to it, as far as is known.
    pub(crate) fn may_share(&self) -> bool {
        let can = self.target.is_some();
        match (self.key.origin.scheme, self.key.version) {
            (_, HttpVersion::Http1) | (Scheme::Http, HttpVersion::Auto) => false,
            (_, HttpVersion::Http2) => can,
            (Scheme::Https, HttpVersion::Auto) => can && self.speaks != Some(Spoken::Http1),
        }
    }

    /// How long it is until there is another connection. Who is ready a little early loses nothing, and who is late does.
    pub(super) fn lead(&self) -> Duration {
        self.took + self.took / 4
    }

    /// It took so long to make one.
    pub(super) fn took(&mut self, span: Duration) {
        self.took = span.max((self.took * 3 + span) / 4);
    }

    fn is_in_use(&self) -> bool {
        self.open > 0 || self.named > 0 || self.has_waiting()
    }
}
