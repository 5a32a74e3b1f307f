//! Places in the code at which a test can have the process die or stand still: between two steps
//! whose order matters, where a signal from outside would only hit by luck.
//!
//! `VOICEBUS_CRASH_AT=router.before_commit:17` kills the process with SIGKILL when it passes that
//! place for the 17th time; without a number, at the first. `VOICEBUS_STOP_AT` stops it with SIGSTOP
//! in the same way; SIGCONT lets it go on. Only debug builds read the variables; in a release build
//! passing a place is nothing at all.

#[cfg(debug_assertions)]
mod armed {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    use rustix::process::{Signal, getpid, kill_process};

    struct Armed {
        place: String,
        passes_left: AtomicU64,
    }

    // Nothing of this process runs after a SIGKILL, least of all whatever would tidy up.
    static SIGNALS: LazyLock<[(Option<Armed>, Signal); 2]> = LazyLock::new(|| {
        let armed = |variable| parse(&std::env::var(variable).ok()?);
        [
            (armed("VOICEBUS_CRASH_AT"), Signal::KILL),
            (armed("VOICEBUS_STOP_AT"), Signal::STOP),
        ]
    });

    fn parse(text: &str) -> Option<Armed> {
        let (place, passes) = text.split_once(':').unwrap_or((text, "1"));
        Some(Armed {
            place: place.to_owned(),
            passes_left: AtomicU64::new(passes.parse().ok()?),
        })
    }

    pub fn pass(place: &str) {
        for (armed, signal) in SIGNALS.iter() {
            if let Some(armed) = armed.as_ref().filter(|armed| armed.place == place)
                && armed.passes_left.fetch_sub(1, Ordering::Relaxed) == 1
            {
                kill_process(getpid(), *signal).ok();
                // Another thread may take the signal: this one must not get past until it has.
                std::thread::sleep(Duration::from_millis(100));
            }
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_place_comes_with_or_without_a_number() {
            let read = |text| parse(text).map(|it| (it.place, it.passes_left.into_inner()));
            assert_eq!(read("router.x"), Some(("router.x".to_owned(), 1)));
            assert_eq!(read("router.x:17"), Some(("router.x".to_owned(), 17)));
            assert_eq!(read("router.x:many"), None);
        }
    }
}

/// Dies or stops here if this is the place and the time.
#[cfg(debug_assertions)]
pub fn pass(place: &str) {
    armed::pass(place);
}

/// Nothing.
#[cfg(not(debug_assertions))]
#[inline]
pub fn pass(_place: &str) {}
