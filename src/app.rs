//! Where the parts meet: roles are built from the configuration, started under one supervisor, and
//! stopped in order.

mod measure;

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use serde_json::json;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::bus::canary::Canaries;
use crate::bus::server::Complaints;
use crate::bus::subjects::Subjects;
use crate::bus::{self, Bus, Connection, streams};
use crate::config::{Config, SpoolDir};
use crate::egress::{Egress, VoiceServer};
use crate::http::operations::{self, Readiness};
use crate::http::serve::Listener;
use crate::ingress::door::Clock;
use crate::ingress::spool::{Depth, Spool};
use crate::ingress::{self, Ingress, committer};
use crate::router::Router;
use crate::supervise::Supervisor;

/// How long tasks may take to leave. A dial that waits for the phone-call server is the longest,
/// 15 s; one that is cut off ends as `unknown`.
const STOP_GRACE: Duration = Duration::from_secs(20);
/// How long the last messages may take on their way out.
const FLUSH_GRACE: Duration = Duration::from_secs(2);
/// How long a role waits for NATS, and for it to be provisioned, before it gives up. Whatever
/// starts the roles together needs no order then.
const NATS_PATIENCE: Duration = Duration::from_secs(60);

/// How often the nats-server of `up` is told how its streams are.
const COMPLAINT_PAUSE: Duration = Duration::from_secs(1);

/// Roles under one supervisor.
pub struct App {
    config: Arc<Config>,
    tasks: Supervisor,
    readiness: Readiness,
    connections: Vec<Connection>,
    canaries: Vec<Canaries>,
}

impl App {
    /// No roles yet; `stop` ends them all.
    #[must_use]
    pub fn new(config: Arc<Config>, stop: CancellationToken) -> Self {
        crate::install_crypto();
        Self {
            config,
            tasks: Supervisor::new(stop),
            readiness: Readiness::default(),
            connections: Vec::new(),
            canaries: Vec::new(),
        }
    }

    /// What is not ready yet.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        self.readiness.clone()
    }

    /// Adds a task of one's own, without which the process makes no sense.
    pub fn add_task(
        &mut self,
        name: &str,
        task: impl Future<Output = anyhow::Result<()>> + Send + 'static,
    ) {
        self.tasks.critical(name, task);
    }

    /// Tells a nats-server of ours when streams of the roles so far take nothing; a task.
    pub fn complain_to(
        &self,
        complaints: Complaints,
    ) -> impl Future<Output = anyhow::Result<()>> + Send + 'static {
        let (canaries, stop) = (self.canaries.clone(), self.tasks.stop_token());
        async move {
            loop {
                let silent: Vec<_> = canaries.iter().flat_map(Canaries::silent).collect();
                complaints.say(
                    (!silent.is_empty())
                        .then(|| format!("no acknowledgement from {}", silent.join(", "))),
                );
                tokio::select! {
                    () = stop.cancelled() => return Ok(()),
                    () = tokio::time::sleep(COMPLAINT_PAUSE) => {}
                }
            }
        }
    }

    /// Starts a router.
    ///
    /// # Errors
    /// When NATS cannot be reached or is not provisioned.
    pub async fn add_router(&mut self, nats: &bus::Settings) -> anyhow::Result<()> {
        let started = self.starting("router start");
        let bus = self.open(nats).await?;
        let router = Router::build(bus, self.config.policy.clone())
            .await
            .context("router cannot start")?;
        let (view, counters) = (router.view(), router.counters());
        self.readiness
            .measure(move |scrape| measure::router(scrape, &counters));
        self.readiness.require("router", move || {
            if view.is_ready() {
                Ok(())
            } else {
                Err("still reading the stream of events".to_owned())
            }
        });
        router
            .start(&mut self.tasks)
            .await
            .context("router cannot start")?;
        started.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Starts an egress. Whether the phone-call server is there does not matter for being ready:
    /// commands wait for it until their deadline.
    ///
    /// # Errors
    /// When NATS cannot be reached or is not provisioned, or the server's URL cannot be used.
    pub async fn add_egress(&mut self, nats: &bus::Settings) -> anyhow::Result<()> {
        let started = self.starting("egress start");
        let bus = self.open(nats).await?;
        let server = VoiceServer::new(&self.config.voice_server)
            .context("egress cannot start")?
            .in_time_zone(self.config.time_zone)
            .with_tap_token(self.config.tap_token())
            .context("egress cannot start")?;
        let dir = self.config.dialling_dir.as_deref();
        let egress = Egress::build(bus, server, &self.config.policy, &self.config.dialling, dir)
            .await
            .context("egress cannot start")?;
        let (health, room, in_flight) = (egress.health(), egress.room(), egress.in_flight());
        self.readiness.measure(move |scrape| {
            measure::egress(scrape, &health, &room, in_flight.load(Ordering::Relaxed));
        });
        egress
            .start(&mut self.tasks)
            .await
            .context("egress cannot start")?;
        started.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Serves the ingress on a bound address.
    ///
    /// # Errors
    /// When NATS cannot be reached or is not provisioned.
    pub async fn add_ingress(
        &mut self,
        nats: &bus::Settings,
        listener: Listener,
    ) -> anyhow::Result<()> {
        let spool = self.open_spool().await?;
        let (bus, layout_is_remembered) = self.open_for_ingress(nats, spool.as_ref()).await?;
        let settings = ingress::Settings {
            doors: self.config.doors.clone(),
            clock: Clock::new(chrono::Utc::now),
            time_zone: self.config.time_zone,
            rules: self.config.dialling.clone(),
            agent: self.config.policy.agent.clone(),
        };
        let options = committer::Options {
            spool,
            grouping: self.config.grouping,
            layout_is_remembered,
        };
        let (ingress, committer) = Ingress::new(bus, settings, options, self.tasks.stop_token());
        let (counters, gauge) = (ingress.counters(), ingress.gauge());
        self.readiness
            .measure(move |scrape| measure::ingress(scrape, &counters, &gauge));
        let gauge = ingress.gauge();
        self.readiness
            .require("spool", move || match gauge.stalled() {
                None => Ok(()),
                Some(why) => {
                    let events = gauge.depth().map_or(0, |depth| depth.events);
                    Err(format!(
                        "{why}; events are still taken, {events} wait in the spool"
                    ))
                }
            });
        self.tasks.critical("committer", committer.run());
        let routes = ingress::routes(ingress).merge(self.operations());
        self.serve("ingress", listener, routes);
        Ok(())
    }

    async fn open_spool(&self) -> anyhow::Result<Option<Spool>> {
        let SpoolDir::At(dir) = self.config.spool_dir.clone() else {
            return Ok(None);
        };
        let bounds = self.config.spool_bounds;
        let opened = tokio::task::spawn_blocking(move || Spool::open(&dir, bounds)).await;
        let spool = opened
            .context("the spool could not be opened")?
            .context("ingress cannot start")?;
        let depth = spool.depth();
        info!(dir = %spool.dir().display(), events = depth.events, bytes = depth.bytes, "spool opened");
        Ok(Some(spool))
    }

    /// With a spool that knows the layout, events can be taken before NATS is there.
    async fn open_for_ingress(
        &mut self,
        nats: &bus::Settings,
        spool: Option<&Spool>,
    ) -> anyhow::Result<(Bus, bool)> {
        let Some(spool) = spool else {
            return Ok((self.open(nats).await?, false));
        };
        let kept = spool.partitions().context("ingress cannot start")?;
        let Some(partitions) = kept.and_then(NonZeroU32::new) else {
            let bus = self.open(nats).await?;
            spool
                .keep_partitions(bus.subjects().partitions())
                .context("ingress cannot start")?;
            return Ok((bus, false));
        };
        let connection = match open_once(nats).await {
            Ok(bus) => {
                bus.require_durability(self.config.durability).await?;
                let found = bus.subjects().partitions();
                if found == partitions.get() {
                    self.watch(nats.role, &bus);
                    return Ok((bus, false));
                }
                if spool.depth() != Depth::default() {
                    let dir = spool.dir().to_owned();
                    let kept = partitions.get();
                    return Err(committer::Fatal::OtherDeployment { dir, kept, found }.into());
                }
                spool
                    .keep_partitions(found)
                    .context("ingress cannot start")?;
                self.watch(nats.role, &bus);
                return Ok((bus, false));
            }
            Err(error) => {
                warn!(
                    error = format!("{error:#}"),
                    "NATS is away; events go to the spool until it is there"
                );
                bus::connect_later(nats).await?
            }
        };
        // Inputs need no salt, and only the router asks for the epoch.
        let subjects = Subjects::new(partitions, Vec::new());
        let bus = Bus::new(connection, subjects, 0);
        self.watch(nats.role, &bus);
        Ok((bus, true))
    }

    /// Serves only what operators ask for, for a role without doors of its own.
    pub fn add_operations(&mut self, listener: Listener) {
        let tokens = self.config.doors.reading.tokens_only();
        let status = operations::status(self.readiness(), tokens);
        let routes = self.operations().merge(status);
        self.serve("operations", listener, routes);
    }

    fn operations(&self) -> axum::Router {
        operations::routes(self.readiness(), self.config.doors.reading.tokens_only())
    }

    fn serve(&mut self, name: &str, listener: Listener, routes: axum::Router) {
        let address: SocketAddr = listener.address();
        let stop = self.tasks.stop_token();
        info!(%address, "{name} listens");
        if let Some(tls) = listener.tls() {
            let task = tls.watch(stop.clone());
            self.tasks.critical(format!("{name} certificate"), task);
        }
        self.tasks.critical(name, listener.serve(routes, stop));
    }

    /// Runs until told to stop or a part fails, then stops everything and lets the last messages
    /// out.
    ///
    /// # Errors
    /// The first failure.
    pub async fn run(self) -> anyhow::Result<()> {
        let result = self.tasks.run(STOP_GRACE).await;
        for connection in &self.connections {
            if connection.is_connected() {
                connection.close(FLUSH_GRACE).await;
            }
        }
        result
    }

    /// A role that is not ready before it has started.
    fn starting(&self, name: &'static str) -> Arc<AtomicBool> {
        let started = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&started);
        self.readiness.require(name, move || {
            if asked.load(Ordering::Relaxed) {
                Ok(())
            } else {
                Err("not there yet".to_owned())
            }
        });
        started
    }

    async fn open(&mut self, nats: &bus::Settings) -> anyhow::Result<Bus> {
        let stop = self.tasks.stop_token();
        let bus = tokio::select! {
            () = stop.cancelled() => anyhow::bail!("stopped before NATS was there"),
            bus = open_patiently(nats) => bus?,
        };
        bus.require_durability(self.config.durability).await?;
        self.watch(nats.role, &bus);
        Ok(bus)
    }

    /// Ready only with this connection, to a server that keeps what it acknowledges, and with
    /// streams that take messages; closed with the process.
    fn watch(&mut self, role: &'static str, bus: &Bus) {
        let connection = bus.connection().clone();
        self.connections.push(connection.clone());
        self.canaries.push(bus.canaries().clone());
        self.readiness.require(role, move || {
            if connection.is_connected() {
                Ok(())
            } else {
                Err("NATS is away".to_owned())
            }
        });
        let canaries = bus.canaries().clone();
        self.readiness.require(role, move || canaries.check());

        let asked = bus.clone();
        self.readiness
            .measure(move |scrape| measure::bus(scrape, role, &asked));
        let told = bus.clone();
        self.readiness.tell(role, move || {
            json!({
                "nats": {
                    "connected": told.connection().is_connected(),
                    "disconnects": told.connection().disconnects(),
                    "denials": told.connection().denials(),
                },
                "acknowledged": told.durability(),
                "streams": told.canaries().watched(),
            })
        });
        let (bus, stop, wanted) = (bus.clone(), self.tasks.stop_token(), self.config.durability);
        self.tasks.critical(format!("{role} watch"), async move {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = bus.connection().back() => {}
            }
            bus.require_durability(wanted).await?;
            bus.canaries().run(&bus, role, &stop).await;
            Ok(())
        });
    }
}

async fn open_once(nats: &bus::Settings) -> anyhow::Result<Bus> {
    Ok(Bus::open(bus::connect(nats).await?).await?)
}

/// Connects and reads the layout; tries again for a while, because NATS or its provisioning may be
/// on their way.
async fn open_patiently(nats: &bus::Settings) -> anyhow::Result<Bus> {
    let deadline = tokio::time::Instant::now() + NATS_PATIENCE;
    let mut told = false;
    loop {
        let error = match bus::connect(nats).await {
            Ok(connection) => match Bus::open(connection).await {
                Ok(bus) => return Ok(bus),
                Err(
                    error @ (streams::Error::ServerTooOld { .. }
                    | streams::Error::PartitionsFixed { .. }),
                ) => {
                    return Err(error.into());
                }
                Err(error) => anyhow::Error::from(error),
            },
            Err(error) => anyhow::Error::from(error),
        };
        if tokio::time::Instant::now() >= deadline {
            return Err(error);
        }
        if !told {
            warn!(
                role = nats.role,
                error = format!("{error:#}"),
                "waiting for NATS"
            );
            told = true;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}
