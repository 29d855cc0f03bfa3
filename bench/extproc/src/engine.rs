//! An engine that costs next to nothing: reads the request to its end and answers a short completion, at once or after the
//! milliseconds that the header `x-wait-ms` says.
//!
//! Listens on all loopback addresses, so that one process can stand for a pool of endpoints.

use crate::Done;
use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::time::Duration;
use tokio::net::TcpListener;

const ANSWER: &str = r#"{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"engine","choices":[{"index":0,"message":{"role":"assistant","content":"Yes."},"finish_reason":"stop"}],"usage":{"prompt_tokens":250,"completion_tokens":2,"total_tokens":252}}"#;

/// Serves until it is killed.
pub(crate) async fn run(port: u16) -> Done {
    let listener = TcpListener::bind(("0.0.0.0", port)).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(async move {
            // It ends with the one who asks.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer)).await;
        });
    }
}

async fn answer(request: Request<Incoming>) -> hyper::Result<Response<Full<Bytes>>> {
    let wait = request.headers().get("x-wait-ms").and_then(|value| value.to_str().ok()?.parse().ok());
    let mut body = request.into_body();
    while let Some(frame) = body.frame().await {
        frame?;
    }
    if let Some(milliseconds) = wait {
        tokio::time::sleep(Duration::from_millis(milliseconds)).await;
    }
    let mut response = Response::new(Full::new(Bytes::from_static(ANSWER.as_bytes())));
    *response.status_mut() = StatusCode::OK;
    response.headers_mut().insert(header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    Ok(response)
}
