//! Arming timers: message schedules in the stream of inputs.
//!
//! Measured on the server: `Nats-Rollup: sub` replaces a schedule for good, whereas one that is
//! only overwritten comes back after a crash; a time that has passed fires at once; what fires
//! keeps neither the rollup nor an id.

use async_nats::HeaderMap;
use chrono::{DateTime, SecondsFormat, Utc};

use super::envelope::encode_timer;
use super::publish::{Error, publish};
use super::{Bus, subjects};
use crate::domain::Timestamp;
use crate::domain::timer::Arm;

impl Bus {
    /// Arms a timer, in place of the call's one of the same name. Doing it again changes nothing
    /// but its time.
    ///
    /// `now` is what our clock says and `stored_at` what the server's said when it stored the input
    /// that the timer is for. The server fires at a time of its own clock; where ours is behind, a
    /// timer that is armed each time it fires would fire at once, for ever.
    ///
    /// # Errors
    /// See [`Error`]; it is always safe to arm it again.
    pub async fn arm(
        &self,
        arm: &Arm,
        now: DateTime<Utc>,
        stored_at: Timestamp,
    ) -> Result<(), Error> {
        let at = (now.max(stored_at) + arm.after).to_rfc3339_opts(SecondsFormat::Millis, true);
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Schedule", format!("@at {at}").as_str());
        headers.insert(
            "Nats-Schedule-Target",
            self.subjects().fired_timer(&arm.call).as_str(),
        );
        headers.insert("Nats-Rollup", "sub");
        let subject = subjects::timer(&arm.call, arm.timer);
        let payload = encode_timer(arm.timer)?;
        publish(self.connection(), &subject, headers, payload).await?;
        crate::metrics::timer_armed();
        Ok(())
    }
}
