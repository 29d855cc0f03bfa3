//! The way of a request through the Envoy door, from top to bottom: steps 2 to 6, as in the HTTP door.
//!
//! Envoy has accepted the request and sends it on; what is decided here goes out as changes of its headers and body.
//! Called by the case of a request.

use super::case::{Booked, Request};
use super::llm_d;
use crate::judge::Go;
use crate::refusing::unseen;
use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING};
use http::{HeaderName, HeaderValue};
use std::borrow::Cow;
use std::sync::Arc;
use tokio::time::{Instant, timeout_at};
use waypost_config::{ExtProc, Model, ModelIndex};
use waypost_door::outfit::{self, Outfit};
use waypost_door::{Candidate, Candidates, Gateway, Route, admit, body, policy_header};
use waypost_picker::{Endpoint, Pool};
use waypost_policy::Plan;
use waypost_router::{Ask, Context, NoPlace, Others, Place, Placing, RETRY_AFTER_BUSY_S, Via, Wish};
use waypost_wire::{ApiError, Code, RequestView};

/// The chosen model's name, by which Envoy routes: vLLM Semantic Router's name.
const SELECTED_MODEL: HeaderName = HeaderName::from_static("x-selected-model");
/// The Gateway API's names for routes that go by the body's model.
const MODEL_NAME: HeaderName = HeaderName::from_static("x-gateway-model-name");
const BASE_MODEL_NAME: HeaderName = HeaderName::from_static("x-gateway-base-model-name");
/// Where llm-d's sidecar has the prompt read.
const PREFILLER: HeaderName = HeaderName::from_static("x-prefiller-host-port");

/// All of the way.
pub(super) async fn decide(request: &mut Request, route: Route, raw: Bytes) -> Result<Go, ApiError> {
    let brain = Arc::clone(&request.brain);
    let limits = brain.snapshot().limits;
    let deadline = Instant::now() + request.settings.deadline;
    let headers = &request.head.headers;
    let Some(ticket) = &mut request.ticket else { return Err(lost()) };

    // 2 admit: no room, no work.
    ticket.hold(admit(&request.gateway, &limits, headers)?);

    // 3 view: one scan over the client's own bytes.
    body::check_type(headers)?;
    let (body, unpacked) = body::unpacked(headers, raw, limits.body_bytes)?;
    let view = RequestView::parse(&body)?;
    ticket.decision.stream = view.stream;
    let policy = policy_header(headers)?;
    if request.settings.gaie_errors {
        llm_d::need_model(&view, policy)?;
    }
    let (ask, via) = brain.ask(&view, policy)?;
    route.check(&view, &ask)?;

    // The guard, 4 classify and 5 plan, within the deadline; past it, the policy's default.
    let context = Context::new(headers, ticket.decision.at_unix_ms);
    ticket.keep(headers, &body);
    let classified = matches!(ask, Ask::Classify(_));
    let routed = timeout_at(deadline, async {
        if route.answers() {
            brain.guard(&ask, &view, &context, &mut ticket.decision).await?;
        }
        brain.route(ask.clone(), via, &view, &context, &mut ticket.decision).await
    });
    let plan = match routed.await {
        Ok(plan) => plan?,
        Err(_) => {
            if route.answers() {
                brain.guard_late(&ask, &mut ticket.decision)?;
            }
            brain.route_late(ask, via, &view, &context, &mut ticket.decision)?
        }
    };
    if classified {
        ticket.follow(&brain, &body, headers);
    }

    // 6 pick: an endpoint, booked; Envoy sends, and tells how it ended.
    llm_d::give_session(&brain, &plan, &mut request.head.headers);
    let rewritten = llm_d::rewritten(&request.head.headers);
    let name = rewritten.map(Cow::Owned).or_else(|| brain.free_name(&view));
    let candidate = pick(request, &plan, (&view, &body, name.as_deref())).await?;
    let model = &brain.snapshot().models[candidate.model];
    let Place { held, prefill, .. } = &candidate.place;
    let reasoning = request.ticket.as_ref().and_then(|ticket| ticket.decision.reasoning);
    let reader = prefill.as_ref().map(|prefill| &**prefill.endpoint());
    let outfit = Outfit { reasoning, ..Outfit::new(model, held.endpoint(), reader) };
    let called = model.called(name.as_deref());
    let edited = edited(&view, &body, (model, called), &outfit)?;
    let go = Go {
        // Whatever its encoding was, it is sent on as it was read.
        body: edited.or_else(|| unpacked.then(|| vec![body.clone()])),
        remove: unpacked.then_some(CONTENT_ENCODING).into_iter().collect(),
        set: set(request, (candidate.model, called), &candidate.place, outfit),
        reroute: true,
        ..led(brain.pool(candidate.model), &candidate.place)
    };
    request.book(candidate);
    Ok(go)
}

/// The first endpoint of the plan that there is a place on.
async fn pick(
    request: &mut Request,
    plan: &Plan,
    (view, body, name): (&RequestView<'_>, &Bytes, Option<&str>),
) -> Result<Candidate, ApiError> {
    let Request { brain, head, ticket: Some(ticket), gateway, settings, .. } = request else {
        return Err(lost());
    };
    let (only, wish) = (head.subset.as_deref(), wish(settings));
    let placing = Placing { view, body, headers: &head.headers, only, wish, name };
    llm_d::if_available(brain, plan, &placing).await?;
    let mut candidates = Candidates::new(brain, plan, placing);
    if let Some(candidate) = candidates.next(&mut ticket.decision).await {
        return Ok(candidate);
    }
    let why = ticket.decision.no_place;
    count_refused(gateway, why);
    Err(candidates.refusal(why))
}

fn count_refused(gateway: &Gateway, why: Option<NoPlace>) {
    let word = why.map_or("held", |why| why.as_str());
    gateway.metrics().refused.with_label_values(&[word]).inc();
}

/// Without a body: the policy that a header names, or the default one, and its default model.
pub(super) async fn decide_blind(request: &mut Request, route: Route) -> Result<Go, ApiError> {
    let brain = Arc::clone(&request.brain);
    let headers = &request.head.headers;
    let Some(ticket) = &mut request.ticket else { return Err(lost()) };
    ticket.hold(admit(&request.gateway, &brain.snapshot().limits, headers)?);
    let body = Bytes::from_static(b"{}");
    let view = RequestView::parse(&body)?;
    let (ask, via) =
        match (policy_header(headers)?, brain.snapshot().default_policy, &*brain.snapshot().models) {
            (None, Some(policy), _) => (Ask::Classify(policy), Via::VirtualModel),
            (None, None, [_]) => (Ask::Named(0), Via::Model),
            (None, None, _) => {
                return Err(unseen(Code::MissingParameter, "its model is not known").param("model"));
            }
            (named, ..) => brain.ask(&view, named)?,
        };
    let context = Context::new(headers, ticket.decision.at_unix_ms);
    if route.answers() {
        brain.guard_late(&ask, &mut ticket.decision)?;
    }
    let plan = brain.route_late(ask, via, &view, &context, &mut ticket.decision)?;
    let candidate = pick(request, &plan, (&view, &body, None)).await?;
    let called = &brain.snapshot().models[candidate.model].upstream_id;
    let go = Go {
        set: set(request, (candidate.model, called), &candidate.place, Outfit::default()),
        reroute: true,
        ..led(brain.pool(candidate.model), &candidate.place)
    };
    request.book(candidate);
    Ok(go)
}

/// For what no model answers, such as a health check: any endpoint of the only pool there is; else the routes decide.
pub(super) async fn any_endpoint(request: &mut Request) -> Result<Go, ApiError> {
    let brain = Arc::clone(&request.brain);
    let picked =
        |model: &Model| model.adapter_of.is_none() && model.endpoints.iter().any(|e| e.address().is_some());
    let mut pools = brain.snapshot().models.iter().enumerate().filter(|(_, model)| picked(model));
    let (Some((model, _)), None) = (pools.next(), pools.next()) else { return Ok(Go::default()) };
    let only = request.head.subset.as_deref();
    let place = brain.place_any(model, only, wish(&request.settings)).map_err(|why| {
        count_refused(&request.gateway, Some(why));
        ApiError::new(Code::NoEndpoint, "No endpoint could answer.").retry_after(RETRY_AFTER_BUSY_S)
    })?;
    let set = llm_d::asked(request, &place);
    let go = led(brain.pool(model), &place);
    let Place { held, others: Others { fallbacks, .. }, .. } = place;
    request.booked = Some(Booked { model, held, prefill: None, fallbacks, position: 0, sent_ms: 0.0 });
    Ok(Go { set, ..go })
}

fn wish(settings: &ExtProc) -> Wish {
    Wish { fallbacks: settings.fallbacks, scores: settings.scores }
}

/// Where Envoy sends it, and where next; no place where the endpoint is known by a name only, so that Envoy's own route has to
/// lead there.
fn led(pool: &Pool, place: &Place) -> Go {
    let Others { fallbacks, scores } = &place.others;
    let named = |index: &usize| address(pool.endpoints().get(*index)?);
    let destination = address(place.held.endpoint()).map(|first| {
        let all: Vec<String> = std::iter::once(first).chain(fallbacks.iter().filter_map(named)).collect();
        all.join(",")
    });
    let mut told: Vec<(String, f64)> =
        scores.iter().filter_map(|(index, score)| Some((named(index)?, *score))).collect();
    // Ranks behind one address are told as one: the best comes last, and the last of a name counts.
    told.sort_by(|(_, one), (_, other)| one.total_cmp(other));
    Go { destination, scores: told, ..Go::default() }
}

fn address(endpoint: &Endpoint) -> Option<String> {
    endpoint.spec().address().map(|address| address.to_string())
}

/// The client's body with what the model and the endpoint are told put in; `None` where nothing changes.
fn edited(
    view: &RequestView<'_>,
    body: &Bytes,
    model: (&Model, &str),
    outfit: &Outfit,
) -> Result<Option<Vec<Bytes>>, ApiError> {
    let pieces: Vec<Bytes> = outfit::dressed(view, body, model, outfit)?.into_pieces().collect();
    let same = matches!(&pieces[..], [one] if one.as_ptr() == body.as_ptr() && one.len() == body.len());
    Ok((!same).then_some(pieces))
}

/// Headers of the request on its way on.
fn set(
    request: &Request,
    (index, called): (ModelIndex, &str),
    place: &Place,
    outfit: Outfit,
) -> Vec<(HeaderName, HeaderValue)> {
    let models = &request.brain.snapshot().models;
    let model = &models[index];
    let mut set = Vec::new();
    let mut text = |name: HeaderName, value: &str| {
        // A name with a control character cannot be configured.
        set.extend(HeaderValue::from_bytes(value.as_bytes()).ok().map(|value| (name, value)));
    };
    text(SELECTED_MODEL, &model.name);
    // So that usage can be read from the answer.
    text(ACCEPT_ENCODING, "identity");
    if request.settings.model_headers {
        text(MODEL_NAME, called);
        text(BASE_MODEL_NAME, model.adapter_of.map_or(&model.upstream_id, |base| &models[base].upstream_id));
    }
    if let Some(reader) = place.prefill.as_ref().and_then(|reader| address(reader.endpoint())) {
        text(PREFILLER, &reader);
    }
    set.extend(llm_d::asked(request, place));
    set.extend(outfit::bearer(&model.api_key).map(|value| (AUTHORIZATION, value)));
    // Dynamo's ids last: its first generation calls an id a host and port.
    set.extend(outfit.headers.into_iter().filter_map(|(name, value)| Some((name?, value))));
    set
}

fn lost() -> ApiError {
    ApiError::new(Code::Internal, "The request was judged twice.")
}
