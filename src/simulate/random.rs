//! Randomness that can be repeated: a SplitMix64 stream per purpose.
//!
//! Everything the simulator chooses comes from here, so that one `--seed` names one run for good: the same calls,
//! ids, numbers, sentences and order. Streams are forked by a label and a number and never shared, so that asking for
//! one call more, or for one utterance less, does not shift what every other call says.

/// A SplitMix64 stream: 64 bits of state, equidistributed, and fast enough to be invisible. Not for secrets.
#[derive(Debug, Clone)]
pub struct Random {
    state: u64,
}

impl Random {
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The stream for one purpose. It depends on the seed, the label and the number only, not on what was drawn before.
    pub fn stream(seed: u64, label: &str, number: u64) -> Self {
        let mut state = mix(seed ^ GOLDEN_GAMMA);
        for byte in label.bytes() {
            state = mix(state ^ u64::from(byte));
        }
        Self {
            state: mix(state ^ mix(number)),
        }
    }

    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(GOLDEN_GAMMA);
        mix(self.state)
    }

    /// A number in `0..bound`; 0 when the bound is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        // The high half of a 128-bit product is even enough here: the bias is below 2^-32 for every bound in use.
        let product = u128::from(self.next_u64()) * u128::from(bound);
        u64::try_from(product >> 64).unwrap_or(0)
    }

    /// An index into a collection of this length.
    pub fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).unwrap_or(0)
    }

    /// True in `percent` of all draws.
    pub fn percent(&mut self, percent: f64) -> bool {
        #[expect(
            clippy::cast_precision_loss,
            reason = "53 of the 64 bits are what a double can hold"
        )]
        let unit = (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        unit * 100.0 < percent
    }

    /// One element; `None` of an empty slice.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        from.get(self.index(from.len()))
    }

    /// Lower-case hexadecimal digits.
    pub fn hex(&mut self, digits: usize) -> String {
        let mut text = String::with_capacity(digits + 16);
        while text.len() < digits {
            text.push_str(&format!("{:016x}", self.next_u64()));
        }
        text.truncate(digits);
        text
    }
}

/// The increment of SplitMix64: the odd number nearest to 2^64 divided by the golden ratio.
const GOLDEN_GAMMA: u64 = 0x9E37_79B9_7F4A_7C15;

/// The finalizer of SplitMix64 (Steele, Lea and Flood 2014).
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_for_seed_zero_is_the_published_one() {
        let mut random = Random::new(0);
        assert_eq!(random.next_u64(), 0xE220_A839_7B1D_CDAF);
        assert_eq!(random.next_u64(), 0x6E78_9E6A_A1B9_65F4);
    }

    #[test]
    fn streams_differ_by_label_and_number_and_repeat_by_seed() {
        let draw = |seed, label, number| Random::stream(seed, label, number).next_u64();
        assert_eq!(draw(7, "call", 3), draw(7, "call", 3));
        assert_ne!(draw(7, "call", 3), draw(7, "call", 4));
        assert_ne!(draw(7, "call", 3), draw(7, "text", 3));
        assert_ne!(draw(7, "call", 3), draw(8, "call", 3));
    }

    #[test]
    fn draws_stay_below_their_bound() {
        let mut random = Random::new(1);
        assert!((0..1000).all(|_| random.below(7) < 7));
        assert_eq!(random.below(0), 0);
        assert_eq!(random.hex(32).len(), 32);
        assert_eq!((0..1000).filter(|_| random.percent(0.0)).count(), 0);
        assert_eq!((0..1000).filter(|_| random.percent(100.0)).count(), 1000);
    }
}
