//! `/openclaw/links`: which sessions the calls of numbers go to. Numbers are in bodies, and never in
//! a path: paths are logged on the way.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use serde::Deserialize;
use utoipa::ToSchema;

use super::{answered, not_done, not_stored, wait};
use crate::bus::envelope::{self, LinkRequest};
use crate::bus::service;
use crate::domain::command::Status;
use crate::error_chain::Chain;
use crate::fresh_intent;
use crate::http::Error;
use crate::http::error::Refusal;
use crate::ingress::Ingress;
use crate::ingress::answers::{LinkSet, Links};

/// Where the calls of a number shall go.
#[derive(Deserialize, ToSchema)]
pub(in crate::ingress) struct Link {
    /// In E.164.
    number: String,
    openclaw_session_id: String,
    /// Whose session it is.
    agent: Option<String>,
}

/// Whose calls shall go where the other rules say.
#[derive(Deserialize, ToSchema)]
pub(in crate::ingress) struct Unlink {
    /// In E.164.
    number: String,
}

/// All links.
#[utoipa::path(get, path = "/openclaw/links", tag = "commands",
    responses((status = 200, body = Links)))]
pub(in crate::ingress) async fn links(
    State(ingress): State<Ingress>,
) -> Result<Json<Links>, Error> {
    let answer = service::links(ingress.bus.connection()).await;
    let answer =
        answer.map_err(|error| Error::unavailable("egress_away", Chain(&error).to_string()))?;
    Ok(Json(Links {
        links: answer.links,
        more: answer.more,
    }))
}

/// Puts the calls of a number into a session from now on.
#[utoipa::path(put, path = "/openclaw/links", tag = "commands", request_body = Link,
    responses(
        (status = 200, body = LinkSet), (status = 202, body = LinkSet), (status = 403, body = Refusal),
        (status = 404, body = Refusal), (status = 409, body = Refusal), (status = 422, body = Refusal),
        (status = 502, body = Refusal), (status = 504, body = Refusal)
    ))]
pub(in crate::ingress) async fn link(
    State(ingress): State<Ingress>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<LinkSet>), Error> {
    let asked: Link = ingress.read_command(&headers, body).await?;
    let request = LinkRequest {
        number: asked.number,
        session: Some(asked.openclaw_session_id),
        agent: asked.agent,
    };
    set(&ingress, &request).await
}

/// Leaves the calls of a number to the other rules again.
#[utoipa::path(delete, path = "/openclaw/links", tag = "commands", request_body = Unlink,
    responses(
        (status = 200, body = LinkSet), (status = 202, body = LinkSet), (status = 403, body = Refusal),
        (status = 404, body = Refusal), (status = 409, body = Refusal), (status = 422, body = Refusal),
        (status = 502, body = Refusal), (status = 504, body = Refusal)
    ))]
pub(in crate::ingress) async fn unlink(
    State(ingress): State<Ingress>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<LinkSet>), Error> {
    let asked: Unlink = ingress.read_command(&headers, body).await?;
    let request = LinkRequest {
        number: asked.number,
        ..LinkRequest::default()
    };
    set(&ingress, &request).await
}

async fn set(
    ingress: &Ingress,
    request: &LinkRequest,
) -> Result<(StatusCode, Json<LinkSet>), Error> {
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
    let set = LinkSet {
        status,
        session_key: session.map(|session| session.to_string()),
        command_id: id.to_string(),
    };
    Ok((code, Json(set)))
}
