//! The public feed: CloudEvents 1.0 in structured JSON. What happened stands under the name of its
//! kind, and beside it a snapshot of the call (or command), which is all its state.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::input::session_key;
use super::{Error, field, from_bytes, to_bytes, word};
use crate::domain::Timestamp;
use crate::domain::call::{Call, CommandLog, Log, Phase, Progress};
use crate::domain::command::{Reason, Report, Status, Verb};
use crate::domain::event::{Change, Event, Said};
use crate::domain::ids::{CallId, IntentId};
use crate::domain::input::{AudioMark, Direction, End, EndReason, Position};
use crate::domain::phone::E164;
use crate::domain::session::{Binding, Rule};

const WHAT: &str = "event";

/// The header with the router's own bookkeeping: `<version> <epoch> <input sequence>
/// <fingerprint>…`. It is not for subscribers.
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
    /// For `transcript.*`: what was said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transcript: Option<Transcript>,
    /// For `session.rebound`: from where to where.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<Rebound>,
    /// For `context.injected`: what the call was given to know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<Box<RawValue>>,
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

/// What was said.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Transcript {
    /// `user`, `agent` or `system`.
    pub speaker: String,
    /// The sender's own word for the speaker.
    pub label: String,
    /// What was said, unaltered.
    pub text: String,
    /// When, by the sender's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spoken_at: Option<Timestamp>,
    /// How sure the recogniser is, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confidence: Option<f64>,
    /// The sender's own number for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_sequence: Option<u64>,
    /// Whether it came after the end of the call.
    pub after_end: bool,
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

/// A call as it stands.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CallSnapshot {
    /// Its id at the phone-call server.
    pub id: String,
    /// `unknown`, `initiated`, `ringing`, `active` or `ended`.
    pub state: String,
    /// `inbound` or `outbound`, once known.
    #[serde(default)]
    pub direction: Option<String>,
    /// The other end's number in E.164, if it has one.
    #[serde(default)]
    pub number: Option<String>,
    /// Its session.
    pub session: String,
    /// Why it is in that session.
    pub session_rule: String,
    /// The command that made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intent: Option<String>,
    /// The other id of the same call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub other_leg: Option<String>,
    /// When it began.
    #[serde(default)]
    pub initiated_at: Option<Timestamp>,
    /// When the other end picked up.
    #[serde(default)]
    pub answered_at: Option<Timestamp>,
    /// When it ended.
    #[serde(default)]
    pub ended_at: Option<Timestamp>,
    /// Why it ended.
    #[serde(default)]
    pub end_reason: Option<String>,
    /// The sender's own word for the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_detail: Option<String>,
    /// Utterances so far.
    pub utterances: u64,
}

/// A command as it stands.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CommandSnapshot {
    /// Its id.
    pub id: String,
    /// `dial` or `hangup`.
    pub verb: String,
    /// `accepted`, `confirmed`, `refused`, `cancelled`, `expired` or `unknown`.
    pub status: String,
    /// The session it names.
    pub session: String,
    /// The number it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// The call it is about, once known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<String>,
    /// Why it was not confirmed: a stable word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// Why it was not confirmed: a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl CommandSnapshot {
    pub(super) fn from_report(report: &Report) -> Self {
        Self {
            id: report.intent.to_string(),
            verb: report.verb.as_str().to_owned(),
            status: report.status.as_str().to_owned(),
            session: report.session.to_string(),
            to: report.to.as_ref().map(ToString::to_string),
            call: report.call.as_ref().map(ToString::to_string),
            code: report.reason.as_ref().map(|reason| reason.code.clone()),
            reason: report.reason.as_ref().map(|reason| reason.text.clone()),
        }
    }

    /// The command's report.
    ///
    /// # Errors
    /// When a field cannot be used.
    pub fn to_report(&self) -> Result<Report, Error> {
        Ok(Report {
            intent: field(WHAT, "command.id", IntentId::parse(&self.id))?,
            verb: word(WHAT, "command.verb", Verb::parse(&self.verb))?,
            session: session_key(WHAT, &self.session)?,
            to: self
                .to
                .as_deref()
                .map(|to| field(WHAT, "command.to", E164::parse(to)))
                .transpose()?,
            call: self
                .call
                .as_deref()
                .map(|call| field(WHAT, "command.call", CallId::parse(call)))
                .transpose()?,
            status: word(WHAT, "command.status", Status::parse(&self.status))?,
            reason: match (&self.code, &self.reason) {
                (Some(code), Some(text)) => Some(Reason {
                    code: code.clone(),
                    text: text.clone(),
                }),
                _ => None,
            },
        })
    }
}

impl CallSnapshot {
    fn from_call(call: &Call) -> Self {
        Self {
            id: call.id.to_string(),
            state: call.phase.as_str().to_owned(),
            direction: call
                .direction
                .map(|direction| direction.as_str().to_owned()),
            number: call.number.as_ref().map(ToString::to_string),
            session: call.binding.key.to_string(),
            session_rule: call.binding.rule.as_str().to_owned(),
            intent: call.intent.as_ref().map(ToString::to_string),
            other_leg: call.other_leg.as_ref().map(ToString::to_string),
            initiated_at: call.initiated_at,
            answered_at: call.answered_at,
            ended_at: call.end.as_ref().map(|(at, _)| *at),
            end_reason: call
                .end
                .as_ref()
                .map(|(_, end)| end.reason.as_str().to_owned()),
            end_detail: call.end.as_ref().and_then(|(_, end)| end.detail.clone()),
            utterances: call.utterances,
        }
    }

    fn to_call(&self, progress: Progress) -> Result<Call, Error> {
        let reason = self.end_reason.as_deref();
        let end = match (self.ended_at, reason) {
            (Some(at), Some(reason)) => {
                let reason = word(WHAT, "call.end_reason", EndReason::parse(reason))?;
                Some((
                    at,
                    End {
                        reason,
                        detail: self.end_detail.clone(),
                    },
                ))
            }
            _ => None,
        };
        let id = |name, text: &Option<String>| {
            text.as_deref()
                .map(|text| field(WHAT, name, CallId::parse(text)))
                .transpose()
        };
        Ok(Call {
            id: field(WHAT, "call.id", CallId::parse(&self.id))?,
            progress,
            phase: word(WHAT, "call.state", Phase::parse(&self.state))?,
            direction: self
                .direction
                .as_deref()
                .map(|text| word(WHAT, "call.direction", Direction::parse(text)))
                .transpose()?,
            number: self
                .number
                .as_deref()
                .map(|text| field(WHAT, "call.number", E164::parse(text)))
                .transpose()?,
            binding: Binding {
                key: session_key(WHAT, &self.session)?,
                rule: word(WHAT, "call.session_rule", Rule::parse(&self.session_rule))?,
            },
            intent: self
                .intent
                .as_deref()
                .map(|text| field(WHAT, "call.intent", IntentId::parse(text)))
                .transpose()?,
            other_leg: id("call.other_leg", &self.other_leg)?,
            initiated_at: self.initiated_at,
            answered_at: self.answered_at,
            end,
            utterances: self.utterances,
        })
    }
}

/// Writes an event: the body for everybody, and the router's bookkeeping for a header.
///
/// # Errors
/// When the whole is larger than a message may be.
pub fn encode_event(event: &Event, traceparent: Option<&str>) -> Result<(Bytes, String), Error> {
    let (kind, action) = event.kind_and_action();
    let mut data = EventData::default();
    match &event.change {
        Change::Said(said) => data.transcript = Some(transcript(said)),
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
        Change::Context(text) => {
            let context = RawValue::from_string(text.clone());
            data.context = Some(context.map_err(|source| Error::Json { what: WHAT, source })?);
        }
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
    Ok((to_bytes(WHAT, &envelope)?, progress_header(progress)))
}

/// Reads the log that an event carries.
///
/// # Errors
/// When body or bookkeeping are not what a router of this version or an older one has written.
pub fn decode_event(bytes: &[u8], progress: Option<&str>) -> Result<Log, Error> {
    let envelope: EventEnvelope = from_bytes(WHAT, bytes)?;
    let progress = parse_progress(envelope.sequence, progress.unwrap_or_default())?;
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

fn transcript(said: &Said) -> Transcript {
    Transcript {
        speaker: said.utterance.speaker.as_str().to_owned(),
        label: said.utterance.speaker_label.clone(),
        text: said.utterance.text.clone(),
        spoken_at: said.utterance.spoken_at,
        confidence: said.utterance.confidence,
        source_sequence: said.source_sequence,
        after_end: said.after_end,
    }
}

fn progress_header(progress: &Progress) -> String {
    let Position { epoch, sequence } = progress.position;
    let mut header = format!("1 {epoch} {sequence}");
    for fingerprint in progress.recent() {
        header.push_str(&format!(" {fingerprint:x}"));
    }
    header
}

fn parse_progress(sequence: u64, header: &str) -> Result<Progress, Error> {
    let bad = || Error::Field {
        what: WHAT,
        field: PROGRESS_HEADER,
        reason: "not a progress header".to_owned(),
    };
    let mut words = header.split(' ');
    if words.next() != Some("1") {
        return Err(bad());
    }
    let epoch = words
        .next()
        .and_then(|word| word.parse().ok())
        .ok_or_else(bad)?;
    let input = words
        .next()
        .and_then(|word| word.parse().ok())
        .ok_or_else(bad)?;
    let recent: Option<Vec<u64>> = words
        .map(|word| u64::from_str_radix(word, 16).ok())
        .collect();
    Ok(Progress::restore(
        sequence,
        Position {
            epoch,
            sequence: input,
        },
        recent.ok_or_else(bad)?,
    ))
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
