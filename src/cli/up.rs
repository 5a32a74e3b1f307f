//! `voicebus up`: everything on one machine with one command.

use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::app::App;
use crate::bus::server::{Complaints, Held, Places, Restarts, Server, ServerConfig, User, locate};
use crate::bus::{self, Auth, Tls, durability, streams};
use crate::config::Config;
use crate::http::operations::Readiness;
use crate::http::serve::Listener;
use crate::supervise;

/// How long the roles may take until all are ready. A view over a long history is the slowest.
const READY_TIMEOUT: Duration = Duration::from_secs(60);

/// Its name in the data directory.
const RUN_FILE: &str = "run.json";

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
    let config = Arc::new(config.with_spool().with_dialling_dir());
    // Whatever can be found wrong without side effects is found first.
    let listener = Listener::bind(config.listen).await?;
    let listener = listener.with_tls(config.tls.clone())?;
    let http = listener.url();
    let nats = Nats::find(&config).await?;
    // From a run that was killed: whoever waits for the file must not read the old one. The
    // directory is ours by now.
    remove_run_file(&config.data_dir.join(RUN_FILE));
    supervise::remove_when_leaving_at_once(config.data_dir.join(RUN_FILE));
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

    if let Some(complaints) = nats.complaints() {
        app.add_task("complaints", app.complain_to(complaints));
    }
    if let Some(restarts) = nats.restarts() {
        app.readiness().measure(move |scrape| {
            let help = "How often the nats-server of `up` was started again";
            scrape.counter("nats_server_restarts", help, &[], restarts.count());
        });
    }
    let run_file = config.data_dir.join(RUN_FILE);
    let mut told = RunFile {
        pid: std::process::id(),
        http: http.to_owned(),
        nats: nats.url(config),
        observer: nats.observer_url(config),
        nats_pid: nats.pid(),
        version: env!("CARGO_PKG_VERSION"),
    };
    let (readiness, path) = (app.readiness(), run_file.clone());
    let (settings, mut restarts) = (Arc::clone(config), nats.restarts());
    let waiting = stop.clone();
    app.add_task("ready", async move {
        tokio::select! {
            () = waiting.cancelled() => return Ok(()),
            ready = wait_until_ready(&readiness) => ready?,
        }
        write_run_file(&path, &told).with_context(|| format!("cannot write {}", path.display()))?;
        // Nobody may be reading; the work goes on all the same.
        if let Err(error) = greet(&told, &settings) {
            warn!(%error, "could not say that all is ready");
        }
        loop {
            told.nats_pid = tokio::select! {
                () = waiting.cancelled() => return Ok(()),
                pid = next(&mut restarts) => Some(pid),
            };
            if let Err(error) = write_run_file(&path, &told) {
                warn!(
                    error = format!("{error:#}"),
                    "the run file tells of a nats-server that is gone"
                );
            }
        }
    });
    let result = app.run().await;
    remove_run_file(&run_file);
    result
}

/// The NATS server that `up` works with.
enum Nats {
    /// Started and looked after by us.
    Ours(Box<Server>),
    /// Somebody else's; only the data directory is ours.
    Theirs { _held: Held },
}

impl Nats {
    async fn find(config: &Config) -> anyhow::Result<Self> {
        if config.has_nats() {
            return Ok(Self::Theirs {
                _held: Held::take(&config.data_dir)?,
            });
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
            Self::Theirs { .. } => bus::without_secrets(&config.nats("observer").url),
        }
    }

    fn pid(&self) -> Option<u32> {
        match self {
            Self::Ours(server) => server.pid(),
            Self::Theirs { .. } => None,
        }
    }

    fn restarts(&self) -> Option<Restarts> {
        match self {
            Self::Ours(server) => Some(server.restarted_as()),
            Self::Theirs { .. } => None,
        }
    }

    fn complaints(&self) -> Option<Complaints> {
        match self {
            Self::Ours(server) => Some(server.complaints()),
            Self::Theirs { .. } => None,
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
            Self::Theirs { .. } => self.url(config),
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
                tls: Tls::default(),
                role: user.name(),
            },
            Self::Theirs { .. } => config.nats(user.name()),
        }
    }

    async fn stop(self) {
        match self {
            Self::Ours(server) => server.stop().await,
            Self::Theirs { .. } => {}
        }
    }
}

async fn next(restarts: &mut Option<Restarts>) -> u32 {
    match restarts {
        Some(restarts) => restarts.next().await,
        None => std::future::pending().await,
    }
}

async fn provision(nats: &Nats, config: &Config) -> anyhow::Result<()> {
    let connection = bus::connect(&nats.settings(config, User::Provision)).await?;
    durability::require(&connection, None, config.durability).await?;
    let options = streams::Options {
        retention: config.retention.clone(),
        ..streams::Options::default()
    };
    let report = streams::provision(connection.jetstream(), &options).await?;
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
        warn!(%error, path = %path.display(), "run file not removed");
    }
}

/// What a person needs next. The commands work as they stand, so they name what is not the default.
fn greet(told: &RunFile, config: &Config) -> anyhow::Result<()> {
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
    writeln!(out, "  voice server  {}", config.voice_server)?;
    writeln!(out)?;
    let dir = data_dir_option(&config.data_dir);
    let places = simulate_options(http, &config.voice_server);
    writeln!(out, "  watch calls   voicebus tail{dir}")?;
    writeln!(
        out,
        "  or            nats --server {observer} sub 'voice.event.>'"
    )?;
    writeln!(
        out,
        "  make calls    voicebus simulate --calls 5{places}   (dials nobody)"
    )?;
    writeln!(
        out,
        "  place a call  voicebus call +12015550123 --message 'Hello'{dir}"
    )?;
    writeln!(
        out,
        "  stop          Ctrl-C here; once more to leave at once"
    )?;
    out.flush()?;
    Ok(())
}

/// Where the tools find this `up`, unless they look there anyway.
fn data_dir_option(dir: &Path) -> String {
    if dir == Path::new(".voicebus") {
        String::new()
    } else {
        format!(" --data-dir {}", quoted(&dir.display().to_string()))
    }
}

/// How `simulate` takes the place of the voice server that was configured.
fn simulate_options(http: &str, voice_server: &str) -> String {
    let mut options = String::new();
    if http != "http://127.0.0.1:8082" {
        options.push_str(&format!(" --target {http}"));
    }
    let listen = voice_server
        .strip_prefix("http://")
        .map(|rest| rest.trim_end_matches('/'))
        .filter(|address| *address != "127.0.0.1:8080");
    // The stand-in serves on loopback only; a server elsewhere it cannot stand in for.
    if let Some(listen) = listen.and_then(|text| text.parse::<SocketAddr>().ok())
        && listen.ip().is_loopback()
    {
        options.push_str(&format!(" --listen {listen}"));
    }
    options
}

/// As a shell takes it for one word.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_of_the_greeting_name_what_is_not_the_default() {
        assert_eq!(data_dir_option(Path::new(".voicebus")), "");
        assert_eq!(data_dir_option(Path::new("/srv/vb")), " --data-dir /srv/vb");
        assert_eq!(
            data_dir_option(Path::new("it's mine")),
            r" --data-dir 'it'\''s mine'"
        );
        let of = simulate_options;
        assert_eq!(of("http://127.0.0.1:8082", "http://127.0.0.1:8080"), "");
        assert_eq!(
            of("http://127.0.0.1:9", "http://127.0.0.1:7/"),
            " --target http://127.0.0.1:9 --listen 127.0.0.1:7"
        );
        assert_eq!(of("http://127.0.0.1:8082", "https://voice.example"), "");
    }
}
