//! Prefill on one endpoint, decode on another: what goes to whom, and what when the prefill fails.
//!
//! vLLM's NIXL way: the prefill answers with `kv_transfer_params`, which go on to decode as they are. SGLang's: both get the
//! request at once and meet in a room. Dynamo's frontend does it all when it is told both ids, which is `outfit`'s. A prefill
//! that fails costs time, never the request: decode then reads the prompt itself. Called by send.

use crate::send::{self, Job};
use bytes::Bytes;
use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, Request, Uri};
use http_body_util::{BodyExt, Limited};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use waypost_config::{Connector, Model, ModelIndex};
use waypost_door::Ticket;
use waypost_door::outfit::{self, Outfit};
use waypost_picker::Endpoint;
use waypost_router::{Held, Outgoing, millis};
use waypost_wire::members::{self, Change};

/// Largest answer of a prefill that is read, in bytes; the ids of a million tokens' blocks are less.
const ANSWER_MAX_BYTES: usize = 4 << 20;
/// SGLang's.
const BOOTSTRAP_PORT: u16 = 8998;
/// By which engines tell that two requests are one.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// What vLLM's NIXL connector wants to see of a request that it only reads.
const DO_REMOTE_DECODE: &str = r#"{"do_remote_decode":true,"do_remote_prefill":false,"remote_engine_id":null,"remote_block_ids":null,"remote_host":null,"remote_port":null}"#;

/// Why decode has to read the prompt itself: a word for metrics and the Decision.
type Failed = &'static str;

/// A prefill under way beside the decode: tells when it has failed.
pub(crate) type Watch = oneshot::Receiver<Failed>;

/// Has the prompt read as the model's connector wants it, and completes what decode is told.
pub(crate) async fn begin(
    job: &Job<'_>,
    index: ModelIndex,
    reader: Held,
    outfit: &mut Outfit,
    ticket: &mut Ticket,
) -> Option<Watch> {
    let model = &job.brain.snapshot().models[index];
    let settings = model.picking.disaggregation?;
    match settings.connector {
        // Its frontend waits for its own prefill, so the load is booked until the answer begins: see `Place`.
        Connector::Dynamo => {
            outfit.kept = Some(reader);
            None
        }
        Connector::Nixl => {
            request_id(job, outfit, ticket);
            let start = Instant::now();
            let read = nixl(job, index, reader.endpoint(), outfit, settings.prefill_timeout).await;
            let result = match read {
                Ok(params) => {
                    outfit.changes.push(Change::Set("kv_transfer_params", params));
                    "ok"
                }
                Err(why) => {
                    failed(job, index, reader.index(), why, ticket);
                    why
                }
            };
            ticket.prefilled(result, millis(start.elapsed()));
            None
        }
        Connector::Sglang => {
            request_id(job, outfit, ticket);
            Some(sglang(job, index, reader, outfit, settings.prefill_timeout))
        }
    }
}

/// Counts a prefill that failed, and tells the pool whose endpoint it was.
pub(crate) fn failed(job: &Job<'_>, model: ModelIndex, position: usize, why: Failed, ticket: &Ticket) {
    let name = &job.brain.snapshot().models[model].name;
    ticket.gateway().metrics().prefill_fallbacks.with_label_values(&[name, why]).inc();
    // The request's own fault is none of the endpoint's.
    if !matches!(why, "refused" | "unusable") {
        job.brain.pool(model).failed(position, waypost_picker::Failure::Broken, job.brain.now());
    }
}

/// Both halves carry the same id: the client's own, or the Decision's.
fn request_id(job: &Job<'_>, outfit: &mut Outfit, ticket: &Ticket) {
    let theirs = job.headers.get(REQUEST_ID).cloned();
    let ours = || HeaderValue::try_from(format!("waypost-{}", ticket.decision.id)).ok();
    if let Some(id) = theirs.or_else(ours) {
        outfit.headers.insert(REQUEST_ID, id);
    }
}

/// The prompt read, one token written, and what decode needs to fetch the cache.
async fn nixl(
    job: &Job<'_>,
    index: ModelIndex,
    endpoint: &Endpoint,
    outfit: &Outfit,
    limit: Duration,
) -> Result<String, Failed> {
    #[derive(Deserialize)]
    struct Answer<'a> {
        #[serde(borrow)]
        kv_transfer_params: Option<&'a RawValue>,
    }
    let model = &job.brain.snapshot().models[index];
    let one = || "1".to_owned();
    let mut changes = outfit::rewrite(model, model.called(job.name), outfit.reasoning);
    changes.extend([
        Change::Set("stream", "false".to_owned()),
        Change::Remove("stream_options"),
        Change::Set("max_tokens", one()),
        Change::Replace("max_completion_tokens", one()),
        Change::Replace("max_output_tokens", one()),
        Change::Replace("min_tokens", one()),
        Change::Set("kv_transfer_params", DO_REMOTE_DECODE.to_owned()),
    ]);
    let request = request(job, model, endpoint, &changes, &outfit.headers)?;
    let answer = ask(job, index, request, limit).await?;
    let answer: Answer<'_> = serde_json::from_slice(&answer).map_err(|_| "unreadable")?;
    match answer.kv_transfer_params {
        Some(params) if params.get() != "null" => Ok(params.get().to_owned()),
        _ => Err("no_kv_transfer_params"),
    }
}

/// The same request to both, with the same room; the prefill's answer is of no interest unless it is an error.
fn sglang(job: &Job<'_>, index: ModelIndex, reader: Held, outfit: &mut Outfit, limit: Duration) -> Watch {
    let model = &job.brain.snapshot().models[index];
    let (tell, watch) = oneshot::channel();
    let endpoint = Arc::clone(reader.endpoint());
    let host = endpoint.base().parse::<Uri>().ok().and_then(|uri| uri.host().map(str::to_owned));
    let host = serde_json::Value::from(host.unwrap_or_default()).to_string();
    let port = endpoint.spec().bootstrap_port.unwrap_or(BOOTSTRAP_PORT);
    // SGLang's rooms are numbers of 63 bits.
    let room = fastrand::u64(..) >> 1;
    let meeting = [
        Change::Set("bootstrap_host", host),
        Change::Set("bootstrap_port", port.to_string()),
        Change::Set("bootstrap_room", room.to_string()),
    ];
    let mut changes = outfit::rewrite(model, model.called(job.name), outfit.reasoning);
    changes.extend(meeting.clone());
    outfit.changes.extend(meeting);
    match request(job, model, &endpoint, &changes, &outfit.headers) {
        Err(why) => drop(tell.send(why)),
        Ok(request) => {
            let client = job.brain.client(index);
            // A client that leaves does not stop it: decode has to fetch the cache, or it is never freed.
            drop(tokio::spawn(async move {
                let read = async {
                    let answer = client.request(request).await.map_err(|_| "unreachable")?;
                    status(answer.status())?;
                    let mut body = answer.into_body();
                    while let Some(frame) = body.frame().await {
                        frame.map_err(|_| "cut")?;
                    }
                    Ok(())
                };
                let read = tokio::time::timeout(limit, read).await.unwrap_or(Err("timeout"));
                drop(reader);
                if let Err(why) = read {
                    // Decode may be over already.
                    let _ = tell.send(why);
                }
            }));
        }
    }
    watch
}

/// A request to the prefill endpoint.
fn request(
    job: &Job<'_>,
    model: &Model,
    endpoint: &Endpoint,
    changes: &[Change<'_>],
    headers: &HeaderMap,
) -> Result<Request<Outgoing>, Failed> {
    let body = members::edit(job.body, changes).map_err(|_| "unusable")?;
    let mut own = Outfit { headers: headers.clone(), ..Outfit::default() };
    own.rank(endpoint);
    send::request(job, model, endpoint, body, &own).ok_or("unusable")
}

async fn ask(
    job: &Job<'_>,
    index: ModelIndex,
    request: Request<Outgoing>,
    limit: Duration,
) -> Result<Bytes, Failed> {
    let exchange = async {
        let answer = job.brain.client(index).request(request).await.map_err(|_| "unreachable")?;
        status(answer.status())?;
        let body = Limited::new(answer.into_body(), ANSWER_MAX_BYTES);
        body.collect().await.map(|body| body.to_bytes()).map_err(|_| "cut")
    };
    tokio::time::timeout(limit, exchange).await.unwrap_or(Err("timeout"))
}

/// A refusal is the request's own fault, and decode will say so; anything else is the endpoint's.
fn status(status: http::StatusCode) -> Result<(), Failed> {
    match status.as_u16() {
        200..300 => Ok(()),
        400..500 => Err("refused"),
        _ => Err("broken"),
    }
}
