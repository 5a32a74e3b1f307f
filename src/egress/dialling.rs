//! Carrying one dial as far as it will go: tell the domain what happened, store what it decides,
//! do what it says, and tell the domain what came of that.

use std::time::Duration;

use tracing::{debug, warn};

use super::clock::Clock;
use super::flight::{Flights, Hold};
use super::gate::{Gate, Permit};
use super::guards::{Counted, Guards, Stop};
use super::high_water::HighWater;
use super::intent::{Found, Intents};
use super::reconcile::Reconciler;
use super::room::{RECORDS_FULL, Room};
use super::tell::Teller;
use crate::bus::bucket::Error as BucketError;
use crate::bus::trouble::Trouble;
use crate::crash_point;
use crate::domain::command::{Dial, Reason};
use crate::domain::dial::{
    Attempt, Happened, Meaning, Record, Resolution, State, Then, Wish, next,
};
use crate::domain::guard::Refusal;
use crate::domain::ids::IntentId;

/// Lost races for one record in one go; more means something is wrong.
const RACES_MAX: u32 = 16;
/// Pause before a dial that something holds up is tried again, at first; it grows with each try.
const PAUSE_FIRST: Duration = Duration::from_millis(500);
/// The longest such pause: what was in the way may be gone.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// The shortest, at the deadline.
const PAUSE_MIN: Duration = Duration::from_millis(50);
/// Pause before the traces of a dial are looked for again.
const LOOK_PAUSE: Duration = Duration::from_secs(3);

/// The dial with the deadline that is on record: a command that comes again under the same name
/// brings no later one.
fn as_first_asked(dial: &Dial, record: Option<&Record>) -> Dial {
    let wish = record.and_then(|record| record.wish.as_ref());
    Dial {
        deadline: wish.map_or(dial.deadline, |wish| wish.deadline.min(dial.deadline)),
        ..dial.clone()
    }
}

/// Everything that a dial needs.
#[derive(Clone)]
pub(super) struct Dialling {
    pub intents: Intents,
    pub flights: Flights,
    pub guards: Guards,
    pub gate: Gate,
    pub room: Room,
    pub clock: Clock,
    pub high_water: HighWater,
    pub reconciler: Reconciler,
    pub teller: Teller,
}

/// How a dial was left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Left {
    /// Nothing more is to be done for what happened.
    Done,
    /// It must come again, not before this time has passed.
    Again(Duration),
    /// Another dial has its name.
    Conflict,
}

/// One arrival of something that concerns a dial.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrival<'a> {
    pub intent: &'a IntentId,
    /// What is to be dialled, where the arrival says so.
    pub dial: Option<&'a Dial>,
    /// The number of the command in its stream.
    pub sequence: u64,
    /// How often it has come.
    pub attempt: u64,
}

/// What is at hand between two decisions.
#[derive(Default)]
pub(super) struct Hand {
    pub permit: Option<Permit>,
    counted: Option<Counted>,
    number: Option<Hold>,
    /// The number that the record of the attempt must be above.
    pub floor: u64,
    was_unknown: bool,
}

impl Dialling {
    /// The command of a dial has come, for the first time or again.
    pub async fn asked(&self, arrival: Arrival<'_>, wish: Wish) -> Result<Left, Trouble> {
        self.carry(arrival, Happened::Asked(wish)).await
    }

    /// Somebody takes a dial back.
    pub async fn cancelled(&self, arrival: Arrival<'_>) -> Result<Left, Trouble> {
        self.carry(arrival, Happened::Cancelled).await
    }

    /// A person says what became of a dial.
    pub async fn resolved(
        &self,
        arrival: Arrival<'_>,
        resolution: Resolution,
    ) -> Result<Left, Trouble> {
        self.carry(arrival, Happened::Resolved(resolution)).await
    }

    /// The command of a dial is in the dead letters.
    pub async fn given_up(&self, arrival: Arrival<'_>, reason: Reason) -> Result<Left, Trouble> {
        self.carry(arrival, Happened::GivenUp(reason)).await
    }

    async fn carry(&self, arrival: Arrival<'_>, first: Happened) -> Result<Left, Trouble> {
        let mut hand = Hand::default();
        let left = self.carry_on(arrival, first, &mut hand).await;
        drop(hand.permit.take());
        if let Some(counted) = hand.counted.take() {
            told(self.not_sent_here(arrival.intent, counted).await);
        }
        if let Some(hold) = hand.number.take() {
            self.let_go(arrival.intent, hold).await;
            crash_point::pass("egress.after_let_go");
        }
        left
    }

    async fn carry_on(
        &self,
        arrival: Arrival<'_>,
        first: Happened,
        hand: &mut Hand,
    ) -> Result<Left, Trouble> {
        let intent = arrival.intent;
        let mut found = self.intents.find(intent).await?;
        let mut happened = self.unsent(&found).unwrap_or(first);
        let mut races = 0;
        loop {
            hand.was_unknown |= matches!(found.state(), Some(State::Unknown { .. }));
            let decision = next(found.record.as_ref(), &happened, self.clock.now());
            if let Some(record) = decision.record {
                hand.floor = self.high_water.floor();
                match self.store(intent, &found, record, decision.then).await {
                    Ok(stored) => found = stored,
                    Err(BucketError::Conflict { .. }) if races < RACES_MAX => {
                        races += 1;
                        found = self.intents.find_at_leader(intent).await?;
                        continue;
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            let recorded = found.record.as_ref();
            happened = match (decision.then, arrival.dial) {
                (Then::Prepare, Some(dial)) => {
                    let is_new = matches!(found.state(), Some(State::Waiting { reason: None }));
                    let (told, prepared) =
                        tokio::join!(self.tell_accepted(dial, is_new), self.prepare(dial, hand));
                    told?;
                    prepared?
                }
                (Then::Send, Some(dial)) => {
                    let counted = hand.counted.take();
                    let dial = &as_first_asked(dial, found.record.as_ref());
                    let happened = self.send(dial, &found, arrival.sequence, hand).await?;
                    self.count_again(&happened, counted).await;
                    if matches!(happened, Happened::NotSent { .. }) {
                        // Else the next call to that number, whoever makes it, is taken for this one.
                        told(self.reconciler.recent.forget(dial).await);
                    }
                    happened
                }
                (Then::Look, Some(dial)) => match found.state() {
                    Some(State::Unknown { attempt, .. }) => {
                        let attempt = attempt.clone();
                        drop(hand.permit.take());
                        Happened::Looked(self.reconciler.look(dial, &attempt).await?)
                    }
                    _ => return Ok(Left::Again(LOOK_PAUSE)),
                },
                (Then::Tell, _) => {
                    self.tell_record(arrival, recorded, hand).await?;
                    return Ok(Left::Done);
                }
                (Then::TellAndLookAgain, _) => {
                    self.tell_record(arrival, recorded, hand).await?;
                    return Ok(Left::Again(LOOK_PAUSE));
                }
                (Then::ComeAgain, _) => {
                    return Ok(Left::Again(self.pause(arrival.attempt, recorded)));
                }
                (Then::Conflict, _) => return Ok(Left::Conflict),
                (Then::Nothing, _) => return Ok(Left::Done),
                (Then::Prepare | Then::Send | Then::Look, None) => {
                    return Err(Trouble::Own("a dial without its command".to_owned()));
                }
            };
        }
    }

    /// An attempt of this process that is on record as sent, and is known not to have left.
    fn unsent(&self, found: &Found) -> Option<Happened> {
        let (State::Sending(attempt) | State::Unknown { attempt, .. }) = found.state()? else {
            return None;
        };
        self.intents
            .is_unsent(&attempt.nonce)
            .then(|| Happened::NotSent {
                nonce: attempt.nonce.clone(),
                reason: Reason::new("not-sent", "the request was not sent"),
            })
    }

    async fn store(
        &self,
        intent: &IntentId,
        found: &Found,
        record: Record,
        then: Then,
    ) -> Result<Found, BucketError> {
        let sending = match &record.state {
            State::Sending(attempt) if then == Then::Send => Some(attempt.nonce.clone()),
            _ => None,
        };
        if sending.is_some() {
            crash_point::pass("egress.before_record");
        }
        let stored = self.intents.write(intent, found, record).await;
        match (&stored, sending) {
            (Ok(_), Some(_)) => crash_point::pass("egress.after_record"),
            (Ok(_), None) => {
                if let Some(State::Sending(attempt)) = found.state() {
                    self.intents.forget_unsent(&attempt.nonce);
                    crash_point::pass("egress.after_outcome");
                }
            }
            // It may be on record; then it looks as if it had been sent.
            (Err(BucketError::Away { .. }), Some(nonce)) => self.intents.did_not_leave(&nonce),
            (Err(_), _) => {}
        }
        stored
    }

    /// Everything that comes before the record of the attempt. What is asked here may say no.
    async fn prepare(&self, dial: &Dial, hand: &mut Hand) -> Result<Happened, Trouble> {
        if let Err(refusal) = self.guards.look_at(dial, self.clock.now()) {
            return Ok(forbidden(refusal));
        }
        if self.room.is_used_up() {
            return Ok(never(RECORDS_FULL));
        }
        if let Some(reason) = self.gate.closed() {
            return Ok(Happened::HeldUp(reason));
        }
        let now = self.clock.now();
        let Some(hold) = self.flights.take(&dial.to, &dial.intent, now).await? else {
            return Ok(Happened::HeldUp(Reason::new(
                "number-busy",
                "another call to the same number is being placed",
            )));
        };
        hand.number = Some(hold);
        crash_point::pass("egress.after_number");
        // After the number: those that wait for a busy one take nobody's place.
        match self.gate.admit() {
            Ok(permit) => hand.permit = Some(permit),
            Err(reason) => return Ok(Happened::HeldUp(reason)),
        }
        let calls_before = match self.reconciler.calls_before(dial).await {
            Ok(calls) => calls,
            Err(reason) => return Ok(Happened::HeldUp(reason)),
        };
        // Two writes that wait for the disk at the same time. One that is refused is forgotten when
        // that is told.
        let (counted, remembered) = tokio::join!(
            self.guards.count(dial, self.clock.now()),
            self.reconciler.recent.remember(dial, None, now),
        );
        match counted {
            Ok(counted) => hand.counted = Some(counted),
            Err(Stop::Refused(refusal)) => return Ok(forbidden(refusal)),
            Err(Stop::Unreadable) => return Ok(never(LIMITS_UNREADABLE)),
            Err(Stop::Trouble(trouble)) => return Err(trouble),
        }
        remembered?;
        Ok(Happened::Ready(Attempt {
            nonce: uuid::Uuid::new_v4().simple().to_string(),
            at: self.clock.now(),
            calls_before,
        }))
    }

    /// A dial is counted once for all workers that prepare it. One that did not come to send it
    /// gives it back, unless another one did: then a phone rang.
    async fn not_sent_here(&self, intent: &IntentId, counted: Counted) -> Result<(), Trouble> {
        let found = self.intents.find_at_leader(intent).await?;
        match found.state() {
            Some(
                State::Sending(_)
                | State::Unknown { .. }
                | State::Confirmed { .. }
                | State::Abandoned { .. },
            ) => Ok(()),
            _ => self.guards.give_back(counted).await,
        }
    }

    /// What a dial counts for once it is known what became of it.
    async fn count_again(&self, happened: &Happened, counted: Option<Counted>) {
        let Some(counted) = counted else { return };
        match happened {
            Happened::NotSent { .. } => told(self.guards.give_back(counted).await),
            Happened::Answered {
                meaning: Meaning::Refused(_),
                ..
            } => told(self.guards.no_call(counted).await),
            // A phone rings, or may.
            _ => {}
        }
    }

    /// Tells what the record says, and keeps what is remembered beside it in step.
    async fn tell_record(
        &self,
        arrival: Arrival<'_>,
        record: Option<&Record>,
        hand: &Hand,
    ) -> Result<(), Trouble> {
        let Some(record) = record else { return Ok(()) };
        let intent = arrival.intent;
        let of_record = record.wish.as_ref().map(|wish| dial_of(intent, wish));
        let Some(dial) = arrival.dial.or(of_record.as_ref()) else {
            debug!(intent.id = %intent, "nobody has asked for this dial yet");
            return Ok(());
        };
        tokio::try_join!(
            self.keep_in_step(dial, &record.state),
            self.teller.dial(dial, &record.state),
        )?;
        if record.state.is_final() && (hand.was_unknown || arrival.attempt > 1) {
            self.intents.strike(intent).await?;
        }
        crash_point::pass("egress.after_tell");
        Ok(())
    }

    /// What is remembered of the number, and the list of dials that wait for a person.
    async fn keep_in_step(&self, dial: &Dial, state: &State) -> Result<(), Trouble> {
        let recent = &self.reconciler.recent;
        let remembered = match state {
            State::Confirmed { call } => recent.remember(dial, Some(call), self.clock.now()).await,
            State::Unknown { settled, .. } => {
                if *settled {
                    warn!(intent.id = %dial.intent, "a person must say what became of this dial: `voicebus call resolve`");
                }
                return Ok(self.intents.list(&dial.intent).await?);
            }
            state if state.is_final() => recent.forget(dial).await,
            _ => Ok(()),
        };
        match remembered {
            // It can cost the call its session, and must not cost anybody the outcome.
            Err(Trouble::Own(reason)) => {
                warn!(intent.id = %dial.intent, reason, "what is remembered of the number is left as it is");
                Ok(())
            }
            other => other,
        }
    }

    async fn tell_accepted(&self, dial: &Dial, is_new: bool) -> Result<(), Trouble> {
        if is_new {
            self.teller
                .dial(dial, &State::Waiting { reason: None })
                .await?;
        }
        Ok(())
    }

    /// Longer with each try, and never past the deadline, so that it is told in time.
    fn pause(&self, attempt: u64, record: Option<&Record>) -> Duration {
        let tries = u32::try_from(attempt.max(1)).unwrap_or(u32::MAX);
        let pause = PAUSE_FIRST.saturating_mul(tries).min(PAUSE_MAX);
        let Some(wish) = record.and_then(|record| record.wish.as_ref()) else {
            return pause;
        };
        let left = (wish.deadline - self.clock.now()).to_std();
        pause.min(left.unwrap_or_default().max(PAUSE_MIN))
    }

    /// Lets go of the number unless the dial may still ring it. In vain it is let go of by whoever
    /// wants it next.
    async fn let_go(&self, intent: &IntentId, hold: Hold) {
        let released = async {
            let found = self.intents.find_at_leader(intent).await?;
            if found.state().is_some_and(State::holds_number) {
                return Ok(());
            }
            self.flights.release(hold, self.clock.now()).await
        };
        if let Err(trouble) = released.await {
            debug!(reason = trouble.reason(), "number not let go of");
        }
    }
}

/// What keeps dials from being counted, for programs and for people.
const LIMITS_UNREADABLE: (&str, &str) = (
    "limits-unreadable",
    "the record of how often was dialled lately cannot be read, so nothing is dialled until an operator has removed it",
);

/// Nothing of the wish is wrong, and waiting would not help.
fn never((code, text): (&str, &str)) -> Happened {
    Happened::Forbidden {
        reason: Reason::new(code, text),
        passes_at: None,
    }
}

fn forbidden(refusal: Refusal) -> Happened {
    Happened::Forbidden {
        passes_at: refusal.passes_at,
        reason: refusal.into(),
    }
}

/// A dial that is counted though it need not be makes others wait a little; no more comes of it.
fn told(counted: Result<(), Trouble>) {
    if let Err(trouble) = counted {
        warn!(reason = trouble.reason(), "a dial counts that need not");
    }
}

/// What the record knows of a dial, when its command is not at hand.
fn dial_of(intent: &IntentId, wish: &Wish) -> Dial {
    Dial {
        intent: intent.clone(),
        to: wish.to.clone(),
        caller_id: None,
        message: None,
        context: None,
        session: wish.session.clone(),
        deadline: wish.deadline,
    }
}
