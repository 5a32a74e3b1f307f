//! `voicebus bench`: measures what the bus costs on this machine. See [`crate::bench`].

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use tokio_util::sync::CancellationToken;

use crate::bench::{self, Plan, Section};
use crate::config::Log;
use crate::{supervise, telemetry};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Starts NATS servers of its own in a temporary folder and dials nobody. The ratios are what \
                  counts; nothing is said to be too slow. Ends with 1 when an event was lost or doubled."
)]
pub(super) struct Args {
    /// How long each pace of the whole path is kept up; the other sections follow from it
    #[arg(long, value_name = "N", default_value = "10", value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: u32,
    /// Only see that everything still runs; takes some seconds
    #[arg(long, conflicts_with = "seconds")]
    quick: bool,
    /// Measure only this; may be given several times
    #[arg(long, value_name = "SECTION")]
    only: Vec<Section>,
    /// Events that pass in the section `soak`
    #[arg(long, value_name = "N", default_value = "1000000")]
    soak_events: u64,
    /// Where the stores lie: the disk decides most of it [default: the folder for temporary files]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    crate::install_crypto();
    let stop = CancellationToken::new();
    supervise::stop_on_signals(stop.clone());
    telemetry::start(&Log {
        // Clients that outlive their server for a moment say so; a server that dies ends the run anyway.
        filter: "warn,voicebus::bus::connection=error".to_owned(),
        json: false,
        is_unsafe: false,
    });
    let mut plan = if args.quick {
        Plan::quick()
    } else {
        Plan::new(args.seconds)
    };
    if !args.only.is_empty() {
        plan.sections = args.only;
    }
    plan.folder = args.dir;
    plan.soak_events = args.soak_events;
    let report = bench::run(&plan, &stop, |text| {
        // Whoever closed standard error does not want to know.
        writeln!(std::io::stderr(), "{text}").ok();
    })
    .await?;
    let mut out = std::io::stdout().lock();
    if args.json {
        serde_json::to_writer_pretty(&mut out, &report)?;
        writeln!(out)?;
    } else {
        writeln!(out, "{report}")?;
    }
    Ok(if report.is_sound() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
