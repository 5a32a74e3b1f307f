//! Listening for HTTP/1.1, with a bound on everything that a sender could make large or slow.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, Version, header};
use axum::response::{IntoResponse, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use tracing::{debug, warn};

use super::Error;
use super::error::Abandoned;
use super::framing::Watched;
use super::rate::Peer;
use super::tls::{self, Tls};

/// Connections at once. Each costs some 20 kB and a file descriptor; the default limit of
/// descriptors is 1,024 on most systems, and NATS and the log need a few.
const CONNECTIONS_MAX: usize = 900;
/// How long a sender may take for its request head, idle time between requests included.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest request head. Real ones are under 1 kB; a path may carry a long id.
const HEAD_SIZE_MAX: usize = 32 * 1024;
/// How long a sender may take to shake hands, where TLS is spoken. It is two round trips.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Most header lines in a request head.
const HEADERS_MAX: usize = 64;
/// How long requests under way may take once the process is told to stop.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// A bound address, not yet served.
pub struct Listener {
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<Arc<Tls>>,
}

impl Listener {
    /// Binds; port 0 takes any free one.
    ///
    /// # Errors
    /// When the address is taken or not ours.
    pub async fn bind(address: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(address).await.with_context(|| {
            format!("cannot listen on {address}; is another voicebus running? choose another with --listen")
        })?;
        let address = listener
            .local_addr()
            .context("cannot read the address that was bound")?;
        Ok(Self {
            listener,
            address,
            tls: None,
        })
    }

    /// The same, speaking TLS if there is a certificate.
    ///
    /// # Errors
    /// When its files cannot be used.
    pub fn with_tls(self, files: Option<tls::Files>) -> anyhow::Result<Self> {
        let tls = files.map(Tls::open).transpose()?.map(Arc::new);
        Ok(Self { tls, ..self })
    }

    /// The certificate that is shown, if TLS is spoken.
    #[must_use]
    pub fn tls(&self) -> Option<Arc<Tls>> {
        self.tls.clone()
    }

    /// Where it is asked.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves `routes` until `stop`, then finishes the requests under way.
    ///
    /// # Errors
    /// Never at present; a connection that cannot be accepted is logged and the next one awaited.
    pub async fn serve(self, routes: Router, stop: CancellationToken) -> anyhow::Result<()> {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let graceful = GracefulShutdown::new();
        loop {
            // Without a free place nobody is accepted: the sender waits in the system's queue.
            let place = tokio::select! {
                () = stop.cancelled() => break,
                place = Arc::clone(&places).acquire_owned() => place.context("places are never closed")?,
            };
            let (stream, peer) = tokio::select! {
                () = stop.cancelled() => break,
                accepted = self.listener.accept() => match accepted {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        warn!(%error, "connection not accepted");
                        tokio::time::sleep(Duration::from_millis(50)).await;
                        continue;
                    }
                },
            };
            if let Err(error) = stream.set_nodelay(true) {
                debug!(%error, "TCP_NODELAY not set");
            }
            let (peer, routes) = (Peer(peer.ip()), routes.clone());
            let (watcher, stop) = (graceful.watcher(), stop.clone());
            let acceptor = self.tls.as_ref().map(|tls| tls.acceptor());
            tokio::spawn(async move {
                let ended = match acceptor {
                    None => watcher.watch(connection(stream, peer, routes)).await,
                    Some(acceptor) => match shake_hands(&acceptor, stream, &stop).await {
                        Some(stream) => watcher.watch(connection(stream, peer, routes)).await,
                        None => Ok(()),
                    },
                };
                if let Err(error) = ended {
                    debug!(%error, "connection ended");
                }
                drop(place);
            });
        }
        drop(self.listener);
        if tokio::time::timeout(DRAIN_TIMEOUT, graceful.shutdown())
            .await
            .is_err()
        {
            warn!("some requests were still under way when the time was up");
        }
        Ok(())
    }
}

/// Nothing comes of it when the sender is too slow, or does not speak TLS as we do.
async fn shake_hands(
    acceptor: &TlsAcceptor,
    stream: TcpStream,
    stop: &CancellationToken,
) -> Option<TlsStream<TcpStream>> {
    let shaken = tokio::select! {
        () = stop.cancelled() => return None,
        shaken = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)) => shaken,
    };
    match shaken {
        Ok(Ok(stream)) => return Some(stream),
        Ok(Err(error)) => debug!(%error, "TLS handshake failed"),
        Err(_) => debug!("TLS handshake not finished in time"),
    }
    None
}

fn connection<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    peer: Peer,
    routes: Router,
) -> impl hyper_util::server::graceful::GracefulConnection<Error = hyper::Error> {
    let service = service_fn(move |request| answer(routes.clone(), peer, request));
    hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_SIZE_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(Watched::new(stream)), service)
}

/// Nobody is there to be answered.
#[derive(Debug, thiserror::Error)]
#[error("the sender left in the middle of its request")]
struct Left;

async fn answer(
    routes: Router,
    peer: Peer,
    request: hyper::Request<Incoming>,
) -> Result<Response, Left> {
    // Where a chunked body ends is not watched, so nothing is read behind it.
    let mut is_last = request.headers().contains_key(header::TRANSFER_ENCODING);
    let mut response = match check_host(&request) {
        Ok(()) => {
            let mut request: Request = request.map(Body::new);
            request.extensions_mut().insert(peer);
            routes
                .oneshot(request)
                .await
                .unwrap_or_else(|never| match never {})
        }
        Err(error) => {
            is_last = true;
            error.into_response()
        }
    };
    if response.extensions().get::<Abandoned>().is_some() {
        return Err(Left);
    }
    if is_last {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
    }
    Ok(response)
}

/// HTTP/1.1 has exactly one `Host` (RFC 9112, 3.2): with two, a proxy in front may have meant the
/// other one.
fn check_host(request: &hyper::Request<Incoming>) -> Result<(), Error> {
    let hosts = request.headers().get_all(header::HOST).iter().count();
    if hosts > 1 || (hosts == 0 && request.version() >= Version::HTTP_11) {
        return Err(Error::new(
            StatusCode::BAD_REQUEST,
            "invalid_host",
            "a request has exactly one Host header",
        ));
    }
    Ok(())
}
