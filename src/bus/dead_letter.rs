//! Dead letters: what cannot be used is kept with its reason and a way back.

use async_nats::HeaderMap;
use bytes::Bytes;

use super::publish::{Error, Message, Stored};
use super::{Bus, subjects};

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
    /// Its own headers; kept under `Voicebus-Original-…`, because some of them (ids, expectations)
    /// would be obeyed by the stream.
    pub headers: Option<&'a HeaderMap>,
    /// Its body, unaltered.
    pub payload: Bytes,
}

impl DeadLetter<'_> {
    /// The letter as it is stored.
    #[must_use]
    pub fn into_message(self) -> Message {
        let mut headers = vec![
            ("Voicebus-Reason".to_owned(), one_line(self.reason)),
            (
                "Voicebus-Original-Subject".to_owned(),
                one_line(self.subject),
            ),
            ("Voicebus-Attempts".to_owned(), self.attempts.to_string()),
        ];
        for (name, values) in self.headers.into_iter().flat_map(HeaderMap::iter) {
            let name = format!("Voicebus-Original-{name}");
            let lines = values
                .iter()
                .map(|value| (name.clone(), one_line(value.as_str())));
            headers.extend(lines);
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
    /// Parks a dead letter; doing it again with the same id keeps one.
    ///
    /// # Errors
    /// When VOICE_DLQ does not take it. The message must then not be acknowledged.
    pub async fn park(&self, letter: DeadLetter<'_>) -> Result<Stored, Error> {
        self.store_message(&letter.into_message()).await
    }
}

/// async-nats panics on a line break in a header value.
fn one_line(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}
