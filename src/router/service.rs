//! The router's micro service: the read model for anybody who may ask.

use std::sync::Arc;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

use super::View;
use crate::bus::service::{
    Answer, ById, CallerAnswer, CallerQuery, CallsQuery, answer, endpoint, json, offer,
};
use crate::bus::{Bus, subjects};
use crate::domain::phone::E164;
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

const QUESTIONS: [(&str, &str, Question); 6] = [
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
    ("callers-get", subjects::SERVICE_CALLERS_GET, caller),
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

/// The calls with a number, or with the person at the other end of a call.
fn caller(view: &View, request: &Bytes) -> Answer {
    let refused = |text: &str| Err((400, text.to_owned()));
    // What cannot be read is not repeated: it may hold a number.
    let Ok(query) = read::<CallerQuery>(request) else {
        return refused(
            "the request is a JSON object with `number` or `call`, and perhaps `limit`",
        );
    };
    match (&query.number, &query.call) {
        (Some(number), None) => match E164::parse(number) {
            Ok(number) => json(&view.caller(&number, None, query.limit)),
            Err(error) => refused(&error.to_string()),
        },
        (None, Some(id)) => {
            let Some(asked) = view.first_leg(id) else {
                return found(None::<()>, "no call of this id is known");
            };
            match asked.call.number.as_deref().map(E164::parse) {
                Some(Ok(number)) => json(&view.caller(&number, Some(&asked.call.id), query.limit)),
                // The number was withheld: two such callers are never the same person.
                Some(Err(_)) | None => json(&CallerAnswer::default()),
            }
        }
        (Some(_), Some(_)) | (None, None) => refused("the request names either a number or a call"),
    }
}

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
