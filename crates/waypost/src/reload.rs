//! Hot reload: the configuration and the trained folders it names are watched, and `SIGHUP` asks for it.
//!
//! A configuration that does not load, or names a folder that does not, is refused with its error; the old one stays.
//! Called by serve.

use crate::check::warnings;
use crate::error::Error;
use crate::feeding::{self, Feeding};
use crate::source::Source;
use crate::watched::{SETTLE, Watched};
use parking_lot::Mutex;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use waypost_config::Snapshot;
use waypost_door::Gateway;
use waypost_router::Loaded;

/// A configuration that is watched from before it is in force, so that no change is missed.
pub(crate) struct Reload {
    source: Source,
    watched: Watched,
    changes: mpsc::Receiver<()>,
}

impl Reload {
    /// Watches `source`, of whose `text` the snapshot was made, and the folders that it names.
    pub(crate) fn new(source: Source, text: String, snapshot: &Snapshot) -> Result<Self, Error> {
        // One slot: any number of changes while one is being looked at are one more look.
        let (changed, changes) = mpsc::channel(1);
        // What happened between reading and watching is looked at first.
        let _ = changed.try_send(());
        let mut watched = Watched::new(source.file(), text, move || {
            let _ = changed.try_send(());
        })?;
        watched.follow(snapshot.folders());
        Ok(Self { source, watched, changes })
    }

    /// Takes over what changes, until the process ends.
    pub(crate) fn start(
        self,
        listening: Option<SocketAddr>,
        listen_override: bool,
        gateway: Arc<Gateway>,
        feeding: Arc<Mutex<Feeding>>,
    ) -> Result<(), Error> {
        let Self { source, mut watched, mut changes } = self;
        let mut hangup = signal(SignalKind::hangup())?;
        tokio::spawn(async move {
            loop {
                let asked = tokio::select! {
                    Some(()) = hangup.recv() => true,
                    Some(()) = changes.recv() => false,
                    else => return,
                };
                tokio::time::sleep(SETTLE).await;
                let read = source.text();
                if !watched.has_changed(read.as_deref().ok()) && !asked {
                    continue;
                }
                let loaded = read.and_then(|text| source.load(&text));
                // A folder that cannot be used is followed too: it may be mended.
                if let Ok(snapshot) = &loaded {
                    watched.follow(snapshot.folders());
                    if snapshot.log.file.as_ref() != gateway.decision_file_settings() {
                        tracing::warn!("a change of log.file takes a restart");
                    }
                    if snapshot.ext_proc != gateway.brain().snapshot().ext_proc {
                        tracing::warn!("a change of ext_proc takes a restart");
                    }
                    if snapshot.admin != gateway.brain().snapshot().admin {
                        tracing::warn!("a change of admin takes a restart");
                    }
                    if !listen_override && snapshot.listen != listening {
                        let [wanted, listening] = [snapshot.listen, listening].map(shown);
                        tracing::warn!(wanted, listening, "a new listen address takes a restart");
                    }
                }
                match loaded
                    .map_err(Error::from)
                    .and_then(|snapshot| apply(snapshot, source.name(), &gateway, &feeding))
                {
                    Ok(()) => tracing::info!(file = %source.name().display(), "configuration applied"),
                    Err(error) => {
                        gateway.note_refused();
                        tracing::error!("configuration refused, the old one stays:\n{error}");
                    }
                }
            }
        });
        Ok(())
    }
}

fn shown(address: Option<SocketAddr>) -> String {
    address.map_or_else(|| "off".to_owned(), |address| address.to_string())
}

fn apply(
    mut snapshot: Snapshot,
    name: &Path,
    gateway: &Gateway,
    feeding: &Mutex<Feeding>,
) -> Result<(), Error> {
    feeding::discover(&mut snapshot)?;
    let old = gateway.brain();
    let engine = Arc::clone(old.classifiers().engine());
    // Examples take the encoder's time; other tasks of this thread go on elsewhere meanwhile.
    let loaded = tokio::task::block_in_place(|| Loaded::load(engine, &snapshot, Some(&old)))?;
    for warning in warnings(name, &snapshot, &loaded.classifiers) {
        tracing::warn!("{warning}");
    }
    gateway.apply(snapshot, loaded);
    feeding.lock().follow(&gateway.brain())
}
