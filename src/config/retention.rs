//! The section `[retention]`: how long streams keep what they hold.

use super::Wanted;
use super::duration::duration;
use crate::bus::streams::{KEEPERS, Retention};

/// The settings as texts, in the order of [`KEEPERS`].
pub(super) struct Texts(Vec<Option<String>>);

impl Texts {
    pub fn take(mut setting: impl FnMut(&str) -> Option<String>) -> Self {
        Self(KEEPERS.iter().map(|keeper| setting(keeper.key)).collect())
    }

    /// What is not said stays as the data files have it.
    pub fn read(self, wanted: &mut Wanted<'_>) -> Retention {
        let mut retention = Retention::default();
        for (keeper, text) in KEEPERS.iter().zip(self.0) {
            let Some(text) = text else { continue };
            let kept = match duration(&text) {
                Some(age) => retention.keep(keeper, age),
                None => Err("a time like 30d".to_owned()),
            };
            if let Err(must) = kept {
                let key = keeper.key;
                let mistake = format!("retention.{key} is `{text}`, but must be {must}");
                wanted.mistakes.push(mistake);
            }
        }
        retention
    }
}
