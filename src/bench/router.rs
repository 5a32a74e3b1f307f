//! The router alone: everything it has to do lies in the stream before it starts.

use std::net::SocketAddr;
use std::time::Duration;

use chrono::{TimeDelta, Utc};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Plan;
use super::http::Connection;
use super::load::{Lane, Sample, flat_out};
use super::report::{Row, Rows};
use super::site::{Folder, Roles, Site, events_stored};
use crate::bus::Bus;
use crate::bus::server::User;
use crate::domain::event::Event;
use crate::domain::ids::{AgentId, CallId, EventId};
use crate::domain::input::{Input, InputKind, Position};
use crate::domain::session::{Policy, Scope};
use crate::domain::timer::Times;
use crate::domain::{Known, Outcome, apply};
use crate::simulate::event::{self, Content, Direction};
use crate::simulate::people;
use crate::simulate::random::Random;

/// One for each partition: so many commits the router has under way at most.
const WRITERS: usize = 32;
/// So that a backlog and the raw commits beside it meet the same neighbours.
const BACKLOGS: usize = 2;
/// Connections that fill the backlog.
const SENDERS: usize = 64;
/// A router that makes no event for so long will make none.
const STALLED: Duration = Duration::from_secs(10);
const NO_VOICE_SERVER: &str = "http://127.0.0.1:9";

pub(super) async fn measure(
    plan: &Plan,
    folder: &Folder,
    progress: &(impl Fn(&str) + Sync),
) -> anyhow::Result<Rows> {
    // Raw commits go to a server of their own: the router's view would read them all.
    let (site, aside) = (
        Site::start(folder, "router").await?,
        Site::start(folder, "router-raw").await?,
    );
    let measured = measure_on(plan, &site, &aside, progress).await;
    site.stop().await?;
    aside.stop().await?;
    measured
}

async fn measure_on(
    plan: &Plan,
    site: &Site,
    aside: &Site,
    progress: &(impl Fn(&str) + Sync),
) -> anyhow::Result<Rows> {
    let raw = aside.bus(User::Router).await?;
    let reader = site.bus(User::Router).await?;
    let turn = plan.time / 10;
    let lanes = (0..WRITERS).map(|writer| Commit::new(&raw, writer));
    let mut lanes = lanes.collect::<anyhow::Result<Vec<_>>>()?;
    let (mut commits, mut inputs, mut events) = (Sample::default(), 0, Drained::default());
    for backlog in 1..=BACKLOGS {
        progress(&format!("router: backlog {backlog} of {BACKLOGS}"));
        let ingress = Roles::start(site, &[User::Ingress], NO_VOICE_SERVER).await?;
        let per_call = plan.backlog / plan.backlog_calls.max(1);
        let name = format!("backlog{backlog}");
        inputs += open_calls(ingress.address(), &name, plan.backlog_calls, per_call).await?;
        ingress.stop().await?;

        let before;
        (lanes, before) = flat_out(lanes, turn).await?;
        let (roles, drained) = tokio::try_join!(
            Roles::start(site, &[User::Router], NO_VOICE_SERVER),
            drain(&reader, inputs)
        )?;
        // Whatever comes after that is one too many, and is counted at the end.
        tokio::time::sleep(Duration::from_millis(300)).await;
        roles.stop().await?;
        let after;
        (lanes, after) = flat_out(lanes, turn).await?;
        for sample in [before, after] {
            commits.add(sample);
        }
        events.events += drained.events;
        events.time += drained.time;
    }
    let stored = events_stored(&reader).await?;
    let what = format!(
        "router, {inputs} inputs of {} calls",
        BACKLOGS * plan.backlog_calls
    );
    Ok(Rows {
        all: vec![
            Row::new(format!("durable commit, {WRITERS} at once")).sample(&commits),
            Row::new(what)
                .per_second(events.per_second())
                .ratio(events.per_second() / commits.per_second(), "the commits")
                .target("at least 1,000 per second"),
        ],
        lost: inputs.saturating_sub(stored),
        doubled: stored.saturating_sub(inputs),
    })
}

/// Events that were made, and how long that took.
#[derive(Default)]
struct Drained {
    events: u64,
    time: Duration,
}

impl Drained {
    #[expect(clippy::cast_precision_loss, reason = "counts of one run")]
    fn per_second(&self) -> f64 {
        self.events as f64 / self.time.as_secs_f64().max(f64::MIN_POSITIVE)
    }
}

/// Waits until `wanted` events are stored, or none comes any more: from the first that is seen to the last.
async fn drain(reader: &Bus, wanted: u64) -> anyhow::Result<Drained> {
    let before = events_stored(reader).await?;
    let mut first: Option<(Instant, u64)> = None;
    let mut last = (Instant::now(), before);
    loop {
        let stored = events_stored(reader).await?;
        let now = Instant::now();
        if stored > last.1 {
            last = (now, stored);
            first = first.or(Some(last));
        }
        if stored >= wanted || now - last.0 > STALLED {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let first = first.unwrap_or(last);
    Ok(Drained {
        events: last.1 - first.1,
        time: last.0 - first.0,
    })
}

/// Calls that begin and are talked through, and do not end; all of them at the same time, each in its
/// order. Returns how many events were accepted.
pub(super) async fn open_calls(
    ingress: SocketAddr,
    name: &str,
    calls: usize,
    events_per_call: usize,
) -> anyhow::Result<u64> {
    let mut senders = JoinSet::new();
    for sender in 0..SENDERS.min(calls) {
        let mut connection = Connection::open(ingress).await?;
        let name = name.to_owned();
        senders.spawn(async move {
            let mut random = Random::stream(0, "bench", sender as u64);
            let mut at = Utc::now().naive_utc();
            let mut accepted = 0u64;
            for number in 0..events_per_call {
                for call in (sender..calls).step_by(SENDERS) {
                    at += TimeDelta::microseconds(1);
                    let id = format!("rtc_{name}_{call}");
                    let (phone, text);
                    let content = if number == 0 {
                        phone = people::from_header(&mut random);
                        Content::Started {
                            phone: &phone,
                            direction: Direction::Inbound,
                        }
                    } else {
                        text = people::utterance(&mut random, &id, number, events_per_call - 1);
                        Content::Utterance {
                            speaker: people::speaker(number),
                            text: &text,
                        }
                    };
                    connection.event(&event::body(&id, content, at)).await?;
                    accepted += 1;
                }
            }
            anyhow::Ok(accepted)
        });
    }
    let mut accepted = 0;
    while let Some(sent) = senders.join_next().await {
        accepted += sent??;
    }
    Ok(accepted)
}

/// Commits one event to a log of its own, again and again.
struct Commit {
    bus: Bus,
    event: Event,
    last: u64,
}

impl Commit {
    fn new(bus: &Bus, writer: usize) -> anyhow::Result<Self> {
        let input = Input {
            id: EventId::parse(&format!("ev_raw-{writer}"))?,
            call: CallId::parse(&format!("raw_{writer}"))?,
            position: Position::default(),
            happened_at: None,
            received_at: Utc::now(),
            source_sequence: None,
            kind: InputKind::Answered,
        };
        let policy = Policy {
            agent: AgentId::parse("main")?,
            scope: Scope::PerCall,
            times: Times::default(),
            own_numbers: Vec::new(),
        };
        match apply(None, &input, &Known::default(), &policy) {
            Outcome::Applied { event, .. } => Ok(Self {
                bus: bus.clone(),
                event: *event,
                last: 0,
            }),
            Outcome::Duplicate | Outcome::Late | Outcome::Waiting { .. } | Outcome::Rejected(_) => {
                anyhow::bail!("the first event of a call has no effect")
            }
        }
    }
}

impl Lane for Commit {
    async fn once(&mut self) -> anyhow::Result<()> {
        self.last = self.bus.commit(&self.event, None, self.last).await?;
        Ok(())
    }
}
