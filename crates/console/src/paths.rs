//! Which path leads where. Called by the server for every request.

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use std::sync::Arc;
use waypost_door::{Gateway, pages};

/// Answers a request.
pub(crate) async fn handle(gateway: Arc<Gateway>, request: Request<Incoming>) -> Response<Bytes> {
    let path = request.uri().path();
    pages::page(&gateway, path)
        .unwrap_or_else(|| pages::json(StatusCode::NOT_FOUND, r#"{"path":"Unavailable"}"#))
}
