//! What is decided once, when `VOICE_IN` is made: the number of partitions and the salt. And which `VOICE_IN`
//! it is, since sequences begin again when a stream is deleted and made anew.

use std::fmt;

use async_nats::jetstream::Context;
use chrono::DateTime;
use serde_json::{Value, json};

use super::compare::{Difference, Verdict};
use super::{Error, Object, api, wanted};

pub(super) const PARTITIONS_KEY: &str = "voicebus-partitions";
pub(super) const SALT_KEY: &str = "voicebus-salt";

const SALT_BYTES: usize = 16;

/// How calls are spread and named. The same for every role for as long as `VOICE_IN` lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// At least 1.
    pub partitions: u32,
    /// Goes into session tokens, so that a phone number cannot be guessed from one.
    pub salt: Salt,
    /// Goes in front of every input sequence that is written down.
    pub epoch: StreamEpoch,
}

/// The secret of session tokens. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Salt([u8; SALT_BYTES]);

impl Salt {
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// 32 hexadecimal digits, as stored.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.as_bytes();
        if digits.len() != 2 * SALT_BYTES {
            return None;
        }
        let mut bytes = [0; SALT_BYTES];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = 16 * hex_digit(pair[0])? + hex_digit(pair[1])?;
        }
        Some(Self(bytes))
    }

    pub(super) fn random() -> Result<Self, Error> {
        let mut bytes = [0; SALT_BYTES];
        // The TLS library's source: it is there anyway, and the operating system's behind it.
        rustls::crypto::ring::default_provider()
            .secure_random
            .fill(&mut bytes)
            .map_err(|_| Error::NoRandomness)?;
        Ok(Self(bytes))
    }

    fn to_hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl fmt::Debug for Salt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Salt(..)")
    }
}

fn hex_digit(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

/// When `VOICE_IN` was created, in nanoseconds since 1970. Grows when the stream is made anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamEpoch(u64);

impl StreamEpoch {
    #[must_use]
    pub fn from_unix_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    #[must_use]
    pub fn as_unix_nanos(self) -> u64 {
        self.0
    }
}

impl fmt::Display for StreamEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Reads the layout; needs no more than the right to look up `VOICE_IN`.
///
/// # Errors
///
/// When the stream is missing, was not made by [`super::provision`], or the server cannot be asked.
pub async fn read_layout(jetstream: &Context) -> Result<Layout, Error> {
    let object = Object::stream(wanted::INPUTS);
    match api::info(jetstream, &object).await? {
        Some(info) => parse(&info),
        None => Err(Error::StreamMissing {
            name: wanted::INPUTS,
        }),
    }
}

fn parse(info: &Value) -> Result<Layout, Error> {
    let created = &info["created"];
    Ok(Layout {
        partitions: partitions(info).ok_or_else(|| lost(PARTITIONS_KEY, info))?,
        salt: salt(info).ok_or_else(|| lost(SALT_KEY, info))?,
        epoch: epoch(created).ok_or_else(|| Error::Unreadable {
            object: Object::stream(wanted::INPUTS),
            field: "created",
            found: created.to_string(),
        })?,
    })
}

fn partitions(info: &Value) -> Option<u32> {
    let text = info["config"]["metadata"][PARTITIONS_KEY].as_str()?;
    text.parse().ok().filter(|number| *number > 0)
}

fn salt(info: &Value) -> Option<Salt> {
    Salt::parse(info["config"]["metadata"][SALT_KEY].as_str()?)
}

fn epoch(created: &Value) -> Option<StreamEpoch> {
    let created = DateTime::parse_from_rfc3339(created.as_str()?).ok()?;
    u64::try_from(created.timestamp_nanos_opt()?)
        .ok()
        .map(StreamEpoch)
}

/// The value of a broken salt is not repeated: it may be most of a good one.
fn lost(key: &'static str, info: &Value) -> Error {
    let found = match &info["config"]["metadata"][key] {
        Value::Null => "none".to_owned(),
        _ if key == SALT_KEY => "something else".to_owned(),
        other => other.to_string(),
    };
    Error::Metadata { key, found }
}

pub(super) fn insert_salt(config: &mut Value, salt: &Salt) {
    if config["metadata"].is_null() {
        config["metadata"] = json!({});
    }
    config["metadata"][SALT_KEY] = json!(salt.to_hex());
}

/// Checks an existing `VOICE_IN` before anything is changed. A stream made by other means and never used may
/// still get its salt.
pub(super) fn missing_salt(info: &Value, wanted: u32) -> Result<Option<Difference>, Error> {
    let used = info["state"]["last_seq"].as_u64() != Some(0);
    match partitions(info) {
        Some(found) if found != wanted => return Err(Error::PartitionsFixed { found, wanted }),
        None if used => return Err(lost(PARTITIONS_KEY, info)),
        Some(_) | None => {}
    }
    match salt(info) {
        Some(_) => Ok(None),
        None if used => Err(lost(SALT_KEY, info)),
        None => Ok(Some(Difference {
            field: format!("metadata.{SALT_KEY}"),
            wanted: json!("(random)"),
            found: Value::Null,
            verdict: Verdict::Safe,
        })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(metadata: Value, last_seq: u64) -> Value {
        json!({
            "created": "2026-11-22T13:44:58.616308001Z",
            "config": { "metadata": metadata },
            "state": { "last_seq": last_seq },
        })
    }

    #[test]
    fn a_layout_is_read_to_the_nanosecond_and_hides_its_salt() {
        let salt = "00112233445566778899aabbccddeeff";
        let layout = parse(&info(json!({ PARTITIONS_KEY: "32", SALT_KEY: salt }), 9)).unwrap();
        assert_eq!(layout.partitions, 32);
        assert_eq!(layout.salt.to_hex(), salt);
        assert_eq!(layout.epoch.as_unix_nanos(), 1_795_355_098_616_308_001);
        assert!(!format!("{layout:?}").contains("eeff"));
    }

    #[test]
    fn two_salts_are_not_the_same() {
        assert_ne!(Salt::random().unwrap(), Salt::random().unwrap());
    }

    #[test]
    fn a_salt_that_is_not_sixteen_bytes_of_hex_is_none() {
        for bad in [
            "",
            "00",
            "00112233445566778899aabbccddeef",
            "00112233445566778899AABBCCDDEEFF",
            "é0112233445566778899aabbccddeef",
        ] {
            assert_eq!(Salt::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn another_number_of_partitions_is_refused_even_on_an_empty_stream() {
        let error = missing_salt(&info(json!({ PARTITIONS_KEY: "16" }), 0), 32).unwrap_err();
        assert!(matches!(
            error,
            Error::PartitionsFixed {
                found: 16,
                wanted: 32
            }
        ));
    }

    #[test]
    fn a_lost_salt_is_refused_once_there_were_inputs_and_made_before() {
        let metadata = json!({ PARTITIONS_KEY: "32" });
        assert!(
            missing_salt(&info(metadata.clone(), 0), 32)
                .unwrap()
                .is_some()
        );
        assert!(missing_salt(&info(metadata, 1), 32).is_err());
        let broken = missing_salt(
            &info(json!({ PARTITIONS_KEY: "32", SALT_KEY: "c0ffee" }), 1),
            32,
        )
        .unwrap_err();
        assert!(!broken.to_string().contains("c0ffee"));
    }

    #[test]
    fn lost_partitions_are_refused_once_there_were_inputs() {
        assert!(missing_salt(&info(json!({}), 1), 32).is_err());
        assert!(missing_salt(&info(json!({}), 0), 32).is_ok());
    }
}
