//! `voicebus tail`: what happens on the phone, as it happens.

mod line;

use std::io::{IsTerminal, Write};
use std::num::NonZeroU64;

use anyhow::Context;
use chrono::{Local, Utc};

use super::paint::{Color, Paint};
use super::target::Target;
use super::text::{Numbers, clean, clean_json};
use super::when::{self, Since};
use super::{Exit, parse_session, unless_reader_left};
use crate::bus::envelope::EventEnvelope;
use crate::bus::feed::{Feed, Start, Step, Stored};
use crate::bus::subjects;
use crate::domain::ids::{CallId, SessionKey};

use line::{Form, kind_of, line};

/// The first words of event types.
const KINDS: [&str; 7] = [
    "state",
    "transcript",
    "session",
    "context",
    "command",
    "audio",
    "error",
];

/// Watch calls as they happen, one line for each event.
///
/// Shows what happens from now on; --since also shows what happened before. Goes on by itself when
/// NATS was away, and leaves nothing out. Leave with Ctrl-C.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  voicebus tail                                    everything from now on
  voicebus tail --since 10m --kind transcript      what was said in the last ten minutes, and on
  voicebus tail --kind state.ended --kind command  ends of calls, and what became of commands
  voicebus tail --call CA123 --json | jq .data     one call, for a program")]
pub struct Args {
    /// Only this call, or this command (i-…).
    #[arg(long, value_name = "ID", value_parser = CallId::parse)]
    call: Option<CallId>,

    /// Only calls of this session: the whole key, or what follows `agent:main:`.
    #[arg(long, value_name = "KEY", value_parser = parse_session)]
    session: Option<SessionKey>,

    /// Only events of this kind, such as `transcript` or `state.ended`; may be given several times.
    #[arg(long, value_name = "KIND[.ACTION]", value_parser = parse_kind)]
    kind: Vec<String>,

    /// Begin so long ago (30s, 10m, 2h, 7d), or at a time (2026-11-22T14:00:00Z).
    #[arg(long, value_name = "WHEN", value_parser = Since::parse)]
    since: Option<Since>,

    /// Leave after so many events.
    #[arg(long, value_name = "N")]
    limit: Option<NonZeroU64>,

    /// Print each event as it is stored: one CloudEvent a line, numbers and all.
    #[arg(long)]
    json: bool,

    /// Show phone numbers in full.
    #[arg(long)]
    numbers: bool,

    /// When to use colours.
    #[arg(long, value_enum, value_name = "WHEN", default_value_t)]
    color: Color,

    #[command(flatten)]
    target: Target,
}

/// Shows events until there were enough, the reader leaves or Ctrl-C.
///
/// # Errors
/// When NATS is not there at the beginning, or the output cannot be written.
pub async fn run(args: Args, out: &mut dyn Write, err: &mut dyn Write) -> anyhow::Result<Exit> {
    tokio::select! {
        followed = follow(&args, out, err) => unless_reader_left(followed),
        stopped = tokio::signal::ctrl_c() => {
            stopped.context("cannot listen for Ctrl-C")?;
            Ok(Exit::Fine)
        }
    }
}

async fn follow(args: &Args, out: &mut dyn Write, err: &mut dyn Write) -> anyhow::Result<Exit> {
    let connection = args.target.observer().await?;
    let filter = match &args.call {
        Some(call) => subjects::events_of(call.as_str()),
        None => subjects::EVENTS_ALL.to_owned(),
    };
    let start = args
        .since
        .map_or(Start::Next, |since| Start::At(since.instant(Utc::now())));
    let mut feed = Feed::open(&connection, "tail", filter, start).await?;
    let mut printer = Printer::new(args);
    let mut left = args.limit.map(NonZeroU64::get);
    while left != Some(0) {
        match feed.next().await {
            Step::Event(stored) => {
                if printer.print(args, &stored, out, err)? {
                    left = left.map(|left| left - 1);
                }
            }
            Step::Interrupted(reason) => {
                writeln!(err, "voicebus: {reason}; waiting for it to come back")?;
            }
            Step::Resumed { whole: true } => {
                writeln!(err, "voicebus: back; nothing was left out")?;
            }
            Step::Resumed { whole: false } => {
                writeln!(err, "voicebus: back; some events are no longer there")?;
            }
        }
    }
    Ok(Exit::Fine)
}

struct Printer {
    form: Form<Local>,
    terminal: bool,
    day: String,
}

impl Printer {
    fn new(args: &Args) -> Self {
        Self {
            form: Form {
                paint: Paint::for_stdout(args.color),
                numbers: Numbers::shown_if(args.numbers),
                zone: Local,
            },
            terminal: std::io::stdout().is_terminal(),
            day: when::day(Utc::now(), &Local),
        }
    }

    /// Prints an event if it is wanted, and says whether it was.
    fn print(
        &mut self,
        args: &Args,
        stored: &Stored,
        out: &mut dyn Write,
        err: &mut dyn Write,
    ) -> anyhow::Result<bool> {
        let event: EventEnvelope = match serde_json::from_slice(&stored.payload) {
            Ok(event) => event,
            Err(error) => {
                let subject = clean(&stored.subject);
                let number = stored.sequence;
                writeln!(
                    err,
                    "voicebus: event {number} on {subject} cannot be read: {error}"
                )?;
                return Ok(false);
            }
        };
        if !wanted(args, &event) {
            return Ok(false);
        }
        if args.json {
            let json = String::from_utf8_lossy(&stored.payload);
            writeln!(out, "{}", as_line(&json, self.terminal))?;
        } else {
            let day = when::day(event.time, &Local);
            if day != self.day {
                writeln!(out, "{day}")?;
                self.day = day;
            }
            writeln!(out, "{}", line(&event, &self.form))?;
        }
        out.flush()?;
        Ok(true)
    }
}

/// A program gets the very bytes; a terminal gets nothing that it would obey.
fn as_line(json: &str, terminal: bool) -> String {
    if terminal {
        clean_json(json)
    } else {
        json.replace(['\n', '\r'], " ")
    }
}

fn wanted(args: &Args, event: &EventEnvelope) -> bool {
    let kind = kind_of(event);
    let of_kind = |wanted: &String| {
        kind.strip_prefix(wanted.as_str())
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    let in_session = |session: &SessionKey| event.sessionkey == session.as_str();
    args.session.as_ref().is_none_or(in_session)
        && (args.kind.is_empty() || args.kind.iter().any(of_kind))
}

fn parse_kind(text: &str) -> Result<String, String> {
    let word = text.to_ascii_lowercase();
    let kind = word.split('.').next().unwrap_or_default();
    if KINDS.contains(&kind) {
        Ok(word)
    } else {
        Err(format!(
            "there is no kind `{kind}`; there are {}",
            KINDS.join(", ")
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_kind_is_refused_with_those_there_are() {
        assert_eq!(parse_kind("State.Ended"), Ok("state.ended".to_owned()));
        assert_eq!(
            parse_kind("transcripts"),
            Err("there is no kind `transcripts`; there are state, transcript, session, context, command, audio, error".to_owned())
        );
    }

    #[test]
    fn json_for_programs_is_what_was_stored_on_one_line() {
        let stored = "{\"a\":\n\"\u{9b}\"}";
        assert_eq!(as_line(stored, false), "{\"a\": \"\u{9b}\"}");
        assert_eq!(as_line(stored, true), "{\"a\": \"\\u009b\"}");
    }
}
