//! `voicebus link` and `voicebus unlink`: which session the calls of a number go to.

use std::io::Write;
use std::time::Duration;

use super::outcome::Asked;
use super::target::Target;
use super::when::parse_duration;
use super::{Exit, unless_reader_left};
use crate::bus::Bus;
use crate::bus::envelope::LinkRequest;
use crate::domain::command::Verb;
use crate::domain::ids::AgentId;
use crate::domain::phone::E164;

/// Put the calls of a number into a session from now on.
///
/// Calls that have begun stay where they are. Calls that an agent placed are in the session that it
/// has named.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  voicebus link +12015550142 vip
  voicebus link +12015550142 support --agent front-desk
  voicebus link +12015550142 agent:front-desk:support")]
pub struct Args {
    /// Whose calls: +, country code, number.
    #[arg(value_name = "NUMBER", value_parser = E164::parse)]
    number: E164,

    /// The session: the whole key, or what follows `agent:<agent>:`.
    #[arg(value_name = "SESSION")]
    session: String,

    /// The agent whose session it is. By default the one that egress is configured with.
    #[arg(long, value_name = "AGENT", value_parser = AgentId::parse)]
    agent: Option<AgentId>,

    #[command(flatten)]
    how: How,
}

/// Leave the calls of a number to the configured rules again.
#[derive(Debug, clap::Args)]
pub struct UnlinkArgs {
    /// Whose calls: +, country code, number.
    #[arg(value_name = "NUMBER", value_parser = E164::parse)]
    number: E164,

    #[command(flatten)]
    how: How,
}

#[derive(Debug, clap::Args)]
struct How {
    /// How long to wait for the outcome, at most 60s.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = parse_duration)]
    wait: Duration,

    /// Print the outcome as JSON, numbers and all.
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    target: Target,
}

/// Links a number and tells what became of it.
///
/// # Errors
/// When nothing was asked: NATS is not there, or does not take it.
pub async fn run(args: Args, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let session = Some(args.session);
    let agent = args.agent.as_ref().map(ToString::to_string);
    ask(Verb::Link, &args.number, session, agent, &args.how, out).await
}

/// Takes a link away and tells what became of it.
///
/// # Errors
/// As [`run`].
pub async fn run_unlink(args: UnlinkArgs, out: &mut dyn Write) -> anyhow::Result<Exit> {
    ask(Verb::Unlink, &args.number, None, None, &args.how, out).await
}

async fn ask(
    verb: Verb,
    number: &E164,
    session: Option<String>,
    agent: Option<String>,
    how: &How,
    out: &mut dyn Write,
) -> anyhow::Result<Exit> {
    let bus = Bus::open(how.target.agent().await?).await?;
    let asked = Asked::new(verb, number.masked(), how.wait)?;
    let request = LinkRequest {
        number: number.to_string(),
        session,
        agent,
    };
    let result = bus.link(&asked.id, &request, how.wait).await;
    unless_reader_left(asked.tell(result, how.json, out))
}
