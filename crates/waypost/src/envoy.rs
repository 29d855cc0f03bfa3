//! The Envoy door: its addresses and certificate, its end, its figures.
//!
//! Opened by `serve` beside the HTTP door, with the same brain, where the configuration has an `ext_proc` section, and by
//! `body-transformer` on its own. A change of the section takes a restart; certificate files are read again when they change.

use crate::error::Error;
use crate::{certificate, listen};
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use tokio::net::TcpListener;
use waypost_config::{DoorTls, ExtProc, Shutdown};
use waypost_door::Gateway;
use waypost_extproc::{Certificate, Closing, Counts, Deciding, Door, Health, Judge, Options, serve_health};
use waypost_ledger::{Kind, Page};

/// Request bodies that are held at once, as a multiple of the largest one allowed; at least [`MIN_HELD_BYTES`].
const HELD_BODIES: usize = 100;
/// In bytes.
const MIN_HELD_BYTES: usize = 256 << 20;

/// See the module.
pub(crate) struct EnvoyDoor<J> {
    door: Door<J>,
    listener: TcpListener,
    certificate: Option<Certificate>,
    health: Health,
    health_listener: TcpListener,
}

/// Where a door is, and how Envoy reaches it.
pub(crate) struct Address<'a> {
    pub(crate) listen: SocketAddr,
    pub(crate) health_listen: SocketAddr,
    pub(crate) tls: &'a DoorTls,
}

/// What a door may hold and do.
pub(crate) fn options(body_limit: usize, streams: usize, mode_override: bool) -> Options {
    Options {
        body_limit,
        held_bytes: body_limit.saturating_mul(HELD_BODIES).max(MIN_HELD_BYTES),
        streams,
        mode_override,
        ..Options::default()
    }
}

impl EnvoyDoor<Deciding> {
    /// The door of a gateway.
    pub(crate) fn of_gateway(gateway: &Arc<Gateway>, settings: &ExtProc) -> Result<Self, Error> {
        let ExtProc { listen, health_listen, streams, mode_override, .. } = *settings;
        let body_limit = gateway.brain().snapshot().limits.body_bytes;
        let judge = Deciding::new(Arc::clone(gateway), settings.clone());
        let address = Address { listen, health_listen, tls: &settings.tls };
        Self::open(judge, options(body_limit, streams, mode_override), &address)
    }
}

impl<J: Judge> EnvoyDoor<J> {
    /// Takes its addresses.
    pub(crate) fn open(judge: J, options: Options, address: &Address<'_>) -> Result<Self, Error> {
        let health = Health::default();
        let door = Door::new(judge, options, health.clone());
        Ok(Self {
            certificate: certificate::open(address.tls, &door.counts())?,
            door,
            listener: listen::listen(address.listen)?,
            health,
            health_listener: listen::listen(address.health_listen)?,
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
        (
            "waypost_ext_proc_certificates_total",
            "Times that changed certificate files were taken over",
            &counts.certificates,
        ),
        (
            "waypost_ext_proc_certificates_refused_total",
            "Times that changed certificate files could not be used, so that the old certificate stayed",
            &counts.certificates_refused,
        ),
    ];
    for (name, help, value) in counters {
        page.add((name, Kind::Counter, help), &[], value.load(Relaxed) as f64);
    }
    page.text().map_err(|e| e.to_string())
}
