//! The admin door as the user writes it.

use std::net::{Ipv4Addr, SocketAddr};

use schemars::JsonSchema;
use serde::Deserialize;

use crate::raw::Raw;

/// Whoever reaches it can read decisions and have texts classified: not for the network unless it is said so.
const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8085);

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct AdminSpec {
    /// Its address and port.
    pub(crate) listen: Raw<SocketAddr>,
}

impl Default for AdminSpec {
    fn default() -> Self {
        Self { listen: Raw::Default(LISTEN) }
    }
}
