//! `X-Twilio-Signature`: an HMAC over the URL that Twilio was given and, for a form, its parameters.
//!
//! What the scheme lacks is made up for elsewhere. It has no time, so a callback that was captured
//! verifies for ever: the id of its event comes from what it says, and a call never goes back to an
//! earlier state. It joins names and values without a mark, so `CallStatus=completed&Digits=12` and
//! `CallStatus=completedDigits12` sign alike: the parser takes known statuses only.

use std::collections::BTreeSet;

use axum::http::{HeaderMap, header};
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::{Digest, Sha256};
use thiserror::Error as ThisError;

use super::form::Form;
use super::{Refusal, Verified, any_equal, base64, single};

/// The signature.
pub const SIGNATURE: &str = "x-twilio-signature";
/// Names key and algorithm of a signature that was not made with the account's token.
const SETTINGS: &str = "x-twilio-webhooks-signature-settings";
/// Of the query: the digest of a body that is no form.
const BODY_DIGEST: &str = "bodySHA256";

/// With what the signature is made. Configured, never read from a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// With the account's auth token.
    HmacSha1,
    /// With a shared key.
    HmacSha256,
}

impl Algorithm {
    /// The name in the configuration.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "hmac-sha1" => Some(Self::HmacSha1),
            "hmac-sha256" => Some(Self::HmacSha256),
            _ => None,
        }
    }

    /// Twilio's name of it.
    fn on_the_wire(self) -> &'static str {
        match self {
            Self::HmacSha1 => "HMAC_SHA1",
            Self::HmacSha256 => "HMAC_SHA256",
        }
    }
}

/// An auth token or a shared key of the account.
#[derive(Clone)]
pub struct Token {
    sha1: Hmac<Sha1>,
    sha256: Hmac<Sha256>,
}

impl Token {
    /// A token as Twilio's console shows it.
    ///
    /// # Panics
    /// Never: an HMAC takes a key of any length.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let any = "an HMAC takes a key of any length";
        Self {
            sha1: Hmac::new_from_slice(text.as_bytes()).expect(any),
            sha256: Hmac::new_from_slice(text.as_bytes()).expect(any),
        }
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

/// A URL as it stands at Twilio, without the query, which comes with the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicUrl {
    /// As it was written, with its port removed, with the usual port added: Twilio's signer is not
    /// consistent about ports.
    spellings: BTreeSet<String>,
}

/// Why a text is no public URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ThisError)]
pub enum UrlError {
    /// Neither `http://` nor `https://`.
    #[error("it must begin with https:// or http://")]
    Scheme,
    /// No host, or blanks.
    #[error("it must name a host and have no blanks")]
    Host,
    /// The query comes with each request; whether a fragment is signed is nowhere said.
    #[error("it must have no query and no fragment")]
    Query,
}

impl PublicUrl {
    /// Reads a URL. Nothing in it is made nicer: the signature covers the exact text.
    ///
    /// # Errors
    /// When it cannot be where Twilio finds us.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        let (scheme, port) = match text {
            _ if text.starts_with("https://") => ("https://", "443"),
            _ if text.starts_with("http://") => ("http://", "80"),
            _ => return Err(UrlError::Scheme),
        };
        if text.contains(['?', '#']) {
            return Err(UrlError::Query);
        }
        let rest = &text[scheme.len()..];
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (user, host) = authority.split_at(authority.rfind('@').map_or(0, |at| at + 1));
        // A colon inside of brackets belongs to an IPv6 address.
        let colon = host
            .rfind(':')
            .filter(|colon| !host[*colon..].contains(']'));
        let bare = &host[..colon.unwrap_or(host.len())];
        if bare.is_empty() || text.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(UrlError::Host);
        }
        let mut spellings =
            BTreeSet::from([text.to_owned(), format!("{scheme}{user}{bare}{path}")]);
        if colon.is_none() {
            spellings.insert(format!("{scheme}{user}{bare}:{port}{path}"));
        }
        Ok(Self { spellings })
    }

    /// The URL of a path below this one.
    #[must_use]
    pub fn with_path(&self, path: &str) -> Self {
        let spellings = self.spellings.iter();
        Self {
            spellings: spellings
                .map(|url| format!("{}{path}", url.trim_end_matches('/')))
                .collect(),
        }
    }
}

/// What the configuration says of Twilio.
#[derive(Debug, Clone)]
pub struct Scheme {
    /// All that are valid at the moment: while a secondary token is promoted, two.
    pub tokens: Vec<Token>,
    /// How signatures are made.
    pub algorithm: Algorithm,
    /// The URL that Twilio was given.
    pub url: PublicUrl,
}

/// A callback of Twilio.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Callback<'a> {
    /// The usual form.
    Form(Form),
    /// Some other body, covered by its digest in the signed query.
    Other(&'a [u8]),
}

/// Believes a request that one of the tokens signed. `query` is the raw query of the request.
///
/// # Errors
/// When it is not to be believed; see [`Refusal`].
pub fn verify<'a>(
    scheme: &Scheme,
    headers: &HeaderMap,
    query: Option<&str>,
    body: &'a [u8],
) -> Result<Verified<Callback<'a>>, Refusal> {
    let signature = single(headers, SIGNATURE)?;
    if announced(headers)?.is_some_and(|name| name != scheme.algorithm.on_the_wire().as_bytes()) {
        return Err(Refusal::Algorithm);
    }
    let callback = if is_form(headers) {
        Callback::Form(Form::parse(body).map_err(Refusal::Form)?)
    } else {
        check_digest(query, body)?;
        Callback::Other(body)
    };
    let signed = signed_parts(query, &callback);
    let urls = &scheme.url.spellings;
    let made = scheme
        .tokens
        .iter()
        .flat_map(|token| urls.iter().map(move |url| (token, url)));
    let signed = |url: &str| [url.as_bytes(), signed.as_bytes()].concat();
    let matches = match scheme.algorithm {
        Algorithm::HmacSha1 => {
            let shown = base64::<20>(signature).ok_or(Refusal::Malformed(SIGNATURE))?;
            any_equal(
                &[shown],
                made.map(|(token, url)| mac(&token.sha1, &signed(url)).into()),
            )
        }
        Algorithm::HmacSha256 => {
            let shown = base64::<32>(signature).ok_or(Refusal::Malformed(SIGNATURE))?;
            any_equal(
                &[shown],
                made.map(|(token, url)| mac(&token.sha256, &signed(url)).into()),
            )
        }
    };
    if matches {
        Ok(Verified(callback))
    } else {
        Err(Refusal::NoMatch)
    }
}

fn mac<M: Mac + Clone>(key: &M, text: &[u8]) -> hmac::digest::Output<M> {
    key.clone().chain_update(text).finalize().into_bytes()
}

/// What follows the URL: the query, and each name and value once, in the order of their bytes.
fn signed_parts(query: Option<&str>, callback: &Callback<'_>) -> String {
    let mut signed = String::new();
    if let Some(query) = query {
        signed.push('?');
        signed.push_str(query);
    }
    if let Callback::Form(form) = callback {
        let distinct: BTreeSet<(&str, &str)> = form.parameters().collect();
        for (name, value) in distinct {
            signed.push_str(name);
            signed.push_str(value);
        }
    }
    signed
}

/// Twilio sends forms unless told otherwise.
fn is_form(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_none_or(|line| {
        let line = line.as_bytes();
        let essence = line.split(|byte| *byte == b';').next().unwrap_or_default();
        essence
            .trim_ascii()
            .eq_ignore_ascii_case(b"application/x-www-form-urlencoded")
    })
}

/// A body that is no form is covered by its digest, and only by that.
fn check_digest(query: Option<&str>, body: &[u8]) -> Result<(), Refusal> {
    let pairs = query.unwrap_or_default().split('&');
    let mut digests = pairs.filter_map(|pair| pair.strip_prefix(BODY_DIGEST)?.strip_prefix('='));
    let (Some(digest), None) = (digests.next(), digests.next()) else {
        return Err(Refusal::Uncovered);
    };
    let wanted = Sha256::digest(body);
    let wanted: String = wanted.iter().map(|byte| format!("{byte:02x}")).collect();
    // Neither of the two is a secret.
    if digest == wanted {
        Ok(())
    } else {
        Err(Refusal::Uncovered)
    }
}

/// The algorithm that the request says it was signed with. It chooses nothing; when it is not the
/// configured one, the account and the configuration have come apart.
fn announced(headers: &HeaderMap) -> Result<Option<&[u8]>, Refusal> {
    let settings = match single(headers, SETTINGS) {
        Ok(settings) => settings,
        Err(Refusal::Missing(_)) => return Ok(None),
        Err(refusal) => return Err(refusal),
    };
    let parts = settings.split(|byte| *byte == b',');
    let mut names = parts.filter_map(|part| part.trim_ascii().strip_prefix(b"algorithm="));
    Ok(names.next())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spellings(text: &str) -> Vec<String> {
        let url = PublicUrl::parse(text).unwrap();
        url.spellings.into_iter().collect()
    }

    #[test]
    fn a_url_is_tried_with_and_without_its_port() {
        assert_eq!(
            spellings("https://h.example/x"),
            ["https://h.example/x", "https://h.example:443/x"].map(str::to_owned)
        );
        assert_eq!(
            spellings("http://u:p@[::1]:8080/x"),
            ["http://u:p@[::1]/x", "http://u:p@[::1]:8080/x"].map(str::to_owned)
        );
        assert_eq!(
            spellings("http://[::1]"),
            ["http://[::1]", "http://[::1]:80"].map(str::to_owned)
        );
        let below = PublicUrl::parse("https://h.example/a/")
            .unwrap()
            .with_path("/b");
        assert_eq!(below, PublicUrl::parse("https://h.example/a/b").unwrap());
    }

    #[test]
    fn what_twilio_cannot_reach_is_no_public_url() {
        for (text, expected) in [
            ("h.example", UrlError::Scheme),
            ("ftp://h", UrlError::Scheme),
            ("https://", UrlError::Host),
            ("https://:443/", UrlError::Host),
            ("https://h h/", UrlError::Host),
            ("https://h/?a=1", UrlError::Query),
            ("https://h/#rc=5", UrlError::Query),
        ] {
            assert_eq!(PublicUrl::parse(text), Err(expected), "{text}");
        }
    }
}
