//! Places in the code at which a test can have the process die: between two steps whose order
//! matters, where a kill from outside would only hit by luck.
//!
//! `VOICEBUS_CRASH_AT=router.before_commit:17` kills the process with SIGKILL when it passes that
//! place for the 17th time; without a number, at the first. Only debug builds read the variable; in
//! a release build passing a place is nothing at all.

#[cfg(debug_assertions)]
mod armed {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    use rustix::process::{Signal, getpid, kill_process};

    /// The variable that names the place.
    const VARIABLE: &str = "VOICEBUS_CRASH_AT";

    struct Armed {
        place: String,
        passes_left: AtomicU64,
    }

    static ARMED: LazyLock<Option<Armed>> = LazyLock::new(|| parse(&std::env::var(VARIABLE).ok()?));

    fn parse(text: &str) -> Option<Armed> {
        let (place, passes) = text.split_once(':').unwrap_or((text, "1"));
        Some(Armed {
            place: place.to_owned(),
            passes_left: AtomicU64::new(passes.parse().ok()?),
        })
    }

    pub fn pass(place: &str) {
        let Some(armed) = ARMED.as_ref().filter(|armed| armed.place == place) else {
            return;
        };
        if armed.passes_left.fetch_sub(1, Ordering::Relaxed) == 1 {
            // Nothing of this process runs after it, least of all whatever would tidy up.
            kill_process(getpid(), Signal::KILL).ok();
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

/// Dies here if this is the place and the time.
#[cfg(debug_assertions)]
pub fn pass(place: &str) {
    armed::pass(place);
}

/// Nothing.
#[cfg(not(debug_assertions))]
#[inline]
pub fn pass(_place: &str) {}
