//! Where NATS is, as whom one gets in, and how the two know each other.

use std::path::PathBuf;

use super::secret::{Reader, Secret};
use super::{Overrides, Wanted, certificate};
use crate::bus::{self, Auth, Tls};

const PASSWORD: &str = "VOICEBUS_NATS_PASSWORD";

/// Where NATS is and as whom one gets in: the same words for roles and tools.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct NatsArgs {
    /// NATS that somebody else runs: nats://host:port, or tls:// for an encrypted connection;
    /// several separated by commas
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "VOICEBUS_NATS_URL",
        hide_env_values = true
    )]
    pub nats_url: Option<String>,
    /// User there, also the one whom a file is of [default: the role's name]; the password comes
    /// from VOICEBUS_NATS_PASSWORD or from the file that VOICEBUS_NATS_PASSWORD_FILE names
    #[arg(long, global = true, value_name = "USER", env = "VOICEBUS_NATS_USER")]
    pub nats_user: Option<String>,
    /// Instead of user and password: a credentials file of the NATS tools
    #[arg(long, global = true, value_name = "FILE", env = "VOICEBUS_NATS_CREDS")]
    pub creds: Option<PathBuf>,
    /// Instead of user and password: a file with the seed of an NKey
    #[arg(long, global = true, value_name = "FILE", env = "VOICEBUS_NATS_NKEY")]
    pub nkey: Option<PathBuf>,
    /// The authorities that may have signed the server's certificate [default: the system's]
    #[arg(long, global = true, value_name = "FILE", env = "VOICEBUS_NATS_CA")]
    pub nats_ca: Option<PathBuf>,
    /// Our certificate, for a server that wants to see one
    #[arg(long, global = true, value_name = "FILE", env = "VOICEBUS_NATS_CERT")]
    pub nats_cert: Option<PathBuf>,
    /// The key of our certificate
    #[arg(long, global = true, value_name = "FILE", env = "VOICEBUS_NATS_KEY")]
    pub nats_key: Option<PathBuf>,
}

impl NatsArgs {
    /// The certificates.
    ///
    /// # Errors
    /// A sentence, when there is one of two that need each other.
    pub fn tls(&self) -> Result<Tls, String> {
        let client = certificate::pair("nats", self.nats_cert.clone(), self.nats_key.clone())?;
        Ok(Tls {
            ca: self.nats_ca.clone(),
            client,
        })
    }
}

/// What the configuration says of NATS.
#[derive(Debug, Clone)]
pub(super) struct Nats {
    pub url: Option<String>,
    user: Option<String>,
    password: Option<Secret>,
    /// What is there instead of a password.
    file: Option<Auth>,
    tls: Tls,
}

impl Nats {
    /// The settings as texts, from the file where the command line says nothing.
    pub fn take(
        mut setting: impl FnMut(&str, &str, &Option<String>) -> Option<String>,
        overrides: &Overrides,
    ) -> NatsArgs {
        let given = &overrides.nats;
        let mut path = |key: &str, over: &Option<PathBuf>| {
            let over = over.as_ref().map(|path| path.display().to_string());
            let text = setting("nats", key, &over);
            text.filter(|text| !text.is_empty()).map(PathBuf::from)
        };
        NatsArgs {
            creds: path("credentials", &given.creds),
            nkey: path("nkey", &given.nkey),
            nats_ca: path("ca", &given.nats_ca),
            nats_cert: path("cert", &given.nats_cert),
            nats_key: path("key", &given.nats_key),
            nats_url: setting("nats", "url", &given.nats_url),
            nats_user: setting("nats", "user", &given.nats_user),
        }
    }

    pub fn password(secrets: &mut Reader<'_>) -> Option<Secret> {
        secrets.one(PASSWORD)
    }

    /// Looks at every file, so that a mistake in one is told before anything starts.
    pub fn read(args: NatsArgs, password: Option<Secret>, wanted: &mut Wanted<'_>) -> Self {
        if args
            .nats_url
            .as_deref()
            .is_some_and(|url| url.trim().is_empty())
        {
            wanted.mistakes.push(
                "nats.url is empty; name a server, or leave it out and let `up` start one"
                    .to_owned(),
            );
        }
        let tls = args.tls().unwrap_or_else(|mistake| {
            wanted.mistakes.push(mistake);
            Tls::default()
        });
        wanted.usable(tls.check());
        let files = [args.creds.map(Auth::Credentials), args.nkey.map(Auth::NKey)];
        let mut files = files.into_iter().flatten();
        let (file, second) = (files.next(), files.next());
        if second.is_some() || (file.is_some() && password.is_some()) {
            wanted.mistakes.push(format!(
                "there is more than one way to log in to NATS; leave one of nats.credentials, nats.nkey and {PASSWORD}"
            ));
        }
        for auth in file.iter().chain(&second) {
            wanted.usable(auth.check());
        }
        for secret in [file.as_ref().and_then(Auth::secret_file), tls.secret_file()] {
            wanted.secret_file(secret);
        }
        Self {
            url: args.nats_url,
            user: args.nats_user,
            password,
            file,
            tls,
        }
    }

    /// How a role connects; to `otherwise` when no server was named.
    pub fn settings(&self, role: &'static str, otherwise: String) -> bus::Settings {
        let auth = match (&self.file, &self.password) {
            (Some(file), _) => file.clone(),
            (None, Some(password)) => Auth::Password {
                user: self.user.clone().unwrap_or_else(|| role.to_owned()),
                password: password.reveal().to_owned(),
            },
            (None, None) => Auth::None,
        };
        bus::Settings {
            url: self.url.clone().unwrap_or(otherwise),
            auth,
            tls: self.tls.clone(),
            role,
        }
    }
}
