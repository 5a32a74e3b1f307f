//! The faults, what each may cost, and how it is done.

use std::time::Duration;

use crate::one_node;
use crate::world::{Ground, World};

/// The consumers' `ack_wait`, as `nats/consumers` has it: a message that a dead or frozen worker
/// holds is handed out again after this time.
const ACK_WAIT: Duration = Duration::from_secs(5);
/// For everything after the moment from which the system can go on: reconnecting (pauses up to
/// 1 s), repeating (pauses up to 2 s), and working off what has piled up.
const RECOVERY: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    RouterKilled,
}

pub const ALL: &[Fault] = &[Fault::RouterKilled];

/// What doing it has cost by itself.
#[derive(Debug, Clone, Copy, Default)]
pub struct Done {
    /// How long something without which nothing goes on was away.
    pub away: Duration,
}

impl Fault {
    pub fn name(self) -> &'static str {
        match self {
            Self::RouterKilled => "router killed",
        }
    }

    pub fn ground(self) -> Ground {
        match self {
            Self::RouterKilled => Ground::OneNode,
        }
    }

    /// How often it is done in one run.
    pub fn rounds(self, long: bool) -> usize {
        match (self, long) {
            (Self::RouterKilled, false) => 3,
            (Self::RouterKilled, true) => 50,
        }
    }

    /// The longest time without a commit, given how long something was away.
    pub fn stall_max(self, away: Duration) -> Duration {
        match self {
            Self::RouterKilled => ACK_WAIT + RECOVERY,
        }
        .max(away)
    }

    /// Whether a subscriber of the feed stays connected.
    pub fn spares_nats(self) -> bool {
        match self {
            Self::RouterKilled => true,
        }
    }

    pub async fn inject(self, world: &mut World) -> anyhow::Result<Done> {
        match self {
            Self::RouterKilled => one_node::router_killed(world).await,
        }
    }
}
