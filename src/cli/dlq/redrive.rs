//! Taking letters back to where they came from.

use std::io::Write;

use super::{Choice, letters_in_words};
use crate::bus::letters::{Error, Letter, Letters};
use crate::cli::Exit;
use crate::cli::target::Target;
use crate::cli::text::clean;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    choice: Choice,
}

#[derive(Debug, Default)]
struct Count {
    redriven: u64,
    left: u64,
}

pub(super) async fn run(args: &Args, target: &Target, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let letters = Letters::new(target.operator().await?);
    let mut count = Count::default();
    args.choice
        .each(&letters, async |id, letter| {
            let told = match letter {
                Some(letter) => redrive(&letters, &letter).await?,
                None => Err("there is no such letter".to_owned()),
            };
            match &told {
                Ok(_) => count.redriven += 1,
                Err(_) => count.left += 1,
            }
            let (Ok(text) | Err(text)) = told;
            writeln!(out, "letter {id}: {text}")?;
            Ok(())
        })
        .await?;
    let Count { redriven, left } = count;
    match (redriven, left) {
        (0, 0) => writeln!(out, "no such letters")?,
        (_, 0) => writeln!(
            out,
            "{} redriven; what becomes of it shows `voicebus tail`",
            letters_in_words(redriven)
        )?,
        (_, _) => writeln!(out, "{} redriven, {left} not", letters_in_words(redriven))?,
    }
    Ok(if left == 0 { Exit::Fine } else { Exit::Wrong })
}

/// The input first, the letter last: whoever is stopped in between finds the letter and does no
/// harm with it.
async fn redrive(letters: &Letters, letter: &Letter) -> anyhow::Result<Result<String, String>> {
    let stored = match letters.redrive(letter).await {
        Ok(stored) => stored,
        Err(error @ Error::NotAnInput { .. }) => return Ok(Err(format!("not redriven: {error}"))),
        Err(error) => return Err(error.into()),
    };
    let subject = clean(letter.subject().unwrap_or_default());
    let what = if stored.duplicate {
        format!("had been redriven to {subject} before")
    } else {
        format!("redriven to {subject} as input {}", stored.sequence)
    };
    match letters.delete(letter.id).await {
        Ok(_) => Ok(Ok(what)),
        Err(error) => Ok(Err(format!(
            "{what}, but the letter is still there ({error}); redriving it again does no harm"
        ))),
    }
}
