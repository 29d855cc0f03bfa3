//! The gRPC framing of the door's one streaming call, on the bodies of hyper.
//!
//! tonic would keep a buffer as long as the longest message for each open stream, in both directions, and copy every body once
//! more on each way: at a thousand open streams that was most of the memory. The health service is tonic's. Called by the server.

mod reading;
mod writing;

use crate::driven::Driven;
use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue, Method, Request, Response};
pub(crate) use reading::Messages;
use tonic::Status;
use tonic::body::Body;
use writing::Replies;

/// The call's path.
const PROCESS: &str = "/envoy.service.ext_proc.v3.ExternalProcessor/Process";
const GRPC: &str = "application/grpc";
/// Where a caller is told how it may compress messages: not at all.
const ACCEPTED: HeaderName = HeaderName::from_static("grpc-accept-encoding");
/// Before each message: a flag, and its length.
const PREFIX_BYTES: usize = 5;

/// Whether it is the call that the door answers.
///
/// # Errors
/// The status to answer with, where it is none.
pub(crate) fn check<B>(call: &Request<B>) -> Result<(), Status> {
    let kind = call.headers().get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    if call.uri().path() != PROCESS || call.method() != Method::POST {
        return Err(Status::unimplemented("no such call"));
    }
    // `application/grpc+proto` is the same; `application/grpc-web` is another framing.
    let same = kind.strip_prefix(GRPC.as_bytes()).is_some_and(|rest| matches!(rest, [] | [b'+' | b';', ..]));
    if !same {
        return Err(Status::invalid_argument("not a gRPC call"));
    }
    Ok(())
}

/// The answer to a call: what `driven` says, as it says it.
pub(crate) fn answer(driven: Driven) -> Response<Body> {
    let mut response = Response::new(Body::new(Replies::new(driven)));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(GRPC));
    response.headers_mut().insert(ACCEPTED, HeaderValue::from_static("identity"));
    response
}
