//! Step 6: which endpoint of which model is tried next.
//!
//! First the healthy endpoints of each model in the plan's order, then those put aside, then the same
//! ones again. An endpoint that asked to be left alone is never tried, nor one above a threshold. Called by doors.

use crate::outfit;
use smallvec::SmallVec;
use waypost_config::ModelIndex;
use waypost_picker::NoPick;
use waypost_policy::Plan;
use waypost_router::{Brain, Decision, NoPlace, Place, Placing, Prompt, RETRY_AFTER_BUSY_S};
use waypost_wire::{ApiError, Code};

/// One endpoint with this request booked on it.
#[derive(Debug)]
pub struct Candidate {
    /// Position of its model in the plan.
    pub position: usize,
    /// Which one that is.
    pub model: ModelIndex,
    /// It has been tried for this request before.
    pub again: bool,
    /// The booking.
    pub place: Place,
}

/// See the module.
#[derive(Debug)]
pub struct Candidates<'a> {
    brain: &'a Brain,
    plan: &'a Plan,
    placing: Placing<'a>,
    models: SmallVec<[Tried; 4]>,
    again: bool,
}

/// What is known of one model of the plan.
#[derive(Debug, Default)]
struct Tried {
    endpoints: SmallVec<[usize; 4]>,
    /// Read once, when the model is first tried.
    prompt: Option<Option<Prompt>>,
    /// It was too busy in this round; it is not waited for twice.
    busy: bool,
}

impl<'a> Candidates<'a> {
    /// Of the models of `plan`, none of which has been tried.
    #[must_use]
    pub fn new(brain: &'a Brain, plan: &'a Plan, placing: Placing<'a>) -> Self {
        let models = plan.models.iter().map(|_| Tried::default()).collect();
        Self { brain, plan, placing, models, again: false }
    }

    /// Picks and books the next one; `None` when none can be had, and `decision` says why.
    pub async fn next(&mut self, decision: &mut Decision) -> Option<Candidate> {
        if let Some(candidate) = self.untried(decision).await {
            return Some(candidate);
        }
        if self.models.iter().all(|model| model.endpoints.is_empty()) {
            return None;
        }
        self.again = true;
        self.models.iter_mut().for_each(|model| model.endpoints.clear());
        self.untried(decision).await
    }

    async fn untried(&mut self, decision: &mut Decision) -> Option<Candidate> {
        let (brain, placing) = (self.brain, self.placing);
        self.models.iter_mut().for_each(|model| model.busy = false);
        for desperate in [false, true] {
            for (position, (model, _)) in self.plan.models.iter().enumerate() {
                let tried = &mut self.models[position];
                if tried.busy {
                    continue;
                }
                if tried.prompt.is_none() {
                    // What it is told is part of the prompt that its engines keep.
                    let told =
                        outfit::told(&brain.snapshot().models[*model], decision.reasoning, placing.body);
                    let body = told.as_ref().unwrap_or(placing.body);
                    tried.prompt = Some(brain.read_prompt(*model, &Placing { body, ..placing }).await);
                }
                let prompt = tried.prompt.as_ref().and_then(Option::as_ref);
                match brain.place(*model, &placing, prompt, (&tried.endpoints, desperate)).await {
                    Ok((place, placement)) => {
                        tried.endpoints.push(place.held.index());
                        decision.placements.extend(placement);
                        return Some(Candidate { position, model: *model, again: self.again, place });
                    }
                    Err(no_place) => {
                        tried.busy = no_place.is_busy();
                        if no_place != NoPlace::Pick(NoPick::Tried) {
                            decision.no_place.get_or_insert(no_place);
                        }
                    }
                }
            }
        }
        None
    }

    /// The client's answer when nothing could be tried at all.
    #[must_use]
    pub fn refusal(&self, why: Option<NoPlace>) -> ApiError {
        match why {
            Some(reason) if reason.is_busy() => {
                let message = match reason {
                    NoPlace::QueueFull => "The chosen model has as many requests waiting as it may.",
                    NoPlace::QueueDeadline => "Every endpoint of the chosen model stayed busy.",
                    NoPlace::Shed => "The chosen model is full, and requests of this priority give way.",
                    NoPlace::Pick(_) => "Every endpoint of the chosen model is busy.",
                };
                ApiError::new(Code::Saturated, message).retry_after(RETRY_AFTER_BUSY_S)
            }
            Some(NoPlace::Pick(NoPick::NoRole | NoPick::NotInSubset | NoPick::Unhealthy)) => {
                let message = "The chosen model has no endpoint that could answer.";
                ApiError::new(Code::NoEndpoint, message).retry_after(RETRY_AFTER_BUSY_S)
            }
            _ => {
                let seconds = self.held_for_s();
                let message =
                    format!("Every endpoint of the chosen model asked to be left alone for {seconds} s.");
                ApiError::new(Code::UpstreamRateLimited, message).retry_after(seconds)
            }
        }
    }

    /// Seconds until the first endpoint that asked to be left alone may be tried.
    fn held_for_s(&self) -> u64 {
        let now = self.brain.now();
        let held = self.plan.models.iter().filter_map(|(m, _)| self.brain.pool(*m).all_held_ms(now));
        held.min().map_or(1, |ms| ms.div_ceil(1000).max(1))
    }
}
