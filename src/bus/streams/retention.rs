//! How long streams keep what they hold, where a deployment wants it otherwise than the data files.
//!
//! Personal data should be gone as early as it can be. How early that is, the guarantees say: each
//! bound here is one of them.

use std::collections::BTreeMap;

use chrono::TimeDelta;

/// A stream whose messages may be kept for longer or shorter.
#[derive(Debug)]
pub struct Keeper {
    /// The stream, by its name in the configuration.
    pub key: &'static str,
    /// The same by its name at the server.
    pub stream: &'static str,
    days_min: i64,
    days_max: i64,
    /// Why not shorter, and why not longer where there is a reason.
    why: &'static str,
}

/// Ten years. Nobody has thought of keeping calls for longer.
const DAYS_MAX: i64 = 3650;

/// All of them. The links and what is remembered for a day are not a matter of taste.
pub const KEEPERS: [Keeper; 5] = [
    Keeper {
        key: "voice_in",
        stream: "VOICE_IN",
        days_min: 2,
        // The duplicate window of VOICE_DLQ, and less than any voice_event.
        days_max: 7,
        why: "timers of a day lie in it, and dead letters know an input again for seven days",
    },
    Keeper {
        key: "voice_event",
        stream: "VOICE_EVENT",
        // The most of voice_in and of calls.age_max, and a day.
        days_min: 8,
        days_max: DAYS_MAX,
        why: "an input that comes after seven days must find the log of its call",
    },
    Keeper {
        key: "voice_cmd",
        stream: "VOICE_CMD",
        days_min: 3,
        days_max: 7,
        why: "a command that is given again after three days must be known, and none may outlive the record of its dial",
    },
    Keeper {
        key: "voice_dlq",
        stream: "VOICE_DLQ",
        // Its duplicate window: the server takes none that is longer than the age.
        days_min: 7,
        days_max: DAYS_MAX,
        why: "a letter must be known again for seven days",
    },
    Keeper {
        key: "voice_intent",
        stream: "KV_VOICE_INTENT",
        days_min: 30,
        days_max: DAYS_MAX,
        why: "the record of a dial must outlive its command, and a person must have time to say what became of it",
    },
];

/// Ages that were decided, by stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Retention(BTreeMap<&'static str, TimeDelta>);

impl Retention {
    /// Keeps the messages of a stream for so long.
    ///
    /// # Errors
    /// The bounds and their reason, when a guarantee would break.
    pub fn keep(&mut self, keeper: &Keeper, age: TimeDelta) -> Result<(), String> {
        let bounds = TimeDelta::days(keeper.days_min)..=TimeDelta::days(keeper.days_max);
        if !bounds.contains(&age) {
            return Err(format!(
                "from {}d to {}d: {}",
                keeper.days_min, keeper.days_max, keeper.why
            ));
        }
        self.0.insert(keeper.stream, age);
        Ok(())
    }

    /// What was decided of a stream, in nanoseconds as the server has it.
    pub(super) fn age_max(&self, stream: &str) -> Option<i64> {
        self.0.get(stream)?.num_nanoseconds()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::streams::{Options, wanted};

    #[test]
    fn what_the_files_say_is_within_the_bounds() {
        let all = wanted::streams(&Options::default()).unwrap();
        for keeper in &KEEPERS {
            let named = |wanted: &&wanted::Wanted| wanted.object.stream_name() == keeper.stream;
            let config = &all.iter().find(named).unwrap().config;
            let age = TimeDelta::nanoseconds(config["max_age"].as_i64().unwrap());
            Retention::default().keep(keeper, age).unwrap();
        }
    }

    #[test]
    fn no_bound_lets_a_guarantee_break() {
        let [inputs, events, commands, letters, intents] = &KEEPERS;
        assert!(events.days_min > inputs.days_max);
        assert!(intents.days_min > commands.days_max);
        let all = wanted::streams(&Options::default()).unwrap();
        let window = |name: &str| {
            let named = |wanted: &&wanted::Wanted| wanted.object.stream_name() == name;
            let config = &all.iter().find(named).unwrap().config;
            TimeDelta::nanoseconds(config["duplicate_window"].as_i64().unwrap()).num_days()
        };
        assert!(inputs.days_max <= window("VOICE_DLQ"));
        assert!(letters.days_min >= window("VOICE_DLQ"));
        let mut kept = Retention::default();
        for keeper in &KEEPERS {
            for days in [0, -1, keeper.days_min - 1, keeper.days_max + 1] {
                let error = kept.keep(keeper, TimeDelta::days(days)).unwrap_err();
                assert!(error.ends_with(keeper.why), "{error}");
            }
        }
        assert_eq!(kept, Retention::default());
    }
}
