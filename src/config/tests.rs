use super::*;
use crate::domain::guard::Limits;
use crate::domain::timer::Times;

fn assemble(
    overrides: &Overrides,
    file: Option<&str>,
    env: &[(&str, &str)],
) -> Result<Config, String> {
    let env = |name: &str| {
        env.iter()
            .find(|(key, _)| *key == name)
            .map(|(_, value)| (*value).to_owned())
    };
    Config::assemble(overrides, file, env, Vec::new()).map_err(|mistakes| mistakes.to_string())
}

#[test]
fn the_defaults_are_a_configuration() {
    let config = assemble(&Overrides::default(), None, &[]).unwrap();
    assert_eq!(config.listen.to_string(), "127.0.0.1:8082");
    assert_eq!(config.policy.scope, Scope::PerPhone);
    assert!(config.doors.events.is_open());
    assert_eq!(config.policy.times, Times::default());
}

#[test]
fn the_command_line_beats_the_file_and_the_file_the_defaults() {
    let file = "[sessions]\nagent = \"file\"\nscope = \"per-call\"";
    let overrides = Overrides {
        agent: Some("line".into()),
        ..Overrides::default()
    };
    let config = assemble(&overrides, Some(file), &[]).unwrap();
    assert_eq!(config.policy.agent.as_str(), "line");
    assert_eq!(config.policy.scope, Scope::PerCall);
}

#[test]
fn the_environment_fills_values_of_the_file() {
    let file = "[voice_server]\nurl = \"http://${HOST}:1\"";
    let config = assemble(&Overrides::default(), Some(file), &[("HOST", "h")]).unwrap();
    assert_eq!(config.voice_server, "http://h:1");
    let error = assemble(&Overrides::default(), Some(file), &[]).unwrap_err();
    assert!(error.contains("HOST is not set"), "{error}");
}

#[test]
fn all_mistakes_are_reported_together() {
    let file = "stray = 1\n[http]\nlisten = \"0.0.0.0:1\"\nport = \"2\"\n[sessions]\nscope = \"x\"\n[calls]\nstale_after = \"25h\"\n[log]\nformat = 7";
    let error = assemble(
        &Overrides::default(),
        Some(file),
        &[("VOICEBUS_READ_TOKEN", "short")],
    )
    .unwrap_err();
    for part in [
        "stray",
        "VOICEBUS_EVENT_TOKEN is not set",
        "VOICEBUS_COMMAND_TOKEN is not set",
        "VOICEBUS_READ_TOKEN is shorter",
        "no setting http.port; [http] has listen",
        "sessions.scope is `x`",
        "calls.stale_after is `25h`, but must be a time like",
        "log.format must be a text",
    ] {
        assert!(error.contains(part), "{part} is missing in: {error}");
    }
}

#[test]
fn a_wider_door_opens_with_all_three_tokens() {
    let file = "[http]\nlisten = \"0.0.0.0:1\"";
    let token = "0123456789abcdef";
    let env = [
        ("VOICEBUS_EVENT_TOKEN", token),
        ("VOICEBUS_COMMAND_TOKEN", token),
        ("VOICEBUS_READ_TOKEN", token),
    ];
    assert!(assemble(&Overrides::default(), Some(file), &env).is_ok());
}

#[test]
fn what_opens_no_door_is_a_mistake() {
    let file = "[http]\nrate_per_sender = \"0\"\ntrusted_proxies = \"10.0.0.0/33\"\n\
                [webhooks]\npublic_url = \"hooks.example.com\"\ntwilio_algorithm = \"md5\"";
    let env = [
        ("VOICEBUS_EVENT_SECRET", "whsec_c2hvcnQ="),
        ("VOICEBUS_EVENT_PATH_TOKEN", "short"),
        (
            "VOICEBUS_OPENAI_WEBHOOK_SECRET",
            "tG/oIjL1kSrOwJ6VWgshFQ/C48y68MHp",
        ),
        ("VOICEBUS_TWILIO_AUTH_TOKEN", "0123456789abcdef"),
    ];
    let error = assemble(&Overrides::default(), Some(file), &env).unwrap_err();
    for part in [
        "http.rate_per_sender is `0`",
        "http.trusted_proxies is `10.0.0.0/33`",
        "webhooks.public_url is `hooks.example.com`, but it must begin with https://",
        "webhooks.twilio_algorithm is `md5`",
        "VOICEBUS_EVENT_SECRET is no key: it must hold 24 to 64 bytes",
        "VOICEBUS_EVENT_PATH_TOKEN is shorter",
        "VOICEBUS_OPENAI_WEBHOOK_SECRET is no key: it must begin with `whsec_`",
        "VOICEBUS_TWILIO_AUTH_TOKEN is set, but webhooks.public_url is not",
    ] {
        assert!(error.contains(part), "{part} is missing in: {error}");
    }
    assert!(!error.contains("c2hvcnQ"), "{error}");
}

#[test]
fn two_secrets_are_valid_while_one_follows_the_other() {
    let key = |byte: &str| format!("whsec_{}=", byte.repeat(43));
    let keys = format!(
        "{}\n{}, {}\n",
        key("A"),
        key("B").replace("B=", "A="),
        key("A")
    );
    let env = [
        ("VOICEBUS_OPENAI_WEBHOOK_SECRET", keys.as_str()),
        ("VOICEBUS_TWILIO_AUTH_TOKEN", "new,old"),
        ("VOICEBUS_READ_SECRET", keys.as_str()),
    ];
    let overrides = Overrides {
        public_url: Some("https://hooks.example.com".into()),
        ..Overrides::default()
    };
    let doors = assemble(&overrides, None, &env).unwrap().doors;
    assert_eq!(doors.openai.len(), 3);
    assert_eq!(doors.twilio.unwrap().scheme.tokens.len(), 2);
    assert!(!doors.reading.is_open() && doors.events.is_open());
    // A door that takes tokens only is closed where signatures alone are asked for.
    assert!(!doors.reading.tokens_only().is_open() && doors.events.tokens_only().is_open());
}

#[test]
fn secrets_are_not_shown() {
    let config = assemble(
        &Overrides::default(),
        None,
        &[("VOICEBUS_NATS_PASSWORD", "hidden-value")],
    )
    .unwrap();
    assert!(!format!("{config:?}").contains("hidden-value"));
}

#[test]
fn only_up_has_a_spool_that_nobody_asked_for() {
    let config = |file: &str| assemble(&Overrides::default(), Some(file), &[]).unwrap();
    let unsaid = config("");
    assert_eq!(unsaid.spool_dir, SpoolDir::Unsaid);
    let of_up = unsaid.data_dir.join("spool");
    assert_eq!(unsaid.with_spool().spool_dir, SpoolDir::At(of_up));
    let off = config("[events]\nspool_dir = \"\"");
    assert_eq!(off.with_spool().spool_dir, SpoolDir::Off);
    let there = config("[events]\nspool_dir = \"/there\"");
    assert_eq!(there.with_spool().spool_dir, SpoolDir::At("/there".into()));
    assert_eq!(there.spool_bounds.bytes_max, 256 * 1024 * 1024);
    assert_eq!(there.grouping, Grouping::Auto);
}

#[test]
fn a_spool_without_room_is_a_mistake() {
    let file =
        "[events]\nspool_size_max_mib = \"0\"\nspool_events_max = \"many\"\ngroup_commit = \"on\"";
    let error = assemble(&Overrides::default(), Some(file), &[]).unwrap_err();
    for part in [
        "events.spool_size_max_mib is `0`",
        "events.spool_events_max is `many`",
        "events.group_commit is `on`, but must be auto or off",
    ] {
        assert!(error.contains(part), "{part} is missing in: {error}");
    }
}

#[test]
fn addresses_that_nobody_can_have_are_mistakes() {
    for url in [
        "http://",
        "http://a b/",
        "http://h:99999",
        "ftp://h",
        "http://h?x=1",
    ] {
        let overrides = Overrides {
            voice_server: Some(url.into()),
            nats: NatsArgs {
                nats_url: Some(String::new()),
                creds: Some("/no/such/file".into()),
                ..NatsArgs::default()
            },
            ..Overrides::default()
        };
        let error = assemble(&overrides, None, &[]).unwrap_err();
        for part in [
            "voice_server.url",
            "nats.url is empty",
            "the credentials file /no/such/file",
        ] {
            assert!(error.contains(part), "{part} is missing in: {error}");
        }
    }
}

#[test]
fn the_limits_of_dialling_are_those_of_the_domain() {
    let config = assemble(&Overrides::default(), None, &[]).unwrap();
    assert_eq!(config.dialling, Rules::default());
    assert_eq!(config.dialling.limits, Limits::default());
}

#[test]
fn what_may_be_dialled_comes_from_the_file_and_the_command_line() {
    let file = "[dialling]\ncountries = \"us, AT\"\ncalls_per_day = \"7\"\nquiet_hours = \"21:00-08:00\"\ntime_zones = \"+1201=America/New_York\"\n[voice_server]\nown_numbers = \"+12015550100\"";
    let mut overrides = Overrides::default();
    overrides.dialling.calls_per_hour = Some("5".into());
    let rules = assemble(&overrides, Some(file), &[]).unwrap().dialling;
    assert_eq!(rules.places.countries.len(), 2);
    assert_eq!((rules.limits.per_day, rules.limits.per_hour), (7, 5));
    assert_eq!(rules.quiet.unwrap().zones.0.len(), 1);
    assert_eq!(rules.own_numbers.len(), 1);
}

#[test]
fn all_that_is_wrong_about_dialling_is_said() {
    let file = "[dialling]\ncountries = \"USA\"\nrefused_prefixes = \"1242\"\nquiet_hours = \"late\"\ntime_zones = \"+1=Nowhere\"\ncalls_per_minute = \"0\"\ncalls_at_once = \"1001\"\ncall_length_max = \"25h\"";
    let error = assemble(&Overrides::default(), Some(file), &[]).unwrap_err();
    for part in [
        "dialling.countries is `USA`, but must be countries like",
        "dialling.refused_prefixes is `1242`",
        "dialling.quiet_hours is `late`, but must be hours like 21:00-08:00",
        "dialling.time_zones is `+1=Nowhere`",
        "dialling.calls_per_minute is `0`, but must be a number from 1 to 10000",
        "dialling.calls_at_once is `1001`, but must be a number from 1 to 1000",
        "dialling.call_length_max is `25h`",
    ] {
        assert!(error.contains(part), "{part} is missing in: {error}");
    }
}

#[test]
fn what_is_said_of_retention_is_bounded_by_the_guarantees() {
    let with = |lines: &str| {
        let file = format!("[retention]\n{lines}");
        assemble(&Overrides::default(), Some(&file), &[]).map(|config| config.retention)
    };
    assert_eq!(with("").unwrap(), Retention::default());
    assert_ne!(with("voice_event = \"8d\"").unwrap(), Retention::default());
    assert_ne!(with("voice_in = \"48h\"").unwrap(), Retention::default());
    let all = "voice_in = \"1d\"\nvoice_event = \"7d\"\nvoice_cmd = \"30d\"\nvoice_dlq = \"soon\"\nvoice_intent = \"29d\"\nvoice_audio = \"1d\"";
    let error = with(all).unwrap_err();
    for part in [
        "retention.voice_in is `1d`, but must be from 2d to 7d: timers of a day lie in it",
        "retention.voice_event is `7d`, but must be from 8d to 3650d: an input",
        "retention.voice_cmd is `30d`, but must be from 3d to 7d",
        "retention.voice_dlq is `soon`, but must be a time like 30d",
        "retention.voice_intent is `29d`, but must be from 30d",
        "no setting retention.voice_audio; [retention] has voice_in, voice_event",
    ] {
        assert!(error.contains(part), "{part} is missing in: {error}");
    }
}

/// What stands commented out in the defaults is what the data files say.
#[test]
fn the_defaults_tell_how_long_streams_keep_what_they_hold() {
    let defaults = DEFAULTS.replace("# voice_", "voice_");
    let written = assemble(&Overrides::default(), Some(&defaults), &[]).unwrap();
    let mut of_files = Retention::default();
    for (keeper, days) in crate::bus::streams::KEEPERS.iter().zip([7, 30, 4, 30, 90]) {
        let age = chrono::TimeDelta::days(days);
        of_files.keep(keeper, age).unwrap();
    }
    assert_eq!(written.retention, of_files);
}
