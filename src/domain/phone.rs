//! Phone numbers, and the other party of a call as its signalling names it.
//!
//! A number comes in many coats: plain E.164, a SIP or tel URI, a whole SIP `From` header with a
//! display name and parameters. Only the user part of the URI is a number; digits of a display
//! name, a tag, a port or an address never are.

use std::fmt;

use thiserror::Error;

/// Longest `From` text looked at, in bytes; RFC 3261 sets no limit, real ones are under 200.
const PARTY_LENGTH_MAX: usize = 1024;

/// Fewest digits of which the first and the last four are shown: half of them stay hidden.
const MASKED_WITH_HEAD_MIN: usize = 10;

/// Most digits of a number that is too short to be one of E.164.
const SHORT_LENGTH_MAX: usize = 6;

/// A phone number in E.164: `+`, then 7 to 15 digits, the first not zero.
///
/// `Display` shows the whole number: it belongs into events and requests. Logs use
/// [`E164::masked`].
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct E164(String);

/// Why a text is not a number that can be dialled.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Error {
    /// Not of the form `+` and 7 to 15 digits.
    #[error(
        "phone number is not in E.164 form (`+`, country code, number: 7 to 15 digits, for example +12015550123)"
    )]
    NotE164,
    /// A number of a few digits only: an emergency number, a service of the network.
    #[error("phone number is an emergency or another short number, which is never called")]
    Short,
    /// E.164 in form, but no numbering plan has it.
    #[error("phone number does not fit the numbering plan of its country")]
    NotInPlan,
}

impl E164 {
    /// Parses a strict E.164 number: ASCII `+`, then 7 to 15 digits, the first not zero. Says
    /// nothing about whether the number exists; see [`E164::check_plan`].
    ///
    /// # Errors
    /// [`Error::NotE164`] for any other text, blanks and separators included; [`Error::Short`] for
    /// a few digits.
    pub fn parse(text: &str) -> Result<Self, Error> {
        if is_short(text) {
            return Err(Error::Short);
        }
        let digits = text.strip_prefix('+').ok_or(Error::NotE164)?;
        let in_form = (7..=15).contains(&digits.len())
            && digits.bytes().all(|b| b.is_ascii_digit())
            && !digits.starts_with('0');
        if in_form {
            Ok(Self(text.to_owned()))
        } else {
            Err(Error::NotE164)
        }
    }

    /// Checks the number against the numbering plan of its country.
    ///
    /// # Errors
    /// [`Error::NotInPlan`] when the country code is unknown or the number cannot be one of it.
    pub fn check_plan(&self) -> Result<(), Error> {
        match phonenumber::parse(None, &self.0) {
            Ok(number) if phonenumber::is_valid(&number) => Ok(()),
            Ok(_) | Err(_) => Err(Error::NotInPlan),
        }
    }

    /// `+` and digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The digits without `+`, as OpenClaw's per-phone session keys use them.
    #[must_use]
    pub fn digits(&self) -> &str {
        self.0.trim_start_matches('+')
    }

    /// For logs and screens: the first and the last digits only, `+1•••0142`.
    #[must_use]
    pub fn masked(&self) -> String {
        masked(self.digits(), true)
    }
}

/// The first and the last digits of a number, as [`E164::masked`]; of one that is too short for
/// that the last two only, of one that is not in ASCII none.
pub(super) fn masked(digits: &str, with_plus: bool) -> String {
    let last = |count: usize| digits.get(digits.len().saturating_sub(count)..);
    let shown = |part: Option<&str>| {
        part.filter(|_| digits.is_ascii())
            .unwrap_or_default()
            .to_owned()
    };
    let plus = if with_plus { "+" } else { "" };
    if digits.len() < MASKED_WITH_HEAD_MIN {
        return format!("{plus}•••{}", shown(last(2)));
    }
    format!("{plus}{}•••{}", shown(digits.get(..1)), shown(last(4)))
}

impl fmt::Display for E164 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for E164 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "E164({})", self.masked())
    }
}

/// The other end of a call, as far as its signalling tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Party {
    /// A number that can be called back.
    Number(E164),
    /// The caller withheld the number, or the signalling names none that can be read. Two of
    /// these are never the same person.
    Anonymous,
}

impl Party {
    /// Reads a party from what an event carries as phone number: E.164, digits, a SIP or tel URI,
    /// or a SIP `From` value. Never fails: what cannot be read is [`Party::Anonymous`].
    #[must_use]
    pub fn read(text: &str) -> Self {
        if text.len() > PARTY_LENGTH_MAX {
            return Self::Anonymous;
        }
        user_part(text)
            .and_then(number_in_user)
            .map_or(Self::Anonymous, Self::Number)
    }

    /// The number, when there is one.
    #[must_use]
    pub fn number(&self) -> Option<&E164> {
        match self {
            Self::Number(number) => Some(number),
            Self::Anonymous => None,
        }
    }
}

/// Two to six digits, with or without `+`: 112, 911, 40404, +1911.
fn is_short(text: &str) -> bool {
    let digits = text.strip_prefix('+').unwrap_or(text);
    (2..=SHORT_LENGTH_MAX).contains(&digits.len())
        && digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// The user part of the address in a `From` value (RFC 3261, 20.20 and 25.1): the content of the
/// angle brackets when there are any outside a quoted display name, else the whole up to the
/// first header parameter.
fn user_part(text: &str) -> Option<&str> {
    let text = text.trim();
    let address = match angle_open(text) {
        Some(open) => {
            let rest = text.get(open + 1..)?;
            rest.get(..rest.find('>')?)?
        }
        None => text,
    };
    let address = address.trim();
    let (scheme, rest) = match address.split_once(':') {
        Some((scheme, rest)) => (scheme, rest),
        None => ("", address),
    };
    if !["", "sip", "sips", "tel"]
        .iter()
        .any(|known| known.eq_ignore_ascii_case(scheme))
    {
        return None;
    }
    // `sip:user:password@host;parameters`, `tel:+1-201;ext=5`: the user ends at the host, the
    // password or the parameters, whichever comes first.
    let needs_host = scheme.len() >= 3
        && scheme
            .get(..3)
            .is_some_and(|s| s.eq_ignore_ascii_case("sip"));
    let user = match rest.split_once('@') {
        Some((user, _host)) => user,
        None if needs_host => return None,
        None => rest,
    };
    user.split([';', ':', '?']).next()
}

/// Position of the `<` that opens the address; one inside a quoted display name does not count.
fn angle_open(text: &str) -> Option<usize> {
    let mut quoted = false;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '<' if !quoted => return Some(at),
            _ => {}
        }
    }
    None
}

/// A number out of a user part: separators that RFC 3966 calls visual are dropped, anything else
/// makes it not a number. Without `+` the digits must be a full international number.
fn number_in_user(user: &str) -> Option<E164> {
    let mut number = String::with_capacity(user.len() + 1);
    number.push('+');
    let trimmed = user.trim();
    let bare = trimmed
        .strip_prefix('+')
        .or_else(|| trimmed.strip_prefix("%2B"))
        .or_else(|| trimmed.strip_prefix("%2b"));
    for c in bare.unwrap_or(trimmed).chars() {
        match c {
            '0'..='9' => number.push(c),
            '-' | '.' | '(' | ')' | ' ' => {}
            _ => return None,
        }
    }
    let number = E164::parse(&number).ok()?;
    // Digits without `+` might be national or an extension; only a number that some plan has is
    // taken for international. With `+` the sender has said so itself.
    if bare.is_none() && number.check_plan().is_err() {
        return None;
    }
    Some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<String> {
        Party::read(text).number().map(ToString::to_string)
    }

    #[test]
    fn numbers_are_read_out_of_every_shape_the_server_sends() {
        for (text, number) in [
            ("+12015550160", "+12015550160"),
            ("sip:+12015550142@sip.example.com", "+12015550142"),
            ("\"Alice\" <sip:+15551234567@host>;tag=x1", "+15551234567"),
            ("<sip:12015550143@sip.example.com>;tag=1", "+12015550143"),
            ("<tel:+442079460123>", "+442079460123"),
            (
                "sip:+12015550144@192.0.2.4:5060;user=phone;transport=tls",
                "+12015550144",
            ),
            (
                "\"Zoë 李\" <sip:+33199001234@sip.example.com>;tag=u",
                "+33199001234",
            ),
            (
                "\"Suite 42\" <sip:+12015550145@sip.example.com>",
                "+12015550145",
            ),
            ("Alice <SIP:+12015550145@h>", "+12015550145"),
            (
                "\"a <sip:+1999@evil> \\\" b\" <sip:+12015550145@h>",
                "+12015550145",
            ),
            ("tel:+1-201-555-0142;ext=7", "+12015550142"),
            ("sip:%2B12015550142@h", "+12015550142"),
            ("+1 (201) 555-0125", "+12015550125"),
        ] {
            assert_eq!(read(text).as_deref(), Some(number), "{text}");
        }
    }

    #[test]
    fn what_is_no_number_is_anonymous() {
        for text in [
            "",
            "unknown",
            "\"Anonymous\" <sip:anonymous@anonymous.invalid>;tag=abc",
            "sip:Restricted@sip.example.com",
            "sip:x@y",
            "911",
            "sip:192.0.2.4:5060",
            "sip:+12015550142",
            "<sip:+12015550142@h",
            "https://+12015550142@h",
            "+1201555١٢٣٤",
            "+120155501421234567",
            &format!("sip:+1201555014{}@h", " ".repeat(2000)),
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn strict_form_is_strict() {
        for bad in [
            "",
            "+",
            "12015550142",
            "+0123456789",
            " +12015550142",
            "+1201555014x",
            "+1234567890123456",
            "+1.201.555.0125",
        ] {
            assert_eq!(E164::parse(bad), Err(Error::NotE164), "{bad}");
        }
    }

    #[test]
    fn short_numbers_are_called_by_their_name() {
        for short in ["112", "999", "000", "40404", "+911", "+1911", "+43112"] {
            assert_eq!(E164::parse(short), Err(Error::Short), "{short}");
        }
        for other in ["1", "+1", "+", "11a", "\u{663}\u{661}\u{661}"] {
            assert_eq!(E164::parse(other), Err(Error::NotE164), "{other}");
        }
    }

    #[test]
    fn the_plan_of_the_country_is_checked() {
        assert_eq!(E164::parse("+12015550123").unwrap().check_plan(), Ok(()));
        assert_eq!(
            E164::parse("+1555123").unwrap().check_plan(),
            Err(Error::NotInPlan)
        );
        assert_eq!(
            E164::parse("+9991234567").unwrap().check_plan(),
            Err(Error::NotInPlan)
        );
    }

    #[test]
    fn masked_numbers_and_debug_output_hide_the_middle() {
        let number = E164::parse("+12015550142").unwrap();
        assert_eq!(number.masked(), "+1•••0142");
        assert_eq!(format!("{number:?}"), "E164(+1•••0142)");
    }
}
