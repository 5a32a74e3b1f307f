//! `/openclaw/links`: which sessions the calls of numbers go to. Numbers are in bodies, and never in
//! a path: paths are logged on the way.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{answered, not_done, not_stored, wait};
use crate::bus::envelope::{self, LinkRequest};
use crate::bus::service;
use crate::domain::command::Status;
use crate::error_chain::Chain;
use crate::fresh_intent;
use crate::http::Error;
use crate::ingress::Ingress;

#[derive(Deserialize)]
pub(in crate::ingress) struct Link {
    number: String,
    openclaw_session_id: String,
    agent: Option<String>,
}

#[derive(Deserialize)]
pub(in crate::ingress) struct Unlink {
    number: String,
}

/// `GET /openclaw/links`: all links.
pub(in crate::ingress) async fn links(
    State(ingress): State<Ingress>,
) -> Result<Json<Value>, Error> {
    let answer = service::links(ingress.bus.connection()).await;
    let answer =
        answer.map_err(|error| Error::unavailable("egress_away", Chain(&error).to_string()))?;
    Ok(Json(json!({ "links": answer.links, "more": answer.more })))
}

/// `PUT /openclaw/links`: puts the calls of a number into a session from now on.
pub(in crate::ingress) async fn link(
    State(ingress): State<Ingress>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<Value>), Error> {
    let asked: Link = ingress.read_command(&headers, body).await?;
    let request = LinkRequest {
        number: asked.number,
        session: Some(asked.openclaw_session_id),
        agent: asked.agent,
    };
    set(&ingress, &request).await
}

/// `DELETE /openclaw/links`: leaves the calls of a number to the other rules again.
pub(in crate::ingress) async fn unlink(
    State(ingress): State<Ingress>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<Value>), Error> {
    let asked: Unlink = ingress.read_command(&headers, body).await?;
    let request = LinkRequest {
        number: asked.number,
        ..LinkRequest::default()
    };
    set(&ingress, &request).await
}

async fn set(ingress: &Ingress, request: &LinkRequest) -> Result<(StatusCode, Json<Value>), Error> {
    let invalid = |error: envelope::Error| {
        let text = Chain(&error).to_string();
        Error::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_command", text)
    };
    request.number().map_err(invalid)?;
    let session = request.session(&ingress.settings.agent).map_err(invalid)?;
    let id = fresh_intent();
    let outcome = ingress.bus.link(&id, request, wait::DEFAULT).await;
    let outcome = outcome.map_err(|error| not_stored(&error))?;
    let (code, status) = match answered(&outcome) {
        None | Some((Status::Accepted, _)) => (StatusCode::ACCEPTED, "queued"),
        Some((Status::Confirmed, _)) if session.is_some() => (StatusCode::OK, "linked"),
        Some((Status::Confirmed, _)) => (StatusCode::OK, "unlinked"),
        Some((status, command)) => return Err(not_done(status, command, None).about(id.as_str())),
    };
    let session = session.map(|session| session.to_string());
    Ok((
        code,
        Json(json!({ "status": status, "session_key": session, "command_id": id.as_str() })),
    ))
}
