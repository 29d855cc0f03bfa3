//! Which path leads where: on the way of a request, or to a page beside it.
//!
//! v1's 404 for everything else. Called by the server for every request.

use crate::answer::{self, Answer};
use crate::recommend::{self, Advice};
use crate::{kserve, way};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use std::sync::Arc;
use waypost_door::{Gateway, Route, pages};

/// Leads a request to its page or on its way.
pub(crate) async fn handle(gateway: Arc<Gateway>, request: Request<Incoming>) -> Response<Answer> {
    if let Some(route) = Route::of(request.uri().path()) {
        return way::forward(gateway, route, request).await;
    }
    if let Some(advice) = Advice::of(request.uri().path()) {
        return recommend::advise(gateway, advice, request).await;
    }
    let path = request.uri().path().to_owned();
    if let Some(page) = pages::page(&gateway, &path) {
        return page.map(Answer::whole);
    }
    match path.split('/').skip(1).collect::<Vec<_>>().as_slice() {
        ["v2", rest @ ..] => kserve::handle(&gateway, rest, request).await,
        _ => answer::json(StatusCode::NOT_FOUND, r#"{"path":"Unavailable"}"#),
    }
}
