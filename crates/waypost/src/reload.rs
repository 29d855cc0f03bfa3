//! Hot reload: the file is watched through its directory, and `SIGHUP` asks for it.
//!
//! The directory, because a ConfigMap is changed by swapping a symbolic link beside the file. A file
//! that does not load is refused with its error; the old configuration stays. Called by serve.

use crate::check::describe;
use crate::error::Error;
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use waypost_config::Snapshot;
use waypost_proxy::Gateway;

/// Editors and kubelets change a file in several steps; the steps are over after this.
const SETTLE: Duration = Duration::from_millis(100);

/// Watches until the process ends; `loaded` is the text that is in force. The watcher must be kept
/// alive by the caller.
pub(crate) fn watch(
    file: PathBuf,
    loaded: String,
    listening: SocketAddr,
    listen_override: bool,
    gateway: Arc<Gateway>,
) -> Result<RecommendedWatcher, Error> {
    // One slot: any number of changes while one is being looked at are one more look.
    let (changed, mut changes) = mpsc::channel(1);
    // What happened between loading and watching is looked at first.
    let _ = changed.try_send(());
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // Reading the file is an event too, which must not lead to reading it.
        if !event.is_ok_and(|event| event.kind.is_access()) {
            let _ = changed.try_send(());
        }
    })
    .map_err(|source| Error::Watch { path: file.clone(), source })?;
    let directory = match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    watcher
        .watch(directory, RecursiveMode::NonRecursive)
        .map_err(|source| Error::Watch { path: directory.to_owned(), source })?;
    let mut hangup = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        let mut current = Some(loaded);
        loop {
            let asked = tokio::select! {
                Some(()) = hangup.recv() => true,
                Some(()) = changes.recv() => false,
                else => return,
            };
            tokio::time::sleep(SETTLE).await;
            let read = waypost_config::read_file(&file);
            let text = read.as_ref().ok().cloned();
            if asked || text != current {
                current = text;
                let loaded = read.and_then(|text| waypost_config::load_text(&file, &text));
                apply(loaded, &file, listening, listen_override, &gateway);
            }
        }
    });
    Ok(watcher)
}

fn apply(
    loaded: Result<Snapshot, waypost_config::Error>,
    file: &Path,
    listening: SocketAddr,
    listen_override: bool,
    gateway: &Gateway,
) {
    match loaded {
        Ok(snapshot) => {
            for warning in &snapshot.warnings {
                tracing::warn!("{}", describe(file, warning));
            }
            if !listen_override && snapshot.listen != listening {
                tracing::warn!(wanted = %snapshot.listen, %listening, "a new listen address takes a restart");
            }
            gateway.apply(snapshot);
            tracing::info!(file = %file.display(), "configuration applied");
        }
        Err(error) => {
            gateway.note_refused();
            tracing::error!("configuration refused, the old one stays:\n{error}");
        }
    }
}
