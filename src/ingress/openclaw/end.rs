//! `DELETE /openclaw/call/{id}`: ends the calls of a session and takes back those that wait, or one
//! that was not placed yet.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::{answered, is_first_leg, no_session, not_done, not_stored, wait};
use crate::domain::command::Status;
use crate::domain::ids::{CallId, IntentId};
use crate::fresh_intent;
use crate::http::Error;
use crate::ingress::Ingress;

/// Most calls that are ended for one session by one request.
const ENDED_AT_ONCE_MAX: usize = 8;

/// `DELETE /openclaw/call/{id}`: ends the calls of a session, and takes back the dials that it waits
/// for, as far as egress has told of them. An intent's id takes that call back, also when the intent itself is still on its way: it is never placed then.
pub(in crate::ingress) async fn end_call(
    State(ingress): State<Ingress>,
    Path(id): Path<String>,
) -> Result<(StatusCode, Json<Value>), Error> {
    if let Some(intent) = intent(&id) {
        ingress
            .bus
            .cancel_dial(&intent)
            .await
            .map_err(|error| not_stored(&error))?;
        return Ok((
            StatusCode::ACCEPTED,
            Json(json!({
                "status": "canceling",
                "intent_id": intent.as_str(),
                "message": format!("the call is taken back unless it was placed already; ask at /openclaw/call/{intent}"),
            })),
        ));
    }
    let session = id;
    let key = ingress.session_key(&session)?;
    let view = ingress.session_view(&key).await?;
    // First those that are not placed yet: they would be calls in a moment.
    let waiting = view
        .waiting
        .iter()
        .filter_map(|id| IntentId::parse(id).ok());
    let mut taken_back = Vec::new();
    for intent in waiting {
        let stored = ingress.bus.cancel_dial(&intent).await;
        stored.map_err(|error| not_stored(&error))?;
        taken_back.push(intent.to_string());
    }
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
            Some((status, command)) => failure = Some(not_done(status, command, None)),
        }
    }
    match (ended.first(), failure) {
        (Some(call), _) => Ok((
            StatusCode::OK,
            Json(json!({
                "status": "canceled",
                "call_id": call.as_str(),
                "calls": ended.len(),
                "intent_ids": taken_back,
            })),
        )),
        (None, Some(failure)) => Err(failure),
        (None, None) if !taken_back.is_empty() => Ok((
            StatusCode::ACCEPTED,
            Json(json!({
                "status": "canceling",
                "intent_ids": taken_back,
                "message": "the calls are taken back unless they were placed already; ask at /openclaw/call/{intent}",
            })),
        )),
        (None, None) => Err(no_session()),
    }
}

/// The intent of an id that one of our doors has given: `i-` or `k-`, and 32 hex digits. Everything
/// else is a session.
fn intent(id: &str) -> Option<IntentId> {
    let digits = id.strip_prefix("i-").or_else(|| id.strip_prefix("k-"))?;
    let ours = digits.len() == 32 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    ours.then(|| IntentId::parse(id).ok())?
}
