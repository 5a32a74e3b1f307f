//! Whether an acknowledged message is on a disk.
//!
//! "Accepted" is promised to survive a power cut. A message that is kept once does so only if the
//! server flushes before it acknowledges (`sync_interval: always`); by default it does so every two
//! minutes. JetStream tells nobody about it, but the server's description of itself does, which the
//! permissions in `nats/accounts.conf` let every role ask for. A server with accounts of its own
//! may not answer; then nothing can be said.

use std::fmt;

use serde::Serialize;
use serde_json::Value;
use thiserror::Error;
use tracing::{info, warn};

use super::connection::REQUEST_TIMEOUT;
use super::{Bus, Connection, subjects};

/// What a deployment insists on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// What was acknowledged survives a power cut.
    Strict,
    /// A server that may lose the newest messages will do.
    Relaxed,
}

impl Wanted {
    /// Reads `strict` or `relaxed`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "strict" => Some(Self::Strict),
            "relaxed" => Some(Self::Relaxed),
            _ => None,
        }
    }
}

/// What was found out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase", tag = "durability")]
pub enum Durability {
    /// Kept once, and flushed before it is acknowledged.
    Flushed,
    /// Kept by several servers.
    Replicated,
    /// Kept once, and flushed some time after it was acknowledged.
    Relaxed,
    /// The server does not say.
    Unverified {
        /// Why not.
        reason: String,
    },
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flushed => f.write_str("flushed to disk before it is acknowledged"),
            Self::Replicated => f.write_str("kept by several servers"),
            Self::Relaxed => f.write_str("acknowledged before it is on disk"),
            Self::Unverified { reason } => write!(f, "not known: {reason}"),
        }
    }
}

/// Why voicebus does not work with a server.
#[derive(Debug, Error)]
#[error(
    "nats-server acknowledges messages before they are on disk, and a power cut would take the newest ones: {ADVICE}"
)]
pub struct Unsafe;

/// What to do about it.
pub const ADVICE: &str = "set `sync_interval: always` in its jetstream block, or run three servers and provision with --replicas 3; or accept the loss with `durability = \"relaxed\"` below [nats]";

/// What to do when it is not known.
pub const ADVICE_UNVERIFIED: &str = "see that nats-server has `sync_interval: always` in its jetstream block; to let voicebus see for itself, export and import $SYS.REQ.SERVER.PING.VARZ as nats/accounts.conf does";

impl Bus {
    /// Finds out, once, and remembers it.
    ///
    /// # Errors
    /// [`Unsafe`], unless that is wanted.
    pub async fn require_durability(&self, wanted: Wanted) -> Result<(), Unsafe> {
        if self.durability.get().is_none() {
            let found = require(self.connection(), None, wanted).await?;
            // Another who asked at the same time found the same.
            self.durability.set(found).ok();
        }
        Ok(())
    }

    /// What was found out; `None` before somebody asked.
    #[must_use]
    pub fn durability(&self) -> Option<&Durability> {
        self.durability.get()
    }
}

/// Finds out about the server of a connection and the copies that streams have there; `None` asks
/// how many VOICE_IN has.
///
/// # Errors
/// [`Unsafe`], unless that is wanted.
pub async fn require(
    connection: &Connection,
    replicas: Option<u8>,
    wanted: Wanted,
) -> Result<Durability, Unsafe> {
    let found = find(connection, replicas).await;
    match (&found, wanted) {
        (Durability::Relaxed, Wanted::Strict) => return Err(Unsafe),
        (Durability::Relaxed, Wanted::Relaxed) => {
            warn!("nats-server acknowledges messages before they are on disk, as configured");
        }
        (Durability::Unverified { reason }, Wanted::Strict) => warn!(
            reason,
            advice = ADVICE_UNVERIFIED,
            "it is not known whether nats-server flushes before it acknowledges"
        ),
        (Durability::Unverified { .. }, Wanted::Relaxed) => {}
        (Durability::Flushed | Durability::Replicated, _) => {
            info!("an acknowledged message is {found}");
        }
    }
    Ok(found)
}

/// Finds out, without a verdict.
pub async fn find(connection: &Connection, replicas: Option<u8>) -> Durability {
    let replicas = match replicas {
        Some(replicas) => replicas,
        None => match super::inspect::stream(connection, subjects::STREAM_IN).await {
            Ok(Some(stream)) => stream.replicas,
            Ok(None) => 1,
            Err(error) => {
                return Durability::Unverified {
                    reason: error.to_string(),
                };
            }
        },
    };
    if replicas > 1 {
        return Durability::Replicated;
    }
    match describe(connection).await {
        Ok(server) => of_server(&server),
        Err(reason) => Durability::Unverified { reason },
    }
}

/// What the server says about itself.
async fn describe(connection: &Connection) -> Result<Value, String> {
    let request = connection
        .client()
        .request(subjects::SERVER_DESCRIPTION, bytes::Bytes::new());
    let answer = match tokio::time::timeout(REQUEST_TIMEOUT, request).await {
        Err(_elapsed) => {
            return Err("no answer in time (a missing permission looks the same)".to_owned());
        }
        Ok(Err(error)) => return Err(error.kind().to_string()),
        Ok(Ok(answer)) => answer,
    };
    serde_json::from_slice(&answer.payload).map_err(|error| error.to_string())
}

fn of_server(answer: &Value) -> Durability {
    let jetstream = &answer["data"]["jetstream"]["config"];
    if !jetstream.is_object() {
        return Durability::Unverified {
            reason: "the server does not speak of its JetStream".to_owned(),
        };
    }
    // Left out when it is not so.
    if jetstream["sync_always"] == true {
        Durability::Flushed
    } else {
        Durability::Relaxed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_a_server_that_says_so_flushes() {
        let of =
            |config: Value| of_server(&json!({ "data": { "jetstream": { "config": config } } }));
        let interval = 120_000_000_000_u64;
        assert_eq!(
            of(json!({ "sync_always": true, "sync_interval": interval })),
            Durability::Flushed
        );
        assert_eq!(
            of(json!({ "sync_interval": interval })),
            Durability::Relaxed
        );
        assert!(matches!(of(Value::Null), Durability::Unverified { .. }));
        assert!(matches!(
            of_server(&json!({})),
            Durability::Unverified { .. }
        ));
    }
}
