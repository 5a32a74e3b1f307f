//! `voicebus bench --quick`: that it still measures everything; not how fast that is.

use std::process::Stdio;

use serde_json::Value;
use tokio::process::Command;

use crate::harness::{binary, voicebus};

#[tokio::test]
async fn a_quick_run_measures_every_section_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let output = Command::new(voicebus())
        .args(["bench", "--quick", "--json", "--dir"])
        .arg(dir.path())
        .env("VOICEBUS_NATS_SERVER", binary().await.path)
        // Settings of whoever runs the tests must not reach the roles.
        .env(
            "VOICEBUS_EVENT_TOKEN",
            "a-token-that-the-bench-does-not-have",
        )
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}\n{shown}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&report["lost"], &report["doubled"]),
        (&0.into(), &0.into())
    );
    let sections = report["sections"].as_array().unwrap();
    let names: Vec<&str> = sections
        .iter()
        .map(|section| section["section"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        ["ingress", "router", "path", "commands", "verify", "memory"]
    );
    for section in sections {
        let rows = section["rows"].as_array().unwrap();
        // Without /proc there is no memory to read.
        assert!(!rows.is_empty() || section["section"] == "memory");
    }
    let left = std::fs::read_dir(dir.path()).unwrap().count();
    assert_eq!(left, 0, "the stores go with the run");
}
