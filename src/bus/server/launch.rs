//! Everything that stays the same from one run of the server to the next, and the way
//! from nothing to a healthy server.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use tracing::warn;

use super::credentials::{Credentials, User};
use super::data_dir::{DataDir, quoted};
use super::process::{Process, Start};
use super::watch::{self, Complaint, Watch};
use super::{Error, ServerConfig, Version, orphan};

const POLL: Duration = Duration::from_millis(25);

#[derive(Debug)]
pub(super) struct Launch {
    config: ServerConfig,
    dir: DataDir,
    credentials: Credentials,
    /// For a server that is there before we start one: its guard may be busy stopping
    /// it. Ours has ended by then, and does nothing any more.
    patience: Duration,
}

impl Launch {
    /// Takes the data directory and writes what the server needs into it.
    pub fn prepare(config: ServerConfig) -> Result<Self, Error> {
        let dir = DataDir::open(&config.data_dir)?;
        let credentials = Credentials::load_or_generate(dir.root())?;
        dir.write_conf()?;
        Ok(Self {
            config,
            dir,
            credentials,
            patience: orphan::GUARD_PATIENCE,
        })
    }

    pub fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    pub fn version(&self) -> Version {
        self.config.binary.version
    }

    /// For clients, and for monitoring; meaningful after the first start.
    pub fn urls(&self) -> (String, String) {
        let listen = reachable(self.config.listen);
        let monitor = reachable(self.config.monitor);
        (format!("nats://{listen}"), format!("http://{monitor}"))
    }

    /// Where its monitoring pages are; meaningful after the first start.
    pub fn monitor(&self) -> SocketAddr {
        reachable(self.config.monitor)
    }

    /// Watches over what is started from here.
    pub fn watch(&self, complaint: tokio::sync::watch::Receiver<Complaint>) -> Watch {
        Watch::new(self.dir.store(), complaint, self.config.unwell_patience)
    }

    /// Starts the server and waits until it is healthy. The first start chooses the
    /// free ports that all later ones use.
    pub async fn start(&mut self) -> Result<Process, Error> {
        orphan::clear(&self.dir.conf(), &self.dir.pid_file(), self.patience).await?;
        self.patience = Duration::ZERO;
        self.dir.clear_traces()?;
        let mut process = Process::spawn(Start {
            guard: &self.config.guard,
            program: &self.config.binary.path,
            conf: self.dir.conf(),
            stderr: self.dir.stderr(),
            variables: self.variables(),
            stop_grace: self.config.stop_grace,
        })
        .await?;
        let pid = process.pid();
        let outcome = tokio::select! {
            outcome = tokio::time::timeout(self.config.ready_timeout, self.ready(pid)) => outcome,
            reason = process.ended() => {
                let log = self.dir.log_tail();
                return Err(Error::EndedEarly { reason, log });
            }
        };
        match outcome {
            Ok((listen, monitor)) => {
                self.config.listen.set_port(listen);
                self.config.monitor.set_port(monitor);
                Ok(process)
            }
            Err(_) => {
                process.stop().await;
                Err(Error::NotReady {
                    seconds: self.config.ready_timeout.as_secs(),
                    log: self.dir.log_tail(),
                })
            }
        }
    }

    /// After a stop: nothing may be left, and there is nobody to tell but the log.
    pub async fn clear_orphans_quietly(&self) {
        let patience = orphan::GUARD_PATIENCE;
        if let Err(error) = orphan::clear(&self.dir.conf(), &self.dir.pid_file(), patience).await {
            warn!(%error, "nats-server may still run");
        }
    }

    fn variables(&self) -> Vec<(&'static str, OsString)> {
        let mut variables: Vec<(&'static str, OsString)> = vec![
            (
                "VOICEBUS_NATS_NAME",
                format!("{:?}", self.config.name).into(),
            ),
            ("VOICEBUS_NATS_LISTEN", address(self.config.listen).into()),
            (
                "VOICEBUS_NATS_MONITOR_LISTEN",
                address(self.config.monitor).into(),
            ),
            ("VOICEBUS_NATS_STORE_DIR", quoted(self.dir.store()).into()),
        ];
        variables.extend(User::ALL.map(|user| {
            let password = self.credentials.password(user).reveal();
            (user.password_variable(), password.into())
        }));
        variables
    }

    /// Waits for the ports, then for the health of the server, without an end.
    async fn ready(&self, pid: u32) -> (u16, u16) {
        let ports = loop {
            if let Some(ports) = self.dir.ports_file(pid).and_then(|path| read_ports(&path)) {
                break ports;
            }
            tokio::time::sleep(POLL).await;
        };
        let mut monitor = reachable(self.config.monitor);
        monitor.set_port(ports.1);
        while watch::health(monitor).await.is_err() {
            tokio::time::sleep(POLL).await;
        }
        ports
    }
}

/// For the configuration of nats-server, which says -1 for any free port.
fn address(address: SocketAddr) -> String {
    match (address, address.port()) {
        (SocketAddr::V4(v4), 0) => format!("\"{}:-1\"", v4.ip()),
        (SocketAddr::V6(v6), 0) => format!("\"[{}]:-1\"", v6.ip()),
        _ => format!("\"{address}\""),
    }
}

/// Where this machine reaches a socket that listens on every interface.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

/// What the server writes into its ports file: a list of addresses for each door.
#[derive(Deserialize)]
struct Ports {
    nats: Vec<String>,
    monitoring: Vec<String>,
}

/// `None` as long as the file is not complete.
fn read_ports(path: &Path) -> Option<(u16, u16)> {
    let ports: Ports = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
    let port = |urls: Vec<String>| urls.first()?.rsplit_once(':')?.1.parse().ok();
    Some((port(ports.nats)?, port(ports.monitoring)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_zero_is_written_as_the_server_wants_it() {
        let of = |text: &str| address(text.parse().unwrap());
        assert_eq!(of("127.0.0.1:0"), "\"127.0.0.1:-1\"");
        assert_eq!(of("127.0.0.1:4222"), "\"127.0.0.1:4222\"");
        assert_eq!(of("[::1]:0"), "\"[::1]:-1\"");
    }

    #[test]
    fn a_socket_on_all_interfaces_is_reached_over_loopback() {
        let of = |text: &str| reachable(text.parse().unwrap()).to_string();
        assert_eq!(of("0.0.0.0:4222"), "127.0.0.1:4222");
        assert_eq!(of("[::]:4222"), "[::1]:4222");
        assert_eq!(of("10.1.2.3:4222"), "10.1.2.3:4222");
    }

    #[test]
    fn half_a_ports_file_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("nats-server_7.ports");
        let whole =
            r#"{"nats":["nats://127.0.0.1:35359"],"monitoring":["http://127.0.0.1:36073"]}"#;
        std::fs::write(&path, &whole[..40]).unwrap();
        assert_eq!(read_ports(&path), None);
        std::fs::write(&path, whole).unwrap();
        assert_eq!(read_ports(&path), Some((35359, 36073)));
    }
}
