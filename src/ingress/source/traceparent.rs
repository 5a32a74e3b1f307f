//! W3C trace context: reads a sender's `traceparent`, whatever way it came.

/// Length of the fields that every version has: version, trace id, parent id, flags.
const LENGTH: usize = 55;

/// The `traceparent`, when it is well formed and not of an invalid trace. A broken one is no
/// reason to refuse an event: the specification says to go on as if it were not there.
#[must_use]
pub fn read(text: &str) -> Option<String> {
    let text = text.trim_ascii();
    let known = text.get(..LENGTH)?;
    let mut parts = known.split('-');
    let version = parts.next()?;
    let (trace, parent, flags) = (parts.next()?, parts.next()?, parts.next()?);
    // A later version may have more fields after the flags; they are not ours to pass on.
    let end_is_right =
        text.len() == LENGTH || (version != "00" && text.as_bytes().get(LENGTH) == Some(&b'-'));
    let well_formed = parts.next().is_none()
        && end_is_right
        && is_hex(version, 2)
        && version != "ff"
        && is_hex(trace, 32)
        && !is_zero(trace)
        && is_hex(parent, 16)
        && !is_zero(parent)
        && is_hex(flags, 2);
    well_formed.then(|| known.to_owned())
}

fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length
        && text
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

fn is_zero(text: &str) -> bool {
    text.bytes().all(|b| b == b'0')
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_well_formed_one_is_passed_on() {
        assert_eq!(read(GOOD).as_deref(), Some(GOOD));
        let later = GOOD.replacen("00", "01", 1);
        assert_eq!(read(&format!("{later}-more")), Some(later));
    }

    #[test]
    fn a_broken_one_is_dropped() {
        for bad in [
            "",
            "00",
            &GOOD.to_uppercase(),
            &GOOD.replacen("00", "ff", 1),
            &format!("{GOOD}-more"),
            &format!("{GOOD}0"),
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0é",
            "00-4bf92f3577b34da6-a3ce929d0e0e4736-f067aa0ba902b7-001",
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
