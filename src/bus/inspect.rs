//! How full the streams are and how far their consumers have come, for people who want to know
//! whether all is well. Needs no more than the right to look up.

use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};
use thiserror::Error;

use super::connection::REQUEST_TIMEOUT;
use super::{Connection, subjects};

/// How the server says that a stream is not there.
const STREAM_NOT_FOUND: u64 = 10059;

/// What is in a stream.
#[derive(Debug, Clone, Serialize)]
pub struct StreamState {
    /// Messages in it, canaries not counted.
    pub messages: u64,
    /// Bytes in it.
    pub bytes: u64,
    /// Bytes it takes at most, if there is a limit.
    pub bytes_max: Option<u64>,
    /// Copies of it.
    pub replicas: u8,
}

/// How far a consumer has come.
#[derive(Debug, Clone, Serialize)]
pub struct ConsumerState {
    /// Its name.
    pub name: String,
    /// Messages that were not delivered yet.
    pub pending: u64,
    /// Messages that were delivered and not acknowledged yet.
    pub unacknowledged: u64,
    /// Messages among these that were delivered more than once.
    pub redelivered: u64,
    /// Pull requests that wait for a message: 0 when nobody works here, or all are at work.
    pub waiting: u64,
}

/// Why nothing can be said.
#[derive(Debug, Error)]
#[error("cannot look up {what}: {reason}")]
pub struct Error {
    what: String,
    reason: String,
}

/// Looks up a stream; `None` when it is not there.
///
/// # Errors
/// When the server does not answer, or refuses.
pub async fn stream(connection: &Connection, name: &str) -> Result<Option<StreamState>, Error> {
    let what = format!("stream {name}");
    let body = json!({ "subjects_filter": subjects::canary(name) });
    let info = request(connection, &what, format!("STREAM.INFO.{name}"), body).await?;
    Ok(info.map(|info| StreamState {
        messages: without_canaries(&info, name),
        bytes: number(&info["state"]["bytes"]),
        bytes_max: info["config"]["max_bytes"].as_u64().filter(|max| *max > 0),
        replicas: u8::try_from(number(&info["config"]["num_replicas"])).unwrap_or(1),
    }))
}

/// Looks up all consumers of a stream.
///
/// # Errors
/// When the stream is not there, the server does not answer, or refuses.
pub async fn consumers(connection: &Connection, stream: &str) -> Result<Vec<ConsumerState>, Error> {
    let what = format!("the consumers of {stream}");
    let mut found = Vec::new();
    loop {
        let subject = format!("CONSUMER.LIST.{stream}");
        let body = json!({ "offset": found.len() });
        let Some(page) = request(connection, &what, subject, body).await? else {
            let reason = "the stream is not there".to_owned();
            return Err(Error { what, reason });
        };
        let consumers = page["consumers"].as_array().map_or(&[][..], Vec::as_slice);
        found.extend(consumers.iter().map(consumer));
        if consumers.is_empty() || found.len() as u64 >= number(&page["total"]) {
            return Ok(found);
        }
    }
}

fn consumer(info: &Value) -> ConsumerState {
    ConsumerState {
        name: info["name"].as_str().unwrap_or_default().to_owned(),
        pending: number(&info["num_pending"]),
        unacknowledged: number(&info["num_ack_pending"]),
        redelivered: number(&info["num_redelivered"]),
        waiting: number(&info["num_waiting"]),
    }
}

/// How many messages a stream has that was looked up with the subject of its canaries as filter.
pub(super) fn without_canaries(info: &Value, stream: &str) -> u64 {
    let canaries = number(&info["state"]["subjects"][subjects::canary(stream)]);
    number(&info["state"]["messages"]).saturating_sub(canaries)
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_default()
}

async fn request(
    connection: &Connection,
    what: &str,
    subject: String,
    body: Value,
) -> Result<Option<Value>, Error> {
    let failed = |reason: String| Error {
        what: what.to_owned(),
        reason,
    };
    let answer = tokio::time::timeout(
        REQUEST_TIMEOUT + Duration::from_millis(500),
        connection
            .jetstream()
            .request::<_, _, Value>(subject, &body),
    );
    let reply = match answer.await {
        Err(_elapsed) => {
            let reason = "no answer in time (a missing permission looks the same)";
            return Err(failed(reason.to_owned()));
        }
        Ok(Err(error)) => return Err(failed(error.kind().to_string())),
        Ok(Ok(reply)) => reply,
    };
    match reply.get("error") {
        None => Ok(Some(reply)),
        Some(error) if error["err_code"].as_u64() == Some(STREAM_NOT_FOUND) => Ok(None),
        Some(error) => {
            let reason = error["description"].as_str().unwrap_or("refused");
            Err(failed(reason.to_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canaries_are_not_counted() {
        let info = |subjects: Value| json!({ "state": { "messages": 7, "subjects": subjects } });
        let with = info(json!({ "voicebus.canary.VOICE_DLQ": 2 }));
        assert_eq!(without_canaries(&with, "VOICE_DLQ"), 5);
        assert_eq!(without_canaries(&info(Value::Null), "VOICE_DLQ"), 7);
    }
}
