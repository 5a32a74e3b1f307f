//! The passwords of the users in `nats/accounts.conf`.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::Error;

const FILE: &str = "credentials.json";

/// A NATS user: one per role. `nats/accounts.conf` says what each may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum User {
    Ingress,
    Router,
    Egress,
    Provision,
    Agent,
    Plugin,
    Observer,
    Operator,
}

impl User {
    pub const ALL: [Self; 8] = [
        Self::Ingress,
        Self::Router,
        Self::Egress,
        Self::Provision,
        Self::Agent,
        Self::Plugin,
        Self::Observer,
        Self::Operator,
    ];

    /// The user name to connect with.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Router => "router",
            Self::Egress => "egress",
            Self::Provision => "provision",
            Self::Agent => "agent",
            Self::Plugin => "plugin",
            Self::Observer => "observer",
            Self::Operator => "operator",
        }
    }

    /// The only inbox prefix the user may listen to.
    pub fn inbox_prefix(self) -> &'static str {
        match self {
            Self::Ingress => "_INBOX_ingress",
            Self::Router => "_INBOX_router",
            Self::Egress => "_INBOX_egress",
            Self::Provision => "_INBOX_provision",
            Self::Agent => "_INBOX_agent",
            Self::Plugin => "_INBOX_plugin",
            Self::Observer => "_INBOX",
            Self::Operator => "_INBOX_operator",
        }
    }

    /// The environment variable from which the nats-server takes the password.
    pub fn password_variable(self) -> &'static str {
        match self {
            Self::Ingress => "VOICEBUS_NATS_PASSWORD_INGRESS",
            Self::Router => "VOICEBUS_NATS_PASSWORD_ROUTER",
            Self::Egress => "VOICEBUS_NATS_PASSWORD_EGRESS",
            Self::Provision => "VOICEBUS_NATS_PASSWORD_PROVISION",
            Self::Agent => "VOICEBUS_NATS_PASSWORD_AGENT",
            Self::Plugin => "VOICEBUS_NATS_PASSWORD_PLUGIN",
            Self::Observer => "VOICEBUS_NATS_PASSWORD_OBSERVER",
            Self::Operator => "VOICEBUS_NATS_PASSWORD_OPERATOR",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|user| user.name() == name)
    }
}

/// A secret: shown only by [`Password::reveal`].
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

impl Password {
    /// 244 random bits. It begins with a letter and has only letters and digits,
    /// because nats-server reads a variable as configuration text: what looks like a
    /// number would become one.
    fn generate() -> Self {
        Self(format!(
            "vb{}{}",
            Uuid::new_v4().simple(),
            Uuid::new_v4().simple()
        ))
    }

    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(..)")
    }
}

/// All users with their passwords.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    path: PathBuf,
    passwords: BTreeMap<User, Password>,
}

impl Credentials {
    /// What an `up` on this data directory uses; for tools beside it.
    ///
    /// # Errors
    /// When there is no credentials file, or it is not readable or not complete.
    pub fn load(data_dir: &Path) -> Result<Self, Error> {
        let credentials = Self::read(data_dir)?;
        let missing = credentials.missing().next();
        match missing {
            None => Ok(credentials),
            Some(user) => Err(Error::Credentials {
                path: credentials.path.clone(),
                reason: format!("no password for `{}`", user.name()),
            }),
        }
    }

    /// What the file has, which may be fewer users than there are: one of an older version.
    fn read(data_dir: &Path) -> Result<Self, Error> {
        let path = data_dir.join(FILE);
        let text = fs::read_to_string(&path).map_err(Error::io("read", &path))?;
        let broken = |reason: String| Error::Credentials {
            path: path.clone(),
            reason,
        };
        let entries: BTreeMap<String, String> =
            serde_json::from_str(&text).map_err(|error| broken(error.to_string()))?;
        let passwords: BTreeMap<User, Password> = entries
            .into_iter()
            .filter_map(|(name, password)| Some((User::from_name(&name)?, Password(password))))
            .collect();
        // An empty password would be one that everybody knows.
        if let Some((user, _)) = passwords.iter().find(|(_, password)| password.0.is_empty()) {
            return Err(broken(format!(
                "the password of `{}` is empty",
                user.name()
            )));
        }
        Ok(Self { path, passwords })
    }

    fn missing(&self) -> impl Iterator<Item = User> {
        User::ALL
            .into_iter()
            .filter(|user| !self.passwords.contains_key(user))
    }

    /// Loads them, or makes them once; makes those that an older version did not know of. The caller holds the directory's lock.
    pub(super) fn load_or_generate(data_dir: &Path) -> Result<Self, Error> {
        let path = data_dir.join(FILE);
        match fs::metadata(&path) {
            Ok(metadata) => {
                if metadata.permissions().mode() & 0o077 != 0 {
                    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))
                        .map_err(Error::io("restrict the mode of", &path))?;
                }
                let mut credentials = Self::read(data_dir)?;
                let missing: Vec<User> = credentials.missing().collect();
                if !missing.is_empty() {
                    let made = missing.into_iter().map(|user| (user, Password::generate()));
                    credentials.passwords.extend(made);
                    credentials.save().map_err(Error::io("write", &path))?;
                }
                return Ok(credentials);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::io("read", &path)(error)),
        }
        let credentials = Self {
            path: path.clone(),
            passwords: User::ALL
                .into_iter()
                .map(|user| (user, Password::generate()))
                .collect(),
        };
        credentials.save().map_err(Error::io("write", &path))?;
        Ok(credentials)
    }

    /// The password of one user.
    pub fn password(&self, user: User) -> &Password {
        &self.passwords[&user]
    }

    /// Where they are kept.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Complete or not at all: a new file is renamed over the old name.
    fn save(&self) -> io::Result<()> {
        let entries: BTreeMap<&str, &str> = self
            .passwords
            .iter()
            .map(|(user, password)| (user.name(), password.reveal()))
            .collect();
        let text = serde_json::to_string_pretty(&entries)?;
        let draft = self.path.with_extension("json.new");
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&draft)?;
        // The mode above counts only for a new file.
        file.set_permissions(fs::Permissions::from_mode(0o600))?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&draft, &self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_made_once_and_only_the_owner_can_read_them() {
        let dir = tempfile::tempdir().unwrap();
        let first = Credentials::load_or_generate(dir.path()).unwrap();
        let again = Credentials::load_or_generate(dir.path()).unwrap();
        assert_eq!(first, again);
        assert_eq!(Credentials::load(dir.path()).unwrap(), first);

        let mode = fs::metadata(first.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let all: std::collections::BTreeSet<&str> =
            User::ALL.map(|user| first.password(user).reveal()).into();
        assert_eq!(all.len(), User::ALL.len());
        assert!(all.iter().all(|password| password.starts_with("vb")));
    }

    #[test]
    fn a_file_that_others_can_read_is_closed() {
        let dir = tempfile::tempdir().unwrap();
        let made = Credentials::load_or_generate(dir.path()).unwrap();
        fs::set_permissions(made.path(), fs::Permissions::from_mode(0o644)).unwrap();
        Credentials::load_or_generate(dir.path()).unwrap();
        let mode = fs::metadata(made.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn users_that_an_older_file_lacks_get_a_password_and_the_others_keep_theirs() {
        let dir = tempfile::tempdir().unwrap();
        let made = Credentials::load_or_generate(dir.path()).unwrap();
        let text = fs::read_to_string(made.path()).unwrap();
        let mut older: BTreeMap<String, String> = serde_json::from_str(&text).unwrap();
        older.remove("operator").unwrap();
        fs::write(made.path(), serde_json::to_string(&older).unwrap()).unwrap();
        let error = Credentials::load(dir.path()).unwrap_err();
        assert!(
            error.to_string().contains("no password for `operator`"),
            "{error}"
        );

        let now = Credentials::load_or_generate(dir.path()).unwrap();
        assert_ne!(now.password(User::Operator), made.password(User::Operator));
        for user in User::ALL {
            if user != User::Operator {
                assert_eq!(now.password(user), made.password(user));
            }
        }
        assert_eq!(Credentials::load(dir.path()).unwrap(), now);
    }

    #[test]
    fn a_broken_file_is_refused_and_kept() {
        for text in ["", "{", "{\"ingress\":\"\"}", "{\"ingress\":7}"] {
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join(FILE), text).unwrap();
            let error = Credentials::load_or_generate(dir.path()).unwrap_err();
            assert!(matches!(error, Error::Credentials { .. }), "{error}");
            assert_eq!(fs::read_to_string(dir.path().join(FILE)).unwrap(), text);
        }
    }

    #[test]
    fn an_empty_password_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let made = Credentials::load_or_generate(dir.path()).unwrap();
        let text = fs::read_to_string(made.path()).unwrap();
        let text = text.replace(made.password(User::Router).reveal(), "");
        fs::write(made.path(), text).unwrap();
        assert!(Credentials::load(dir.path()).is_err());
    }

    #[test]
    fn debug_output_shows_no_password() {
        let dir = tempfile::tempdir().unwrap();
        let made = Credentials::load_or_generate(dir.path()).unwrap();
        let shown = format!("{made:?}");
        assert!(!shown.contains(made.password(User::Agent).reveal()));
    }

    #[test]
    fn every_user_is_in_the_accounts_file_with_its_variable_and_inbox() {
        let accounts = include_str!("../../../nats/accounts.conf");
        for user in User::ALL {
            assert!(accounts.contains(&format!("user: {}\n", user.name())));
            assert!(accounts.contains(&format!("password: ${}\n", user.password_variable())));
            assert!(accounts.contains(&format!("\"{}.>\"", user.inbox_prefix())));
        }
    }
}
