//! The way of a request, from top to bottom.
//!
//! Step 1 (accept) is in `server.rs` and `conn.rs`. Every step says why it is there; the work is in the
//! file named after it, here or in the crate `door`. Called for every path that is forwarded.

use crate::answer::{self, Answer};
use crate::send::{Job, Reply};
use crate::{headers, relay, send};
use http::uri::PathAndQuery;
use http::{Request, Response};
use hyper::body::Incoming;
use std::sync::Arc;
use waypost_door::{Gateway, Route, Ticket, admit, incoming, policy_header};
use waypost_router::{Ask, Context};
use waypost_wire::{ApiError, RequestView};

/// Takes a request all the way.
pub(crate) async fn forward(
    gateway: Arc<Gateway>,
    route: Route,
    request: Request<Incoming>,
) -> Response<Answer> {
    let mut ticket = Ticket::new(&gateway, route.path(), request.headers());
    match decide_and_send(&gateway, route, request, &mut ticket).await {
        // 8 relay: bytes go on as they come, so the client waits for nobody but the model.
        // 10 settle: the ticket goes along, and ends with the answer or with the client's patience.
        Ok(reply) => relay::respond(reply, ticket),
        Err(error) => answer::refuse(ticket, &error),
    }
}

async fn decide_and_send(
    gateway: &Arc<Gateway>,
    route: Route,
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
    let body = incoming::read(&head.headers, incoming, &limits).await?;
    let view = RequestView::parse(&body)?;
    ticket.decision.stream = view.stream;
    let policy = policy_header(&head.headers)?;
    let (ask, via) = brain.ask(&view, policy)?;
    route.check(&view, &ask)?;

    let context = Context::new(&head.headers, ticket.decision.at_unix_ms);
    ticket.keep(&head.headers, &body);
    // 3 guard: what attacks a model reaches none, whoever chose the model.
    if route.answers() {
        brain.guard(&ask, &view, &context, &mut ticket.decision).await?;
    }

    // 4 classify and 5 plan: which models, in which order, and why.
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
    let name = brain.free_name(&view);
    let job = Job {
        brain: &brain,
        plan: &plan,
        path: &path,
        asked,
        headers,
        steering,
        body: &body,
        view: &view,
        name: name.as_deref(),
    };
    send::send(&job, ticket).await
}
