//! What a call waits for, on a real nats-server with the rights that the roles have in production.

mod completion;
mod history;
mod silence;

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::{NaiveDateTime, TimeDelta, Utc};
use futures_util::TryStreamExt;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use voicebus::app::App;
use voicebus::bus::envelope::EventEnvelope;
use voicebus::bus::feed;
use voicebus::bus::server::User;
use voicebus::bus::streams::{self, provision};
use voicebus::bus::{self, Auth, Connection, Settings, Tls, inspect};
use voicebus::config::{Config, Overrides};
use voicebus::http::serve::Listener;
use voicebus::simulate::emitter;
use voicebus::simulate::event::{self, Content, Direction};
use voicebus::simulate::{Emitter, Retry};

use crate::harness::{Bus, eventually, voicebus, within};

/// A provisioned deployment: its server, the doors and egress in this process, and routers here or
/// in processes of their own.
struct World {
    nats: Bus,
    config: std::path::PathBuf,
    observer: Connection,
    stop: CancellationToken,
    http: String,
    _dir: tempfile::TempDir,
}

/// Which roles run from the beginning.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Roles {
    All,
    /// Nobody routes, and nobody knows the voice server.
    IngressOnly,
}

/// A provisioned NATS, and the address that the doors will have.
struct Stage {
    nats: Bus,
    listener: Listener,
    http: String,
}

impl Stage {
    async fn set() -> Self {
        voicebus::install_crypto();
        let nats = Bus::empty().await;
        let admin = connect(&nats, User::Provision).await;
        provision(admin.jetstream(), &streams::Options::default())
            .await
            .unwrap();
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap())
            .await
            .unwrap();
        let http = format!("http://{}", listener.address());
        Self {
            nats,
            listener,
            http,
        }
    }

    /// What sends events to the doors.
    fn emitter(&self) -> Emitter {
        Emitter::new(emitter::Config {
            target: self.http.clone(),
            token: None,
            retry: Retry::UntilStopped,
            record: None,
        })
        .unwrap()
    }

    /// `calls` is the section of that name; `voice_server` is where egress looks for it.
    async fn run(self, roles: Roles, calls: &str, voice_server: &str) -> World {
        let Self {
            nats,
            listener,
            http,
        } = self;
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("voicebus.toml");
        let text = format!("[calls]\n{calls}\n[voice_server]\nurl = \"{voice_server}\"\n");
        std::fs::write(&config, text).unwrap();
        let stop = CancellationToken::new();
        let mut app = App::new(loaded(&config), stop.clone());
        app.add_ingress(&settings(&nats, User::Ingress), listener)
            .await
            .unwrap();
        if roles == Roles::All {
            app.add_egress(&settings(&nats, User::Egress))
                .await
                .unwrap();
            app.add_router(&settings(&nats, User::Router))
                .await
                .unwrap();
        }
        tokio::spawn(app.run());
        let observer = connect(&nats, User::Observer).await;
        World {
            nats,
            config,
            observer,
            stop,
            http,
            _dir: dir,
        }
    }
}

impl World {
    async fn start(roles: Roles, calls: &str, voice_server: &str) -> Self {
        Stage::set().await.run(roles, calls, voice_server).await
    }

    /// A router in a process of its own, to be killed.
    fn router_process(&self) -> tokio::process::Child {
        let password = self.nats.server.credentials().password(User::Router);
        tokio::process::Command::new(voicebus())
            .args(["router", "--nats-url", self.nats.server.url(), "--config"])
            .arg(&self.config)
            .env("VOICEBUS_NATS_PASSWORD", password.reveal())
            .env("VOICEBUS_LOG", "warn")
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap()
    }

    async fn post(&self, path: &str, body: impl Into<Bytes>) -> Value {
        let answer = reqwest::Client::new()
            .post(format!("{}{path}", self.http))
            .header("content-type", "application/json")
            .body(body.into())
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status().as_u16(), 200);
        serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap()
    }

    /// Sends an event as the Python server does, stamped so many milliseconds into the call.
    async fn send(&self, call: &str, content: Content<'_>, milli: i64) {
        self.post(
            "/call-event",
            event::body(call, content, began() + TimeDelta::milliseconds(milli)),
        )
        .await;
    }

    /// A call from its beginning to its end.
    async fn send_call(&self, call: &str, texts: &[&str]) {
        self.send(call, STARTED, 0).await;
        for (milli, text) in (100..).step_by(100).zip(texts) {
            self.send(call, said(text), milli).await;
        }
        self.send(call, ENDED, 60_000).await;
    }

    /// All events of a call, or of all calls.
    async fn events(&self, call: &str) -> Vec<EventEnvelope> {
        let filter = format!("voice.event.{call}.>");
        let Ok(stored) = feed::read_back(&self.observer, "test", filter, 10_000).await else {
            return Vec::new();
        };
        stored
            .iter()
            .map(|event| serde_json::from_slice(&event.payload).unwrap())
            .collect()
    }

    async fn count(&self, call: &str, kind: &str) -> usize {
        let kind = format!("openclaw.voice.{kind}");
        self.events(call)
            .await
            .iter()
            .filter(|event| event.kind == kind)
            .count()
    }

    /// Waits for an event of this kind.
    async fn happened(&self, call: &str, kind: &str) -> EventEnvelope {
        let wanted = format!("openclaw.voice.{kind}");
        eventually(kind, async || {
            self.events(call)
                .await
                .into_iter()
                .find(|event| event.kind == wanted)
        })
        .await
    }

    /// Waits until no transcript is waited for any more, and every input has been done.
    async fn settled(&self) {
        eventually("everything done", async || {
            if self.pending("voice.timer.*.finalize").await? > 0 {
                return None;
            }
            let consumers = inspect::consumers(&self.observer, "VOICE_IN").await.ok()?;
            let done = consumers
                .iter()
                .all(|one| one.pending == 0 && one.unacknowledged == 0);
            // A timer may have fired while the consumers were looked at.
            (done && self.pending("voice.timer.*.finalize").await? == 0).then_some(())
        })
        .await;
    }

    /// How many messages of VOICE_IN lie on these subjects.
    async fn pending(&self, subjects: &str) -> Option<usize> {
        let stream = self
            .observer
            .jetstream()
            .get_stream("VOICE_IN")
            .await
            .ok()?;
        let info = stream.info_with_subjects(subjects).await.ok()?;
        let subjects: Vec<(String, usize)> = info.try_collect().await.ok()?;
        Some(subjects.iter().map(|(_, count)| count).sum())
    }

    /// The one transcript of a call: revision and texts.
    async fn completed(&self, call: &str) -> (u64, Vec<String>) {
        let event = self.happened(call, "transcript.completed").await;
        told(&event)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn told(event: &EventEnvelope) -> (u64, Vec<String>) {
    let whole = event.data.conversation.as_ref().unwrap();
    let texts = whole.utterances.iter().map(|one| one.text.clone());
    (whole.revision, texts.collect())
}

const STARTED: Content<'static> = Content::Started {
    phone: "+12015550142",
    direction: Direction::Inbound,
};
const ENDED: Content<'static> = Content::Ended {
    phone: "+12015550142",
    direction: Direction::Inbound,
};
/// Nobody listens there.
const NO_VOICE_SERVER: &str = "http://127.0.0.1:9";

fn said(text: &str) -> Content<'_> {
    Content::Utterance {
        speaker: "user",
        text,
    }
}

fn began() -> NaiveDateTime {
    // The same in every event of a test: what it is does not matter.
    Utc::now().date_naive().and_hms_opt(0, 0, 0).unwrap()
}

fn loaded(config: &std::path::Path) -> Arc<Config> {
    let overrides = Overrides {
        config: Some(config.to_owned()),
        ..Overrides::default()
    };
    Arc::new(Config::load(&overrides).unwrap())
}

fn settings(nats: &Bus, user: User) -> Settings {
    Settings {
        url: nats.server.url().to_owned(),
        auth: Auth::Password {
            user: user.name().to_owned(),
            password: nats.server.credentials().password(user).reveal().to_owned(),
        },
        tls: Tls::default(),
        role: user.name(),
    }
}

async fn connect(nats: &Bus, user: User) -> Connection {
    within("connection", bus::connect(&settings(nats, user)))
        .await
        .unwrap()
}

fn kill(pid: u32) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
}

/// Longer than a test takes to look.
const SOON: Duration = Duration::from_millis(100);

/// What `POST /call` on the stand-in gives.
async fn dial(stand_in: &str) -> String {
    let answer = reqwest::Client::new()
        .post(format!("{stand_in}/call"))
        .json(&json!({ "to": "+12015550123" }))
        .send()
        .await
        .unwrap();
    let answer: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
    answer["call_id"].as_str().unwrap().to_owned()
}

async fn get(url: &str) -> Value {
    let answer = reqwest::get(url).await.unwrap();
    serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap()
}
