//! The command line: one subcommand for each role and tool.
//!
//! A tool takes its parsed arguments and the places it writes to, and says how it went. It is a
//! client of NATS like any other and holds no state: everything that it shows is in the public
//! feed, and everything that it does is a command.
//!
//! What callers say, and what the phone-call server says about them, is other people's text. It
//! reaches the screen through `text::clean` only, so that nobody on the phone can move the
//! operator's cursor. Phone numbers are masked unless the operator asks for them.

pub mod call;
pub mod calls;
pub mod context;
pub mod dlq;
pub mod doctor;
pub mod hangup;
pub mod link;
pub mod links;
pub mod paint;
pub mod replay;
pub mod say;
pub mod tail;
pub mod target;

mod bench;
mod confirm;
mod outcome;
mod provision;
mod roles;
mod table;
mod text;
mod up;
mod when;

use std::io;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand};
use tokio_util::sync::CancellationToken;

use crate::config::{Config, Overrides};
use crate::domain::ids::{AgentId, SessionKey};
use crate::{simulate, supervise, telemetry};

/// Bad usage or a bad configuration (`EX_USAGE` of sysexits).
const EXIT_USAGE: u8 = 64;
/// Anything else that went wrong.
const EXIT_FAILURE: u8 = 1;

#[derive(Debug, Parser)]
#[command(name = "voicebus", version, about, long_about = None, max_term_width = 100)]
#[command(
    after_help = "Start with `voicebus up`. Then, in another terminal: `voicebus simulate --calls 5` and `voicebus tail`."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run everything on this machine: NATS, ingress, router and egress
    Up(Overrides),
    /// Run an ingress: take events over HTTP and put them on the bus
    Ingress(Overrides),
    /// Run a router: turn accepted events into the feed of what happened
    Router(Overrides),
    /// Run an egress: carry out commands at the phone-call server
    Egress(Overrides),
    /// Create or verify streams, consumers and buckets
    Provision(provision::Args),
    /// Watch calls as they happen, one line for each event
    Tail(tail::Args),
    /// List calls, or show one with its transcript
    Calls(calls::Args),
    /// Place a call and wait for what becomes of it
    Call(call::Args),
    /// End a call
    Hangup(hangup::Args),
    /// Give a call something to know
    Context(context::Args),
    /// Have the assistant say something in a call
    Say(say::Args),
    /// Put the calls of a number into a session
    Link(link::Args),
    /// Leave the calls of a number to the configured rules again
    Unlink(link::UnlinkArgs),
    /// List the numbers whose calls go into a session of their own
    Links(links::Args),
    /// Look at what could not be used, try it again, or remove it
    Dlq(dlq::Args),
    /// Publish old events again, for tests and for those who missed them
    Replay(replay::Args),
    /// Tell whether all is well, and what to do when it is not
    Doctor(doctor::Args),
    /// Stand in for the phone-call server, and make calls; dials nobody
    Simulate(simulate::Args),
    /// Measure what the bus costs on this machine
    Bench(bench::Args),
}

/// Reads the command line and does what it says.
#[must_use]
pub fn main() -> ExitCode {
    if shows_password(std::env::args()) {
        return fail(
            EXIT_USAGE,
            "--nats-url holds a password, which every user of this machine can read; put the password into VOICEBUS_NATS_PASSWORD, or the whole address into VOICEBUS_NATS_URL",
        );
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let code = if error.use_stderr() { EXIT_USAGE } else { 0 };
            // Nothing is left to do when help cannot be printed.
            return if error.print().is_ok() {
                ExitCode::from(code)
            } else {
                ExitCode::from(EXIT_FAILURE)
            };
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return fail(EXIT_FAILURE, &format!("cannot start: {error}")),
    };
    let code = runtime.block_on(run(cli.command));
    // A task that hangs must not keep the process.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    code
}

/// Whether the address of NATS has a password in it on the command line. In the environment it may.
fn shows_password(arguments: impl Iterator<Item = String>) -> bool {
    let is_secret = |url: &str| crate::bus::without_secrets(url) != url;
    let mut before = String::new();
    for argument in arguments {
        let url = argument.strip_prefix("--nats-url=");
        if url.is_some_and(is_secret) || (before == "--nats-url" && is_secret(&argument)) {
            return true;
        }
        before = argument;
    }
    false
}

async fn run(command: Command) -> ExitCode {
    match command {
        Command::Up(overrides) => role(&overrides, up::run).await,
        Command::Ingress(overrides) => role(&overrides, roles::ingress).await,
        Command::Router(overrides) => role(&overrides, roles::router).await,
        Command::Egress(overrides) => role(&overrides, roles::egress).await,
        Command::Provision(args) => {
            let stop = CancellationToken::new();
            with_config(&args.overrides.clone(), stop, move |config, _| {
                provision::run(config, args)
            })
            .await
        }
        Command::Tail(args) => tool(tail::run(args, &mut io::stdout(), &mut io::stderr())).await,
        Command::Calls(args) => tool(calls::run(args, &mut io::stdout())).await,
        Command::Call(args) => tool(call::run(args, &mut io::stdout())).await,
        Command::Hangup(args) => tool(hangup::run(args, &mut io::stdout())).await,
        Command::Context(args) => tool(context::run(args, &mut io::stdout())).await,
        Command::Say(args) => tool(say::run(args, &mut io::stdout())).await,
        Command::Link(args) => tool(link::run(args, &mut io::stdout())).await,
        Command::Unlink(args) => tool(link::run_unlink(args, &mut io::stdout())).await,
        Command::Links(args) => tool(links::run(args, &mut io::stdout())).await,
        Command::Dlq(args) => tool(dlq::run(args, &mut io::stdout())).await,
        Command::Replay(args) => tool(replay::run(args, &mut io::stdout())).await,
        Command::Doctor(args) => tool(doctor::run(args, &mut io::stdout())).await,
        Command::Bench(args) => finish(bench::run(args).await),
        Command::Simulate(args) => {
            let stop = CancellationToken::new();
            supervise::stop_on_signals(stop.clone());
            crate::install_crypto();
            finish(
                simulate::run(args, stop)
                    .await
                    .map(|_summary| ExitCode::SUCCESS),
            )
        }
    }
}

async fn role<F>(overrides: &Overrides, run: fn(Arc<Config>, CancellationToken) -> F) -> ExitCode
where
    F: Future<Output = anyhow::Result<()>>,
{
    let stop = CancellationToken::new();
    supervise::stop_on_signals(stop.clone());
    with_config(overrides, stop, |config, stop| async move {
        run(config, stop).await.map(|()| ExitCode::SUCCESS)
    })
    .await
}

/// Loads the configuration, starts logging, and goes on; or says what is wrong with it.
async fn with_config<F>(
    overrides: &Overrides,
    stop: CancellationToken,
    go_on: impl FnOnce(Arc<Config>, CancellationToken) -> F,
) -> ExitCode
where
    F: Future<Output = anyhow::Result<ExitCode>>,
{
    let config = match Config::load(overrides) {
        Ok(config) => config,
        Err(mistakes) => return fail(EXIT_USAGE, &mistakes.to_string()),
    };
    if overrides.check_config {
        return say("the configuration is good");
    }
    telemetry::start(&config.log);
    for warning in config.warnings() {
        tracing::warn!("{warning}");
    }
    finish(go_on(Arc::new(config), stop).await)
}

/// Runs a tool. It logs warnings only: its output is for whoever called it.
async fn tool(run: impl Future<Output = anyhow::Result<Exit>>) -> ExitCode {
    crate::install_crypto();
    telemetry::start(&crate::config::Log {
        filter: "warn,async_nats=off".to_owned(),
        json: false,
    });
    finish(run.await.map(ExitCode::from))
}

fn finish(result: anyhow::Result<ExitCode>) -> ExitCode {
    result.unwrap_or_else(|error| fail(EXIT_FAILURE, &causes(&error)))
}

/// The error and its causes in one line, each once.
fn causes(error: &anyhow::Error) -> String {
    crate::error_chain::Chain(error.as_ref()).to_string()
}

fn say(text: &str) -> ExitCode {
    use std::io::Write;
    match writeln!(std::io::stdout(), "{text}") {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(EXIT_FAILURE),
    }
}

fn fail(code: u8, text: &str) -> ExitCode {
    use std::io::Write;
    // Without standard error there is nobody to tell; the exit code still says it.
    writeln!(std::io::stderr(), "voicebus: {text}").ok();
    ExitCode::from(code)
}

/// How a tool went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// As asked: 0.
    Fine,
    /// Not as asked, and said so: 1.
    Wrong,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Fine => Self::SUCCESS,
            Exit::Wrong => Self::FAILURE,
        }
    }
}

/// A reader that went away (`voicebus tail | head`) has seen enough, which is no failure.
fn unless_reader_left(result: anyhow::Result<Exit>) -> anyhow::Result<Exit> {
    match result {
        Err(error)
            if error
                .chain()
                .filter_map(|cause| cause.downcast_ref::<io::Error>())
                .any(|error| error.kind() == io::ErrorKind::BrokenPipe) =>
        {
            Ok(Exit::Fine)
        }
        other => other,
    }
}

/// Reads a session as people write it: the whole key, or what follows `agent:main:`.
fn parse_session(text: &str) -> Result<SessionKey, String> {
    let agent = AgentId::parse("main").map_err(|error| error.to_string())?;
    SessionKey::parse(text, &agent).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_who_left_is_no_failure_and_everything_else_is() {
        let broken = |kind| Err(anyhow::Error::from(io::Error::from(kind)).context("writing"));
        assert_eq!(
            unless_reader_left(broken(io::ErrorKind::BrokenPipe)).unwrap(),
            Exit::Fine
        );
        assert!(unless_reader_left(broken(io::ErrorKind::StorageFull)).is_err());
    }

    #[test]
    fn a_password_in_an_argument_is_noticed_however_it_is_written() {
        let shows = |line: &str| shows_password(line.split(' ').map(str::to_owned));
        assert!(shows(
            "voicebus tail --nats-url nats://me:secret@h:1 --json"
        ));
        assert!(shows(
            "voicebus router --nats-url=tls://a:1,tls://me:secret@h:1"
        ));
        assert!(!shows("voicebus router --nats-url nats://h:1,nats://g:1"));
        assert!(!shows("voicebus call +1 --message nats://me:secret@h:1"));
    }

    #[test]
    fn a_session_may_be_written_without_its_agent() {
        let key = |text| parse_session(text).unwrap().to_string();
        assert_eq!(key("voice:777"), "agent:main:voice:777");
        assert_eq!(key("agent:bob:x"), "agent:bob:x");
        assert!(parse_session("a b").is_err());
    }
}
