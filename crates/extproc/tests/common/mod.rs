//! A judge's double, a door on a socket and a client that says what an Envoy would, or would never.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail as loudly as tests"
)]

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost_types::value::Kind as Json;
use prost_types::{Struct, Value};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::{Status, Streaming};
pub use waypost_extproc::pb::envoy::config::core::v3 as core;
pub use waypost_extproc::pb::envoy::service::ext_proc::v3::body_mutation::Mutation;
pub use waypost_extproc::pb::envoy::service::ext_proc::v3::processing_request::Request as Ask;
pub use waypost_extproc::pb::envoy::service::ext_proc::v3::processing_response::Response as Say;
pub use waypost_extproc::pb::envoy::service::ext_proc::v3::*;
use waypost_extproc::*;

/// Numbers of the body modes.
pub const N: i32 = 0;
pub const S: i32 = 1;
pub const B: i32 = 2;
pub const BP: i32 = 3;
pub const FD: i32 = 4;
pub const LIMIT: usize = 20 << 20;
const PATIENCE: Duration = Duration::from_secs(10);

/// What the judge saw.
#[derive(Debug, Default)]
pub struct Seen {
    pub opened: AtomicUsize,
    pub dropped: AtomicUsize,
    pub events: Mutex<Vec<String>>,
}

impl Seen {
    fn note(&self, event: impl Into<String>) {
        self.events.lock().unwrap().push(event.into());
    }

    pub fn events(&self) -> Vec<String> {
        self.events.lock().unwrap().clone()
    }
}

#[derive(Debug, Clone, Default)]
pub struct Double(pub Arc<Seen>);

/// A case that does what the request's header `x-do` says.
pub struct Request {
    seen: Arc<Seen>,
    does: String,
}

impl Judge for Double {
    type Case = Request;

    fn open(&self, head: Head) -> Option<Request> {
        self.0.note(format!("open {} {} ends={} {:?}", head.method, head.path, head.ends, head.subset));
        let does = head.headers.get("x-do").map(|v| v.to_str().unwrap().to_owned()).unwrap_or_default();
        if head.path == "/other" {
            return None;
        }
        self.0.opened.fetch_add(1, SeqCst);
        Some(Request { seen: Arc::clone(&self.0), does })
    }

    fn steers(&self, name: &HeaderName) -> bool {
        name.as_str().starts_with("x-steer-")
    }
}

impl Request {
    async fn verdict(&self, body: Option<Bytes>) -> Verdict {
        match self.does.as_str() {
            "stuck" => std::future::pending().await,
            "slow" => tokio::time::sleep(Duration::from_millis(40)).await,
            "panic" => panic!("as the test asked"),
            "refuse" => return Verdict::No(refusal(429)),
            "plain" => return Verdict::Go(Go::default()),
            _ => {}
        }
        let edited =
            || vec![Bytes::from_static(b"<"), body.clone().unwrap_or_default(), Bytes::from_static(b">")];
        Verdict::Go(Go {
            set: vec![(HeaderName::from_static("x-model"), HeaderValue::from_static("m"))],
            remove: vec![HeaderName::from_static("x-gone")],
            body: (self.does == "edit").then(edited),
            destination: Some("10.0.0.1:80".into()),
            scores: vec![("10.0.0.1:80".into(), 0.5)],
            reroute: true,
        })
    }
}

fn refusal(status: u16) -> Refusal {
    let header = (HeaderName::from_static("x-why"), HeaderValue::from_static("no"));
    Refusal { status, headers: vec![header], body: Bytes::from_static(b"no"), details: "said_no".into() }
}

impl Case for Request {
    fn needs_body(&self) -> bool {
        self.does != "unneeded"
    }

    fn body_limit(&self) -> usize {
        LIMIT
    }

    async fn decide(&mut self, body: Bytes) -> Verdict {
        self.seen.note(format!("whole {}", body.len()));
        self.verdict(Some(body)).await
    }

    async fn decide_blind(&mut self, why: Blind) -> Verdict {
        self.seen.note(format!("blind {why:?}"));
        self.verdict(None).await
    }

    fn fault(&mut self, fault: Fault) -> Refusal {
        self.seen.note(format!("fault {fault:?}"));
        refusal(match fault {
            Fault::TooLarge(_) => 413,
            Fault::NoBody => 400,
            Fault::Full => 503,
        })
    }

    fn response_head(
        &mut self,
        status: u16,
        headers: &HeaderMap,
        served: Option<&str>,
    ) -> Vec<(HeaderName, HeaderValue)> {
        self.seen.note(format!("head {status} {} {served:?}", headers.len()));
        vec![(HeaderName::from_static("x-seen"), HeaderValue::from(status))]
    }

    fn response_data(&mut self, data: &[u8]) {
        self.seen.note(format!("data {}", data.len()));
    }

    fn response_end(&mut self, end: End) {
        self.seen.note(format!("end {end:?}"));
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        self.seen.dropped.fetch_add(1, SeqCst);
        self.seen.note("drop");
    }
}

/// A door that serves.
pub struct Open {
    pub address: SocketAddr,
    pub seen: Arc<Seen>,
    pub counts: Arc<Counts>,
    pub health: Health,
    pub close: oneshot::Sender<Closing>,
    pub task: JoinHandle<()>,
}

pub async fn door() -> Open {
    door_with(Options { body_limit: LIMIT, ..Options::default() }, None).await
}

pub async fn door_with(options: Options, certificate: Option<Certificate>) -> Open {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (judge, health) = (Double::default(), Health::default());
    let seen = Arc::clone(&judge.0);
    let door = Door::new(judge, options, health.clone());
    let counts = door.counts();
    let (close, closing) = oneshot::channel();
    let task = tokio::spawn(async move {
        let stop = async { closing.await.unwrap_or(Closing { delay: PATIENCE, grace: PATIENCE }) };
        door.serve(listener, certificate.as_ref(), stop).await.unwrap();
    });
    Open { address, seen, counts, health, close, task }
}

impl Open {
    pub async fn client(&self) -> Client {
        let io = TcpStream::connect(self.address).await.unwrap();
        io.set_nodelay(true).unwrap();
        Client::connect(io).await
    }

    /// A fresh connection with a stream on it.
    pub async fn talk(&self) -> Talk {
        self.client().await.talk().await.unwrap()
    }

    /// All streams have ended, each case was dropped once, and no memory is held.
    pub async fn settled(&self) {
        let counts = &self.counts;
        let open = || {
            let (opened, dropped) = (self.seen.opened.load(SeqCst), self.seen.dropped.load(SeqCst));
            assert!(dropped <= opened);
            (counts.streams_open.load(SeqCst), opened - dropped, counts.held_bytes.load(SeqCst))
        };
        let calm = async {
            while open() != (0, 0, 0) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let waited = tokio::time::timeout(PATIENCE, calm).await;
        assert!(waited.is_ok(), "streams, cases, bytes left: {:?}; {:?}", open(), self.seen.events());
    }
}

/// A gRPC client on one connection.
#[derive(Clone)]
pub struct Client(SendRequest<Body>);

impl Client {
    pub async fn connect<T>(io: T) -> Self
    where
        T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        let (send, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(io)).await.unwrap();
        tokio::spawn(connection);
        Self(send)
    }

    /// The connection, for requests that are none of gRPC.
    pub fn raw(&self) -> SendRequest<Body> {
        self.0.clone()
    }

    pub async fn talk(&self) -> Result<Talk, Status> {
        let (to, rx) = mpsc::unbounded_channel::<ProcessingRequest>();
        let input = futures_util::stream::unfold(rx, |mut rx| async move { Some((rx.recv().await?, rx)) });
        let mut grpc = tonic::client::Grpc::new(self.clone()).max_decoding_message_size(64 << 20);
        grpc.ready().await.map_err(|_| Status::unavailable("connection"))?;
        let path =
            http::uri::PathAndQuery::from_static("/envoy.service.ext_proc.v3.ExternalProcessor/Process");
        let codec = tonic_prost::ProstCodec::default();
        let response = grpc.streaming(tonic::Request::new(input), path, codec).await?;
        Ok(Talk { to: Some(to), from: response.into_inner() })
    }
}

impl Service<http::Request<Body>> for Client {
    type Response = http::Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = hyper::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        let path = request.uri().path_and_query().unwrap().clone();
        *request.uri_mut() = format!("http://door{path}").parse().unwrap();
        Box::pin(self.0.send_request(request))
    }
}

/// One stream.
pub struct Talk {
    to: Option<mpsc::UnboundedSender<ProcessingRequest>>,
    from: Streaming<ProcessingResponse>,
}

impl Talk {
    pub fn say(&self, message: ProcessingRequest) -> &Self {
        let _ = self.to.as_ref().unwrap().send(message);
        self
    }

    pub async fn hear(&mut self) -> Result<Option<ProcessingResponse>, Status> {
        tokio::time::timeout(PATIENCE, self.from.message()).await.expect("a reply in time")
    }

    /// The next reply; there must be one.
    pub async fn reply(&mut self) -> ProcessingResponse {
        self.hear().await.unwrap().expect("a reply")
    }

    /// That nothing is said for a while.
    pub async fn silence(&mut self) {
        let waited = tokio::time::timeout(Duration::from_millis(60), self.from.message()).await;
        assert!(waited.is_err(), "said {waited:?}");
    }

    /// Closes our side and hears what is left.
    pub async fn finish(mut self) -> Vec<ProcessingResponse> {
        self.to = None;
        let mut heard = Vec::new();
        while let Ok(Some(reply)) = self.hear().await {
            heard.push(reply);
        }
        heard
    }

    /// The error that ends the stream, whatever is said before.
    pub async fn error(mut self) -> Status {
        loop {
            match self.hear().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("ended in good order"),
                Err(status) => return status,
            }
        }
    }

    /// Replies until the request's half has all of its parts: header edits and the body that goes upstream.
    pub async fn streamed_body(&mut self) -> (Vec<u8>, Vec<usize>) {
        let (mut body, mut sizes) = (Vec::new(), Vec::new());
        loop {
            let (part, ends) = streamed(self.reply().await);
            sizes.push(part.len());
            body.extend_from_slice(&part);
            if ends {
                return (body, sizes);
            }
        }
    }
}

pub fn message(ask: Ask) -> ProcessingRequest {
    ProcessingRequest { request: Some(ask), ..Default::default() }
}

pub fn wire(headers: &[(&str, &str)]) -> Option<core::HeaderMap> {
    let field = |(key, value): &(&str, &str)| core::HeaderValue {
        key: (*key).into(),
        value: String::new(),
        raw_value: Bytes::copy_from_slice(value.as_bytes()),
    };
    Some(core::HeaderMap { headers: headers.iter().map(field).collect() })
}

/// The first message: modes, then headers beside `:method` and `:path`.
pub fn head(modes: (i32, i32), does: &str, ends: bool, more: &[(&str, &str)]) -> ProcessingRequest {
    let mut headers = vec![(":method", "POST"), (":path", "/v1/chat/completions"), ("x-do", does)];
    headers.retain(|(name, _)| !more.iter().any(|(other, _)| name == other));
    headers.extend_from_slice(more);
    let ask = Ask::RequestHeaders(HttpHeaders { headers: wire(&headers), end_of_stream: ends });
    let config = ProtocolConfiguration {
        request_body_mode: modes.0,
        response_body_mode: modes.1,
        send_body_without_waiting_for_header_response: false,
    };
    ProcessingRequest { protocol_config: Some(config), ..message(ask) }
}

pub fn body(bytes: impl Into<Bytes>, end_of_stream: bool) -> ProcessingRequest {
    message(Ask::RequestBody(HttpBody { body: bytes.into(), end_of_stream }))
}

pub fn trailers() -> ProcessingRequest {
    message(Ask::RequestTrailers(HttpTrailers { trailers: wire(&[("x-t", "1")]) }))
}

pub fn response(status: &str, end_of_stream: bool) -> ProcessingRequest {
    let headers = wire(&[(":status", status), ("content-type", "text/event-stream")]);
    message(Ask::ResponseHeaders(HttpHeaders { headers, end_of_stream }))
}

pub fn data(bytes: impl Into<Bytes>, end_of_stream: bool) -> ProcessingRequest {
    message(Ask::ResponseBody(HttpBody { body: bytes.into(), end_of_stream }))
}

pub fn response_trailers() -> ProcessingRequest {
    message(Ask::ResponseTrailers(HttpTrailers { trailers: None }))
}

pub fn text(value: &str) -> Value {
    Value { kind: Some(Json::StringValue(value.into())) }
}

pub fn record<const K: usize>(fields: [(&str, Value); K]) -> Struct {
    Struct { fields: fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect() }
}

/// The common part of a reply to headers or a body.
pub fn common(reply: &ProcessingResponse) -> CommonResponse {
    match reply.response.clone() {
        Some(Say::RequestHeaders(headers) | Say::ResponseHeaders(headers)) => headers.response.unwrap(),
        Some(Say::RequestBody(body) | Say::ResponseBody(body)) => body.response.unwrap(),
        other => panic!("neither headers nor body: {other:?}"),
    }
}

pub fn set(reply: &ProcessingResponse, name: &str) -> Option<String> {
    let mutation = common(reply).header_mutation?;
    let mut found = mutation.set_headers.iter().filter(|option| option.header.as_ref().unwrap().key == name);
    let option = found.next()?;
    assert!(found.next().is_none() && option.append_action == 2);
    Some(String::from_utf8(option.header.clone().unwrap().raw_value.to_vec()).unwrap())
}

pub fn removed(reply: &ProcessingResponse) -> Vec<String> {
    common(reply).header_mutation.map(|mutation| mutation.remove_headers).unwrap_or_default()
}

/// A piece in FULL_DUPLEX_STREAMED.
pub fn streamed(reply: ProcessingResponse) -> (Bytes, bool) {
    match common(&reply).body_mutation.and_then(|mutation| mutation.mutation) {
        Some(Mutation::StreamedResponse(part)) => (part.body, part.end_of_stream),
        other => panic!("not a streamed piece: {other:?}"),
    }
}

/// The status of an answer in place of the upstream's.
pub fn immediate(reply: ProcessingResponse) -> i32 {
    match reply.response {
        Some(Say::ImmediateResponse(answer)) => answer.status.unwrap().code,
        other => panic!("no immediate answer: {other:?}"),
    }
}

/// A reply without any change.
pub fn is_untouched(reply: &ProcessingResponse) -> bool {
    let nothing = common(reply) == CommonResponse::default();
    nothing && reply.dynamic_metadata.is_none() && reply.mode_override.is_none()
}
