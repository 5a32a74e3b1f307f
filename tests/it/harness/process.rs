//! The real executable as a process of its own, and what it says.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::Value;
use tokio::process::{Child, Command};

use super::{Http, voicebus, within};

/// A running `voicebus …`. It is killed when it is dropped; a test that fails shows its log.
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts it with these arguments and variables, and none of the variables of whoever runs the
    /// tests. It writes its log, as JSON, into the folder.
    pub fn start(
        name: &str,
        folder: &Path,
        args: impl IntoIterator<Item = impl AsRef<OsStr>>,
        env: &[(String, String)],
    ) -> Self {
        let (log, told) = (1..)
            .map(|number| folder.join(format!("{name}-{number}.log")))
            .find_map(|path| Some((path.clone(), std::fs::File::create_new(path).ok()?)))
            .unwrap();
        let mut command = Command::new(voicebus());
        for (variable, _) in std::env::vars_os() {
            let text = variable.to_string_lossy();
            let finds_nats = ["VOICEBUS_NATS_SERVER", "VOICEBUS_CACHE_DIR"];
            if text.starts_with("VOICEBUS_") && !finds_nats.contains(&&*text) {
                command.env_remove(&variable);
            }
        }
        // What a call comes to some seconds after its end is told by tests of its own; elsewhere it
        // would come in between. A file for each process: a shared one would be empty for the
        // moment in which the next process is given it again.
        let config = log.with_extension("toml");
        std::fs::write(&config, "[calls]\nfinalize_after = \"1h\"\n").unwrap();
        let child = command
            .args(args)
            .env("VOICEBUS_CONFIG", &config)
            .env("VOICEBUS_LOG_FORMAT", "json")
            .envs(env.iter().map(|(name, value)| (name, value)))
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(told)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        Self {
            name: name.to_owned(),
            child,
            log,
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id().expect("it has not been waited for")
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(as_pid(self.pid()), signal).unwrap();
    }

    /// Waits for its end.
    pub async fn ended(&mut self) -> ExitStatus {
        let what = format!("the end of {}", self.name);
        within(&what, self.child.wait()).await.unwrap()
    }

    /// As `kill -9` does.
    pub async fn kill(mut self) {
        self.signal(Signal::KILL);
        self.ended().await;
    }

    /// Asks it to leave, and sees that it does so in order.
    pub async fn stop(mut self) {
        self.signal(Signal::TERM);
        let status = self.ended().await;
        assert!(status.success(), "{}: {status}", self.name);
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Everything it has said so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Where its HTTP door is, once it has said so.
    fn address(&self) -> Option<SocketAddr> {
        self.log().lines().find_map(|line| {
            let line: Value = serde_json::from_str(line).ok()?;
            let fields = &line["fields"];
            let listens = fields["message"].as_str()?.ends_with(" listens");
            listens.then(|| fields["address"].as_str()?.parse().ok())?
        })
    }

    /// Waits until it listens.
    pub async fn listens(&mut self) -> Http {
        let what = format!("{} to listen", self.name);
        super::reached(&what, async || {
            let address = self.address();
            address.map(Http::at).ok_or_else(|| self.log())
        })
        .await
    }

    /// Waits until it says that it is ready for work.
    pub async fn ready(&mut self) -> Http {
        let what = format!("{} to be ready", self.name);
        super::reached(&what, async || {
            if let Some(status) = self.has_ended() {
                return Err(format!("it has ended: {status}"));
            }
            let address = self.address().ok_or("it does not listen yet")?;
            let http = Http::at(address);
            let answer = http.get("/ready").await;
            if answer.status == 200 {
                Ok(http)
            } else {
                Err(answer.text())
            }
        })
        .await
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let tail = lines.len().saturating_sub(40);
            eprintln!("--- {} said:\n{}", self.name, lines[tail..].join("\n"));
        }
    }
}

pub fn as_pid(pid: u32) -> Pid {
    Pid::from_raw(i32::try_from(pid).unwrap()).unwrap()
}

/// Whether a process runs. One that has ended but was not collected yet still has a number.
pub fn runs(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    test_kill_process(as_pid(pid)).is_ok() && !stat.is_ok_and(|stat| stat.contains(") Z "))
}
