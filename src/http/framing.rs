//! Refuses requests whose length can be read in two ways.
//!
//! A request that has both `Content-Length` and `Transfer-Encoding` ends in one place for us and in
//! another for a proxy in front, and what lies between becomes a request that nobody checked. The HTTP
//! library picks one of the two and drops the other before anybody can see it, so the bytes are watched
//! on their way to it: the connection ends where such a head does (RFC 9112, 6.1).
//!
//! Bodies are skipped by their length. Behind a chunked body nothing is watched, because a connection
//! is closed after a chunked request; see [`super::serve`].

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// As much of a line as is looked at: a name, and a length of twenty digits.
const LINE_LENGTH_MAX: usize = 256;

/// A connection whose requests are watched.
pub(super) struct Watched<S> {
    stream: S,
    place: Place,
}

impl<S> Watched<S> {
    pub fn new(stream: S) -> Self {
        Self {
            stream,
            place: Place::default(),
        }
    }
}

/// Where in the requests of a connection the next byte stands.
#[derive(Debug)]
enum Place {
    Head(Head),
    Body {
        left: u64,
    },
    /// Behind a body whose end only the HTTP library knows.
    Unwatched,
}

impl Default for Place {
    fn default() -> Self {
        Self::Head(Head::default())
    }
}

#[derive(Debug, Default)]
struct Head {
    line: Vec<u8>,
    lines: usize,
    length: Option<Option<u64>>,
    has_coding: bool,
}

impl Place {
    /// Goes on by these bytes.
    fn pass(&mut self, mut bytes: &[u8]) -> Result<(), Ambiguous> {
        while let Some(first) = bytes.first() {
            match self {
                Self::Unwatched => return Ok(()),
                Self::Body { left } => {
                    let skipped =
                        usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
                    bytes = &bytes[skipped..];
                    *left -= skipped as u64;
                    if *left == 0 {
                        *self = Self::default();
                    }
                }
                Self::Head(head) => {
                    if *first == b'\n' {
                        if head.line_ends() {
                            *self = head.after()?;
                        }
                    } else if head.line.len() < LINE_LENGTH_MAX {
                        head.line.push(*first);
                    }
                    bytes = &bytes[1..];
                }
            }
        }
        Ok(())
    }
}

impl Head {
    /// Takes in a line; whether it was the empty one that ends the head.
    fn line_ends(&mut self) -> bool {
        let mut line = std::mem::take(&mut self.line);
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        if line.is_empty() {
            // Blank lines before a request line are passed over.
            return self.lines > 0;
        }
        self.lines += 1;
        let mut parts = line.splitn(2, |byte| *byte == b':');
        let name = parts.next().unwrap_or_default().trim_ascii();
        let value = parts.next().unwrap_or_default().trim_ascii();
        if name.eq_ignore_ascii_case(b"content-length") {
            let value = std::str::from_utf8(value).ok();
            self.length = Some(value.and_then(|value| value.parse().ok()));
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            self.has_coding = true;
        }
        line.clear();
        self.line = line;
        false
    }

    fn after(&self) -> Result<Place, Ambiguous> {
        match (self.length, self.has_coding) {
            (Some(_), true) => Err(Ambiguous),
            // What has no length that can be read is refused by the HTTP library.
            (None, true) | (Some(None), false) => Ok(Place::Unwatched),
            (None | Some(Some(0)), false) => Ok(Place::default()),
            (Some(Some(left)), false) => Ok(Place::Body { left }),
        }
    }
}

/// Two lengths in one head.
#[derive(Debug, PartialEq, Eq)]
struct Ambiguous;

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        let passed = self.place.pass(&buffer.filled()[before..]);
        Poll::Ready(passed.map_err(|Ambiguous| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                "a request with both Content-Length and Transfer-Encoding",
            )
        }))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn is_ambiguous(text: &str, step: usize) -> bool {
        let mut place = Place::default();
        let mut parts = text.as_bytes().chunks(step);
        parts.any(|part| place.pass(part) == Err(Ambiguous))
    }

    const POST: &str = "POST / HTTP/1.1\r\nHost: x\r\n";

    #[test]
    fn two_lengths_are_seen_in_every_order_and_place() {
        let bad = [
            "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG",
            "transfer-encoding : chunked\r\ncontent-length:4\r\n\r\n",
            "Transfer-Encoding: identity\nCONTENT-LENGTH: 4\n\n",
        ];
        for bad in bad {
            for before in [
                String::new(),
                "\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(),
                format!("{POST}Content-Length: 5\r\n\r\n\r\n\r\nx"),
            ] {
                for step in [1, 7, 10_000] {
                    let text = format!("{before}{POST}{bad}");
                    assert!(is_ambiguous(&text, step), "{text:?} by {step}");
                }
            }
        }
    }

    #[test]
    fn one_length_is_no_trouble_and_a_body_is_no_head() {
        let body = "\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n";
        for text in [
            format!(
                "{POST}Content-Length: {}\r\n\r\n{body}{POST}\r\n",
                body.len()
            ),
            format!("{POST}Transfer-Encoding: chunked\r\n\r\n{body}"),
            format!("{POST}X-A: Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ] {
            for step in [1, 7, 10_000] {
                assert!(!is_ambiguous(&text, step), "{text:?} by {step}");
            }
        }
    }

    proptest! {
        #[test]
        fn it_does_not_matter_how_the_bytes_come(
            text in "(POST / HTTP/1.1\r\n|Content-Length: [0-9]{1,2}\r\n|Transfer-Encoding: x\n|\r\n|[a-z]{0,9}){0,12}",
            step in 1..20usize,
        ) {
            prop_assert_eq!(is_ambiguous(&text, step), is_ambiguous(&text, 10_000));
        }
    }
}
