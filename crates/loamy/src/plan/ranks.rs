//! Who comes first among queues of which some stand and fall together: those of one meter do. Each meter ranks its own, and only the
//! first of each meter that lets rows pass is ranked among all; so what changes for a meter costs the same however many queues it has.

use std::collections::BTreeSet;

use crate::job::OriginId;

/// The lowest comes first.
pub(super) type Rank = (usize, u64);

/// The queues of one meter that have something to ask for.
#[derive(Debug, Default)]
pub(super) struct Own {
    ranked: BTreeSet<(Rank, OriginId)>,
    /// Which of them stands among the first of all meters.
    shown: Option<(Rank, OriginId)>,
}

/// The first of each meter that lets rows pass.
#[derive(Debug, Default)]
pub(super) struct Firsts(BTreeSet<(Rank, OriginId)>);

impl Own {
    /// A queue has another rank, or none, than it had.
    pub(super) fn rank(&mut self, id: OriginId, before: Option<Rank>, now: Option<Rank>) {
        if let Some(before) = before {
            self.ranked.remove(&(before, id));
        }
        self.ranked.extend(now.map(|now| (now, id)));
    }

    /// Whether one of them may come first among all.
    pub(super) fn is_shown(&self) -> bool {
        self.shown.is_some()
    }

    /// Puts its first among all, or none where the meter lets nothing pass.
    pub(super) fn show(&mut self, among: &mut Firsts, passes: bool) {
        let wanted = if passes { self.ranked.first().copied() } else { None };
        if self.shown == wanted {
            return;
        }
        if let Some(shown) = std::mem::replace(&mut self.shown, wanted) {
            among.0.remove(&shown);
        }
        among.0.extend(wanted);
    }

    pub(super) fn clear(&mut self) {
        self.ranked.clear();
        self.shown = None;
    }
}

impl Firsts {
    pub(super) fn first(&self) -> Option<(Rank, OriginId)> {
        self.0.first().copied()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}
