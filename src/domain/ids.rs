//! Names of things: calls, sessions, events, intents.
//!
//! Every id that can reach a NATS subject is parsed here, once, against a closed alphabet; the
//! inner text is private, so a value of these types is always safe to use as a subject token.

use std::fmt;

use thiserror::Error;

/// Longest id taken from outside. Twilio's are 34 characters, OpenAI's about 40; a subject token
/// may be much longer, but a bound keeps subjects and logs readable.
pub const ID_LENGTH_MAX: usize = 128;

/// Longest session key. OpenClaw itself stops at 512; 200 leaves room for every real key and
/// keeps the event small.
pub const SESSION_KEY_LENGTH_MAX: usize = 200;

/// Why a text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Error {
    /// The text is empty.
    #[error("{what} is empty")]
    Empty {
        /// Which id was parsed.
        what: &'static str,
    },
    /// The text is longer than the bound.
    #[error("{what} has {found} bytes, at most {max} are allowed")]
    TooLong {
        /// Which id was parsed.
        what: &'static str,
        /// Bytes found.
        found: usize,
        /// The bound.
        max: usize,
    },
    /// A character outside the alphabet.
    #[error("{what} has a character outside {alphabet} at position {position}")]
    BadCharacter {
        /// Which id was parsed.
        what: &'static str,
        /// The allowed characters.
        alphabet: &'static str,
        /// Zero-based character position.
        position: usize,
    },
}

/// Longest agent id: with any call id it still makes a session key that can be read again.
pub const AGENT_LENGTH_MAX: usize =
    SESSION_KEY_LENGTH_MAX - ID_LENGTH_MAX - "agent::voice:call:".len();

fn check_id(what: &'static str, text: &str) -> Result<(), Error> {
    if text.is_empty() {
        return Err(Error::Empty { what });
    }
    if text.len() > ID_LENGTH_MAX {
        return Err(Error::TooLong {
            what,
            found: text.len(),
            max: ID_LENGTH_MAX,
        });
    }
    let bad = text
        .chars()
        .position(|c| !(c.is_ascii_alphanumeric() || c == '_' || c == '-'));
    match bad {
        Some(position) => Err(Error::BadCharacter {
            what,
            alphabet: "[A-Za-z0-9_-]",
            position,
        }),
        None => Ok(()),
    }
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// Parses an id: `^[A-Za-z0-9_-]{1,128}$`.
            ///
            /// # Errors
            /// When the text is empty, too long or has any other character.
            pub fn parse(text: &str) -> Result<Self, Error> {
                check_id($what, text)?;
                Ok(Self(text.to_owned()))
            }

            /// The id as text; safe as a subject token.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id!(
    /// One leg's id as the phone-call server names it: Twilio's `CA…` or OpenAI's `rtc_…`.
    CallId,
    "call id"
);
id!(
    /// The id of an accepted event: the sender's, scoped to its source, or a digest of what makes
    /// the event itself. The same event always has the same id.
    EventId,
    "event id"
);
id!(
    /// One wish to place a call. The caller's idempotency key, scoped, or a fresh id.
    IntentId,
    "intent id"
);

impl EventId {
    /// 64 bits that stand for the id in a list of recent ones (FNV-1a). Two ids of one call meet
    /// by chance about once in 10^17 pairs.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        self.0.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        })
    }
}

/// The OpenClaw session that a call belongs to, in OpenClaw's canonical form: lower case, and
/// always with an `agent:<agent>:` prefix.
///
/// OpenClaw itself checks almost no characters; this type allows `[a-z0-9:_-]` only, so that a
/// key never carries a blank, a wildcard or a line break anywhere.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionKey(String);

impl SessionKey {
    /// Parses a session key or id and makes it canonical as OpenClaw does: lower-cased, and
    /// `agent:<agent>:` put in front of a key that has none.
    ///
    /// # Errors
    /// When the text is empty, too long, or has a character outside `[A-Za-z0-9:_-]`.
    pub fn parse(text: &str, agent: &AgentId) -> Result<Self, Error> {
        const WHAT: &str = "session key";
        if text.is_empty() {
            return Err(Error::Empty { what: WHAT });
        }
        let bad = text
            .chars()
            .position(|c| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | ':')));
        if let Some(position) = bad {
            return Err(Error::BadCharacter {
                what: WHAT,
                alphabet: "[A-Za-z0-9:_-]",
                position,
            });
        }
        let lower = text.to_ascii_lowercase();
        let mut parts = lower.splitn(3, ':');
        let canonical = match (parts.next(), parts.next(), parts.next()) {
            (Some("agent"), Some(owner), Some(rest)) => {
                if owner.is_empty() || rest.is_empty() {
                    return Err(Error::Empty {
                        what: "part of the session key",
                    });
                }
                lower
            }
            _ => format!("agent:{agent}:{lower}"),
        };
        // The key itself must fit, not what it was made of: it is parsed again wherever it is read.
        if canonical.len() > SESSION_KEY_LENGTH_MAX {
            return Err(Error::TooLong {
                what: WHAT,
                found: canonical.len(),
                max: SESSION_KEY_LENGTH_MAX,
            });
        }
        Ok(Self(canonical))
    }

    /// The session of everything said with one number: `agent:<agent>:voice:<digits>`.
    #[must_use]
    pub fn per_phone(agent: &AgentId, digits: &str) -> Self {
        Self(format!("agent:{agent}:voice:{digits}"))
    }

    /// A session of one call alone: `agent:<agent>:voice:call:<call>`.
    #[must_use]
    pub fn per_call(agent: &AgentId, call: &CallId) -> Self {
        Self(format!(
            "agent:{agent}:voice:call:{}",
            call.as_str().to_ascii_lowercase()
        ))
    }

    /// The agent's main session: `agent:<agent>:main`.
    #[must_use]
    pub fn main(agent: &AgentId) -> Self {
        Self(format!("agent:{agent}:main"))
    }

    /// The key as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The OpenClaw agent that owns sessions made by voicebus; `main` unless configured.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AgentId(String);

impl AgentId {
    /// Parses an agent id, lower-cased: `[a-z0-9_-]`, at most [`AGENT_LENGTH_MAX`].
    ///
    /// # Errors
    /// When the text is empty, too long or has any other character.
    pub fn parse(text: &str) -> Result<Self, Error> {
        const WHAT: &str = "agent id";
        check_id(WHAT, text)?;
        if text.len() > AGENT_LENGTH_MAX {
            return Err(Error::TooLong {
                what: WHAT,
                found: text.len(),
                max: AGENT_LENGTH_MAX,
            });
        }
        Ok(Self(text.to_ascii_lowercase()))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AgentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent() -> AgentId {
        AgentId::parse("main").unwrap()
    }

    #[test]
    fn ids_that_could_change_a_subject_are_refused() {
        for bad in [
            "",
            ".",
            "a.b",
            "*",
            ">",
            "a b",
            "a\nb",
            "$SYS",
            "../health",
            "c\u{430}ll",
            &"x".repeat(129),
        ] {
            assert!(CallId::parse(bad).is_err(), "{bad:?} was accepted");
        }
        for good in [
            "CAa4c123b1612dd272d1371c17149d4395",
            "rtc_inb_name-addr-tag",
            "0",
            "-",
            &"x".repeat(128),
        ] {
            assert_eq!(CallId::parse(good).unwrap().as_str(), good);
        }
    }

    #[test]
    fn session_keys_become_canonical_as_openclaw_makes_them() {
        let key = |text: &str| SessionKey::parse(text, &agent()).unwrap().to_string();
        assert_eq!(key("voice:777"), "agent:main:voice:777");
        assert_eq!(key("Agent:Main:Voice:UP"), "agent:main:voice:up");
        assert_eq!(key("sess-0001"), "agent:main:sess-0001");
        assert_eq!(key("agent"), "agent:main:agent");
        assert_eq!(key("agent:other:main"), "agent:other:main");
    }

    #[test]
    fn session_keys_with_holes_or_wildcards_are_refused() {
        for bad in [
            "",
            "agent::voice:1",
            "agent:main:",
            "a b",
            "a.*",
            "a>",
            "a/b",
            "\u{441}ess",
            &"a".repeat(201),
        ] {
            assert!(
                SessionKey::parse(bad, &agent()).is_err(),
                "{bad:?} was accepted"
            );
        }
    }

    #[test]
    fn every_session_key_that_is_made_can_be_read_again() {
        let agent = AgentId::parse(&"a".repeat(AGENT_LENGTH_MAX)).unwrap();
        assert!(AgentId::parse(&"a".repeat(AGENT_LENGTH_MAX + 1)).is_err());
        let call = CallId::parse(&"C".repeat(ID_LENGTH_MAX)).unwrap();
        for key in [
            SessionKey::per_call(&agent, &call),
            SessionKey::per_phone(&agent, "123456789012345"),
            SessionKey::main(&agent),
        ] {
            assert_eq!(SessionKey::parse(key.as_str(), &agent), Ok(key));
        }
        let longest = "s".repeat(SESSION_KEY_LENGTH_MAX - "agent:main:".len());
        let key = SessionKey::parse(&longest, &self::agent()).unwrap();
        assert_eq!(SessionKey::parse(key.as_str(), &self::agent()), Ok(key));
        assert!(SessionKey::parse(&format!("{longest}s"), &self::agent()).is_err());
    }
}
