//! The faults: how often each is done, what it may cost, and why.

use std::path::Path;
use std::time::Duration;

use voicebus::simulate::random::Random;

use crate::links::CutOff;
use crate::proxy::Mode;
use crate::world::{Ground, World};
use crate::{cluster, disk, one_node};

/// The consumers' `ack_wait`, as `nats/consumers` has it: a message that a dead or frozen worker
/// holds is handed out again after this time, counted from its delivery.
const ACK_WAIT: Duration = Duration::from_secs(5);
/// For everything after the moment from which the system can go on: reconnecting (pauses up to
/// 1 s), repeating (the simulator's pauses are up to 2 s), and working off what has piled up.
const RECOVERY: Duration = Duration::from_secs(5);
/// A cluster has to notice that a leader is gone (some 4 s without a heartbeat), elect another, and
/// the clients of a lost node have to find another one.
const CLUSTER_FAIL_OVER: Duration = Duration::from_secs(10);

/// A router with a dead or frozen one beside it: what that one held, and recovery.
const ROUTER_STALL_MAX: Duration = ACK_WAIT.saturating_add(RECOVERY);
/// Something without which nothing goes on: its absence, and recovery.
const RETURN_STALL_MAX: Duration = RECOVERY;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    RouterKilled,
    RouterFrozen,
    RouterUnheard,
    RouterCutOff,
    IngressKilled,
    IngressFrozen,
    IngressUnheard,
    IngressUnheardLong,
    IngressCutOffLong,
    NatsKilled,
    NatsFrozen,
    RollingRestart,
    OldRouter,
    /// Dies by itself at this place in the code.
    Crash(&'static str),
    LeaderOfInputsKilled,
    LeaderOfEventsKilled,
    NodeOfIngressPaused,
    LeaderOfEventsPaused,
    /// Of VOICE_EVENT.
    LeaderCutOff(CutOff),
    DiskFull,
    PowerCut,
}

/// In the order in which they are done: those on the same ground together.
pub const ALL: &[Fault] = &[
    Fault::RouterKilled,
    Fault::RouterFrozen,
    Fault::RouterUnheard,
    Fault::RouterCutOff,
    Fault::IngressKilled,
    Fault::IngressFrozen,
    Fault::IngressUnheard,
    Fault::IngressUnheardLong,
    Fault::IngressCutOffLong,
    Fault::NatsKilled,
    Fault::NatsFrozen,
    Fault::RollingRestart,
    Fault::OldRouter,
    Fault::Crash("router.before_commit"),
    Fault::Crash("router.after_commit"),
    Fault::Crash("consume.after_ack"),
    Fault::Crash("ingress.before_publish"),
    Fault::Crash("ingress.after_publish"),
    Fault::LeaderOfInputsKilled,
    Fault::LeaderOfEventsKilled,
    Fault::NodeOfIngressPaused,
    Fault::LeaderOfEventsPaused,
    Fault::LeaderCutOff(CutOff::Wholly),
    Fault::LeaderCutOff(CutOff::Mute),
    Fault::LeaderCutOff(CutOff::Deaf),
    Fault::DiskFull,
    Fault::PowerCut,
];

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
            Self::RouterFrozen => "router frozen 7 s",
            Self::RouterUnheard => "router: NATS silent 8 s",
            Self::RouterCutOff => "router cut off 8 s",
            Self::IngressKilled => "ingress killed",
            Self::IngressFrozen => "ingress frozen 7 s",
            Self::IngressUnheard => "ingress: NATS silent 8 s",
            Self::IngressUnheardLong => "ingress: NATS silent 60 s",
            Self::IngressCutOffLong => "ingress: NATS cut 60 s",
            Self::NatsKilled => "nats-server killed",
            Self::NatsFrozen => "nats-server frozen 5 s",
            Self::RollingRestart => "rolling restart",
            Self::OldRouter => "old router beside new",
            Self::Crash("router.before_commit") => "crash: router, before commit",
            Self::Crash("router.after_commit") => "crash: router, after commit",
            Self::Crash("consume.after_ack") => "crash: router, after ack",
            Self::Crash("ingress.before_publish") => "crash: ingress, before publish",
            Self::Crash("ingress.after_publish") => "crash: ingress, after publish",
            Self::Crash(place) => place,
            Self::LeaderOfInputsKilled => "cluster: VOICE_IN leader killed",
            Self::LeaderOfEventsKilled => "cluster: VOICE_EVENT leader killed",
            Self::NodeOfIngressPaused => "cluster: ingress's node paused 15 s",
            Self::LeaderOfEventsPaused => "cluster: VOICE_EVENT leader paused 15 s",
            Self::LeaderCutOff(CutOff::Wholly) => "cluster: VOICE_EVENT leader cut off 15 s",
            Self::LeaderCutOff(CutOff::Mute) => "cluster: VOICE_EVENT leader not heard 15 s",
            Self::LeaderCutOff(CutOff::Deaf) => "cluster: VOICE_EVENT leader hears nobody 15 s",
            Self::DiskFull => "disk full",
            Self::PowerCut => "power cut",
        }
    }

    pub fn ground(self) -> Ground {
        match self {
            Self::RouterKilled
            | Self::RouterFrozen
            | Self::RouterUnheard
            | Self::RouterCutOff
            | Self::IngressKilled
            | Self::IngressFrozen
            | Self::IngressUnheard
            | Self::IngressUnheardLong
            | Self::IngressCutOffLong
            | Self::NatsKilled
            | Self::NatsFrozen
            | Self::RollingRestart
            | Self::OldRouter
            | Self::Crash(_) => Ground::OneNode,
            Self::LeaderOfInputsKilled
            | Self::LeaderOfEventsKilled
            | Self::NodeOfIngressPaused
            | Self::LeaderOfEventsPaused
            | Self::LeaderCutOff(_) => Ground::ThreeNodes,
            Self::DiskFull => Ground::SmallDisk,
            Self::PowerCut => Ground::LoopDisk,
        }
    }

    /// How often it is done in one run. None in the short form: it takes root, or time that the
    /// others use better.
    pub fn rounds(self, long: bool) -> usize {
        match self {
            Self::RouterKilled | Self::IngressKilled => pick(long, 2, 50),
            Self::NatsKilled => pick(long, 2, 30),
            Self::RouterFrozen | Self::RouterUnheard => pick(long, 1, 10),
            Self::IngressUnheard | Self::NatsFrozen => pick(long, 1, 10),
            Self::RouterCutOff | Self::IngressFrozen => pick(long, 0, 10),
            Self::IngressUnheardLong | Self::IngressCutOffLong => pick(long, 0, 3),
            Self::RollingRestart | Self::OldRouter => pick(long, 1, 10),
            Self::Crash(_) => pick(long, 1, 20),
            Self::LeaderOfInputsKilled | Self::LeaderOfEventsKilled => pick(long, 1, 10),
            Self::NodeOfIngressPaused | Self::LeaderOfEventsPaused => pick(long, 1, 5),
            Self::LeaderCutOff(CutOff::Wholly) => pick(long, 1, 5),
            Self::LeaderCutOff(CutOff::Mute | CutOff::Deaf) => pick(long, 0, 5),
            Self::DiskFull => pick(long, 0, 3),
            Self::PowerCut => pick(long, 0, 5),
        }
    }

    /// The longest time without a commit, given how long something was away.
    pub fn stall_max(self, away: Duration) -> Duration {
        match self {
            Self::RouterKilled
            | Self::RouterFrozen
            | Self::RouterUnheard
            | Self::RouterCutOff
            | Self::OldRouter => ROUTER_STALL_MAX,
            Self::Crash(place) if !of_ingress(place) => ROUTER_STALL_MAX,
            Self::IngressKilled
            | Self::IngressFrozen
            | Self::IngressUnheard
            | Self::IngressUnheardLong
            | Self::IngressCutOffLong
            | Self::NatsKilled
            | Self::NatsFrozen
            | Self::RollingRestart
            | Self::Crash(_)
            | Self::DiskFull
            | Self::PowerCut => away + RETURN_STALL_MAX,
            Self::LeaderOfInputsKilled
            | Self::LeaderOfEventsKilled
            | Self::NodeOfIngressPaused
            | Self::LeaderOfEventsPaused
            | Self::LeaderCutOff(_) => CLUSTER_FAIL_OVER,
        }
    }

    /// Whether a subscriber of the feed stays connected, and so must hear everything.
    pub fn spares_nats(self) -> bool {
        self.ground() == Ground::OneNode && !matches!(self, Self::NatsKilled | Self::NatsFrozen)
    }

    /// Whether it needs a build with crash points.
    pub fn needs_debug_build(self) -> bool {
        matches!(self, Self::Crash(_))
    }

    pub async fn inject(self, world: &mut World, random: &mut Random) -> anyhow::Result<Done> {
        match self {
            Self::RouterKilled => one_node::router_killed(world).await,
            Self::RouterFrozen => one_node::router_frozen(world).await,
            Self::RouterUnheard => one_node::router_unheard(world).await,
            Self::RouterCutOff => one_node::router_cut_off(world).await,
            Self::IngressKilled => one_node::ingress_killed(world).await,
            Self::IngressFrozen => one_node::ingress_frozen(world).await,
            Self::IngressUnheard => one_node::ingress_unheard(world).await,
            Self::IngressUnheardLong => one_node::ingress_without_nats(world, Mode::Silent).await,
            Self::IngressCutOffLong => one_node::ingress_without_nats(world, Mode::Cut).await,
            Self::NatsKilled => one_node::nats_killed(world).await,
            Self::NatsFrozen => one_node::nats_frozen(world).await,
            Self::RollingRestart => one_node::rolling_restart(world).await,
            Self::OldRouter => {
                let old = std::env::var_os("VOICEBUS_OLD_BINARY");
                one_node::old_router(world, old.as_deref().map(Path::new)).await
            }
            Self::Crash(place) => one_node::crash(world, place, random).await,
            Self::LeaderOfInputsKilled => cluster::leader_killed(world, "VOICE_IN").await,
            Self::LeaderOfEventsKilled => cluster::leader_killed(world, "VOICE_EVENT").await,
            Self::NodeOfIngressPaused => {
                let node = world.node_of("voicebus ingress").await?;
                cluster::node_paused(world, node).await
            }
            Self::LeaderOfEventsPaused => {
                let node = world.leader("VOICE_EVENT").await?;
                cluster::node_paused(world, node).await
            }
            Self::LeaderCutOff(how) => {
                let node = world.leader("VOICE_EVENT").await?;
                cluster::node_cut_off(world, node, how).await
            }
            Self::DiskFull => disk::full(world).await,
            Self::PowerCut => disk::power_cut(world).await,
        }
    }
}

/// Whether a place in the code is one that the ingress passes.
pub fn of_ingress(place: &str) -> bool {
    place.starts_with("ingress.")
}

fn pick(long: bool, in_short: usize, in_long: usize) -> usize {
    if long { in_long } else { in_short }
}
