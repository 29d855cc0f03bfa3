//! What the door asks of the part that decides: a [`Judge`] opens a [`Case`] for each request, and the case
//! gives one [`Verdict`] and watches the response.
//!
//! Nothing here knows gRPC, body modes or the order of messages. The binary implements it on the router; tests
//! on a double.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};

/// Decides about requests; shared by all streams.
pub trait Judge: Send + Sync + 'static {
    /// One request of this judge.
    type Case: Case;

    /// A request's head is here. `None`: not ours to judge, it passes untouched except for the client's
    /// control headers. Must be cheap: the stream waits.
    fn open(&self, head: Head) -> Option<Self::Case>;

    /// Whether a client's header of this name steers what comes after the door, so that it is removed from
    /// every request. The destination headers are where it [`picks`](Self::picks).
    fn steers(&self, name: &HeaderName) -> bool;

    /// Whether endpoints are this judge's to name. Then the destination headers that a request comes with are removed;
    /// else they are those of a picker before it, and stay.
    fn picks(&self) -> bool {
        true
    }
}

/// One request on its way. Dropping it before [`Case::response_end`] means that the exchange broke off (or was
/// refused): it must settle itself then.
pub trait Case: Send + 'static {
    /// Whether the verdict depends on the body. When not, nothing is held back.
    fn needs_body(&self) -> bool;

    /// Longest body in bytes this case accepts; never above [`crate::Options::body_limit`] in effect.
    fn body_limit(&self) -> usize;

    /// Judges with the whole body, which is empty when the request has none. Bounded by the judge's own
    /// deadline. Dropped unfinished when the exchange ends first.
    fn decide(&mut self, body: Bytes) -> impl Future<Output = Verdict> + Send;

    /// Judges without a body that is there but cannot be had.
    fn decide_blind(&mut self, why: Blind) -> impl Future<Output = Verdict> + Send;

    /// The answer to a request that the door itself has to refuse.
    fn fault(&mut self, fault: Fault) -> Refusal;

    /// The response's head is here: headers to set on it. May come without a verdict, when Envoy answers by
    /// itself. `served` is the `ip:port` that really served, where Envoy tells it.
    fn response_head(
        &mut self,
        status: u16,
        headers: &HeaderMap,
        served: Option<&str>,
    ) -> Vec<(HeaderName, HeaderValue)>;

    /// A piece of the response's body, in order.
    fn response_data(&mut self, data: &[u8]);

    /// The response is over; called at most once, and nothing but the drop follows.
    fn response_end(&mut self, end: End);
}

/// A request without its body.
#[derive(Debug, Clone)]
pub struct Head {
    /// `GET` where Envoy names none that is valid.
    pub method: Method,
    /// Path with query, as in `:path`; may be empty.
    pub path: String,
    /// `:authority`; may be empty.
    pub authority: String,
    /// All headers except pseudo headers. Names that HTTP does not allow are left out.
    pub headers: HeaderMap,
    /// The request has neither body nor trailers.
    pub ends: bool,
    /// Endpoints (`ip:port` or `ip`) that may be chosen, from metadata. `None`: no such hint; empty: none may.
    pub subset: Option<Vec<String>>,
    /// How Envoy sends bodies, as it is configured.
    pub modes: crate::Modes,
}

/// Why a body is not seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blind {
    /// [`Case::needs_body`] said no.
    NotNeeded,
    /// A protocol upgrade or CONNECT: what follows is no body.
    Upgrade,
    /// Envoy's request body mode shows the body too late or never.
    Mode,
    /// More body than Envoy's buffer holds, in `BUFFERED_PARTIAL`.
    Partial,
}

/// What the door itself cannot let pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The body is longer than this many bytes: 413.
    TooLarge(usize),
    /// A body was announced, but only trailers came: 400.
    NoBody,
    /// The bodies held at the moment fill the memory set aside for them: 503.
    Full,
}

/// How a response came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// All of it was seen.
    Complete,
    /// The head was seen; Envoy is configured not to show the rest.
    Unseen,
}

/// What becomes of a request.
#[derive(Debug, Clone)]
pub enum Verdict {
    /// It goes on.
    Go(Go),
    /// It is answered here.
    No(Refusal),
}

/// How a request goes on.
#[derive(Debug, Clone, Default)]
pub struct Go {
    /// Headers to set; each replaces all of its name.
    pub set: Vec<(HeaderName, HeaderValue)>,
    /// Headers to remove, beside those that [`Judge::steers`] names.
    pub remove: Vec<HeaderName>,
    /// Pieces of the edited body; `None`: as it came. Has an effect only after [`Case::decide`].
    pub body: Option<Vec<Bytes>>,
    /// `ip:port` (or a list), for header and metadata `x-gateway-destination-endpoint`.
    pub destination: Option<String>,
    /// Endpoints with their scores, for metadata `x-gateway-destination-endpoint-scores`.
    pub scores: Vec<(String, f64)>,
    /// Envoy chooses the route again, by the new headers.
    pub reroute: bool,
}

/// An answer in place of the upstream's.
#[derive(Debug, Clone)]
pub struct Refusal {
    /// HTTP status.
    pub status: u16,
    /// Headers of the answer; its length is Envoy's care.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Body of the answer.
    pub body: Bytes,
    /// One word for Envoy's access log (`%RESPONSE_CODE_DETAILS%`).
    pub details: String,
}
