use super::*;

fn target(dir: &Path) -> Target {
    Target {
        data_dir: dir.to_owned(),
        nats: NatsArgs::default(),
    }
}

fn no_env(_: &str) -> Option<String> {
    None
}

fn running() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let run = r#"{"pid":1,"http":"127.0.0.1:8082","nats":"nats://127.0.0.1:4","observer":"nats://observer:o1@127.0.0.1:4","nats_pid":2,"version":"0.1.0"}"#;
    fs::write(dir.path().join("run.json"), run).unwrap();
    fs::write(
        dir.path().join("credentials.json"),
        r#"{"agent":"a1","observer":"o1","operator":"p1","later":{"more":1}}"#,
    )
    .unwrap();
    dir
}

fn login(auth: &Auth) -> (&str, &str) {
    match auth {
        Auth::Password { user, password } => (user, password),
        other => panic!("{other:?}"),
    }
}

#[test]
fn nothing_running_is_one_clear_sentence() {
    let error = target(Path::new(".voicebus-none"))
        .settings(OBSERVER, no_env)
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "no running voicebus found in .voicebus-none; start one with `voicebus up`, or say where NATS is with --nats-url"
    );
}

#[test]
fn what_runs_here_is_found_for_both_roles() {
    let dir = running();
    let target = target(dir.path());
    let observer = target.settings(OBSERVER, no_env).unwrap();
    assert_eq!(observer.url, "nats://127.0.0.1:4");
    assert_eq!(observer.role, "observer");
    assert_eq!(login(&observer.auth), ("observer", "o1"));
    let agent = target.settings(AGENT, no_env).unwrap();
    assert_eq!(agent.url, "nats://127.0.0.1:4");
    assert_eq!(agent.role, "agent");
    assert_eq!(login(&agent.auth), ("agent", "a1"));
}

#[test]
fn a_file_that_cannot_be_used_is_named_and_not_repeated() {
    let dir = running();
    let file = dir.path().join("credentials.json");
    fs::write(&file, r#"{"agent": secret"#).unwrap();
    let error = target(dir.path()).settings(AGENT, no_env).unwrap_err();
    assert!(error.to_string().contains("credentials.json"), "{error}");
    assert!(!error.to_string().contains("secret"), "{error}");
    fs::write(&file, r#"{"observer": "x"}"#).unwrap();
    let error = target(dir.path()).settings(AGENT, no_env).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("no password for the user `agent`; stop voicebus"),
        "{error}"
    );
}

#[test]
fn elsewhere_the_inbox_is_that_of_the_user_who_gets_in() {
    let mut target = target(Path::new("."));
    target.nats.nats_url = Some("nats://h:4222".to_owned());
    let settings = |target: &Target, password: Option<&str>| {
        target
            .settings(OBSERVER, |name| {
                password.filter(|_| name == PASSWORD).map(str::to_owned)
            })
            .map(|settings| (settings.role, format!("{:?}", settings.auth)))
            .map_err(|error| error.to_string())
    };
    let said = |role, auth: &str| Ok((role, auth.to_owned()));
    assert_eq!(settings(&target, None), said("observer", "None"));
    assert_eq!(
        settings(&target, Some("p")),
        said("observer", "Password(observer)")
    );
    target.nats.nats_user = Some("agent".to_owned());
    assert_eq!(
        settings(&target, Some("p")),
        said("agent", "Password(agent)")
    );
    assert_eq!(
        settings(&target, None),
        Err("no password for NATS user `agent`: set VOICEBUS_NATS_PASSWORD, or VOICEBUS_NATS_PASSWORD_FILE to a file".to_owned())
    );
    target.nats.nats_user = None;
    target.nats.nats_url = Some("nats://router:x%40y@h:4222".to_owned());
    assert_eq!(
        settings(&target, Some("p")),
        said("router", "Password(router)")
    );
    let settings_of_url = target.settings(OBSERVER, no_env).unwrap();
    assert_eq!(login(&settings_of_url.auth), ("router", "x@y"));
    target.nats.creds = Some("a.creds".into());
    assert_eq!(
        settings(&target, None),
        said("observer", "Credentials(a.creds)")
    );
    target.nats.nats_user = Some("agent".to_owned());
    assert_eq!(
        settings(&target, None),
        said("agent", "Credentials(a.creds)")
    );
    target.nats.nkey = Some("a.nk".into());
    assert!(settings(&target, None).unwrap_err().contains("two ways"));
    target.nats.creds = None;
    assert_eq!(settings(&target, None), said("agent", "NKey(a.nk)"));
}

#[test]
fn a_password_file_may_end_with_a_line_break() {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), "s3cret\n").unwrap();
    let path = file.path().to_str().unwrap().to_owned();
    let found = password(&|name| (name == PASSWORD_FILE).then(|| path.clone())).unwrap();
    assert_eq!(found.as_deref(), Some("s3cret"));
}

#[test]
fn this_process_is_alive_and_no_process_is_not() {
    assert!(is_alive(i32::try_from(std::process::id()).unwrap()));
    assert!(!is_alive(i32::MAX));
    assert!(!is_alive(0));
}
