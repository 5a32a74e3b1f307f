//! The number of a wish, held against the world's numbering plans.

use phonenumber::Metadata;
use phonenumber::metadata::DATABASE;

use super::Refusal;
use crate::domain::phone::E164;

/// A number that some plan has.
pub(super) struct Destination<'a> {
    pub number: &'a E164,
    /// The number within its country, leading zeros and all.
    pub national: String,
    /// Its country by ISO 3166; `None` for networks that belong to none, such as satellite phones.
    pub country: Option<String>,
    /// What is known of all countries that share its country code.
    pub plans: Vec<&'static Metadata>,
}

impl<'a> Destination<'a> {
    /// Finds the number's plan.
    ///
    /// # Errors
    /// When no plan has it.
    pub fn of(number: &'a E164) -> Result<Self, Refusal> {
        let unknown =
            || Refusal::never("invalid-number", "no numbering plan has the number to call");
        let parsed = phonenumber::parse(None, number.as_str()).map_err(|_error| unknown())?;
        if !phonenumber::is_valid(&parsed) {
            return Err(unknown());
        }
        let plans = DATABASE
            .by_code(&parsed.country().code())
            .unwrap_or_default();
        // The library loses the leading zero of Italian numbers on the way to their country.
        let plan = parsed.metadata(&DATABASE).or_else(|| {
            let main = plans.iter().find(|plan| plan.is_main_country_for_code());
            main.or(plans.first()).copied()
        });
        let country = plan
            .map(|plan| plan.id().to_owned())
            .filter(|id| id.len() == 2 && id.bytes().all(|byte| byte.is_ascii_uppercase()));
        Ok(Self {
            number,
            national: parsed.national().to_string(),
            country,
            plans,
        })
    }
}
