//! What happens after a dial was accepted: the announcement, and the leg of the callee who answers.
//!
//! v2 sends the events which the real one sends, with its two ids for one call: `call_started` for the `CA…` id as
//! outbound, and then everything else for an `rtc_…` id, as inbound with a SIP address. Only that one is ever ended.
//! v1 and v3 keep their books in the same way and send nothing.

use std::sync::Arc;
use std::time::Duration;

use chrono::{NaiveDateTime, Utc};
use serde_json::json;

use super::super::args::Version;
use super::super::emitter::Outgoing;
use super::super::event::{self, Content, Direction};
use super::super::people;
use super::super::random::Random;
use super::Shared;
use super::calls::{ActiveCall, Row, Utterance};

/// A call that was placed.
#[derive(Debug, Clone)]
pub struct Placed {
    pub call_id: String,
    pub to: String,
    pub from: String,
    pub message: Option<String>,
}

/// Whether the announcement overtakes the answer to the dial. Both were measured on the real server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timing {
    BeforeAnswer,
    AfterAnswer,
}

/// Writes the history row and sends `call_started` of an outbound call.
///
/// Waits for the event to be accepted, but not for long: before an answer, a bus that is down must not hold up the
/// dial. The event itself is pursued in its own task.
pub async fn announce(shared: &Arc<Shared>, placed: &Placed) {
    let at = naive_now();
    if shared.version != Version::V3 {
        shared.calls().history.insert(
            &placed.call_id,
            Row {
                call_type: "outbound",
                caller_number: Some(placed.from.clone()),
                callee_number: Some(placed.to.clone()),
                started_at: at,
                ended_at: None,
                status: "active",
                metadata: json!({ "initial_message": placed.message, "twilio_call_sid": placed.call_id }),
                transcript: Vec::new(),
            },
        );
    }
    let sending = {
        let (shared, call_id, to) = (
            Arc::clone(shared),
            placed.call_id.clone(),
            placed.to.clone(),
        );
        shared.tasks.clone().spawn(async move {
            emit(
                &shared,
                &call_id,
                Content::Started {
                    phone: &to,
                    direction: Direction::Outbound,
                },
                at,
            )
            .await;
        })
    };
    // Neither a timeout nor a panic of the task changes what is to be done here.
    drop(tokio::time::timeout(ANNOUNCE_WAIT, sending).await);
}

/// Ten times what the real race was ever seen to take.
const ANNOUNCE_WAIT: Duration = Duration::from_millis(50);

/// Everything after the answer to the dial.
pub async fn follow(shared: Arc<Shared>, placed: Placed, timing: Timing) {
    if timing == Timing::AfterAnswer {
        // The real event was seen 0.2 to 4.6 ms after the answer.
        let mut random = Random::stream(shared.seed, &placed.call_id, 1);
        if !pause(&shared, Duration::from_micros(200 + random.below(4_400))).await {
            return;
        }
        announce(&shared, &placed).await;
    }
    if shared.version != Version::V3 && shared.setup().openai_key {
        set_status(&shared, &placed.call_id, "realtime_ready");
    }
    if !shared.answer_calls || !pause(&shared, shared.pace).await {
        return;
    }
    // A call that was cancelled while it rang is not answered. Once it is, cancelling does not end it: on the real
    // server the conversation goes on.
    if shared.calls().active.get(&placed.call_id).is_none() {
        return;
    }
    match shared.version {
        Version::V3 => talk_unheard(&shared, &placed).await,
        Version::V1 | Version::V2 => talk(&shared, &placed).await,
    }
}

/// v3: the call becomes active and then completed, in the list of calls and nowhere else.
async fn talk_unheard(shared: &Shared, placed: &Placed) {
    set_status(shared, &placed.call_id, "active");
    for _ in 0..shared.transcripts {
        if !pause(shared, shared.pace).await {
            return;
        }
    }
    set_status(shared, &placed.call_id, "completed");
}

/// v1 and v2: OpenAI's leg, under its own id, with its own row.
async fn talk(shared: &Shared, placed: &Placed) {
    let mut random = Random::stream(shared.seed, &placed.call_id, 2);
    let call_id = format!("rtc_{}", random.hex(16));
    let phone = format!("sip:{}@sip.example.com", placed.to);
    let to = "sip:proj_simulated@sip.api.openai.com;transport=tls";
    let at = naive_now();
    {
        let mut calls = shared.calls();
        calls.history.insert(
            &call_id,
            Row {
                call_type: "inbound",
                caller_number: Some(phone.clone()),
                callee_number: Some(to.to_owned()),
                started_at: at,
                ended_at: None,
                status: "active",
                metadata: json!({ "sip_headers": [{ "name": "From", "value": phone }, { "name": "To", "value": to }] }),
                transcript: Vec::new(),
            },
        );
        // The list calls the leg outbound although its event says inbound, and does not know who talks to whom.
        let leg = ActiveCall {
            outbound: true,
            to: None,
            from: None,
            status: "active",
            started_at: Utc::now(),
        };
        calls.active.insert(&call_id, leg);
    }
    let (phone, direction) = (phone.as_str(), Direction::Inbound);
    emit(shared, &call_id, Content::Started { phone, direction }, at).await;
    for number in 1..=shared.transcripts {
        if !pause(shared, shared.pace).await {
            return;
        }
        let (at, speaker) = (naive_now(), people::speaker(number));
        let text = people::utterance(&mut random, &call_id, number, shared.transcripts);
        if let Some(row) = shared.calls().history.get_mut(&call_id) {
            row.transcript.push(Utterance {
                timestamp: event::timestamp(at),
                speaker,
                content: text.clone(),
                event_type: "speech",
                metadata: None,
            });
        }
        emit(
            shared,
            &call_id,
            Content::Utterance {
                speaker,
                text: &text,
            },
            at,
        )
        .await;
    }
    if !pause(shared, shared.pace).await {
        return;
    }
    let at = naive_now();
    {
        let mut calls = shared.calls();
        calls.active.remove(&call_id);
        if let Some(row) = calls.history.get_mut(&call_id) {
            row.ended_at = Some(at);
            row.status = "completed";
        }
    }
    emit(shared, &call_id, Content::Ended { phone, direction }, at).await;
}

fn set_status(shared: &Shared, call_id: &str, status: &'static str) {
    if let Some(call) = shared.calls().active.get_mut(call_id) {
        call.status = status;
    }
}

/// Sends an event if this server sends any. A record that cannot be written is reported; the call goes on.
async fn emit(shared: &Shared, call_id: &str, content: Content<'_>, at: NaiveDateTime) {
    let Some(emitter) = shared
        .emitter
        .as_ref()
        .filter(|_| shared.version == Version::V2)
    else {
        return;
    };
    let timestamp = event::timestamp(at);
    let event_type = content.event_type();
    let body = event::body(call_id, content, at);
    let outgoing = Outgoing {
        call_id,
        event_type,
        timestamp: &timestamp,
        body,
    };
    if let Err(error) = emitter.emit(&outgoing, &shared.stop).await {
        tracing::error!(%error, "the record cannot be written; an accepted event is missing in it");
    }
}

/// Waits, and tells whether to go on.
async fn pause(shared: &Shared, wait: Duration) -> bool {
    shared
        .stop
        .run_until_cancelled(tokio::time::sleep(wait))
        .await
        .is_some()
}

fn naive_now() -> NaiveDateTime {
    Utc::now().naive_utc()
}
