//! Who may come in by which door: bearer tokens or signatures for our own senders, a token in the path
//! for those that can do neither, the vendors' signatures; and how often.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use serde::Deserialize;
use tracing::{error, warn};

use super::Ingress;
use super::body::ContentType;
use super::verify::standard_webhooks::Key;
use super::verify::{Refusal, own_hmac, twilio};
use crate::domain::Timestamp;
use crate::http::Error;
use crate::http::auth::{Tokens, unauthorized};
use crate::http::rate::{Limits, Sender};

/// What opens one kind of door: any of the tokens, or a signature with any of the keys.
#[derive(Debug, Clone, Default)]
pub struct Door {
    /// Bearer tokens.
    pub tokens: Tokens,
    /// Keys to sign with.
    pub keys: Arc<[Key]>,
}

impl Door {
    /// Whether everybody may come in. Only a loopback door may be so.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.tokens.is_open() && self.keys.is_empty()
    }

    /// What opens a door beside this one that takes tokens only. It is not open to everybody just
    /// because this one is opened by signatures alone.
    #[must_use]
    pub fn tokens_only(&self) -> Tokens {
        if self.tokens.is_open() && !self.keys.is_empty() {
            Tokens::of_nobody()
        } else {
            self.tokens.clone()
        }
    }
}

/// All doors of an ingress.
#[derive(Debug, Clone, Default)]
pub struct Doors {
    /// For events.
    pub events: Door,
    /// For events of senders whose address is all that can be set; none closes that way.
    pub events_by_path: Tokens,
    /// For commands.
    pub commands: Door,
    /// For reading.
    pub reading: Door,
    /// OpenAI's signing keys; none closes its door.
    pub openai: Arc<[Key]>,
    /// Twilio's.
    pub twilio: Option<Twilio>,
    /// How often anybody may knock.
    pub limits: Limits,
}

/// Twilio's door.
#[derive(Debug, Clone)]
pub struct Twilio {
    /// How its signatures are made.
    pub scheme: twilio::Scheme,
    /// Our account; with `None` the secret alone says whose callbacks they are.
    pub account: Option<String>,
}

/// How often the log is told of a clock that is wrong.
const SKEW_TOLD_EVERY: Duration = Duration::from_secs(60);

/// All that sign with a key of ours have one share: there is one call server.
const SIGNED: Sender = Sender(0);

/// What time it is.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Timestamp + Send + Sync>);

impl Clock {
    /// The time that `now` tells.
    pub fn new(now: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    pub(super) fn now(&self) -> Timestamp {
        (self.0)()
    }
}

/// The id that a signed request gives what it tells of.
#[derive(Debug, Clone)]
pub(super) struct SignedId(pub String);

/// Bounds how often one address may knock at all.
pub(super) async fn not_too_often(
    State(ingress): State<Ingress>,
    request: Request,
    next: Next,
) -> Result<Response, Error> {
    ingress.counted(ingress.settings.doors.limits.check_peer(&request))?;
    Ok(next.run(request).await)
}

/// Lets in who shows a token of the door, or has signed with one of its keys.
pub(super) async fn only_by(
    State((ingress, door)): State<(Ingress, Door)>,
    request: Request,
    next: Next,
) -> Result<Response, Error> {
    if door.is_open() {
        return Ok(next.run(request).await);
    }
    if !door.keys.is_empty() && own_hmac::is_claimed(request.headers()) {
        let (request, sender) = ingress.signed(&door.keys, request).await?;
        ingress.settings.doors.limits.check_sender(sender)?;
        return Ok(next.run(request).await);
    }
    let sender = door.tokens.check(request.headers())?;
    ingress.settings.doors.limits.check_sender(sender)?;
    Ok(next.run(request).await)
}

#[derive(Deserialize)]
pub(super) struct InPath {
    token: String,
}

/// Lets in who has a token in its path: the phone-call server's own emitter can be told where to send
/// to, but not what to send along.
pub(super) async fn only_by_path(
    State(ingress): State<Ingress>,
    path: Result<Path<InPath>, PathRejection>,
    request: Request,
    next: Next,
) -> Result<Response, Error> {
    let doors = &ingress.settings.doors;
    // Nothing is to be learned from the answer: with a wrong token there is nothing at this path.
    let known = path
        .ok()
        .and_then(|Path(InPath { token })| doors.events_by_path.find(token.as_bytes()).ok());
    let sender = known.ok_or_else(super::routes::nothing_there)?;
    doors.limits.check_sender(sender)?;
    Ok(next.run(request).await)
}

impl Ingress {
    /// The request again, once its signature is believed.
    async fn signed(&self, keys: &[Key], request: Request) -> Result<(Request, Sender), Error> {
        let (mut parts, body) = request.into_parts();
        let read = self.bodies.read(&parts.headers, body, ContentType::Any);
        let body = self.counted(read.await)?;
        let target = (&parts.method, &parts.uri);
        let now = self.settings.clock.now();
        let verified = own_hmac::verify(keys, target, &parts.headers, &body, now);
        let id = verified.map_err(|refusal| self.refuse("own", &parts.headers, refusal))?;
        if parts.method == Method::POST {
            let id = id.get().as_str();
            self.stands_for(id, &body).await?;
            let id = SignedId(id.to_owned());
            parts.extensions.insert(id);
        }
        let request = Request::from_parts(parts, Body::from(body.clone()));
        Ok((request, SIGNED))
    }

    /// All signed webhooks are refused while a clock is wrong, which is worth a loud word, but not
    /// one for each.
    fn tell_of_skew(&self, scheme: &'static str, seconds: i64) {
        self.counters.stale.fetch_add(1, Ordering::Relaxed);
        let told = self.skew_told.lock();
        let mut told = told.unwrap_or_else(PoisonError::into_inner);
        if told.is_none_or(|at| at.elapsed() >= SKEW_TOLD_EVERY) {
            *told = Some(Instant::now());
            error!(
                scheme,
                seconds,
                "a request with a good signature is refused because it was signed at another time: set the clock of this machine, or of the sender"
            );
        }
    }

    /// Tells the log why, and the sender no more than that.
    pub(super) fn refuse(
        &self,
        scheme: &'static str,
        headers: &HeaderMap,
        refusal: Refusal,
    ) -> Error {
        self.counters.unverified.fetch_add(1, Ordering::Relaxed);
        // Whoever cannot sign can still write an id; only one that is well formed is worth a line.
        let id = headers.get(super::verify::standard_webhooks::ID);
        let id = id
            .filter(|_| scheme != "twilio")
            .and_then(|id| id.to_str().ok())
            .filter(|id| {
                id.len() <= 128
                    && id
                        .bytes()
                        .all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
            });
        match refusal {
            Refusal::Stale(away) => self.tell_of_skew(scheme, away),
            _ => warn!(scheme, id, %refusal, "signature refused"),
        }
        if refusal.is_malformed() {
            return Error::new(
                StatusCode::BAD_REQUEST,
                "malformed_signature",
                "the headers or the body of this request cannot be read in one way only",
            );
        }
        match scheme {
            "twilio" => Error::new(StatusCode::FORBIDDEN, "not_signed", NOT_SIGNED),
            "openai" => Error::new(StatusCode::UNAUTHORIZED, "not_signed", NOT_SIGNED),
            _ => unauthorized(),
        }
    }
}

/// The same words for every reason.
const NOT_SIGNED: &str = "the request is not signed with a key that is known here";
