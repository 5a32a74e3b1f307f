//! Emergency numbers and other short ones: they mean something else in every network, and a
//! machine that calls for help keeps somebody waiting who needs it. Most of them are too short to
//! be read as a number at all (see [`crate::domain::phone`]); here come those that have a country
//! code in front.

use phonenumber::Type;

use super::Refusal;
use super::destination::Destination;

/// Longest national number that is still a short code behind a country code: those of emergency
/// and crisis lines have three or four digits everywhere.
const SHORT_NATIONAL_LENGTH_MAX: usize = 4;

/// Area codes of the North American plan that are short codes everywhere else (211 to 911), and
/// the crisis line.
const SERVICE_CODES: [&str; 9] = [
    "211", "311", "411", "511", "611", "711", "811", "911", "988",
];

/// # Errors
/// When the number is an emergency number or a short code of its country.
pub(super) fn check(destination: &Destination<'_>) -> Result<(), Refusal> {
    let national = destination.national.as_str();
    let known = destination.plans.iter().any(|plan| {
        [Type::Emergency, Type::ShortCode]
            .into_iter()
            .filter_map(|kind| plan.descriptors().get(kind))
            .any(|descriptor| descriptor.is_match(national))
    });
    let is_service = destination.number.digits().starts_with('1')
        && SERVICE_CODES.iter().any(|code| national.starts_with(code));
    if known || is_service || national.len() <= SHORT_NATIONAL_LENGTH_MAX {
        return Err(Refusal::never(
            "emergency-number",
            "emergency and other short numbers are never called",
        ));
    }
    Ok(())
}
