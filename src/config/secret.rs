//! Secrets come from the environment or from a file that it names; never from the command line,
//! where every user of the machine can read them.

use std::fmt;
use std::path::Path;

/// A secret that no log shows.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Secret(String);

impl Secret {
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// Reads `NAME`, or the file that `NAME_FILE` names.
pub(super) struct Reader<'a> {
    pub env: &'a dyn Fn(&str) -> Option<String>,
    pub mistakes: &'a mut Vec<String>,
    pub warnings: &'a mut Vec<String>,
}

/// What to do about a file of secrets that every user of the machine can read.
pub(crate) fn exposed(path: &Path) -> Option<String> {
    crate::pem::is_open_to_all(path).then(|| {
        let path = path.display();
        format!(
            "every user of this machine can read {path}, which holds a secret; chmod 600 {path}"
        )
    })
}

impl Reader<'_> {
    /// One secret.
    pub fn one(&mut self, name: &str) -> Option<Secret> {
        self.text(name).map(Secret)
    }

    /// Several, separated by commas or on lines of their own: all are valid, for rotation.
    pub fn list(&mut self, name: &str) -> Vec<Secret> {
        let text = self.text(name).unwrap_or_default();
        text.split([',', '\n'])
            .map(str::trim)
            .filter(|one| !one.is_empty())
            .map(|one| Secret(one.to_owned()))
            .collect()
    }

    fn text(&mut self, name: &str) -> Option<String> {
        let file_name = format!("{name}_FILE");
        let text = match ((self.env)(name), (self.env)(&file_name)) {
            (Some(_), Some(_)) => {
                self.mistakes.push(format!(
                    "{name} and {file_name} are both set; set one of them"
                ));
                return None;
            }
            (Some(text), None) => text,
            (None, Some(path)) => match std::fs::read_to_string(&path) {
                Ok(text) => {
                    self.warnings.extend(exposed(Path::new(&path)));
                    text
                }
                Err(error) => {
                    self.mistakes.push(format!(
                        "{file_name} names {path}, which cannot be read: {error}"
                    ));
                    return None;
                }
            },
            (None, None) => return None,
        };
        let text = text.trim();
        if text.is_empty() {
            self.mistakes
                .push(format!("{name} is set but empty; set it or remove it"));
            return None;
        }
        Some(text.to_owned())
    }
}
