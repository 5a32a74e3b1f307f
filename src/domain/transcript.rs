//! The transcript of a whole call: in which order it was spoken, and what is missing.
//!
//! The real emitter sends each event from a thread of its own, so the order of arrival says
//! little. Utterances stand in **source order**: by the sender's own numbers where it has them,
//! else by its clock, else as they came. Where some have a number and some do not, the numbered
//! ones keep their order, the others go between them by their time, and one without either stays
//! behind the one after which it came.

use std::collections::{BTreeMap, VecDeque};

use chrono::TimeDelta;

use super::Timestamp;
use super::call::Numbers;
use super::event::Said;
use super::input::{Recorded, Utterance};

/// How far apart the history and the sender may put one utterance. Both stamps are taken by one
/// machine, some microseconds apart; a sender of another kind adds its way through a network.
pub const HISTORY_TOLERANCE: TimeDelta = TimeDelta::seconds(5);

/// How far apart two stamps of one utterance can be. Nobody says the same twice within this.
const SAME_TOLERANCE: TimeDelta = TimeDelta::milliseconds(100);

/// Like utterances of a history that are held against each other. A hundred times the same within
/// reach is no speech.
const LIKE_MAX: usize = 100;

/// An utterance and the number of its event in the log of the call.
#[derive(Debug, Clone, PartialEq)]
pub struct Spoken {
    /// The number of its event.
    pub sequence: u64,
    /// What was said.
    pub said: Said,
}

/// The utterances of a call, as its log has them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Transcript {
    /// In the order in which they came.
    pub spoken: Vec<Spoken>,
    /// How many more there were that the log no longer has, or that were too many to read.
    pub unread: u64,
}

/// The transcript of a call that is over.
#[derive(Debug, Clone, PartialEq)]
pub struct Conversation {
    /// How often the transcript of the call was completed, this time included.
    pub revision: u64,
    /// In source order.
    pub spoken: Vec<Spoken>,
    /// What is missing, in source order.
    pub holes: Vec<Hole>,
    /// How many utterances are not here, although they were taken.
    pub left_out: u64,
}

/// Numbers of the sender that nothing has come with. What they stand for is not known: a sender
/// may number everything that it sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hole {
    /// The event number of the utterance before it; `None` when it comes before all of them.
    pub after: Option<u64>,
    /// The first number that is missing.
    pub from: u64,
    /// The last number that is missing.
    pub to: u64,
}

impl Transcript {
    /// Puts the utterances in source order and names the holes.
    #[must_use]
    pub fn complete(&self, revision: u64, numbers: &Numbers) -> Conversation {
        let spoken = in_source_order(self.spoken.clone());
        let holes = numbers.holes().map(|(from, to)| Hole {
            after: spoken
                .iter()
                .rfind(|one| one.said.source_sequence.is_some_and(|number| number < from))
                .map(|one| one.sequence),
            from,
            to,
        });
        Conversation {
            revision,
            holes: holes.collect(),
            left_out: self.unread,
            spoken,
        }
    }

    /// Whether the call has what the history has: the history's utterance and the like ones before
    /// it must find a partner each. So what is filled in is as little as can be, and once it is,
    /// nothing is missing however often it is looked at again.
    #[must_use]
    pub fn has(&self, recorded: &Recorded) -> bool {
        let like = self
            .spoken
            .iter()
            .map(|one| &one.said.utterance)
            .filter(|one| alike(one, &recorded.utterance))
            .map(|one| one.spoken_at);
        let wanted = recorded.before.iter().copied();
        all_have_a_partner(wanted.chain([recorded.utterance.spoken_at]), like)
    }

    /// Whether an utterance that comes live was fetched before: the history may be faster.
    ///
    /// A history that was asked after the end has all that was said, and one that was asked when a
    /// later number had come has all before that number. So a like utterance at about its time is
    /// this one. Otherwise it may be the one before, said again.
    #[must_use]
    pub fn was_fetched(&self, live: &Utterance, number: Option<u64>) -> bool {
        let mut last = None;
        self.spoken.iter().map(|one| &one.said).any(|said| {
            last = last.max(said.source_sequence);
            let tolerance = if said.after_end || number.is_some() && last > number {
                HISTORY_TOLERANCE
            } else {
                SAME_TOLERANCE
            };
            said.backfilled
                && alike(&said.utterance, live)
                && said
                    .utterance
                    .spoken_at
                    .zip(live.spoken_at)
                    .is_some_and(|(one, other)| (one - other).abs() <= tolerance)
        })
    }
}

/// For each utterance of a history the times of the like ones before it which could be taken for
/// it: those that lie within reach of it or of another of them.
#[must_use]
pub fn like_before(history: &[Utterance]) -> Vec<Vec<Option<Timestamp>>> {
    let mut like: BTreeMap<(&str, &str), Vec<Option<Timestamp>>> = BTreeMap::new();
    history
        .iter()
        .map(|one| {
            let before = like.entry((one.speaker.as_str(), &one.text)).or_default();
            let near = within_reach(before, one.spoken_at);
            before.push(one.spoken_at);
            near
        })
        .collect()
}

fn alike(one: &Utterance, other: &Utterance) -> bool {
    one.speaker == other.speaker && one.text == other.text
}

fn within_reach(before: &[Option<Timestamp>], at: Option<Timestamp>) -> Vec<Option<Timestamp>> {
    let latest = before.iter().rev().take(LIKE_MAX).copied();
    let Some(at) = at else {
        return latest.collect();
    };
    let (timed, timeless): (Vec<_>, Vec<_>) = latest.partition(Option::is_some);
    let mut timed: Vec<Timestamp> = timed.into_iter().flatten().collect();
    timed.sort_unstable();
    // Two that are further apart than this have no possible partner in common.
    let reach = HISTORY_TOLERANCE * 2;
    let (earlier, later) = timed.split_at(timed.partition_point(|other| *other < at));
    let mut near = timeless;
    let mut edge = at;
    for other in earlier.iter().rev().copied() {
        if edge - other > reach {
            break;
        }
        edge = other;
        near.push(Some(other));
    }
    let mut edge = at;
    for other in later.iter().copied() {
        if other - edge > reach {
            break;
        }
        edge = other;
        near.push(Some(other));
    }
    near
}

/// Whether each of `wanted` can be given one of `there` at about its time and no other has. What
/// has no time goes with anything.
fn all_have_a_partner(
    wanted: impl Iterator<Item = Option<Timestamp>>,
    there: impl Iterator<Item = Option<Timestamp>>,
) -> bool {
    let sorted = |times: &[Option<Timestamp>]| {
        let mut timed: Vec<Timestamp> = times.iter().copied().flatten().collect();
        timed.sort_unstable();
        timed
    };
    let (wanted, there): (Vec<_>, Vec<_>) = (wanted.collect(), there.collect());
    let (wanted_timed, there_timed) = (sorted(&wanted), sorted(&there));
    // All tolerances are the same, so taking the earliest that fits leaves the most for the rest.
    let mut pairs = 0;
    let mut candidates = there_timed.iter().peekable();
    for at in &wanted_timed {
        while candidates
            .next_if(|other| *at - **other > HISTORY_TOLERANCE)
            .is_some()
        {}
        if candidates
            .next_if(|other| **other - *at <= HISTORY_TOLERANCE)
            .is_some()
        {
            pairs += 1;
        }
    }
    // Who found none needs one without a time; who has no time takes what is left of all.
    let there_timeless = there.len() - there_timed.len();
    wanted_timed.len() - pairs <= there_timeless && wanted.len() <= there.len()
}

/// `spoken` is in the order of arrival.
fn in_source_order(spoken: Vec<Spoken>) -> Vec<Spoken> {
    let mut numbered = Vec::new();
    let mut timed = VecDeque::new();
    // What has neither number nor time, under the event after which it came.
    let mut others: BTreeMap<Option<u64>, Spoken> = BTreeMap::new();
    let mut before = None;
    for one in spoken {
        let came_after = before.replace(one.sequence);
        match (one.said.source_sequence, one.said.utterance.spoken_at) {
            (Some(number), _) => numbered.push((number, one)),
            (None, Some(at)) => timed.push_back((at, one)),
            (None, None) => {
                others.insert(came_after, one);
            }
        }
    }
    // Both sorts are stable: equals stay as they came.
    numbered.sort_by_key(|(number, _)| *number);
    timed.make_contiguous().sort_by_key(|(at, _)| *at);

    let mut ordered = Vec::new();
    follow(&mut ordered, &mut others, None);
    let mut place = |one: Spoken| {
        let sequence = one.sequence;
        ordered.push(one);
        follow(&mut ordered, &mut others, Some(sequence));
    };
    let mut latest = None;
    for (_, one) in numbered {
        latest = latest.max(one.said.utterance.spoken_at);
        while timed.front().is_some_and(|(at, _)| Some(*at) < latest) {
            if let Some((_, earlier)) = timed.pop_front() {
                place(earlier);
            }
        }
        place(one);
    }
    for (_, one) in timed {
        place(one);
    }
    ordered
}

/// Takes over what came after an utterance and has no place of its own.
fn follow(
    ordered: &mut Vec<Spoken>,
    others: &mut BTreeMap<Option<u64>, Spoken>,
    mut after: Option<u64>,
) {
    while let Some(next) = others.remove(&after) {
        after = Some(next.sequence);
        ordered.push(next);
    }
}

#[cfg(test)]
mod tests;
