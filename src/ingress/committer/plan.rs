//! The committer's decisions, without I/O: whether a batch pays, and what goes with what.
//!
//! Why batches pay, and where: a server that flushes its disk for each message (`sync_interval:
//! always`) stores some 4,000 a second whatever the number of publishers, and flushes once for a
//! whole batch: measured 3 times as many messages with 64 waiting, 6 times with 256. A batch has a
//! fixed cost of 3 to 4 ms, though, so a server that flushes every two minutes is faster with
//! single messages at any number. Nobody can ask a server which it is, so both costs are measured
//! as they occur.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::ingress::spool::Entry;

/// Whether messages that wait together go as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Grouping {
    /// Where it was seen to be faster.
    #[default]
    Auto,
    /// Never.
    Off,
    /// Whenever two wait; for measuring.
    Always,
}

/// With fewer waiting, single messages were never slower.
const BATCH_MIN: usize = 30;
/// What a batch costs until one was seen.
const BATCH_COST: Duration = Duration::from_millis(4);
/// A round of fewer messages measures the way to the server, not what it does with a message.
const SAMPLE_MIN: usize = 8;
/// Nobody waits longer than this for others, however slow batches are.
const PATIENCE_MAX: Duration = Duration::from_millis(5);
/// The other way is tried now and then, because what was measured once may have changed; this part
/// of the time may go into it.
const PROBE_SHARE: u32 = 64;

/// What storing was seen to cost.
#[derive(Debug, Clone)]
pub(super) struct Costs {
    grouping: Grouping,
    /// Of one message among many.
    single: Option<Duration>,
    /// Of one batch.
    batch: Duration,
    /// Time that went into rounds since the other way was tried.
    since_probe: Duration,
}

impl Costs {
    pub fn new(grouping: Grouping) -> Self {
        Self {
            grouping,
            single: None,
            batch: BATCH_COST,
            since_probe: Duration::ZERO,
        }
    }

    /// Whether this many messages should go as a batch.
    pub fn choose_batch(&mut self, waiting: usize) -> bool {
        match self.grouping {
            Grouping::Off => false,
            Grouping::Always => waiting > 1,
            Grouping::Auto if waiting < BATCH_MIN => false,
            Grouping::Auto => {
                // Nothing is known at first; finding out costs one round.
                let Some(single) = self.single else {
                    return false;
                };
                let waiting = u32::try_from(waiting).unwrap_or(u32::MAX);
                let singles = single.saturating_mul(waiting);
                let pays = singles > self.batch;
                let other = if pays { singles } else { self.batch };
                let probes = self.since_probe > other.saturating_mul(PROBE_SHARE);
                if probes {
                    self.since_probe = Duration::ZERO;
                }
                pays != probes
            }
        }
    }

    /// How long to wait for what would make the next batch as large as the last. Half of what a
    /// second batch would cost them is worth it.
    pub fn patience(&self) -> Duration {
        (self.batch / 2).min(PATIENCE_MAX)
    }

    /// So long took this many messages, one by one.
    pub fn saw_singles(&mut self, count: usize, took: Duration) {
        self.since_probe += took;
        if count >= SAMPLE_MIN {
            let each = took / u32::try_from(count).unwrap_or(u32::MAX);
            self.single = Some(self.single.map_or(each, |before| toward(before, each)));
        }
    }

    /// So long took a batch.
    pub fn saw_batch(&mut self, took: Duration) {
        self.since_probe += took;
        self.batch = toward(self.batch, took);
    }
}

/// A quarter of the way, so that one slow round decides nothing.
fn toward(before: Duration, seen: Duration) -> Duration {
    (before * 3 + seen) / 4
}

/// How the entries of a round are stored; all are places in the list.
#[derive(Debug, PartialEq, Eq, Default)]
pub(super) struct Parts {
    /// One by one, first: what belongs to another stream, and what is known to be there.
    pub apart: Vec<usize>,
    /// Together, if that pays.
    pub together: Vec<usize>,
    /// One by one, last: what is the same as something before it. It would fail the batch.
    pub echoes: Vec<usize>,
}

pub(super) fn parts(entries: &[Entry], known: impl Fn(&str) -> bool) -> Parts {
    let mut parts = Parts::default();
    let mut seen = BTreeSet::new();
    for (n, entry) in entries.iter().enumerate() {
        let id = entry.message.id.as_str();
        let list = if !seen.insert(id) {
            &mut parts.echoes
        } else if entry.lane.is_none() || known(id) {
            &mut parts.apart
        } else {
            &mut parts.together
        };
        list.push(n);
    }
    parts
}

/// Splits entries by call. Each list must be stored one after the other, each only when the one
/// before it is stored; the lists need not wait for each other.
pub(super) fn lanes(entries: &[Entry], places: &[usize]) -> Vec<Vec<usize>> {
    let mut lanes: Vec<Vec<usize>> = Vec::new();
    let mut by_call = BTreeMap::new();
    for &n in places {
        let lane = entries.get(n).and_then(|entry| entry.lane.as_deref());
        let next = lanes.len();
        let at = lane.map_or(next, |lane| *by_call.entry(lane).or_insert(next));
        match lanes.get_mut(at) {
            Some(lane) => lane.push(n),
            None => lanes.push(vec![n]),
        }
    }
    lanes
}

/// Which entry to try alone when NATS took nothing before: the first of a call, another call each
/// time, so that one entry without an answer does not hide that others would get one.
pub(super) fn probe(entries: &[(u64, Entry)], attempt: usize) -> Option<usize> {
    let mut seen = BTreeSet::new();
    let firsts: Vec<usize> = entries
        .iter()
        .enumerate()
        .filter(|(_, (_, entry))| entry.lane.as_deref().is_none_or(|lane| seen.insert(lane)))
        .map(|(n, _)| n)
        .collect();
    let turn = attempt.checked_rem(firsts.len())?;
    firsts.get(turn).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::publish::Message;

    const MS: Duration = Duration::from_millis(1);

    fn entry(lane: Option<&str>, id: &str) -> Entry {
        Entry {
            lane: lane.map(str::to_owned),
            message: Message {
                subject: "voice.in.1.x.ringing".to_owned(),
                id: id.to_owned(),
                headers: Vec::new(),
                payload: bytes::Bytes::new(),
            },
            accepted_at: chrono::DateTime::UNIX_EPOCH,
        }
    }

    #[test]
    fn a_server_that_flushes_for_each_message_gets_batches_from_thirty_on() {
        let mut costs = Costs::new(Grouping::Auto);
        assert!(!costs.choose_batch(256), "nothing is known yet");
        costs.saw_singles(64, 64 * MS / 4);
        assert!(!costs.choose_batch(29));
        assert!(costs.choose_batch(30));
        assert!(costs.choose_batch(500));
    }

    #[test]
    fn a_server_that_flushes_rarely_gets_single_messages() {
        let mut costs = Costs::new(Grouping::Auto);
        costs.saw_singles(64, MS);
        for waiting in [1, 30, 64, 200] {
            assert!(!costs.choose_batch(waiting), "{waiting}");
        }
        // As measured there: a batch of 500 takes longer than 500 messages.
        for _ in 0..20 {
            costs.saw_batch(20 * MS);
        }
        assert!(!costs.choose_batch(500));
    }

    /// Runs for a while against a server with these costs; the time that went into batches and
    /// into single messages.
    fn run(costs: &mut Costs, single: Duration, batch: Duration) -> (Duration, Duration) {
        let (mut batches, mut singles) = (Duration::ZERO, Duration::ZERO);
        while batches + singles < Duration::from_secs(60) {
            if costs.choose_batch(100) {
                costs.saw_batch(batch);
                batches += batch;
            } else {
                costs.saw_singles(64, single * 64);
                singles += single * 64;
            }
        }
        (batches, singles)
    }

    #[test]
    fn the_other_way_is_tried_and_takes_little_of_the_time() {
        let mut costs = Costs::new(Grouping::Auto);
        let (batches, singles) = run(&mut costs, MS / 50, 40 * MS);
        assert!(batches > Duration::ZERO && batches < singles / 50);
        // Somebody restarts the server with another setting, which is noticed within the minute.
        run(&mut costs, MS / 4, 5 * MS);
        let (batches, singles) = run(&mut costs, MS / 4, 5 * MS);
        assert!(singles > Duration::ZERO && singles < batches / 50);
    }

    #[test]
    fn others_are_waited_for_in_proportion_and_not_for_ever() {
        let mut costs = Costs::new(Grouping::Auto);
        assert_eq!(costs.patience(), 2 * MS);
        for _ in 0..50 {
            costs.saw_batch(200 * MS);
        }
        assert_eq!(costs.patience(), PATIENCE_MAX);
    }

    #[test]
    fn a_lone_message_says_nothing_about_many() {
        let mut costs = Costs::new(Grouping::Auto);
        costs.saw_singles(1, 10 * MS);
        assert_eq!(costs.single, None);
    }

    #[test]
    fn the_setting_is_obeyed() {
        let mut off = Costs::new(Grouping::Off);
        off.saw_singles(64, 64 * MS);
        assert!(!off.choose_batch(500));
        assert!(Costs::new(Grouping::Always).choose_batch(2));
        assert!(!Costs::new(Grouping::Always).choose_batch(1));
    }

    #[test]
    fn what_would_fail_a_batch_is_not_in_it() {
        let entries = [
            entry(Some("a"), "1"),
            entry(Some("b"), "known"),
            entry(None, "dead letter"),
            entry(Some("a"), "1"),
            entry(Some("a"), "2"),
        ];
        let parts = parts(&entries, |id| id == "known");
        assert_eq!(parts.together, [0, 4]);
        assert_eq!(parts.apart, [1, 2]);
        assert_eq!(parts.echoes, [3]);
    }

    #[test]
    fn a_call_has_one_lane_and_what_has_no_call_one_each() {
        let lane = |call| entry(call, "x");
        let entries = [Some("a"), Some("b"), None, Some("a"), None, Some("b")].map(lane);
        let all: Vec<usize> = (0..entries.len()).collect();
        assert_eq!(
            lanes(&entries, &all),
            [vec![0, 3], vec![1, 5], vec![2], vec![4]]
        );
        assert_eq!(lanes(&entries, &[3, 5]), [[3], [5]]);
    }

    #[test]
    fn probes_take_turns_among_the_first_entries_of_calls() {
        let entries = [Some("a"), Some("a"), Some("b")].map(|call| (0, entry(call, "x")));
        let turns: Vec<_> = (0..4).map(|attempt| probe(&entries, attempt)).collect();
        assert_eq!(turns, [Some(0), Some(2), Some(0), Some(2)]);
        assert_eq!(probe(&[], 0), None);
    }
}
