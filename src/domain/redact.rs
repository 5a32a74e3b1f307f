//! Other people's sentences, made fit for logs, error answers and events: without phone numbers,
//! keys and tokens, on one line, and short.

use super::phone;

/// Stands for what was taken out.
const TAKEN_OUT: &str = "•••";

/// Fewest digits of a phone number. A status, an error code or a year has fewer.
const NUMBER_DIGITS_MIN: usize = 7;

/// Most signs between two digits of one number: `+1 (201) - 555`.
const GAP_MAX: usize = 3;

/// A word of this length with letters and digits is a key, a token or a digest, if it is no id that
/// we speak of anyway. Twilio's and OpenAI's are longer.
const SECRET_LENGTH_MIN: usize = 24;

/// Words that come before a secret.
const SCHEMES: [&str; 2] = ["bearer", "basic"];

/// How secrets begin, in small letters: keys of OpenAI, Slack and GitHub, a webhook's secret, a JWT.
const SECRETS: [&str; 6] = ["sk-", "pk-", "whsec_", "xox", "ghp_", "eyj"];

/// Characters of the shortest secret.
const SECRET_LENGTH_LEAST: usize = 8;

/// How Twilio's account and key ids begin; hex digits follow.
const ACCOUNTS: [&str; 2] = ["AC", "SK"];

/// How the ids of calls and intents begin, which are told everywhere. (And `CA` with hex digits.)
const IDS: [&str; 5] = ["rtc_", "live_", "i-", "k-", "ev_"];

/// The sentence without numbers and secrets, in at most `length_max` characters.
#[must_use]
pub fn redacted(text: &str, length_max: usize) -> String {
    let text: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    let text = without_secrets(&text.replace("%2B", "+").replace("%2b", "+"));
    // Numbers last and the cut after them: half a number is no longer known for one.
    without_numbers(&text).chars().take(length_max).collect()
}

fn without_secrets(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut follows_scheme = false;
    for (word, gap) in words(text) {
        let is_scheme = SCHEMES.contains(&word.to_ascii_lowercase().as_str());
        if !word.is_empty() {
            let is_taken_out =
                is_secret(word) || (follows_scheme && word.len() >= SECRET_LENGTH_LEAST);
            shown.push_str(if is_taken_out { TAKEN_OUT } else { word });
            follows_scheme = is_scheme;
        }
        shown.push_str(gap);
    }
    shown
}

/// Each word, and what stands between it and the next. A secret may hold what else ends a word.
fn words(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let in_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '~');
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let word_end = rest.find(|c| !in_word(c)).unwrap_or(rest.len());
        // The end of a sentence is not part of its last word.
        let word = rest[..word_end].trim_end_matches('.');
        let after = &rest[word.len()..];
        let gap_end = after
            .find(|c| in_word(c) && c != '.')
            .unwrap_or(after.len());
        let (gap, next) = after.split_at(gap_end);
        rest = next;
        Some((word, gap))
    })
}

fn is_secret(word: &str) -> bool {
    let lower = word.to_ascii_lowercase();
    if SECRETS.iter().any(|start| lower.starts_with(start)) && word.len() >= SECRET_LENGTH_LEAST {
        return true;
    }
    if ACCOUNTS.iter().any(|start| is_twilios(word, start)) {
        return true;
    }
    let has = |of: fn(&char) -> bool| word.chars().any(|c| of(&c));
    word.len() >= SECRET_LENGTH_MIN
        && !word.contains('.')
        && has(|c| c.is_ascii_digit())
        && has(|c| c.is_ascii_alphabetic())
        && !is_id(word)
}

fn is_id(word: &str) -> bool {
    IDS.iter().any(|start| word.starts_with(start)) || is_twilios(word, "CA")
}

fn is_twilios(word: &str, start: &str) -> bool {
    let digits = word.strip_prefix(start).unwrap_or_default();
    digits.len() >= SECRET_LENGTH_LEAST && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn without_numbers(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut shown = String::with_capacity(text.len());
    let mut at = 0;
    while let Some(&c) = chars.get(at) {
        let begins_word = at == 0 || chars.get(at - 1).is_none_or(|c| !c.is_alphanumeric());
        if begins_word && c.is_alphabetic() {
            // The digits of an id are no number.
            let id: String = chars[at..]
                .iter()
                .take_while(|c| c.is_alphanumeric() || matches!(c, '_' | '-'))
                .collect();
            if is_id(&id) {
                at += id.chars().count();
                shown.push_str(&id);
                continue;
            }
        }
        let (digits, length) = number(&chars[at..]);
        if digits.len() >= NUMBER_DIGITS_MIN {
            shown.push_str(&phone::masked(&digits, c == '+'));
            at += length;
        } else {
            let length = length.max(1);
            shown.extend(&chars[at..at + length]);
            at += length;
        }
    }
    shown
}

/// The digits of what begins like a number, and how many characters it takes; none when it does not.
fn number(chars: &[char]) -> (String, usize) {
    let begins = chars.first().is_some_and(|c| c.is_numeric())
        || matches!(chars, ['+' | '(', ..]) && chars.iter().take(3).any(|c| c.is_numeric());
    let (mut digits, mut length, mut gap) = (String::new(), 0, 0);
    if !begins {
        return (digits, length);
    }
    for (at, c) in chars.iter().enumerate() {
        if c.is_numeric() {
            digits.push(*c);
            (length, gap) = (at + 1, 0);
        } else if gap < GAP_MAX
            && matches!(c, ' ' | '\u{a0}' | '-' | '.' | '(' | ')' | '/' | '+' | '–')
        {
            gap += 1;
        } else {
            break;
        }
    }
    (digits, length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> String {
        redacted(text, 300)
    }

    #[test]
    fn numbers_are_masked_however_they_are_written() {
        for (text, shown) in [
            ("+12015550142", "+1•••0142"),
            (
                "The 'To' number +12015550142 is not valid",
                "The 'To' number +1•••0142 is not valid",
            ),
            ("to=12015550142,", "to=1•••0142,"),
            ("+1 201 555 0142 rang", "+1•••0142 rang"),
            ("+1-201-555-0142", "+1•••0142"),
            ("+1 (201) 555-0142.", "+1•••0142."),
            ("(201) 555-0142", "2•••0142"),
            ("201.555.0142", "2•••0142"),
            ("+49 30 / 123 456 78", "+4•••5678"),
            ("+1\u{a0}201\u{a0}555\u{a0}0142", "+1•••0142"),
            ("sip:+12015550142@host;tag=1", "sip:+1•••0142@host;tag=1"),
            (
                "<sip:12015550142@10.0.0.1:5060>",
                "<sip:1•••0142@10.0.0.1:5060>",
            ),
            (
                "tel:+1-201-555-0142;phone-context=x",
                "tel:+1•••0142;phone-context=x",
            ),
            ("agent:main:voice:12015550142", "agent:main:voice:1•••0142"),
            ("?To=%2B12015550142&x", "?To=+1•••0142&x"),
            ("number12015550142", "number1•••0142"),
            ("555-0142", "•••42"),
            ("١٢٠١٥٥٥٠١٤٢", "•••"),
            ("a\n+1201\t5550142", "a +1•••0142"),
        ] {
            assert_eq!(said(text), shown, "{text}");
        }
    }

    #[test]
    fn what_is_no_number_stays() {
        for text in [
            "",
            "Call failed: HTTP 429 error: Unable to create record: Too Many Requests",
            "Twilio error 21211 at 12:00, 3 tries",
            "CA1234567890 rtc_7 486 你好 CAa4c123b1612dd272d1371c17149d4395",
            "see https://www.twilio.com/docs/errors/21211",
            "OpenAI project ID not configured - required for SIP endpoint",
            "No caller ID — set TWILIO_PHONE_NUMBER or provide caller_id",
        ] {
            assert_eq!(said(text), text);
        }
    }

    #[test]
    fn keys_and_tokens_are_taken_out() {
        for (text, shown) in [
            (
                "Account AC00112233445566778899aabbccddeeff is suspended",
                "Account ••• is suspended",
            ),
            (
                "/Accounts/AC00112233445566778899aabbccddeeff/Calls.json",
                "/Accounts/•••/Calls.json",
            ),
            ("key SK00112233445566778899aabbccddeeff", "key •••"),
            (
                "Authorization: Bearer abcdefgh.ijkl",
                "Authorization: Bearer •••",
            ),
            (
                "authorization=basic QUJDREVGR0g=",
                "authorization=basic •••=",
            ),
            (
                "Incorrect API key provided: sk-proj-abc123.",
                "Incorrect API key provided: •••.",
            ),
            ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "•••"),
            ("token 00112233445566778899aabbccddeeff", "token •••"),
            ("eyJhbGciOi.eyJzdWIiOi.c2ln", "•••"),
        ] {
            assert_eq!(said(text), shown, "{text}");
        }
    }

    #[test]
    fn a_cut_leaves_no_half_of_a_number() {
        let text = format!("{} +12015550142", "x ".repeat(146));
        assert!(!redacted(&text, 300).contains("2015"), "{text}");
        assert_eq!(redacted("abcdef", 3), "abc");
        // A megabyte of digits is one number.
        assert_eq!(said(&"1".repeat(1_000_000)), "1•••1111");
    }
}
