//! The event body as the real emitter writes it, byte for byte.
//!
//! Compact JSON with a fixed order of keys, text unescaped, and naive timestamps without a zone: what a consumer must
//! live with, the simulator must send. This module only writes; it reads no clock and sends nothing.

use bytes::Bytes;
use chrono::{NaiveDateTime, TimeDelta, Timelike as _};
use serde::Serialize;

/// The three events which the real emitter knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EventType {
    CallStarted,
    TranscriptUpdate,
    CallEnded,
}

impl EventType {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CallStarted => "call_started",
            Self::TranscriptUpdate => "transcript_update",
            Self::CallEnded => "call_ended",
        }
    }
}

/// Which way the server believes the call goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    Inbound,
    Outbound,
}

impl Direction {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }
}

/// What an event says about its call.
#[derive(Debug, Clone, Copy)]
pub enum Content<'a> {
    Started {
        phone: &'a str,
        direction: Direction,
    },
    Utterance {
        speaker: &'a str,
        text: &'a str,
    },
    Ended {
        phone: &'a str,
        direction: Direction,
    },
}

impl Content<'_> {
    pub fn event_type(&self) -> EventType {
        match self {
            Self::Started { .. } => EventType::CallStarted,
            Self::Utterance { .. } => EventType::TranscriptUpdate,
            Self::Ended { .. } => EventType::CallEnded,
        }
    }
}

/// The bytes of one event.
pub fn body(call_id: &str, content: Content<'_>, at: NaiveDateTime) -> Bytes {
    let event_type = content.event_type().as_str();
    let (phone_number, direction, data) = match content {
        Content::Started { phone, direction } | Content::Ended { phone, direction } => {
            (phone, direction.as_str(), Data::Empty {})
        }
        // The real recorder stamps the utterance some microseconds after the event: the later one is in `data`.
        Content::Utterance { speaker, text } => {
            let timestamp =
                timestamp(at + TimeDelta::microseconds(9 + i64::from(at.nanosecond() / 1000 % 10)));
            (
                "",
                "",
                Data::Utterance {
                    timestamp,
                    speaker,
                    content: text,
                },
            )
        }
    };
    let wire = Wire {
        call_id,
        event_type,
        phone_number,
        direction,
        timestamp: timestamp(at),
        data,
    };
    Bytes::from(serde_json::to_vec(&wire).expect("strings in structs always have a JSON form"))
}

/// A naive timestamp as Python's `isoformat` writes it: microseconds, and no fraction at all when they are zero.
pub fn timestamp(at: NaiveDateTime) -> String {
    if at.nanosecond() / 1000 == 0 {
        at.format("%Y-%m-%dT%H:%M:%S").to_string()
    } else {
        at.format("%Y-%m-%dT%H:%M:%S%.6f").to_string()
    }
}

#[derive(Serialize)]
struct Wire<'a> {
    #[serde(rename = "callId")]
    call_id: &'a str,
    #[serde(rename = "eventType")]
    event_type: &'a str,
    #[serde(rename = "phoneNumber")]
    phone_number: &'a str,
    direction: &'a str,
    timestamp: String,
    data: Data<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Data<'a> {
    Empty {},
    Utterance {
        timestamp: String,
        speaker: &'a str,
        content: &'a str,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> NaiveDateTime {
        text.parse().unwrap()
    }

    #[test]
    fn a_start_has_the_bytes_of_the_captured_one() {
        let content = Content::Started {
            phone: "\"Zoë 李\" <sip:+33199001234@sip.example.com>;tag=u",
            direction: Direction::Inbound,
        };
        let bytes = body(
            "rtc_inb_unicode-name",
            content,
            at("2026-11-22T12:32:19.262963"),
        );
        let captured = r#"{"callId":"rtc_inb_unicode-name","eventType":"call_started","phoneNumber":"\"Zoë 李\" <sip:+33199001234@sip.example.com>;tag=u","direction":"inbound","timestamp":"2026-11-22T12:32:19.262963","data":{}}"#;
        assert_eq!(std::str::from_utf8(&bytes).unwrap(), captured);
        assert_eq!(bytes.len(), 203, "the captured content-length");
    }

    #[test]
    fn an_utterance_has_empty_phone_and_direction_and_a_later_stamp_in_its_data() {
        let content = Content::Utterance {
            speaker: "user",
            text: "hi",
        };
        let bytes = body("rtc_norec", content, at("2026-11-22T12:33:49.802320"));
        let captured = r#"{"callId":"rtc_norec","eventType":"transcript_update","phoneNumber":"","direction":"","timestamp":"2026-11-22T12:33:49.802320","data":{"timestamp":"2026-11-22T12:33:49.802329","speaker":"user","content":"hi"}}"#;
        assert_eq!(std::str::from_utf8(&bytes).unwrap(), captured);
    }

    #[test]
    fn a_whole_second_has_no_fraction() {
        assert_eq!(timestamp(at("2026-11-22T12:32:19")), "2026-11-22T12:32:19");
        assert_eq!(
            timestamp(at("2026-11-22T12:32:19.000001")),
            "2026-11-22T12:32:19.000001"
        );
    }
}
