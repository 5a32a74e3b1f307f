//! The router's micro service: the read model for anybody who may ask.

use std::sync::Arc;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

use super::View;
use crate::bus::service::{Answer, ById, CallsQuery, answer, endpoint, json, offer};
use crate::bus::{Bus, subjects};
use crate::supervise::Supervisor;

/// Questions answered at once per endpoint; each is a look into memory.
const CONCURRENCY: usize = 16;

pub(super) async fn start(
    bus: &Bus,
    view: &View,
    tasks: &mut Supervisor,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let service = offer(
        bus,
        "voicebus-router",
        "calls, sessions and commands as the public feed has them",
    )
    .await
    .map_err(anyhow::Error::msg)?;
    let service = Arc::new(service);
    for (name, subject, question) in QUESTIONS {
        let endpoint = endpoint(&service, name, subject)
            .await
            .map_err(anyhow::Error::msg)?;
        // The service lives as long as its endpoints: when it is dropped it is no longer listed.
        let (view, stop, service) = (view.clone(), stop.clone(), Arc::clone(&service));
        tasks.critical(format!("router service {name}"), async move {
            answer(endpoint, CONCURRENCY, &stop, |request| {
                let given = if view.is_ready() {
                    question(&view, &request)
                } else {
                    not_ready()
                };
                std::future::ready(given)
            })
            .await;
            drop(service);
            Ok(())
        });
    }
    Ok(())
}

type Question = fn(&View, &Bytes) -> Answer;

const QUESTIONS: [(&str, &str, Question); 5] = [
    (
        "calls-list",
        subjects::SERVICE_CALLS_LIST,
        |view, request| json(&view.calls(&read::<CallsQuery>(request)?)),
    ),
    ("calls-get", subjects::SERVICE_CALLS_GET, |view, request| {
        found(
            view.call(&read::<ById>(request)?.id),
            "no call of this id is known",
        )
    }),
    (
        "sessions-list",
        subjects::SERVICE_SESSIONS_LIST,
        |view, _| json(&view.sessions()),
    ),
    (
        "sessions-get",
        subjects::SERVICE_SESSIONS_GET,
        |view, request| {
            found(
                view.session(&read::<ById>(request)?.id),
                "no call of this session is known",
            )
        },
    ),
    (
        "commands-get",
        subjects::SERVICE_COMMANDS_GET,
        |view, request| {
            found(
                view.command(&read::<ById>(request)?.id),
                "no command of this id is known",
            )
        },
    ),
];

fn not_ready() -> Answer {
    Err((
        503,
        "the router is still reading the stream; ask again".to_owned(),
    ))
}

/// An empty request asks for nothing in particular.
fn read<T: DeserializeOwned>(request: &Bytes) -> Result<T, (u16, String)> {
    let bytes = if request.is_empty() {
        b"{}".as_slice()
    } else {
        request
    };
    serde_json::from_slice(bytes)
        .map_err(|error| (400, format!("the request cannot be read: {error}")))
}

fn found<T: serde::Serialize>(thing: Option<T>, otherwise: &str) -> Answer {
    thing.map_or_else(|| Err((404, otherwise.to_owned())), |thing| json(&thing))
}
