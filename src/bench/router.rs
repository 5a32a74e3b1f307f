//! The router alone: everything it has to do lies in the stream before it starts.

use std::net::SocketAddr;
use std::time::Duration;

use chrono::{TimeDelta, Utc};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Plan;
use super::http::Connection;
use super::load::{Lane, flat_out};
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
    progress(&format!("router: {} inputs for the backlog", plan.backlog));
    let ingress = Roles::start(site, &[User::Ingress], NO_VOICE_SERVER).await?;
    let calls = open_calls(
        ingress.address(),
        plan.backlog_calls,
        plan.backlog / plan.backlog_calls.max(1),
    );
    let inputs = calls.await?;
    ingress.stop().await?;

    progress("router: raw commits, then the backlog, then raw commits");
    let turn = plan.time / 5;
    let raw = aside.bus(User::Router).await?;
    let lanes = (0..WRITERS).map(|writer| Commit::new(&raw, writer));
    let lanes = lanes.collect::<anyhow::Result<Vec<_>>>()?;
    let (lanes, mut commits) = flat_out(lanes, turn).await?;
    let reader = site.bus(User::Router).await?;
    let roles = [User::Router];
    let (roles, events) = tokio::try_join!(
        Roles::start(site, &roles, NO_VOICE_SERVER),
        watch(&reader, inputs)
    )?;
    // Whatever comes now is one too many.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let stored = events_stored(&reader).await?;
    roles.stop().await?;
    let (_, after) = flat_out(lanes, turn).await?;
    commits.add(after);

    let what = format!("router, {inputs} inputs of {} calls", plan.backlog_calls);
    Ok(Rows {
        all: vec![
            Row::new(format!("durable commit, {WRITERS} at once")).sample(&commits),
            Row::new(what)
                .per_second(events)
                .ratio(events / commits.per_second(), "the commits")
                .target("at least 1,000 per second"),
        ],
        lost: inputs.saturating_sub(stored),
        doubled: stored.saturating_sub(inputs),
    })
}

/// Events per second from the first that is seen to the last, or to the last before nothing came.
async fn watch(reader: &Bus, inputs: u64) -> anyhow::Result<f64> {
    let mut first: Option<(Instant, u64)> = None;
    let mut last = (Instant::now(), 0);
    loop {
        let stored = events_stored(reader).await?;
        let now = Instant::now();
        if stored > last.1 {
            last = (now, stored);
            first = first.or(Some(last));
        }
        if stored >= inputs || now - last.0 > STALLED {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let first = first.unwrap_or(last);
    #[expect(clippy::cast_precision_loss, reason = "counts of one run")]
    let events = (last.1 - first.1) as f64;
    Ok(events / (last.0 - first.0).as_secs_f64().max(f64::MIN_POSITIVE))
}

/// Calls that begin and are talked through, and do not end; all of them at the same time, each in its
/// order. Returns how many events were accepted.
pub(super) async fn open_calls(
    ingress: SocketAddr,
    calls: usize,
    events_per_call: usize,
) -> anyhow::Result<u64> {
    let mut senders = JoinSet::new();
    for sender in 0..SENDERS.min(calls) {
        let mut connection = Connection::open(ingress).await?;
        senders.spawn(async move {
            let mut random = Random::stream(0, "bench", sender as u64);
            let mut at = Utc::now().naive_utc();
            let mut accepted = 0u64;
            for number in 0..events_per_call {
                for call in (sender..calls).step_by(SENDERS) {
                    at += TimeDelta::microseconds(1);
                    let id = format!("rtc_open_{call}");
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
