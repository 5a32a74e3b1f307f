//! Reading what was said in a call back from its log.
//!
//! One request brings many events ("batch direct get"). It leaves nothing behind in the server,
//! unlike a consumer, of which each call that ends would need one.

use std::collections::VecDeque;

use async_nats::Message;
use bytes::Bytes;
use futures_util::StreamExt;
use serde::Serialize;
use thiserror::Error;

use super::connection::REQUEST_TIMEOUT;
use super::envelope::decode_spoken;
use super::{Bus, subjects};
use crate::domain::ids::CallId;
use crate::domain::transcript::{Spoken, Transcript};

/// Events asked for at once.
const BATCH: usize = 256;
/// Bytes asked for at once; the server stops after the event that reaches it.
const BATCH_SIZE_MAX: usize = 4 * 1024 * 1024;
/// Text that is held at once. Hours of speech are below 1 MiB; beyond this the oldest are left
/// out, because the whole would not fit into a message anyhow.
const TEXT_SIZE_MAX: usize = 8 * 1024 * 1024;

/// Why a transcript cannot be read.
#[derive(Debug, Error)]
pub enum Error {
    /// The server does not answer.
    #[error("cannot read the transcript of {call}: {reason}")]
    Away {
        /// Which call.
        call: CallId,
        /// What is known.
        reason: String,
    },
    /// The replica that answered does not have the end of it yet.
    #[error("the transcript of {call} has {found} utterances, expected {expected}")]
    Behind {
        /// Which call.
        call: CallId,
        /// How far it has come.
        found: u64,
        /// How far it should be.
        expected: u64,
    },
}

#[derive(Serialize)]
struct Request<'a> {
    seq: u64,
    next_by_subj: &'a str,
    batch: usize,
    max_bytes: usize,
}

/// One batch.
pub(super) struct Page {
    pub events: Vec<(u64, Bytes)>,
    /// Whether there are more.
    pub more: bool,
}

impl Bus {
    /// The utterances of a call up to the event with the stream sequence `last`, of which there
    /// have been `utterances`. With `whatever_is_there` the end may be missing: it may be too old
    /// to be kept.
    ///
    /// # Errors
    /// See [`enum@Error`].
    pub async fn transcript(
        &self,
        call: &CallId,
        utterances: u64,
        last: u64,
        whatever_is_there: bool,
    ) -> Result<Transcript, Error> {
        let subject = subjects::transcript_of(call);
        let mut spoken: VecDeque<Spoken> = VecDeque::new();
        let (mut size, mut found, mut next) = (0, 0, 1);
        while next <= last {
            let page = self.page(&subject, next).await;
            let page = page.map_err(|reason| away(call, reason))?;
            for (sequence, payload) in page.events {
                next = sequence + 1;
                if sequence > last {
                    break;
                }
                match decode_spoken(&payload) {
                    Ok(Some((one, count))) => {
                        found = count;
                        size += one.said.utterance.text.len();
                        spoken.push_back(one);
                    }
                    Ok(None) => {}
                    Err(error) => {
                        found += 1;
                        tracing::error!(%error, call.id = %call, "an utterance cannot be read back");
                    }
                }
                while size > TEXT_SIZE_MAX
                    && let Some(oldest) = spoken.pop_front()
                {
                    size -= oldest.said.utterance.text.len();
                }
            }
            if !page.more {
                break;
            }
        }
        if found < utterances && !whatever_is_there {
            return Err(Error::Behind {
                call: call.clone(),
                found,
                expected: utterances,
            });
        }
        let unread = utterances.saturating_sub(spoken.len() as u64);
        Ok(Transcript {
            spoken: spoken.into(),
            unread,
        })
    }

    /// Events of VOICE_EVENT on these subjects, from this stream sequence on.
    pub(super) async fn page(&self, subject: &str, from: u64) -> Result<Page, String> {
        tokio::time::timeout(REQUEST_TIMEOUT, self.ask_for_page(subject, from))
            .await
            .unwrap_or_else(|_elapsed| Err("no answer in time".to_owned()))
    }

    async fn ask_for_page(&self, subject: &str, from: u64) -> Result<Page, String> {
        let request = Request {
            seq: from,
            next_by_subj: subject,
            batch: BATCH,
            max_bytes: BATCH_SIZE_MAX,
        };
        let request = serde_json::to_vec(&request).map_err(|error| error.to_string())?;
        let client = self.connection().client();
        let inbox = client.new_inbox();
        let mut answers = client
            .subscribe(inbox.clone())
            .await
            .map_err(|error| error.to_string())?;
        client
            .publish_with_reply(
                format!("$JS.API.DIRECT.GET.{}", subjects::STREAM_EVENT),
                inbox,
                request.into(),
            )
            .await
            .map_err(|error| error.to_string())?;
        let mut events = Vec::new();
        while let Some(answer) = answers.next().await {
            match answer.status.map(|status| status.as_u16()) {
                None | Some(200) => {
                    let sequence = number(&answer, "Nats-Sequence")
                        .ok_or("the server sent an event without its number")?;
                    events.push((sequence, answer.payload));
                }
                Some(204) => {
                    let more = number(&answer, "Nats-Num-Pending").unwrap_or(0) > 0;
                    return Ok(Page { events, more });
                }
                Some(404) => {
                    return Ok(Page {
                        events,
                        more: false,
                    });
                }
                Some(status) => {
                    let why = answer.description.unwrap_or_default();
                    return Err(format!("the server says {status} {why}"));
                }
            }
        }
        Err("the connection was closed".to_owned())
    }
}

fn number(message: &Message, header: &str) -> Option<u64> {
    message.headers.as_ref()?.get(header)?.as_str().parse().ok()
}

fn away(call: &CallId, reason: String) -> Error {
    Error::Away {
        call: call.clone(),
        reason,
    }
}
