//! Turns and times of a plan: which call emits when, and which event overtakes which. Pure.

use std::num::NonZeroUsize;

use super::random::Random;

/// Whose turn it is in each slot: calls open in their order, up to `concurrent` of them, and take turns at random.
pub fn interleave(seed: u64, lengths: &[usize], concurrent: NonZeroUsize) -> Vec<usize> {
    let mut random = Random::stream(seed, "interleave", 0);
    let mut waiting = lengths
        .iter()
        .copied()
        .enumerate()
        .filter(|(_, length)| *length > 0);
    let mut open: Vec<(usize, usize)> = waiting.by_ref().take(concurrent.get()).collect();
    let mut turns = Vec::with_capacity(lengths.iter().sum());
    while !open.is_empty() {
        let chosen = random.index(open.len());
        let (call, left) = &mut open[chosen];
        turns.push(*call);
        *left -= 1;
        if *left == 0 {
            match waiting.next() {
                Some(next) => open[chosen] = next,
                None => {
                    open.swap_remove(chosen);
                }
            }
        }
    }
    turns
}

/// An order of `0..len` in which nothing is more than `reach` places away from its turn: each number gets a lead of up
/// to `reach` and the sums are sorted. Only numbers less than `reach` away can overtake.
pub fn displace(random: &mut Random, len: usize, reach: usize) -> Vec<usize> {
    let mut keyed: Vec<(u64, usize)> = (0..len)
        .map(|index| (index as u64 + random.below(reach as u64 + 1), index))
        .collect();
    keyed.sort_unstable();
    keyed.into_iter().map(|(_, index)| index).collect()
}

/// The time of a slot. Distinct for every slot at every rate, because the real timestamps are unique too.
pub fn micros(slot: usize, rate: f64) -> i64 {
    let slot = i64::try_from(slot).unwrap_or(i64::MAX);
    if rate <= 0.0 {
        // Less than any real sending takes, so that a timestamp is never ahead of the clock.
        return slot.saturating_mul(UNPACED_STEP_MICROS);
    }
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        reason = "microseconds of one run"
    )]
    let paced = (slot as f64 * 1_000_000.0 / rate) as i64;
    paced.max(slot)
}

const UNPACED_STEP_MICROS: i64 = 50;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_reach_nothing_is_displaced() {
        let order = displace(&mut Random::new(1), 50, 0);
        assert!(order.is_sorted());
    }

    #[test]
    fn a_reach_is_used_and_never_exceeded() {
        let order = displace(&mut Random::new(1), 2_000, 12);
        let away: Vec<usize> = order
            .iter()
            .enumerate()
            .map(|(place, index)| place.abs_diff(*index))
            .collect();
        assert!(away.iter().all(|places| *places <= 12));
        assert!(away.iter().any(|places| *places >= 9));
        assert!(!order.is_sorted());
    }

    #[test]
    fn turns_are_fair_and_complete() {
        let turns = interleave(1, &[3, 0, 2, 4], NonZeroUsize::MIN);
        assert_eq!(turns, [0, 0, 0, 2, 2, 3, 3, 3, 3]);
        let mixed = interleave(1, &[40, 40], NonZeroUsize::MAX);
        assert!(!mixed.is_sorted());
        assert_eq!(mixed.len(), 80);
    }

    #[test]
    fn times_ascend_at_every_rate() {
        for rate in [0.0, 0.5, 20.0, 999_999.0, 5e9] {
            let times: Vec<i64> = (0..1_000).map(|slot| micros(slot, rate)).collect();
            assert!(times.windows(2).all(|pair| pair[0] < pair[1]), "{rate}");
        }
        assert_eq!(micros(10, 20.0), 500_000);
    }
}
