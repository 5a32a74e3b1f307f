//! Who may come in: tokens, keys, the vendors' webhooks, and how often anybody may knock.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;

use ipnet::IpNet;

use super::secret::{Reader, Secret};
use super::{Overrides, Wanted};
use crate::http::auth::Tokens;
use crate::http::rate::Limits;
use crate::ingress::door::{Door, Doors, Twilio};
use crate::ingress::verify::standard_webhooks::Key;
use crate::ingress::verify::twilio::{Algorithm, PublicUrl, Scheme, Token};

/// Shortest token that is taken: 16 characters of a random generator cannot be guessed.
const TOKEN_LENGTH_MIN: usize = 16;

/// Where Twilio's callbacks come in, below the public URL.
const TWILIO_PATH: &str = "/webhook/twilio";

/// The settings as texts.
pub(super) struct Texts {
    rate_per_address: Option<String>,
    rate_per_sender: Option<String>,
    trusted_proxies: Option<String>,
    public_url: Option<String>,
    twilio_account: Option<String>,
    twilio_algorithm: Option<String>,
}

impl Texts {
    pub fn take(
        mut setting: impl FnMut(&str, &str, &Option<String>) -> Option<String>,
        overrides: &Overrides,
    ) -> Self {
        Self {
            rate_per_address: setting("http", "rate_per_address", &None),
            rate_per_sender: setting("http", "rate_per_sender", &None),
            trusted_proxies: setting("http", "trusted_proxies", &None),
            public_url: setting("webhooks", "public_url", &overrides.public_url),
            twilio_account: setting("webhooks", "twilio_account", &overrides.twilio_account),
            twilio_algorithm: setting("webhooks", "twilio_algorithm", &None),
        }
    }

    pub fn read(
        self,
        secrets: Secrets,
        listen: Option<SocketAddr>,
        wanted: &mut Wanted<'_>,
    ) -> Option<Doors> {
        let rate = |text: &str| match text {
            "off" => Some(None),
            text => text.parse::<NonZeroU32>().ok().map(Some),
        };
        let said = "a number of requests per second, or off";
        let per_address = wanted.parsed("http.rate_per_address", self.rate_per_address, said, rate);
        let per_sender = wanted.parsed("http.rate_per_sender", self.rate_per_sender, said, rate);
        let trusted = wanted.parsed(
            "http.trusted_proxies",
            self.trusted_proxies,
            "addresses or networks like 10.0.0.0/8, separated by commas",
            |text| {
                let list = text.split(',').map(str::trim).filter(|one| !one.is_empty());
                list.map(network).collect::<Option<Vec<_>>>()
            },
        );
        let algorithm = wanted.parsed(
            "webhooks.twilio_algorithm",
            self.twilio_algorithm,
            "hmac-sha1 or hmac-sha256",
            Algorithm::parse,
        );
        let url = self.public_url.filter(|url| !url.is_empty());
        let url = url.and_then(|url| match PublicUrl::parse(&url) {
            Ok(url) => Some(url.with_path(TWILIO_PATH)),
            Err(error) => {
                let mistake = format!("webhooks.public_url is `{url}`, but {error}");
                wanted.mistakes.push(mistake);
                None
            }
        });
        let account = self.twilio_account.filter(|account| !account.is_empty());
        let doors = [
            ("VOICEBUS_EVENT", &secrets.events),
            ("VOICEBUS_COMMAND", &secrets.commands),
            ("VOICEBUS_READ", &secrets.reading),
        ]
        .map(|(name, secrets)| secrets.door(name, listen, wanted));
        fit(EVENT_PATH_TOKEN, &secrets.events_by_path, wanted);
        let openai = keys(OPENAI_SECRET, &secrets.openai, wanted);
        let twilio = match (secrets.twilio.is_empty(), url) {
            (true, _) => None,
            (false, None) => {
                wanted.mistakes.push(format!(
                    "{TWILIO_TOKEN} is set, but webhooks.public_url is not; Twilio signs the URL that it was given"
                ));
                None
            }
            (false, Some(url)) => Some(Twilio {
                scheme: Scheme {
                    tokens: secrets
                        .twilio
                        .iter()
                        .map(|token| Token::new(token.reveal()))
                        .collect(),
                    algorithm: algorithm?,
                    url,
                },
                account,
            }),
        };
        let [events, commands, reading] = doors;
        Some(Doors {
            events,
            events_by_path: tokens(&secrets.events_by_path),
            commands,
            reading,
            openai,
            twilio,
            limits: Limits::new(per_address?, per_sender?, trusted?),
        })
    }
}

const OPENAI_SECRET: &str = "VOICEBUS_OPENAI_WEBHOOK_SECRET";
const TWILIO_TOKEN: &str = "VOICEBUS_TWILIO_AUTH_TOKEN";
const EVENT_PATH_TOKEN: &str = "VOICEBUS_EVENT_PATH_TOKEN";

/// What opens the doors.
pub(super) struct Secrets {
    events: Pair,
    events_by_path: Vec<Secret>,
    commands: Pair,
    reading: Pair,
    openai: Vec<Secret>,
    twilio: Vec<Secret>,
}

impl Secrets {
    pub fn read(from: &mut Reader<'_>) -> Self {
        Self {
            events: Pair::read(from, "VOICEBUS_EVENT"),
            events_by_path: from.list(EVENT_PATH_TOKEN),
            commands: Pair::read(from, "VOICEBUS_COMMAND"),
            reading: Pair::read(from, "VOICEBUS_READ"),
            openai: from.list(OPENAI_SECRET),
            twilio: from.list(TWILIO_TOKEN),
        }
    }
}

/// What opens one kind of door.
struct Pair {
    tokens: Vec<Secret>,
    keys: Vec<Secret>,
}

impl Pair {
    fn read(from: &mut Reader<'_>, name: &str) -> Self {
        Self {
            tokens: from.list(&format!("{name}_TOKEN")),
            keys: from.list(&format!("{name}_SECRET")),
        }
    }

    /// A door that others can reach needs something that cannot be guessed.
    fn door(&self, name: &str, listen: Option<SocketAddr>, wanted: &mut Wanted<'_>) -> Door {
        fit(&format!("{name}_TOKEN"), &self.tokens, wanted);
        if let Some(listen) = listen
            && !listen.ip().is_loopback()
            && self.tokens.is_empty()
            && self.keys.is_empty()
        {
            wanted.mistakes.push(format!(
                "http.listen is {listen}, which others can reach, but {name}_TOKEN is not set; set it, or listen on 127.0.0.1"
            ));
        }
        Door {
            tokens: tokens(&self.tokens),
            keys: keys(&format!("{name}_SECRET"), &self.keys, wanted),
        }
    }
}

fn fit(name: &str, tokens: &[Secret], wanted: &mut Wanted<'_>) {
    if tokens
        .iter()
        .any(|token| token.reveal().len() < TOKEN_LENGTH_MIN)
    {
        wanted.mistakes.push(format!(
            "{name} is shorter than {TOKEN_LENGTH_MIN} characters; make one with `openssl rand -hex 24`"
        ));
    }
}

fn tokens(secrets: &[Secret]) -> Tokens {
    Tokens::new(secrets.iter().map(Secret::reveal))
}

fn keys(name: &str, secrets: &[Secret], wanted: &mut Wanted<'_>) -> Arc<[Key]> {
    let parsed = secrets.iter().filter_map(|secret| {
        Key::parse(secret.reveal())
            .inspect_err(|error| wanted.mistakes.push(format!("{name} is no key: {error}")))
            .ok()
    });
    parsed.collect()
}

/// A network, or one address.
fn network(text: &str) -> Option<IpNet> {
    let one = || text.parse::<IpAddr>().ok().map(IpNet::from);
    text.parse().ok().or_else(one)
}
