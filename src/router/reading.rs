//! Reading inputs.

use crate::bus::consume::Delivery;
use crate::bus::envelope::{self, decode_input, decode_timer};
use crate::bus::subjects;
use crate::domain::input::{Input, Position};

/// The input that a message of VOICE_IN holds, and its trace. `position` must be the message's own:
/// a timer is named after it.
///
/// A timer is told by its subject, on which the server writes what fires, and an operator what had
/// its chance already; no source of inputs may.
pub(super) fn read(
    delivery: &Delivery,
    position: Position,
) -> Result<(Input, Option<String>), envelope::Error> {
    let timer = subjects::is_timer(&delivery.subject)
        .then(|| subjects::call_of_input(&delivery.subject))
        .flatten();
    match timer {
        Some(call) => {
            let input = decode_timer(&delivery.payload, call, position, delivery.stored_at)?;
            Ok((input, None))
        }
        None => decode_input(&delivery.payload, position),
    }
}
