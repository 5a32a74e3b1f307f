//! TLS at our own door, for an ingress without a proxy in front.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::error_chain::Chain;
use crate::pem;

/// The files of our certificate and of its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// The certificate, those that vouch for it behind it.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

impl Files {
    /// Reads both.
    ///
    /// # Errors
    /// When one cannot be used, or they do not belong together.
    pub fn read(&self) -> Result<CertifiedKey, pem::Error> {
        pem::identity(&self.certificate, &self.key)
    }
}

/// What senders are shown, which can be changed while connections come in.
#[derive(Debug)]
pub struct Tls {
    files: Files,
    shown: watch::Sender<Arc<CertifiedKey>>,
    config: Arc<ServerConfig>,
}

/// Shows whatever certificate is the newest.
#[derive(Debug)]
struct Newest(watch::Receiver<Arc<CertifiedKey>>);

impl ResolvesServerCert for Newest {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.borrow()))
    }
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// When they cannot be used.
    pub fn open(files: Files) -> Result<Self, pem::Error> {
        let (shown, newest) = watch::channel(Arc::new(files.read()?));
        let mut config = ServerConfig::builder()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(Newest(newest)));
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self {
            files,
            shown,
            config: Arc::new(config),
        })
    }

    /// What shakes hands.
    #[must_use]
    pub fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.config))
    }

    /// Reads the files again whenever somebody says so by SIGHUP, until `stop`.
    ///
    /// # Errors
    /// When the signal cannot be had.
    pub async fn watch(self: Arc<Self>, stop: CancellationToken) -> anyhow::Result<()> {
        let mut hangups = signal(SignalKind::hangup()).context("cannot listen for SIGHUP")?;
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                _ = hangups.recv() => {}
            }
            match self.reload() {
                Ok(()) => info!("our certificate was read again"),
                Err(error) => error!(
                    error = %Chain(&error),
                    "our new certificate cannot be used; the old one is shown on"
                ),
            }
        }
    }

    /// Reads the files again. Connections that are there keep what they have seen.
    ///
    /// # Errors
    /// When they cannot be used; the old certificate is shown on.
    fn reload(&self) -> Result<(), pem::Error> {
        self.shown.send_replace(Arc::new(self.files.read()?));
        Ok(())
    }
}
