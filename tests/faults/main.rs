//! Breaks things under load and counts what it costs: the promises of ARCHITECTURE.md, held against
//! real processes. `docs/faults.md` says what each fault is and what it came to.
//!
//! ```text
//! cargo test --test faults                    the short form, some minutes
//! cargo test --test faults -- --long          more rounds of each, and faults that need root
//! cargo test --test faults -- 'router killed' only those whose name contains this
//! ```
//!
//! Every fault is done while `voicebus simulate` sends events and writes down which of them were
//! accepted. Afterwards all of them must be in VOICE_EVENT, once and in order, and a plain
//! subscriber must have seen the same. Exit code 1 when they are not, or when the feed stood still
//! for longer than the fault may cost.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a table is what the suite is for, and it says what it is doing"
)]

mod cluster;
mod disk;
mod eyes;
mod fault;
mod links;
mod load;
mod nats;
mod one_node;
mod process;
mod proxy;
mod reaper;
mod role;
mod round;
mod table;
mod verdict;
mod wait;
mod world;

use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use voicebus::bus::server::{Places, locate};

use fault::{ALL, Fault};
use process::Place;
use reaper::Reaper;
use table::{Line, Row};
use world::{Ground, World};

/// A fault whose only failing is the stall is done again so often: other programs on the machine can
/// hold anything up, but not each time.
const STALLS_FORGIVEN: u64 = 2;

/// Break things under load and count what it costs.
#[derive(Parser)]
struct Args {
    /// Only faults whose name contains one of these
    names: Vec<String>,
    /// More rounds of each fault, and those that need root
    #[arg(long)]
    long: bool,
    /// How often each fault is done, instead of its own number
    #[arg(long)]
    rounds: Option<usize>,
    /// Same seed, same calls and same moments, as far as the machine lets it
    #[arg(long)]
    seed: Option<u64>,
    /// Name the faults and leave
    #[arg(long)]
    list: bool,
    /// Leave logs, stores and records behind, and say where
    #[arg(long)]
    keep: bool,
}

fn main() -> anyhow::Result<ExitCode> {
    if std::env::args().nth(1).as_deref() == Some(reaper::COMMAND) {
        reaper::run();
        return Ok(ExitCode::SUCCESS);
    }
    let args = Args::parse();
    let chosen = |fault: &Fault| {
        args.names.is_empty() || args.names.iter().any(|part| fault.name().contains(&**part))
    };
    let faults: Vec<Fault> = ALL.iter().copied().filter(chosen).collect();
    if args.list {
        for fault in faults {
            println!("{}", fault.name());
        }
        return Ok(ExitCode::SUCCESS);
    }
    anyhow::ensure!(!faults.is_empty(), "no fault has such a name; see --list");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(run(&args, &faults))
}

async fn run(args: &Args, faults: &[Fault]) -> anyhow::Result<ExitCode> {
    let mut dir = tempfile::Builder::new()
        .prefix("voicebus-faults-")
        .tempdir()?;
    if args.keep {
        dir.disable_cleanup(true);
        eprintln!("everything is kept in {}", dir.path().display());
    }
    let seed = args.seed.unwrap_or_else(|| u64::from(std::process::id()));
    eprintln!("seed {seed}");
    let nats_server = locate(&Places::from_env(), |words| eprintln!("{words}")).await?;
    let place = Place {
        folder: dir.path().to_owned(),
        reaper: Arc::new(Reaper::start()?),
        nats_server: nats_server.path,
    };
    if !args.keep {
        place.reaper.folder(dir.path());
    }
    let mut worlds = Worlds {
        place,
        number: 0,
        world: None,
    };
    let mut rows = Vec::new();
    for fault in faults {
        eprintln!("{} …", fault.name());
        let mut line = worlds.run(*fault, args, seed).await;
        for again in 1..=STALLS_FORGIVEN {
            let Line::Ran(outcome) = &line else { break };
            if !outcome.only_stood_still_too_long() {
                break;
            }
            eprintln!(
                "stood still for {:.1?}, more than {:.1?}; once more …",
                outcome.stall, outcome.stall_max
            );
            line = worlds.run(*fault, args, seed.wrapping_add(again)).await;
        }
        let row = Row {
            fault: fault.name(),
            line,
        };
        eprintln!("{}", table::print(std::slice::from_ref(&row)));
        rows.push(row);
    }
    drop(worlds);
    println!("{}", table::print(&rows));
    for row in &rows {
        row.explain();
    }
    let good = rows.iter().all(Row::is_good);
    Ok(if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Faults on the same ground are done to the same world, one after the other.
struct Worlds {
    place: Place,
    number: usize,
    world: Option<(Ground, World)>,
}

impl Worlds {
    async fn run(&mut self, fault: Fault, args: &Args, seed: u64) -> Line {
        if fault.needs_debug_build() && !cfg!(debug_assertions) {
            return Line::NotRun("only debug builds have crash points".to_owned());
        }
        let rounds = fault.rounds(args.long);
        if rounds == 0 {
            return Line::NotRun("in the long form only".to_owned());
        }
        let rounds = args.rounds.unwrap_or(rounds);
        let outcome = async {
            let world = self.on(fault.ground()).await?;
            round::run(fault, world, rounds, seed).await
        };
        match outcome.await {
            Ok(outcome) => Line::Ran(outcome),
            Err(error) if error.is::<disk::Unavailable>() => Line::NotRun(error.to_string()),
            Err(error) => {
                // Whatever it left behind must not be taken for the next one's doing.
                self.world = None;
                Line::Broke(error)
            }
        }
    }

    async fn on(&mut self, ground: Ground) -> anyhow::Result<&mut World> {
        let world = match self.world.take() {
            Some((known, world)) if known == ground => world,
            other => {
                drop(other);
                self.number += 1;
                let mut place = self.place.clone();
                place.folder.push(format!("world-{}", self.number));
                World::start(&place, ground).await?
            }
        };
        Ok(&mut self.world.insert((ground, world)).1)
    }
}
