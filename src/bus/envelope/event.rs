//! The public feed: CloudEvents 1.0 in structured JSON. What happened stands under the name of its
//! kind, and beside it a snapshot of the call (or command), which is all its state.

mod progress;
mod snapshot;
mod transcript;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::link::LinkData;
use super::{Error, from_bytes, to_bytes};
use crate::domain::Timestamp;
use crate::domain::call::{CommandLog, Log};
use crate::domain::event::{Change, Event};
use crate::domain::input::AudioMark;

pub use snapshot::{CallSnapshot, CommandSnapshot, CompletedSnapshot};
pub use transcript::{
    Conversation, ConversationHole, ConversationUtterance, Transcript, decode_spoken,
};

const WHAT: &str = "event";

/// The header with the router's own bookkeeping. It is not for subscribers.
pub const PROGRESS_HEADER: &str = "Voicebus-Progress";

/// `dataschema` of every event; its last part counts up when a field changes its meaning.
const SCHEMA: &str = "urn:voicebus:event:1";

/// One event as subscribers read it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EventEnvelope {
    /// Always `1.0`.
    pub specversion: String,
    /// Derived from the input: the same event always has the same id.
    pub id: String,
    /// Always `/voicebus/router`.
    pub source: String,
    /// `openclaw.voice.<kind>.<action>`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The call; for `command.*` the command.
    pub subject: String,
    /// When it happened, as far as known.
    pub time: Timestamp,
    /// Always `application/json`.
    pub datacontenttype: String,
    /// Names this schema.
    pub dataschema: String,
    /// Number of the event within its subject, from 1, without a hole.
    pub sequence: u64,
    /// The OpenClaw session that the call belongs to.
    pub sessionkey: String,
    /// The same as `subject`.
    pub partitionkey: String,
    /// W3C trace context: the sender's, else derived from the id.
    pub traceparent: String,
    /// What happened.
    pub data: EventData,
}

/// What happened, under the name of its kind, and the state after it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct EventData {
    /// For `transcript.{user,agent,system}`: what was said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transcript: Option<Transcript>,
    /// For `transcript.completed`: all that was said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conversation: Option<Conversation>,
    /// For `session.rebound`: from where to where.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<Rebound>,
    /// For `session.linked` and `session.unlinked`: whose calls go where.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<LinkData>,
    /// For `context.injected`: what the call was given to know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<Box<RawValue>>,
    /// For `context.injected`: whether the conversation that is going on was told, certainly. Else
    /// only those know who read this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub live: Option<bool>,
    /// For `error.occurred`: what could not be used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorData>,
    /// The call after the event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<CallSnapshot>,
    /// The command after the event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<CommandSnapshot>,
}

/// From which session to which.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Rebound {
    /// The session the call was in.
    pub from: String,
    /// The session it is in.
    pub to: String,
}

/// What could not be used.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ErrorData {
    /// A stable word for programs.
    pub code: String,
    /// A sentence for people.
    pub message: String,
    /// The number of the dead letter in VOICE_DLQ; `voicebus dlq show` takes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub letter: Option<u64>,
}

/// Writes an event: the body for everybody, and the router's bookkeeping for a header.
///
/// # Errors
/// When the whole is larger than a message may be.
pub fn encode_event(event: &Event, traceparent: Option<&str>) -> Result<(Bytes, String), Error> {
    let (kind, action) = event.kind_and_action();
    let mut data = EventData::default();
    match &event.change {
        Change::Said(said) => data.transcript = Some(transcript::one(said)),
        Change::Completed(conversation) => {
            data.conversation = Some(transcript::whole(conversation)?);
        }
        Change::Rebound { from } => {
            data.session = Some(Rebound {
                from: from.to_string(),
                to: event.log.session().to_string(),
            });
        }
        Change::Error { code, text, letter } => {
            data.error = Some(ErrorData {
                code: code.clone(),
                message: text.clone(),
                letter: Some(*letter),
            });
        }
        Change::Context(context) => {
            data.live = Some(context.live);
            let context = RawValue::from_string(context.json.clone());
            data.context = Some(context.map_err(|error| Error::json(WHAT, &error))?);
        }
        Change::Linked(link) => data.link = Some(LinkData::of(link)),
        Change::Initiated
        | Change::Ringing
        | Change::Answered
        | Change::Ended
        | Change::Failed
        | Change::Audio(AudioMark::Received | AudioMark::Sent)
        | Change::Command => {}
    }
    match &event.log {
        Log::Call(call) => data.call = Some(CallSnapshot::from_call(call)),
        Log::Command(log) => data.command = Some(CommandSnapshot::from_report(&log.report)),
    }
    let progress = event.log.progress();
    let envelope = EventEnvelope {
        specversion: "1.0".to_owned(),
        id: event.id.to_string(),
        source: "/voicebus/router".to_owned(),
        kind: format!("openclaw.voice.{kind}.{action}"),
        subject: event.log.id().to_owned(),
        time: event.time,
        datacontenttype: "application/json".to_owned(),
        dataschema: SCHEMA.to_owned(),
        sequence: progress.sequence,
        sessionkey: event.log.session().to_string(),
        partitionkey: event.log.id().to_owned(),
        traceparent: traceparent
            .map_or_else(|| derived_traceparent(event.id.as_str()), str::to_owned),
        data,
    };
    Ok((to_bytes(WHAT, &envelope)?, progress::write(progress)))
}

/// Reads the log that an event carries.
///
/// # Errors
/// When body or bookkeeping are not what a router of this version or an older one has written.
pub fn decode_event(bytes: &[u8], progress: Option<&str>) -> Result<Log, Error> {
    let envelope: EventEnvelope = from_bytes(WHAT, bytes)?;
    let progress = progress::read(envelope.sequence, progress.unwrap_or_default())?;
    match (&envelope.data.call, &envelope.data.command) {
        (Some(call), None) => Ok(Log::Call(call.to_call(progress)?)),
        (None, Some(command)) => Ok(Log::Command(CommandLog {
            progress,
            report: command.to_report()?,
            at: envelope.time,
        })),
        _ => Err(Error::Field {
            what: WHAT,
            field: "data",
            reason: "holds no call and no command".to_owned(),
        }),
    }
}

/// A trace context for an event whose sender gave none: not random, so that the same event always
/// gives the same bytes.
fn derived_traceparent(id: &str) -> String {
    let hex: String = Sha256::digest(id)
        .iter()
        .take(24)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let (trace, span) = hex.split_at(32);
    format!("00-{trace}-{span}-01")
}

#[cfg(test)]
mod tests;
