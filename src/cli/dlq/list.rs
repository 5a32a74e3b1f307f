//! The letters, one line each.

use std::collections::VecDeque;
use std::io::Write;
use std::num::NonZeroUsize;

use chrono::{Local, TimeZone, Utc};
use serde::Serialize;

use super::{Kind, letters_in_words};
use crate::bus::dead_letter;
use crate::bus::letters::{Letter, Letters};
use crate::cli::target::Target;
use crate::cli::text::{Numbers, clean};
use crate::cli::{Exit, table, when};
use crate::domain::Timestamp;

const HEAD: [&str; 7] = ["ID", "PARKED", "ROLE", "REASON", "TRIES", "CALL", "SUBJECT"];

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// At most so many, the newest ones.
    #[arg(long, value_name = "N", default_value = "50")]
    limit: NonZeroUsize,

    #[command(flatten)]
    kind: Kind,

    /// Print JSON, numbers and all.
    #[arg(long)]
    json: bool,

    /// Show phone numbers in full.
    #[arg(long)]
    numbers: bool,
}

/// What a letter says about itself, without the message.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    id: u64,
    parked_at: Timestamp,
    role: String,
    reason: String,
    text: Option<String>,
    subject: Option<String>,
    call: Option<String>,
    attempts: Option<u64>,
    stream: Option<String>,
    stream_sequence: Option<u64>,
}

impl Row {
    pub(super) fn of(letter: &Letter) -> Self {
        let text = |name| letter.header(name).map(str::to_owned);
        Self {
            id: letter.id,
            parked_at: letter.parked_at,
            role: letter.role.clone(),
            reason: letter.reason.clone(),
            text: text(dead_letter::REASON),
            subject: letter.subject().map(str::to_owned),
            call: text(dead_letter::CALL),
            attempts: letter.number(dead_letter::ATTEMPTS),
            stream: text(dead_letter::STREAM),
            stream_sequence: letter.number(dead_letter::STREAM_SEQUENCE),
        }
    }
}

#[derive(Debug, Serialize)]
struct Answer {
    /// Letters of the kind that was asked for, whether or not they are listed.
    total: u64,
    letters: Vec<Row>,
}

pub(super) async fn run(args: &Args, target: &Target, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let letters = Letters::new(target.observer().await?);
    let filter = args.kind.filter()?;
    let (_, last) = letters.count().await?;
    let mut newest = VecDeque::new();
    let (mut total, mut from) = (0, 1);
    while let Some(letter) = letters.next(&filter, from).await?
        && letter.id <= last
    {
        from = letter.id + 1;
        total += 1;
        if newest.len() == args.limit.get() {
            newest.pop_front();
        }
        newest.push_back(Row::of(&letter));
    }
    let answer = Answer {
        total,
        letters: newest.into(),
    };
    if args.json {
        writeln!(out, "{}", serde_json::to_string(&answer)?)?;
        return Ok(Exit::Fine);
    }
    let numbers = Numbers::shown_if(args.numbers);
    for line in overview(&answer, numbers, Utc::now(), &Local) {
        writeln!(out, "{line}")?;
    }
    Ok(Exit::Fine)
}

fn overview<Z: TimeZone>(answer: &Answer, numbers: Numbers, now: Timestamp, zone: &Z) -> Vec<String>
where
    Z::Offset: std::fmt::Display,
{
    if answer.letters.is_empty() {
        return vec!["no dead letters".to_owned()];
    }
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let row = |row: &Row| {
        [
            row.id.to_string(),
            when::moment(row.parked_at, now, zone),
            clean(&row.role),
            clean(&row.reason),
            or_dash(row.attempts.map(|attempts| attempts.to_string())),
            or_dash(row.call.as_deref().map(|call| numbers.in_text(call))),
            or_dash(row.subject.as_deref().map(|text| numbers.in_text(text))),
        ]
    };
    let rows: Vec<_> = answer.letters.iter().map(row).collect();
    let mut lines = table::lines(HEAD, &rows);
    let shown = rows.len() as u64;
    lines.push(if shown < answer.total {
        format!("{shown} of {} shown", letters_in_words(answer.total))
    } else {
        letters_in_words(shown)
    });
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(id: u64, subject: &str, call: Option<&str>) -> Row {
        Row {
            id,
            parked_at: Timestamp::from_timestamp(1_800_000_000, 0).unwrap(),
            role: "router".to_owned(),
            reason: "undecodable".to_owned(),
            text: None,
            subject: Some(subject.to_owned()),
            call: call.map(str::to_owned),
            attempts: Some(1),
            stream: None,
            stream_sequence: None,
        }
    }

    #[test]
    fn letters_line_up_and_cannot_move_the_cursor() {
        let answer = Answer {
            total: 3,
            letters: vec![
                letter(9, "voice.in.16.CA1.ringing", Some("CA1")),
                letter(10, "voice.in.3.+12015550142.\u{1b}[2J", None),
            ],
        };
        let now = Timestamp::from_timestamp(1_800_000_100, 0).unwrap();
        let lines = overview(&answer, Numbers::Masked, now, &Utc);
        insta::assert_snapshot!(lines.join("\n"), @"
        ID  PARKED    ROLE    REASON       TRIES  CALL  SUBJECT
        9   08:00:00  router  undecodable  1      CA1   voice.in.16.CA1.ringing
        10  08:00:00  router  undecodable  1      -     voice.in.3.+1•••0142.␛[2J
        2 of 3 letters shown
        ");
        let none = Answer {
            total: 0,
            letters: Vec::new(),
        };
        assert_eq!(
            overview(&none, Numbers::Masked, now, &Utc),
            ["no dead letters"]
        );
    }
}
