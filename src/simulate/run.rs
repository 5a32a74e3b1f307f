//! One run of the tool: start, say so, send, sum up, serve on.

use std::fmt;
use std::io::Write;
use std::time::Duration;

use anyhow::Context as _;
use chrono::Utc;
use serde::Serialize;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::args::Args;
use super::emitter::{self, Counts, Emitter};
use super::generator::{Generator, Options};
use super::record::Recorder;
use super::sender;
use super::stand_in::{Setup, StandIn, StandInConfig};

/// What became of the generated calls. Events of calls that were placed with `POST /call` are not in it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Summary {
    pub seed: u64,
    pub calls: u64,
    /// Events that were tried at least once, copies included.
    pub events: u64,
    /// Events answered 2xx.
    pub accepted: u64,
    /// Answers other than 2xx.
    pub refused: u64,
    /// Attempts without any answer.
    pub unanswered: u64,
    /// Attempts after the first.
    pub retried: u64,
    /// Events that were given up.
    pub lost: u64,
    /// Copies among the events.
    pub duplicates: u64,
    /// From the first event to the last answer.
    pub seconds: f64,
    /// Whether the plan was carried out to its end.
    pub complete: bool,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            seed,
            calls,
            events,
            accepted,
            refused,
            unanswered,
            retried,
            lost,
            duplicates,
            seconds,
            complete,
        } = self;
        let state = if *complete { "done" } else { "stopped early" };
        write!(
            f,
            "{state}: {calls} calls, {events} events ({duplicates} of them copies) in {seconds:.2} s; {accepted} accepted, \
             {lost} lost; attempts: {retried} repeated, {refused} refused, {unanswered} without an answer; seed {seed}"
        )
    }
}

/// Runs the tool and prints to standard output.
///
/// # Errors
/// When the arguments do not make a run (no loopback address, an address that is taken, a token that cannot be read)
/// and when the record or the output cannot be written.
pub async fn run(args: Args, stop: CancellationToken) -> anyhow::Result<Summary> {
    run_with(args, stop, &mut std::io::stdout()).await
}

/// [`run`] with a writer of the caller's choice.
pub async fn run_with(
    args: Args,
    stop: CancellationToken,
    out: &mut (impl Write + Send),
) -> anyhow::Result<Summary> {
    let mut out = Output {
        json: args.json,
        out,
    };
    let seed = args
        .seed
        .unwrap_or_else(|| Utc::now().timestamp_micros().unsigned_abs());
    let record = args.record.as_deref().map(Recorder::open).transpose()?;
    let config = emitter::Config {
        target: args.target.clone(),
        token: args.event_token()?,
        retry: args.retry(),
        record: record.clone(),
    };
    let stand_in = StandIn::start(StandInConfig {
        listen: args.listen,
        version: args.version,
        seed,
        emitter: Some(Emitter::new(config.clone())?),
        record: record.clone(),
        answer_calls: args.answer_calls,
        setup: Setup {
            tap: args.tap,
            ..Setup::default()
        },
        transcripts: args.transcripts,
        pace: pace(args.rate),
        ..StandInConfig::default()
    })
    .await?;
    let url = stand_in.url();
    let version = args.version.to_string();
    out.say(&Started {
        kind: "started",
        version: &version,
        url: &url,
        target: &args.target,
        seed,
        dials_nobody: true,
    })?;

    let syncing = CancellationToken::new();
    let synced = record
        .clone()
        .map(|record| tokio::spawn(record.keep_synced(syncing.clone())));
    let emitter = Emitter::new(config)?;
    let sent = send(&args, seed, &emitter, &stop, &mut out).await;
    if let Ok(summary) = &sent
        && args.calls > 0
    {
        if let Some(record) = record.clone() {
            tokio::task::spawn_blocking(move || record.sync())
                .await
                .context("failed to sync the record")??;
        }
        out.say(&Ended {
            kind: "summary",
            summary,
        })?;
    }
    if sent.is_ok() && !args.exit {
        stop.cancelled().await;
    }
    stand_in.stop().await;
    syncing.cancel();
    if let Some(synced) = synced {
        synced.await.context("failed to sync the record")??;
    }
    sent
}

/// The time between two things in an answered call: that of the generated events, within what a demo can show.
fn pace(rate: f64) -> Duration {
    if rate <= 0.0 {
        PACE_MIN
    } else {
        Duration::from_secs_f64((1.0 / rate).min(1.0)).max(PACE_MIN)
    }
}

const PACE_MIN: Duration = Duration::from_millis(1);

async fn send<W: Write>(
    args: &Args,
    seed: u64,
    emitter: &Emitter,
    stop: &CancellationToken,
    out: &mut Output<'_, W>,
) -> anyhow::Result<Summary> {
    let generator = Generator::new(
        seed,
        Options {
            started_at: Utc::now().naive_utc(),
            calls: args.calls,
            transcripts: args.transcripts,
            concurrent: args.concurrent,
            rate: args.rate,
            reorder: args.reorder,
            duplicate_percent: args.duplicate,
        },
    );
    let planned = generator.len() as u64;
    let sending = sender::run(&generator, emitter, stop);
    tokio::pin!(sending);
    let mut ticks = tokio::time::interval_at(
        tokio::time::Instant::now() + PROGRESS_INTERVAL,
        PROGRESS_INTERVAL,
    );
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let outcome = loop {
        tokio::select! {
            outcome = &mut sending => break outcome?,
            _ = ticks.tick() => {
                let Counts { sent, accepted, lost, .. } = emitter.counts();
                out.say(&Progress { kind: "progress", planned, sent, accepted, lost })?;
            }
        }
    };
    let counts = emitter.counts();
    Ok(Summary {
        seed,
        calls: outcome.calls,
        events: counts.sent,
        accepted: counts.accepted,
        refused: counts.refused,
        unanswered: counts.unanswered,
        retried: counts.retried,
        lost: counts.lost,
        duplicates: outcome.duplicates,
        seconds: outcome.elapsed.as_secs_f64(),
        complete: outcome.complete,
    })
}

const PROGRESS_INTERVAL: Duration = Duration::from_secs(2);

/// Lines for people or for programs.
struct Output<'a, W> {
    json: bool,
    out: &'a mut W,
}

impl<W: Write> Output<'_, W> {
    fn say(&mut self, line: &(impl Serialize + fmt::Display)) -> anyhow::Result<()> {
        let text = if self.json {
            serde_json::to_string(line)?
        } else {
            line.to_string()
        };
        writeln!(self.out, "{text}")
            .and_then(|()| self.out.flush())
            .context("failed to write the output")
    }
}

#[derive(Serialize)]
struct Started<'a> {
    kind: &'static str,
    version: &'a str,
    url: &'a str,
    target: &'a str,
    seed: u64,
    dials_nobody: bool,
}

impl fmt::Display for Started<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            version,
            url,
            target,
            seed,
            ..
        } = self;
        write!(
            f,
            "simulated phone-call server {version} on {url}. It dials nobody: no call leaves this machine.\n\
             events go to {target}/call-event; seed {seed}"
        )
    }
}

#[derive(Serialize)]
struct Progress {
    kind: &'static str,
    planned: u64,
    sent: u64,
    accepted: u64,
    lost: u64,
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            planned,
            sent,
            accepted,
            lost,
            ..
        } = self;
        write!(
            f,
            "{sent} of {planned} events sent, {accepted} accepted, {lost} lost"
        )
    }
}

#[derive(Serialize)]
struct Ended<'a> {
    kind: &'static str,
    #[serde(flatten)]
    summary: &'a Summary,
}

impl fmt::Display for Ended<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.summary.fmt(f)
    }
}

#[cfg(test)]
mod tests;
