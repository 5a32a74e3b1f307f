//! Named tasks with one fate: the first that fails stops them all, a stop signal stops them in
//! order, a second one leaves at once.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

/// The tasks of a process.
pub struct Supervisor {
    stop: CancellationToken,
    tasks: JoinSet<(String, anyhow::Result<()>)>,
}

impl Supervisor {
    /// No tasks yet; `stop` tells them to leave.
    #[must_use]
    pub fn new(stop: CancellationToken) -> Self {
        Self {
            stop,
            tasks: JoinSet::new(),
        }
    }

    /// Tells when to leave.
    #[must_use]
    pub fn stop_token(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Starts a task without which the process makes no sense: its failure, panic or early end
    /// stops everything.
    pub fn critical(
        &mut self,
        name: impl Into<String>,
        task: impl Future<Output = anyhow::Result<()>> + Send + 'static,
    ) {
        let name = name.into();
        self.tasks.spawn(async move {
            let result = task.await;
            (name, result)
        });
    }

    /// Waits until the stop token is cancelled or a task fails, then for the rest to leave, at
    /// most `grace`.
    ///
    /// # Errors
    /// The first failure of a task, or that some did not leave in time.
    pub async fn run(mut self, grace: Duration) -> anyhow::Result<()> {
        let mut failure = None;
        tokio::select! {
            () = self.stop.cancelled() => {}
            ended = self.tasks.join_next() => {
                failure = ended.and_then(|ended| ended_early(ended, &self.stop));
                self.stop.cancel();
            }
        }
        let rest = tokio::time::timeout(grace, async {
            while let Some(ended) = self.tasks.join_next().await {
                if let Some(error) = ended_early(ended, &self.stop) {
                    failure.get_or_insert(error);
                }
            }
        });
        if rest.await.is_err() {
            warn!(
                left = self.tasks.len(),
                "some tasks did not leave within the grace period"
            );
            failure.get_or_insert_with(|| {
                anyhow::anyhow!("some tasks did not leave within {grace:?}")
            });
        }
        failure.map_or(Ok(()), Err)
    }
}

fn ended_early(
    ended: Result<(String, anyhow::Result<()>), tokio::task::JoinError>,
    stop: &CancellationToken,
) -> Option<anyhow::Error> {
    let error = match ended {
        Ok((_, Ok(()))) if stop.is_cancelled() => return None,
        Ok((name, Ok(()))) => anyhow::anyhow!("task `{name}` ended although nobody stopped it"),
        Ok((name, Err(error))) => error.context(format!("task `{name}` failed")),
        Err(join) => anyhow::anyhow!("a task died: {join}"),
    };
    error!(error = format!("{error:#}"), "stopping");
    Some(error)
}

/// What must not outlive the process.
static LEFT_BEHIND: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// Removes a file also when the process leaves at once. Whoever leaves in order removes it itself.
pub fn remove_when_leaving_at_once(path: PathBuf) {
    let mut left = LEFT_BEHIND.lock().unwrap_or_else(PoisonError::into_inner);
    left.push(path);
}

/// Cancels `stop` at the first SIGINT or SIGTERM, and leaves the process at the second.
pub fn stop_on_signals(stop: CancellationToken) {
    tokio::spawn(async move {
        wait_for_signal().await;
        info!("stopping; once more to leave at once");
        stop.cancel();
        wait_for_signal().await;
        warn!("leaving at once");
        let left = LEFT_BEHIND.lock().unwrap_or_else(PoisonError::into_inner);
        for path in left.iter() {
            if let Err(error) = std::fs::remove_file(path) {
                debug!(%error, path = %path.display(), "not removed");
            }
        }
        std::process::exit(1);
    });
}

async fn wait_for_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) = (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
    ) else {
        error!("cannot listen for signals; stop the process with SIGKILL");
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
