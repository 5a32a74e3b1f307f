//! Whether an id that a sender has signed was used for something else before.
//!
//! Only the server's memory of message ids is asked, which all ingresses share and which reaches as
//! far back as the `duplicate_window` of VOICE_IN: an ingress may write there and read nothing. Two
//! ids are stored, that of the id together with its content first, and that of the id alone. An id
//! that is known, with a content that is not, was used for another. Who stops in between leaves a
//! content that is known without its id, which says nothing.
//!
//! What carries these ids is as short-lived as a canary, and goes where canaries go.

use async_nats::HeaderMap;
use async_nats::header::NATS_MESSAGE_ID;
use bytes::Bytes;

use super::publish::{Error, publish};
use super::{Bus, subjects};

impl Bus {
    /// Whether `id` was used with another content than this, as far as the server remembers. From
    /// here on it remembers this use. `digest` stands for the content.
    ///
    /// # Errors
    /// When that is not known.
    pub async fn is_used_otherwise(&self, id: &str, digest: &str) -> Result<bool, Error> {
        let content_is_known = self
            .was_remembered(&format!("signed {id} {digest}"))
            .await?;
        let id_is_known = self.was_remembered(&format!("signed {id}")).await?;
        Ok(id_is_known && !content_is_known)
    }

    async fn was_remembered(&self, message_id: &str) -> Result<bool, Error> {
        let mut headers = HeaderMap::new();
        headers.insert(NATS_MESSAGE_ID, message_id);
        headers.insert("Nats-TTL", "1s");
        let subject = subjects::canary(subjects::STREAM_IN);
        let jetstream = self.connection().jetstream();
        let ack = publish(jetstream, &subject, headers, Bytes::new()).await?;
        Ok(ack.duplicate)
    }
}
