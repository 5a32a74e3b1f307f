//! The command line: one subcommand for each role and tool.

mod bench;
mod provision;
mod roles;
mod up;

use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand};
use tokio_util::sync::CancellationToken;

use crate::config::{Config, Overrides};
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
    /// Stand in for the phone-call server, and make calls; dials nobody
    Simulate(simulate::Args),
    /// Measure what the bus costs on this machine
    Bench(bench::Args),
}

/// Reads the command line and does what it says.
#[must_use]
pub fn main() -> ExitCode {
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
    finish(go_on(Arc::new(config), stop).await)
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
