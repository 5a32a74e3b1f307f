//! Inputs that cannot be used: into the dead letters, and a word about it into their log.

use std::sync::atomic::Ordering;

use tracing::{error, warn};

use super::{COMMIT_TRIES_MAX, Retry, Worker};
use crate::bus::consume::Delivery;
use crate::bus::dead_letter::DeadLetter;
use crate::bus::log::{Error as LogError, Loaded};
use crate::bus::{envelope, publish, subjects};
use crate::domain::ids::EventId;
use crate::domain::input::{Input, InputKind, Position};
use crate::domain::{Rejection, reject};

impl Worker {
    pub(super) async fn park(
        &self,
        delivery: &Delivery,
        rejection: &Rejection,
    ) -> Result<(), Retry> {
        warn!(
            stream_sequence = delivery.stream_sequence,
            code = rejection.code,
            reason = %rejection.text,
            "input goes to the dead letters"
        );
        let letter = DeadLetter {
            role: "router",
            code: rejection.code,
            reason: &rejection.text,
            id: &format!("{} {}", self.bus.epoch(), delivery.stream_sequence),
            subject: &delivery.subject,
            attempts: delivery.attempt,
            headers: Some(&delivery.headers),
            payload: delivery.payload.clone(),
        };
        self.bus.park(letter).await?;
        Ok(())
    }

    /// What cannot be read still belongs to the call that its subject names.
    pub(super) async fn bury_undecodable(
        &mut self,
        delivery: &Delivery,
        position: Position,
        error: &envelope::Error,
    ) -> Result<(), Retry> {
        let rejection = Rejection {
            code: "undecodable",
            text: crate::error_chain::Chain(error).to_string(),
        };
        let named = subjects::call_of_input(&delivery.subject);
        let id = EventId::parse(&format!(
            "ev_poison-{}-{}",
            position.epoch, position.sequence
        ));
        let (Some(call), Ok(id)) = (named, id) else {
            self.counters.dead_letters.fetch_add(1, Ordering::Relaxed);
            return self.park(delivery, &rejection).await;
        };
        self.park(delivery, &rejection).await?;
        let input = Input {
            id,
            call,
            position,
            happened_at: None,
            received_at: delivery.stored_at,
            source_sequence: None,
            // Never applied: it only carries the place of what could not be read.
            kind: InputKind::Ringing,
        };
        self.tell_of_error(delivery, &input, &rejection).await
    }

    async fn tell_of_error(
        &mut self,
        delivery: &Delivery,
        input: &Input,
        rejection: &Rejection,
    ) -> Result<(), Retry> {
        let log_id = input.call.as_str();
        let mut loaded = match self.bus.load_from_leader(log_id).await {
            Err(error @ LogError::Unreadable { .. }) => {
                return self.bury_for_log(delivery, &error).await;
            }
            other => other?,
        };
        for _ in 0..COMMIT_TRIES_MAX {
            if loaded
                .log
                .as_ref()
                .is_some_and(|log| log.progress().has(&input.id, input.position))
            {
                return self.settled(loaded, |counters| &counters.duplicate);
            }
            let (event, timers) = reject(loaded.log.as_ref(), input, rejection, &self.policy);
            self.arm(&timers).await?;
            match self.bus.commit(&event, None, loaded.last).await {
                Ok(last) => {
                    return self.settled(
                        Loaded {
                            log: Some(event.log),
                            last,
                        },
                        |counters| &counters.dead_letters,
                    );
                }
                Err(publish::Error::Conflict { .. } | publish::Error::Unclear { .. }) => {
                    loaded = self.bus.load_from_leader(log_id).await?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(Retry(format!(
            "lost {COMMIT_TRIES_MAX} races for the log of {log_id}"
        )))
    }

    /// A log whose last event this program cannot read (a newer router wrote it, or somebody who
    /// should not have) must not be written to: its sequence is unknown.
    pub(super) async fn bury_for_log(
        &self,
        delivery: &Delivery,
        error: &LogError,
    ) -> Result<(), Retry> {
        error!(error = %crate::error_chain::Chain(error), "a log cannot be continued");
        self.counters.dead_letters.fetch_add(1, Ordering::Relaxed);
        let text = crate::error_chain::Chain(error).to_string();
        self.park(
            delivery,
            &Rejection {
                code: "unreadable-log",
                text,
            },
        )
        .await
    }
}
