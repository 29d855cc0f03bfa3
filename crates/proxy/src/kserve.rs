//! A KServe v2 server: an existing v1 controller can use Waypost in place of Triton.
//!
//! Two models, `task_router_ensemble` and `complexity_router_ensemble`, answered by the built-in
//! classifiers: one-hot like v1's, probabilities when asked for. Errors are KServe's `{"error": …}`.

use crate::answer::{self, Answer};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use serde_json::json;
use std::time::Instant;
use waypost_classify::Builtin;
use waypost_door::{Gateway, incoming};
use waypost_router::PromptText;
use waypost_wire::kserve::{InferRequest, InferResponse, Output, SequenceParameters};

/// Serves a path below `/v2`.
pub(crate) async fn handle(gateway: &Gateway, path: &[&str], request: Request<Incoming>) -> Response<Answer> {
    match path {
        ["health", "live"] => empty(StatusCode::OK),
        ["health", "ready"] if gateway.is_ready() => empty(StatusCode::OK),
        ["health", "ready"] => empty(StatusCode::SERVICE_UNAVAILABLE),
        [] | [""] => {
            let server = json!({"name": "waypost", "version": env!("CARGO_PKG_VERSION"), "extensions": []});
            answer::json(StatusCode::OK, server.to_string())
        }
        ["models", name, rest @ ..] => match (builtin(name), rest) {
            (None, _) => {
                fail(StatusCode::NOT_FOUND, &format!("Request for unknown model: '{name}' is not found"))
            }
            (Some(_), ["ready"] | ["versions", "1", "ready"]) => empty(StatusCode::OK),
            (Some(builtin), [] | ["versions", "1"]) => answer::json(StatusCode::OK, metadata(name, builtin)),
            (Some(builtin), ["infer"] | ["versions", "1", "infer"]) => {
                infer(gateway, name, builtin, request).await
            }
            _ => fail(StatusCode::NOT_FOUND, "Not Found"),
        },
        _ => fail(StatusCode::NOT_FOUND, "Not Found"),
    }
}

fn builtin(name: &str) -> Option<Builtin> {
    match name {
        "task_router_ensemble" => Some(Builtin::Task),
        "complexity_router_ensemble" => Some(Builtin::Complexity),
        _ => None,
    }
}

fn metadata(name: &str, builtin: Builtin) -> String {
    let classes = builtin.labels().len();
    json!({
        "name": name, "versions": ["1"], "platform": "ensemble",
        "inputs": [{"name": "INPUT", "datatype": "BYTES", "shape": [1]}],
        "outputs": [
            {"name": "OUTPUT", "datatype": "FP32", "shape": [classes]},
            {"name": "PROBABILITIES", "datatype": "FP32", "shape": [classes]},
        ],
        // Not in the standard: what v1 users had to look up in the source.
        "parameters": {"labels": builtin.labels()},
    })
    .to_string()
}

async fn infer(
    gateway: &Gateway,
    name: &str,
    builtin: Builtin,
    request: Request<Incoming>,
) -> Response<Answer> {
    let brain = gateway.brain();
    let (parts, incoming) = request.into_parts();
    let body = match incoming::read(&parts.headers, incoming, &brain.snapshot().limits).await {
        Ok(body) => body,
        Err(e) => {
            let status = StatusCode::from_u16(e.status()).unwrap_or(StatusCode::BAD_REQUEST);
            return fail(status, &e.message);
        }
    };
    let request = match InferRequest::parse(&body) {
        Ok(request) => request,
        Err(message) => return fail(StatusCode::BAD_REQUEST, &message),
    };
    // However many texts there are, together they wait for the encoder no longer than one would.
    let waited = Instant::now();
    let patience = brain.snapshot().encoder.deadline;
    let mut verdicts = Vec::with_capacity(request.texts.len());
    for focus in request.texts {
        let text = PromptText { focus, context: String::new() };
        let timeout = patience.saturating_sub(waited.elapsed());
        let (verdict, escalation) = brain.classifiers().ask(builtin, &text, timeout).await;
        if let Some(escalation) = &escalation {
            gateway.note_escalation(builtin.name(), escalation);
        }
        verdicts.push(verdict);
    }
    let classes = builtin.labels().len();
    let shape = || if verdicts.len() == 1 { vec![classes] } else { vec![verdicts.len(), classes] };
    let output = |name, data| Output { name, datatype: "FP32", shape: shape(), data };
    let mut outputs = Vec::new();
    if request.one_hot {
        let one_hot =
            verdicts.iter().flat_map(|v| (0..classes).map(|i| f32::from(u8::from(i == v.label)))).collect();
        outputs.push(output("OUTPUT", one_hot));
    }
    if request.probabilities {
        outputs
            .push(output("PROBABILITIES", verdicts.iter().flat_map(|v| v.probabilities.clone()).collect()));
    }
    let response = InferResponse {
        id: request.id,
        model_name: name,
        model_version: "1",
        parameters: SequenceParameters::default(),
        outputs,
    };
    match serde_json::to_string(&response) {
        Ok(body) => answer::json(StatusCode::OK, body),
        Err(e) => fail(StatusCode::INTERNAL_SERVER_ERROR, &e.to_string()),
    }
}

fn empty(status: StatusCode) -> Response<Answer> {
    answer::json(status, "")
}

fn fail(status: StatusCode, message: &str) -> Response<Answer> {
    answer::json(status, json!({"error": message}).to_string())
}
