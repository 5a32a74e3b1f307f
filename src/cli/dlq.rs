//! `voicebus dlq`: what could not be used, why, and what is to become of it.
//!
//! Looking needs the observer's rights. Taking a letter back and removing it are the operator's.

mod list;
mod purge;
mod redrive;
mod show;

use std::io::Write;

use anyhow::bail;

use super::target::Target;
use super::{Exit, unless_reader_left};
use crate::bus::letters::{Letter, Letters};
use crate::bus::subjects;

/// Look at dead letters, take them back to where they came from, or remove them.
///
/// A dead letter is a message that could not be used, with its reason. An `error.occurred` event of
/// its call names its letter.
#[derive(Debug, clap::Args)]
#[command(
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "\
Examples:
  voicebus dlq list                                what could not be used, and why
  voicebus dlq list --reason undecodable --json
  voicebus dlq show 17                             all of one letter
  voicebus dlq redrive 17 18                       try two of them again
  voicebus dlq redrive --all --reason exhausted    try all again whose trouble may have passed
  voicebus dlq purge 17
  voicebus dlq purge --all --role ingress --yes"
)]
pub struct Args {
    #[command(subcommand)]
    what: What,

    #[command(flatten)]
    target: Target,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// List dead letters, newest last
    List(list::Args),
    /// Show one letter: headers, reason and body
    Show(show::Args),
    /// Publish the inputs of letters again, where they were published first
    ///
    /// An input that was rejected is applied if the reason is gone, as the newest of its call: the
    /// events that came after it stay as they are. If the reason is still there, it becomes a
    /// letter once more. A letter that is redriven twice, by whomever, has one effect, and an input
    /// that had its effect already has no other. The letter is removed after the input is stored.
    ///
    /// Only inputs are redriven. A command is not: give it anew with `voicebus call`.
    Redrive(redrive::Args),
    /// Remove letters for good
    Purge(purge::Args),
}

/// Which of the letters.
#[derive(Debug, Clone, clap::Args)]
struct Kind {
    /// Only letters with this reason, such as undecodable, misrouted or exhausted.
    #[arg(long, value_name = "REASON")]
    reason: Option<String>,

    /// Only letters of this role: ingress, router or egress.
    #[arg(long, value_name = "ROLE")]
    role: Option<String>,
}

impl Kind {
    fn filter(&self) -> anyhow::Result<String> {
        let filter = subjects::dead_letters(self.role.as_deref(), self.reason.as_deref());
        filter.ok_or_else(|| {
            anyhow::anyhow!("roles and reasons are words of letters, digits, - and _")
        })
    }

    fn is_any(&self) -> bool {
        self.reason.is_none() && self.role.is_none()
    }
}

/// Some letters by their numbers, or all of a kind.
#[derive(Debug, Clone, clap::Args)]
struct Choice {
    /// The letters, by the numbers that `voicebus dlq list` shows.
    #[arg(
        value_name = "ID",
        required_unless_present = "all",
        conflicts_with = "all"
    )]
    ids: Vec<u64>,

    /// All letters that there are at this moment, of the kind that is said.
    #[arg(long)]
    all: bool,

    #[command(flatten)]
    kind: Kind,
}

impl Choice {
    /// Goes through the letters, the oldest first. A letter that is parked meanwhile is not among
    /// them, or a letter that comes back at once would be met for ever.
    async fn each(
        &self,
        letters: &Letters,
        mut visit: impl AsyncFnMut(u64, Option<Letter>) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        if !self.all {
            if !self.kind.is_any() {
                bail!("--reason and --role choose among --all; the letters are named already");
            }
            for id in &self.ids {
                visit(*id, letters.get(*id).await?).await?;
            }
            return Ok(());
        }
        let filter = self.kind.filter()?;
        let (_, last) = letters.count().await?;
        let mut from = 1;
        while let Some(letter) = letters.next(&filter, from).await?
            && letter.id <= last
        {
            from = letter.id + 1;
            visit(letter.id, Some(letter)).await?;
        }
        Ok(())
    }
}

/// Does with dead letters what is asked.
///
/// # Errors
/// When NATS does not answer or the user may not.
pub async fn run(args: Args, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let target = &args.target;
    unless_reader_left(match args.what {
        What::List(list) => list::run(&list, target, out).await,
        What::Show(show) => show::run(&show, target, out).await,
        What::Redrive(redrive) => redrive::run(&redrive, target, out).await,
        What::Purge(purge) => purge::run(&purge, target, out).await,
    })
}

/// `1 letter`, `2 letters`.
fn letters_in_words(count: u64) -> String {
    match count {
        1 => "1 letter".to_owned(),
        many => format!("{many} letters"),
    }
}
