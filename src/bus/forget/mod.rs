//! Forgetting a call or a caller: looking through all that is stored, taking it away, and seeing to
//! it that nothing of it comes back.
//!
//! What is forgotten leaves two traces, neither of which says whom it is about. Its names are kept as
//! salted hashes in VOICE_FORGOTTEN, so that the router does not begin a call anew when somebody sends
//! an old event of it again. And the record of a wish to dial stays under its id, without number and
//! words, so that the same wish is never dialled a second time.
//!
//! Messages of streams are overwritten on the disk before they are removed. Keys of buckets are
//! removed; their bytes are overwritten when the server packs its files.
//!
//! Reading goes from the leader, one message after the other: this is done rarely, and must see all.

mod whom;

use std::collections::{BTreeMap, BTreeSet};

use async_nats::header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE;
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::{DeleteMessageErrorKind, RawMessageErrorKind, Stream};
use async_nats::{HeaderMap, Subscriber};
use bytes::Bytes;
use chrono::Utc;
use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use thiserror::Error;

use super::connection::REQUEST_TIMEOUT;
use super::envelope::{FlightRecord, IntentRecord, NumberRecord};
use super::publish::{self, publish};
use super::{Bus, subjects};
use crate::domain::command::Reason;
use crate::domain::dial::{Record, State};

pub use whom::Whom;

/// The streams whose messages are taken away one by one.
const STREAMS: [&str; 4] = [
    subjects::STREAM_IN,
    subjects::STREAM_CMD,
    subjects::STREAM_EVENT,
    subjects::STREAM_DLQ,
];
/// The buckets that are looked through.
const BUCKETS: [&str; 5] = [
    subjects::BUCKET_INTENT,
    subjects::BUCKET_NUMBER,
    subjects::BUCKET_LINK,
    subjects::BUCKET_LIMIT,
    subjects::BUCKET_FORGOTTEN,
];
/// Looks until nothing is found that was written meanwhile.
const ROUNDS_MAX: usize = 8;
/// Hashes in one announcement: some 20 kB.
const ANNOUNCED_AT_ONCE: usize = 1_000;
/// The word by which a wish to dial is known to be forgotten.
pub(super) const FORGOTTEN: &str = "forgotten";

/// Why something is not forgotten.
#[derive(Debug, Error)]
pub enum Error {
    /// NATS does not answer, or does not let us.
    #[error("cannot {what}: {reason}")]
    Failed {
        /// What was asked.
        what: String,
        /// Why not.
        reason: String,
    },
    /// A record could not be replaced.
    #[error("a record was not replaced; ask again")]
    Publish(#[from] publish::Error),
    /// A record of ours cannot be written.
    #[error(transparent)]
    Envelope(#[from] super::envelope::Error),
    /// It is written to as fast as it is forgotten.
    #[error(
        "something about it is stored again and again; nothing more was done after {ROUNDS_MAX} rounds"
    )]
    Busy,
}

/// What was found, and where.
#[derive(Debug, Default)]
pub struct Found {
    /// Messages that were looked at, by stream or bucket.
    pub looked_at: BTreeMap<&'static str, u64>,
    /// Messages of streams that are about it, by their numbers.
    pub messages: BTreeMap<&'static str, Vec<u64>>,
    /// Calls that are not over and wishes that are not at their end.
    pub unfinished: BTreeSet<String>,
    /// What mentions it, and stays.
    pub left: Vec<Left>,
    edits: Vec<Edit>,
    /// Wishes whose commands are about it.
    dials: BTreeSet<String>,
    /// Wishes that have a record.
    records: BTreeSet<String>,
}

/// A message that mentions what is forgotten, and stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Left {
    /// Stream or bucket.
    pub place: &'static str,
    /// Its number.
    pub sequence: u64,
    /// Why it stays.
    pub why: &'static str,
    /// Whether it is meant to stay.
    pub is_meant: bool,
}

/// What becomes of a key.
#[derive(Debug)]
struct Edit {
    bucket: &'static str,
    key: String,
    revision: Option<u64>,
    /// Nothing removes it.
    value: Option<Bytes>,
}

impl Found {
    /// How much there is to take away.
    #[must_use]
    pub fn count(&self) -> usize {
        let messages: usize = self.messages.values().map(Vec::len).sum();
        messages + self.edits.len()
    }

    /// The same by stream and bucket.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        let messages = self.messages.iter();
        let mut counts: BTreeMap<&'static str, u64> = messages
            .map(|(place, sequences)| (*place, sequences.len() as u64))
            .collect();
        for edit in &self.edits {
            *counts.entry(edit.bucket).or_default() += 1;
        }
        counts
    }
}

/// What is told to be forgotten while one listens.
pub struct Announcements(Subscriber);

impl Announcements {
    /// The next keys of forgotten calls and commands; `None` when the connection is closed.
    pub async fn next(&mut self) -> Option<BTreeSet<String>> {
        loop {
            let message = self.0.next().await?;
            if let Ok(told) = serde_json::from_slice::<Told>(&message.payload) {
                return Some(told.forgotten);
            }
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Told {
    forgotten: BTreeSet<String>,
}

impl Bus {
    /// Listens for what is forgotten from now on.
    ///
    /// # Errors
    /// When NATS does not let us.
    pub async fn hear_of_forgotten(&self) -> Result<Announcements, Error> {
        let client = self.connection().client();
        let heard = client.subscribe(subjects::FORGOTTEN).await;
        heard.map(Announcements).map_err(|error| Error::Failed {
            what: "listen for what is forgotten".to_owned(),
            reason: error.to_string(),
        })
    }

    /// Looks through everything for what is about `whom`, and learns its names.
    ///
    /// # Errors
    /// See [`enum@Error`].
    pub async fn look_for(&self, whom: &mut Whom) -> Result<Found, Error> {
        loop {
            let before = whom.ids().count();
            let found = self.look_once(whom).await?;
            // A message may be claimed by a name that was only met behind it.
            if whom.ids().count() == before {
                return Ok(found);
            }
        }
    }

    /// Takes away what is about `whom`, until nothing is found any more. Returns how much was taken
    /// away by place, and what the last look has found.
    ///
    /// # Errors
    /// See [`enum@Error`]. It is safe to ask again.
    pub async fn forget(
        &self,
        whom: &mut Whom,
    ) -> Result<(BTreeMap<&'static str, u64>, Found), Error> {
        let mut taken: BTreeMap<&'static str, u64> = BTreeMap::new();
        for _ in 0..ROUNDS_MAX {
            let found = self.look_for(whom).await?;
            // The router must know before the first message goes: from here on it adds nothing.
            self.mark(whom).await?;
            if found.count() == 0 {
                return Ok((taken, found));
            }
            for edit in &found.edits {
                if self.edit(edit).await? {
                    *taken.entry(edit.bucket).or_default() += 1;
                }
            }
            for (stream, sequences) in &found.messages {
                let handle = self.stream(stream).await?;
                for sequence in sequences {
                    if erase(&handle, stream, *sequence).await? {
                        *taken.entry(stream).or_default() += 1;
                    }
                }
            }
        }
        Err(Error::Busy)
    }

    async fn look_once(&self, whom: &mut Whom) -> Result<Found, Error> {
        let mut found = Found::default();
        let mut calls: BTreeMap<String, bool> = BTreeMap::new();
        for place in STREAMS {
            let stream = self.stream(place).await?;
            let mut next = 1;
            while let Some(message) = first_from(&stream, place, next).await? {
                next = message.sequence + 1;
                if subjects::is_canary(&message.subject) {
                    continue;
                }
                *found.looked_at.entry(place).or_default() += 1;
                let is_it = whom.claims(&message.subject, &message.payload)
                    || place == subjects::STREAM_DLQ && mentions(whom, &message);
                if is_it {
                    found
                        .messages
                        .entry(place)
                        .or_default()
                        .push(message.sequence);
                    found.dials.extend(subjects::parse_dial(&message.subject));
                    if let Some((call, is_over)) = state_of_call(&message) {
                        calls.insert(call, is_over);
                    }
                } else if mentions(whom, &message) {
                    found.left.push(Left {
                        place,
                        sequence: message.sequence,
                        why: "it is about somebody else, and what was said there mentions it",
                        is_meant: false,
                    });
                }
            }
        }
        let going_on = calls.into_iter().filter(|(_, is_over)| !is_over);
        found.unfinished.extend(going_on.map(|(call, _)| call));
        for bucket in BUCKETS {
            self.look_into(bucket, whom, &mut found).await?;
        }
        // A wish that nobody has looked at yet: its record comes first.
        let unheard: Vec<String> = found.dials.difference(&found.records).cloned().collect();
        for intent in unheard {
            found.unfinished.insert(intent.clone());
            found.edits.push(Edit {
                bucket: subjects::BUCKET_INTENT,
                key: intent,
                revision: None,
                value: Some(forgotten_wish()?),
            });
        }
        Ok(found)
    }

    async fn look_into(
        &self,
        bucket: &'static str,
        whom: &mut Whom,
        found: &mut Found,
    ) -> Result<(), Error> {
        let stream = self.stream(&subjects::stream_of_bucket(bucket)).await?;
        let mut last: BTreeMap<String, StreamMessage> = BTreeMap::new();
        let mut next = 1;
        while let Some(message) = first_from(&stream, bucket, next).await? {
            next = message.sequence + 1;
            if subjects::is_canary(&message.subject) {
                continue;
            }
            *found.looked_at.entry(bucket).or_default() += 1;
            // Also what was overwritten and is still kept.
            if bucket == subjects::BUCKET_INTENT {
                whom.claims(&message.subject, &message.payload);
            }
            last.insert(message.subject.to_string(), message);
        }
        for (subject, message) in last {
            let Some(key) = subjects::key_in(bucket, &subject) else {
                continue;
            };
            let is_gone = message.payload.is_empty();
            if bucket == subjects::BUCKET_INTENT && !is_gone {
                found.records.insert(key.to_owned());
            }
            let edit = |value: Option<Bytes>| Edit {
                bucket,
                key: key.to_owned(),
                revision: Some(message.sequence),
                value,
            };
            let of_number = whom
                .its_number()
                .is_some_and(|number| self.subjects().keys_of(number).iter().any(|own| own == key));
            let change = match bucket {
                _ if is_gone => None,
                subjects::BUCKET_INTENT => {
                    self.change_of_intent(whom, key, &message, found)?.map(edit)
                }
                subjects::BUCKET_NUMBER | subjects::BUCKET_LINK if of_number => Some(edit(None)),
                subjects::BUCKET_NUMBER => change_of_number(whom, &message.payload)?.map(edit),
                _ => None,
            };
            match change {
                Some(change) => found.edits.push(change),
                None if !is_gone && mentions(whom, &message) => found.left.push(Left {
                    place: bucket,
                    sequence: message.sequence,
                    why: why_it_stays(bucket),
                    is_meant: bucket != subjects::BUCKET_LINK,
                }),
                None => {}
            }
        }
        Ok(())
    }

    /// A record without number and words, in place of one of its own.
    fn change_of_intent(
        &self,
        whom: &Whom,
        key: &str,
        message: &StreamMessage,
        found: &mut Found,
    ) -> Result<Option<Option<Bytes>>, Error> {
        if let Some(intent) = subjects::parse_unresolved_key(key) {
            let is_its = whom.ids().any(|id| id == intent.as_str());
            return Ok(is_its.then_some(None));
        }
        if !whom.ids().any(|id| id == key) {
            return Ok(None);
        }
        if let Ok(record) = IntentRecord::decode(&message.payload) {
            if is_forgotten(&record) {
                return Ok(None);
            }
            if !record.state.is_final() {
                found.unfinished.insert(key.to_owned());
            }
        }
        Ok(Some(Some(forgotten_wish()?)))
    }

    /// Says for good that these are forgotten, and tells the routers that run.
    async fn mark(&self, whom: &Whom) -> Result<(), Error> {
        let jetstream = self.connection().jetstream();
        let keys: Vec<String> = whom
            .ids()
            .map(|id| self.subjects().forgotten_key(id))
            .collect();
        let value = Bytes::from(json!({ "at": Utc::now() }).to_string());
        for key in &keys {
            let subject = subjects::key(subjects::BUCKET_FORGOTTEN, key);
            publish(jetstream, &subject, HeaderMap::new(), value.clone()).await?;
        }
        for keys in keys.chunks(ANNOUNCED_AT_ONCE) {
            let told = json!(Told {
                forgotten: keys.iter().cloned().collect(),
            });
            let payload = told.to_string().into();
            self.announce(subjects::FORGOTTEN.to_owned(), payload).await;
        }
        Ok(())
    }

    /// Replaces or removes a key with all that it has held. `false` when somebody else was faster:
    /// the next look finds what is there then.
    async fn edit(&self, edit: &Edit) -> Result<bool, Error> {
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Rollup", "sub");
        headers.insert(
            NATS_EXPECTED_LAST_SUBJECT_SEQUENCE,
            edit.revision.unwrap_or_default().to_string().as_str(),
        );
        if edit.value.is_none() {
            headers.insert("KV-Operation", "PURGE");
        }
        let subject = subjects::key(edit.bucket, &edit.key);
        let value = edit.value.clone().unwrap_or_default();
        match publish(self.connection().jetstream(), &subject, headers, value).await {
            Ok(_) => Ok(true),
            Err(publish::Error::Conflict { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    async fn stream(&self, name: &str) -> Result<Stream<()>, Error> {
        let stream = self.connection().jetstream().get_stream_no_info(name).await;
        stream.map_err(|error| Error::Failed {
            what: format!("use {name}"),
            reason: error.to_string(),
        })
    }
}

/// The first message of this number or a later one.
async fn first_from(
    stream: &Stream<()>,
    place: &str,
    sequence: u64,
) -> Result<Option<StreamMessage>, Error> {
    let asked = stream.get_first_raw_message_by_subject(">", sequence);
    let reason = match tokio::time::timeout(REQUEST_TIMEOUT, asked).await {
        Ok(Ok(message)) => return Ok(Some(message)),
        Ok(Err(error)) if error.kind() == RawMessageErrorKind::NoMessageFound => return Ok(None),
        Ok(Err(error)) => error.to_string(),
        Err(_elapsed) => SILENCE.to_owned(),
    };
    Err(Error::Failed {
        what: format!("read {place}"),
        reason,
    })
}

/// Overwrites a message and removes it; `false` when it was not there any more.
async fn erase(stream: &Stream<()>, place: &str, sequence: u64) -> Result<bool, Error> {
    let asked = stream.delete_message(sequence);
    let reason = match tokio::time::timeout(REQUEST_TIMEOUT, asked).await {
        Ok(Ok(done)) => return Ok(done),
        // Age, or the fate of a canary, was faster.
        Ok(Err(error)) if error.to_string().contains("no message found") => return Ok(false),
        Ok(Err(error)) => match error.kind() {
            DeleteMessageErrorKind::TimedOut => SILENCE.to_owned(),
            _ => error.to_string(),
        },
        Err(_elapsed) => SILENCE.to_owned(),
    };
    Err(Error::Failed {
        what: format!("remove message {sequence} of {place}"),
        reason,
    })
}

const SILENCE: &str = "no answer in time (a missing permission looks the same)";

fn mentions(whom: &Whom, message: &StreamMessage) -> bool {
    let headers = message.headers.iter().flat_map(|(_, values)| values);
    whom.is_mentioned(message.subject.as_bytes())
        || whom.is_mentioned(&message.payload)
        || headers
            .into_iter()
            .any(|value| whom.is_mentioned(value.as_str().as_bytes()))
}

/// Which call an event tells of, and whether it is over with it.
fn state_of_call(message: &StreamMessage) -> Option<(String, bool)> {
    let event: Value = serde_json::from_slice(&message.payload).ok()?;
    let call = &event["data"]["call"];
    let id = call["id"].as_str()?.to_owned();
    Some((id, call["state"] == "ended"))
}

/// The dials of a number without its own; `None` when there is nothing to change.
fn change_of_number(whom: &Whom, value: &[u8]) -> Result<Option<Option<Bytes>>, Error> {
    if let Ok((Some(intent), _)) = FlightRecord::decode(value)
        && whom.ids().any(|id| id == intent.as_str())
    {
        return Ok(Some(None));
    }
    let Ok(mut dials) = NumberRecord::decode(value) else {
        return Ok(None);
    };
    let before = dials.len();
    dials.retain(|dial| !whom.has_dial(dial));
    Ok(match dials.len() {
        now if now == before => None,
        0 => Some(None),
        _ => Some(Some(NumberRecord::encode(&dials)?)),
    })
}

/// A wish of which nothing is known but that it must not be dialled.
fn forgotten_wish() -> Result<Bytes, Error> {
    let reason = Reason::new(
        FORGOTTEN,
        "it was forgotten at somebody's request, and is never dialled again",
    );
    let record = Record {
        wish: None,
        state: State::Abandoned { reason },
        at: Utc::now(),
    };
    Ok(IntentRecord::encode(&record)?)
}

fn is_forgotten(record: &Record) -> bool {
    let State::Abandoned { reason } = &record.state else {
        return false;
    };
    record.wish.is_none() && reason.code == FORGOTTEN
}

fn why_it_stays(bucket: &str) -> &'static str {
    match bucket {
        subjects::BUCKET_INTENT => {
            "it keeps a wish from being dialled again, by its id alone: no number, no words"
        }
        subjects::BUCKET_LIMIT => "it counts dials by a salted hash of the number, for two days",
        subjects::BUCKET_LINK => "the number of somebody else is linked to a session of that name",
        _ => "it names ids of other wishes and calls only",
    }
}
