//! What is remembered under a number about the dials to it, shared with the router: it lets the
//! router find the session of both ids of a call, and egress find the call that the router saw.

use crate::bus::bucket::{Bucket, Error as BucketError};
use crate::bus::envelope::NumberRecord;
use crate::bus::trouble::Trouble;
use crate::bus::{Bus, subjects};
use crate::domain::Timestamp;
use crate::domain::command::Dial;
use crate::domain::ids::CallId;
use crate::domain::phone::E164;
use crate::domain::session::{Claim, RecentDial};

/// Tries against other writers of one number's record. All dials go through that of the number that
/// is shown, and each try that is lost is a dial of somebody else.
const TRIES_MAX: usize = 64;

#[derive(Clone)]
pub(super) struct RecentDials {
    bus: Bus,
    numbers: Bucket,
    own_numbers: Vec<E164>,
}

impl RecentDials {
    pub async fn open(bus: &Bus, own_numbers: &[E164]) -> Result<Self, BucketError> {
        Ok(Self {
            bus: bus.clone(),
            numbers: bus.bucket(subjects::BUCKET_NUMBER).await?,
            own_numbers: own_numbers.to_vec(),
        })
    }

    /// Remembers a dial under both numbers, so that the router finds the session of both ids of the
    /// call, whichever way the signalling names the other end.
    pub async fn remember(
        &self,
        dial: &Dial,
        call: Option<&CallId>,
        now: Timestamp,
    ) -> Result<(), Trouble> {
        self.change(dial, |dials| {
            let known = dials
                .iter()
                .position(|known| known.intent.as_ref() == Some(&dial.intent));
            let claim = match (known, call) {
                (Some(index), Some(call)) => Claim::Call(index, call.clone()),
                (Some(_), None) => return None,
                (None, call) => Claim::Dialled(RecentDial {
                    intent: Some(dial.intent.clone()),
                    session: dial.session.clone(),
                    call: call.cloned(),
                    leg: None,
                    at: now,
                }),
            };
            Some(claim.perform(dials.to_vec(), now))
        })
        .await
    }

    /// Forgets a dial that made no call, so that the next call with that number is not taken for it.
    pub async fn forget(&self, dial: &Dial) -> Result<(), Trouble> {
        self.change(dial, |dials| {
            Some(
                dials
                    .iter()
                    .filter(|known| known.intent.as_ref() != Some(&dial.intent))
                    .cloned()
                    .collect(),
            )
        })
        .await
    }

    /// The call that the router has seen begin for a dial.
    pub async fn call_of(&self, dial: &Dial) -> Result<Option<CallId>, Trouble> {
        let key = self.bus.subjects().number_key(&dial.to);
        let Some(entry) = self.numbers.get(&key).await? else {
            return Ok(None);
        };
        let dials = NumberRecord::decode(&entry.value).map_err(own)?;
        let of_dial = |known: &RecentDial| known.intent.as_ref() == Some(&dial.intent);
        Ok(dials.into_iter().find(of_dial).and_then(|dial| dial.call))
    }

    async fn change(
        &self,
        dial: &Dial,
        change: impl Fn(&[RecentDial]) -> Option<Vec<RecentDial>>,
    ) -> Result<(), Trouble> {
        // Which number the server shows when it is not told is its own affair; it is one of ours.
        let shown = match &dial.caller_id {
            Some(number) => std::slice::from_ref(number),
            None => &self.own_numbers,
        };
        for number in std::iter::once(&dial.to).chain(shown) {
            self.change_of(number, &change).await?;
        }
        Ok(())
    }

    async fn change_of(
        &self,
        number: &E164,
        change: impl Fn(&[RecentDial]) -> Option<Vec<RecentDial>>,
    ) -> Result<(), Trouble> {
        let key = self.bus.subjects().number_key(number);
        for _ in 0..TRIES_MAX {
            let entry = self.numbers.get(&key).await?;
            let dials = match &entry {
                Some(entry) => NumberRecord::decode(&entry.value).map_err(own)?,
                None => Vec::new(),
            };
            let Some(changed) = change(&dials).filter(|changed| *changed != dials) else {
                return Ok(());
            };
            let value = NumberRecord::encode(&changed).map_err(own)?;
            match self.numbers.write(&key, value, entry.as_ref()).await {
                Ok(_) => return Ok(()),
                Err(BucketError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Trouble::Own(
            "the record of the number is changed too often".to_owned(),
        ))
    }
}

fn own(error: impl std::fmt::Display) -> Trouble {
    Trouble::Own(error.to_string())
}
