//! How far the records had come when the last dial left, kept outside NATS.
//!
//! The records are what keeps a phone from being dialled twice. If their stream comes back older
//! than it was, from a backup or a lost disk, dials that were sent look as if they were not. So
//! before a dial leaves, the place of its record is flushed into a small file; a stream that is
//! behind it, or another one, means **safe mode**: nothing is dialled until a person says so.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::intent::Intents;
use crate::bus::bucket::Place;
use crate::bus::trouble::Trouble;
use crate::bus::{Bus, subjects};
use crate::domain::Timestamp;

const FILE: &str = "high-water.json";
const LOCK: &str = "lock";
/// Before records count as lost. A leader that was replaced while it stood still finds that out
/// within a second or two.
const SECOND_LOOK_AFTER: Duration = Duration::from_secs(3);

/// Why the mark cannot be kept.
#[derive(Debug, Error)]
pub enum Error {
    /// The folder or the file cannot be used.
    #[error("egress cannot use {path}")]
    Io {
        /// What was used.
        path: PathBuf,
        /// Why it cannot be.
        source: std::io::Error,
    },
    /// Another egress uses the folder.
    #[error("another egress uses {path}; give each one a folder of its own")]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// The file is not one that egress has written.
    #[error("{path} cannot be read; if the records in NATS are whole, remove it and start again")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
}

/// The mark; clones are the same one.
#[derive(Clone)]
pub(super) struct HighWater {
    shared: Arc<Shared>,
}

struct Shared {
    dir: Option<Dir>,
    state: Mutex<State>,
    /// What the file says, as far as this process has written it.
    written: Mutex<Option<State>>,
}

struct Dir {
    path: PathBuf,
    /// Held for as long as the process lives.
    _lock: File,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    mark: Option<Mark>,
    safe: Option<Safe>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Mark {
    intents: Water,
    commands: Water,
}

/// A place in a stream, as the file has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Water {
    created: i128,
    last: u64,
}

/// Safe mode, and what has to change for it to end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Safe {
    why: String,
    /// The last time when a person let dialling go on before it began.
    resumed_before: Option<Timestamp>,
}

impl HighWater {
    /// Opens the mark in a folder, or none.
    ///
    /// # Errors
    /// When the folder cannot be used, another egress uses it, or its file cannot be read.
    pub fn open(dir: Option<&Path>) -> Result<Self, Error> {
        let (dir, state) = match dir {
            None => (None, State::default()),
            Some(path) => {
                let io = |source| Error::Io {
                    path: path.to_owned(),
                    source,
                };
                std::fs::create_dir_all(path).map_err(io)?;
                let lock = File::create(path.join(LOCK)).map_err(io)?;
                flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
                    Error::InUse {
                        path: path.to_owned(),
                    }
                })?;
                let state = read(&path.join(FILE))?;
                let dir = Dir {
                    path: path.to_owned(),
                    _lock: lock,
                };
                (Some(dir), state)
            }
        };
        let state = Mutex::new(state);
        Ok(Self {
            shared: Arc::new(Shared {
                dir,
                state,
                written: Mutex::default(),
            }),
        })
    }

    /// Whether there is a mark at all.
    pub fn is_kept(&self) -> bool {
        self.shared.dir.is_some()
    }

    /// Why nothing is dialled, in safe mode.
    pub fn safe_mode(&self) -> Option<String> {
        self.state().safe.as_ref().map(|safe| safe.why.clone())
    }

    /// The number that the record of a dial must be above, as of now.
    pub fn floor(&self) -> u64 {
        self.state().mark.map_or(0, |mark| mark.intents.last)
    }

    /// Flushes the place of a dial's record, and of its command, to the disk. Blocks for as long as
    /// the disk takes.
    ///
    /// # Errors
    /// When it cannot, and then nothing may be sent.
    pub fn raise(&self, intent: u64, command: u64) -> Result<(), Error> {
        self.change(|state| {
            if let Some(mark) = &mut state.mark {
                mark.intents.last = mark.intents.last.max(intent);
                mark.commands.last = mark.commands.last.max(command);
            }
        })
    }

    /// A record was written below the mark: its stream is not the one that the mark was made of.
    pub fn fell_back(&self, resumed_before: Option<Timestamp>) {
        self.enter(
            "a record was written before the place of an earlier one",
            resumed_before,
        );
    }

    /// Holds the streams against the mark; enters safe mode when one is older or another, leaves it
    /// when a person has said so since.
    pub async fn check(&self, bus: &Bus, intents: &Intents) -> Result<(), Trouble> {
        // What was raised while the streams are asked is not to be found in their answers.
        let mark = self.state().mark;
        let mut found = Mark::look(bus, intents).await?;
        if mark.is_some_and(|mark| mark.is_ahead_of(&found).is_some()) {
            // A leader that wakes from a freeze tells of old times until it learns that it leads no
            // longer. A dial that left meanwhile is caught by the number of its own record.
            tokio::time::sleep(SECOND_LOOK_AFTER).await;
            found = Mark::look(bus, intents).await?;
        }
        let resumed = intents.resumed().await?;
        self.hold_against(mark, found, resumed);
        Ok(())
    }

    /// `mark` is what must be found.
    fn hold_against(&self, mark: Option<Mark>, found: Mark, resumed: Option<Timestamp>) {
        let state = self.state().clone();
        if let Some(safe) = &state.safe {
            if resumed > safe.resumed_before {
                tracing::warn!("a person lets dialling go on");
                self.keep(|state| {
                    *state = State {
                        mark: Some(found),
                        safe: None,
                    };
                });
            }
            return;
        }
        match mark {
            None if state.mark.is_some() => {}
            None => self.keep(|state| state.mark = Some(found)),
            Some(mark) => {
                if let Some(why) = mark.is_ahead_of(&found) {
                    self.enter(&why, resumed);
                }
            }
        }
    }

    fn enter(&self, why: &str, resumed_before: Option<Timestamp>) {
        tracing::error!(
            why,
            "records of dials were lost: nothing is dialled until a person says so, with `voicebus call resume`"
        );
        let why = format!(
            "records of dials were lost ({why}); nothing is dialled until a person says so, with `voicebus call resume`"
        );
        self.keep(|state| {
            state.safe = Some(Safe {
                why,
                resumed_before,
            });
        });
    }

    /// Changes what is known; that it cannot be written down is told with the next dial.
    fn keep(&self, change: impl FnOnce(&mut State)) {
        if let Err(error) = self.change(change) {
            tracing::error!(error = %crate::error_chain::Chain(&error), "high-water mark not written");
        }
    }

    /// Changes what is known and has it written. Of those that wait for the disk at the same time
    /// the first writes for all.
    fn change(&self, change: impl FnOnce(&mut State)) -> Result<(), Error> {
        change(&mut self.state());
        let Some(dir) = &self.shared.dir else {
            return Ok(());
        };
        let mut written = whole(&self.shared.written);
        let state = self.state().clone();
        if written.as_ref() != Some(&state) {
            write(&dir.path, &state)?;
            *written = Some(state);
        }
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        whole(&self.shared.state)
    }
}

fn whole<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each change is whole.
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Mark {
    async fn look(bus: &Bus, intents: &Intents) -> Result<Self, Trouble> {
        Ok(Self {
            intents: Water::of(intents.place().await?),
            commands: Water::of(bus.place_of(subjects::STREAM_CMD).await?),
        })
    }

    /// What of it was lost in `found`, if anything.
    fn is_ahead_of(&self, found: &Self) -> Option<String> {
        for (stream, mark, found) in [
            ("KV_VOICE_INTENT", self.intents, found.intents),
            (subjects::STREAM_CMD, self.commands, found.commands),
        ] {
            if mark.created != found.created {
                return Some(format!("{stream} was made anew"));
            }
            if found.last < mark.last {
                return Some(format!(
                    "{stream} ends at {}, but had come to {}",
                    found.last, mark.last
                ));
            }
        }
        None
    }
}

impl Water {
    fn of(place: Place) -> Self {
        Self {
            created: place.created,
            last: place.last,
        }
    }
}

fn read(path: &Path) -> Result<State, Error> {
    match std::fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|source| Error::Unreadable {
            path: path.to_owned(),
            source,
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(State::default()),
        Err(source) => Err(Error::Io {
            path: path.to_owned(),
            source,
        }),
    }
}

/// Written whole under another name first: half of it must never be read.
fn write(dir: &Path, state: &State) -> Result<(), Error> {
    let (beside, path) = (dir.join("high-water.new"), dir.join(FILE));
    let written = || {
        let mut file = File::create(&beside)?;
        serde_json::to_writer(&mut file, state)?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        std::fs::rename(&beside, &path)?;
        File::open(dir)?.sync_all()
    };
    written().map_err(|source| Error::Io {
        path: path.clone(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(created: i128, intents: u64, commands: u64) -> Mark {
        Mark {
            intents: Water {
                created,
                last: intents,
            },
            commands: Water {
                created: 7,
                last: commands,
            },
        }
    }

    fn at(second: i64) -> Option<Timestamp> {
        Timestamp::from_timestamp(1_800_000_000 + second, 0)
    }

    fn known(high_water: &HighWater) -> Option<Mark> {
        high_water.state().mark
    }

    #[test]
    fn a_dial_while_the_streams_are_asked_is_no_loss() {
        let high_water = HighWater::open(None).unwrap();
        high_water.hold_against(None, mark(1, 10, 20), None);
        let before = known(&high_water);
        high_water.raise(11, 21).unwrap();
        high_water.hold_against(before, mark(1, 10, 20), None);
        assert_eq!(high_water.safe_mode(), None);
        assert_eq!(high_water.floor(), 11);
        high_water.hold_against(known(&high_water), mark(1, 10, 20), None);
        assert!(high_water.safe_mode().is_some());
    }

    #[test]
    fn streams_that_went_on_are_the_same_and_others_are_not() {
        let was = mark(1, 10, 20);
        assert_eq!(was.is_ahead_of(&mark(1, 10, 20)), None);
        assert_eq!(was.is_ahead_of(&mark(1, 11, 25)), None);
        for older in [mark(1, 9, 20), mark(1, 10, 19), mark(2, 10, 20)] {
            assert!(was.is_ahead_of(&older).is_some(), "{older:?}");
        }
    }

    #[test]
    fn safe_mode_outlives_the_process_and_ends_with_a_persons_word() {
        let dir = tempfile::tempdir().unwrap();
        let open = || HighWater::open(Some(dir.path())).unwrap();
        let high_water = open();
        high_water.hold_against(known(&high_water), mark(1, 10, 20), None);
        high_water.raise(15, 22).unwrap();
        assert_eq!(high_water.floor(), 15);
        drop(high_water);

        let high_water = open();
        assert_eq!(high_water.safe_mode(), None);
        high_water.hold_against(known(&high_water), mark(1, 12, 22), at(5));
        assert!(high_water.safe_mode().is_some());
        drop(high_water);

        let high_water = open();
        high_water.hold_against(known(&high_water), mark(1, 20, 30), at(5));
        assert!(high_water.safe_mode().is_some(), "the old word counts");
        high_water.hold_against(known(&high_water), mark(1, 20, 30), at(6));
        assert_eq!(high_water.safe_mode(), None);
        assert_eq!(high_water.floor(), 20);
    }

    #[test]
    fn a_folder_is_for_one_egress_and_its_file_must_be_readable() {
        let dir = tempfile::tempdir().unwrap();
        let first = HighWater::open(Some(dir.path())).unwrap();
        assert!(matches!(
            HighWater::open(Some(dir.path())),
            Err(Error::InUse { .. })
        ));
        drop(first);
        std::fs::write(dir.path().join(FILE), "{").unwrap();
        assert!(matches!(
            HighWater::open(Some(dir.path())),
            Err(Error::Unreadable { .. })
        ));
        assert!(HighWater::open(None).unwrap().raise(1, 1).is_ok());
    }
}
