//! A client for the ingress that costs next to nothing: whole requests in, whole answers out, over one
//! connection that is kept. It knows just enough HTTP/1.1 for the answers of voicebus, whose length is
//! always said.

use std::net::SocketAddr;

use anyhow::{Context, bail, ensure};
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A connection to an ingress.
pub(super) struct Connection {
    stream: TcpStream,
    read: Vec<u8>,
}

/// An answer: its status and its body.
pub(super) struct Answer<'a> {
    pub status: u16,
    pub body: &'a [u8],
}

/// What the ingress says of an event that it took.
#[derive(Deserialize)]
struct Taken {
    #[serde(rename = "eventId")]
    event_id: String,
    duplicate: bool,
}

impl Connection {
    pub async fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address)
            .await
            .with_context(|| format!("cannot connect to {address}"))?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            read: Vec::with_capacity(4096),
        })
    }

    /// Sends a request and waits for its answer.
    pub async fn ask(&mut self, request: &[u8]) -> anyhow::Result<Answer<'_>> {
        self.stream.write_all(request).await?;
        self.read.clear();
        loop {
            if self.stream.read_buf(&mut self.read).await? == 0 {
                bail!("the ingress closed the connection");
            }
            let Some(head) = parse_head(&self.read)? else {
                continue;
            };
            if self.read.len() >= head.len + head.body_len {
                let body = self.read.get(head.len..).unwrap_or_default();
                return Ok(Answer {
                    status: head.status,
                    body,
                });
            }
        }
    }

    /// Sends an event, which must be accepted and new; returns its id.
    pub async fn event(&mut self, body: &[u8]) -> anyhow::Result<String> {
        let answer = self.ask(&post(body)).await?;
        ensure!(
            answer.status == 200,
            "the ingress answered {} to an event: {}",
            answer.status,
            String::from_utf8_lossy(answer.body)
        );
        let taken: Taken = serde_json::from_slice(answer.body)?;
        ensure!(
            !taken.duplicate,
            "the ingress takes a new event for one that it has"
        );
        Ok(taken.event_id)
    }
}

/// An event, with the headers of the real emitter.
pub(super) fn post(body: &[u8]) -> Vec<u8> {
    post_to("/call-event", body)
}

/// The same to another path.
pub(super) fn post_to(path: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: */*\r\nAccept-Encoding: gzip, deflate\r\n\
         Connection: keep-alive\r\nUser-Agent: python-httpx/0.28.1\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    let mut request = head.into_bytes();
    request.extend_from_slice(body);
    request
}

/// A request that nothing is done for.
pub(super) const GET_LIVE: &[u8] = b"GET /live HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";

struct Head {
    status: u16,
    len: usize,
    body_len: usize,
}

/// `None` as long as the head is not complete.
fn parse_head(read: &[u8]) -> anyhow::Result<Option<Head>> {
    let Some(end) = read.windows(4).position(|window| window == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = std::str::from_utf8(&read[..end]).context("the answer's head is not text")?;
    let mut lines = head.split("\r\n");
    let status = lines
        .next()
        .and_then(|line| line.split(' ').nth(1)?.parse().ok())
        .context("the answer has no status")?;
    let body_len = lines
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .and_then(|(_, length)| length.trim().parse().ok())
        .context("the answer has no length")?;
    Ok(Some(Head {
        status,
        len: end + 4,
        body_len,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_once_it_is_complete() {
        let answer = b"HTTP/1.1 404 Not Found\r\ncontent-type: x\r\nContent-Length: 12\r\n\r\n{}";
        for end in 0..answer.len() - 2 {
            assert!(parse_head(&answer[..end]).unwrap().is_none(), "{end}");
        }
        let head = parse_head(answer).unwrap().unwrap();
        assert_eq!((head.status, head.body_len), (404, 12));
        assert_eq!(head.len, answer.len() - 2);
        assert!(parse_head(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }
}
