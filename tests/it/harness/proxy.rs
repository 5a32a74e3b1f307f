//! Between a client and NATS: forwards, or holds back the answers, or everything.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

pub struct Proxy {
    url: String,
    holds_requests: Arc<AtomicBool>,
    holds_answers: Arc<AtomicBool>,
}

impl Proxy {
    /// In front of a server at a `nats://` URL.
    pub async fn to(url: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (_, behind) = url.split_once("://").unwrap();
        let behind = behind.to_owned();
        let url = format!("nats://{}", listener.local_addr().unwrap());
        let holds_requests = Arc::new(AtomicBool::new(false));
        let holds_answers = Arc::new(AtomicBool::new(false));
        let (there, back) = (Arc::clone(&holds_requests), Arc::clone(&holds_answers));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(&behind).await.unwrap();
                let (client_in, client_out) = client.into_split();
                let (server_in, server_out) = server.into_split();
                tokio::spawn(forward(client_in, server_out, Arc::clone(&there)));
                tokio::spawn(forward(server_in, client_out, Arc::clone(&back)));
            }
        });
        Self {
            url,
            holds_requests,
            holds_answers,
        }
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// Holds back everything, in both directions, without closing anything.
    pub fn stop_forwarding(&self) {
        self.holds_requests.store(true, Ordering::Relaxed);
        self.hold_answers();
    }

    /// Holds back what the server says, and lets through what it is told.
    pub fn hold_answers(&self) {
        self.holds_answers.store(true, Ordering::Relaxed);
    }

    /// Lets through what was held back, and all that follows.
    pub fn forward_again(&self) {
        self.holds_requests.store(false, Ordering::Relaxed);
        self.holds_answers.store(false, Ordering::Relaxed);
    }
}

async fn forward(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, holds: Arc<AtomicBool>) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        while holds.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
