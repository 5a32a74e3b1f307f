//! Other people's text on the operator's screen: made harmless, measured, shortened, masked.

/// Digits that a phone number has.
const NUMBER_DIGITS: std::ops::RangeInclusive<usize> = 7..=15;

/// Makes a text harmless on a terminal and keeps it on one line: what would move the cursor,
/// change colours or turn the direction of writing is shown as a sign.
pub fn clean(text: &str) -> String {
    text.chars().map(harmless).collect()
}

fn harmless(c: char) -> char {
    match c {
        '\n' => '↵',
        '\t' => ' ',
        // Unicode has a picture for each of them: ␀ ␁ … ␛ … ␟.
        '\0'..='\u{1f}' => char::from_u32(0x2400 + u32::from(c)).unwrap_or('\u{fffd}'),
        '\u{7f}' => '␡',
        // The second set of control characters, of which some terminals obey U+009B like ESC [.
        '\u{80}'..='\u{9f}' => '\u{fffd}',
        // Line and paragraph separators; marks, embeddings, overrides and isolates of direction.
        '\u{2028}' | '\u{2029}' => '↵',
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
            '\u{fffd}'
        }
        // Letters that nobody can see.
        '\u{e0000}'..='\u{e007f}' | '\u{feff}' => '\u{fffd}',
        _ => c,
    }
}

/// The same for a JSON text, whose meaning stays what it was: what JSON allows in a string and a
/// terminal obeys is written as `\u….`.
pub fn clean_json(json: &str) -> String {
    let mut cleaned = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            // Only between values: JSON has no control characters in strings.
            '\n' | '\r' | '\t' => cleaned.push(' '),
            c if harmless(c) == c => cleaned.push(c),
            c => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    cleaned.push_str(&format!("\\u{unit:04x}"));
                }
            }
        }
    }
    cleaned
}

/// Columns that a text takes on a terminal.
pub fn width(text: &str) -> usize {
    text.chars().map(columns).sum()
}

/// 0 for marks that stand on the letter before, 2 for the wide letters of East Asia and pictures.
/// Rougher than Unicode's own tables, and good enough to align a column of names.
fn columns(c: char) -> usize {
    match u32::from(c) {
        0x0300..=0x036f
        | 0x0483..=0x0489
        | 0x0591..=0x05bd
        | 0x0610..=0x061a
        | 0x064b..=0x065f
        | 0x0e31
        | 0x0e34..=0x0e3a
        | 0x0e47..=0x0e4e
        | 0x1ab0..=0x1aff
        | 0x1dc0..=0x1dff
        | 0x200b..=0x200d
        | 0x20d0..=0x20ff
        | 0xfe00..=0xfe0f
        | 0xfe20..=0xfe2f
        | 0xe0100..=0xe01ef => 0,
        0x1100..=0x115f
        | 0x2e80..=0x303e
        | 0x3041..=0xa4cf
        | 0xa960..=0xa97f
        | 0xac00..=0xd7a3
        | 0xf900..=0xfaff
        | 0xfe30..=0xfe6f
        | 0xff00..=0xff60
        | 0xffe0..=0xffe6
        | 0x1f300..=0x1f64f
        | 0x1f680..=0x1f6ff
        | 0x1f900..=0x1f9ff
        | 0x20000..=0x3fffd => 2,
        _ => 1,
    }
}

/// The text with blanks up to a width.
pub fn padded(text: &str, to: usize) -> String {
    let blanks = to.saturating_sub(width(text));
    format!("{text}{:blanks$}", "")
}

/// The text in at most so many columns: what is too much is cut out of the middle, because ids
/// differ at their ends.
pub fn shortened(text: &str, columns_max: usize) -> String {
    if width(text) <= columns_max {
        return text.to_owned();
    }
    let room = columns_max.saturating_sub(1);
    let tail_room = room / 2;
    let head = fitting(text.chars(), room - tail_room);
    let tail = fitting(text.chars().rev(), tail_room);
    let tail: String = tail.chars().rev().collect();
    format!("{head}…{tail}")
}

fn fitting(chars: impl Iterator<Item = char>, columns_max: usize) -> String {
    let mut used = 0;
    chars
        .take_while(|c| {
            used += columns(*c);
            used <= columns_max
        })
        .collect()
}

/// Whether phone numbers are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Numbers {
    /// As they are.
    Shown,
    /// First and last digits only.
    Masked,
}

impl Numbers {
    /// From the option `--numbers`.
    pub fn shown_if(shown: bool) -> Self {
        if shown { Self::Shown } else { Self::Masked }
    }

    /// A text that may be a number, or hold one: a session key, a reason. Every run of digits
    /// that is long enough for a phone number and stands for itself is masked.
    pub fn in_text(self, text: &str) -> String {
        let text = clean(text);
        match self {
            Self::Shown => text,
            Self::Masked => masked(&text),
        }
    }
}

fn masked(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut word = String::new();
    for c in text.chars().chain(['\0']) {
        if c.is_alphanumeric() {
            word.push(c);
            continue;
        }
        shown.push_str(&masked_word(&word));
        word.clear();
        shown.push(c);
    }
    shown.pop();
    shown
}

/// The first and the last four digits of a number; ids are not numbers.
fn masked_word(word: &str) -> String {
    let is_number =
        NUMBER_DIGITS.contains(&word.len()) && word.bytes().all(|byte| byte.is_ascii_digit());
    match (word.get(..1), word.get(word.len().saturating_sub(4)..)) {
        (Some(head), Some(tail)) if is_number => format!("{head}•••{tail}"),
        _ => word.to_owned(),
    }
}

/// A call id in 11 columns.
pub fn short_call(id: &str) -> String {
    shortened(&clean(id), 11)
}

/// A session key without what is the same in nearly all of them.
pub fn short_session(key: &str, numbers: Numbers) -> String {
    let key = numbers.in_text(key);
    let Some(of_agent) = key.strip_prefix("agent:") else {
        return key;
    };
    of_agent
        .strip_prefix("main:")
        .unwrap_or(of_agent)
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_cannot_move_the_cursor() {
        assert_eq!(
            clean("a\x1b[2J\x1b]0;x\x07b\r\nc\u{9b}31m\x7f\td"),
            "a␛[2J␛]0;x␇b␍↵c\u{fffd}31m␡ d"
        );
        assert_eq!(
            clean("a\u{202e}b\u{2066}c\u{200f}d\u{2028}e"),
            "a\u{fffd}b\u{fffd}c\u{fffd}d↵e"
        );
        assert_eq!(
            clean("Grüß Gott — 你好 👍🏽 نعم می‌خواهم"),
            "Grüß Gott — 你好 👍🏽 نعم می‌خواهم"
        );
    }

    #[test]
    fn cleaned_json_means_the_same() {
        let json = "{\"text\":\n\"a\u{9b}31m\u{7f}\u{202e}\u{e0041}é你\"}";
        let cleaned = clean_json(json);
        assert_eq!(
            cleaned,
            r#"{"text": "a\u009b31m\u007f\u202e\udb40\udc41é你"}"#
        );
        let value = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        assert_eq!(value(json), value(&cleaned));
    }

    #[test]
    fn widths_are_those_of_a_terminal() {
        for (text, expected) in [
            ("", 0),
            ("Zoë", 3),
            ("Zoe\u{308}", 3),
            ("你好", 4),
            ("한국", 4),
            ("👍", 2),
            ("+1•••0142", 9),
        ] {
            assert_eq!(width(text), expected, "{text}");
        }
        assert_eq!(padded("你", 4), "你  ");
        assert_eq!(padded("你好你", 4), "你好你");
    }

    #[test]
    fn long_texts_lose_their_middle() {
        assert_eq!(shortened("rtc_1", 11), "rtc_1");
        assert_eq!(
            short_call("CAa4c123b1612dd272d1371c17149d4395"),
            "CAa4c…d4395"
        );
        assert_eq!(shortened("你好你好你好", 6), "你…好");
        assert_eq!(shortened("abc", 1), "…");
    }

    #[test]
    fn numbers_are_masked_wherever_they_stand_alone() {
        let masked = |text| Numbers::Masked.in_text(text);
        assert_eq!(masked("+12015550142"), "+1•••0142");
        assert_eq!(
            masked("agent:main:voice:12015550142"),
            "agent:main:voice:1•••0142"
        );
        assert_eq!(
            masked("cannot reach +12015550142: busy"),
            "cannot reach +1•••0142: busy"
        );
        assert_eq!(
            masked("CA1234567890 rtc_7 486 你好"),
            "CA1234567890 rtc_7 486 你好"
        );
        assert_eq!(masked(""), "");
        assert_eq!(Numbers::Shown.in_text("+12015550142"), "+12015550142");
    }

    #[test]
    fn sessions_are_shortened_to_what_differs() {
        let short = |key| short_session(key, Numbers::Masked);
        assert_eq!(short("agent:main:voice:12015550142"), "voice:1•••0142");
        assert_eq!(short("agent:bob:main"), "bob:main");
        assert_eq!(short("main:x"), "main:x");
    }
}
