//! `voicebus say`: have the assistant say something in a call.

use std::io::Write;
use std::time::Duration;

use super::outcome::Asked;
use super::target::Target;
use super::when::parse_duration;
use super::{Exit, parse_session, unless_reader_left};
use crate::bus::Bus;
use crate::bus::envelope::SayRequest;
use crate::domain::command::Verb;
use crate::domain::ids::{CallId, SessionKey};

/// Have the assistant say something in a call that is going on.
///
/// Needs a tap beside the voice server. Leaves with 0 when the assistant says it or it is queued,
/// else with 1.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  voicebus calls --active
  voicebus say CA123 'One moment, please: I am looking it up.'")]
pub struct Args {
    /// The call; `voicebus calls --active` lists those that are going on.
    #[arg(value_name = "CALL", value_parser = CallId::parse)]
    call: CallId,

    /// What to say.
    #[arg(value_name = "TEXT")]
    text: String,

    /// Only if the call is in this session: the whole key, or what follows `agent:main:`.
    #[arg(long, value_name = "KEY", value_parser = parse_session)]
    session: Option<SessionKey>,

    /// How long to wait for the outcome, at most 60s.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = parse_duration)]
    wait: Duration,

    /// Print the outcome as JSON.
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    target: Target,
}

/// Asks for it and tells what became of it.
///
/// # Errors
/// When nothing was asked: NATS is not there, or does not take it.
pub async fn run(args: Args, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let bus = Bus::open(args.target.agent().await?).await?;
    let asked = Asked::new(Verb::Say, args.call.to_string(), args.wait)?;
    let request = SayRequest {
        text: args.text,
        session: args.session.as_ref().map(ToString::to_string),
        ..SayRequest::default()
    };
    let result = bus.say(&asked.id, &args.call, &request, args.wait).await;
    unless_reader_left(asked.tell(result, args.json, out))
}
