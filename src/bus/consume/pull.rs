//! Asking a consumer for one message after the other, and leaving without taking one along.
//!
//! The client has a stream of messages for this, and keeps its subscription to itself: when the
//! stream is dropped, a message that is on its way just then is dropped with it. The server takes it
//! for delivered, and because a partition has one message in flight, all of its calls wait for
//! `ack_wait`. Here the last request is taken back in such a way that its message, if there is one,
//! still arrives and can be given back.

use std::time::Duration;

use async_nats::jetstream::{AckKind, Message};
use async_nats::{StatusCode, Subscriber};
use futures_util::StreamExt;
use serde_json::json;
use tokio::time::Instant;
use tracing::debug;

use crate::bus::{Connection, subjects};

/// How long a request waits at the server. Measured together with [`HEARTBEAT`]: a frozen
/// worker costs its partition two stalls of `ack_wait` at most.
const EXPIRES: Duration = Duration::from_secs(5);
/// How often the server says that a request still waits there.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// Silence in which two heartbeats were missed.
const SILENCE: Duration = Duration::from_secs(2);
/// So many silences in a row mean that the request is not there any more. After one alone this
/// process may have been frozen, and what was sent meanwhile is still to be read.
const SILENCES_MAX: u32 = 2;
/// What a leader says that hands its consumers over. The next one knows nothing of the request.
const LEADER_LEAVES: &str = "Leadership Change";

/// Why no message can be had from here any more; a new [`Pull`] may do better.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// With the connection went the request.
    #[error("the connection was lost")]
    Interrupted,
    /// The request is not known at the server any more.
    #[error("the server has forgotten the request")]
    Forgotten,
    /// There is no such consumer, or nobody who has it.
    #[error("the server says: {0}")]
    Refused(String),
}

/// One worker's place at a consumer.
pub(super) struct Pull {
    connection: Connection,
    /// Where it asks.
    subject: String,
    /// Where the answers come.
    inbox: String,
    answers: Subscriber,
    /// Answers so far, heartbeats among them.
    seen: u64,
    /// Whether a request waits at the server.
    asked: bool,
    silent_at: Instant,
    silences: u32,
}

impl Pull {
    pub async fn open(
        connection: &Connection,
        stream: &str,
        consumer: &str,
    ) -> Result<Self, Error> {
        let inbox = connection.client().new_inbox();
        let subscribed = connection.client().subscribe(inbox.clone()).await;
        Ok(Self {
            connection: connection.clone(),
            subject: subjects::next_message(stream, consumer),
            inbox,
            answers: subscribed.map_err(|error| Error::Refused(error.to_string()))?,
            seen: 0,
            asked: false,
            silent_at: Instant::now() + SILENCE,
            silences: 0,
        })
    }

    /// The next message. Nothing is asked for before this is called, and nothing is lost when it
    /// is not waited for to the end.
    ///
    /// # Errors
    /// See [`enum@Error`].
    pub async fn next(&mut self) -> Result<Message, Error> {
        loop {
            if !self.asked {
                self.ask().await?;
            }
            tokio::select! {
                biased;
                answer = self.answers.next() => {
                    let Some(answer) = answer else { return Err(Error::Interrupted) };
                    if let Some(message) = self.read(answer)? {
                        return Ok(message);
                    }
                }
                () = self.connection.lost() => return Err(Error::Interrupted),
                () = tokio::time::sleep_until(self.silent_at) => {
                    self.silences += 1;
                    if self.silences == SILENCES_MAX {
                        self.connection.unanswered().await;
                        return Err(Error::Forgotten);
                    }
                    self.silent_at = Instant::now() + SILENCE;
                }
            }
        }
    }

    /// Takes the request back. A message with which it was answered meanwhile is given back at once,
    /// for another worker. Takes a heartbeat at most.
    pub async fn leave(mut self) {
        if !self.asked || !self.connection.is_connected() {
            return;
        }
        // With the next answer, whichever it is, the subscription is over here and at the server,
        // which hands out again what finds nobody. One that was sent already is that next answer.
        if self.answers.unsubscribe_after(self.seen + 1).await.is_err() {
            return;
        }
        let rest = async {
            while let Some(answer) = self.answers.next().await {
                if let Ok(Some(message)) = self.read(answer) {
                    give_back(&message).await;
                }
            }
        };
        if tokio::time::timeout(SILENCE, rest).await.is_err() {
            debug!("a request for a message was left behind");
        }
    }

    async fn ask(&mut self) -> Result<(), Error> {
        let request = json!({
            "batch": 1,
            "expires": u64::try_from(EXPIRES.as_nanos()).unwrap_or(u64::MAX),
            "idle_heartbeat": u64::try_from(HEARTBEAT.as_nanos()).unwrap_or(u64::MAX),
        });
        let (subject, inbox) = (self.subject.clone(), self.inbox.clone());
        let client = self.connection.client();
        let asked = client.publish_with_reply(subject, inbox, request.to_string().into());
        asked
            .await
            .map_err(|error| Error::Refused(error.to_string()))?;
        self.asked = true;
        self.silent_at = Instant::now() + SILENCE;
        self.silences = 0;
        Ok(())
    }

    /// The message, unless it is a word from the server about the request.
    fn read(&mut self, answer: async_nats::Message) -> Result<Option<Message>, Error> {
        self.connection.answered();
        self.seen += 1;
        self.silent_at = Instant::now() + SILENCE;
        self.silences = 0;
        let about = answer.description.as_deref().unwrap_or_default();
        match answer.status {
            None | Some(StatusCode::OK) => {
                self.asked = false;
                Ok(Some(Message {
                    message: answer,
                    context: self.connection.jetstream().clone(),
                }))
            }
            Some(StatusCode::IDLE_HEARTBEAT) => Ok(None),
            Some(StatusCode::TIMEOUT) => {
                self.asked = false;
                Ok(None)
            }
            Some(StatusCode::REQUEST_TERMINATED) if about == LEADER_LEAVES => {
                self.asked = false;
                Ok(None)
            }
            Some(StatusCode::NO_RESPONDERS) => {
                Err(Error::Refused("there is no such consumer".to_owned()))
            }
            Some(status) => Err(Error::Refused(format!("{status} {about}"))),
        }
    }
}

/// Lets another worker have a message, at once.
pub(super) async fn give_back(message: &Message) {
    if let Err(error) = message.ack_with(AckKind::Nak(None)).await {
        debug!(%error, "message not given back");
    }
}
