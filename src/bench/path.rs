//! The whole path, from the sender's POST to a subscriber of the public feed, all roles running.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use chrono::Utc;
use futures_util::StreamExt;
use serde::Deserialize;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::Plan;
use super::http::Connection;
use super::ingress::Store;
use super::load::{Sample, paced};
use super::report::{Row, Rows};
use super::site::{Folder, Roles, Site};
use crate::bus::server::User;
use crate::bus::{self, subjects};
use crate::simulate::generator::{Generator, Options, PlannedEvent};
use crate::simulate::stand_in::{StandIn, StandInConfig};

const PACES: [u32; 2] = [100, 500];
/// So many connections that an event seldom waits for the answer to another call's.
const LANES: usize = 64;
/// Publishers of the raw messages: the pace is far below what makes them wait for each other.
const PUBLISHERS: usize = 16;
/// A call begins, has eight utterances, and ends.
const TRANSCRIPTS: usize = 8;
/// How long the last events may take to arrive before they count as lost.
const ARRIVAL: Duration = Duration::from_secs(10);

pub(super) async fn measure(
    plan: &Plan,
    folder: &Folder,
    progress: &(impl Fn(&str) + Sync),
) -> anyhow::Result<Rows> {
    let (site, aside) = (
        Site::start(folder, "path").await?,
        Site::start(folder, "path-raw").await?,
    );
    let voice_server = StandIn::start(StandInConfig::default()).await?;
    let measured = measure_on(plan, &site, &aside, &voice_server.url(), progress).await;
    voice_server.stop().await;
    site.stop().await?;
    aside.stop().await?;
    measured
}

async fn measure_on(
    plan: &Plan,
    site: &Site,
    aside: &Site,
    voice_server: &str,
    progress: &(impl Fn(&str) + Sync),
) -> anyhow::Result<Rows> {
    let all = [User::Router, User::Egress, User::Ingress];
    let roles = Roles::start(site, &all, voice_server).await?;
    let raw = aside.bus(User::Ingress).await?;
    let mut rows = Rows::default();
    let mut run = 0;
    for pace in PACES {
        progress(&format!("path: {pace} events per second"));
        let mut publishers = (0..PUBLISHERS)
            .map(|number| Store::new(&raw, &format!("{pace}_{number}")))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let (mut publishes, mut answers, mut events, mut late) = Default::default();
        for turn in 0..=plan.rounds {
            // The first turn is short and not looked at: connections, caches and the allocator warm up.
            let warm_up = turn == 0;
            let time = if warm_up {
                plan.time / 10
            } else {
                plan.time / plan.rounds
            };
            let (back, sample) = paced(publishers, pace, time / 2).await?;
            publishers = back;
            run += 1;
            let walked = walk(site, roles.address(), pace, time, run).await?;
            rows.lost += walked.lost;
            rows.doubled += walked.doubled;
            if !warm_up {
                Sample::add(&mut publishes, sample);
                Sample::add(&mut answers, walked.answers);
                Sample::add(&mut events, walked.events);
                Sample::add(&mut late, walked.late);
            }
        }
        let row = |what: &str, sample: &Sample| {
            Row::new(format!("{what}, {pace} per second")).sample(sample)
        };
        let mut whole = row("POST to subscriber", &events);
        if let (Some(publish), Some(event)) = (publishes.latency(), events.latency()) {
            whole = whole
                .ratio(event.p50 / publish.p50, "a publish (p50)")
                .ratio(event.p99 / publish.p99, "(p99)");
        }
        if pace == 100 {
            whole = whole.target("p50 < 5 ms, p99 < 25 ms");
        }
        rows.all.extend([
            row("durable publish", &publishes),
            row("POST to its answer", &answers),
            whole,
            row("(sent after it was due)", &late),
        ]);
    }
    roles.stop().await?;
    Ok(rows)
}

/// What came of one plan of calls.
struct Walked {
    answers: Sample,
    events: Sample,
    late: Sample,
    lost: u64,
    doubled: u64,
}

/// An event that was accepted.
struct Accepted {
    id: String,
    sent: Instant,
    answered: Duration,
    late: Duration,
}

async fn walk(
    site: &Site,
    ingress: SocketAddr,
    pace: u32,
    time: Duration,
    seed: u64,
) -> anyhow::Result<Walked> {
    let lanes = plan_lanes(pace, time, seed);
    let feed = Feed::open(site).await?;
    let start = Instant::now();
    let mut senders = JoinSet::new();
    for lane in lanes {
        let connection = Connection::open(ingress).await?;
        senders.spawn(send(lane, connection, start));
    }
    let mut accepted = Vec::new();
    while let Some(sent) = senders.join_next().await {
        accepted.extend(sent??);
    }
    let elapsed = start.elapsed();
    let arrived = feed.close(accepted.len() as u64).await?;

    let mut first: HashMap<String, Instant> = HashMap::with_capacity(arrived.len());
    let mut doubled = 0;
    for (at, event) in arrived {
        let Id { id } = serde_json::from_slice(&event)?;
        doubled += u64::from(first.insert(id, at).is_some());
    }
    let took = accepted
        .iter()
        .filter_map(|event| Some(first.get(&event.id)?.duration_since(event.sent)));
    let events = Sample::new(took.collect(), elapsed);
    let of =
        |part: fn(&Accepted) -> Duration| Sample::new(accepted.iter().map(part).collect(), elapsed);
    let lost = accepted
        .iter()
        .filter(|event| !first.contains_key(&event.id))
        .count();
    Ok(Walked {
        answers: of(|event| event.answered),
        late: of(|event| event.late),
        events,
        lost: lost as u64,
        doubled,
    })
}

/// The events of a plan, all of a call in one lane.
fn plan_lanes(pace: u32, time: Duration, seed: u64) -> Vec<Vec<PlannedEvent>> {
    let events = usize::try_from(u128::from(pace) * time.as_millis() / 1_000).unwrap_or(usize::MAX);
    let generator = Generator::new(
        seed,
        Options {
            started_at: Utc::now().naive_utc(),
            calls: (events / (TRANSCRIPTS + 2)).max(1),
            transcripts: TRANSCRIPTS,
            concurrent: NonZeroUsize::new(LANES).unwrap_or(NonZeroUsize::MIN),
            rate: f64::from(pace),
            reorder: 0,
            duplicate_percent: 0.0,
        },
    );
    let mut lanes = vec![Vec::new(); LANES];
    for event in generator.events() {
        let lane = event.call % LANES;
        lanes[lane].push(event);
    }
    lanes
}

async fn send(
    lane: Vec<PlannedEvent>,
    mut connection: Connection,
    start: Instant,
) -> anyhow::Result<Vec<Accepted>> {
    let mut accepted = Vec::with_capacity(lane.len());
    for event in lane {
        let due = start + event.at;
        tokio::time::sleep_until(due).await;
        let sent = Instant::now();
        let id = connection.event(&event.body).await?;
        accepted.push(Accepted {
            id,
            sent,
            answered: sent.elapsed(),
            late: sent - due,
        });
    }
    Ok(accepted)
}

/// A plain subscription of the observer.
struct Feed {
    stop: CancellationToken,
    arrived: Arc<AtomicU64>,
    task: AbortOnDropHandle<Vec<(Instant, Bytes)>>,
}

#[derive(Deserialize)]
struct Id {
    id: String,
}

impl Feed {
    async fn open(site: &Site) -> anyhow::Result<Self> {
        let connection = bus::connect(&site.nats(User::Observer)).await?;
        let client = connection.client().clone();
        let mut events = client.subscribe(subjects::EVENTS_ALL).await?;
        client.flush().await?;
        let (stop, arrived) = (CancellationToken::new(), Arc::new(AtomicU64::new(0)));
        let (stopped, count) = (stop.clone(), Arc::clone(&arrived));
        let task = tokio::spawn(async move {
            let mut all = Vec::new();
            while let Some(Some(event)) = stopped.run_until_cancelled(events.next()).await {
                all.push((Instant::now(), event.payload));
                count.fetch_add(1, Ordering::Relaxed);
            }
            drop(connection);
            all
        });
        Ok(Self {
            stop,
            arrived,
            task: AbortOnDropHandle::new(task),
        })
    }

    /// Waits for so many events, and a little longer for one too many.
    async fn close(self, wanted: u64) -> anyhow::Result<Vec<(Instant, Bytes)>> {
        let deadline = Instant::now() + ARRIVAL;
        while self.arrived.load(Ordering::Relaxed) < wanted && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
        self.stop.cancel();
        Ok(self.task.await?)
    }
}
