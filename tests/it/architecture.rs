//! Who may know whom, as ARCHITECTURE and the module docs promise it.

use std::path::{Path, PathBuf};

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// All Rust files below a folder or of a module, with their paths below `src` and the code in
/// them: comments and tests are free to speak of anything.
fn files(below: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![source().join(below)];
    while let Some(path) = folders.pop() {
        if path.is_dir() {
            folders.extend(
                std::fs::read_dir(&path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path
                .strip_prefix(source())
                .unwrap()
                .to_string_lossy()
                .into_owned();
            found.push((name, code(&std::fs::read_to_string(&path).unwrap())));
        }
    }
    found.sort();
    assert!(!found.is_empty(), "nothing below {below}");
    found
}

fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]").next().unwrap_or_default();
    let lines = text
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default());
    lines.collect::<Vec<_>>().join("\n")
}

/// The files that use a word as a word of its own.
fn users<'a>(files: &'a [(String, String)], word: &str) -> Vec<&'a str> {
    let uses = |text: &str| {
        text.match_indices(word).any(|(place, _)| {
            let before = text[..place].chars().next_back();
            let after = text[place + word.len()..].chars().next();
            let inside = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
            !inside(before) && !inside(after)
        })
    };
    let found = files.iter().filter(|(_, text)| uses(text));
    found.map(|(name, _)| name.as_str()).collect()
}

#[test]
fn the_domain_knows_no_clock_no_wire_and_no_thread() {
    let domain = files("domain");
    for word in [
        "tokio",
        "async_nats",
        "axum",
        "serde",
        "serde_json",
        "tracing",
        "hyper",
        "reqwest",
        "rand",
        "uuid",
        "async",
        "SystemTime",
        "Instant",
        "thread",
    ] {
        assert_eq!(
            users(&domain, word),
            Vec::<&str>::new(),
            "`{word}` in the domain"
        );
    }
    let asks = domain.iter().find(|(_, text)| text.contains("::now("));
    assert_eq!(asks, None, "a clock in the domain");
    for module in [
        "bus", "ingress", "router", "egress", "http", "app", "config", "simulate",
    ] {
        let path = format!("crate::{module}");
        assert_eq!(
            users(&domain, &path),
            Vec::<&str>::new(),
            "`{path}` in the domain"
        );
    }
}

#[test]
fn only_the_bus_says_async_nats() {
    let all = files("");
    let outside: Vec<&str> = users(&all, "async_nats::")
        .into_iter()
        .filter(|name| !name.starts_with("bus/"))
        .collect();
    assert_eq!(outside, Vec::<&str>::new());
}

#[test]
fn roles_never_import_each_other() {
    let roles = ["ingress", "router", "egress"];
    for role in roles {
        let own = files(role);
        for other in roles.into_iter().filter(|other| *other != role) {
            for path in [format!("crate::{other}"), format!("super::{other}")] {
                assert_eq!(users(&own, &path), Vec::<&str>::new(), "{path} in {role}");
            }
        }
    }
}

#[test]
fn the_bus_knows_no_role_and_the_simulator_knows_nothing_of_voicebus() {
    for module in [
        "ingress", "router", "egress", "app", "cli", "simulate", "config",
    ] {
        let path = format!("crate::{module}");
        assert_eq!(
            users(&files("bus"), &path),
            Vec::<&str>::new(),
            "{path} in the bus"
        );
    }
    // The crate's choice of cryptography is all that the two share.
    for module in [
        "bus", "domain", "ingress", "router", "egress", "app", "config",
    ] {
        let path = format!("crate::{module}");
        assert_eq!(
            users(&files("simulate"), &path),
            Vec::<&str>::new(),
            "{path} in simulate"
        );
    }
}

#[test]
fn every_subject_is_written_in_one_place() {
    // Permissions and stream definitions are data, under `nats/`.
    let all = files("");
    let writers: Vec<&str> = all
        .iter()
        .filter(|(name, _)| name != "bus/subjects.rs" && !name.starts_with("cli"))
        .filter(|(name, _)| !name.ends_with("tests.rs"))
        .filter(|(_, text)| text.contains("\"voice.") || text.contains("\"voicebus.commit"))
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(writers, Vec::<&str>::new());
}
