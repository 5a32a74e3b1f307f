use std::path::PathBuf;

use super::FORMAT_KNOWN;

/// Why the spool cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Somebody else has it open.
    #[error(
        "another voicebus uses the spool in {dir}; each ingress needs a directory of its own (--spool-dir)"
    )]
    InUse {
        /// The directory.
        dir: PathBuf,
    },
    /// What is there cannot be read.
    #[error(
        "the spool in {dir} is damaged; it may hold accepted events, so move it away rather than delete it, and start again"
    )]
    Damaged {
        /// The directory.
        dir: PathBuf,
        /// What is wrong.
        source: Box<redb::Error>,
    },
    /// Written by a newer version.
    #[error("the spool in {dir} has format {found}, this program reads {FORMAT_KNOWN}")]
    Format {
        /// The directory.
        dir: PathBuf,
        /// What was found.
        found: u64,
    },
    /// The directory cannot be made or looked at.
    #[error("cannot use the directory {dir} for the spool")]
    Directory {
        /// The directory.
        dir: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The disk does not do what it should.
    #[error("cannot {operation} the spool in {dir}")]
    Disk {
        /// What was tried.
        operation: &'static str,
        /// The directory.
        dir: PathBuf,
        /// Why.
        source: Box<redb::Error>,
    },
    /// What was to be done with it ended in a panic.
    #[error("the spool in {dir} could not be used: {reason}")]
    Died {
        /// The directory.
        dir: PathBuf,
        /// What is known.
        reason: String,
    },
}
