//! What clients may send, checked.

use std::time::Duration;

/// Bounds on what a client may send and how many may do so.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Request body, decompressed, in bytes.
    pub body_bytes: usize,
    /// Request headers together, in bytes.
    pub header_bytes: usize,
    /// Number of request header fields.
    pub header_fields: usize,
    /// Open client connections.
    pub connections: usize,
    /// Requests in flight; more are answered 503 at once.
    pub requests_in_flight: usize,
    /// From the first byte of a request to the end of its headers.
    pub header_timeout: Duration,
    /// From the end of the headers to the end of the body.
    pub body_timeout: Duration,
    /// A kept-alive connection without a request is closed after this.
    pub keepalive_timeout: Duration,
    /// A client that takes no byte of its answer for this long is cut off.
    pub write_timeout: Duration,
    /// Decisions kept for `GET /v1/decisions/{id}`.
    pub decisions_kept: usize,
}
