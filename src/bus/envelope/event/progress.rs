//! The header with the router's own bookkeeping: `<version> <epoch> <input sequence> <since>
//! <numbers> <fingerprint>…`. `since` is in microseconds and `numbers` are ranges like `1-5,7-7`;
//! `-` stands for none.

use super::super::Error;
use super::{PROGRESS_HEADER, WHAT};
use crate::domain::Timestamp;
use crate::domain::call::{Numbers, Progress};
use crate::domain::input::Position;

const VERSION: &str = "2";
const NONE: &str = "-";

pub(super) fn write(progress: &Progress) -> String {
    let Position { epoch, sequence } = progress.position;
    let since = progress
        .since
        .map_or_else(|| NONE.to_owned(), |at| at.timestamp_micros().to_string());
    let ranges: Vec<String> = progress
        .numbers
        .ranges()
        .map(|(first, last)| format!("{first}-{last}"))
        .collect();
    let numbers = if ranges.is_empty() {
        NONE.to_owned()
    } else {
        ranges.join(",")
    };
    let mut header = format!("{VERSION} {epoch} {sequence} {since} {numbers}");
    for fingerprint in progress.recent() {
        header.push_str(&format!(" {fingerprint:x}"));
    }
    header
}

pub(super) fn read(sequence: u64, header: &str) -> Result<Progress, Error> {
    parse(sequence, header).ok_or_else(|| Error::Field {
        what: WHAT,
        field: PROGRESS_HEADER,
        reason: "not a progress header".to_owned(),
    })
}

fn parse(sequence: u64, header: &str) -> Option<Progress> {
    let mut words = header.split(' ');
    if words.next()? != VERSION {
        return None;
    }
    let epoch = words.next()?.parse().ok()?;
    let input = words.next()?.parse().ok()?;
    let since = match words.next()? {
        NONE => None,
        micros => Some(Timestamp::from_timestamp_micros(micros.parse().ok()?)?),
    };
    let numbers = match words.next()? {
        NONE => Numbers::default(),
        ranges => Numbers::restore(ranges.split(',').map(range).collect::<Option<_>>()?)?,
    };
    let recent: Option<Vec<u64>> = words
        .map(|word| u64::from_str_radix(word, 16).ok())
        .collect();
    let position = Position {
        epoch,
        sequence: input,
    };
    let mut progress = Progress::restore(sequence, position, recent?);
    progress.since = since;
    progress.numbers = numbers;
    Some(progress)
}

fn range(text: &str) -> Option<(u64, u64)> {
    let (first, last) = text.split_once('-')?;
    Some((first.parse().ok()?, last.parse().ok()?))
}
