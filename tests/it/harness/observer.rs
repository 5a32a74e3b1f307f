//! What anybody sees who has a NATS client and a JSON parser. Nothing of voicebus is used here.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_nats::jetstream::consumer::pull::OrderedConfig;
use async_nats::jetstream::{self, consumer};
use async_nats::{Client, HeaderMap};
use futures_util::StreamExt;
use serde_json::Value;

use super::{PATIENCE, reached, reached_within, within};

/// A message as it came.
#[derive(Debug, Clone)]
pub struct Heard {
    pub subject: String,
    pub headers: HeaderMap,
    pub json: Value,
}

impl Heard {
    fn new(subject: &str, headers: Option<&HeaderMap>, payload: &[u8]) -> Self {
        Self {
            subject: subject.to_owned(),
            headers: headers.cloned().unwrap_or_default(),
            json: serde_json::from_slice(payload).unwrap(),
        }
    }

    /// One token of the subject, from 0.
    pub fn token(&self, place: usize) -> &str {
        self.subject.split('.').nth(place).unwrap_or_default()
    }

    /// The call, or the command.
    pub fn log(&self) -> &str {
        self.token(2)
    }

    /// `state.ended` and the like.
    pub fn what(&self) -> String {
        format!("{}.{}", self.token(4), self.token(5))
    }

    pub fn id(&self) -> &str {
        self.json["id"].as_str().unwrap()
    }

    pub fn sequence(&self) -> u64 {
        self.json["sequence"].as_u64().unwrap()
    }

    pub fn session(&self) -> &str {
        self.json["sessionkey"].as_str().unwrap()
    }
}

/// A connection that only looks.
#[derive(Clone)]
pub struct Observer {
    pub client: Client,
}

/// How often in a row nothing must be waiting until that is believed.
const LOOKS_IN_A_ROW: u32 = 4;

impl Observer {
    pub async fn connect(url: &str) -> Self {
        // The client library does not use what the URL says about the user.
        let server: async_nats::ServerAddr = url.parse().unwrap();
        let (user, password) = (server.username().unwrap(), server.password().unwrap());
        let options =
            async_nats::ConnectOptions::with_user_and_password(user.into(), password.into());
        let client = within("an observer's connection", options.connect(server)).await;
        Self {
            client: client.unwrap(),
        }
    }

    /// The JetStream API.
    async fn api(&self, subject: &str) -> Value {
        self.ask(subject, "{}").await
    }

    async fn ask(&self, subject: &str, question: impl Into<String>) -> Value {
        let asked = self
            .client
            .request(format!("$JS.API.{subject}"), question.into().into());
        let answer = within(subject, asked).await.unwrap();
        let json: Value = serde_json::from_slice(&answer.payload).unwrap();
        assert_eq!(json["error"], Value::Null, "{subject}");
        json
    }

    /// How many messages a stream holds.
    pub async fn messages_and_canaries(&self, stream: &str) -> u64 {
        let info = self.api(&format!("STREAM.INFO.{stream}")).await;
        info["state"]["messages"].as_u64().unwrap()
    }

    /// How many messages a stream holds, canaries not counted.
    pub async fn messages(&self, stream: &str) -> u64 {
        let canary = format!("voicebus.canary.{stream}");
        let question = format!(r#"{{"subjects_filter":"{canary}"}}"#);
        let info = self.ask(&format!("STREAM.INFO.{stream}"), question).await;
        let canaries = info["state"]["subjects"][canary].as_u64();
        info["state"]["messages"].as_u64().unwrap() - canaries.unwrap_or(0)
    }

    /// How many inputs VOICE_IN holds, timers that are still to fire not counted.
    pub async fn inputs(&self) -> u64 {
        self.input_subjects().await.values().sum()
    }

    /// How many inputs VOICE_IN holds on which subject.
    pub async fn input_subjects(&self) -> BTreeMap<String, u64> {
        let info = self
            .ask(
                "STREAM.INFO.VOICE_IN",
                r#"{"subjects_filter":"voice.in.>"}"#,
            )
            .await;
        let subjects = info["state"]["subjects"].as_object().into_iter().flatten();
        subjects
            .map(|(subject, count)| (subject.clone(), count.as_u64().unwrap()))
            .collect()
    }

    /// The durable consumers of a stream.
    pub async fn consumers(&self, stream: &str) -> Vec<Value> {
        let list = self.api(&format!("CONSUMER.LIST.{stream}")).await;
        let all = list["consumers"].as_array().unwrap();
        let durable = all
            .iter()
            .filter(|one| one["config"]["durable_name"].is_string());
        durable.cloned().collect()
    }

    /// Waits until everything in a stream has been worked off.
    pub async fn worked_off(&self, stream: &str) {
        // The server tells its consumers of a stored message a moment after it has acknowledged it,
        // so one look may come too early; several in a row do not.
        let calm = std::cell::Cell::new(0);
        reached(&format!("{stream} to be worked off"), async || {
            let consumers = self.consumers(stream).await;
            let sum = |field: &str| -> u64 {
                consumers
                    .iter()
                    .map(|one| one[field].as_u64().unwrap())
                    .sum()
            };
            match (sum("num_pending"), sum("num_ack_pending")) {
                (0, 0) if calm.get() == LOOKS_IN_A_ROW => Ok(()),
                (waiting, at_work) => {
                    calm.set(if waiting + at_work == 0 {
                        calm.get() + 1
                    } else {
                        0
                    });
                    Err(format!("{waiting} wait, {at_work} are at work"))
                }
            }
        })
        .await;
    }

    /// The whole public stream, read back.
    pub async fn read_back(&self) -> Vec<Heard> {
        read_stream(&self.client, "VOICE_EVENT", "voice.event.>")
            .await
            .into_iter()
            .map(|message| Heard::new(&message.subject, message.headers.as_ref(), &message.payload))
            .collect()
    }

    /// Everything that happens from here on.
    pub async fn feed(&self) -> Feed {
        let mut messages = self.client.subscribe("voice.event.>").await.unwrap();
        self.client.flush().await.unwrap();
        let heard: Arc<Mutex<Vec<Heard>>> = Arc::default();
        let writing = Arc::clone(&heard);
        tokio::spawn(async move {
            while let Some(message) = messages.next().await {
                let one = Heard::new(&message.subject, message.headers.as_ref(), &message.payload);
                writing.lock().unwrap().push(one);
            }
        });
        Feed { heard }
    }
}

/// All messages of a stream under a subject, in their order, by an ordered consumer.
pub async fn read_stream(
    client: &Client,
    stream: &str,
    subject: &str,
) -> Vec<async_nats::jetstream::Message> {
    let jetstream = jetstream::new(client.clone());
    let reading = async {
        let stream = jetstream.get_stream(stream).await.unwrap();
        let config = OrderedConfig {
            filter_subject: subject.to_owned(),
            deliver_policy: consumer::DeliverPolicy::All,
            ..OrderedConfig::default()
        };
        let consumer = stream.create_consumer(config).await.unwrap();
        let mut left = consumer.cached_info().num_pending;
        let mut messages = consumer.messages().await.unwrap();
        let mut all = Vec::new();
        while left > 0 {
            let message = messages.next().await.unwrap().unwrap();
            left = message.info().unwrap().pending;
            all.push(message);
        }
        all
    };
    within("a stream to be read", reading).await
}

/// What a subscriber of the public feed has heard.
pub struct Feed {
    heard: Arc<Mutex<Vec<Heard>>>,
}

impl Feed {
    /// Everything so far.
    pub fn all(&self) -> Vec<Heard> {
        self.heard.lock().unwrap().clone()
    }

    pub fn len(&self) -> usize {
        self.heard.lock().unwrap().len()
    }

    /// What was heard of one call or command.
    pub fn of(&self, log: &str) -> Vec<Heard> {
        let all = self.heard.lock().unwrap();
        all.iter()
            .filter(|heard| heard.log() == log)
            .cloned()
            .collect()
    }

    /// Waits for an event of one call or command.
    pub async fn hears(&self, log: &str, what: &str) -> Heard {
        self.hears_within(PATIENCE, log, what).await
    }

    /// The same for an event that has reason to take longer.
    pub async fn hears_within(&self, patience: Duration, log: &str, what: &str) -> Heard {
        reached_within(patience, &format!("{what} of {log}"), async || {
            let of = self.of(log);
            let found = of.iter().find(|heard| heard.what() == what).cloned();
            found.ok_or_else(|| format!("{:?}", of.iter().map(Heard::what).collect::<Vec<_>>()))
        })
        .await
    }

    /// Waits until all that is in the stream has been heard.
    pub async fn catches_up(&self, observer: &Observer) {
        reached("the feed to catch up with the stream", async || {
            let stored = usize::try_from(observer.messages("VOICE_EVENT").await).unwrap();
            let heard = self.len();
            if heard >= stored {
                Ok(())
            } else {
                Err(format!("{heard} of {stored} heard"))
            }
        })
        .await;
    }
}
