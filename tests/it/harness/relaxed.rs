//! A nats-server with the users of `nats/` that acknowledges before it flushes.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;
use voicebus::bus::server::User;

use super::{Process, binary, reached};

const PASSWORD: &str = "vbpassword";

/// Gone with the value.
pub struct Relaxed {
    process: Child,
    url: String,
    dir: TempDir,
}

impl Relaxed {
    pub async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let nats = Path::new(env!("CARGO_MANIFEST_DIR")).join("nats");
        let conf = std::fs::read_to_string(nats.join("nats-server.conf")).unwrap();
        let relaxed = conf.replace("\n  sync_interval: always\n", "\n");
        assert_ne!(conf, relaxed);
        std::fs::write(dir.path().join("nats-server.conf"), relaxed).unwrap();
        std::fs::copy(nats.join("accounts.conf"), dir.path().join("accounts.conf")).unwrap();
        let mut command = Command::new(binary().await.path);
        command
            .arg("-c")
            .arg(dir.path().join("nats-server.conf"))
            .arg("--ports_file_dir")
            .arg(dir.path())
            .env("VOICEBUS_NATS_NAME", "unflushed")
            .env("VOICEBUS_NATS_LISTEN", "\"127.0.0.1:-1\"")
            .env("VOICEBUS_NATS_MONITOR_LISTEN", "\"127.0.0.1:-1\"")
            .env("VOICEBUS_NATS_STORE_DIR", dir.path().join("store"))
            .stderr(Stdio::null());
        for user in User::ALL {
            command.env(user.password_variable(), PASSWORD);
        }
        let process = command.spawn().unwrap();
        let ports = dir
            .path()
            .join(format!("nats-server_{}.ports", process.id()));
        let url = reached("a nats-server", async || {
            let text = std::fs::read(&ports).map_err(|error| error.to_string())?;
            let ports: Value = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
            Ok(ports["nats"][0].as_str().unwrap().to_owned())
        })
        .await;
        Self { process, url, dir }
    }

    /// Where it listens, as one of its users.
    pub fn url_of(&self, user: User) -> String {
        let with_user = format!("://{}:{PASSWORD}@", user.name());
        self.url.replacen("://", &with_user, 1)
    }

    /// Starts `voicebus` as one of its users.
    pub fn run(&self, role: &str, args: &[&str]) -> Process {
        let mut all = vec![role, "--nats-url", &self.url, "--nats-user", role];
        all.extend(args);
        let env = [("VOICEBUS_NATS_PASSWORD".to_owned(), PASSWORD.to_owned())];
        Process::start(role, self.dir.path(), all, &env)
    }
}

impl Drop for Relaxed {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}
