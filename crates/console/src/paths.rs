//! A gateway's own pages: which path leads where. Called by the server for every request.

use crate::desk::{Desk, Task};
use crate::refusal::Refusal;
use crate::server::Pages;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use std::sync::Arc;
use waypost_door::{Gateway, pages};

/// The pages of a gateway.
#[derive(Debug, Clone)]
pub struct GatewayPages(Arc<Desk>);

impl GatewayPages {
    /// Those of `gateway`.
    ///
    /// # Errors
    /// When the detector of personal data in the binary is damaged.
    pub fn new(gateway: Arc<Gateway>) -> Result<Self, waypost_classify::Error> {
        Ok(Self(Arc::new(Desk::new(gateway)?)))
    }
}

impl Pages for GatewayPages {
    async fn answer(self, request: Request<Incoming>) -> Response<Bytes> {
        let desk = &self.0;
        let path = request.uri().path();
        if let Some(page) = pages::page(&desk.gateway, path) {
            return page;
        }
        let Some(task) = task(path, request.uri().query()) else {
            return pages::json(StatusCode::NOT_FOUND, r#"{"path":"Unavailable"}"#);
        };
        if request.method() != Method::POST {
            let mut response = Refusal::method().response();
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
            return response;
        }
        match desk.answer(task, request).await {
            Ok(answer) => pages::json(StatusCode::OK, answer.to_string()),
            Err(refusal) => {
                refusal.counted().into_iter().for_each(|reason| self.refused(reason));
                refusal.response()
            }
        }
    }

    fn refused(&self, reason: &'static str) {
        self.0.gateway.metrics().refused.with_label_values(&[reason]).inc();
    }
}

fn task(path: &str, query: Option<&str>) -> Option<Task> {
    let traced = || query.is_some_and(|query| query.split('&').any(|pair| pair == "trace=true"));
    Some(match path {
        "/api/v1/classify/intent" => Task::Intent,
        "/api/v1/classify/pii" => Task::Pii,
        "/api/v1/classify/security" => Task::Security,
        "/api/v1/classify/batch" => Task::Batch,
        "/api/v1/classify/combined" => Task::Combined,
        "/api/v1/eval" => Task::Eval { trace: traced() },
        _ => return None,
    })
}
