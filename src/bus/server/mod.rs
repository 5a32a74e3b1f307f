//! The nats-server that `voicebus up` brings along, and looks after.
//!
//! [`locate()`] finds a server binary or fetches the pinned one; [`Server::start`]
//! runs it with the configuration files of `nats/` and passwords of its own, and
//! starts it again on the same port whenever it dies. In production somebody else
//! runs NATS, and none of this is used.
//!
//! Invariants:
//! - One instance per data directory: an exclusive lock is held as long as the
//!   [`Server`] lives, and a nats-server that an earlier run left behind is stopped
//!   before another one opens the same store.
//! - No orphans: the nats-server is the child of a small [`guard`] process, which
//!   stops it when the pipe to this process closes, however this process ended.
//! - Passwords are made once, from the operating system's randomness, and leave this
//!   process only through a file of mode 0600 and the server's environment.
//! - Nothing waits without a bound.
//! - A server that runs but takes nothing is started again, too: see `watch.rs`.
//!
//! It must not know what the streams are for: it knows roles only as NATS users.
//!
//! ```text
//! <data_dir>/lock               who holds the directory
//! <data_dir>/credentials.json   user → password, mode 0600
//! <data_dir>/nats/*.conf        written at every start; edits are overwritten
//! <data_dir>/nats/jetstream/    the store
//! <data_dir>/nats/nats-server.log
//! ```

mod credentials;
mod data_dir;
mod error;
mod fetch;
pub mod guard;
mod launch;
mod locate;
mod orphan;
mod process;
mod watch;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::watch as channel;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

pub use super::version::{MINIMUM, PINNED, Version};
pub use credentials::{Credentials, Password, User};
pub use data_dir::Held;
pub use error::Error;
pub use locate::{Binary, Places, locate};

use launch::Launch;
use process::Process;
use watch::{Complaint, Watch};

/// The first pause before a dead server is started again; it doubles from try to try.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
/// The longest pause: a phone call does not wait longer than this for its bus.
const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// A server that ran this long was healthy, and its next death starts from the shortest pause.
const BACKOFF_FORGET_AFTER: Duration = Duration::from_secs(60);

/// Longer than a busy machine makes a healthy server look unwell.
const UNWELL_PATIENCE: Duration = Duration::from_secs(10);

/// What to run, and where.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// From [`locate()`].
    pub binary: Binary,
    /// Made with mode 0700 if it is not there.
    pub data_dir: PathBuf,
    /// Where clients connect. Port 0 is any free port, and then the same one as long
    /// as the [`Server`] lives.
    pub listen: SocketAddr,
    /// Where the monitoring pages are served. Port 0 as above.
    pub monitor: SocketAddr,
    /// The server's name in its own logs and in `nats server` listings.
    pub name: String,
    /// How long the server may take until it is healthy. A large store is read at
    /// start, so this is generous.
    pub ready_timeout: Duration,
    /// How long the server may take to stop before it is killed.
    pub stop_grace: Duration,
    /// How long the server may run without being of use before it is started again.
    pub unwell_patience: Duration,
    /// The executable whose `main` calls [`guard::run_if_asked`].
    pub guard: PathBuf,
}

impl ServerConfig {
    /// Loopback, any free ports, this very executable as the guard.
    pub fn new(binary: Binary, data_dir: impl Into<PathBuf>) -> Self {
        let loopback = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
        Self {
            binary,
            data_dir: data_dir.into(),
            listen: loopback,
            monitor: loopback,
            name: "voicebus".to_owned(),
            ready_timeout: Duration::from_secs(60),
            stop_grace: Duration::from_secs(10),
            unwell_patience: UNWELL_PATIENCE,
            guard: guard::this_executable(),
        }
    }
}

/// A running, supervised nats-server.
///
/// Dropping it stops the server too, but does not wait for that; use [`Server::stop`].
#[derive(Debug)]
pub struct Server {
    url: String,
    monitor_url: String,
    credentials: Credentials,
    state: channel::Receiver<State>,
    complaint: channel::Sender<Complaint>,
    stop: CancellationToken,
    keeper: Option<JoinHandle<()>>,
}

/// What the keeper tells about the server.
#[derive(Clone, Copy, Debug, Default)]
struct State {
    pid: Option<u32>,
    restarts: u32,
}

/// Tells of the processes that follow the first one.
#[derive(Debug)]
pub struct Restarts(channel::Receiver<State>);

/// Takes complaints about a server that runs.
#[derive(Clone, Debug)]
pub struct Complaints(channel::Sender<Complaint>);

impl Complaints {
    /// Says what is wrong, or that nothing is.
    pub fn say(&self, complaint: Option<String>) {
        self.0.send_if_modified(|said| {
            let is_new = *said != complaint;
            *said = complaint;
            is_new
        });
    }
}

impl Restarts {
    /// How many there were so far.
    #[must_use]
    pub fn count(&self) -> u64 {
        u64::from(self.0.borrow().restarts)
    }

    /// Waits until the server was started again, and returns its new process id.
    pub async fn next(&mut self) -> u32 {
        while self.0.changed().await.is_ok() {
            if let Some(pid) = self.0.borrow_and_update().pid {
                return pid;
            }
        }
        // The keeper is gone: nothing will ever be started again.
        std::future::pending().await
    }
}

impl Server {
    /// Starts the server and returns when it is healthy.
    ///
    /// When `stop` is cancelled the server is stopped gracefully; [`Server::stopped`]
    /// tells when it is gone. A server that dies by itself is started again, on the
    /// same ports, for as long as it takes.
    ///
    /// # Errors
    /// When the data directory is held by another instance or cannot be used, or
    /// when the server does not become healthy in time: then with the end of its log.
    pub async fn start(config: ServerConfig, stop: CancellationToken) -> Result<Self, Error> {
        // A child token: dropping this `Server` must not stop the rest of the program.
        let stop = stop.child_token();
        let mut launch = Launch::prepare(config)?;
        let process = launch.start().await?;
        let (url, monitor_url) = launch.urls();
        info!(%url, %monitor_url, pid = process.pid(), version = %launch.version(), "nats-server is ready");

        let credentials = launch.credentials().clone();
        let (complaint, complaints) = channel::channel(None);
        let watch = launch.watch(complaints);
        let (tell, state) = channel::channel(State {
            pid: Some(process.pid()),
            restarts: 0,
        });
        let keeper = tokio::spawn(keep(launch, process, watch, stop.clone(), tell));
        Ok(Self {
            url,
            monitor_url,
            credentials,
            state,
            complaint,
            stop,
            keeper: Some(keeper),
        })
    }

    /// Where clients connect, without a password: `nats://127.0.0.1:4222`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The monitoring pages: `http://127.0.0.1:8222`.
    pub fn monitor_url(&self) -> &str {
        &self.monitor_url
    }

    /// The process id of the nats-server; `None` while it is down.
    pub fn pid(&self) -> Option<u32> {
        self.state.borrow().pid
    }

    /// Tells of every process that takes the place of one that died.
    pub fn restarted_as(&self) -> Restarts {
        Restarts(self.state.clone())
    }

    /// Takes what those who publish have to say: while there is a complaint, the server is taken
    /// for unwell, and started again when that lasts.
    pub fn complaints(&self) -> Complaints {
        Complaints(self.complaint.clone())
    }

    /// How often it had to be started again.
    pub fn restarts(&self) -> u32 {
        self.state.borrow().restarts
    }

    /// Waits until the server was started again more than `seen` times and is healthy.
    pub async fn restarted(&self, seen: u32) {
        let mut state = self.state.clone();
        // An error means that the keeper is gone: nothing will ever be started again.
        if state
            .wait_for(|state| state.restarts > seen && state.pid.is_some())
            .await
            .is_err()
        {
            std::future::pending::<()>().await;
        }
    }

    /// Users and passwords.
    pub fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// Waits until the server has stopped because the token was cancelled.
    pub async fn stopped(&mut self) {
        if let Some(keeper) = self.keeper.as_mut() {
            if let Err(error) = keeper.await {
                warn!(%error, "the keeper of the nats-server ended early");
            }
            self.keeper = None;
        }
    }

    /// Stops the server and waits until it is gone.
    pub async fn stop(mut self) {
        self.stop.cancel();
        self.stopped().await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Why a server must be started again.
enum Need {
    Ended(String),
    Unwell(String),
}

/// Keeps the server running until the token is cancelled.
async fn keep(
    mut launch: Launch,
    mut process: Process,
    mut watch: Watch,
    stop: CancellationToken,
    tell: channel::Sender<State>,
) {
    let mut backoff = BACKOFF_MIN;
    loop {
        let started = tokio::time::Instant::now();
        let need = tokio::select! {
            () = stop.cancelled() => {
                process.stop().await;
                launch.clear_orphans_quietly().await;
                tell.send_modify(|state| state.pid = None);
                info!("nats-server has stopped");
                return;
            }
            ended = process.ended() => Need::Ended(ended),
            reason = watch.must_restart(launch.monitor()) => Need::Unwell(reason),
        };
        tell.send_modify(|state| state.pid = None);
        match need {
            Need::Ended(reason) => warn!(reason, "nats-server ended by itself; starting it again"),
            Need::Unwell(reason) => {
                warn!(
                    reason,
                    "nats-server runs, but takes nothing; starting it again"
                );
                process.stop().await;
            }
        }
        if started.elapsed() >= BACKOFF_FORGET_AFTER {
            backoff = BACKOFF_MIN;
        }

        process = loop {
            tokio::select! {
                () = stop.cancelled() => return launch.clear_orphans_quietly().await,
                () = tokio::time::sleep(backoff) => {}
            }
            backoff = (backoff * 2).min(BACKOFF_MAX);
            // Dropping a start half-way closes the pipe to the guard, which stops the server.
            let attempt = tokio::select! {
                () = stop.cancelled() => None,
                attempt = launch.start() => Some(attempt),
            };
            match attempt {
                None => return launch.clear_orphans_quietly().await,
                Some(Ok(process)) => break process,
                Some(Err(error)) => {
                    warn!(%error, "nats-server could not be started again; will try later")
                }
            }
        };
        tell.send_modify(|state| {
            state.pid = Some(process.pid());
            state.restarts += 1;
        });
        info!(pid = process.pid(), "nats-server is ready again");
    }
}
