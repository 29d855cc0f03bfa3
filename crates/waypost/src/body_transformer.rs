//! `waypost body-transformer`: the Envoy door with the judge that moves workers from headers into bodies.
//!
//! Needs no configuration file, and knows no model. Called by the command line.

use crate::cli::{BodyTransformer, Unpinned};
use crate::envoy::{self, Address, EnvoyDoor};
use crate::error::Error;
use crate::{listen, print, serve};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use waypost_config::{DoorTls, Shutdown};
use waypost_console::{Console, Incoming, Pages};
use waypost_door::pages;
use waypost_extproc::{Counts, OnError, Outcomes, Transforming};
use waypost_ledger::{Kind, Page};

/// After SIGTERM: health says no, and serving goes on until Envoy has seen it.
const SHUTDOWN: Shutdown = Shutdown { delay: Duration::from_secs(5), grace: Duration::from_secs(30) };

pub(crate) fn run(options: BodyTransformer) -> Result<(), Error> {
    let (_log, _) = serve::start_log(options.log_format);
    serve::runtime()?.block_on(transform(options))
}

async fn transform(options: BodyTransformer) -> Result<(), Error> {
    let on_error = match options.on_error {
        Unpinned::Pass => OnError::Pass,
        Unpinned::Refuse => OnError::Refuse,
    };
    let tls = match (options.certificate, options.key) {
        (Some(certificate), Some(key)) => DoorTls::Files { certificate: certificate.into(), key: key.into() },
        _ if options.tls => DoorTls::SelfSigned,
        _ => DoorTls::Off,
    };
    let address = Address { listen: options.listen, health_listen: options.health_listen, tls: &tls };
    let judge = Transforming::new(options.body_limit, on_error);
    let outcomes = judge.outcomes();
    let may = envoy::options(options.body_limit, options.streams, options.mode_override);
    let door = EnvoyDoor::open(judge, may, &address)?;
    let page = listen::listen(options.metrics_listen)?;
    let metrics = page.local_addr()?;
    print(&format!("{}metrics on http://{metrics}/metrics\n", door.greeting()))?;
    let figures = Figures { outcomes, counts: door.counts(), refused: Arc::default() };
    let (over, ended) = tokio::sync::oneshot::channel::<()>();
    let page = Console::new(page, figures).run(async {
        // Dropped: the door is shut.
        let _ = ended.await;
    });
    let stop = serve::stop_signals(|| SHUTDOWN)?;
    let door = async {
        let done = door.run(stop).await;
        drop(over);
        done
    };
    tokio::join!(door, page).0
}

/// `/metrics`, and nothing else.
#[derive(Clone)]
struct Figures {
    outcomes: Arc<Outcomes>,
    counts: Arc<Counts>,
    /// Readers of this page that were turned away.
    refused: Arc<AtomicU64>,
}

impl Figures {
    fn text(&self) -> Result<String, String> {
        let mut page = Page::default();
        let family = (
            "waypost_body_transformer_requests_total",
            Kind::Counter,
            "Requests, by what became of the worker that their headers name",
        );
        for (outcome, count) in self.outcomes.each() {
            page.add(family, &[("outcome", outcome.as_str())], count as f64);
        }
        let family =
            ("waypost_metrics_connections_refused_total", Kind::Counter, "Readers of this page turned away");
        page.add(family, &[], self.refused.load(Relaxed) as f64);
        Ok(page.text().map_err(|e| e.to_string())? + &envoy::text(&self.counts)?)
    }
}

impl Pages for Figures {
    fn answer(self, request: Request<Incoming>) -> impl Future<Output = Response<Bytes>> + Send {
        std::future::ready(match request.uri().path() {
            "/metrics" => pages::figures(self.text()),
            _ => pages::json(StatusCode::NOT_FOUND, r#"{"path":"Unavailable"}"#),
        })
    }

    fn refused(&self, _: &'static str) {
        self.refused.fetch_add(1, Relaxed);
    }
}
