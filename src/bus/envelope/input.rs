//! An accepted event in VOICE_IN: what it says, normalised, and the body as it came.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::event::CommandSnapshot;
use super::link::LinkData;
use super::{Error, field, from_bytes, to_bytes, word};
use crate::domain::Timestamp;
use crate::domain::ids::{AgentId, CallId, EventId, IntentId, SessionKey};
use crate::domain::input::{
    AudioMark, Context, Direction, End, EndReason, Input, InputKind, Position, Recorded, Speaker,
    Utterance,
};
use crate::domain::phone::{E164, Party};

const WHAT: &str = "input";
const VERSION: u32 = 1;

/// The wire form of an input. Its position is where the stream puts it.
#[derive(Debug, Serialize, Deserialize)]
pub struct InputEnvelope {
    version: u32,
    id: String,
    source: String,
    call: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    happened_at: Option<Timestamp>,
    received_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    source_sequence: Option<u64>,
    says: Says,
    /// W3C trace context of the sender.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// The body as it came, byte for byte.
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<Box<RawValue>>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Says {
    Started {
        #[serde(skip_serializing_if = "Option::is_none")]
        direction: Option<String>,
        /// The number, `""` for a party without one; absent when nothing was said.
        #[serde(skip_serializing_if = "Option::is_none")]
        number: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        intent: Option<String>,
    },
    Ringing,
    Answered,
    Ended {
        reason: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        detail: Option<String>,
    },
    Utterance {
        speaker: String,
        label: String,
        text: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        spoken_at: Option<Timestamp>,
        #[serde(skip_serializing_if = "Option::is_none")]
        confidence: Option<f64>,
    },
    Recorded {
        speaker: String,
        label: String,
        text: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        spoken_at: Option<Timestamp>,
        /// Times of the like ones before it in the history.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        before: Vec<Option<Timestamp>>,
    },
    Sync,
    AudioReceived,
    AudioSent,
    Dialled {
        intent: String,
        session: String,
        to: String,
    },
    Cancelled,
    Context {
        /// JSON as text: a tagged enum cannot hold raw JSON.
        context: String,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        live: bool,
    },
    Command(CommandSnapshot),
    Linked(LinkData),
}

/// Writes an input for the stream. `body` is kept as it came when it is JSON and both fit into a
/// message; what it says is kept in any case.
///
/// # Errors
/// When the whole is larger than a message may be.
pub fn encode_input(
    input: &Input,
    source: &str,
    traceparent: Option<&str>,
    body: Option<&str>,
) -> Result<Bytes, Error> {
    let says = match &input.kind {
        InputKind::Started {
            direction,
            party,
            intent,
        } => Says::Started {
            direction: direction.map(|direction| direction.as_str().to_owned()),
            number: party
                .as_ref()
                .map(|party| party.number().map(ToString::to_string).unwrap_or_default()),
            intent: intent.as_ref().map(ToString::to_string),
        },
        InputKind::Ringing => Says::Ringing,
        InputKind::Answered => Says::Answered,
        InputKind::Ended(end) => Says::Ended {
            reason: end.reason.as_str().to_owned(),
            detail: end.detail.clone(),
        },
        InputKind::Utterance(utterance) => Says::Utterance {
            speaker: utterance.speaker.as_str().to_owned(),
            label: utterance.speaker_label.clone(),
            text: utterance.text.clone(),
            spoken_at: utterance.spoken_at,
            confidence: utterance.confidence,
        },
        InputKind::Recorded(Recorded { utterance, before }) => Says::Recorded {
            speaker: utterance.speaker.as_str().to_owned(),
            label: utterance.speaker_label.clone(),
            text: utterance.text.clone(),
            spoken_at: utterance.spoken_at,
            before: before.clone(),
        },
        InputKind::Sync => Says::Sync,
        InputKind::Timer(_) => {
            return Err(Error::Field {
                what: WHAT,
                field: "says",
                reason: "a timer is armed, not written".to_owned(),
            });
        }
        InputKind::Audio(AudioMark::Received) => Says::AudioReceived,
        InputKind::Audio(AudioMark::Sent) => Says::AudioSent,
        InputKind::Dialled {
            intent,
            session,
            to,
        } => Says::Dialled {
            intent: intent.to_string(),
            session: session.to_string(),
            to: to.to_string(),
        },
        InputKind::Cancelled => Says::Cancelled,
        InputKind::Context(context) => Says::Context {
            context: context.json.clone(),
            live: context.live,
        },
        InputKind::Command(report) => Says::Command(CommandSnapshot::from_report(report)),
        InputKind::Linked(link) => Says::Linked(LinkData::of(link)),
    };
    let envelope = InputEnvelope {
        version: VERSION,
        id: input.id.to_string(),
        source: source.to_owned(),
        call: input.call.to_string(),
        happened_at: input.happened_at,
        received_at: input.received_at,
        source_sequence: input.source_sequence,
        says,
        traceparent: traceparent.map(str::to_owned),
        body: body.and_then(|body| RawValue::from_string(body.to_owned()).ok()),
    };
    match to_bytes(WHAT, &envelope) {
        Err(Error::TooLarge { .. }) if envelope.body.is_some() => to_bytes(
            WHAT,
            &InputEnvelope {
                body: None,
                ..envelope
            },
        ),
        written => written,
    }
}

/// Reads an input back, with the sender's trace context.
///
/// # Errors
/// When the message is not an input of a version that this program knows.
pub fn decode_input(bytes: &[u8], position: Position) -> Result<(Input, Option<String>), Error> {
    let envelope: InputEnvelope = from_bytes(WHAT, bytes)?;
    if envelope.version > VERSION {
        return Err(Error::Version {
            what: WHAT,
            found: envelope.version,
            known: VERSION,
        });
    }
    let kind = match envelope.says {
        Says::Started {
            direction,
            number,
            intent,
        } => InputKind::Started {
            direction: direction
                .map(|text| word(WHAT, "direction", Direction::parse(&text)))
                .transpose()?,
            party: number
                .map(|text| match text.as_str() {
                    "" => Ok(Party::Anonymous),
                    text => field(WHAT, "number", E164::parse(text)).map(Party::Number),
                })
                .transpose()?,
            intent: intent
                .map(|text| field(WHAT, "intent", IntentId::parse(&text)))
                .transpose()?,
        },
        Says::Ringing => InputKind::Ringing,
        Says::Answered => InputKind::Answered,
        Says::Ended { reason, detail } => InputKind::Ended(End {
            reason: word(WHAT, "reason", EndReason::parse(&reason))?,
            detail,
        }),
        Says::Utterance {
            speaker,
            label,
            text,
            spoken_at,
            confidence,
        } => InputKind::Utterance(Utterance {
            speaker: Speaker::read(&speaker),
            speaker_label: label,
            text,
            spoken_at,
            confidence,
        }),
        Says::Recorded {
            speaker,
            label,
            text,
            spoken_at,
            before,
        } => InputKind::Recorded(Recorded {
            utterance: Utterance {
                speaker: Speaker::read(&speaker),
                speaker_label: label,
                text,
                spoken_at,
                confidence: None,
            },
            before,
        }),
        Says::Sync => InputKind::Sync,
        Says::AudioReceived => InputKind::Audio(AudioMark::Received),
        Says::AudioSent => InputKind::Audio(AudioMark::Sent),
        Says::Dialled {
            intent,
            session,
            to,
        } => InputKind::Dialled {
            intent: field(WHAT, "intent", IntentId::parse(&intent))?,
            session: session_key(WHAT, &session)?,
            to: field(WHAT, "to", E164::parse(&to))?,
        },
        Says::Cancelled => InputKind::Cancelled,
        Says::Context { context, live } => InputKind::Context(Context {
            json: context,
            live,
        }),
        Says::Command(snapshot) => InputKind::Command(snapshot.to_report()?),
        Says::Linked(link) => InputKind::Linked(link.to_link()?),
    };
    let input = Input {
        id: field(WHAT, "id", EventId::parse(&envelope.id))?,
        call: field(WHAT, "call", CallId::parse(&envelope.call))?,
        position,
        happened_at: envelope.happened_at,
        received_at: envelope.received_at,
        source_sequence: envelope.source_sequence,
        kind,
    };
    Ok((input, envelope.traceparent))
}

/// Keys on the bus are canonical already, so no agent has to be put in front; one that is not
/// canonical is refused rather than mended.
pub(super) fn session_key(what: &'static str, text: &str) -> Result<SessionKey, Error> {
    let any = field(what, "session", AgentId::parse("main"))?;
    let key = field(what, "session", SessionKey::parse(text, &any))?;
    if key.as_str() != text {
        return Err(Error::Field {
            what,
            field: "session",
            reason: "not canonical".to_owned(),
        });
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roundtrip(kind: InputKind) {
        let position = Position {
            epoch: 7,
            sequence: 9,
        };
        let input = Input {
            id: EventId::parse("ev_1").unwrap(),
            call: CallId::parse("rtc_1").unwrap(),
            position,
            happened_at: None,
            received_at: Timestamp::from_timestamp(1_800_000_000, 123_456_789).unwrap(),
            source_sequence: Some(4),
            kind,
        };
        let bytes = encode_input(
            &input,
            "call-event",
            None,
            Some("{\"n\":1208925819614629174706176}"),
        )
        .unwrap();
        assert!(
            std::str::from_utf8(&bytes)
                .unwrap()
                .contains("1208925819614629174706176"),
            "the body was rounded"
        );
        assert_eq!(decode_input(&bytes, position).unwrap().0, input);
    }

    #[test]
    fn every_input_reads_back_as_it_was_written() {
        let number = E164::parse("+12015550142").unwrap();
        let session = SessionKey::parse("s", &AgentId::parse("main").unwrap()).unwrap();
        roundtrip(InputKind::Started {
            direction: None,
            party: None,
            intent: None,
        });
        roundtrip(InputKind::Started {
            direction: Some(Direction::Inbound),
            party: Some(Party::Anonymous),
            intent: None,
        });
        roundtrip(InputKind::Started {
            direction: Some(Direction::Outbound),
            party: Some(Party::Number(number.clone())),
            intent: Some(IntentId::parse("i-1").unwrap()),
        });
        roundtrip(InputKind::Ringing);
        roundtrip(InputKind::Answered);
        roundtrip(InputKind::Ended(End {
            reason: EndReason::NoAnswer,
            detail: Some("x".into()),
        }));
        roundtrip(InputKind::Utterance(Utterance {
            speaker: Speaker::Agent,
            speaker_label: "assistant".into(),
            text: "Grüß Gott — 你好 \u{0} 👩‍👩‍👧".into(),
            spoken_at: None,
            confidence: Some(0.9),
        }));
        roundtrip(InputKind::Recorded(Recorded {
            utterance: Utterance {
                speaker: Speaker::System,
                speaker_label: "tool".into(),
                text: "x".into(),
                spoken_at: Timestamp::from_timestamp(1_800_000_000, 1000),
                confidence: None,
            },
            before: vec![None, Timestamp::from_timestamp(1_800_000_000, 0)],
        }));
        roundtrip(InputKind::Sync);
        roundtrip(InputKind::Audio(AudioMark::Sent));
        roundtrip(InputKind::Dialled {
            intent: IntentId::parse("i").unwrap(),
            session,
            to: number,
        });
        roundtrip(InputKind::Cancelled);
        roundtrip(InputKind::Linked(crate::domain::session::Link {
            number: E164::parse("+12015550142").unwrap(),
            to: None,
            was: Some(SessionKey::main(&AgentId::parse("main").unwrap())),
        }));
        for live in [true, false] {
            let json = "{\"k\":[1,1e400]}".into();
            roundtrip(InputKind::Context(Context { json, live }));
        }
    }

    #[test]
    fn a_newer_version_is_refused_and_not_guessed_at() {
        let bytes = br#"{"version":2,"id":"e","source":"s","call":"c","received_at":"2026-11-22T12:00:00Z","says":{"type":"ringing"}}"#;
        assert!(matches!(
            decode_input(bytes, Position::default()),
            Err(Error::Version { found: 2, .. })
        ));
    }
}
