//! Resident memory: each role is a process of its own, started as in production.

use std::net::{SocketAddr, TcpListener};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::process::{Child, Command};

use super::Plan;
use super::http::Connection;
use super::report::{Megabytes, Row, Rows};
use super::router::open_calls;
use super::site::{Folder, Site, events_stored, wait_until};
use crate::bus::server::User;
use crate::simulate::stand_in::{StandIn, StandInConfig};

/// The beginning and three utterances.
const EVENTS_PER_CALL: usize = 4;
/// Time for what is under way to be put down.
const REST: Duration = Duration::from_secs(1);
const ROLES: [User; 3] = [User::Ingress, User::Router, User::Egress];
/// Whose memory is read: the roles in order, and the server that they share.
pub(super) const NAMES: [&str; 4] = ["ingress", "router", "egress", "nats-server (apart)"];

pub(super) async fn measure(
    plan: &Plan,
    folder: &Folder,
    progress: &(impl Fn(&str) + Sync),
) -> anyhow::Result<Rows> {
    if resident(std::process::id()).is_err() {
        progress("memory: left out, because this system has no /proc");
        return Ok(Rows::default());
    }
    let site = Site::start(folder, "memory").await?;
    let voice_server = StandIn::start(StandInConfig::default()).await?;
    let measured = measure_on(plan, &site, &voice_server.url(), progress).await;
    voice_server.stop().await;
    site.stop().await?;
    measured
}

async fn measure_on(
    plan: &Plan,
    site: &Site,
    voice_server: &str,
    progress: &(impl Fn(&str) + Sync),
) -> anyhow::Result<Rows> {
    progress(&format!("memory: {} open calls", plan.open_calls));
    let processes = Processes::start(site, voice_server).await?;
    tokio::time::sleep(REST).await;
    let before = processes.read()?;

    let accepted = open_calls(processes.ingress, "open", plan.open_calls, EVENTS_PER_CALL).await?;
    let reader = site.bus(User::Router).await?;
    wait_until("every event of the open calls is there", async || {
        Ok((events_stored(&reader).await? >= accepted).then_some(()))
    })
    .await?;
    tokio::time::sleep(REST).await;
    let after = processes.read()?;
    let stored = events_stored(&reader).await?;
    processes.stop().await?;

    let row = |what: &str, before: f64, after: Resident| {
        Row::new(what.to_owned()).megabytes(Megabytes {
            before,
            now: after.now,
            peak: after.peak,
        })
    };
    let mut rows: Vec<Row> = NAMES
        .iter()
        .zip(before.iter().zip(&after))
        .map(|(name, (before, after))| row(name, before.now, *after))
        .collect();
    let sum = |all: &[Resident], part: fn(&Resident) -> f64| -> f64 {
        all.iter().take(ROLES.len()).map(part).sum()
    };
    let all = Resident {
        now: sum(&after, |resident| resident.now),
        peak: sum(&after, |resident| resident.peak),
    };
    let what = format!("the three roles, {} open calls", plan.open_calls);
    let all = row(&what, sum(&before, |resident| resident.now), all);
    rows.insert(ROLES.len(), all.target("under 100 MB"));
    Ok(Rows {
        all: rows,
        lost: 0,
        doubled: stored.saturating_sub(accepted),
    })
}

/// The roles, each in a process of its own, on a server.
pub(super) struct Processes {
    all: Vec<Process>,
    nats: u32,
    /// Where the ingress listens.
    pub ingress: SocketAddr,
}

impl Processes {
    /// Starts them and waits until they are ready.
    pub async fn start(site: &Site, voice_server: &str) -> anyhow::Result<Self> {
        let mut all = Vec::new();
        for role in ROLES {
            all.push(Process::start(site, role, voice_server).await?);
        }
        Ok(Self {
            ingress: all.first().context("there is an ingress")?.address,
            nats: site.pid().context("the nats-server is gone")?,
            all,
        })
    }

    /// The memory of each, in the order of [`NAMES`].
    pub fn read(&self) -> anyhow::Result<Vec<Resident>> {
        let roles = self.all.iter().map(|process| process.pid);
        roles.chain([self.nats]).map(resident).collect()
    }

    /// Stops the roles in order.
    pub async fn stop(self) -> anyhow::Result<()> {
        for process in self.all {
            process.stop().await?;
        }
        Ok(())
    }
}

/// A role in a process of its own.
struct Process {
    child: Child,
    pid: u32,
    address: SocketAddr,
}

impl Process {
    async fn start(site: &Site, role: User, voice_server: &str) -> anyhow::Result<Self> {
        let address = free_address()?;
        let log = std::fs::File::create(site.dir().join(format!("{}.log", role.name())))?;
        // One sender brings all the load.
        let config = site.dir().join("no-limits.toml");
        let limits = "[http]\nrate_per_address = \"off\"\nrate_per_sender = \"off\"\n";
        std::fs::write(&config, limits)?;
        let mut command = Command::new(std::env::current_exe()?);
        // Nothing of this process's own settings is meant for the measured one.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("VOICEBUS_") {
                command.env_remove(name);
            }
        }
        let mut child = command
            .arg(role.name())
            .arg("--config")
            .arg(config)
            .args(["--nats-url", site.url()])
            .args(["--listen", &address.to_string()])
            .args(["--voice-server", voice_server])
            .env("VOICEBUS_NATS_PASSWORD", site.password(role))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start the {}", role.name()))?;
        wait_until("the role is ready", async || {
            if let Some(status) = child.try_wait()? {
                bail!("the {} left early: {status}", role.name());
            }
            Ok(is_ready(address).await.then_some(()))
        })
        .await?;
        let pid = child.id().context("the process is gone")?;
        Ok(Self {
            child,
            pid,
            address,
        })
    }

    async fn stop(mut self) -> anyhow::Result<()> {
        let pid = i32::try_from(self.pid).ok();
        let pid = pid.and_then(rustix::process::Pid::from_raw);
        let pid = pid.context("the process is gone")?;
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        let status = self.child.wait().await?;
        if !status.success() {
            bail!("a role ended badly: {status}");
        }
        Ok(())
    }
}

async fn is_ready(address: SocketAddr) -> bool {
    let Ok(mut connection) = Connection::open(address).await else {
        return false;
    };
    let request = b"GET /ready HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";
    let answer = connection.ask(request).await;
    answer.is_ok_and(|answer| answer.status == 200)
}

/// A port that was free a moment ago.
fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// In MB of 1,000,000 bytes.
#[derive(Clone, Copy)]
pub(super) struct Resident {
    pub now: f64,
    pub peak: f64,
}

fn resident(pid: u32) -> anyhow::Result<Resident> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    Ok(Resident {
        now: megabytes(&status, "VmRSS:")?,
        peak: megabytes(&status, "VmHWM:")?,
    })
}

fn megabytes(status: &str, name: &str) -> anyhow::Result<f64> {
    let kibibytes: Option<f64> = status
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    Ok(kibibytes.with_context(|| format!("there is no {name}"))? * 1.024e-3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kibibytes_become_megabytes() {
        let status = "Name:\tx\nVmHWM:\t   20000 kB\nVmRSS:\t   10000 kB\n";
        assert!((megabytes(status, "VmRSS:").unwrap() - 10.24).abs() < 1e-9);
        assert!((megabytes(status, "VmHWM:").unwrap() - 20.48).abs() < 1e-9);
        assert!(megabytes(status, "VmSwap:").is_err());
    }
}
