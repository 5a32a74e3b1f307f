//! Dead letters: what cannot be used is kept with its reason and a way back.
//!
//! A letter is the message as it came, body unaltered, with headers that say where it came from,
//! who could not use it and why, and which attempts were made. Its name is derived from the
//! message, and VOICE_DLQ remembers names for as long as inputs are kept: however often a message
//! is parked, by whomever, there is one letter. `nats stream view VOICE_DLQ` shows everything.
//!
//! A message that was redriven carries the name of the letter it came from ([`REDRIVE`]). The
//! letter that it becomes when it cannot be used again is named after that letter, so that a
//! letter redriven twice leaves one letter.

use std::str::FromStr;

use async_nats::header::HeaderName;
use async_nats::{HeaderMap, HeaderValue};
use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::consume::Delivery;
use super::publish::{Error, Message, Stored};
use super::{Bus, subjects};
use crate::metrics;

/// Who could not use it.
pub const ROLE: &str = "Voicebus-Role";
/// Why: a sentence, with all its causes.
pub const REASON: &str = "Voicebus-Reason";
/// When it was parked.
pub const TIME: &str = "Voicebus-Time";
/// The call, or the command, that it is about.
pub const CALL: &str = "Voicebus-Call";
/// How often it was delivered.
pub const ATTEMPTS: &str = "Voicebus-Attempts";
/// The stream it came from.
pub const STREAM: &str = "Voicebus-Stream";
/// Its number in that stream.
pub const STREAM_SEQUENCE: &str = "Voicebus-Stream-Sequence";
/// When that stream stored it.
pub const STORED_AT: &str = "Voicebus-Stored-At";
/// Where it was published.
pub const ORIGINAL_SUBJECT: &str = "Voicebus-Original-Subject";
/// Stands before each of its own headers: some of them (ids, expectations) would be obeyed by the
/// stream.
pub const ORIGINAL: &str = "Voicebus-Original-";
/// Says that not all of its headers found room.
pub const HEADERS_CUT: &str = "Voicebus-Headers-Cut";
/// W3C trace context of whoever sent it.
pub const TRACEPARENT: &str = "traceparent";
/// On an input that was redriven: the name of the letter.
pub const REDRIVE: &str = "Voicebus-Redrive";

/// A letter may be 40 kB larger than what it carries, of which this much is for the headers that
/// came with it, and for the reason. A message has no more of its own than the sender wanted.
const HEADERS_BYTES_MAX: usize = 24 * 1024;
const REASON_BYTES_MAX: usize = 4 * 1024;

/// A message that cannot be used.
#[derive(Debug)]
pub struct DeadLetter<'a> {
    /// Who could not use it.
    pub role: &'static str,
    /// Why: a stable word.
    pub code: &'static str,
    /// Why: a sentence.
    pub reason: &'a str,
    /// Names the letter, so that it is kept once however often it is parked.
    pub id: &'a str,
    /// Where it came from.
    pub subject: &'a str,
    /// How often it was tried.
    pub attempts: u64,
    /// Its own headers.
    pub headers: Option<&'a HeaderMap>,
    /// Its body, unaltered.
    pub payload: Bytes,
}

/// Why a message of a stream cannot be used.
#[derive(Debug, Clone, Copy)]
pub struct Verdict<'a> {
    /// Who says so.
    pub role: &'static str,
    /// A stable word.
    pub code: &'static str,
    /// A sentence.
    pub reason: &'a str,
    /// The call, or the command, that it is about, as far as known.
    pub call: Option<&'a str>,
    /// W3C trace context of whoever sent it; else it is looked for among the headers.
    pub traceparent: Option<&'a str>,
}

impl DeadLetter<'_> {
    /// The letter as it is stored.
    #[must_use]
    pub fn into_message(self) -> Message {
        metrics::dead_letter(self.role, self.code);
        self.with(Vec::new())
    }

    fn with(self, mut headers: Vec<(String, String)>) -> Message {
        headers.extend(
            [
                (ROLE, self.role.to_owned()),
                (REASON, shortened(&one_line(self.reason)).to_owned()),
                (TIME, chrono::Utc::now().to_rfc3339()),
                (ORIGINAL_SUBJECT, one_line(self.subject)),
                (ATTEMPTS, self.attempts.to_string()),
            ]
            .map(|(name, value)| (name.to_owned(), value)),
        );
        if let Some(originals) = self.headers {
            carry(&mut headers, originals);
        }
        Message {
            subject: subjects::dead_letter(self.role, self.code),
            id: format!("dlq {} {}", self.role, self.id),
            headers,
            payload: self.payload,
        }
    }
}

impl Bus {
    /// Parks a message that is in no stream.
    ///
    /// # Errors
    /// When VOICE_DLQ does not take it.
    pub async fn park(&self, letter: DeadLetter<'_>) -> Result<Stored, Error> {
        self.store_message(&letter.into_message()).await
    }

    /// Parks a message of a stream. The number of the letter is the same each time.
    ///
    /// # Errors
    /// When VOICE_DLQ does not take it. The message must then not be acknowledged.
    pub async fn park_delivery(
        &self,
        stream: &'static str,
        delivery: &Delivery,
        verdict: Verdict<'_>,
    ) -> Result<Stored, Error> {
        let sequence = delivery.stream_sequence.to_string();
        let mut headers = vec![
            (STREAM.to_owned(), stream.to_owned()),
            (STREAM_SEQUENCE.to_owned(), sequence),
            (STORED_AT.to_owned(), delivery.stored_at.to_rfc3339()),
        ];
        if let Some(call) = verdict.call {
            headers.push((CALL.to_owned(), one_line(call)));
        }
        let trace = verdict
            .traceparent
            .or_else(|| header(&delivery.headers, TRACEPARENT));
        if let Some(trace) = trace {
            headers.push((TRACEPARENT.to_owned(), one_line(trace)));
        }
        let letter = DeadLetter {
            role: verdict.role,
            code: verdict.code,
            reason: verdict.reason,
            id: &delivery.letter_name(stream),
            subject: &delivery.subject,
            attempts: delivery.attempt,
            headers: Some(&delivery.headers),
            payload: delivery.payload.clone(),
        };
        let stored = self.store_message(&letter.with(headers)).await?;
        if !stored.duplicate {
            metrics::dead_letter(verdict.role, verdict.code);
        }
        Ok(stored)
    }
}

impl Delivery {
    /// The letter that the message was redriven from, by its name.
    #[must_use]
    pub fn redriven_from(&self) -> Option<&str> {
        header(&self.headers, REDRIVE)
    }

    /// Names a message of a stream, and its letter, for ever: its number counts only within one life
    /// of the stream, the instant it was stored tells the lives apart. One that was put off has the
    /// name of the original.
    #[must_use]
    pub fn letter_name(&self, stream: &str) -> String {
        match (self.letter_of_original(), self.redriven_from()) {
            (Some(name), _) => name.to_owned(),
            (None, Some(letter)) => format!("redriven {}", digest(letter)),
            (None, None) => format!(
                "{stream} {} {}",
                self.stream_sequence,
                self.stored_at.timestamp_nanos_opt().unwrap_or_default()
            ),
        }
    }
}

/// 32 hex digits that stand for a text.
#[must_use]
pub fn digest(text: &str) -> String {
    Sha256::digest(text)
        .iter()
        .take(16)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// The text of a header.
pub(super) fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    // `get` panics on a name that is none; those here are ours.
    headers.get(name).map(HeaderValue::as_str)
}

/// Copies the message's own headers, as far as there is room: always the same ones.
fn carry(headers: &mut Vec<(String, String)>, originals: &HeaderMap) {
    let mut all: Vec<(String, String)> = originals
        .iter()
        .flat_map(|(name, values)| values.iter().map(move |value| (name, value)))
        .map(|(name, value)| (format!("{ORIGINAL}{name}"), one_line(value.as_str())))
        .collect();
    all.sort();
    let mut room = HEADERS_BYTES_MAX;
    let mut cut = false;
    for (name, value) in all {
        let size = name.len() + value.len() + 4;
        match (room.checked_sub(size), HeaderName::from_str(&name)) {
            (Some(left), Ok(_)) => {
                room = left;
                headers.push((name, value));
            }
            (None, _) | (Some(_), Err(_)) => cut = true,
        }
    }
    if cut {
        headers.push((HEADERS_CUT.to_owned(), "true".to_owned()));
    }
}

/// async-nats panics on a line break in a header value.
fn one_line(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

fn shortened(text: &str) -> &str {
    let mut end = text.len().min(REASON_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Timestamp;

    fn delivery(headers: HeaderMap) -> Delivery {
        Delivery {
            subject: "voice.in.1.CA1.ringing".to_owned(),
            headers,
            payload: Bytes::new(),
            stream_sequence: 7,
            epoch: 1,
            attempt: 1,
            stored_at: Timestamp::from_timestamp(1_800_000_000, 5).unwrap(),
        }
    }

    #[test]
    fn a_message_has_one_name_and_a_redriven_one_that_of_its_letter() {
        let plain = delivery(HeaderMap::new());
        assert_eq!(
            plain.letter_name("VOICE_IN"),
            "VOICE_IN 7 1800000000000000005"
        );
        let mut headers = HeaderMap::new();
        headers.insert(REDRIVE, "dlq router VOICE_IN 7 1");
        let mut redriven = delivery(headers);
        let name = redriven.letter_name("VOICE_IN");
        assert!(name.starts_with("redriven "), "{name}");
        redriven.stream_sequence = 9;
        assert_eq!(redriven.letter_name("VOICE_IN"), name);
    }

    fn value<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
        let found = headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    #[test]
    fn headers_of_a_flood_are_cut_and_said_to_be() {
        let mut originals = HeaderMap::new();
        originals.insert("Nats-Msg-Id", "x");
        let mut headers = Vec::new();
        carry(&mut headers, &originals);
        assert_eq!(value(&headers, "Voicebus-Original-Nats-Msg-Id"), Some("x"));
        assert_eq!(value(&headers, HEADERS_CUT), None);
        for n in 0..100_000 {
            originals.append(format!("h{n}"), "v");
        }
        let mut headers = Vec::new();
        carry(&mut headers, &originals);
        assert_eq!(value(&headers, HEADERS_CUT), Some("true"));
        let size: usize = headers
            .iter()
            .map(|(name, value)| name.len() + value.len() + 4)
            .sum();
        assert!(size <= HEADERS_BYTES_MAX + 100, "{size}");
    }

    #[test]
    fn a_letter_that_waits_on_a_disk_says_the_same() {
        let mut originals = HeaderMap::new();
        originals.insert("X-Trouble", "yes");
        let message = DeadLetter {
            role: "ingress",
            code: "unknown-type",
            reason: "nobody\nknows it",
            id: "ev_1",
            subject: "/v3",
            attempts: 1,
            headers: Some(&originals),
            payload: Bytes::new(),
        }
        .into_message();
        assert_eq!(message.subject, "voice.dlq.ingress.unknown-type");
        assert_eq!(message.id, "dlq ingress ev_1");
        let value = |name| value(&message.headers, name);
        assert_eq!(value(ROLE), Some("ingress"));
        assert_eq!(value(REASON), Some("nobody knows it"));
        assert!(value(TIME).is_some());
        assert_eq!(value(ORIGINAL_SUBJECT), Some("/v3"));
        assert_eq!(value(ATTEMPTS), Some("1"));
        assert_eq!(value("Voicebus-Original-X-Trouble"), Some("yes"));
    }

    #[test]
    fn a_reason_is_cut_between_characters() {
        let long = "é".repeat(REASON_BYTES_MAX);
        assert_eq!(shortened(&long).len(), REASON_BYTES_MAX);
        assert_eq!(shortened(&format!("a{long}")).len(), REASON_BYTES_MAX - 1);
        assert_eq!(one_line("a\r\nb\u{0}"), "a  b ");
    }
}
