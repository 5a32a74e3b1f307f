//! One name, one dial: the first command of an intent stands. Whoever asks for another call under
//! the same name learns of it at once, whether or not an egress runs: the stream keeps commands for
//! days, takes one to an intent by this way, and shows it to whoever knows the intent.

use std::time::Duration;

use async_nats::header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE;
use async_nats::jetstream::stream::DirectGetErrorKind;
use tokio::time::Instant;

use super::{Error, json};
use crate::bus::envelope::DialRequest;
use crate::bus::publish::{self, Message, PUBLISH_TIMEOUT};
use crate::bus::{Bus, subjects};
use crate::domain::command::Verb;
use crate::domain::ids::IntentId;

/// Pause before a command is looked for again that is stored and not to be seen yet: another
/// replica has it, or it is on its way.
const LOOK_PAUSE: Duration = Duration::from_millis(20);

/// Stands for the fingerprint of a command that cannot be read. No call has it.
const OF_NO_CALL: &str = "";

impl Bus {
    /// Stores the command of a dial, unless the stream has one of this intent. Says whether it was
    /// there already.
    ///
    /// # Errors
    /// [`Error::Conflict`] when the one that is there asks for another call.
    pub(super) async fn store_first(
        &self,
        intent: &IntentId,
        request: &DialRequest,
    ) -> Result<bool, Error> {
        let expects_none = (
            NATS_EXPECTED_LAST_SUBJECT_SEQUENCE.to_string(),
            "0".to_owned(),
        );
        let message = Message {
            subject: subjects::command(Verb::Dial, intent.as_str()),
            id: format!("dial {intent}"),
            headers: vec![expects_none],
            payload: json(request)?,
        };
        let deadline = Instant::now() + PUBLISH_TIMEOUT;
        loop {
            let refused = match self.store_message(&message).await {
                Ok(stored) => return Ok(stored.duplicate),
                Err(error @ publish::Error::Conflict { .. }) => error,
                Err(error) => return Err(error.into()),
            };
            match self.first_fingerprint(intent).await? {
                Some(first) if first == request.fingerprint() => return Ok(true),
                Some(_) => return Err(Error::Conflict),
                None if Instant::now() >= deadline => return Err(refused.into()),
                None => tokio::time::sleep(LOOK_PAUSE).await,
            }
        }
    }

    /// What the command of an intent asks for, as [`DialRequest::fingerprint`] has it; `None` when
    /// there is none.
    ///
    /// # Errors
    /// [`Error::Read`].
    pub(super) async fn first_fingerprint(
        &self,
        intent: &IntentId,
    ) -> Result<Option<String>, Error> {
        let unread = |error: &dyn std::fmt::Display| Error::Read(error.to_string());
        let jetstream = self.connection().jetstream();
        let stream = jetstream.get_stream_no_info(subjects::STREAM_CMD).await;
        let stream = stream.map_err(|error| unread(&error))?;
        let subject = subjects::command(Verb::Dial, intent.as_str());
        let found = stream.direct_get_last_for_subject(subject);
        let found = match tokio::time::timeout(PUBLISH_TIMEOUT, found).await {
            Err(_elapsed) => return Err(unread(&"no answer in time")),
            Ok(Ok(message)) => message,
            Ok(Err(error)) if error.kind() == DirectGetErrorKind::NotFound => return Ok(None),
            Ok(Err(error)) => return Err(unread(&error)),
        };
        let first = DialRequest::decode(&found.payload);
        Ok(Some(first.map_or_else(
            |_unreadable| OF_NO_CALL.to_owned(),
            |first| first.fingerprint(),
        )))
    }
}
