//! Bearer tokens: separate ones for events, commands and reading, several of each for rotation.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use super::Error;
use super::rate::Sender;

/// The tokens that open one kind of door. Only their digests are kept, so that a comparison takes
/// the same time whatever is compared, and a dump of memory shows none.
#[derive(Clone, Default)]
pub struct Tokens {
    digests: Vec<[u8; 32]>,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tokens({})", self.digests.len())
    }
}

impl Tokens {
    /// The tokens that are valid at the moment; none leaves the door open.
    #[must_use]
    pub fn new<'a>(tokens: impl IntoIterator<Item = &'a str>) -> Self {
        Self {
            digests: tokens
                .into_iter()
                .map(|token| Sha256::digest(token).into())
                .collect(),
        }
    }

    /// A token that nobody knows: no text is known to have this digest.
    #[must_use]
    pub fn of_nobody() -> Self {
        Self {
            digests: vec![[0; 32]],
        }
    }

    /// Whether the door is open to everybody. Only a loopback door may be.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.digests.is_empty()
    }

    /// Lets a request in that shows one of the tokens, and names its sender.
    ///
    /// # Errors
    /// 401 without a token, with a wrong one, or with more than one line of tokens.
    pub fn check(&self, headers: &HeaderMap) -> Result<Sender, Error> {
        let mut lines = headers.get_all(header::AUTHORIZATION).iter();
        let (Some(line), None) = (lines.next(), lines.next()) else {
            return Err(unauthorized());
        };
        self.find(bearer(line.as_bytes()).ok_or_else(unauthorized)?)
    }

    /// Lets in who knows one of the tokens, and names it.
    ///
    /// # Errors
    /// 401 for any other text.
    pub fn find(&self, shown: &[u8]) -> Result<Sender, Error> {
        let shown: [u8; 32] = Sha256::digest(shown).into();
        let known = self.digests.iter().fold(Choice::from(0), |known, digest| {
            known | digest.ct_eq(&shown)
        });
        if bool::from(known) {
            let [a, b, c, d, e, f, g, h, ..] = shown;
            Ok(Sender(u64::from_be_bytes([a, b, c, d, e, f, g, h])))
        } else {
            Err(unauthorized())
        }
    }
}

/// A layer that lets only requests through which show one of the tokens, or all, if there is none.
///
/// # Errors
/// As [`Tokens::check`].
pub async fn only_with(
    State(tokens): State<Tokens>,
    request: Request,
    next: Next,
) -> Result<Response, Error> {
    if !tokens.is_open() {
        tokens.check(request.headers())?;
    }
    Ok(next.run(request).await)
}

/// The token of `Bearer <token>`, behind one blank or more; the scheme's case does not count
/// (RFC 9110, 11.1 and 11.4).
fn bearer(line: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = line.split_at_checked(7)?;
    let blanks = token.iter().take_while(|byte| **byte == b' ').count();
    let token = &token[blanks..];
    (scheme.eq_ignore_ascii_case(b"bearer ") && !token.is_empty()).then_some(token)
}

/// What is said to whoever shows nothing that opens the door.
#[must_use]
pub fn unauthorized() -> Error {
    Error::new(
        StatusCode::UNAUTHORIZED,
        "unauthorized",
        "a valid token is needed in the header `Authorization: Bearer <token>`",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(lines: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(header::AUTHORIZATION, line.parse().unwrap());
        }
        headers
    }

    #[test]
    fn any_of_the_tokens_opens_the_door_and_nothing_else_does() {
        let tokens = Tokens::new(["new", "old"]);
        assert!(tokens.check(&with(&["Bearer new"])).is_ok());
        assert!(tokens.check(&with(&["bearer old"])).is_ok());
        for bad in [
            "Bearer ",
            "Bearer",
            "Bearer newer",
            "Bearer ne",
            "Basic new",
            "new",
            "Bearer new ",
        ] {
            assert_eq!(
                tokens.check(&with(&[bad])).unwrap_err().status,
                StatusCode::UNAUTHORIZED,
                "{bad}"
            );
        }
        assert_eq!(
            tokens.check(&with(&[])).unwrap_err().status,
            StatusCode::UNAUTHORIZED
        );
        assert_eq!(
            tokens
                .check(&with(&["Bearer new", "Bearer x"]))
                .unwrap_err()
                .status,
            StatusCode::UNAUTHORIZED
        );
        let sender = |line| tokens.check(&with(&[line])).unwrap();
        assert_eq!(sender("Bearer new"), sender("BEARER  new"));
        assert_ne!(sender("Bearer new"), sender("Bearer old"));
    }
}
