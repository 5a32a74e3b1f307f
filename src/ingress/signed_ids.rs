//! The ids that our own senders have signed: each stands for one content, whoever sends it again.
//!
//! A sender that tries again says the same again, so that an id with another content is a mistake of
//! the sender's or a forgery with its key. Neither may be taken for a repetition in silence. (Vendors
//! promise an id for each event, and not the same bytes for each try: they are not held to this.)

use std::num::NonZeroUsize;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use axum::http::StatusCode;
use lru::LruCache;
use sha2::{Digest, Sha256};
use tracing::{debug, warn};

use super::Ingress;
use crate::error_chain::Chain;
use crate::http::Error;

/// Ids that are remembered here; some minutes of a busy ingress, 2 MB.
const KNOWN_MAX: NonZeroUsize = NonZeroUsize::new(16_384).expect("it is not zero");
/// As much of a digest as tells contents apart.
const DIGEST_LENGTH: usize = 16;

/// What an id was used for. Clones share it.
#[derive(Clone)]
pub(super) struct SignedIds {
    known: Arc<Mutex<LruCache<String, String>>>,
}

impl Default for SignedIds {
    fn default() -> Self {
        Self {
            known: Arc::new(Mutex::new(LruCache::new(KNOWN_MAX))),
        }
    }
}

impl SignedIds {
    /// Whether the id was used with this content, if it was used at all.
    fn look(&self, id: &str, digest: &str) -> Option<bool> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(id).map(|known| known == digest)
    }

    fn keep(&self, id: String, digest: String) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.put(id, digest);
    }
}

impl Ingress {
    /// Lets an id pass that stands for this body, as far as anybody remembers: this ingress, and NATS
    /// for all of them. While NATS is away this one alone knows.
    ///
    /// # Errors
    /// 409 when it stands for another.
    pub(super) async fn stands_for(&self, id: &str, body: &[u8]) -> Result<(), Error> {
        let name = hex(id.as_bytes());
        let digest = hex(body);
        let is_same = match self.signed_ids.look(&name, &digest) {
            Some(is_same) => is_same,
            None if !self.bus.connection().is_connected() => true,
            None => match self.bus.is_used_otherwise(&name, &digest).await {
                Ok(is_used_otherwise) => !is_used_otherwise,
                Err(error) => {
                    debug!(error = %Chain(&error), "nobody knows whether an id was used before");
                    true
                }
            },
        };
        if is_same {
            self.signed_ids.keep(name, digest);
            return Ok(());
        }
        self.counters.ids_reused.fetch_add(1, Ordering::Relaxed);
        warn!(id, "a signed id comes again with another body");
        self.counted(Err(Error::new(
            StatusCode::CONFLICT,
            "id_reused",
            "this id was signed for another body before",
        )))
    }
}

fn hex(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    let bytes = digest.iter().take(DIGEST_LENGTH);
    bytes.map(|byte| format!("{byte:02x}")).collect()
}
