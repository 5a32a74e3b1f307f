//! Pulling from a durable consumer: one message at a time, handled, then settled.
//!
//! A stream error is an error and never the end: the client reports a missing heartbeat during
//! every interruption, and goes on by itself when the server is back.
//!
//! What has an end is a life of VOICE_IN. When it is deleted and made anew it counts from 1 again,
//! and whoever still took its numbers for those of the old one would take new inputs for done. So
//! the life is looked at again whenever it may have changed, before a message is handled.

use std::time::Duration;

use async_nats::jetstream::consumer::PullConsumer;
use async_nats::jetstream::consumer::pull::MessagesErrorKind;
use async_nats::jetstream::{AckKind, Message};
use futures_util::StreamExt;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{Bus, streams, subjects};
use crate::{crash_point, metrics};

/// How long a pull request waits at the server. Measured together with [`HEARTBEAT`]: a frozen
/// worker costs its partition two stalls of `ack_wait` at most.
const EXPIRES: Duration = Duration::from_secs(5);
/// How soon a dead connection is noticed.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// How often a role that takes no inputs looks whether VOICE_IN was made anew.
const LOOK_PAUSE: Duration = Duration::from_secs(5);
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

/// Why the messages of a consumer can no longer be handled.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The numbers, partitions and salt that this process has read belong to another stream.
    #[error(
        "VOICE_IN was made anew since this process started; start it again so that it reads the new layout"
    )]
    MadeAnew,
}

/// Handles the messages of one consumer, one after the other, until `stop`.
///
/// `ack_wait` is the consumer's; a handler that takes longer keeps its message by telling the
/// server that it is still at work.
///
/// # Errors
/// See [`enum@Error`]. The message that was there then is not handled.
pub async fn run<H: Handler>(
    bus: &Bus,
    stream: &'static str,
    consumer: &str,
    ack_wait: Duration,
    stop: &CancellationToken,
    mut handler: H,
) -> Result<(), Error> {
    let mut life = Life::new(bus);
    while !stop.is_cancelled() {
        let opened = tokio::select! {
            () = stop.cancelled() => return Ok(()),
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
        life.is_sure = false;
        loop {
            let next = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                next = messages.next() => next,
            };
            match next {
                Some(Ok(message)) => {
                    if life.may_have_ended(&message) && !life.goes_on(stop).await? {
                        return Ok(());
                    }
                    settle(stream, message, ack_wait, &mut handler).await;
                }
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
    Ok(())
}

/// For a role that takes no inputs and still uses what was read with the layout: looks every few
/// seconds whether VOICE_IN is still the stream that the bus was opened on, until `stop`.
///
/// # Errors
/// See [`enum@Error`].
pub async fn watch_life(bus: &Bus, stop: &CancellationToken) -> Result<(), Error> {
    let mut life = Life::new(bus);
    while life.goes_on(stop).await? {
        pause(stop, LOOK_PAUSE).await;
    }
    Ok(())
}

/// Whether VOICE_IN is still the stream that the bus was opened on.
struct Life<'a> {
    bus: &'a Bus,
    /// Nothing has happened since it was looked at.
    is_sure: bool,
    /// Connections that were lost by then.
    disconnects: u64,
    /// Number of the last message that came for the first time. The next such one has a higher.
    last: u64,
}

impl<'a> Life<'a> {
    fn new(bus: &'a Bus) -> Self {
        Self {
            bus,
            is_sure: false,
            disconnects: bus.connection().disconnects(),
            last: 0,
        }
    }

    /// A stream that is deleted takes its consumers with it, which the client tells of unless it
    /// was away or had not asked for more at that moment.
    fn may_have_ended(&mut self, message: &Message) -> bool {
        if let Ok(info) = message.info()
            && info.delivered == 1
        {
            self.is_sure &= info.stream_sequence > self.last;
            self.last = info.stream_sequence;
        }
        !self.is_sure || self.disconnects != self.bus.connection().disconnects()
    }

    /// Looks until there is an answer. `false` when told to stop before that.
    async fn goes_on(&mut self, stop: &CancellationToken) -> Result<bool, Error> {
        while !stop.is_cancelled() {
            let disconnects = self.bus.connection().disconnects();
            match streams::read_layout(self.bus.connection().jetstream()).await {
                Ok(layout) if layout.epoch.as_unix_nanos() == self.bus.epoch() => {
                    self.disconnects = disconnects;
                    self.is_sure = true;
                    return Ok(true);
                }
                Ok(_) => return Err(Error::MadeAnew),
                Err(error) => {
                    debug!(error = %crate::error_chain::Chain(&error), "VOICE_IN not looked at");
                    pause(stop, RETRY_PAUSE).await;
                }
            }
        }
        Ok(false)
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
