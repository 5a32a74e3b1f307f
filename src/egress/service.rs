//! Egress's micro service: dial, hang up and say by request and reply.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;

use super::dialling::Dialling;
use super::room::RECORDS_FULL;
use super::sessions::Links;
use super::{Egress, Health, VoiceServer, history};
use crate::bus::command::{Error as CommandError, Named};
use crate::bus::envelope::{DialRequest, HangupRequest, SayRequest};
use crate::bus::service::{
    Answer, ByCall, ById, EgressStatus, FillQuery, IntentAnswer, PresenceAnswer, Service,
    UnresolvedAnswer, answer, endpoint, json, offer,
};
use crate::bus::{Bus, subjects};
use crate::domain::ids::{AgentId, CallId, IntentId};
use crate::supervise::Supervisor;

/// Requests waiting for an outcome at once, per endpoint.
const CONCURRENCY: usize = 64;
/// Questions to the phone-call server at once: it answers one after the other, and has calls to
/// make.
const CONCURRENCY_OF_READS: usize = 4;
/// Dials in one answer at most: some 500 bytes each, well below what one message may hold.
const UNRESOLVED_MAX: usize = 200;
/// Links in one answer at most: some 150 bytes each.
const LINKS_MAX: usize = 1_000;
/// How long a request waits for the outcome when it does not say.
const WAIT_DEFAULT: Duration = Duration::from_secs(20);

pub(super) async fn start(egress: &Egress, tasks: &mut Supervisor) -> anyhow::Result<()> {
    let Egress {
        bus,
        server,
        worker,
        health,
        agent,
    } = egress;
    let service = offer(
        bus,
        "voicebus-egress",
        "places and ends calls, and knows what the voice server knows of them",
    )
    .await
    .map_err(anyhow::Error::msg)?;
    let service = Arc::new(service);

    let dial = endpoint(&service, "dial", subjects::SERVICE_DIAL)
        .await
        .map_err(anyhow::Error::msg)?;
    let (doors, stop, kept) = (
        Doors {
            bus: bus.clone(),
            agent: agent.clone(),
        },
        tasks.stop_token(),
        Arc::clone(&service),
    );
    tasks.critical("egress service dial", async move {
        answer(dial, CONCURRENCY, &stop, |request| {
            let doors = doors.clone();
            async move { doors.dial(&request).await }
        })
        .await;
        drop(kept);
        Ok(())
    });

    let hangup = endpoint(&service, "hangup", subjects::SERVICE_HANGUP)
        .await
        .map_err(anyhow::Error::msg)?;
    let (doors, stop) = (
        Doors {
            bus: bus.clone(),
            agent: agent.clone(),
        },
        tasks.stop_token(),
    );
    tasks.critical("egress service hangup", async move {
        answer(hangup, CONCURRENCY, &stop, |request| {
            let doors = doors.clone();
            async move { doors.hang_up(&request).await }
        })
        .await;
        Ok(())
    });

    let say = endpoint(&service, "say", subjects::SERVICE_SAY)
        .await
        .map_err(anyhow::Error::msg)?;
    let (doors, stop) = (
        Doors {
            bus: bus.clone(),
            agent: agent.clone(),
        },
        tasks.stop_token(),
    );
    tasks.critical("egress service say", async move {
        answer(say, CONCURRENCY, &stop, |request| {
            let doors = doors.clone();
            async move { doors.say(&request).await }
        })
        .await;
        Ok(())
    });

    let status = endpoint(&service, "status", subjects::SERVICE_EGRESS_STATUS)
        .await
        .map_err(anyhow::Error::msg)?;
    let (known, worker, stop) = (health.clone(), worker.clone(), tasks.stop_token());
    tasks.critical("egress service status", async move {
        answer(status, CONCURRENCY, &stop, |_request| {
            let (known, worker) = (known.clone(), worker.clone());
            async move {
                let state = known.state();
                let dialling = &worker.dialling;
                let closed = dialling.gate.closed().map(|reason| reason.code);
                let full = || {
                    dialling
                        .room
                        .is_used_up()
                        .then(|| RECORDS_FULL.0.to_owned())
                };
                let unresolved = dialling.intents.unresolved(UNRESOLVED_MAX).await;
                json(&EgressStatus {
                    voice_server: state.as_str().to_owned(),
                    voice_server_version: state.version().map(str::to_owned),
                    in_flight: worker.in_flight.load(Ordering::Relaxed),
                    dialling: closed.or_else(full).unwrap_or_else(|| "open".to_owned()),
                    safe_mode: dialling.high_water.safe_mode(),
                    high_water_mark: dialling.high_water.is_kept(),
                    tap: known.tap_since().is_some(),
                    unresolved: unresolved.ok().map(|unresolved| unresolved.len()),
                })
            }
        })
        .await;
        Ok(())
    });

    offer_records(&service, &egress.worker.dialling, tasks).await?;
    offer_links(&service, &egress.worker.links, tasks).await?;
    offer_reads(&service, bus, health, server, tasks).await
}

/// How far dials have come.
async fn offer_records(
    service: &Service,
    dialling: &Dialling,
    tasks: &mut Supervisor,
) -> anyhow::Result<()> {
    let intent = endpoint(service, "intent", subjects::SERVICE_EGRESS_INTENT)
        .await
        .map_err(anyhow::Error::msg)?;
    let (records, stop) = (dialling.intents.clone(), tasks.stop_token());
    tasks.critical("egress service intent", async move {
        answer(intent, CONCURRENCY, &stop, |request| {
            let records = records.clone();
            async move {
                let query: ById = serde_json::from_slice(&request)
                    .map_err(|error| (400, format!("the request cannot be read: {error}")))?;
                let intent =
                    IntentId::parse(&query.id).map_err(|error| (400, error.to_string()))?;
                let found = records.find_at_leader(&intent).await.map_err(away)?;
                let none = || (404, "no dial of this id is known".to_owned());
                json(&IntentAnswer::of(&intent, &found.record.ok_or_else(none)?))
            }
        })
        .await;
        Ok(())
    });

    let unresolved = endpoint(service, "unresolved", subjects::SERVICE_EGRESS_UNRESOLVED)
        .await
        .map_err(anyhow::Error::msg)?;
    let (records, stop) = (dialling.intents.clone(), tasks.stop_token());
    tasks.critical("egress service unresolved", async move {
        answer(unresolved, CONCURRENCY_OF_READS, &stop, |_request| {
            let records = records.clone();
            async move {
                let found = records.unresolved(UNRESOLVED_MAX).await.map_err(away)?;
                let intents = found
                    .iter()
                    .map(|(intent, record)| IntentAnswer::of(intent, record))
                    .collect();
                json(&UnresolvedAnswer { intents })
            }
        })
        .await;
        Ok(())
    });
    Ok(())
}

/// Which numbers are linked to which sessions.
async fn offer_links(
    service: &Service,
    links: &Links,
    tasks: &mut Supervisor,
) -> anyhow::Result<()> {
    let endpoint = endpoint(service, "links", subjects::SERVICE_EGRESS_LINKS)
        .await
        .map_err(anyhow::Error::msg)?;
    let (links, stop) = (links.clone(), tasks.stop_token());
    tasks.critical("egress service links", async move {
        answer(endpoint, CONCURRENCY_OF_READS, &stop, |_request| {
            let links = links.clone();
            async move { json(&links.all(LINKS_MAX).await.map_err(away)?) }
        })
        .await;
        Ok(())
    });
    Ok(())
}

#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn away(error: crate::bus::bucket::Error) -> (u16, String) {
    (503, crate::error_chain::Chain(&error).to_string())
}

/// What the phone-call server knows of a call.
async fn offer_reads(
    service: &Service,
    bus: &Bus,
    health: &Health,
    server: &VoiceServer,
    tasks: &mut Supervisor,
) -> anyhow::Result<()> {
    let call = endpoint(service, "call", subjects::SERVICE_EGRESS_CALL)
        .await
        .map_err(anyhow::Error::msg)?;
    let (known, voice_server, stop) = (health.clone(), server.clone(), tasks.stop_token());
    tasks.critical("egress service call", async move {
        answer(call, CONCURRENCY_OF_READS, &stop, |request| {
            let (known, voice_server) = (known.clone(), voice_server.clone());
            async move {
                let call = by_call(&request)?;
                let presence = history::presence(&voice_server, &known, &call).await;
                json(&PresenceAnswer {
                    presence: presence.as_str().to_owned(),
                })
            }
        })
        .await;
        Ok(())
    });

    let transcript = endpoint(service, "transcript", subjects::SERVICE_EGRESS_TRANSCRIPT)
        .await
        .map_err(anyhow::Error::msg)?;
    let (bus, voice_server, stop) = (bus.clone(), server.clone(), tasks.stop_token());
    tasks.critical("egress service transcript", async move {
        answer(transcript, CONCURRENCY_OF_READS, &stop, |request| {
            let (bus, voice_server) = (bus.clone(), voice_server.clone());
            async move {
                let query: FillQuery = query(&request)?;
                let call = call_id(&query.call)?;
                json(&history::fill(&bus, &voice_server, &call, query.goes_on).await?)
            }
        })
        .await;
        Ok(())
    });
    Ok(())
}

fn by_call(request: &Bytes) -> Result<CallId, (u16, String)> {
    let query: ByCall = query(request)?;
    call_id(&query.call)
}

fn query<T: serde::de::DeserializeOwned>(request: &Bytes) -> Result<T, (u16, String)> {
    serde_json::from_slice(request)
        .map_err(|error| (400, format!("the request cannot be read: {error}")))
}

fn call_id(text: &str) -> Result<CallId, (u16, String)> {
    CallId::parse(text).map_err(|error| (400, error.to_string()))
}

#[derive(Clone)]
struct Doors {
    bus: Bus,
    agent: AgentId,
}

impl Doors {
    async fn dial(&self, request: &Bytes) -> Answer {
        let request = DialRequest::decode(request).map_err(bad_request)?;
        let named = match &request.intent {
            Some(_) => Named::ByCaller,
            None => Named::Now,
        };
        let intent = intent(request.intent.as_deref())?;
        request
            .to_dial(intent.clone(), &self.agent, chrono::Utc::now())
            .map_err(bad_request)?;
        let outcome = self
            .bus
            .dial(&intent, named, &request, wait(request.wait_ms))
            .await
            .map_err(not_stored)?;
        json(&outcome)
    }

    async fn hang_up(&self, request: &Bytes) -> Answer {
        let request = HangupRequest::decode(request).map_err(bad_request)?;
        let id = intent(request.id.as_deref())?;
        let call = request.call().map_err(bad_request)?;
        let wait = wait(request.wait_ms);
        let outcome = self
            .bus
            .hang_up(&id, &call, request.session, wait)
            .await
            .map_err(not_stored)?;
        json(&outcome)
    }

    async fn say(&self, request: &Bytes) -> Answer {
        let request = SayRequest::decode(request).map_err(bad_request)?;
        let id = intent(request.id.as_deref())?;
        let call = request.call().map_err(bad_request)?;
        request
            .to_say(id.clone(), call.clone(), &self.agent, chrono::Utc::now())
            .map_err(bad_request)?;
        let outcome = self
            .bus
            .say(&id, &call, &request, wait(request.wait_ms))
            .await
            .map_err(not_stored)?;
        json(&outcome)
    }
}

fn intent(text: Option<&str>) -> Result<IntentId, (u16, String)> {
    match text {
        Some(text) => IntentId::parse(text).map_err(|error| (400, error.to_string())),
        None => Ok(crate::fresh_intent()),
    }
}

fn wait(asked_ms: Option<u64>) -> Duration {
    asked_ms.map_or(WAIT_DEFAULT, Duration::from_millis)
}

fn bad_request(error: crate::bus::envelope::Error) -> (u16, String) {
    (400, crate::error_chain::Chain(&error).to_string())
}

fn not_stored(error: CommandError) -> (u16, String) {
    match error {
        CommandError::Request(error) => bad_request(error),
        error @ CommandError::Conflict => (409, error.to_string()),
        error @ (CommandError::Publish(_) | CommandError::Listen(_) | CommandError::Read(_)) => {
            (503, crate::error_chain::Chain(&error).to_string())
        }
    }
}
