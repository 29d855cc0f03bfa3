//! The Envoy door, checked.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How the Envoy door is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtProc {
    /// Address of the gRPC service that Envoy asks.
    pub listen: SocketAddr,
    /// Address of the gRPC health service.
    pub health_listen: SocketAddr,
    /// How Envoy reaches it.
    pub tls: DoorTls,
    /// How long classifying may take.
    pub deadline: Duration,
    /// Requests that Envoy may ask about at once.
    pub streams: usize,
    /// So many further endpoints are named behind the one that was picked.
    pub fallbacks: usize,
    /// Whether the score of each endpoint is told.
    pub scores: bool,
    /// Whether Envoy lets itself be told which bodies to send.
    pub mode_override: bool,
    /// Whether the headers for body-based routing are set.
    pub model_headers: bool,
    /// Whether clients' control headers are believed.
    pub trust_clients: bool,
    /// Whether errors come in the words of the Gateway API's endpoint picker.
    pub gaie_errors: bool,
    /// Whether the hooks of the Gateway API's conformance tests work.
    pub conformance: bool,
}

/// See [`ExtProc::tls`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DoorTls {
    /// Plaintext.
    Off,
    /// A certificate made at start, which nobody can check.
    SelfSigned,
    /// PEM files.
    Files {
        /// The certificate and those that vouch for it.
        certificate: Arc<Path>,
        /// Its private key.
        key: Arc<Path>,
    },
}
