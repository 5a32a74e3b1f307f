//! One utterance, and the transcript of a whole call.

use serde::{Deserialize, Serialize};

use super::super::{Error, MESSAGE_SIZE_MAX, from_bytes, word};
use super::{EventEnvelope, WHAT};
use crate::domain::Timestamp;
use crate::domain::event::Said;
use crate::domain::input::{Speaker, Utterance};
use crate::domain::transcript::{self, Hole, Spoken};

/// Room in a message for everything that is not an utterance: the envelope, the snapshot, the
/// holes.
const SIZE_OF_THE_REST: usize = 32 * 1024;

/// What was said.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Transcript {
    /// `user`, `agent` or `system`.
    pub speaker: String,
    /// The sender's own word for the speaker.
    pub label: String,
    /// What was said, unaltered.
    pub text: String,
    /// When, by the sender's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spoken_at: Option<Timestamp>,
    /// How sure the recogniser is, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confidence: Option<f64>,
    /// The sender's own number for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_sequence: Option<u64>,
    /// Whether it came after the end of the call.
    pub after_end: bool,
    /// Whether it was fetched from the phone-call server's history.
    #[serde(default, skip_serializing_if = "is_false")]
    pub backfilled: bool,
}

/// The transcript of a whole call.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Conversation {
    /// How often the transcript of the call was completed, this time included: words that come
    /// late give another one.
    pub revision: u64,
    /// What was said, in the order in which it was said.
    pub utterances: Vec<ConversationUtterance>,
    /// What the sender numbered and nobody has seen.
    pub holes: Vec<ConversationHole>,
    /// How many utterances were taken but are not in here: the whole is larger than a message may
    /// be (then they are missing in its middle), or the oldest are no longer kept.
    pub left_out: u64,
}

/// One utterance of a whole transcript.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ConversationUtterance {
    /// `user`, `agent` or `system`.
    pub speaker: String,
    /// The sender's own word for the speaker.
    pub label: String,
    /// What was said, unaltered.
    pub text: String,
    /// When, by the sender's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spoken_at: Option<Timestamp>,
    /// The sender's own number for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_sequence: Option<u64>,
    /// The `sequence` of its own event.
    pub sequence: u64,
    /// Whether it came after the end of the call.
    #[serde(default, skip_serializing_if = "is_false")]
    pub after_end: bool,
    /// Whether it was fetched from the phone-call server's history.
    #[serde(default, skip_serializing_if = "is_false")]
    pub backfilled: bool,
}

/// Numbers of the sender that nothing has come with.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ConversationHole {
    /// The `sequence` of the utterance before the hole; absent when it comes before all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
    /// The first number that is missing.
    pub missing_from: u64,
    /// The last number that is missing.
    pub missing_to: u64,
}

pub(super) fn one(said: &Said) -> Transcript {
    Transcript {
        speaker: said.utterance.speaker.as_str().to_owned(),
        label: said.utterance.speaker_label.clone(),
        text: said.utterance.text.clone(),
        spoken_at: said.utterance.spoken_at,
        confidence: said.utterance.confidence,
        source_sequence: said.source_sequence,
        after_end: said.after_end,
        backfilled: said.backfilled,
    }
}

/// The whole, cut in its middle when it would not fit into a message: how a call began and how it
/// ended is what a reader needs most.
///
/// # Errors
/// When an utterance cannot be written.
pub(super) fn whole(conversation: &transcript::Conversation) -> Result<Conversation, Error> {
    let room = MESSAGE_SIZE_MAX - SIZE_OF_THE_REST;
    let mut sized = Vec::with_capacity(conversation.spoken.len());
    for spoken in &conversation.spoken {
        let utterance = utterance(spoken);
        let size = serde_json::to_vec(&utterance)
            .map_err(|error| Error::json(WHAT, &error))?
            .len();
        // Each but the last is followed by a comma.
        sized.push((utterance, size + 1));
    }
    let all = sized.len();
    let sizes: Vec<usize> = sized.iter().map(|(_, size)| *size).collect();
    let (head, tail) = kept(&sizes, room);
    let utterances = sized
        .into_iter()
        .enumerate()
        .filter(|(index, _)| *index < head || *index >= all - tail)
        .map(|(_, (utterance, _))| utterance);
    Ok(Conversation {
        revision: conversation.revision,
        utterances: utterances.collect(),
        holes: conversation.holes.iter().map(hole).collect(),
        left_out: conversation.left_out + (all - head - tail) as u64,
    })
}

/// How many fit from the beginning and from the end: all, or those of either half of the room.
fn kept(sizes: &[usize], room: usize) -> (usize, usize) {
    if sizes.iter().sum::<usize>() <= room {
        return (sizes.len(), 0);
    }
    let fit = |sizes: &mut dyn Iterator<Item = &usize>, room: usize| {
        let mut used = 0;
        sizes
            .take_while(|size| {
                used += **size;
                used <= room
            })
            .count()
    };
    let head = fit(&mut sizes.iter(), room / 2);
    let used: usize = sizes.iter().take(head).sum();
    let tail = fit(&mut sizes.iter().skip(head).rev(), room - used);
    (head, tail)
}

fn utterance(spoken: &Spoken) -> ConversationUtterance {
    let Spoken { sequence, said } = spoken;
    ConversationUtterance {
        speaker: said.utterance.speaker.as_str().to_owned(),
        label: said.utterance.speaker_label.clone(),
        text: said.utterance.text.clone(),
        spoken_at: said.utterance.spoken_at,
        source_sequence: said.source_sequence,
        sequence: *sequence,
        after_end: said.after_end,
        backfilled: said.backfilled,
    }
}

fn hole(hole: &Hole) -> ConversationHole {
    ConversationHole {
        after: hole.after,
        missing_from: hole.from,
        missing_to: hole.to,
    }
}

/// Reads what was said back from its event, with the number of utterances up to it; `None` for an
/// event of another kind.
///
/// # Errors
/// When the event is not one that a router has written.
pub fn decode_spoken(bytes: &[u8]) -> Result<Option<(Spoken, u64)>, Error> {
    let event: EventEnvelope = from_bytes(WHAT, bytes)?;
    let (Some(said), Some(call)) = (event.data.transcript, event.data.call) else {
        return Ok(None);
    };
    // Unlike a sender's label, the word in an event is one of ours.
    let speaker = [Speaker::User, Speaker::Agent, Speaker::System]
        .into_iter()
        .find(|speaker| speaker.as_str() == said.speaker);
    let spoken = Spoken {
        sequence: event.sequence,
        said: Said {
            utterance: Utterance {
                speaker: word(WHAT, "transcript.speaker", speaker)?,
                speaker_label: said.label,
                text: said.text,
                spoken_at: said.spoken_at,
                confidence: said.confidence,
            },
            source_sequence: said.source_sequence,
            after_end: said.after_end,
            backfilled: said.backfilled,
        },
    };
    Ok(Some((spoken, call.utterances)))
}

fn is_false(value: &bool) -> bool {
    !*value
}

#[cfg(test)]
mod tests {
    use super::kept;

    #[test]
    fn what_does_not_fit_is_cut_in_the_middle() {
        assert_eq!(kept(&[10, 10, 10], 30), (3, 0));
        assert_eq!(kept(&[10, 10, 10, 10], 30), (1, 2));
        assert_eq!(kept(&[10, 90, 10], 50), (1, 1));
        assert_eq!(kept(&[90, 10, 10], 50), (0, 2));
        assert_eq!(kept(&[90], 50), (0, 0));
        assert_eq!(kept(&[], 50), (0, 0));
    }
}
