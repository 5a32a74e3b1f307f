//! Ids of events: `ev_` and 32 hex digits of a SHA-256.
//!
//! The same event always gets the same id, at every ingress and after every restart, because the
//! id is all that tells a repeat from a second event. So what goes into a digest, and in which
//! order, never changes; the golden tests hold it.
//!
//! A sender that numbers its events is believed: the id is made of its source and its number. For
//! one that does not, the id is made of everything the event says. Two events that say the same at
//! the same time are then one; the real emitter stamps microseconds, so it never makes two such.

use sha2::{Digest as _, Sha256};

use super::{Error, Source};
use crate::domain::ids::{CallId, EventId};

/// Longest id that a sender may give an event, in bytes. Ids in use are below 100; the id is
/// hashed, so the bound keeps out only what is no id at all.
pub const SENDER_ID_LENGTH_MAX: usize = 512;

/// Bytes of the hash that make the id: 128 bits, beyond any chance of two events meeting.
const DIGEST_LENGTH: usize = 16;

/// What makes an event without an id of its own itself.
#[derive(Debug, Clone, Copy)]
pub struct Content<'a> {
    /// Which contract it came by.
    pub source: Source,
    /// The call it is about.
    pub call: &'a CallId,
    /// The type as the sender spells it.
    pub event_type: &'a str,
    /// The time as the sender writes it.
    pub timestamp: Option<&'a str>,
    /// The other party as the sender writes it, where the envelope has it.
    pub phone_number: Option<&'a str>,
    /// The direction as the sender writes it, where the envelope has it.
    pub direction: Option<&'a str>,
    /// The data as JSON without blanks, keys in order.
    pub data: Option<&'a str>,
}

/// The id of an event whose sender has none.
#[must_use]
pub fn of_content(content: &Content<'_>) -> EventId {
    let mut digest = Digest::new("content");
    digest.part(Some(content.source.as_str()));
    digest.part(Some(content.call.as_str()));
    digest.part(Some(content.event_type));
    digest.part(content.timestamp);
    digest.part(content.phone_number);
    digest.part(content.direction);
    digest.part(content.data);
    digest.finish()
}

/// The id of an event whose sender names it in a header. The call is part of it, so that a sender
/// that counts per call loses nothing.
///
/// # Errors
/// When the sender's id is empty, too long or not visible text.
pub fn of_sender(source: Source, call: &CallId, sender_id: &str) -> Result<EventId, Error> {
    let sender_id = check(sender_id, "the id header")?;
    let mut digest = Digest::new("sender");
    digest.part(Some(source.as_str()));
    digest.part(Some(call.as_str()));
    digest.part(Some(sender_id));
    Ok(digest.finish())
}

/// The id of a message that is about no call, by what names it at its source.
#[must_use]
pub fn of_message(source: Source, name: &str) -> EventId {
    let mut digest = Digest::new("message");
    digest.part(Some(source.as_str()));
    digest.part(Some(name));
    digest.finish()
}

/// The id of a CloudEvent: its `source` and `id` name it in the whole world.
#[must_use]
pub fn of_cloudevent(source: &str, id: &str) -> EventId {
    let mut digest = Digest::new("cloudevent");
    digest.part(Some(source));
    digest.part(Some(id));
    digest.finish()
}

/// Checks an id that a sender gave an event.
pub(super) fn check<'a>(id: &'a str, field: &str) -> Result<&'a str, Error> {
    let fits = (1..=SENDER_ID_LENGTH_MAX).contains(&id.len());
    if !fits || id.trim().is_empty() || id.chars().any(char::is_control) {
        return Err(Error::EventId {
            field: field.to_owned(),
            max: SENDER_ID_LENGTH_MAX,
        });
    }
    Ok(id)
}

/// A hash over parts, each with its length in front, so that no two lists of parts look the same.
struct Digest(Sha256);

impl Digest {
    fn new(kind: &str) -> Self {
        let mut digest = Self(Sha256::new());
        digest.part(Some("voicebus event 1"));
        digest.part(Some(kind));
        digest
    }

    /// A missing part is not an empty one.
    fn part(&mut self, part: Option<&str>) {
        // A length of a text in memory is below 2^63, so the largest number is free.
        let length = part.map_or(u64::MAX, |part| part.len() as u64);
        self.0.update(length.to_be_bytes());
        self.0.update(part.unwrap_or_default());
    }

    fn finish(self) -> EventId {
        let hash = self.0.finalize();
        let hex: String = hash
            .iter()
            .take(DIGEST_LENGTH)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        EventId::parse(&format!("ev_{hex}")).expect("`ev_` and hex digits are an id")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call() -> CallId {
        CallId::parse("rtc_1").unwrap()
    }

    fn content(call: &CallId) -> Content<'_> {
        Content {
            source: Source::CallEvent,
            call,
            event_type: "call_started",
            timestamp: Some("2026-11-22T12:32:16.172805"),
            phone_number: Some(""),
            direction: None,
            data: Some("{}"),
        }
    }

    #[test]
    fn an_id_never_changes() {
        let call = call();
        let content = of_content(&content(&call));
        assert_eq!(content.as_str(), "ev_386ca091d16c1169803c1bc5e3b73bc9");
        let sender = of_sender(Source::CallEvent, &call, "42").unwrap();
        assert_eq!(sender.as_str(), "ev_3740fe322bf6f3f2ae132213db0a4172");
        let message = of_message(Source::OpenAi, "wh_1");
        assert_eq!(message.as_str(), "ev_ada9b0c3727292e45628860df144b78e");
        let cloudevent = of_cloudevent("/server", "42");
        assert_eq!(cloudevent.as_str(), "ev_7fa16dd1d68231f94e44851c03eb5c39");
    }

    #[test]
    fn every_part_counts_and_none_runs_into_the_next() {
        let call = call();
        let first = of_content(&content(&call));
        let others = [
            Content {
                phone_number: None,
                ..content(&call)
            },
            Content {
                phone_number: None,
                direction: Some(""),
                ..content(&call)
            },
            Content {
                source: Source::WebhookForward,
                ..content(&call)
            },
            Content {
                timestamp: Some("2026-11-22T12:32:16.172806"),
                ..content(&call)
            },
            Content {
                event_type: "call_starte",
                timestamp: Some("d2026-11-22T12:32:16.172805"),
                ..content(&call)
            },
        ];
        for other in others {
            assert_ne!(of_content(&other), first);
        }
        assert_ne!(of_cloudevent("/a", "bc"), of_cloudevent("/ab", "c"));
    }

    #[test]
    fn an_id_of_a_sender_is_scoped_to_door_and_call() {
        let of = |source, call: &str| {
            let call = CallId::parse(call).unwrap();
            of_sender(source, &call, "1").unwrap()
        };
        assert_eq!(of(Source::CallEvent, "a"), of(Source::CallEvent, "a"));
        assert_ne!(of(Source::CallEvent, "a"), of(Source::CallEvent, "b"));
        assert_ne!(of(Source::CallEvent, "a"), of(Source::WebhookForward, "a"));
    }

    #[test]
    fn a_sender_id_that_is_none_is_refused() {
        for bad in ["", "  ", "a\nb", &"x".repeat(513)] {
            let error = of_sender(Source::CallEvent, &call(), bad).unwrap_err();
            assert_eq!(error.code(), "invalid_event_id");
            assert!(error.is_id_error());
        }
    }
}
