//! Where calls may go.

use super::Refusal;
use super::destination::Destination;

/// Where calls may go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Places {
    /// Numbers that begin so are refused.
    pub refused_prefixes: Vec<Prefix>,
    /// The countries that may be called; none at all allows every country.
    pub countries: Vec<Country>,
}

impl Places {
    /// # Errors
    /// When calls may not go there.
    pub(super) fn check(&self, destination: &Destination<'_>) -> Result<(), Refusal> {
        let digits = destination.number.digits();
        if let Some(prefix) = self
            .refused_prefixes
            .iter()
            .find(|prefix| digits.starts_with(&prefix.0))
        {
            let text = format!("numbers that begin with +{} are not called", prefix.0);
            return Err(Refusal::never("refused-prefix", text));
        }
        let not_allowed = |text: String| Err(Refusal::never("country-not-allowed", text));
        match &destination.country {
            None => not_allowed(
                "the number belongs to a network of no country, such as satellite phones"
                    .to_owned(),
            ),
            Some(country)
                if !self.countries.is_empty()
                    && !self.countries.iter().any(|allowed| allowed.0 == *country) =>
            {
                not_allowed(format!("{country} is not one of the countries to call"))
            }
            Some(_) => Ok(()),
        }
    }
}

/// The first digits of numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prefix(String);

impl Prefix {
    /// Reads `+` and 1 to 15 digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix('+')?;
        let fits = (1..=15).contains(&digits.len())
            && digits.bytes().all(|byte| byte.is_ascii_digit())
            && !digits.starts_with('0');
        fits.then(|| Self(digits.to_owned()))
    }

    /// The digits, without `+`.
    #[must_use]
    pub fn digits(&self) -> &str {
        &self.0
    }
}

/// A country by its two letters of ISO 3166.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Country(String);

impl Country {
    /// Reads two letters that some numbering plan goes by.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let id = text.to_ascii_uppercase();
        let known = id.len() == 2 && phonenumber::metadata::DATABASE.by_id(id.as_str()).is_some();
        known.then_some(Self(id))
    }
}
