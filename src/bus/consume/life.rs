//! Which life of VOICE_IN the numbers of messages belong to.
//!
//! When the stream is deleted and made anew it counts from 1 again, and whoever still took its
//! numbers for those of the old one would take new inputs for done. So the life is looked at again
//! whenever it may have changed, before a message is handled.

use std::time::Duration;

use async_nats::jetstream::Message;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::pause;
use crate::bus::{Bus, OtherPartitions, streams};

/// How often a role that takes no inputs looks whether VOICE_IN was made anew.
const LOOK_PAUSE: Duration = Duration::from_secs(5);
/// Pause before a look without an answer is repeated.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// For a role that takes no inputs and still uses what was read with the layout: looks every few
/// seconds whether VOICE_IN was made anew, until `stop`.
///
/// # Errors
/// When it was, with another number of partitions.
pub async fn watch_life(bus: &Bus, stop: &CancellationToken) -> Result<(), OtherPartitions> {
    let mut life = Life::new(bus);
    while life.look(stop).await? != Look::Stopped {
        pause(stop, LOOK_PAUSE).await;
    }
    Ok(())
}

/// What a look has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// The stream is the one that it was.
    Same,
    /// It was made anew, and what is known of it is what the new one says.
    Another,
    /// Told to stop before there was an answer.
    Stopped,
}

/// The life that one worker's messages come from.
pub(super) struct Life<'a> {
    bus: &'a Bus,
    epoch: u64,
    /// Nothing has happened since it was looked at.
    is_sure: bool,
    /// Connections that were lost by then.
    disconnects: u64,
    /// Number of the last message that came for the first time. The next such one has a higher.
    last: u64,
}

impl<'a> Life<'a> {
    pub fn new(bus: &'a Bus) -> Self {
        Self {
            bus,
            epoch: bus.epoch(),
            is_sure: false,
            disconnects: bus.connection().disconnects(),
            last: 0,
        }
    }

    /// The stream's epoch, sure or not.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Something has happened after which the stream may be another one.
    pub fn doubt(&mut self) {
        self.is_sure = false;
    }

    /// Whether to look before this message is handled. A stream that is deleted takes its consumers
    /// with it, which the server tells of, unless the client was away or had not asked for more at
    /// that moment.
    pub fn may_have_ended(&mut self, message: &Message) -> bool {
        if let Ok(info) = message.info()
            && info.delivered == 1
        {
            self.is_sure &= info.stream_sequence > self.last;
            self.last = info.stream_sequence;
        }
        !self.is_sure || self.disconnects != self.bus.connection().disconnects()
    }

    /// Looks until there is an answer.
    ///
    /// # Errors
    /// When the new stream has another number of partitions.
    pub async fn look(&mut self, stop: &CancellationToken) -> Result<Look, OtherPartitions> {
        while !stop.is_cancelled() {
            let disconnects = self.bus.connection().disconnects();
            match streams::read_layout(self.bus.connection().jetstream()).await {
                Ok(layout) => {
                    self.disconnects = disconnects;
                    self.is_sure = true;
                    let epoch = layout.epoch.as_unix_nanos();
                    if epoch == self.epoch {
                        return Ok(Look::Same);
                    }
                    self.bus.begin_again(&layout)?;
                    self.epoch = epoch;
                    self.last = 0;
                    return Ok(Look::Another);
                }
                Err(error) => {
                    debug!(error = %crate::error_chain::Chain(&error), "VOICE_IN not looked at");
                    pause(stop, RETRY_PAUSE).await;
                }
            }
        }
        Ok(Look::Stopped)
    }
}
