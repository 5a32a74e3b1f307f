//! A nats-server of one's own: free port, temporary store, gone with the value.

use std::env;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use async_nats::Client;
use async_nats::jetstream::{self, Context};
use tempfile::TempDir;

pub struct Nats {
    process: Child,
    url: String,
    dir: TempDir,
}

impl Nats {
    /// The binary named by `VOICEBUS_NATS_SERVER`, else the one on the path.
    pub async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (process, url) = run(dir.path(), "-1").await;
        Self { process, url, dir }
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
        let (process, url) = run(self.dir.path(), port).await;
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

async fn run(dir: &Path, port: &str) -> (Child, String) {
    let config = dir.join("nats.conf");
    let store = dir.join("store");
    fs::write(
        &config,
        format!(
            "listen: \"127.0.0.1:{port}\"\nports_file_dir: {dir:?}\njetstream {{ store_dir: {store:?}, max_file_store: 10GB }}\n",
        ),
    )
    .unwrap();
    let binary = env::var_os("VOICEBUS_NATS_SERVER").unwrap_or_else(|| "nats-server".into());
    let process = Command::new(&binary)
        .arg("-c")
        .arg(&config)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot start {}: {error}", binary.display()));
    let ports = dir.join(format!("nats-server_{}.ports", process.id()));
    let url = eventually(|| url_in(&ports)).await;
    (process, url)
}

fn url_in(ports: &Path) -> Option<String> {
    let ports: serde_json::Value = serde_json::from_slice(&fs::read(ports).ok()?).ok()?;
    Some(ports["nats"][0].as_str()?.to_owned())
}

async fn eventually<T>(mut look: impl FnMut() -> Option<T>) -> T {
    for _ in 0..500 {
        if let Some(found) = look() {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("nats-server did not say where it listens within 10 s");
}
