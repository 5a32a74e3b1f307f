//! What is behind NATS: streams, those who work on them, and what they left undone.

use std::num::NonZeroU8;
use std::time::Duration;

use super::Check;
use crate::bus::durability::{self, Durability, Wanted};
use crate::bus::inspect::{self, ConsumerState, StreamState};
use crate::bus::service::{self, CallsQuery, EgressStatus};
use crate::bus::streams::{self, Action, Report};
use crate::bus::{Connection, subjects};

/// From here on a router counts as behind: some seconds of work.
const BACKLOG_MAX: u64 = 1_000;
/// A consumer that nobody pulls from is looked at again after this: a worker asks for the next
/// message in the moment after it has settled one.
const SECOND_LOOK_PAUSE: Duration = Duration::from_millis(400);
/// Percent of its room that a stream may fill.
const FULL_NOTE: u64 = 80;
const FULL_WRONG: u64 = 95;

pub(super) async fn checks(connection: &Connection, wanted: Option<&str>, checks: &mut Vec<Check>) {
    let mut states = Vec::new();
    for name in [
        subjects::STREAM_IN,
        subjects::STREAM_EVENT,
        subjects::STREAM_CMD,
        subjects::STREAM_DLQ,
    ] {
        match inspect::stream(connection, name).await {
            Ok(Some(state)) => states.push((name, state)),
            Ok(None) => {
                let advice = "make what is missing with `voicebus provision`";
                checks.push(Check::wrong(
                    "streams",
                    format!("{name} is not there"),
                    advice,
                ));
                return;
            }
            Err(error) => {
                checks.push(Check::wrong("streams", error.to_string(), RIGHTS));
                return;
            }
        }
    }
    checks.push(layout(connection, &states).await);
    checks.push(durability(connection, &states, wanted).await);
    checks.push(room(&states));
    checks.push(dead_letters(&states));
    checks.push(router(connection).await);
    checks.push(inputs(connection).await);
    egress(connection, checks).await;
    checks.push(commands(connection).await);
}

const RIGHTS: &str = "check that NATS works and that this user may look up streams";

type States = [(&'static str, StreamState)];

async fn layout(connection: &Connection, states: &States) -> Check {
    const NAME: &str = "streams";
    let replicas = states.iter().map(|(_, state)| state.replicas).max();
    let options = streams::Options {
        replicas: replicas.and_then(NonZeroU8::new).unwrap_or(NonZeroU8::MIN),
        dry_run: true,
        ..streams::Options::default()
    };
    match streams::provision(connection.jetstream(), &options).await {
        Ok(report) => compared(&report),
        Err(error) => Check::wrong(NAME, error.to_string(), RIGHTS),
    }
}

async fn durability(connection: &Connection, states: &States, wanted: Option<&str>) -> Check {
    const NAME: &str = "durability";
    let inputs = states
        .iter()
        .find(|(name, _)| *name == subjects::STREAM_IN)
        .map(|(_, state)| state.replicas);
    let found = durability::find(connection, inputs).await;
    let is_relaxed = wanted.and_then(Wanted::parse) == Some(Wanted::Relaxed);
    let text = format!("an accepted event is {found}");
    match found {
        Durability::Flushed | Durability::Replicated => Check::fine(NAME, text),
        Durability::Relaxed | Durability::Unverified { .. } if is_relaxed => {
            Check::fine(NAME, text)
        }
        Durability::Relaxed => Check::wrong(NAME, text, durability::ADVICE),
        Durability::Unverified { reason } => Check::note(
            NAME,
            format!("not known whether nats-server flushes before it acknowledges: {reason}"),
            durability::ADVICE_UNVERIFIED,
        ),
    }
}

fn compared(report: &Report) -> Check {
    const NAME: &str = "streams";
    let missing: Vec<String> = report
        .entries
        .iter()
        .filter(|entry| entry.action == Action::Created)
        .map(|entry| entry.object.to_string())
        .collect();
    let differs: Vec<String> = report
        .entries
        .iter()
        .filter(|entry| matches!(entry.action, Action::Updated | Action::CannotChange))
        .filter_map(|entry| Some((entry, entry.field.as_deref()?)))
        // A limit of one's own is a decision and no mistake.
        .filter(|(_, field)| !matches!(*field, "max_bytes" | "max_age"))
        .map(|(entry, field)| format!("{field} of {}", entry.object))
        .collect();
    match (missing.is_empty(), differs.is_empty()) {
        (true, true) => {
            let all = report.entries.len();
            Check::fine(
                NAME,
                format!("all {all} streams, buckets and consumers are as wanted"),
            )
        }
        (false, _) => Check::wrong(
            NAME,
            format!("missing: {}", some(&missing)),
            "make what is missing with `voicebus provision`",
        ),
        (true, false) => Check::note(
            NAME,
            format!("not as wanted: {}", some(&differs)),
            "see what `voicebus provision --dry-run` says",
        ),
    }
}

/// A list for a line.
fn some(names: &[String]) -> String {
    const SHOWN: usize = 4;
    match names.get(..SHOWN) {
        Some(first) if names.len() > SHOWN => {
            format!("{} and {} more", first.join(", "), names.len() - SHOWN)
        }
        Some(_) | None => names.join(", "),
    }
}

fn room(states: &States) -> Check {
    const NAME: &str = "room";
    let fullest = states
        .iter()
        .filter_map(|(name, state)| {
            let max = state.bytes_max?;
            Some((state.bytes.saturating_mul(100) / max, name))
        })
        .max();
    let Some((percent, name)) = fullest else {
        return Check::fine(NAME, "the streams have no limits");
    };
    let found = format!("the fullest stream is {name}, at {percent} %");
    let advice = "a full stream takes nothing more: raise its max_bytes, or let go of old messages";
    match percent {
        ..FULL_NOTE => Check::fine(NAME, found),
        FULL_NOTE..FULL_WRONG => Check::note(NAME, found, advice),
        FULL_WRONG.. => Check::wrong(NAME, found, advice),
    }
}

fn dead_letters(states: &States) -> Check {
    const NAME: &str = "dead letters";
    let letters = states
        .iter()
        .find(|(name, _)| *name == subjects::STREAM_DLQ)
        .map_or(0, |(_, state)| state.messages);
    match letters {
        0 => Check::fine(NAME, "none"),
        1 => Check::note(
            NAME,
            "1 message could not be used",
            "look at it with `voicebus dlq list`",
        ),
        many => Check::note(
            NAME,
            format!("{many} messages could not be used"),
            "look at them with `voicebus dlq list`",
        ),
    }
}

async fn router(connection: &Connection) -> Check {
    const NAME: &str = "router";
    let none = CallsQuery {
        limit: Some(0),
        ..CallsQuery::default()
    };
    match service::calls(connection, &none).await {
        Ok(answer) => Check::fine(NAME, format!("answers; calls going on: {}", answer.active)),
        Err(service::Error::Nobody { .. }) => Check::wrong(
            NAME,
            "does not answer",
            "start it with `voicebus up` or `voicebus router`",
        ),
        Err(error) => Check::wrong(NAME, error.to_string(), "see its log"),
    }
}

async fn inputs(connection: &Connection) -> Check {
    let partitions = |found: Vec<ConsumerState>| {
        found
            .into_iter()
            .filter(|one| {
                one.name
                    .strip_prefix('p')
                    .is_some_and(|k| !k.is_empty() && k.bytes().all(|byte| byte.is_ascii_digit()))
            })
            .collect()
    };
    match worked_on(connection, subjects::STREAM_IN, partitions).await {
        Ok(found) => backlog("inputs", "`voicebus router`", &found),
        Err(error) => Check::wrong("inputs", error.to_string(), RIGHTS),
    }
}

async fn commands(connection: &Connection) -> Check {
    let egress = |found: Vec<ConsumerState>| {
        found
            .into_iter()
            .filter(|one| {
                [subjects::CONSUMER_EGRESS, subjects::CONSUMER_CONTROL].contains(&&*one.name)
            })
            .collect()
    };
    match worked_on(connection, subjects::STREAM_CMD, egress).await {
        Ok(found) => backlog("commands", "`voicebus egress`", &found),
        Err(error) => Check::wrong("commands", error.to_string(), RIGHTS),
    }
}

/// The consumers, looked at twice when nobody seems to be there.
async fn worked_on(
    connection: &Connection,
    stream: &str,
    ours: impl Fn(Vec<ConsumerState>) -> Vec<ConsumerState>,
) -> Result<Vec<ConsumerState>, inspect::Error> {
    let found = ours(inspect::consumers(connection, stream).await?);
    if !found.iter().any(is_idle) {
        return Ok(found);
    }
    tokio::time::sleep(SECOND_LOOK_PAUSE).await;
    let again = ours(inspect::consumers(connection, stream).await?);
    // Who was there once is there.
    let there = |name: &str| found.iter().any(|one| one.name == name && !is_idle(one));
    Ok(again
        .into_iter()
        .map(|mut one| {
            if there(&one.name) {
                one.waiting = one.waiting.max(1);
            }
            one
        })
        .collect())
}

/// Whether nobody asks for messages and nobody holds one.
fn is_idle(consumer: &ConsumerState) -> bool {
    consumer.waiting == 0 && consumer.unacknowledged == 0
}

fn backlog(name: &'static str, role: &str, consumers: &[ConsumerState]) -> Check {
    let pending: u64 = consumers.iter().map(|one| one.pending).sum();
    let at_work: u64 = consumers.iter().map(|one| one.unacknowledged).sum();
    let again: u64 = consumers.iter().map(|one| one.redelivered).sum();
    let idle: Vec<String> = consumers
        .iter()
        .filter(|one| is_idle(one))
        .map(|one| one.name.clone())
        .collect();
    let found = format!("{pending} waiting, {at_work} at work");
    if !idle.is_empty() {
        let who = if idle.len() == consumers.len() {
            "nobody takes any".to_owned()
        } else {
            format!("nobody takes those of {}", some(&idle))
        };
        return Check::wrong(
            name,
            format!("{found}; {who}"),
            format!("start {role}, or `voicebus up`"),
        );
    }
    if again > 0 {
        let found = format!("{found}, {again} of them not for the first time");
        return Check::note(
            name,
            found,
            "one that fails again and again delays its calls; see the log",
        );
    }
    if pending > BACKLOG_MAX {
        return Check::note(
            name,
            found,
            format!("if it does not shrink, start one more {role}"),
        );
    }
    Check::fine(name, found)
}

async fn egress(connection: &Connection, checks: &mut Vec<Check>) {
    const NAME: &str = "egress";
    let denials = connection.denials();
    match service::egress_status(connection).await {
        Ok(status) => {
            checks.push(Check::fine(
                NAME,
                format!("answers; commands at work: {}", status.in_flight),
            ));
            checks.push(voice_server(&status));
        }
        Err(_) if connection.denials() > denials => checks.push(Check::note(
            NAME,
            "this user may not ask it",
            "ask as NATS user `agent` to have it looked at",
        )),
        Err(service::Error::Nobody { .. }) => checks.push(Check::wrong(
            NAME,
            "does not answer",
            "start it with `voicebus up` or `voicebus egress`",
        )),
        Err(error) => checks.push(Check::wrong(NAME, error.to_string(), "see its log")),
    }
}

fn voice_server(status: &EgressStatus) -> Check {
    const NAME: &str = "voice server";
    let version = match &status.voice_server_version {
        Some(version) => format!(", speaks {version}"),
        None => String::new(),
    };
    match status.voice_server.as_str() {
        "healthy" => Check::fine(NAME, format!("healthy{version}")),
        other => Check::wrong(
            NAME,
            format!("{other}{version}"),
            "calls can be neither placed nor ended: check that it runs, and the URL that egress has for it",
        ),
    }
}

#[cfg(test)]
mod tests;
