//! Pulling from a durable consumer: one message at a time, handled, then settled.
//!
//! A stream error is an error and never the end: the client reports a missing heartbeat during
//! every interruption, and goes on by itself when the server is back.

use std::time::Duration;

use async_nats::jetstream::consumer::PullConsumer;
use async_nats::jetstream::consumer::pull::MessagesErrorKind;
use async_nats::jetstream::{AckKind, Message};
use futures_util::StreamExt;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{Bus, subjects};
use crate::{crash_point, metrics};

/// How long a pull request waits at the server. Measured together with [`HEARTBEAT`]: a frozen
/// worker costs its partition two stalls of `ack_wait` at most.
const EXPIRES: Duration = Duration::from_secs(5);
/// How soon a dead connection is noticed.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// Pause before a consumer that cannot be had is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// One arrival of a message.
#[derive(Debug)]
pub struct Delivery {
    /// Where it was published.
    pub subject: String,
    /// Its headers.
    pub headers: async_nats::HeaderMap,
    /// Its body.
    pub payload: bytes::Bytes,
    /// Its number in the stream.
    pub stream_sequence: u64,
    /// How often it has been delivered, this time included.
    pub attempt: u64,
    /// When the stream stored it.
    pub stored_at: crate::domain::Timestamp,
}

/// What is answered to the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
    /// Done, for ever.
    Ack,
    /// Deliver it again.
    Retry {
        /// Not before.
        after: Duration,
    },
}

/// Who handles deliveries.
pub trait Handler: Send {
    /// Handles one delivery to its end. Called again only after it has returned.
    fn handle(&mut self, delivery: Delivery) -> impl Future<Output = Disposition> + Send;
}

/// Handles the messages of one consumer, one after the other, until `stop`.
///
/// `ack_wait` is the consumer's; a handler that takes longer keeps its message by telling the
/// server that it is still at work.
pub async fn run<H: Handler>(
    bus: &Bus,
    stream: &'static str,
    consumer: &str,
    ack_wait: Duration,
    stop: &CancellationToken,
    mut handler: H,
) {
    while !stop.is_cancelled() {
        let opened = tokio::select! {
            () = stop.cancelled() => return,
            opened = open(bus, stream, consumer) => opened,
        };
        let mut messages = match opened {
            Ok(messages) => messages,
            Err(reason) => {
                warn!(
                    stream,
                    consumer, reason, "consumer cannot be had; trying again"
                );
                pause(stop, RETRY_PAUSE).await;
                continue;
            }
        };
        loop {
            let next = tokio::select! {
                () = stop.cancelled() => return,
                next = messages.next() => next,
            };
            match next {
                Some(Ok(message)) => settle(stream, message, ack_wait, &mut handler).await,
                Some(Err(error)) if error.kind() == MessagesErrorKind::MissingHeartbeat => {
                    debug!(stream, consumer, "no heartbeat; waiting for the server");
                }
                Some(Err(error)) => {
                    warn!(stream, consumer, error = %error.kind(), "pull failed; starting over");
                    pause(stop, RETRY_PAUSE).await;
                    break;
                }
                None => break,
            }
        }
    }
}

async fn open(
    bus: &Bus,
    stream: &str,
    consumer: &str,
) -> Result<async_nats::jetstream::consumer::pull::Stream, String> {
    let consumer: PullConsumer = bus
        .connection()
        .jetstream()
        .get_consumer_from_stream(consumer, stream)
        .await
        .map_err(|error| error.to_string())?;
    consumer
        .stream()
        .max_messages_per_batch(1)
        .expires(EXPIRES)
        .heartbeat(HEARTBEAT)
        .messages()
        .await
        .map_err(|error| error.to_string())
}

async fn settle<H: Handler>(
    stream: &'static str,
    message: Message,
    ack_wait: Duration,
    handler: &mut H,
) {
    let Some(delivery) = read(&message) else {
        warn!(subject = %message.subject, "message without delivery information; left alone");
        return;
    };
    let (stored_at, is_again) = (delivery.stored_at, delivery.attempt > 1);
    if !is_again && subjects::is_timer(&delivery.subject) {
        metrics::timer_fired();
    }
    let mut work = std::pin::pin!(handler.handle(delivery));
    // Not `interval`, whose first tick is for the next millisecond: every message would wait for it.
    let pause = ack_wait / 2;
    let mut still_at_work = tokio::time::interval_at(tokio::time::Instant::now() + pause, pause);
    let disposition = loop {
        tokio::select! {
            disposition = &mut work => break disposition,
            _ = still_at_work.tick() => {
                if let Err(error) = message.ack_with(AckKind::Progress).await {
                    debug!(%error, "progress not told");
                }
            }
        }
    };
    let answer = match disposition {
        Disposition::Ack => {
            metrics::delivery(stream, "done", is_again);
            // The server's clock may be ahead of ours.
            let age = (chrono::Utc::now() - stored_at).to_std();
            metrics::done(stream, age.unwrap_or_default());
            AckKind::Ack
        }
        Disposition::Retry { after } => {
            metrics::delivery(stream, "retry", is_again);
            AckKind::Nak(Some(after))
        }
    };
    // A lost acknowledgement becomes a redelivery, which the handler knows for what it is.
    if let Err(error) = message.ack_with(answer).await {
        debug!(%error, "acknowledgement not sent");
    }
    crash_point::pass("consume.after_ack");
}

fn read(message: &Message) -> Option<Delivery> {
    let info = message.info().ok()?;
    let stored_at = crate::domain::Timestamp::from_timestamp(
        info.published.unix_timestamp(),
        info.published.nanosecond(),
    )?;
    Some(Delivery {
        subject: message.subject.to_string(),
        headers: message.headers.clone().unwrap_or_default(),
        payload: message.payload.clone(),
        stream_sequence: info.stream_sequence,
        attempt: u64::try_from(info.delivered).unwrap_or(1),
        stored_at,
    })
}

async fn pause(stop: &CancellationToken, time: Duration) {
    tokio::select! {
        () = stop.cancelled() => {}
        () = tokio::time::sleep(time) => {}
    }
}
