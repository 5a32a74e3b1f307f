//! What was measured, as a table for people and as JSON for programs.

use std::fmt::{self, Write};
use std::path::Path;

use serde::Serialize;

use super::Section;
use super::load::{Latency, Sample};

/// The outcome of a run.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Where it ran.
    pub machine: Machine,
    /// What was measured.
    pub sections: Vec<SectionReport>,
    /// Events that were accepted and did not arrive.
    pub lost: u64,
    /// Events that arrived more often than once.
    pub doubled: u64,
}

/// One section.
#[derive(Debug, Serialize)]
pub struct SectionReport {
    /// Its name.
    pub section: String,
    /// Its lines.
    pub rows: Vec<Row>,
}

/// What a number of this run is worth.
#[derive(Debug, Serialize)]
pub struct Machine {
    /// When it began.
    pub started_at: chrono::DateTime<chrono::Utc>,
    /// The program's version.
    pub version: &'static str,
    /// Cores that this process may use.
    pub cores: usize,
    /// Runnable processes over the last minute when it began, from others that is.
    pub load_before: Option<f64>,
    /// The same at the end, this run included.
    pub load_after: Option<f64>,
    /// Why the figures say less than they could.
    pub warnings: Vec<&'static str>,
}

/// One line.
#[derive(Debug, Default, Serialize)]
pub struct Row {
    what: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ratios: Vec<Ratio>,
    #[serde(skip_serializing_if = "Option::is_none")]
    per_second: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    latency_ms: Option<Latency>,
    #[serde(skip_serializing_if = "Option::is_none")]
    megabytes: Option<Megabytes>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<&'static str>,
}

/// How much more or less than what stands beside it.
#[derive(Debug, Serialize)]
pub struct Ratio {
    times: f64,
    of: &'static str,
}

/// Resident memory.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Megabytes {
    /// Before the first call.
    pub before: f64,
    /// With the calls open.
    pub now: f64,
    /// The most it ever was.
    pub peak: f64,
}

/// The lines of a section, and what went wrong with its events.
#[derive(Debug, Default)]
pub(super) struct Rows {
    pub all: Vec<Row>,
    pub lost: u64,
    pub doubled: u64,
}

impl Row {
    pub(super) fn new(what: String) -> Self {
        Self {
            what,
            ..Self::default()
        }
    }

    pub(super) fn sample(mut self, sample: &Sample) -> Self {
        self.latency_ms = sample.latency();
        self.per_second(sample.per_second())
    }

    pub(super) fn per_second(mut self, per_second: f64) -> Self {
        self.per_second = Some(per_second);
        self
    }

    pub(super) fn megabytes(mut self, megabytes: Megabytes) -> Self {
        self.megabytes = Some(megabytes);
        self
    }

    pub(super) fn ratio(mut self, times: f64, of: &'static str) -> Self {
        self.ratios.push(Ratio { times, of });
        self
    }

    pub(super) fn target(mut self, target: &'static str) -> Self {
        self.target = Some(target);
        self
    }

    fn cells(&self) -> [String; 8] {
        let ratios: Vec<String> = self
            .ratios
            .iter()
            .map(|ratio| format!("{:.2} × {}", ratio.times, ratio.of))
            .collect();
        let numbers = match (self.latency_ms, self.megabytes) {
            (Some(times), _) => [times.p50, times.p90, times.p99, times.max].map(milliseconds),
            (None, Some(memory)) => [
                format!("{:.1}", memory.before),
                format!("{:.1}", memory.now),
                format!("{:.1}", memory.peak),
                String::new(),
            ],
            (None, None) => Default::default(),
        };
        let [a, b, c, d] = numbers;
        let rate = self.per_second.map(|rate| format!("{rate:.0}"));
        let target = self.target.unwrap_or_default().to_owned();
        [
            self.what.clone(),
            ratios.join(", "),
            rate.unwrap_or_default(),
            a,
            b,
            c,
            d,
            target,
        ]
    }
}

fn milliseconds(time: f64) -> String {
    if time < 0.1 {
        format!("{time:.4}")
    } else if time < 10.0 {
        format!("{time:.2}")
    } else {
        format!("{time:.1}")
    }
}

impl Machine {
    pub(super) fn look(folder: &Path) -> Self {
        let mut warnings = Vec::new();
        if cfg!(debug_assertions) {
            warnings.push("a debug build: nothing here tells how fast voicebus is");
        }
        if in_memory(folder) {
            warnings.push("the stores lie in memory, where a flush costs nothing: use --dir");
        }
        Self {
            started_at: chrono::Utc::now(),
            version: env!("CARGO_PKG_VERSION"),
            cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            load_before: load_average(),
            load_after: None,
            warnings,
        }
    }
}

/// Over the last minute, where the system tells.
pub(super) fn load_average() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/loadavg").ok()?;
    text.split(' ').next()?.parse().ok()
}

#[cfg(target_os = "linux")]
fn in_memory(folder: &Path) -> bool {
    /// `TMPFS_MAGIC` of linux/magic.h.
    const TMPFS: i128 = 0x0102_1994;
    rustix::fs::statfs(folder).is_ok_and(|system| i128::from(system.f_type) == TMPFS)
}

#[cfg(not(target_os = "linux"))]
fn in_memory(_folder: &Path) -> bool {
    false
}

impl Report {
    pub(super) fn new(machine: Machine) -> Self {
        Self {
            machine,
            sections: Vec::new(),
            lost: 0,
            doubled: 0,
        }
    }

    pub(super) fn add(&mut self, section: Section, rows: Rows) {
        self.lost += rows.lost;
        self.doubled += rows.doubled;
        self.sections.push(SectionReport {
            section: format!("{section:?}").to_lowercase(),
            rows: rows.all,
        });
    }

    /// Whether every event arrived once.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.lost == 0 && self.doubled == 0
    }
}

impl fmt::Display for Report {
    /// Tables that are also Markdown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Machine {
            started_at,
            version,
            cores,
            load_before,
            load_after,
            warnings,
        } = &self.machine;
        let load =
            |load: &Option<f64>| load.map_or_else(|| "?".to_owned(), |load| load.to_string());
        writeln!(
            f,
            "voicebus {version}, {}, {cores} cores, load {} before and {} after",
            started_at.format("%Y-%m-%d %H:%M UTC"),
            load(load_before),
            load(load_after)
        )?;
        for warning in warnings {
            writeln!(f, "warning: {warning}")?;
        }
        for SectionReport { section, rows } in &self.sections {
            let columns = if rows.iter().any(|row| row.megabytes.is_some()) {
                ["", "", "per s", "MB before", "MB", "MB peak", "", "target"]
            } else {
                [
                    "", "ratio", "per s", "p50 ms", "p90", "p99", "max", "target",
                ]
            };
            let mut columns = columns.map(str::to_owned);
            columns[0].clone_from(section);
            let mut lines = vec![columns];
            lines.extend(rows.iter().map(Row::cells));
            writeln!(f)?;
            f.write_str(&table(&lines))?;
        }
        writeln!(f)?;
        write!(f, "events lost {}, doubled {}", self.lost, self.doubled)
    }
}

/// Aligned, without the columns that nobody filled.
fn table(lines: &[[String; 8]]) -> String {
    let width = |column: usize| {
        let widths = lines.iter().map(|line| line[column].chars().count());
        widths.max().unwrap_or(0)
    };
    let widths: Vec<(usize, usize)> = (0..8)
        .map(|column| (column, width(column)))
        .filter(|(_, width)| *width > 0)
        .collect();
    let mut text = String::new();
    for (number, line) in lines.iter().enumerate() {
        for (column, width) in &widths {
            let cell = &line[*column];
            // Text to the left, numbers to the right. Writing to a string cannot fail.
            match column {
                2..=6 => write!(text, "| {cell:>width$} "),
                _ => write!(text, "| {cell:<width$} "),
            }
            .ok();
        }
        text.push_str("|\n");
        if number == 0 {
            for (column, width) in &widths {
                let right = if (2..=6).contains(column) { ":" } else { "-" };
                write!(text, "|{}{right}", "-".repeat(width + 1)).ok();
            }
            text.push_str("|\n");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_shows_what_there_is() {
        let mut report = Report::new(Machine {
            started_at: "2026-11-22T12:00:00Z".parse().unwrap(),
            version: "0",
            cores: 2,
            load_before: Some(0.5),
            load_after: None,
            warnings: vec![],
        });
        let rows = Rows {
            all: vec![
                Row::new("raw".to_owned()).per_second(4000.4),
                Row::new("router".to_owned())
                    .per_second(1000.0)
                    .ratio(0.25, "raw")
                    .target("fast"),
            ],
            lost: 1,
            doubled: 0,
        };
        report.add(Section::Router, rows);
        insta::assert_snapshot!(report, @r"
        voicebus 0, 2026-11-22 12:00 UTC, 2 cores, load 0.5 before and ? after

        | router | ratio      | per s | p50 ms | p90 | p99 | max | target |
        |--------|------------|------:|-------:|----:|----:|----:|--------|
        | raw    |            |  4000 |        |     |     |     |        |
        | router | 0.25 × raw |  1000 |        |     |     |     | fast   |

        events lost 1, doubled 0
        ");
        assert!(!report.is_sound());
    }
}
