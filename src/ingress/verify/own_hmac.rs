//! Our own senders: Standard Webhooks, with a meaning for requests without a body.
//!
//! A `POST` is signed as any webhook is. The scheme says nothing of method and path, which is all that
//! other requests consist of: a signature of nothing would open every one of them for five minutes.
//! They sign `METHOD SP TARGET` in the body's place, for example `DELETE /openclaw/call/s1`.

use axum::http::{HeaderMap, Method, Uri};

use super::standard_webhooks::{self, Key};
use super::{Refusal, Verified};
use crate::domain::Timestamp;

/// The id that a sender gave its message, the same in all attempts to deliver it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageId(String);

impl MessageId {
    /// 1 to 256 of `[A-Za-z0-9_-]`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Believes a request that one of the keys signed within the last or next five minutes.
///
/// # Errors
/// When it is not to be believed; see [`Refusal`].
pub fn verify(
    keys: &[Key],
    (method, uri): (&Method, &Uri),
    headers: &HeaderMap,
    body: &[u8],
    now: Timestamp,
) -> Result<Verified<MessageId>, Refusal> {
    let target = target(method, uri);
    let content = if *method == Method::POST {
        body
    } else {
        target.as_bytes()
    };
    let message = standard_webhooks::verify(keys, headers, content, now)?;
    Ok(Verified(MessageId(message.get().id.to_owned())))
}

fn target(method: &Method, uri: &Uri) -> String {
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    format!("{method} {target}")
}

/// Whether a request says that it is signed.
#[must_use]
pub fn is_claimed(headers: &HeaderMap) -> bool {
    [
        standard_webhooks::ID,
        standard_webhooks::TIMESTAMP,
        standard_webhooks::SIGNATURE,
    ]
    .into_iter()
    .any(|name| headers.contains_key(name))
}
