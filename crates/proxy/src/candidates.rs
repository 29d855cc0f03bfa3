//! Step 6: which endpoint of which model is tried next.
//!
//! First the healthy endpoints of each model in the plan's order, then those put aside, then the same
//! ones again. An endpoint that asked to be left alone is never tried. Called by send.

use smallvec::SmallVec;
use waypost_config::ModelIndex;
use waypost_picker::{Ask, Booking};
use waypost_policy::Plan;
use waypost_router::Brain;

/// One endpoint with this request booked on it.
#[derive(Debug)]
pub(crate) struct Candidate {
    /// Position of its model in the plan.
    pub(crate) position: usize,
    pub(crate) model: ModelIndex,
    /// Position in the model's pool.
    pub(crate) index: usize,
    /// It has been tried for this request before.
    pub(crate) again: bool,
    pub(crate) booking: Booking,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Candidates<'a> {
    brain: &'a Brain,
    plan: &'a Plan,
    tried: SmallVec<[SmallVec<[usize; 4]>; 4]>,
    again: bool,
}

impl<'a> Candidates<'a> {
    pub(crate) fn new(brain: &'a Brain, plan: &'a Plan) -> Self {
        Self { brain, plan, tried: plan.models.iter().map(|_| SmallVec::new()).collect(), again: false }
    }

    /// Picks and books the next one.
    pub(crate) fn next(&mut self) -> Option<Candidate> {
        if let Some(candidate) = self.untried() {
            return Some(candidate);
        }
        self.again = true;
        self.tried.iter_mut().for_each(SmallVec::clear);
        self.untried()
    }

    fn untried(&mut self) -> Option<Candidate> {
        let now = self.brain.now();
        for desperate in [false, true] {
            for (position, (model, _)) in self.plan.models.iter().enumerate() {
                let tried = &mut self.tried[position];
                if let Ok(pick) = self.brain.pool(*model).pick(&Ask::any(tried, desperate), now) {
                    tried.push(pick.index);
                    return Some(Candidate {
                        position,
                        model: *model,
                        index: pick.index,
                        again: self.again,
                        booking: pick.booking,
                    });
                }
            }
        }
        None
    }

    /// Seconds until the first endpoint that asked to be left alone may be tried.
    pub(crate) fn held_for_s(&self) -> u64 {
        let now = self.brain.now();
        let held = self.plan.models.iter().filter_map(|(m, _)| self.brain.pool(*m).all_held_ms(now));
        held.min().map_or(1, |ms| ms.div_ceil(1000).max(1))
    }
}
