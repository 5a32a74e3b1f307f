//! `voicebus links`: which sessions the calls of numbers go to.

use std::io::Write;

use chrono::{Local, Utc};

use super::target::Target;
use super::text::{Numbers, clean};
use super::{Exit, table, unless_reader_left, when};
use crate::bus::service;

/// List the numbers whose calls go into a session of their own.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print JSON, numbers and all.
    #[arg(long)]
    json: bool,

    /// Show phone numbers in full.
    #[arg(long)]
    numbers: bool,

    #[command(flatten)]
    target: Target,
}

/// Lists them.
///
/// # Errors
/// When egress cannot be asked.
pub async fn run(args: Args, out: &mut dyn Write) -> anyhow::Result<Exit> {
    unless_reader_left(list(args, out).await)
}

async fn list(args: Args, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let answer = service::links(&args.target.agent().await?).await?;
    if args.json {
        writeln!(out, "{}", serde_json::to_string(&answer)?)?;
        return Ok(Exit::Fine);
    }
    if answer.links.is_empty() {
        writeln!(out, "no number is linked to a session")?;
        return Ok(Exit::Fine);
    }
    let numbers = Numbers::shown_if(args.numbers);
    let rows: Vec<_> = answer
        .links
        .iter()
        .map(|link| {
            [
                numbers.in_text(&link.number),
                numbers.in_text(link.session.as_deref().unwrap_or("-")),
                when::moment(link.at, Utc::now(), &Local),
            ]
        })
        .collect();
    for line in table::lines(["NUMBER", "SESSION", "SINCE"], &rows) {
        writeln!(out, "{}", clean(&line))?;
    }
    if answer.more {
        writeln!(out, "… and more")?;
    }
    Ok(Exit::Fine)
}
