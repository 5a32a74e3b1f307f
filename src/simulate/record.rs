//! `--record`: what really happened, one JSON line each, for a test to compare with.
//!
//! Two kinds of lines. Both are appended, never rewritten, each by one write to the file:
//!
//! ```text
//! {"kind":"event","call_id":…,"event_type":…,"timestamp":…,"body":{…},"status":200,"at":…}   accepted with 2xx
//! {"kind":"dial","to":…,"caller_id":…,"message":…,"call_id":…,"intent_id":…,"at":…}           POST /call asked for
//! ```
//!
//! `to`, `caller_id` and `message` of a dial are as they came, null where the body could not be read.
//! A dial is written and on the disk *before* it is answered, so no client knows of a call which is not in the
//! file; `call_id` is null when nothing was dialled, and set when the callee's phone would have rung, whatever the
//! client was told. An event is written right after its 2xx has been read, and is on the disk about 100 ms later.
//! Since every line goes to the kernel at once, a SIGKILL of the simulator can lose at most events whose
//! answer it had not yet processed: the file never claims more than was accepted.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;
use serde_json::value::RawValue;
use tokio_util::sync::CancellationToken;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("failed to open the record `{}`", path.display())]
    Open {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("failed to write to the record `{}`", path.display())]
    Write {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("failed to put a body into the record")]
    Body(#[source] serde_json::Error),
}

/// An event that was accepted.
#[derive(Debug, Clone, Copy)]
pub struct AcceptedEvent<'a> {
    pub call_id: &'a str,
    pub event_type: &'a str,
    pub timestamp: &'a str,
    pub body: &'a [u8],
    pub status: u16,
    pub at: DateTime<Utc>,
}

/// A dial that was asked for.
#[derive(Debug, Clone, Copy)]
pub struct RequestedDial<'a> {
    pub to: Option<&'a str>,
    pub caller_id: Option<&'a str>,
    pub message: Option<&'a str>,
    pub call_id: Option<&'a str>,
    pub intent_id: Option<&'a str>,
    pub at: DateTime<Utc>,
}

/// The file. Clones write to the same one.
#[derive(Debug, Clone)]
pub struct Recorder {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    // The lock keeps lines whole; syncing goes past it, so that a slow disk delays no event.
    lines: Mutex<()>,
    file: File,
    unsynced: AtomicBool,
}

impl Recorder {
    /// Opens the file for appending and creates it if it is not there.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .map_err(|source| Error::Open {
                path: path.to_owned(),
                source,
            })?;
        let inner = Inner {
            path: path.to_owned(),
            lines: Mutex::new(()),
            file,
            unsynced: AtomicBool::new(false),
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Writes an event. It is on the disk after the next [`Recorder::sync`].
    pub fn event(&self, event: AcceptedEvent<'_>) -> Result<(), Error> {
        let body: &RawValue = serde_json::from_slice(event.body).map_err(Error::Body)?;
        self.append(&Line::Event {
            call_id: event.call_id,
            event_type: event.event_type,
            timestamp: event.timestamp,
            body,
            status: event.status,
            at: zoned(event.at),
        })
    }

    /// Writes a dial; it is on the disk when this returns. Blocking: see [`Recorder::sync`].
    pub fn dial(&self, dial: RequestedDial<'_>) -> Result<(), Error> {
        self.append(&Line::Dial {
            to: dial.to,
            caller_id: dial.caller_id,
            message: dial.message,
            call_id: dial.call_id,
            intent_id: dial.intent_id,
            at: zoned(dial.at),
        })?;
        // Unconditional: another thread's sync may be under way and have cleared the mark without being done.
        self.inner
            .file
            .sync_data()
            .map_err(|source| self.failed(source))
    }

    /// Puts everything written so far on the disk. Blocks for as long as the disk takes: not for an async task.
    pub fn sync(&self) -> Result<(), Error> {
        if !self.inner.unsynced.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        self.inner.file.sync_data().map_err(|source| {
            self.inner.unsynced.store(true, Ordering::Release);
            self.failed(source)
        })
    }

    /// Syncs every 100 ms until stopped, and once more then.
    pub async fn keep_synced(self, stop: CancellationToken) -> Result<(), Error> {
        loop {
            let stopped = stop
                .run_until_cancelled(tokio::time::sleep(SYNC_INTERVAL))
                .await
                .is_none();
            let recorder = self.clone();
            // A join error means that the runtime is going down or that `sync` panicked; either way there is no file
            // left to speak of, and the panic has been reported already.
            tokio::task::spawn_blocking(move || recorder.sync())
                .await
                .unwrap_or(Ok(()))?;
            if stopped {
                return Ok(());
            }
        }
    }

    fn append(&self, line: &Line<'_>) -> Result<(), Error> {
        let mut text = serde_json::to_vec(line).map_err(Error::Body)?;
        text.push(b'\n');
        {
            let _whole = self
                .inner
                .lines
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            (&self.inner.file)
                .write_all(&text)
                .map_err(|source| self.failed(source))?;
        }
        self.inner.unsynced.store(true, Ordering::Release);
        Ok(())
    }

    fn failed(&self, source: std::io::Error) -> Error {
        Error::Write {
            path: self.inner.path.clone(),
            source,
        }
    }
}

/// Short enough that a power cut costs little, long enough that the disk is not the pace of the run.
const SYNC_INTERVAL: Duration = Duration::from_millis(100);

fn zoned(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Micros, true)
}

#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Line<'a> {
    Event {
        call_id: &'a str,
        event_type: &'a str,
        timestamp: &'a str,
        body: &'a RawValue,
        status: u16,
        at: String,
    },
    Dial {
        to: Option<&'a str>,
        caller_id: Option<&'a str>,
        message: Option<&'a str>,
        call_id: Option<&'a str>,
        intent_id: Option<&'a str>,
        at: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_appended_in_the_documented_form() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("record.jsonl");
        let at = "2026-11-22T12:32:16.172805Z".parse().unwrap();
        for _ in 0..2 {
            let recorder = Recorder::open(&path).unwrap();
            let body = br#"{"callId":"rtc_1","data":{}}"#;
            let (call_id, event_type, timestamp) =
                ("rtc_1", "call_started", "2026-11-22T12:32:16.172805");
            recorder
                .event(AcceptedEvent {
                    call_id,
                    event_type,
                    timestamp,
                    body,
                    status: 200,
                    at,
                })
                .unwrap();
            let to = Some("+12015550123");
            let dial = RequestedDial {
                to,
                caller_id: None,
                message: None,
                call_id: None,
                intent_id: Some("i-1"),
                at,
            };
            recorder.dial(dial).unwrap();
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4);
        assert_eq!(lines[0], lines[2]);
        assert_eq!(
            lines[0],
            r#"{"kind":"event","call_id":"rtc_1","event_type":"call_started","timestamp":"2026-11-22T12:32:16.172805","body":{"callId":"rtc_1","data":{}},"status":200,"at":"2026-11-22T12:32:16.172805Z"}"#
        );
        assert_eq!(
            lines[1],
            r#"{"kind":"dial","to":"+12015550123","caller_id":null,"message":null,"call_id":null,"intent_id":"i-1","at":"2026-11-22T12:32:16.172805Z"}"#
        );
    }

    #[test]
    fn a_folder_is_not_a_record() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(
            Recorder::open(folder.path()),
            Err(Error::Open { .. })
        ));
    }
}
