//! `voicebus openapi`: what the ingress serves, for programs that make clients or tests of it.

use std::io::Write;

use super::{Exit, unless_reader_left};
use crate::app::document;
use crate::http::operations::Document;

/// Prints the document that `GET /openapi.json` serves. Needs nothing that runs.
///
/// # Errors
/// When it cannot be written.
pub fn run(out: &mut dyn Write) -> anyhow::Result<Exit> {
    let document = Document::new(&document::of_ingress())?;
    let written = out
        .write_all(document.json())
        .and_then(|()| writeln!(out))
        .map(|()| Exit::Fine);
    unless_reader_left(written.map_err(Into::into))
}
