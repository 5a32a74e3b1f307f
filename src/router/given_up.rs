//! Inputs that the server has given up: they become dead letters like any other that nobody could
//! use.

use tracing::debug;

use super::burial::{Burial, ROLE, Turn, had_effect, position};
use super::reading::read;
use crate::bus::advisory::GivenUp;
use crate::bus::consume::Delivery;
use crate::bus::log::Error as LogError;
use crate::bus::subjects;
use crate::bus::trouble::Trouble;
use crate::domain::Rejection;

#[derive(Clone)]
pub(super) struct GivenUpInputs(pub Burial);

impl GivenUp for GivenUpInputs {
    const STREAM: &'static str = subjects::STREAM_IN;
    const ROLE: &'static str = ROLE;

    fn is_ours(&self, consumer: &str) -> bool {
        subjects::is_partition_consumer(consumer)
    }

    async fn bury(
        &self,
        delivery: &Delivery,
        code: &'static str,
        reason: &str,
    ) -> Result<(), Trouble> {
        // Only its acknowledgement may have been lost.
        if let Ok((input, _)) = read(delivery, position(delivery)) {
            match self.0.bus.load_from_leader(input.call.as_str()).await {
                Ok(loaded) if had_effect(loaded.log.as_ref(), &input) => {
                    let stream_sequence = delivery.stream_sequence;
                    debug!(stream_sequence, "input was given up after its effect");
                    return Ok(());
                }
                Ok(_) | Err(LogError::Unreadable { .. }) => {}
                Err(error @ LogError::Away { .. }) => return Err(error.into()),
            }
        }
        let rejection = Rejection {
            code,
            text: reason.to_owned(),
        };
        self.0.bury(delivery, &rejection, Turn::None).await?;
        Ok(())
    }
}
