//! The least that a processor can do, in plain tonic: every message is answered at once and nothing is looked at.
//!
//! With a destination it does the least that an endpoint picker can: it holds the request until the body has ended, names the
//! endpoint, and gives the body back. Bodies are never copied. Full duplex and buffered bodies.

use crate::Done;
use bytes::Bytes;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::net::TcpListener;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tonic::codegen::{Service, tokio_stream::Stream};
use tonic::{Request, Response, Status, Streaming};
use waypost_extproc::pb::envoy::config::core::v3::{HeaderValue, HeaderValueOption};
use waypost_extproc::pb::envoy::extensions::filters::http::ext_proc::v3::processing_mode::BodySendMode;
use waypost_extproc::pb::envoy::service::ext_proc::v3::external_processor_server::{
    ExternalProcessor, ExternalProcessorServer,
};
use waypost_extproc::pb::envoy::service::ext_proc::v3::{
    BodyMutation, BodyResponse, CommonResponse, HeaderMutation, HeadersResponse, ProcessingRequest,
    ProcessingResponse, StreamedBodyResponse, TrailersResponse, body_mutation::Mutation,
    processing_request::Request as Said, processing_response::Response as Reply,
};

/// Replies that may wait for the connection.
const REPLIES: usize = 16;
/// Far above what is asked of it, as are the bytes of a message.
const STREAMS: u32 = 16_384;
const MESSAGE_BYTES: usize = 64 << 20;
const FULL_DUPLEX: i32 = BodySendMode::FullDuplexStreamed as i32;
/// `OVERWRITE_IF_EXISTS_OR_ADD`.
const OVERWRITE: i32 = 2;

/// Serves until it is killed.
pub(crate) async fn run(listen: &str, destination: Option<&str>) -> Done {
    let listener = TcpListener::bind(listen).await?;
    let destination = destination.map(|text| Bytes::from(text.to_owned()));
    let service =
        ExternalProcessorServer::new(Floor { destination }).max_decoding_message_size(MESSAGE_BYTES);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let service = service.clone();
        tokio::spawn(async move {
            let service = service_fn(move |call| service.clone().call(call));
            // It ends with its Envoy.
            let _ = http2::Builder::new(TokioExecutor::new())
                .max_concurrent_streams(STREAMS)
                .max_pending_accept_reset_streams(STREAMS as usize)
                .initial_stream_window_size(256 << 10)
                .initial_connection_window_size(64 << 20)
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

#[derive(Debug, Clone)]
struct Floor {
    destination: Option<Bytes>,
}

/// What a task has to say, as a stream.
#[derive(Debug)]
struct Replies(Receiver<Result<ProcessingResponse, Status>>);

impl Stream for Replies {
    type Item = Result<ProcessingResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(cx)
    }
}

#[tonic::async_trait]
impl ExternalProcessor for Floor {
    type ProcessStream = Replies;

    async fn process(
        &self,
        request: Request<Streaming<ProcessingRequest>>,
    ) -> Result<Response<Replies>, Status> {
        let (replies, received) = channel(REPLIES);
        let exchange =
            Exchange { destination: self.destination.clone(), replies, modes: (0, 0), held: Vec::new() };
        tokio::spawn(exchange.run(request.into_inner()));
        Ok(Response::new(Replies(received)))
    }
}

struct Exchange {
    destination: Option<Bytes>,
    replies: Sender<Result<ProcessingResponse, Status>>,
    /// Body modes of request and response.
    modes: (i32, i32),
    held: Vec<Bytes>,
}

impl Exchange {
    async fn run(mut self, mut input: Streaming<ProcessingRequest>) {
        while let Ok(Some(message)) = input.message().await {
            if let Some(configured) = &message.protocol_config {
                self.modes = (configured.request_body_mode, configured.response_body_mode);
            }
            let Some(said) = message.request else { continue };
            for reply in self.answer(said) {
                let reply = ProcessingResponse { response: Some(reply), ..Default::default() };
                if self.replies.send(Ok(reply)).await.is_err() {
                    return;
                }
            }
        }
    }

    fn answer(&mut self, said: Said) -> Vec<Reply> {
        let (request, response) = self.modes;
        match said {
            Said::RequestHeaders(headers) if self.destination.is_some() && !headers.end_of_stream => {
                match request {
                    FULL_DUPLEX => Vec::new(),
                    _ => vec![Reply::RequestHeaders(HeadersResponse::default())],
                }
            }
            Said::RequestHeaders(_) => vec![Reply::RequestHeaders(self.named())],
            Said::RequestBody(body) if request == FULL_DUPLEX && self.destination.is_some() => {
                self.held.push(body.body);
                if !body.end_of_stream {
                    return Vec::new();
                }
                let pieces = std::mem::take(&mut self.held);
                let last = pieces.len() - 1;
                let bodies = pieces.into_iter().enumerate();
                std::iter::once(Reply::RequestHeaders(self.named()))
                    .chain(bodies.map(|(at, piece)| Reply::RequestBody(streamed(piece, at == last))))
                    .collect()
            }
            Said::RequestBody(body) if request == FULL_DUPLEX => {
                vec![Reply::RequestBody(streamed(body.body, body.end_of_stream))]
            }
            Said::RequestBody(_) => {
                vec![Reply::RequestBody(BodyResponse { response: self.named().response })]
            }
            Said::RequestTrailers(_) => vec![Reply::RequestTrailers(TrailersResponse::default())],
            Said::ResponseHeaders(_) => vec![Reply::ResponseHeaders(HeadersResponse::default())],
            Said::ResponseBody(body) if response == FULL_DUPLEX => {
                vec![Reply::ResponseBody(streamed(body.body, body.end_of_stream))]
            }
            Said::ResponseBody(_) => vec![Reply::ResponseBody(BodyResponse::default())],
            Said::ResponseTrailers(_) => vec![Reply::ResponseTrailers(TrailersResponse::default())],
        }
    }

    /// The destination, if there is one.
    fn named(&self) -> HeadersResponse {
        let Some(destination) = &self.destination else { return HeadersResponse::default() };
        let header = HeaderValue {
            key: "x-gateway-destination-endpoint".to_owned(),
            raw_value: destination.clone(),
            ..Default::default()
        };
        let set = HeaderValueOption { header: Some(header), append_action: OVERWRITE, ..Default::default() };
        let common = CommonResponse {
            header_mutation: Some(HeaderMutation { set_headers: vec![set], ..Default::default() }),
            clear_route_cache: true,
            ..Default::default()
        };
        HeadersResponse { response: Some(common) }
    }
}

fn streamed(body: Bytes, end_of_stream: bool) -> BodyResponse {
    let mutation = Mutation::StreamedResponse(StreamedBodyResponse { body, end_of_stream });
    let common = CommonResponse {
        body_mutation: Some(BodyMutation { mutation: Some(mutation) }),
        ..Default::default()
    };
    BodyResponse { response: Some(common) }
}
