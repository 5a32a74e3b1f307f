//! One fault from the first event to the verdict: load, fault, recovery, comparison.

use std::time::Duration;

use anyhow::{Context, ensure};
use voicebus::simulate::random::Random;

use crate::fault::Fault;
use crate::load::Load;
use crate::verdict::{Accepted, Evidence, Verdict, judge, longest_stall, lost, slowest};
use crate::wait::{now, until};
use crate::world::World;

/// How long events may take to flow again before the run is given up; the bound that counts is the
/// fault's own, which is held against the streams' timestamps afterwards.
const FLOWS_WITHIN: Duration = Duration::from_secs(60);
/// Events between two rounds of a fault, at least and at most: the moment is random.
const EVENTS_BETWEEN: (u64, u64) = (40, 160);
/// How long the last events may take after the load has ended. A spool may have to drain.
const SETTLED_WITHIN: Duration = Duration::from_secs(60);

/// What one fault came to.
pub struct Outcome {
    pub rounds: usize,
    pub accepted: usize,
    pub stall: Duration,
    pub stall_max: Duration,
    pub slowest: Duration,
    pub verdict: Verdict,
}

impl Outcome {
    pub fn is_good(&self) -> bool {
        self.verdict.is_good() && self.stall <= self.stall_max
    }

    /// Every event is well, but they came too late.
    pub fn only_stood_still_too_long(&self) -> bool {
        self.verdict.is_good() && self.stall > self.stall_max
    }
}

/// Where the streams and the subscriber were before the load.
struct Before {
    events: u64,
    inputs: u64,
    heard: usize,
}

pub async fn run(
    fault: Fault,
    world: &mut World,
    rounds: usize,
    seed: u64,
) -> anyhow::Result<Outcome> {
    let mut random = Random::stream(seed, fault.name(), 0);
    let before = Before {
        events: world.eyes.last("VOICE_EVENT").await?,
        inputs: world.eyes.last("VOICE_IN").await?,
        heard: world.eyes.heard().len(),
    };
    let seed = random.next_u64() >> 16;
    let mut load = Load::start(world, seed, rounds).await?;
    let mut away = Duration::ZERO;
    for round in 1..=rounds {
        let (least, most) = EVENTS_BETWEEN;
        let events = least + random.below(most - least);
        world.goes_on(events, FLOWS_WITHIN).await?;
        let done = fault.inject(world, &mut random).await;
        away = away.max(done.with_context(|| format!("in round {round}"))?.away);
        world.catches_up(FLOWS_WITHIN).await?;
        load.lives()?;
    }
    world.goes_on(EVENTS_BETWEEN.0, FLOWS_WITHIN).await?;
    world.all_live()?;
    let ended_at = now();
    let accepted = load.end().await?;
    let mut evidence = gather(world, &before, accepted, fault.spares_nats()).await?;
    evidence.may_echo = world.nodes.len() > 1;
    world.replicas_agree().await?;
    world.all_live()?;

    let calls = evidence.committed.iter().map(|event| event.call.clone());
    world.known_calls.extend(calls);
    let began_at = evidence.committed.first().context("no events")?.at;
    // The routers may have something to do for a while after the last event was accepted.
    let inputs = evidence.inputs.values().map(|input| input.at);
    let committed = evidence.committed.iter().map(|event| event.at);
    let stall =
        longest_stall(inputs, began_at, ended_at).max(longest_stall(committed, began_at, ended_at));
    Ok(Outcome {
        rounds,
        accepted: evidence.accepted.len(),
        stall,
        stall_max: fault.stall_max(away),
        slowest: slowest(&evidence),
        verdict: judge(&evidence),
    })
}

/// Waits until nothing is left to do, and reads everything back.
async fn gather(
    world: &World,
    before: &Before,
    accepted: Vec<Accepted>,
    heard_all: bool,
) -> anyhow::Result<Evidence> {
    let mut committed = Vec::new();
    let mut last = before.events;
    let settled = until(
        "every accepted event to have its effect",
        SETTLED_WITHIN,
        async || {
            world.eyes.worked_off(u64::MAX).await?;
            for (sequence, event) in world.eyes.events(last).await? {
                last = last.max(sequence);
                committed.push(event);
            }
            let missing = lost(&accepted, &committed).len();
            ensure!(missing == 0, "{missing} events are missing");
            Ok(())
        },
    )
    .await;
    // In vain is an answer too: the verdict says what is lost.
    drop(settled);
    // A timer of a call of an earlier load may fire at any time.
    committed.retain(|event| !world.known_calls.contains(&event.call));
    if heard_all {
        let listened = until(
            "the subscriber to hear the rest",
            FLOWS_WITHIN,
            async || {
                let heard = world.eyes.heard().len() - before.heard;
                ensure!(heard >= committed.len(), "{heard} of {}", committed.len());
                Ok(())
            },
        )
        .await;
        drop(listened);
    }
    let heard = world.eyes.heard().split_off(before.heard);
    let heard = heard.into_iter();
    Ok(Evidence {
        heard: heard
            .filter(|event| !world.known_calls.contains(&event.call))
            .collect(),
        inputs: world.eyes.inputs(before.inputs).await?,
        accepted,
        committed,
        heard_all,
        may_echo: false,
    })
}
