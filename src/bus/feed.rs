//! Reading the public feed from a place in the stream onwards: every event once and in order,
//! whatever happens to the connection, the server or the consumer in between.
//!
//! The place is kept here and nowhere else. A consumer is only a means to get from it to the end
//! of the stream: whenever there is doubt about one (it is gone, it skipped something, the
//! connection was lost) it is left behind and another one is made at the place. The server
//! removes what is left behind after half a minute.
//!
//! This is not async-nats' own ordered consumer for three reasons. That one deletes its
//! predecessor, which readers have no right to; after an interruption before its first message it
//! reads the whole stream from the beginning; and it tells nobody about an interruption.

use std::time::Duration;

use async_nats::jetstream::consumer::pull::{self, MessagesErrorKind};
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy};
use bytes::Bytes;
use futures_util::StreamExt;
use thiserror::Error;

use super::connection::REQUEST_TIMEOUT;
use super::{Connection, subjects};
use crate::domain::Timestamp;

/// How long a pull request waits at the server.
const EXPIRES: Duration = Duration::from_secs(5);
/// How soon a consumer that no longer answers is noticed, at half the speed.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// Messages on their way at once.
const BATCH: usize = 100;
/// When the server removes a consumer that nobody pulls from.
const INACTIVE_MAX: Duration = Duration::from_secs(30);
/// How often a quiet feed looks whether the connection was lost in the meantime.
const LOOK_PAUSE: Duration = Duration::from_millis(250);
/// Pause before a consumer that cannot be had is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(250);

/// Where to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// With the oldest event that is kept.
    Oldest,
    /// With the first event that was stored at this instant or later.
    At(Timestamp),
    /// With the next event.
    Next,
    /// With the last event of each subject, then with the next: enough to know how every call
    /// stands.
    LastOfEach,
}

/// An event as it is stored.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Where.
    pub subject: String,
    /// Its number in the stream.
    pub sequence: u64,
    /// When it was stored.
    pub stored_at: Timestamp,
    /// How many more there were when it was handed out.
    pub left: u64,
    /// Its body, unaltered.
    pub payload: Bytes,
}

/// What comes next.
#[derive(Debug, Clone)]
pub enum Step {
    /// An event.
    Event(Stored),
    /// The feed is interrupted, for this reason. Said once; it goes on by itself.
    Interrupted(String),
    /// The feed is back.
    Resumed {
        /// Whether it goes on where it was interrupted. If not, the stream no longer has what
        /// comes next: it was removed in the meantime, or lost with a disk.
        whole: bool,
    },
}

/// Why a feed cannot be had.
#[derive(Debug, Error)]
#[error("cannot read VOICE_EVENT: {reason}")]
pub struct Error {
    reason: String,
}

/// A place in the public feed, and what it takes to go on from there.
pub struct Feed {
    connection: Connection,
    name: String,
    filter: String,
    /// Stream sequence of the first event that was not handed out. Events between it and the next
    /// one that passes the filter do not matter.
    place: u64,
    /// Events that were stored and lay ahead when the current consumer was made.
    stored: u64,
    consumers: u64,
    current: Option<Current>,
    interrupted: bool,
}

/// Reads back what is stored and passes the filter, oldest first, up to what was the end when it
/// was asked.
///
/// # Errors
/// When there is no such stream, the server does not let us read it, or there are more than
/// `events_max`.
pub async fn read_back(
    connection: &Connection,
    name: &str,
    filter: String,
    events_max: usize,
) -> Result<Vec<Stored>, Error> {
    let mut feed = Feed::open(connection, name, filter, Start::Oldest).await?;
    let expected = usize::try_from(feed.stored).unwrap_or(usize::MAX);
    if expected > events_max {
        return Err(Error {
            reason: format!(
                "{expected} events are more than the {events_max} that are read at once"
            ),
        });
    }
    let mut events = Vec::with_capacity(expected);
    while events.len() < expected {
        match feed.next().await {
            Step::Event(event) => events.push(event),
            Step::Interrupted(reason) => return Err(Error { reason }),
            Step::Resumed { .. } => {}
        }
    }
    Ok(events)
}

struct Current {
    messages: pull::Stream,
    handed_out: u64,
    disconnects: u64,
    heartbeats_missed: u32,
}

impl Feed {
    /// Begins to read the events whose subjects pass the filter. `name` is what the server shows.
    ///
    /// # Errors
    /// When there is no such stream, or the server does not let us read it.
    pub async fn open(
        connection: &Connection,
        name: &str,
        filter: String,
        start: Start,
    ) -> Result<Self, Error> {
        let policy = match start {
            Start::Oldest => DeliverPolicy::All,
            Start::Next => DeliverPolicy::New,
            Start::LastOfEach => DeliverPolicy::LastPerSubject,
            Start::At(at) => DeliverPolicy::ByStartTime {
                start_time: instant(at)?,
            },
        };
        let mut feed = Self {
            connection: connection.clone(),
            name: format!("{name}-{}", uuid::Uuid::new_v4().simple()),
            filter,
            place: 0,
            stored: 0,
            consumers: 0,
            current: None,
            interrupted: false,
        };
        feed.consume(policy)
            .await
            .map_err(|reason| Error { reason })?;
        Ok(feed)
    }

    /// How many events were stored already when the feed was opened.
    #[must_use]
    pub fn stored(&self) -> u64 {
        self.stored
    }

    /// Waits for what comes next. Nothing is lost when the wait is given up.
    pub async fn next(&mut self) -> Step {
        loop {
            if let Some(step) = self.step().await {
                return step;
            }
        }
    }

    async fn step(&mut self) -> Option<Step> {
        let Some(current) = &mut self.current else {
            return self.resume().await;
        };
        if current.disconnects != self.connection.disconnects() {
            // Events may have been on the connection when it was lost.
            return self.leave("the connection to NATS was lost".to_owned());
        }
        let Ok(next) = tokio::time::timeout(LOOK_PAUSE, current.messages.next()).await else {
            return None;
        };
        match next {
            Some(Ok(message)) => {
                current.heartbeats_missed = 0;
                let Ok(info) = message.info() else {
                    return self.leave("the server sent something unexpected".to_owned());
                };
                let stored_at = Timestamp::from_timestamp(
                    info.published.unix_timestamp(),
                    info.published.nanosecond(),
                );
                if info.consumer_sequence != current.handed_out + 1 {
                    return self.leave("events were lost on the way".to_owned());
                }
                current.handed_out += 1;
                self.place = info.stream_sequence + 1;
                Some(Step::Event(Stored {
                    sequence: info.stream_sequence,
                    stored_at: stored_at.unwrap_or_default(),
                    left: info.pending,
                    subject: message.subject.to_string(),
                    payload: message.payload.clone(),
                }))
            }
            Some(Err(error)) if error.kind() == MessagesErrorKind::MissingHeartbeat => {
                current.heartbeats_missed += 1;
                // One may be due to a moment of load.
                if current.heartbeats_missed < 2 {
                    return None;
                }
                self.leave("the server does not answer".to_owned())
            }
            Some(Err(error)) => {
                let reason = error.kind().to_string();
                self.leave(format!("the server ended the feed ({reason})"))
            }
            None => self.leave("the server ended the feed".to_owned()),
        }
    }

    /// Leaves the consumer; says so if that is news.
    fn leave(&mut self, reason: String) -> Option<Step> {
        self.current = None;
        let news = !self.interrupted;
        self.interrupted = true;
        news.then_some(Step::Interrupted(reason))
    }

    /// Tries once to go on from the place.
    async fn resume(&mut self) -> Option<Step> {
        if self.connection.is_connected() {
            let policy = DeliverPolicy::ByStartSequence {
                start_sequence: self.place,
            };
            let place = self.place;
            match self.consume(policy).await {
                Ok(()) => {
                    self.interrupted = false;
                    let whole = self.place == place;
                    return Some(Step::Resumed { whole });
                }
                Err(reason) => tracing::debug!(reason, "feed not resumed; trying again"),
            }
        }
        tokio::time::sleep(RETRY_PAUSE).await;
        None
    }

    async fn consume(&mut self, deliver_policy: DeliverPolicy) -> Result<(), String> {
        let disconnects = self.connection.disconnects();
        self.consumers += 1;
        let config = pull::Config {
            // A name puts the consumer's subject under the permissions of the role, and a new one
            // for each keeps a request that arrives late from meeting its successor.
            name: Some(format!("{}-{}", self.name, self.consumers)),
            filter_subject: self.filter.clone(),
            deliver_policy,
            ack_policy: AckPolicy::None,
            max_deliver: 1,
            inactive_threshold: INACTIVE_MAX,
            num_replicas: 1,
            memory_storage: true,
            ..pull::Config::default()
        };
        let made = async {
            let consumer = self
                .connection
                .jetstream()
                .create_consumer_on_stream(config, subjects::STREAM_EVENT)
                .await
                .map_err(|error| error.to_string())?;
            let messages = consumer
                .stream()
                .max_messages_per_batch(BATCH)
                .expires(EXPIRES)
                .heartbeat(HEARTBEAT)
                .messages()
                .await
                .map_err(|error| error.to_string())?;
            let info = consumer.cached_info();
            let before = info.delivered.stream_sequence;
            Ok::<_, String>((before, info.num_pending, messages))
        };
        let (before, stored, messages) = tokio::time::timeout(REQUEST_TIMEOUT, made)
            .await
            .map_err(|_elapsed| {
                "no answer in time (a missing permission looks the same)".to_owned()
            })??;
        // Where the server begins: it knows the end of the stream, and whether the place is still
        // within it after the loss of a disk.
        self.place = before + 1;
        self.stored = stored;
        self.current = Some(Current {
            messages,
            handed_out: 0,
            disconnects,
            heartbeats_missed: 0,
        });
        Ok(())
    }
}

fn instant(at: Timestamp) -> Result<async_nats::datetime::DateTime, Error> {
    async_nats::datetime::from_nanos(i128::from(at.timestamp_micros()) * 1000).map_err(|error| {
        Error {
            reason: error.to_string(),
        }
    })
}
