//! Streams, consumers and buckets: create what is missing, repair what has drifted, say what differs.
//!
//! The wanted state is data: `nats/streams/*.json`, `nats/consumers/*.json` and `nats/buckets/*.json`, in the
//! server's own configuration format and compiled in. [`provision`] compares it with what the server has, field
//! by field, and applies what can be applied. A second run finds nothing to do. Only what a run of the program
//! decides comes as [`Options`]: replicas, byte limits and ages.
//!
//! Three rules keep it safe to run at any time, on a system full of calls:
//!
//! - **Nothing stored is lost** unless somebody said so by an age in the configuration. A change that would delete messages, skip them, or weaken how they are kept is
//!   reported as [`Action::CannotChange`] and left to a person.
//! - **What is not ours is left alone.** Other streams, other consumers on these streams, and settings our files
//!   do not mention (placement, say) stay as they are.
//! - **Some things are decided once.** The number of partitions and the salt of session tokens are written into
//!   the metadata of `VOICE_IN` when it is made, and hold for its life. [`read_layout`] is how roles learn them.
//!
//! Requests are raw JSON rather than `async_nats`'s typed configuration. The files then mean the same to the
//! server, to the `nats` command and to this program; and an update sends back every setting the server
//! reported, where a typed round trip would silently reset the ones the client library has not heard of.
//!
//! The reasons for the unusual settings are in `docs/decisions/0001-commit-subject.md` (why `VOICE_EVENT`
//! listens on `voicebus.commit.>`) and `0002-inputs-without-a-byte-limit.md` (why `VOICE_IN` has `discard: old`).

mod api;
mod compare;
mod layout;
mod report;
mod retention;
mod version;
mod wanted;

use std::collections::BTreeMap;
use std::num::NonZeroU8;

use async_nats::jetstream::Context;
use serde_json::{Map, Value};

pub use api::Refusal;
pub use layout::{Layout, Salt, StreamEpoch, read_layout};
pub use report::{Action, Entry, Kind, Object, Report};
pub use retention::{KEEPERS, Keeper, Retention};

use api::Reply;
use compare::{Difference, Verdict};
use wanted::Wanted;

/// What a run decides, as opposed to what the data files say.
#[derive(Clone, Debug)]
pub struct Options {
    /// Copies of every stream: 1 on one node, 3 in a cluster. Never lowered on an existing stream.
    pub replicas: NonZeroU8,
    /// Compare and report, change nothing.
    pub dry_run: bool,
    /// Byte limits instead of those in the files, by stream name (a bucket's stream is `KV_<bucket>`).
    /// `VOICE_IN` takes none: it may only lose messages to age.
    pub bytes_max: BTreeMap<String, u64>,
    /// Ages that somebody decided. They hold although what is older is then deleted.
    pub retention: Retention,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            replicas: NonZeroU8::MIN,
            dry_run: false,
            bytes_max: BTreeMap::new(),
            retention: Retention::default(),
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "nats-server is too old: found {found}, needed {} or later",
        super::version::MINIMUM
    )]
    ServerTooOld { found: String },
    #[error("stream {name} not found: run `voicebus provision` first")]
    StreamMissing { name: &'static str },
    #[error(
        "stream VOICE_IN was made with {found} partitions and this version wants {wanted}: the number is fixed \
         for the life of the stream, because a call must stay in its partition"
    )]
    PartitionsFixed { found: u32, wanted: u32 },
    #[error(
        "stream VOICE_IN has inputs but its metadata has no usable `{key}` (found {found}): restore the value it \
         was made with"
    )]
    Metadata { key: &'static str, found: String },
    #[error("cannot set a byte limit for `{name}`: {reason}")]
    BytesMax { name: String, reason: &'static str },
    #[error("failed to {operation} {object}: {reason}")]
    Request {
        operation: &'static str,
        object: Object,
        reason: String,
    },
    #[error("nats-server refused to {operation} {object}: {refusal}")]
    Refused {
        operation: &'static str,
        object: Object,
        refusal: Refusal,
    },
    #[error("nats-server sent an unreadable description of {object}: `{field}` is {found}")]
    Unreadable {
        object: Object,
        field: &'static str,
        found: String,
    },
    #[error("the system has no randomness to make a salt from")]
    NoRandomness,
}

/// Makes the server's streams, consumers and buckets what the data files say.
///
/// Idempotent, and safe to run from several places at once: whoever creates a stream first decides its salt.
/// What cannot be changed does not stop the rest; see [`Report::is_settled`].
///
/// # Errors
///
/// When the server is too old, when `VOICE_IN` has another number of partitions or has lost its metadata (both
/// before anything is changed), and when a request fails or something missing cannot be created.
pub async fn provision(jetstream: &Context, options: &Options) -> Result<Report, Error> {
    let server = jetstream.client().server_info().version;
    version::require(&server)?;
    let streams = wanted::streams(options)?;
    let mut report = Report::new(server, options.dry_run);
    for stream in &streams {
        ensure(jetstream, stream, &mut report).await?;
    }
    for consumer in &wanted::consumers() {
        ensure(jetstream, consumer, &mut report).await?;
    }
    Ok(report)
}

/// One object: create it, or compare and repair it.
async fn ensure(jetstream: &Context, wanted: &Wanted, report: &mut Report) -> Result<(), Error> {
    if let Some(info) = api::info(jetstream, &wanted.object).await? {
        return repair(jetstream, wanted, &info, report).await;
    }
    if report.dry_run {
        report.whole(&wanted.object, Action::Created);
        return Ok(());
    }
    let mut config = wanted.config.clone();
    if wanted.is_inputs() {
        layout::insert_salt(&mut config, &Salt::random()?);
    }
    match api::create(jetstream, &wanted.object, &config).await? {
        Reply::Done(info) => {
            report.whole(&wanted.object, Action::Created);
            // An older server takes a configuration and drops what it does not know.
            for left in compare::differences(wanted, &info) {
                report.ignored_by_server(&wanted.object, left);
            }
            Ok(())
        }
        // Another provisioning was faster, and its salt counts.
        Reply::Refused(refusal) if refusal.is_name_taken() => {
            match api::info(jetstream, &wanted.object).await? {
                Some(info) => repair(jetstream, wanted, &info, report).await,
                None => Err(wanted.refused("create", refusal)),
            }
        }
        Reply::Refused(refusal) => Err(wanted.refused("create", refusal)),
    }
}

async fn repair(
    jetstream: &Context,
    wanted: &Wanted,
    info: &Value,
    report: &mut Report,
) -> Result<(), Error> {
    let mut differences = compare::differences(wanted, info);
    if wanted.is_inputs() {
        differences.extend(layout::missing_salt(info, wanted::partitions())?);
    }
    if differences.is_empty() {
        report.whole(&wanted.object, Action::Unchanged);
        return Ok(());
    }
    let (safe, blocked): (Vec<_>, Vec<_>) = differences
        .into_iter()
        .partition(|difference| matches!(difference.verdict, Verdict::Safe));
    for difference in blocked {
        report.difference(&wanted.object, difference);
    }
    if safe.is_empty() {
        return Ok(());
    }
    if report.dry_run {
        for difference in safe {
            report.difference(&wanted.object, difference);
        }
        return Ok(());
    }
    let config = overlay(&info["config"], &safe)?;
    match api::update(jetstream, &wanted.object, &config).await? {
        Reply::Done(after) => {
            let left = compare::differences(wanted, &after);
            for difference in safe {
                match left.iter().any(|other| other.field == difference.field) {
                    true => report.ignored_by_server(&wanted.object, difference),
                    false => report.difference(&wanted.object, difference),
                }
            }
        }
        Reply::Refused(refusal) => {
            for difference in safe {
                report.refused_by_server(&wanted.object, difference, &refusal);
            }
        }
    }
    Ok(())
}

/// The configuration as found, with only the differing fields replaced, so that foreign settings survive.
fn overlay(found: &Value, safe: &[Difference]) -> Result<Value, Error> {
    let mut config = found.as_object().cloned().unwrap_or_default();
    for difference in safe {
        match difference.field.strip_prefix("metadata.") {
            None => {
                config.insert(difference.field.clone(), difference.wanted.clone());
            }
            Some(layout::SALT_KEY) => {
                let mut whole = Value::Object(config);
                layout::insert_salt(&mut whole, &Salt::random()?);
                config = whole.as_object().cloned().unwrap_or_default();
            }
            Some(key) => {
                let metadata = config
                    .entry("metadata")
                    .or_insert_with(|| Value::Object(Map::new()));
                if let Some(metadata) = metadata.as_object_mut() {
                    metadata.insert(key.to_owned(), difference.wanted.clone());
                }
            }
        }
    }
    Ok(Value::Object(config))
}
