//! A nats-server that an earlier run left behind.
//!
//! Two servers on one store destroy it, and nats-server itself does not notice. The
//! caller holds the lock of the data directory, so that any server that was started
//! with the configuration in it belongs to a run that is over: its guard is about to
//! stop it, or was killed as well. It is recognised by its command line, never by a
//! process id alone, which may be somebody else's by now.

use std::path::Path;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};
use tracing::{info, warn};

use super::{Error, guard};

/// How long the guard of an earlier run may take on its own before we help.
pub(super) const GUARD_PATIENCE: Duration = Duration::from_secs(3);
/// What SIGTERM and SIGKILL get, each, before the next step.
const STEP: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(50);

/// Returns when no server with this configuration runs. One that is still there after
/// `patience` is told to stop, and then made to.
///
/// # Errors
/// [`Error::StoreHeld`] when one of them will not go.
pub(super) async fn clear(conf: &Path, pid_file: &Path, patience: Duration) -> Result<(), Error> {
    if find(conf, pid_file).is_empty() {
        return Ok(());
    }
    info!("a nats-server without a guard of ours still holds the store; it has to stop first");
    for (signal, patience) in [
        (None, patience),
        (Some(Signal::TERM), STEP),
        (Some(Signal::KILL), STEP),
    ] {
        if let Some(signal) = signal {
            for pid in find(conf, pid_file) {
                warn!(pid = pid.as_raw_nonzero().get(), ?signal, "stopping it");
                match kill_process(pid, signal) {
                    Ok(()) | Err(Errno::SRCH) => {}
                    Err(_) => return Err(held(conf, pid)),
                }
            }
        }
        let deadline = tokio::time::Instant::now() + patience;
        while tokio::time::Instant::now() < deadline {
            if find(conf, pid_file).is_empty() {
                return Ok(());
            }
            tokio::time::sleep(POLL).await;
        }
    }
    match find(conf, pid_file).first() {
        Some(pid) => Err(held(conf, *pid)),
        None => Ok(()),
    }
}

fn held(conf: &Path, pid: Pid) -> Error {
    Error::StoreHeld {
        path: conf.parent().unwrap_or(conf).to_owned(),
        pid: pid.as_raw_nonzero().get().unsigned_abs(),
    }
}

/// Linux tells the command line of every process.
#[cfg(target_os = "linux")]
fn find(conf: &Path, _pid_file: &Path) -> Vec<Pid> {
    let Ok(processes) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    processes
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let arguments = std::fs::read(entry.path().join("cmdline")).ok()?;
            let arguments: Vec<&[u8]> = arguments.split(|byte| *byte == 0).collect();
            is_ours(&arguments, conf).then(|| Pid::from_raw(pid))?
        })
        .collect()
}

/// Elsewhere the file that the server wrote says which process to ask about.
#[cfg(not(target_os = "linux"))]
fn find(conf: &Path, pid_file: &Path) -> Vec<Pid> {
    let find = || {
        let text = std::fs::read_to_string(pid_file).ok()?;
        let pid: i32 = text.trim().parse().ok()?;
        let asked = std::process::Command::new("ps")
            .args(["-ww", "-o", "args=", "-p", &pid.to_string()])
            .output()
            .ok()?;
        // `ps` shows no borders between arguments; the configuration is the last one.
        let shown = String::from_utf8_lossy(&asked.stdout);
        let (program, last) = shown.trim_end().split_once(" -c ")?;
        let arguments = [program.as_bytes(), b"-c", last.as_bytes()];
        is_ours(&arguments, conf).then(|| Pid::from_raw(pid))?
    };
    find().into_iter().collect()
}

/// The guard has the same arguments behind its own, and is not meant.
fn is_ours(arguments: &[&[u8]], conf: &Path) -> bool {
    let conf = conf.as_os_str().as_encoded_bytes();
    arguments.contains(&conf) && !arguments.contains(&guard::COMMAND.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_server_with_the_same_configuration_is_ours() {
        let conf = Path::new("/d/nats/up.conf");
        let server: &[&[u8]] = &[b"/usr/bin/nats-server", b"-c", b"/d/nats/up.conf", b""];
        let other: &[&[u8]] = &[b"/usr/bin/nats-server", b"-c", b"/e/nats/up.conf", b""];
        let guard: &[&[u8]] = &[
            b"nats-guard",
            b"__nats-guard",
            b"9",
            b"-c",
            b"/d/nats/up.conf",
        ];
        assert!(is_ours(server, conf));
        assert!(!is_ours(other, conf));
        assert!(!is_ours(guard, conf));
        assert!(!is_ours(&[b""], conf));
    }
}
