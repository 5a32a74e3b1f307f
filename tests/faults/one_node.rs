//! Faults of the roles and of a single nats-server.

use crate::fault::Done;
use crate::world::World;

/// `kill -9` of a router, and a fresh one in its place.
pub async fn router_killed(world: &mut World) -> anyhow::Result<Done> {
    world.routers[0].kill().await?;
    world.routers[0].start().await?;
    Ok(Done::default())
}
