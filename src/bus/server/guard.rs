//! The guard: a process between `voicebus up` and its nats-server.
//!
//! A process that is killed with SIGKILL cannot clean up after itself, and a
//! nats-server left behind keeps the port and the store. So `up` starts this very
//! executable again as a guard and keeps the write end of a pipe to it. The guard
//! starts nats-server, tells its process id, and waits: when the pipe closes, which
//! the kernel does however `up` ended, it stops nats-server and leaves.
//!
//! The guard is in a process group of its own, so that a Ctrl-C in the terminal
//! reaches `up` only, which then stops things in their order. If the guard itself is
//! killed, `up` sees that and stops the nats-server; if both are killed at once, the
//! next `up` on the same data directory does (see `orphan`).

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

/// The hidden first argument that makes the executable a guard.
pub(super) const COMMAND: &str = "__nats-guard";

/// Runs as the guard if the arguments of this process say so.
///
/// `main` calls this before it looks at its arguments or starts anything, and leaves
/// with the code if there is one.
pub fn run_if_asked() -> Option<ExitCode> {
    let mut args = std::env::args_os().skip(1);
    if args.next()? != COMMAND {
        return None;
    }
    Some(match run(args) {
        Ok(code) => code,
        Err(error) => {
            // There is no subscriber here; the other side reads this from a file. If
            // even that cannot be written, the exit code must do.
            writeln!(io::stderr(), "guard: {error}").ok();
            ExitCode::FAILURE
        }
    })
}

/// The path to start this executable again, also after an upgrade replaced the file.
pub(super) fn this_executable() -> PathBuf {
    if cfg!(target_os = "linux") {
        return PathBuf::from("/proc/self/exe");
    }
    std::env::current_exe().unwrap_or_else(|_| PathBuf::from("voicebus"))
}

fn run(mut args: impl Iterator<Item = OsString>) -> io::Result<ExitCode> {
    let usage = || io::Error::other("expected <grace in ms> <program> [argument]...");
    let grace_ms = args
        .next()
        .and_then(|text| text.to_str()?.parse().ok())
        .ok_or_else(usage)?;
    let program = args.next().ok_or_else(usage)?;
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(watch(Duration::from_millis(grace_ms), program, args))
}

async fn watch(
    grace: Duration,
    program: OsString,
    args: impl Iterator<Item = OsString>,
) -> io::Result<ExitCode> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    // A terminal that closes is no reason to stop: what counts is the pipe.
    let _hangup = signal(SignalKind::hangup())?;
    let parent_gone = watch_parent();

    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let pid = child
        .id()
        .ok_or_else(|| io::Error::other("nats-server has no process id"))?;
    let mut stdout = io::stdout();
    // A parent that is gone already cannot read this; the pipe tells below.
    writeln!(stdout, "{pid}").and_then(|()| stdout.flush()).ok();

    tokio::select! {
        status = child.wait() => {
            let status = status?;
            writeln!(io::stderr(), "guard: nats-server ended: {status}").ok();
            let code = status.code().and_then(|code| u8::try_from(code).ok());
            return Ok(code.map_or(ExitCode::FAILURE, ExitCode::from));
        }
        _ = parent_gone => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    stop(&mut child, pid, grace).await?;
    Ok(ExitCode::SUCCESS)
}

/// Resolves when the other end of standard input is closed. A thread, because a
/// blocking read is the one thing that works for every kind of standard input.
fn watch_parent() -> oneshot::Receiver<()> {
    let (gone, wait) = oneshot::channel();
    std::thread::spawn(move || {
        let mut byte = [0];
        while matches!(io::stdin().read(&mut byte), Ok(1)) {}
        gone.send(()).ok();
    });
    wait
}

async fn stop(child: &mut Child, pid: u32, grace: Duration) -> io::Result<()> {
    // The child is not reaped before `wait` returns, so that the id is still its own.
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        kill_process(pid, Signal::TERM)?;
    }
    match tokio::time::timeout(grace, child.wait()).await {
        Ok(status) => status.map(drop),
        Err(_) => child.kill().await,
    }
}
