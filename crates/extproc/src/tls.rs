//! The certificate of the door: given as files or made here, and replaced while serving. Gateways connect to an
//! endpoint picker without verifying it, so a self-signed one is the rule.

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_rustls::TlsAcceptor;

/// Organisation and name in a certificate made here.
const SELF_SIGNED_NAME: &str = "waypost";

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read or holds no PEM of the kind.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: pem::Error,
    },
    /// Key and certificate do not make a pair that can be served.
    #[error("certificate: {0}")]
    Pair(#[from] rustls::Error),
    /// No certificate could be made.
    #[error("self-signed certificate: {0}")]
    Make(#[from] rcgen::Error),
}

/// The certificate that new connections get; clones are one.
#[derive(Debug, Clone)]
pub struct Certificate(Arc<Current>);

#[derive(Debug)]
struct Current(ArcSwap<CertifiedKey>);

impl Certificate {
    /// A new one with a key of its own (ECDSA P-256), for no name in particular.
    ///
    /// # Errors
    /// When the machine gives no key.
    pub fn self_signed() -> Result<Self, TlsError> {
        let made = rcgen::generate_simple_self_signed([SELF_SIGNED_NAME.to_owned()])?;
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let pair = pair(vec![made.cert.der().clone()], key.into())?;
        Ok(Self(Arc::new(Current(ArcSwap::from_pointee(pair)))))
    }

    /// From PEM files: the chain, the server's own certificate first, and its private key.
    ///
    /// # Errors
    /// When a file cannot be read or the two do not fit.
    pub fn read(chain: &Path, key: &Path) -> Result<Self, TlsError> {
        Ok(Self(Arc::new(Current(ArcSwap::from_pointee(read(chain, key)?)))))
    }

    /// Reads the files again; connections from now on get what they hold.
    ///
    /// # Errors
    /// As [`read`](Self::read); the old certificate stays then.
    pub fn reload(&self, chain: &Path, key: &Path) -> Result<(), TlsError> {
        self.0.0.store(Arc::new(read(chain, key)?));
        Ok(())
    }

    pub(crate) fn acceptor(&self) -> Result<TlsAcceptor, TlsError> {
        let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&self.0) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

fn read(chain: &Path, key: &Path) -> Result<CertifiedKey, TlsError> {
    let bad = |path: &Path| {
        let path = path.to_owned();
        move |source| TlsError::File { path, source }
    };
    let certificates = CertificateDer::pem_file_iter(chain).map_err(bad(chain))?;
    let certificates = certificates.collect::<Result<Vec<_>, _>>().map_err(bad(chain))?;
    if certificates.is_empty() {
        return Err(bad(chain)(pem::Error::NoItemsFound));
    }
    pair(certificates, PrivateKeyDer::from_pem_file(key).map_err(bad(key))?)
}

fn pair(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<CertifiedKey, TlsError> {
    Ok(CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider())?)
}
