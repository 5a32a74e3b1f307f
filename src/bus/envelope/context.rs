//! `voice.cmd.context.<call>`: give a call something to know.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::command::CONTEXT_LENGTH_MAX;
use super::{Error, field, from_bytes};
use crate::domain::ids::{AgentId, SessionKey};

const WHAT: &str = "context";

/// Give a call something to know. Unknown fields are refused.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContextRequest {
    /// The command's own id; made of its place in the stream when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// A JSON object.
    pub context: Box<RawValue>,
    /// The session that the call must be in, so that no other call learns of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
}

impl ContextRequest {
    /// Reads a request.
    ///
    /// # Errors
    /// When it is not JSON of this form, or its context is no object or too long.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let request: Self = from_bytes(WHAT, bytes)?;
        request.check()?;
        Ok(request)
    }

    /// Whether the context is an object of bounded size.
    ///
    /// # Errors
    /// When it is not.
    pub fn check(&self) -> Result<(), Error> {
        let text = self.context.get();
        if text.starts_with('{') && text.len() <= CONTEXT_LENGTH_MAX {
            return Ok(());
        }
        Err(Error::Field {
            what: WHAT,
            field: "context",
            reason: format!("must be an object of at most {CONTEXT_LENGTH_MAX} bytes"),
        })
    }

    /// The session that the call must be in, if one is named.
    ///
    /// # Errors
    /// When it cannot be one.
    pub fn session(&self, agent: &AgentId) -> Result<Option<SessionKey>, Error> {
        self.session
            .as_deref()
            .map(|text| field(WHAT, "session", SessionKey::parse(text, agent)))
            .transpose()
    }
}
