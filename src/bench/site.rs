//! A provisioned nats-server for a while, and roles on it.

use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::app::App;
use crate::bus::server::{Places, Server, ServerConfig, User, locate};
use crate::bus::{self, Auth, Bus, Tls, inspect, streams, subjects};
use crate::config::{Config, Overrides};
use crate::domain::guard;
use crate::http::rate::Limits;
use crate::http::serve::Listener;
use crate::ingress::committer::Grouping;

/// How long anything may take that is not measured.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long clients may take to go.
const GOODBYE: Duration = Duration::from_millis(100);

/// A folder that goes with the run.
pub(super) struct Folder(PathBuf);

impl Folder {
    pub fn make(parent: Option<&Path>) -> anyhow::Result<Self> {
        let parent = parent.map_or_else(std::env::temp_dir, Path::to_path_buf);
        let path = parent.join(format!("voicebus-bench-{}", uuid::Uuid::new_v4().simple()));
        // Passwords are made in it.
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .with_context(|| format!("cannot make the folder {}", path.display()))?;
        Ok(Self(path))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!(%error, folder = %self.0.display(), "folder not removed");
        }
    }
}

/// A nats-server as `up` has it, with everything provisioned and nothing in it.
pub(super) struct Site {
    server: Server,
    dir: PathBuf,
}

impl Site {
    pub async fn start(folder: &Folder, name: &str) -> anyhow::Result<Self> {
        let binary = locate(&Places::from_env(), |text| tracing::warn!("{text}")).await?;
        let dir = folder.path().join(name);
        let server =
            Server::start(ServerConfig::new(binary, &dir), CancellationToken::new()).await?;
        let site = Self { server, dir };
        let connection = bus::connect(&site.nats(User::Provision)).await?;
        let report =
            streams::provision(connection.jetstream(), &streams::Options::default()).await?;
        if !report.is_settled() {
            bail!("the streams cannot be made:\n{report}");
        }
        Ok(site)
    }

    /// How a role connects.
    pub fn nats(&self, user: User) -> bus::Settings {
        bus::Settings {
            url: self.server.url().to_owned(),
            auth: Auth::Password {
                user: user.name().to_owned(),
                password: self.password(user).to_owned(),
            },
            tls: Tls::default(),
            role: user.name(),
        }
    }

    pub fn url(&self) -> &str {
        self.server.url()
    }

    pub fn password(&self, user: User) -> &str {
        self.server.credentials().password(user).reveal()
    }

    /// The process id of the nats-server.
    pub fn pid(&self) -> Option<u32> {
        self.server.pid()
    }

    /// For whatever else a section leaves behind.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A bus with the rights of a role.
    pub async fn bus(&self, user: User) -> anyhow::Result<Bus> {
        let connection = bus::connect(&self.nats(user)).await?;
        Ok(Bus::open(connection).await?)
    }

    /// Stops the server; its store goes with the folder.
    pub async fn stop(self) -> anyhow::Result<()> {
        let restarts = self.server.restarts();
        // A client says goodbye a moment after the last that held it; it would miss the server.
        tokio::time::sleep(GOODBYE).await;
        self.server.stop().await;
        if restarts > 0 {
            bail!("the nats-server died {restarts} times");
        }
        Ok(())
    }
}

/// Roles in this process, under one supervisor, as `up` has them.
pub(super) struct Roles {
    stop: CancellationToken,
    app: AbortOnDropHandle<anyhow::Result<()>>,
    address: SocketAddr,
}

impl Roles {
    /// Starts the roles and waits until they are ready.
    pub async fn start(site: &Site, roles: &[User], voice_server: &str) -> anyhow::Result<Self> {
        Self::start_as(site, roles, config(voice_server)?).await
    }

    /// As [`Roles::start`], with `group_commit = "off"`.
    pub async fn start_without_group_commit(
        site: &Site,
        roles: &[User],
        voice_server: &str,
    ) -> anyhow::Result<Self> {
        let mut config = config(voice_server)?;
        config.grouping = Grouping::Off;
        Self::start_as(site, roles, config).await
    }

    /// All roles, for many dials; with a high-water mark, as `up` keeps one.
    pub async fn start_dialling(
        site: &Site,
        voice_server: &str,
        limits: guard::Limits,
    ) -> anyhow::Result<Self> {
        let mut config = config(voice_server)?;
        config.dialling.limits = limits;
        config.dialling_dir = Some(site.dir().join("egress"));
        let all = [User::Router, User::Egress, User::Ingress];
        Self::start_as(site, &all, config).await
    }

    async fn start_as(site: &Site, roles: &[User], config: Config) -> anyhow::Result<Self> {
        let listener = Listener::bind(config.listen).await?;
        let address = listener.address();
        let stop = CancellationToken::new();
        let mut app = App::new(Arc::new(config), stop.clone());
        if roles.contains(&User::Router) {
            app.add_router(&site.nats(User::Router)).await?;
        }
        if roles.contains(&User::Egress) {
            app.add_egress(&site.nats(User::Egress)).await?;
        }
        if roles.contains(&User::Ingress) {
            app.add_ingress(&site.nats(User::Ingress), listener).await?;
        }
        let readiness = app.readiness();
        let app = AbortOnDropHandle::new(tokio::spawn(app.run()));
        wait_until("the roles are ready", async || {
            Ok(readiness.missing().is_empty().then_some(()))
        })
        .await?;
        Ok(Self { stop, app, address })
    }

    /// Where the ingress listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub async fn stop(self) -> anyhow::Result<()> {
        self.stop.cancel();
        self.app.await.context("the roles died")?
    }
}

fn config(voice_server: &str) -> anyhow::Result<Config> {
    let mut config = Config::without_environment(&Overrides {
        listen: Some("127.0.0.1:0".to_owned()),
        voice_server: Some(voice_server.to_owned()),
        ..Overrides::default()
    })?;
    // One sender brings all the load.
    config.doors.limits = Limits::default();
    Ok(config)
}

/// How many events the public feed has; asks with the rights of a router.
pub(super) async fn events_stored(router: &Bus) -> anyhow::Result<u64> {
    let stream = inspect::stream(router.connection(), subjects::STREAM_EVENT).await?;
    Ok(stream.context("VOICE_EVENT is not there")?.messages)
}

/// Asks again and again, up to [`PATIENCE`].
pub(super) async fn wait_until<T>(
    what: &str,
    mut ask: impl AsyncFnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask().await? {
            return Ok(answer);
        }
        if Instant::now() >= deadline {
            bail!("waited {PATIENCE:?} until {what}");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
