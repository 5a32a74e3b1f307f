//! What the server checks before it asks Twilio, in its order and in its words. Pure.

use super::super::args::Version;
use super::reply::{DialRequest, Reply};

/// How the server is set up: what is missing decides which errors it gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setup {
    /// Whether it has Twilio credentials.
    pub twilio: bool,
    /// Whether it has an `OPENAI_PROJECT_ID`, which v3 does not need.
    pub project: bool,
    /// Whether it has an `OPENAI_API_KEY`; without one an outbound call stays `initiated`.
    pub openai_key: bool,
    /// `TWILIO_PHONE_NUMBER`, the caller of a dial that names none.
    pub own_number: Option<String>,
    /// Whether there is a tap beside it that refuses repeats of a dial.
    pub tap: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            twilio: true,
            project: true,
            openai_key: true,
            own_number: Some(OWN_NUMBER.to_owned()),
            tap: false,
        }
    }
}

/// Twilio's magic number for tests: nobody's.
pub const OWN_NUMBER: &str = "+15005550006";

/// A dial that passed all checks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    pub to: String,
    pub from: String,
    pub message: Option<String>,
}

/// The checks of `POST /call`; the error is the answer.
pub fn check(version: Version, setup: &Setup, request: &DialRequest) -> Result<Checked, Reply> {
    let v3 = version == Version::V3;
    let refuse =
        |status, old: &str, new: &str| Err(Reply::detail(status, if v3 { new } else { old }));
    if !setup.twilio {
        return refuse(
            503,
            "Outbound calling not configured - missing Twilio credentials",
            "Outbound calling not configured — missing Twilio credentials",
        );
    }
    if request.to.is_empty() {
        return refuse(
            400,
            "Phone number is required and must be a string",
            "Phone number is required",
        );
    }
    let to: String = request
        .to
        .trim()
        .chars()
        .filter(|c| !matches!(c, ' ' | '-' | '(' | ')'))
        .collect();
    if !is_valid(version, &to) {
        return refuse(
            400,
            "Invalid phone number format - must be E.164 format with valid country code (e.g. +1234567890)",
            "Invalid phone number — use E.164 format (e.g. +1234567890)",
        );
    }
    // The caller is checked without the blanks around it and then used with them: so does the server.
    let caller_id = request
        .caller_id
        .as_deref()
        .filter(|caller| !caller.is_empty());
    if caller_id.is_some_and(|caller| !is_valid(version, caller.trim())) {
        return refuse(
            400,
            "Invalid caller_id format - must be E.164 format with valid country code",
            "Invalid caller_id — use E.164 format",
        );
    }
    if !v3 && !setup.project {
        return Err(Reply::detail(
            500,
            "OpenAI project ID not configured - required for SIP endpoint",
        ));
    }
    let Some(from) = caller_id
        .map(str::to_owned)
        .or_else(|| setup.own_number.clone())
    else {
        // The older servers catch their own error here and lose its text.
        return refuse(
            500,
            "Internal server error",
            "No caller ID — set TWILIO_PHONE_NUMBER or provide caller_id",
        );
    };
    Ok(Checked {
        to,
        from,
        message: request.message.clone(),
    })
}

/// Whether the server takes this for a number. It is not E.164 proper: v1 and v2 also take dots, which they then pass on,
/// and nobody knows country codes, although v1 and v2 mean to.
fn is_valid(version: Version, phone: &str) -> bool {
    match version {
        Version::V3 => digits(phone).is_some_and(|digits| (7..=15).contains(&digits.len())),
        Version::V1 | Version::V2 => {
            if phone.chars().count() > 20
                || phone.contains(['(', ')', '<', '>', '"', '\'', '&', ';', '$'])
            {
                return false;
            }
            let bare: String = phone
                .chars()
                .filter(|c| !matches!(c, ' ' | '-' | '.'))
                .collect();
            let Some(digits) = digits(&bare).filter(|digits| (7..=15).contains(&digits.len()))
            else {
                return false;
            };
            // Whatever the country, three digits are taken for its code and the rest for the number.
            let number = &digits[3..];
            let first = &number[..1];
            !number.replace(first, "").is_empty() && number != "1234567890"
        }
    }
}

/// The digits after the plus, if it is a plus and digits not starting with zero.
fn digits(phone: &str) -> Option<&str> {
    let digits = phone.strip_prefix('+')?;
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    (plain && !digits.is_empty() && !digits.starts_with('0')).then_some(digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(version: Version, to: &str) -> Result<Checked, Reply> {
        let request = DialRequest {
            to: to.to_owned(),
            ..DialRequest::default()
        };
        check(version, &Setup::default(), &request)
    }

    #[test]
    fn numbers_are_taken_as_the_server_takes_them() {
        for version in [Version::V1, Version::V2] {
            for good in [
                "+12015550123",
                "+1 (201) 555-0125",
                "+1201555012",
                "+1555123",
                "+1.201.555.0125",
            ] {
                assert!(to(version, good).is_ok(), "{good}");
            }
            for bad in [
                "12015550123",
                "+15555555555",
                "+0123456789",
                "+123",
                "abc",
                "+1234567890123456",
                " ",
            ] {
                assert_eq!(to(version, bad).unwrap_err().status, 400, "{bad}");
            }
        }
        assert_eq!(
            to(Version::V2, "+1 (201) 555-0125").unwrap().to,
            "+12015550125"
        );
        assert_eq!(
            to(Version::V2, "+1.201.555.0125").unwrap().to,
            "+1.201.555.0125"
        );
        assert!(to(Version::V3, "+15555555555").is_ok());
        assert!(to(Version::V3, "+1.201.555.0125").is_err());
    }

    #[test]
    fn missing_credentials_come_before_a_bad_number() {
        let setup = Setup {
            twilio: false,
            ..Setup::default()
        };
        let request = DialRequest {
            to: "nonsense".to_owned(),
            ..DialRequest::default()
        };
        assert_eq!(
            check(Version::V2, &setup, &request).unwrap_err().status,
            503
        );
    }

    #[test]
    fn a_caller_is_checked_without_its_blanks_and_used_with_them() {
        let request = |caller: &str| DialRequest {
            to: "+12015550123".to_owned(),
            caller_id: Some(caller.to_owned()),
            message: None,
        };
        let checked = |version, caller| check(version, &Setup::default(), &request(caller));
        assert_eq!(
            checked(Version::V2, " +12015550199 ").unwrap().from,
            " +12015550199 "
        );
        assert_eq!(checked(Version::V2, "").unwrap().from, OWN_NUMBER);
        assert_eq!(
            checked(Version::V3, "x").unwrap_err(),
            Reply::detail(400, "Invalid caller_id — use E.164 format")
        );
        assert_eq!(
            checked(Version::V1, "x").unwrap_err(),
            Reply::detail(
                400,
                "Invalid caller_id format - must be E.164 format with valid country code"
            ),
        );
    }
}
