//! Numbers that pay whoever is called: the usual way to turn a machine that dials into money.

use phonenumber::Type;

use super::Refusal;
use super::destination::Destination;

/// International premium rate (ITU-T E.169.2).
const INTERNATIONAL: &str = "979";
/// North American premium rate: area code 900, and exchange 976 of any area.
const NORTH_AMERICAN_AREA: &str = "900";
const NORTH_AMERICAN_EXCHANGE: &str = "976";

/// # Errors
/// When a plan of the number's country code knows it as premium rate.
pub(super) fn check(destination: &Destination<'_>) -> Result<(), Refusal> {
    let national = destination.national.as_str();
    let digits = destination.number.digits();
    let listed = destination.plans.iter().any(|plan| {
        plan.descriptors()
            .get(Type::PremiumRate)
            .is_some_and(|premium| premium.is_match(national))
    });
    let north_american = digits.starts_with('1')
        && (national.starts_with(NORTH_AMERICAN_AREA)
            || national.get(3..6) == Some(NORTH_AMERICAN_EXCHANGE));
    if listed || north_american || digits.starts_with(INTERNATIONAL) {
        return Err(Refusal::never(
            "premium-rate",
            "premium-rate numbers are never called",
        ));
    }
    Ok(())
}
