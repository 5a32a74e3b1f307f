//! `voicebus provision`: what NATS must have, created or verified.

use std::io::Write;
use std::num::NonZeroU8;
use std::process::ExitCode;
use std::sync::Arc;

use crate::bus::{self, durability, streams};
use crate::config::{Config, Overrides};

/// Flags of `provision`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Safe to repeat: a second run changes nothing. Exit code 1 when something differs that \
                        cannot be changed."
)]
pub(super) struct Args {
    #[command(flatten)]
    pub overrides: Overrides,
    /// Copies of each stream: 1 on one server, 3 in a cluster
    #[arg(long, value_name = "N", env = "VOICEBUS_REPLICAS", default_value = "1")]
    replicas: NonZeroU8,
    /// Only say what differs
    #[arg(long)]
    dry_run: bool,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(config: Arc<Config>, args: Args) -> anyhow::Result<ExitCode> {
    crate::install_crypto();
    let connection = bus::connect(&config.nats("provision")).await?;
    durability::require(&connection, Some(args.replicas.get()), config.durability).await?;
    let options = streams::Options {
        replicas: args.replicas,
        dry_run: args.dry_run,
        retention: config.retention.clone(),
        ..streams::Options::default()
    };
    let report = streams::provision(connection.jetstream(), &options).await?;
    let mut out = std::io::stdout().lock();
    if args.json {
        serde_json::to_writer_pretty(&mut out, &report)?;
        writeln!(out)?;
    } else {
        writeln!(out, "{report}")?;
    }
    Ok(if report.is_settled() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
