//! What the routes remember from one request to the next.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use crate::keyed::{Keyed, Order, Ruling};
use crate::limit::{How, Limiter, Rule, Standing, Usage};
use crate::peak::{Admission, Curve, Peak, PeakUsage};
use crate::tally::Tally;

/// All of it, each part by the name or id in the path.
#[derive(Default)]
pub(crate) struct Memory {
    pub tally: Tally,
    limiters: HashMap<String, Limiter>,
    keyed: HashMap<String, Keyed>,
    peaks: HashMap<String, Peak>,
}

impl Memory {
    /// Asks the limit of this name for one more request. The error is how it counts, if that
    /// is another way than the rule's.
    pub(crate) fn ask(&mut self, name: &str, rule: &Rule, now: Duration) -> Result<(Standing, Usage), How> {
        let limiter = self.limiters.entry(name.to_owned()).or_insert_with(|| Limiter::new(rule, now));
        if limiter.how() != rule.how {
            return Err(limiter.how());
        }
        let standing = limiter.ask(rule, now);
        Ok((standing, limiter.usage))
    }

    pub(crate) fn usage(&self, name: &str) -> Usage {
        self.limiters.get(name).map(|limiter| limiter.usage).unwrap_or_default()
    }

    pub(crate) fn order(&mut self, id: &str, order: &Order<'_>, now: Duration) -> Ruling {
        self.keyed.entry(id.to_owned()).or_default().ask(order, now)
    }

    /// How often requests to this id took effect, and with how many keys.
    pub(crate) fn effect(&self, id: &str) -> (u64, usize) {
        self.keyed.get(id).map_or((0, 0), |keyed| (keyed.effects, keyed.keys()))
    }

    /// How often requests took effect, by id.
    pub(crate) fn effects(&self) -> BTreeMap<String, u64> {
        self.keyed.iter().map(|(id, keyed)| (id.clone(), keyed.effects)).collect()
    }

    pub(crate) fn arrive(&mut self, name: &str, curve: &Curve, now: Duration) -> Admission {
        self.peaks.entry(name.to_owned()).or_default().arrive(curve, now)
    }

    pub(crate) fn peak(&self, name: &str) -> PeakUsage {
        self.peaks.get(name).map(|peak| peak.usage).unwrap_or_default()
    }
}
