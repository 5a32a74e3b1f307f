//! Commands about sessions: which one a number's calls go to. The phone-call server is not asked;
//! they end in an input for the router, which alone writes what happened.

use chrono::Utc;

use super::dialling::Left;
use super::worker::Worker;
use crate::bus::bucket::{Bucket, Error as BucketError};
use crate::bus::consume::Delivery;
use crate::bus::envelope::{LinkRecord, LinkRequest};
use crate::bus::service::LinksAnswer;
use crate::bus::trouble::Trouble;
use crate::bus::{Bus, subjects};
use crate::domain::command::{Reason, Report, Status, Verb};
use crate::domain::ids::{CallId, IntentId, SessionKey};
use crate::domain::input::InputKind;
use crate::domain::phone::E164;
use crate::domain::session::Link;
use crate::error_chain::Chain;

/// Tries against other writers of one number's link.
const TRIES_MAX: usize = 8;

/// The links.
#[derive(Clone)]
pub(super) struct Links {
    bus: Bus,
    bucket: Bucket,
}

impl Links {
    pub async fn open(bus: &Bus) -> Result<Self, BucketError> {
        Ok(Self {
            bus: bus.clone(),
            bucket: bus.bucket(subjects::BUCKET_LINK).await?,
        })
    }

    /// All links, at most `limit` of them, and whether there are more. One that cannot be read is
    /// left out.
    pub async fn all(&self, limit: usize) -> Result<LinksAnswer, BucketError> {
        let mut answer = LinksAnswer::default();
        for key in self.bucket.keys(">").await? {
            let Some(entry) = self.bucket.get(&key).await? else {
                continue;
            };
            let record = LinkRecord::decode(&entry.value).ok();
            // Without a session it says that the link was taken away.
            let Some(record) = record.filter(|record| record.session.is_some()) else {
                continue;
            };
            if answer.links.len() >= limit {
                answer.more = true;
                break;
            }
            answer.links.push(record);
        }
        let order = |record: &LinkRecord| (record.session.clone(), record.number.clone());
        answer.links.sort_by_key(order);
        Ok(answer)
    }

    /// Links a number, or takes its link away; says what it was linked to before.
    async fn set(
        &self,
        number: &E164,
        to: Option<&SessionKey>,
    ) -> Result<Option<SessionKey>, Trouble> {
        let key = self.bus.subjects().number_key(number);
        for _ in 0..TRIES_MAX {
            let found = self.bucket.get(&key).await?;
            let was = found
                .as_ref()
                .and_then(|entry| LinkRecord::session(&entry.value));
            let record = LinkRecord {
                number: number.to_string(),
                session: to.map(ToString::to_string),
                at: Utc::now(),
            };
            let value = record.encode().map_err(own)?;
            match self.bucket.write(&key, value, found.as_ref()).await {
                Ok(_) => return Ok(was),
                Err(BucketError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(own("the link of the number is changed too often"))
    }
}

impl Worker {
    /// `voice.cmd.link.<id>` and `voice.cmd.unlink.<id>`.
    pub(super) async fn take_link(
        &self,
        delivery: &Delivery,
        verb: Verb,
        id: IntentId,
    ) -> Result<Left, Trouble> {
        let request = match LinkRequest::decode(&delivery.payload) {
            Ok(request) => request,
            Err(error) => {
                let text = Chain(&error).to_string();
                return self.buried(delivery, "bad-command", &text).await;
            }
        };
        let asked = request
            .number()
            .and_then(|number| Ok((number, request.session(&self.agent)?)));
        let (number, to) = match asked {
            Ok((number, session)) if session.is_some() == (verb == Verb::Link) => (number, session),
            other => {
                let text = match other {
                    Err(error) => Chain(&error).to_string(),
                    Ok(_) => "`link` needs a session, and `unlink` takes none".to_owned(),
                };
                let reason = Reason::new("bad-command", text);
                return self.done(self.refused(id, verb, reason)).await;
            }
        };
        let session = to
            .clone()
            .unwrap_or_else(|| SessionKey::per_phone(&self.agent, number.digits()));
        let report = |status| Report {
            intent: id.clone(),
            verb,
            session: session.clone(),
            to: Some(number.clone()),
            call: None,
            status,
            reason: None,
        };
        // The log of the command comes first: that is where the link is told.
        self.teller.report(report(Status::Accepted)).await?;
        let was = self.links.set(&number, to.as_ref()).await?;
        let log = CallId::parse(id.as_str()).map_err(own)?;
        let number = number.clone();
        let linked = InputKind::Linked(Link { number, to, was });
        self.teller
            .input(&log, &format!("{} {id} done", verb.as_str()), linked)
            .await?;
        self.done(report(Status::Confirmed)).await
    }
}

fn own(error: impl std::fmt::Display) -> Trouble {
    Trouble::Own(error.to_string())
}
