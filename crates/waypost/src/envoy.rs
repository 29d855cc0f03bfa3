//! The Envoy door beside the HTTP door: the same brain, opened and closed with it.
//!
//! Called by `serve` where the configuration has an `ext_proc` section. A change of that section takes a restart.

use crate::error::Error;
use crate::listen;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use tokio::net::TcpListener;
use waypost_config::{DoorTls, ExtProc, Shutdown};
use waypost_door::Gateway;
use waypost_extproc::{Certificate, Closing, Counts, Deciding, Door, Health, Options, serve_health};
use waypost_ledger::{Kind, Page};

/// Request bodies that are held at once, as a multiple of the largest one allowed; at least [`MIN_HELD_BYTES`].
const HELD_BODIES: usize = 100;
/// In bytes.
const MIN_HELD_BYTES: usize = 256 << 20;

/// See the module.
pub(crate) struct EnvoyDoor {
    door: Door<Deciding>,
    listener: TcpListener,
    certificate: Option<Certificate>,
    health: Health,
    health_listener: TcpListener,
}

impl EnvoyDoor {
    /// Takes its addresses.
    pub(crate) fn open(gateway: &Arc<Gateway>, settings: &ExtProc) -> Result<Self, Error> {
        let certificate = match &settings.tls {
            DoorTls::Off => None,
            DoorTls::SelfSigned => Some(Certificate::self_signed()),
            DoorTls::Files { certificate, key } => Some(Certificate::read(certificate, key)),
        };
        let certificate = certificate.transpose().map_err(|e| Error::Internal(format!("ext_proc: {e}")))?;
        let body_limit = gateway.brain().snapshot().limits.body_bytes;
        let options = Options {
            body_limit,
            held_bytes: body_limit.saturating_mul(HELD_BODIES).max(MIN_HELD_BYTES),
            streams: settings.streams,
            mode_override: settings.mode_override,
            ..Options::default()
        };
        let health = Health::default();
        let judge = Deciding::new(Arc::clone(gateway), settings.clone());
        Ok(Self {
            door: Door::new(judge, options, health.clone()),
            listener: listen::listen(settings.listen)?,
            certificate,
            health,
            health_listener: listen::listen(settings.health_listen)?,
        })
    }

    /// A line for people who start it.
    pub(crate) fn greeting(&self) -> String {
        let address =
            |listener: &TcpListener| listener.local_addr().map_or_else(|e| e.to_string(), |a| a.to_string());
        let how = if self.certificate.is_some() { "TLS" } else { "plaintext" };
        format!(
            "Envoy asks on {} ({how}), health on {}\n",
            address(&self.listener),
            address(&self.health_listener)
        )
    }

    /// What it counts.
    pub(crate) fn counts(&self) -> Arc<Counts> {
        self.door.counts()
    }

    /// Serves until `stop` resolves and the requests under way have ended.
    pub(crate) async fn run(self, stop: impl Future<Output = Shutdown>) -> Result<(), Error> {
        let Self { door, listener, certificate, health, health_listener } = self;
        health.set_ready(true);
        let stop = async {
            let Shutdown { delay, grace } = stop.await;
            Closing { delay, grace }
        };
        let (over, ended) = tokio::sync::oneshot::channel::<()>();
        let probes = tokio::spawn(serve_health(health_listener, health, async {
            // Dropped or sent: the door is shut.
            let _ = ended.await;
        }));
        let served = door.serve(listener, certificate.as_ref(), stop).await;
        drop(over);
        // It ends with the door.
        let _ = probes.await;
        served.map_err(|e| Error::Internal(format!("ext_proc: {e}")))
    }
}

/// Its figures, as Prometheus text.
pub(crate) fn text(counts: &Counts) -> Result<String, String> {
    let mut page = Page::default();
    let gauges = [
        ("waypost_ext_proc_streams_open", "Requests that Envoy is asking about", &counts.streams_open),
        (
            "waypost_ext_proc_held_bytes",
            "Bytes of request bodies held for their decision",
            &counts.held_bytes,
        ),
    ];
    for (name, help, value) in gauges {
        page.add((name, Kind::Gauge, help), &[], value.load(Relaxed) as f64);
    }
    let counters = [
        ("waypost_ext_proc_streams_total", "Requests that Envoy asked about", &counts.streams),
        (
            "waypost_ext_proc_streams_refused_total",
            "Requests turned away: too many, or the door closes",
            &counts.streams_refused,
        ),
        (
            "waypost_ext_proc_connections_refused_total",
            "Connections turned away",
            &counts.connections_refused,
        ),
        ("waypost_ext_proc_faults_total", "Bodies too long, missing, or without room", &counts.faults),
        (
            "waypost_ext_proc_protocol_errors_total",
            "Streams whose messages made no sense",
            &counts.protocol_errors,
        ),
        ("waypost_ext_proc_ignored_total", "Messages after the end of their direction", &counts.ignored),
        (
            "waypost_ext_proc_overtaken_total",
            "Requests that Envoy answered before their decision",
            &counts.overtaken,
        ),
        ("waypost_ext_proc_panics_total", "Streams ended by a defect", &counts.panics),
    ];
    for (name, help, value) in counters {
        page.add((name, Kind::Counter, help), &[], value.load(Relaxed) as f64);
    }
    page.text().map_err(|e| e.to_string())
}
