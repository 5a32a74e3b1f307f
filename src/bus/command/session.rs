//! Commands about sessions: link a number to a session.

use std::time::Duration;

use super::{Error, json};
use crate::bus::Bus;
use crate::bus::envelope::{LinkRequest, Outcome};
use crate::domain::command::Verb;
use crate::domain::ids::IntentId;

impl Bus {
    /// Stores that a number is linked to a session, or (without a session) no longer is, and waits
    /// for the outcome.
    ///
    /// # Errors
    /// See [`enum@Error`].
    pub async fn link(
        &self,
        id: &IntentId,
        request: &LinkRequest,
        wait: Duration,
    ) -> Result<Outcome, Error> {
        let verb = match request.session {
            Some(_) => Verb::Link,
            None => Verb::Unlink,
        };
        let command = self.store_command(verb, id.as_str(), id, json(request)?);
        self.submit(id, wait, command).await
    }
}
