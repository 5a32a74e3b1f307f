//! `voicebus replay`: events of the log once more, for whoever wants them.

use std::io::Write;
use std::ops::RangeInclusive;
use std::time::Duration;

use anyhow::Context;
use chrono::Utc;
use tokio::time::Instant;

use super::confirm::confirmed;
use super::target::Target;
use super::when::{self, Since};
use super::{Exit, unless_reader_left};
use crate::bus::Connection;
use crate::bus::feed::{Feed, Start, Step, Stored};
use crate::bus::replay::Replay;
use crate::bus::subjects::{self, ReplaySubject};
use crate::domain::Timestamp;
use crate::domain::ids::CallId;

/// How long counting may take.
const COUNT_TIMEOUT: Duration = Duration::from_secs(60);

/// Publish old events again, in order, under a subject of your own.
///
/// The events are those of VOICE_EVENT, byte for byte, each with the header `Voicebus-Replay: true`.
/// They go to a subject under `replay.` and nowhere else: no role listens there, so that nothing is
/// done twice and no phone is called. Agents and observers may subscribe there.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  nats sub 'replay.>'                                               in another terminal
  voicebus replay --call CA123 --to replay.test                     as fast as it happened
  voicebus replay --call CA123 --to replay.test --speed 10
  voicebus replay --since 2h --until 1h --to replay.test --dry-run  only count
  voicebus replay --since 1d --to replay.catch-up --speed max --yes")]
pub struct Args {
    /// Only this call, or this command (i-…).
    #[arg(
        long,
        value_name = "ID",
        value_parser = CallId::parse,
        required_unless_present = "since"
    )]
    call: Option<CallId>,

    /// Begin so long ago (30s, 10m, 2h, 7d), or at a time (2026-11-22T14:00:00Z).
    #[arg(long, value_name = "WHEN", value_parser = Since::parse)]
    since: Option<Since>,

    /// End so long ago, or at a time. By default now.
    #[arg(long, value_name = "WHEN", value_parser = Since::parse)]
    until: Option<Since>,

    /// Where to: `replay.` and words of your choice.
    #[arg(long, value_name = "SUBJECT", value_parser = ReplaySubject::parse)]
    to: ReplaySubject,

    /// How many times as fast as it happened: 0.5, 1, 20, or max.
    #[arg(long, value_name = "N", default_value = "1", value_parser = Speed::parse)]
    speed: Speed,

    /// Only count.
    #[arg(long)]
    dry_run: bool,

    /// Do not ask.
    #[arg(long)]
    yes: bool,

    #[command(flatten)]
    target: Target,
}

/// How fast.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Speed {
    /// So many times as fast as it happened.
    Times(f64),
    /// Without pauses.
    Max,
}

impl Speed {
    fn parse(text: &str) -> Result<Self, String> {
        if text == "max" {
            return Ok(Self::Max);
        }
        match text.parse() {
            Ok(times) if (0.001..=100_000.0).contains(&times) => Ok(Self::Times(times)),
            Ok(_) | Err(_) => Err(format!(
                "`{text}` is neither `max` nor a number from 0.001 to 100000"
            )),
        }
    }

    /// When an event is due after the first one, which it followed after `distance`.
    fn due(self, distance: Duration) -> Duration {
        match self {
            Self::Max => Duration::ZERO,
            Self::Times(times) => distance.div_f64(times),
        }
    }
}

/// What is to be replayed.
struct Span {
    events: u64,
    first: Timestamp,
    last: Timestamp,
    /// Numbers of the first and of the last event.
    numbers: RangeInclusive<u64>,
}

/// Counts events, and publishes them again unless that is not wanted.
///
/// # Errors
/// When NATS does not answer or the user may not.
pub async fn run(args: Args, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let connection = args.target.operator().await?;
    unless_reader_left(replay(&args, &connection, out).await)
}

async fn replay(args: &Args, connection: &Connection, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let count = tokio::time::timeout(COUNT_TIMEOUT, count(args, connection));
    let Some(span) = count.await.context("counting took too long")?? else {
        writeln!(out, "no events; they are kept for 30 days")?;
        return Ok(Exit::Wrong);
    };
    let events = in_words(span.events);
    let length = span.last - span.first;
    writeln!(
        out,
        "{events}, from {} on, over {}",
        span.first
            .to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
        when::length(length)
    )?;
    if args.dry_run {
        return Ok(Exit::Fine);
    }
    let to = args.to.as_str();
    let takes = chrono::TimeDelta::from_std(args.speed.due(length.to_std().unwrap_or_default()))
        .map(when::length)
        .unwrap_or_default();
    if !confirmed(
        &format!("Publish them to {to}? It takes {takes}."),
        args.yes,
    )? {
        writeln!(out, "nothing published")?;
        return Ok(Exit::Wrong);
    }
    let published = publish(args, connection, &span).await?;
    writeln!(out, "{} published to {to}", in_words(published))?;
    Ok(Exit::Fine)
}

fn in_words(events: u64) -> String {
    match events {
        1 => "1 event".to_owned(),
        many => format!("{many} events"),
    }
}

/// What lies between the limits at this moment.
async fn count(args: &Args, connection: &Connection) -> anyhow::Result<Option<Span>> {
    let start = args
        .since
        .map_or(Start::Oldest, |since| Start::At(since.instant(Utc::now())));
    let mut feed = open(args, connection, start).await?;
    let mut span: Option<Span> = None;
    let until = args.until.map(|until| until.instant(Utc::now()));
    let mut left = feed.stored();
    while left > 0 {
        let Some(event) = next(&mut feed).await else {
            continue;
        };
        left = event.left.min(left - 1);
        if until.is_some_and(|until| event.stored_at >= until) {
            break;
        }
        let span = span.get_or_insert(Span {
            events: 0,
            first: event.stored_at,
            last: event.stored_at,
            numbers: event.sequence..=event.sequence,
        });
        span.events += 1;
        span.last = event.stored_at;
        span.numbers = *span.numbers.start()..=event.sequence;
    }
    Ok(span)
}

async fn publish(args: &Args, connection: &Connection, span: &Span) -> anyhow::Result<u64> {
    let mut feed = open(args, connection, Start::At(span.first)).await?;
    let replay = Replay::new(connection.clone(), args.to.clone());
    let begin = Instant::now();
    let mut published = 0u64;
    if feed.stored() == 0 {
        return Ok(published);
    }
    loop {
        let Some(event) = next(&mut feed).await else {
            continue;
        };
        let is_last = event.left == 0 || event.sequence >= *span.numbers.end();
        if span.numbers.contains(&event.sequence) {
            let distance = (event.stored_at - span.first).to_std().unwrap_or_default();
            tokio::time::sleep_until(begin + args.speed.due(distance)).await;
            replay.publish(&event).await?;
            published += 1;
            // Whoever may not hears it at once, and not after hours.
            if published == 1 {
                replay.flush().await?;
            }
        }
        if is_last {
            break;
        }
    }
    replay.flush().await?;
    Ok(published)
}

async fn open(args: &Args, connection: &Connection, start: Start) -> anyhow::Result<Feed> {
    let filter = match &args.call {
        Some(call) => subjects::events_of(call.as_str()),
        None => subjects::EVENTS_ALL.to_owned(),
    };
    Ok(Feed::open(connection, "replay", filter, start).await?)
}

/// An interruption needs no word: the feed goes on where it was. It is common, too, because a
/// consumer that waits for a long pause between two events goes away.
async fn next(feed: &mut Feed) -> Option<Stored> {
    match feed.next().await {
        Step::Event(event) => Some(event),
        Step::Interrupted(_) | Step::Resumed { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn parse(words: &str) -> Result<Args, String> {
        let words = std::iter::once("replay").chain(words.split(' '));
        Line::try_parse_from(words)
            .map(|line| line.args)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn events_go_under_replay_and_nowhere_else() {
        assert!(parse("--call CA1 --to replay.x").is_ok());
        for elsewhere in [
            "voice.cmd.dial.x",
            "voice.in.1.CA1.ringing",
            "voice.event.CA1.x.y.z",
        ] {
            let error = parse(&format!("--call CA1 --to {elsewhere}")).unwrap_err();
            assert!(error.contains("no phone is called"), "{error}");
        }
    }

    #[test]
    fn a_whole_log_is_not_replayed_by_a_slip() {
        assert!(parse("--to replay.x").unwrap_err().contains("--call"));
        assert!(parse("--since 1h --to replay.x").is_ok());
    }

    #[test]
    fn speeds_are_numbers_or_max() {
        assert_eq!(Speed::parse("max"), Ok(Speed::Max));
        assert_eq!(Speed::parse("0.5"), Ok(Speed::Times(0.5)));
        for bad in ["0", "-1", "NaN", "inf", "fast", ""] {
            assert!(Speed::parse(bad).is_err(), "{bad}");
        }
        let minute = Duration::from_secs(60);
        assert_eq!(Speed::Max.due(minute), Duration::ZERO);
        assert_eq!(Speed::Times(2.0).due(minute), Duration::from_secs(30));
    }
}
