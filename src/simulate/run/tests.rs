//! Whole runs of the tool.

use clap::Parser as _;
use serde_json::Value;

use super::*;

#[derive(clap::Parser)]
struct Cli {
    #[command(flatten)]
    args: Args,
}

fn args(arguments: &[&str]) -> Args {
    Cli::parse_from(
        ["simulate", "--listen", "127.0.0.1:0"]
            .iter()
            .chain(arguments),
    )
    .args
}

#[tokio::test]
async fn every_start_says_that_nobody_is_dialled() {
    for extra in [&[][..], &["--json"], &["--version", "v3"]] {
        let mut out = Vec::new();
        let all: Vec<&str> = ["--exit"].iter().chain(extra).copied().collect();
        run_with(args(&all), CancellationToken::new(), &mut out)
            .await
            .unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(
            text.contains("dials nobody") || text.contains("\"dials_nobody\":true"),
            "{text}"
        );
        assert!(text.contains("http://127.0.0.1:"), "{text}");
    }
}

#[tokio::test]
async fn a_run_ends_with_its_summary_as_json() {
    let folder = tempfile::tempdir().unwrap();
    let record = folder.path().join("record.jsonl");
    // The stand-in has no /call-event: 404 is as good a refusal as any, and with --no-retry the run ends.
    let (mut out, path) = (Vec::new(), record.to_str().unwrap());
    let given = [
        "--json",
        "--exit",
        "--calls",
        "3",
        "--rate",
        "0",
        "--no-retry",
        "--seed",
        "5",
        "--record",
        path,
    ];
    let target = StandIn::start(StandInConfig::default()).await.unwrap();
    let args = Args {
        target: target.url(),
        ..args(&given)
    };
    let summary = run_with(args, CancellationToken::new(), &mut out)
        .await
        .unwrap();
    assert_eq!(
        (
            summary.calls,
            summary.events,
            summary.lost,
            summary.accepted
        ),
        (3, 24, 24, 0)
    );
    let text = String::from_utf8(out).unwrap();
    let last: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!(
        (&last["kind"], &last["seed"], &last["refused"]),
        (&"summary".into(), &5.into(), &24.into())
    );
    assert_eq!(
        std::fs::read_to_string(record).unwrap(),
        "",
        "nothing was accepted"
    );
    target.stop().await;
}

#[tokio::test]
async fn an_address_others_can_reach_is_refused_before_anything_is_sent() {
    let args = Args {
        listen: "0.0.0.0:0".parse().unwrap(),
        ..args(&["--exit", "--calls", "1"])
    };
    let mut out = Vec::new();
    let error = run_with(args, CancellationToken::new(), &mut out)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("loopback"), "{error}");
    assert!(out.is_empty());
}

#[tokio::test]
async fn without_exit_it_serves_until_it_is_stopped() {
    let stop = CancellationToken::new();
    let mut out = Vec::new();
    let running = run_with(args(&[]), stop.clone(), &mut out);
    let stopping = async { stop.cancel() };
    let (summary, ()) = tokio::join!(running, stopping);
    assert_eq!(summary.unwrap().calls, 0);
}
