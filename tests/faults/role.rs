//! A role of voicebus as a process of its own, which can be started again where it was.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use rustix::process::Signal;

use crate::process::{Place, Process};
use crate::wait::{free_address, get, until};

/// How long a role may take until it is ready.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// The executable under test.
pub fn voicebus() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_voicebus"))
}

pub struct Role {
    pub name: String,
    pub listen: SocketAddr,
    program: PathBuf,
    args: Vec<String>,
    env: Vec<(String, String)>,
    /// Beside those, for a while.
    more_env: Vec<(String, String)>,
    place: Place,
    process: Option<Process>,
}

impl Role {
    pub fn new(place: &Place, name: &str, role: &str, nats: &str, password: &str) -> Self {
        let listen = free_address();
        let address = listen.to_string();
        let args = [role, "--nats-url", nats, "--nats-user", role];
        let mut args: Vec<String> = args.map(str::to_owned).into();
        args.extend(["--listen".to_owned(), address]);
        let env = [
            ("VOICEBUS_NATS_PASSWORD", password),
            ("VOICEBUS_LOG", "info"),
        ];
        Self {
            name: name.to_owned(),
            listen,
            program: voicebus(),
            args,
            env: env
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            more_env: Vec::new(),
            place: place.clone(),
            process: None,
        }
    }

    /// From its next start on it has these variables, too.
    pub fn set_env(&mut self, env: &[(&str, String)]) {
        let one = |(name, value): &(&str, String)| ((*name).to_owned(), value.clone());
        self.more_env = env.iter().map(one).collect();
    }

    pub fn with(mut self, args: &[&str]) -> Self {
        self.args.extend(args.iter().map(ToString::to_string));
        self
    }

    /// From its next start on it is this executable.
    pub fn set_program(&mut self, program: &Path) {
        self.program = program.to_owned();
    }

    /// Starts it and waits until it is ready for work.
    pub async fn start(&mut self) -> anyhow::Result<()> {
        self.spawn(None)?;
        self.ready().await
    }

    /// Starts it with a further variable, or without.
    pub fn spawn(&mut self, variable: Option<(&str, &str)>) -> anyhow::Result<()> {
        let mut env = [self.env.clone(), self.more_env.clone()].concat();
        env.extend(variable.map(|(name, value)| (name.to_owned(), value.to_owned())));
        let process = Process::start(&self.place, &self.name, &self.program, &self.args, &env)?;
        self.process = Some(process);
        Ok(())
    }

    pub async fn ready(&mut self) -> anyhow::Result<()> {
        let listen = self.listen;
        let what = format!("{} to be ready", self.name);
        let process = self.process.as_mut().context("it was not started")?;
        until(&what, READY_WITHIN, async || {
            process.lives()?;
            get(listen, "/ready").await.map(drop)
        })
        .await
    }

    pub async fn kill(&mut self) -> anyhow::Result<()> {
        self.running()?.kill().await
    }

    pub async fn stop(&mut self) -> anyhow::Result<()> {
        self.running()?.stop().await
    }

    /// Waits for its own end by SIGKILL.
    pub async fn dies(&mut self, bound: Duration) -> anyhow::Result<()> {
        use std::os::unix::process::ExitStatusExt;
        let status = self.running()?.ended(bound).await?;
        let killed = status.signal() == Some(Signal::KILL.as_raw());
        anyhow::ensure!(killed, "{} ended otherwise: {status}", self.name);
        Ok(())
    }

    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let process = self.process.as_ref().context("it does not run")?;
        process.signal(signal)
    }

    pub fn lives(&mut self) -> anyhow::Result<()> {
        self.process.as_mut().context("it does not run")?.lives()
    }

    fn running(&mut self) -> anyhow::Result<Process> {
        let name = &self.name;
        let taken = self.process.take();
        taken.with_context(|| format!("{name} does not run"))
    }
}
