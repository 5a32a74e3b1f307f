//! One run of the nats-server, under its guard.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tracing::warn;

use super::{Error, guard};

/// The guard starts in milliseconds; this is for a machine that is very busy.
const GUARD_TIMEOUT: Duration = Duration::from_secs(10);
/// What the guard gets on top of the grace period of the server it stops.
const GUARD_MARGIN: Duration = Duration::from_secs(2);
/// What is handed on from the environment of `up`. The rest, tokens of other roles
/// included, is none of the server's business.
const KEPT_VARIABLES: [&str; 6] = ["PATH", "HOME", "TZ", "TMPDIR", "GOMEMLIMIT", "GOMAXPROCS"];

/// How to start it.
#[derive(Debug)]
pub(super) struct Start<'a> {
    pub guard: &'a Path,
    pub program: &'a Path,
    pub conf: PathBuf,
    pub stderr: PathBuf,
    pub variables: Vec<(&'static str, OsString)>,
    pub stop_grace: Duration,
}

/// The running guard and the nats-server under it.
///
/// Dropping it closes the pipe: the guard then stops the server, unwaited for.
#[derive(Debug)]
pub(super) struct Process {
    guard: Child,
    pipe: Option<ChildStdin>,
    pid: u32,
    stop_grace: Duration,
}

impl Process {
    /// Starts the guard, which starts the server. Returns when both run.
    pub async fn spawn(start: Start<'_>) -> Result<Self, Error> {
        let stderr = File::create(&start.stderr).map_err(Error::io("write", &start.stderr))?;
        let mut command = Command::new(start.guard);
        command
            .arg0("nats-guard")
            .arg(guard::COMMAND)
            .arg(start.stop_grace.as_millis().to_string())
            .arg(start.program)
            .arg("-c")
            .arg(&start.conf)
            .env_clear()
            .envs(KEPT_VARIABLES.iter().filter_map(|name| {
                let value = std::env::var_os(name)?;
                Some((name, value))
            }))
            .envs(start.variables)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .process_group(0);
        let failed = |reason: String| Error::Guard { reason };
        let mut guard = command
            .spawn()
            .map_err(|error| failed(format!("{}: {error}", start.guard.display())))?;
        let pipe = guard.stdin.take();
        let said = guard.stdout.take();

        let mut line = String::new();
        if let Some(said) = said {
            let mut said = BufReader::new(said);
            tokio::time::timeout(GUARD_TIMEOUT, said.read_line(&mut line))
                .await
                .map_err(|_| failed("it did not answer in time".to_owned()))?
                .map_err(|error| failed(error.to_string()))?;
        }
        let Ok(pid) = line.trim().parse() else {
            let words = std::fs::read_to_string(&start.stderr).unwrap_or_default();
            let reason = match words.trim() {
                "" => format!("`{}` is not a guard", start.guard.display()),
                words => words.to_owned(),
            };
            return Err(failed(reason));
        };
        Ok(Self {
            guard,
            pipe,
            pid,
            stop_grace: start.stop_grace,
        })
    }

    /// The process id of the nats-server, not of its guard.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Waits until the guard has ended, and with it, normally, the server.
    pub async fn ended(&mut self) -> String {
        match self.guard.wait().await {
            Ok(status) => format!("guard left with {status}"),
            Err(error) => format!("guard cannot be watched: {error}"),
        }
    }

    /// Stops the server gracefully, and with force when that takes too long.
    pub async fn stop(mut self) {
        self.pipe = None;
        let patience = self.stop_grace + GUARD_MARGIN;
        if tokio::time::timeout(patience, self.guard.wait())
            .await
            .is_err()
        {
            // A guard that hangs is of no use; the caller clears what it leaves behind.
            warn!("the guard of nats-server does not end; killing it");
            if let Err(error) = self.guard.kill().await {
                warn!(%error, "the guard of nats-server cannot be killed");
            }
        }
    }
}
