//! The certificate of an Envoy door: made at start, or read from files, and read again when they change.
//!
//! Files that do not fit, as between the writing of one and of the other, are refused with a line in the log; the old
//! certificate stays. Called by `envoy`.

use crate::error::Error;
use crate::watched::{SETTLE, Watched};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use tokio::sync::mpsc;
use waypost_config::DoorTls;
use waypost_extproc::{Certificate, Counts};

/// The certificate that `tls` asks for, if any. That of files is followed until the process ends.
pub(crate) fn open(tls: &DoorTls, counts: &Arc<Counts>) -> Result<Option<Certificate>, Error> {
    let unusable = |e| Error::Internal(format!("ext_proc: {e}"));
    match tls {
        DoorTls::Off => Ok(None),
        DoorTls::SelfSigned => Certificate::self_signed().map(Some).map_err(unusable),
        DoorTls::Files { certificate: chain, key } => {
            // Watched from before they are read, so that no change is missed.
            let (changed, changes) = mpsc::channel(1);
            let mut watched = Watched::new(chain, String::new(), move || {
                // One slot: any number of changes while one is being looked at are one more look.
                let _ = changed.try_send(());
            })?;
            watched.follow([&**chain, key].into_iter());
            let certificate = Certificate::read(chain, key).map_err(unusable)?;
            let files = (Arc::clone(chain), Arc::clone(key));
            tokio::spawn(follow(certificate.clone(), files, watched, changes, Arc::clone(counts)));
            Ok(Some(certificate))
        }
    }
}

async fn follow(
    certificate: Certificate,
    (chain, key): (Arc<Path>, Arc<Path>),
    mut watched: Watched,
    mut changes: mpsc::Receiver<()>,
    counts: Arc<Counts>,
) {
    while let Some(()) = changes.recv().await {
        tokio::time::sleep(SETTLE).await;
        // There is no text to compare, only the files' stamps.
        if !watched.has_changed(Some("")) {
            continue;
        }
        // A file that was replaced is another one under the same name.
        watched.follow([&*chain, &*key].into_iter());
        match certificate.reload(&chain, &key) {
            Ok(()) => {
                counts.certificates.fetch_add(1, Relaxed);
                tracing::info!(certificate = %chain.display(), "certificate applied");
            }
            Err(error) => {
                counts.certificates_refused.fetch_add(1, Relaxed);
                tracing::error!("certificate refused, the old one stays: {error}");
            }
        }
    }
}
