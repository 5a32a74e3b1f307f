//! Faults of one node of three.

use std::time::Duration;

use anyhow::{Context, ensure};
use rustix::process::Signal;
use tokio::time::sleep;

use crate::fault::Done;
use crate::links::CutOff;
use crate::wait::until;
use crate::world::World;

/// Longer than the whole may take to go on without the node.
const PAUSED: Duration = Duration::from_secs(15);
/// Events that are committed while a node is away.
const EVENTS_WITHOUT: u64 = 200;
/// How long they may take.
const FLOWS_WITHIN: Duration = Duration::from_secs(60);
/// How long a node may take to have all again that it has missed.
const CURRENT_WITHIN: Duration = Duration::from_secs(60);

/// `kill -9` of the node that leads a stream; it comes back when the others have gone on without.
pub async fn leader_killed(world: &mut World, stream: &str) -> anyhow::Result<Done> {
    let leader = world.leader(stream).await?;
    let name = world.nodes[leader].name.clone();
    world.nodes[leader].kill().await?;
    until("another leader", FLOWS_WITHIN, async || {
        let now = world.eyes.leader(stream).await?;
        ensure!(now != name, "{now} still leads {stream}");
        Ok(())
    })
    .await?;
    world.goes_on(EVENTS_WITHOUT, FLOWS_WITHIN).await?;
    world.nodes[leader].start().await?;
    whole(world).await
}

/// A node stops answering without a connection being closed, and wakes with what it held.
pub async fn node_paused(world: &mut World, node: usize) -> anyhow::Result<Done> {
    world.nodes[node].signal(Signal::STOP)?;
    sleep(PAUSED).await;
    world.nodes[node].signal(Signal::CONT)?;
    world.nodes[node].healthy().await?;
    whole(world).await
}

/// A node is cut off from its peers, and goes on serving its clients as well as it can.
pub async fn node_cut_off(world: &mut World, node: usize, how: CutOff) -> anyhow::Result<Done> {
    let links = world.links.as_ref().context("there are no links")?;
    links.cut_off(node, how);
    sleep(PAUSED).await;
    links.heal();
    whole(world).await
}

/// Waits until the next node may be lost.
async fn whole(world: &World) -> anyhow::Result<Done> {
    until("all replicas to be current", CURRENT_WITHIN, async || {
        world.eyes.replicas_are_current().await
    })
    .await?;
    Ok(Done::default())
}
