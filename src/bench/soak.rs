//! Resident memory while a great many events pass: what grows by a few bytes an event shows here.
//!
//! Calls are talked from beginning to end, [`CALLS_AT_ONCE`] at a time, in tenths. After each tenth
//! everything that was accepted must have its event before memory is read.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, bail};
use chrono::{TimeDelta, Utc};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Plan;
use super::http::Connection;
use super::memory::{NAMES, Processes, Resident};
use super::report::{Megabytes, Row, Rows};
use super::site::{Folder, Site, events_stored};
use crate::bus::Bus;
use crate::bus::server::User;
use crate::simulate::event::{self, Content, Direction};
use crate::simulate::people;
use crate::simulate::random::Random;
use crate::simulate::stand_in::{StandIn, StandInConfig};

/// So that an ingress has enough waiting for its batches to pay.
const CALLS_AT_ONCE: u64 = 64;
/// The beginning, 48 utterances and the end. The router adds one: the whole transcript.
const EVENTS_PER_CALL: u64 = 50;
const PARTS: u64 = 10;
/// A feed on which nothing comes for so long has stopped. The last event of a call comes 5 s after
/// its end.
const STALLED: Duration = Duration::from_secs(30);

pub(super) async fn measure(
    plan: &Plan,
    folder: &Folder,
    progress: &(impl Fn(&str) + Sync),
) -> anyhow::Result<Rows> {
    let site = Site::start(folder, "soak").await?;
    let voice_server = StandIn::start(StandInConfig::default()).await?;
    let measured = measure_on(plan, &site, &voice_server.url(), progress).await;
    voice_server.stop().await;
    site.stop().await?;
    measured
}

async fn measure_on(
    plan: &Plan,
    site: &Site,
    voice_server: &str,
    progress: &(impl Fn(&str) + Sync),
) -> anyhow::Result<Rows> {
    let processes = Processes::start(site, voice_server).await?;
    let reader = site.bus(User::Router).await?;
    let calls_per_lane = (plan.soak_events / EVENTS_PER_CALL / CALLS_AT_ONCE / PARTS).max(1);
    let (mut accepted, mut told, mut readings) = (0, 0, Vec::new());
    let begun = Instant::now();
    for part in 0..PARTS {
        let calls = talk(processes.ingress, part, calls_per_lane).await?;
        accepted += calls * EVENTS_PER_CALL;
        told += calls * (EVENTS_PER_CALL + 1);
        settle(&reader, told).await?;
        let reading = processes.read()?;
        let shown: Vec<String> = NAMES
            .iter()
            .zip(&reading)
            .map(|(name, resident)| format!("{name} {:.1} MB", resident.now))
            .collect();
        progress(&format!("soak: {accepted} events, {}", shown.join(", ")));
        readings.push(reading);
    }
    let elapsed = begun.elapsed();
    let stored = events_stored(&reader).await?;
    processes.stop().await?;

    let (first, last) = (readings.first(), readings.last());
    let (first, last) = first.zip(last).context("memory was read")?;
    #[expect(clippy::cast_precision_loss, reason = "counts of one run")]
    let rate = accepted as f64 / elapsed.as_secs_f64();
    let tenth = accepted / PARTS;
    let rows = NAMES
        .iter()
        .zip(first.iter().zip(last))
        .map(|(name, ends)| {
            let (before, after): (&Resident, &Resident) = ends;
            Row::new(format!("{name}, from {tenth} to {accepted} events"))
                .per_second(rate)
                .megabytes(Megabytes {
                    before: before.now,
                    now: after.now,
                    peak: after.peak,
                })
        });
    Ok(Rows {
        all: rows.collect(),
        lost: told.saturating_sub(stored),
        doubled: stored.saturating_sub(told),
    })
}

/// Talks so many calls one after the other on each connection; returns how many in total.
async fn talk(ingress: SocketAddr, part: u64, calls: u64) -> anyhow::Result<u64> {
    let mut lanes = JoinSet::new();
    for lane in 0..CALLS_AT_ONCE {
        let mut connection = Connection::open(ingress).await?;
        lanes.spawn(async move {
            let mut random = Random::stream(part, "soak", lane);
            let mut at = Utc::now().naive_utc();
            for call in 0..calls {
                let id = format!("rtc_soak_{part}_{lane}_{call}");
                let phone = people::from_header(&mut random);
                let direction = Direction::Inbound;
                for number in 0..EVENTS_PER_CALL {
                    at += TimeDelta::microseconds(1);
                    let turn = usize::try_from(number)?;
                    let text = format!("utterance {number} of {id}");
                    let content = match number {
                        0 => Content::Started {
                            phone: &phone,
                            direction,
                        },
                        number if number == EVENTS_PER_CALL - 1 => Content::Ended {
                            phone: &phone,
                            direction,
                        },
                        _ => Content::Utterance {
                            speaker: people::speaker(turn),
                            text: &text,
                        },
                    };
                    connection.event(&event::body(&id, content, at)).await?;
                }
            }
            anyhow::Ok(calls)
        });
    }
    let mut talked = 0;
    while let Some(lane) = lanes.join_next().await {
        talked += lane??;
    }
    Ok(talked)
}

/// Waits until so many events are stored; not for ever when they stop coming.
async fn settle(reader: &Bus, wanted: u64) -> anyhow::Result<()> {
    let mut last = (0, Instant::now());
    loop {
        let stored = events_stored(reader).await?;
        if stored >= wanted {
            return Ok(());
        }
        if stored > last.0 {
            last = (stored, Instant::now());
        }
        if last.1.elapsed() > STALLED {
            bail!("only {stored} of {wanted} events came");
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
