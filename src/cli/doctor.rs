//! `voicebus doctor`: is all well, and if not, what is to be done.
//!
//! One check after the other, from the ground up. A check that needs what an earlier one did not
//! find is left out, so that the first ✗ is the one to look at.

mod bus;
mod http;
mod place;

use std::io::Write;

use owo_colors::Style;
use serde::Serialize;

use super::paint::{Color, Paint};
use super::target::Target;
use super::text::{clean, padded};
use super::{Exit, unless_reader_left};

const NAME_WIDTH: usize = "dead letters".len();

/// Check that everything works, and say what to do where it does not.
///
/// ✓ is well, ! is worth a look, ✗ is wrong. Leaves with 1 when something is wrong, else with 0.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  voicebus doctor
  voicebus doctor --nats-url nats://nats:4222 --http http://ingress:8082
  voicebus doctor --ready http://127.0.0.1:8082   as the health check of a container")]
pub struct Args {
    /// Only ask URL/ready, and leave with 0 if it says yes. Needs no NATS.
    #[arg(long, value_name = "URL")]
    ready: Option<String>,

    /// Where the ingress is. By default as the data directory says.
    #[arg(long, value_name = "URL", env = "VOICEBUS_HTTP_URL")]
    http: Option<String>,

    /// Whether what NATS acknowledges must survive a power cut: strict or relaxed.
    #[arg(long, value_name = "WHICH", env = "VOICEBUS_DURABILITY", value_parser = ["strict", "relaxed"])]
    durability: Option<String>,

    /// Print the checks as JSON.
    #[arg(long)]
    json: bool,

    /// When to use colours.
    #[arg(long, value_enum, value_name = "WHEN", default_value_t)]
    color: Color,

    #[command(flatten)]
    target: Target,
}

/// How a thing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    Fine,
    Note,
    Wrong,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Check {
    name: &'static str,
    level: Level,
    found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<String>,
}

impl Check {
    fn fine(name: &'static str, found: impl Into<String>) -> Self {
        Self {
            name,
            level: Level::Fine,
            found: found.into(),
            advice: None,
        }
    }

    fn note(name: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            name,
            level: Level::Note,
            found: found.into(),
            advice: Some(advice.into()),
        }
    }

    fn wrong(name: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            level: Level::Wrong,
            ..Self::note(name, found, advice)
        }
    }
}

#[derive(Debug, Serialize)]
struct Report {
    fine: bool,
    checks: Vec<Check>,
}

/// Checks everything, or only whether the ingress is ready.
///
/// # Errors
/// When the output cannot be written.
pub async fn run(args: Args, out: &mut dyn Write) -> anyhow::Result<Exit> {
    unless_reader_left(match &args.ready {
        Some(url) => ready(url, out).await,
        None => everything(&args, out).await,
    })
}

async fn ready(url: &str, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let (text, exit) = match http::ready(url).await {
        Ok(()) => ("ready".to_owned(), Exit::Fine),
        Err(reason) => (format!("not ready: {}", clean(&reason)), Exit::Wrong),
    };
    writeln!(out, "{text}")?;
    Ok(exit)
}

async fn everything(args: &Args, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let mut checks = Vec::new();
    let running = place::running(&args.target, &mut checks);
    if let Some(connection) = place::nats(&args.target, &mut checks).await {
        bus::checks(&connection, args.durability.as_deref(), &mut checks).await;
    }
    let http = args
        .http
        .clone()
        .or_else(|| running.and_then(|running| running.http));
    if let Some(url) = http {
        checks.push(http::check(&url).await);
    }
    let fine = checks.iter().all(|check| check.level != Level::Wrong);
    if args.json {
        writeln!(out, "{}", serde_json::to_string(&Report { fine, checks })?)?;
    } else {
        let paint = Paint::for_stdout(args.color);
        for check in &checks {
            for line in lines(check, paint) {
                writeln!(out, "{line}")?;
            }
        }
    }
    Ok(if fine { Exit::Fine } else { Exit::Wrong })
}

fn lines(check: &Check, paint: Paint) -> Vec<String> {
    let (sign, style) = match check.level {
        Level::Fine => ("✓", Style::new().green()),
        Level::Note => ("!", Style::new().yellow().bold()),
        Level::Wrong => ("✗", Style::new().red().bold()),
    };
    let mut lines = vec![format!(
        "{} {}  {}",
        paint.with(style, sign),
        padded(check.name, NAME_WIDTH),
        clean(&check.found)
    )];
    if let Some(advice) = &check.advice {
        lines.push(format!("  {:NAME_WIDTH$}  → {}", "", clean(advice)));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_says_what_it_found_and_what_to_do() {
        let checks = [
            Check::fine("NATS", "nats-server 2.15.1"),
            Check::note("dead letters", "2 letters", "look at them"),
            Check::wrong("router", "nobody \x1b[2J answers", "start it"),
        ];
        let text: Vec<String> = checks
            .iter()
            .flat_map(|check| lines(check, Paint::PLAIN))
            .collect();
        assert_eq!(
            text,
            [
                "✓ NATS          nats-server 2.15.1",
                "! dead letters  2 letters",
                "                → look at them",
                "✗ router        nobody ␛[2J answers",
                "                → start it",
            ]
        );
        let painted = lines(&checks[2], Paint::COLOURED).remove(0);
        assert!(
            painted.starts_with("\x1b[31;1m✗\x1b[0m router"),
            "{painted:?}"
        );
    }
}
