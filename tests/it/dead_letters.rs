//! What cannot be used, on a real nats-server with the permissions of production.

mod commands;
mod full;
mod garbage;
mod given_up;
mod redrive;
mod replay;

use std::process::Stdio;
use std::time::Duration;

use async_nats::jetstream::{self, stream};
use clap::Parser;
use serde_json::{Value, json};
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;
use voicebus::bus::feed::{self, Stored};
use voicebus::bus::letters::{Letter, Letters};
use voicebus::bus::server::User;
use voicebus::bus::{self, Auth, Bus, Connection, Settings, Tls, streams};
use voicebus::domain::ids::{AgentId, CallId};
use voicebus::domain::session::{Policy, Scope};
use voicebus::domain::timer::Times;
use voicebus::router::Router;
use voicebus::supervise::Supervisor;

use crate::harness::{self, eventually, voicebus};

/// A provisioned server with all its users.
struct Stage {
    server: harness::Bus,
    /// Publishes as the ingress does.
    ingress: Bus,
    observer: Connection,
}

impl Stage {
    async fn set() -> Self {
        let server = harness::Bus::empty().await;
        let provision = connect(&server, User::Provision).await;
        streams::provision(provision.jetstream(), &streams::Options::default())
            .await
            .unwrap();
        let ingress = Bus::open(connect(&server, User::Ingress).await)
            .await
            .unwrap();
        let observer = connect(&server, User::Observer).await;
        Self {
            server,
            ingress,
            observer,
        }
    }

    async fn connect(&self, user: User) -> Connection {
        connect(&self.server, user).await
    }

    /// A router in this process. Dropping the token does not stop it; cancelling does.
    async fn router(&self) -> CancellationToken {
        let stop = CancellationToken::new();
        let mut tasks = Supervisor::new(stop.clone());
        let policy = Policy {
            agent: AgentId::parse("main").unwrap(),
            scope: Scope::PerPhone,
            times: Times::default(),
            own_numbers: Vec::new(),
        };
        let bus = Bus::open(self.connect(User::Router).await).await.unwrap();
        let router = Router::build(bus, policy).await.unwrap();
        let view = router.view();
        router.start(&mut tasks).await.unwrap();
        tokio::spawn(tasks.run(Duration::from_secs(1)));
        eventually("a ready router", async || view.is_ready().then_some(())).await;
        stop
    }

    /// A role in a process of its own, to be killed.
    fn process(&self, user: User, words: &[&str]) -> Child {
        let password = self.server.server.credentials().password(user).reveal();
        Command::new(voicebus())
            .arg(user.name())
            .args(["--nats-url", self.server.server.url()])
            .args(["--nats-user", user.name()])
            .args(words)
            .env("VOICEBUS_NATS_PASSWORD", password)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap()
    }

    /// The arguments of a tool that works as one of the users.
    fn args<A: clap::Args>(&self, user: User, words: &[&str]) -> A {
        #[derive(clap::Parser)]
        struct Line<A: clap::Args> {
            #[command(flatten)]
            args: A,
        }
        let password = self.server.server.credentials().password(user).reveal();
        let who = format!("://{}:{password}@", user.name());
        let url = self.server.server.url().replacen("://", &who, 1);
        let words = words.iter().copied();
        let place = ["--nats-url", &url];
        Line::<A>::try_parse_from(["tool"].into_iter().chain(words).chain(place))
            .unwrap_or_else(|error| panic!("{error}"))
            .args
    }

    fn partition(&self, call: &str) -> u32 {
        let call = CallId::parse(call).unwrap();
        self.ingress.subjects().partition(&call)
    }

    /// Another call of the same partition.
    fn neighbour(&self, call: &str) -> String {
        (0..)
            .map(|n| format!("CAneighbour{n}"))
            .find(|other| self.partition(other) == self.partition(call))
            .unwrap()
    }

    /// Where the inputs of a call are published.
    fn subject(&self, call: &str, kind: &str) -> String {
        format!("voice.in.{}.{call}.{kind}", self.partition(call))
    }

    /// Publishes what an ingress would never publish.
    async fn publish(&self, subject: &str, body: impl Into<bytes::Bytes>) -> u64 {
        let jetstream = self.ingress.connection().jetstream();
        let sent = jetstream.publish(subject.to_owned(), body.into()).await;
        sent.unwrap().await.unwrap().sequence
    }

    /// Publishes an input of a call, in its place.
    async fn input(&self, call: &str, id: &str, says: Value) -> u64 {
        let kind = says["type"].as_str().unwrap().to_owned();
        self.publish(&self.subject(call, &kind), input(call, id, says))
            .await
    }

    async fn events(&self, call: &str) -> Vec<Value> {
        let filter = format!("voice.event.{call}.>");
        let stored = feed::read_back(&self.observer, "test", filter, 1000).await;
        let read = |event: Stored| serde_json::from_slice(&event.payload).unwrap();
        stored.unwrap().into_iter().map(read).collect()
    }

    /// Kinds and actions of a call's events, in order.
    async fn story(&self, call: &str) -> Vec<String> {
        let events = self.events(call).await;
        events.iter().map(kind_of).collect()
    }

    /// Waits until a call has so many events of a kind, and returns the last one.
    async fn told(&self, call: &str, kind: &str, count: usize) -> Value {
        eventually(&format!("{count} {kind} of {call}"), async || {
            let events = self.events(call).await;
            let mut found: Vec<Value> = events
                .into_iter()
                .filter(|event| kind_of(event) == kind)
                .collect();
            (found.len() >= count).then(|| found.remove(count - 1))
        })
        .await
    }

    async fn letters(&self) -> Vec<Letter> {
        let letters = Letters::new(self.observer.clone());
        let (mut all, mut from) = (Vec::new(), 1);
        while let Some(letter) = letters.next("voice.dlq.>", from).await.unwrap() {
            from = letter.id + 1;
            all.push(letter);
        }
        all
    }

    /// Waits until there are so many letters.
    async fn parked(&self, count: usize) -> Vec<Letter> {
        eventually(&format!("{count} letters"), async || {
            let letters = self.letters().await;
            (letters.len() >= count).then_some(letters)
        })
        .await
    }

    /// Changes the configuration of a stream, as somebody who provisions.
    async fn change(&self, stream: &str, change: impl FnOnce(&mut stream::Config)) {
        let provision = self.connect(User::Provision).await;
        let mut found = provision.jetstream().get_stream(stream).await.unwrap();
        let mut config = found.info().await.unwrap().config.clone();
        change(&mut config);
        provision.jetstream().update_stream(config).await.unwrap();
    }

    /// Asks the JetStream API as somebody who provisions.
    async fn api(&self, subject: String, body: Value) -> Value {
        let provision = self.connect(User::Provision).await;
        let jetstream: &jetstream::Context = provision.jetstream();
        let answer: Value = jetstream.request(subject, &body).await.unwrap();
        assert!(answer.get("error").is_none(), "{answer}");
        answer
    }

    /// Has the server hold back the inputs of a partition, or let them go.
    async fn hold(&self, partition: u32, held: bool) {
        let until = if held {
            "2099-01-01T00:00:00Z"
        } else {
            "2000-01-01T00:00:00Z"
        };
        let subject = format!("CONSUMER.PAUSE.VOICE_IN.p{partition}");
        self.api(subject, json!({ "pause_until": until })).await;
    }
}

async fn connect(server: &harness::Bus, user: User) -> Connection {
    let settings = Settings {
        url: server.server.url().to_owned(),
        auth: Auth::Password {
            user: user.name().to_owned(),
            password: server
                .server
                .credentials()
                .password(user)
                .reveal()
                .to_owned(),
        },
        tls: Tls::default(),
        role: user.name(),
    };
    bus::connect(&settings).await.unwrap()
}

/// An input as the ingress writes it.
fn input(call: &str, id: &str, says: Value) -> Vec<u8> {
    let input = json!({
        "version": 1,
        "id": id,
        "source": "test",
        "call": call,
        "received_at": "2026-11-22T14:00:00Z",
        "says": says,
        "traceparent": TRACE,
    });
    input.to_string().into_bytes()
}

const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn ringing() -> Value {
    json!({ "type": "ringing" })
}

fn said(text: &str) -> Value {
    json!({ "type": "utterance", "speaker": "user", "label": "user", "text": text })
}

fn started(number: &str) -> Value {
    json!({ "type": "started", "direction": "inbound", "number": number })
}

fn kind_of(event: &Value) -> String {
    let kind = event["type"].as_str().unwrap();
    kind.strip_prefix("openclaw.voice.").unwrap().to_owned()
}
