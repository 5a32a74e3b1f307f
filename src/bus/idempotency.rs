//! The caller's own name for a wish, so that asking again is asking for the same.

use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::domain::ids::IntentId;

/// Longest key, in characters.
const LENGTH_MAX: usize = 128;

/// A text is no key.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("an idempotency key has 1 to {LENGTH_MAX} printable ASCII characters")]
pub struct NoKey;

/// A caller's name for a wish: 1 to 128 printable ASCII characters, as the header
/// `Idempotency-Key` and `voicebus call --idempotency-key` take it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key(String);

impl Key {
    /// Reads a key.
    ///
    /// # Errors
    /// When it is empty, too long or has any other character.
    pub fn parse(text: &str) -> Result<Self, NoKey> {
        let printable = text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        if (1..=LENGTH_MAX).contains(&text.len()) && printable {
            Ok(Self(text.to_owned()))
        } else {
            Err(NoKey)
        }
    }

    /// The intent of this key: the same for the same door, and never another's.
    #[must_use]
    pub fn intent(&self, door: &str) -> IntentId {
        // The name of a door has no line break in it.
        let digest = Sha256::digest(format!("{door}\n{}", self.0));
        let hex: String = digest
            .iter()
            .take(16)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        IntentId::parse(&format!("k-{hex}")).expect("hex digits make an id")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_printable_and_neither_empty_nor_endless() {
        for bad in ["", "a\tb", "a\nb", "é", "\u{7f}", &"k".repeat(129)] {
            assert_eq!(Key::parse(bad), Err(NoKey), "{bad:?}");
        }
        for good in [
            "a",
            " ",
            "8e03978e-40d5-43dd-bc93-6894a57f9324",
            &"k".repeat(128),
        ] {
            assert!(Key::parse(good).is_ok(), "{good:?}");
        }
    }

    #[test]
    fn the_same_key_of_another_client_is_another_wish() {
        let key = |text| Key::parse(text).unwrap();
        assert_eq!(key("a").intent("x"), key("a").intent("x"));
        assert_ne!(key("a").intent("x"), key("a").intent("y"));
        assert_ne!(key("a").intent("x"), key("b").intent("x"));
    }
}
