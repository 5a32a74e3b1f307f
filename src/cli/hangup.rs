//! `voicebus hangup`: end a call.

use std::io::Write;
use std::time::Duration;

use super::outcome::Asked;
use super::target::Target;
use super::when::parse_duration;
use super::{Exit, unless_reader_left};
use crate::bus::Bus;
use crate::domain::command::Verb;
use crate::domain::ids::CallId;

/// End a call.
///
/// Leaves with 0 when the voice server has taken it or it is queued, else with 1.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  voicebus calls --active
  voicebus hangup CA123")]
pub struct Args {
    /// The call; `voicebus calls --active` lists those that are going on.
    #[arg(value_name = "CALL", value_parser = CallId::parse)]
    call: CallId,

    /// How long to wait for the outcome, at most 60s.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = parse_duration)]
    wait: Duration,

    /// Print the outcome as JSON, numbers and all.
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    target: Target,
}

/// Asks for the end of a call and tells what became of it.
///
/// # Errors
/// When nothing was asked: NATS is not there, or does not take it.
pub async fn run(args: Args, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let bus = Bus::open(args.target.agent().await?).await?;
    let asked = Asked::new(Verb::Hangup, args.call.to_string(), args.wait)?;
    let result = bus.hang_up(&asked.id, &args.call, None, args.wait).await;
    unless_reader_left(asked.tell(result, args.json, out))
}
