//! Connecting, and what the connection is like at the moment.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_nats::jetstream;
use thiserror::Error;
use tokio::sync::watch;

use super::identity::{self, Auth, Tls};
use super::refusal;

/// How long any request to JetStream may take before its outcome counts as unknown. Twice a slow
/// disk flush; the senders of events wait 5 s at most.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);

/// How long one attempt to connect may take. A node that is frozen takes connections and says
/// nothing; the next one is tried after this time.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// How often a silent server is asked whether it is still there. The client leaves it at the third
/// question without an answer, after 3 s: in a cluster another node can be had, and nothing else
/// tells a frozen machine or a cut cable from a server that has nothing to say.
const PING_INTERVAL: Duration = Duration::from_secs(1);

/// So many reasons for which it cannot come back are told, until it has.
const REASONS_MAX: usize = 10;

/// For so long JetStream may answer nothing at all before another node is tried: longer than one
/// request, shorter than the election that a cluster needs when it has lost a node.
const UNANSWERED_MAX: Duration = Duration::from_secs(4);

/// Longest pause between two attempts to come back.
const RECONNECT_PAUSE_MAX: Duration = Duration::from_secs(1);

/// Where and as whom to connect.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `nats://host:port`, several separated by commas.
    pub url: String,
    /// Who one is.
    pub auth: Auth,
    /// How the two know each other over a network.
    pub tls: Tls,
    /// The role: the name the server shows, and the prefix of the inbox, which permissions use.
    pub role: &'static str,
}

/// Why there is no connection.
#[derive(Debug, Error)]
pub enum Error {
    /// The server cannot be reached or refuses.
    #[error("cannot connect to NATS at {url} as {role}: {reason}")]
    Connect {
        /// Where, without user and password.
        url: String,
        /// As whom.
        role: &'static str,
        /// What went wrong and what to do.
        reason: String,
    },
    /// A file that says who one is cannot be used.
    #[error(transparent)]
    Identity(#[from] identity::Error),
}

/// A connection that comes back by itself. A clone is the same connection and costs nothing: it is
/// made several times for each request over HTTP, where cloning the client itself was seen.
#[derive(Clone)]
pub struct Connection(Arc<Clients>);

struct Clients {
    client: async_nats::Client,
    jetstream: jetstream::Context,
    watch: Arc<Watch>,
}

struct Watch {
    role: &'static str,
    connected: watch::Sender<bool>,
    /// When JetStream answered last, or another node was tried.
    answered_at: Mutex<Instant>,
    disconnects: AtomicU64,
    denials: AtomicU64,
    closing: AtomicBool,
    /// What was said about coming back since the server went away.
    told: Mutex<BTreeSet<String>>,
}

impl Watch {
    fn new(role: &'static str) -> Self {
        Self {
            role,
            connected: watch::Sender::default(),
            answered_at: Mutex::new(Instant::now()),
            disconnects: AtomicU64::default(),
            denials: AtomicU64::default(),
            closing: AtomicBool::default(),
            told: Mutex::default(),
        }
    }

    /// Says why the client does not come back, each reason once: it tries every second.
    fn tell(&self, role: &'static str, error: String) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() < REASONS_MAX && told.insert(error.clone()) {
            tracing::warn!(role, %error, "NATS cannot be reached");
        }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("connected", &self.is_connected())
            .finish_non_exhaustive()
    }
}

impl Connection {
    /// The client.
    #[must_use]
    pub fn client(&self) -> &async_nats::Client {
        &self.0.client
    }

    /// The client's JetStream side, with a time-out of 2 s for each request.
    #[must_use]
    pub fn jetstream(&self) -> &jetstream::Context {
        &self.0.jetstream
    }

    /// Whether the server is there at the moment.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        *self.0.watch.connected.borrow()
    }

    /// Waits until the server is away; at once when it is.
    pub async fn lost(&self) {
        let mut connected = self.0.watch.connected.subscribe();
        // The sender lives as long as `self`.
        connected.wait_for(|connected| !connected).await.ok();
    }

    /// Waits until the server is there; at once when it is.
    pub async fn back(&self) {
        let mut connected = self.0.watch.connected.subscribe();
        // The sender lives as long as `self`.
        connected.wait_for(|connected| *connected).await.ok();
    }

    /// JetStream has answered something, whatever it was.
    pub(super) fn answered(&self) {
        let at = self.0.watch.answered_at.lock();
        *at.unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// JetStream has not answered in time. A node that is cut off from the others of its cluster
    /// still answers pings, so the client stays with it; when it has been of no use for a while,
    /// another one is tried.
    pub(super) async fn unanswered(&self) {
        // The server names itself too.
        if self.0.client.server_info().connect_urls.len() < 2 {
            return;
        }
        {
            let at = self.0.watch.answered_at.lock();
            let mut at = at.unwrap_or_else(PoisonError::into_inner);
            if at.elapsed() < UNANSWERED_MAX {
                return;
            }
            *at = Instant::now();
        }
        let role = self.0.watch.role;
        tracing::warn!(
            role,
            "JetStream does not answer through this node; trying another"
        );
        if let Err(error) = self.0.client.force_reconnect().await {
            tracing::debug!(role, %error, "the node is not left");
        }
    }

    /// How often the connection was lost.
    #[must_use]
    pub fn disconnects(&self) -> u64 {
        self.0.watch.disconnects.load(Ordering::Relaxed)
    }

    /// How often the server denied something: a mistake in the permissions.
    #[must_use]
    pub fn denials(&self) -> u64 {
        self.0.watch.denials.load(Ordering::Relaxed)
    }

    /// Sends what is buffered and closes, within `grace`.
    pub async fn close(&self, grace: Duration) {
        self.0.watch.closing.store(true, Ordering::Relaxed);
        if tokio::time::timeout(grace, self.0.client.flush())
            .await
            .is_err()
        {
            tracing::warn!("NATS did not take the last messages in time");
        }
    }
}

/// Connects; later interruptions are bridged by the client itself, for ever.
///
/// # Errors
/// When the first connection does not come about.
pub async fn connect(settings: &Settings) -> Result<Connection, Error> {
    open(settings, false).await
}

/// Returns at once with a connection that is away until the server is found: for a role that has
/// something to do without.
///
/// # Errors
/// When the settings cannot be used.
pub async fn connect_later(settings: &Settings) -> Result<Connection, Error> {
    open(settings, true).await
}

async fn open(settings: &Settings, later: bool) -> Result<Connection, Error> {
    let watch = Arc::new(Watch::new(settings.role));
    let seen = Arc::clone(&watch);
    let role = settings.role;
    let mut options = async_nats::ConnectOptions::new()
        .name(format!("voicebus {role}"))
        .connection_timeout(CONNECT_TIMEOUT)
        .ping_interval(PING_INTERVAL)
        .reconnect_delay_callback(|attempts| {
            let step = u32::try_from(attempts.min(10)).unwrap_or(10);
            (Duration::from_millis(50) * step * step).min(RECONNECT_PAUSE_MAX)
        })
        .event_callback(move |event| {
            observe(&seen, role, &event);
            async {}
        });
    if later {
        options = options.retry_on_initial_connect();
    }
    if role != "observer" {
        options = options.custom_inbox_prefix(format!("_INBOX_{role}"));
    }
    // The client itself does nothing with a user in the URL.
    let of_url =
        user_in_url(&settings.url).map(|(user, password)| Auth::Password { user, password });
    let auth = match (&settings.auth, of_url) {
        (Auth::None, Some(of_url)) => of_url,
        (given, _) => given.clone(),
    };
    let options = settings.tls.apply(auth.apply(options)?);
    let plain = without_secrets(&settings.url);
    let servers: Vec<&str> = plain.split(',').map(str::trim).collect();
    let client = options
        .connect(servers)
        .await
        .map_err(|error| Error::Connect {
            url: without_secrets(&settings.url),
            role,
            reason: refusal::advice(&error, &auth),
        })?;
    if !later {
        watch.connected.send_replace(true);
    }
    let jetstream = jetstream::ContextBuilder::new()
        .timeout(REQUEST_TIMEOUT)
        .ack_timeout(REQUEST_TIMEOUT)
        .build(client.clone());
    Ok(Connection(Arc::new(Clients {
        client,
        jetstream,
        watch,
    })))
}

fn observe(watch: &Watch, role: &'static str, event: &async_nats::Event) {
    match event {
        async_nats::Event::Connected => {
            watch.connected.send_replace(true);
            watch
                .told
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clear();
            tracing::info!(role, "connected to NATS");
        }
        async_nats::Event::Disconnected => {
            watch.connected.send_replace(false);
            if watch.closing.load(Ordering::Relaxed) {
                return;
            }
            watch.disconnects.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(role, "NATS is away; reconnecting");
        }
        async_nats::Event::ServerError(error) => {
            // The caller only sees a time-out, so this line is the one that explains it.
            let text = error.to_string();
            if text.to_ascii_lowercase().contains("permissions violation") {
                watch.denials.fetch_add(1, Ordering::Relaxed);
            }
            tracing::error!(role, error = %text, "NATS refused something");
        }
        async_nats::Event::SlowConsumer(_) => {
            tracing::warn!(role, "NATS subscriber is too slow; messages were dropped")
        }
        async_nats::Event::ClientError(error) => watch.tell(role, error.to_string()),
        async_nats::Event::LameDuckMode => tracing::info!(role, "NATS server is about to leave"),
        async_nats::Event::Draining | async_nats::Event::Closed => {
            tracing::debug!(role, "NATS connection closed")
        }
    }
}

/// `user:password@` of the first server that has it, percent-decoded.
fn user_in_url(url: &str) -> Option<(String, String)> {
    let decode = |text: &str| {
        percent_encoding::percent_decode_str(text)
            .decode_utf8()
            .ok()
            .map(String::from)
    };
    url.split(',').find_map(|server| {
        let (_scheme, rest) = server.split_once("://")?;
        let (user_info, _host) = rest.rsplit_once('@')?;
        let (user, password) = user_info.split_once(':')?;
        Some((decode(user)?, decode(password)?))
    })
}

/// The URL with user and password cut out of each server.
#[must_use]
pub fn without_secrets(url: &str) -> String {
    let server = |one: &str| match (one.find("://"), one.rfind('@')) {
        (Some(scheme), Some(at)) if at > scheme => {
            format!(
                "{}{}",
                one.get(..scheme + 3).unwrap_or_default(),
                one.get(at + 1..).unwrap_or_default()
            )
        }
        _ => one.to_owned(),
    };
    url.split(',').map(server).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_in_the_url_is_used() {
        let found = user_in_url("nats://a:1,nats://me:s%40cret@b:2");
        assert_eq!(found, Some(("me".to_owned(), "s@cret".to_owned())));
        assert_eq!(user_in_url("nats://a:1"), None);
    }

    #[test]
    fn passwords_do_not_reach_messages() {
        assert_eq!(
            without_secrets("nats://me:secret@a:1,nats://b:2"),
            "nats://a:1,nats://b:2"
        );
    }
}
