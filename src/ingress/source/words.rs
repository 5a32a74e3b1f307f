//! The words of the senders: which event types there are, and what each one says.
//!
//! The dotted words are voicebus's own and known at every door. The words with an underscore
//! belong to one contract each: a door does not take the words of another, because a word that a
//! contract never had comes from somebody who means something else by it.

use super::fields::{Clock, Fields};
use super::{Error, Source};
use crate::domain::input::{AudioMark, End, EndReason, InputKind, Speaker, Utterance};
use crate::domain::phone::Party;

/// Longest event type, in bytes. The longest known one has 33; it is kept in the dead letters.
pub const EVENT_TYPE_LENGTH_MAX: usize = 64;

/// Most tokens of an event type. OpenAI's `realtime.call.incoming` has three.
pub const EVENT_TYPE_TOKENS_MAX: usize = 3;

/// Longest text of one utterance, in bytes: hours of speech. A transcript travels in one NATS
/// message (1 MiB at most by default) together with the snapshot of its call.
pub const UTTERANCE_LENGTH_MAX: usize = 512 * 1024;

/// Longest label that is kept (speaker, end reason), in characters; the rest is cut off. It is
/// the sender's free text, and losing the event for it would be worse.
pub const LABEL_LENGTH_MAX: usize = 64;

/// What an event type tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Word {
    Started,
    Ringing,
    Answered,
    Ended,
    Failed,
    /// Something was said; by whom, where the type itself says so.
    Said(Option<Speaker>),
    Audio(AudioMark),
}

/// What a known event type tells of; `None` for an unknown one.
pub(super) fn word(source: Source, event_type: &str) -> Option<Word> {
    let contract = match source {
        Source::CallEvent => match event_type {
            "call_started" | "call_initiated" => Some(Word::Started),
            "call_ringing" => Some(Word::Ringing),
            "call_answered" => Some(Word::Answered),
            "call_ended" => Some(Word::Ended),
            "call_failed" => Some(Word::Failed),
            "transcript_update" => Some(Word::Said(None)),
            _ => None,
        },
        Source::WebhookForward => match event_type {
            "call_initiated" => Some(Word::Started),
            "call_ringing" => Some(Word::Ringing),
            "call_answered" => Some(Word::Answered),
            "call_ended" => Some(Word::Ended),
            "call_failed" => Some(Word::Failed),
            "transcript_updated" => Some(Word::Said(None)),
            "audio_received" => Some(Word::Audio(AudioMark::Received)),
            "audio_sent" => Some(Word::Audio(AudioMark::Sent)),
            _ => None,
        },
        Source::CloudEvents | Source::OpenAi | Source::Twilio => None,
    };
    contract.or_else(|| dotted(event_type))
}

fn dotted(event_type: &str) -> Option<Word> {
    Some(match event_type {
        "call.started" | "call.initiated" => Word::Started,
        "call.ringing" => Word::Ringing,
        "call.answered" => Word::Answered,
        "call.ended" => Word::Ended,
        "call.failed" => Word::Failed,
        "transcript.update" | "transcript.updated" => Word::Said(None),
        "transcript.user" => Word::Said(Some(Speaker::User)),
        "transcript.agent" => Word::Said(Some(Speaker::Agent)),
        "transcript.system" => Word::Said(Some(Speaker::System)),
        "audio.received" => Word::Audio(AudioMark::Received),
        "audio.sent" => Word::Audio(AudioMark::Sent),
        _ => return None,
    })
}

/// Reads the event type of the two contracts with an envelope of their own: tokens of lower-case
/// letters, digits and `_`, joined by dots.
pub(super) fn event_type<'a>(fields: Fields<'a>, key: &str) -> Result<&'a str, Error> {
    let text = fields.text_required(key)?;
    let is_token = |token: &str| {
        token.starts_with(|c: char| c.is_ascii_lowercase())
            && token
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    };
    let well_formed = text.len() <= EVENT_TYPE_LENGTH_MAX
        && text.split('.').count() <= EVENT_TYPE_TOKENS_MAX
        && text.split('.').all(is_token);
    if !well_formed {
        return Err(Error::EventType {
            field: fields.path(key),
            expected: "it must be 1 to 3 words of [a-z0-9_] joined by dots, 64 bytes at most",
        });
    }
    Ok(text)
}

/// Where a contract keeps what an event says.
#[derive(Clone, Copy)]
pub(super) struct Dialect<'a> {
    /// The object that has direction and number of a call that begins.
    pub(super) start: Fields<'a>,
    /// The name of the number there.
    pub(super) phone_number: &'static str,
    /// The object that has everything else.
    pub(super) data: Fields<'a>,
    /// The names of the text of an utterance; the first that is there counts.
    pub(super) text: &'static [&'static str],
    /// The name of the time of an utterance.
    pub(super) spoken_at: &'static str,
    /// How times are read.
    pub(super) clock: Clock,
}

impl Dialect<'_> {
    /// What an event of a known type says.
    pub(super) fn read(&self, word: Word) -> Result<InputKind, Error> {
        Ok(match word {
            Word::Started => InputKind::Started {
                direction: self.start.direction("direction")?,
                party: self.start.text(self.phone_number)?.map(Party::read),
                intent: None,
            },
            Word::Ringing => InputKind::Ringing,
            Word::Answered => InputKind::Answered,
            Word::Ended => InputKind::Ended(self.end(EndReason::Completed)?),
            Word::Failed => InputKind::Ended(self.end(EndReason::Failed)?),
            Word::Said(speaker) => InputKind::Utterance(self.utterance(speaker)?),
            Word::Audio(mark) => InputKind::Audio(mark),
        })
    }

    /// The reason that `data.reason` or `data.status` names, else the one that the type implies.
    /// A word that is no reason is kept as the detail.
    fn end(&self, implied: EndReason) -> Result<End, Error> {
        let words = [self.data.text("reason")?, self.data.text("status")?];
        let words = words.into_iter().flatten().map(str::trim);
        let mut named = None;
        let mut detail = None;
        for word in words.filter(|word| !word.is_empty()) {
            match EndReason::parse(word) {
                Some(reason) => named = named.or(Some(reason)),
                None => detail = detail.or_else(|| Some(label(word))),
            }
        }
        // A failure that calls itself completed is a failure.
        let contradicts = implied.is_failure() && named == Some(EndReason::Completed);
        Ok(End {
            reason: named.filter(|_| !contradicts).unwrap_or(implied),
            detail,
        })
    }

    fn utterance(&self, speaker: Option<Speaker>) -> Result<Utterance, Error> {
        let name = |key: &&&str| self.data.value(key).is_some();
        let key = self.text.iter().find(name).or(self.text.first());
        let key = key.copied().unwrap_or("text");
        let text = self.data.text_required(key)?;
        if text.len() > UTTERANCE_LENGTH_MAX {
            return Err(Error::TooLong {
                field: self.data.path(key),
                max: UTTERANCE_LENGTH_MAX,
            });
        }
        let said_by = self.data.text("speaker")?.unwrap_or_default();
        let confidence = self.data.number("confidence")?;
        Ok(Utterance {
            speaker: speaker.unwrap_or_else(|| Speaker::read(said_by)),
            speaker_label: match (said_by, speaker) {
                ("", Some(speaker)) => speaker.as_str().to_owned(),
                _ => label(said_by),
            },
            text: text.to_owned(),
            spoken_at: self.data.time(self.spoken_at, self.clock)?,
            // A percentage or a log-probability is no confidence as we know it.
            confidence: confidence.filter(|sure| (0.0..=1.0).contains(sure)),
        })
    }
}

fn label(text: &str) -> String {
    text.chars().take(LABEL_LENGTH_MAX).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(word: Word, data: &Value) -> Result<InputKind, Error> {
        let data = Fields::of_data(Some(data)).unwrap();
        let dialect = Dialect {
            start: data,
            phone_number: "phone_number",
            data,
            text: &["text", "content"],
            spoken_at: "spoken_at",
            clock: Clock::Zoned,
        };
        dialect.read(word)
    }

    fn end(word: Word, data: &Value) -> (EndReason, Option<String>) {
        match read(word, data) {
            Ok(InputKind::Ended(end)) => (end.reason, end.detail),
            other => panic!("no end: {other:?}"),
        }
    }

    fn said(word: Word, data: &Value) -> Utterance {
        match read(word, data) {
            Ok(InputKind::Utterance(utterance)) => utterance,
            other => panic!("no utterance: {other:?}"),
        }
    }

    #[test]
    fn an_underscored_word_is_known_at_the_doors_that_have_it_only() {
        let doors = |event_type| {
            [
                Source::CallEvent,
                Source::WebhookForward,
                Source::CloudEvents,
            ]
            .map(|source| word(source, event_type).is_some())
        };
        assert_eq!(doors("call_started"), [true, false, false]);
        assert_eq!(doors("call_initiated"), [true, true, false]);
        assert_eq!(doors("transcript_update"), [true, false, false]);
        assert_eq!(doors("transcript_updated"), [false, true, false]);
        assert_eq!(doors("audio_sent"), [false, true, false]);
        assert_eq!(doors("call.started"), [true; 3]);
        assert_eq!(doors("transcript.user"), [true; 3]);
        assert_eq!(doors("call.teleported"), [false; 3]);
    }

    #[test]
    fn event_types_are_words_joined_by_dots() {
        let check = |text: &str| {
            let body = json!({"event_type": text});
            event_type(Fields::of_body(&body).unwrap(), "event_type").is_ok()
        };
        for good in [
            "a",
            "call_started",
            "realtime.call.incoming",
            &"x".repeat(64),
        ] {
            assert!(check(good), "{good}");
        }
        for bad in [
            "",
            ".",
            "call.",
            ".call",
            "call..started",
            "call.>",
            "*",
            "a.b.c.d.e",
            "Call.Started",
            "1call",
            "_call",
            "call started",
            "call.started\n",
            "call-started",
            "call.st\u{430}rted",
            "$JS.API",
            &"x".repeat(65),
        ] {
            assert!(!check(bad), "{bad:?} was accepted");
        }
    }

    #[test]
    fn an_end_has_the_reason_that_the_sender_names() {
        let none = json!({});
        assert_eq!(end(Word::Ended, &none), (EndReason::Completed, None));
        assert_eq!(end(Word::Failed, &none), (EndReason::Failed, None));
        assert_eq!(
            end(Word::Ended, &json!({"status": "no_answer"})),
            (EndReason::NoAnswer, None)
        );
        assert_eq!(
            end(Word::Ended, &json!({"reason": "hangup"})),
            (EndReason::Completed, Some("hangup".to_owned()))
        );
        assert_eq!(
            end(
                Word::Ended,
                &json!({"reason": "carrier said no", "status": "failed"})
            ),
            (EndReason::Failed, Some("carrier said no".to_owned()))
        );
        assert_eq!(
            end(Word::Failed, &json!({"reason": "busy"})),
            (EndReason::Busy, None)
        );
        assert_eq!(
            end(Word::Failed, &json!({"status": "completed"})),
            (EndReason::Failed, None)
        );
        assert_eq!(
            read(Word::Ended, &json!({"status": 486}))
                .unwrap_err()
                .code(),
            "wrong_type"
        );
    }

    #[test]
    fn a_type_that_names_the_speaker_is_believed() {
        let system = Word::Said(Some(Speaker::System));
        let utterance = said(system, &json!({"text": "x", "speaker": "Nova"}));
        assert_eq!(utterance.speaker, Speaker::System);
        assert_eq!(utterance.speaker_label, "Nova");
        assert_eq!(said(system, &json!({"text": "x"})).speaker_label, "system");
    }

    #[test]
    fn the_text_is_the_first_name_that_is_there_and_may_be_empty() {
        let any = Word::Said(None);
        let both = json!({"text": null, "content": "", "speaker": "user"});
        let utterance = said(any, &both);
        assert_eq!(
            (utterance.text.as_str(), utterance.speaker),
            ("", Speaker::User)
        );
        let error = read(any, &json!({"speaker": "user"})).unwrap_err();
        assert_eq!(error.to_string(), "`data.text` is missing");
        let error = read(any, &json!({"content": ["x"]})).unwrap_err();
        assert_eq!(error.to_string(), "`data.content` must be a string");
    }

    #[test]
    fn texts_are_bounded() {
        let any = Word::Said(None);
        let of = |length: usize| json!({"text": "x".repeat(length), "speaker": "ü".repeat(100)});
        let utterance = said(any, &of(UTTERANCE_LENGTH_MAX));
        assert_eq!(utterance.speaker_label.chars().count(), LABEL_LENGTH_MAX);
        let error = read(any, &of(UTTERANCE_LENGTH_MAX + 1)).unwrap_err();
        assert_eq!(error.code(), "too_long");
    }

    #[test]
    fn a_confidence_beyond_0_to_1_is_none() {
        let of = |sure: Value| said(Word::Said(None), &json!({"text": "", "confidence": sure}));
        assert_eq!(of(json!(0.9)).confidence, Some(0.9));
        assert_eq!(of(json!(1)).confidence, Some(1.0));
        assert_eq!(of(json!(92)).confidence, None);
        assert_eq!(of(json!(null)).confidence, None);
    }
}
