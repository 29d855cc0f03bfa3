//! Recommending without forwarding: LLM Router v2's paths, and `/v1/decision`.
//!
//! A request goes the usual way as far as the plan; the answer is the plan. Called by `paths`.

use crate::answer::{self, Answer};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::sync::Arc;
use waypost_config::{Classifier, PolicyIndex, Snapshot};
use waypost_door::outfit;
use waypost_door::{Gateway, Ticket, admit, incoming, need_messages, policy_header};
use waypost_router::{Ask, Brain, Context, Decision, Outcome, Placing, Via, Wish};
use waypost_wire::{ApiError, Code, RequestView};

/// v2's names of its two objective functions.
const INTENT_OBJECTIVE: &str = "hf_intent_objective_fn";
const NN_OBJECTIVE: &str = "nn_objective_fn";

/// A path that recommends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Advice {
    /// v2's answer in the shape of a chat completion.
    Router,
    /// v2's raw pair of the first intent policy.
    Intent,
    /// v2's raw pair of the first auto policy.
    Network,
    /// The whole Decision.
    Decision,
}

impl Advice {
    /// The advice given at `path`, if any is.
    pub(crate) fn of(path: &str) -> Option<(Self, &'static str)> {
        Some(match path {
            "/sfc_router/chat/completions" => (Self::Router, "/sfc_router/chat/completions"),
            "/hf_intent_objective_fn/chat/completions" => {
                (Self::Intent, "/hf_intent_objective_fn/chat/completions")
            }
            "/nn_objective_fn/chat/completions" => (Self::Network, "/nn_objective_fn/chat/completions"),
            "/v1/decision" => (Self::Decision, "/v1/decision"),
            _ => return None,
        })
    }
}

/// Answers with what would be done.
pub(crate) async fn advise(
    gateway: Arc<Gateway>,
    (advice, path): (Advice, &'static str),
    request: Request<Incoming>,
) -> Response<Answer> {
    let mut ticket = Ticket::new(&gateway, path, request.headers());
    match decide(&gateway, advice, request, &mut ticket).await {
        Ok(body) => {
            let mut response = answer::json(StatusCode::OK, body.to_string());
            answer::head(&mut ticket, &mut response);
            ticket.settle(Outcome::Recommended);
            response
        }
        Err(error) => answer::refuse(ticket, &error),
    }
}

async fn decide(
    gateway: &Arc<Gateway>,
    advice: Advice,
    request: Request<Incoming>,
    ticket: &mut Ticket,
) -> Result<Value, ApiError> {
    let brain = gateway.brain();
    let limits = brain.snapshot().limits;
    let (head, incoming) = request.into_parts();
    ticket.hold(admit(gateway, &limits, &head.headers)?);
    let whole = incoming::read(&head.headers, incoming, &limits).await?;
    let body = unwrap(advice, whole)?;
    let view = RequestView::parse(&body)?;
    if advice != Advice::Decision || view.input.is_none() {
        need_messages(&view)?;
    }
    let header = policy_header(&head.headers)?;
    let (ask, via) = asked(&brain, advice, &view, header)?;
    let context = Context::new(&head.headers, ticket.decision.at_unix_ms);
    ticket.keep(&head.headers, &body);
    brain.guard(&ask, &view, &context, &mut ticket.decision).await?;
    let plan = brain.route(ask, via, &view, &context, &mut ticket.decision).await?;
    let decision = &mut ticket.decision;
    if let (Advice::Decision, Some((model, _))) = (advice, plan.models.first()) {
        let told = outfit::told(&brain.snapshot().models[*model], decision.reasoning, &body);
        let body = told.as_ref().unwrap_or(&body);
        let (name, headers, wish) = (brain.free_name(&view), &head.headers, Wish::default());
        let placing = Placing { view: &view, body, headers, only: None, wish, name: name.as_deref() };
        decision.placements.extend(brain.preview(*model, &placing).await);
    }
    decision.model = decision.plan.first().map(|first| Arc::clone(&first.model));
    decision.fallback = Brain::fallback_at(decision, 0);
    Ok(match advice {
        Advice::Router => completion(&brain, decision),
        Advice::Intent => json!([decision.model, ""]),
        Advice::Network => json!([decision.model, probabilities(decision)]),
        Advice::Decision => brain.advice(&plan, decision),
    })
}

/// Switchyard's clients wrap the request and name its format.
fn unwrap(advice: Advice, whole: Bytes) -> Result<Bytes, ApiError> {
    #[derive(Deserialize)]
    struct Wrapped<'a> {
        input_format: Option<&'a str>,
        #[serde(borrow)]
        request: Option<&'a RawValue>,
    }
    let wrapped =
        (advice == Advice::Decision).then(|| serde_json::from_slice::<Wrapped<'_>>(&whole).ok()).flatten();
    let Some(Wrapped { input_format, request: Some(request) }) = wrapped else { return Ok(whole) };
    match input_format {
        None | Some("openai_chat" | "openai_responses") => Ok(whole.slice_ref(request.get().as_bytes())),
        Some(other) => {
            let message = format!(
                "The input format '{}' is not supported; send openai_chat or openai_responses.",
                other.chars().take(64).collect::<String>()
            );
            Err(ApiError::new(Code::InvalidValue, message).param("input_format"))
        }
    }
}

/// v2 has one router behind its path and ignores `model`; here a policy may be named there, too.
fn asked(
    brain: &Brain,
    advice: Advice,
    view: &RequestView<'_>,
    header: Option<&str>,
) -> Result<(Ask, Via), ApiError> {
    let snapshot = brain.snapshot();
    let first = |what: &str, is: &dyn Fn(&Classifier) -> bool| {
        snapshot.policies.iter().position(|policy| is(&policy.classifier)).ok_or_else(|| {
            ApiError::new(Code::PolicyNotFound, format!("This configuration has no {what} policy."))
                .param("policy")
        })
    };
    let unnamed = view.nim.is_none() && view.model.is_none_or(|model| model.is(""));
    let policy = match advice {
        Advice::Decision if !unnamed => return brain.ask(view, header),
        _ if header.is_some() => return brain.ask(view, header),
        Advice::Intent => first("intent", &|classifier| matches!(classifier, Classifier::Intent(_)))?,
        Advice::Network => first("auto", &|classifier| matches!(classifier, Classifier::Auto(_)))?,
        // Whoever only asks for advice need not say `auto`.
        Advice::Router | Advice::Decision => {
            let named = view.model.and_then(|model| snapshot.policy(&model.decode()));
            named.or(snapshot.default_policy).ok_or_else(|| {
                ApiError::new(Code::PolicyNotFound, "This configuration has no policy.").param("policy")
            })?
        }
    };
    Ok((Ask::Classify(policy), Via::VirtualModel))
}

/// v2's answer: the model as the content, the objective as the model.
fn completion(brain: &Brain, decision: &Decision) -> Value {
    let seconds = decision.at_unix_ms / 1000;
    json!({
        "id": format!("chatcmpl-{seconds}"),
        "object": "chat.completion",
        "created": seconds,
        "model": objective(brain.snapshot(), decision),
        "choices": [{
            "index": 0,
            "finish_reason": "stop",
            "message": {"role": "assistant", "content": decision.model},
        }],
        "usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
    })
}

/// v2's name for the kind of policy; the policy's own where v2 had no such kind.
fn objective(snapshot: &Snapshot, decision: &Decision) -> String {
    let name = decision.policy.as_deref().unwrap_or_default();
    let index: Option<PolicyIndex> = snapshot.policy(name);
    match index.map(|index| &snapshot.policies[index].classifier) {
        Some(Classifier::Intent(_)) => INTENT_OBJECTIVE.to_owned(),
        Some(Classifier::Auto(_)) => NN_OBJECTIVE.to_owned(),
        _ => name.to_owned(),
    }
}

fn probabilities(decision: &Decision) -> Value {
    decision
        .candidates
        .iter()
        .map(|candidate| (candidate.model.to_string(), json!(candidate.quality)))
        .collect()
}
