//! Settings: the compiled-in defaults, a file, the environment, the command line; parsed once, all
//! mistakes reported together.

mod calls;
mod certificate;
mod dialling;
mod doors;
mod duration;
mod file;
mod mistakes;
mod nats;
mod overrides;
mod retention;
mod secret;
mod wanted;

use std::net::SocketAddr;
use std::path::PathBuf;

use chrono_tz::Tz;

use crate::bus;
use crate::bus::durability::Wanted as Durability;
use crate::bus::streams::Retention;
use crate::domain::guard::Rules;
use crate::domain::ids::{AGENT_LENGTH_MAX, AgentId};
use crate::domain::phone::E164;
use crate::domain::session::{Policy, Scope};
use crate::http::tls;
use crate::ingress::committer::Grouping;
use crate::ingress::door::Doors;
use crate::ingress::spool;

use file::Sections;
use nats::Nats;
pub use nats::NatsArgs;
pub use overrides::Overrides;
pub(crate) use secret::exposed;
use wanted::Wanted;

pub use mistakes::Mistakes;

/// The defaults, with the reason for each; also what a new configuration file starts from.
pub const DEFAULTS: &str = include_str!("../config/default.toml");

/// What the configuration comes to.
#[derive(Debug, Clone)]
pub struct Config {
    nats: Nats,
    /// Whether NATS must flush before it acknowledges.
    pub durability: Durability,
    /// Where HTTP is served.
    pub listen: SocketAddr,
    /// Whether the address was asked for, rather than the default.
    pub listen_is_given: bool,
    /// Our certificate there, if HTTPS is spoken.
    pub tls: Option<tls::Files>,
    /// Who may come in.
    pub doors: Doors,
    /// The zone of times that come without one.
    pub time_zone: Tz,
    /// Where accepted events are kept while NATS is away.
    pub spool_dir: SpoolDir,
    /// How much is kept there.
    pub spool_bounds: spool::Bounds,
    /// Whether events that wait together are stored together.
    pub grouping: Grouping,
    /// How calls share sessions.
    pub policy: Policy,
    /// What may be dialled.
    pub dialling: Rules,
    /// The phone-call server.
    pub voice_server: String,
    /// What its tap wants to see.
    tap_token: Option<secret::Secret>,
    /// Where egress keeps its high-water mark.
    pub dialling_dir: Option<PathBuf>,
    /// Where `up` keeps its data.
    pub data_dir: PathBuf,
    /// Where the nats-server of `up` listens.
    pub nats_listen: SocketAddr,
    /// How long streams keep what they hold, where somebody decided.
    pub retention: Retention,
    /// How to log.
    pub log: Log,
    warnings: Vec<String>,
}

/// Where accepted events are kept while NATS is away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SpoolDir {
    /// Nothing was said: `up` has one, a lone ingress does not.
    Unsaid,
    /// There shall be none.
    Off,
    /// There.
    At(PathBuf),
}

/// How to log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// Level or filter.
    pub filter: String,
    /// For programs rather than people.
    pub json: bool,
    /// Whether what callers say and who they are may be in it.
    pub is_unsafe: bool,
}

impl Config {
    /// Reads the environment's secrets and the file, and puts everything together.
    ///
    /// # Errors
    /// All mistakes at once.
    pub fn load(overrides: &Overrides) -> Result<Self, Mistakes> {
        let mut mistakes = Vec::new();
        let text = overrides.config.as_ref().and_then(|path| {
            std::fs::read_to_string(path)
                .map_err(|error| {
                    mistakes.push(format!(
                        "the file {} cannot be read: {error}",
                        path.display()
                    ))
                })
                .ok()
        });
        Self::assemble(
            overrides,
            text.as_deref(),
            |name| std::env::var(name).ok(),
            mistakes,
        )
    }

    /// The defaults and `overrides`, for a run that must not depend on the environment.
    pub fn without_environment(overrides: &Overrides) -> Result<Self, Mistakes> {
        Self::assemble(overrides, None, |_| None, Vec::new())
    }

    fn assemble(
        overrides: &Overrides,
        file: Option<&str>,
        env: impl Fn(&str) -> Option<String>,
        mut mistakes: Vec<String>,
    ) -> Result<Self, Mistakes> {
        let mut sections = Sections::read(DEFAULTS, file, &env, &mut mistakes);
        let mut setting = |section: &str, key: &str, over: &Option<String>| {
            let from_file = sections.take(section, key);
            over.clone().or(from_file)
        };
        let nats = Nats::take(&mut setting, overrides);
        let durability = setting("nats", "durability", &overrides.durability);
        let listen = setting("http", "listen", &overrides.listen);
        let tls =
            [("cert", &overrides.http_cert), ("key", &overrides.http_key)].map(|(key, over)| {
                let over = over.as_ref().map(|path| path.display().to_string());
                setting("http", key, &over).map(PathBuf::from)
            });
        let doors = doors::Texts::take(&mut setting, overrides);
        let time_zone = setting("events", "time_zone", &overrides.time_zone);
        let dir = overrides
            .spool_dir
            .as_ref()
            .map(|path| path.display().to_string());
        let spool_dir = setting("events", "spool_dir", &dir);
        let spool_mib = setting("events", "spool_size_max_mib", &None);
        let spool_events = setting("events", "spool_events_max", &None);
        let grouping = setting("events", "group_commit", &None);
        let agent = setting("sessions", "agent", &overrides.agent);
        let scope = setting("sessions", "scope", &overrides.session_scope);
        let times = calls::Texts::take(|key| setting("calls", key, &None));
        let dialling = dialling::Texts::take(&overrides.dialling, |key, over| {
            setting("dialling", key, over)
        });
        let retention = retention::Texts::take(|key| setting("retention", key, &None));
        let voice_server = setting("voice_server", "url", &overrides.voice_server);
        let own_numbers = setting("voice_server", "own_numbers", &overrides.own_numbers);
        let dir = overrides
            .dialling_dir
            .as_ref()
            .map(|path| path.display().to_string());
        let dialling_dir = setting("dialling", "data_dir", &dir)
            .filter(|dir| !dir.is_empty())
            .map(PathBuf::from);
        let dir = overrides
            .data_dir
            .as_ref()
            .map(|path| path.display().to_string());
        let data_dir = setting("up", "data_dir", &dir);
        let nats_listen = setting("up", "nats_listen", &overrides.nats_listen);
        let level = setting("log", "level", &overrides.log);
        let format = setting("log", "format", &overrides.log_format);
        let listen_is_given =
            overrides.listen.is_some() || file.is_some_and(|text| text.contains("listen"));
        sections.refuse_unknown(&mut mistakes);

        let mut warnings = Vec::new();
        let mut secrets = secret::Reader {
            env: &env,
            mistakes: &mut mistakes,
            warnings: &mut warnings,
        };
        let nats_password = Nats::password(&mut secrets);
        let tap_token = secrets.one("VOICEBUS_TAP_TOKEN");
        let of_doors = doors::Secrets::read(&mut secrets);

        let mut wanted = Wanted {
            mistakes: &mut mistakes,
            warnings: &mut warnings,
        };
        let durability = wanted.parsed(
            "nats.durability",
            durability,
            "strict or relaxed",
            Durability::parse,
        );
        let listen = wanted.address("http.listen", listen);
        let nats_listen = wanted.address("up.nats_listen", nats_listen);
        let time_zone = wanted.parsed(
            "events.time_zone",
            time_zone,
            "a time zone like Europe/Vienna",
            |text| text.parse::<Tz>().ok(),
        );
        let spool = wanted.spool(spool_dir, spool_mib, spool_events);
        let grouping =
            wanted.parsed(
                "events.group_commit",
                grouping,
                "auto or off",
                |text| match text {
                    "auto" => Some(Grouping::Auto),
                    "off" => Some(Grouping::Off),
                    _ => None,
                },
            );
        let agent = wanted.parsed(
            "sessions.agent",
            agent,
            &format!("an agent id ([A-Za-z0-9_-], at most {AGENT_LENGTH_MAX})"),
            |text| AgentId::parse(text).ok(),
        );
        let scope = wanted.parsed(
            "sessions.scope",
            scope,
            "per-phone, per-call or main",
            |text| match text {
                "per-phone" => Some(Scope::PerPhone),
                "per-call" => Some(Scope::PerCall),
                "main" => Some(Scope::Main),
                _ => None,
            },
        );
        let tls = wanted.tls(tls);
        let retention = retention.read(&mut wanted);
        let times = times.read(&mut wanted);
        let dialling = dialling.read(&mut wanted);
        let voice_server = wanted.parsed(
            "voice_server.url",
            voice_server,
            "an http or https URL",
            |text| {
                let url = text.parse::<reqwest::Url>().ok()?;
                let fits = matches!(url.scheme(), "http" | "https")
                    && url.query().is_none()
                    && url.fragment().is_none();
                fits.then(|| text.to_owned())
            },
        );
        let own_numbers: Option<Vec<E164>> = wanted.parsed(
            "voice_server.own_numbers",
            own_numbers,
            "numbers like +12015550100, separated by commas",
            |text| {
                let numbers = text.split(',').map(str::trim).filter(|one| !one.is_empty());
                numbers.map(|one| E164::parse(one).ok()).collect()
            },
        );
        let json = wanted.parsed("log.format", format, "text or json", |text| match text {
            "text" => Some(false),
            "json" => Some(true),
            _ => None,
        });
        let filter = wanted.parsed("log.level", level, "a level or a filter", |text| {
            text.parse::<tracing_subscriber::EnvFilter>()
                .ok()
                .map(|_filter| text.to_owned())
        });
        let data_dir = wanted.parsed("up.data_dir", data_dir, "a folder", |text| {
            (!text.is_empty()).then(|| PathBuf::from(text))
        });
        let nats = Nats::read(nats, nats_password, &mut wanted);
        let doors = doors.read(of_doors, listen, &mut wanted);
        if nats_listen.is_some_and(|address| !address.ip().is_loopback()) {
            wanted.mistakes.push(
                "up.nats_listen must be a loopback address; run a NATS server of your own to listen wider".to_owned(),
            );
        }

        match (
            durability,
            listen,
            nats_listen,
            doors,
            time_zone,
            spool,
            grouping,
            agent,
            scope,
            times,
            dialling,
            voice_server,
            own_numbers,
            json,
            filter,
            data_dir,
        ) {
            (
                Some(durability),
                Some(listen),
                Some(nats_listen),
                Some(doors),
                Some(time_zone),
                Some((spool_dir, spool_bounds)),
                Some(grouping),
                Some(agent),
                Some(scope),
                Some(times),
                Some(dialling),
                Some(voice_server),
                Some(own_numbers),
                Some(json),
                Some(filter),
                Some(data_dir),
            ) if mistakes.is_empty() => Ok(Self {
                nats,
                durability,
                listen,
                listen_is_given,
                tls,
                doors,
                time_zone,
                spool_dir,
                spool_bounds,
                grouping,
                dialling: Rules {
                    own_numbers: own_numbers.clone(),
                    ..dialling
                },
                policy: Policy {
                    agent,
                    scope,
                    times,
                    own_numbers,
                },
                voice_server,
                tap_token,
                dialling_dir,
                data_dir,
                nats_listen,
                retention,
                log: Log {
                    filter,
                    json,
                    is_unsafe: overrides.log_unsafe,
                },
                warnings,
            }),
            _ => Err(Mistakes(mistakes)),
        }
    }

    /// The same with a spool in the data directory, unless something else was said.
    #[must_use]
    pub fn with_spool(&self) -> Self {
        let mut config = self.clone();
        if config.spool_dir == SpoolDir::Unsaid {
            config.spool_dir = SpoolDir::At(config.data_dir.join("spool"));
        }
        config
    }

    /// The same with a folder for egress in the data directory, unless another was named.
    #[must_use]
    pub fn with_dialling_dir(&self) -> Self {
        let mut config = self.clone();
        let of_up = || self.data_dir.join("egress");
        config.dialling_dir.get_or_insert_with(of_up);
        config
    }

    /// What the tap of the phone-call server wants to see.
    #[must_use]
    pub fn tap_token(&self) -> Option<&str> {
        self.tap_token.as_ref().map(secret::Secret::reveal)
    }

    /// Whether somebody else's NATS was named, so that `up` starts none.
    #[must_use]
    pub fn has_nats(&self) -> bool {
        self.nats.url.is_some()
    }

    /// What is not as it should be, though one can work with it.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// How a role connects to NATS.
    #[must_use]
    pub fn nats(&self, role: &'static str) -> bus::Settings {
        self.nats
            .settings(role, format!("nats://{}", self.nats_listen))
    }
}

#[cfg(test)]
mod tests;
