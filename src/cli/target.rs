//! Where a tool finds NATS, and as whom it gets in.
//!
//! Somebody who runs `voicebus up` says nothing: the data directory tells where NATS listens and
//! has a password for each role. Somebody with a NATS of their own says `--nats-url`. A password
//! comes from the environment or from a file and never from an argument, which every user of the
//! machine could read.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fs, io};

use percent_encoding::percent_decode_str;
use serde::Deserialize;
use thiserror::Error;

use crate::bus::{self, Auth, Connection, Settings, Tls};
use crate::config::{self, NatsArgs};

const PASSWORD: &str = "VOICEBUS_NATS_PASSWORD";
const PASSWORD_FILE: &str = "VOICEBUS_NATS_PASSWORD_FILE";

/// The users of the server files in `nats/`. Each may listen to the inbox of its own name only.
const ROLES: [&str; 8] = [
    AGENT,
    OBSERVER,
    OPERATOR,
    "ingress",
    "router",
    "egress",
    "provision",
    "plugin",
];
const OBSERVER: &str = "observer";
const AGENT: &str = "agent";
const OPERATOR: &str = "operator";

/// Where NATS is and who one is there.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Where NATS is")]
pub struct Target {
    /// The data directory of `voicebus up`.
    #[arg(
        long,
        global = true,
        env = "VOICEBUS_DATA_DIR",
        value_name = "DIR",
        default_value = ".voicebus"
    )]
    pub data_dir: PathBuf,

    #[command(flatten)]
    pub nats: NatsArgs,
}

/// What `voicebus up` writes down while it runs.
#[derive(Debug, Clone, Deserialize)]
pub struct Running {
    /// The process.
    pub pid: i32,
    /// Where the ingress listens.
    #[serde(default)]
    pub http: Option<String>,
    /// Where NATS listens.
    pub nats: String,
    /// The same with the observer's user and password.
    pub observer: String,
    /// The nats-server's process.
    #[serde(default)]
    pub nats_pid: Option<i32>,
    /// The version of voicebus.
    #[serde(default)]
    pub version: Option<String>,
}

/// Why NATS is not found.
#[derive(Debug, Error)]
pub enum Error {
    /// Nothing runs here and no other place was named.
    #[error(
        "no running voicebus found in {}; start one with `voicebus up`, or say where NATS is with --nats-url",
        dir.display()
    )]
    NotRunning {
        /// The data directory.
        dir: PathBuf,
    },
    /// What was written down is of a process that is gone.
    #[error(
        "voicebus is no longer running: {} was left behind by process {pid}; start it again with `voicebus up`, or say where NATS is with --nats-url",
        file.display()
    )]
    Gone {
        /// The file.
        file: PathBuf,
        /// The process.
        pid: i32,
    },
    /// A file is there and cannot be used.
    #[error("cannot use {}: {reason}", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// Why.
        reason: String,
    },
    /// The password of a user is missing.
    #[error("no password for NATS user `{user}`: set {PASSWORD}, or {PASSWORD_FILE} to a file")]
    NoPassword {
        /// The user.
        user: String,
    },
    /// What was said cannot be used.
    #[error("{0}")]
    Usage(String),
    /// NATS does not let us in, or is not there.
    #[error(transparent)]
    Connect(#[from] bus::Error),
}

impl Target {
    /// Connects as somebody who looks on.
    ///
    /// # Errors
    /// See [`enum@Error`].
    pub async fn observer(&self) -> Result<Connection, Error> {
        self.connect(OBSERVER).await
    }

    /// Connects as somebody who may command.
    ///
    /// # Errors
    /// See [`enum@Error`].
    pub async fn agent(&self) -> Result<Connection, Error> {
        self.connect(AGENT).await
    }

    /// Connects as somebody who may take dead letters back, remove them, and replay events.
    ///
    /// # Errors
    /// See [`enum@Error`].
    pub async fn operator(&self) -> Result<Connection, Error> {
        self.connect(OPERATOR).await
    }

    /// What runs in the data directory; `None` when nothing does.
    ///
    /// # Errors
    /// When something was written down that cannot be read.
    pub fn running(&self) -> Result<Option<Running>, Error> {
        read_json(&self.run_file())
    }

    /// The file that tells what runs in the data directory.
    #[must_use]
    pub fn run_file(&self) -> PathBuf {
        self.data_dir.join("run.json")
    }

    async fn connect(&self, role: &'static str) -> Result<Connection, Error> {
        let settings = self.settings(role, |name| std::env::var(name).ok())?;
        for file in [settings.auth.secret_file(), settings.tls.secret_file()] {
            if let Some(warning) = file.and_then(config::exposed) {
                tracing::warn!("{warning}");
            }
        }
        let connected = bus::connect(&settings).await;
        match (&self.nats.nats_url, connected) {
            // The process may live where its id means nothing here, so only a failure makes us look.
            (None, Err(error)) => match self.running()? {
                Some(running) if !is_alive(running.pid) => Err(Error::Gone {
                    file: self.run_file(),
                    pid: running.pid,
                }),
                Some(_) | None => Err(error.into()),
            },
            (_, connected) => Ok(connected?),
        }
    }

    fn settings(
        &self,
        role: &'static str,
        env: impl Fn(&str) -> Option<String>,
    ) -> Result<Settings, Error> {
        match &self.nats.nats_url {
            Some(url) => self.elsewhere(url, role, env),
            None => self.here(role),
        }
    }

    fn elsewhere(
        &self,
        url: &str,
        role: &'static str,
        env: impl Fn(&str) -> Option<String>,
    ) -> Result<Settings, Error> {
        let tls = self.nats.tls().map_err(Error::Usage)?;
        let file = match (&self.nats.creds, &self.nats.nkey) {
            (Some(_), Some(_)) => {
                let mistake = "--creds and --nkey are two ways to log in; give one of them";
                return Err(Error::Usage(mistake.to_owned()));
            }
            (Some(file), None) => Some(Auth::Credentials(file.clone())),
            (None, Some(file)) => Some(Auth::NKey(file.clone())),
            (None, None) => None,
        };
        let password = password(&env)?;
        let auth = match (file, &self.nats.nats_user, password) {
            (Some(file), _, _) => file,
            (None, Some(user), Some(password)) => Auth::Password {
                user: user.clone(),
                password,
            },
            (None, Some(user), None) => return Err(Error::NoPassword { user: user.clone() }),
            (None, None, password) => match (login_in(url), password) {
                (Some(login), _) => login,
                (None, Some(password)) => Auth::Password {
                    user: role.to_owned(),
                    password,
                },
                (None, None) => Auth::None,
            },
        };
        // A file does not say whose it is; whoever knows may.
        let user = match &auth {
            Auth::Password { user, .. } => Some(user),
            Auth::NKey(_) | Auth::Credentials(_) => self.nats.nats_user.as_ref(),
            Auth::None => None,
        };
        let known = ROLES
            .into_iter()
            .find(|known| user.is_some_and(|user| known == user));
        Ok(Settings {
            url: url.to_owned(),
            role: known.unwrap_or(role),
            auth,
            tls,
        })
    }

    fn here(&self, role: &'static str) -> Result<Settings, Error> {
        let running = self.running()?.ok_or_else(|| Error::NotRunning {
            dir: self.data_dir.clone(),
        })?;
        if role == OBSERVER {
            return Ok(Settings {
                auth: login_in(&running.observer).unwrap_or(Auth::None),
                tls: Tls::default(),
                url: running.nats,
                role,
            });
        }
        let file = self.data_dir.join("credentials.json");
        let unusable = |reason: String| Error::File {
            file: file.clone(),
            reason,
        };
        let passwords: BTreeMap<String, serde_json::Value> =
            read_json(&file)?.ok_or_else(|| unusable("it is not there".to_owned()))?;
        let password = passwords
            .get(role)
            .and_then(|password| password.as_str())
            .ok_or_else(|| unusable(format!("it has no password for the user `{role}`; stop voicebus and start it again to have one made")))?;
        Ok(Settings {
            url: running.nats,
            auth: Auth::Password {
                user: role.to_owned(),
                password: password.to_owned(),
            },
            tls: Tls::default(),
            role,
        })
    }
}

/// Whether a process runs on this machine.
pub(super) fn is_alive(pid: i32) -> bool {
    rustix::process::Pid::from_raw(pid).is_some_and(|pid| {
        match rustix::process::test_kill_process(pid) {
            Ok(()) => true,
            // It is somebody else's, and there.
            Err(error) => error == rustix::io::Errno::PERM,
        }
    })
}

/// User and password that a URL holds; async-nats itself does not look for them.
fn login_in(url: &str) -> Option<Auth> {
    let (_, rest) = url.split(',').next()?.split_once("://")?;
    let (who, _) = rest.rsplit_once('@')?;
    let (user, password) = who.split_once(':')?;
    let decoded = |text| Some(percent_decode_str(text).decode_utf8().ok()?.into_owned());
    Some(Auth::Password {
        user: decoded(user)?,
        password: decoded(password)?,
    })
}

fn password(env: &impl Fn(&str) -> Option<String>) -> Result<Option<String>, Error> {
    if let Some(password) = env(PASSWORD).filter(|password| !password.is_empty()) {
        return Ok(Some(password));
    }
    let Some(file) = env(PASSWORD_FILE).filter(|file| !file.is_empty()) else {
        return Ok(None);
    };
    match fs::read_to_string(&file) {
        Ok(text) => Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned())),
        Err(error) => Err(Error::File {
            file: file.into(),
            reason: error.to_string(),
        }),
    }
}

fn read_json<T: serde::de::DeserializeOwned>(file: &Path) -> Result<Option<T>, Error> {
    let failed = |reason: String| Error::File {
        file: file.to_owned(),
        reason,
    };
    let bytes = match fs::read(file) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error.to_string())),
    };
    // The place and never the content: it may be a password.
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|error| failed(format!("not as expected at line {}", error.line())))
}

#[cfg(test)]
mod tests;
