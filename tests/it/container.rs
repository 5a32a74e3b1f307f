//! What the files for containers promise, as far as it can be read from them.

use crate::harness::Process;

const COMPOSE: &str = include_str!("../../docker-compose.yml");

/// The services, each with its lines.
fn services() -> Vec<(&'static str, Vec<&'static str>)> {
    let mut all: Vec<(&str, Vec<&str>)> = Vec::new();
    let below = COMPOSE.split("\nservices:\n").nth(1).unwrap();
    for line in below.lines() {
        let indent = line.len() - line.trim_start().len();
        match (indent, line.trim_end().strip_suffix(':')) {
            (0, Some(_)) => break,
            (2, Some(name)) => all.push((name.trim(), Vec::new())),
            _ if line.trim_start().starts_with('#') => {}
            _ => all.last_mut().unwrap().1.push(line),
        }
    }
    all
}

fn is_voicebus(lines: &[&str]) -> bool {
    lines.iter().any(|line| line.trim() == "<<: *voicebus")
}

/// The words of its command, with what stands for a variable that is not set.
fn command(lines: &[&str]) -> Vec<String> {
    let at = lines
        .iter()
        .position(|line| line.trim().starts_with("command:"))
        .unwrap();
    let (_, inline) = lines[at].split_once("command:").unwrap();
    let words: Vec<String> = if inline.trim().is_empty() {
        let items = lines[at + 1..].iter().map(|line| line.trim());
        let items = items.map_while(|line| line.strip_prefix("- "));
        items.map(str::to_owned).collect()
    } else {
        serde_json::from_str(inline.trim()).unwrap()
    };
    let default_of = |word: String| match word.split_once("=${") {
        Some((flag, variable)) => {
            let (_, default) = variable.split_once(":-").unwrap();
            format!("{flag}={}", default.trim_end_matches('}'))
        }
        None => word,
    };
    words.into_iter().map(default_of).collect()
}

#[test]
fn every_container_is_read_only_and_may_do_nothing() {
    let shared: Vec<&str> = COMPOSE
        .lines()
        .skip_while(|line| !line.starts_with("x-voicebus:"))
        .take_while(|line| !line.trim().is_empty())
        .collect();
    let all = services();
    assert_eq!(all.len(), 6, "{all:?}");
    for (name, lines) in all {
        let lines = if is_voicebus(&lines) {
            [&shared[..], &lines].concat()
        } else {
            lines
        };
        let has = |wanted: &str| lines.iter().any(|line| line.trim() == wanted);
        assert!(has("read_only: true"), "{name}");
        assert!(has("cap_drop: [ALL]"), "{name}");
        assert!(has("security_opt: [\"no-new-privileges:true\"]"), "{name}");
        // One only gives new folders away, and reaches nobody.
        let gives_folders_away = name == "volumes" && has("network_mode: none");
        assert!(has("user: \"65532:65532\"") || gives_folders_away, "{name}");
    }
    let dockerfile = include_str!("../../Dockerfile");
    let (_, image) = dockerfile.rsplit_once("\nFROM ").unwrap();
    assert!(image.starts_with("scratch\n") && image.contains("\nUSER 65532:65532\n"));
}

#[test]
fn no_secret_is_written_into_the_files() {
    for line in COMPOSE.lines().map(str::trim) {
        let named = line
            .split_once(": ")
            .or(line.strip_suffix(':').map(|name| (name, "")));
        let Some((name, value)) = named else { continue };
        if ["PASSWORD", "TOKEN", "SECRET"]
            .iter()
            .any(|word| name.contains(word))
        {
            let comes_from_outside = value.is_empty()
                || value == format!("${{{name}:?set it in .env}}")
                // A role has one password, whatever it is called for the server.
                || value.starts_with("${VOICEBUS_NATS_PASSWORD_");
            assert!(comes_from_outside, "{line}");
        }
    }
    for line in include_str!("../../.env.example").lines() {
        let line = line.trim_start_matches('#');
        if let Some((name, value)) = line.split_once('=')
            && ["PASSWORD", "TOKEN", "SECRET"]
                .iter()
                .any(|word| name.contains(word))
        {
            assert!(["", "whsec_"].contains(&value), "{line}");
        }
    }
}

#[tokio::test]
async fn the_commands_of_the_containers_are_understood() {
    let dir = tempfile::tempdir().unwrap();
    let token = "0123456789abcdef".to_owned();
    let env = [
        "VOICEBUS_NATS_PASSWORD",
        "VOICEBUS_EVENT_TOKEN",
        "VOICEBUS_COMMAND_TOKEN",
        "VOICEBUS_READ_TOKEN",
    ]
    .map(|name| (name.to_owned(), token.clone()));
    let mut checked = 0;
    for (name, lines) in services() {
        if !is_voicebus(&lines) {
            continue;
        }
        let mut words = command(&lines);
        words.push("--check-config".to_owned());
        let mut process = Process::start(name, dir.path(), &words, &env);
        let code = process.ended().await.code();
        assert_eq!(code, Some(0), "{words:?}: {}", process.log());
        checked += 1;
    }
    assert_eq!(checked, 4);
}
