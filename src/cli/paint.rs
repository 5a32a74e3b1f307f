//! Colours, when somebody can see them.

use std::io::IsTerminal;

use owo_colors::{OwoColorize, Style};

/// When to use colours.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Color {
    /// On a terminal, unless NO_COLOR is set.
    #[default]
    Auto,
    /// Also in files and pipes.
    Always,
    /// Not at all.
    Never,
}

/// Paints, or leaves a text as it is.
#[derive(Debug, Clone, Copy)]
pub struct Paint {
    on: bool,
}

impl Paint {
    /// For the standard output of this process.
    #[must_use]
    pub fn for_stdout(color: Color) -> Self {
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let terminal = std::io::stdout().is_terminal() && !dumb;
        Self {
            on: decide(color, terminal, set("NO_COLOR")),
        }
    }

    /// Paints if colours are on. The text must be harmless already.
    pub(super) fn with(self, style: Style, text: &str) -> String {
        if self.on && !text.is_empty() {
            text.style(style).to_string()
        } else {
            text.to_owned()
        }
    }

    #[cfg(test)]
    pub(super) const PLAIN: Self = Self { on: false };
    #[cfg(test)]
    pub(super) const COLOURED: Self = Self { on: true };
}

/// An order on the command line counts more than a wish in the environment (no-color.org).
fn decide(color: Color, terminal: bool, no_color: bool) -> bool {
    match color {
        Color::Always => true,
        Color::Never => false,
        Color::Auto => terminal && !no_color,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_for_terminals_and_no_color_is_respected() {
        assert!(decide(Color::Auto, true, false));
        assert!(!decide(Color::Auto, true, true));
        assert!(!decide(Color::Auto, false, false));
        assert!(decide(Color::Always, false, true));
        assert!(!decide(Color::Never, true, false));
    }

    #[test]
    fn paint_is_added_only_when_it_is_on() {
        let red = Style::new().red();
        assert_eq!(Paint::PLAIN.with(red, "x"), "x");
        assert_eq!(Paint::COLOURED.with(red, "x"), "\x1b[31mx\x1b[0m");
        assert_eq!(Paint::COLOURED.with(red, ""), "");
    }
}
