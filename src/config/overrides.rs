//! The settings that can be given on the command line or by environment.

use std::path::PathBuf;

use super::{NatsArgs, dialling};

/// What every role can be told on the command line or by environment.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Overrides {
    /// Configuration file; see config/default.toml for all settings
    #[arg(long, value_name = "FILE", env = "VOICEBUS_CONFIG", global = true)]
    pub config: Option<PathBuf>,
    /// Check the configuration, say what is wrong with it, and leave
    #[arg(long)]
    pub check_config: bool,
    #[command(flatten)]
    pub nats: NatsArgs,
    /// Whether what NATS acknowledges must survive a power cut: strict or relaxed
    #[arg(long, value_name = "WHICH", env = "VOICEBUS_DURABILITY")]
    pub durability: Option<String>,
    /// Where to listen for HTTP; port 0 takes any free one
    #[arg(long, value_name = "ADDR", env = "VOICEBUS_LISTEN")]
    pub listen: Option<String>,
    /// Our certificate, to speak HTTPS instead of HTTP
    #[arg(long, value_name = "FILE", env = "VOICEBUS_HTTP_CERT")]
    pub http_cert: Option<PathBuf>,
    /// Its key
    #[arg(long, value_name = "FILE", env = "VOICEBUS_HTTP_KEY")]
    pub http_key: Option<PathBuf>,
    /// Where the outside finds this ingress, as Twilio was given it, without `/webhook/twilio`
    #[arg(long, value_name = "URL", env = "VOICEBUS_PUBLIC_URL")]
    pub public_url: Option<String>,
    /// The Twilio account whose callbacks are taken [default: any that is signed]
    #[arg(long, value_name = "SID", env = "VOICEBUS_TWILIO_ACCOUNT_SID")]
    pub twilio_account: Option<String>,
    /// The phone-call server
    #[arg(long, value_name = "URL", env = "VOICEBUS_VOICE_SERVER")]
    pub voice_server: Option<String>,
    /// The numbers that the phone-call server calls from, separated by commas
    #[arg(long, value_name = "NUMBERS", env = "VOICEBUS_OWN_NUMBERS")]
    pub own_numbers: Option<String>,
    #[command(flatten)]
    pub dialling: dialling::Overrides,
    /// Where an ingress keeps accepted events while NATS is away, one directory for each
    /// [default: none; `up`: `spool` in its data directory]
    #[arg(long, value_name = "DIR", env = "VOICEBUS_SPOOL_DIR")]
    pub spool_dir: Option<PathBuf>,
    /// Where an egress keeps its high-water mark, one directory for each
    /// [default: none; `up`: `egress` in its data directory]
    #[arg(long, value_name = "DIR", env = "VOICEBUS_DIALLING_DIR")]
    pub dialling_dir: Option<PathBuf>,
    /// The OpenClaw agent that calls belong to
    #[arg(long, value_name = "AGENT", env = "VOICEBUS_AGENT")]
    pub agent: Option<String>,
    /// Which calls share a session: per-phone, per-call or main
    #[arg(long, value_name = "SCOPE", env = "VOICEBUS_SESSION_SCOPE")]
    pub session_scope: Option<String>,
    /// Time zone of times that come without one, for example Europe/Vienna
    #[arg(long, value_name = "ZONE", env = "VOICEBUS_TIME_ZONE")]
    pub time_zone: Option<String>,
    /// Where `up` keeps its data
    #[arg(long, value_name = "DIR", env = "VOICEBUS_DATA_DIR")]
    pub data_dir: Option<PathBuf>,
    /// Where the nats-server of `up` listens; port 0 takes any free one
    #[arg(long, value_name = "ADDR", env = "VOICEBUS_NATS_LISTEN")]
    pub nats_listen: Option<String>,
    /// How much to log: error, warn, info, debug, trace, or a filter
    #[arg(long, value_name = "LEVEL", env = "VOICEBUS_LOG")]
    pub log: Option<String>,
    /// How to log: text or json
    #[arg(long, value_name = "FORMAT", env = "VOICEBUS_LOG_FORMAT")]
    pub log_format: Option<String>,
    /// Let numbers, words and bodies into the log, at debug and trace; for a machine without real
    /// callers
    #[arg(
        long,
        env = "VOICEBUS_LOG_UNSAFE",
        value_parser = clap::builder::FalseyValueParser::new()
    )]
    pub log_unsafe: bool,
}
