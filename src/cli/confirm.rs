//! Asking before something is done that cannot be taken back.

use std::io::{BufRead, IsTerminal, Write};

/// Whether the operator wants it: says so with `--yes`, or answers the question. Where nobody can
/// be asked, silence is no.
///
/// # Errors
/// When nobody can be asked, or the terminal cannot be used.
pub fn confirmed(question: &str, yes: bool) -> anyhow::Result<bool> {
    if yes {
        return Ok(true);
    }
    if !std::io::stdin().is_terminal() {
        anyhow::bail!("{question} Nobody is here to answer; say --yes");
    }
    let stdin = std::io::stdin();
    ask(question, &mut stdin.lock(), &mut std::io::stderr())
}

fn ask(question: &str, from: &mut dyn BufRead, to: &mut dyn Write) -> anyhow::Result<bool> {
    write!(to, "{question} [y/N] ")?;
    to.flush()?;
    let mut answer = String::new();
    from.read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_clear_yes_is_one() {
        for (answer, expected) in [
            ("y\n", true),
            ("yes\n", true),
            (" Y \n", true),
            ("\n", false),
            ("", false),
            ("n\n", false),
            ("yep\n", false),
        ] {
            let mut asked = Vec::new();
            let wanted = ask("Remove all?", &mut answer.as_bytes(), &mut asked).unwrap();
            assert_eq!(wanted, expected, "{answer:?}");
            assert_eq!(String::from_utf8(asked).unwrap(), "Remove all? [y/N] ");
        }
        assert!(confirmed("Remove all?", true).unwrap());
    }
}
