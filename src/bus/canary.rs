//! Canaries: whether the streams that a role writes to still take messages.
//!
//! A stream whose write failed once, because the disk was full, answers nothing from then on, also
//! when there is room again, until the nats-server is started again (measured on 2.15). To whoever
//! publishes that is a time-out like any other, and a stream to which nobody publishes says
//! nothing at all. So each role stores a small message of its own now and then, and sees whether it
//! is acknowledged.
//!
//! A canary disturbs nothing. Its subject `voicebus.canary.<stream>` belongs to its stream alone:
//! no consumer of ours filters it, no expectation of a commit speaks of it, it is not republished,
//! and only the role that watches the stream may publish it. It has no id, so the server remembers
//! none, and the server removes it after a second. It must be stored: a publish that is only
//! refused (because of an expectation, say) is answered by a stream that can write no more.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream::context::PublishErrorKind;
use bytes::Bytes;
use chrono::Utc;
use futures_util::future::join_all;
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::publish::{self, publish};
use super::{Bus, subjects};
use crate::domain::Timestamp;

/// The least that the server takes.
const LIFETIME: &str = "1s";
/// Pause between two canaries of one stream, to which up to `JITTER` is added: a process that
/// watches costs each of its streams a disk flush in ten seconds at most.
const PAUSE: Duration = Duration::from_secs(10);
/// Spreads the canaries of processes that were started together.
const JITTER: Duration = Duration::from_secs(2);
/// Pause after one without an answer. The alarm is raised at the second in a row, which is at most
/// 19 s after the stream took its last message.
const PAUSE_IN_DOUBT: Duration = Duration::from_secs(2);
/// Pause while a stream is in trouble: it is well again this much after it recovered.
const PAUSE_IN_TROUBLE: Duration = Duration::from_secs(5);
/// Pause where canaries are not possible: each one that is denied is an ERROR in the log.
const PAUSE_UNWATCHED: Duration = Duration::from_secs(600);
/// So many canaries in a row without an answer mean trouble. One may be a slow disk.
const SILENCES_MAX: u32 = 2;

/// The streams that a role watches: those it could not do its work without, each watched by one
/// role. Buckets are streams, too.
#[must_use]
pub fn streams_of(role: &str) -> &'static [&'static str] {
    match role {
        "ingress" => &[subjects::STREAM_IN, subjects::STREAM_CMD],
        "router" => &[subjects::STREAM_EVENT, subjects::STREAM_DLQ],
        "egress" => &["KV_VOICE_INTENT", "KV_VOICE_LINK", "KV_VOICE_NUMBER"],
        _ => &[],
    }
}

/// How a stream is, as its canaries tell.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase", tag = "state")]
pub enum State {
    /// No canary was sent yet.
    #[default]
    Unknown,
    /// The last one was stored.
    Well,
    /// The server does not answer, though it is there.
    Silent {
        /// Since when.
        since: Timestamp,
    },
    /// The server refuses.
    Refused {
        /// Since when.
        since: Timestamp,
        /// In its words.
        reason: String,
    },
    /// There are no canaries here: the server's streams or permissions are of an older version.
    Unwatched {
        /// Which.
        reason: String,
    },
}

impl State {
    fn is_trouble(&self) -> bool {
        matches!(self, Self::Silent { .. } | Self::Refused { .. })
    }

    /// What to do about it.
    #[must_use]
    pub fn advice(&self) -> Option<&'static str> {
        match self {
            Self::Unknown | Self::Well => None,
            Self::Silent { .. } => Some(
                "make room on the disk of nats-server, then start nats-server again: a stream that could not write takes nothing until then (`voicebus up` does the second by itself)",
            ),
            Self::Refused { .. } => Some(
                "make room: raise the stream's max_bytes or the server's max_file_store, or let go of old messages",
            ),
            Self::Unwatched { .. } => Some(
                "run `voicebus provision`, and give nats-server the accounts.conf of this version",
            ),
        }
    }
}

/// One watched stream, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Watched {
    /// Which.
    pub stream: &'static str,
    /// How it is.
    #[serde(flatten)]
    pub state: State,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<&'static str>,
}

/// What the canaries of one role have told. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Canaries {
    states: Arc<Mutex<BTreeMap<&'static str, State>>>,
}

impl Canaries {
    /// How each watched stream is.
    #[must_use]
    pub fn watched(&self) -> Vec<Watched> {
        let states = self.states();
        let watched = states.iter().map(|(stream, state)| Watched {
            stream,
            state: state.clone(),
            advice: state.advice(),
        });
        watched.collect()
    }

    /// What is wrong, in one sentence for each stream.
    ///
    /// # Errors
    /// With these sentences, when a stream takes nothing.
    pub fn check(&self) -> Result<(), String> {
        let sentences: Vec<String> = self
            .watched()
            .iter()
            .filter_map(|one| sentence(one.stream, &one.state))
            .collect();
        if sentences.is_empty() {
            Ok(())
        } else {
            Err(sentences.join("; "))
        }
    }

    /// The streams that do not answer, though the server does.
    #[must_use]
    pub fn silent(&self) -> Vec<&'static str> {
        let states = self.states();
        let silent = states
            .iter()
            .filter(|(_, state)| matches!(state, State::Silent { .. }));
        silent.map(|(stream, _)| *stream).collect()
    }

    /// Sends canaries into the streams of a role until `stop`.
    pub async fn run(&self, bus: &Bus, role: &'static str, stop: &CancellationToken) {
        let streams = streams_of(role);
        for stream in streams {
            self.states().insert(stream, State::Unknown);
        }
        let all = join_all(
            streams
                .iter()
                .map(|stream| self.watch(bus, role, stream, stop)),
        );
        all.await;
        stop.cancelled().await;
    }

    async fn watch(
        &self,
        bus: &Bus,
        role: &'static str,
        stream: &'static str,
        stop: &CancellationToken,
    ) {
        let mut silences = 0;
        // The first one soon, but not all roles of all processes in the same moment.
        let mut pause = jitter();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
            // That NATS is away is told by the connection.
            tokio::select! {
                () = stop.cancelled() => return,
                () = bus.connection().back() => {}
            }
            let found = tokio::select! {
                () = stop.cancelled() => return,
                found = send(bus, stream) => found,
            };
            let before = self.states().get(stream).cloned().unwrap_or_default();
            let Some(found) = found else {
                pause = jitter();
                continue;
            };
            silences = match found {
                Found::Silence => silences + 1,
                Found::Stored | Found::Refused(_) | Found::Unwatched(_) => 0,
            };
            let now = next(&before, found, silences, Utc::now());
            pause = match (&now, silences) {
                (State::Unwatched { .. }, _) => PAUSE_UNWATCHED,
                (now, _) if now.is_trouble() => PAUSE_IN_TROUBLE,
                (_, 1..) => PAUSE_IN_DOUBT,
                (_, 0) => PAUSE + jitter(),
            };
            let changed = std::mem::discriminant(&before) != std::mem::discriminant(&now);
            self.states().insert(stream, now.clone());
            if changed {
                log(role, stream, &before, &now);
                if before.is_trouble() || now.is_trouble() {
                    self.announce(bus, role).await;
                }
            }
        }
    }

    async fn announce(&self, bus: &Bus, role: &'static str) {
        #[derive(Serialize)]
        struct Told {
            status: &'static str,
            streams: Vec<Watched>,
        }
        let told = Told {
            status: if self.check().is_ok() {
                "healthy"
            } else {
                "unhealthy"
            },
            streams: self.watched(),
        };
        if let Ok(payload) = serde_json::to_vec(&told) {
            bus.announce(subjects::health(role), payload.into()).await;
        }
    }

    fn states(&self) -> MutexGuard<'_, BTreeMap<&'static str, State>> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What came of one canary.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Found {
    Stored,
    Silence,
    Refused(String),
    Unwatched(String),
}

/// Sends one; `None` when the connection was lost meanwhile, so that it tells nothing.
async fn send(bus: &Bus, stream: &'static str) -> Option<Found> {
    let connection = bus.connection();
    let (denials, disconnects) = (connection.denials(), connection.disconnects());
    let mut headers = HeaderMap::new();
    headers.insert("Nats-TTL", LIFETIME);
    let subject = subjects::canary(stream);
    let stored = publish(connection.jetstream(), &subject, headers, Bytes::new()).await;
    if connection.disconnects() != disconnects || !connection.is_connected() {
        return None;
    }
    Some(match stored {
        Ok(_ack) => Found::Stored,
        Err(error) if publish::is_of_no_stream(&error) => {
            Found::Unwatched(PublishErrorKind::StreamNotFound.to_string())
        }
        // To the publish itself a denial looks like silence.
        Err(_) if connection.denials() != denials => {
            Found::Unwatched("NATS does not let this user send canaries".to_owned())
        }
        Err(publish::Error::Unclear { .. }) => Found::Silence,
        Err(error) => Found::Refused(crate::error_chain::Chain(&error).to_string()),
    })
}

/// What is known after one more canary.
fn next(before: &State, found: Found, silences: u32, now: Timestamp) -> State {
    let since = match before {
        State::Silent { since } | State::Refused { since, .. } => *since,
        State::Unknown | State::Well | State::Unwatched { .. } => now,
    };
    match found {
        Found::Stored => State::Well,
        Found::Unwatched(reason) => State::Unwatched { reason },
        Found::Refused(reason) => State::Refused { since, reason },
        Found::Silence if silences >= SILENCES_MAX => State::Silent { since },
        Found::Silence => before.clone(),
    }
}

fn sentence(stream: &str, state: &State) -> Option<String> {
    let (since, what) = match state {
        State::Silent { since } => (since, "does not acknowledge"),
        State::Refused { since, reason } => (since, reason.as_str()),
        State::Unknown | State::Well | State::Unwatched { .. } => return None,
    };
    let since = since.to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
    let advice = state.advice().unwrap_or_default();
    Some(format!(
        "the stream {stream} takes no messages since {since} ({what}): {advice}"
    ))
}

fn log(role: &'static str, stream: &'static str, before: &State, now: &State) {
    let advice = now.advice().unwrap_or_default();
    match now {
        State::Well if before.is_trouble() => {
            info!(role, stream, "stream takes messages again");
        }
        State::Unknown | State::Well => {}
        State::Silent { .. } => {
            warn!(role, stream, advice, "stream takes no messages");
        }
        State::Refused { reason, .. } => {
            warn!(role, stream, reason, advice, "stream takes no messages");
        }
        State::Unwatched { reason } => {
            warn!(role, stream, reason, advice, "stream cannot be watched");
        }
    }
}

fn jitter() -> Duration {
    JITTER * u32::from(uuid::Uuid::new_v4().as_bytes()[0]) / 255
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_timestamp(second, 0).unwrap()
    }

    #[test]
    fn one_canary_without_an_answer_is_no_alarm_and_two_are() {
        let once = next(&State::Well, Found::Silence, 1, at(1));
        assert_eq!(once, State::Well);
        let twice = next(&once, Found::Silence, 2, at(2));
        assert_eq!(twice, State::Silent { since: at(2) });
        assert_eq!(next(&twice, Found::Silence, 3, at(3)), twice);
        assert_eq!(next(&twice, Found::Stored, 0, at(4)), State::Well);
    }

    #[test]
    fn the_alarm_comes_within_half_a_minute() {
        let (miss, slack) = (publish::PUBLISH_TIMEOUT, Duration::from_secs(5));
        let longest = PAUSE + JITTER + miss + PAUSE_IN_DOUBT + miss + slack;
        assert!(longest <= Duration::from_secs(30), "{longest:?}");
    }

    #[test]
    fn trouble_says_which_stream_since_when_and_what_to_do() {
        let full = Found::Refused("maximum bytes exceeded".to_owned());
        let state = next(&State::Well, full, 0, at(0));
        let told = sentence("VOICE_CMD", &state).unwrap();
        for part in [
            "VOICE_CMD",
            "1970-01-01T00:00:00Z",
            "maximum bytes",
            "make room",
        ] {
            assert!(told.contains(part), "{told}");
        }
        assert_eq!(sentence("VOICE_CMD", &State::Well), None);
    }

    #[test]
    fn each_stream_is_watched_by_one_role() {
        let all: Vec<_> = ["ingress", "router", "egress"]
            .into_iter()
            .flat_map(streams_of)
            .collect();
        let once: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(once.len(), all.len());
    }
}
