//! Who sent it: signatures, checked over the bytes as they came, before anything is parsed.
//!
//! | file | scheme | senders |
//! |---|---|---|
//! | [`standard_webhooks`] | Standard Webhooks 1.0, symmetric (`v1`) | OpenAI |
//! | [`own_hmac`] | the same, with what it signs when there is no body | our own |
//! | [`twilio`] | `X-Twilio-Signature` | Twilio |
//!
//! Bearer tokens are in [`crate::http::auth`]. Pure: secrets, headers, body, public URL and time come
//! in as arguments. Which algorithm, which keys and which URL count is configuration, never something
//! that a request says of itself. Where the vendors' own libraries differ, the strictest reading wins:
//! a header line that is there twice is refused, base64 has one spelling, and every key is compared in
//! constant time, so that neither time nor answer tells how near a forgery came.

pub mod form;
pub mod own_hmac;
pub mod standard_webhooks;
pub mod twilio;

use axum::http::HeaderMap;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use subtle::{Choice, ConstantTimeEq};
use thiserror::Error as ThisError;

/// Something whose sender is known. Only the schemes of this module make one, and a parser that
/// takes one cannot be given anything else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified<T>(T);

impl<T> Verified<T> {
    /// What was verified.
    pub fn get(&self) -> &T {
        &self.0
    }
}

/// Why a request is not believed. For the log: the sender is told no more than that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ThisError)]
pub enum Refusal {
    /// A header that the scheme needs is not there.
    #[error("the header `{0}` is missing")]
    Missing(&'static str),
    /// A header that must be single is there twice; readers differ in which one counts.
    #[error("the header `{0}` is there twice")]
    Repeated(&'static str),
    /// The id of the message is not one.
    #[error("the header `{0}` is not 1 to 256 of [A-Za-z0-9_-]")]
    Id(&'static str),
    /// The form cannot be read.
    #[error("the form cannot be read: {0}")]
    Form(form::Error),
    /// The time is no plain number of seconds.
    #[error("the header `{0}` is not a time in seconds")]
    Time(&'static str),
    /// Signed with a key that is known, but too long ago or in the future: a clock that is wrong, or
    /// a replay.
    #[error("it was signed {0} s away from now")]
    Stale(i64),
    /// The signature is not one of this scheme.
    #[error("the header `{0}` is not a signature of this scheme")]
    Malformed(&'static str),
    /// No key makes this signature.
    #[error("no key makes this signature")]
    NoMatch,
    /// The body is not covered by the signature.
    #[error("the signature does not cover the body")]
    Uncovered,
    /// The sender signed with another algorithm than the one that is configured.
    #[error("it was signed with another algorithm than the configured one")]
    Algorithm,
}

impl Refusal {
    /// Whether the request could not even be read, rather than not be believed.
    #[must_use]
    pub fn is_malformed(self) -> bool {
        matches!(self, Self::Repeated(_) | Self::Id(_) | Self::Form(_))
    }
}

/// The value of a header that must be there once.
fn single<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<&'a [u8], Refusal> {
    let mut lines = headers.get_all(name).iter();
    match (lines.next(), lines.next()) {
        (Some(line), None) => Ok(line.as_bytes()),
        (Some(_), Some(_)) => Err(Refusal::Repeated(name)),
        (None, _) => Err(Refusal::Missing(name)),
    }
}

/// Decodes base64 of the one spelling that RFC 4648 has for `N` bytes: padded, no unused bits.
fn base64<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    // The engine wants room for whole groups of three.
    let mut bytes = [0; 96];
    let length = STANDARD.decode_slice(text, &mut bytes).ok()?;
    bytes[..length].try_into().ok()
}

/// Whether any of the signatures is any of those that our keys make. All are compared, whatever the
/// first comparison says.
fn any_equal<const N: usize>(shown: &[[u8; N]], made: impl IntoIterator<Item = [u8; N]>) -> bool {
    let none = Choice::from(0);
    let found = made.into_iter().fold(none, |found, made| {
        shown
            .iter()
            .fold(found, |found, shown| found | shown.ct_eq(&made))
    });
    found.into()
}
