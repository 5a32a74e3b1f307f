//! `voicebus forget`: removes what is stored about a call or a caller, and shows that it is gone.

use std::collections::BTreeMap;
use std::io::Write;

use anyhow::bail;
use serde::Serialize;

use super::confirm::confirmed;
use super::target::Target;
use super::{Exit, unless_reader_left};
use crate::bus::Bus;
use crate::bus::forget::{Found, Left, Whom};
use crate::domain::ids::CallId;
use crate::domain::phone::E164;

/// Forget a call or a caller.
///
/// A call is forgotten with its other leg, the command that placed it and the commands about it; a
/// caller with all calls from and to the number, its links and its sessions. Afterwards everything is
/// looked through once more. What is left is listed with the reason, and nothing of it says whom it
/// was about: a salted hash keeps a forgotten call from beginning anew, and a wish to dial keeps its
/// id, so that it is never dialled twice.
#[derive(Debug, clap::Args)]
#[command(
    group = clap::ArgGroup::new("whom").required(true),
    after_help = "\
Examples:
  voicebus forget --number +12015550142 --dry-run   how much there is
  voicebus forget --number +12015550142
  voicebus forget --call CA123 --yes --json

Needs the rights of the operator. It cannot reach what others have made of the feed."
)]
pub struct Args {
    /// A call, by any of its ids.
    #[arg(long, value_name = "ID", group = "whom", value_parser = CallId::parse)]
    call: Option<CallId>,

    /// A caller, or whoever was called: +, country code, number.
    #[arg(long, value_name = "NUMBER", group = "whom", value_parser = E164::parse)]
    number: Option<E164>,

    /// Only say how much there is.
    #[arg(long)]
    dry_run: bool,

    /// Also when a call goes on, or a wish to dial is not at its end: nothing more is told of the
    /// one, and the other is not dialled any more.
    #[arg(long)]
    even_live: bool,

    /// Do not ask.
    #[arg(long)]
    yes: bool,

    /// Say it as JSON.
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    target: Target,
}

/// What no tool here can reach.
const OUT_OF_REACH: [&str; 5] = [
    "what subscribers have kept of the feed, such as the sessions of OpenClaw",
    "the phone-call server's own history, and what its tap has not sent yet",
    "events that wait in the spool of an ingress: the router does not apply them, but they are stored when they come, until they are forgotten again or their age removes them",
    "backups of the store, and logs that were made with --log-unsafe",
    "bytes of keys in buckets, which the server overwrites when it packs its files; messages of streams are overwritten at once",
];

/// What was done, for programs.
#[derive(Serialize)]
struct Report<'a> {
    dry_run: bool,
    /// Calls and commands that belong together.
    names: usize,
    unfinished: usize,
    forgotten: &'a BTreeMap<&'static str, u64>,
    looked_at: &'a BTreeMap<&'static str, u64>,
    left: Vec<Value<'a>>,
    out_of_reach: [&'static str; 5],
}

#[derive(Serialize)]
struct Value<'a> {
    place: &'a str,
    sequence: u64,
    why: &'a str,
    meant: bool,
}

/// Forgets what is asked.
///
/// # Errors
/// When NATS does not answer or the user may not.
pub async fn run(args: Args, out: &mut dyn Write) -> anyhow::Result<Exit> {
    unless_reader_left(forget(&args, out).await)
}

async fn forget(args: &Args, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let mut whom = match (&args.call, &args.number) {
        (Some(call), _) => Whom::call(call),
        (None, Some(number)) => Whom::number(number.clone()),
        (None, None) => bail!("say --call or --number"),
    };
    let bus = Bus::open(args.target.operator().await?).await?;
    let found = bus.look_for(&mut whom).await?;
    let counts = found.counts();
    if args.dry_run {
        say(args, out, &whom, &counts, &found)?;
        return Ok(Exit::Fine);
    }
    if !found.unfinished.is_empty() && !args.even_live {
        bail!(
            "{} going on or not at their end; wait for them, or say --even-live",
            in_words(
                found.unfinished.len(),
                "call or wish is",
                "calls and wishes are"
            )
        );
    }
    let question = format!(
        "Forget {} under {} for good?",
        in_words(found.count(), "message", "messages"),
        in_words(whom.ids().count(), "name", "names"),
    );
    if found.count() > 0 && !confirmed(&question, args.yes)? {
        writeln!(out, "nothing forgotten")?;
        return Ok(Exit::Wrong);
    }
    let (taken, rest) = bus.forget(&mut whom).await?;
    say(args, out, &whom, &taken, &rest)?;
    Ok(if rest.left.iter().all(|left| left.is_meant) {
        Exit::Fine
    } else {
        Exit::Wrong
    })
}

fn say(
    args: &Args,
    out: &mut dyn Write,
    whom: &Whom,
    counts: &BTreeMap<&'static str, u64>,
    found: &Found,
) -> anyhow::Result<()> {
    if args.json {
        let left = found.left.iter().map(|left| Value {
            place: left.place,
            sequence: left.sequence,
            why: left.why,
            meant: left.is_meant,
        });
        let report = Report {
            dry_run: args.dry_run,
            names: whom.ids().count(),
            unfinished: found.unfinished.len(),
            forgotten: counts,
            looked_at: &found.looked_at,
            left: left.collect(),
            out_of_reach: OUT_OF_REACH,
        };
        writeln!(out, "{}", serde_json::to_string_pretty(&report)?)?;
        return Ok(());
    }
    let verb = if args.dry_run { "would go" } else { "gone" };
    writeln!(
        out,
        "{:<18}{:>10}{:>12}{:>8}",
        "", "looked at", verb, "left"
    )?;
    for (place, looked_at) in &found.looked_at {
        let gone = counts.get(place).copied().unwrap_or_default();
        let left = found
            .left
            .iter()
            .filter(|left| left.place == *place)
            .count();
        writeln!(out, "{place:<18}{looked_at:>10}{gone:>12}{left:>8}")?;
    }
    let names = in_words(whom.ids().count(), "name", "names");
    if args.dry_run {
        writeln!(out, "{names}; nothing was changed")?;
        return Ok(());
    }
    let mut reasons: BTreeMap<(&str, &str), Vec<u64>> = BTreeMap::new();
    for Left {
        place,
        sequence,
        why,
        ..
    } in &found.left
    {
        reasons.entry((place, why)).or_default().push(*sequence);
    }
    if reasons.is_empty() {
        writeln!(
            out,
            "{names}; looked through everything again: nothing is left"
        )?;
    } else {
        writeln!(
            out,
            "{names}; looked through everything again, and left is:"
        )?;
    }
    for ((place, why), sequences) in reasons {
        let numbers: Vec<String> = sequences.iter().take(10).map(ToString::to_string).collect();
        let more = if sequences.len() > 10 { ", …" } else { "" };
        writeln!(out, "  {place} {}{more}: {why}", numbers.join(", "))?;
    }
    writeln!(out, "Not within reach:")?;
    for what in OUT_OF_REACH {
        writeln!(out, "  {what}")?;
    }
    Ok(())
}

fn in_words(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}
