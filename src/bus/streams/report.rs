//! What a provisioning run found and did, for people and for programs.

use std::fmt;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use super::api::Refusal;
use super::compare::{Difference, Verdict};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    Stream,
    Bucket,
    Consumer,
}

/// A stream, bucket or consumer by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Object {
    pub kind: Kind,
    pub name: String,
    /// The stream of a consumer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream: Option<String>,
}

impl Object {
    #[must_use]
    pub fn stream(name: &str) -> Self {
        Self {
            kind: Kind::Stream,
            name: name.to_owned(),
            stream: None,
        }
    }

    #[must_use]
    pub fn bucket(name: &str) -> Self {
        Self {
            kind: Kind::Bucket,
            name: name.to_owned(),
            stream: None,
        }
    }

    #[must_use]
    pub fn consumer(stream: &str, name: &str) -> Self {
        Self {
            kind: Kind::Consumer,
            name: name.to_owned(),
            stream: Some(stream.to_owned()),
        }
    }

    /// The stream that is meant: the object itself, the stream under a bucket, the stream of a consumer.
    pub(super) fn stream_name(&self) -> String {
        match (self.kind, &self.stream) {
            (Kind::Bucket, _) => format!("KV_{}", self.name),
            (Kind::Consumer, Some(stream)) => stream.clone(),
            (Kind::Stream | Kind::Consumer, _) => self.name.clone(),
        }
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.kind, &self.stream) {
            (Kind::Bucket, _) => write!(f, "bucket {}", self.name),
            (Kind::Consumer, Some(stream)) => write!(f, "consumer {stream} > {}", self.name),
            (Kind::Stream | Kind::Consumer, _) => write!(f, "stream {}", self.name),
        }
    }
}

/// What was done; in a dry run, what would be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    Created,
    Updated,
    Unchanged,
    CannotChange,
}

/// One line: a whole object, or one field of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Entry {
    pub object: Object,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wanted: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub found: Option<Value>,
    pub action: Action,
    /// Why it cannot be changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Everything, in the order it was looked at. `Display` is for people and leaves out what is unchanged.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    pub server_version: String,
    pub dry_run: bool,
    pub entries: Vec<Entry>,
}

impl Report {
    pub(super) fn new(server_version: String, dry_run: bool) -> Self {
        Self {
            server_version,
            dry_run,
            entries: Vec::new(),
        }
    }

    /// Whether the server is now, or in a dry run could be made, what the files say.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.count(Action::CannotChange) == 0
    }

    /// Whether there was nothing to do at all.
    #[must_use]
    pub fn is_unchanged(&self) -> bool {
        self.count(Action::Unchanged) == self.entries.len()
    }

    #[must_use]
    pub fn count(&self, action: Action) -> usize {
        self.entries
            .iter()
            .filter(|entry| entry.action == action)
            .count()
    }

    pub(super) fn whole(&mut self, object: &Object, action: Action) {
        self.entries.push(Entry {
            object: object.clone(),
            field: None,
            wanted: None,
            found: None,
            action,
            reason: None,
        });
    }

    pub(super) fn difference(&mut self, object: &Object, difference: Difference) {
        let (action, reason) = match difference.verdict {
            Verdict::Safe => (Action::Updated, None),
            Verdict::Blocked(reason) => (Action::CannotChange, Some(reason)),
        };
        self.entries.push(Entry {
            object: object.clone(),
            field: Some(difference.field),
            wanted: Some(difference.wanted),
            found: Some(difference.found),
            action,
            reason,
        });
    }

    pub(super) fn ignored_by_server(&mut self, object: &Object, mut difference: Difference) {
        difference.verdict =
            Verdict::Blocked("the server took the request and kept its own value".to_owned());
        self.difference(object, difference);
    }

    pub(super) fn refused_by_server(
        &mut self,
        object: &Object,
        mut difference: Difference,
        refusal: &Refusal,
    ) {
        difference.verdict = Verdict::Blocked(format!("the server refused: {refusal}"));
        self.difference(object, difference);
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for entry in &self.entries {
            if entry.action != Action::Unchanged {
                writeln!(
                    f,
                    "{}",
                    Line {
                        entry,
                        dry_run: self.dry_run
                    }
                )?;
            }
        }
        let would = if self.dry_run {
            "dry run: would be "
        } else {
            ""
        };
        write!(
            f,
            "nats-server {}: {would}{} created, {} updated, {} unchanged, {} cannot be changed",
            self.server_version,
            self.count(Action::Created),
            self.count(Action::Updated),
            self.count(Action::Unchanged),
            self.count(Action::CannotChange),
        )
    }
}

struct Line<'a> {
    entry: &'a Entry,
    dry_run: bool,
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.entry.object)?;
        if let (Some(field), Some(found), Some(wanted)) =
            (&self.entry.field, &self.entry.found, &self.entry.wanted)
        {
            let (found, wanted) = (shown(field, found), shown(field, wanted));
            write!(f, "{field}: found {found}, wanted {wanted}: ")?;
        }
        f.write_str(match (self.entry.action, self.dry_run) {
            (Action::Created, false) => "created",
            (Action::Created, true) => "would be created",
            (Action::Updated, false) => "updated",
            (Action::Updated, true) => "would be updated",
            (Action::Unchanged, _) => "unchanged",
            (Action::CannotChange, _) => "CANNOT CHANGE",
        })?;
        match &self.entry.reason {
            Some(reason) => write!(f, ": {reason}"),
            None => Ok(()),
        }
    }
}

/// Times are nanoseconds on the wire, which nobody reads.
fn shown(field: &str, value: &Value) -> String {
    let is_time = matches!(
        field,
        "max_age" | "duplicate_window" | "ack_wait" | "inactive_threshold"
    );
    match (is_time, value.as_u64(), value) {
        (true, Some(0), _) => "none".to_owned(),
        (true, Some(nanos), _) => format!("{:?}", Duration::from_nanos(nanos)),
        (_, _, Value::Null) => "none".to_owned(),
        _ => value.to_string(),
    }
}
