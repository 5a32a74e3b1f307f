//! What people decide about calls that were asked for.
//!
//! Taking one back is as harmless as asking for it, and takes an agent's rights. To say what became
//! of one, or to let dialling go on after a loss, takes a person: the operator's.

use std::io::Write;
use std::time::Duration;

use crate::bus::envelope::ResolveRequest;
use crate::bus::service::{self, IntentAnswer};
use crate::bus::{Bus, Connection, subjects};
use crate::cli::Exit;
use crate::cli::confirm::confirmed;
use crate::cli::target::Target;
use crate::cli::text::{Numbers, clean};
use crate::domain::ids::{CallId, IntentId};

/// How long one waits to see a command take effect.
const WAIT: Duration = Duration::from_secs(10);
/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(200);

/// Take one back.
#[derive(Debug, clap::Args)]
pub struct Cancel {
    /// The intent, as `voicebus call` has named it.
    #[arg(value_name = "ID", value_parser = IntentId::parse)]
    id: IntentId,
}

/// Say what became of one.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub struct Outcome {
    /// It made this call.
    #[arg(long, value_name = "CALL", value_parser = CallId::parse)]
    confirmed: Option<CallId>,

    /// Nothing more will be known; a sentence says why.
    #[arg(long, value_name = "WHY")]
    abandoned: Option<String>,
}

/// Say what became of one.
#[derive(Debug, clap::Args)]
pub struct Resolve {
    /// The intent, as `voicebus call unresolved` lists it.
    #[arg(value_name = "ID", value_parser = IntentId::parse)]
    id: IntentId,

    #[command(flatten)]
    outcome: Outcome,
}

/// Let dialling go on.
#[derive(Debug, clap::Args)]
pub struct Resume {
    /// Do not ask.
    #[arg(long)]
    yes: bool,
}

impl Cancel {
    pub async fn run(&self, target: &Target, out: &mut dyn Write) -> anyhow::Result<Exit> {
        let bus = Bus::open(target.agent().await?).await?;
        bus.cancel_dial(&self.id).await?;
        let is_done = |one: &IntentAnswer| !matches!(one.state.as_str(), "waiting" | "sending");
        let known = seen(bus.connection(), &self.id, is_done).await?;
        tell(&self.id, known.as_ref(), "cancelled", out)
    }
}

impl Resolve {
    pub async fn run(&self, target: &Target, out: &mut dyn Write) -> anyhow::Result<Exit> {
        let looker = target.observer().await?;
        match service::intent(&looker, &self.id).await? {
            None => anyhow::bail!("egress has never heard of {}", self.id),
            Some(known) if known.state == "unknown" => {}
            Some(known) => {
                return tell(&self.id, Some(&known), "unknown", out).map(|_| Exit::Wrong);
            }
        }
        let request = ResolveRequest {
            confirmed: self.outcome.confirmed.as_ref().map(ToString::to_string),
            abandoned: self.outcome.abandoned.clone(),
        };
        let wanted = match request.confirmed {
            Some(_) => "confirmed",
            None => "abandoned",
        };
        let payload = serde_json::to_vec(&request)?;
        command(target, subjects::resolve(&self.id), payload).await?;
        let is_done = |one: &IntentAnswer| one.state != "unknown";
        let known = seen(&looker, &self.id, is_done).await?;
        tell(&self.id, known.as_ref(), wanted, out)
    }
}

impl Resume {
    pub async fn run(&self, target: &Target, out: &mut dyn Write) -> anyhow::Result<Exit> {
        let looker = target.observer().await?;
        let Some(why) = service::egress_status(&looker).await?.safe_mode else {
            writeln!(out, "the egress that answered dials already")?;
            return Ok(Exit::Fine);
        };
        let question = format!("{}. Let dialling go on?", clean(&why));
        if !confirmed(&question, self.yes)? {
            return Ok(Exit::Wrong);
        }
        command(target, subjects::resume(), b"{}".to_vec()).await?;
        writeln!(
            out,
            "dialling goes on within seconds; `voicebus doctor` and /status tell when"
        )?;
        Ok(Exit::Fine)
    }
}

/// Stores a command that only people may give.
async fn command(target: &Target, subject: String, payload: Vec<u8>) -> anyhow::Result<()> {
    let bus = Bus::open(target.operator().await?).await?;
    let id = uuid::Uuid::now_v7().simple().to_string();
    bus.store(subject, &id, payload.into()).await?;
    Ok(())
}

/// The record once it is as wanted, or as it is when the wait is over.
async fn seen(
    bus: &Connection,
    id: &IntentId,
    is_done: impl Fn(&IntentAnswer) -> bool,
) -> anyhow::Result<Option<IntentAnswer>> {
    let deadline = tokio::time::Instant::now() + WAIT;
    loop {
        let known = service::intent(bus, id).await?;
        if known.as_ref().is_some_and(&is_done) || tokio::time::Instant::now() >= deadline {
            return Ok(known);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn tell(
    id: &IntentId,
    known: Option<&IntentAnswer>,
    wanted: &str,
    out: &mut dyn Write,
) -> anyhow::Result<Exit> {
    let Some(known) = known else {
        writeln!(out, "egress has not taken {id} up yet")?;
        return Ok(Exit::Wrong);
    };
    let reason = known.reason.as_deref();
    let why = reason.map_or_else(String::new, |text| {
        format!(": {}", Numbers::Masked.in_text(text))
    });
    let call = known.call.as_deref();
    let call = call.map_or_else(String::new, |call| format!(", call {}", clean(call)));
    writeln!(out, "{id} is {}{call}{why}", clean(&known.state))?;
    Ok(if known.state == wanted {
        Exit::Fine
    } else {
        Exit::Wrong
    })
}
