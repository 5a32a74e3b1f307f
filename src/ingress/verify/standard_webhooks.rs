//! Standard Webhooks 1.0 with symmetric keys (`v1`): HMAC-SHA256 over `id.timestamp.body`.
//!
//! Stricter than every library of the scheme: see [`super`]. A signature that does not decode is
//! passed over, as one of a version that we do not know is, because a sender in mid-rotation signs
//! with more than one key; but the list itself must be well formed.

use axum::http::HeaderMap;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use thiserror::Error as ThisError;

use super::{Refusal, Verified, any_equal, base64, single};
use crate::domain::Timestamp;

/// Names the message, the same in all attempts to deliver it.
pub const ID: &str = "webhook-id";
/// When this attempt was signed, in seconds since 1970.
pub const TIMESTAMP: &str = "webhook-timestamp";
/// The signatures.
pub const SIGNATURE: &str = "webhook-signature";

/// How far the sender's clock may be from ours, either way, the bound included.
const TOLERANCE_SECONDS: i64 = 300;
/// Longest id; a UUID has 36 characters.
const ID_LENGTH_MAX: usize = 256;
/// Longest list of signatures, in bytes, and most signatures in it. A sender that rotates has two.
const SIGNATURES_LENGTH_MAX: usize = 4096;
const SIGNATURES_MAX: usize = 10;
/// Bytes of a key, by the specification.
const KEY_LENGTHS: std::ops::RangeInclusive<usize> = 24..=64;

/// A key of one sender.
#[derive(Clone)]
pub struct Key(Hmac<Sha256>);

/// Why a text is no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ThisError)]
pub enum KeyError {
    /// Some libraries take such a text for base64, others for the key itself.
    #[error("it must begin with `whsec_`")]
    Prefix,
    /// Not base64, or not its one spelling.
    #[error("what follows `whsec_` must be base64, with its padding")]
    Base64,
    /// Too short to resist guessing, or too long to be one.
    #[error("it must hold 24 to 64 bytes")]
    Length,
}

impl Key {
    /// Reads a key as the sender's console shows it: `whsec_` and base64.
    ///
    /// # Errors
    /// When the text cannot be one.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let text = text.strip_prefix("whsec_").ok_or(KeyError::Prefix)?;
        let bytes = STANDARD.decode(text).map_err(|_| KeyError::Base64)?;
        if !KEY_LENGTHS.contains(&bytes.len()) {
            return Err(KeyError::Length);
        }
        let mac = Hmac::new_from_slice(&bytes).map_err(|_| KeyError::Length)?;
        Ok(Self(mac))
    }

    fn sign(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut mac = self.0.clone();
        for part in parts {
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key")
    }
}

/// A message of a known sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'a> {
    /// The sender's id of it, the same in all attempts: 1 to 256 of `[A-Za-z0-9_-]`.
    pub id: &'a str,
    /// What was signed.
    pub body: &'a [u8],
}

/// Believes a message that one of the keys signed within the last or next five minutes.
///
/// # Errors
/// When it is not to be believed; see [`Refusal`].
pub fn verify<'a>(
    keys: &[Key],
    headers: &'a HeaderMap,
    body: &'a [u8],
    now: Timestamp,
) -> Result<Verified<Message<'a>>, Refusal> {
    let lines = [ID, TIMESTAMP, SIGNATURE].map(|name| single(headers, name));
    // A repeated line is told before a missing one: it is the sender's mistake, not a stranger.
    if let Some(repeated) = lines
        .into_iter()
        .find_map(|line| line.err().filter(|refusal| refusal.is_malformed()))
    {
        return Err(repeated);
    }
    let [id, timestamp, signatures] = lines;
    let (id, timestamp, signatures) = (id?, timestamp?, signatures?);
    let id = check_id(id)?;
    let away = read_time(timestamp)? - now.timestamp();
    let shown = read_signatures(signatures)?;
    let made = keys
        .iter()
        .map(|key| key.sign(&[id.as_bytes(), b".", timestamp, b".", body]));
    if !any_equal(&shown, made) {
        return Err(Refusal::NoMatch);
    }
    // Last, so that it is told of those only who have a key: a clock is wrong, ours or theirs.
    if away.abs() > TOLERANCE_SECONDS {
        return Err(Refusal::Stale(away));
    }
    Ok(Verified(Message { id, body }))
}

/// A dot in the id would let two messages sign alike, and the id goes on to the bus.
fn check_id(id: &[u8]) -> Result<&str, Refusal> {
    let fits = (1..=ID_LENGTH_MAX).contains(&id.len())
        && id
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    let id = fits.then(|| std::str::from_utf8(id).ok()).flatten();
    id.ok_or(Refusal::Id(ID))
}

/// Plain digits only: no sign, no fraction, no leading zero, no more than twelve.
fn read_time(text: &[u8]) -> Result<i64, Refusal> {
    let plain = (1..=12).contains(&text.len())
        && text.iter().all(u8::is_ascii_digit)
        && !text.starts_with(b"0");
    plain
        .then(|| std::str::from_utf8(text).ok()?.parse::<i64>().ok())
        .flatten()
        .ok_or(Refusal::Time(TIMESTAMP))
}

/// The signatures of version 1 in a list that has one space between two entries.
fn read_signatures(list: &[u8]) -> Result<Vec<[u8; 32]>, Refusal> {
    let malformed = Refusal::Malformed(SIGNATURE);
    if list.len() > SIGNATURES_LENGTH_MAX {
        return Err(malformed);
    }
    let entries: Vec<&[u8]> = list.split(|byte| *byte == b' ').collect();
    if entries.len() > SIGNATURES_MAX {
        return Err(malformed);
    }
    let mut shown = Vec::new();
    for entry in entries {
        let comma = entry.iter().position(|byte| *byte == b',');
        let (version, signature) = entry.split_at(comma.ok_or(malformed)?);
        if version == b"v1" {
            shown.extend(base64::<32>(&signature[1..]));
        }
    }
    Ok(shown)
}
