//! What the server knows: the active calls in its memory, the rows of its history, and what it was asked to dial.

use std::collections::{BTreeMap, VecDeque};

use chrono::{DateTime, NaiveDateTime, Utc};
use serde::Serialize;
use serde_json::Value;

/// The real server keeps some of these for ever. A stand-in that runs for days must not: beyond this many the oldest
/// are forgotten, which no test comes near.
const KEPT_MAX: usize = 20_000;

/// One entry of `GET /calls`.
#[derive(Debug, Clone, PartialEq)]
pub struct ActiveCall {
    pub outbound: bool,
    /// Unknown for the answering leg of an outbound call.
    pub to: Option<String>,
    pub from: Option<String>,
    pub status: &'static str,
    pub started_at: DateTime<Utc>,
}

/// One row of `GET /history`.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    pub call_type: &'static str,
    pub caller_number: Option<String>,
    pub callee_number: Option<String>,
    pub started_at: NaiveDateTime,
    pub ended_at: Option<NaiveDateTime>,
    pub status: &'static str,
    pub metadata: Value,
    pub transcript: Vec<Utterance>,
}

/// One entry of a transcript in the history.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Utterance {
    pub timestamp: String,
    pub speaker: &'static str,
    pub content: String,
    pub event_type: &'static str,
    pub metadata: Option<Value>,
}

/// One `POST /call` that the stand-in was asked for, whatever came of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Dial {
    pub to: Option<String>,
    pub caller_id: Option<String>,
    pub message: Option<String>,
    /// The call that was placed: set when the callee's phone would have rung, even if the client was told otherwise.
    pub call_id: Option<String>,
    /// `X-Intent-Id` of the request. The real server does not read it; a test can follow a dial by it.
    pub intent_id: Option<String>,
    /// The status of the answer; `None` when the connection was closed in its place.
    pub status: Option<u16>,
    /// All headers, for tests that care.
    pub headers: Vec<(String, String)>,
    /// The body as it came.
    pub body: String,
    pub at: DateTime<Utc>,
}

/// Values by id in the order in which they came.
#[derive(Debug)]
pub struct Ordered<T> {
    next: u64,
    values: BTreeMap<u64, (String, T)>,
    numbers: BTreeMap<String, u64>,
}

impl<T> Default for Ordered<T> {
    fn default() -> Self {
        Self {
            next: 0,
            values: BTreeMap::new(),
            numbers: BTreeMap::new(),
        }
    }
}

impl<T> Ordered<T> {
    /// Adds a value, or replaces the one with this id in its place.
    pub fn insert(&mut self, id: &str, value: T) {
        let number = *self.numbers.entry(id.to_owned()).or_insert(self.next);
        self.next = self.next.max(number + 1);
        self.values.insert(number, (id.to_owned(), value));
        while self.values.len() > KEPT_MAX {
            if let Some((_, (oldest, _))) = self.values.pop_first() {
                self.numbers.remove(&oldest);
            }
        }
    }

    pub fn get(&self, id: &str) -> Option<&T> {
        self.numbers
            .get(id)
            .and_then(|number| self.values.get(number))
            .map(|(_, value)| value)
    }

    pub fn get_mut(&mut self, id: &str) -> Option<&mut T> {
        self.numbers
            .get(id)
            .and_then(|number| self.values.get_mut(number))
            .map(|(_, value)| value)
    }

    pub fn remove(&mut self, id: &str) -> Option<T> {
        let number = self.numbers.remove(id)?;
        self.values.remove(&number).map(|(_, value)| value)
    }

    pub fn clear(&mut self) {
        self.values.clear();
        self.numbers.clear();
    }

    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&str, &T)> {
        self.values.values().map(|(id, value)| (id.as_str(), value))
    }
}

/// Everything together, behind one lock.
#[derive(Debug, Default)]
pub struct Calls {
    pub active: Ordered<ActiveCall>,
    pub history: Ordered<Row>,
    dials: VecDeque<Dial>,
}

impl Calls {
    pub fn saw(&mut self, dial: Dial) {
        self.dials.push_back(dial);
        if self.dials.len() > KEPT_MAX {
            self.dials.pop_front();
        }
    }

    pub fn dials(&self) -> impl Iterator<Item = &Dial> {
        self.dials.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_keep_their_order_and_their_place() {
        let mut ordered = Ordered::default();
        for (id, value) in [("b", 1), ("a", 2), ("c", 3), ("b", 4)] {
            ordered.insert(id, value);
        }
        assert_eq!(
            ordered.iter().collect::<Vec<_>>(),
            [("b", &4), ("a", &2), ("c", &3)]
        );
        assert_eq!(ordered.remove("a"), Some(2));
        assert_eq!(
            (ordered.remove("a"), ordered.get("c"), ordered.len()),
            (None, Some(&3), 2)
        );
    }

    #[test]
    fn the_oldest_are_forgotten_beyond_the_bound() {
        let mut ordered = Ordered::default();
        for number in 0..=KEPT_MAX {
            ordered.insert(&number.to_string(), number);
        }
        assert_eq!(ordered.len(), KEPT_MAX);
        assert_eq!((ordered.get("0"), ordered.get("1")), (None, Some(&1)));
    }
}
