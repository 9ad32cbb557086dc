//! From a row to the queue that it waits in.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::{Keyed, Lane, Metered, Own, Plan};
use crate::Error;
use crate::gate::{Gate, Meter};
use crate::job::{OriginId, Placed};
use crate::request::Request;
use crate::target::{self, Origin, Target};

impl Plan {
    /// Reads the row's URL and finds its origin. The URL becomes what will be sent.
    pub(crate) fn place(&mut self, request: &mut Request, gate: &Gate) -> Result<Placed, Error> {
        let own = request.overrides.as_deref();
        let raw = own.is_some_and(|own| own.raw_url);
        let is_keyed = own.is_some_and(|own| own.limit_key.is_some());
        if let Some((prefix, origin)) = &self.before
            && !is_keyed
            && let Some(rest) = request.url.strip_prefix(prefix.as_str())
            && target::is_plain_target(rest.as_bytes())
        {
            return Ok(Placed { origin: *origin, path_at: prefix.len(), authorization: None });
        }
        let target = target::parse(&request.url, raw)?;
        let as_typed = request.url.starts_with(&target.url[..target.path_at]);
        let placed = self.settle_in(request, target, gate);
        if as_typed && !is_keyed && placed.authorization.is_none() {
            self.before = Some((request.url[..placed.path_at].to_owned(), placed.origin));
        }
        Ok(placed)
    }

    /// Takes a parsed URL over into the request and finds its origin.
    pub(crate) fn settle_in(&mut self, request: &mut Request, target: Target, gate: &Gate) -> Placed {
        request.url = target.url;
        let key = request.overrides.as_ref().and_then(|own| own.limit_key.as_deref());
        Placed {
            origin: self.id(target.origin, key, gate),
            path_at: target.path_at,
            authorization: target.authorization,
        }
    }

    /// A hop leads from one origin to another: there the row counts as those do that began there.
    pub(crate) fn goes_on_to(&mut self, to: OriginId, from: OriginId) {
        let [to, from] = [to, from].map(|id| self.lanes[id.0 as usize].meter);
        if to != from {
            self.meters[to].meter.budget.row();
        }
    }

    fn id(&mut self, origin: Origin, key: Option<&str>, gate: &Gate) -> OriginId {
        let known = match key {
            None => self.by_origin.get(&origin),
            Some(key) => self.by_key.get(key).and_then(|keyed| keyed.by_origin.get(&origin)),
        };
        if let Some(id) = known {
            return *id;
        }
        let origin = Arc::new(origin);
        let id = OriginId(self.lanes.len() as u32);
        let meter = match key {
            None => {
                self.by_origin.insert(Arc::clone(&origin), id);
                self.new_meter(id)
            }
            Some(key) => {
                if !self.by_key.contains_key(key) {
                    let keyed = Keyed { meter: self.new_meter(id), by_origin: HashMap::new() };
                    self.by_key.insert(key.into(), keyed);
                }
                let meter = self.by_key.get_mut(key).map(|keyed| {
                    keyed.by_origin.insert(Arc::clone(&origin), id);
                    keyed.meter
                });
                meter.unwrap_or_default()
            }
        };
        self.lanes.push(Lane::new(origin, key, meter));
        if self.lanes.len() == 2 {
            self.update(OriginId(0), gate);
        }
        id
    }

    fn new_meter(&mut self, lane: OriginId) -> usize {
        self.meters.push(Metered {
            meter: Meter::new(&self.policy, &mut self.jitter),
            lane,
            asleep_until: None,
            turns: Own::default(),
            asking: Own::default(),
            later: BTreeSet::new(),
        });
        self.meters.len() - 1
    }
}
