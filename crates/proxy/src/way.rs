//! The way of a request, from top to bottom.
//!
//! Step 1 (accept) is in `server.rs` and `conn.rs`. Every step says why it is there; the work is in the
//! file named after it. Called for every path that is forwarded.

use crate::admit::admit;
use crate::answer::Answer;
use crate::gateway::Gateway;
use crate::send::{Job, Reply};
use crate::ticket::Ticket;
use crate::{body, headers, relay, send};
use http::uri::PathAndQuery;
use http::{Request, Response};
use hyper::body::Incoming;
use std::sync::Arc;
use waypost_router::{Ask, Context};
use waypost_wire::{ApiError, Code, RequestView};

/// A client names a policy in this header.
pub(crate) const POLICY_HEADER: &str = "x-waypost-policy";

/// An OpenAI endpoint that is forwarded.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Route {
    path: &'static str,
    api: Api,
}

/// What an endpoint takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Api {
    /// A conversation.
    Chat,
    /// A text or a conversation.
    Text,
    /// Anything, but a model must be named: vectors and scores of different models do not mix.
    Fixed,
}

impl Route {
    /// The endpoint at `path`, if it is one of them.
    pub(crate) fn of(path: &str) -> Option<Self> {
        let (path, api) = match path {
            "/v1/chat/completions" => ("/v1/chat/completions", Api::Chat),
            // v1's second path.
            "/completions" => ("/completions", Api::Text),
            "/v1/completions" => ("/v1/completions", Api::Text),
            "/v1/responses" => ("/v1/responses", Api::Text),
            "/v1/embeddings" => ("/v1/embeddings", Api::Fixed),
            "/v1/rerank" => ("/v1/rerank", Api::Fixed),
            _ => return None,
        };
        Some(Self { path, api })
    }
}

/// Takes a request all the way.
pub(crate) async fn forward(
    gateway: Arc<Gateway>,
    route: Route,
    request: Request<Incoming>,
) -> Response<Answer> {
    let mut ticket = Ticket::new(&gateway, route.path);
    match decide_and_send(&gateway, route.api, request, &mut ticket).await {
        // 8 relay: bytes go on as they come, so the client waits for nobody but the model.
        // 10 settle: the ticket goes along, and ends with the answer or with the client's patience.
        Ok(reply) => relay::respond(reply, ticket),
        Err(error) => ticket.refuse(&error),
    }
}

async fn decide_and_send(
    gateway: &Arc<Gateway>,
    api: Api,
    request: Request<Incoming>,
    ticket: &mut Ticket,
) -> Result<Reply, ApiError> {
    // One brain for the whole way: a reload in between must not mix two configurations.
    let brain = gateway.brain();
    let limits = brain.snapshot().limits;
    let (head, incoming) = request.into_parts();

    // 2 admit: no room, no work; a queue without end would only make everybody late.
    ticket.hold(admit(gateway, &limits, &head.headers)?);

    // 3 view: one scan over the client's own bytes; nothing is built from them that could differ.
    let body = body::read(&head.headers, incoming, &limits).await?;
    let view = RequestView::parse(&body)?;
    ticket.decision.stream = view.stream;
    let policy = policy_header(&head.headers)?;
    let (ask, via) = brain.ask(&view, policy)?;
    check(api, &view, &ask)?;

    // 4 classify and 5 plan: which models, in which order, and why.
    let context = Context { headers: &head.headers, at_ms: ticket.decision.at_unix_ms, given: None };
    ticket.keep(&head.headers, &body);
    let classified = matches!(ask, Ask::Classify(_));
    let plan = brain.route(ask, via, &view, &context, &mut ticket.decision).await?;
    if classified {
        // Policies in shadow decide too; nobody waits for them.
        ticket.follow(&brain, &body, &head.headers);
    }

    // 6 pick, 7 send, 9 recover: the next endpoint or model, while the client has not seen a byte.
    let path = head.uri.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
    let (headers, steering) = headers::to_upstream(&head.headers);
    let asked = &head.headers;
    let job =
        Job { brain: &brain, plan: &plan, path: &path, asked, headers, steering, body: &body, view: &view };
    send::send(&job, ticket).await
}

/// The policy that a request's headers name.
///
/// # Errors
/// 400, when it is not plain text.
pub fn policy_header(headers: &http::HeaderMap) -> Result<Option<&str>, ApiError> {
    let Some(value) = headers.get(POLICY_HEADER) else { return Ok(None) };
    value.to_str().map(Some).map_err(|_| {
        ApiError::new(Code::InvalidValue, format!("The header {POLICY_HEADER} must be plain text."))
            .param(POLICY_HEADER)
    })
}

/// What a chat requires: a message at least.
///
/// # Errors
/// 400, naming `messages`.
pub fn need_messages(view: &RequestView<'_>) -> Result<(), ApiError> {
    if !view.messages.as_ref().is_none_or(Vec::is_empty) {
        return Ok(());
    }
    let what = if view.messages.is_some() { "must not be empty" } else { "is required" };
    Err(ApiError::new(Code::MissingParameter, format!("'messages' {what}.")).param("messages"))
}

/// What the endpoint itself requires.
fn check(api: Api, view: &RequestView<'_>, ask: &Ask) -> Result<(), ApiError> {
    if api == Api::Chat {
        need_messages(view)?;
    }
    if api == Api::Fixed && matches!(ask, Ask::Classify(_)) {
        let message =
            "This endpoint needs the name of a model: vectors and scores of different models do not mix.";
        return Err(ApiError::new(Code::InvalidValue, message).param("model"));
    }
    Ok(())
}
