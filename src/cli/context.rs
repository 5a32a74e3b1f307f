//! `voicebus context`: give a call something to know.

use std::io::Write;
use std::time::Duration;

use serde_json::value::RawValue;

use super::outcome::Asked;
use super::target::Target;
use super::when::parse_duration;
use super::{Exit, parse_session, unless_reader_left};
use crate::bus::Bus;
use crate::bus::envelope::ContextRequest;
use crate::domain::command::Verb;
use crate::domain::ids::{CallId, SessionKey};

/// Give a call something to know.
///
/// Whoever listens to the call hears of it as a `context.injected` event.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  voicebus context CA123 '{\"order\":\"4711\",\"paid\":true}'")]
pub struct Args {
    /// The call; `voicebus calls --active` lists those that are going on.
    #[arg(value_name = "CALL", value_parser = CallId::parse)]
    call: CallId,

    /// What it should know: a JSON object.
    #[arg(value_name = "JSON", value_parser = parse_context)]
    context: Box<RawValue>,

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

/// Gives it and tells what became of it.
///
/// # Errors
/// When nothing was asked: NATS is not there, or does not take it.
pub async fn run(args: Args, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let bus = Bus::open(args.target.agent().await?).await?;
    let asked = Asked::new(Verb::Context, args.call.to_string(), args.wait)?;
    let request = ContextRequest {
        id: None,
        context: args.context,
        session: args.session.as_ref().map(ToString::to_string),
    };
    let result = bus
        .give_context(&asked.id, &args.call, &request, args.wait)
        .await;
    unless_reader_left(asked.tell(result, args.json, out))
}

/// Reads a JSON object.
pub(super) fn parse_context(text: &str) -> Result<Box<RawValue>, String> {
    let context: Box<RawValue> =
        serde_json::from_str(text.trim()).map_err(|error| error.to_string())?;
    let request = ContextRequest {
        id: None,
        context,
        session: None,
    };
    request.check().map_err(|error| error.to_string())?;
    Ok(request.context)
}
