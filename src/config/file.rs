//! The configuration file: TOML sections of texts, with `${NAME}` replaced by the environment.

use std::collections::BTreeMap;

use toml::{Table, Value};

/// The settings of a file on top of the defaults, taken out one by one.
pub(super) struct Sections {
    values: BTreeMap<(String, String), String>,
    known: Vec<(String, String)>,
}

impl Sections {
    pub fn read(
        defaults: &str,
        file: Option<&str>,
        env: &dyn Fn(&str) -> Option<String>,
        mistakes: &mut Vec<String>,
    ) -> Self {
        let mut values = BTreeMap::new();
        for text in std::iter::once(defaults).chain(file) {
            match text.parse::<Table>() {
                Ok(table) => collect(table, env, &mut values, mistakes),
                Err(error) => mistakes.push(format!(
                    "the file is not TOML: {}",
                    error.to_string().trim()
                )),
            }
        }
        Self {
            values,
            known: Vec::new(),
        }
    }

    /// The value of a setting, which is known from here on.
    pub fn take(&mut self, section: &str, key: &str) -> Option<String> {
        let name = (section.to_owned(), key.to_owned());
        let value = self.values.remove(&name);
        self.known.push(name);
        value
    }

    /// What nobody has taken is misspelt, and silence would let it seem to work.
    pub fn refuse_unknown(&self, mistakes: &mut Vec<String>) {
        for (section, key) in self.values.keys() {
            let near = self
                .known
                .iter()
                .filter(|(known, _)| known == section)
                .map(|(_, key)| key.as_str());
            let near: Vec<&str> = near.collect();
            let hint = if near.is_empty() {
                let mut sections: Vec<&str> = self
                    .known
                    .iter()
                    .map(|(section, _)| section.as_str())
                    .collect();
                sections.dedup();
                format!("the sections are {}", sections.join(", "))
            } else {
                format!("[{section}] has {}", near.join(", "))
            };
            mistakes.push(format!("there is no setting {section}.{key}; {hint}"));
        }
    }
}

fn collect(
    table: Table,
    env: &dyn Fn(&str) -> Option<String>,
    values: &mut BTreeMap<(String, String), String>,
    mistakes: &mut Vec<String>,
) {
    for (section, content) in table {
        let Value::Table(settings) = content else {
            mistakes.push(format!(
                "`{section}` stands outside a section; write it below one like [http]"
            ));
            continue;
        };
        for (key, value) in settings {
            let Value::String(text) = value else {
                mistakes.push(format!("{section}.{key} must be a text in quotes"));
                continue;
            };
            match expand(&text, env) {
                Ok(text) => {
                    values.insert((section.clone(), key), text);
                }
                Err(why) => mistakes.push(format!("{section}.{key}: {why}")),
            }
        }
    }
}

/// Replaces each `${NAME}`; a name that is not set is a mistake, not an empty text.
fn expand(text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut expanded = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let (name, behind) = after.split_once('}').ok_or("`${` without `}`")?;
        expanded.push_str(before);
        expanded.push_str(
            &env(name).ok_or_else(|| format!("the environment variable {name} is not set"))?,
        );
        rest = behind;
    }
    expanded.push_str(rest);
    Ok(expanded)
}
