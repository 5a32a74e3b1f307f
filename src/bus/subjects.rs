//! Every subject, bucket key and consumer name is built and parsed here; nobody else writes a dot.
//!
//! | subject | stream | what |
//! |---|---|---|
//! | `voice.in.<p>.<call>.<type>` | VOICE_IN | an accepted event, as it came |
//! | `voice.timer.<call>.<name>` | VOICE_IN | a timer; fires as `voice.in.<p>.<call>.timer` |
//! | `voice.timer.put-off.<digest>` | VOICE_IN | an input that waits; comes again on its own subject |
//! | `voicebus.commit.<call>.<session>.<kind>.<action>` | VOICE_EVENT | how the router commits; stored and republished as the next |
//! | `voice.event.<call>.<session>.<kind>.<action>` | VOICE_EVENT | what happened: the public feed |
//! | `voice.cmd.<verb>.<key>` | VOICE_CMD | what is asked |
//! | `voice.dlq.<role>.<reason>` | VOICE_DLQ | dead letters |
//! | `voicebus.canary.<stream>` | that stream | a canary; gone after a second |
//! | `voice.health.<component>` | none | health changes |
//! | `voice.svc.…` | none | micro services |
//! | `replay.…` | none | old events, published again for whoever wants them |
//!
//! The call comes before the session, because `voice.event.<call>.>` is the filter of every
//! commit, and a wildcard in front of it would cost time in proportion to the number of sessions.
//! A session key and a phone number hold what must not be seen in a subject, so their tokens are
//! salted hashes.

use std::num::NonZeroU32;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::domain::event::Event;
use crate::domain::ids::{CallId, IntentId, SessionKey};
use crate::domain::input::InputKind;
use crate::domain::phone::E164;
use crate::domain::timer::Timer;

/// The stream of accepted events.
pub const STREAM_IN: &str = "VOICE_IN";
/// The stream of what happened.
pub const STREAM_EVENT: &str = "VOICE_EVENT";
/// The stream of commands.
pub const STREAM_CMD: &str = "VOICE_CMD";
/// The stream of dead letters.
pub const STREAM_DLQ: &str = "VOICE_DLQ";

/// The bucket of intent records.
pub const BUCKET_INTENT: &str = "VOICE_INTENT";
/// The bucket of recent dials by number.
pub const BUCKET_NUMBER: &str = "VOICE_NUMBER";
/// The bucket of links from a number to a session.
pub const BUCKET_LINK: &str = "VOICE_LINK";
/// The bucket of what was dialled lately.
pub const BUCKET_LIMIT: &str = "VOICE_LIMIT";
/// Its one key: all dials count together.
pub const KEY_DIALS: &str = "dials";

/// Dead letters that hold inputs go back to subjects that begin so.
const INPUTS: &str = "voice.in.";
/// Commands come on subjects that begin so.
const COMMANDS: &str = "voice.cmd.";
/// Keys of dials that wait for a person begin so.
const UNRESOLVED: &str = "unresolved.";
/// The key, beside the records of dials, of the moment in which a person let dialling go on.
pub const KEY_RESUMED: &str = "egress.resumed";
/// Replayed events go to subjects that begin so, and nowhere else.
const REPLAYS: &str = "replay.";

/// Everything that happened.
pub const EVENTS_ALL: &str = "voice.event.>";
/// The outcomes of all commands.
pub const EVENTS_OF_COMMANDS: &str = "voice.event.*.*.command.*";
/// All health changes.
pub const HEALTH_ALL: &str = "voice.health.>";

/// The durable consumer of egress on VOICE_CMD: all commands, of which it carries out dials.
pub const CONSUMER_EGRESS: &str = "egress";
/// Its other one: commands about dials and calls that are there already, see [`is_control`].
pub const CONSUMER_CONTROL: &str = "control";
/// Their verbs, as `nats/consumers/VOICE_CMD.control.json` has them.
const CONTROL_VERBS: [&str; 8] = [
    "cancel", "hangup", "context", "say", "link", "unlink", "resolve", "resume",
];

/// Asks a server for a description of itself.
pub const SERVER_DESCRIPTION: &str = "$SYS.REQ.SERVER.PING.VARZ";

/// Asks the router for calls.
pub const SERVICE_CALLS_LIST: &str = "voice.svc.calls.list";
/// Asks the router for one call.
pub const SERVICE_CALLS_GET: &str = "voice.svc.calls.get";
/// Asks the router for the calls with one person.
pub const SERVICE_CALLERS_GET: &str = "voice.svc.callers.get";
/// Asks the router for sessions with their calls.
pub const SERVICE_SESSIONS_LIST: &str = "voice.svc.sessions.list";
/// Asks the router for one session.
pub const SERVICE_SESSIONS_GET: &str = "voice.svc.sessions.get";
/// Asks the router what became of a command.
pub const SERVICE_COMMANDS_GET: &str = "voice.svc.commands.get";
/// Asks egress to dial.
pub const SERVICE_DIAL: &str = "voice.svc.dial";
/// Asks egress to end a call.
pub const SERVICE_HANGUP: &str = "voice.svc.hangup";
/// Asks egress to have something said in a call.
pub const SERVICE_SAY: &str = "voice.svc.say";
/// Asks egress how it and the phone-call server are.
pub const SERVICE_EGRESS_STATUS: &str = "voice.svc.egress.status";

/// Asks egress whether the phone-call server has a call.
pub const SERVICE_EGRESS_CALL: &str = "voice.svc.egress.call";
/// Asks egress how far a wish to dial has come.
pub const SERVICE_EGRESS_INTENT: &str = "voice.svc.egress.intent";
/// Asks egress for the dials whose outcome is unknown.
pub const SERVICE_EGRESS_UNRESOLVED: &str = "voice.svc.egress.unresolved";
/// Asks egress which numbers are linked to which sessions: for those who may command.
pub const SERVICE_EGRESS_LINKS: &str = "voice.svc.egress.links";
/// Asks egress to put what the phone-call server's history has of a call into the stream of inputs.
pub const SERVICE_EGRESS_TRANSCRIPT: &str = "voice.svc.egress.transcript";

/// What all subjects of one deployment share: the number of partitions and the salt, both fixed
/// when VOICE_IN is made.
#[derive(Clone)]
pub struct Subjects {
    partitions: NonZeroU32,
    salt: Arc<[u8]>,
}

impl std::fmt::Debug for Subjects {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subjects")
            .field("partitions", &self.partitions)
            .finish_non_exhaustive()
    }
}

impl Subjects {
    /// The subjects of a deployment.
    #[must_use]
    pub fn new(partitions: NonZeroU32, salt: impl AsRef<[u8]>) -> Self {
        Self {
            partitions,
            salt: salt.as_ref().into(),
        }
    }

    /// How many partitions there are.
    #[must_use]
    pub fn partitions(&self) -> u32 {
        self.partitions.get()
    }

    /// Which partition a call's inputs go through: the first 32 bits of the SHA-256 of its id,
    /// modulo the number of partitions.
    #[must_use]
    pub fn partition(&self, call: &CallId) -> u32 {
        let digest = Sha256::digest(call.as_str());
        let head = digest
            .iter()
            .take(4)
            .fold(0u32, |head, byte| (head << 8) | u32::from(*byte));
        head % self.partitions
    }

    /// `voice.in.<p>.<call>.<type>`.
    #[must_use]
    pub fn input(&self, call: &CallId, kind: &InputKind) -> String {
        format!(
            "voice.in.{}.{call}.{}",
            self.partition(call),
            input_type(kind)
        )
    }

    /// `voice.in.<p>.<call>.timer`: where the timers of a call fire.
    #[must_use]
    pub fn fired_timer(&self, call: &CallId) -> String {
        format!("voice.in.{}.{call}.{TIMER}", self.partition(call))
    }

    /// `voicebus.commit.<call>.<session>.<kind>.<action>`.
    #[must_use]
    pub fn commit(&self, event: &Event) -> String {
        let (kind, action) = event.kind_and_action();
        format!(
            "voicebus.commit.{}.{}.{kind}.{action}",
            event.log.id(),
            self.session_token(event.log.session())
        )
    }

    /// `s-` and 16 hex digits: a session's token in subjects.
    #[must_use]
    pub fn session_token(&self, session: &SessionKey) -> String {
        format!("s-{}", self.salted("session", session.as_str()))
    }

    /// `n-` and 16 hex digits: a number's key in buckets.
    #[must_use]
    pub fn number_key(&self, number: &E164) -> String {
        format!("n-{}", self.salted("number", number.as_str()))
    }

    /// `flight.n-…`: the key of the dial that is under way to a number.
    #[must_use]
    pub fn flight_key(&self, number: &E164) -> String {
        format!("flight.{}", self.number_key(number))
    }

    fn salted(&self, what: &str, text: &str) -> String {
        let digest = Sha256::new()
            .chain_update(&self.salt)
            .chain_update(what)
            .chain_update(text)
            .finalize();
        digest
            .iter()
            .take(8)
            .fold(String::with_capacity(16), |mut hex, byte| {
                hex.push_str(&format!("{byte:02x}"));
                hex
            })
    }
}

/// The last token of the subject on which timers fire. Only the server itself writes there.
const TIMER: &str = "timer";

/// The last token of an input's subject.
fn input_type(kind: &InputKind) -> &'static str {
    match kind {
        InputKind::Started { .. } => "started",
        InputKind::Ringing => "ringing",
        InputKind::Answered => "answered",
        InputKind::Ended(_) => "ended",
        InputKind::Utterance(_) => "transcript",
        InputKind::Audio(_) => "audio",
        InputKind::Context(_) => "context",
        InputKind::Sync => "sync",
        InputKind::Timer(_) => TIMER,
        InputKind::Dialled { .. }
        | InputKind::Cancelled
        | InputKind::Command(_)
        | InputKind::Linked(_)
        | InputKind::Recorded(_) => "command",
    }
}

/// `voice.event.<call>.>`: one log, and the filter of every commit to it. All writers must use
/// this very text, or the server does not see that they race.
#[must_use]
pub fn events_of(log_id: &str) -> String {
    format!("voice.event.{log_id}.>")
}

/// `voice.event.<call>.*.transcript.*`: what was said in one call.
#[must_use]
pub fn transcript_of(call: &CallId) -> String {
    format!("voice.event.{call}.*.transcript.*")
}

/// `voice.event.<call>.*.context.injected`: what one call was given to know.
#[must_use]
pub fn contexts_of(call_id: &str) -> String {
    format!("voice.event.{call_id}.*.context.injected")
}

/// `voice.timer.<call>.<name>`: one timer of a call.
#[must_use]
pub fn timer(call: &CallId, timer: Timer) -> String {
    format!("voice.timer.{call}.{}", timer.name())
}

/// Whether an input's subject is where timers fire.
#[must_use]
pub fn is_timer(subject: &str) -> bool {
    subject
        .rsplit_once('.')
        .is_some_and(|(_, kind)| kind == TIMER)
}

/// `voice.event.*.<session>.>`: one session.
#[must_use]
pub fn events_of_session(session_token: &str) -> String {
    format!("voice.event.*.{session_token}.>")
}

/// `voice.event.<intent>.*.command.*`: what becomes of one command.
#[must_use]
pub fn events_of_command(intent: &IntentId) -> String {
    format!("voice.event.{intent}.*.command.*")
}

/// The durable consumer of a partition.
#[must_use]
pub fn partition_consumer(partition: u32) -> String {
    format!("p{partition}")
}

/// Asks a consumer for a message.
#[must_use]
pub fn next_message(stream: &str, consumer: &str) -> String {
    format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}")
}

/// Where an input waits that was put off; `digest` stands for it.
#[must_use]
pub fn put_off(digest: &str) -> String {
    format!("voice.timer.put-off.{digest}")
}

/// Whether a consumer is one of ours that feed the partitions.
#[must_use]
pub fn is_partition_consumer(name: &str) -> bool {
    name.strip_prefix('p')
        .is_some_and(|k| !k.is_empty() && k.bytes().all(|byte| byte.is_ascii_digit()))
}

/// What the server says when it gives up a message of a stream for a consumer, or when a worker
/// has given it up.
#[must_use]
pub fn advisories_of(stream: &str) -> [String; 2] {
    ["MAX_DELIVERIES", "MSG_TERMINATED"]
        .map(|what| format!("$JS.EVENT.ADVISORY.CONSUMER.{what}.{stream}.>"))
}

/// `voice.dlq.<role>.<reason>` with `*` for what does not matter; `None` when a word is none.
#[must_use]
pub fn dead_letters(role: Option<&str>, reason: Option<&str>) -> Option<String> {
    let word = |word: Option<&str>| match word {
        None => Some("*".to_owned()),
        Some(word) => is_token(word).then(|| word.to_owned()),
    };
    Some(format!("voice.dlq.{}.{}", word(role)?, word(reason)?))
}

/// Role and reason of a dead letter's subject.
#[must_use]
pub fn parse_dead_letter(subject: &str) -> Option<(&str, &str)> {
    subject.strip_prefix("voice.dlq.")?.split_once('.')
}

/// Whether an input could have been published here, so that it can be published again.
#[must_use]
pub fn is_input(subject: &str) -> bool {
    subject
        .strip_prefix(INPUTS)
        .is_some_and(|rest| rest.split('.').all(is_published_token))
}

/// Whether a command was published here, known or not.
#[must_use]
pub fn is_command(subject: &str) -> bool {
    subject.starts_with(COMMANDS)
}

/// A subject for replayed events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplaySubject(String);

impl ReplaySubject {
    /// Reads a subject: `replay.`, then words.
    ///
    /// # Errors
    /// A sentence that says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.strip_prefix(REPLAYS) {
            Some(rest) if rest.split('.').all(is_token) => Ok(Self(text.to_owned())),
            Some(_) => Err(format!(
                "`{text}` is not a subject: after `{REPLAYS}` come words of letters, digits, - and _, separated by dots"
            )),
            None => Err(format!(
                "`{text}` does not begin with `{REPLAYS}`: old events go there and nowhere else, so that nobody takes them for new ones and no phone is called"
            )),
        }
    }

    /// The subject.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_token(word: &str) -> bool {
    !word.is_empty()
        && word
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

/// Any word that the server takes in a subject of a message.
fn is_published_token(word: &str) -> bool {
    !word.is_empty()
        && !matches!(word, "*" | ">")
        && !word.contains(|c: char| c.is_whitespace() || c.is_control())
}

/// `voice.cmd.<verb>.<key>`; the key must be an id.
#[must_use]
pub fn command(verb: crate::domain::command::Verb, key: &str) -> String {
    format!("voice.cmd.{}.{key}", verb.as_str())
}

/// `voice.cmd.cancel.<intent>`: take back a dial that was not sent yet.
#[must_use]
pub fn cancel(intent: &IntentId) -> String {
    format!("{COMMANDS}cancel.{intent}")
}

/// `voice.cmd.resolve.<intent>`: say what became of a dial whose outcome is unknown. People only.
#[must_use]
pub fn resolve(intent: &IntentId) -> String {
    format!("{COMMANDS}resolve.{intent}")
}

/// `voice.cmd.resume.dialling`: let dialling go on although records were lost. People only.
#[must_use]
pub fn resume() -> String {
    format!("{COMMANDS}resume.dialling")
}

/// The key, beside the records, that says that a dial waits for a person. A record's own key has no
/// dot.
#[must_use]
pub fn unresolved_key(intent: &IntentId) -> String {
    format!("{UNRESOLVED}{intent}")
}

/// All such keys.
#[must_use]
pub fn unresolved_keys() -> String {
    format!("{UNRESOLVED}*")
}

/// The dial that such a key names.
#[must_use]
pub fn parse_unresolved_key(key: &str) -> Option<IntentId> {
    IntentId::parse(key.strip_prefix(UNRESOLVED)?).ok()
}

/// `voice.dlq.<role>.<reason>`; both are words of ours.
#[must_use]
pub fn dead_letter(role: &'static str, reason: &'static str) -> String {
    format!("voice.dlq.{role}.{reason}")
}

/// The stream that takes a subject of ours, in a word for metrics; canaries count by themselves.
#[must_use]
pub fn stream_of(subject: &str) -> &'static str {
    const STREAMS: [(&str, &str); 6] = [
        (INPUTS, STREAM_IN),
        ("voice.timer.", STREAM_IN),
        ("voicebus.commit.", STREAM_EVENT),
        (COMMANDS, STREAM_CMD),
        ("voice.dlq.", STREAM_DLQ),
        ("voicebus.canary.", "canary"),
    ];
    let mut found = STREAMS
        .iter()
        .filter(|(begin, _)| subject.starts_with(begin));
    found.next().map_or("other", |(_, stream)| stream)
}

/// `voicebus.canary.<stream>`: what a stream takes to show that it still does.
#[must_use]
pub fn canary(stream: &str) -> String {
    format!("voicebus.canary.{stream}")
}

/// `voice.health.<component>`; a word of ours.
#[must_use]
pub fn health(component: &'static str) -> String {
    format!("voice.health.{component}")
}

/// The call (or command) that an input's subject names, when it is one of ours.
#[must_use]
pub fn call_of_input(subject: &str) -> Option<CallId> {
    let mut tokens = subject.strip_prefix(INPUTS)?.split('.');
    let (_partition, call, _kind) = (tokens.next()?, tokens.next()?, tokens.next()?);
    if tokens.next().is_some() {
        return None;
    }
    CallId::parse(call).ok()
}

/// What is wrong with the subject of an input that was read: the call, the partition or the right
/// to say it is not what the subject says. `None` when nothing is.
#[must_use]
pub fn misrouted(
    subjects: &Subjects,
    subject: &str,
    call: &CallId,
    kind: &InputKind,
) -> Option<String> {
    let Some(named) = call_of_input(subject) else {
        return Some(
            "the subject is not of the form voice.in.<partition>.<call>.<type>".to_owned(),
        );
    };
    if named != *call {
        return Some(format!(
            "the subject names the call {named}, the input the call {call}"
        ));
    }
    let wanted = subjects.partition(call);
    if partition_of_input(subject) != Some(wanted) {
        return Some(format!("the call belongs to partition {wanted}"));
    }
    // Only egress may publish there.
    let of_command = input_type(kind) == "command";
    (of_command != subject.ends_with(".command")).then(|| {
        format!(
            "an input of type {} is not for this subject",
            input_type(kind)
        )
    })
}

/// The partition that an input's subject names.
#[must_use]
pub fn partition_of_input(subject: &str) -> Option<u32> {
    subject
        .strip_prefix(INPUTS)?
        .split('.')
        .next()?
        .parse()
        .ok()
}

/// Verb and key of a command's subject.
#[must_use]
pub fn parse_command(subject: &str) -> Option<(&str, &str)> {
    subject
        .strip_prefix(COMMANDS)?
        .split_once('.')
        .filter(|(_, key)| !key.contains('.'))
}

/// Whether a command is about a dial or a call that is there already, so that it must not wait
/// behind dials.
#[must_use]
pub fn is_control(subject: &str) -> bool {
    parse_command(subject).is_some_and(|(verb, _key)| CONTROL_VERBS.contains(&verb))
}

#[cfg(test)]
mod tests;
