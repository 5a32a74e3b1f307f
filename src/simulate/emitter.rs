//! Sends one event, as the real server does where that is wanted, and more stubbornly where it is not.
//!
//! The real emitter tries once, waits 5 s for an answer and forgets the event when there is none. With that, "what did
//! the bus accept" has no answer in a test that kills the bus. So the default is to repeat the same bytes until
//! they are accepted: at least once, and in the record when the 2xx has been read. [`Retry::Never`] is the real thing.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use chrono::Utc;
use reqwest::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONNECTION, CONTENT_TYPE, HeaderMap, HeaderValue,
};
use tokio_util::sync::CancellationToken;

use super::args::Token;
use super::event::EventType;
use super::random::Random;
use super::record::{self, AcceptedEvent, Recorder};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("failed to set up the HTTP client")]
    Client(#[source] reqwest::Error),
    #[error("target `{url}` is not an http address")]
    Target { url: String },
    #[error("the event token has characters which a header cannot carry")]
    Token,
}

/// What to do with an event that was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// Again until it is accepted or the run is stopped.
    UntilStopped,
    /// Again, this many times at most.
    AtMost(NonZeroU32),
    /// Forget it: the real emitter's way.
    Never,
}

/// Where and how events go.
#[derive(Debug, Clone)]
pub struct Config {
    /// The ingress, without a path: `/call-event` is added.
    pub target: String,
    /// Sent as `Authorization: Bearer …`; the real emitter sends none.
    pub token: Option<Token>,
    pub retry: Retry,
    pub record: Option<Recorder>,
}

/// An event on its way.
#[derive(Debug, Clone)]
pub struct Outgoing<'a> {
    pub call_id: &'a str,
    pub event_type: EventType,
    pub timestamp: &'a str,
    pub body: Bytes,
}

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Accepted,
    /// Given up: retries used up, or none wanted.
    Lost,
    /// Not accepted when the run was stopped.
    Stopped,
}

/// Counts over all events of an emitter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Events that were tried at least once.
    pub sent: u64,
    pub accepted: u64,
    /// Answers other than 2xx.
    pub refused: u64,
    /// Attempts without an answer.
    pub unanswered: u64,
    /// Attempts after the first.
    pub retried: u64,
    /// Events that were given up.
    pub lost: u64,
}

/// The sending end. Clones share connections and counts.
#[derive(Debug, Clone)]
pub struct Emitter {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    client: reqwest::Client,
    url: String,
    retry: Retry,
    record: Option<Recorder>,
    counters: Counters,
}

#[derive(Debug, Default)]
struct Counters {
    sent: AtomicU64,
    accepted: AtomicU64,
    refused: AtomicU64,
    unanswered: AtomicU64,
    retried: AtomicU64,
    lost: AtomicU64,
}

impl Emitter {
    pub fn new(config: Config) -> Result<Self, Error> {
        // Plain http needs no TLS, but the client asks for a provider before it knows that. Someone else in the
        // process may have installed the same one, which is as good.
        drop(rustls::crypto::ring::default_provider().install_default());
        let url = format!("{}/call-event", config.target.trim_end_matches('/'));
        let parsed = reqwest::Url::parse(&url).ok();
        if !parsed.is_some_and(|url| url.scheme() == "http" || url.scheme() == "https") {
            return Err(Error::Target { url: config.target });
        }
        let client = reqwest::Client::builder()
            .user_agent("python-httpx/0.28.1")
            .default_headers(headers(config.token.as_ref())?)
            .http1_only()
            .http1_title_case_headers()
            .timeout(ANSWER_WAIT)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()
            .map_err(Error::Client)?;
        let inner = Inner {
            client,
            url,
            retry: config.retry,
            record: config.record,
            counters: Counters::default(),
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Sends an event and repeats it as configured.
    ///
    /// A stop ends the waiting between attempts, not an attempt: an event that was accepted is always recorded.
    ///
    /// # Errors
    /// Only when the record cannot be written. The event was accepted then.
    pub async fn emit(
        &self,
        event: &Outgoing<'_>,
        stop: &CancellationToken,
    ) -> Result<Fate, record::Error> {
        let counters = &self.inner.counters;
        counters.sent.fetch_add(1, Ordering::Relaxed);
        let mut backoff = Backoff::new(&event.body);
        for attempt in 1u32.. {
            match self.attempt(event.body.clone()).await {
                Ok(status) if (200..300).contains(&status) => {
                    counters.accepted.fetch_add(1, Ordering::Relaxed);
                    self.record(event, status)?;
                    return Ok(Fate::Accepted);
                }
                Ok(status) => {
                    counters.refused.fetch_add(1, Ordering::Relaxed);
                    report(attempt, event, &format!("HTTP {status}"));
                }
                Err(error) => {
                    counters.unanswered.fetch_add(1, Ordering::Relaxed);
                    report(attempt, event, &cause(&error));
                }
            }
            let again = match self.inner.retry {
                Retry::UntilStopped => true,
                Retry::AtMost(retries) => attempt <= retries.get(),
                Retry::Never => false,
            };
            if !again {
                counters.lost.fetch_add(1, Ordering::Relaxed);
                return Ok(Fate::Lost);
            }
            if stop
                .run_until_cancelled(tokio::time::sleep(backoff.next()))
                .await
                .is_none()
            {
                break;
            }
            counters.retried.fetch_add(1, Ordering::Relaxed);
        }
        counters.lost.fetch_add(1, Ordering::Relaxed);
        Ok(Fate::Stopped)
    }

    pub fn counts(&self) -> Counts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &self.inner.counters;
        Counts {
            sent: read(&counters.sent),
            accepted: read(&counters.accepted),
            refused: read(&counters.refused),
            unanswered: read(&counters.unanswered),
            retried: read(&counters.retried),
            lost: read(&counters.lost),
        }
    }

    async fn attempt(&self, body: Bytes) -> Result<u16, reqwest::Error> {
        let response = self
            .inner
            .client
            .post(&self.inner.url)
            .body(body)
            .send()
            .await?;
        let status = response.status().as_u16();
        // Read to the end so that the connection can be used again. An answer whose body breaks off is an answer.
        drop(response.bytes().await);
        Ok(status)
    }

    fn record(&self, event: &Outgoing<'_>, status: u16) -> Result<(), record::Error> {
        let Some(record) = &self.inner.record else {
            return Ok(());
        };
        record.event(AcceptedEvent {
            call_id: event.call_id,
            event_type: event.event_type.as_str(),
            timestamp: event.timestamp,
            body: &event.body,
            status,
            at: Utc::now(),
        })
    }
}

/// The real emitter's patience.
const ANSWER_WAIT: Duration = Duration::from_secs(5);

/// The headers of the real emitter, and the token which it does not have.
fn headers(token: Option<&Token>) -> Result<HeaderMap, Error> {
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip, deflate"));
    headers.insert(CONNECTION, HeaderValue::from_static("keep-alive"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(token) = token {
        let mut value = HeaderValue::from_str(&format!("Bearer {}", token.expose()))
            .map_err(|_| Error::Token)?;
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
    }
    Ok(headers)
}

/// Doubling waits with some spread, so that many calls do not come back in the same millisecond.
struct Backoff {
    wait: Duration,
    random: Random,
}

impl Backoff {
    fn new(body: &Bytes) -> Self {
        let start = body.iter().fold(0u64, |sum, byte| {
            sum.wrapping_mul(31).wrapping_add(u64::from(*byte))
        });
        Self {
            wait: BACKOFF_MIN,
            random: Random::new(start),
        }
    }

    fn next(&mut self) -> Duration {
        let wait = self.wait;
        self.wait = (wait * 2).min(BACKOFF_MAX);
        let spread = u64::try_from(wait.as_micros() / 2).unwrap_or(u64::MAX);
        wait / 2 + Duration::from_micros(self.random.below(spread.max(1)))
    }
}

const BACKOFF_MIN: Duration = Duration::from_millis(50);
/// Short: a bus that comes back should be found soon, and the target is one machine, not a public service.
const BACKOFF_MAX: Duration = Duration::from_secs(2);

/// Says that an attempt failed: loud at first and then ever more seldom, since one restart of the bus fails many.
fn report(attempt: u32, event: &Outgoing<'_>, reason: &str) {
    let event_type = event.event_type.as_str();
    if attempt.is_power_of_two() && attempt > 2 {
        tracing::warn!(
            call.id = event.call_id,
            event_type,
            attempt,
            reason,
            "event not accepted yet"
        );
    } else {
        tracing::debug!(
            call.id = event.call_id,
            event_type,
            attempt,
            reason,
            "event not accepted"
        );
    }
}

/// The innermost cause: "connection refused" says more than "error sending request".
fn cause(error: &reqwest::Error) -> String {
    let mut deepest: &dyn std::error::Error = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_bound() {
        let mut backoff = Backoff::new(&Bytes::from_static(b"{}"));
        let waits: Vec<Duration> = (0..12).map(|_| backoff.next()).collect();
        assert!(waits[0] < BACKOFF_MIN);
        assert!(waits.iter().all(|wait| *wait < BACKOFF_MAX));
        assert!(waits[11] >= BACKOFF_MAX / 2);
    }

    #[test]
    fn a_target_must_be_an_address() {
        let config = |target: &str| Config {
            target: target.to_owned(),
            token: None,
            retry: Retry::Never,
            record: None,
        };
        for bad in ["127.0.0.1:8082", "nats://127.0.0.1", ""] {
            assert!(
                matches!(Emitter::new(config(bad)), Err(Error::Target { .. })),
                "{bad}"
            );
        }
        assert!(Emitter::new(config("http://127.0.0.1:8082/")).is_ok());
    }
}
