//! Which session a call belongs to: five rules, the first that answers wins.
//!
//! 1. the session named by the command that made the call;
//! 2. the other id of the same call: an outbound call's second leg arrives as "inbound" from the
//!    number that was dialled (or from our own);
//! 3. a dial to that number that is still waiting for its call;
//! 4. a link from the number to a session, made by a person or an agent;
//! 5. the configured scope.
//!
//! A caller without a number gets a session of the call's own, never a shared one.

use super::Timestamp;
use super::ids::{AgentId, CallId, IntentId, SessionKey};
use super::input::Direction;
use super::phone::{E164, Party};
use super::timer::Times;
use chrono::TimeDelta;

/// How long after a dial its call and its second leg are looked for. The server gives up ringing
/// after 30 s and itself matches legs for 60 s; twice that covers a slow answer.
pub const DIAL_WINDOW: TimeDelta = TimeDelta::seconds(120);

/// Dials remembered per number. One number has one dial in flight; more only when dialled past
/// voicebus.
pub const DIALS_PER_NUMBER_MAX: usize = 8;

/// Which rule put a call into its session; a smaller one is stronger, and only a stronger one may
/// move the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// Named by the command that made the call.
    Command,
    /// The other id of a known call.
    OtherLeg,
    /// A dial to this number waits for its call.
    PendingDial,
    /// The number is linked to a session.
    Link,
    /// The configured scope.
    Scope,
    /// Nothing is known of the caller yet.
    Provisional,
}

impl Rule {
    const ALL: [Self; 6] = [
        Self::Command,
        Self::OtherLeg,
        Self::PendingDial,
        Self::Link,
        Self::Scope,
        Self::Provisional,
    ];

    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Command => "command",
            Self::OtherLeg => "other-leg",
            Self::PendingDial => "pending-dial",
            Self::Link => "link",
            Self::Scope => "scope",
            Self::Provisional => "provisional",
        }
    }

    /// Reads a rule.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|rule| rule.as_str() == text)
    }
}

/// A call's session and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// The session.
    pub key: SessionKey,
    /// The rule that chose it.
    pub rule: Rule,
}

/// How calls share sessions when nothing else decides; OpenClaw's own `sessionScope`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// One session for each number.
    PerPhone,
    /// One session for each call.
    PerCall,
    /// The agent's main session.
    Main,
}

/// What a deployment says about calls and their sessions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Whose sessions are made.
    pub agent: AgentId,
    /// Rule 5.
    pub scope: Scope,
    /// How long what is waited for.
    pub times: Times,
    /// Our own numbers. A second leg may come "from" one of them; it is never a caller.
    pub own_numbers: Vec<E164>,
}

/// A recent outbound dial, as remembered under the number that was dialled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecentDial {
    /// The command behind it; `None` when somebody dialled past voicebus.
    pub intent: Option<IntentId>,
    /// The session of the call.
    pub session: SessionKey,
    /// The call's id, once the server has given one.
    pub call: Option<CallId>,
    /// The call's second id, once it has appeared.
    pub leg: Option<CallId>,
    /// When it was dialled.
    pub at: Timestamp,
}

impl RecentDial {
    fn is_recent(&self, now: Timestamp) -> bool {
        (now - self.at).abs() <= DIAL_WINDOW
    }
}

/// What is known outside the call's own log; looked up by the caller's number.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// Recent dials to (or from) the other party's number, oldest first.
    pub dials: Vec<RecentDial>,
    /// The session linked to the number.
    pub link: Option<SessionKey>,
}

/// A number was put into a session by a person or an agent, or is left to the other rules again.
/// Calls that have begun stay where they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Whose calls.
    pub number: E164,
    /// The session from now on; `None`: what the other rules say.
    pub to: Option<SessionKey>,
    /// The session that it was linked to before.
    pub was: Option<SessionKey>,
}

/// What must be remembered under the number before the event is published, so that the other leg
/// finds it. Doing it twice changes nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// The dial at this index has this call.
    Call(usize, CallId),
    /// The dial at this index has this second leg.
    Leg(usize, CallId),
    /// An outbound call that no command made.
    Dialled(RecentDial),
}

impl Claim {
    /// The dials of a number after the claim, at most [`DIALS_PER_NUMBER_MAX`], recent ones only.
    #[must_use]
    pub fn perform(&self, mut dials: Vec<RecentDial>, now: Timestamp) -> Vec<RecentDial> {
        match self {
            Self::Call(index, call) => {
                if let Some(dial) = dials.get_mut(*index) {
                    dial.call = Some(call.clone());
                }
            }
            Self::Leg(index, leg) => {
                if let Some(dial) = dials.get_mut(*index) {
                    dial.leg = Some(leg.clone());
                }
            }
            Self::Dialled(dial) => {
                let known = |other: &RecentDial| other.call.is_some() && other.call == dial.call;
                if !dials.iter().any(known) {
                    dials.push(dial.clone());
                }
            }
        }
        dials.retain(|dial| dial.is_recent(now));
        let surplus = dials.len().saturating_sub(DIALS_PER_NUMBER_MAX);
        dials.drain(..surplus);
        dials
    }
}

/// The answer of the rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolution {
    /// The session.
    pub binding: Binding,
    /// The command behind the call, where one is.
    pub intent: Option<IntentId>,
    /// The other id of the same call, where it is known.
    pub other_leg: Option<CallId>,
    /// What must be remembered.
    pub claim: Option<Claim>,
}

/// Applies rules 2 to 5 to a call that begins. (Rule 1 needs no look-up: the report of the dial
/// names call and session.)
#[must_use]
pub fn resolve(
    call: &CallId,
    direction: Option<Direction>,
    party: Option<&Party>,
    facts: &Facts,
    policy: &Policy,
    now: Timestamp,
) -> Resolution {
    let dials = || {
        facts
            .dials
            .iter()
            .enumerate()
            .filter(|(_, dial)| dial.is_recent(now))
    };
    let with = |rule, dial: &RecentDial, claim: Option<Claim>| of_dial(call, rule, dial, claim);

    if let Some((_, dial)) = dials().find(|(_, dial)| dial.call.as_ref() == Some(call)) {
        let rule = if dial.intent.is_some() {
            Rule::Command
        } else {
            Rule::Scope
        };
        return with(rule, dial, None);
    }
    if let Some((_, dial)) = dials().find(|(_, dial)| dial.leg.as_ref() == Some(call)) {
        return with(Rule::OtherLeg, dial, None);
    }
    match direction {
        Some(Direction::Outbound) => {
            if let Some((index, dial)) = only(dials().filter(|(_, dial)| dial.call.is_none())) {
                return with(
                    Rule::PendingDial,
                    dial,
                    Some(Claim::Call(index, call.clone())),
                );
            }
        }
        Some(Direction::Inbound) => {
            if let Some((index, dial)) = only(dials().filter(|(_, dial)| dial.leg.is_none())) {
                let rule = if dial.call.is_some() {
                    Rule::OtherLeg
                } else {
                    Rule::PendingDial
                };
                return with(rule, dial, Some(Claim::Leg(index, call.clone())));
            }
        }
        None => {}
    }

    // Nobody calls from our own number: such a leg belongs to a dial, and to none when two could be
    // meant. A session of that number would hold the words of everybody whom we call.
    let number = party
        .and_then(Party::number)
        .filter(|number| !policy.own_numbers.contains(number));
    let (key, rule) = match (number, &facts.link, policy.scope) {
        (Some(_), Some(linked), _) => (linked.clone(), Rule::Link),
        (_, _, Scope::Main) => (SessionKey::main(&policy.agent), Rule::Scope),
        (_, _, Scope::PerCall) => (SessionKey::per_call(&policy.agent, call), Rule::Scope),
        (Some(number), None, Scope::PerPhone) => (
            SessionKey::per_phone(&policy.agent, number.digits()),
            Rule::Scope,
        ),
        (None, _, Scope::PerPhone) => {
            (SessionKey::per_call(&policy.agent, call), Rule::Provisional)
        }
    };
    let binding = Binding { key, rule };
    let claim = (direction == Some(Direction::Outbound) && number.is_some()).then(|| {
        Claim::Dialled(RecentDial {
            intent: None,
            session: binding.key.clone(),
            call: Some(call.clone()),
            leg: None,
            at: now,
        })
    });
    Resolution {
        binding,
        intent: None,
        other_leg: None,
        claim,
    }
}

/// Rule 1, where the sender of the call's beginning knows which dial made it (a tap does): no guess
/// by the number, so that two dials to one number are told apart. The session is the one that we
/// have on record; `None` when no such dial is under way.
#[must_use]
pub fn resolve_dial(
    call: &CallId,
    intent: &IntentId,
    facts: &Facts,
    now: Timestamp,
) -> Option<Resolution> {
    let mut dials = facts.dials.iter().enumerate();
    let (index, dial) = dials.find(|(_, dial)| {
        let is_open = dial.call.as_ref().is_none_or(|known| known == call);
        dial.is_recent(now) && is_open && dial.intent.as_ref() == Some(intent)
    })?;
    let claim = Claim::Call(index, call.clone());
    Some(of_dial(call, Rule::Command, dial, Some(claim)))
}

/// A call is one of a dial's.
fn of_dial(call: &CallId, rule: Rule, dial: &RecentDial, claim: Option<Claim>) -> Resolution {
    Resolution {
        binding: Binding {
            key: dial.session.clone(),
            rule,
        },
        intent: dial.intent.clone(),
        other_leg: [&dial.call, &dial.leg]
            .into_iter()
            .flatten()
            .find(|id| *id != call)
            .cloned(),
        claim,
    }
}

/// The one item of an iterator; none when there are several, because a guess between two dials
/// would put one person's words into another's session.
fn only<T>(mut items: impl Iterator<Item = T>) -> Option<T> {
    let first = items.next()?;
    items.next().is_none().then_some(first)
}

#[cfg(test)]
mod tests;
