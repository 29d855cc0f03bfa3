//! The headers by which gateways, llm-d's coordinator and the Gateway API's conformance tests talk with an endpoint
//! picker, beside the destination.
//!
//! Each has an older name that is read where the newer one is absent. Priorities and callers are not here: the queue reads
//! them where its configuration says. Called on the way of a request and with its answer.

use super::case::Request;
use crate::judge::Head;
use http::{HeaderMap, HeaderName, HeaderValue};
use uuid::Builder;
use waypost_config::Scorer;
use waypost_policy::Plan;
use waypost_router::{Brain, Place, Placing};
use waypost_wire::{ApiError, Code, RequestView};

/// The name that the engine is asked for instead of the body's.
const REWRITE: [&str; 2] = ["x-llm-d-model-name-rewrite", "x-gateway-model-name-rewrite"];
/// What else clients say to the picker, and what else later filters could take for its word.
const CONTROLS: [&str; 4] =
    ["x-gateway-inference-objective", "x-gateway-inference-fairness-id", SELECTION, ECHO];
const PREFER: &str = "prefer";
const IF_AVAILABLE: &str = "if-available";
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Endpoints that a conformance test wants, as `ip` or `ip:port` with commas between them.
const SELECTION: &str = "test-epp-endpoint-selection";
/// Who served, for a conformance test.
const SERVED: HeaderName = HeaderName::from_static("x-conformance-test-served-endpoint");
/// The conformance tests' echo server sets what this says on its answer.
const ECHO: &str = "x-echo-set-header";

/// Whether this is a name that the picker reads and nobody behind it should. (Those that begin with `x-llm-d-` steer
/// engines as well, and are kept back with them.)
pub(super) fn controls(name: &HeaderName) -> bool {
    CONTROLS.contains(&name.as_str()) || REWRITE.contains(&name.as_str())
}

/// A conformance test's choice goes before the subset that the gateway names, where it is one of ours.
pub(super) fn choose(brain: &Brain, head: &mut Head) {
    let Some(wanted) = text(&head.headers, SELECTION) else { return };
    let wanted: Vec<String> = wanted.split(',').map(|place| place.trim().to_owned()).collect();
    let models = 0..brain.snapshot().models.len();
    if models.into_iter().any(|model| !brain.pool(model).located(&wanted).is_empty()) {
        head.subset = Some(wanted);
    }
}

/// What the endpoint picker says of a body without a model.
pub(super) fn need_model(view: &RequestView<'_>, policy: Option<&str>) -> Result<(), ApiError> {
    if policy.is_some() || view.nim.is_some() || view.model.is_some_and(|model| model.raw_len() > 0) {
        return Ok(());
    }
    Err(ApiError::new(Code::MissingParameter, "model not found in request body").param("model"))
}

/// The name that a model which takes any name is asked for instead. Other models keep theirs: it says what a request may
/// cost.
pub(super) fn rewritten(headers: &HeaderMap) -> Option<String> {
    let name = REWRITE.iter().find_map(|name| text(headers, name))?;
    Some(name.to_owned()).filter(|name| !name.is_empty())
}

/// `prefer: if-available`: only where a block of the prompt is cached on the endpoint that would be picked. Looked at
/// before anything is booked: a prompt that is sent nowhere must not count as cached there.
pub(super) async fn if_available(brain: &Brain, plan: &Plan, placing: &Placing<'_>) -> Result<(), ApiError> {
    let prefers = placing.headers.get_all(PREFER).iter().filter_map(|value| value.to_str().ok());
    let asked = prefers.flat_map(|value| value.split(',')).any(|one| one.trim() == IF_AVAILABLE);
    let Some((model, _)) = plan.models.first().filter(|_| asked) else { return Ok(()) };
    let cached = brain.preview(*model, placing).await.is_some_and(|placement| placement.cached_tokens > 0);
    if cached {
        return Ok(());
    }
    Err(ApiError::new(Code::NotCached, "No block of this prompt is cached where it would be sent."))
}

/// A client without a session gets one where sessions stay together and the configuration says so.
pub(super) fn give_session(brain: &Brain, plan: &Plan, headers: &mut HeaderMap) {
    let Some((model, _)) = plan.models.first() else { return };
    let picking = &brain.snapshot().models[*model].picking;
    let stays = picking.scorers.iter().any(|(scorer, _)| *scorer == Scorer::SessionAffinity);
    if let (true, Ok(name)) =
        (picking.session_tokens && stays, HeaderName::try_from(&*picking.session_header))
        && !headers.contains_key(&name)
        && let Ok(token) = HeaderValue::try_from(uuid())
    {
        headers.insert(name, token);
    }
}

/// Headers of the request on its way on.
pub(super) fn asked(request: &Request, place: &Place) -> Vec<(HeaderName, HeaderValue)> {
    let mut set = Vec::new();
    if !request.head.headers.contains_key(REQUEST_ID) {
        set.extend(HeaderValue::try_from(uuid()).ok().map(|id| (REQUEST_ID, id)));
    }
    if let Some(picked) = place.held.endpoint().spec().address().filter(|_| request.settings.conformance) {
        let told = HeaderValue::try_from(format!("{SERVED}:{picked}"));
        set.extend(told.ok().map(|told| (HeaderName::from_static(ECHO), told)));
    }
    set
}

/// Headers of the answer.
pub(super) fn answered(request: &Request, served: Option<&str>) -> Vec<(HeaderName, HeaderValue)> {
    let mut set = Vec::new();
    if let Some(served) = served.filter(|_| request.settings.conformance) {
        set.extend(HeaderValue::try_from(served).ok().map(|served| (SERVED, served)));
    }
    if let Some(booked) = &request.booked {
        let picking = &request.brain.snapshot().models[booked.model].picking;
        let session = request.head.headers.get(&*picking.session_header).filter(|_| picking.session_tokens);
        let name = HeaderName::try_from(&*picking.session_header).ok();
        set.extend(name.zip(session.cloned()));
    }
    set
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

/// A random UUID (version 4).
fn uuid() -> String {
    Builder::from_random_bytes(fastrand::u128(..).to_ne_bytes()).into_uuid().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_names_the_newer_counts() {
        let mut headers = HeaderMap::new();
        assert_eq!(rewritten(&headers), None);
        headers.insert(REWRITE[1], HeaderValue::from_static("old"));
        assert_eq!(rewritten(&headers).as_deref(), Some("old"));
        headers.insert(REWRITE[0], HeaderValue::from_static(" new "));
        assert_eq!(rewritten(&headers).as_deref(), Some("new"));
        headers.insert(REWRITE[0], HeaderValue::from_static(""));
        assert_eq!(rewritten(&headers), None);
    }

    #[test]
    fn a_body_names_a_model_or_a_policy_is_named() {
        let view = |text: &'static str| RequestView::parse(text.as_bytes()).unwrap();
        assert!(need_model(&view(r#"{"model":"m"}"#), None).is_ok());
        assert!(need_model(&view("{}"), Some("policy")).is_ok());
        let error = need_model(&view(r#"{"model":""}"#), None).unwrap_err();
        assert_eq!((error.status(), &*error.message), (400, "model not found in request body"));
    }
}
