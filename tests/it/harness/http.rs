//! HTTP/1.1 by hand, so that a test can send bytes that no client library would.

use std::net::SocketAddr;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::within;

/// A door.
#[derive(Debug, Clone)]
pub struct Http {
    address: SocketAddr,
    token: Option<String>,
}

/// What it answers.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Http {
    pub fn at(address: SocketAddr) -> Self {
        Self {
            address,
            token: None,
        }
    }

    /// The same door, knocked at with a token.
    pub fn with_token(&self, token: &str) -> Self {
        Self {
            token: Some(token.to_owned()),
            ..self.clone()
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], b"").await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        let json = [("content-type", "application/json")];
        self.send("POST", path, &json, body.to_string().as_bytes())
            .await
    }

    /// Sends a request with these headers and what a request cannot do without.
    pub async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        let mut bytes =
            format!("{method} {path} HTTP/1.1\r\nHost: {}\r\n", self.address).into_bytes();
        let token = self.token.as_ref().map(|token| format!("Bearer {token}"));
        let token = token.iter().map(|token| ("authorization", token.as_str()));
        for (name, value) in headers.iter().copied().chain(token) {
            bytes.extend_from_slice(name.as_bytes());
            bytes.extend_from_slice(b": ");
            // Header values are Latin-1.
            bytes.extend(value.chars().map(|c| u8::try_from(c).unwrap_or(b'?')));
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(format!("Content-Length: {}\r\n", body.len()).as_bytes());
        bytes.extend_from_slice(b"Connection: close\r\n\r\n");
        bytes.extend_from_slice(body);
        self.raw(&bytes).await.expect("an answer")
    }

    /// Sends these bytes; nothing comes back when the connection is closed without an answer.
    pub async fn raw(&self, bytes: &[u8]) -> Option<Answer> {
        let exchange = async {
            let mut stream = TcpStream::connect(self.address).await.unwrap();
            let (mut read, mut write) = stream.split();
            // The other side may answer and close before it has read everything.
            let sending = async { write.write_all(bytes).await.ok() };
            let (_, answer) = tokio::join!(sending, read_answer(&mut read));
            answer
        };
        within("an answer over HTTP", exchange).await
    }

    /// The same by a sender that says no more after these bytes, however much it has announced.
    pub async fn raw_and_gone(&self, bytes: &[u8]) -> Option<Answer> {
        let exchange = async {
            let mut stream = TcpStream::connect(self.address).await.unwrap();
            let (mut read, mut write) = stream.split();
            let sending = async {
                write.write_all(bytes).await.ok();
                write.shutdown().await.ok();
            };
            let ((), answer) = tokio::join!(sending, read_answer(&mut read));
            answer
        };
        within("an answer over HTTP", exchange).await
    }
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error} in {} {}", self.status, self.text()))
    }

    /// The stable word of a refusal, which must have all that a refusal has.
    pub fn refusal(&self) -> String {
        let body = self.json();
        let text = |name: &str| {
            body[name]
                .as_str()
                .unwrap_or_else(|| panic!("{name}: {body}"))
        };
        assert!(body["retry"].is_boolean(), "{body}");
        assert!(!text("error").is_empty(), "{body}");
        assert_eq!(text("error"), text("detail"));
        assert!(!text("code").is_empty(), "{body}");
        text("code").to_owned()
    }
}

async fn read_answer(read: &mut (impl AsyncReadExt + Unpin)) -> Option<Answer> {
    let mut bytes = Vec::new();
    loop {
        if let Some(answer) = parse_answer(&bytes) {
            return Some(answer);
        }
        match read.read_buf(&mut bytes).await {
            Ok(0) | Err(_) => return None,
            Ok(_) => {}
        }
    }
}

/// An answer, once all of it is there.
pub fn parse_answer(bytes: &[u8]) -> Option<Answer> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().unwrap();
    if status == 100 {
        return parse_answer(&bytes[end + 4..]);
    }
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let mut answer = Answer {
        status,
        headers,
        body: bytes[end + 4..].to_vec(),
    };
    let length = answer
        .header("content-length")
        .map_or(0, |text| text.parse().unwrap());
    if answer.body.len() < length {
        return None;
    }
    // Behind it may stand the answer to a further request.
    answer.body.truncate(length);
    Some(answer)
}
