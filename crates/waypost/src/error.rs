//! Why a command failed, as the user reads it after `error: `.

use std::path::PathBuf;

/// See the module.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{0}")]
    Config(#[from] waypost_config::Error),
    #[error("{0}")]
    Classifier(#[from] waypost_classify::Error),
    #[error("{0}")]
    Router(#[from] waypost_router::Error),
    #[error("{0}")]
    Sim(#[from] waypost_sim::Error),
    #[error("cannot listen on {address}: {source}; choose another address with --listen")]
    Listen { address: std::net::SocketAddr, source: std::io::Error },
    #[error("{0}")]
    Output(#[from] std::io::Error),
    #[error("cannot watch {}: {source}", path.display())]
    Watch { path: PathBuf, source: notify::Error },
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: std::io::Error },
    #[error("{0}")]
    Data(String),
    #[error("{0}")]
    Usage(String),
    #[error("{0}")]
    Internal(String),
}
