//! The phone-call server's API, one method for each endpoint that voicebus uses.
//!
//! Every request has a connection of its own, HTTP/1.1, no redirects and no retries: a client that
//! helps by sending again would ring a phone twice.

use std::time::Duration;

use chrono_tz::Tz;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use thiserror::Error;

use super::last_look::{LastLook, LastLookLayer};
use super::wire::{HealthAnswer, IntentSeen, PlaceCall, TapAnswer};
use crate::domain::Timestamp;
use crate::domain::command::{Dial, Verb};
use crate::domain::dial::ANSWER_TIME_MAX;
use crate::domain::ids::{CallId, IntentId};

/// Longest answer to a command that is read; real ones are under 1 kB.
const ANSWER_SIZE_MAX: usize = 64 * 1024;
/// Longest list that is read: v3 never forgets a call (some 150 bytes each), and a history holds
/// hours of speech.
const LIST_SIZE_MAX: usize = 16 * 1024 * 1024;
/// How long a connection may take; for a dial, the last look at its record included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long it may take for anything else.
const ASK_TIMEOUT: Duration = Duration::from_secs(5);

/// How long speaking into a conversation may take: a tap lets the assistant finish for some seconds.
const SPEAK_TIMEOUT: Duration = Duration::from_secs(15);

/// Every answer that went through a tap bears this header.
const TAP_HEADER: &str = "x-voicebus-tap";

/// A client of one phone-call server.
#[derive(Debug, Clone)]
pub struct VoiceServer {
    client: reqwest::Client,
    base: String,
    time_zone: Tz,
    tap_token: Option<reqwest::header::HeaderValue>,
}

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum Error {
    /// The base URL cannot be used.
    #[error("the voice server's URL `{url}` cannot be used: {reason}")]
    Url {
        /// The URL.
        url: String,
        /// Why.
        reason: &'static str,
    },
    /// The token cannot be sent.
    #[error("the tap's token has characters that no header may have")]
    Token,
    /// The HTTP client cannot be made.
    #[error("the HTTP client cannot be made")]
    Client(#[source] reqwest::Error),
    /// Nothing was sent, certainly: there was no connection, or the last look forbade it.
    #[error("nothing was sent to the voice server")]
    NotSent(#[source] reqwest::Error),
    /// The request may have been taken.
    #[error("the voice server's answer was lost")]
    Lost(#[source] reqwest::Error),
    /// The answer is longer than anything the server says.
    #[error("the voice server's answer is longer than anything it says")]
    TooLong,
}

/// An answer, whatever it says.
#[derive(Debug)]
pub(super) struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
    /// Whether it went through a tap, which keeps account of intents.
    pub tapped: bool,
}

/// A tap beside the server (see `docs/tap-contract.md`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tap {
    /// No intent seen since then was forgotten.
    pub complete_since: Timestamp,
    /// Whether it ends calls, also those that are being talked on.
    pub hangs_up: bool,
}

impl VoiceServer {
    /// A client of the server at `base`, for example `http://127.0.0.1:8080`.
    ///
    /// # Errors
    /// When the URL is not a plain `http` or `https` base.
    pub fn new(base: &str) -> Result<Self, Error> {
        let url = |reason| Error::Url {
            url: base.to_owned(),
            reason,
        };
        let parsed = reqwest::Url::parse(base).map_err(|_| url("it is not a URL"))?;
        if !matches!(parsed.scheme(), "http" | "https") {
            return Err(url("only http and https will do"));
        }
        if parsed.query().is_some() || parsed.fragment().is_some() {
            return Err(url("it must not have a query or a fragment"));
        }
        Ok(Self {
            client: client().build().map_err(Error::Client)?,
            base: parsed.as_str().trim_end_matches('/').to_owned(),
            time_zone: Tz::UTC,
            tap_token: None,
        })
    }

    /// The same server, with the token that its tap wants to see.
    ///
    /// # Errors
    /// When the token cannot be sent.
    pub fn with_tap_token(self, token: Option<&str>) -> Result<Self, Error> {
        let tap_token = token
            .map(|token| {
                let mut value = reqwest::header::HeaderValue::try_from(format!("Bearer {token}"))
                    .map_err(|_| Error::Token)?;
                value.set_sensitive(true);
                Ok(value)
            })
            .transpose()?;
        Ok(Self { tap_token, ..self })
    }

    /// The same server, with the zone of its times: it does not say which that is.
    #[must_use]
    pub fn in_time_zone(self, time_zone: Tz) -> Self {
        Self { time_zone, ..self }
    }

    pub(super) fn time_zone(&self) -> Tz {
        self.time_zone
    }

    /// `POST /call`: rings a phone, each time. `last_look` is had when there is a connection and
    /// nothing was written to it.
    pub(super) async fn place_call(
        &self,
        dial: &Dial,
        last_look: LastLook,
    ) -> Result<Answer, Error> {
        let body = PlaceCall {
            to: dial.to.as_str(),
            caller_id: dial.caller_id.as_ref().map(|number| number.as_str()),
            message: dial.message.as_deref(),
        };
        let session = utf8_percent_encode(dial.session.as_str(), NON_ALPHANUMERIC);
        // A client of its own, so that its connections are nobody else's.
        let mut client = client().connector_layer(LastLookLayer(last_look));
        if self.base.starts_with("http:") {
            // Nothing looks at a certificate then, and reading those of the machine takes longer
            // than all that comes before the request.
            client = client.tls_certs_only(std::iter::empty());
        }
        let client = client.build().map_err(Error::Client)?;
        let request = client
            .post(format!("{}/call", self.base))
            .header("X-Intent-Id", dial.intent.as_str())
            .header("X-Intent-Deadline", dial.deadline.to_rfc3339())
            .header("X-Session-Key", session.to_string())
            .timeout(ANSWER_TIME_MAX.to_std().unwrap_or_default())
            .json(&body);
        send(self.with_token(request)).await
    }

    /// `GET /voicebus/tap`: whether there is a tap that keeps account of intents.
    pub(super) async fn tap(&self) -> Result<Option<Tap>, Error> {
        let answer = self.ask_tap("tap").await?;
        if answer.status != 200 || !answer.tapped {
            return Ok(None);
        }
        let tap: Option<TapAnswer> = serde_json::from_slice(&answer.body).ok();
        Ok(tap.filter(|tap| tap.can("intents")).map(|tap| Tap {
            complete_since: tap.complete_since,
            hangs_up: tap.can("hangup"),
        }))
    }

    /// `GET /voicebus/intents/{id}`: what the tap knows of an intent; `None` when it does not say.
    pub(super) async fn intent(&self, intent: &IntentId) -> Result<Option<IntentSeen>, Error> {
        let answer = self.ask_tap(&format!("intents/{intent}")).await?;
        let is_answer = answer.status == 200 && answer.tapped;
        Ok(is_answer
            .then(|| serde_json::from_slice(&answer.body).ok())
            .flatten())
    }

    /// `POST /voicebus/calls/{id}/hangup`: ends a call, whether or not it was picked up.
    pub(super) async fn hang_up(&self, call: &CallId, id: &IntentId) -> Result<Answer, Error> {
        let request = self
            .client
            .post(format!("{}/voicebus/calls/{call}/hangup", self.base))
            .header("X-Command-Id", id.as_str())
            .timeout(ASK_TIMEOUT)
            .json(&serde_json::json!({}));
        send(self.with_token(request)).await
    }

    /// `POST /voicebus/calls/{id}/say` and `…/context`: speaks into a conversation, once per `id`.
    pub(super) async fn speak_into(
        &self,
        call: &CallId,
        verb: Verb,
        id: &IntentId,
        deadline: Timestamp,
        body: &serde_json::Value,
    ) -> Result<Answer, Error> {
        let verb = verb.as_str();
        let request = self
            .client
            .post(format!("{}/voicebus/calls/{call}/{verb}", self.base))
            .header("X-Command-Id", id.as_str())
            .header("X-Command-Deadline", deadline.to_rfc3339())
            .timeout(SPEAK_TIMEOUT)
            .json(body);
        send(self.with_token(request)).await
    }

    async fn ask_tap(&self, path: &str) -> Result<Answer, Error> {
        let request = self
            .client
            .get(format!("{}/voicebus/{path}", self.base))
            .timeout(ASK_TIMEOUT);
        // The answer of the server in it, as JSON text in JSON.
        send_for(self.with_token(request), 4 * ANSWER_SIZE_MAX).await
    }

    /// Shows who asks: a tap may guard its own routes, and those of the server that tell of calls.
    fn with_token(&self, request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
        match &self.tap_token {
            Some(token) => request.header(reqwest::header::AUTHORIZATION, token.clone()),
            None => request,
        }
    }

    /// `DELETE /call/{id}`: takes a call back that has not been picked up.
    pub(super) async fn cancel_call(&self, call: &CallId) -> Result<Answer, Error> {
        let call = utf8_percent_encode(call.as_str(), NON_ALPHANUMERIC);
        let request = self
            .client
            .delete(format!("{}/call/{call}", self.base))
            .timeout(ASK_TIMEOUT);
        send(self.with_token(request)).await
    }

    /// `GET /calls`: the calls that the server has.
    pub(super) async fn list_calls(&self) -> Result<Answer, Error> {
        self.read("calls").await
    }

    /// `GET /history`: the latest outbound calls that the server remembers; v3 remembers nothing.
    pub(super) async fn history(&self) -> Result<Answer, Error> {
        self.read("history?call_type=outbound&limit=100").await
    }

    /// `GET /history/{id}/transcript`: what the server remembers of a call; v3 remembers nothing.
    pub(super) async fn transcript(&self, call: &CallId) -> Result<Answer, Error> {
        let call = utf8_percent_encode(call.as_str(), NON_ALPHANUMERIC);
        self.read(&format!("history/{call}/transcript")).await
    }

    async fn read(&self, path: &str) -> Result<Answer, Error> {
        let request = self
            .client
            .get(format!("{}/{path}", self.base))
            .timeout(ASK_TIMEOUT);
        send_for(self.with_token(request), LIST_SIZE_MAX).await
    }

    /// `GET /health`: whether the server is well, and which version speaks.
    pub(super) async fn health(&self) -> Result<Option<&'static str>, Error> {
        let answer = send(
            self.client
                .get(format!("{}/health", self.base))
                .timeout(ASK_TIMEOUT),
        )
        .await?;
        Ok(version(&answer))
    }
}

/// A client that neither repeats nor follows anything, and uses each connection once.
fn client() -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .http1_only()
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .pool_max_idle_per_host(0)
        .no_proxy()
        .connect_timeout(CONNECT_TIMEOUT)
        .user_agent(concat!("voicebus/", env!("CARGO_PKG_VERSION")))
}

/// The version that a healthy `/health` answer shows; `None` when it is none.
fn version(answer: &Answer) -> Option<&'static str> {
    let health: HealthAnswer = serde_json::from_slice(&answer.body).ok()?;
    if answer.status != 200 || health.status != "ok" {
        return None;
    }
    Some(match (health.architecture, health.tools_enabled) {
        (Some(_), _) => "v3",
        (None, Some(_)) => "v2",
        (None, None) => "v1",
    })
}

async fn send(request: reqwest::RequestBuilder) -> Result<Answer, Error> {
    send_for(request, ANSWER_SIZE_MAX).await
}

async fn send_for(request: reqwest::RequestBuilder, size_max: usize) -> Result<Answer, Error> {
    let mut response = request.send().await.map_err(|error| {
        // `is_connect` covers names, refused connections and TLS: no byte of the request was sent.
        if error.is_connect() || error.is_builder() {
            Error::NotSent(error)
        } else {
            Error::Lost(error)
        }
    })?;
    let status = response.status().as_u16();
    let tapped = response.headers().contains_key(TAP_HEADER);
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(Error::Lost)? {
        if body.len() + chunk.len() > size_max {
            return Err(Error::TooLong);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Answer {
        status,
        body,
        tapped,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_shows_in_the_health_answer() {
        let of = |body: &str| {
            version(&Answer {
                status: 200,
                body: body.as_bytes().to_vec(),
                tapped: false,
            })
        };
        assert_eq!(
            of(r#"{"status":"ok","agent":"Nia","active_calls":16,"config_loaded":true}"#),
            Some("v1")
        );
        assert_eq!(
            of(r#"{"status":"ok","agent":"Nia","tools_enabled":true,"tool_count":1}"#),
            Some("v2")
        );
        assert_eq!(
            of(r#"{"status":"ok","architecture":"twilio-media-streams + openai-realtime"}"#),
            Some("v3")
        );
        assert_eq!(of(r#"{"status":"down"}"#), None);
        assert_eq!(of("<html>"), None);
    }

    #[test]
    fn only_plain_http_bases_are_taken() {
        for bad in [
            "",
            "127.0.0.1:8080",
            "ftp://h",
            "http://h/?a=b",
            "file:///etc/passwd",
        ] {
            assert!(VoiceServer::new(bad).is_err(), "{bad}");
        }
    }
}
