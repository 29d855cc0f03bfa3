//! The Envoy door as the user writes it.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::leaf::DoorTls;
use crate::raw::Raw;

/// Ports of the Gateway API's endpoint pickers.
const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), 9002);
const HEALTH: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), 9003);
/// Many times what a decision takes, and little beside any answer.
const DEADLINE: Duration = Duration::from_millis(50);
const STREAMS: u64 = 10_000;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ExtProcSpec {
    /// Address and port of the gRPC service that Envoy asks.
    pub(crate) listen: Raw<SocketAddr>,
    /// Address and port of the gRPC health service.
    pub(crate) health_listen: Raw<SocketAddr>,
    /// How Envoy reaches `listen`: `off` (plaintext), `self_signed`, or `files` with `certificate` and `key`.
    pub(crate) tls: Raw<DoorTls>,
    /// PEM file with the certificate and those that vouch for it, relative to the folder of this file. Read again when it changes.
    pub(crate) certificate: Option<Raw<String>>,
    /// PEM file with its private key. Read again when it changes.
    pub(crate) key: Option<Raw<String>>,
    /// How long classifying may take before the policy's default model is taken.
    pub(crate) deadline: Raw<Duration>,
    /// Requests that Envoy may ask about at once.
    pub(crate) streams: Raw<u64>,
    /// So many further endpoints of the pool follow the picked one in `x-gateway-destination-endpoint`, for Envoy to try in
    /// this order. Needs a cluster with the load balancer `override_host`: others take no list.
    pub(crate) fallbacks: Raw<u64>,
    /// The score of each endpoint that could have been picked is told in the dynamic metadata `envoy.lb`.
    pub(crate) scores: Raw<bool>,
    /// Envoy is set up with `allow_mode_override`: it is asked for the bodies that are needed and for streamed answers,
    /// whatever its `processing_mode` says.
    pub(crate) mode_override: Raw<bool>,
    /// `X-Gateway-Model-Name` and `X-Gateway-Base-Model-Name` are set for routes that go by them.
    pub(crate) model_headers: Raw<bool>,
    /// What clients say in control headers (`x-gateway-destination-endpoint`, worker ids) is believed.
    pub(crate) trust_clients: Raw<bool>,
    /// Errors in the words of the Gateway API's endpoint picker instead of OpenAI's shape.
    pub(crate) gaie_errors: Raw<bool>,
    /// The Gateway API's conformance tests may choose endpoints (`test-epp-endpoint-selection`) and are told who served. For
    /// tests only: any client can.
    pub(crate) conformance: Raw<bool>,
}

impl Default for ExtProcSpec {
    fn default() -> Self {
        Self {
            listen: Raw::Default(LISTEN),
            health_listen: Raw::Default(HEALTH),
            tls: Raw::Default(DoorTls::Off),
            certificate: None,
            key: None,
            deadline: Raw::Default(DEADLINE),
            streams: Raw::Default(STREAMS),
            fallbacks: Raw::Default(0),
            scores: Raw::Default(false),
            mode_override: Raw::Default(false),
            model_headers: Raw::Default(false),
            trust_clients: Raw::Default(false),
            gaie_errors: Raw::Default(false),
            conformance: Raw::Default(false),
        }
    }
}
