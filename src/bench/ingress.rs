//! The ingress alone: nobody reads what it stores.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::ensure;
use bytes::Bytes;
use chrono::{NaiveDateTime, TimeDelta, Utc};

use super::Plan;
use super::http::{Connection, GET_LIVE, post};
use super::load::{Lane, Sample, flat_out};
use super::report::{Row, Rows};
use super::site::{Folder, Roles, Site};
use crate::bus::Bus;
use crate::bus::server::User;
use crate::domain::ids::CallId;
use crate::domain::input::InputKind;
use crate::simulate::event::{self, Content};

/// The size of a raw message: about what a short utterance comes to.
const RAW_SIZE: usize = 400;
const CONCURRENCY: [usize; 3] = [1, 16, 64];
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
    let roles = Roles::start(site, &[User::Ingress], NO_VOICE_SERVER).await?;
    let bus = site.bus(User::Ingress).await?;
    let turn = plan.time / 5 / plan.rounds.max(1);
    let mut rows = Rows::default();
    for concurrency in CONCURRENCY {
        progress(&format!("ingress: {concurrency} at once"));
        let mut turns = Turns::open(&bus, roles.address(), concurrency).await?;
        for _ in 0..plan.rounds {
            turns = turns.take(turn).await?;
        }
        rows.all.extend(turns.rows(concurrency));
    }
    roles.stop().await?;
    Ok(rows)
}

/// What takes turns at one concurrency.
struct Turns {
    raw: (Vec<Store>, Sample),
    live: (Vec<Ask>, Sample),
    refused: (Vec<Ask>, Sample),
    events: (Vec<Post>, Sample),
}

impl Turns {
    async fn open(bus: &Bus, address: SocketAddr, concurrency: usize) -> anyhow::Result<Self> {
        let (mut raw, mut live, mut refused, mut events) = (vec![], vec![], vec![], vec![]);
        // A call id with a space is read, and refused before anything is published.
        let bad = event::body("not an id", utterance(), Utc::now().naive_utc());
        for lane in 0..concurrency {
            raw.push(Store::new(bus, &format!("{concurrency}_{lane}"))?);
            live.push(Ask::new(address, GET_LIVE.to_vec(), 200).await?);
            refused.push(Ask::new(address, post(&bad), 400).await?);
            events.push(Post::new(address, format!("rtc_{concurrency}_{lane}")).await?);
        }
        let none = Sample::default;
        Ok(Self {
            raw: (raw, none()),
            live: (live, none()),
            refused: (refused, none()),
            events: (events, none()),
        })
    }

    async fn take(self, time: Duration) -> anyhow::Result<Self> {
        Ok(Self {
            raw: more(self.raw, time).await?,
            live: more(self.live, time).await?,
            refused: more(self.refused, time).await?,
            events: more(self.events, time).await?,
        })
    }

    fn rows(self, concurrency: usize) -> Vec<Row> {
        let ((_, raw), (_, live), (_, refused), (_, events)) =
            (self.raw, self.live, self.refused, self.events);
        let row = |what: &str, sample: &Sample| {
            Row::new(format!("{what}, {concurrency} at once")).sample(sample)
        };
        vec![
            row("durable publish, 400 B", &raw),
            row("GET /live", &live),
            row("POST, parsed and refused", &refused),
            row("POST /call-event", &events)
                .ratio(events.per_second() / raw.per_second(), "the publishes"),
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
}

impl Lane for Store {
    async fn once(&mut self) -> anyhow::Result<()> {
        self.number += 1;
        let id = format!("raw {} {}", self.name, self.number);
        let payload = Bytes::from(vec![b'x'; RAW_SIZE]);
        self.bus.store(self.subject.clone(), &id, payload).await?;
        Ok(())
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
