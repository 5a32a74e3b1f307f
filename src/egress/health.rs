//! Watching the phone-call server, and telling when it changes.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::voice_server::Tap;
use super::{VoiceServer, VoiceServerError};
use crate::bus::{Bus, subjects};
use crate::domain::Timestamp;

/// How often a server that is well is asked.
const INTERVAL: Duration = Duration::from_secs(5);
/// How often one that is not well is asked: commands wait for it.
const INTERVAL_UNWELL: Duration = Duration::from_secs(1);

/// How the phone-call server is, as of the last look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase", tag = "status")]
pub enum VoiceServerState {
    /// Nobody has looked yet.
    #[default]
    Unknown,
    /// It answers as a voice server does.
    Healthy {
        /// The contract it speaks: `v1`, `v2` or `v3`.
        version: &'static str,
    },
    /// Something answers, but not as a voice server that is well does.
    Unhealthy,
    /// Nothing answers.
    Unreachable,
}

impl VoiceServerState {
    /// The word for people and programs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Healthy { .. } => "healthy",
            Self::Unhealthy => "unhealthy",
            Self::Unreachable => "unreachable",
        }
    }

    /// The contract it speaks, once known.
    #[must_use]
    pub fn version(self) -> Option<&'static str> {
        match self {
            Self::Healthy { version } => Some(version),
            Self::Unknown | Self::Unhealthy | Self::Unreachable => None,
        }
    }
}

/// A handle on what is known of the phone-call server.
#[derive(Debug, Clone, Default)]
pub struct Health {
    state: Arc<Mutex<VoiceServerState>>,
    tap: Arc<Mutex<Option<Tap>>>,
}

impl Health {
    /// How it is.
    #[must_use]
    pub fn state(&self) -> VoiceServerState {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The tap beside it, which keeps account of intents, as of the last look.
    pub(super) fn tap(&self) -> Option<Tap> {
        *self.tap.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Since when the tap's journal is whole, if there is a tap.
    #[must_use]
    pub fn tap_since(&self) -> Option<Timestamp> {
        self.tap().map(|tap| tap.complete_since)
    }

    async fn look_for_tap(&self, server: &VoiceServer) {
        let found = server.tap().await.ok().flatten();
        let before = std::mem::replace(
            &mut *self.tap.lock().unwrap_or_else(PoisonError::into_inner),
            found,
        );
        if before.is_some() != found.is_some() {
            info!(
                tap = found.is_some(),
                "whether the voice server keeps account of intents"
            );
        }
    }

    pub(super) async fn watch(&self, bus: &Bus, server: &VoiceServer, stop: &CancellationToken) {
        loop {
            let found = tokio::select! {
                () = stop.cancelled() => return,
                found = server.health() => found,
            };
            let now = match found {
                Ok(Some(version)) => VoiceServerState::Healthy { version },
                Ok(None) | Err(VoiceServerError::TooLong) => VoiceServerState::Unhealthy,
                Err(_) => VoiceServerState::Unreachable,
            };
            let before = std::mem::replace(
                &mut *self.state.lock().unwrap_or_else(PoisonError::into_inner),
                now,
            );
            if before != now {
                tell(bus, now).await;
            }
            let interval = if matches!(now, VoiceServerState::Healthy { .. }) {
                self.look_for_tap(server).await;
                INTERVAL
            } else {
                INTERVAL_UNWELL
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(interval) => {}
            }
        }
    }
}

async fn tell(bus: &Bus, now: VoiceServerState) {
    match now {
        VoiceServerState::Healthy { version } => info!(version, "voice server is healthy"),
        VoiceServerState::Unknown | VoiceServerState::Unhealthy | VoiceServerState::Unreachable => {
            warn!(
                status = now.as_str(),
                "voice server is not well; outbound calls wait until their deadline"
            );
        }
    }
    if let Ok(payload) = serde_json::to_vec(&now) {
        bus.announce(subjects::health("voice-server"), payload.into())
            .await;
    }
}
