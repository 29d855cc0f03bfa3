//! One logged request, decided again.
//!
//! Under the policy that decided it, everything that came from outside is taken from the log: time, latencies, memory,
//! what servers said, what became of the encoder. Under another one it is found out anew. Called by `replay`.

use crate::error::Error;
use crate::logged::{Line, Recorded};
use crate::offline::Offline;
use std::collections::HashSet;
use std::sync::Arc;
use waypost_config::PolicyIndex;
use waypost_router::{Ask, Brain, Context, Decision, Given, Remote, Tier, Via};
use waypost_wire::{ApiError, Code, RequestView};

/// Gateways whose conversations are kept apart at once; the one that was silent longest is forgotten.
const MAX_GATEWAYS: usize = 16;
/// Conversations known to have begun in the log.
const MAX_CONVERSATIONS: usize = 1_000_000;
/// Digits of a Decision's id that name the gateway.
const GATEWAY_DIGITS: usize = 8;

/// Decides again, in the order of arrival.
#[derive(Debug)]
pub(super) struct Again<'a> {
    offline: &'a Offline,
    /// Instead of what was asked for.
    policy: Option<PolicyIndex>,
    /// A gateway remembers its own conversations, and a restart forgets them. The latest is last.
    brains: Vec<(String, Brain)>,
    begun: HashSet<String>,
}

/// What came of it.
pub(super) enum New {
    Decided {
        decision: Box<Decision>,
        error: Option<ApiError>,
        /// Its conversation began before the log, so nobody can know what was remembered of it.
        midway: bool,
    },
    /// Not decided again, for this reason.
    Left(&'static str),
}

impl<'a> Again<'a> {
    pub(super) fn new(offline: &'a Offline, policy: Option<PolicyIndex>) -> Result<Self, Error> {
        // What cannot be loaded is told before the log is read.
        let first = offline.brain(None)?;
        Ok(Self { offline, policy, brains: vec![(String::new(), first)], begun: HashSet::new() })
    }

    /// Decides the request of a line.
    pub(super) async fn decide(&mut self, line: &Line<'_>, recorded: &Recorded) -> Result<New, Error> {
        let Some(body) = line.request else { return Ok(New::Left("no request")) };
        if recorded.plan.is_empty() && recorded.outcome.as_deref() == Some("client_gone") {
            return Ok(New::Left("the client left before it was decided"));
        }
        if recorded.error.as_deref() == Some(Code::ContentPolicy.as_str()) {
            return Ok(New::Left("the guard refused it before it was decided"));
        }
        let Ok(view) = RequestView::parse(body.get().as_bytes()) else {
            return Ok(New::Left("its request cannot be read"));
        };
        let Some(headers) = line.headers() else {
            return Ok(New::Left("its headers cannot be read"));
        };
        let wanted = self.policy;
        let midway = line.memory.is_none() && self.midway(recorded);
        let brain = self.brain(recorded)?;
        let (ask, via) = match asked(brain, wanted, &view, &headers, recorded) {
            Ok(asked) => asked,
            Err(reason) => return Ok(New::Left(reason)),
        };
        let policies = &brain.snapshot().policies;
        let as_then = wanted.is_none_or(|wanted| recorded.policy.as_ref() == Some(&policies[wanted].name));
        let mut given = as_then.then(|| given(line, recorded));
        if let (Some(given), Some(_)) = (&mut given, wanted) {
            // The policy is to have all chats: it remembers and shares out what it has.
            (given.memory, given.arm) = (None, None);
        }
        let context = Context::new(&headers, recorded.at_unix_ms).again(given.as_ref());
        let mut decision =
            Decision { id: recorded.id.clone(), at_unix_ms: recorded.at_unix_ms, ..Decision::default() };
        let routed = brain.route(ask, via, &view, &context, &mut decision).await;
        decision.model = decision.plan.first().map(|first| Arc::clone(&first.model));
        settle(brain, recorded, &decision);
        Ok(New::Decided { decision: Box::new(decision), error: routed.err(), midway })
    }

    fn brain(&mut self, recorded: &Recorded) -> Result<&Brain, Error> {
        let gateway = recorded.id.get(..GATEWAY_DIGITS).unwrap_or_default();
        let known = self.brains.iter().position(|(name, _)| name == gateway);
        let entry = match (known, self.brains.first()) {
            (Some(at), _) => self.brains.remove(at),
            // The one loaded at the start has no gateway yet.
            (None, Some((name, _))) if name.is_empty() => (gateway.to_owned(), self.brains.remove(0).1),
            (None, first) => {
                let brain = self.offline.brain(first.map(|(_, brain)| brain))?;
                (gateway.to_owned(), brain)
            }
        };
        if self.brains.len() >= MAX_GATEWAYS {
            self.brains.remove(0);
        }
        self.brains.push(entry);
        match self.brains.last() {
            Some((_, brain)) => Ok(brain),
            None => Err(Error::Internal("no brain".to_owned())),
        }
    }

    fn midway(&mut self, recorded: &Recorded) -> bool {
        let Some(conversation) = &recorded.conversation else { return false };
        if conversation.turn == "first" {
            if self.begun.len() >= MAX_CONVERSATIONS {
                self.begun.clear();
            }
            self.begun.insert(conversation.key.clone());
            return false;
        }
        !self.begun.contains(&conversation.key)
    }
}

/// What is to be decided: by `wanted`, else as the request asked, the paths that recommend by their policy of then.
fn asked(
    brain: &Brain,
    wanted: Option<PolicyIndex>,
    view: &RequestView<'_>,
    headers: &http::HeaderMap,
    recorded: &Recorded,
) -> Result<(Ask, Via), &'static str> {
    if let Some(policy) = wanted {
        return match &*recorded.path {
            "/v1/embeddings" | "/v1/rerank" => Err("no chat"),
            _ => Ok((Ask::Classify(policy), Via::VirtualModel)),
        };
    }
    if recorded.path.starts_with("/v1/") || recorded.path == "/completions" {
        let policy = waypost_door::policy_header(headers).ok().flatten();
        return brain.ask(view, policy).map_err(|_| "what it asked for is not in this configuration");
    }
    let policy = recorded.split.as_ref().or(recorded.policy.as_ref());
    let policy = policy.and_then(|name| brain.snapshot().policy(name));
    policy
        .map(|policy| (Ask::Classify(policy), Via::VirtualModel))
        .ok_or("its policy is not in this configuration")
}

/// What was known then.
fn given(line: &Line<'_>, recorded: &Recorded) -> Given {
    Given {
        policy: recorded.policy.clone(),
        latencies: line.observed.clone(),
        encoder: recorded.encoder,
        remote: remote(line, recorded),
        memory: line.memory.clone(),
        arm: recorded.split.as_ref().and(recorded.policy.clone()),
    }
}

/// What something outside the gateway said, if it was asked.
fn remote(line: &Line<'_>, recorded: &Recorded) -> Option<Remote> {
    let tier = serde_json::Value::from(recorded.tier.as_deref()?);
    let tier: Tier = serde_json::from_value(tier).ok()?;
    match tier {
        Tier::None | Tier::Rule | Tier::Ngram | Tier::Encoder | Tier::Detector => None,
        _ if recorded.classifier_error.is_some() => Some(Remote::Failed),
        Tier::Network => {
            let rounded = || recorded.candidates.iter().map(|c| (Arc::clone(&c.model), c.quality)).collect();
            Some(Remote::Qualities(line.exact.qualities.clone().unwrap_or_else(rounded)))
        }
        tier => {
            let confidence = line.exact.confidence.or(recorded.confidence);
            Some(Remote::Label(Arc::clone(recorded.label.as_ref()?), confidence, tier))
        }
    }
}

/// What the gateway learns when a request ends: who answered, and how long that took.
fn settle(brain: &Brain, recorded: &Recorded, decision: &Decision) {
    let Some(model) = recorded.model.as_ref().and_then(|name| brain.snapshot().model(name)) else { return };
    let first = decision.plan.first().map(|first| &first.model);
    // Where the plan is another one, nobody knows who would have stood in for whom.
    if first == recorded.first() {
        brain.answered_by(decision, model);
    }
    if recorded.outcome.as_deref() == Some("completed")
        && (200..300).contains(&recorded.status)
        && let Some(tokens) = recorded.completion_tokens
    {
        brain.latency(model).observe(tokens, (recorded.total_ms - recorded.classify_ms).max(0.0));
    }
}
