//! One letter in full.

use std::io::Write;

use anyhow::bail;
use chrono::{Local, TimeZone, Utc};
use serde::Serialize;
use serde_json::Value;

use super::list::Row;
use crate::bus::dead_letter;
use crate::bus::letters::{Letter, Letters};
use crate::cli::target::Target;
use crate::cli::text::{Numbers, clean, padded};
use crate::cli::{Exit, when};
use crate::domain::Timestamp;

/// Lines of a body that are shown: more than any event of a call has. `--json` has them all.
const BODY_LINES_MAX: usize = 400;
const NAME_WIDTH: usize = "attempts".len();

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The letter, by the number that `voicebus dlq list` and the event of its call show.
    #[arg(value_name = "ID")]
    id: u64,

    /// Print JSON, numbers and all.
    #[arg(long)]
    json: bool,

    /// Show phone numbers in full.
    #[arg(long)]
    numbers: bool,
}

#[derive(Debug, Serialize)]
struct Whole<'a> {
    #[serde(flatten)]
    row: Row,
    headers: &'a [(String, String)],
    /// The body, if it is text.
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<&'a str>,
    /// The body in hex digits, if it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    body_hex: Option<String>,
}

pub(super) async fn run(args: &Args, target: &Target, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let letters = Letters::new(target.observer().await?);
    let Some(letter) = letters.get(args.id).await? else {
        bail!(
            "there is no dead letter {}; `voicebus dlq list` lists them",
            args.id
        );
    };
    if args.json {
        let body = std::str::from_utf8(&letter.body).ok();
        let whole = Whole {
            row: Row::of(&letter),
            headers: &letter.headers,
            body,
            body_hex: body.is_none().then(|| hex(&letter.body)),
        };
        writeln!(out, "{}", serde_json::to_string(&whole)?)?;
        return Ok(Exit::Fine);
    }
    let numbers = Numbers::shown_if(args.numbers);
    for line in lines(&letter, numbers, Utc::now(), &Local) {
        writeln!(out, "{line}")?;
    }
    Ok(Exit::Fine)
}

fn lines<Z: TimeZone>(letter: &Letter, numbers: Numbers, now: Timestamp, zone: &Z) -> Vec<String>
where
    Z::Offset: std::fmt::Display,
{
    let mut lines = Vec::new();
    let mut say = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            lines.push(format!("{}  {value}", padded(name, NAME_WIDTH)));
        }
    };
    let text = |name| letter.header(name).map(|text| numbers.in_text(text));
    say("letter", Some(letter.id.to_string()));
    say("parked", Some(when::moment(letter.parked_at, now, zone)));
    say("by", Some(clean(&letter.role)));
    say("reason", Some(clean(&letter.reason)));
    say("that is", text(dead_letter::REASON));
    say("call", text(dead_letter::CALL));
    say(
        "subject",
        letter.subject().map(|text| numbers.in_text(text)),
    );
    let place = match (
        text(dead_letter::STREAM),
        letter.number(dead_letter::STREAM_SEQUENCE),
    ) {
        (Some(stream), Some(sequence)) => Some(format!("{stream} {sequence}")),
        (stream, _) => stream,
    };
    say("from", place);
    // Digits of a second, or of a trace, are no phone number.
    let plain = |name| letter.header(name).map(clean);
    say("stored", plain(dead_letter::STORED_AT));
    say("attempts", text(dead_letter::ATTEMPTS));
    say("trace", plain(dead_letter::TRACEPARENT));
    let originals: Vec<&(String, String)> = letter
        .headers
        .iter()
        .filter(|(name, _)| {
            name.starts_with(dead_letter::ORIGINAL) && name != dead_letter::ORIGINAL_SUBJECT
        })
        .collect();
    if !originals.is_empty() {
        lines.push(String::new());
        lines.push("headers of the message".to_owned());
        for (name, value) in originals {
            let name = name.strip_prefix(dead_letter::ORIGINAL).unwrap_or(name);
            lines.push(format!("  {}: {}", clean(name), numbers.in_text(value)));
        }
        if letter.header(dead_letter::HEADERS_CUT).is_some() {
            lines.push("  and others, for which there was no room".to_owned());
        }
    }
    lines.push(String::new());
    lines.push(format!("body, {} bytes", letter.body.len()));
    lines.extend(body(&letter.body, numbers));
    lines
}

/// JSON in its usual form, any other text line by line, the rest in hex digits.
fn body(bytes: &[u8], numbers: Numbers) -> Vec<String> {
    let text = match (
        serde_json::from_slice::<Value>(bytes),
        std::str::from_utf8(bytes),
    ) {
        (Ok(value), _) => serde_json::to_string_pretty(&value).unwrap_or_default(),
        (Err(_), Ok(text)) => text.to_owned(),
        (Err(_), Err(_)) => {
            let hex = hex(bytes);
            let rows: Vec<&[u8]> = hex.as_bytes().chunks(64).collect();
            rows.iter()
                .map(|row| String::from_utf8_lossy(row))
                .collect::<Vec<_>>()
                .join("\n")
        }
    };
    let mut lines: Vec<String> = text
        .lines()
        .take(BODY_LINES_MAX)
        .map(|line| format!("  {}", numbers.in_text(line)))
        .collect();
    let more = text.lines().count().saturating_sub(BODY_LINES_MAX);
    if more > 0 {
        lines.push(format!("  … {more} more lines; --json has them"));
    }
    lines
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn letter(body: &'static [u8]) -> Letter {
        let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        Letter {
            id: 17,
            parked_at: Timestamp::from_timestamp(1_800_000_000, 0).unwrap(),
            role: "router".to_owned(),
            reason: "undecodable".to_owned(),
            headers: vec![
                header("Voicebus-Attempts", "1"),
                header("Voicebus-Call", "CA1"),
                header("Voicebus-Original-Nats-Msg-Id", "ev_1\u{9b}31m"),
                header("Voicebus-Original-Subject", "voice.in.16.CA1.ringing"),
                header("Voicebus-Reason", "no number: +12015550142"),
                header("Voicebus-Stream", "VOICE_IN"),
                header("Voicebus-Stored-At", "2026-11-22T15:34:30.955555546+00:00"),
                header("Voicebus-Stream-Sequence", "8"),
            ],
            body: Bytes::from_static(body),
        }
    }

    #[test]
    fn a_letter_is_shown_harmless_and_without_numbers() {
        let now = Timestamp::from_timestamp(1_800_000_100, 0).unwrap();
        let json = letter(b"{\"from\":\"+12015550142\",\"said\":\"a\\u001b[2J\"}");
        insta::assert_snapshot!(lines(&json, Numbers::Masked, now, &Utc).join("\n"), @r#"
        letter    17
        parked    08:00:00
        by        router
        reason    undecodable
        that is   no number: +1•••0142
        call      CA1
        subject   voice.in.16.CA1.ringing
        from      VOICE_IN 8
        stored    2026-11-22T15:34:30.955555546+00:00
        attempts  1

        headers of the message
          Nats-Msg-Id: ev_1�31m

        body, 43 bytes
          {
            "from": "+1•••0142",
            "said": "a\u001b[2J"
          }
        "#);
        let shown = lines(&json, Numbers::Shown, now, &Utc).join("\n");
        assert!(shown.contains("\"from\": \"+12015550142\""), "{shown}");
    }

    #[test]
    fn a_body_of_any_kind_is_shown() {
        assert_eq!(
            body(b"one\x1b[2J\r\ntwo", Numbers::Masked),
            ["  one␛[2J", "  two"]
        );
        assert_eq!(body(b"\xff\x00", Numbers::Masked), ["  ff00"]);
        assert!(body(b"", Numbers::Masked).is_empty());
        let long = "x\n".repeat(BODY_LINES_MAX + 7);
        let lines = body(long.as_bytes(), Numbers::Masked);
        assert_eq!(lines.last().unwrap(), "  … 7 more lines; --json has them");
    }
}
