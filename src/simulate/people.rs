//! Who calls, from where, and what is said: all of it invented.
//!
//! Numbers come from ranges which regulators set aside for fiction (North America `555-01xx`, London `7946 0xxx`,
//! France `1 99 00 xx xx`), addresses from the documentation networks and `.example`: nothing here belongs to anyone.

use super::random::Random;

/// A fictitious number in E.164.
pub fn number(random: &mut Random) -> String {
    match random.below(4) {
        0 => format!("+44207946{:04}", random.below(1000)),
        1 => format!("+331990012{:02}", random.below(100)),
        _ => format!("+120155501{:02}", random.below(100)),
    }
}

/// The text which the real server passes on as `phoneNumber` of an inbound call: the SIP From header as it came, or
/// `unknown` when there was none.
pub fn from_header(random: &mut Random) -> String {
    let number = number(random);
    let bare = number.trim_start_matches('+').to_owned();
    let tag = random.hex(6);
    match random.below(12) {
        0..=2 => format!("sip:{number}@sip.example.com"),
        3 => format!("\"Alice\" <sip:{number}@sip.example.com>;tag={tag}"),
        4 => format!("\"Suite 42\" <sip:{number}@sip.example.com>"),
        5 => format!("\"Zoë 李\" <sip:{number}@sip.example.com>;tag={tag}"),
        6 => format!("<tel:{number}>"),
        7 => format!("<sip:{bare}@sip.example.com>;tag={tag}"),
        8 => format!("sip:{number}@192.0.2.4:5060;user=phone;transport=tls"),
        9 => format!("\"Anonymous\" <sip:anonymous@anonymous.invalid>;tag={tag}"),
        10 => "sip:Restricted@sip.example.com".to_owned(),
        _ => "unknown".to_owned(),
    }
}

/// Who says the utterance with this number (from 1): the caller speaks first, then they alternate.
pub fn speaker(number: usize) -> &'static str {
    if number % 2 == 1 { "user" } else { "assistant" }
}

/// Utterance `number` of `count`. It names its call and its place, so that a reader of any transcript can tell whether
/// a piece is missing, doubled, out of order or in the wrong call.
pub fn utterance(random: &mut Random, call_id: &str, number: usize, count: usize) -> String {
    let sentences = if speaker(number) == "user" {
        CALLER
    } else {
        AGENT
    };
    let sentence = random.pick(sentences).copied().unwrap_or_default();
    format!("[{call_id} {number}/{count}] {sentence}")
}

const CALLER: &[&str] = &[
    "I would like to book a table for four this evening.",
    "Could you move my appointment to Thursday, please?",
    "Is the parcel for 17 Mill Lane on its way already?",
    "My name is Zoë, with two dots on the e.",
    "Sorry, the line is bad. Could you say that again?",
    "Yes, half past seven would suit us well.",
    "Do you have anything without nuts?",
    "Ich bräuchte die Rechnung bitte noch einmal.",
    "We are staying until Sunday, so there is no hurry.",
    "No, that was everything. Thank you!",
];

const AGENT: &[&str] = &[
    "Good afternoon, what can I do for you?",
    "Let me have a look, that takes a moment.",
    "There is a free place at a quarter past six.",
    "I have written that down. Anything else?",
    "The courier expects to be with you before noon.",
    "Could you spell the name for me, please?",
    "That costs 24 € – shall I go ahead?",
    "I am sorry, we are fully booked on that day.",
    "You will get a message with all details.",
    "Then I wish you a pleasant evening.",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_from_a_range_for_fiction() {
        let mut random = Random::new(3);
        for _ in 0..500 {
            let number = number(&mut random);
            let fictitious = ["+120155501", "+442079460", "+331990012"];
            assert!(
                fictitious.iter().any(|range| number.starts_with(range)),
                "{number}"
            );
            assert_eq!(
                number.len(),
                12 + usize::from(number.starts_with("+44")),
                "{number}"
            );
        }
    }

    #[test]
    fn an_utterance_names_its_call_and_place() {
        let text = utterance(&mut Random::new(1), "rtc_ab12", 3, 6);
        assert!(text.starts_with("[rtc_ab12 3/6] "), "{text}");
        assert_eq!((speaker(1), speaker(2)), ("user", "assistant"));
    }
}
