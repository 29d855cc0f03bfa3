//! Before anything is decided: whether a prompt attacks the model, by the built-in `safety`.
//!
//! Tier by tier and within the encoder's deadline, as for a policy; tier 0's verdict stands where the encoder was not had.
//! How the check ended is in the Decision, the prompt never. Called by doors, on the way of a request.

use crate::ask::Ask;
use crate::brain::Brain;
use crate::context::Context;
use crate::decision::{Decision, Escalation, Tier, millis, round};
use crate::prompt::PromptText;
use serde::{Serialize, Serializer};
use std::time::Instant;
use waypost_classify::Builtin;
use waypost_config::Guard;
use waypost_wire::{ApiError, Code, RequestView};

/// How the check of a prompt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Checked {
    /// Nothing against it.
    Passed,
    /// It has a label that is refused.
    Refused,
    /// The door had no time left.
    Late,
    /// The door sees no body.
    Unseen,
}

impl Checked {
    /// The word used in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Refused => "refused",
            Self::Late => "late",
            Self::Unseen => "unseen",
        }
    }
}

/// What the guard found.
#[derive(Debug, Clone, Serialize)]
pub struct Guarded {
    /// How the check ended.
    pub outcome: Checked,
    /// What the prompt was read as.
    #[serde(flatten)]
    pub read: Option<ReadAs>,
}

/// A verdict of `safety`.
#[derive(Debug, Clone, Serialize)]
pub struct ReadAs {
    /// Its label, at the rate of false alarms that the guard is held to.
    pub label: &'static str,
    /// Probability of that label, 0 to 1.
    #[serde(serialize_with = "rounded")]
    pub probability: f32,
    /// What answered.
    pub tier: Tier,
    /// Where tier 0 was in doubt.
    #[serde(flatten)]
    pub escalation: Option<Escalation>,
    /// Time it took.
    pub ms: f64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn rounded<S: Serializer>(value: &f32, serializer: S) -> Result<S::Ok, S::Error> {
    round(f64::from(*value)).serialize(serializer)
}

impl Brain {
    /// Checks the prompt of a request that is to be decided, where the configuration has a guard for it.
    ///
    /// # Errors
    /// 403, when it has a label that is refused.
    pub async fn guard(
        &self,
        ask: &Ask,
        view: &RequestView<'_>,
        context: &Context<'_>,
        decision: &mut Decision,
    ) -> Result<(), ApiError> {
        let Some(guard) = self.guard_of(ask) else { return Ok(()) };
        // Stands where this is given up on the way.
        decision.guard = Some(Guarded { outcome: Checked::Late, read: None });
        let begun = Instant::now();
        let text = PromptText::of(view, false);
        let patience = self.snapshot().encoder.deadline;
        let (verdict, escalation) =
            self.classifiers().ask_as_then(Builtin::Safety, &text, patience, Some(context)).await;
        let gates = self.classifiers().engine().builtin(Builtin::Safety).gates();
        let verdict = verdict.at_rate(guard.false_alarms, gates);
        let label = Builtin::Safety.labels().get(verdict.label).copied().unwrap_or_default();
        let refused = guard.refuse.contains(&label);
        decision.guard = Some(Guarded {
            outcome: if refused { Checked::Refused } else { Checked::Passed },
            read: Some(ReadAs {
                label,
                probability: verdict.confidence,
                tier: verdict.tier.into(),
                escalation,
                ms: millis(begun.elapsed()),
            }),
        });
        if refused { Err(refusal("The prompt is refused by this gateway's content policy.")) } else { Ok(()) }
    }

    /// [`Self::guard`] when there is no time, or nothing to see: the request passes, unless the guard is to refuse what it
    /// did not check.
    ///
    /// # Errors
    /// 403, where it does.
    pub fn guard_late(&self, ask: &Ask, decision: &mut Decision) -> Result<(), ApiError> {
        let Some(guard) = self.guard_of(ask) else { return Ok(()) };
        let guarded = decision.guard.get_or_insert(Guarded { outcome: Checked::Unseen, read: None });
        let checked = guarded.outcome == Checked::Passed;
        if checked || !guard.refuse_unchecked {
            return Ok(());
        }
        Err(refusal(
            "The prompt could not be checked by this gateway's content policy, which refuses such requests.",
        ))
    }

    /// The guard, where it is there for what is asked.
    fn guard_of(&self, ask: &Ask) -> Option<&Guard> {
        let guard = self.snapshot().guard.as_ref()?;
        let explicit = !matches!(ask, Ask::Classify(_));
        (guard.explicit_models || !explicit).then_some(guard)
    }
}

fn refusal(message: &str) -> ApiError {
    ApiError::new(Code::ContentPolicy, message)
}
