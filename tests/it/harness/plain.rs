//! A nats-server that asks nobody who they are, for tests of the streams alone.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use async_nats::Client;
use async_nats::jetstream::{self, Context};
use tempfile::TempDir;

use super::{binary, eventually};

/// Free port, temporary store, gone with the value.
pub struct Nats {
    process: Child,
    url: String,
    dir: TempDir,
    more: &'static str,
}

impl Nats {
    pub async fn start() -> Self {
        Self::start_with("").await
    }

    /// One that flushes its disk for each message, as `up` has it.
    pub async fn start_flushing() -> Self {
        Self::start_with("sync_interval: always").await
    }

    /// With more in its JetStream block.
    pub async fn start_with(more: &'static str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (process, url) = run(dir.path(), "-1", more).await;
        Self {
            process,
            url,
            dir,
            more,
        }
    }

    /// Where it listens.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Ends it without a warning.
    pub fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Starts it again after [`Nats::kill`], where it was, with what it had.
    pub async fn restart(&mut self) {
        let (_, port) = self.url.rsplit_once(':').unwrap();
        let (process, url) = run(self.dir.path(), port, self.more).await;
        assert_eq!(url, self.url);
        self.process = process;
    }

    pub async fn client(&self) -> Client {
        async_nats::connect(&self.url).await.unwrap()
    }

    pub async fn jetstream(&self) -> Context {
        jetstream::new(self.client().await)
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

async fn run(dir: &Path, port: &str, more: &str) -> (Child, String) {
    let config = dir.join("nats.conf");
    let store = dir.join("store");
    std::fs::write(
        &config,
        format!(
            "listen: \"127.0.0.1:{port}\"\nports_file_dir: {dir:?}\njetstream {{ store_dir: {store:?}, max_file_store: 10GB\n{more} }}\n",
        ),
    )
    .unwrap();
    let process = Command::new(binary().await.path)
        .arg("-c")
        .arg(&config)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let ports = dir.join(format!("nats-server_{}.ports", process.id()));
    let url = eventually("the ports of nats-server", async || {
        let ports: serde_json::Value = serde_json::from_slice(&std::fs::read(&ports).ok()?).ok()?;
        Some(ports["nats"][0].as_str()?.to_owned())
    })
    .await;
    (process, url)
}
