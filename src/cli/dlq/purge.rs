//! Removing letters for good.

use std::io::Write;

use super::{Choice, letters_in_words};
use crate::bus::letters::Letters;
use crate::cli::Exit;
use crate::cli::confirm::confirmed;
use crate::cli::target::Target;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    choice: Choice,

    /// Do not ask.
    #[arg(long)]
    yes: bool,
}

pub(super) async fn run(args: &Args, target: &Target, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let letters = Letters::new(target.operator().await?);
    let mut ids = Vec::new();
    let mut unknown = 0;
    args.choice
        .each(&letters, async |id, letter| {
            match letter {
                Some(letter) => ids.push(letter.id),
                None => {
                    writeln!(out, "letter {id}: there is no such letter")?;
                    unknown += 1;
                }
            }
            Ok(())
        })
        .await?;
    let exit = if unknown == 0 {
        Exit::Fine
    } else {
        Exit::Wrong
    };
    if ids.is_empty() {
        writeln!(out, "no letter to remove")?;
        return Ok(exit);
    }
    let count = letters_in_words(ids.len() as u64);
    if !confirmed(&format!("Remove {count} for good?"), args.yes)? {
        writeln!(out, "nothing removed")?;
        return Ok(Exit::Wrong);
    }
    let mut removed = 0;
    for id in ids {
        // Somebody else may have been faster.
        if letters.delete(id).await? {
            removed += 1;
        }
    }
    writeln!(out, "{} removed", letters_in_words(removed))?;
    Ok(exit)
}
