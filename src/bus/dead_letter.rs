//! Dead letters: what cannot be used is kept with its reason and a way back.

use async_nats::HeaderMap;
use bytes::Bytes;

use super::publish::{Error, Stored};
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

impl Bus {
    /// Parks a dead letter; doing it again with the same id keeps one.
    ///
    /// # Errors
    /// When VOICE_DLQ does not take it. The message must then not be acknowledged.
    pub async fn park(&self, letter: DeadLetter<'_>) -> Result<Stored, Error> {
        let mut headers = HeaderMap::new();
        headers.insert("Voicebus-Reason", one_line(letter.reason).as_str());
        headers.insert("Voicebus-Original-Subject", letter.subject);
        headers.insert("Voicebus-Attempts", letter.attempts.to_string().as_str());
        for (name, values) in letter.headers.into_iter().flat_map(HeaderMap::iter) {
            let name = format!("Voicebus-Original-{name}");
            for value in values {
                headers.append(name.as_str(), one_line(value.as_str()).as_str());
            }
        }
        let subject = subjects::dead_letter(letter.role, letter.code);
        let id = format!("dlq {} {}", letter.role, letter.id);
        self.store_with(subject, &id, headers, letter.payload).await
    }
}

/// async-nats panics on a line break in a header value.
fn one_line(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}
