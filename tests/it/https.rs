//! TLS at our own door: the same bounds as without, and a new certificate without a restart.

use std::path::Path;

use reqwest::{Certificate, Client, ClientBuilder};
use rustix::process::{Signal, kill_process};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::certificates::Authority;
use crate::harness::{Options, Process, Up, as_pid, reached, said, within};

struct Door {
    up: Up,
    authority: Authority,
    dir: tempfile::TempDir,
}

impl Door {
    async fn open() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::new(dir.path(), "authority");
        let made = authority.issue("door", &["localhost"]);
        let path = |path: &Path| path.display().to_string();
        let up = Up::start(Options {
            args: vec![
                "--http-cert".to_owned(),
                path(&made.certificate),
                "--http-key".to_owned(),
                path(&made.key),
            ],
            ..Options::default()
        })
        .await;
        Self { up, authority, dir }
    }

    fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.up.http.address().port())
    }

    async fn plain(&self) -> TcpStream {
        TcpStream::connect(self.up.http.address()).await.unwrap()
    }
}

/// A client that trusts nobody else.
fn trusting(authority: &Authority) -> Client {
    voicebus::install_crypto();
    let pem = std::fs::read(authority.file()).unwrap();
    let builder: ClientBuilder = Client::builder()
        .no_proxy()
        .tls_certs_only([Certificate::from_pem(&pem).unwrap()]);
    builder.build().unwrap()
}

#[tokio::test]
async fn events_come_in_over_tls_within_the_bounds_that_hold_without() {
    let door = Door::open().await;
    let client = trusting(&door.authority);
    let event = said("rtc_1", "Hello in private");
    let answer = client.post(door.url("/call-event")).json(&event).send();
    assert_eq!(answer.await.unwrap().status(), 200);
    door.up.settled().await;
    assert_eq!(door.up.observer.inputs().await, 1);

    let (_, words) = door.up.tool(&["doctor"]).await;
    assert!(words.contains("ready at https://127.0.0.1:"), "{words}");
    let (code, words) = door.up.tool(&["doctor", "--ready", &door.url("")]).await;
    assert_eq!(code, 0, "{words}");

    // Whoever does not know who signed the certificate stays away.
    let others = Authority::new(door.dir.path(), "others");
    let refused = trusting(&others).get(door.url("/live")).send().await;
    assert!(refused.unwrap_err().is_connect());
    // Plain HTTP is answered by nobody.
    let mut plain = door.plain().await;
    plain
        .write_all(b"GET /live HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    within(
        "the end of a plain connection",
        plain.read_to_end(&mut answer),
    )
    .await
    .ok();
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    // A head with too many lines is refused as it is without TLS.
    let mut request = client.get(door.url("/live"));
    for number in 0..100 {
        request = request.header(format!("x-{number}"), "x");
    }
    assert_eq!(request.send().await.unwrap().status(), 431);
    // Who connects and says nothing is hung up on.
    let mut silent = door.plain().await;
    let mut nothing = Vec::new();
    let ended = within(
        "the end of a silent connection",
        silent.read_to_end(&mut nothing),
    )
    .await;
    assert_eq!(ended.unwrap_or(0), 0);
    door.up.stop().await;
}

#[tokio::test]
async fn a_new_certificate_is_shown_after_sighup_and_a_broken_one_is_not() {
    let door = Door::open().await;
    let hang_up = || kill_process(as_pid(door.up.pid()), Signal::HUP).unwrap();
    let key = door.dir.path().join("door.key");
    let right = std::fs::read(&key).unwrap();
    std::fs::write(&key, "no key").unwrap();
    hang_up();
    reached("a word about the key", async || {
        let log = door.up.log();
        let told = log.contains("the old one is shown on") && log.contains("no private key");
        if told { Ok(()) } else { Err(log) }
    })
    .await;
    let old = trusting(&door.authority);
    assert_eq!(
        old.get(door.url("/live")).send().await.unwrap().status(),
        200
    );
    std::fs::write(&key, right).unwrap();

    let newer = Authority::new(door.dir.path(), "newer");
    newer.issue("door", &["localhost"]);
    hang_up();
    reached("the new certificate", async || {
        let asked = trusting(&newer).get(door.url("/live")).send().await;
        asked.map(drop).map_err(|error| format!("{error:?}"))
    })
    .await;
    // A connection from before goes on.
    assert_eq!(
        old.get(door.url("/live")).send().await.unwrap().status(),
        200
    );
    door.up.stop().await;
}

#[tokio::test]
async fn a_certificate_without_its_key_opens_no_door() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new(dir.path(), "authority");
    let (a, b) = (authority.issue("a", &["a"]), authority.issue("b", &["b"]));
    let (a, b) = (a.certificate.to_str().unwrap(), b.key.to_str().unwrap());
    for (args, says) in [
        (
            &["--http-cert", a][..],
            "http.cert is set, but http.key is not",
        ),
        (&["--http-key", b], "http.key is set, but http.cert is not"),
        (
            &["--http-cert", a, "--http-key", b],
            "b.key does not belong to",
        ),
        (
            &["--http-cert", "none", "--http-key", b],
            "cannot read none",
        ),
    ] {
        let all = ["ingress", "--check-config"].iter().chain(args);
        let mut process = Process::start("check", dir.path(), all, &[]);
        assert_eq!(process.ended().await.code(), Some(64));
        assert!(process.log().contains(says), "{says}: {}", process.log());
    }
}
