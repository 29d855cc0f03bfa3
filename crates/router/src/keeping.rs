//! Conversations that keep their model: what is remembered before a plan, and after it.
//!
//! What follows from memory is decided in `policy`. Policies in shadow remember for themselves; a request that is decided
//! again is given what was remembered then. Part of the brain.

use crate::brain::Brain;
use crate::context::Context;
use crate::conversations::{self, Conversation, Recalled};
use crate::decision::Decision;
use crate::route::{Asking, demand};
use std::sync::Arc;
use waypost_config::{ModelIndex, PolicyIndex, Sticky};
use waypost_policy::{BYTES_PER_TOKEN, Memory, Plan, Turn, keep};
use waypost_wire::RequestView;

impl Brain {
    /// Whether the conversation keeps its model, and what is remembered of it from now on.
    pub(crate) fn keep_together(
        &self,
        index: PolicyIndex,
        sticky: &Sticky,
        asking: &Asking<'_>,
        decision: &mut Decision,
        plan: &mut Plan,
    ) {
        let Asking { view, context, in_shadow } = *asking;
        let (snapshot, policy) = (self.snapshot(), &self.snapshot().policies[index]);
        let Some(key) = conversations::key(view, context) else { return };
        // Two policies may want different models for the same conversation.
        let key = key ^ (xxhash_rust::xxh3::xxh3_128(policy.name.as_bytes()) << 1) ^ u128::from(in_shadow);
        let turn = Turn { failed: decision.classifier_error.is_some(), ..conversations::turn(view) };
        let recalled = match context.given.and_then(|given| given.memory.clone()) {
            Some(memory) => memory,
            None if conversations::begins(view, context) => None,
            None => self.conversations().recall(key, context.at_ms, sticky.keep.as_millis() as u64),
        };
        // A model that is no longer in the policy cannot be kept.
        let memory = recalled.as_ref().and_then(|recalled| {
            let model = snapshot.model(&recalled.model).filter(|model| policy.models().contains(model))?;
            Some(recalled.memory(model))
        });
        let extra_usd = match &memory {
            Some(memory) => keep(snapshot, policy, sticky, memory, turn, &demand(view), plan),
            None => 0.0,
        };
        decision.plan = self.considered(plan);
        let word = match (memory.is_some(), turn.tool_loop, turn.complaint) {
            (false, ..) => "first",
            (_, true, _) => "tool_loop",
            (.., true) => "complaint",
            _ => "next",
        };
        let had = memory.map(|memory| Arc::clone(&snapshot.models[memory.model].name));
        decision.conversation = Some(Conversation { key, turn: word, had, extra_usd, recalled });
        if let Some((taken, _)) = plan.models.first() {
            self.conversations().remember(key, self.after(memory, *taken, extra_usd, view, context));
        }
    }

    /// What to remember of a conversation once `taken` has it.
    fn after(
        &self,
        before: Option<Memory>,
        taken: ModelIndex,
        extra_usd: f64,
        view: &RequestView<'_>,
        context: &Context<'_>,
    ) -> Recalled {
        let model = &self.snapshot().models[taken];
        let prompt_tokens = view.text_bytes as u64 / BYTES_PER_TOKEN;
        let warm = before.filter(|before| before.model == taken).map_or(0, |before| before.cached_tokens);
        let cached = warm.min(prompt_tokens);
        let cost = model.price.map_or(0.0, |price| {
            price.cost_usd(prompt_tokens - cached, 0) + cached as f64 * price.cached_input / 1e6
        });
        Recalled {
            model: Arc::clone(&model.name),
            cached_tokens: prompt_tokens,
            spent_usd: before.map_or(0.0, |before| before.spent_usd) + cost,
            extra_usd: before.map_or(0.0, |before| before.extra_usd) + extra_usd,
            at_ms: context.at_ms,
        }
    }

    /// Another model answered than the one that was to: its cache is the warm one now.
    pub fn answered_by(&self, decision: &Decision, model: ModelIndex) {
        let Some(conversation) = &decision.conversation else { return };
        let name = &self.snapshot().models[model].name;
        if decision.plan.first().is_some_and(|first| first.model != *name) {
            self.conversations().correct(conversation.key, name);
        }
    }
}
