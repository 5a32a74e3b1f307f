//! `voicebus bench`: what the bus costs on this machine, as ratios within one run.
//!
//! Absolute numbers say more about the disk and the neighbours than about voicebus. So every figure
//! stands beside a raw one that was taken in the same run, on a nats-server of the same settings
//! (`sync_interval: always`, as `up` has it), in turns of a second or less: the ratio is what voicebus
//! adds. The servers are started for the run, in a temporary folder, and go with it.
//!
//! | section | measured | beside it |
//! |---|---|---|
//! | `ingress` | `POST /call-event` at 1, 16, 64 and 256 connections, each answer awaited | the same with `group_commit = "off"`; durable publishes, and durable batches, of as many; `GET /live`; a POST that is parsed and refused |
//! | `router` | two backlogs of inputs in VOICE_IN until each input has its event | commits as the router makes them, 32 writers, nothing around them |
//! | `path` | POST written until a plain subscriber of `voice.event.>` has the event, at 100 and 500 events/s | one durable publish at the same pace |
//! | `commands` | `POST /openclaw/call` until its answer names the call, 100 a second, to as many numbers, with a voice server that answers after 5 ms | `POST /call` of such a server; one durable publish at the same pace |
//! | `verify` | the signature of a webhook of 4 kB, with two keys | SHA-256 of as much |
//! | `memory` | resident memory of ingress, router and egress as processes of their own, with 1,000 open calls | the same before the first call; nats-server apart |
//! | `soak` (only when it is named) | the same processes while 1,000,000 events pass, read ten times | the first tenth |
//!
//! How: `path`, `commands`, `ingress` and `router` run the roles in this process, as `up` does, so that the sender
//! of the load and the subscriber share the cores with them. The HTTP client writes and reads bytes and
//! does little else. Durable publishes are [`crate::bus::Bus::store`] and [`crate::bus::Bus::commit`]:
//! one publish and its acknowledgement, as the roles use them. An event is lost when its POST was
//! answered 200 and no event followed, and doubled when two did; either is a failure of the run.
//!
//! Not measured: a cluster, several routers, TLS, networks other than loopback, a long history, a slow
//! subscriber, and logging (it is at `warn` here, at `info` by default). No time is asserted: a
//! shared machine would make that a lottery. The targets are printed for comparison.

mod commands;
mod http;
mod ingress;
mod load;
mod memory;
mod path;
pub mod report;
mod router;
mod site;
mod soak;
mod verify;

use std::path::PathBuf;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use report::{Machine, Report};
use site::Folder;

/// A part of the benchmark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Section {
    /// Events over HTTP into the stream of inputs
    Ingress,
    /// A backlog of inputs through one router
    Router,
    /// From the sender to a subscriber
    Path,
    /// From a dial that is asked for to the call
    Commands,
    /// The signatures of webhooks
    Verify,
    /// Resident memory with many open calls
    Memory,
    /// Resident memory while a great many events pass; takes many minutes, only when it is named
    Soak,
}

/// What to measure, and how much of it.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The sections, in order.
    pub sections: Vec<Section>,
    /// How long each pace of the whole path is kept up; the other sections follow from it.
    pub time: Duration,
    /// How often raw and measured take turns: often, because neighbours come and go by the second.
    pub rounds: u32,
    /// Inputs in each of the router's two backlogs.
    pub backlog: usize,
    /// Calls that a backlog belongs to.
    pub backlog_calls: usize,
    /// Open calls while memory is read.
    pub open_calls: usize,
    /// Events that pass while memory is read.
    pub soak_events: u64,
    /// Where the stores lie, instead of the system's temporary folder.
    pub folder: Option<PathBuf>,
}

impl Plan {
    /// All sections but `soak`, some two minutes with 10 seconds on a usual disk.
    #[must_use]
    pub fn new(seconds: u32) -> Self {
        let seconds_len = usize::try_from(seconds).unwrap_or(usize::MAX);
        Self {
            sections: vec![
                Section::Ingress,
                Section::Router,
                Section::Path,
                Section::Commands,
                Section::Verify,
                Section::Memory,
            ],
            time: Duration::from_secs(seconds.into()),
            rounds: seconds.max(2),
            backlog: 1_000 * seconds_len,
            backlog_calls: 1_000,
            open_calls: 1_000,
            soak_events: 1_000_000,
            folder: None,
        }
    }

    /// All sections in some seconds: to see that everything still runs, not to learn numbers.
    #[must_use]
    pub fn quick() -> Self {
        Self {
            time: Duration::from_secs(1),
            rounds: 1,
            backlog: 1_000,
            backlog_calls: 100,
            open_calls: 100,
            ..Self::new(1)
        }
    }
}

/// Runs the plan; `progress` is told what is under way.
///
/// # Errors
/// When something does not work at all. Events that were lost or doubled are in the report.
pub async fn run(
    plan: &Plan,
    stop: &CancellationToken,
    progress: impl Fn(&str) + Send + Sync,
) -> anyhow::Result<Report> {
    let folder = Folder::make(plan.folder.as_deref())?;
    let mut report = Report::new(Machine::look(folder.path()));
    let measured = measure(plan, &folder, &progress, &mut report);
    let measured = tokio::select! {
        () = stop.cancelled() => Err(anyhow::anyhow!("stopped before the end")),
        measured = measured => measured,
    };
    measured?;
    report.machine.load_after = report::load_average();
    Ok(report)
}

async fn measure(
    plan: &Plan,
    folder: &Folder,
    progress: &(impl Fn(&str) + Sync),
    report: &mut Report,
) -> anyhow::Result<()> {
    for section in &plan.sections {
        let rows = match section {
            Section::Ingress => ingress::measure(plan, folder, progress).await,
            Section::Router => router::measure(plan, folder, progress).await,
            Section::Path => path::measure(plan, folder, progress).await,
            Section::Commands => commands::measure(plan, folder, progress).await,
            Section::Verify => verify::measure(plan, progress),
            Section::Memory => memory::measure(plan, folder, progress).await,
            Section::Soak => soak::measure(plan, folder, progress).await,
        };
        report.add(*section, rows?);
    }
    Ok(())
}
