//! A call or a command as it stands after an event.

use serde::{Deserialize, Serialize};

use super::super::input::session_key;
use super::super::{Error, field, word};
use super::WHAT;
use crate::domain::Timestamp;
use crate::domain::call::{Call, Completed, Phase, Progress};
use crate::domain::command::{Reason, Report, Status, Verb};
use crate::domain::ids::{CallId, IntentId};
use crate::domain::input::{Direction, End, EndReason};
use crate::domain::phone::E164;
use crate::domain::session::{Binding, Rule};

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
    /// Those of them that were fetched from the phone-call server's history.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub backfilled: u64,
    /// What `transcript.completed` told last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed: Option<CompletedSnapshot>,
}

/// How far the transcript of a call was completed.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct CompletedSnapshot {
    /// How often it was completed.
    pub revision: u64,
    /// With how many utterances last.
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
    pub(in crate::bus::envelope) fn from_report(report: &Report) -> Self {
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
    pub(super) fn from_call(call: &Call) -> Self {
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
            backfilled: call.backfilled,
            completed: call.completed.map(|completed| CompletedSnapshot {
                revision: completed.revision,
                utterances: completed.utterances,
            }),
        }
    }

    pub(super) fn to_call(&self, progress: Progress) -> Result<Call, Error> {
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
            backfilled: self.backfilled,
            completed: self.completed.map(|completed| Completed {
                revision: completed.revision,
                utterances: completed.utterances,
            }),
        })
    }
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}
