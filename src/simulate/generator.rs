//! The plan: which events are sent, with which bytes, in which order. Pure: same arguments, same bytes.
//!
//! Two orders exist, as in the real server. Events are *emitted* in the order in which things happen; that order gives
//! each its timestamp. They are *sent* in an order which may differ within a call, because the real emitter hands
//! every event to a thread of its own. The plan works with slots: slot `n` is the n-th emission and the n-th sending
//! of the run, and reordering only chooses which event of a call goes out in which of that call's slots.
//!
//! Invariants: an event is displaced by at most `reorder` places among the events of its call; timestamps are unique
//! and ascend in emission order; a call's events depend on the seed, its number and the options, not on other calls.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::{NaiveDateTime, TimeDelta};

use super::event::{self, Content, Direction, EventType};
use super::people;
use super::random::Random;
use super::schedule::{displace, interleave, micros};

/// What to generate. Everything but the seed.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// The time of the first emission. An argument, so that the plan stays pure.
    pub started_at: NaiveDateTime,
    pub calls: usize,
    /// Utterances per call.
    pub transcripts: usize,
    /// Calls that are open at the same time, at most.
    pub concurrent: NonZeroUsize,
    /// Events per second over all calls; 0 = no pace, all are due at once.
    pub rate: f64,
    /// How many places an event may be away from its turn among the events of its call.
    pub reorder: usize,
    /// The share of events which are sent twice, in percent.
    pub duplicate_percent: f64,
}

/// Whether an event is the first of its kind or there twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Copy {
    Original,
    /// The same bytes once more.
    SameBytes,
    /// The same start or end once more with a timestamp of its own: what the real emitter does when OpenAI delivers
    /// its webhook twice.
    NewTimestamp,
}

/// One event, ready to be sent.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedEvent {
    pub call_id: Arc<str>,
    /// The number of the call, from 0.
    pub call: usize,
    /// The place among the emissions of its call, from 0: 0 is the start, then the utterances, then the end.
    pub sequence: usize,
    pub event_type: EventType,
    pub copy: Copy,
    pub timestamp: NaiveDateTime,
    /// When it is due, counted from the start of the run.
    pub at: Duration,
    /// Whether nothing more comes for this call.
    pub last: bool,
    pub body: Bytes,
}

/// The plan of a run in a compact form; bodies are written when they are asked for, so a long run fits in memory.
#[derive(Debug, Clone)]
pub struct Generator {
    seed: u64,
    options: Options,
    calls: Vec<Caller>,
    slots: Vec<Slot>,
}

/// All events of a run at once: [`Generator::events`] for runs that are short enough.
pub fn plan(seed: u64, options: Options) -> Vec<PlannedEvent> {
    Generator::new(seed, options).events().collect()
}

impl Generator {
    pub fn new(seed: u64, options: Options) -> Self {
        let calls: Vec<Caller> = (0..options.calls)
            .map(|number| Caller::new(seed, number))
            .collect();
        let emissions: Vec<Vec<Emission>> = (0..options.calls)
            .map(|number| emissions(seed, number, &options))
            .collect();
        let lengths: Vec<usize> = emissions.iter().map(Vec::len).collect();
        let turns = interleave(seed, &lengths, options.concurrent);

        // Which slots belong to which call, in time order.
        let mut slots_of: Vec<Vec<usize>> = lengths
            .iter()
            .map(|length| Vec::with_capacity(*length))
            .collect();
        for (slot, call) in turns.iter().enumerate() {
            slots_of[*call].push(slot);
        }
        let mut slots = vec![Slot::default(); turns.len()];
        for (call, emitted) in emissions.iter().enumerate() {
            let own = &slots_of[call];
            let order = displace(
                &mut Random::stream(seed, "reorder", call as u64),
                emitted.len(),
                options.reorder,
            );
            for (place, index) in order.into_iter().enumerate() {
                let emission = emitted[index];
                slots[own[place]] = Slot {
                    call,
                    sequence: emission.sequence,
                    copy: emission.copy,
                    emitted_in: own[emission.stamped_at],
                    last: place + 1 == emitted.len(),
                };
            }
        }
        Self {
            seed,
            options,
            calls,
            slots,
        }
    }

    /// How many events there are, copies included.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// How many calls are open at the same time, at most.
    pub fn concurrent(&self) -> NonZeroUsize {
        self.options.concurrent
    }

    /// The ids of all calls, in the order in which they open.
    pub fn call_ids(&self) -> impl Iterator<Item = &str> {
        self.calls.iter().map(|caller| &*caller.id)
    }

    /// The events in the order in which they are to be sent.
    pub fn events(&self) -> impl Iterator<Item = PlannedEvent> + '_ {
        self.slots
            .iter()
            .enumerate()
            .map(|(number, slot)| self.render(number, *slot))
    }

    fn render(&self, number: usize, slot: Slot) -> PlannedEvent {
        let Caller { id, phone } = &self.calls[slot.call];
        let timestamp = self.options.started_at
            + TimeDelta::microseconds(micros(slot.emitted_in, self.options.rate));
        let text;
        let content = if slot.sequence == 0 {
            Content::Started {
                phone,
                direction: Direction::Inbound,
            }
        } else if slot.sequence > self.options.transcripts {
            Content::Ended {
                phone,
                direction: Direction::Inbound,
            }
        } else {
            let stream = ((slot.call as u64) << 24) ^ slot.sequence as u64;
            let mut random = Random::stream(self.seed, "utterance", stream);
            text = people::utterance(&mut random, id, slot.sequence, self.options.transcripts);
            Content::Utterance {
                speaker: people::speaker(slot.sequence),
                text: &text,
            }
        };
        let at = if self.options.rate > 0.0 {
            Duration::from_micros(u64::try_from(micros(number, self.options.rate)).unwrap_or(0))
        } else {
            Duration::ZERO
        };
        PlannedEvent {
            call_id: Arc::clone(id),
            call: slot.call,
            sequence: slot.sequence,
            event_type: content.event_type(),
            copy: slot.copy,
            timestamp,
            at,
            last: slot.last,
            body: event::body(id, content, timestamp),
        }
    }
}

#[derive(Debug, Clone)]
struct Caller {
    id: Arc<str>,
    phone: String,
}

impl Caller {
    fn new(seed: u64, number: usize) -> Self {
        let mut random = Random::stream(seed, "caller", number as u64);
        Self {
            id: format!("rtc_{}", random.hex(16)).into(),
            phone: people::from_header(&mut random),
        }
    }
}

/// One emission of a call.
#[derive(Debug, Clone, Copy)]
struct Emission {
    sequence: usize,
    copy: Copy,
    /// The emission of this call whose time it carries: its own, or that of the original with the same bytes.
    stamped_at: usize,
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    call: usize,
    sequence: usize,
    copy: Copy,
    emitted_in: usize,
    last: bool,
}

impl Default for Slot {
    fn default() -> Self {
        Self {
            call: 0,
            sequence: 0,
            copy: Copy::Original,
            emitted_in: 0,
            last: false,
        }
    }
}

/// The emissions of one call in the order in which they happen.
fn emissions(seed: u64, call: usize, options: &Options) -> Vec<Emission> {
    let mut random = Random::stream(seed, "duplicate", call as u64);
    let mut emitted = Vec::with_capacity(options.transcripts + 2);
    for sequence in 0..options.transcripts + 2 {
        let stamped_at = emitted.len();
        emitted.push(Emission {
            sequence,
            copy: Copy::Original,
            stamped_at,
        });
        let twice = random.percent(options.duplicate_percent);
        let renewed = random.percent(50.0);
        if twice {
            let is_utterance = (1..=options.transcripts).contains(&sequence);
            emitted.push(if renewed && !is_utterance {
                Emission {
                    sequence,
                    copy: Copy::NewTimestamp,
                    stamped_at: stamped_at + 1,
                }
            } else {
                Emission {
                    sequence,
                    copy: Copy::SameBytes,
                    stamped_at,
                }
            });
        }
    }
    emitted
}

#[cfg(test)]
mod tests;
