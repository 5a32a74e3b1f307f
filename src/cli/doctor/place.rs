//! What runs here, and whether NATS lets us in.

use super::Check;
use crate::bus::Connection;
use crate::bus::version::{MINIMUM, Version};
use crate::cli::target::{Error, Running, Target, is_alive};

/// The voicebus of the data directory, when that is where NATS is looked for.
pub(super) fn running(target: &Target, checks: &mut Vec<Check>) -> Option<Running> {
    const NAME: &str = "voicebus";
    if target.nats.nats_url.is_some() {
        return None;
    }
    let dir = target.data_dir.display();
    match target.running() {
        Err(error) => {
            let advice = "stop voicebus, remove the file, and start it again";
            checks.push(Check::wrong(NAME, error.to_string(), advice));
            None
        }
        // Whoever looks for NATS next says so, and what to do.
        Ok(None) => None,
        Ok(Some(running)) => {
            let version = running.version.as_deref().unwrap_or("unknown");
            let pid = running.pid;
            checks.push(if is_alive(pid) {
                Check::fine(
                    NAME,
                    format!("version {version} is process {pid}, data in {dir}"),
                )
            } else {
                Check::note(
                    NAME,
                    format!("process {pid} is not on this machine, data in {dir}"),
                    "well if it runs in a container; else start it with `voicebus up`",
                )
            });
            if let Some(pid) = running.nats_pid.filter(|pid| !is_alive(*pid))
                && is_alive(running.pid)
            {
                let found = format!("process {pid} is gone");
                let advice = "voicebus starts it again within seconds; if not, see its log in the data directory";
                checks.push(Check::note("nats-server", found, advice));
            }
            Some(running)
        }
    }
}

/// Connects as whoever may ask most.
pub(super) async fn nats(target: &Target, checks: &mut Vec<Check>) -> Option<Connection> {
    const NAME: &str = "NATS";
    let connected = match target.agent().await {
        // The passwords may be readable for somebody else only.
        Err(Error::File { .. }) => target.observer().await,
        connected => connected,
    };
    let connection = match connected {
        Ok(connection) => connection,
        Err(error) => {
            let advice = match error {
                Error::NotRunning { .. } | Error::Gone { .. } => "nothing else was looked at",
                Error::File { .. }
                | Error::NoPassword { .. }
                | Error::Usage(_)
                | Error::Connect(_) => "nothing behind NATS was looked at",
            };
            checks.push(Check::wrong(NAME, error.to_string(), advice));
            return None;
        }
    };
    let info = connection.client().server_info();
    let version = info.version;
    let floor = MINIMUM;
    checks.push(match Version::parse(&version) {
        Some(known) if known >= floor && info.jetstream => {
            Check::fine(NAME, format!("nats-server {version} with JetStream"))
        }
        Some(known) if known >= floor => Check::wrong(
            NAME,
            format!("nats-server {version} without JetStream"),
            "switch it on: `jetstream { store_dir: … }` in its configuration",
        ),
        Some(_) | None => Check::wrong(
            NAME,
            format!("nats-server {version}"),
            format!("voicebus needs {floor} or later"),
        ),
    });
    Some(connection)
}
