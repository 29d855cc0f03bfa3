//! The admin door, checked.

use std::net::SocketAddr;

/// How the admin door is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admin {
    /// Its address.
    pub listen: SocketAddr,
}
