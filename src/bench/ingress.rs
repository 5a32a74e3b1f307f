//! The ingress alone: nobody reads what it stores.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::ensure;
use bytes::Bytes;
use chrono::{NaiveDateTime, TimeDelta, Utc};
use tokio::time::Instant;

use super::Plan;
use super::http::{Connection, GET_LIVE, post};
use super::load::{Lane, Sample, flat_out};
use super::report::{Row, Rows};
use super::site::{Folder, Roles, Site};
use crate::bus::publish::Message;
use crate::bus::server::User;
use crate::bus::{Bus, REQUEST_TIMEOUT};
use crate::domain::ids::CallId;
use crate::domain::input::InputKind;
use crate::simulate::event::{self, Content};

/// The size of a raw message: about what a short utterance comes to.
const RAW_SIZE: usize = 400;
const CONCURRENCY: [usize; 4] = [1, 16, 64, 256];
/// The stand-in is for egress, which this section does not run.
const NO_VOICE_SERVER: &str = "http://127.0.0.1:9";

pub(super) async fn measure(
    plan: &Plan,
    folder: &Folder,
    progress: &(impl Fn(&str) + Sync),
) -> anyhow::Result<Rows> {
    let site = Site::start(folder, "ingress").await?;
    let measured = measure_on(plan, &site, progress).await;
    site.stop().await?;
    measured
}

async fn measure_on(
    plan: &Plan,
    site: &Site,
    progress: &(impl Fn(&str) + Sync),
) -> anyhow::Result<Rows> {
    let grouped = Roles::start(site, &[User::Ingress], NO_VOICE_SERVER).await?;
    let single = Roles::start_without_group_commit(site, &[User::Ingress], NO_VOICE_SERVER).await?;
    let bus = site.bus(User::Ingress).await?;
    let turn = plan.time / 5 / plan.rounds.max(1);
    let mut rows = Rows::default();
    for concurrency in CONCURRENCY {
        progress(&format!("ingress: {concurrency} at once"));
        let doors = (grouped.address(), single.address());
        let mut turns = Turns::open(&bus, doors, concurrency).await?;
        for _ in 0..plan.rounds {
            turns = turns.take(turn).await?;
        }
        rows.all.extend(turns.rows(concurrency));
    }
    grouped.stop().await?;
    single.stop().await?;
    Ok(rows)
}

/// What takes turns at one concurrency.
struct Turns {
    raw: (Vec<Store>, Sample),
    batches: (Vec<StoreBatch>, Sample),
    live: (Vec<Ask>, Sample),
    refused: (Vec<Ask>, Sample),
    single: (Vec<Post>, Sample),
    grouped: (Vec<Post>, Sample),
}

impl Turns {
    /// `doors` are the ingress as it comes, and one with `group_commit = "off"`.
    async fn open(
        bus: &Bus,
        (door, single_door): (SocketAddr, SocketAddr),
        concurrency: usize,
    ) -> anyhow::Result<Self> {
        let (mut raw, mut live, mut refused) = (vec![], vec![], vec![]);
        let (mut single, mut grouped) = (vec![], vec![]);
        // A call id with a space is read, and refused before anything is published.
        let bad = event::body("not an id", utterance(), Utc::now().naive_utc());
        for lane in 0..concurrency {
            raw.push(Store::new(bus, &format!("{concurrency}_{lane}"))?);
            live.push(Ask::new(door, GET_LIVE.to_vec(), 200).await?);
            refused.push(Ask::new(door, post(&bad), 400).await?);
            single.push(Post::new(single_door, format!("rtc_s{concurrency}_{lane}")).await?);
            grouped.push(Post::new(door, format!("rtc_g{concurrency}_{lane}")).await?);
        }
        let batches = vec![StoreBatch::new(bus, concurrency)?];
        let none = Sample::default;
        Ok(Self {
            raw: (raw, none()),
            batches: (batches, none()),
            live: (live, none()),
            refused: (refused, none()),
            single: (single, none()),
            grouped: (grouped, none()),
        })
    }

    async fn take(self, time: Duration) -> anyhow::Result<Self> {
        Ok(Self {
            raw: more(self.raw, time).await?,
            batches: more(self.batches, time).await?,
            live: more(self.live, time).await?,
            refused: more(self.refused, time).await?,
            single: more(self.single, time).await?,
            grouped: more(self.grouped, time).await?,
        })
    }

    fn rows(self, concurrency: usize) -> Vec<Row> {
        let (_, raw) = self.raw;
        let (_, batches) = self.batches;
        let (_, live) = self.live;
        let (_, refused) = self.refused;
        let (_, single) = self.single;
        let (_, grouped) = self.grouped;
        let row = |what: &str, sample: &Sample| {
            Row::new(format!("{what}, {concurrency} at once")).sample(sample)
        };
        #[expect(clippy::cast_precision_loss, reason = "256 at most")]
        let batched = batches.per_second() * concurrency as f64;
        let posts = row("POST /call-event", &grouped)
            .ratio(
                grouped.per_second() / single.per_second(),
                "without group commit",
            )
            .ratio(grouped.per_second() / batched, "the batches");
        vec![
            row("durable publish, 400 B", &raw),
            Row::new(format!("durable batch of {concurrency}"))
                .sample(&batches)
                .per_second(batched),
            row("GET /live", &live),
            row("POST, parsed and refused", &refused),
            row("POST without group commit", &single)
                .ratio(single.per_second() / raw.per_second(), "the publishes"),
            match concurrency {
                64 => posts.target("at least 2 and 0.6"),
                _ => posts,
            },
        ]
    }
}

async fn more<L: Lane>(
    (lanes, mut sample): (Vec<L>, Sample),
    time: Duration,
) -> anyhow::Result<(Vec<L>, Sample)> {
    let (lanes, turn) = flat_out(lanes, time).await?;
    sample.add(turn);
    Ok((lanes, sample))
}

/// Stores messages, one after the other.
pub(super) struct Store {
    bus: Bus,
    subject: String,
    name: String,
    number: u64,
}

impl Store {
    pub fn new(bus: &Bus, name: &str) -> anyhow::Result<Self> {
        let call = CallId::parse(&format!("raw_{name}"))?;
        Ok(Self {
            bus: bus.clone(),
            subject: bus.subjects().input(&call, &InputKind::Ringing),
            name: name.to_owned(),
            number: 0,
        })
    }

    fn next(&mut self) -> Message {
        self.number += 1;
        Message {
            subject: self.subject.clone(),
            id: format!("raw {} {}", self.name, self.number),
            headers: Vec::new(),
            payload: Bytes::from(vec![b'x'; RAW_SIZE]),
        }
    }
}

impl Lane for Store {
    async fn once(&mut self) -> anyhow::Result<()> {
        let message = self.next();
        self.bus.store_message(&message).await?;
        Ok(())
    }
}

/// Stores batches of so many messages, one batch after the other.
struct StoreBatch {
    store: Store,
    size: usize,
}

impl StoreBatch {
    fn new(bus: &Bus, size: usize) -> anyhow::Result<Self> {
        let store = Store::new(bus, &format!("batch_{size}"))?;
        Ok(Self { store, size })
    }
}

impl Lane for StoreBatch {
    async fn once(&mut self) -> anyhow::Result<()> {
        let messages: Vec<Message> = (0..self.size).map(|_| self.store.next()).collect();
        let id = uuid::Uuid::new_v4().simple().to_string();
        let deadline = Instant::now() + REQUEST_TIMEOUT;
        Ok(self.store.bus.store_batch(&id, &messages, deadline).await?)
    }
}

/// Asks one question again and again.
struct Ask {
    connection: Connection,
    request: Vec<u8>,
    wanted: u16,
}

impl Ask {
    async fn new(address: SocketAddr, request: Vec<u8>, wanted: u16) -> anyhow::Result<Self> {
        let connection = Connection::open(address).await?;
        Ok(Self {
            connection,
            request,
            wanted,
        })
    }
}

impl Lane for Ask {
    async fn once(&mut self) -> anyhow::Result<()> {
        let status = self.connection.ask(&self.request).await?.status;
        ensure!(status == self.wanted, "the ingress answered {status}");
        Ok(())
    }
}

/// Sends the utterances of one call.
struct Post {
    connection: Connection,
    call: String,
    at: NaiveDateTime,
}

impl Post {
    async fn new(address: SocketAddr, call: String) -> anyhow::Result<Self> {
        let connection = Connection::open(address).await?;
        let at = Utc::now().naive_utc();
        Ok(Self {
            connection,
            call,
            at,
        })
    }
}

impl Lane for Post {
    async fn once(&mut self) -> anyhow::Result<()> {
        // Two events of one call differ by their time at least.
        self.at += TimeDelta::microseconds(1);
        let body = event::body(&self.call, utterance(), self.at);
        self.connection.event(&body).await?;
        Ok(())
    }
}

fn utterance() -> Content<'static> {
    Content::Utterance {
        speaker: "user",
        text: "Could you move my appointment to Thursday, please?",
    }
}
