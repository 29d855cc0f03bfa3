//! `waypost body-transformer`: what can be set on it.
//!
//! Part of `cli`.

use super::{LogFormat, listen_address};
use clap::{Args, ValueEnum};
use std::net::SocketAddr;
use std::path::PathBuf;

/// What becomes of a request whose worker cannot be put into its body.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Unpinned {
    /// It goes on as it came
    Pass,
    /// It is answered with an error
    Refuse,
}

#[derive(Debug, Args)]
#[command(
    after_help = "An external processor for Envoy, after an endpoint picker that names Dynamo's worker in a header: x-dynamo-worker-instance-id or x-worker-instance-id. It merges the id into `nvext` of the body and changes no other byte. With x-dynamo-routing-mode: disaggregated and a prefill worker (x-dynamo-prefill-instance-id, x-prefill-instance-id, x-prefiller-host-port) it merges both. Requests without the header pass.\n\nThe headers of clients cannot be told from those of the picker: the gateway has to remove them first. See deploy/envoy/body-transformer.yaml and docs/dynamo.md.\n\nExample:\n  waypost body-transformer --listen 0.0.0.0:9003 --tls"
)]
pub(crate) struct BodyTransformer {
    /// Where Envoy asks; a port alone means every address
    #[arg(long, value_name = "ADDR:PORT", value_parser = listen_address, default_value = "0.0.0.0:9003")]
    pub(crate) listen: SocketAddr,
    /// Where the gRPC health service is
    #[arg(long, value_name = "ADDR:PORT", value_parser = listen_address, default_value = "0.0.0.0:9004")]
    pub(crate) health_listen: SocketAddr,
    /// Where /metrics is
    #[arg(long, value_name = "ADDR:PORT", value_parser = listen_address, default_value = "0.0.0.0:9090")]
    pub(crate) metrics_listen: SocketAddr,
    /// Serve with TLS, and a certificate made at start where no files are given
    #[arg(long)]
    pub(crate) tls: bool,
    /// PEM file with the certificate and those that vouch for it; read again when it changes
    #[arg(long, value_name = "FILE", requires = "key", requires = "tls")]
    pub(crate) certificate: Option<PathBuf>,
    /// PEM file with its private key
    #[arg(long, value_name = "FILE", requires = "certificate")]
    pub(crate) key: Option<PathBuf>,
    /// Longest body, such as 10MiB; longer ones are answered with 413
    #[arg(long, value_name = "SIZE", value_parser = waypost_config::parse_size, default_value = "20MiB")]
    pub(crate) body_limit: usize,
    /// What becomes of a request whose worker cannot be put into its body; counted either way
    #[arg(long, value_enum, default_value_t = Unpinned::Refuse)]
    pub(crate) on_error: Unpinned,
    /// Envoy has allow_mode_override: ask it for bodies where they are needed, whatever its processing_mode says
    #[arg(long)]
    pub(crate) mode_override: bool,
    /// Requests at once; more are refused
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub(crate) streams: usize,
    /// Form of the log on standard error
    #[arg(long, value_enum, default_value_t = LogFormat::Auto)]
    pub(crate) log_format: LogFormat,
}
