//! `application/x-www-form-urlencoded`, strictly: one text, one meaning, as with JSON.

use thiserror::Error as ThisError;

/// Most parameters. A status callback has about thirty, and the vendor adds some without notice.
const PARAMETERS_MAX: usize = 512;

/// Why bytes are no form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ThisError)]
pub enum Error {
    /// `%` without two hex digits behind it.
    #[error("it has a percent sign without two hex digits")]
    Escape,
    /// Some other encoding.
    #[error("it is not UTF-8")]
    NotUtf8,
    /// More than anybody sends.
    #[error("it has more than {PARAMETERS_MAX} parameters")]
    TooMany,
}

/// Names and values in the order of their coming, decoded once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Form(Vec<(String, String)>);

impl Form {
    /// Reads a form. Blank values and blanks in values are kept; `;` separates nothing.
    ///
    /// # Errors
    /// When the bytes are not one; see [`Error`].
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let mut parameters = Vec::new();
        let pairs = bytes.split(|byte| *byte == b'&');
        for pair in pairs.filter(|pair| !pair.is_empty()) {
            if parameters.len() == PARAMETERS_MAX {
                return Err(Error::TooMany);
            }
            let equals = pair.iter().position(|byte| *byte == b'=');
            let (name, value) = pair.split_at(equals.unwrap_or(pair.len()));
            let value = value.strip_prefix(b"=").unwrap_or_default();
            parameters.push((decode(name)?, decode(value)?));
        }
        Ok(Self(parameters))
    }

    /// All names and values.
    pub fn parameters(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

fn decode(text: &[u8]) -> Result<String, Error> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.iter();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || {
                    let digit = char::from(*rest.next()?).to_digit(16)?;
                    u8::try_from(digit).ok()
                };
                let (high, low) = (digit(), digit());
                high.zip(low)
                    .map(|(high, low)| high << 4 | low)
                    .ok_or(Error::Escape)?
            }
            byte => *byte,
        });
    }
    String::from_utf8(bytes).map_err(|_| Error::NotUtf8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8]) -> Result<Vec<(String, String)>, Error> {
        Form::parse(text).map(|form| form.0)
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        let owned = |text: &&str| (*text).to_owned();
        pairs
            .iter()
            .map(|(name, value)| (owned(name), owned(value)))
            .collect()
    }

    #[test]
    fn each_escape_is_decoded_once() {
        assert_eq!(
            read(b"a=1+2%2B3&b=&c&d=%2525&&e=x=y;z&%61=%C3%BC%0D%0A").unwrap(),
            pairs(&[
                ("a", "1 2+3"),
                ("b", ""),
                ("c", ""),
                ("d", "%25"),
                ("e", "x=y;z"),
                ("a", "ü\r\n"),
            ])
        );
        assert_eq!(read(b"").unwrap(), pairs(&[]));
    }

    #[test]
    fn what_is_no_form_is_refused() {
        for bytes in [&b"a=%zz"[..], b"a=%4", b"a=%", b"%+1=b"] {
            assert_eq!(read(bytes), Err(Error::Escape));
        }
        for bytes in [&b"a=%ff"[..], b"\xff\xfea=1"] {
            assert_eq!(read(bytes), Err(Error::NotUtf8));
        }
        let many = "a=1&".repeat(PARAMETERS_MAX);
        assert!(read(many.as_bytes()).is_ok());
        assert_eq!(read(format!("{many}a=1").as_bytes()), Err(Error::TooMany));
    }
}
