//! What was accepted against what was committed and what a subscriber has heard. Pure, and told in
//! its own words: it does not ask voicebus whether voicebus is right.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// An event that was answered 2xx.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Accepted {
    pub call: String,
    pub said: Said,
}

/// What it said. Starts and ends that are told twice are one effect; every text is unique.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Said {
    Started,
    Text(String),
    Ended,
}

/// An event as VOICE_EVENT has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    pub id: String,
    pub call: String,
    /// `state.ended` and the like.
    pub what: String,
    /// Its number in the call.
    pub sequence: u64,
    /// The input it came from: the epoch of VOICE_IN, and the place there.
    pub input: (u64, u64),
    /// What was said, of a transcript.
    pub text: Option<String>,
    /// When it was stored, in nanoseconds since 1970.
    pub at: i128,
}

/// An event as VOICE_IN has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    pub call: String,
    pub at: i128,
}

/// An event as a plain subscriber has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    pub id: String,
    pub call: String,
    pub sequence: u64,
    /// Its number in the stream, as the message says.
    pub stored_as: u64,
    /// When it came, in nanoseconds since 1970.
    pub at: i128,
}

/// What is known after a round.
#[derive(Debug, Clone, Default)]
pub struct Evidence {
    pub accepted: Vec<Accepted>,
    /// In the order of the stream.
    pub committed: Vec<Committed>,
    /// By their place in VOICE_IN.
    pub inputs: BTreeMap<u64, Input>,
    /// In the order of arrival.
    pub heard: Vec<Heard>,
    /// Whether the subscriber was connected all the time.
    pub heard_all: bool,
    /// Whether what is stored once may be heard twice, or late: a leader of a cluster that wakes up
    /// passes on what it finds committed before it learns that another leads, and has passed it on;
    /// and what a link between nodes has held back arrives when it is healed.
    pub may_echo: bool,
}

/// What is wrong.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    pub lost: Vec<String>,
    pub doubled: Vec<String>,
    pub disordered: Vec<String>,
    /// Stored once and in order, and heard twice or late, where that may be.
    pub echoes: Vec<String>,
}

impl Verdict {
    pub fn is_good(&self) -> bool {
        self.lost.is_empty() && self.doubled.is_empty() && self.disordered.is_empty()
    }
}

/// Holds everything against everything.
pub fn judge(evidence: &Evidence) -> Verdict {
    let mut verdict = Verdict {
        lost: lost(&evidence.accepted, &evidence.committed),
        ..Verdict::default()
    };
    doubled(&evidence.committed, &mut verdict.doubled);
    let mut calls: BTreeMap<&str, Vec<&Committed>> = BTreeMap::new();
    for event in &evidence.committed {
        calls.entry(&event.call).or_default().push(event);
    }
    for events in calls.values() {
        disordered(events, &evidence.inputs, &mut verdict.disordered);
    }
    listen(evidence, &mut verdict);
    verdict
}

/// What was accepted and has no effect.
pub fn lost(accepted: &[Accepted], committed: &[Committed]) -> Vec<String> {
    let effects: BTreeSet<(&str, Option<&str>, &str)> = committed
        .iter()
        .map(|event| match &event.text {
            Some(text) => (&*event.call, Some(&**text), ""),
            None => (&*event.call, None, &*event.what),
        })
        .collect();
    let has_effect = |event: &&Accepted| {
        let call = &*event.call;
        match &event.said {
            Said::Text(text) => effects.contains(&(call, Some(text), "")),
            Said::Ended => effects.contains(&(call, None, "state.ended")),
            // A start that comes after something else of its call moves the call to its session.
            Said::Started => ["state.initiated", "session.rebound"]
                .iter()
                .any(|what| effects.contains(&(call, None, what))),
        }
    };
    let distinct: BTreeSet<&Accepted> = accepted.iter().collect();
    let without = distinct.into_iter().filter(|event| !has_effect(event));
    without
        .map(|event| format!("{} {:?} has no effect", event.call, event.said))
        .collect()
}

fn doubled(committed: &[Committed], found: &mut Vec<String>) {
    let mut ids = BTreeSet::new();
    let mut effects = BTreeSet::new();
    for event in committed {
        if !ids.insert(&event.id) {
            found.push(format!(
                "{} {} has an id twice: {}",
                event.call, event.what, event.id
            ));
        }
        let once = event.text.is_some() || event.what.starts_with("state.");
        if once && !effects.insert((&event.call, &event.what, &event.text)) {
            found.push(format!(
                "{} {} {:?} twice",
                event.call, event.what, event.text
            ));
        }
    }
}

fn disordered(events: &[&Committed], inputs: &BTreeMap<u64, Input>, found: &mut Vec<String>) {
    let mut last_input = (0, 0);
    let mut last_turn = 0;
    for (place, event) in events.iter().enumerate() {
        let Committed {
            call,
            what,
            sequence,
            input,
            ..
        } = event;
        if *sequence != place as u64 + 1 {
            found.push(format!(
                "{call} {what} is number {sequence}, not {}",
                place + 1
            ));
        }
        if *input <= last_input {
            found.push(format!(
                "{call} {what} of input {input:?} comes after that of {last_input:?}"
            ));
        }
        last_input = *input;
        if inputs.get(&input.1).is_none_or(|input| input.call != *call) {
            found.push(format!(
                "{call} {what} names the input {input:?}, which is none of its call"
            ));
        }
        // The sender waits for each answer before it sends on, so its order is the order.
        if let Some(turn) = event.text.as_deref().and_then(turn) {
            if turn <= last_turn {
                found.push(format!("{call} says {turn} after {last_turn}"));
            }
            last_turn = turn;
        }
    }
}

/// The place that a text of the simulator names: `[rtc_1 3/6] …`.
fn turn(text: &str) -> Option<u32> {
    let (_, place) = text.split_once(']')?.0.split_once(' ')?;
    place.split_once('/')?.0.parse().ok()
}

/// Whoever only listens may miss something while the server is away, but never hears anything
/// twice, out of order, or that is not in the stream.
fn listen(evidence: &Evidence, verdict: &mut Verdict) {
    let stored: BTreeSet<&str> = evidence.committed.iter().map(|event| &*event.id).collect();
    let mut known: BTreeMap<&str, &Heard> = BTreeMap::new();
    let mut last: BTreeMap<&str, u64> = BTreeMap::new();
    for heard in &evidence.heard {
        let Heard {
            id, call, sequence, ..
        } = heard;
        if let Some(first) = known.insert(id, heard) {
            let later = nanos(heard.at - first.at);
            let places = (first.stored_as, heard.stored_as);
            let finding = format!(
                "{call} {sequence} was heard twice, {later:.1?} apart, from {places:?} in the stream"
            );
            if evidence.may_echo && places.0 == places.1 {
                verdict.echoes.push(finding);
            } else {
                verdict.doubled.push(finding);
            }
            continue;
        }
        if !stored.contains(&**id) {
            verdict.lost.push(format!(
                "{call} {sequence} was heard, but is not in the stream"
            ));
        }
        let last = last.entry(call).or_default();
        if sequence <= last {
            let finding = format!("{call} {sequence} was heard after {last}");
            if evidence.may_echo {
                verdict.echoes.push(finding);
            } else {
                verdict.disordered.push(finding);
            }
        }
        *last = *sequence;
    }
    if evidence.heard_all {
        let missed = stored.iter().filter(|id| !known.contains_key(**id));
        let missed = missed.map(|id| format!("{id} was never heard"));
        verdict.lost.extend(missed);
    }
}

/// The longest time between two moments in which nothing was stored at one of these times.
pub fn longest_stall(times: impl Iterator<Item = i128>, from: i128, to: i128) -> Duration {
    let mut times: Vec<i128> = times.filter(|at| (from..=to).contains(at)).collect();
    times.extend([from, to]);
    times.sort_unstable();
    let gaps = times.windows(2).map(|pair| pair[1] - pair[0]);
    nanos(gaps.max().unwrap_or(0))
}

/// The longest way of an event from its acceptance to its commit.
pub fn slowest(evidence: &Evidence) -> Duration {
    let ways = evidence.committed.iter().filter_map(|event| {
        let input = evidence.inputs.get(&event.input.1)?;
        Some(event.at - input.at)
    });
    nanos(ways.max().unwrap_or(0))
}

fn nanos(nanos: i128) -> Duration {
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(0))
}
