//! Texts become values, and what cannot be one becomes a mistake.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::{SpoolDir, certificate, secret};
use crate::http::tls;
use crate::ingress::spool;

/// Turns texts into values and collects what cannot be one.
pub(super) struct Wanted<'a> {
    pub mistakes: &'a mut Vec<String>,
    pub warnings: &'a mut Vec<String>,
}

impl Wanted<'_> {
    pub fn parsed<T>(
        &mut self,
        name: &str,
        text: Option<String>,
        wanted: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        let text = text.unwrap_or_default();
        let value = parse(&text);
        if value.is_none() {
            self.mistakes
                .push(format!("{name} is `{text}`, but must be {wanted}"));
        }
        value
    }

    /// What is wrong with a file, if something is.
    pub fn usable<T, E: std::error::Error + 'static>(&mut self, looked: Result<T, E>) {
        if let Err(error) = looked {
            self.mistakes
                .push(crate::error_chain::Chain(&error).to_string());
        }
    }

    pub fn tls(&mut self, files: [Option<PathBuf>; 2]) -> Option<tls::Files> {
        let [certificate, key] = files;
        let pair = certificate::pair("http", certificate, key);
        let (certificate, key) = pair.map_err(|mistake| self.mistakes.push(mistake)).ok()??;
        let files = tls::Files { certificate, key };
        self.usable(files.read());
        self.secret_file(Some(&files.key));
        Some(files)
    }

    pub fn secret_file(&mut self, path: Option<&Path>) {
        self.warnings.extend(path.and_then(secret::exposed));
    }

    pub fn spool(
        &mut self,
        dir: Option<String>,
        mib_max: Option<String>,
        events_max: Option<String>,
    ) -> Option<(SpoolDir, spool::Bounds)> {
        let number = |text: &str| text.parse().ok().filter(|number: &u64| *number > 0);
        let mib_max = self.parsed(
            "events.spool_size_max_mib",
            mib_max,
            "a number from 1 on",
            |text| number(text)?.checked_mul(1024 * 1024),
        );
        let events_max = self.parsed(
            "events.spool_events_max",
            events_max,
            "a number from 1 on",
            number,
        );
        let dir = match dir {
            None => SpoolDir::Unsaid,
            Some(dir) if dir.is_empty() => SpoolDir::Off,
            Some(dir) => SpoolDir::At(PathBuf::from(dir)),
        };
        let bounds = spool::Bounds {
            bytes_max: mib_max?,
            events_max: events_max?,
        };
        Some((dir, bounds))
    }

    pub fn address(&mut self, name: &str, text: Option<String>) -> Option<SocketAddr> {
        self.parsed(
            name,
            text,
            "an address and a port like 127.0.0.1:8082",
            |text| text.replacen("localhost:", "127.0.0.1:", 1).parse().ok(),
        )
    }
}
