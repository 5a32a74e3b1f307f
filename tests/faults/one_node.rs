//! Faults of the roles, of their links and of a single nats-server.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use rustix::process::Signal;
use tokio::time::{Instant, sleep};
use voicebus::simulate::random::Random;

use crate::fault::{Done, of_ingress};
use crate::proxy::{Mode, Proxy};
use crate::role::{Role, voicebus};
use crate::world::World;

/// Longer than `ack_wait`: what it held is done by another one when it wakes.
const FROZEN: Duration = Duration::from_secs(7);
/// Longer than any one try to publish, shorter than what a connection takes for dead at once.
const NATS_FROZEN: Duration = Duration::from_secs(5);
/// Longer than `ack_wait`, and than the patience of the sender.
const SILENT: Duration = Duration::from_secs(8);
/// Longer than a person takes to look; everything accepted meanwhile is in the spool.
const OUTAGE: Duration = Duration::from_secs(60);
/// Passes of a crash point before it is the one: at least and at most.
const PASSES: (u64, u64) = (5, 40);
/// How long a process may take until it has come to its crash point.
const CRASHES_WITHIN: Duration = Duration::from_secs(30);
/// Events with each set of routers.
const EVENTS_EACH: u64 = 100;
/// How long they may take.
const FLOWS_WITHIN: Duration = Duration::from_secs(60);

/// `kill -9` of a router, and a fresh one in its place.
pub async fn router_killed(world: &mut World) -> anyhow::Result<Done> {
    world.routers[0].kill().await?;
    world.routers[0].start().await?;
    Ok(Done::default())
}

/// A zombie: it wakes with work in its hands that another one has done.
pub async fn router_frozen(world: &mut World) -> anyhow::Result<Done> {
    world.routers[1].signal(Signal::STOP)?;
    sleep(FROZEN).await;
    world.routers[1].signal(Signal::CONT)?;
    world.routers[1].ready().await?;
    Ok(Done::default())
}

pub async fn router_unheard(world: &mut World) -> anyhow::Result<Done> {
    through(&world.router_link, Mode::Silent, SILENT).await?;
    world.routers[1].ready().await?;
    Ok(Done::default())
}

pub async fn router_cut_off(world: &mut World) -> anyhow::Result<Done> {
    through(&world.router_link, Mode::Cut, SILENT).await?;
    world.routers[1].ready().await?;
    Ok(Done::default())
}

pub async fn ingress_killed(world: &mut World) -> anyhow::Result<Done> {
    let began = Instant::now();
    world.ingress.kill().await?;
    world.ingress.start().await?;
    Ok(away_since(began))
}

/// It has requests in its hands that their sender has given up.
pub async fn ingress_frozen(world: &mut World) -> anyhow::Result<Done> {
    let began = Instant::now();
    world.ingress.signal(Signal::STOP)?;
    sleep(FROZEN).await;
    world.ingress.signal(Signal::CONT)?;
    world.ingress.ready().await?;
    Ok(away_since(began))
}

pub async fn ingress_unheard(world: &mut World) -> anyhow::Result<Done> {
    through(&world.ingress_link, Mode::Silent, SILENT).await?;
    world.ingress.ready().await?;
    Ok(Done { away: SILENT })
}

/// For longer than connections, requests and tries last.
pub async fn ingress_without_nats(world: &mut World, mode: Mode) -> anyhow::Result<Done> {
    through(&world.ingress_link, mode, OUTAGE).await?;
    world.ingress.ready().await?;
    Ok(Done { away: OUTAGE })
}

pub async fn nats_killed(world: &mut World) -> anyhow::Result<Done> {
    let began = Instant::now();
    world.nodes[0].kill().await?;
    world.nodes[0].start().await?;
    Ok(away_since(began))
}

pub async fn nats_frozen(world: &mut World) -> anyhow::Result<Done> {
    let began = Instant::now();
    world.nodes[0].signal(Signal::STOP)?;
    sleep(NATS_FROZEN).await;
    world.nodes[0].signal(Signal::CONT)?;
    world.nodes[0].healthy().await?;
    Ok(away_since(began))
}

/// Each process of each role is asked to leave and started again, as a deployment does it. The one
/// ingress is away meanwhile.
pub async fn rolling_restart(world: &mut World) -> anyhow::Result<Done> {
    for router in &mut world.routers {
        router.stop().await?;
        router.start().await?;
    }
    world.egress.stop().await?;
    world.egress.start().await?;
    let began = Instant::now();
    world.ingress.stop().await?;
    world.ingress.start().await?;
    Ok(away_since(began))
}

/// Another release works beside this one, then alone, then this one takes over again.
pub async fn old_router(world: &mut World, old: Option<&Path>) -> anyhow::Result<Done> {
    let this = voicebus();
    let old = match old {
        Some(path) => path.canonicalize().context("VOICEBUS_OLD_BINARY")?,
        None => this.clone(),
    };
    restart_as(&mut world.routers[1], &old).await?;
    world.goes_on(EVENTS_EACH, FLOWS_WITHIN).await?;
    world.routers[0].stop().await?;
    world.goes_on(EVENTS_EACH, FLOWS_WITHIN).await?;
    world.routers[0].start().await?;
    world.goes_on(EVENTS_EACH, FLOWS_WITHIN).await?;
    restart_as(&mut world.routers[1], &this).await?;
    Ok(Done::default())
}

/// The process is started anew with a crash point, comes to it, and is started again without.
pub async fn crash(world: &mut World, place: &str, random: &mut Random) -> anyhow::Result<Done> {
    let role = if of_ingress(place) {
        &mut world.ingress
    } else {
        &mut world.routers[0]
    };
    let (least, most) = PASSES;
    let passes = least + random.below(most - least);
    let began = Instant::now();
    role.stop().await?;
    role.spawn(Some(("VOICEBUS_CRASH_AT", &format!("{place}:{passes}"))))?;
    role.dies(CRASHES_WITHIN).await?;
    role.start().await?;
    Ok(away_since(began))
}

async fn restart_as(role: &mut Role, program: &Path) -> anyhow::Result<()> {
    role.stop().await?;
    role.set_program(program);
    role.start().await
}

/// Has a link behave like this for a while.
async fn through(link: &Option<Proxy>, mode: Mode, time: Duration) -> anyhow::Result<()> {
    let link = link.as_ref().context("there is no proxy")?;
    link.set(mode);
    sleep(time).await;
    link.set(Mode::Forward);
    Ok(())
}

pub fn away_since(began: Instant) -> Done {
    Done {
        away: began.elapsed(),
    }
}
