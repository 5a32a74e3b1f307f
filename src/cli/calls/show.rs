//! One call in full, read back from the public feed: it works whether or not a router runs.

use std::io::Write;
use std::time::Duration;

use super::Args;
use anyhow::{Context, bail};
use chrono::{Local, TimeZone, Utc};
use serde::Serialize;

use crate::bus::envelope::{CallSnapshot, CommandSnapshot, EventEnvelope, Transcript};
use crate::bus::feed;
use crate::bus::subjects;
use crate::cli::text::{Numbers, clean};
use crate::cli::{Exit, when};
use crate::domain::Timestamp;
use crate::domain::ids::CallId;

/// Events read back at most: a talk of a day has fewer.
const EVENTS_MAX: usize = 50_000;
/// How long reading may take.
const READ_TIMEOUT: Duration = Duration::from_secs(20);

/// Everything that is known of one call or command.
#[derive(Debug, Default, Serialize)]
struct Story {
    #[serde(skip_serializing_if = "Option::is_none")]
    call: Option<CallSnapshot>,
    #[serde(skip_serializing_if = "Option::is_none")]
    command: Option<CommandSnapshot>,
    /// Number of the last event.
    sequence: u64,
    /// When it happened.
    last_at: Option<Timestamp>,
    transcript: Vec<Utterance>,
}

#[derive(Debug, Serialize)]
struct Utterance {
    sequence: u64,
    time: Timestamp,
    #[serde(flatten)]
    said: Transcript,
}

pub(super) async fn run(id: &CallId, args: &Args, out: &mut dyn Write) -> anyhow::Result<Exit> {
    if args.active || args.session.is_some() || args.limit.is_some() {
        bail!("--active, --session and --limit choose calls for the list and mean nothing for one");
    }
    let connection = args.target.observer().await?;
    let filter = subjects::events_of(id.as_str());
    let read = feed::read_back(&connection, "show", filter, EVENTS_MAX);
    let stored = tokio::time::timeout(READ_TIMEOUT, read)
        .await
        .context("reading the call took too long")??;
    if stored.is_empty() {
        bail!(
            "no call or command `{id}` is known; events are kept for 30 days. `voicebus calls` lists the newest"
        );
    }
    let mut story = Story::default();
    for event in &stored {
        let event = serde_json::from_slice(&event.payload)
            .with_context(|| format!("event {} cannot be read", event.sequence))?;
        story.take(event);
    }
    if args.json {
        writeln!(out, "{}", serde_json::to_string(&story)?)?;
        return Ok(Exit::Fine);
    }
    let numbers = Numbers::shown_if(args.numbers);
    for line in story.lines(numbers, Utc::now(), &Local) {
        writeln!(out, "{line}")?;
    }
    Ok(Exit::Fine)
}

impl Story {
    /// The next event. The last one holds the state.
    fn take(&mut self, event: EventEnvelope) {
        self.sequence = event.sequence;
        self.last_at = Some(event.time);
        self.call = event.data.call;
        self.command = event.data.command;
        if let Some(said) = event.data.transcript {
            self.transcript.push(Utterance {
                sequence: event.sequence,
                time: event.time,
                said,
            });
        }
    }

    fn lines<Z: TimeZone>(&self, numbers: Numbers, now: Timestamp, zone: &Z) -> Vec<String>
    where
        Z::Offset: std::fmt::Display,
    {
        let mut lines = Vec::new();
        let mut say = |name: &str, value: Option<String>| {
            if let Some(value) = value.filter(|value| !value.is_empty()) {
                lines.push(format!("{name:<10} {value}"));
            }
        };
        let moment = |at: Option<Timestamp>| at.map(|at| when::moment(at, now, zone));
        if let Some(call) = &self.call {
            let text = |text: &Option<String>| text.as_deref().map(|text| numbers.in_text(text));
            say("call", Some(clean(&call.id)));
            say("state", Some(clean(&call.state)));
            say("direction", text(&call.direction));
            say("number", text(&call.number));
            let rule = clean(&call.session_rule);
            say(
                "session",
                Some(format!("{} (by {rule})", numbers.in_text(&call.session))),
            );
            say("command", call.intent.as_deref().map(clean));
            say("other leg", call.other_leg.as_deref().map(clean));
            say("began", moment(call.initiated_at));
            say("answered", moment(call.answered_at));
            say("ended", moment(call.ended_at));
            let talked = call
                .answered_at
                .map(|answered| when::length(call.ended_at.unwrap_or(now) - answered));
            say("length", talked);
            let reason = match (&call.end_reason, text(&call.end_detail)) {
                (Some(reason), Some(detail)) => Some(format!("{} ({detail})", clean(reason))),
                (reason, _) => reason.as_deref().map(clean),
            };
            say("reason", reason);
        }
        if let Some(command) = &self.command {
            let text = |text: &Option<String>| text.as_deref().map(|text| numbers.in_text(text));
            say("command", Some(clean(&command.id)));
            say("asks for", Some(clean(&command.verb)));
            say("status", Some(clean(&command.status)));
            say("number", text(&command.to));
            say("session", Some(numbers.in_text(&command.session)));
            say("call", command.call.as_deref().map(clean));
            say("reason", text(&command.reason));
        }
        say("events", Some(self.sequence.to_string()));
        if !self.transcript.is_empty() {
            lines.push(String::new());
        }
        for Utterance { time, said, .. } in &self.transcript {
            let after_end = if said.after_end {
                " (after the end)"
            } else {
                ""
            };
            lines.push(format!(
                "{}  {}: {}{after_end}",
                when::clock(*time, zone),
                clean(&said.label),
                clean(&said.text)
            ));
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn event(sequence: u64, data: Value) -> EventEnvelope {
        serde_json::from_value(json!({
            "specversion": "1.0", "id": "e", "source": "/voicebus/router",
            "type": "openclaw.voice.x.y", "subject": "CA1", "time": "2026-11-22T13:44:58.616Z",
            "datacontenttype": "application/json", "dataschema": "urn:voicebus:event:1",
            "sequence": sequence, "sessionkey": "agent:main:voice:12015550142",
            "partitionkey": "CA1", "traceparent": "00-0-0-00", "data": data,
        }))
        .unwrap()
    }

    #[test]
    fn a_call_is_told_with_what_was_said() {
        let call = json!({
            "id": "CA1", "state": "ended", "direction": "inbound", "number": "+12015550142",
            "session": "agent:main:voice:12015550142", "session_rule": "scope", "utterances": 2,
            "initiated_at": "2026-11-22T13:44:00Z", "answered_at": "2026-11-22T13:44:02Z",
            "ended_at": "2026-11-22T13:45:34Z", "end_reason": "error",
            "end_detail": "lost +12015550142",
        });
        let said = |label: &str, text: &str, after_end: bool| {
            json!({
                "call": call,
                "transcript": { "speaker": "user", "label": label, "text": text, "after_end": after_end },
            })
        };
        let mut story = Story::default();
        story.take(event(1, said("user", "hello\x1b[2J", false)));
        story.take(event(2, json!({ "call": call })));
        story.take(event(3, said("bot", "bye\nbye", true)));
        let now = chrono::DateTime::parse_from_rfc3339("2026-11-22T14:03:32Z").unwrap();
        let lines = story.lines(Numbers::Masked, now.to_utc(), &Utc);
        insta::assert_snapshot!(lines.join("\n"), @"
        call       CA1
        state      ended
        direction  inbound
        number     +1•••0142
        session    agent:main:voice:1•••0142 (by scope)
        began      13:44:00
        answered   13:44:02
        ended      13:45:34
        length     1m32s
        reason     error (lost +1•••0142)
        events     3

        13:44:58.616  user: hello␛[2J
        13:44:58.616  bot: bye↵bye (after the end)
        ");
    }

    #[test]
    fn a_command_is_told_too() {
        let command = json!({
            "id": "i-1", "verb": "dial", "status": "refused", "session": "agent:main:x",
            "to": "+12015550142", "code": "blocked", "reason": "no",
        });
        let mut story = Story::default();
        story.take(event(2, json!({ "command": command })));
        let lines = story.lines(Numbers::Shown, Utc::now(), &Utc);
        insta::assert_snapshot!(lines.join("\n"), @"
        command    i-1
        asks for   dial
        status     refused
        number     +12015550142
        session    agent:main:x
        reason     no
        events     2
        ");
    }
}
