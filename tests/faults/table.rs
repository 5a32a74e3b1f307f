//! What is printed: a row for each fault.

use std::time::Duration;

use crate::round::Outcome;
use crate::verdict::Verdict;

/// Findings of one kind that are printed; the rest are like them.
const FINDINGS_MAX: usize = 5;

pub struct Row {
    pub fault: &'static str,
    pub line: Line,
}

pub enum Line {
    Ran(Outcome),
    /// Cannot be done here.
    NotRun(String),
    /// The system or the suite did not get through it.
    Broke(anyhow::Error),
}

impl Row {
    pub fn is_good(&self) -> bool {
        match &self.line {
            Line::Ran(outcome) => outcome.is_good(),
            Line::NotRun(_) => true,
            Line::Broke(_) => false,
        }
    }

    /// Says what is wrong.
    pub fn explain(&self) {
        let findings = match &self.line {
            Line::NotRun(_) => return,
            Line::Broke(error) => vec![format!("{error:#}")],
            Line::Ran(Outcome {
                verdict,
                stall,
                stall_max,
                ..
            }) => {
                let Verdict {
                    lost,
                    doubled,
                    disordered,
                    echoes,
                } = verdict;
                let all = [lost, doubled, disordered, echoes];
                let some = all
                    .into_iter()
                    .flat_map(|kind| kind.iter().take(FINDINGS_MAX));
                let mut findings: Vec<String> = some.cloned().collect();
                if stall > stall_max {
                    findings.push(format!(
                        "stood still for {stall:.1?}, more than {stall_max:.1?}"
                    ));
                }
                findings
            }
        };
        for finding in findings {
            eprintln!("{}: {finding}", self.fault);
        }
    }

    fn cells(&self) -> [String; 9] {
        let cells = match &self.line {
            Line::Ran(outcome) => [
                outcome.rounds.to_string(),
                outcome.accepted.to_string(),
                outcome.verdict.lost.len().to_string(),
                outcome.verdict.doubled.len().to_string(),
                outcome.verdict.disordered.len().to_string(),
                seconds(outcome.stall),
                seconds(outcome.stall_max),
                seconds(outcome.slowest),
            ],
            Line::NotRun(reason) => note(format!("not run: {reason}")),
            Line::Broke(_) => note("broke, see below".to_owned()),
        };
        let [
            rounds,
            accepted,
            lost,
            doubled,
            disordered,
            stall,
            bound,
            slowest,
        ] = cells;
        let fault = self.fault.to_owned();
        [
            fault, rounds, accepted, lost, doubled, disordered, stall, bound, slowest,
        ]
    }
}

const HEAD: [&str; 9] = [
    "fault",
    "rounds",
    "accepted",
    "lost",
    "doubled",
    "out of order",
    "longest stall",
    "bound",
    "slowest event",
];

/// The table, in the form that docs/faults.md has it.
pub fn print(rows: &[Row]) -> String {
    let mut lines: Vec<[String; 9]> = vec![HEAD.map(str::to_owned)];
    lines.extend(rows.iter().map(Row::cells));
    let width = |place: usize| lines.iter().map(|line| line[place].chars().count()).max();
    let widths: [usize; 9] = std::array::from_fn(|place| width(place).unwrap_or(0));
    let rule = widths.map(|width| "-".repeat(width));
    lines.insert(1, rule);
    let text = lines.iter().map(|line| {
        let cells = line.iter().zip(widths);
        let cells: Vec<String> = cells
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        format!("| {} |", cells.join(" | "))
    });
    text.collect::<Vec<_>>().join("\n")
}

fn note(text: String) -> [String; 8] {
    let mut cells = std::array::from_fn(|_| String::new());
    cells[0] = text;
    cells
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}
