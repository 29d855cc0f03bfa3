//! Whether a conversation keeps its model: a warm prompt cache is worth money, and an agent must not change its mind
//! between two calls of a tool.
//!
//! Time and memory come in as arguments. Called by the router for policies with `sticky`.

use waypost_config::{Model, ModelIndex, Policy, Snapshot, Sticky};

use crate::{Demand, Plan, Reason, fit};

/// What is known of a conversation from its earlier requests.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Memory {
    /// The model that answered last.
    pub model: ModelIndex,
    /// Prompt tokens that its cache holds, as far as can be told.
    pub cached_tokens: u64,
    /// Expected cost of all requests so far, in US dollars.
    pub spent_usd: f64,
    /// What leaving warm caches has added to it.
    pub extra_usd: f64,
    /// When the last request came, Unix time in milliseconds.
    pub at_ms: u64,
}

/// What this request is to the conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Turn {
    /// The last message is not the user's: an agent is in the middle of its work.
    pub tool_loop: bool,
    /// The user is not content with the last answer.
    pub complaint: bool,
    /// The classifier failed, which is no wish for another model.
    pub failed: bool,
}

/// Puts the model first that the conversation is to have. Returns what leaving a warm cache adds, in US dollars.
pub fn keep(
    snapshot: &Snapshot,
    policy: &Policy,
    sticky: &Sticky,
    memory: &Memory,
    turn: Turn,
    demand: &Demand,
    plan: &mut Plan,
) -> f64 {
    let Some((wanted, _)) = plan.models.first().copied() else { return 0.0 };
    let fits = |model: ModelIndex| fit(&snapshot.models[model], demand).is_ok();
    let current = memory.model;
    let (first, reason) = if turn.tool_loop || turn.failed {
        (current, Reason::Conversation)
    } else if turn.complaint && sticky.complaints {
        match next_up(snapshot, policy, current, wanted, fits) {
            Some(up) => (up, Reason::MovedUp),
            None => (current, Reason::Conversation),
        }
    } else if may_leave(snapshot, sticky, memory, wanted) {
        (wanted, Reason::Conversation)
    } else {
        (current, Reason::Conversation)
    };
    // A complaint is the reason, also where the policy wanted that model anyway.
    if (first != wanted || reason == Reason::MovedUp) && fits(first) {
        plan.models.retain(|(model, _)| *model != first);
        for (_, reason) in &mut plan.models {
            *reason = Reason::Fallback;
        }
        plan.models.insert(0, (first, reason));
    }
    let taken = plan.models.first().map_or(wanted, |(model, _)| *model);
    if taken == current {
        0.0
    } else {
        reread_usd(&snapshot.models[taken], memory.cached_tokens).unwrap_or(0.0)
    }
}

/// The next dearer model of the policy; the one wanted anyway, if that is dearer still.
fn next_up(
    snapshot: &Snapshot,
    policy: &Policy,
    current: ModelIndex,
    wanted: ModelIndex,
    fits: impl Fn(ModelIndex) -> bool,
) -> Option<ModelIndex> {
    let ladder = ladder(snapshot, policy);
    let rung = |model| ladder.iter().position(|other| *other == model);
    let here = rung(current)?;
    let up = ladder[here + 1..].iter().copied().find(|model| fits(*model));
    match (up, rung(wanted)) {
        (Some(up), Some(rung_wanted)) if rung(up).is_some_and(|rung_up| rung_wanted > rung_up) => {
            Some(wanted)
        }
        (up, _) => up,
    }
}

/// The policy's models from the cheapest to the dearest; those without a price in the order of the file, first.
#[must_use]
pub fn ladder(snapshot: &Snapshot, policy: &Policy) -> Vec<ModelIndex> {
    let mut models = policy.models();
    let price =
        |model: ModelIndex| snapshot.models[model].price.map_or(0.0, |price| price.input + price.output);
    models.sort_by(|a, b| price(*a).total_cmp(&price(*b)).then(a.cmp(b)));
    models
}

/// Whether the extra spend stays within its share. Without prices nobody can tell, and the conversation stays.
fn may_leave(snapshot: &Snapshot, sticky: &Sticky, memory: &Memory, wanted: ModelIndex) -> bool {
    let model = &snapshot.models[wanted];
    let known = snapshot.models[memory.model].price.is_some();
    let Some(extra) = reread_usd(model, memory.cached_tokens).filter(|_| known) else { return false };
    sticky.spend > 0.0 && memory.extra_usd + extra <= sticky.spend * memory.spent_usd
}

/// What reading these tokens anew costs more than reading them from a warm cache.
fn reread_usd(model: &Model, tokens: u64) -> Option<f64> {
    let price = model.price?;
    Some((tokens as f64 * (price.input - price.cached_input) / 1e6).max(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Choice, plan};

    const CONFIG: &str = r"
models:
  - {name: mid, endpoints: ['http://a:1'], price: {input: 1, output: 4, cached_input: 0.1}}
  - {name: small, endpoints: ['http://b:1'], price: {input: 0.1, output: 0.4}, accepts: [tools]}
  - {name: large, endpoints: ['http://c:1'], price: {input: 10, output: 40}, accepts: [images]}
policies:
  - name: p
    classifier: task
    routes: {Open QA: small, Code Generation: large, Rewrite: mid}
    default: mid
    sticky: conversation
";
    const MID: usize = 0;
    const SMALL: usize = 1;
    const LARGE: usize = 2;

    fn after(memory: Memory, turn: Turn, label: &str, demand: Demand) -> (ModelIndex, Reason, f64) {
        let s = waypost_config::load_str(CONFIG, "test", &|_| None).unwrap();
        let policy = &s.policies[0];
        let mut planned = plan(&s, Some(policy), Choice::Label(label, None), &demand).unwrap();
        let count = planned.models.len();
        let extra = keep(&s, policy, &policy.sticky.unwrap(), &memory, turn, &demand, &mut planned);
        assert!(planned.models.len() >= count, "nothing is lost");
        (planned.models[0].0, planned.models[0].1, extra)
    }

    fn warm(model: ModelIndex) -> Memory {
        Memory { model, cached_tokens: 10_000, spent_usd: 0.02, extra_usd: 0.0, at_ms: 0 }
    }

    const USER: Turn = Turn { tool_loop: false, complaint: false, failed: false };
    const TOOLS: Turn = Turn { tool_loop: true, ..USER };
    const COMPLAINT: Turn = Turn { complaint: true, ..USER };
    const FAILED: Turn = Turn { failed: true, ..USER };

    #[test]
    fn it_leaves_only_for_little_money() {
        let small = after(warm(MID), USER, "Open QA", Demand::default());
        assert_eq!(
            (small.0, small.1),
            (SMALL, Reason::Label),
            "re-reading at the small model costs next to nothing"
        );
        assert!((small.2 - 0.00075).abs() < 1e-12);
        let large = after(warm(MID), USER, "Code Generation", Demand::default());
        assert_eq!(large, (MID, Reason::Conversation, 0.0), "0.075 dollars are more than a fifth of 0.02");
        let rich = Memory { spent_usd: 1.0, ..warm(MID) };
        assert_eq!(after(rich, USER, "Code Generation", Demand::default()).0, LARGE);
        let used_up = Memory { extra_usd: 0.2, ..rich };
        assert_eq!(after(used_up, USER, "Code Generation", Demand::default()).0, MID, "the share is spent");
    }

    #[test]
    fn a_tool_loop_never_flips() {
        let cold = Memory { cached_tokens: 0, ..warm(MID) };
        for label in ["Open QA", "Code Generation"] {
            assert_eq!(after(cold, TOOLS, label, Demand::default()), (MID, Reason::Conversation, 0.0));
        }
    }

    #[test]
    fn a_failure_of_the_classifier_is_no_reason_to_leave() {
        assert_eq!(after(warm(LARGE), FAILED, "Open QA", Demand::default()).0, LARGE);
    }

    #[test]
    fn a_complaint_moves_up_one_rung_or_stays_at_the_top() {
        assert_eq!(after(warm(SMALL), COMPLAINT, "Open QA", Demand::default()).0, MID);
        assert_eq!(after(warm(MID), COMPLAINT, "Open QA", Demand::default()).0, LARGE);
        assert_eq!(after(warm(LARGE), COMPLAINT, "Open QA", Demand::default()).0, LARGE);
        assert_eq!(
            after(warm(SMALL), COMPLAINT, "Code Generation", Demand::default()).0,
            LARGE,
            "wanted anyway"
        );
        let tools = Demand { tools: true, ..Demand::default() };
        assert_eq!(after(warm(MID), COMPLAINT, "Open QA", tools).0, MID, "the large one takes no tools");
    }

    #[test]
    fn a_model_that_cannot_take_the_request_is_left() {
        let images = Demand { images: true, ..Demand::default() };
        let (model, reason, _) = after(warm(SMALL), TOOLS, "Open QA", images);
        assert_eq!((model, reason), (MID, Reason::Capable));
    }
}
