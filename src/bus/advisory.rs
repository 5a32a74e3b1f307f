//! What the server says when it gives up a message: a consumer with a bound on deliveries has
//! reached it, or somebody has terminated a message by hand.
//!
//! None of our consumers has such a bound and no worker terminates, so an advisory tells of a
//! consumer that was changed, or of a person at work. Without this the message would be passed over
//! in silence. The server publishes advisories without storing them, once: what it says while no
//! worker runs is lost, though the message stays in its stream.

use std::time::Duration;

use async_nats::jetstream::stream::RawMessageErrorKind;
use futures_util::StreamExt;
use futures_util::stream::select_all;
use serde::Deserialize;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::consume::Delivery;
use super::dead_letter::DeadLetter;
use super::trouble::Trouble;
use super::{Bus, subjects};
use crate::domain::Timestamp;

/// Workers that share this queue group hear each advisory once.
const QUEUE: &str = "voicebus";
/// Pause before an advisory that met a trouble is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// Who takes care of messages that were given up.
pub trait GivenUp: Send {
    /// The stream.
    const STREAM: &'static str;
    /// The role, for letters.
    const ROLE: &'static str;

    /// Whether the consumer is one of ours: what others do with their copies is their business.
    fn is_ours(&self, consumer: &str) -> bool;

    /// Parks a message, unless it had its effect before it was given up.
    fn bury(
        &self,
        delivery: &Delivery,
        code: &'static str,
        reason: &str,
    ) -> impl Future<Output = Result<(), Trouble>> + Send;
}

/// An advisory, as far as it matters.
#[derive(Debug, Deserialize)]
struct Advisory {
    #[serde(rename = "type")]
    kind: String,
    consumer: String,
    stream_seq: u64,
    #[serde(default)]
    deliveries: u64,
    #[serde(default)]
    reason: Option<String>,
}

impl Advisory {
    fn code(&self) -> &'static str {
        if self.kind.ends_with("max_deliver") {
            "max-deliveries"
        } else {
            "terminated"
        }
    }

    fn text(&self) -> String {
        let Self {
            consumer,
            deliveries,
            ..
        } = self;
        match (self.code(), &self.reason) {
            ("max-deliveries", _) => format!(
                "the server gave the message up after {deliveries} deliveries to consumer {consumer}"
            ),
            (_, Some(reason)) => {
                format!("the message was terminated at consumer {consumer}: {reason}")
            }
            (_, None) => format!("the message was terminated at consumer {consumer}"),
        }
    }
}

/// Buries what the server gives up, until `stop`.
///
/// # Errors
/// When the connection is closed for good.
pub async fn run<G: GivenUp>(
    bus: &Bus,
    stop: &CancellationToken,
    given_up: G,
) -> anyhow::Result<()> {
    let mut heard = Vec::new();
    for subject in subjects::advisories_of(G::STREAM) {
        let client = bus.connection().client();
        heard.push(client.queue_subscribe(subject, QUEUE.to_owned()).await?);
    }
    let mut heard = select_all(heard);
    loop {
        let message = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            message = heard.next() => message,
        };
        let Some(message) = message else {
            anyhow::bail!("NATS sends no more advisories");
        };
        let advisory: Advisory = match serde_json::from_slice(&message.payload) {
            Ok(advisory) => advisory,
            Err(error) => {
                warn!(subject = %message.subject, %error, "advisory cannot be read");
                continue;
            }
        };
        if !given_up.is_ours(&advisory.consumer) {
            continue;
        }
        while let Err(trouble) = take(bus, &advisory, &given_up).await {
            warn!(
                stream_sequence = advisory.stream_seq,
                reason = trouble.reason(),
                "message that was given up is not parked yet"
            );
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(RETRY_PAUSE) => {}
            }
        }
    }
}

async fn take<G: GivenUp>(bus: &Bus, advisory: &Advisory, given_up: &G) -> Result<(), Trouble> {
    let (code, text) = (advisory.code(), advisory.text());
    match fetch(bus, G::STREAM, advisory).await? {
        Some(delivery) => given_up.bury(&delivery, code, &text).await,
        None => {
            let letter = DeadLetter {
                role: G::ROLE,
                code,
                reason: &format!("{text}; it is no longer in {}", G::STREAM),
                id: &format!("{} {} gone", G::STREAM, advisory.stream_seq),
                subject: "-",
                attempts: advisory.deliveries,
                headers: None,
                payload: bytes::Bytes::new(),
            };
            bus.park(letter).await?;
            Ok(())
        }
    }
}

/// Reads the message back; `None` when the stream no longer has it.
async fn fetch(
    bus: &Bus,
    stream: &'static str,
    advisory: &Advisory,
) -> Result<Option<Delivery>, Trouble> {
    let away = |reason: String| Trouble::Wait(format!("cannot read {stream}: {reason}"));
    let sequence = advisory.stream_seq;
    let jetstream = bus.connection().jetstream();
    let handle = jetstream
        .get_stream_no_info(stream)
        .await
        .map_err(|error| away(error.to_string()))?;
    let message = match handle.get_raw_message(sequence).await {
        Ok(message) => message,
        Err(error) if matches!(error.kind(), RawMessageErrorKind::NoMessageFound) => {
            debug!(stream, sequence, "message that was given up is gone");
            return Ok(None);
        }
        Err(error) => return Err(away(error.to_string())),
    };
    let stored_at =
        Timestamp::from_timestamp(message.time.unix_timestamp(), message.time.nanosecond())
            .unwrap_or_default();
    Ok(Some(Delivery {
        subject: message.subject.to_string(),
        headers: message.headers,
        payload: message.payload,
        stream_sequence: sequence,
        epoch: bus.epoch(),
        attempt: advisory.deliveries,
        stored_at,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advisories_are_read_as_the_server_writes_them() {
        let max: Advisory = serde_json::from_str(
            r#"{"type":"io.nats.jetstream.advisory.v1.max_deliver","id":"x","timestamp":"2026-11-22T14:00:00Z","stream":"VOICE_IN","consumer":"p3","stream_seq":7,"deliveries":3}"#,
        )
        .unwrap();
        assert_eq!((max.code(), max.stream_seq), ("max-deliveries", 7));
        assert!(max.text().contains("after 3 deliveries to consumer p3"));
        let term: Advisory = serde_json::from_str(
            r#"{"type":"io.nats.jetstream.advisory.v1.terminated","stream":"VOICE_IN","consumer":"p3","consumer_seq":1,"stream_seq":7,"deliveries":1,"reason":"by hand"}"#,
        )
        .unwrap();
        assert_eq!(term.code(), "terminated");
        assert!(term.text().ends_with("consumer p3: by hand"));
    }
}
