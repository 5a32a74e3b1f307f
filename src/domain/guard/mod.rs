//! What stands between a wish to dial and a phone that rings.
//!
//! Two kinds of guards. The [`Rules`] look at one wish alone: its number, the number to show, the
//! hour where the phone rings. The [`Budget`] counts all dials together, whoever asks and however
//! many workers there are, so it is kept where all of them see it. A wish that a guard refuses is
//! never dialled; the [`Refusal`] says which guard it was and when it would let the wish pass.
//!
//! | code | guard | passes |
//! |---|---|---|
//! | `invalid-number` | no numbering plan has the number | never |
//! | `emergency-number` | an emergency or another short number | never |
//! | `premium-rate` | whoever is called is paid for it | never |
//! | `refused-prefix` | the configuration refuses numbers that begin so | never |
//! | `country-not-allowed` | the country is not one of those allowed, or there is none | never |
//! | `caller-id-not-ours` | the number to show is not one of ours | never |
//! | `calls-itself` | the number is one of ours | never |
//! | `quiet-hours` | it is night where the phone would ring | in the morning |
//! | `limit-per-minute`, `-hour`, `-day`, `-number` | as many were dialled | when the window has moved on |
//! | `limit-concurrent` | as many calls are going on | when one ends, at the latest at the time said |

mod budget;
mod caller_id;
mod destination;
mod limits;
mod places;
mod premium;
mod quiet;
mod short;
mod window;

pub use budget::{Budget, Open};
pub use limits::{CONCURRENT_MAX, LIMIT_MAX, Limits};
pub use places::{Country, Places, Prefix};
pub use quiet::{Hours, Quiet, Zones};
pub use window::Window;

use destination::Destination;

use super::Timestamp;
use super::command::{Dial, Reason};
use super::phone::E164;

/// The codes of all guards.
const CODES: [&str; 13] = [
    "invalid-number",
    "emergency-number",
    "premium-rate",
    "refused-prefix",
    "country-not-allowed",
    "caller-id-not-ours",
    "calls-itself",
    "quiet-hours",
    "limit-per-minute",
    "limit-per-hour",
    "limit-per-day",
    "limit-per-number",
    "limit-concurrent",
];

/// The guard of this code, if it is one.
#[must_use]
pub fn code(text: &str) -> Option<&'static str> {
    CODES.into_iter().find(|code| *code == text)
}

/// What a deployment allows to be dialled.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    /// Where calls may go.
    pub places: Places,
    /// The numbers that may be shown, and that nobody calls. None at all leaves the number to show
    /// to the phone-call server.
    pub own_numbers: Vec<E164>,
    /// When nobody is called, by the clock of the place where the phone rings.
    pub quiet: Option<Quiet>,
    /// How often.
    pub limits: Limits,
}

impl Rules {
    /// Looks at one wish alone. What all wishes together may be is the [`Budget`]'s.
    ///
    /// # Errors
    /// The first guard that does not let it pass.
    pub fn check(&self, dial: &Dial, now: Timestamp) -> Result<(), Refusal> {
        let destination = Destination::of(&dial.to)?;
        short::check(&destination)?;
        premium::check(&destination)?;
        self.places.check(&destination)?;
        caller_id::check(dial, &self.own_numbers)?;
        match &self.quiet {
            Some(quiet) => quiet.check(&destination, now),
            None => Ok(()),
        }
    }
}

/// Why a wish is not dialled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The guard: a stable word for programs.
    pub guard: &'static str,
    /// A sentence for people, without the number.
    pub text: String,
    /// When the same wish would pass this guard; `None`: never, as things are.
    pub passes_at: Option<Timestamp>,
}

impl Refusal {
    fn never(guard: &'static str, text: impl Into<String>) -> Self {
        Self {
            guard,
            text: text.into(),
            passes_at: None,
        }
    }

    fn until(guard: &'static str, text: impl Into<String>, passes_at: Timestamp) -> Self {
        Self {
            guard,
            text: text.into(),
            passes_at: Some(passes_at),
        }
    }
}

impl From<Refusal> for Reason {
    fn from(refusal: Refusal) -> Self {
        let text = match refusal.passes_at {
            Some(at) => format!("{}; passes at {}", refusal.text, at.format("%FT%TZ")),
            None => refusal.text,
        };
        Self {
            code: refusal.guard.to_owned(),
            text,
        }
    }
}

#[cfg(test)]
mod tests;
