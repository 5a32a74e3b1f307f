//! Whether a server that runs is of any use, and when it must be started again although it runs.
//!
//! A write that fails, because the disk is full, leaves its stream unable to take anything, also
//! when there is room again; only a start of the server helps (measured on 2.15). `/healthz` tells
//! of it, naming the stream; whoever publishes sees nothing but time-outs, and tells by a complaint.
//! A frozen server answers nothing at all, which comes to the same.
//!
//! As long as the disk has no room a new start is in vain, so it is waited for. Otherwise the
//! pauses between starts grow, for trouble that a start does not cure.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{info, warn};

/// How often it is looked at.
const LOOK_PAUSE: Duration = Duration::from_secs(1);
/// How long one question about its health may take; a server that is busy reading its store may be
/// slow.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest answer to it that is read.
const ANSWER_BYTES_MAX: u64 = 16 * 1024;
/// The longest time that a server is left unwell before it is started again.
const PATIENCE_MAX: Duration = Duration::from_secs(300);
/// A server that was well for so long begins anew with the shortest.
const FORGET_AFTER: Duration = Duration::from_secs(60);
/// With less room on the disk a new start is in vain: the first writes would fill it again.
const ROOM_MIN: u64 = 8 * 1024 * 1024;

/// What those who publish complain about, if they do.
pub(super) type Complaint = Option<String>;

/// Watches over one server, from one start to the next.
#[derive(Debug)]
pub(super) struct Watch {
    store: PathBuf,
    complaint: watch::Receiver<Complaint>,
    patience_min: Duration,
    patience: Duration,
}

impl Watch {
    /// `patience` is how long a server may be unwell before it is started again.
    pub fn new(store: &Path, complaint: watch::Receiver<Complaint>, patience: Duration) -> Self {
        Self {
            store: store.to_owned(),
            complaint,
            patience_min: patience,
            patience,
        }
    }

    /// Waits until the running server must be started again; returns why.
    pub async fn must_restart(&mut self, monitor: SocketAddr) -> String {
        let mut well_since = Instant::now();
        let mut unwell_since = None;
        let mut told_of_room = false;
        loop {
            tokio::time::sleep(LOOK_PAUSE.min(self.patience_min)).await;
            let Some(reason) = self.reason(monitor).await else {
                if unwell_since.take().is_some() {
                    info!("nats-server is well again");
                    well_since = Instant::now();
                }
                if well_since.elapsed() >= FORGET_AFTER {
                    self.patience = self.patience_min;
                }
                continue;
            };
            let since: Instant = *unwell_since.get_or_insert_with(|| {
                warn!(reason, "nats-server runs, but is not well");
                Instant::now()
            });
            if since.elapsed() < self.patience {
                continue;
            }
            match room(&self.store) {
                Some(bytes) if bytes < ROOM_MIN => {
                    if !told_of_room {
                        told_of_room = true;
                        let store = self.store.display();
                        warn!(%store, bytes, "the disk of nats-server is full; it is started again once there is room");
                    }
                }
                Some(_) | None => {
                    self.patience = (self.patience * 2).min(PATIENCE_MAX);
                    return reason;
                }
            }
        }
    }

    async fn reason(&self, monitor: SocketAddr) -> Option<String> {
        match health(monitor).await {
            Err(reason) => Some(reason),
            Ok(()) => self.complaint.borrow().clone(),
        }
    }
}

/// Bytes that are free on the disk of a directory.
fn room(dir: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(dir).ok()?;
    disk.f_bavail.checked_mul(disk.f_frsize)
}

/// `GET /healthz` is 200 when the server listens, JetStream has read its store, and no stream has
/// failed to write.
///
/// # Errors
/// With the server's own words, or that it does not answer.
pub(super) async fn health(monitor: SocketAddr) -> Result<(), String> {
    const REQUEST: &[u8] = b"GET /healthz HTTP/1.0\r\n\r\n";
    let ask = async {
        let mut stream = TcpStream::connect(monitor).await?;
        stream.write_all(REQUEST).await?;
        let mut answer = Vec::new();
        stream
            .take(ANSWER_BYTES_MAX)
            .read_to_end(&mut answer)
            .await?;
        Ok::<_, std::io::Error>(answer)
    };
    match tokio::time::timeout(HEALTH_TIMEOUT, ask).await {
        Ok(Ok(answer)) => read(&answer),
        Ok(Err(error)) => Err(format!("/healthz cannot be read: {error}")),
        Err(_elapsed) => Err("/healthz does not answer".to_owned()),
    }
}

fn read(answer: &[u8]) -> Result<(), String> {
    #[derive(Deserialize)]
    struct Told {
        error: Option<String>,
    }
    let answer = String::from_utf8_lossy(answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).unwrap_or_default();
    if status == "200" {
        return Ok(());
    }
    let told = serde_json::from_str(body).ok();
    let told = told.and_then(|told: Told| told.error);
    Err(told.unwrap_or_else(|| format!("/healthz answers {status}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_says_what_is_wrong_in_the_servers_words() {
        assert_eq!(read(b"HTTP/1.0 200 OK\r\n\r\n{\"status\":\"ok\"}"), Ok(()));
        let full = b"HTTP/1.0 503 Service Unavailable\r\nA: b\r\n\r\n{\"status\":\"unavailable\",\"error\":\"no space left on device\"}";
        assert_eq!(read(full), Err("no space left on device".to_owned()));
        assert_eq!(
            read(b"HTTP/1.0 500 X\r\n\r\n<html>"),
            Err("/healthz answers 500".to_owned())
        );
        assert!(read(b"").is_err());
    }

    #[test]
    fn a_disk_has_a_size_and_no_disk_has_none() {
        assert!(room(&std::env::temp_dir()).is_some());
        assert_eq!(room(Path::new("/nowhere/at/all")), None);
    }
}
