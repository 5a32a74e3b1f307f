//! One nats-server, started with the files of `nats/` as in production.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use rustix::process::Signal;
use voicebus::bus::server::User;

use crate::links::Links;
use crate::process::{Place, Process};
use crate::wait::{free_address, get, until};

/// How long a server may take until it is healthy. Nothing of this size takes a tenth of it.
const HEALTHY_WITHIN: Duration = Duration::from_secs(30);

/// One password for each user, made for this run.
#[derive(Clone)]
pub struct Passwords(Vec<(User, String)>);

impl Passwords {
    pub fn generate() -> Self {
        // It begins with a letter, or the server might take it for a number.
        let one = |user| (user, format!("vb{}", uuid::Uuid::new_v4().simple()));
        Self(User::ALL.map(one).into())
    }

    pub fn of(&self, user: User) -> &str {
        let found = self.0.iter().find(|(known, _)| *known == user);
        found.map_or("", |(_, password)| password)
    }

    fn variables(&self) -> impl Iterator<Item = (String, String)> + '_ {
        let one = |(user, password): &(User, String)| {
            (user.password_variable().to_owned(), password.clone())
        };
        self.0.iter().map(one)
    }
}

/// A server that can be started again where it was, with what it had.
pub struct Node {
    pub name: String,
    pub listen: SocketAddr,
    monitor: SocketAddr,
    conf: PathBuf,
    env: Vec<(String, String)>,
    place: Place,
    process: Option<Process>,
}

impl Node {
    /// The only node, with its store in this folder.
    pub fn single(place: &Place, passwords: &Passwords, store: &Path) -> Self {
        let conf = nats_folder().join("nats-server.conf");
        Self::new(place, "nats", &conf, passwords, store)
    }

    /// Three nodes that make a cluster, and the links between them.
    pub async fn cluster(
        place: &Place,
        passwords: &Passwords,
    ) -> anyhow::Result<(Vec<Self>, Links)> {
        let addresses = [free_address(), free_address(), free_address()];
        let secret = format!("vb{}", uuid::Uuid::new_v4().simple());
        let conf = cluster_conf(place)?;
        let links = Links::start(&addresses).await?;
        let node = |(number, address): (usize, &SocketAddr)| {
            let name = format!("nats-{}", number + 1);
            let store = place.folder.join(&name);
            let mut node = Self::new(place, &name, &conf, passwords, &store);
            let routes: Vec<String> = links
                .from(number)
                .map(|link| format!("nats-route://route:{secret}@{link}"))
                .collect();
            for (variable, value) in [
                ("CLUSTER_LISTEN", quoted(address)),
                ("CLUSTER_ROUTES", format!("[{}]", routes.join(", "))),
                ("PASSWORD_CLUSTER", secret.clone()),
            ] {
                node.env.push((format!("VOICEBUS_NATS_{variable}"), value));
            }
            node
        };
        let nodes = addresses.iter().enumerate().map(node).collect();
        Ok((nodes, links))
    }

    fn new(place: &Place, name: &str, conf: &Path, passwords: &Passwords, store: &Path) -> Self {
        let (listen, monitor) = (free_address(), free_address());
        let mut env: Vec<_> = [
            ("NAME", quoted(name)),
            ("LISTEN", quoted(listen)),
            ("MONITOR_LISTEN", quoted(monitor)),
            ("STORE_DIR", quoted(store.display())),
        ]
        .map(|(variable, value)| (format!("VOICEBUS_NATS_{variable}"), value))
        .into();
        env.extend(passwords.variables());
        Self {
            name: name.to_owned(),
            listen,
            monitor,
            conf: conf.to_owned(),
            env,
            place: place.clone(),
            process: None,
        }
    }

    pub fn spawn(&mut self) -> anyhow::Result<()> {
        let args = ["-c".as_ref(), self.conf.as_os_str()];
        let program = &self.place.nats_server;
        let process = Process::start(&self.place, &self.name, program, args, &self.env)?;
        self.process = Some(process);
        Ok(())
    }

    pub async fn healthy(&mut self) -> anyhow::Result<()> {
        let monitor = self.monitor;
        let process = self.process.as_mut().context("it was not started")?;
        until("nats-server to be healthy", HEALTHY_WITHIN, async || {
            process.lives()?;
            get(monitor, "/healthz").await.map(drop)
        })
        .await
    }

    pub async fn start(&mut self) -> anyhow::Result<()> {
        self.spawn()?;
        self.healthy().await
    }

    /// Whether a client of this name is connected to it.
    pub async fn serves(&self, client: &str) -> anyhow::Result<bool> {
        let connections = get(self.monitor, "/connz").await?;
        let connections: serde_json::Value = serde_json::from_str(&connections)?;
        let all = connections["connections"].as_array();
        Ok(all.is_some_and(|all| all.iter().any(|one| one["name"] == client)))
    }

    /// The last number of each stream, as this node itself has it.
    pub async fn last_sequences(&self) -> anyhow::Result<BTreeMap<String, u64>> {
        let said = get(self.monitor, "/jsz?streams=1").await?;
        let said: serde_json::Value = serde_json::from_str(&said)?;
        let accounts = said["account_details"].as_array().into_iter().flatten();
        let streams = accounts.flat_map(|account| account["stream_detail"].as_array());
        let last = streams.flatten().filter_map(|stream| {
            let name = stream["name"].as_str()?.to_owned();
            Some((name, stream["state"]["last_seq"].as_u64()?))
        });
        Ok(last.collect())
    }

    pub async fn kill(&mut self) -> anyhow::Result<()> {
        self.process.take().context("it does not run")?.kill().await
    }

    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let process = self.process.as_ref().context("it does not run")?;
        process.signal(signal)
    }
}

fn nats_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("nats")
}

/// `nats/cluster.conf` but for one line: nodes tell each other of an address where nobody listens,
/// so that they connect over the links that they were given, and over nothing else.
fn cluster_conf(place: &Place) -> anyhow::Result<PathBuf> {
    let conf = std::fs::read_to_string(nats_folder().join("cluster.conf"))?;
    let cluster = "\ncluster {\n";
    anyhow::ensure!(conf.contains(cluster), "cluster.conf has no cluster");
    let changed = conf.replace(cluster, "\ncluster {\n  advertise: \"127.0.0.1:1\"\n");
    let path = place.folder.join("cluster.conf");
    std::fs::write(&path, changed)?;
    std::fs::copy(
        nats_folder().join("accounts.conf"),
        place.folder.join("accounts.conf"),
    )?;
    Ok(path)
}

fn quoted(text: impl std::fmt::Display) -> String {
    format!("\"{text}\"")
}
