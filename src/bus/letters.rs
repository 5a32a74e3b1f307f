//! Reading dead letters, taking them back to where they came from, and removing them.
//!
//! Letters are read one by one from the leader: a letter that somebody removes meanwhile is
//! simply not met. A number names a letter for ever, since a stream gives none twice.

use async_nats::HeaderMap;
use async_nats::header::NATS_MESSAGE_ID;
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::{
    DeleteMessageErrorKind, RawMessageError, RawMessageErrorKind, Stream,
};
use bytes::Bytes;
use serde_json::{Value, json};
use thiserror::Error;

use super::connection::REQUEST_TIMEOUT;
use super::dead_letter;
use super::publish::{self, Stored, publish};
use super::{Connection, inspect, subjects};
use crate::domain::Timestamp;

/// How the server says that a message was not deleted, and why: there is none.
const DELETE_FAILED: u64 = 10057;
const NO_SUCH_MESSAGE: &str = "no message found";

/// A dead letter.
#[derive(Debug, Clone)]
pub struct Letter {
    /// Its number in VOICE_DLQ.
    pub id: u64,
    /// When it was parked.
    pub parked_at: Timestamp,
    /// Who could not use the message; empty when the subject does not say.
    pub role: String,
    /// Why: a stable word; empty when the subject does not say.
    pub reason: String,
    /// All headers of the letter, in order of their names.
    pub headers: Vec<(String, String)>,
    /// The body of the message, unaltered.
    pub body: Bytes,
}

impl Letter {
    fn read(message: StreamMessage) -> Self {
        let time = &message.time;
        let (role, reason) = subjects::parse_dead_letter(&message.subject).unwrap_or_default();
        let mut headers: Vec<(String, String)> = message
            .headers
            .iter()
            .flat_map(|(name, values)| values.iter().map(move |value| (name, value)))
            .map(|(name, value)| (name.to_string(), value.as_str().to_owned()))
            .collect();
        headers.sort();
        Self {
            id: message.sequence,
            parked_at: Timestamp::from_timestamp(time.unix_timestamp(), time.nanosecond())
                .unwrap_or_default(),
            role: role.to_owned(),
            reason: reason.to_owned(),
            headers,
            body: message.payload,
        }
    }

    /// The text of one of its headers.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    /// Where the message was published.
    #[must_use]
    pub fn subject(&self) -> Option<&str> {
        self.header(dead_letter::ORIGINAL_SUBJECT)
    }

    /// A number in one of its headers.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<u64> {
        self.header(name)?.parse().ok()
    }

    /// What names the letter beside its number, also when VOICE_DLQ is made anew.
    fn name(&self) -> String {
        self.header("Nats-Msg-Id").map_or_else(
            || format!("{} {}", self.id, self.parked_at.to_rfc3339()),
            str::to_owned,
        )
    }
}

/// Why something was not done.
#[derive(Debug, Error)]
pub enum Error {
    /// The server does not answer, or refuses.
    #[error("cannot {what}: {reason}")]
    Failed {
        /// What was asked.
        what: String,
        /// Why not.
        reason: String,
    },
    /// It was no input, so it is nobody's business to publish it again.
    #[error("{}", not_an_input(subject.as_deref()))]
    NotAnInput {
        /// Where the message was published.
        subject: Option<String>,
    },
    /// The message was not taken.
    #[error("the message was not taken back")]
    Publish(#[from] publish::Error),
}

fn not_an_input(subject: Option<&str>) -> String {
    match subject {
        Some(subject) if subjects::is_command(subject) => {
            "it holds a command, and a phone might ring that nobody expects: give the command anew with `voicebus call` or `voicebus hangup`".to_owned()
        }
        Some(subject) if subject.starts_with('/') => {
            "it holds the body of a request that was no event: send the request again".to_owned()
        }
        Some(_) | None => "it does not say which input it was".to_owned(),
    }
}

/// The dead letters.
#[derive(Debug, Clone)]
pub struct Letters {
    connection: Connection,
}

impl Letters {
    /// As a user who may read VOICE_DLQ.
    #[must_use]
    pub fn new(connection: Connection) -> Self {
        Self { connection }
    }

    /// How many letters there are, and the number of the last one that was ever parked.
    ///
    /// # Errors
    /// See [`enum@Error`].
    pub async fn count(&self) -> Result<(u64, u64), Error> {
        let failed = |reason: String| Error::Failed {
            what: "look up VOICE_DLQ".to_owned(),
            reason,
        };
        let stream = subjects::STREAM_DLQ;
        let body = json!({ "subjects_filter": subjects::canary(stream) });
        let info: Value = within(
            self.connection
                .jetstream()
                .request(format!("STREAM.INFO.{stream}"), &body),
        )
        .await
        .map_err(failed)?;
        if let Some(error) = info.get("error") {
            return Err(failed(
                error["description"]
                    .as_str()
                    .unwrap_or("refused")
                    .to_owned(),
            ));
        }
        let last = info["state"]["last_seq"].as_u64().unwrap_or_default();
        Ok((inspect::without_canaries(&info, stream), last))
    }

    /// Reads a letter; `None` when there is none of this number.
    ///
    /// # Errors
    /// See [`enum@Error`].
    pub async fn get(&self, id: u64) -> Result<Option<Letter>, Error> {
        let stream = self.stream().await?;
        found(stream.get_raw_message(id)).await
    }

    /// Reads the first letter of this number or a later one whose subject passes the filter.
    ///
    /// # Errors
    /// See [`enum@Error`].
    pub async fn next(&self, filter: &str, id: u64) -> Result<Option<Letter>, Error> {
        let stream = self.stream().await?;
        found(stream.get_first_raw_message_by_subject(filter, id)).await
    }

    /// Removes a letter; `false` when it was not there.
    ///
    /// # Errors
    /// See [`enum@Error`].
    pub async fn delete(&self, id: u64) -> Result<bool, Error> {
        let stream = self.stream().await?;
        let failed = |reason| Error::Failed {
            what: format!("remove letter {id}"),
            reason,
        };
        match tokio::time::timeout(REQUEST_TIMEOUT, stream.delete_message(id)).await {
            Err(_elapsed) => Err(failed(SILENCE.to_owned())),
            Ok(Ok(_)) => Ok(true),
            Ok(Err(error)) => match error.kind() {
                DeleteMessageErrorKind::JetStream(refusal)
                    if refusal.error_code().0 == DELETE_FAILED
                        && refusal.to_string().contains(NO_SUCH_MESSAGE) =>
                {
                    Ok(false)
                }
                DeleteMessageErrorKind::TimedOut => Err(failed(SILENCE.to_owned())),
                DeleteMessageErrorKind::Request | DeleteMessageErrorKind::JetStream(_) => {
                    Err(failed(error.to_string()))
                }
            },
        }
    }

    /// Publishes the message of a letter again, where it was published first. The letter stays.
    /// Doing it again has no other effect: the stream knows the id for a while, and the router
    /// knows the letter's name after that.
    ///
    /// # Errors
    /// See [`enum@Error`].
    pub async fn redrive(&self, letter: &Letter) -> Result<Stored, Error> {
        let subject = letter
            .subject()
            .filter(|subject| subjects::is_input(subject))
            .ok_or_else(|| Error::NotAnInput {
                subject: letter.subject().map(str::to_owned),
            })?;
        let name = letter.name();
        let mut headers = original_headers(letter);
        headers.insert(NATS_MESSAGE_ID, format!("redrive {name}"));
        headers.insert(dead_letter::REDRIVE, name);
        let ack = publish(&self.connection, subject, headers, letter.body.clone()).await?;
        Ok(Stored {
            sequence: ack.sequence,
            duplicate: ack.duplicate,
        })
    }

    async fn stream(&self) -> Result<Stream<()>, Error> {
        self.connection
            .jetstream()
            .get_stream_no_info(subjects::STREAM_DLQ)
            .await
            .map_err(|error| Error::Failed {
                what: "use VOICE_DLQ".to_owned(),
                reason: error.to_string(),
            })
    }
}

/// The headers that came with the message, without those that a stream or the router would obey.
fn original_headers(letter: &Letter) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in &letter.headers {
        let Some(name) = name.strip_prefix(dead_letter::ORIGINAL) else {
            continue;
        };
        let lower = name.to_ascii_lowercase();
        if name.is_empty()
            || name == "Subject"
            || lower.starts_with("nats-")
            || lower.starts_with("voicebus-")
        {
            continue;
        }
        headers.append(name, value.as_str());
    }
    headers
}

async fn found(
    asked: impl Future<Output = Result<StreamMessage, RawMessageError>>,
) -> Result<Option<Letter>, Error> {
    let read = tokio::time::timeout(REQUEST_TIMEOUT, asked).await;
    let reason = match read {
        Ok(Ok(message)) => return Ok(Some(Letter::read(message))),
        Ok(Err(error)) if matches!(error.kind(), RawMessageErrorKind::NoMessageFound) => {
            return Ok(None);
        }
        Ok(Err(error)) => error.to_string(),
        Err(_elapsed) => SILENCE.to_owned(),
    };
    Err(Error::Failed {
        what: "read the dead letters".to_owned(),
        reason,
    })
}

const SILENCE: &str = "no answer in time (a missing permission looks the same)";

async fn within<T, E: std::fmt::Display>(
    asked: impl Future<Output = Result<T, E>>,
) -> Result<T, String> {
    match tokio::time::timeout(REQUEST_TIMEOUT, asked).await {
        Err(_elapsed) => Err(SILENCE.to_owned()),
        Ok(Err(error)) => Err(error.to_string()),
        Ok(Ok(value)) => Ok(value),
    }
}

#[cfg(test)]
mod tests {
    use super::dead_letter::header;
    use super::*;

    fn letter(headers: &[(&str, &str)]) -> Letter {
        Letter {
            id: 7,
            parked_at: Timestamp::UNIX_EPOCH,
            role: "router".to_owned(),
            reason: "undecodable".to_owned(),
            headers: headers
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            body: Bytes::new(),
        }
    }

    #[test]
    fn what_a_stream_would_obey_does_not_go_back() {
        let letter = letter(&[
            ("Nats-Msg-Id", "dlq router x"),
            ("Voicebus-Original-Subject", "voice.in.1.CA1.ringing"),
            ("Voicebus-Original-Nats-Msg-Id", "ev_1"),
            ("Voicebus-Original-Nats-Expected-Last-Sequence", "4"),
            ("Voicebus-Original-Voicebus-Redrive", "dlq router y"),
            ("Voicebus-Original-traceparent", "00-1-2-01"),
        ]);
        let headers = original_headers(&letter);
        assert_eq!(headers.len(), 1);
        assert_eq!(header(&headers, "traceparent"), Some("00-1-2-01"));
        assert_eq!(letter.name(), "dlq router x");
        assert_eq!(letter.subject(), Some("voice.in.1.CA1.ringing"));
    }

    #[test]
    fn what_is_not_redriven_says_what_to_do() {
        let say = |subject: Option<&str>| {
            Error::NotAnInput {
                subject: subject.map(str::to_owned),
            }
            .to_string()
        };
        assert!(say(Some("voice.cmd.dial.x")).contains("`voicebus call`"));
        assert!(say(Some("/call-event")).contains("send the request again"));
        assert!(say(None).contains("does not say"));
    }
}
