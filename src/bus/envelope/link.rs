//! Links from a number to a session: as they are asked for, as they are told, and as they lie in
//! VOICE_LINK.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::input::session_key;
use super::{Error, field, from_bytes, to_bytes};
use crate::domain::Timestamp;
use crate::domain::ids::{AgentId, SessionKey};
use crate::domain::phone::E164;
use crate::domain::session::Link;

const WHAT: &str = "link";

/// `voice.cmd.link.<id>` and `voice.cmd.unlink.<id>`: put the calls of a number into a session, or
/// leave them to the other rules again. The number stands here and never in the subject.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinkRequest {
    /// Whose calls, in E.164.
    pub number: String,
    /// The session: the whole key, or what follows `agent:<agent>:`. Not for `unlink`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// The agent whose session it is, when `session` does not name one; by default the configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
}

impl LinkRequest {
    /// Reads a request.
    ///
    /// # Errors
    /// When it is not JSON of this form.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        from_bytes(WHAT, bytes)
    }

    /// The number.
    ///
    /// # Errors
    /// When it is none.
    pub fn number(&self) -> Result<E164, Error> {
        let number = field(WHAT, "number", E164::parse(&self.number))?;
        field(WHAT, "number", number.check_plan())?;
        Ok(number)
    }

    /// The session, if one is named.
    ///
    /// # Errors
    /// When it cannot be one.
    pub fn session(&self, agent: &AgentId) -> Result<Option<SessionKey>, Error> {
        let agent = match &self.agent {
            Some(text) => field(WHAT, "agent", AgentId::parse(text))?,
            None => agent.clone(),
        };
        self.session
            .as_deref()
            .map(|text| field(WHAT, "session", SessionKey::parse(text, &agent)))
            .transpose()
    }
}

/// A link as it is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkData {
    /// Whose calls.
    pub number: String,
    /// The session from now on; none when the link was taken away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// The session before, if there was a link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub was: Option<String>,
}

impl LinkData {
    /// What is told of a link.
    #[must_use]
    pub fn of(link: &Link) -> Self {
        Self {
            number: link.number.to_string(),
            to: link.to.as_ref().map(ToString::to_string),
            was: link.was.as_ref().map(ToString::to_string),
        }
    }

    pub(super) fn to_link(&self) -> Result<Link, Error> {
        let session = |text: &Option<String>| {
            text.as_deref()
                .map(|text| session_key(WHAT, text))
                .transpose()
        };
        Ok(Link {
            number: field(WHAT, "number", E164::parse(&self.number))?,
            to: session(&self.to)?,
            was: session(&self.was)?,
        })
    }
}

/// VOICE_LINK: where the calls of one number go. The key is a hash, so the number stands here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkRecord {
    /// Whose calls.
    pub number: String,
    /// The session, with its agent; none when the link was taken away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// Since when.
    pub at: Timestamp,
}

impl LinkRecord {
    /// Writes a record.
    ///
    /// # Errors
    /// When it is larger than a message may be.
    pub fn encode(&self) -> Result<Bytes, Error> {
        to_bytes(WHAT, self)
    }

    /// Reads a record.
    ///
    /// # Errors
    /// When it is not one that voicebus has written.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        from_bytes(WHAT, bytes)
    }

    /// The session of a record. One that cannot be read counts as none: it can only cost a call
    /// its better session, while waiting for it would hold up everybody.
    #[must_use]
    pub fn session(bytes: &[u8]) -> Option<SessionKey> {
        let record = match Self::decode(bytes) {
            Ok(record) => record,
            Err(error) => {
                tracing::error!(%error, "link cannot be read; going on without");
                return None;
            }
        };
        session_key(WHAT, record.session.as_deref()?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_belongs_to_the_agent_that_is_named() {
        let main = AgentId::parse("main").unwrap();
        let session = |json: &str| {
            let request = LinkRequest::decode(json.as_bytes()).unwrap();
            let session = request.session(&main).map_err(|error| error.to_string());
            session.map(|session| session.map_or(String::new(), |key| key.to_string()))
        };
        let of = |json: &str| session(json).unwrap();
        assert_eq!(of(r#"{"number":"+1","session":"Vip"}"#), "agent:main:vip");
        assert_eq!(
            of(r#"{"number":"+1","session":"vip","agent":"Bob"}"#),
            "agent:bob:vip"
        );
        assert_eq!(
            of(r#"{"number":"+1","session":"agent:eve:vip","agent":"bob"}"#),
            "agent:eve:vip"
        );
        assert_eq!(of(r#"{"number":"+1"}"#), "");
        assert!(session(r#"{"number":"+1","session":"a b"}"#).is_err());
        assert!(session(r#"{"number":"+1","session":"x","agent":"a b"}"#).is_err());
    }

    #[test]
    fn a_link_keeps_its_agent_and_one_that_was_taken_away_is_none() {
        let record = |session: Option<&str>| LinkRecord {
            number: "+12015550142".to_owned(),
            session: session.map(str::to_owned),
            at: Timestamp::UNIX_EPOCH,
        };
        let read = |record: &LinkRecord| LinkRecord::session(&record.encode().unwrap());
        let key = read(&record(Some("agent:bob:vip"))).unwrap();
        assert_eq!(key.as_str(), "agent:bob:vip");
        assert_eq!(read(&record(None)), None);
        assert_eq!(LinkRecord::session(b"agent:bob:vip"), None);
    }
}
