//! NATS over a network: TLS, certificates on both sides, NKeys, credentials files.

mod credentials;
mod rotation;

use std::path::PathBuf;

use futures_util::StreamExt;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use voicebus::bus::server::User;
use voicebus::bus::{self, Auth, Settings, Tls};

use crate::harness::certificates::Authority;
use crate::harness::{Nats, Process, Secure, reached, said, within};

/// The sentence with which a connection does not come about.
async fn refused(settings: &Settings) -> String {
    let connected = within("a refusal", bus::connect(settings)).await;
    connected.expect_err("let in").to_string()
}

#[tokio::test]
async fn who_has_a_certificate_and_a_key_gets_in_and_everybody_else_is_told_why_not() {
    let server = Secure::start().await;
    let right = server.settings(User::Observer);
    within("a connection", bus::connect(&right)).await.unwrap();

    let others = Authority::new(server.dir(), "others");
    let stranger = others.issue("stranger", &["voicebus"]);
    let expired = server.authority.issue_expired("expired", &["voicebus"]);
    let pair = |made: &crate::harness::certificates::Certificate| {
        Some((made.certificate.clone(), made.key.clone()))
    };
    let with_tls = |ca: Option<PathBuf>, client: Option<(PathBuf, PathBuf)>| Settings {
        tls: Tls { ca, client },
        ..right.clone()
    };
    let (ca, client) = (right.tls.ca.clone(), right.tls.client.clone());
    for (settings, words) in [
        // Whoever knows nothing of TLS is asked for it by the server, and trusts nobody.
        (
            Settings {
                url: format!("nats://localhost:{}", server.port()),
                ..with_tls(None, None)
            },
            "of an authority that is not trusted here; name the file of the right one with --nats-ca",
        ),
        (
            with_tls(Some(others.file().to_owned()), client.clone()),
            "of an authority that is not trusted here",
        ),
        (
            with_tls(ca.clone(), None),
            "the server wants to see a certificate of ours; set --nats-cert and --nats-key",
        ),
        (
            with_tls(ca.clone(), pair(&stranger)),
            "the server does not trust our certificate",
        ),
        (
            with_tls(ca.clone(), pair(&expired)),
            "our certificate has expired",
        ),
        (
            Settings {
                url: format!("tls://127.0.0.1:{}", server.port()),
                ..right.clone()
            },
            "the server's certificate is for another name",
        ),
        (
            Settings {
                auth: Auth::None,
                ..right.clone()
            },
            "the server wants to know who asks",
        ),
        (
            Settings {
                auth: Auth::Password {
                    user: "observer".to_owned(),
                    password: "secret-word".to_owned(),
                },
                ..right.clone()
            },
            "the server refuses user and password",
        ),
    ] {
        let sentence = refused(&settings).await;
        assert!(sentence.contains(words), "{words}: {sentence}");
        assert!(!sentence.contains("secret-word"), "{sentence}");
    }
}

#[tokio::test]
async fn a_key_that_the_server_does_not_know_opens_nothing() {
    let server = Secure::start().await;
    let settings = server.settings(User::Router);
    server.change_nkey(User::Router);
    let sentence = refused(&settings).await;
    let seed = std::fs::read_to_string(server.nkey(User::Router)).unwrap();
    let public = nkeys::KeyPair::from_seed(seed.trim()).unwrap().public_key();
    assert!(sentence.contains("no user with the NKey of"), "{sentence}");
    assert!(sentence.contains(&public), "{sentence}");
    assert!(!sentence.contains(seed.trim()), "{sentence}");
}

#[tokio::test]
async fn an_expired_certificate_of_the_server_is_not_believed() {
    let expired = |authority: &Authority| authority.issue_expired("server", &["localhost"]);
    let server = Secure::start_with(expired).await;
    let sentence = refused(&server.settings(User::Observer)).await;
    let words = "the server's certificate has expired; renew it there";
    assert!(sentence.contains(words), "{sentence}");
}

#[tokio::test]
async fn nothing_is_told_to_a_server_without_tls_when_tls_was_asked_for() {
    let plain = Nats::start().await;
    let server = Secure::start().await;
    let right = server.settings(User::Observer);
    let url = plain.url().replacen("nats://", "tls://", 1);
    let asked_for_by_the_url = Settings {
        url,
        tls: Tls::default(),
        ..right.clone()
    };
    let asked_for_by_a_certificate = Settings {
        url: plain.url().to_owned(),
        ..right
    };
    for settings in [asked_for_by_the_url, asked_for_by_a_certificate] {
        let sentence = refused(&settings).await;
        assert!(sentence.contains("the server speaks no TLS"), "{sentence}");
    }
}

#[tokio::test]
async fn nobody_is_heard_who_does_not_encrypt() {
    let server = Secure::start().await;
    let stream = TcpStream::connect(("127.0.0.1", server.port())).await;
    let mut stream = BufReader::new(stream.unwrap());
    let words = "CONNECT {\"verbose\":false}\r\nPUB voice.in.3.CA1.ringing 0\r\n\r\nPING\r\n";
    stream.write_all(words.as_bytes()).await.unwrap();
    let mut lines = stream.lines();
    // What the server says of itself, then the refusal, or nothing at all.
    while let Ok(Some(line)) = within("a line", lines.next_line()).await {
        assert!(
            line.starts_with("INFO") || line.starts_with("-ERR"),
            "{line}"
        );
    }
}

#[tokio::test]
async fn a_call_goes_the_whole_way_over_certificates_and_keys() {
    let server = Secure::start().await;
    let start = |role: &str, user: User, args: &[&str]| {
        let mut all = vec![role];
        all.extend(args);
        Process::start(role, server.dir(), all, &server.env(user))
    };
    let mut provision = start("provision", User::Provision, &[]);
    assert!(provision.ended().await.success(), "{}", provision.log());
    let listen = ["--listen", "127.0.0.1:0"];
    let mut ingress = start("ingress", User::Ingress, &listen);
    let mut router = start("router", User::Router, &listen);
    let mut egress = start("egress", User::Egress, &listen);
    router.ready().await;
    egress.ready().await;
    let http = ingress.ready().await;

    let observer = server.plain_client(User::Observer).await;
    let mut feed = observer.subscribe("voice.event.>").await.unwrap();
    observer.flush().await.unwrap();
    let answer = http
        .post("/call-event", &said("rtc_1", "Hello over there"))
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    loop {
        let event = within("an utterance", feed.next()).await.unwrap();
        let json: Value = serde_json::from_slice(&event.payload).unwrap();
        if json["type"] == "openclaw.voice.transcript.user" {
            assert!(json.to_string().contains("Hello over there"), "{json}");
            break;
        }
    }
    for process in [ingress, router, egress] {
        let log = process.log();
        for file in [server.nkey(User::Ingress), server.client.key.clone()] {
            let secret = std::fs::read_to_string(file).unwrap();
            for line in secret.lines().filter(|line| !line.starts_with("---")) {
                assert!(!log.contains(line), "a secret is in the log");
            }
        }
        // The files of this test are open to all, which is worth a word.
        assert!(log.contains("every user of this machine can read"), "{log}");
        process.stop().await;
    }
}

#[tokio::test]
async fn what_is_wrong_with_the_files_is_said_before_anything_starts() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new(dir.path(), "authority");
    let (a, b) = (authority.issue("a", &["a"]), authority.issue("b", &["b"]));
    let check = async |args: &[&str], env: &[(&str, &str)]| {
        let mut all = vec!["router", "--check-config", "--nats-url", "tls://h:1"];
        all.extend(args);
        let env: Vec<_> = env
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let mut process = Process::start("check", dir.path(), all, &env);
        let code = process.ended().await.code();
        (code, process.log())
    };
    let (a_crt, a_key) = (a.certificate.to_str().unwrap(), a.key.to_str().unwrap());
    let (code, words) = check(&["--nats-cert", a_crt, "--nats-key", a_key], &[]).await;
    assert_eq!(code, Some(0), "{words}");
    let b_key = b.key.to_str().unwrap();
    for (args, says) in [
        (
            &["--nats-ca", "none.crt"][..],
            "cannot read none.crt: No such file",
        ),
        (
            &["--nats-ca", a_key],
            "a.key holds no certificate in PEM form",
        ),
        (
            &["--nats-cert", a_crt],
            "nats.cert is set, but nats.key is not",
        ),
        (
            &["--nats-key", a_key],
            "nats.key is set, but nats.cert is not",
        ),
        (
            &["--nats-cert", a_crt, "--nats-key", b_key],
            "b.key does not belong to the certificate",
        ),
        (
            &["--nkey", "none.nk"],
            "cannot read the NKey file none.nk: No such file",
        ),
        (&["--nkey", a_key], "holds no NKey seed of a user"),
        (&["--creds", a_key], "cannot use the credentials file"),
        (
            &["--nkey", a_key, "--creds", a_key],
            "more than one way to log in",
        ),
        (
            &["--nats-url", "tls://me:secret-word@h:1"],
            "--nats-url holds a password, which every user of this machine can read",
        ),
    ] {
        let args: Vec<&str> = args.to_vec();
        let (code, words) = if args[0] == "--nats-url" {
            let mut process = Process::start(
                "check",
                dir.path(),
                ["router", "--check-config"].iter().chain(&args),
                &[],
            );
            (process.ended().await.code(), process.log())
        } else {
            check(&args, &[]).await
        };
        assert_eq!(code, Some(64), "{args:?}: {words}");
        assert!(words.contains(says), "{says}: {words}");
        assert!(!words.contains("secret-word"), "{words}");
    }
    // An address from the environment may hold a password: nobody else can read that.
    let url = [("VOICEBUS_NATS_URL", "tls://me:secret-word@h:1")];
    let mut process = Process::start(
        "check",
        dir.path(),
        ["router", "--check-config"],
        &url.map(|(name, value)| (name.to_owned(), value.to_owned())),
    );
    assert_eq!(process.ended().await.code(), Some(0), "{}", process.log());
}

#[tokio::test]
async fn a_tool_gets_in_with_certificate_and_key_as_a_role_does() {
    let server = Secure::start().await;
    let mut provision = Process::start(
        "provision",
        server.dir(),
        ["provision"],
        &server.env(User::Provision),
    );
    assert!(provision.ended().await.success(), "{}", provision.log());
    let tool = async |env: Vec<(String, String)>| {
        let mut command = tokio::process::Command::new(crate::harness::voicebus());
        command.args(["calls"]).envs(env).current_dir(server.dir());
        let output = within("a tool", command.output()).await.unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(said).unwrap())
    };
    let mut env = server.env(User::Observer);
    let (_, words) = tool(env.clone()).await;
    assert!(!words.contains("cannot connect"), "{words}");
    env.retain(|(name, _)| name != "VOICEBUS_NATS_CA");
    let words = reached("a refusal", async || {
        let (code, words) = tool(env.clone()).await;
        if code == Some(1) {
            Ok(words)
        } else {
            Err(words)
        }
    })
    .await;
    assert!(words.contains("not trusted here"), "{words}");
}
