//! `DELETE /openclaw/call/{session}`: ends the calls of a session.

use axum::Json;
use axum::extract::{Path, State};
use serde_json::{Value, json};

use super::{answered, is_first_leg, no_session, not_done, not_stored, wait};
use crate::domain::command::Status;
use crate::domain::ids::CallId;
use crate::fresh_intent;
use crate::http::Error;
use crate::ingress::Ingress;

/// Most calls that are ended for one session by one request.
const ENDED_AT_ONCE_MAX: usize = 8;

/// `DELETE /openclaw/call/{session}`: ends the calls of a session.
pub(in crate::ingress) async fn end_call(
    State(ingress): State<Ingress>,
    Path(session): Path<String>,
) -> Result<Json<Value>, Error> {
    let key = ingress.session_key(&session)?;
    let view = ingress.session_view(&key).await?;
    let mut ended = Vec::new();
    let mut failure = None;
    for call in view
        .active
        .iter()
        .filter(|call| is_first_leg(call))
        .take(ENDED_AT_ONCE_MAX)
    {
        let Ok(id) = CallId::parse(&call.call.id) else {
            continue;
        };
        let outcome = ingress
            .bus
            .hang_up(&fresh_intent(), &id, Some(key.to_string()), wait::DEFAULT)
            .await;
        let outcome = outcome.map_err(|error| not_stored(&error))?;
        match answered(&outcome) {
            Some((Status::Confirmed, _)) | None => ended.push(id),
            Some((status, command)) => failure = Some(not_done(status, command)),
        }
    }
    match (ended.first(), failure) {
        (Some(call), _) => Ok(Json(
            json!({ "status": "canceled", "call_id": call.as_str(), "calls": ended.len() }),
        )),
        (None, Some(failure)) => Err(failure),
        (None, None) => Err(no_session()),
    }
}
