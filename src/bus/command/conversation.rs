//! Commands about a conversation that is going on: give it something to know, have something said.

use std::time::Duration;

use super::{Error, json};
use crate::bus::Bus;
use crate::bus::envelope::{ContextRequest, Outcome, SayRequest};
use crate::domain::command::Verb;
use crate::domain::ids::{CallId, IntentId};

impl Bus {
    /// Stores that a call is given something to know and waits for the outcome.
    ///
    /// # Errors
    /// See [`enum@Error`].
    pub async fn give_context(
        &self,
        id: &IntentId,
        call: &CallId,
        request: &ContextRequest,
        wait: Duration,
    ) -> Result<Outcome, Error> {
        let request = ContextRequest {
            id: Some(id.to_string()),
            ..request.clone()
        };
        let command = self.store_command(Verb::Context, call.as_str(), id, json(&request)?);
        self.submit(id, wait, command).await
    }

    /// Stores that something is to be said in a call and waits for the outcome.
    ///
    /// # Errors
    /// See [`enum@Error`].
    pub async fn say(
        &self,
        id: &IntentId,
        call: &CallId,
        request: &SayRequest,
        wait: Duration,
    ) -> Result<Outcome, Error> {
        let stored = SayRequest {
            id: Some(id.to_string()),
            call: Some(call.to_string()),
            wait_ms: None,
            ..request.clone()
        };
        let command = self.store_command(Verb::Say, call.as_str(), id, json(&stored)?);
        self.submit(id, wait, command).await
    }
}
