//! Pulling from a durable consumer: one message at a time, handled, then settled.
//!
//! An error is never the end: whatever it is, the consumer is asked again. Who is told to stop
//! finishes the message that it has begun, and gives back the one that it has not: nothing waits for
//! `ack_wait` because a worker has left.
//!
//! What has an end is a life of VOICE_IN, see `life.rs`. Each delivery says from which it comes.

mod life;
mod pull;

use std::time::Duration;

use async_nats::jetstream::{AckKind, Message};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::trouble::{Trouble, guarded, pause_after};
use super::{Bus, OtherPartitions, subjects};
use crate::{crash_point, metrics};

use life::{Life, Look};
use pull::Pull;

pub use life::watch_life;

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
    /// Which life of VOICE_IN that number belongs to; of no meaning for other streams.
    pub epoch: u64,
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

/// Who handles deliveries, one after the other.
pub trait Handler: Send {
    /// Pause before a message comes again that met a passing trouble.
    const RETRY_PAUSE: Duration;

    /// Tries to handle one to its end.
    fn take(
        &mut self,
        delivery: &Delivery,
    ) -> impl Future<Output = Result<Disposition, Trouble>> + Send;

    /// Parks one whose trouble is its own and does not pass.
    fn give_up(
        &mut self,
        delivery: &Delivery,
        reason: &str,
    ) -> impl Future<Output = Result<(), Trouble>> + Send;
}

/// Tries as often as it is worth, see [`super::trouble`].
async fn handle<H: Handler>(
    stream: &'static str,
    handler: &mut H,
    delivery: Delivery,
) -> Disposition {
    let mut tries = 0;
    loop {
        let trouble = match guarded(handler.take(&delivery)).await {
            Ok(disposition) => return disposition,
            Err(trouble) => trouble,
        };
        warn!(
            stream,
            stream_sequence = delivery.stream_sequence,
            attempt = delivery.attempt,
            tries,
            reason = trouble.reason(),
            "message not done yet"
        );
        let again = Disposition::Retry {
            after: H::RETRY_PAUSE,
        };
        let Trouble::Own(reason) = trouble else {
            return again;
        };
        tries += 1;
        if let Some(pause) = pause_after(tries) {
            tokio::time::sleep(pause).await;
            continue;
        }
        let reason = format!("tried {tries} times: {reason}");
        return match handler.give_up(&delivery, &reason).await {
            Ok(()) => Disposition::Ack,
            Err(_) => again,
        };
    }
}

/// Handles the messages of one consumer, one after the other, until `stop`. The one that it is
/// handling then is finished; one that comes meanwhile is given back.
///
/// `ack_wait` is the consumer's; a handler that takes longer keeps its message by telling the
/// server that it is still at work.
///
/// # Errors
/// When VOICE_IN was made anew with another number of partitions.
pub async fn run<H: Handler>(
    bus: &Bus,
    stream: &'static str,
    consumer: &str,
    ack_wait: Duration,
    stop: &CancellationToken,
    mut handler: H,
) -> Result<(), OtherPartitions> {
    let mut life = Life::new(bus);
    while !stop.is_cancelled() {
        let trouble = match Pull::open(bus.connection(), stream, consumer).await {
            Err(error) => error,
            Ok(mut pull) => {
                life.doubt();
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
                        let look = life.look(stop).await;
                        let is_in_doubt = match look {
                            Ok(Look::Same) => false,
                            // It is of the old life or of the new one. If it is of the new one, it
                            // comes again.
                            Ok(Look::Another) => stream == subjects::STREAM_IN,
                            Ok(Look::Stopped) | Err(_) => true,
                        };
                        if is_in_doubt {
                            pull::give_back(&message).await;
                            look?;
                            continue;
                        }
                    }
                    settle(stream, life.epoch(), message, ack_wait, &mut handler).await;
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

async fn settle<H: Handler>(
    stream: &'static str,
    epoch: u64,
    message: Message,
    ack_wait: Duration,
    handler: &mut H,
) {
    let Some(delivery) = read(&message, epoch) else {
        warn!(subject = %message.subject, "message without delivery information; left alone");
        return;
    };
    let (stored_at, is_again) = (delivery.stored_at, delivery.attempt > 1);
    if !is_again && subjects::is_timer(&delivery.subject) {
        metrics::timer_fired();
    }
    let mut work = std::pin::pin!(handle(stream, handler, delivery));
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

fn read(message: &Message, epoch: u64) -> Option<Delivery> {
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
        epoch,
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
