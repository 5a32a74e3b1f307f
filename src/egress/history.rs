//! What the phone-call server knows of a call: whether it has it, and what was said in it.
//!
//! The versions differ. v1 and v2 take a call out of their list when it is over, v3 leaves it there
//! and says `completed`. v1 and v2 have a history, v3 has none.

use chrono::{DateTime, NaiveDateTime, Utc};
use chrono_tz::Tz;
use sha2::{Digest, Sha256};
use tracing::debug;

use super::voice_server::Answer;
use super::wire::{CallsListed, HistoryEntry, HistoryTranscript};
use super::{Health, VoiceServer, VoiceServerState};
use crate::bus::envelope::encode_input;
use crate::bus::service::Filled;
use crate::bus::{Bus, publish};
use crate::domain::Timestamp;
use crate::domain::ids::{CallId, EventId};
use crate::domain::input::{Input, InputKind, Position, Recorded, Speaker, Utterance};
use crate::domain::timer::Presence;
use crate::domain::transcript::{HISTORY_TOLERANCE, like_before};
use crate::error_chain::Chain;

/// Entries taken of one history; hours of speech have some thousand.
const ENTRIES_MAX: usize = 5_000;
/// Longest label that is kept, in characters, as for what is said live.
const LABEL_LENGTH_MAX: usize = 64;

/// Whether the server has a call. Whatever is not a plain answer leaves it unknown: an error page
/// must not end a call.
pub(super) async fn presence(server: &VoiceServer, health: &Health, call: &CallId) -> Presence {
    if health.state() == VoiceServerState::Unreachable {
        return Presence::Unknown;
    }
    match server.list_calls().await {
        Ok(answer) => listed(&answer, call),
        Err(error) => {
            debug!(error = %Chain(&error), "calls not listed");
            Presence::Unknown
        }
    }
}

fn listed(answer: &Answer, call: &CallId) -> Presence {
    if answer.status != 200 {
        return Presence::Unknown;
    }
    let Ok(listed) = serde_json::from_slice::<CallsListed>(&answer.body) else {
        return Presence::Unknown;
    };
    let entry = listed
        .calls
        .iter()
        .find(|entry| entry.call_id.as_str() == Some(call.as_str()));
    match entry.and_then(|entry| entry.status.as_deref()) {
        Some("completed" | "canceled" | "failed" | "busy" | "no-answer") => Presence::Absent,
        _ if entry.is_some() => Presence::Present,
        _ => Presence::Absent,
    }
}

/// Puts every utterance that the history has of a call into the stream of inputs; the router
/// knows which of them are news. Doing it again is safe.
///
/// Of a call that goes on, what was said last is left out: it is on its way, and the router would
/// be told of it in two ways at once.
pub(super) async fn fill(
    bus: &Bus,
    server: &VoiceServer,
    call: &CallId,
    goes_on: bool,
) -> Result<Filled, (u16, String)> {
    let answer = server
        .transcript(call)
        .await
        .map_err(|error| (502, Chain(&error).to_string()))?;
    let Some(entries) = entries(&answer)? else {
        return Ok(Filled { entries: 0, new: 0 });
    };
    let now = Utc::now();
    let mut inputs = inputs(call, entries, server.time_zone(), now);
    if goes_on {
        inputs.retain(|input| !is_on_its_way(input, now));
    }
    let mut filled = Filled {
        entries: inputs.len(),
        new: 0,
    };
    for input in inputs {
        filled.new += usize::from(store(bus, &input).await?);
    }
    Ok(filled)
}

/// Whether an utterance of a call that goes on may still come by itself.
fn is_on_its_way(input: &Input, now: Timestamp) -> bool {
    input
        .happened_at
        .is_some_and(|at| now - at <= HISTORY_TOLERANCE)
}

/// The entries of a history; `None` when the server has none of this call, or none at all.
fn entries(answer: &Answer) -> Result<Option<Vec<HistoryEntry>>, (u16, String)> {
    match answer.status {
        200 => {}
        404 => return Ok(None),
        status => return Err((502, format!("the voice server answered {status}"))),
    }
    let history: HistoryTranscript = serde_json::from_slice(&answer.body)
        .map_err(|error| (502, format!("the voice server's history: {error}")))?;
    let mut entries = history.transcript;
    if entries.len() > ENTRIES_MAX {
        tracing::warn!(entries = entries.len(), "a history is cut off");
        entries.truncate(ENTRIES_MAX);
    }
    Ok(Some(entries))
}

/// The inputs that entries make. An entry is named by what it says: the same one has the same id,
/// whenever it is fetched.
fn inputs(call: &CallId, entries: Vec<HistoryEntry>, zone: Tz, now: Timestamp) -> Vec<Input> {
    let mut seen = std::collections::BTreeMap::new();
    let mut named = Vec::with_capacity(entries.len());
    for entry in entries {
        let count = seen
            .entry((
                entry.timestamp.clone(),
                entry.speaker.clone(),
                entry.content.clone(),
            ))
            .and_modify(|count| *count += 1)
            .or_insert(1_u32);
        // Twice the same at the same time is one; without a time it may well be two.
        if entry.timestamp.is_some() && *count > 1 {
            continue;
        }
        named.push((id(call, &entry, *count), utterance(entry, zone)));
    }
    let utterances: Vec<Utterance> = named.iter().map(|(_, one)| one.clone()).collect();
    named
        .into_iter()
        .zip(like_before(&utterances))
        .map(|((id, utterance), before)| Input {
            id,
            call: call.clone(),
            position: Position::default(),
            happened_at: utterance.spoken_at,
            received_at: now,
            source_sequence: None,
            kind: InputKind::Recorded(Recorded { utterance, before }),
        })
        .collect()
}

fn utterance(entry: HistoryEntry, zone: Tz) -> Utterance {
    Utterance {
        speaker: Speaker::read(&entry.speaker),
        speaker_label: entry.speaker.chars().take(LABEL_LENGTH_MAX).collect(),
        text: entry.content,
        spoken_at: entry.timestamp.and_then(|text| time(&text, zone)),
        confidence: None,
    }
}

/// Each part with its length, so that no two lists of parts look the same.
fn id(call: &CallId, entry: &HistoryEntry, count: u32) -> EventId {
    let mut digest = Sha256::new();
    for part in [
        "voicebus history 1",
        call.as_str(),
        entry.timestamp.as_deref().unwrap_or_default(),
        &entry.speaker,
        &entry.content,
        &count.to_string(),
    ] {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    let hash = digest.finalize();
    let hex: String = hash
        .iter()
        .take(16)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    EventId::parse(&format!("ev_{hex}")).expect("`ev_` and hex digits are an id")
}

/// A time as Python writes it: with a zone, or without and then local to the server.
fn time(text: &str, zone: Tz) -> Option<Timestamp> {
    if let Ok(zoned) = DateTime::parse_from_rfc3339(text) {
        return Some(zoned.to_utc());
    }
    let naive: NaiveDateTime = text.replacen(' ', "T", 1).parse().ok()?;
    let local = naive.and_local_timezone(zone).earliest()?;
    Some(local.to_utc())
}

/// Whether the stream had not seen it lately.
async fn store(bus: &Bus, input: &Input) -> Result<bool, (u16, String)> {
    let payload = match encode_input(input, "history", None, None) {
        Ok(payload) => payload,
        Err(error) => {
            // Larger than a message; the server itself could not have sent it either.
            tracing::error!(%error, call.id = %input.call, "an utterance of the history is left out");
            return Ok(false);
        }
    };
    let subject = bus.subjects().input(&input.call, &input.kind);
    let stored = bus
        .store(subject, input.id.as_str(), payload)
        .await
        .map_err(|error: publish::Error| (503, Chain(&error).to_string()))?;
    Ok(!stored.duplicate)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn answer(status: u16, body: &Value) -> Answer {
        Answer {
            status,
            body: serde_json::to_vec(body).unwrap(),
            tapped: false,
        }
    }

    fn call() -> CallId {
        CallId::parse("CA1").unwrap()
    }

    #[test]
    fn a_call_is_gone_when_it_is_not_listed_or_listed_as_over() {
        use serde_json::json;
        let of = |status, body: Value| listed(&answer(status, &body), &call());
        let v2 = json!({"active_calls": 1, "calls": [
            {"call_id": "CA1", "type": "outbound", "duration": 3.2, "status": "realtime_ready", "agent": "Nia"}]});
        assert_eq!(of(200, v2), Presence::Present);
        let others = json!({"active_calls": 2, "calls": [{"call_id": null}, {"call_id": "CA12"}]});
        assert_eq!(of(200, others), Presence::Absent);
        let v3 = |status: &str| {
            json!({"active_calls": 1, "calls": [
            {"call_id": "CA1", "type": "unknown", "status": status, "duration": 0.1, "to": null, "from": null}]})
        };
        assert_eq!(of(200, v3("active")), Presence::Present);
        assert_eq!(of(200, v3("initiated")), Presence::Present);
        assert_eq!(of(200, v3("completed")), Presence::Absent);
        assert_eq!(of(200, json!({"detail": "x"})), Presence::Unknown);
        assert_eq!(of(500, json!({"calls": []})), Presence::Unknown);
        assert_eq!(of(404, json!({"detail": "Not Found"})), Presence::Unknown);
    }

    #[test]
    fn a_server_without_a_history_of_the_call_has_nothing_to_add() {
        let body = serde_json::json!({"detail": "Not Found"});
        assert!(entries(&answer(404, &body)).unwrap().is_none());
        assert!(entries(&answer(500, &body)).is_err());
        assert!(entries(&answer(200, &body)).is_err());
    }

    fn entry(timestamp: Option<&str>, content: &str) -> HistoryEntry {
        HistoryEntry {
            timestamp: timestamp.map(str::to_owned),
            speaker: "user".into(),
            content: content.into(),
        }
    }

    #[test]
    fn an_entry_is_the_same_input_whenever_it_is_fetched() {
        let entries = || {
            vec![
                entry(Some("2026-11-22T12:33:49.802320"), "yes"),
                entry(Some("2026-11-22T12:33:49.802320"), "yes"),
                entry(Some("2026-11-22T12:33:50.802320"), "yes"),
                entry(None, "yes"),
                entry(None, "yes"),
            ]
        };
        let read = |now| {
            inputs(&call(), entries(), Tz::UTC, now)
                .into_iter()
                .map(|input| match input.kind {
                    InputKind::Recorded(recorded) => (input.id.to_string(), recorded.before.len()),
                    other => panic!("{other:?}"),
                })
                .collect::<Vec<_>>()
        };
        let now = Timestamp::from_timestamp(1_800_000_000, 0).unwrap();
        let first = read(now);
        let before: Vec<usize> = first.iter().map(|(_, before)| *before).collect();
        assert_eq!(before, [0, 1, 2, 3]);
        assert_eq!(first, read(now + chrono::TimeDelta::days(1)));
        let ids: std::collections::BTreeSet<_> = first.iter().map(|(id, _)| id).collect();
        assert_eq!(ids.len(), 4);
    }

    #[test]
    fn what_was_said_a_moment_ago_is_on_its_way() {
        let entries = vec![
            entry(Some("2026-11-22T12:00:00"), "a while ago"),
            entry(Some("2026-11-22T12:00:03"), "just now"),
            entry(None, "some time"),
        ];
        let now = time("2026-11-22T12:00:08", Tz::UTC).unwrap();
        let inputs = inputs(&call(), entries, Tz::UTC, now);
        let on_its_way: Vec<bool> = inputs.iter().map(|one| is_on_its_way(one, now)).collect();
        assert_eq!(on_its_way, [false, true, false]);
    }

    #[test]
    fn times_without_a_zone_are_the_servers_own() {
        let utc = |text: &str, zone| time(text, zone).map(|at| at.to_rfc3339());
        let new_york = Tz::America__New_York;
        assert_eq!(
            utc("2026-11-22T07:33:49.802320", new_york).unwrap(),
            "2026-11-22T12:33:49.802320+00:00"
        );
        assert_eq!(
            utc("2026-11-22T12:33:49+00:00", new_york).unwrap(),
            "2026-11-22T12:33:49+00:00"
        );
        assert_eq!(
            utc("2026-11-22 12:33:49", Tz::UTC),
            utc("2026-11-22T12:33:49Z", Tz::UTC)
        );
        assert_eq!(utc("yesterday", Tz::UTC), None);
    }
}
