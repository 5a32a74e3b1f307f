//! `voicebus call`: have a phone called, and see to calls of which nobody knows what became.

mod records;
mod resolve;

use std::io::Write;
use std::time::Duration;

use chrono::{TimeDelta, Utc};
use serde_json::value::RawValue;

use super::context::parse_context;
use super::outcome::Asked;
use super::target::Target;
use super::when::parse_duration;
use super::{Exit, unless_reader_left};
use crate::bus::Bus;
use crate::bus::command::Named;
use crate::bus::envelope::DialRequest;
use crate::bus::idempotency::Key;
use crate::domain::command::Verb;
use crate::domain::ids::AgentId;
use crate::domain::phone::E164;

/// Whose keys are meant: those of whoever uses the command line, on whichever machine.
const CLIENT: &str = "command line";

/// Have the voice server call a number.
///
/// The call is asked for once and placed at most once, whatever fails on the way. Leaves with 0 when
/// the call is placed or queued, else with 1.
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "\
Examples:
  voicebus call +12015550142
  voicebus call +12015550142 --message 'Your table is ready.' --session main
  voicebus call +12015550142 --deadline 30s --wait 60s --json
  voicebus call show i-0199                      how far it has come
  voicebus call cancel i-0199                    take it back, if it was not sent yet
  voicebus call unresolved                       calls of which nobody knows what became
  voicebus call resolve i-0199 --confirmed CA7   a person says what became of one
  voicebus call resolve i-0199 --abandoned 'nobody heard a phone ring'"
)]
pub struct Args {
    #[command(subcommand)]
    what: Option<What>,

    /// Whom to call: +, country code, number.
    #[arg(value_name = "NUMBER", value_parser = parse_number, required = true)]
    number: Option<E164>,

    /// The session of the call: the whole key, or what follows `agent:<agent>:`. By default the one
    /// of the number.
    #[arg(long, value_name = "KEY")]
    session: Option<String>,

    /// The agent whose session it is, when --session does not name one.
    #[arg(long, value_name = "AGENT", value_parser = AgentId::parse)]
    agent: Option<AgentId>,

    /// What the assistant opens with.
    #[arg(long, value_name = "TEXT")]
    message: Option<String>,

    /// What the call should know: a JSON object.
    #[arg(long, value_name = "JSON", value_parser = parse_context)]
    context: Option<Box<RawValue>>,

    /// A name for this call: asked for again under the same name it is the same call.
    #[arg(long, value_name = "KEY", value_parser = Key::parse)]
    idempotency_key: Option<Key>,

    /// Which of our numbers to show.
    #[arg(long, value_name = "NUMBER", value_parser = E164::parse)]
    caller_id: Option<E164>,

    /// Do not call any more after this time. By default two minutes.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    deadline: Option<Duration>,

    /// How long to wait for the outcome, at most 60s. The call is placed whether or not one waits.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = parse_duration)]
    wait: Duration,

    /// Print the outcome as JSON, numbers and all.
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    target: Target,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Show how far a call has come that was asked for
    Show(records::Show),
    /// List the calls of which nobody knows what became
    Unresolved(records::Unresolved),
    /// Take a call back that was not sent to the voice server yet
    Cancel(resolve::Cancel),
    /// Say what became of a call of which nobody knows it
    Resolve(resolve::Resolve),
    /// Let dialling go on after records of calls were lost
    ///
    /// After NATS was restored from a backup, or its disk was lost, what was dialled since looks as
    /// if it had not been. Nothing is dialled then until somebody has looked and says so.
    Resume(resolve::Resume),
}

/// Asks for a call and tells what became of it, or does what else is asked.
///
/// # Errors
/// When nothing was asked: NATS is not there, or does not take it.
pub async fn run(args: Args, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let target = &args.target;
    unless_reader_left(match &args.what {
        Some(What::Show(show)) => show.run(target, out).await,
        Some(What::Unresolved(unresolved)) => unresolved.run(target, out).await,
        Some(What::Cancel(cancel)) => cancel.run(target, out).await,
        Some(What::Resolve(resolve)) => resolve.run(target, out).await,
        Some(What::Resume(resume)) => resume.run(target, out).await,
        None => dial(args, out).await,
    })
}

async fn dial(args: Args, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let Some(number) = args.number else {
        anyhow::bail!("whom to call is missing");
    };
    let bus = Bus::open(args.target.agent().await?).await?;
    let mut asked = Asked::new(Verb::Dial, number.masked(), args.wait)?;
    let mut named = Named::Now;
    if let Some(key) = &args.idempotency_key {
        asked.id = key.intent(CLIENT);
        named = Named::ByCaller;
    }
    let deadline = args
        .deadline
        .and_then(|after| TimeDelta::from_std(after).ok())
        .map(|after| Utc::now() + after);
    let request = DialRequest {
        to: number.to_string(),
        caller_id: args.caller_id.as_ref().map(ToString::to_string),
        message: args.message,
        context: args.context,
        session: args.session,
        agent: args.agent.as_ref().map(ToString::to_string),
        deadline,
        ..DialRequest::default()
    };
    let result = bus.dial(&asked.id, named, &request, args.wait).await;
    asked.tell(result, args.json, out)
}

/// A number that can be dialled, so that a misspelt one is refused at once.
fn parse_number(text: &str) -> Result<E164, String> {
    let number = E164::parse(text).map_err(|error| error.to_string())?;
    number.check_plan().map_err(|error| error.to_string())?;
    Ok(number)
}
