//! A nats-server per test, as `up` runs it, with the streams the tests need; and the real
//! executable on top of it.

pub mod certificates;
pub mod cloudevent;
mod http;
mod observer;
pub mod oracle;
mod process;
mod up;

mod ingress;
mod plain;
mod proxy;
mod relaxed;
mod secure;

use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use async_nats::jetstream::{self, kv, stream};
use async_nats::{Client, ConnectOptions, Event};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::{OnceCell, mpsc};
use tokio_util::sync::CancellationToken;
use voicebus::bus::server::{Binary, Places, Server, ServerConfig, User, locate};
use voicebus::bus::streams;

pub use http::{Answer, Http, parse_answer};
pub use observer::{Feed, Heard, Observer, read_stream};
pub use process::{Process, as_pid, runs};
pub use up::{Options, Up, free_address};

pub use ingress::{Ingress, said};
pub use plain::Nats;
pub use proxy::Proxy;
pub use relaxed::Relaxed;
pub use secure::Secure;

/// The bound of every wait. Nothing takes this long unless it is broken.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Bounds a wait, and says what was waited for.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited in vain: {what}"),
    }
}

/// Asks again and again until the answer is there.
pub async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    within(what, async {
        loop {
            if let Some(value) = ask().await {
                return value;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
}

/// Asks again and again until a state is reached; in vain, it says what the last answer was.
pub async fn reached<T>(what: &str, ask: impl AsyncFnMut() -> Result<T, String>) -> T {
    reached_within(PATIENCE, what, ask).await
}

/// The same for a state that has reason to take longer.
pub async fn reached_within<T>(
    bound: Duration,
    what: &str,
    mut ask: impl AsyncFnMut() -> Result<T, String>,
) -> T {
    let deadline = tokio::time::Instant::now() + bound;
    loop {
        let last = match within(what, ask()).await {
            Ok(value) => return value,
            Err(status) => status,
        };
        assert!(
            tokio::time::Instant::now() < deadline,
            "waited in vain for {what}; at last: {last}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The nats-server that `up` would use on this machine.
pub async fn binary() -> Binary {
    static BINARY: OnceCell<Binary> = OnceCell::const_new();
    BINARY
        .get_or_init(|| async {
            locate(&Places::from_env(), |words| eprintln!("{words}"))
                .await
                .expect("a nats-server is needed to test")
        })
        .await
        .clone()
}

/// The executable under test; it has the guard in it.
pub fn voicebus() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_voicebus"))
}

pub async fn server_config(data_dir: &std::path::Path) -> ServerConfig {
    let mut config = ServerConfig::new(binary().await, data_dir);
    config.guard = voicebus();
    config
}

/// A running bus; it ends with the test.
pub struct Bus {
    pub server: Server,
    dir: TempDir,
}

impl Bus {
    /// A server without streams.
    pub async fn empty() -> Self {
        Self::start(|_config| {}).await
    }

    async fn start(change: impl FnOnce(&mut ServerConfig)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = server_config(dir.path()).await;
        change(&mut config);
        let server = Server::start(config, CancellationToken::new())
            .await
            .unwrap();
        Self { server, dir }
    }

    /// A server with all that roles need.
    pub async fn provisioned() -> Self {
        Self::empty().await.provision().await
    }

    /// The same, but nobody starts the server again as long as it runs.
    pub async fn unwatched() -> Self {
        let patience = Duration::from_secs(24 * 3600);
        let bus = Self::start(|config| config.unwell_patience = patience);
        bus.await.provision().await
    }

    async fn provision(self) -> Self {
        let bus = self;
        let provision = bus.connect(User::Provision).await.jetstream;
        let report = streams::provision(&provision, &streams::Options::default()).await;
        assert!(report.unwrap().is_settled());
        bus
    }

    /// Starts a role as a process of its own.
    pub fn role(&self, role: &str, args: &[&str]) -> Process {
        self.role_with(role, args, &[])
    }

    /// The same with further variables; VOICEBUS_NATS_URL leads it to the server on another way.
    pub fn role_with(&self, role: &str, args: &[&str], env: &[(&str, &str)]) -> Process {
        let user = User::ALL.into_iter().find(|user| user.name() == role);
        let password = self.server.credentials().password(user.unwrap()).reveal();
        let detour = env.iter().find(|(name, _)| *name == "VOICEBUS_NATS_URL");
        let url = detour.map_or(self.server.url(), |(_, url)| url);
        let mut all = vec![role, "--nats-url", url, "--nats-user", role];
        all.extend(["--listen", "127.0.0.1:0"]);
        all.extend(args);
        let env: Vec<_> = [("VOICEBUS_NATS_PASSWORD", password)]
            .iter()
            .chain(env)
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        Process::start(role, self.dir.path(), all, &env)
    }

    /// A folder of its own, for whatever a process keeps.
    pub fn folder(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A connection that only looks.
    pub async fn observer(&self) -> Observer {
        let client = self.connect(User::Observer).await.client;
        Observer { client }
    }

    /// A server with the streams and buckets that permissions speak of.
    pub async fn with_streams() -> Self {
        let bus = Self::empty().await;
        let provision = bus.connect(User::Provision).await.jetstream;
        let plain = |name: &str, subjects: &[&str]| stream::Config {
            name: name.to_owned(),
            subjects: subjects.iter().map(ToString::to_string).collect(),
            allow_direct: true,
            ..Default::default()
        };
        for config in [
            stream::Config {
                allow_message_schedules: true,
                allow_message_ttl: true,
                allow_atomic_publish: true,
                ..plain("VOICE_IN", &["voice.in.>", "voice.timer.>"])
            },
            plain("VOICE_CMD", &["voice.cmd.>"]),
            plain("VOICE_DLQ", &["voice.dlq.>"]),
            stream::Config {
                subject_transform: Some(stream::SubjectTransform {
                    source: "voicebus.commit.>".to_owned(),
                    destination: "voice.event.>".to_owned(),
                }),
                republish: Some(stream::Republish {
                    source: "voice.event.>".to_owned(),
                    destination: "voice.event.>".to_owned(),
                    headers_only: false,
                }),
                ..plain("VOICE_EVENT", &["voicebus.commit.>"])
            },
        ] {
            provision.create_stream(config).await.unwrap();
        }
        for bucket in [
            "VOICE_NUMBER",
            "VOICE_LINK",
            "VOICE_INTENT",
            "VOICE_LIMIT",
            "VOICE_FORGOTTEN",
        ] {
            let config = kv::Config {
                bucket: bucket.to_owned(),
                history: 5,
                ..Default::default()
            };
            provision.create_key_value(config).await.unwrap();
        }
        for (stream, name) in [("VOICE_IN", "p3"), ("VOICE_CMD", "egress")] {
            let config = jetstream::consumer::pull::Config {
                durable_name: Some(name.to_owned()),
                max_ack_pending: 1,
                ..Default::default()
            };
            provision
                .create_consumer_on_stream(config, stream)
                .await
                .unwrap();
        }
        bus
    }

    /// Sends bytes as one of the roles, past every client, and waits until the server has them.
    pub async fn raw(&self, user: User, bytes: &[u8]) {
        let address = self.server.url().strip_prefix("nats://").unwrap();
        let mut stream = TcpStream::connect(address).await.unwrap();
        let hello = serde_json::json!({
            "verbose": false,
            "headers": true,
            "user": user.name(),
            "pass": self.server.credentials().password(user).reveal(),
        });
        stream
            .write_all(format!("CONNECT {hello}\r\n").as_bytes())
            .await
            .unwrap();
        stream.write_all(bytes).await.unwrap();
        stream.write_all(b"PING\r\n").await.unwrap();
        let mut lines = BufReader::new(stream).lines();
        loop {
            let line = within("PONG", lines.next_line()).await.unwrap();
            let line = line.expect("the server does not hang up");
            assert!(!line.starts_with("-ERR"), "{line}");
            if line == "PONG" {
                return;
            }
        }
    }

    /// Connects as one of the roles.
    pub async fn connect(&self, user: User) -> Role {
        let (tell, denials) = mpsc::unbounded_channel();
        let password = self.server.credentials().password(user).reveal();
        let client = ConnectOptions::with_user_and_password(user.name().into(), password.into())
            .custom_inbox_prefix(user.inbox_prefix())
            .request_timeout(Some(Duration::from_secs(5)))
            .event_callback(move |event| {
                if let Event::ServerError(error) = event {
                    // The test may be over.
                    tell.send(error.to_string()).ok();
                }
                std::future::ready(())
            })
            .connect(self.server.url())
            .await
            .unwrap();
        Role {
            jetstream: jetstream::new(client.clone()),
            client,
            denials: Mutex::new(denials),
        }
    }
}

/// A connection as one of the roles, which remembers what was denied.
pub struct Role {
    pub client: Client,
    pub jetstream: jetstream::Context,
    denials: Mutex<mpsc::UnboundedReceiver<String>>,
}

impl Role {
    /// Nothing that was asked so far was denied. Everything before has been answered,
    /// and the server tells a denial before it answers what comes later.
    pub fn assert_nothing_denied(&self) {
        let all = self.take_denials();
        assert!(all.is_empty(), "{all:#?}");
    }

    /// Something was denied, on subjects that begin like this, and nothing else was.
    pub fn assert_only_denied(&self, prefix: &str) {
        let all = self.take_denials();
        assert!(!all.is_empty());
        let others: Vec<_> = all.iter().filter(|told| !told.contains(prefix)).collect();
        assert!(others.is_empty(), "{others:#?}");
    }

    fn take_denials(&self) -> Vec<String> {
        let mut denials = self.denials.lock().unwrap();
        std::iter::from_fn(|| denials.try_recv().ok()).collect()
    }

    /// What is asked must be denied, on this subject. A denied request would otherwise
    /// only be waited for in vain, so nobody waits for its answer here.
    pub async fn denied<T>(&self, subject: &str, ask: impl Future<Output = T>) {
        let wanted = subject.to_lowercase();
        let mut ask = std::pin::pin!(ask);
        let mut done = false;
        within(&format!("denial of {subject}"), async {
            loop {
                if let Ok(denial) = self.denials.lock().unwrap().try_recv() {
                    let told = denial.to_lowercase();
                    assert!(told.contains("permissions violation"), "{denial}");
                    assert!(told.contains(&format!("\"{wanted}\"")), "{denial}");
                    return;
                }
                let turn = tokio::time::sleep(Duration::from_millis(10));
                tokio::select! {
                    _ = &mut ask, if !done => done = true,
                    () = turn => {}
                }
            }
        })
        .await;
    }
}
