//! `voicebus up`: everything on one machine with one command.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::app::App;
use crate::bus::server::{Places, Server, ServerConfig, User, locate};
use crate::bus::{self, Auth, streams};
use crate::config::Config;
use crate::http::operations::Readiness;
use crate::http::serve::Listener;

/// How long the roles may take until all are ready. A view over a long history is the slowest.
const READY_TIMEOUT: Duration = Duration::from_secs(60);

/// `run.json`: how tools find a running `up`. Holds the observer's password, so it is 0600.
#[derive(Debug, Serialize)]
struct RunFile {
    pid: u32,
    http: String,
    nats: String,
    observer: String,
    nats_pid: Option<u32>,
    version: &'static str,
}

pub(super) async fn run(config: Arc<Config>, stop: CancellationToken) -> anyhow::Result<()> {
    let config = Arc::new(config.with_spool());
    // Whatever can be found wrong without side effects is found first.
    let listener = Listener::bind(config.listen).await?;
    let http = format!("http://{}", listener.address());
    let nats = Nats::find(&config).await?;
    let result = run_on(&config, &nats, listener, &http, stop).await;
    nats.stop().await;
    result
}

async fn run_on(
    config: &Arc<Config>,
    nats: &Nats,
    listener: Listener,
    http: &str,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    provision(nats, config).await?;
    let mut app = App::new(Arc::clone(config), stop.clone());
    app.add_router(&nats.settings(config, User::Router)).await?;
    app.add_egress(&nats.settings(config, User::Egress)).await?;
    app.add_ingress(&nats.settings(config, User::Ingress), listener)
        .await?;

    let run_file = config.data_dir.join("run.json");
    let told = RunFile {
        pid: std::process::id(),
        http: http.to_owned(),
        nats: nats.url(config),
        observer: nats.observer_url(config),
        nats_pid: nats.pid(),
        version: env!("CARGO_PKG_VERSION"),
    };
    let (readiness, path) = (app.readiness(), run_file.clone());
    let voice_server = config.voice_server.clone();
    let waiting = stop.clone();
    app.add_task("ready", async move {
        tokio::select! {
            () = waiting.cancelled() => return Ok(()),
            ready = wait_until_ready(&readiness) => ready?,
        }
        std::fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
        write_run_file(&path, &told).with_context(|| format!("cannot write {}", path.display()))?;
        greet(&told, &voice_server)?;
        waiting.cancelled().await;
        Ok(())
    });
    let result = app.run().await;
    remove_run_file(&run_file);
    result
}

/// The NATS server that `up` works with.
enum Nats {
    /// Started and looked after by us.
    Ours(Box<Server>),
    /// Somebody else's.
    Theirs,
}

impl Nats {
    async fn find(config: &Config) -> anyhow::Result<Self> {
        if config.nats_url.is_some() {
            return Ok(Self::Theirs);
        }
        let binary = locate(&Places::from_env(), |progress| info!("{progress}")).await?;
        let mut server = ServerConfig::new(binary, &config.data_dir);
        server.listen = config.nats_listen;
        // The server outlives the roles, which have something to say until the end.
        let server = Server::start(server, CancellationToken::new()).await?;
        Ok(Self::Ours(Box::new(server)))
    }

    fn url(&self, config: &Config) -> String {
        match self {
            Self::Ours(server) => server.url().to_owned(),
            Self::Theirs => bus::without_secrets(&config.nats("observer").url),
        }
    }

    fn pid(&self) -> Option<u32> {
        match self {
            Self::Ours(server) => server.pid(),
            Self::Theirs => None,
        }
    }

    fn observer_url(&self, config: &Config) -> String {
        match self {
            Self::Ours(server) => {
                let password = server.credentials().password(User::Observer).reveal();
                server.url().replacen(
                    "://",
                    &format!("://{}:{password}@", User::Observer.name()),
                    1,
                )
            }
            Self::Theirs => self.url(config),
        }
    }

    fn settings(&self, config: &Config, user: User) -> bus::Settings {
        match self {
            Self::Ours(server) => bus::Settings {
                url: server.url().to_owned(),
                auth: Auth::Password {
                    user: user.name().to_owned(),
                    password: server.credentials().password(user).reveal().to_owned(),
                },
                role: user.name(),
            },
            Self::Theirs => config.nats(user.name()),
        }
    }

    async fn stop(self) {
        match self {
            Self::Ours(server) => server.stop().await,
            Self::Theirs => {}
        }
    }
}

async fn provision(nats: &Nats, config: &Config) -> anyhow::Result<()> {
    let connection = bus::connect(&nats.settings(config, User::Provision)).await?;
    let report = streams::provision(connection.jetstream(), &streams::Options::default()).await?;
    if !report.is_settled() {
        bail!("NATS has something that cannot be changed to what is needed:\n{report}");
    }
    info!(
        unchanged = report.is_unchanged(),
        "streams, consumers and buckets are there"
    );
    Ok(())
}

async fn wait_until_ready(readiness: &Readiness) -> anyhow::Result<()> {
    let deadline = tokio::time::Instant::now() + READY_TIMEOUT;
    loop {
        let missing = readiness.missing();
        if missing.is_empty() {
            return Ok(());
        }
        if tokio::time::Instant::now() >= deadline {
            let missing: Vec<String> = missing
                .iter()
                .map(|(what, why)| format!("{what}: {why}"))
                .collect();
            bail!("not ready after {READY_TIMEOUT:?}: {}", missing.join("; "));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Written whole under another name first: a tool must never read half of it.
fn write_run_file(path: &Path, told: &RunFile) -> anyhow::Result<()> {
    let beside: PathBuf = path.with_extension("json.new");
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&beside)?;
    serde_json::to_writer_pretty(&mut file, told)?;
    writeln!(file)?;
    file.sync_all()?;
    std::fs::rename(&beside, path)?;
    Ok(())
}

fn remove_run_file(path: &Path) {
    if let Err(error) = std::fs::remove_file(path)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(%error, path = %path.display(), "run file not removed");
    }
}

/// What a person needs next.
fn greet(told: &RunFile, voice_server: &str) -> anyhow::Result<()> {
    let RunFile {
        http,
        nats,
        observer,
        ..
    } = told;
    let mut out = std::io::stdout().lock();
    writeln!(out, "voicebus {} is ready.", env!("CARGO_PKG_VERSION"))?;
    writeln!(out)?;
    writeln!(
        out,
        "  events        {http}/call-event (also /webhook/forward and /v1/events)"
    )?;
    writeln!(out, "  state         {http}/status")?;
    writeln!(out, "  NATS          {nats}")?;
    writeln!(out, "  voice server  {voice_server}")?;
    writeln!(out)?;
    writeln!(out, "  watch calls   voicebus tail")?;
    writeln!(
        out,
        "  or            nats --server {observer} sub 'voice.event.>'"
    )?;
    writeln!(
        out,
        "  make calls    voicebus simulate --calls 5   (dials nobody)"
    )?;
    writeln!(
        out,
        "  place a call  voicebus call +12015550123 --message 'Hello'"
    )?;
    writeln!(
        out,
        "  stop          Ctrl-C here; once more to leave at once"
    )?;
    out.flush()?;
    Ok(())
}
