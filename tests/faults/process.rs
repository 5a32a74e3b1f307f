//! One real process, and what can be done to it.

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use crate::reaper::Reaper;

/// How long a process may take to leave after SIGTERM: the roles' own grace and a little.
const LEAVE_WITHIN: Duration = Duration::from_secs(25);
/// How long the kernel may take to end a process that was killed.
const DIE_WITHIN: Duration = Duration::from_secs(10);

/// What every process of the suite needs.
#[derive(Clone)]
pub struct Place {
    /// Where logs, stores and records lie.
    pub folder: PathBuf,
    pub reaper: Arc<Reaper>,
    pub nats_server: PathBuf,
}

/// A running process. It is killed when it is dropped.
pub struct Process {
    name: String,
    pid: u32,
    child: Child,
    log: PathBuf,
    reaper: Arc<Reaper>,
}

impl Process {
    /// Starts a program with these arguments and variables, and none of voicebus's own variables of
    /// whoever runs the suite.
    pub fn start(
        place: &Place,
        name: &str,
        program: &Path,
        args: impl IntoIterator<Item = impl AsRef<OsStr>>,
        env: &[(String, String)],
    ) -> anyhow::Result<Self> {
        let log = place.folder.join(format!("{name}.log"));
        let told = File::options().create(true).append(true).open(&log)?;
        let mut command = Command::new(program);
        for (variable, _) in std::env::vars_os() {
            if variable.to_string_lossy().starts_with("VOICEBUS_") {
                command.env_remove(&variable);
            }
        }
        // A transcript that is completed after the feed was read back would look like an event that
        // was heard and is not there.
        let config = log.with_extension("toml");
        std::fs::write(&config, "[calls]\nfinalize_after = \"1h\"\n")?;
        let child = command
            .args(args)
            .env("VOICEBUS_CONFIG", &config)
            .envs(env.iter().map(|(name, value)| (name, value)))
            .current_dir(&place.folder)
            .stdin(Stdio::null())
            .stdout(told.try_clone()?)
            .stderr(told)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("{} cannot be started", program.display()))?;
        let pid = child.id().context("it has ended already")?;
        place.reaper.owns(pid);
        Ok(Self {
            name: name.to_owned(),
            pid,
            child,
            log,
            reaper: Arc::clone(&place.reaper),
        })
    }

    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let pid = as_pid(self.pid).context("a process has a number")?;
        kill_process(pid, signal).with_context(|| format!("{} cannot be signalled", self.name))
    }

    /// As `kill -9` does.
    pub async fn kill(mut self) -> anyhow::Result<()> {
        self.signal(Signal::KILL)?;
        self.ended(DIE_WITHIN).await.map(drop)
    }

    /// Asks it to leave, and sees that it does so in order.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        self.signal(Signal::TERM)?;
        let status = self.ended(LEAVE_WITHIN).await?;
        ensure!(status.success(), "{} left with {status}", self.name);
        Ok(())
    }

    /// Waits for its end.
    pub async fn ended(&mut self, bound: Duration) -> anyhow::Result<ExitStatus> {
        let Ok(status) = tokio::time::timeout(bound, self.child.wait()).await else {
            bail!("{} has not ended within {bound:?}", self.name);
        };
        self.reaper.gone(self.pid);
        Ok(status?)
    }

    /// An error when it has ended by itself.
    pub fn lives(&mut self) -> anyhow::Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!(
                "{} has ended by itself: {status}\n{}",
                self.name,
                self.last_words()
            );
        }
        Ok(())
    }

    /// The end of its log.
    pub fn last_words(&self) -> String {
        let log = std::fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log).into_owned();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // `kill_on_drop` kills it; what was waited for is told already.
        if self.child.id().is_none() {
            self.reaper.gone(self.pid);
        }
    }
}

pub fn as_pid(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw)
}
