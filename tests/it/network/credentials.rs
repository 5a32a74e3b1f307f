//! Credentials files, as an operator's accounts give them out.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use nkeys::KeyPair;
use serde_json::{Value, json};
use tempfile::TempDir;
use voicebus::bus::{self, Auth, Settings, Tls};

use super::refused;
use crate::harness::{binary, eventually, within};

/// 2025-01-01, in seconds since 1970.
const LONG_AGO: u64 = 1_735_689_600;

/// A server that believes an operator, and knows users by what the operator's account has signed.
struct Operated {
    process: Child,
    url: String,
    account: KeyPair,
    dir: TempDir,
}

impl Operated {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (operator, account) = (KeyPair::new_operator(), KeyPair::new_account());
        let limits = json!({ "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "conn": -1, "leaf": -1 });
        let of_operator = json!({ "type": "operator", "version": 2 });
        let of_account = json!({ "type": "account", "version": 2, "limits": limits });
        let config = format!(
            "listen: \"127.0.0.1:-1\"\nports_file_dir: {:?}\noperator: {}\nresolver: MEMORY\nresolver_preload: {{ {}: {} }}\n",
            dir.path(),
            signed(&operator, &operator, None, of_operator),
            account.public_key(),
            signed(&operator, &account, None, of_account),
        );
        let file = dir.path().join("nats.conf");
        std::fs::write(&file, config).unwrap();
        let process = Command::new(binary().await.path)
            .arg("-c")
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let ports = dir
            .path()
            .join(format!("nats-server_{}.ports", process.id()));
        let url = eventually("the ports of nats-server", async || {
            let ports: Value = serde_json::from_slice(&std::fs::read(&ports).ok()?).ok()?;
            Some(ports["nats"][0].as_str()?.to_owned())
        })
        .await;
        Self {
            process,
            url,
            account,
            dir,
        }
    }

    fn settings(&self, file: PathBuf) -> Settings {
        Settings {
            url: self.url.clone(),
            auth: Auth::Credentials(file),
            tls: Tls::default(),
            role: "router",
        }
    }
}

impl Drop for Operated {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// A JWT of the NATS kind.
fn signed(issuer: &KeyPair, subject: &KeyPair, expires: Option<u64>, nats: Value) -> String {
    let encode = |json: Value| BASE64_URL_SAFE_NO_PAD.encode(json.to_string());
    let mut claims = json!({
        "jti": "test", "iat": LONG_AGO, "name": "test",
        "iss": issuer.public_key(), "sub": subject.public_key(), "nats": nats,
    });
    if let Some(expires) = expires {
        claims["exp"] = json!(expires);
    }
    let head = encode(json!({ "typ": "JWT", "alg": "ed25519-nkey" }));
    let body = format!("{head}.{}", encode(claims));
    let signature = issuer.sign(body.as_bytes()).unwrap();
    format!("{body}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
}

/// A credentials file, as `nsc generate creds` writes it.
fn credentials(dir: &Path, name: &str, account: &KeyPair, expires: Option<u64>) -> PathBuf {
    let user = KeyPair::new_user();
    let rights = json!({ "type": "user", "version": 2, "pub": {}, "sub": {}, "subs": -1, "data": -1, "payload": -1 });
    let file = dir.join(format!("{name}.creds"));
    let text = format!(
        "-----BEGIN NATS USER JWT-----\n{}\n------END NATS USER JWT------\n\n-----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n",
        signed(account, &user, expires, rights),
        user.seed().unwrap(),
    );
    std::fs::write(&file, text).unwrap();
    file
}

#[tokio::test]
async fn a_credentials_file_opens_what_its_account_has_signed() {
    let server = Operated::start().await;
    let dir = server.dir.path();
    let right = server.settings(credentials(dir, "right", &server.account, None));
    let connection = within("a connection", bus::connect(&right)).await.unwrap();
    connection.client().publish("x", "".into()).await.unwrap();

    let stranger = KeyPair::new_account();
    for file in [
        credentials(dir, "expired", &server.account, Some(LONG_AGO + 1)),
        credentials(dir, "stranger", &stranger, None),
    ] {
        let settings = server.settings(file.clone());
        let sentence = refused(&settings).await;
        let words = format!("the server refuses the credentials in {}", file.display());
        assert!(sentence.contains(&words), "{sentence}");
    }
    let broken = dir.join("broken.creds");
    std::fs::write(&broken, "secret-word").unwrap();
    let sentence = refused(&server.settings(broken)).await;
    assert!(
        sentence.contains("cannot use the credentials file"),
        "{sentence}"
    );
    assert!(!sentence.contains("secret-word"), "{sentence}");
}
