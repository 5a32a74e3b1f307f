//! Ending a call: asked of the server, as often as it takes, for doing it twice does no harm.

use super::health::Health;
use super::outcome::of_cancel;
use super::tell::Teller;
use super::voice_server::{Error, VoiceServer};
use crate::bus::service::{self, CallView};
use crate::bus::trouble::Trouble;
use crate::domain::command::{Reason, Report, Status, Verb};
use crate::domain::ids::{CallId, IntentId, SessionKey};
use crate::domain::input::InputKind;

/// Deliveries after which a server that does not answer is given up.
const ATTEMPTS_MAX: u64 = 3;

/// Who hangs up.
#[derive(Clone)]
pub(super) struct HangUp {
    pub server: VoiceServer,
    pub health: Health,
    pub teller: Teller,
}

impl HangUp {
    /// Has the server end a call, and tells what came of it.
    pub async fn perform(
        &self,
        id: IntentId,
        call: &CallId,
        session: SessionKey,
        attempt: u64,
    ) -> Result<(), Trouble> {
        let connection = self.teller.bus.connection();
        let known = service::call(connection, call.as_str())
            .await
            .ok()
            .flatten();
        let leg = leg_to_cancel(call, known.as_ref());
        let is_talked_on = known.is_some_and(|known| known.call.state == "active");
        let reason = match self.ask(&leg, &id, is_talked_on).await {
            Ok(reason) => reason,
            Err(error) if attempt < ATTEMPTS_MAX => {
                return Err(Trouble::Wait(error.to_string()));
            }
            Err(error) => Some(Reason::new("unreachable", error.to_string())),
        };
        if reason.is_none() {
            let name = format!("{id} cancelled");
            self.teller.input(&leg, &name, InputKind::Cancelled).await?;
        }
        let status = if reason.is_none() {
            Status::Confirmed
        } else {
            Status::Refused
        };
        self.teller
            .report(Report {
                intent: id,
                verb: Verb::Hangup,
                session,
                to: None,
                call: Some(call.clone()),
                status,
                reason,
            })
            .await
    }

    /// A tap ends any call. The server itself only takes back those that nobody has picked up: of a
    /// call that is talked on it says that it did, forgets it, and the call goes on.
    async fn ask(
        &self,
        leg: &CallId,
        id: &IntentId,
        is_talked_on: bool,
    ) -> Result<Option<Reason>, Error> {
        if self.health.tap().is_some_and(|tap| tap.hangs_up) {
            let answer = self.server.hang_up(leg, id).await?;
            if answer.tapped && (answer.status < 500 || is_talked_on) {
                return Ok(of_cancel(answer.status, &answer.body));
            }
        }
        if is_talked_on {
            return Ok(Some(Reason::new(
                "unsupported",
                "the voice server has no tap, and without one it cannot end a call that is talked on",
            )));
        }
        let answer = self.server.cancel_call(leg).await?;
        Ok(of_cancel(answer.status, &answer.body))
    }
}

/// The server only takes back outbound calls, by their first id. For a second leg the router knows
/// the first.
fn leg_to_cancel(call: &CallId, known: Option<&CallView>) -> CallId {
    if call.as_str().starts_with("CA") {
        return call.clone();
    }
    let other = known
        .and_then(|known| known.call.other_leg.as_ref())
        .and_then(|id| CallId::parse(id).ok());
    other.unwrap_or_else(|| call.clone())
}
