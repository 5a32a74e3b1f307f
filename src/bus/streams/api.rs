//! The server's JetStream API as raw JSON requests; the reason is in the parent's documentation.

use std::fmt;
use std::time::Duration;

use async_nats::jetstream::Context;
use serde_json::{Value, json};

use super::{Error, Kind, Object};

/// A request waits through a reconnection, so it has its own end. Creating a replicated stream elects a leader
/// first, which takes a second or two.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

const STREAM_NAME_TAKEN: u64 = 10058;
const CONSUMER_EXISTS: u64 = 10148;
const STREAM_NOT_FOUND: u64 = 10059;
const CONSUMER_NOT_FOUND: u64 = 10014;

/// An answer of the server.
pub(super) enum Reply {
    /// The object as it is after the request: `config`, `state`, `created` and so on.
    Done(Value),
    Refused(Refusal),
}

/// The server's reason for saying no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    code: u64,
    description: String,
}

impl Refusal {
    /// Somebody created it since it was looked for.
    pub(super) fn is_name_taken(&self) -> bool {
        matches!(self.code, STREAM_NAME_TAKEN | CONSUMER_EXISTS)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.description, self.code)
    }
}

/// `None` when there is no such object, or no such stream for a consumer.
pub(super) async fn info(jetstream: &Context, object: &Object) -> Result<Option<Value>, Error> {
    let stream = object.stream_name();
    let subject = match object.kind {
        Kind::Consumer => format!("CONSUMER.INFO.{stream}.{}", object.name),
        Kind::Stream | Kind::Bucket => format!("STREAM.INFO.{stream}"),
    };
    match request(jetstream, "look up", object, subject, &json!({})).await? {
        Reply::Done(info) => Ok(Some(info)),
        Reply::Refused(refusal)
            if matches!(refusal.code, STREAM_NOT_FOUND | CONSUMER_NOT_FOUND) =>
        {
            Ok(None)
        }
        Reply::Refused(refusal) => Err(Error::Refused {
            operation: "look up",
            object: object.clone(),
            refusal,
        }),
    }
}

pub(super) async fn create(
    jetstream: &Context,
    object: &Object,
    config: &Value,
) -> Result<Reply, Error> {
    let (subject, body) = match object.kind {
        Kind::Consumer => (
            consumer_subject(object, config),
            consumer_body(object, config, "create"),
        ),
        Kind::Stream | Kind::Bucket => (
            format!("STREAM.CREATE.{}", object.stream_name()),
            config.clone(),
        ),
    };
    request(jetstream, "create", object, subject, &body).await
}

pub(super) async fn update(
    jetstream: &Context,
    object: &Object,
    config: &Value,
) -> Result<Reply, Error> {
    let (subject, body) = match object.kind {
        Kind::Consumer => (
            consumer_subject(object, config),
            consumer_body(object, config, "update"),
        ),
        Kind::Stream | Kind::Bucket => (
            format!("STREAM.UPDATE.{}", object.stream_name()),
            config.clone(),
        ),
    };
    request(jetstream, "update", object, subject, &body).await
}

/// A single filter is part of the subject, so that permissions can speak of it.
fn consumer_subject(object: &Object, config: &Value) -> String {
    let plain = format!("CONSUMER.CREATE.{}.{}", object.stream_name(), object.name);
    match config["filter_subject"].as_str() {
        Some(filter) => format!("{plain}.{filter}"),
        None => plain,
    }
}

fn consumer_body(object: &Object, config: &Value, action: &str) -> Value {
    json!({ "stream_name": object.stream_name(), "config": config, "action": action })
}

async fn request(
    jetstream: &Context,
    operation: &'static str,
    object: &Object,
    subject: String,
    body: &Value,
) -> Result<Reply, Error> {
    use async_nats::jetstream::context::RequestErrorKind;

    let failed = |reason: &str| Error::Request {
        operation,
        object: object.clone(),
        reason: reason.to_owned(),
    };
    // A denied permission arrives as silence: the server tells the connection, not the request.
    const SILENCE: &str = "no answer in time (a missing permission looks the same)";
    let answer = tokio::time::timeout(
        REQUEST_TIMEOUT,
        jetstream.request::<_, _, Value>(subject, body),
    )
    .await;
    let reply = match answer {
        Err(_) => return Err(failed(SILENCE)),
        Ok(Err(error)) => {
            return Err(match error.kind() {
                RequestErrorKind::TimedOut => failed(SILENCE),
                RequestErrorKind::NoResponders => failed("JetStream is not enabled on this server"),
                RequestErrorKind::InvalidSubject | RequestErrorKind::Other => {
                    failed(&error.to_string())
                }
            });
        }
        Ok(Ok(reply)) => reply,
    };
    Ok(match reply.get("error") {
        None => Reply::Done(reply),
        Some(error) => Reply::Refused(Refusal {
            code: error["err_code"]
                .as_u64()
                .or_else(|| error["code"].as_u64())
                .unwrap_or(0),
            description: error["description"]
                .as_str()
                .unwrap_or("no description")
                .to_owned(),
        }),
    })
}
