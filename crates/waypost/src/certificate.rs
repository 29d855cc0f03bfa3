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
            // Says better than the watch what is missing.
            Certificate::read(chain, key).map_err(unusable)?;
            // Watched from before they are read for good, so that no change is missed.
            let (changed, changes) = mpsc::channel(1);
            let mut watched = Watched::new(Some(chain), String::new(), move || {
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

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::sync::atomic::AtomicU64;
    use std::time::Duration;

    fn pem(label: &str, der: &[u8]) -> String {
        format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
    }

    fn write(folder: &Path) {
        let made = rcgen::generate_simple_self_signed(["a".to_owned()]).unwrap();
        fs::create_dir_all(folder).unwrap();
        fs::write(folder.join("tls.crt"), pem("CERTIFICATE", made.cert.der())).unwrap();
        fs::write(folder.join("tls.key"), pem("PRIVATE KEY", &made.signing_key.serialize_der())).unwrap();
    }

    async fn reaches(count: &AtomicU64, least: u64) {
        let reached = async {
            while count.load(Relaxed) < least {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), reached).await.unwrap();
    }

    fn files(folder: &Path) -> DoorTls {
        DoorTls::Files { certificate: folder.join("tls.crt").into(), key: folder.join("tls.key").into() }
    }

    #[tokio::test]
    async fn changed_files_are_taken_over_and_bad_ones_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path());
        let counts = Arc::new(Counts::default());
        assert!(open(&files(folder.path()), &counts).unwrap().is_some());
        write(folder.path());
        reaches(&counts.certificates, 1).await;
        // The key of another, then the right one again.
        let other = rcgen::generate_simple_self_signed(["b".to_owned()]).unwrap();
        let key = folder.path().join("tls.key");
        let kept = fs::read(&key).unwrap();
        fs::write(&key, pem("PRIVATE KEY", &other.signing_key.serialize_der())).unwrap();
        reaches(&counts.certificates_refused, 1).await;
        fs::write(&key, kept).unwrap();
        reaches(&counts.certificates, 2).await;
    }

    #[tokio::test]
    async fn a_secret_whose_link_is_swapped_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        write(&at("one"));
        symlink("one", at("..data")).unwrap();
        for name in ["tls.crt", "tls.key"] {
            symlink(Path::new("..data").join(name), at(name)).unwrap();
        }
        let counts = Arc::new(Counts::default());
        open(&files(folder.path()), &counts).unwrap();
        write(&at("two"));
        symlink("two", at("..data_tmp")).unwrap();
        fs::rename(at("..data_tmp"), at("..data")).unwrap();
        reaches(&counts.certificates, 1).await;
    }
}
