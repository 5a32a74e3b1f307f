//! An ingress as a process of its own, which can be killed.

use std::process::Stdio;

use reqwest::{Client, StatusCode};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use super::{eventually, voicebus, within};

pub struct Ingress {
    process: Child,
    url: String,
    http: Client,
}

impl Ingress {
    /// Starts one that listens anywhere; `args` say the rest.
    pub async fn start(nats_url: &str, args: &[&str]) -> Self {
        Self::try_start(nats_url, args)
            .await
            .unwrap_or_else(|words| panic!("{words}"))
    }

    /// The words with which it left, if it did not begin to listen.
    pub async fn try_start(nats_url: &str, args: &[&str]) -> Result<Self, String> {
        let mut process = Command::new(voicebus())
            .args(["ingress", "--listen", "127.0.0.1:0", "--nats-url", nats_url])
            .args(["--log", "info,async_nats=off", "--log-format", "json"])
            .args(args)
            .env_remove("VOICEBUS_SPOOL_DIR")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let mut words = String::new();
        let address = within("an ingress", async {
            while let Some(line) = lines.next_line().await.unwrap() {
                words.push_str(&line);
                words.push('\n');
                let line: Value = serde_json::from_str(&line).unwrap_or_default();
                if line["fields"]["message"] == "ingress listens" {
                    return line["fields"]["address"].as_str().map(str::to_owned);
                }
            }
            None
        })
        .await;
        let address = address.ok_or(words)?;
        let url = format!("http://{address}");
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                eprintln!("{line}");
            }
        });
        voicebus::install_crypto();
        let http = Client::builder().no_proxy().build().unwrap();
        Ok(Self { process, url, http })
    }

    /// Something said in a call; what it is answered.
    pub async fn post(&self, call: &str, text: &str) -> (StatusCode, Value) {
        let body = said(call, text);
        let request = self.http.post(format!("{}/call-event", self.url));
        let answer = request.json(&body).send().await.unwrap();
        let status = answer.status();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            assert!(answer.headers().contains_key("retry-after"));
        }
        (status, answer.json().await.unwrap())
    }

    pub async fn get(&self, path: &str) -> (StatusCode, Value) {
        let answer = self.http.get(format!("{}{path}", self.url)).send();
        let answer = answer.await.unwrap();
        (answer.status(), answer.json().await.unwrap())
    }

    /// One of the numbers of `/status`, by its path.
    pub async fn count(&self, path: &str) -> u64 {
        let (_, status) = self.get("/status").await;
        let number = status.pointer(path).and_then(Value::as_u64);
        number.unwrap_or_else(|| panic!("{path} in {status}"))
    }

    pub async fn drained(&self) {
        eventually("an empty spool", async || {
            (self.count("/spool/events").await == 0).then_some(())
        })
        .await;
    }

    pub fn pid(&self) -> u32 {
        self.process.id().expect("it has not been waited for")
    }

    /// Ends it without a warning.
    pub async fn kill(mut self) {
        self.process.kill().await.unwrap();
    }

    /// Tells it to leave.
    pub fn terminate(&self) {
        let pid = i32::try_from(self.process.id().unwrap()).unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), Signal::TERM).unwrap();
    }

    pub async fn ended(mut self) -> bool {
        let ended = within("the end of an ingress", self.process.wait()).await;
        ended.unwrap().success()
    }
}

pub fn said(call: &str, text: &str) -> Value {
    json!({
        "callId": call,
        "eventType": "transcript_update",
        "timestamp": "2026-11-22T12:32:16.172805",
        "data": { "speaker": "user", "content": text },
    })
}
