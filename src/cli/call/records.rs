//! How far calls have come that were asked for, as egress has it on record.

use std::io::Write;

use chrono::Local;

use crate::bus::service::{self, IntentAnswer};
use crate::cli::target::Target;
use crate::cli::text::{Numbers, clean};
use crate::cli::{Exit, table, when};
use crate::domain::ids::IntentId;

const HEAD: [&str; 6] = ["INTENT", "STATE", "SINCE", "NUMBER", "CALL", "WHY"];

/// Show one.
#[derive(Debug, clap::Args)]
pub struct Show {
    /// The intent, as `voicebus call` has named it.
    #[arg(value_name = "ID", value_parser = IntentId::parse)]
    id: IntentId,

    /// Print JSON, numbers and all.
    #[arg(long)]
    json: bool,

    /// Show the phone number in full.
    #[arg(long)]
    numbers: bool,
}

/// List those without an outcome.
#[derive(Debug, clap::Args)]
pub struct Unresolved {
    /// Print JSON, numbers and all.
    #[arg(long)]
    json: bool,

    /// Show phone numbers in full.
    #[arg(long)]
    numbers: bool,
}

impl Show {
    pub async fn run(&self, target: &Target, out: &mut dyn Write) -> anyhow::Result<Exit> {
        let known = service::intent(&target.observer().await?, &self.id).await?;
        let Some(known) = known else {
            writeln!(out, "egress has never heard of {}", self.id)?;
            return Ok(Exit::Wrong);
        };
        if self.json {
            writeln!(out, "{}", serde_json::to_string(&known)?)?;
            return Ok(Exit::Fine);
        }
        for line in table::lines(HEAD, &[row(&known, Numbers::shown_if(self.numbers))]) {
            writeln!(out, "{line}")?;
        }
        Ok(Exit::Fine)
    }
}

impl Unresolved {
    pub async fn run(&self, target: &Target, out: &mut dyn Write) -> anyhow::Result<Exit> {
        let answer = service::unresolved(&target.observer().await?).await?;
        if self.json {
            writeln!(out, "{}", serde_json::to_string(&answer)?)?;
            return Ok(Exit::Fine);
        }
        if answer.intents.is_empty() {
            writeln!(
                out,
                "of every call that was asked for it is known what became"
            )?;
            return Ok(Exit::Fine);
        }
        let numbers = Numbers::shown_if(self.numbers);
        let rows: Vec<_> = answer.intents.iter().map(|one| row(one, numbers)).collect();
        for line in table::lines(HEAD, &rows) {
            writeln!(out, "{line}")?;
        }
        writeln!(
            out,
            "Find out whether the phone rang (the carrier's list of calls tells), then `voicebus call resolve ID`."
        )?;
        Ok(Exit::Fine)
    }
}

fn row(one: &IntentAnswer, numbers: Numbers) -> [String; 6] {
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let state = match (one.state.as_str(), one.settled) {
        ("unknown", false) => "unknown, still looked for".to_owned(),
        (state, _) => clean(state),
    };
    [
        clean(&one.id),
        state,
        when::moment(one.at, chrono::Utc::now(), &Local),
        or_dash(one.to.as_deref().map(|number| numbers.in_text(number))),
        or_dash(one.call.as_deref().map(clean)),
        or_dash(one.reason.as_deref().map(|text| numbers.in_text(text))),
    ]
}
