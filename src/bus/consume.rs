//! Pulling from a durable consumer: one message at a time, handled, then settled.
//!
//! An error is never the end: whatever it is, the consumer is asked again. Who is told to stop
//! finishes the message that it has begun, and gives back the one that it has not: nothing waits for
//! `ack_wait` because a worker has left.
//!
//! What has an end is a life of VOICE_IN. When it is deleted and made anew it counts from 1 again,
//! and whoever still took its numbers for those of the old one would take new inputs for done. So
//! the life is looked at again whenever it may have changed, before a message is handled.

mod pull;

use std::time::Duration;

use async_nats::jetstream::{AckKind, Message};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{Bus, streams, subjects};
use crate::{crash_point, metrics};

use pull::Pull;

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

/// Handles the messages of one consumer, one after the other, until `stop`. The one that it is
/// handling then is finished; one that comes meanwhile is given back.
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
        let trouble = match Pull::open(bus.connection(), stream, consumer).await {
            Err(error) => error,
            Ok(mut pull) => {
                life.is_sure = false;
                loop {
                    let message = tokio::select! {
                        biased;
                        () = stop.cancelled() => {
                            pull.leave().await;
                            return Ok(());
                        }
                        next = pull.next() => match next {
                            Ok(message) => message,
                            Err(error) => break error,
                        },
                    };
                    if life.may_have_ended(&message) {
                        let goes_on = life.goes_on(stop).await;
                        if !matches!(goes_on, Ok(true)) {
                            pull::give_back(&message).await;
                            return goes_on.map(drop);
                        }
                    }
                    settle(stream, message, ack_wait, &mut handler).await;
                }
            }
        };
        match trouble {
            pull::Error::Interrupted => {
                debug!(stream, consumer, "waiting for the server");
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = bus.connection().back() => {}
                }
            }
            error => {
                warn!(stream, consumer, %error, "consumer cannot be had; trying again");
                pause(stop, RETRY_PAUSE).await;
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
