//! Who came how often, and when.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

/// Visits by id and method, and times of arrival by name. Both are cheap enough for each request
/// of a long run; neither depends on whether the log is kept.
#[derive(Default)]
pub(crate) struct Tally {
    visits: HashMap<String, Visits>,
    arrivals: HashMap<String, Vec<Duration>>,
}

/// How often each method came. There are few, so a list is quicker than a map.
type Visits = Vec<(String, u64)>;

impl Tally {
    /// Counts a visit by this id, and says how many there were with any method.
    pub(crate) fn visit(&mut self, id: &str, method: &str) -> u64 {
        // Looked up first: an entry would want a name of its own each time.
        if !self.visits.contains_key(id) {
            self.visits.insert(id.to_owned(), Vec::with_capacity(1));
        }
        let Some(visits) = self.visits.get_mut(id) else { return 0 };
        match visits.iter_mut().find(|(known, _)| known == method) {
            Some((_, count)) => *count += 1,
            None => visits.push((method.to_owned(), 1)),
        }
        visits.iter().map(|(_, count)| count).sum()
    }

    /// Everything that was counted, by id and method.
    pub(crate) fn visits(&self) -> BTreeMap<String, BTreeMap<String, u64>> {
        let counted = self.visits.iter();
        counted.map(|(id, visits)| (id.clone(), visits.iter().cloned().collect())).collect()
    }

    pub(crate) fn arrived(&mut self, name: &str, now: Duration) {
        match self.arrivals.get_mut(name) {
            Some(times) => times.push(now),
            None => drop(self.arrivals.insert(name.to_owned(), vec![now])),
        }
    }

    /// The times of arrival, since the server started.
    pub(crate) fn arrivals(&self, name: &str) -> &[Duration] {
        self.arrivals.get(name).map_or(&[], Vec::as_slice)
    }
}
