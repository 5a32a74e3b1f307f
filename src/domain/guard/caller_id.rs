//! The number that the called person sees.

use super::Refusal;
use crate::domain::command::Dial;
use crate::domain::phone::E164;

/// # Errors
/// When a wish would show somebody else's number, or call one of ours.
pub(super) fn check(dial: &Dial, own_numbers: &[E164]) -> Result<(), Refusal> {
    if dial.caller_id.as_ref() == Some(&dial.to) || own_numbers.contains(&dial.to) {
        return Err(Refusal::never(
            "calls-itself",
            "the number to call is one of our own",
        ));
    }
    match &dial.caller_id {
        Some(shown) if !own_numbers.is_empty() && !own_numbers.contains(shown) => {
            Err(Refusal::never(
                "caller-id-not-ours",
                "the number to show is none of our own (voice_server.own_numbers)",
            ))
        }
        Some(_) | None => Ok(()),
    }
}
