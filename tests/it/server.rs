//! The nats-server of `up`: found, started, restarted, stopped, and never left behind.

use std::path::Path;
use std::process::Stdio;

use rustix::process::{Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use voicebus::bus::server::{Error, MINIMUM, Server, ServerConfig, User};

use crate::harness::{as_pid, binary, eventually, reached, runs, server_config, voicebus, within};

async fn gone(pid: u32) {
    eventually("the end of a process", async || (!runs(pid)).then_some(())).await;
}

/// The process that watches over another one.
fn guard_of(pid: u32) -> u32 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, rest) = stat.rsplit_once(") ").unwrap();
    rest.split(' ').nth(1).unwrap().parse().unwrap()
}

async fn start(dir: &Path) -> Server {
    let config = server_config(dir).await;
    within("start", Server::start(config, CancellationToken::new()))
        .await
        .unwrap()
}

async fn connect(server: &Server) -> async_nats::Client {
    let password = server.credentials().password(User::Observer).reveal();
    let options =
        async_nats::ConnectOptions::with_user_and_password("observer".into(), password.into());
    within("connection", options.connect(server.url()))
        .await
        .unwrap()
}

#[tokio::test]
async fn the_server_found_on_this_machine_is_new_enough() {
    assert!(binary().await.version >= MINIMUM);
}

#[tokio::test]
async fn it_starts_answers_and_stops() {
    let dir = tempfile::tempdir().unwrap();
    // A space and a quote: the path goes through the server's configuration language.
    let data = dir.path().join("it's \"voice\" bus");
    let server = start(&data).await;
    let pid = server.pid().unwrap();
    assert!(runs(pid));
    let client = connect(&server).await;
    within("answer", client.request("$JS.API.INFO", "".into()))
        .await
        .unwrap();
    assert!(data.join("nats/jetstream").is_dir());
    assert!(data.join("nats/nats-server.log").is_file());

    within("stop", server.stop()).await;
    assert!(!runs(pid));
    let log = std::fs::read_to_string(data.join("nats/nats-server.log")).unwrap();
    assert!(log.contains("Server Exiting"), "not a graceful end:\n{log}");
}

#[tokio::test]
async fn killed_it_is_started_again_on_the_same_ports_with_the_same_passwords() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path()).await;
    let (url, monitor) = (server.url().to_owned(), server.monitor_url().to_owned());
    let client = connect(&server).await;
    for round in 0..2 {
        let pid = server.pid().unwrap();
        kill_process(as_pid(pid), Signal::KILL).unwrap();
        within("restart", server.restarted(round)).await;
        assert_ne!(server.pid(), Some(pid));
        assert_eq!((server.url(), server.monitor_url()), (&*url, &*monitor));
        eventually("an answer to the old client", async || {
            client.request("$JS.API.INFO", "".into()).await.ok()
        })
        .await;
    }
    within("stop", server.stop()).await;
}

#[tokio::test]
async fn a_killed_guard_takes_its_server_along_and_both_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path()).await;
    let pid = server.pid().unwrap();
    kill_process(as_pid(guard_of(pid)), Signal::KILL).unwrap();
    within("restart", server.restarted(0)).await;
    assert!(!runs(pid));
    connect(&server).await;
    within("stop", server.stop()).await;
}

#[tokio::test]
async fn a_frozen_server_is_stopped_with_force() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = server_config(dir.path()).await;
    config.stop_grace = std::time::Duration::from_millis(200);
    let server = Server::start(config, CancellationToken::new())
        .await
        .unwrap();
    let pid = server.pid().unwrap();
    kill_process(as_pid(pid), Signal::STOP).unwrap();
    within("stop", server.stop()).await;
    assert!(!runs(pid));
}

#[tokio::test]
async fn the_token_stops_it_and_dropping_it_does_too() {
    let dir = tempfile::tempdir().unwrap();
    let stop = CancellationToken::new();
    let config = server_config(dir.path()).await;
    let mut server = Server::start(config, stop.clone()).await.unwrap();
    let pid = server.pid().unwrap();
    stop.cancel();
    within("stop", server.stopped()).await;
    assert!(!runs(pid));

    drop(server);
    let server = start(dir.path()).await;
    let pid = server.pid().unwrap();
    drop(server);
    gone(pid).await;
}

#[tokio::test]
async fn a_chosen_port_is_used_and_a_taken_one_is_an_error_that_shows_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut config = server_config(dir.path()).await;
    config.listen = taken.local_addr().unwrap();
    let error = within(
        "refusal",
        Server::start(config.clone(), CancellationToken::new()),
    )
    .await
    .unwrap_err();
    assert!(matches!(error, Error::EndedEarly { .. }), "{error}");
    assert!(
        error.to_string().contains("address already in use"),
        "{error}"
    );

    drop(taken);
    // What was started in vain holds the folder until it is gone.
    let server = reached("the folder to be free", async || {
        match Server::start(config.clone(), CancellationToken::new()).await {
            Err(Error::Locked { holder, .. }) => Err(format!("{holder} has it")),
            other => Ok(other.unwrap()),
        }
    })
    .await;
    assert_eq!(server.url(), format!("nats://{}", config.listen));
    within("stop", server.stop()).await;
}

#[tokio::test]
async fn a_data_directory_is_not_shared() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path()).await;
    let config = server_config(dir.path()).await;
    let error = Server::start(config, CancellationToken::new())
        .await
        .unwrap_err();
    assert!(matches!(&error, Error::Locked { .. }), "{error}");
    assert!(error.to_string().contains(&std::process::id().to_string()));
    within("stop", server.stop()).await;
}

#[tokio::test]
async fn an_executable_without_a_guard_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = server_config(dir.path()).await;
    for other in ["/bin/true", "/nowhere/voicebus"] {
        config.guard = other.into();
        let error = within(
            "refusal",
            Server::start(config.clone(), CancellationToken::new()),
        )
        .await
        .unwrap_err();
        assert!(matches!(&error, Error::Guard { .. }), "{error}");
    }
}

/// Plays `up` in a process of its own, which the tests below kill. It tells on standard
/// output which server it started, and leaves when its standard input ends.
#[tokio::test]
#[ignore = "run by other tests as a process of its own"]
async fn play_up() {
    let dir = std::env::var_os("PLAY_UP_IN").expect("run by other tests only");
    let server = start(Path::new(&dir)).await;
    println!("pid={}", server.pid().unwrap());
    std::future::pending::<()>().await;
}

struct Played {
    up: tokio::process::Child,
    server: u32,
}

async fn play(dir: &Path) -> Played {
    let mut up = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "server::play_up", "--ignored", "--nocapture"])
        .env("PLAY_UP_IN", dir)
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(up.stdout.take().unwrap()).lines();
    let server = within("start of a server", async {
        loop {
            let line = lines.next_line().await.unwrap().expect("it left early");
            if let Some((_, pid)) = line.split_once("pid=") {
                return pid.parse().unwrap();
            }
        }
    })
    .await;
    Played { up, server }
}

#[tokio::test]
async fn when_up_is_killed_its_server_is_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let mut played = play(dir.path()).await;
    let guard = guard_of(played.server);
    played.up.kill().await.unwrap();
    gone(played.server).await;
    gone(guard).await;
    let log = std::fs::read_to_string(dir.path().join("nats/nats-server.log")).unwrap();
    assert!(log.contains("Server Exiting"), "not a graceful end:\n{log}");
}

#[tokio::test]
async fn when_up_and_its_guard_are_killed_the_next_up_takes_over() {
    let dir = tempfile::tempdir().unwrap();
    let mut played = play(dir.path()).await;
    // `up` is stopped first, so that it cannot act between the two kills. (Not the guard: the
    // system wakes a stopped process whose group loses its last tie to the session.)
    let guard = guard_of(played.server);
    kill_process(as_pid(played.up.id().unwrap()), Signal::STOP).unwrap();
    kill_process(as_pid(guard), Signal::KILL).unwrap();
    gone(guard).await;
    played.up.kill().await.unwrap();
    assert!(runs(played.server), "nobody was there to stop it");

    let server = start(dir.path()).await;
    assert!(!runs(played.server));
    assert_ne!(server.pid(), Some(played.server));
    connect(&server).await;
    within("stop", server.stop()).await;
}

#[tokio::test]
async fn the_executable_is_a_guard_only_when_it_is_told_what_to_guard() {
    for arguments in [&["__nats-guard"][..], &["__nats-guard", "soon", "true"]] {
        let mut guard = tokio::process::Command::new(voicebus())
            .args(arguments)
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let status = within("the end of the guard", guard.wait()).await.unwrap();
        assert!(!status.success());
    }
}

#[tokio::test]
async fn a_guard_stops_what_it_guards_when_its_input_ends() {
    let mut guard = tokio::process::Command::new(voicebus())
        .args(["__nats-guard", "5000", "sleep", "1000"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = guard.stdin.take().unwrap();
    let mut lines = BufReader::new(guard.stdout.take().unwrap()).lines();
    let pid = within("process id", lines.next_line())
        .await
        .unwrap()
        .unwrap();
    let pid = pid.parse().unwrap();
    input.write_all(b"still here").await.unwrap();
    assert!(runs(pid));
    drop(input);
    within("the end of the guard", guard.wait()).await.unwrap();
    assert!(!runs(pid));
}

#[tokio::test]
async fn the_configuration_of_a_cluster_is_valid() {
    let conf = Path::new(env!("CARGO_MANIFEST_DIR")).join("nats/cluster.conf");
    let mut check = tokio::process::Command::new(binary().await.path);
    check
        .args(["-t", "-c"])
        .arg(conf)
        .env("VOICEBUS_NATS_NAME", "node-1")
        .env("VOICEBUS_NATS_LISTEN", "127.0.0.1:4222")
        .env("VOICEBUS_NATS_MONITOR_LISTEN", "127.0.0.1:8222")
        .env("VOICEBUS_NATS_STORE_DIR", "/nowhere")
        .env("VOICEBUS_NATS_CLUSTER_LISTEN", "127.0.0.1:6222")
        .env(
            "VOICEBUS_NATS_CLUSTER_ROUTES",
            "[nats-route://route:pw@127.0.0.1:6222]",
        )
        .env("VOICEBUS_NATS_PASSWORD_CLUSTER", "pw")
        .envs(User::ALL.map(|user| (user.password_variable(), "pw")));
    let output = within("check", check.output()).await.unwrap();
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{words}");
}

#[test]
fn the_default_is_loopback_on_free_ports() {
    let binary = voicebus::bus::server::Binary {
        path: "/usr/bin/nats-server".into(),
        version: MINIMUM,
    };
    let config = ServerConfig::new(binary, "/data");
    for address in [config.listen, config.monitor] {
        assert!(address.ip().is_loopback());
        assert_eq!(address.port(), 0);
    }
}
