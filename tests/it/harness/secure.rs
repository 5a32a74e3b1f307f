//! A nats-server as `nats/nats-server-tls.conf` has it: TLS, a certificate for each client, an NKey
//! for each user.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nkeys::KeyPair;
use rustix::process::{Signal, kill_process};
use tempfile::TempDir;
use voicebus::bus::server::User;
use voicebus::bus::{Auth, Settings, Tls};

use super::certificates::{Authority, Certificate};
use super::{as_pid, binary, eventually};

/// Gone with the value.
pub struct Secure {
    process: Child,
    port: u16,
    dir: TempDir,
    pub authority: Authority,
    /// What all clients show.
    pub client: Certificate,
}

impl Secure {
    /// One whose certificate is for `localhost`.
    pub async fn start() -> Self {
        Self::start_with(|authority| authority.issue("server", &["localhost"])).await
    }

    pub async fn start_with(certificate: impl FnOnce(&Authority) -> Certificate) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::new(dir.path(), "authority");
        certificate(&authority);
        let client = authority.issue("client", &["voicebus"]);
        lay_out(dir.path());
        for user in User::ALL {
            make_nkey(dir.path(), user);
        }
        let (process, port) = run(dir.path(), "-1").await;
        Self {
            process,
            port,
            dir,
            authority,
            client,
        }
    }

    /// Where it is called by its name.
    pub fn url(&self) -> String {
        format!("tls://localhost:{}", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The file with the seed of a user.
    pub fn nkey(&self, user: User) -> PathBuf {
        seed_file(self.dir.path(), user)
    }

    /// Gives a user another key, which the server knows from its next start on.
    pub fn change_nkey(&self, user: User) {
        make_nkey(self.dir.path(), user);
    }

    /// Ends it without a warning, and starts it again with what lies in its folder now.
    pub async fn restart(&mut self) {
        self.stop();
        let (process, _port) = run(self.dir.path(), &self.port.to_string()).await;
        self.process = process;
    }

    /// Tells it to read its files again.
    pub fn reload(&self) {
        kill_process(as_pid(self.process.id()), Signal::HUP).unwrap();
    }

    pub fn stop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// As a user connects who has all that is needed.
    pub fn settings(&self, user: User) -> Settings {
        Settings {
            url: self.url(),
            auth: Auth::NKey(self.nkey(user)),
            tls: Tls {
                ca: Some(self.authority.file().to_owned()),
                client: Some((self.client.certificate.clone(), self.client.key.clone())),
            },
            role: user.name(),
        }
    }

    /// The same as variables, for a process.
    pub fn env(&self, user: User) -> Vec<(String, String)> {
        let path = |path: &Path| path.display().to_string();
        [
            ("VOICEBUS_NATS_URL", self.url()),
            ("VOICEBUS_NATS_NKEY", path(&self.nkey(user))),
            ("VOICEBUS_NATS_CA", path(self.authority.file())),
            ("VOICEBUS_NATS_CERT", path(&self.client.certificate)),
            ("VOICEBUS_NATS_KEY", path(&self.client.key)),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }

    /// A client that has nothing of voicebus in it.
    pub async fn plain_client(&self, user: User) -> async_nats::Client {
        let seed = std::fs::read_to_string(self.nkey(user)).unwrap();
        let inbox = user.inbox_prefix();
        async_nats::ConnectOptions::with_nkey(seed.trim().to_owned())
            .add_root_certificates(self.authority.file().to_owned())
            .add_client_certificate(self.client.certificate.clone(), self.client.key.clone())
            .custom_inbox_prefix(inbox)
            .connect(self.url())
            .await
            .unwrap()
    }
}

impl Drop for Secure {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// What a person does: the files of `nats/`, and the one that is made from them.
fn lay_out(dir: &Path) {
    let nats = Path::new(env!("CARGO_MANIFEST_DIR")).join("nats");
    for file in ["nats-server-tls.conf", "accounts.conf", "with-nkeys"] {
        std::fs::copy(nats.join(file), dir.join(file)).unwrap();
    }
    let made = Command::new(dir.join("with-nkeys")).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    std::fs::write(dir.join("accounts-nkeys.conf"), made.stdout).unwrap();
}

fn seed_file(dir: &Path, user: User) -> PathBuf {
    dir.join(format!("{}.nk", user.name()))
}

fn make_nkey(dir: &Path, user: User) {
    let seed = KeyPair::new_user().seed().unwrap();
    std::fs::write(seed_file(dir, user), seed + "\n").unwrap();
}

async fn run(dir: &Path, port: &str) -> (Child, u16) {
    let path = |name: &str| format!("\"{}\"", dir.join(name).display());
    let mut env = BTreeMap::from([
        ("VOICEBUS_NATS_NAME".to_owned(), "secure".to_owned()),
        (
            "VOICEBUS_NATS_LISTEN".to_owned(),
            format!("127.0.0.1:{port}"),
        ),
        (
            "VOICEBUS_NATS_MONITOR_LISTEN".to_owned(),
            "127.0.0.1:-1".to_owned(),
        ),
        ("VOICEBUS_NATS_STORE_DIR".to_owned(), path("store")),
        ("VOICEBUS_NATS_CERT".to_owned(), path("server.crt")),
        ("VOICEBUS_NATS_KEY".to_owned(), path("server.key")),
        ("VOICEBUS_NATS_CA".to_owned(), path("authority.crt")),
    ]);
    for user in User::ALL {
        let seed = std::fs::read_to_string(seed_file(dir, user)).unwrap();
        let public = KeyPair::from_seed(seed.trim()).unwrap().public_key();
        let variable = user.password_variable().replace("PASSWORD", "NKEY");
        env.insert(variable, public);
    }
    let log = std::fs::File::create(dir.join("nats-server.log")).unwrap();
    let process = Command::new(binary().await.path)
        .arg("--config")
        .arg(dir.join("nats-server-tls.conf"))
        .arg("--ports_file_dir")
        .arg(dir)
        .envs(env)
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap();
    let ports = dir.join(format!("nats-server_{}.ports", process.id()));
    let port = eventually("the ports of nats-server", async || {
        let ports: serde_json::Value = serde_json::from_slice(&std::fs::read(&ports).ok()?).ok()?;
        let (_, port) = ports["nats"][0].as_str()?.rsplit_once(':')?;
        port.parse().ok()
    })
    .await;
    (process, port)
}
