//! A certificate and its key: both or none.

use std::path::PathBuf;

/// The two files of a section.
///
/// # Errors
/// A sentence, when one of them is missing.
pub(super) fn pair(
    section: &str,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
) -> Result<Option<(PathBuf, PathBuf)>, String> {
    match (certificate, key) {
        (Some(certificate), Some(key)) => Ok(Some((certificate, key))),
        (None, None) => Ok(None),
        (Some(_), None) => Err(format!(
            "{section}.cert is set, but {section}.key is not; a certificate needs its key"
        )),
        (None, Some(_)) => Err(format!(
            "{section}.key is set, but {section}.cert is not; a key needs its certificate"
        )),
    }
}
