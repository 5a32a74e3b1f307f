//! The load: `voicebus simulate`, which repeats every event until it is accepted and writes down
//! what was answered 2xx. What it wrote down is what must not be lost.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use rustix::process::Signal;
use serde_json::Value;

use crate::process::Process;
use crate::role::voicebus;
use crate::verdict::{Accepted, Said};
use crate::wait::until;
use crate::world::World;

/// Events per second: enough that something is always on its way, little enough that two cores
/// keep up with it in debug builds, and catch up afterwards.
const RATE: usize = 120;
/// The same for three nodes, each of which flushes everything to the one disk.
const RATE_OF_CLUSTER: usize = 60;
/// Calls that are open at the same time.
const AT_ONCE: usize = 40;
/// Utterances per call.
const UTTERANCES: usize = 4;
/// Calls planned for each round of a fault; the load is ended long before they are all made.
const CALLS_PER_ROUND: usize = 2_000;
/// How long the simulator may take to leave: an attempt waits 5 s for its answer.
const LEAVE_WITHIN: Duration = Duration::from_secs(20);

pub struct Load {
    process: Process,
    record: PathBuf,
}

impl Load {
    /// Starts to send events to an ingress; serves as the phone-call server meanwhile.
    pub async fn start(world: &World, seed: u64, rounds: usize) -> anyhow::Result<Self> {
        let place = &world.place;
        let rate = match world.nodes.len() {
            1 => RATE,
            _ => RATE_OF_CLUSTER,
        };
        let name = format!("simulate-{seed}");
        let record = place.folder.join(format!("{name}.record"));
        let args = [
            ("--target", format!("http://{}", world.ingress.listen)),
            ("--listen", world.voice_server.to_string()),
            ("--record", record.display().to_string()),
            ("--seed", seed.to_string()),
            ("--calls", (CALLS_PER_ROUND * rounds.max(1)).to_string()),
            ("--rate", rate.to_string()),
            ("--concurrent", AT_ONCE.to_string()),
            ("--transcripts", UTTERANCES.to_string()),
            ("--duplicate", "10".to_owned()),
        ];
        let args = args.iter().flat_map(|(flag, value)| [*flag, value]);
        let args = ["simulate", "--exit"].into_iter().chain(args);
        let mut process = Process::start(place, &name, &voicebus(), args, &[])?;
        until("the first events", LEAVE_WITHIN, async || {
            process.lives()?;
            let length = std::fs::metadata(&record)?.len();
            anyhow::ensure!(length > 0, "nothing was accepted yet");
            Ok(())
        })
        .await?;
        Ok(Self { process, record })
    }

    pub fn lives(&mut self) -> anyhow::Result<()> {
        self.process.lives()
    }

    /// Ends the load, and tells all that was accepted.
    pub async fn end(mut self) -> anyhow::Result<Vec<Accepted>> {
        self.process.lives().context("the load was too short")?;
        self.process.signal(Signal::TERM)?;
        self.process.ended(LEAVE_WITHIN).await?;
        let text = std::fs::read_to_string(&self.record)?;
        text.lines()
            .filter_map(|line| read(line).transpose())
            .collect()
    }
}

/// One line of the record.
fn read(line: &str) -> anyhow::Result<Option<Accepted>> {
    let line: Value = serde_json::from_str(line).context("the record is broken")?;
    if line["kind"] != "event" {
        return Ok(None);
    }
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let said = match line["event_type"].as_str() {
        Some("call_started") => Said::Started,
        Some("call_ended") => Said::Ended,
        _ => Said::Text(text(&line["body"]["data"]["content"])),
    };
    Ok(Some(Accepted {
        call: text(&line["call_id"]),
        said,
    }))
}
