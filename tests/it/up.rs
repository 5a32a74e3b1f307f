//! `voicebus up` and what it leaves for others to read: its run file, and its data directory.

use std::path::Path;

use rustix::process::{Signal, kill_process};
use serde_json::{Value, json};
use voicebus::bus::streams;

use crate::harness::{Options, Process, Up, as_pid, reached, runs, said};

fn run_file(up: &Up) -> Option<Value> {
    let text = std::fs::read(up.data_dir().join("run.json")).ok()?;
    Some(serde_json::from_slice(&text).unwrap())
}

/// Starts `up` against a NATS where nobody listens, and gives its exit code and words.
async fn up_without_nats(data_dir: &Path) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = data_dir.to_str().unwrap();
    let mut args = vec!["up", "--data-dir", data_dir, "--listen", "127.0.0.1:0"];
    args.extend(["--nats-url", "nats://127.0.0.1:1"]);
    let mut process = Process::start("up", folder.path(), &args, &[]);
    let status = process.ended().await;
    (status.code(), process.log())
}

#[tokio::test]
async fn the_run_file_names_the_nats_server_that_runs_also_after_a_restart() {
    let up = Up::start(Options::default()).await;
    for _round in 0..2 {
        let before = run_file(&up).unwrap()["nats_pid"].clone();
        let pid = u32::try_from(before.as_u64().unwrap()).unwrap();
        assert!(runs(pid));
        kill_process(as_pid(pid), Signal::KILL).unwrap();
        reached("another nats-server in run.json", async || {
            let told = run_file(&up).ok_or("there is none")?;
            if told["nats_pid"] == before {
                Err("the old one is still named".to_owned())
            } else {
                Ok(())
            }
        })
        .await;
    }
    up.stop().await;
}

#[tokio::test]
async fn a_run_file_that_was_left_behind_is_gone_before_anything_is_ready() {
    let dir = tempfile::tempdir().unwrap();
    let left = dir.path().join("run.json");
    std::fs::write(&left, json!({ "pid": 1 }).to_string()).unwrap();
    let (code, words) = up_without_nats(dir.path()).await;
    assert_eq!(code, Some(1), "{words}");
    assert!(!left.exists());
}

#[tokio::test]
async fn a_data_directory_has_one_up_also_when_nats_is_somebody_elses() {
    let up = Up::start(Options::default()).await;
    let (code, words) = up_without_nats(&up.data_dir()).await;
    assert_eq!(code, Some(1), "{words}");
    assert!(words.contains("is in use by process"), "{words}");
    assert!(run_file(&up).is_some());
    up.stop().await;
}

#[tokio::test]
async fn how_long_the_feed_is_kept_is_a_setting_that_a_restart_brings_into_force() {
    let config = tempfile::NamedTempFile::new().unwrap();
    let say = |days: u32| {
        let text = format!("[retention]\nvoice_event = \"{days}d\"\n");
        std::fs::write(config.path(), text).unwrap();
    };
    let kept = async |up: &Up| {
        let info: Value = async_nats::jetstream::new(up.observer.client.clone())
            .request("STREAM.INFO.VOICE_EVENT".to_owned(), &json!({}))
            .await
            .unwrap();
        let days = info["config"]["max_age"].as_u64().unwrap() / 86_400_000_000_000;
        (days, info["created"].clone())
    };
    say(8);
    let up = Up::start(Options {
        args: vec!["--config".to_owned(), config.path().display().to_string()],
        ..Options::default()
    })
    .await;
    let (days, made) = kept(&up).await;
    assert_eq!(days, 8);
    say(60);
    let up = up.restart().await;
    // The same stream, and not one that was made anew.
    assert_eq!(kept(&up).await, (60, made));
    up.stop().await;
}

/// An operator who lost the stream of inputs makes it again while everything runs.
#[tokio::test]
async fn up_goes_on_with_a_stream_of_inputs_that_was_made_anew() {
    let up = Up::start(Options::default()).await;
    let post = async |call: &str, id: u32| {
        let body = said(call, &format!("word {id}"));
        let answer = up.http.post("/call-event", &body).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    };
    for id in 0..5 {
        post("CA0", id).await;
    }
    up.settled().await;

    let provision = up.connect("provision").await;
    let jetstream = async_nats::jetstream::new(provision);
    for round in 1..=2 {
        jetstream.delete_stream("VOICE_IN").await.unwrap();
        // Nobody has it now; what comes is kept in the spool.
        post("CA0", 10 * round).await;
        streams::provision(&jetstream, &streams::Options::default())
            .await
            .unwrap();
        post("CA0", 10 * round + 1).await;
        post("CA1", 10 * round + 2).await;
        let wanted = 5 + 3 * round as usize;
        reached("the events", async || {
            let told = up.observer.read_back().await;
            if told.len() < wanted {
                return Err(format!("{} of {wanted}", told.len()));
            }
            Ok(())
        })
        .await;
    }
    up.settled().await;
    let told = up.observer.read_back().await;
    let said_in = |call: &str| -> Vec<String> {
        let of_call = told.iter().filter(|event| event.log() == call);
        of_call
            .map(|event| {
                event.json["data"]["transcript"]["text"]
                    .as_str()
                    .unwrap()
                    .to_owned()
            })
            .collect()
    };
    let words =
        |ids: &[u32]| -> Vec<String> { ids.iter().map(|id| format!("word {id}")).collect() };
    assert_eq!(said_in("CA0"), words(&[0, 1, 2, 3, 4, 10, 11, 20, 21]));
    assert_eq!(said_in("CA1"), words(&[12, 22]));
    up.stop().await;
}

/// Its nats-server stands still, so that leaving in order takes its time.
#[tokio::test]
async fn up_that_is_told_twice_leaves_at_once_and_no_run_file_behind() {
    let dir = tempfile::tempdir().unwrap();
    let mut args = vec!["up", "--data-dir", "data", "--listen", "127.0.0.1:0"];
    args.extend(["--nats-listen", "127.0.0.1:0"]);
    args.extend(["--voice-server", "http://127.0.0.1:1"]);
    let mut up = Process::start("up", dir.path(), args, &[]);
    let file = dir.path().join("data/run.json");
    let run: Value = reached("run.json", async || {
        let text = std::fs::read(&file).map_err(|error| error.to_string())?;
        Ok(serde_json::from_slice(&text).unwrap())
    })
    .await;
    let nats = as_pid(u32::try_from(run["nats_pid"].as_u64().unwrap()).unwrap());
    kill_process(nats, Signal::STOP).unwrap();
    up.signal(Signal::INT);
    reached("the first to be heard", async || {
        let log = up.log();
        if log.contains("once more to leave at once") {
            Ok(())
        } else {
            Err(log)
        }
    })
    .await;
    up.signal(Signal::INT);
    assert_eq!(up.ended().await.code(), Some(1), "{}", up.log());
    assert!(!file.exists());
    kill_process(nats, Signal::CONT).ok();
}
