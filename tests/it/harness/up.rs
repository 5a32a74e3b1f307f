//! `voicebus up` as people start it.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use super::{Http, Observer, Process, reached, runs, within};

/// How to start.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where the phone-call server is; by default nowhere.
    pub voice_server: SocketAddr,
    /// Further arguments.
    pub args: Vec<String>,
    /// Further variables.
    pub env: Vec<(String, String)>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            // The port of nobody: a connection to it is refused.
            voice_server: SocketAddr::from(([127, 0, 0, 1], 1)),
            args: Vec::new(),
            env: Vec::new(),
        }
    }
}

/// A running `voicebus up`.
pub struct Up {
    process: Process,
    options: Options,
    dir: Arc<TempDir>,
    nats_pid: u32,
    pub nats: String,
    pub http: Http,
    pub observer: Observer,
}

impl Up {
    pub async fn start(options: Options) -> Self {
        Self::start_in(Arc::new(tempfile::tempdir().unwrap()), options).await
    }

    async fn start_in(dir: Arc<TempDir>, options: Options) -> Self {
        let voice_server = format!("http://{}", options.voice_server);
        let mut args = vec!["up", "--data-dir", "data", "--voice-server", &voice_server];
        args.extend(["--listen", "127.0.0.1:0", "--nats-listen", "127.0.0.1:0"]);
        args.extend(options.args.iter().map(String::as_str));
        let mut process = Process::start("up", dir.path(), &args, &options.env);
        let run_file = dir.path().join("data/run.json");
        let run: Value = reached("run.json", async || {
            if let Some(status) = process.has_ended() {
                panic!("`up` has ended: {status}");
            }
            let text = std::fs::read(&run_file).map_err(|error| error.to_string())?;
            Ok(serde_json::from_slice(&text).unwrap())
        })
        .await;
        assert_eq!(run["pid"], process.pid());
        let text = |name: &str| run[name].as_str().unwrap().to_owned();
        let (_scheme, address) = run["http"].as_str().unwrap().split_once("://").unwrap();
        let address = address.parse().unwrap();
        Self {
            nats_pid: u32::try_from(run["nats_pid"].as_u64().unwrap()).unwrap(),
            nats: text("nats"),
            http: Http::at(address),
            observer: Observer::connect(&text("observer")).await,
            process,
            options,
            dir,
        }
    }

    /// What it has written so far.
    pub fn log(&self) -> String {
        self.process.log()
    }

    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Connects as another user than the observer, with plain means.
    pub async fn connect(&self, user: &str) -> async_nats::Client {
        let text = std::fs::read(self.data_dir().join("credentials.json")).unwrap();
        let passwords: Value = serde_json::from_slice(&text).unwrap();
        let password = passwords[user].as_str().unwrap().to_owned();
        let options = async_nats::ConnectOptions::with_user_and_password(user.to_owned(), password)
            .custom_inbox_prefix(format!("_INBOX_{user}"));
        within("a connection", options.connect(&self.nats))
            .await
            .unwrap()
    }

    /// Waits until nothing is left to do for the router.
    pub async fn settled(&self) {
        self.observer.worked_off("VOICE_IN").await;
    }

    /// Stops it as Ctrl-C does, and sees that it leaves nothing behind.
    pub async fn stop(mut self) {
        self.interrupt().await;
    }

    /// Stops it and starts it again on the same data.
    pub async fn restart(mut self) -> Self {
        self.interrupt().await;
        Self::start_in(Arc::clone(&self.dir), self.options.clone()).await
    }

    /// The same, with something done to its data in between.
    pub async fn restart_after(mut self, change: impl FnOnce(&std::path::Path)) -> Self {
        self.interrupt().await;
        change(&self.data_dir());
        Self::start_in(Arc::clone(&self.dir), self.options.clone()).await
    }

    /// Runs a tool on it, and gives its exit code and what it said.
    pub async fn tool(&self, words: &[&str]) -> (i32, String) {
        let mut command = tokio::process::Command::new(super::voicebus());
        command.args(words).arg("--data-dir").arg(self.data_dir());
        let output = within("a tool", command.output()).await.unwrap();
        let said = [output.stdout, output.stderr].concat();
        (
            output.status.code().unwrap(),
            String::from_utf8(said).unwrap(),
        )
    }

    async fn interrupt(&mut self) {
        self.process.signal(Signal::INT);
        let status = self.process.ended().await;
        assert_eq!(status.code(), Some(0), "{status}");
        assert!(!self.data_dir().join("run.json").exists());
        assert!(!runs(self.nats_pid), "its nats-server is still there");
    }
}

/// An address where nobody listens, for a server that comes later. Below the ports that the system
/// hands out by itself, so that nobody else gets it in between.
pub fn free_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = std::process::id() % 10_000;
    loop {
        let step = u32::from(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = u16::try_from(20_000 + (start + step) % 10_000).unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}
