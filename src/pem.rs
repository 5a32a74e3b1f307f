//! Certificates and keys in PEM files.
//!
//! Every file is looked at when the process starts, so that a mistake in one is a sentence that names
//! it, and not a handshake that fails later.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustls::RootCertStore;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use thiserror::Error;

/// Why a file cannot be used.
#[derive(Debug, Error)]
pub enum Error {
    /// It is not there, or not for us.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is something else.
    #[error("{} holds no {wanted} in PEM form (`-----BEGIN …`)", path.display())]
    Nothing {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        wanted: &'static str,
    },
    /// What it holds is of no use.
    #[error("the certificate in {} cannot be used: {reason}", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Two files that do not belong together.
    #[error(
        "the key in {} does not belong to the certificate in {}; give the two that were made together",
        key.display(),
        certificate.display()
    )]
    Mismatch {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
}

/// The authorities of a file.
///
/// # Errors
/// When the file holds none, or one that cannot be used.
pub fn authorities(path: &Path) -> Result<RootCertStore, Error> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(path)? {
        store.add(certificate).map_err(|error| Error::Certificate {
            path: path.to_owned(),
            reason: error.to_string(),
        })?;
    }
    Ok(store)
}

/// A certificate with those that vouch for it, and its key.
///
/// # Errors
/// When one of the files cannot be used, or they do not belong together.
pub fn identity(certificate: &Path, key: &Path) -> Result<CertifiedKey, Error> {
    let chain = certificates(certificate)?;
    let bytes = read(key)?;
    let secret = PrivateKeyDer::from_pem_slice(&bytes).map_err(|_| Error::Nothing {
        path: key.to_owned(),
        wanted: "private key",
    })?;
    CertifiedKey::from_der(chain, secret, &default_provider()).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => Error::Mismatch {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
        },
        other => Error::Certificate {
            path: certificate.to_owned(),
            reason: other.to_string(),
        },
    })
}

/// Whether every user of the machine can read a file that is meant to be secret.
#[must_use]
pub fn is_open_to_all(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|file| file.permissions().mode() & 0o004 != 0)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let nothing = || Error::Nothing {
        path: path.to_owned(),
        wanted: "certificate",
    };
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(path)?).collect();
    all.ok().filter(|all| !all.is_empty()).ok_or_else(nothing)
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|source| Error::Read {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(dir: &Path, name: &str) -> (PathBuf, PathBuf) {
        let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
        let (certificate, key) = (
            dir.join(format!("{name}.crt")),
            dir.join(format!("{name}.key")),
        );
        std::fs::write(&certificate, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        (certificate, key)
    }

    #[test]
    fn a_certificate_goes_with_its_own_key_only() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (made(dir.path(), "a"), made(dir.path(), "b"));
        assert!(identity(&a.0, &a.1).is_ok());
        assert!(authorities(&a.0).is_ok());
        let error = identity(&a.0, &b.1).unwrap_err().to_string();
        assert!(error.contains("b.key does not belong"), "{error}");
    }

    #[test]
    fn what_is_missing_or_something_else_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let (certificate, key) = made(dir.path(), "a");
        let error = authorities(&dir.path().join("none")).unwrap_err();
        assert!(matches!(error, Error::Read { .. }), "{error}");
        // The two were mixed up.
        let error = identity(&key, &certificate).unwrap_err().to_string();
        assert!(
            error.ends_with("a.key holds no certificate in PEM form (`-----BEGIN …`)"),
            "{error}"
        );
        let error = identity(&certificate, &certificate)
            .unwrap_err()
            .to_string();
        assert!(error.contains("a.crt holds no private key"), "{error}");
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        std::fs::write(&certificate, broken).unwrap();
        let error = authorities(&certificate).unwrap_err();
        assert!(matches!(error, Error::Certificate { .. }), "{error}");
    }

    #[test]
    fn a_file_that_everybody_can_read_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let (_, key) = made(dir.path(), "a");
        for (mode, open) in [(0o600, false), (0o640, false), (0o644, true)] {
            std::fs::set_permissions(&key, std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(is_open_to_all(&key), open, "{mode:o}");
        }
    }
}
