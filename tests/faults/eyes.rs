//! What anybody sees of the bus with a plain NATS client: the streams read back, and the feed as
//! it comes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, ensure};
use async_nats::jetstream::consumer::pull::OrderedConfig;
use async_nats::jetstream::{self, consumer::DeliverPolicy};
use async_nats::{Client, ConnectOptions};
use futures_util::StreamExt;
use serde_json::Value;
use tokio::task::JoinHandle;
use voicebus::bus::server::User;

use crate::nats::Passwords;
use crate::verdict::{Committed, Heard, Input};
use crate::wait::now;

/// How long one question may take; it is asked again.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// How long reading a stream may take.
const READ_WITHIN: Duration = Duration::from_secs(60);

pub struct Eyes {
    /// Sees what the public may see.
    observer: Client,
    /// Sees the inputs as well.
    reader: Client,
    heard: Arc<Mutex<Vec<Heard>>>,
    listening: JoinHandle<()>,
}

impl Eyes {
    pub async fn open(urls: &[String], passwords: &Passwords) -> anyhow::Result<Self> {
        let observer = connect(urls, passwords, User::Observer).await?;
        let reader = connect(urls, passwords, User::Provision).await?;
        let mut messages = observer.subscribe("voice.event.>").await?;
        observer.flush().await?;
        let heard: Arc<Mutex<Vec<Heard>>> = Arc::default();
        let writing = Arc::clone(&heard);
        let listening = tokio::spawn(async move {
            while let Some(message) = messages.next().await {
                let json: Value = serde_json::from_slice(&message.payload).unwrap_or_default();
                let heard = Heard {
                    id: json["id"].as_str().unwrap_or_default().to_owned(),
                    call: token(&message.subject, 2).to_owned(),
                    sequence: json["sequence"].as_u64().unwrap_or_default(),
                    stored_as: stored_as(&message).unwrap_or_default(),
                    at: now(),
                };
                let mut all = writing.lock().unwrap_or_else(PoisonError::into_inner);
                all.push(heard);
            }
        });
        Ok(Self {
            observer,
            reader,
            heard,
            listening,
        })
    }

    /// What was heard so far.
    pub fn heard(&self) -> Vec<Heard> {
        let all = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        all.clone()
    }

    /// The number of the last message of a stream.
    pub async fn last(&self, stream: &str) -> anyhow::Result<u64> {
        let info = self.api(&format!("STREAM.INFO.{stream}")).await?;
        let last = info["state"]["last_seq"].as_u64();
        last.context("a stream has a last sequence")
    }

    /// The node that leads a stream; none on a single node.
    pub async fn leader(&self, stream: &str) -> anyhow::Result<String> {
        let info = self.api(&format!("STREAM.INFO.{stream}")).await?;
        let leader = info["cluster"]["leader"].as_str();
        Ok(leader.context("there is no leader")?.to_owned())
    }

    /// Whether every replica of every stream has all there is.
    pub async fn replicas_are_current(&self) -> anyhow::Result<()> {
        let list = self.api("STREAM.LIST").await?;
        for stream in list["streams"].as_array().into_iter().flatten() {
            let name = &stream["config"]["name"];
            let replicas = stream["cluster"]["replicas"].as_array();
            let current = replicas
                .is_some_and(|all| all.len() == 2 && all.iter().all(|one| one["current"] == true));
            ensure!(current, "a replica of {name} lags behind");
        }
        Ok(())
    }

    /// Fails unless everything up to this input has been worked off.
    pub async fn worked_off(&self, up_to: u64) -> anyhow::Result<()> {
        let list = self.api("CONSUMER.LIST.VOICE_IN").await?;
        let missing = list["missing"].as_array().map_or(0, Vec::len);
        ensure!(missing == 0, "{missing} partitions have no leader");
        let all = list["consumers"].as_array().into_iter().flatten();
        // Whoever reads the stream back has a consumer of its own, which is not durable.
        let partitions = all.filter(|one| one["config"]["durable_name"].is_string());
        let partitions: Vec<&Value> = partitions.collect();
        ensure!(!partitions.is_empty(), "there are no partitions");
        let busy = partitions.iter().filter(|one| {
            let idle = one["num_pending"] == 0 && one["num_ack_pending"] == 0;
            let floor = one["ack_floor"]["stream_seq"].as_u64();
            !idle && floor.unwrap_or_default() < up_to
        });
        let busy = busy.count();
        ensure!(busy == 0, "{busy} partitions have work");
        Ok(())
    }

    /// All events after a place in the stream, with their places.
    pub async fn events(&self, after: u64) -> anyhow::Result<Vec<(u64, Committed)>> {
        let messages = read(&self.observer, "VOICE_EVENT", "voice.event.>", after).await?;
        messages.iter().map(committed).collect()
    }

    /// All inputs after a place in the stream.
    pub async fn inputs(&self, after: u64) -> anyhow::Result<BTreeMap<u64, Input>> {
        let messages = read(&self.reader, "VOICE_IN", "voice.in.>", after).await?;
        let one = |message: &jetstream::Message| {
            let info = message.info().map_err(anyhow::Error::from_boxed)?;
            let call = token(&message.subject, 3).to_owned();
            let at = info.published.unix_timestamp_nanos();
            Ok((info.stream_sequence, Input { call, at }))
        };
        messages.iter().map(one).collect()
    }

    async fn api(&self, subject: &str) -> anyhow::Result<Value> {
        let asked = self
            .observer
            .request(format!("$JS.API.{subject}"), "{}".into());
        let answer = tokio::time::timeout(ANSWER_WITHIN, asked).await;
        let answer = answer.context("NATS does not answer")??;
        let json: Value = serde_json::from_slice(&answer.payload)?;
        ensure!(json["error"].is_null(), "{subject}: {}", json["error"]);
        Ok(json)
    }
}

impl Drop for Eyes {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

async fn connect(urls: &[String], passwords: &Passwords, user: User) -> anyhow::Result<Client> {
    let password = passwords.of(user).to_owned();
    let options = ConnectOptions::with_user_and_password(user.name().to_owned(), password)
        .custom_inbox_prefix(user.inbox_prefix())
        .request_timeout(Some(ANSWER_WITHIN))
        .subscription_capacity(1 << 16)
        // A silent server must not be listened to for long when there are others.
        .ping_interval(Duration::from_secs(2))
        .reconnect_delay_callback(|_| Duration::from_millis(100));
    Ok(options.connect(urls).await?)
}

async fn read(
    client: &Client,
    stream: &str,
    subject: &str,
    after: u64,
) -> anyhow::Result<Vec<jetstream::Message>> {
    let jetstream = jetstream::new(client.clone());
    let reading = async {
        let stream = jetstream.get_stream(stream).await?;
        let config = OrderedConfig {
            filter_subject: subject.to_owned(),
            deliver_policy: DeliverPolicy::ByStartSequence {
                start_sequence: after + 1,
            },
            ..OrderedConfig::default()
        };
        let consumer = stream.create_consumer(config).await?;
        let mut left = consumer.cached_info().num_pending;
        let mut messages = consumer.messages().await?;
        let mut all = Vec::new();
        while left > 0 {
            let message = messages.next().await.context("the stream ended")??;
            left = message.info().map_err(anyhow::Error::from_boxed)?.pending;
            all.push(message);
        }
        anyhow::Ok(all)
    };
    let read = tokio::time::timeout(READ_WITHIN, reading).await;
    read.context("a stream could not be read in time")?
}

fn committed(message: &jetstream::Message) -> anyhow::Result<(u64, Committed)> {
    let info = message.info().map_err(anyhow::Error::from_boxed)?;
    let json: Value = serde_json::from_slice(&message.payload)?;
    let headers = message.headers.as_ref().context("an event has headers")?;
    let progress = headers.get("Voicebus-Progress").context("no progress")?;
    let mut words = progress.as_str().split(' ').skip(1);
    let mut number = || words.next()?.parse().ok();
    let input = (number().zip(number())).context("not a progress header")?;
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let kind = token(&message.subject, 4);
    let what = format!("{kind}.{}", token(&message.subject, 5));
    let spoken = kind == "transcript" && what != "transcript.completed";
    let said = text(&json["data"]["transcript"]["text"]).filter(|_| spoken);
    Ok((
        info.stream_sequence,
        Committed {
            id: text(&json["id"]).context("an event has an id")?,
            call: token(&message.subject, 2).to_owned(),
            what,
            sequence: json["sequence"].as_u64().context("no sequence")?,
            input,
            text: said,
            at: info.published.unix_timestamp_nanos(),
        },
    ))
}

/// What the server says about the message that it passes on.
fn stored_as(message: &async_nats::Message) -> Option<u64> {
    let headers = message.headers.as_ref()?;
    headers.get("Nats-Sequence")?.as_str().parse().ok()
}

fn token(subject: &str, place: usize) -> &str {
    subject.split('.').nth(place).unwrap_or_default()
}
