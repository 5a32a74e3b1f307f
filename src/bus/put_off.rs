//! Putting an input off: it comes again later, behind those that are there now.
//!
//! A partition has one input in flight, so one that can neither be used nor parked, because
//! VOICE_DLQ takes nothing, would hold up all calls of its partition for as long as that takes. It
//! is stored again instead, as a message schedule of VOICE_IN with the input's own subject as its
//! target, and the original is acknowledged. Nothing is lost: what fires is an input like any other,
//! and its letter, once there is room for one, has the name that that of the original would have.

use std::time::Duration;

use async_nats::HeaderMap;
use chrono::{SecondsFormat, TimeDelta, Utc};

use super::consume::Delivery;
use super::dead_letter::{digest, header};
use super::publish::{Error, publish};
use super::{Bus, subjects};

/// On an input that was put off: how often.
const TIMES: &str = "Voicebus-Put-Off";
/// On an input that was put off: the name of its letter.
const LETTER: &str = "Voicebus-Letter";
/// What the server makes of headers that begin so, it makes of the schedule that carries them.
const OBEYED: &str = "nats-";

/// The first pause. Each later one is twice as long.
const PAUSE_FIRST: TimeDelta = TimeDelta::seconds(1);
/// The longest pause: room that was made is used within a minute.
const PAUSE_MAX: TimeDelta = TimeDelta::seconds(60);

impl Bus {
    /// Stores an input again, to come later than now; doing it twice is the same as doing it once
    /// as long as it has not come. Returns how long it is put off.
    ///
    /// # Errors
    /// See [`Error`]. The input must then not be acknowledged.
    pub async fn put_off(&self, delivery: &Delivery) -> Result<Duration, Error> {
        let times = header(&delivery.headers, TIMES).and_then(|times| times.parse().ok());
        let times: u32 = times.unwrap_or(0);
        let pause = pause_after(times);
        let at = (Utc::now().max(delivery.stored_at) + pause)
            .to_rfc3339_opts(SecondsFormat::Millis, true);
        let letter = delivery.letter_name(subjects::STREAM_IN);
        let mut headers = HeaderMap::new();
        for (name, values) in delivery.headers.iter() {
            if name.to_string().to_ascii_lowercase().starts_with(OBEYED) {
                continue;
            }
            for value in values {
                headers.append(name.clone(), value.clone());
            }
        }
        headers.insert("Nats-Schedule", format!("@at {at}").as_str());
        headers.insert("Nats-Schedule-Target", delivery.subject.as_str());
        headers.insert("Nats-Rollup", "sub");
        headers.insert(TIMES, times.saturating_add(1).to_string().as_str());
        headers.insert(LETTER, letter.as_str());
        let subject = subjects::put_off(&digest(&letter));
        let payload = delivery.payload.clone();
        publish(self.connection().jetstream(), &subject, headers, payload).await?;
        Ok(pause.to_std().unwrap_or_default())
    }
}

impl Delivery {
    /// The name that the letter of an input that was put off must have.
    pub(super) fn letter_of_original(&self) -> Option<&str> {
        header(&self.headers, LETTER)
    }
}

fn pause_after(times: u32) -> TimeDelta {
    PAUSE_FIRST
        .checked_mul(1 << times.min(16))
        .map_or(PAUSE_MAX, |pause| pause.min(PAUSE_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_minute() {
        let seconds: Vec<i64> = [0, 1, 2, 5, 6, 7, u32::MAX]
            .map(|times| pause_after(times).num_seconds())
            .into();
        assert_eq!(seconds, [1, 2, 4, 32, 60, 60, 60]);
    }
}
