//! Commands and their answers as they travel: on `voice.cmd.<verb>.<key>`, as requests to the
//! micro services, and as answers.

use chrono::TimeDelta;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::event::CommandSnapshot;
use super::{Error, field, from_bytes};
use crate::domain::Timestamp;
use crate::domain::command::{Dial, Reason};
use crate::domain::dial::{Resolution, Wish};
use crate::domain::ids::{AgentId, CallId, IntentId, SessionKey};
use crate::domain::phone::E164;

const WHAT: &str = "command";

/// How long a dial command stays good when it names no deadline. Long enough for a server that
/// restarts, short enough that nobody is called about something long past.
pub const DIAL_DEADLINE_DEFAULT: TimeDelta = TimeDelta::minutes(2);

/// How far ahead a deadline may lie. A wish of yesterday is nobody's wish any more.
pub const DIAL_DEADLINE_MAX: TimeDelta = TimeDelta::days(1);

/// Longest opening words, in bytes.
pub const MESSAGE_LENGTH_MAX: usize = 8 * 1024;

/// Longest context, in bytes of JSON.
pub const CONTEXT_LENGTH_MAX: usize = 64 * 1024;

/// `voice.cmd.dial.<intent>` and `voice.svc.dial`: place one call. Unknown fields are refused, so
/// that a misspelt one is not silently left out.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DialRequest {
    /// Names the wish; in a stream the subject's key. A service request without it gets a new one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intent: Option<String>,
    /// Whom to call, in E.164.
    pub to: String,
    /// Which of our numbers to show, in E.164.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caller_id: Option<String>,
    /// What the assistant opens with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// What the call should know: a JSON object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<Box<RawValue>>,
    /// The session of the call; by default the one of the number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// The agent whose session it is, when `session` does not name one; by default the configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// After this instant nothing is dialled any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
    /// For a service request: how long to wait for the outcome, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_ms: Option<u64>,
}

impl DialRequest {
    /// Reads a request.
    ///
    /// # Errors
    /// When it is not JSON of this form.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        from_bytes(WHAT, bytes)
    }

    /// The domain's command.
    ///
    /// # Errors
    /// When a field cannot be used.
    pub fn to_dial(
        &self,
        intent: IntentId,
        agent: &AgentId,
        asked_at: Timestamp,
    ) -> Result<Dial, Error> {
        let to = field(WHAT, "to", E164::parse(&self.to))?;
        field(WHAT, "to", to.check_plan())?;
        let caller_id = self
            .caller_id
            .as_deref()
            .map(|text| field(WHAT, "caller_id", E164::parse(text)))
            .transpose()?;
        if caller_id.as_ref() == Some(&to) {
            return Err(Error::Field {
                what: WHAT,
                field: "to",
                reason: "is the caller id itself".to_owned(),
            });
        }
        if self
            .message
            .as_ref()
            .is_some_and(|message| message.len() > MESSAGE_LENGTH_MAX)
        {
            let reason = format!("is longer than {MESSAGE_LENGTH_MAX} bytes");
            return Err(Error::Field {
                what: WHAT,
                field: "message",
                reason,
            });
        }
        let context = self
            .context
            .as_ref()
            .map(|raw| raw.get())
            .filter(|text| !matches!(*text, "null" | "{}"));
        if context.is_some_and(|text| !text.starts_with('{') || text.len() > CONTEXT_LENGTH_MAX) {
            let reason = format!("must be an object of at most {CONTEXT_LENGTH_MAX} bytes");
            return Err(Error::Field {
                what: WHAT,
                field: "context",
                reason,
            });
        }
        let agent = match &self.agent {
            Some(text) => field(WHAT, "agent", AgentId::parse(text))?,
            None => agent.clone(),
        };
        let session = match &self.session {
            Some(text) => field(WHAT, "session", SessionKey::parse(text, &agent))?,
            None => SessionKey::per_phone(&agent, to.digits()),
        };
        let deadline = self.deadline.unwrap_or(asked_at + DIAL_DEADLINE_DEFAULT);
        if deadline - asked_at > DIAL_DEADLINE_MAX {
            let reason = format!(
                "lies more than {} hours ahead",
                DIAL_DEADLINE_MAX.num_hours()
            );
            return Err(Error::Field {
                what: WHAT,
                field: "deadline",
                reason,
            });
        }
        Ok(Dial {
            intent,
            to,
            caller_id,
            message: self.message.clone(),
            context: context.map(str::to_owned),
            session,
            deadline,
        })
    }

    /// What the record of the dial keeps of it.
    #[must_use]
    pub fn wish(&self, dial: &Dial) -> Wish {
        Wish {
            fingerprint: self.fingerprint(),
            to: dial.to.clone(),
            session: dial.session.clone(),
            deadline: dial.deadline,
        }
    }

    /// SHA-256 of what is to be dialled and said, in hex: the same intent with another one is
    /// another wish. Who asks again with a later deadline asks for the same.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let number = |text: &str| E164::parse(text).map_or(text.to_owned(), |it| it.to_string());
        let context = self.context.as_ref().map(|raw| raw.get());
        let said = serde_json::json!([
            "voicebus dial 1",
            number(&self.to),
            self.caller_id.as_deref().map(number),
            self.message,
            // Spaces between its parts are nobody's wish.
            context.and_then(|text| serde_json::from_str::<serde_json::Value>(text).ok()),
            self.session,
            self.agent,
        ]);
        let digest = Sha256::digest(said.to_string());
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Longest words of a person about a dial, in characters.
const NOTE_LENGTH_MAX: usize = 300;

/// `voice.cmd.resolve.<intent>`: a person says what became of a dial whose outcome is unknown.
/// Exactly one of the two fields is there.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResolveRequest {
    /// It made this call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirmed: Option<String>,
    /// Nothing more will be known; a sentence that says why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub abandoned: Option<String>,
}

impl ResolveRequest {
    /// Reads a request.
    ///
    /// # Errors
    /// When it is not JSON of this form, or says both or neither.
    pub fn decode(bytes: &[u8]) -> Result<Resolution, Error> {
        let request: Self = from_bytes(WHAT, bytes)?;
        match (request.confirmed, request.abandoned) {
            (Some(call), None) => {
                let call = field(WHAT, "confirmed", CallId::parse(&call))?;
                Ok(Resolution::Confirmed(call))
            }
            (None, Some(note)) => {
                let note: String = note.chars().take(NOTE_LENGTH_MAX).collect();
                Ok(Resolution::Abandoned(Reason::new("by-hand", note)))
            }
            (Some(_), Some(_)) | (None, None) => Err(Error::Field {
                what: WHAT,
                field: "confirmed",
                reason: "or `abandoned` must be there, and only one of them".to_owned(),
            }),
        }
    }
}

/// `voice.cmd.hangup.<call>` and `voice.svc.hangup`: end one call.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HangupRequest {
    /// The command's own id; a new one when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The call; in a stream the subject's key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<String>,
    /// The session in which the outcome is told; by default one of the call's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// For a service request: how long to wait for the outcome, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_ms: Option<u64>,
}

impl HangupRequest {
    /// Reads a request; an empty body asks for nothing in particular.
    ///
    /// # Errors
    /// When it is not JSON of this form.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        if bytes.is_empty() {
            Ok(Self::default())
        } else {
            from_bytes(WHAT, bytes)
        }
    }

    /// The call that it is about.
    ///
    /// # Errors
    /// When it names none, or not by an id.
    pub fn call(&self) -> Result<CallId, Error> {
        field(
            WHAT,
            "call",
            CallId::parse(self.call.as_deref().unwrap_or_default()),
        )
    }
}

/// The id in a command about a call that cannot be used otherwise, so that its end can be told.
#[must_use]
pub fn id_in(bytes: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Named {
        id: String,
    }
    Some(serde_json::from_slice::<Named>(bytes).ok()?.id)
}

/// The answer to somebody who waits for a command.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Outcome {
    /// `queued` when the wait was over first; else the status of the command.
    pub status: String,
    /// The command's id; its outcome can be asked for by it.
    pub id: String,
    /// The command as it stands, when there is an outcome.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<CommandSnapshot>,
}

impl Outcome {
    /// The command was stored and nothing is known of it yet.
    #[must_use]
    pub fn queued(id: &IntentId) -> Self {
        Self {
            status: "queued".to_owned(),
            id: id.to_string(),
            command: None,
        }
    }

    /// The command has come to an answer.
    #[must_use]
    pub fn answered(command: CommandSnapshot) -> Self {
        Self {
            status: command.status.clone(),
            id: command.id.clone(),
            command: Some(command),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_is_the_same_whenever_it_is_asked_for_and_however_it_is_written() {
        let of = |json: &str| DialRequest::decode(json.as_bytes()).unwrap().fingerprint();
        let first = of(r#"{"to":"+12015550123","message":"Hi","context":{"a":1,"b":2}}"#);
        for same in [
            r#"{"message":"Hi","to":"+12015550123","context":{"a": 1, "b": 2}}"#,
            r#"{"to":"+12015550123","message":"Hi","context":{"a":1,"b":2},"deadline":"2026-11-22T12:00:00Z","intent":"i","wait_ms":5}"#,
        ] {
            assert_eq!(of(same), first, "{same}");
        }
        for other in [
            r#"{"to":"+12015550124","message":"Hi","context":{"a":1,"b":2}}"#,
            r#"{"to":"+12015550123","message":"Ho","context":{"a":1,"b":2}}"#,
            r#"{"to":"+12015550123","message":"Hi","context":{"a":1,"b":3}}"#,
            r#"{"to":"+12015550123","message":"Hi","context":{"a":1,"b":2},"session":"s"}"#,
            r#"{"to":"+12015550123","message":"Hi","context":{"a":1,"b":2},"caller_id":"+15005550006"}"#,
        ] {
            assert_ne!(of(other), first, "{other}");
        }
    }

    #[test]
    fn a_person_says_one_thing() {
        let of = |json: &str| ResolveRequest::decode(json.as_bytes());
        assert!(matches!(
            of(r#"{"confirmed":"CA1"}"#),
            Ok(Resolution::Confirmed(_))
        ));
        assert!(matches!(
            of(r#"{"abandoned":"asked her"}"#),
            Ok(Resolution::Abandoned(_))
        ));
        for bad in [
            "{}",
            r#"{"confirmed":"CA1","abandoned":"x"}"#,
            r#"{"confirmed":"a.b"}"#,
        ] {
            assert!(of(bad).is_err(), "{bad}");
        }
    }
}
