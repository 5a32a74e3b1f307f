//! What comes in, and waits for its answer.

use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Fuse};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::{Answer, Error};
use crate::bus::batch::BATCH_MAX;
use crate::ingress::spool::Entry;

/// How long after the stop signal requests may still come to an end: HTTP gives them 5 s.
const LEAVE_PATIENCE: Duration = Duration::from_secs(7);

/// An event on its way to the committer.
pub(super) struct Job {
    pub entry: Entry,
    pub reply: oneshot::Sender<Result<Answer, Error>>,
    pub room: OwnedSemaphorePermit,
}

/// Where events come in.
pub(super) struct Inbox {
    jobs: mpsc::Receiver<Job>,
    leave: Fuse<BoxFuture<'static, ()>>,
}

impl Inbox {
    pub fn new(jobs: mpsc::Receiver<Job>, stop: CancellationToken) -> Self {
        let leave = async move {
            stop.cancelled().await;
            tokio::time::sleep(LEAVE_PATIENCE).await;
        };
        Self {
            jobs,
            leave: leave.boxed().fuse(),
        }
    }

    /// Waits for events; none come any more when it returns false.
    pub async fn wait(&mut self, waiting: &mut Waiting) -> bool {
        let mut jobs = Vec::new();
        loop {
            tokio::select! {
                count = self.jobs.recv_many(&mut jobs, BATCH_MAX) => {
                    waiting.extend(jobs);
                    return count > 0;
                }
                () = &mut self.leave => self.jobs.close(),
            }
        }
    }

    /// Waits until so many events are there, or for so long.
    pub async fn gather(&mut self, waiting: &mut Waiting, wanted: usize, patience: Duration) {
        let wanted = wanted.min(BATCH_MAX);
        let mut jobs = Vec::new();
        let came = async {
            loop {
                let missing = wanted.saturating_sub(waiting.entries.len() + jobs.len());
                if missing == 0 || self.jobs.recv_many(&mut jobs, missing).await == 0 {
                    return;
                }
            }
        };
        // Either way what came is in the list.
        tokio::time::timeout(patience, came).await.ok();
        waiting.extend(jobs);
    }

    pub fn top_up(&mut self, waiting: &mut Waiting) {
        while waiting.entries.len() < BATCH_MAX
            && let Ok(job) = self.jobs.try_recv()
        {
            waiting.extend([job]);
        }
    }
}

/// What came in and is not answered; the two lists belong together.
#[derive(Default)]
pub(super) struct Waiting {
    pub entries: Vec<Entry>,
    replies: Vec<Reply>,
}

/// The answer, and the room that the event took while it waited.
pub(super) struct Reply(
    oneshot::Sender<Result<Answer, Error>>,
    #[expect(dead_code, reason = "given back when it is dropped")] OwnedSemaphorePermit,
);

impl Reply {
    /// A sender that did not wait for the answer will come again.
    pub fn send(self, answer: Result<Answer, Error>) {
        self.0.send(answer).ok();
    }
}

impl Waiting {
    fn extend(&mut self, jobs: impl IntoIterator<Item = Job>) {
        for Job { entry, reply, room } in jobs {
            self.entries.push(entry);
            self.replies.push(Reply(reply, room));
        }
    }

    pub fn first(&mut self, count: usize) -> impl Iterator<Item = (Entry, Reply)> {
        let count = count.min(self.entries.len());
        let entries: Vec<Entry> = self.entries.drain(..count).collect();
        let replies: Vec<Reply> = self.replies.drain(..count).collect();
        entries.into_iter().zip(replies)
    }
}
