//! Everything together: nats-server, each role as processes of its own, and somebody who looks on.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, ensure};
use voicebus::bus::server::User;

use crate::disk::Disk;
use crate::eyes::Eyes;
use crate::links::Links;
use crate::nats::{Node, Passwords};
use crate::process::{Place, Process};
use crate::proxy::Proxy;
use crate::role::{Role, voicebus};
use crate::wait::{free_address, until};

/// How long provisioning may take; a cluster elects some forty leaders in this time.
const PROVISIONED_WITHIN: Duration = Duration::from_secs(60);

/// How long replicas may take until they agree after the last event.
const AGREE_WITHIN: Duration = Duration::from_secs(60);

/// On what the roles run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ground {
    OneNode,
    ThreeNodes,
    /// One node on a disk that can be made small.
    SmallDisk,
    /// One node on a disk that can lose power.
    LoopDisk,
}

pub struct World {
    pub place: Place,
    pub nodes: Vec<Node>,
    /// Between the nodes, where there are several.
    pub links: Option<Links>,
    pub ingress: Role,
    /// The second one reaches NATS through a proxy, where there is one.
    pub routers: [Role; 2],
    pub egress: Role,
    /// Between the ingress and its node.
    pub ingress_link: Option<Proxy>,
    /// Between the second router and its node.
    pub router_link: Option<Proxy>,
    pub eyes: Eyes,
    /// Where the simulator stands in for the phone-call server.
    pub voice_server: SocketAddr,
    /// Where the only node has its store, when that is a disk of its own. Unmounted after the node
    /// is gone.
    pub disk: Option<Disk>,
    /// Calls that earlier loads have made.
    pub known_calls: BTreeSet<String>,
}

impl World {
    pub async fn start(place: &Place, ground: Ground) -> anyhow::Result<Self> {
        std::fs::create_dir_all(&place.folder)?;
        let disk = match ground {
            Ground::OneNode | Ground::ThreeNodes => None,
            Ground::SmallDisk => Some(Disk::small(&place.folder, &place.reaper).await?),
            Ground::LoopDisk => Some(Disk::in_file(&place.folder, &place.reaper).await?),
        };
        let folder = disk.as_ref().map_or(&place.folder, |disk| &disk.at);
        let passwords = Passwords::generate();
        let (mut nodes, links) = match ground {
            Ground::ThreeNodes => {
                let (nodes, links) = Node::cluster(place, &passwords).await?;
                (nodes, Some(links))
            }
            _ => {
                let node = Node::single(place, &passwords, &folder.join("nats"));
                (vec![node], None)
            }
        };
        for node in &mut nodes {
            node.spawn()?;
        }
        for node in &mut nodes {
            node.healthy().await?;
        }
        let urls: Vec<String> = nodes.iter().map(|node| url(node.listen)).collect();
        provision(place, &urls.join(","), &passwords, nodes.len()).await?;

        let (ingress_link, router_link) = match ground {
            // A cluster's nodes tell their clients of each other, which leads past any proxy.
            Ground::ThreeNodes => (None, None),
            _ => (
                Some(Proxy::start(nodes[0].listen).await?),
                Some(Proxy::start(nodes[0].listen).await?),
            ),
        };
        let direct = urls.join(",");
        let through = |link: &Option<Proxy>| {
            let link = link.as_ref().map(|link| url(link.address()));
            link.unwrap_or_else(|| direct.clone())
        };
        let role = |name: &str, user: User, nats: &str| {
            Role::new(place, name, user.name(), nats, passwords.of(user))
        };
        let voice_server = free_address();
        let url = format!("http://{voice_server}");
        let mut world = Self {
            place: place.clone(),
            ingress: role("ingress", User::Ingress, &through(&ingress_link)),
            routers: [
                role("router-1", User::Router, &direct),
                role("router-2", User::Router, &through(&router_link)),
            ],
            egress: role("egress", User::Egress, &direct).with(&["--voice-server", &url]),
            eyes: Eyes::open(&urls, &passwords).await?,
            nodes,
            links,
            ingress_link,
            router_link,
            voice_server,
            disk,
            known_calls: BTreeSet::new(),
        };
        let [one, other] = &mut world.routers;
        let (ingress, egress) = (&mut world.ingress, &mut world.egress);
        let started = tokio::join!(one.start(), other.start(), ingress.start(), egress.start());
        for outcome in [started.0, started.1, started.2, started.3] {
            outcome?;
        }
        Ok(world)
    }

    /// Nothing has died that nobody has killed.
    pub fn all_live(&mut self) -> anyhow::Result<()> {
        let [one, other] = &mut self.routers;
        for role in [one, other, &mut self.ingress, &mut self.egress] {
            role.lives()?;
        }
        Ok(())
    }

    /// Waits until this many more events are committed.
    pub async fn goes_on(&self, events: u64, bound: Duration) -> anyhow::Result<()> {
        let mut goal = None;
        until("events to be committed", bound, async || {
            let last = self.eyes.last("VOICE_EVENT").await?;
            let goal = *goal.get_or_insert(last + events);
            ensure!(last >= goal, "{last} of {goal} events");
            Ok(())
        })
        .await
    }

    /// Waits until everything that is stored by now has been worked off, while more comes in.
    pub async fn catches_up(&self, bound: Duration) -> anyhow::Result<()> {
        let mut goal = None;
        until("the routers to catch up", bound, async || {
            if goal.is_none() {
                goal = Some(self.eyes.last("VOICE_IN").await?);
            }
            self.eyes.worked_off(goal.unwrap_or_default()).await
        })
        .await
    }

    /// Waits until every node has the same of every stream. Nothing may be under way but canaries.
    pub async fn replicas_agree(&self) -> anyhow::Result<()> {
        until("all replicas to agree", AGREE_WITHIN, async || {
            let (mut first, mut of) = (None, "");
            for node in &self.nodes {
                let last = node.last_sequences().await?;
                ensure!(!last.is_empty(), "{} has no streams", node.name);
                let known = first.get_or_insert_with(|| last.clone());
                ensure!(*known == last, "{of} has {known:?}, {} {last:?}", node.name);
                of = &node.name;
            }
            Ok(())
        })
        .await
    }

    /// The node that leads a stream.
    pub async fn leader(&self, stream: &str) -> anyhow::Result<usize> {
        let bound = Duration::from_secs(10);
        let name = until("a leader", bound, async || self.eyes.leader(stream).await).await?;
        let found = self.nodes.iter().position(|node| node.name == name);
        found.with_context(|| format!("no node is called {name}"))
    }

    /// The node that a client of this name is connected to.
    pub async fn node_of(&self, client: &str) -> anyhow::Result<usize> {
        let bound = Duration::from_secs(10);
        until("a node with the client", bound, async || {
            for (number, node) in self.nodes.iter().enumerate() {
                if node.serves(client).await? {
                    return Ok(number);
                }
            }
            anyhow::bail!("no node has a client called {client}")
        })
        .await
    }
}

fn url(address: SocketAddr) -> String {
    format!("nats://{address}")
}

/// Makes streams and consumers, as often as it takes: a young cluster has no leader yet.
async fn provision(
    place: &Place,
    nats: &str,
    passwords: &Passwords,
    replicas: usize,
) -> anyhow::Result<()> {
    let password = passwords.of(User::Provision).to_owned();
    let env = [("VOICEBUS_NATS_PASSWORD".to_owned(), password)];
    let replicas = replicas.to_string();
    let args = ["provision", "--nats-url", nats, "--replicas", &replicas];
    until("provisioning", PROVISIONED_WITHIN, async || {
        let mut process = Process::start(place, "provision", &voicebus(), args, &env)?;
        let status = process.ended(PROVISIONED_WITHIN).await?;
        ensure!(status.success(), "{status}: {}", process.last_words());
        Ok(())
    })
    .await
}
