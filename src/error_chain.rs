//! Errors as one line: each cause once.

use std::error::Error;
use std::fmt;

/// Prints an error and its causes, separated by `: `. A cause that its parent has already printed
/// is left out.
pub struct Chain<'a>(pub &'a (dyn Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut printed = self.0.to_string();
        f.write_str(&printed)?;
        let mut source = self.0.source();
        while let Some(cause) = source {
            let text = cause.to_string();
            if !printed.contains(&text) {
                write!(f, ": {text}")?;
            }
            printed = text;
            source = cause.source();
        }
        Ok(())
    }
}
