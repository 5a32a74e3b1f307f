//! Waiting for a state, never for a while; and the little HTTP that it takes.

use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::bail;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

/// Pause between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(25);
/// Longest time for one look.
const LOOK_TIME_MAX: Duration = Duration::from_secs(6);

/// Looks again and again until a state is reached; in vain, it says what was seen last.
pub async fn until<T>(
    what: &str,
    bound: Duration,
    mut look: impl AsyncFnMut() -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let deadline = Instant::now() + bound;
    loop {
        let last = match timeout(LOOK_TIME_MAX, look()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => format!("{error:#}"),
            Err(_) => "no answer".to_owned(),
        };
        if Instant::now() >= deadline {
            bail!("waited {bound:?} in vain for {what}; at last: {last}");
        }
        sleep(LOOK_AGAIN).await;
    }
}

/// Asks a page, and fails unless it is there.
pub async fn get(address: SocketAddr, path: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    // The version that answers in one piece.
    let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    if head.split(' ').nth(1) != Some("200") {
        bail!("{} {body}", head.lines().next().unwrap_or("no answer"));
    }
    Ok(body.to_owned())
}

/// An address where nobody listens yet. Below the ports that the system hands out by itself, so
/// that a process that is started again finds its port free.
pub fn free_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = std::process::id().wrapping_mul(37) % 9_000;
    loop {
        let step = u32::from(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = u16::try_from(11_000 + (start + step) % 9_000).unwrap_or(11_000);
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

/// Nanoseconds since 1970, as the streams have them.
pub fn now() -> i128 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    i128::try_from(since.unwrap_or_default().as_nanos()).unwrap_or_default()
}
