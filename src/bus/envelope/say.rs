//! `voice.cmd.say.<call>`: have the assistant say something.

use chrono::TimeDelta;
use serde::{Deserialize, Serialize};

use super::{Error, field, from_bytes};
use crate::domain::Timestamp;
use crate::domain::command::Say;
use crate::domain::ids::{AgentId, CallId, IntentId, SessionKey};

const WHAT: &str = "say";

/// Longest text, in bytes: some minutes of speech. The tap takes twice as much, which leaves room
/// for how JSON writes quotation marks.
const TEXT_LENGTH_MAX: usize = 4 * 1024;

/// How long a text stays good. What was to be said now is out of place in half a minute.
const DEADLINE: TimeDelta = TimeDelta::seconds(30);

/// Have the assistant say something in a call that is going on. Unknown fields are refused.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SayRequest {
    /// The command's own id; made of its place in the stream when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The call; in a stream the subject's key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<String>,
    /// What to say.
    pub text: String,
    /// The session that the call must be in, so that it is said in no other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// For a service request: how long to wait for the outcome, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_ms: Option<u64>,
}

impl SayRequest {
    /// Reads a request.
    ///
    /// # Errors
    /// When it is not JSON of this form.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        from_bytes(WHAT, bytes)
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

    /// Whether there is something to say, and not too much.
    ///
    /// # Errors
    /// When there is not.
    pub fn check(&self) -> Result<(), Error> {
        if self.text.trim().is_empty() || self.text.len() > TEXT_LENGTH_MAX {
            return Err(Error::Field {
                what: WHAT,
                field: "text",
                reason: format!("must have 1 to {TEXT_LENGTH_MAX} bytes, not only spaces"),
            });
        }
        Ok(())
    }

    /// The domain's command.
    ///
    /// # Errors
    /// When there is nothing to say, or too much, or the session cannot be one.
    pub fn to_say(
        &self,
        id: IntentId,
        call: CallId,
        agent: &AgentId,
        asked_at: Timestamp,
    ) -> Result<Say, Error> {
        self.check()?;
        let session = self
            .session
            .as_deref()
            .map(|text| field(WHAT, "session", SessionKey::parse(text, agent)))
            .transpose()?;
        Ok(Say {
            id,
            call,
            text: self.text.clone(),
            session,
            deadline: asked_at + DEADLINE,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_neither_empty_nor_endless() {
        let say = |text: &str| {
            let request = SayRequest {
                text: text.to_owned(),
                ..SayRequest::default()
            };
            let id = IntentId::parse("i").unwrap();
            let call = CallId::parse("CA1").unwrap();
            let agent = AgentId::parse("main").unwrap();
            request.to_say(id, call, &agent, Timestamp::UNIX_EPOCH)
        };
        for bad in ["", " \n", &"x".repeat(TEXT_LENGTH_MAX + 1)] {
            assert!(say(bad).is_err(), "{} bytes", bad.len());
        }
        for good in ["One moment.", &"x".repeat(TEXT_LENGTH_MAX)] {
            assert_eq!(say(good).unwrap().text, good);
        }
    }
}
