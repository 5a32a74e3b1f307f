//! Telling the router what became of commands and calls. Telling twice is telling once: the id of
//! what is told is made of what it says.

use chrono::Utc;
use sha2::{Digest, Sha256};
use tracing::{info, warn};

use crate::bus::Bus;
use crate::bus::envelope::encode_input;
use crate::bus::trouble::Trouble;
use crate::domain::Timestamp;
use crate::domain::command::{Dial, Reason, Report, Verb};
use crate::domain::dial::State;
use crate::domain::ids::{CallId, EventId};
use crate::domain::input::{Context, Input, InputKind, Position};

/// The way to the router.
#[derive(Clone)]
pub(super) struct Teller {
    pub bus: Bus,
}

impl Teller {
    /// Tells how a dial stands.
    pub async fn dial(&self, dial: &Dial, state: &State) -> Result<(), Trouble> {
        match state {
            State::Confirmed { call } => {
                info!(intent.id = %dial.intent, call.id = %call, "call placed");
                let dialled = InputKind::Dialled {
                    intent: dial.intent.clone(),
                    session: dial.session.clone(),
                    to: dial.to.clone(),
                };
                let context = dial.context.as_ref();
                let told_of_call = async {
                    self.input(call, &format!("{} dialled", dial.intent), dialled)
                        .await?;
                    // Told after the call is known by its session.
                    if let Some(context) = context {
                        // Nobody has picked up yet, so there is no conversation to tell.
                        let context = InputKind::Context(Context {
                            json: context.clone(),
                            live: false,
                        });
                        self.input(call, &format!("{} context", dial.intent), context)
                            .await?;
                    }
                    Ok(())
                };
                let report = self.report(Self::report_of(dial, state));
                tokio::try_join!(told_of_call, report)?;
                return Ok(());
            }
            State::Unknown { reason, .. } => {
                warn!(intent.id = %dial.intent, code = reason.code, "it is not known whether the phone rang");
            }
            _ => {
                let code = state.reason().map(|reason| reason.code.as_str());
                info!(intent.id = %dial.intent, status = state.status().as_str(), code, "dial");
            }
        }
        self.report(Self::report_of(dial, state)).await
    }

    fn report_of(dial: &Dial, state: &State) -> Report {
        let reason = match state {
            State::Expired => Some(Reason::new(
                "deadline",
                "the deadline passed before the call could be placed",
            )),
            State::Cancelled => Some(Reason::new(
                "cancelled",
                "it was taken back before the call was placed",
            )),
            State::Waiting { .. } => None,
            state => state.reason().cloned(),
        };
        Report {
            intent: dial.intent.clone(),
            verb: Verb::Dial,
            session: dial.session.clone(),
            to: Some(dial.to.clone()),
            call: state.call().cloned(),
            status: state.status(),
            reason,
        }
    }

    /// Tells what became of a command, in the command's own log.
    pub async fn report(&self, report: Report) -> Result<(), Trouble> {
        let log = CallId::parse(report.intent.as_str()).map_err(own)?;
        let (verb, status) = (report.verb.as_str(), report.status.as_str());
        crate::metrics::command(verb, status);
        let name = format!("{verb} {} {status}", report.intent);
        self.input(&log, &name, InputKind::Command(report)).await
    }

    /// Puts an input of our own into the stream; `name` makes its id.
    pub async fn input(&self, call: &CallId, name: &str, kind: InputKind) -> Result<(), Trouble> {
        let id = format!("ev_{}", hex(&Sha256::digest(format!("egress {name}"))));
        let id = EventId::parse(id.get(..35).unwrap_or(&id)).map_err(own)?;
        let now: Timestamp = Utc::now();
        let input = Input {
            id,
            call: call.clone(),
            position: Position::default(),
            happened_at: Some(now),
            received_at: now,
            source_sequence: None,
            kind,
        };
        let payload = encode_input(&input, "egress", None, None).map_err(own)?;
        let subject = self.bus.subjects().input(call, &input.kind);
        self.bus.store(subject, input.id.as_str(), payload).await?;
        Ok(())
    }
}

fn own(error: impl std::fmt::Display) -> Trouble {
    Trouble::Own(error.to_string())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
