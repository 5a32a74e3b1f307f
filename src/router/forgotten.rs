//! What was forgotten at somebody's request is not begun anew, and leaves the view.

use tokio_util::sync::CancellationToken;

use super::view::View;
use crate::bus::bucket::{Bucket, Error};
use crate::bus::{Bus, forget, subjects};

/// Knows the calls and commands that were forgotten, by salted hashes.
#[derive(Clone)]
pub(super) struct Forgotten {
    bus: Bus,
    bucket: Bucket,
}

impl Forgotten {
    pub async fn open(bus: &Bus) -> Result<Self, Error> {
        Ok(Self {
            bus: bus.clone(),
            bucket: bus.bucket(subjects::BUCKET_FORGOTTEN).await?,
        })
    }

    /// Whether a log was forgotten. Asked for logs without events only, so that the others cost
    /// nothing.
    pub async fn has(&self, log_id: &str) -> Result<bool, Error> {
        let key = self.bus.subjects().forgotten_key(log_id);
        Ok(self.bucket.get(&key).await?.is_some())
    }
}

/// Takes out of the view what is forgotten while it is there.
///
/// # Errors
/// When NATS does not let us listen.
pub(super) async fn follow(
    bus: &Bus,
    view: &View,
    stop: &CancellationToken,
) -> Result<(), forget::Error> {
    let mut announcements = bus.hear_of_forgotten().await?;
    loop {
        let keys = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            keys = announcements.next() => keys,
        };
        let Some(keys) = keys else { return Ok(()) };
        view.forget(|id| keys.contains(&bus.subjects().forgotten_key(id)));
    }
}
