//! `waypost serve`: configuration in, gateway up, signals obeyed.

use crate::check::{summary, warnings};
use crate::cli::{LogFormat, Serve};
use crate::discover::{Discovery, discover};
use crate::envoy::{self, EnvoyDoor};
use crate::error::Error;
use crate::feeding::{self, Feeding};
use crate::reload::Reload;
use crate::source::Source;
use crate::{listen, print, roles};
use futures_util::FutureExt;
use parking_lot::Mutex;
use std::io::IsTerminal;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;
use waypost_classify::Engine;
use waypost_config::{Shutdown, Snapshot};
use waypost_console::{Console, GatewayPages};
use waypost_door::{Gateway, LogLinesDropped};
use waypost_extproc::Deciding;
use waypost_proxy::Server;
use waypost_router::{Brain, Classifiers, Loaded};

/// The printed addresses end with the command that printed them.
const SIMULATED_NOTE: &str = "# Nothing was found. The endpoints below were simulated and are gone: start your own with\n# `waypost sim --listen 127.0.0.1:9000 --model sim-small` and put their addresses here.\n";
/// v1's address.
const DEFAULT_LISTEN: &str = "0.0.0.0:8084";

pub(crate) fn run(options: Serve) -> Result<(), Error> {
    let (_log, dropped) = start_log(options.log_format);
    runtime()?.block_on(serve(options, dropped))
}

/// The runtime of every command that waits for the network.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, Error> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}

/// Serves with a text that another command has made of its own configuration; it is as good as a file.
pub(crate) fn run_made(source: Source, notes: &[String], format: LogFormat) -> Result<(), Error> {
    let (_log, dropped) = start_log(format);
    for note in notes {
        tracing::warn!("{note}");
    }
    runtime()?.block_on(up(source, None, None, dropped))
}

async fn serve(options: Serve, dropped: LogLinesDropped) -> Result<(), Error> {
    if let Some(file) = options.config {
        return up(Source::File(file), None, options.listen, dropped).await;
    }
    let (text, found) = make_config(options.listen).await?;
    if options.print_config {
        let note = if found.simulated.is_empty() { "" } else { SIMULATED_NOTE };
        return print(&format!("{note}{text}"));
    }
    up(Source::Made("(found)", text), Some(found), options.listen, dropped).await
}

/// Up, and down again when a signal says so.
async fn up(
    source: Source,
    found: Option<Discovery>,
    listen: Option<SocketAddr>,
    dropped: LogLinesDropped,
) -> Result<(), Error> {
    let text = source.text()?;
    let mut snapshot = source.load(&text)?;
    if let Some(address) = listen {
        snapshot.listen = Some(address);
    }
    let name = source.name().to_owned();
    let reload = Reload::new(source, text, &snapshot)?;
    let loaded = Loaded::load(Arc::new(Engine::embedded()?), &snapshot, None)?;
    for warning in warnings(&name, &snapshot, &loaded.classifiers) {
        tracing::warn!("{warning}");
    }
    feeding::discover(&mut snapshot)?;
    let http = snapshot.listen.map(listen::listen).transpose()?;
    let address = http.as_ref().map(TcpListener::local_addr).transpose()?;
    let gateway = Gateway::new(Brain::new(snapshot, loaded, None), dropped).map_err(Error::Internal)?;
    let brain = gateway.brain();
    greet(brain.snapshot(), brain.classifiers(), found.as_ref(), address)?;
    let feeding = Arc::new(Mutex::new(Feeding::start(&gateway)?));
    let ext_proc = brain.snapshot().ext_proc.as_ref();
    let envoy = ext_proc.map(|settings| EnvoyDoor::of_gateway(&gateway, settings)).transpose()?;
    if let Some(door) = &envoy {
        print(&door.greeting())?;
    }
    let admin = brain.snapshot().admin.as_ref();
    let admin = admin.map(|admin| {
        Ok::<_, Error>(Console::new(listen::listen(admin.listen)?, GatewayPages::new(Arc::clone(&gateway))?))
    });
    let admin = admin.transpose()?;
    if let Some(console) = &admin {
        print(&format!("metrics on http://{}/metrics\n", console.address()?))?;
    }
    gateway.also_tell({
        let (feeding, counts) = (Arc::clone(&feeding), envoy.as_ref().map(EnvoyDoor::counts));
        Box::new(move |brain| {
            let door = counts.as_ref().map(|counts| envoy::text(counts)).transpose()?;
            Ok(feeding.lock().text(brain)? + &door.unwrap_or_default())
        })
    });
    reload.start(address, listen.is_some(), Arc::clone(&gateway), feeding)?;
    let stop = stop_signals({
        let gateway = Arc::clone(&gateway);
        move || gateway.brain().snapshot().shutdown
    })?;
    Doors { http, envoy, admin }.serve(&gateway, stop).await
}

/// The doors that are open.
struct Doors {
    http: Option<TcpListener>,
    envoy: Option<EnvoyDoor<Deciding>>,
    admin: Option<Console<GatewayPages>>,
}

impl Doors {
    /// Serves until `stop` resolves and the requests under way have ended; the admin door closes last.
    async fn serve(self, gateway: &Arc<Gateway>, stop: impl Future<Output = Shutdown>) -> Result<(), Error> {
        let Self { http, envoy, admin } = self;
        let stop = stop.shared();
        let (over, ended) = tokio::sync::oneshot::channel::<()>();
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let http = async {
            let Some(listener) = http else {
                gateway.wind_down(stop.clone().await, || ()).await;
                gateway.flush_decisions();
                return Ok(());
            };
            Server::new(listener, Arc::clone(gateway), threads).run(stop.clone()).await
        };
        let envoy = async {
            match envoy {
                Some(door) => door.run(stop.clone()).await,
                None => Ok(()),
            }
        };
        let requests = async {
            let ends = tokio::join!(http, envoy);
            drop(over);
            ends
        };
        let admin = async {
            if let Some(console) = admin {
                let over = async {
                    // Dropped or sent: the others are shut.
                    let _ = ended.await;
                };
                console.run(over).await;
            }
        };
        let ((http, envoy), ()) = tokio::join!(requests, admin);
        http?;
        envoy
    }
}

/// A configuration made from what this machine offers.
async fn make_config(listen: Option<SocketAddr>) -> Result<(String, Discovery), Error> {
    let address = listen.map_or_else(|| DEFAULT_LISTEN.to_owned(), |a| a.to_string());
    let own = address.parse().map_err(|e| Error::Internal(format!("{address}: {e}")))?;
    let found = discover(own).await?;
    Ok((roles::config(&found.models, &address), found))
}

/// What was found, and a line to try.
fn greet(
    snapshot: &Snapshot,
    classifiers: &Classifiers,
    found: Option<&Discovery>,
    address: Option<SocketAddr>,
) -> Result<(), Error> {
    let mut text = format!("waypost {}", env!("CARGO_PKG_VERSION"));
    text.push_str(&address.map_or_else(|| "\n".to_owned(), |address| format!(" on http://{address}\n")));
    for note in found.iter().flat_map(|f| &f.notes) {
        text.push_str(&format!("  {note}\n"));
    }
    text.push_str(&summary(snapshot, classifiers));
    let Some(address) = address else { return print(&text) };
    let policy = snapshot.default_policy.map(|index| &snapshot.policies[index].name);
    let name = policy.map(|policy| snapshot.auto_names.first().unwrap_or(policy));
    let name = serde_json::Value::from(&**name.unwrap_or(&snapshot.models[0].name));
    let port = address.port();
    text.push_str(&format!(
        "\nTry it:\n  curl -i http://127.0.0.1:{port}/v1/chat/completions -H 'content-type: application/json' \\\n    -d '{{\"model\": {name}, \"messages\": [{{\"role\": \"user\", \"content\": \"Write a python function that reverses a list\"}}]}}'\n"
    ));
    print(&text)
}

/// Resolves when the process is to stop; a second signal does not wait for open requests.
pub(crate) fn stop_signals(shutdown: impl Fn() -> Shutdown) -> Result<impl Future<Output = Shutdown>, Error> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        let shutdown = tokio::select! {
            _ = terminate.recv() => shutdown(),
            // At a terminal nobody watches readiness: no delay.
            _ = interrupt.recv() => Shutdown { delay: Duration::ZERO, ..shutdown() },
        };
        tokio::spawn(async move {
            tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
            tracing::warn!("stopped at once by a second signal");
            std::process::exit(130);
        });
        shutdown
    })
}

/// For commands without open requests.
pub(crate) async fn stop_signal() -> Result<(), Error> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
    Ok(())
}

/// Lines that may wait for standard error. Beyond them lines are dropped and counted: a reader that
/// hangs must not hold up requests.
const LOG_QUEUE_LINES: usize = 16 * 1024;

/// Log lines are written by a thread of their own, until the guard is dropped.
pub(crate) fn start_log(format: LogFormat) -> (WorkerGuard, LogLinesDropped) {
    let (writer, guard) = NonBlockingBuilder::default()
        .buffered_lines_limit(LOG_QUEUE_LINES)
        .thread_name("waypost-log")
        .finish(std::io::stderr());
    let counter = writer.error_counter();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let terminal = std::io::stderr().is_terminal();
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).with_ansi(terminal);
    let json = match format {
        LogFormat::Json => true,
        LogFormat::Text => false,
        LogFormat::Auto => !terminal,
    };
    // A subscriber that is already there stays; there is none in this process.
    let _ = if json { builder.json().flatten_event(true).try_init() } else { builder.try_init() };
    (guard, LogLinesDropped::new(move || counter.dropped_lines()))
}
