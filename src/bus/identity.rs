//! Who one is at the NATS server, and how one knows the server.
//!
//! What is secret lies in files. They are read when a connection is made, certificates and their
//! keys also when it is made again, so that new ones are used without a restart.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use async_nats::ConnectOptions;
use nkeys::{KeyPair, KeyPairType};
use thiserror::Error;

use crate::pem;

/// Who one is at the NATS server.
#[derive(Clone, PartialEq, Eq)]
pub enum Auth {
    /// The server asks nobody, or the URL says it.
    None,
    /// A user and its password.
    Password {
        /// The user.
        user: String,
        /// Its password.
        password: String,
    },
    /// The file with the seed of an NKey. The server knows its public half only.
    NKey(PathBuf),
    /// A credentials file of the NATS tools.
    Credentials(PathBuf),
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Password { user, .. } => write!(f, "Password({user})"),
            Self::NKey(path) => write!(f, "NKey({})", path.display()),
            Self::Credentials(path) => write!(f, "Credentials({})", path.display()),
        }
    }
}

/// How the server shows who it is, and we to it, where the connection goes over a network.
///
/// With any of these the connection is encrypted or does not come about; without them it is
/// encrypted if the server or the URL (`tls://`) says so.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tls {
    /// The authorities that may have signed the server's certificate; by default the system's.
    pub ca: Option<PathBuf>,
    /// Our certificate and its key, for a server that wants to see one.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// Why a file cannot be used.
#[derive(Debug, Error)]
pub enum Error {
    /// A credentials file.
    #[error("cannot use the credentials file {}", path.display())]
    Credentials {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file that should hold a seed.
    #[error("cannot read the NKey file {}", path.display())]
    NKey {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file that holds something else.
    #[error(
        "{} holds no NKey seed of a user, which is a line that begins with SU; `nk -gen user` makes one",
        path.display()
    )]
    NoSeed {
        /// The file.
        path: PathBuf,
    },
    /// Certificates and keys.
    #[error(transparent)]
    Pem(#[from] pem::Error),
}

impl Auth {
    /// Looks at the file, if there is one.
    ///
    /// # Errors
    /// When it cannot be used.
    pub fn check(&self) -> Result<(), Error> {
        match self {
            Self::None | Self::Password { .. } => Ok(()),
            Self::NKey(path) => key_pair(path).map(drop),
            Self::Credentials(path) => std::fs::read_to_string(path)
                .and_then(|text| ConnectOptions::with_credentials(&text).map(drop))
                .map_err(|source| Error::Credentials {
                    path: path.clone(),
                    source,
                }),
        }
    }

    /// The file that is to be kept secret.
    #[must_use]
    pub fn secret_file(&self) -> Option<&Path> {
        match self {
            Self::None | Self::Password { .. } => None,
            Self::NKey(path) | Self::Credentials(path) => Some(path),
        }
    }

    /// What to do when the server does not let us in.
    pub(super) fn advice(&self) -> String {
        match self {
            Self::None => "the server wants to know who asks; set VOICEBUS_NATS_USER and VOICEBUS_NATS_PASSWORD, an NKey file or a credentials file".to_owned(),
            Self::Password { .. } => "the server refuses user and password; check VOICEBUS_NATS_USER and VOICEBUS_NATS_PASSWORD".to_owned(),
            Self::NKey(path) => match key_pair(path) {
                Ok((pair, _)) => format!(
                    "the server knows no user with the NKey of {}; give it the public one, {}",
                    path.display(),
                    pair.public_key()
                ),
                Err(error) => crate::error_chain::Chain(&error).to_string(),
            },
            Self::Credentials(path) => format!(
                "the server refuses the credentials in {}; they may have expired or been revoked, or be of another operator",
                path.display()
            ),
        }
    }

    pub(super) fn apply(&self, options: ConnectOptions) -> Result<ConnectOptions, Error> {
        match self {
            Self::None => Ok(options),
            Self::Password { user, password } => {
                Ok(options.user_and_password(user.clone(), password.clone()))
            }
            Self::NKey(path) => key_pair(path).map(|(_, seed)| options.nkey(seed)),
            Self::Credentials(path) => std::fs::read_to_string(path)
                .and_then(|text| options.credentials(&text))
                .map_err(|source| Error::Credentials {
                    path: path.clone(),
                    source,
                }),
        }
    }
}

impl Tls {
    /// Looks at the files.
    ///
    /// # Errors
    /// When one cannot be used.
    pub fn check(&self) -> Result<(), Error> {
        if let Some(ca) = &self.ca {
            pem::authorities(ca)?;
        }
        if let Some((certificate, key)) = &self.client {
            pem::identity(certificate, key)?;
        }
        Ok(())
    }

    /// The file that is to be kept secret.
    #[must_use]
    pub fn secret_file(&self) -> Option<&Path> {
        self.client.as_ref().map(|(_, key)| key.as_path())
    }

    pub(super) fn apply(&self, mut options: ConnectOptions) -> ConnectOptions {
        if *self != Self::default() {
            // Else somebody on the way could say that the server speaks no TLS, and be told all.
            options = options.require_tls(true);
        }
        if let Some(ca) = &self.ca {
            options = options.add_root_certificates(ca.clone());
        }
        if let Some((certificate, key)) = &self.client {
            options = options.add_client_certificate(certificate.clone(), key.clone());
        }
        options
    }
}

/// The key pair of a file, and the seed that it is made from.
fn key_pair(path: &Path) -> Result<(KeyPair, String), Error> {
    let text = std::fs::read_to_string(path).map_err(|source| Error::NKey {
        path: path.to_owned(),
        source,
    })?;
    text.lines()
        .map(str::trim)
        .filter(|line| line.starts_with("SU"))
        .find_map(|seed| Some((KeyPair::from_seed(seed).ok()?, seed.to_owned())))
        .filter(|(pair, _)| matches!(pair.key_pair_type(), KeyPairType::User))
        .ok_or_else(|| Error::NoSeed {
            path: path.to_owned(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_shown() {
        let auth = Auth::Password {
            user: "me".into(),
            password: "secret".into(),
        };
        assert!(!format!("{auth:?}").contains("secret"));
    }

    #[test]
    fn a_seed_is_found_beside_its_public_key_and_nothing_else_is_one() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let auth = Auth::NKey(file.path().to_owned());
        let user = KeyPair::new_user();
        let seed = user.seed().unwrap();
        for text in [
            seed.clone(),
            // As `nk -gen user -pubout` says it, and as the NATS tools decorate it.
            format!("{seed}\n{}\n", user.public_key()),
            format!("-----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"),
        ] {
            std::fs::write(file.path(), text).unwrap();
            auth.check().unwrap();
        }
        let advice = auth.advice();
        assert!(advice.contains(&user.public_key()), "{advice}");
        for text in [
            String::new(),
            user.public_key(),
            KeyPair::new_account().seed().unwrap(),
            seed[1..].to_owned(),
        ] {
            std::fs::write(file.path(), &text).unwrap();
            let error = auth.check().unwrap_err();
            assert!(matches!(error, Error::NoSeed { .. }), "{text}: {error}");
            assert!(text.is_empty() || !error.to_string().contains(&text));
        }
    }
}
