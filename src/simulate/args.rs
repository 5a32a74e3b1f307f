//! The arguments of `voicebus simulate`.

use std::fmt;
use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;

use anyhow::Context as _;

use super::emitter::Retry;

/// Stand in for the phone-call server, and send events of invented calls. Dials nobody.
///
/// Serves the HTTP interface of the real Python server on a loopback address (POST /call, GET /calls, GET /history and
/// the rest) and, with --calls, posts the events of generated calls to voicebus. No number is dialled, no account is
/// needed, and every number used is one set aside for fiction.
#[derive(clap::Args, Debug, Clone)]
pub struct Args {
    /// Where the stand-in serves: a loopback address; port 0 takes any free port
    #[arg(
        long,
        value_name = "ADDR",
        default_value = "127.0.0.1:8080",
        env = "VOICEBUS_SIMULATE_LISTEN"
    )]
    pub listen: SocketAddr,

    /// Base address of the voicebus ingress; events are posted to URL/call-event
    #[arg(
        long,
        value_name = "URL",
        default_value = "http://127.0.0.1:8082",
        env = "VOICEBUS_SIMULATE_TARGET"
    )]
    pub target: String,

    /// How many calls to generate; 0 only serves
    #[arg(
        long,
        value_name = "N",
        default_value_t = 0,
        env = "VOICEBUS_SIMULATE_CALLS"
    )]
    pub calls: usize,

    /// Events per second over all generated calls; 0 sends as fast as they are accepted
    #[arg(long, value_name = "R", default_value_t = 20.0, value_parser = rate, env = "VOICEBUS_SIMULATE_RATE")]
    pub rate: f64,

    /// Utterances per call
    #[arg(
        long,
        value_name = "N",
        default_value_t = 6,
        env = "VOICEBUS_SIMULATE_TRANSCRIPTS"
    )]
    pub transcripts: usize,

    /// Generated calls that are open at the same time
    #[arg(
        long,
        value_name = "N",
        default_value = "10",
        env = "VOICEBUS_SIMULATE_CONCURRENT"
    )]
    pub concurrent: NonZeroUsize,

    /// How many places an event may be out of turn within its call; the real emitter shows up to 12
    #[arg(
        long,
        value_name = "N",
        default_value_t = 0,
        env = "VOICEBUS_SIMULATE_REORDER"
    )]
    pub reorder: usize,

    /// Share of events sent twice: the same bytes, or for half of the repeated starts and ends a new timestamp, as the
    /// real emitter does when a webhook reaches it twice
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0, value_parser = percent, env = "VOICEBUS_SIMULATE_DUPLICATE")]
    pub duplicate: f64,

    /// Which version of the real server to stand in for: v1 and v3 send no events for their own calls, v2 does
    #[arg(long, value_enum, default_value_t = Version::V2, env = "VOICEBUS_SIMULATE_VERSION")]
    pub version: Version,

    /// Same seed, same calls: ids, numbers, texts and order. Without it each run has its own, which is
    /// printed. Ids repeat with it as well, also those of calls placed by POST /call
    #[arg(long, value_name = "S", env = "VOICEBUS_SIMULATE_SEED")]
    pub seed: Option<u64>,

    /// Append a JSON line to FILE for every accepted event and, before it is answered, for every POST /call
    #[arg(long, value_name = "FILE", env = "VOICEBUS_SIMULATE_RECORD")]
    pub record: Option<PathBuf>,

    /// Whether calls made by POST /call are answered: v2 then sends the events of the answering leg too
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1,
          default_missing_value = "true", env = "VOICEBUS_SIMULATE_ANSWER_CALLS")]
    pub answer_calls: bool,

    /// Stand in for a server with a tap: repeats of a dial are refused, and conversations can be spoken into
    #[arg(long, env = "VOICEBUS_SIMULATE_TAP", value_parser = clap::builder::FalseyValueParser::new())]
    pub tap: bool,

    /// Try every event once with 5 s of patience and then forget it, as the real emitter does
    #[arg(long, conflicts_with = "retries", env = "VOICEBUS_SIMULATE_NO_RETRY", value_parser = clap::builder::FalseyValueParser::new())]
    pub no_retry: bool,

    /// How often an event that was not accepted is repeated; without it, until it is or the run is stopped
    #[arg(long, value_name = "N", env = "VOICEBUS_SIMULATE_RETRIES")]
    pub retries: Option<NonZeroU32>,

    /// Leave when all generated calls are sent, and do not go on serving
    #[arg(long, env = "VOICEBUS_SIMULATE_EXIT", value_parser = clap::builder::FalseyValueParser::new())]
    pub exit: bool,

    /// Print start, progress and summary as JSON lines
    #[arg(long, env = "VOICEBUS_SIMULATE_JSON", value_parser = clap::builder::FalseyValueParser::new())]
    pub json: bool,

    /// File with the token that is sent as `Authorization: Bearer`; without it the variable VOICEBUS_EVENT_TOKEN is
    /// used if it is set. The real emitter sends none
    #[arg(long, value_name = "FILE", env = "VOICEBUS_SIMULATE_EVENT_TOKEN_FILE")]
    pub event_token_file: Option<PathBuf>,
}

/// The versions of the real server which can be stood in for.
#[derive(clap::ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// Outbound calling without any event
    V1,
    /// Sends call_started, transcript_update and call_ended
    V2,
    /// The rewrite: no events, no history
    V3,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V1 => "v1",
            Self::V2 => "v2",
            Self::V3 => "v3",
        })
    }
}

/// A secret: it cannot be printed by accident.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// The token in a text, without the blanks and line ends around it; `None` of a blank text.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        (!text.is_empty()).then(|| Self(text.to_owned()))
    }

    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

impl Args {
    /// The event token from the file or from the environment.
    pub fn event_token(&self) -> anyhow::Result<Option<Token>> {
        let Some(path) = &self.event_token_file else {
            return Ok(std::env::var("VOICEBUS_EVENT_TOKEN")
                .ok()
                .as_deref()
                .and_then(Token::parse));
        };
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("failed to read the event token from `{}`", path.display()))?;
        let token = Token::parse(&text)
            .with_context(|| format!("no event token in `{}`", path.display()))?;
        Ok(Some(token))
    }

    pub fn retry(&self) -> Retry {
        match (self.no_retry, self.retries) {
            (true, _) => Retry::Never,
            (false, Some(times)) => Retry::AtMost(times),
            (false, None) => Retry::UntilStopped,
        }
    }
}

fn rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text
        .parse()
        .map_err(|_| "expected a number of events per second".to_owned())?;
    if rate.is_finite() && rate >= 0.0 {
        Ok(rate)
    } else {
        Err("expected 0 or more events per second".to_owned())
    }
}

fn percent(text: &str) -> Result<f64, String> {
    let percent: f64 = text
        .trim_end_matches('%')
        .parse()
        .map_err(|_| "expected a percentage".to_owned())?;
    if (0.0..=100.0).contains(&percent) {
        Ok(percent)
    } else {
        Err("expected 0 to 100 percent".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser as _};

    use super::*;

    #[derive(clap::Parser)]
    struct Cli {
        #[command(subcommand)]
        command: Command,
    }

    #[derive(clap::Subcommand)]
    enum Command {
        Simulate(Args),
    }

    fn parse(arguments: &[&str]) -> Result<Args, clap::Error> {
        let all = ["voicebus", "simulate"].iter().chain(arguments);
        Cli::try_parse_from(all).map(
            |Cli {
                 command: Command::Simulate(args),
             }| args,
        )
    }

    #[test]
    fn the_flags_make_a_sound_command() {
        Cli::command().debug_assert();
        let args = parse(&[]).unwrap();
        assert_eq!(args.listen, "127.0.0.1:8080".parse().unwrap());
        assert_eq!(
            (args.calls, args.transcripts, args.concurrent.get()),
            (0, 6, 10)
        );
        assert!(args.answer_calls && !args.exit && !args.json);
        assert_eq!(args.retry(), Retry::UntilStopped);
    }

    #[test]
    fn values_out_of_range_are_refused() {
        for bad in [
            ["--rate", "-1"],
            ["--rate", "NaN"],
            ["--rate", "inf"],
            ["--duplicate", "101"],
            ["--concurrent", "0"],
            ["--version", "v4"],
            ["--retries", "0"],
        ] {
            assert!(parse(&[bad[0], bad[1]]).is_err(), "{bad:?}");
        }
        assert!(parse(&["--no-retry", "--retries", "3"]).is_err());
        assert!(!parse(&["--answer-calls", "false"]).unwrap().answer_calls);
        assert_eq!(
            parse(&["--version", "v3", "--no-retry"]).unwrap().retry(),
            Retry::Never
        );
    }

    #[test]
    fn a_token_is_trimmed_and_never_printed() {
        assert_eq!(Token::parse(" \n"), None);
        let token = Token::parse("  s3cret\n").unwrap();
        assert_eq!(token.expose(), "s3cret");
        assert!(!format!("{token:?}").contains("s3cret"));
    }
}
